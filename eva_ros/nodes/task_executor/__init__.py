"""Holds an instruction until it is done: observe, dream, decode and move."""

from eva_ros.nodes.task_executor.node import main
from eva_ros.nodes.task_executor.node import TaskExecutor

__all__ = ['TaskExecutor', 'main']
