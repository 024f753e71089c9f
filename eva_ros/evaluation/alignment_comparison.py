"""The same dreams before and after an alignment, and what they are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.judge import Judge
from eva_ros.alignment.judge import Judgement
from eva_ros.alignment.policy import dream_and_judge
from eva_ros.alignment.prompts import Prompt
from eva_ros.errors import UserError
from eva_ros.idm.smoothing import smoothing_matrix
from eva_ros.world_model.pipeline import WorldModel


@dataclass(frozen=True)
class Comparison:
    """Judgements over the same held-out initial views and the same noise.

    Attributes:
        before: of the unaligned dreams.
        after: of the aligned ones.
        before_smoothed: of the unaligned ones after the command path's smoothing, the baseline
            that costs nothing.
        recorded: of what the arms did when it was recorded.
        demonstrated: recorded path lengths [N], rad.
    """

    before: Judgement
    after: Judgement
    before_smoothed: Judgement
    recorded: Judgement
    demonstrated: Tensor

    def distance(self, judged: Judgement) -> Tensor:
        """Return how far the motions end from the recorded ones [N]: mean over joints, rad."""
        return (judged.positions[:, -1] - self.recorded.positions[:, -1]).abs().mean(-1)


def compare(
    model: WorldModel,
    prompts: Sequence[Prompt],
    judge: Judge,
    *,
    views: int,
    seed: int,
    steps: int,
) -> Comparison:
    """Dream from held-out views with the adapter off and on, and judge.

    Args:
        model: with an adapter loaded.
        prompts: held out.
        judge: of the dreams.
        views: how many initial views.
        seed: of the choice and of the noise.
        steps: denoising steps.

    Raises:
        UserError: there are fewer held-out views.
    """
    if len(prompts) < views:
        raise UserError(
            f'Only {len(prompts)} held-out initial views for the {views} asked for: give more '
            'bags, or a larger --held-out.'
        )
    chosen = [prompts[i] for i in np.random.default_rng(seed).permutation(len(prompts))[:views]]
    after = dream_and_judge(model, chosen, judge, seed, steps)
    model.transformer.disable_adapters()
    before = dream_and_judge(model, chosen, judge, seed, steps)
    model.transformer.enable_adapters()
    demonstrated = torch.tensor(
        [prompt.demonstrated(judge.dt, judge.limits.grippers) for prompt in chosen]
    )
    matrix = torch.tensor(smoothing_matrix(before.positions.shape[1], judge.dt))
    recorded = torch.from_numpy(np.stack([np.asarray(p.joints, np.float64) for p in chosen]))
    return Comparison(
        before=before,
        after=after,
        before_smoothed=judge.of_motion(matrix @ before.positions.double(), demonstrated),
        recorded=judge.of_motion(recorded, demonstrated),
        demonstrated=demonstrated,
    )
