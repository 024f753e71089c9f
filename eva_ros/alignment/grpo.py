"""Flow-GRPO on a flow model: groups of stochastic samples, advantages, clipped ratios.

Flow-GRPO (arXiv 2505.05470) with noise in a window of the noisiest steps only; elsewhere the
deterministic step that inference takes. All dreams of a group begin with the same noise, so that
what differs in their reward is owed to the steps whose probabilities are trained. KL as in EVA's
development code: between the means of a step with the adapter on and off.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
import itertools
import math
from typing import Any
from typing import ClassVar
from typing import NamedTuple
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.judge import figures_of
from eva_ros.alignment.judge import Judgement
from eva_ros.alignment.policy import joined
from eva_ros.alignment.prompts import Prompt
from eva_ros.alignment.trainer import AlignTask
from eva_ros.alignment.trainer import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.training.launch import share_of
from eva_ros.training.loop import TrainingLoop
from eva_ros.world_model.sampler import euler_step
from eva_ros.world_model.sampler import sde_step


@dataclass(frozen=True)
class GrpoSettings(ResamplingSettings):
    """Settings of Flow-GRPO (arXiv 2505.05470), with noise in a window only (Flow-GRPO-Fast).

    Attributes:
        groups: initial views of an iteration.
        group_size: dreams of each, from one initial noise.
        batch_groups: groups that go through the model at once: memory grows with it, the result
            stays the same.
        window: stochastic steps, counted from the noisiest.
        eta: strength of their noise.
        passes: over the groups of an iteration; the first is on-policy.
        clip: of the probability ratio around 1; log-probabilities are means over elements.
        advantage_clip: largest advantage.
        std_floor: smallest standard deviation that rewards are divided by: groups whose dreams
            are all alike would otherwise teach the decoder's noise.
        kl_weight: of the divergence from the unaligned model.
    """

    ALGORITHM: ClassVar[str] = 'grpo'
    # Stochastic steps need others beside them.
    FEWEST_STEPS: ClassVar[int] = 4

    learning_rate: float = 5e-4
    groups: int = 4
    group_size: int = 8
    batch_groups: int = 4
    window: int = 2
    eta: float = 0.7
    passes: int = 2
    clip: float = 1e-3
    advantage_clip: float = 5.0
    std_floor: float = 0.1
    kl_weight: float = 0.01

    def check(self) -> None:
        """Refuse a window that is longer than a dream, and groups of a single dream."""
        if self.window > self.steps:
            raise UserError(
                f'--algorithm grpo trains the first {self.window} denoising steps of a dream, '
                f'which is to have {self.steps}: give --dream-steps {self.window} or more.'
            )
        if self.group_size < 2:
            raise UserError(
                f'A group of {self.group_size} has no other dream to compare with: give '
                '--group-size 2 or more.'
            )

    def kind(self) -> type[AlignTask]:
        """Return the algorithm."""
        return GrpoTask


class Policy(Protocol):
    """What is aligned: a flow model with an adapter that can be switched off."""

    def velocity(self, x: Tensor, sigma: float, condition: Any) -> Tensor:
        """Return the velocity of x [G, ...] at a noise level."""

    def reference(self) -> AbstractContextManager:
        """Return a context in which the adapter is off."""


@dataclass(frozen=True)
class WindowStep:
    """One stochastic step of N groups of G dreams; D = N G.

    Attributes:
        sigma: noise level before it.
        sigma_next: noise level after it.
        before: x there [D, ...].
        after: what was drawn [D, ...].
        log_prob: of that, when it was drawn [D].
        reference_mean: expectation of the step with the adapter off [D, ...].
    """

    sigma: float
    sigma_next: float
    before: Tensor
    after: Tensor
    log_prob: Tensor
    reference_mean: Tensor


@dataclass(frozen=True)
class Groups:
    """Dreams of N views and instructions, G of each in a row; D = N G.

    Attributes:
        condition: what they start from, repeated for each.
        window: their stochastic steps.
        samples: where they ended [D, ...].
    """

    condition: Any
    window: tuple[WindowStep, ...]
    samples: Tensor


class WindowLoss(NamedTuple):
    """Terms of the loss of one step of the window, and what to watch.

    Attributes:
        policy: clipped surrogate.
        kl: divergence from the reference.
        ratio_deviation: largest |ratio - 1|; exactly 0 on the first pass.
        clipped: share of ratios beyond the clip range.
    """

    policy: Tensor
    kl: Tensor
    ratio_deviation: float
    clipped: float


@torch.no_grad()
def sample_groups(
    policy: Policy,
    condition: Any,
    noise: Tensor,
    levels: Sequence[float],
    settings: GrpoSettings,
    generators: Sequence[torch.Generator],
) -> Groups:
    """Draw the dreams of all groups, each step in one pass.

    Args:
        policy: what dreams.
        condition: repeated for each dream of a group.
        noise: initial noise [N, ...], each shared by a group.
        levels: noise levels from 1 down to 0.
        settings: window and strength of the noise.
        generators: of the noise in the window, one a group [N].
    """
    x = noise.repeat_interleave(settings.group_size, 0)
    each = [generator for generator in generators for _ in range(settings.group_size)]
    window = []
    for number, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
        velocity = policy.velocity(x, sigma, condition)
        if number >= settings.window:
            x = euler_step(x, velocity, sigma, sigma_next)
            continue
        step = sde_step(x, velocity, sigma, sigma_next, eta=settings.eta, generator=each)
        with policy.reference():
            still = policy.velocity(x, sigma, condition)
        reference = sde_step(x, still, sigma, sigma_next, eta=settings.eta, sample=step.sample)
        window.append(WindowStep(sigma, sigma_next, x, step.sample, step.log_prob, reference.mean))
        x = step.sample
    return Groups(condition, tuple(window), x)


def advantages(rewards: Tensor, settings: GrpoSettings) -> Tensor:
    """Return how much better than its group each dream is [N, G].

    (reward - mean) / max(std, floor), clipped.

    Args:
        rewards: [N, G].
        settings: floor and clip.
    """
    centred = rewards - rewards.mean(-1, keepdim=True)
    deviation = rewards.std(-1, keepdim=True).clamp_min(settings.std_floor)
    return (centred / deviation).clamp(-settings.advantage_clip, settings.advantage_clip)


def window_loss(
    policy: Policy, groups: Groups, advantage: Tensor, settings: GrpoSettings, step: WindowStep
) -> WindowLoss:
    """Return the loss of one stochastic step of the groups.

    Args:
        policy: what is trained; gradients flow into it.
        groups: the dreams.
        advantage: of each [D].
        settings: clip range and strength of the noise.
        step: one of their window.
    """
    velocity = policy.velocity(step.before, step.sigma, groups.condition)
    now = sde_step(
        step.before, velocity, step.sigma, step.sigma_next, eta=settings.eta, sample=step.after
    )
    ratio = (now.log_prob - step.log_prob).exp()
    kept = ratio.clamp(1 - settings.clip, 1 + settings.clip)
    policy_loss = -torch.minimum(ratio * advantage, kept * advantage).mean()
    kl = (now.mean - step.reference_mean).square().mean() / (2 * now.std**2)
    away = (ratio.detach() - 1).abs()
    return WindowLoss(
        policy_loss, kl, away.max().item(), (away > settings.clip).float().mean().item()
    )


class _Batch(NamedTuple):
    """Groups that go through the model at once, and what their dreams are worth."""

    groups: Groups
    judged: Judgement


class GrpoTask(AlignTask):
    """Dream groups, judge them, take the optimizer steps."""

    def iterate(self, loop: TrainingLoop, rng: np.random.Generator) -> Mapping[str, float]:
        """Take an iteration."""
        settings, views = self.settings, self._views(rng)
        batches = [
            loop.infer(partial(self._sample, views[start : start + settings.batch_groups]))
            for start in range(0, len(views), settings.batch_groups)
        ]
        judged = joined([batch.judged for batch in batches])
        figures = loop.mean(figures_of(judged, len(views)))
        loop.guard.require_finite(loop.step + 1, figures)
        if figures['spread'] == 0:
            loop.guard.warn(
                'no group has dreams of different reward',
                'only the data loss teaches; a reward that differs between dreams helps',
            )
        better = advantages(judged.reward.view(len(views), -1), settings).float()
        losses = [
            partial(
                self._loss, batch.groups, advantage.flatten(), step, len(advantage) / len(views)
            )
            for batch, advantage in zip(batches, better.split(settings.batch_groups), strict=True)
            for step in batch.groups.window
        ]
        watched = [loop.update(*losses, *self.anchor(rng)) for _ in range(settings.passes)]
        first = {'first_ratio_deviation': watched[0]['ratio_deviation']}
        return figures | watched[-1] | first

    def _views(self, rng: np.random.Generator) -> list[tuple[Prompt, int]]:
        """Return this process' prompts, and a seed for the group of each."""
        prompts = self.draw(self.settings.groups, rng)
        seeds = rng.integers(2**40, size=len(prompts)).tolist()
        return list(zip(prompts, seeds, strict=True))[share_of(len(prompts), 'groups')]

    def _sample(self, chosen: Sequence[tuple[Prompt, int]]) -> '_Batch':
        """Dream the groups of some prompts and seeds, and judge them."""
        settings, policy = self.settings, self.policy
        prompts = [prompt for prompt, _ in chosen]
        generators = [torch.Generator().manual_seed(seed) for _, seed in chosen]
        views = torch.stack([prompt.first() for prompt in prompts])
        instructions = [prompt.instruction for prompt in prompts]
        condition = policy.condition(views, instructions, settings.group_size)
        noise = policy.model.noise(len(prompts), generators)
        groups = sample_groups(policy, condition, noise, self.levels, settings, generators)
        needed = self.needed(prompts, policy.condition(views, instructions, 1), noise)
        frames = policy.model.decode(groups.samples, condition)
        size = settings.group_size
        repeated = [prompt for prompt in prompts for _ in range(size)]
        return _Batch(groups, self.judge(frames, needed.repeat_interleave(size), repeated))

    def _loss(
        self, groups: Groups, advantage: Tensor, step: WindowStep, share: float
    ) -> tuple[Tensor, Mapping[str, float]]:
        settings = self.settings
        loss = window_loss(self.policy, groups, advantage, settings, step)
        # Log-probabilities are means over elements, whose noise leaves 1 / sqrt(elements) of
        # the gradient: the anchor's is 130 times larger, and Adam would follow that alone.
        scale = math.sqrt(step.after[0].numel()) * share / len(groups.window)
        whole = scale * (loss.policy + settings.kl_weight * loss.kl)
        return whole, {
            'kl': loss.kl.item(),
            'ratio_deviation': loss.ratio_deviation,
            'clipped': loss.clipped,
        }
