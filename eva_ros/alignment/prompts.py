"""What dreams start from: recorded views, where resting arms begin to move and in mid-task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from eva_ros.alignment.judge import path_length
from eva_ros.errors import UserError
from eva_ros.training.frames import frames_to_tensor
from eva_ros.training.labels import require_finite_labels
from eva_ros.world_model.clips import Clip
from eva_ros.world_model.clips import ClipSettings
from eva_ros.world_model.clips import find_clips
from eva_ros.world_model.clips import starts


@dataclass(frozen=True)
class Prompt:
    """An initial view and an instruction, with what was recorded from there on.

    Attributes:
        frames: recorded views [T, H, W, 3], uint8; the first is the initial one.
        joints: recorded joints [T, J], rad; grippers 0 to 1.
        instruction: what the robot was told.
        task: short name of the task.
        success: of the recorded attempt; None if unknown.
        episode: number of that attempt among the recordings.
        whole: whether the recording goes on until the arms rest, or for as long as a dream. What
            it lacks is filled with its last frame, in which arms seem to stop.
    """

    frames: NDArray[np.uint8]
    joints: NDArray[np.float64]
    instruction: str
    task: str
    success: bool | None = None
    episode: int = 0
    whole: bool = True

    def identity(self) -> tuple[str, NDArray, NDArray]:
        """Return what tells this prompt from another: instruction, initial view and joints."""
        return self.instruction, np.asarray(self.frames[0]), np.asarray(self.joints)

    def first(self) -> Tensor:
        """Return the initial view [3, H, W], 0 to 1."""
        return frames_to_tensor(np.asarray(self.frames[:1]))[0]

    def demonstrated(self, dt: float, grippers: Tensor) -> float:
        """Return the path length that was recorded, rad."""
        joints = torch.from_numpy(np.asarray(self.joints, np.float64))
        return float(path_length(joints, dt, grippers))


def clips_of(prompts: Sequence[Prompt]) -> Tensor:
    """Return the frames of prompts [N, T, 3, H, W], 0 to 1."""
    return frames_to_tensor(np.stack([np.asarray(prompt.frames) for prompt in prompts]))


def draw_balanced(prompts: Sequence[Prompt], count: int, rng: np.random.Generator) -> list[Prompt]:
    """Return as many prompts as asked for, drawn with replacement, evenly from their tasks."""
    tasks: dict[str, list[Prompt]] = {}
    for prompt in prompts:
        tasks.setdefault(prompt.task or prompt.instruction, []).append(prompt)
    names = sorted(tasks)
    drawn = [tasks[names[task]] for task in rng.integers(len(names), size=count)]
    return [same[rng.integers(len(same))] for same in drawn]


def find_prompts(
    episodes: Sequence[Any], frames: int, rate_hz: float, *, moments: int | None = None
) -> list[Prompt]:
    """Return every place in the recordings where resting arms begin to move, once each.

    Args:
        episodes: have frames [T, H, W, 3], joints [T, J], instruction and task.
        frames: length of a dream.
        rate_hz: of the frames.
        moments: Frames between further views in mid-task, where the recording goes on for as long
            as a dream: at work, arms come to rest where recorded ones went on. None adds none.

    Raises:
        UserError: there is none, or a recorded joint is not finite.
    """
    require_finite_labels(episodes)
    joints = [episode.joints for episode in episodes]
    clips = starts(joints, 1 / rate_hz, frames)
    if not clips:
        raise UserError('In these recordings no resting arm begins to move: record more.')
    found = [_prompt(episodes[clip.episode], clip, rate_hz) for clip in clips]
    if moments is not None:
        settings = ClipSettings(frames, rest_weight=0.0, moving_weight=1.0, end_weight=0.0)
        clips = _thinned(find_clips(joints, 1 / rate_hz, settings), moments)
        further = [_prompt(episodes[clip.episode], clip, rate_hz) for clip in clips]
        found += [prompt for prompt in further if prompt.whole]
    return found


def _thinned(clips: list[Clip], apart: int) -> list[Clip]:
    """Return clips of which those of an episode begin at least `apart` frames apart."""
    kept: list[Clip] = []
    for clip in clips:
        last = kept[-1] if kept else None
        if (
            last is None
            or last.episode != clip.episode
            or clip.frames[0] - last.frames[0] >= apart
        ):
            kept.append(clip)
    return kept


def _prompt(episode: Any, clip: Clip, rate_hz: float) -> Prompt:
    places = clip.frames
    # A slice of a file that is mapped into memory costs none; an index would copy.
    alone = (np.diff(places) == 1).all()
    return Prompt(
        episode.frames[places[0] : places[-1] + 1] if alone else episode.frames[places],
        np.asarray(episode.joints)[places],
        episode.instruction,
        episode.task,
        episode.success,
        clip.episode,
        _is_whole(episode, places, rate_hz),
    )


def _is_whole(episode: Any, frames: NDArray, rate_hz: float) -> bool:
    """Return whether a clip needs no frames beyond its episode's end, or rests there."""
    if len(np.unique(frames)) == len(frames):
        return True
    last = np.asarray(episode.joints)[-2:]
    return bool((np.abs(np.diff(last, axis=0)) * rate_hz <= ClipSettings.rest_rad_s).all())
