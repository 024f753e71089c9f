"""Records episodes as bags."""

from eva_ros.nodes.episode_recorder.node import EpisodeRecorder
from eva_ros.nodes.episode_recorder.node import main

__all__ = ['EpisodeRecorder', 'main']
