"""Draws the latest chunk and dream for rviz."""

from eva_ros.nodes.trajectory_inspector.node import main
from eva_ros.nodes.trajectory_inspector.node import TrajectoryInspector

__all__ = ['TrajectoryInspector', 'main']
