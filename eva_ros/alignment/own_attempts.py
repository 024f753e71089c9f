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
from eva_ros.alignment.judge import Judge
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.prompts import draw_balanced
from eva_ros.alignment.prompts import Prompt
from eva_ros.alignment.trainer import AlignTask
from eva_ros.alignment.trainer import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.idm.reading import frames_to_tensor
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
        self, name: str, prompts: Sequence[Prompt], count: int, rng: np.random.Generator
    ) -> Loss:
        """Return the supervised loss on as many prompts, drawn evenly from their tasks."""
        share = share_of(count, name)
        chosen = draw_balanced(prompts, count, rng)[share]
        generator = torch.Generator().manual_seed(int(rng.integers(2**40)) + share.start)

        def loss() -> tuple[Tensor, Mapping[str, float]]:
            value = self.policy.data_loss(
                clips_of(chosen), [prompt.instruction for prompt in chosen], generator
            )
            return value, {f'{name} loss': value.item()}

        return loss


@dataclass(frozen=True)
class FinetuneSettings(OfflineSettings):
    """Settings of fine-tuning on demonstrations alone, the control of filtered fine-tuning."""

    ALGORITHM: ClassVar[str] = 'finetune'

    def task(
        self,
        policy: WorldModelPolicy,
        prompts: Sequence[Prompt],
        judge: Judge,
        own: Sequence[Prompt] = (),
    ) -> AlignTask:
        """Return the algorithm, at its beginning."""
        return FinetuneTask(policy, prompts, judge, self)


class FinetuneTask(OfflineTask):
    """Imitate demonstrations."""

    def losses(self, rng: np.random.Generator) -> list[Loss]:
        """Return the loss on demonstrations."""
        return [self.imitation('demonstrations', self.prompts, self.settings.clips, rng)]


@dataclass(frozen=True)
class FilteredSettings(OfflineSettings):
    """Settings of verified self-training; of a step's clips one half are demonstrations."""

    ALGORITHM: ClassVar[str] = 'filtered'

    def check(self) -> None:
        """Refuse a step that cannot be shared one to one."""
        if self.clips % 2:
            raise UserError(
                f'Filtered fine-tuning shares {self.clips} clips one to one between '
                'demonstrations and attempts: give an even number.'
            )

    def task(
        self,
        policy: WorldModelPolicy,
        prompts: Sequence[Prompt],
        judge: Judge,
        own: Sequence[Prompt] = (),
    ) -> AlignTask:
        """Return the algorithm, at its beginning.

        Args:
            policy: the world model with a fresh adapter.
            prompts: of demonstrations.
            judge: of dreams.
            own: verified parts of successful attempts.
        """
        return FilteredTask(policy, prompts, judge, self, own)


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
class NftSettings(OfflineSettings):
    """Settings of DiffusionNFT on recorded dreams (arXiv 2509.16117, equations 4 to 6).

    Attributes:
        beta: how far the implicit policies lie from the unaligned one.
        advantage_clip: largest advantage, in standard deviations of the task's outcomes.
    """

    ALGORITHM: ClassVar[str] = 'nft'

    beta: float = 0.5
    advantage_clip: float = 2.0

    def check(self) -> None:
        """Refuse a step that cannot be shared one to one."""
        FilteredSettings.check(self)  # type: ignore[arg-type]

    def task(
        self,
        policy: WorldModelPolicy,
        prompts: Sequence[Prompt],
        judge: Judge,
        own: Sequence[Prompt] = (),
    ) -> AlignTask:
        """Return the algorithm, at its beginning.

        Args:
            policy: the world model with a fresh adapter.
            prompts: of demonstrations, the data anchor.
            judge: of dreams.
            own: dreams of attempts with their outcomes.
        """
        return NftTask(policy, prompts, judge, self, own)


class NftTask(OfflineTask):
    """Tell the dreams of successes from those of failures."""

    def losses(self, rng: np.random.Generator) -> list[Loss]:
        """Return the contrastive loss on dreams and the anchor on demonstrations."""
        half = self.settings.clips // 2
        losses = [self._contrast(half, rng)]
        if self.settings.data_weight:
            anchor = self.imitation('demonstrations', self.prompts, half, rng)
            losses.append(weighted(anchor, self.settings.data_weight))
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
    worth = []
    for prompt in chosen:
        same = {p.episode: float(bool(p.success)) for p in dreams if p.task == prompt.task}
        outcomes = np.array(list(same.values()))
        spread = outcomes.std()
        advantage = (float(bool(prompt.success)) - outcomes.mean()) / spread if spread else 0.0
        worth.append(0.5 + 0.5 * np.clip(advantage / advantage_clip, -1, 1))
    return torch.tensor(worth, dtype=torch.float32)


def weighted(loss: Loss, weight: float) -> Loss:
    """Return a loss times a weight."""

    def scaled() -> tuple[Tensor, Mapping[str, float]]:
        value, figures = loss()
        return weight * value, figures

    return scaled


def clips_of(prompts: Sequence[Prompt]) -> Tensor:
    """Return the frames of prompts [N, T, 3, H, W], 0 to 1."""
    return frames_to_tensor(np.stack([np.asarray(prompt.frames) for prompt in prompts]))


def require_contrast(dreams: Sequence[DreamPrompt]) -> None:
    """Refuse attempts from which nothing can be told apart.

    Raises:
        UserError: No task has two successes and two failures.
    """
    told = []
    for task in sorted({dream.task for dream in dreams}):
        ended = {d.episode: bool(d.success) for d in dreams if d.task == task}
        won = sum(ended.values())
        if min(won, len(ended) - won) >= 2:
            return
        told.append(f'{task}: {won} of {len(ended)}')
    raise UserError(
        'NFT needs a task with two successes and two failures at least: the attempts have '
        f'{", ".join(told) or "no dreams"}. Attempt more, or use --algorithm filtered.'
    )
