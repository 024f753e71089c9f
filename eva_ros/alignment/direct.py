"""The direct gradient of the reward, through the inverse dynamics model into the last steps.

DRaFT-K (arXiv 2309.17400), as VADER (arXiv 2407.08737) does for videos: the executability is
differentiable in the joints, the joints in the frames, the frames in the latents. One dream says
in which direction each of its latents is better; a group of dreams that are only scored says one
number for all of them. What it pays with: it also finds motions that only this inverse dynamics
model believes in. Judge an alignment with a second one (`eva align evaluate --second-idm`).
"""

import numpy as np
import torch

from eva_ros.alignment.judge import figures_of
from eva_ros.alignment.learner import Learner


def direct_iteration(learner: Learner, rng: np.random.Generator) -> dict[str, float]:
    """Dream once from each of some views, and follow the gradient of what the dreams are worth.

    Args:
        learner: its settings are DirectSettings.
        rng: of views, noise and the data anchor.
    """
    prompts = learner.draw(learner.settings.dreams, rng)
    generator = torch.Generator().manual_seed(int(rng.integers(2**40)))
    model, settings = learner.policy.model, learner.settings
    noise = model.noise(len(prompts), generator)
    views = torch.stack([prompt.first() for prompt in prompts])
    condition = learner.policy.condition(views, [p.instruction for p in prompts], 1)
    needed = learner.needed(prompts, condition, noise)

    def backward() -> dict[str, float]:
        x = model.sample(
            condition, noise, steps=settings.steps, gradient_steps=settings.gradient_steps
        )
        judged = learner.judge(model.decode(x, condition), needed)
        (-judged.reward.mean()).backward()
        return figures_of([judged])

    return learner.step(backward, rng)
