"""Start the nodes of a robot. Its drivers (cameras, joint states, controllers) run already.

    ros2 launch eva_ros bringup.launch.py robot:=piper_dual checkpoint:=/models/mine dry_run:=true

What is started, and how it is set, is said in eva_ros.ros.bringup; `eva up` starts the same.
"""

from eva_ros.ros.bringup import STACK
from eva_ros.ros.launching import declared_arguments
from eva_ros.ros.launching import start
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return all nodes but the simulated robot."""
    return LaunchDescription([*declared_arguments(STACK), start(STACK)])
