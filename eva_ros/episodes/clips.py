"""Windows of a fixed length in episodes, for training and for judging."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eva_ros.episodes.dataset import Episode


@dataclass(frozen=True)
class Clip:
    """Where a window lies.

    Attributes:
        episode: index in the list of episodes.
        start: first tick.
        length: number of ticks.
    """

    episode: int
    start: int
    length: int

    @property
    def ticks(self) -> slice:
        """Return the window's ticks, for any array of the episode."""
        return slice(self.start, self.start + self.length)


def clips(episodes: Sequence[Episode], length: int, step: int = 1) -> list[Clip]:
    """Return all windows of `length` ticks, `step` ticks apart; short episodes have none."""
    return [
        Clip(index, start, length)
        for index, episode in enumerate(episodes)
        for start in range(0, len(episode) - length + 1, step)
    ]


def clips_from_rest(
    episodes: Sequence[Episode], length: int, rest_rad_s: float = 0.02
) -> list[Clip]:
    """Return the windows that begin with both arms at rest and in which an arm then moves.

    Args:
        episodes: with their speeds.
        length: ticks in a window.
        rest_rad_s: arms whose joints are slower on average are at rest.
    """
    found = []
    for clip in clips(episodes, length):
        speed = episodes[clip.episode].speed[clip.ticks].max(axis=1)
        if speed[0] < rest_rad_s and np.any(speed >= rest_rad_s):
            found.append(clip)
    return found
