"""The direct gradient of the reward, through the inverse dynamics model into the last steps.

DRaFT-K (arXiv 2309.17400), as VADER (arXiv 2407.08737) does for videos: the executability is
differentiable in the joints, the joints in the frames, the frames in the latents. One dream says
in which direction each of its latents is better; a group of dreams that are only scored says one
number for all of them. What it pays with: it also finds motions that only this inverse dynamics
model believes in. Judge an alignment with a second one (`eva align evaluate --second-idm`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.judge import figures_of
from eva_ros.alignment.trainer import AlignTask
from eva_ros.alignment.trainer import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.training.launch import share_of
from eva_ros.training.loop import TrainingLoop


@dataclass(frozen=True)
class DirectSettings(ResamplingSettings):
    """Settings of the direct gradient of the reward (DRaFT-K, arXiv 2309.17400).

    Attributes:
        dreams: of an iteration, each from another initial view.
        gradient_steps: K, the last denoising steps that the gradient flows through.
    """

    ALGORITHM: ClassVar[str] = 'direct'

    dreams: int = 8
    gradient_steps: int = 1

    def check(self) -> None:
        """Refuse a gradient through more steps than a dream has."""
        if self.gradient_steps > self.steps:
            raise UserError(
                f'The gradient cannot flow through {self.gradient_steps} denoising steps of a '
                f'dream that has {self.steps}: give --gradient-steps {self.steps} or fewer, or '
                'more --dream-steps.'
            )

    def kind(self) -> type[AlignTask]:
        """Return the algorithm."""
        return DirectTask


class DirectTask(AlignTask):
    """Dream once from each of some views, and follow the gradient of what the dreams are worth."""

    def iterate(self, loop: TrainingLoop, rng: np.random.Generator) -> Mapping[str, float]:
        """Take an iteration."""
        model, settings = self.policy.model, self.settings
        prompts = self.draw(settings.dreams, rng)
        share = share_of(len(prompts), 'dreams')
        generator = torch.Generator().manual_seed(int(rng.integers(2**40)))
        noise = model.noise(len(prompts), generator)[share]
        prompts = prompts[share]
        views = torch.stack([prompt.first() for prompt in prompts])
        condition = self.policy.condition(views, [prompt.instruction for prompt in prompts], 1)
        needed = loop.infer(partial(self.needed, prompts, condition, noise))

        def loss() -> tuple[Tensor, Mapping[str, float]]:
            x = model.sample(
                condition, noise, steps=settings.steps, gradient_steps=settings.gradient_steps
            )
            judged = self.judge(model.decode(x, condition), needed, prompts)
            return -judged.reward.mean(), figures_of(judged)

        return loop.update(loss, *self.anchor(rng))
