"""One step of the flow, with or without noise: inference and alignment both use this file.

Notation of eva.md section 3: x = (1 - sigma) x0 + sigma eps, velocity = eps - x0, sigma runs from
1 to 0. Without noise the step is that of diffusers' FlowMatchEulerDiscreteScheduler.
"""

from abc import ABC
from abc import abstractmethod
from dataclasses import dataclass
import math
from typing import TypeAlias

from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers import UniPCMultistepScheduler
from diffusers.utils.torch_utils import randn_tensor
import numpy as np
import torch
from torch import Tensor
from torch.distributions import Normal

from eva_ros.errors import UserError

Scheduler: TypeAlias = FlowMatchEulerDiscreteScheduler | UniPCMultistepScheduler


@dataclass(frozen=True)
class SdeStep:
    """A stochastic step and the density it was drawn from.

    Attributes:
        sample: the next latents.
        mean: their expectation.
        std: standard deviation of every element.
        log_prob: log density, averaged over all elements of a sample [B].
    """

    sample: Tensor
    mean: Tensor
    std: float
    log_prob: Tensor


def noise_levels(scheduler: FlowMatchEulerDiscreteScheduler, steps: int) -> list[float]:
    """Return the steps + 1 noise levels of a schedule, from 1 down to 0.

    Evenly spaced down to 1 / steps before the scheduler's shift, as diffusers' pipelines for flow
    models ask for: the scheduler's own default spends its last step near zero.
    """
    scheduler.set_timesteps(sigmas=np.linspace(1.0, 1.0 / steps, steps))
    return [float(s) for s in scheduler.sigmas]


class Sampler(ABC):
    """A schedule of noise levels and the step between two of them."""

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of steps."""

    @abstractmethod
    def point(self, index: int) -> tuple[float, float | None]:
        """Return noise level and transformer time before a step; None is 1000 times the level."""

    @abstractmethod
    def step(self, index: int, x: Tensor, velocity: Tensor) -> Tensor:
        """Return x after a step, given its velocity in float32."""


class EulerSampler(Sampler):
    """The deterministic step that alignment replaces by a stochastic one in a window.

    Args:
        levels: Noise levels from 1 down to 0, one more than steps.
    """

    def __init__(self, levels: list[float]) -> None:
        self.levels = levels

    def __len__(self) -> int:
        return len(self.levels) - 1

    def point(self, index: int) -> tuple[float, float | None]:
        """Return the noise level before a step."""
        return self.levels[index], None

    def step(self, index: int, x: Tensor, velocity: Tensor) -> Tensor:
        """Return x after a step."""
        return euler_step(x, velocity, self.levels[index], self.levels[index + 1])


class UniPCSampler(Sampler):
    """The multistep solver of diffusers, for inference only: its steps depend on those before.

    Args:
        scheduler: One of its own, with its timesteps set.
    """

    def __init__(self, scheduler: UniPCMultistepScheduler) -> None:
        self.scheduler = scheduler

    def __len__(self) -> int:
        return len(self.scheduler.timesteps)

    def point(self, index: int) -> tuple[float, float | None]:
        """Return the noise level before a step, and the time that the scheduler rounds it to."""
        return float(self.scheduler.sigmas[index]), float(self.scheduler.timesteps[index])

    def step(self, index: int, x: Tensor, velocity: Tensor) -> Tensor:
        """Return x after a step."""
        time = self.scheduler.timesteps[index]
        return self.scheduler.step(velocity, time, x, return_dict=False)[0]


def make_sampler(
    scheduler: Scheduler, name: str, steps: int, *, sigmas: np.ndarray | None = None
) -> Sampler:
    """Return a sampler on a checkpoint's noise schedule.

    Args:
        scheduler: Scheduler of the checkpoint; where it is of the other kind, only its shift and
            its number of training steps count.
        name: 'euler' or 'unipc'.
        steps: Number of steps.
        sigmas: Noise levels before the shift; None takes the scheduler's own spacing.

    Raises:
        UserError: There is no such sampler.
    """
    config, given = scheduler.config, {'num_train_timesteps': scheduler.config.num_train_timesteps}
    spacing = {'num_inference_steps': steps} if sigmas is None else {'sigmas': sigmas}
    if name == 'euler':
        euler = scheduler
        if not isinstance(scheduler, FlowMatchEulerDiscreteScheduler):
            euler = FlowMatchEulerDiscreteScheduler(shift=config.flow_shift, **given)
        euler.set_timesteps(**spacing)
        return EulerSampler([float(s) for s in euler.sigmas])
    if name == 'unipc':
        if isinstance(scheduler, UniPCMultistepScheduler):
            unipc = UniPCMultistepScheduler.from_config(config)
        else:
            unipc = UniPCMultistepScheduler(
                prediction_type='flow_prediction',
                use_flow_sigmas=True,
                flow_shift=config.shift,
                **given,
            )
        unipc.set_timesteps(**spacing)
        return UniPCSampler(unipc)
    raise UserError(f"There is no sampler '{name}': use euler or unipc.")


def velocity_from_clean(x: Tensor, clean: Tensor, sigma: float | Tensor) -> Tensor:
    """Return the velocity that leads from x at noise level sigma to the clean target."""
    return (x - clean) / sigma


def euler_step(x: Tensor, velocity: Tensor, sigma: float, sigma_next: float) -> Tensor:
    """Return x after one deterministic step (FlowMatchEulerDiscreteScheduler.step)."""
    return x + (sigma_next - sigma) * velocity


def sde_moments(
    x: Tensor,
    velocity: Tensor,
    sigma: float,
    sigma_next: float,
    *,
    eta: float,
) -> tuple[Tensor, float]:
    """Return mean and standard deviation of a stochastic step (Flow-GRPO, arXiv 2505.05470).

    s = eta sqrt(sigma / (1 - sigma)), with the next level in the denominator at sigma = 1;
    mean = x (1 + s^2 / (2 sigma) dt) + v (1 + s^2 (1 - sigma) / (2 sigma)) dt;
    std = s sqrt(-dt). With eta = 0 it is euler_step.
    """
    below = sigma_next if sigma >= 1.0 else sigma
    noise = eta * math.sqrt(sigma / (1.0 - below))
    dt = sigma_next - sigma
    drift = noise**2 / (2.0 * sigma)
    mean = x * (1.0 + drift * dt) + velocity * ((1.0 + drift * (1.0 - sigma)) * dt)
    return mean, noise * math.sqrt(-dt)


def sde_step(
    x: Tensor,
    velocity: Tensor,
    sigma: float,
    sigma_next: float,
    *,
    eta: float,
    sample: Tensor | None = None,
    generator: torch.Generator | list[torch.Generator] | None = None,
) -> SdeStep:
    """Draw a stochastic step, or give the density of a step taken before.

    Args:
        x: latents [B, ...] at noise level sigma.
        velocity: predicted velocity of the same shape.
        sigma: noise level now.
        sigma_next: noise level after the step.
        eta: strength of the noise, above zero.
        sample: the step taken before, whose density is wanted; None draws one.
        generator: source of the noise; or one for each sample [B].
    """
    mean, std = sde_moments(x, velocity, sigma, sigma_next, eta=eta)
    if sample is None:
        noise = randn_tensor(x.shape, generator, x.device, x.dtype)
        sample = (mean + std * noise).detach()
    density = Normal(mean, std, validate_args=False).log_prob(sample)
    return SdeStep(sample, mean, std, density.flatten(1).mean(1))
