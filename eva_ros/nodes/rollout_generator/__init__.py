"""Dreams: an observation and an instruction in, a rollout out."""

from eva_ros.nodes.rollout_generator.node import main
from eva_ros.nodes.rollout_generator.node import RolloutGenerator

__all__ = ['RolloutGenerator', 'main']
