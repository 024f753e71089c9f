"""Held-out clips that a world model dreams, and the recorded clips that are nearest to them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.observations.views import shrink
from eva_ros.world_model.clips import Clip
from eva_ros.world_model.clips import ClipSettings
from eva_ros.world_model.clips import find_clips
from eva_ros.world_model.clips import in_motion
from eva_ros.world_model.clips import starts
from eva_ros.world_model.pipeline import WorldModel


def held_out_clips(
    model: WorldModel, episodes: Sequence, count: int, seed: int, *, moving: bool = False
) -> list[tuple[Any, Clip]]:
    """Return `count` clips in which resting arms start to move, at most one per start.

    Args:
        model: World model, for its rollout length and rate.
        episodes: Episodes that were not used in training.
        count: Maximum number of clips.
        seed: Random seed of the selection.
        moving: Return clips that start while the arms move instead.

    Raises:
        UserError: There is none.
    """
    clips = _in_motion(model, episodes) if moving else _starts(model, episodes)
    if not clips:
        wanted = 'moves for longer' if moving else 'begins at rest and then moves'
        raise UserError(f'No held-out episode {wanted}: give more bags.')
    chosen = np.random.default_rng(seed).permutation(len(clips))[:count]
    return [clips[k] for k in chosen]


def _starts(model: WorldModel, episodes: Sequence) -> list[tuple[Any, Clip]]:
    """Return the clips in which resting arms start to move, at most one per start."""
    settings = model.settings
    found = starts([e.joints for e in episodes], 1.0 / settings.rate_hz, settings.frames)
    return [(episodes[clip.episode], clip) for clip in found]


def _in_motion(model: WorldModel, episodes: Sequence) -> list[tuple[Any, Clip]]:
    """Return the clips that start while the arms move, and go on."""
    rate_hz = model.settings.rate_hz
    settings = ClipSettings(model.settings.frames, moving_weight=1.0, end_weight=0.0)
    joints = [np.asarray(e.joints) for e in episodes]
    moving = [in_motion(path, 1.0 / rate_hz, settings.rest_rad_s) for path in joints]
    return [
        (episodes[clip.episode], clip)
        for clip in find_clips(joints, 1.0 / rate_hz, settings)
        if (first := clip.frames[0]) > 0 and moving[clip.episode][first - 1 : first + 1].all()
    ]


class NearestClips:
    """The recorded clip whose first view is nearest, as a baseline: memory without a model."""

    def __init__(self, model: WorldModel, episodes: Sequence) -> None:
        """Collect the clips of episodes in which resting arms start to move."""
        self._clips = _starts(model, episodes)
        views = [
            shrink(np.asarray(episode.frames[clip.frames[0]])) for episode, clip in self._clips
        ]
        self._views = np.stack(views) if views else np.zeros((0, 0, 0, 3), np.uint8)

    def find(self, episode: Any, view: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
        """Return the frames [T, H, W, 3] of the nearest clip of any other attempt; None if none.

        Args:
            episode: Episode whose attempt is left out.
            view: First view [H, W, 3], uint8.
        """
        attempt = (episode.source, episode.number)
        others = [k for k, (e, _) in enumerate(self._clips) if (e.source, e.number) != attempt]
        if not others:
            return None
        off = self._views[others].astype(np.float32) - shrink(view).astype(np.float32)
        found, clip = self._clips[others[int(np.square(off).mean(axis=(1, 2, 3)).argmin())]]
        return np.asarray(found.frames[clip.frames])
