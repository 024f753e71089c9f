"""Flow-GRPO on a flow model: groups of stochastic samples, advantages, clipped ratios.

Flow-GRPO (arXiv 2505.05470) with noise in a window of the noisiest steps only; elsewhere the
deterministic step that inference takes. All dreams of a group begin with the same noise, so that
what differs in their reward is owed to the steps whose probabilities are trained. KL as in EVA's
development code: between the means of a step with the adapter on and off.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
import itertools
from typing import Any
from typing import NamedTuple
from typing import Protocol

import torch
from torch import Tensor

from eva_ros.alignment.settings import GrpoSettings
from eva_ros.world_model.sampler import euler_step
from eva_ros.world_model.sampler import sde_step


class Policy(Protocol):
    """What is aligned: a flow model with an adapter that can be switched off."""

    def velocity(self, x: Tensor, sigma: float, condition: Any) -> Tensor:
        """Return the velocity of x [G, ...] at a noise level."""

    def reference(self) -> AbstractContextManager:
        """Return a context in which the adapter is off."""


@dataclass(frozen=True)
class WindowStep:
    """One stochastic step of a group.

    Attributes:
        sigma: noise level before it.
        sigma_next: noise level after it.
        before: x there [G, ...].
        after: what was drawn [G, ...].
        log_prob: of that, when it was drawn [G].
        reference_mean: expectation of the step with the adapter off [G, ...].
    """

    sigma: float
    sigma_next: float
    before: Tensor
    after: Tensor
    log_prob: Tensor
    reference_mean: Tensor


@dataclass(frozen=True)
class Group:
    """Dreams of one view and instruction.

    Attributes:
        condition: what they start from, repeated for each.
        window: their stochastic steps.
        samples: where they ended [G, ...].
    """

    condition: Any
    window: tuple[WindowStep, ...]
    samples: Tensor


class GroupLoss(NamedTuple):
    """Terms of the loss of one group, and what to watch.

    Attributes:
        policy: clipped surrogate, averaged over the window.
        kl: divergence from the reference, averaged over the window.
        ratio_deviation: largest |ratio - 1|; exactly 0 on the first pass.
        clipped: share of ratios beyond the clip range.
    """

    policy: Tensor
    kl: Tensor
    ratio_deviation: float
    clipped: float


@torch.no_grad()
def sample_group(
    policy: Policy,
    condition: Any,
    noise: Tensor,
    levels: Sequence[float],
    settings: GrpoSettings,
    generator: torch.Generator,
) -> Group:
    """Draw the dreams of a group.

    Args:
        policy: what dreams.
        condition: repeated for each dream of the group.
        noise: initial noise [1, ...], shared by the group.
        levels: noise levels from 1 down to 0.
        settings: window and strength of the noise.
        generator: of the noise in the window.
    """
    x = noise.expand(settings.group_size, *noise.shape[1:]).contiguous()
    window = []
    for number, (sigma, sigma_next) in enumerate(itertools.pairwise(levels)):
        velocity = policy.velocity(x, sigma, condition)
        if number >= settings.window:
            x = euler_step(x, velocity, sigma, sigma_next)
            continue
        step = sde_step(x, velocity, sigma, sigma_next, eta=settings.eta, generator=generator)
        with policy.reference():
            still = policy.velocity(x, sigma, condition)
        reference = sde_step(x, still, sigma, sigma_next, eta=settings.eta, sample=step.sample)
        window.append(WindowStep(sigma, sigma_next, x, step.sample, step.log_prob, reference.mean))
        x = step.sample
    return Group(condition, tuple(window), x)


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


def group_loss(
    policy: Policy, group: Group, advantage: Tensor, settings: GrpoSettings, step: WindowStep
) -> GroupLoss:
    """Return the loss of one stochastic step of a group.

    Args:
        policy: what is trained; gradients flow into it.
        group: the dreams.
        advantage: of each [G].
        settings: clip range and strength of the noise.
        step: one of the group's window.
    """
    velocity = policy.velocity(step.before, step.sigma, group.condition)
    now = sde_step(
        step.before, velocity, step.sigma, step.sigma_next, eta=settings.eta, sample=step.after
    )
    ratio = (now.log_prob - step.log_prob).exp()
    kept = ratio.clamp(1 - settings.clip, 1 + settings.clip)
    policy_loss = -torch.minimum(ratio * advantage, kept * advantage).mean()
    kl = (now.mean - step.reference_mean).square().mean() / (2 * now.std**2)
    away = (ratio.detach() - 1).abs()
    return GroupLoss(
        policy_loss, kl, away.max().item(), (away > settings.clip).float().mean().item()
    )
