"""What every algorithm learns with: a policy, prompts, a judge, an optimizer and the anchors."""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.judge import Judge
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.prompts import Prompt
from eva_ros.alignment.settings import ResamplingSettings
from eva_ros.idm.reading import frames_to_tensor
from eva_ros.training.divergence import DivergenceGuard
from eva_ros.world_model.pipeline import Condition
from eva_ros.world_model.sampler import noise_levels


class Learner:
    """A policy that can take optimizer steps, held by its anchors.

    Args:
        policy: the world model with a fresh adapter.
        prompts: what to dream from.
        judge: of the dreams.
        settings: of the algorithm.

    Attributes:
        guard: watches the optimizer steps of the iteration that `guard.step` names.
    """

    def __init__(
        self,
        policy: WorldModelPolicy,
        prompts: list[Prompt],
        judge: Judge,
        settings: ResamplingSettings,
    ) -> None:
        self.policy, self.prompts, self.judge = policy, prompts, judge
        self.settings: Any = settings
        self.guard = DivergenceGuard('align', 'iteration')
        self.levels = noise_levels(policy.model.scheduler, settings.steps)
        self.weights = policy.parameters()
        self.optimizer = torch.optim.AdamW(
            list(self.weights.values()), lr=settings.learning_rate, weight_decay=0.0
        )

    def draw(self, count: int, rng: np.random.Generator) -> list[Prompt]:
        """Return as many prompts as asked for, or all if there are fewer."""
        count = min(count, len(self.prompts))
        return [self.prompts[i] for i in rng.choice(len(self.prompts), count, replace=False)]

    @torch.no_grad()
    def needed(self, prompts: list[Prompt], condition: Condition, noise: Tensor) -> Tensor:
        """Return the motion to keep [N], rad: what was recorded, or was dreamed if it is less.

        Alignment shall not take motion away; to move more than before is for the supervised
        training to teach, and would drown what the executability says.

        Args:
            prompts: N of them.
            condition: of a dream of each.
            noise: which those dreams begin with.
        """
        model, judge = self.policy.model, self.judge
        recorded = torch.tensor([p.demonstrated(judge.dt, judge.limits.grippers) for p in prompts])
        with self.policy.reference():
            unaligned = model.sample(condition, noise, steps=self.settings.steps)
        before = judge(model.decode(unaligned, condition), recorded)
        return torch.minimum(recorded, before.travelled.to(recorded))

    def step(
        self, backward: Callable[[], dict[str, float]], rng: np.random.Generator
    ) -> dict[str, float]:
        """Take one optimizer step.

        Args:
            backward: adds the algorithm's gradient and returns what to watch.
            rng: draws the recorded clips of the data anchor.

        Raises:
            NotFiniteError: what is watched or the gradient is not finite; the weights stay.
        """
        self.optimizer.zero_grad(set_to_none=True)
        watched = backward()
        data = self._anchor(rng)
        norm = torch.nn.utils.clip_grad_norm_(
            list(self.weights.values()), self.settings.gradient_norm
        )
        now = self.guard.step
        self.guard.require_finite(now, watched)
        self.guard.check(now, {'data loss': data, 'gradient norm': float(norm)})
        self.optimizer.step()
        return watched | {'data_loss': data, 'gradient': float(norm)}

    def _anchor(self, rng: np.random.Generator) -> float:
        """Add the gradient of the supervised loss on recorded clips; return the loss."""
        settings = self.settings
        if settings.data_weight == 0:
            return 0.0
        rows = rng.integers(len(self.prompts), size=settings.data_clips)
        chosen = [self.prompts[row] for row in rows]
        clips = frames_to_tensor(np.stack([np.asarray(p.frames) for p in chosen]))
        generator = torch.Generator().manual_seed(int(rng.integers(2**40)))
        loss = self.policy.data_loss(clips, [p.instruction for p in chosen], generator)
        (settings.data_weight * loss).backward()
        return loss.item()
