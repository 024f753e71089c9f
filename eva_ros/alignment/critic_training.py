"""Trains the progress critic from recordings alone: which of two frames is later in the task?"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor
from torch.nn import functional

from eva_ros.alignment.critic import CriticConfig
from eva_ros.alignment.critic import ProgressCritic
from eva_ros.alignment.critic import save_critic
from eva_ros.alignment.critic import words_of
from eva_ros.errors import UserError
from eva_ros.idm.augment import augment
from eva_ros.training.frames import frames_to_tensor
from eva_ros.training.launch import training_device
from eva_ros.training.loop import Budget
from eva_ros.training.loop import Task
from eva_ros.training.loop import TrainingLoop
from eva_ros.training.manifest import World
from eva_ros.world_model.clips import mirror_instruction

# Frames between the two of a pair: at least, and at most in half of the pairs.
GAP, _NEAR = 3, 20


@dataclass(frozen=True)
class CriticSettings:
    """How to train.

    Attributes:
        seed: Random seed of weights, pairs and augmentation.
        steps: Optimizer steps; or
        minutes: Wall time, including that before a kill.
        pairs: Pairs of frames in a batch.
        learning_rate: Learning rate of AdamW, which falls to nothing along a cosine.
        swapped_weight: Weight of the pairs under another task's instruction, in which no frame
            is later than the other.
        mirror: Whether to train on mirrored recordings, too.
        average: Decay of the moving average of the weights that is saved.
    """

    seed: int = 0
    steps: int | None = None
    minutes: float | None = None
    pairs: int = 24
    learning_rate: float = 2e-3
    swapped_weight: float = 1.0
    mirror: bool = False
    average: float = 0.99


@dataclass(frozen=True)
class Pairs:
    """Pairs of frames of the same attempt.

    Attributes:
        frames: The earlier and the later one [B, 2, 3, H, W], 0 to 1.
        instructions: What was asked [B].
        swapped: Instruction of another task [B]; '' where there is none.
    """

    frames: Tensor
    instructions: list[str]
    swapped: list[str]


class PairSampler:
    """Draws pairs of frames; a batch depends on the seed and its number alone."""

    def __init__(self, episodes: Sequence[Any], seed: int, *, mirror: bool = False) -> None:
        """Index the successful attempts that are long enough.

        Raises:
            UserError: There is none, or none has an instruction.
        """
        usable = [e for e in episodes if e.success is not False and len(e.frames) > GAP]
        self._episodes = [e for e in usable if e.instruction]
        if not self._episodes:
            raise UserError(
                'None of the recordings is a successful attempt with an instruction: the critic '
                'has nothing to learn from.'
            )
        self._seed, self._mirror = seed, mirror
        self._others = {
            task: sorted({e.instruction for e in self._episodes if e.task != task})
            for task in {e.task for e in self._episodes}
        }

    @property
    def instructions(self) -> set[str]:
        """Return every instruction that a batch may hold."""
        told = {episode.instruction for episode in self._episodes}
        mirrored = {mirror_instruction(text) for text in told} if self._mirror else set()
        return told.union(text for text in mirrored if text)

    def batch(self, number: int, size: int) -> Pairs:
        """Return a batch of pairs."""
        rng = np.random.default_rng([self._seed, number])
        drawn = [self._pair(rng) for _ in range(size)]
        frames = frames_to_tensor(np.stack([pair[0] for pair in drawn]))
        return Pairs(frames, [pair[1] for pair in drawn], [pair[2] for pair in drawn])

    def _pair(self, rng: np.random.Generator) -> tuple[NDArray[np.uint8], str, str]:
        episode = self._episodes[rng.integers(len(self._episodes))]
        longest = len(episode.frames)
        if rng.random() < 0.5:
            longest = min(longest, _NEAR)
        gap = int(rng.integers(GAP, longest))
        first = int(rng.integers(len(episode.frames) - gap))
        frames = np.stack([np.asarray(episode.frames[i]) for i in (first, first + gap)])
        told, others = episode.instruction, self._others[episode.task]
        other = others[rng.integers(len(others))] if others else ''
        if self._mirror and rng.random() < 0.5 and (mirrored := mirror_instruction(told)):
            return frames[:, :, ::-1], mirrored, mirror_instruction(other) or other
        return frames, told, other


class CriticTask(Task):
    """Learning which of two frames is later; the state after a step depends on the seed alone."""

    label = 'critic'

    def __init__(self, episodes: Sequence[Any], settings: CriticSettings) -> None:
        """Prepare a training from its beginning."""
        self.settings, self.average = settings, settings.average
        self._sampler = PairSampler(episodes, settings.seed, mirror=settings.mirror)
        height, width = episodes[0].frames.shape[1:3]
        torch.manual_seed(settings.seed)
        config = CriticConfig(words_of(self._sampler.instructions), height, width)
        self.model: ProgressCritic = ProgressCritic(config)
        self._device = training_device()
        self.model.to(self._device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimizers = [
            torch.optim.AdamW(self.model.parameters(), settings.learning_rate, weight_decay=0.01)
        ]
        self._episodes = len(episodes)

    def step(self, loop: TrainingLoop, number: int) -> Mapping[str, float]:
        """Take one optimizer step on a batch of pairs."""
        return loop.update(lambda: self._loss(number))

    def _loss(self, number: int) -> tuple[Tensor, dict[str, float]]:
        torch.manual_seed(self.settings.seed * 1_000_003 + number)
        pairs = self._sampler.batch(number, self.settings.pairs)
        frames = augment(pairs.frames, (), 0.5).to(self._device)
        with torch.autocast(self._device.type, torch.bfloat16):
            seen = self.model.features(frames.flatten(0, 1))
            told, swapped = (
                self._difference(seen, texts) for texts in (pairs.instructions, pairs.swapped)
            )
        ordered = functional.softplus(-told).mean()
        # Under another instruction neither frame is later: both orders are as likely.
        known = torch.tensor([bool(text) for text in pairs.swapped], device=swapped.device)
        undecided = (functional.softplus(swapped) + functional.softplus(-swapped)) / 2
        indifferent = (undecided * known).sum() / known.sum().clamp_min(1)
        loss = ordered + self.settings.swapped_weight * indifferent
        right = (told > 0).float().mean().item()
        return loss, {'loss (order)': ordered.item(), 'right': right}

    def _difference(self, features: Tensor, texts: Sequence[str]) -> Tensor:
        both = [text for text in texts for _ in range(2)]
        return self.model.potential(features, both).unflatten(0, (-1, 2)).diff(dim=1).squeeze(1)

    def rate(self, step: int, share: float) -> float:
        """Warm up, then fall to nothing along a cosine."""
        return min(1.0, (step + 1) / 50) * 0.5 * (1 + math.cos(math.pi * share))

    def identity(self) -> Mapping[str, Any]:
        """Return what must be the same for a resumed training to be the same training."""
        kept = {k: v for k, v in asdict(self.settings).items() if k not in ('steps', 'minutes')}
        words = list(self.model.config.words)
        return {'settings': kept, 'words': words, 'episodes': self._episodes}


def train_critic(
    episodes: Sequence[Any],
    out: Path,
    settings: CriticSettings,
    *,
    world: World | None = None,
    held_out: Sequence[Any] = (),
    facts: Mapping[str, Any] | None = None,
) -> ProgressCritic:
    """Train a critic and write its checkpoint; a training in that folder is resumed.

    Args:
        episodes: Recordings with frames [T, H, W, 3] uint8, instruction, task and success.
        out: Folder of the checkpoint.
        settings: How to train.
        world: Robot and view, for the checkpoint.
        held_out: Recordings on which its order is judged, for the model card.
        facts: Further facts for the model card.

    Raises:
        UserError: There is nothing to learn from, the training diverges, or the folder holds
            another training.
    """
    task = CriticTask(episodes, settings)
    loop = TrainingLoop(task, out, Budget(settings.steps, settings.minutes))
    loop.resume()
    loop.run()
    loop.finish()
    critic = task.model.eval()
    training = {**(facts or {}), 'settings': asdict(settings), 'steps': loop.step}
    if held_out:
        training['held_out_accuracy'] = order_accuracy(critic, held_out, settings.seed)
    if loop.is_main:
        save_critic(critic, out, world or World(), training)
    return critic


@torch.no_grad()
def order_accuracy(
    critic: ProgressCritic, episodes: Sequence[Any], seed: int, pairs: int = 500
) -> float:
    """Return how often the critic puts two frames of an attempt in the right order."""
    sampler, right = PairSampler(episodes, seed), []
    for number in range(math.ceil(pairs / 50)):
        batch = sampler.batch(number, 50)
        right.append(critic.progress(batch.frames, batch.instructions) > 0)
    return float(torch.cat(right)[:pairs].float().mean())
