"""Stops an alignment whose reward rises while its dreams get worse, as seen on held-out views.

Three signs, none of which the reward shows: the dreams stop moving (or move wildly), the model
forgets what was recorded, or a second inverse dynamics model, which nothing is optimised for,
disagrees with the first about the gain.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import replace
from functools import partial
from typing import Any

from accelerate.utils import broadcast_object_list
import numpy as np
import torch

from eva_ros.alignment.judge import Judge
from eva_ros.alignment.judge import motion_ratio
from eva_ros.alignment.policy import dream_and_judge_by
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.prompts import clips_of
from eva_ros.alignment.prompts import Prompt
from eva_ros.idm.model import InverseDynamics
from eva_ros.training.loop import TrainingLoop

# Of the choice of views and of all noise: every check of a run sees the same.
_SEED = 0
# A change smaller than this number of standard errors over the views is taken for noise.
_ERRORS = 2.0


@dataclass(frozen=True)
class CheckSettings:
    """When an alignment is checked, and when it is stopped.

    Attributes:
        every: Iterations between two checks.
        views: Number of held-out initial views.
        least_motion: Motion of the dreams against the recordings, below which it stops.
        most_motion: Motion of the dreams against the recordings, above which it stops.
        loss_rise: Rise of the supervised loss since the start, as a share of it.
    """

    every: int = 25
    views: int = 8
    least_motion: float = 0.5
    most_motion: float = 2.0
    loss_rise: float = 0.25


@dataclass(frozen=True)
class Check:
    """Figures on held-out views at one moment of an alignment.

    Attributes:
        iteration: Iterations done.
        data_loss: Supervised loss on the recorded clips.
        motion_ratio: Motion of the dreams against the recordings; None without a judge.
        rewards: Reward of each dream; empty without a judge.
        second_rewards: The same by the second inverse dynamics model; empty without one.
    """

    iteration: int
    data_loss: float
    motion_ratio: float | None = None
    rewards: Sequence[float] = ()
    second_rewards: Sequence[float] = ()

    def figures(self) -> dict[str, float]:
        """Return what TensorBoard shows."""
        known = {
            'data loss': self.data_loss,
            'motion ratio': self.motion_ratio,
            'reward': np.mean(self.rewards) if self.rewards else None,
            'second reward': np.mean(self.second_rewards) if self.second_rewards else None,
        }
        return {f'held-out {k}': float(v) for k, v in known.items() if v is not None}


class HeldOutChecks:
    """Looks at held-out views at intervals and says when an alignment should stop.

    Args:
        prompts: Held-out initial views; some of them are chosen once.
        settings: When to check and when to stop.
        second_idm: Inverse dynamics model that the reward does not use.

    Attributes:
        made: All checks so far; the first is that of the start.
    """

    def __init__(
        self,
        prompts: Sequence[Prompt],
        settings: CheckSettings | None = None,
        second_idm: InverseDynamics | None = None,
    ) -> None:
        self.settings, self.second_idm = settings or CheckSettings(), second_idm
        order = np.random.default_rng(_SEED).permutation(len(prompts))
        self._prompts = [prompts[number] for number in order[: self.settings.views]]
        self.made: list[Check] = []

    def make(
        self,
        loop: TrainingLoop,
        iteration: int,
        policy: WorldModelPolicy,
        judge: Judge | None,
        steps: int,
    ) -> None:
        """Check the model as it is now, in every process; the first one's figures count.

        Args:
            loop: Training loop, whose `guard` refuses figures that are not finite.
            iteration: Iterations done.
            policy: World model with its adapter.
            judge: Judge of the dreams; None leaves the dreams out.
            steps: Denoising steps of a dream.
        """
        found: list[Any] = [loop.infer(partial(self._look, iteration, policy, judge, steps))]
        broadcast_object_list(found)
        check: Check = found[0]
        loop.guard.require_finite(check.iteration, check.figures())
        self.made.append(check)
        loop.accelerator.log(check.figures(), step=check.iteration)

    def fault(self) -> str:
        """Return what the last check found wrong; '' if nothing."""
        if not self.made:
            return ''
        start, now, settings = self.made[0], self.made[-1], self.settings
        return (
            _motion_fault(start, now, settings)
            or _loss_fault(start, now, settings)
            or _second_fault(start, now)
        )

    def last_passed(self) -> int:
        """Return the iteration of the last check before the one that failed."""
        return self.made[-2].iteration

    def facts(self) -> list[dict[str, Any]]:
        """Return all checks as JSON."""
        return [asdict(check) for check in self.made]

    def restore(self, facts: Sequence[Mapping[str, Any]]) -> None:
        """Take back what `facts` returned."""
        self.made = [Check(**check) for check in facts]

    def _look(
        self, iteration: int, policy: WorldModelPolicy, judge: Judge | None, steps: int
    ) -> Check:
        prompts, generator = self._prompts, torch.Generator().manual_seed(_SEED)
        instructions = [prompt.instruction for prompt in prompts]
        loss = policy.data_loss(clips_of(prompts), instructions, generator).item()
        if judge is None:
            return Check(iteration, loss)
        others = [] if self.second_idm is None else [replace(judge, idm=self.second_idm)]
        judges = [judge, *others]
        first, *rest = dream_and_judge_by(policy.model, prompts, judges, _SEED, steps)
        recorded = [prompt.demonstrated(judge.dt, judge.limits.grippers) for prompt in prompts]
        ratio = motion_ratio(first.travelled, torch.tensor(recorded))
        second = [reward for judged in rest for reward in judged.reward.tolist()]
        return Check(iteration, loss, ratio, first.reward.tolist(), second)


def _motion_fault(start: Check, now: Check, settings: CheckSettings) -> str:
    """Return whether the motion left its band, which reaches as far again beyond the start."""
    if start.motion_ratio is None or now.motion_ratio is None:
        return ''
    least = settings.least_motion * min(1.0, start.motion_ratio)
    most = settings.most_motion * max(1.0, start.motion_ratio)
    if least <= now.motion_ratio <= most:
        return ''
    return (
        f'the dreams from held-out views move {now.motion_ratio:.2f} times as far as the '
        f'recordings ({start.motion_ratio:.2f} at the start), which is outside of {least:.2f} to '
        f'{most:.2f}'
    )


def _loss_fault(start: Check, now: Check, settings: CheckSettings) -> str:
    rise = now.data_loss / start.data_loss - 1
    if rise <= settings.loss_rise:
        return ''
    return (
        f'the data loss on held-out recordings has risen by {rise:.0%} since the start '
        f'({start.data_loss:.3g} to {now.data_loss:.3g}), more than {settings.loss_rise:.0%}'
    )


def _second_fault(start: Check, now: Check) -> str:
    if not (start.second_rewards and now.second_rewards):
        return ''
    gain, error = _change(start.rewards, now.rewards)
    second_gain, second_error = _change(start.second_rewards, now.second_rewards)
    if gain <= _ERRORS * error or second_gain >= -_ERRORS * second_error:
        return ''
    return (
        f'the reward of dreams from held-out views has risen by {gain:.2f} since the start, but '
        f'fallen by {-second_gain:.2f} by the second inverse dynamics model: the dreams exploit '
        'errors of the first'
    )


def _change(before: Sequence[float], after: Sequence[float]) -> tuple[float, float]:
    """Return the mean change over the views and its standard error; inf for a single view."""
    changes = np.subtract(after, before)
    if len(changes) < 2:
        return float(changes.mean()), float('inf')
    return float(changes.mean()), float(changes.std(ddof=1) / np.sqrt(len(changes)))
