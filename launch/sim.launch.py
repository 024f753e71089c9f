"""Start the simulated robot and all nodes; the time is the simulated robot's.

ros2 launch eva_ros sim.launch.py task:=reach_left dry_run:=false
"""

from eva_ros.ros.bringup import NODES
from eva_ros.ros.launching import declared_arguments
from eva_ros.ros.launching import start
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return the simulated robot and all nodes."""
    return LaunchDescription([*declared_arguments(NODES, use_sim_time=True), start(NODES)])
