"""Learning from the robot's own attempts: filtered fine-tuning, its control, and DiffusionNFT.

None of the three dreams while it trains. *Filtered* imitates what the cameras saw in the verified
parts of successful attempts, one to one with demonstrations (verified self-training, as
EVO-WAM 2609.38057 and SAIL 2506.06658 do in rounds). *Fine-tuning* is its control: the same
adapter, steps and transformer passes on demonstrations alone. *NFT* (DiffusionNFT, arXiv
2509.16117) pulls towards the dreams of successful attempts and away from those of failed ones.
"""

from abc import abstractmethod
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.attempts import DreamPrompt
from eva_ros.alignment.prompts import clips_of
from eva_ros.alignment.prompts import draw_balanced
from eva_ros.alignment.prompts import Prompt
from eva_ros.alignment.trainer import AlignTask
from eva_ros.alignment.trainer import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.training.launch import share_of
from eva_ros.training.loop import Loss
from eva_ros.training.loop import TrainingLoop
from eva_ros.world_model.train import draw_noise_levels
from eva_ros.world_model.train import warm_and_fall

_WARMUP = 20


@dataclass(frozen=True)
class OfflineSettings(ResamplingSettings):
    """What learning from recordings alone needs.

    Attributes:
        clips: of an optimizer step, each one transformer pass.
    """

    DREAMS: ClassVar[bool] = False

    clips: int = 16


class OfflineTask(AlignTask):
    """Takes optimizer steps on clips that exist already."""

    def rate(self, step: int, share: float) -> float:
        """Return the factor on the learning rate: it warms up, stays and falls."""
        return warm_and_fall(step, share, _WARMUP)

    def iterate(self, loop: TrainingLoop, rng: np.random.Generator) -> Mapping[str, float]:
        """Take an iteration."""
        return loop.update(*self.losses(rng))

    @abstractmethod
    def losses(self, rng: np.random.Generator) -> list[Loss]:
        """Return the losses of a step."""

    def imitation(
        self,
        name: str,
        prompts: Sequence[Prompt],
        count: int,
        rng: np.random.Generator,
        weight: float = 1.0,
    ) -> Loss:
        """Return the supervised loss on as many prompts, drawn evenly from their tasks."""
        share = share_of(count, name)
        chosen = draw_balanced(prompts, count, rng)[share]
        return self.supervised(f'{name} loss', chosen, share, rng, weight)


@dataclass(frozen=True)
class FinetuneSettings(OfflineSettings):
    """Settings of fine-tuning on demonstrations alone, the control of filtered fine-tuning."""

    ALGORITHM: ClassVar[str] = 'finetune'

    def kind(self) -> type[AlignTask]:
        """Return the algorithm."""
        return FinetuneTask


class FinetuneTask(OfflineTask):
    """Imitate demonstrations."""

    def losses(self, rng: np.random.Generator) -> list[Loss]:
        """Return the loss on demonstrations."""
        return [self.imitation('demonstrations', self.prompts, self.settings.clips, rng)]


@dataclass(frozen=True)
class SharedSettings(OfflineSettings):
    """What learning from demonstrations and attempts, one to one, needs."""

    def check(self) -> None:
        """Refuse a step that cannot be shared one to one."""
        if self.clips % 2:
            raise UserError(
                f'--algorithm {self.ALGORITHM} shares {self.clips} clips one to one between '
                'demonstrations and attempts: give an even number as --clips.'
            )


@dataclass(frozen=True)
class FilteredSettings(SharedSettings):
    """Settings of verified self-training; of a step's clips one half are demonstrations."""

    ALGORITHM: ClassVar[str] = 'filtered'

    def kind(self) -> type[AlignTask]:
        """Return the algorithm."""
        return FilteredTask


class FilteredTask(OfflineTask):
    """Imitate demonstrations and the verified parts of successful attempts, one to one."""

    def losses(self, rng: np.random.Generator) -> list[Loss]:
        """Return the losses on both."""
        half = self.settings.clips // 2
        return [
            self.imitation('demonstrations', self.prompts, half, rng),
            self.imitation('attempts', self.own, half, rng),
        ]


@dataclass(frozen=True)
class NftSettings(SharedSettings):
    """Settings of DiffusionNFT on recorded dreams (arXiv 2509.16117, equations 4 to 6).

    Attributes:
        beta: how far the implicit policies lie from the unaligned one.
        advantage_clip: largest advantage, in standard deviations of the task's outcomes.
    """

    ALGORITHM: ClassVar[str] = 'nft'

    beta: float = 0.5
    advantage_clip: float = 2.0

    def kind(self) -> type[AlignTask]:
        """Return the algorithm."""
        return NftTask


class NftTask(OfflineTask):
    """Move towards the dreams of successful attempts and away from those of failed ones."""

    def losses(self, rng: np.random.Generator) -> list[Loss]:
        """Return the contrastive loss on dreams and the anchor on demonstrations."""
        half = self.settings.clips // 2
        losses = [self._contrast(half, rng)]
        if self.settings.data_weight:
            weight = self.settings.data_weight
            losses.append(self.imitation('demonstrations', self.prompts, half, rng, weight))
        return losses

    def _contrast(self, count: int, rng: np.random.Generator) -> Loss:
        share = share_of(count, 'dreams')
        chosen = draw_balanced(self.own, count, rng)[share]
        worth = optimality(self.own, chosen, self.settings.advantage_clip)
        generator = torch.Generator().manual_seed(int(rng.integers(2**40)) + share.start)
        model, policy = self.policy.model, self.policy

        def loss() -> tuple[Tensor, Mapping[str, float]]:
            frames = clips_of(chosen).to(model.device)
            sigma = draw_noise_levels(len(chosen), model.scheduler.config.shift, generator)
            noise = model.noise(len(chosen), generator)
            with torch.no_grad():
                clean = model.encode(frames)
                condition = policy.condition(
                    frames[:, 0], [prompt.instruction for prompt in chosen], 1
                )
            level = sigma.to(clean).view(-1, 1, 1, 1, 1)
            noisy = (1 - level) * clean + level * noise
            with torch.no_grad(), policy.reference():
                old = noisy - level * policy.velocity(noisy, sigma.to(clean), condition)
            new = noisy - level * policy.velocity(noisy, sigma.to(clean), condition)
            value = nft_loss(new, old, clean, worth.to(clean), self.settings.beta)
            moved = (new - old).detach().square().mean() / old.square().mean()
            return value, {'nft loss': value.item(), 'moved': moved.sqrt().item()}

        return loss


def nft_loss(new: Tensor, old: Tensor, clean: Tensor, worth: Tensor, beta: float) -> Tensor:
    """Return the loss of DiffusionNFT for predictions of the clean latents.

    worth |x+ - x|^2 + (1 - worth) |x- - x|^2 with x+ = (1 - beta) old + beta new and
    x- = (1 + beta) old - beta new, each divided by its mean absolute error (a number, without a
    gradient), as the authors weight it.

    Args:
        new: predicted by the policy in training [B, ...].
        old: predicted by the unaligned one [B, ...].
        clean: latents of the dream [B, ...].
        worth: probability that a dream is one to prefer [B], 0 to 1.
        beta: strength.
    """
    rest = tuple(range(1, clean.ndim))
    parts = []
    for sign, weight in ((1, worth), (-1, 1 - worth)):
        error = old + sign * beta * (new - old) - clean
        scale = error.detach().abs().mean(rest).clamp_min(1e-5)
        parts.append(weight * error.square().mean(rest) / scale)
    return (parts[0] + parts[1]).mean() / beta


def optimality(
    dreams: Sequence[Prompt], chosen: Sequence[Prompt], advantage_clip: float
) -> Tensor:
    """Return for each chosen dream how likely it is one to prefer [N], 0 to 1.

    1/2 + 1/2 clip((outcome - mean) / std, -c, c) / c, with mean and standard deviation of the
    attempts at the same task: where all ended alike, nothing is preferred.
    """
    known = {
        task: np.array(list(_outcomes(dreams, task).values()), float)
        for task in {prompt.task for prompt in chosen}
    }
    worth = []
    for prompt in chosen:
        outcomes = known[prompt.task]
        spread = outcomes.std()
        advantage = (float(bool(prompt.success)) - outcomes.mean()) / spread if spread else 0.0
        worth.append(0.5 + 0.5 * np.clip(advantage / advantage_clip, -1, 1))
    return torch.tensor(worth, dtype=torch.float32)


def judged(dreams: Sequence[DreamPrompt]) -> list[DreamPrompt]:
    """Return the dreams whose attempt has an outcome: an unknown one is not a failure.

    Raises:
        UserError: There are dreams, but none has.
    """
    known = [dream for dream in dreams if dream.success is not None]
    if dreams and not known:
        raise UserError(
            f'None of the {len(dreams)} dreams belongs to an attempt with an outcome: record with '
            'Episode markers that say whether the task was done.'
        )
    return known


def require_contrast(dreams: Sequence[DreamPrompt]) -> None:
    """Refuse attempts from which nothing can be told apart.

    Raises:
        UserError: No task has two successes and two failures.
    """
    told = []
    for task in sorted({dream.task for dream in dreams}):
        ended = _outcomes(dreams, task)
        won = sum(ended.values())
        if min(won, len(ended) - won) >= 2:
            return
        told.append(f'{task}: {won} of {len(ended)}')
    raise UserError(
        'NFT needs a task with two successes and two failures at least: the attempts have '
        f'{", ".join(told) or "no dreams"}. Attempt more, or use --algorithm filtered.'
    )


def _outcomes(dreams: Sequence[Prompt], task: str) -> dict[int, bool]:
    """Return whether each attempt at a task succeeded, by its number."""
    return {dream.episode: bool(dream.success) for dream in dreams if dream.task == task}
