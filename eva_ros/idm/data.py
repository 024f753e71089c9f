"""Short clips of recorded episodes, drawn in an order that a resumed training repeats."""

from collections.abc import Callable
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.frames import frames_to_tensor

# Joints [N, J] to the positions of the arms' fingertips [N, arms, 3], m.
Fingertips = Callable[[NDArray], NDArray]


@dataclass(frozen=True)
class Clips:
    """A batch of clips.

    Attributes:
        frames: [B, T, 3, H, W], 0 to 1.
        joints: labels [B, T, J], rad; grippers 0 to 1.
        jacobians: of the fingertips [B, T, arms, 3, J], m per rad.
    """

    frames: Tensor
    joints: Tensor
    jacobians: Tensor


def fingertip_jacobians(fingertips: Fingertips, joints: NDArray) -> NDArray[np.float32]:
    """Return how the fingertips move with the joints, by central differences.

    Args:
        fingertips: maps joints [N, J] to positions [N, arms, 3], m.
        joints: [N, J].

    Returns:
        [N, 2, 3, J], m per rad.
    """
    step = 1e-4
    columns = []
    for joint in range(joints.shape[1]):
        change = np.zeros(joints.shape[1])
        change[joint] = step
        columns.append((fingertips(joints + change) - fingertips(joints - change)) / (2 * step))
    return np.stack(columns, -1).astype(np.float32)


class ClipSampler:
    """Draws batches of clips; a batch depends on the seed and its number alone."""

    def __init__(
        self,
        episodes: Sequence[Any],
        frames: int,
        seed: int,
        fingertips: Fingertips | None = None,
    ) -> None:
        """Index every clip of every episode.

        Args:
            episodes: have frames uint8 [T, H, W, 3] and joints [T, J].
            frames: of a clip.
            seed: of the order.
            fingertips: where the fingertips are; without it the Jacobians are zero.
        """
        self._episodes = [episode for episode in episodes if len(episode.frames) >= frames]
        if not self._episodes:
            raise UserError(
                f'None of the {len(episodes)} episodes has {frames} frames: record longer ones.'
            )
        self._frames = frames
        self._seed = seed
        self._starts = np.concatenate(
            [
                np.stack([np.full(count, number), np.arange(count)], -1)
                for number, episode in enumerate(self._episodes)
                for count in [len(episode.frames) - frames + 1]
            ]
        )
        self._jacobians = [self._jacobians_of(fingertips, e.joints) for e in self._episodes]

    @staticmethod
    def _jacobians_of(fingertips: Fingertips | None, joints: NDArray) -> NDArray[np.float32]:
        if fingertips is None:
            return np.zeros((len(joints), 2, 3, joints.shape[1]), np.float32)
        return fingertip_jacobians(fingertips, np.asarray(joints, np.float64))

    def __len__(self) -> int:
        """Return the number of different clips."""
        return len(self._starts)

    def batch(self, number: int, size: int, share: slice = slice(None)) -> Clips:
        """Return batch `number` of so many clips, or a share of it."""
        rng = np.random.default_rng([self._seed, number])
        rows = self._starts[rng.integers(len(self._starts), size=size)][share]
        cuts = [
            (self._episodes[e], self._jacobians[e], slice(s, s + self._frames)) for e, s in rows
        ]
        frames = np.stack([np.asarray(episode.frames[cut]) for episode, _, cut in cuts])
        joints = np.stack([episode.joints[cut] for episode, _, cut in cuts])
        jacobians = np.stack([table[cut] for _, table, cut in cuts])
        return Clips(
            frames_to_tensor(frames),
            torch.from_numpy(joints.astype(np.float32)),
            torch.from_numpy(jacobians),
        )


def label_statistics(episodes: Sequence[Any]) -> tuple[NDArray, NDArray]:
    """Return mean and standard deviation of the joints [J]; the latter is at least 0.05."""
    joints = np.concatenate([episode.joints for episode in episodes])
    return joints.mean(0), joints.std(0).clip(0.05)
