"""The command gate: checks each chunk and sends both arms their motion, or neither."""

from eva_ros.nodes.arm_trajectory_publisher.node import ArmTrajectoryPublisher
from eva_ros.nodes.arm_trajectory_publisher.node import main

__all__ = ['ArmTrajectoryPublisher', 'main']
