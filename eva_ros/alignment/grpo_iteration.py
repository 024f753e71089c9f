"""One iteration of Flow-GRPO on a world model: dream groups, judge them, learn from both."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.grpo import advantages
from eva_ros.alignment.grpo import Group
from eva_ros.alignment.grpo import group_loss
from eva_ros.alignment.grpo import sample_group
from eva_ros.alignment.judge import figures_of
from eva_ros.alignment.judge import Judgement
from eva_ros.alignment.learner import Learner
from eva_ros.alignment.prompts import Prompt


def grpo_iteration(learner: Learner, rng: np.random.Generator) -> dict[str, float]:
    """Dream groups, judge them, take the optimizer steps; return what to watch.

    Args:
        learner: its settings are GrpoSettings.
        rng: of views, noise and the data anchor.
    """
    groups, judged = [], []
    for prompt in learner.draw(learner.settings.groups, rng):
        group, needed = _dream(learner, prompt, int(rng.integers(2**40)))
        groups.append(group)
        judged.append(_judge(learner, group, needed))
    better = advantages(torch.stack([j.reward for j in judged]), learner.settings)
    watched = [
        learner.step(lambda: _backward(learner, groups, better), rng)
        for _ in range(learner.settings.passes)
    ]
    figures = figures_of(judged) | watched[-1]
    figures['first_ratio_deviation'] = watched[0]['ratio_deviation']
    return figures


def _dream(learner: Learner, prompt: Prompt, seed: int) -> tuple[Group, Tensor]:
    """Return the dreams of a group, and the motion that they must keep [1]."""
    settings, policy = learner.settings, learner.policy
    generator = torch.Generator().manual_seed(seed)
    view = prompt.first()[None]
    condition = policy.condition(view, [prompt.instruction], settings.group_size)
    noise = policy.model.noise(1, generator)
    group = sample_group(policy, condition, noise, learner.levels, settings, generator)
    alone = policy.condition(view, [prompt.instruction], 1)
    return group, learner.needed([prompt], alone, noise)


@torch.no_grad()
def _judge(learner: Learner, group: Group, needed: Tensor) -> Judgement:
    frames = learner.policy.model.decode(group.samples, group.condition)
    return learner.judge(frames, needed.expand(len(frames)))


def _backward(learner: Learner, groups: Sequence[Group], better: Tensor) -> dict[str, float]:
    settings = learner.settings
    seen = []
    share = 1 / (len(groups) * settings.window)
    for group, advantage in zip(groups, better, strict=True):
        for step in group.window:
            loss = group_loss(learner.policy, group, advantage.float(), settings, step)
            (share * (loss.policy + settings.kl_weight * loss.kl)).backward()
            seen.append((loss.kl.item(), loss.ratio_deviation, loss.clipped))
    kl, deviation, clipped = np.array(seen).T
    return {
        'kl': float(kl.mean()),
        'ratio_deviation': float(deviation.max()),
        'clipped': float(clipped.mean()),
    }
