"""What a dream is worth: the terms of the reward, read from its frames, and their weighted sum.

Executability alone is best when nothing moves. The term `motion` therefore takes away what a
dream lacks against a share of what the recordings of the same task travel in as many frames.
"""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import field
from types import MappingProxyType
from typing import Any
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eva_ros.alignment.critic import ProgressCritic
from eva_ros.alignment.reward import Executability
from eva_ros.alignment.reward import executability
from eva_ros.alignment.reward import MotionLimits
from eva_ros.alignment.reward import RewardSettings
from eva_ros.alignment.reward import RewardWeights
from eva_ros.alignment.reward import similarity
from eva_ros.episodes.fingerprint import fingerprint
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_frames
from eva_ros.idm.smoothing import smoothing_matrix
from eva_ros.training.finite import require_finite

_CUTOFF_HZ = 1.0
_OF_MOTION = ('executability', 'motion')


@dataclass(frozen=True)
class MotionFloor:
    """How much motion an instruction calls for.

    Attributes:
        demonstrated: path length to keep [N], rad: what was recorded from the same view on.
        share: alpha, the share of it that must be travelled.
        weight: what the score loses when nothing is travelled at all.
    """

    demonstrated: Tensor
    share: float = 0.85
    weight: float = 10.0

    def penalty(self, travelled: Tensor) -> Tensor:
        """Return what to take from the score [N], or [N, G] for groups of G dreams.

        weight * relu(1 - travelled / (share * demonstrated)), linear so that every bit of motion
        counts and its slope never vanishes before the floor is reached.

        Args:
            travelled: path lengths [N] or [N, G], rad.
        """
        needed = (self.share * self.demonstrated).clamp_min(1e-6).to(travelled)
        needed = needed.reshape(needed.shape + (1,) * (travelled.ndim - needed.ndim))
        return self.weight * (1 - travelled / needed).relu()


def path_length(positions: Tensor, dt: float, grippers: Tensor) -> Tensor:
    """Return how far the arm joints travel along a path [...], rad: the mean over arm joints.

    Measured after smoothing at 1 Hz: tremble is not travel, and taking it away must not look
    like standing still. A motion one way keeps its length whatever the smoothing.

    Args:
        positions: [..., T, J].
        dt: time between steps, s.
        grippers: which joints are grippers and stay out [J].
    """
    arms = positions[..., ~grippers]
    matrix = torch.tensor(smoothing_matrix(positions.shape[-2], dt, _CUTOFF_HZ)).to(arms)
    return (matrix @ arms).diff(dim=-2).abs().sum(-2).mean(-1)


def motion_ratio(travelled: Tensor, reference: Tensor) -> float:
    """Return the motion of dreams against that of a reference: the ratio of their sums.

    Args:
        travelled: path lengths of the dreams [N], rad.
        reference: of the recorded clips, or of the unaligned model's dreams [N], rad.
    """
    return float(travelled.sum() / reference.sum().clamp_min(1e-9))


class Judgement(NamedTuple):
    """What is known of dreams, [N] each.

    Attributes:
        reward: the weighted sum of the terms.
        executability: score and terms.
        travelled: path length of the smoothed motion, rad.
        positions: as decoded [N, T, J].
        terms: of the reward, unweighted, by the names of RewardWeights.
    """

    reward: Tensor
    executability: Executability
    travelled: Tensor
    positions: Tensor
    terms: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True)
class Judge:
    """Reads dreams with the inverse dynamics model and judges the motion.

    Attributes:
        idm: the inverse dynamics model.
        limits: of the robot.
        reward: settings of the reward.
        floor_share: share of the recorded motion that a dream must have.
        floor_weight: what the reward loses when there is none.
        weights: of the terms in the reward.
        spread: of each joint over the recordings [J]; None disables similarity.
        critic: judges progress; None disables progress.
    """

    idm: InverseDynamics
    limits: MotionLimits
    reward: RewardSettings
    floor_share: float = 0.95
    floor_weight: float = 10.0
    weights: RewardWeights = field(default_factory=RewardWeights)
    spread: Tensor | None = None
    critic: ProgressCritic | None = None

    @property
    def dt(self) -> float:
        """Return the time between frames, s."""
        return 1 / self.idm.config.rate_hz

    def fingerprint(self) -> str:
        """Return a name for how dreams are judged; P0, which is measured, does not count."""
        weights = [weight.float().cpu().numpy() for weight in self.idm.state_dict().values()]
        limits = [value.numpy() for value in vars(self.limits).values()]
        reward = {key: value for key, value in asdict(self.reward).items() if key != 'scale'}
        floor = self.floor_share, self.floor_weight
        told: list[Any] = [*weights, *limits, repr((reward, floor))]
        if self.weights != RewardWeights():
            told.append(repr(self.weights))
        if self.weights.similarity and self.spread is not None:
            told.append(self.spread.numpy())
        if self.weights.progress and self.critic is not None:
            told += [weight.float().cpu().numpy() for weight in self.critic.state_dict().values()]
        return fingerprint(told)

    def read(self, frames: Tensor) -> Tensor:
        """Return the joints [N, T, J] read from frames [N, T, 3, H, W], 0 to 1.

        Raises:
            NotFiniteError: the frames, or what is read from them, are not finite.
        """
        require_finite({'frames': frames}, 'A dream', 'it cannot be judged')
        with torch.autocast(frames.device.type, enabled=False):
            return read_frames(self.idm, frames.float().clamp(0, 1)).positions

    def __call__(
        self, frames: Tensor, demonstrated: Tensor, prompts: Sequence[Any] = ()
    ) -> Judgement:
        """Judge dreams.

        Args:
            frames: [N, T, 3, H, W], 0 to 1.
            demonstrated: path length recorded from the same view on [N], rad.
            prompts: what each dream began from (prompts.Prompt) [N]; without them only
                executability and motion are judged.
        """
        return self.of_rollout(self.read(frames), frames, demonstrated, prompts)

    def of_motion(self, positions: Tensor, demonstrated: Tensor) -> Judgement:
        """Judge joint paths [N, T, J], rad, by executability and motion."""
        judged = executability(positions, self.dt, self.limits, settings=self.reward)
        travelled = path_length(positions, self.dt, self.limits.grippers)
        floor = MotionFloor(demonstrated, self.floor_share, self.floor_weight)
        terms = {'executability': judged.score, 'motion': -floor.penalty(travelled)}
        weights = RewardWeights(self.weights.executability, self.weights.motion)
        reward = weights.total(terms) if weights.used() else torch.zeros_like(judged.score)
        return Judgement(reward, judged, travelled, positions, terms)

    def of_rollout(
        self,
        positions: Tensor,
        frames: Tensor,
        demonstrated: Tensor,
        prompts: Sequence[Any],
    ) -> Judgement:
        """Judge frames and the joint paths that were read from them; arguments as of a call."""
        judged = self.of_motion(positions, demonstrated)
        terms = {**judged.terms, **self._task_terms(positions, frames, prompts)}
        return judged._replace(reward=self.weights.total(terms), terms=terms)

    def _task_terms(
        self, positions: Tensor, frames: Tensor, prompts: Sequence[Any]
    ) -> dict[str, Tensor]:
        """Return the terms that know the task, as far as there is what they need."""
        terms: dict[str, Tensor] = {}
        if not prompts:
            return terms
        outcomes = [float('nan') if p.success is None else float(p.success) for p in prompts]
        if not np.isnan(outcomes).any():
            terms['outcome'] = torch.tensor(outcomes).to(positions)
        if self.spread is not None:
            recorded = np.stack([np.asarray(p.joints, np.float64) for p in prompts])
            terms['similarity'] = similarity(
                positions, torch.from_numpy(recorded), self.spread, self.reward.similarity_tau
            )
        if self.critic is not None:
            instructions = [prompt.instruction for prompt in prompts]
            with torch.autocast(frames.device.type, enabled=False):
                terms['progress'] = self.critic.progress(frames.float().clamp(0, 1), instructions)
        return terms


def figures_of(judged: Judgement, groups: int = 1) -> dict[str, float]:
    """Return what to watch of judgements; the spread of rewards is that within a group.

    Args:
        judged: of dreams [N].
        groups: how many groups of equally many dreams they are.
    """
    rewards = judged.reward.detach().view(groups, -1)
    figures = {
        'reward': rewards.mean().item(),
        'spread': rewards.std(-1, correction=0).mean().item(),
        'executability': judged.executability.score.mean().item(),
        'motion': judged.travelled.mean().item(),
    }
    task = {name: term for name, term in judged.terms.items() if name not in _OF_MOTION}
    return figures | {name: term.mean().item() for name, term in task.items()}
