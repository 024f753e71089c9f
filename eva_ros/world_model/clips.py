"""Which parts of the recordings a world model learns from.

In *look, dream, move* a dream always starts from resting arms and should show them start at
once, so clips mostly begin where a rest ends. Waiting inside a clip teaches nothing but blur
(nobody can know when a pause ends), so resting frames in the middle of a motion are skipped.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eva_ros.errors import UserError

_SIDES = {'left': 'right', 'right': 'left'}


@dataclass(frozen=True)
class Clip:
    """A training sample: which frames of which episode, and how often it is drawn.

    Attributes:
        episode: index of the episode.
        frames: indices of its frames, `length` of them.
        weight: relative frequency.
    """

    episode: int
    frames: np.ndarray
    weight: float

    def before(self, count: int) -> np.ndarray:
        """Return the indices of the `count` frames before the clip, as recorded.

        Before the episode's first frame nothing moved: it stands for them.
        """
        return np.maximum(self.frames[0] - np.arange(count, 0, -1), 0)


@dataclass(frozen=True)
class ClipSettings:
    """How clips are chosen.

    Attributes:
        length: frames of a clip.
        rest_rad_s: arms slower than this (fastest joint) are at rest.
        keep_rest: resting frames kept before a motion and after it.
        rest_weight: weight of a clip that starts where resting arms begin to move.
        moving_weight: weight of a clip that starts in motion.
        end_weight: weight of a clip that starts where nothing moves any more.
    """

    length: int
    rest_rad_s: float = 0.08
    keep_rest: int = 1
    rest_weight: float = 1.0
    moving_weight: float = 0.1
    end_weight: float = 0.12


def find_clips(joints: list[np.ndarray], dt: float, settings: ClipSettings) -> list[Clip]:
    """Return all clips of episodes with joints [T, J] at steps of dt seconds.

    The weights of an episode's clips add up to one: a task that takes many stretches is not
    drawn more often than a short one.
    An episode that ends before the clip does is continued by its last frame: it ends at rest.
    """
    clips = []
    for index, path in enumerate(joints):
        moving = in_motion(path, dt, settings.rest_rad_s)
        order = _without_pauses(moving, settings.keep_rest)
        weights = [_weight(moving, order, place, settings) for place in range(len(order) - 1)]
        for place in range(len(order) - 1):
            frames = order[place : place + settings.length]
            frames = np.pad(frames, (0, settings.length - len(frames)), mode='edge')
            clips.append(Clip(index, frames, weights[place] / max(sum(weights), 1e-9)))
    return [c for c in clips if c.weight > 0]


def starts(joints: list[np.ndarray], dt: float, length: int) -> list[Clip]:
    """Return the clips in which resting arms begin to move, one for each start.

    Args:
        joints: of each episode [T, J].
        dt: step in s.
        length: frames of a clip.
    """
    settings = ClipSettings(length, moving_weight=0.0, end_weight=0.0)
    found = find_clips(joints, dt, settings)
    return [c for k, c in enumerate(found) if k == 0 or not _follows(found[k - 1], c)]


def _follows(before: Clip, clip: Clip) -> bool:
    return before.episode == clip.episode and clip.frames[0] - before.frames[0] <= 2


def in_motion(path: np.ndarray, dt: float, rest_rad_s: float) -> np.ndarray:
    """Return [T]: does any joint move between this frame and the next?"""
    speed = np.abs(np.diff(path, axis=0)).max(1) / dt
    return np.append(speed > rest_rad_s, False)


def after_motion(
    clips: list[Clip], joints: list[np.ndarray], dt: float, settings: ClipSettings, frames: int
) -> list[Clip]:
    """Return the clips with motion in the `frames` before: a history tells something of them."""
    moving = [in_motion(path, dt, settings.rest_rad_s) for path in joints]
    return [
        clip
        for clip in clips
        if moving[clip.episode][max(clip.frames[0] - frames, 0) : clip.frames[0]].any()
    ]


def _without_pauses(moving: np.ndarray, keep: int) -> np.ndarray:
    """Return the frames in order, without those deep inside a pause between two motions."""
    active = np.flatnonzero(moving)
    if len(active) == 0:
        return np.arange(len(moving))
    near = np.zeros(len(moving), bool)
    for shift in range(-keep, keep + 1):
        near |= np.roll(moving, shift)
    near[active[-1] :] = True
    near[: max(active[0] - keep, 0)] = False
    return np.flatnonzero(near)


def _weight(moving: np.ndarray, order: np.ndarray, place: int, settings: ClipSettings) -> float:
    frame = order[place]
    if not moving[frame:].any():
        return settings.end_weight
    if moving[frame] and (frame == 0 or moving[frame - 1]):
        return settings.moving_weight
    return settings.rest_weight


class ClipSampler:
    """Draws batches of clips; batch k of a seed is always the same, so a resume is exact.

    Args:
        episodes: with frames [T, H, W, 3] uint8, joints [T, J] and an instruction.
        clips: from find_clips.
        seed: of the draw.
        mirror: also draw mirrored clips (view flipped, left and right exchanged in the words):
            right for robots whose two arms mirror each other.
        history: frames before each clip that a batch holds, too.
        device: where the batches are wanted; a GPU with room for them holds all frames itself.

    Attributes:
        history: as given; it may be set once the model is known.
    """

    def __init__(
        self,
        episodes: list,
        clips: list[Clip],
        *,
        seed: int,
        mirror: bool = False,
        history: int = 0,
        device: torch.device | str = 'cpu',
    ):
        """Prepare the distribution."""
        if not clips:
            raise UserError('No clip to train on: the recordings are empty or nothing moves.')
        self._episodes = episodes
        self._clips = clips
        self._seed = seed
        self._mirror = mirror
        self.history = history
        weights = np.array([c.weight for c in clips], float)
        self._probability = weights / weights.sum()
        self._device = torch.device(device)
        self._held = self._hold() if self._device.type == 'cuda' else None

    @property
    def instructions(self) -> list[str]:
        """Return every instruction that a batch may hold, mirrored ones included."""
        told = {self._told(clip) for clip in self._clips}
        mirrored = {mirror_instruction(text) for text in told} if self._mirror else set()
        return sorted(told.union(text for text in mirrored if text is not None))

    def _hold(self) -> tuple[Tensor, np.ndarray] | None:
        """Return all frames [N, H, W, 3] on the GPU, and where each episode's begin."""
        counts = [len(episode.frames) for episode in self._episodes]
        size = sum(counts) * int(np.prod(self._episodes[0].frames.shape[1:]))
        if size > torch.cuda.mem_get_info(self._device)[0] / 2:
            return None
        shape = (sum(counts), *self._episodes[0].frames.shape[1:])
        held = torch.empty(shape, dtype=torch.uint8, device=self._device)
        starts = np.cumsum([0, *counts])
        for start, episode in zip(starts, self._episodes):
            frames = torch.from_numpy(np.array(episode.frames))
            held[start : start + len(frames)] = frames
        return held, starts

    def batch(self, index: int, size: int, share: slice = slice(None)) -> tuple[Tensor, list[str]]:
        """Return frames [B, K + T, 3, H, W] in 0..1 and the instructions of batch `index`.

        The first K are the frames before the clip, where history is wanted.

        Args:
            index: number of the batch.
            size: clips of the whole batch.
            share: which of them are wanted.
        """
        rng = np.random.default_rng((self._seed, index % 2**32))
        chosen = rng.choice(len(self._clips), size, p=self._probability)
        flips = rng.random(size) < 0.5
        clips, texts, flipped = [self._clips[k] for k in chosen[share]], [], []
        for clip, flip in zip(clips, flips[share]):
            text = self._told(clip)
            mirrored = mirror_instruction(text) if self._mirror and flip else None
            flipped.append(mirrored is not None)
            texts.append(mirrored or text)
        video = self._frames(clips)
        rows = torch.tensor(flipped, device=video.device).view(-1, 1, 1, 1, 1)
        video = torch.where(rows, video.flip(3), video)
        return video.permute(0, 1, 4, 2, 3).float() / 255.0, texts

    def samples(self, count: int) -> list[tuple[np.ndarray, str]]:
        """Return frames [T, H, W, 3], uint8, and instruction of fixed clips, unmirrored.

        Each is the likeliest clip of its episode, which begins a motion; the episodes are spread
        evenly over the recordings.
        """
        best: dict[int, Clip] = {}
        for clip in self._clips:
            if clip.episode not in best or clip.weight > best[clip.episode].weight:
                best[clip.episode] = clip
        found = list(best.values())
        chosen = [found[place * len(found) // count] for place in range(min(count, len(found)))]
        return [
            (np.asarray(self._episodes[c.episode].frames[c.frames]), self._told(c)) for c in chosen
        ]

    def _told(self, clip: Clip) -> str:
        return self._episodes[clip.episode].instruction

    def _frames(self, clips: list[Clip]) -> Tensor:
        """Return the frames of clips [B, K + T, H, W, 3], uint8, where they are wanted."""
        places = [np.concatenate((clip.before(self.history), clip.frames)) for clip in clips]
        if self._held is not None:
            frames, starts = self._held
            rows = np.stack([starts[clip.episode] + place for clip, place in zip(clips, places)])
            return frames[torch.from_numpy(rows).to(self._device)]
        pictures = [
            np.asarray(self._episodes[clip.episode].frames[place])
            for clip, place in zip(clips, places)
        ]
        return torch.from_numpy(np.stack(pictures)).to(self._device)


def mirror_instruction(text: str) -> str | None:
    """Exchange left and right; None where the text names both sides or neither."""
    words = text.split()
    sides = {w for w in words if w in _SIDES}
    if len(sides) != 1:
        return None
    return ' '.join(_SIDES.get(w, w) for w in words)
