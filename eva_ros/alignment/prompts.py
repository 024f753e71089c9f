"""What dreams start from: recorded views, where resting arms begin to move and in mid-task."""

from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import replace
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
        moments: Also every so many frames while the arms move, where the recording goes on for as
            long as a dream: at work, arms come to rest where recorded ones went on.

    Raises:
        UserError: there is none, or a recorded joint is not finite.
    """
    require_finite_labels(episodes)
    settings = ClipSettings(frames, moving_weight=0.0, end_weight=0.0)
    joints = [episode.joints for episode in episodes]

    def prompts(clips: list[Clip]) -> list[Prompt]:
        return [_prompt(episodes[c.episode], c, rate_hz, settings.rest_rad_s) for c in clips]

    found = prompts(_spread(find_clips(joints, 1 / rate_hz, settings), 3))
    if not found:
        raise UserError('In these recordings no resting arm begins to move: record more.')
    if moments is not None:
        moving = replace(settings, moving_weight=1.0, rest_weight=0.0)
        clips = _spread(find_clips(joints, 1 / rate_hz, moving), moments, within=True)
        found += [prompt for prompt in prompts(clips) if prompt.whole]
    return found


def _spread(clips: list[Clip], apart: int, *, within: bool = False) -> list[Clip]:
    """Return the first of neighbouring clips, or with `within` one in so many frames."""
    found, kept, last = [], (-1, -99), (-1, -99)
    for clip in clips:
        here = (clip.episode, int(clip.frames[0]))
        before = kept if within else last
        last = here
        if here[0] != before[0] or here[1] - before[1] >= apart:
            kept = here
            found.append(clip)
    return found


def _prompt(episode: Any, clip: Clip, rate_hz: float, rest_rad_s: float) -> Prompt:
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
        _is_whole(episode, places, rate_hz, rest_rad_s),
    )


def _is_whole(episode: Any, frames: NDArray, rate_hz: float, rest_rad_s: float) -> bool:
    """Return whether a clip needs no frames beyond its episode's end, or rests there."""
    if len(np.unique(frames)) == len(frames):
        return True
    last = np.asarray(episode.joints)[-2:]
    return bool((np.abs(np.diff(last, axis=0)) * rate_hz <= rest_rad_s).all())
