"""Start the episode recorder beside a robot, or a simulated one, that runs already.

ros2 launch eva_ros record.launch.py robot:=piper_dual folder:=/data/bags
ros2 service call /episode_recorder/start std_srvs/srv/Trigger
"""

from eva_ros.ros.bringup import RECORDERS
from eva_ros.ros.launching import declared_arguments
from eva_ros.ros.launching import start
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Return the episode recorder."""
    return LaunchDescription([*declared_arguments(RECORDERS), start(RECORDERS)])
