"""What a dream is worth: executability, similarity, outcome, progress, and their weighted sum.

EVA (arXiv 2603.17808, section 4): finite differences of the decoded joints, Huber terms on jerk
and acceleration, squared hinges beyond the robot's limits, a bounded map to a score. Constants
as in the authors' public development code; limits come from the robot. Two things are added: a
hinge beyond the position limits, and a motion floor (motion.py), since a still video would win.
Pure torch, any leading dimensions, differentiable.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import replace
from typing import Any
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from eva_ros.errors import UserError

PRESETS = ('robot', 'paper')
# Largest velocities of AgileX's PiPER, joints 1 to 6, rad/s, as the published code has them.
_PIPER = (3.1416, 3.4034, 3.1416, 3.9270, 3.9270, 3.9270)
# Beyond every limit's reach: stands for "no limit" where a joint has none.
_NO_LIMIT = 1e9


@dataclass(frozen=True)
class RewardSettings:
    """Weights and scales of the executability reward, and the scale of the similarity.

    Attributes:
        jerk_weight: of the Huber term on jerk.
        acceleration_weight: of the Huber term on acceleration.
        velocity_weight: of the squared excess over the velocity limits.
        acceleration_excess_weight: of the squared excess over the acceleration limits.
        position_weight: of the squared excess over the position limits, per rad^2.
        gripper_weight: of a gripper against an arm joint.
        velocity_share: share of a velocity limit that may be used.
        huber_share: Huber thresholds as a share of the acceleration limit (and of that limit
            divided by dt for jerk).
        best: score of a path without any penalty.
        scale: P0, the penalty at which (1 + P / P0) is two; `calibrate_scale` finds it. It
            belongs to a frame rate: penalties grow with dt^-6.
        exponent: gamma, how fast the score falls.
        similarity_tau: mean squared deviation, in standard deviations, at which the similarity is
            1/e. Where most dreams deviate by more, the gradient comes from those that are close.
    """

    jerk_weight: float = 0.5
    acceleration_weight: float = 0.25
    velocity_weight: float = 2.0
    acceleration_excess_weight: float = 1.0
    position_weight: float = 100.0
    gripper_weight: float = 0.2
    velocity_share: float = 0.85
    huber_share: float = 0.5
    best: float = 10.0
    scale: float = 2000.0
    exponent: float = 0.5
    similarity_tau: float = 2.0


@dataclass(frozen=True)
class MotionLimits:
    """What the reward needs to know of a robot; arrays over joints [J].

    Attributes:
        velocity: largest, rad/s.
        acceleration: largest, rad/s^2.
        low: smallest position, rad.
        high: largest position, rad.
        grippers: which joints are grippers (0 to 1 instead of rad).
    """

    velocity: Tensor
    acceleration: Tensor
    low: Tensor
    high: Tensor
    grippers: Tensor

    @classmethod
    def of(cls, limits: Any, gripper_mask: Any) -> 'MotionLimits':
        """Return the limits of `robot.limits`; a limit that is nan or inf never binds.

        Args:
            limits: of the robot.
            gripper_mask: which joints are grippers [J].
        """

        def known(values: Any, otherwise: float) -> Tensor:
            numbers = np.array(values, np.float64)
            return torch.from_numpy(np.nan_to_num(numbers, True, otherwise, _NO_LIMIT, -_NO_LIMIT))

        return cls(
            velocity=known(limits.max_velocity, _NO_LIMIT),
            acceleration=known(limits.max_acceleration, _NO_LIMIT),
            low=known(limits.min_position, -_NO_LIMIT),
            high=known(limits.max_position, _NO_LIMIT),
            grippers=torch.tensor(np.asarray(gripper_mask, dtype=bool)),
        )

    @classmethod
    def paper(cls, robot: Any = None) -> 'MotionLimits':
        """Return the published limits: 5 rad/s^2, grippers 2/s and 10/s^2, no position limits.

        Args:
            robot: Robot whose velocity limits are used; two PiPER arms with grippers where it is
                one of them, or None.
        """
        one = [False] * 6 + [True]
        grippers = np.array(one * 2 if robot is None else robot.gripper_mask)
        arms = len(grippers) // len(one)
        if robot is None or (robot.name.startswith('piper') and grippers.tolist() == one * arms):
            velocity = np.array([*_PIPER, np.inf] * arms)
        else:
            velocity = np.array(robot.limits.max_velocity)
        # The published code scales the arms' velocities by 0.85 but takes the grippers' 2.0 as is.
        velocity = np.where(grippers, 2.0 / RewardSettings.velocity_share, velocity)
        far = torch.full((len(grippers),), _NO_LIMIT, dtype=torch.float64)
        return cls(
            velocity=torch.from_numpy(velocity.astype(np.float64)),
            acceleration=torch.from_numpy(np.where(grippers, 10.0, 5.0)),
            low=-far,
            high=far,
            grippers=torch.from_numpy(grippers),
        )


def preset(name: str, robot: Any) -> tuple[MotionLimits, RewardSettings]:
    """Return limits and settings of the executability reward by the name of a preset.

    Args:
        name: `robot`: the robot's own limits; `paper`: the published constants, which have no
            position limits and know only the velocity limits of the robot's arms.
        robot: Robot with name, joint_names, limits and gripper_mask.

    Raises:
        UserError: The robot lacks a limit that the preset needs.
    """
    needed: dict[str, tuple[Any, ...]] = {'velocity': (robot.limits.max_velocity,)}
    if name == 'robot':
        needed['acceleration'] = (robot.limits.max_acceleration,)
        needed['position'] = (robot.limits.min_position, robot.limits.max_position)
    for kind, arrays in needed.items():
        known = np.isfinite(np.stack(arrays)).all(0) | ((name == 'paper') & robot.gripper_mask)
        lacking = [joint for joint, has in zip(robot.joint_names, known) if not has]
        if lacking:
            other = ", or use preset 'paper'" if name == 'robot' else ''
            raise UserError(
                f"Robot '{robot.name}' gives no {kind} limit for {', '.join(lacking)}, which "
                f"preset '{name}' needs: add it under joint_limits in the robot's YAML{other}."
            )
    if name == 'robot':
        return MotionLimits.of(robot.limits, robot.gripper_mask), RewardSettings()
    return MotionLimits.paper(robot), replace(RewardSettings(), position_weight=0.0)


class Executability(NamedTuple):
    """A score and the weighted terms it is made of, each [...].

    Attributes:
        score: best * (1 + penalty / scale)^-exponent; nan for fewer than 4 steps.
        penalty: sum of the terms.
        jerk: Huber term of the third difference.
        acceleration: Huber term of the second difference.
        velocity: squared excess over the velocity limits.
        acceleration_excess: squared excess over the acceleration limits.
        position: squared excess over the position limits.
        motion: mean speed of the arm joints, rad/s.
    """

    score: Tensor
    penalty: Tensor
    jerk: Tensor
    acceleration: Tensor
    velocity: Tensor
    acceleration_excess: Tensor
    position: Tensor
    motion: Tensor


def executability(
    positions: Tensor,
    dt: float,
    limits: MotionLimits,
    settings: RewardSettings | None = None,
) -> Executability:
    """Judge joint paths.

    With v, a, j the first three differences of q divided by dt, w the joints' weights divided by
    their mean, and H_d(x) = x^2 / 2 within d, d (|x| - d / 2) beyond:

        P = 0.5 mean(w H(j)) + 0.25 mean(w H(a)) + 2 mean(w relu(|v| - v_max)^2)
            + mean(w relu(|a| - a_max)^2) + 100 mean(w relu(beyond the position limits)^2)
        R = 10 (1 + P / P0)^-gamma

    Args:
        positions: [..., T, J], rad; grippers 0 to 1.
        dt: time between steps, s.
        limits: of these joints.
        settings: weights and scales; the defaults if None.
    """
    settings = settings or RewardSettings()
    if positions.shape[-2] < 4:
        nothing = positions.new_full(positions.shape[:-2], torch.nan)
        return Executability(*[nothing] * len(Executability._fields))
    weights = {
        'jerk': settings.jerk_weight,
        'acceleration': settings.acceleration_weight,
        'velocity': settings.velocity_weight,
        'acceleration_excess': settings.acceleration_excess_weight,
        'position': settings.position_weight,
    }
    plain = penalty_terms(positions, dt, limits, settings)
    terms = {name: weight * plain[name] for name, weight in weights.items()}
    penalty = torch.stack(list(terms.values())).sum(0)
    return Executability(
        score=score_of(penalty, settings),
        penalty=penalty,
        motion=(positions.diff(dim=-2) / dt)[..., ~limits.grippers].abs().mean((-2, -1)),
        **terms,
    )


def penalty_terms(
    positions: Tensor, dt: float, limits: MotionLimits, settings: RewardSettings
) -> dict[str, Tensor]:
    """Return the terms of the penalty, unweighted, each [...]; arguments as `executability`."""
    v_max = settings.velocity_share * limits.velocity.to(positions)
    a_max, low, high = (
        value.to(positions) for value in (limits.acceleration, limits.low, limits.high)
    )
    velocity = positions.diff(dim=-2) / dt
    acceleration = velocity.diff(dim=-2) / dt
    jerk = acceleration.diff(dim=-2) / dt
    weights = _weights(limits.grippers, settings).to(positions)
    bend = settings.huber_share * a_max

    def mean(term: Tensor) -> Tensor:
        return (weights * term).mean((-2, -1))

    return {
        'jerk': mean(_huber(jerk, bend / dt)),
        'acceleration': mean(_huber(acceleration, bend)),
        'velocity': mean((velocity.abs() - v_max).relu().square()),
        'acceleration_excess': mean((acceleration.abs() - a_max).relu().square()),
        'position': mean(((low - positions).relu() + (positions - high).relu()).square()),
    }


def score_of(penalty: Tensor, settings: RewardSettings) -> Tensor:
    """Return the bounded score of a penalty: best without any, towards 0 as it grows."""
    return settings.best * (1 + penalty / settings.scale) ** -settings.exponent


def calibrate_scale(penalties: Tensor) -> float:
    """Return P0 for these rollouts: their median penalty, so that half score above 7.07.

    EVA section 4 takes P0 from rollouts of the model before alignment.

    Args:
        penalties: of the unaligned model's dreams [N].
    """
    return float(penalties.median().clamp_min(1e-9))


def _weights(grippers: Tensor, settings: RewardSettings) -> Tensor:
    weights = torch.where(grippers, settings.gripper_weight, 1.0).double()
    return weights / weights.mean()


def _huber(x: Tensor, threshold: Tensor) -> Tensor:
    size = x.abs()
    return torch.where(size <= threshold, x.square() / 2, threshold * (size - threshold / 2))


def similarity(positions: Tensor, recorded: Tensor, spread: Tensor, tau: float) -> Tensor:
    """Return how close joint paths are to recorded ones, 0 to 1 [...].

    r = exp(-mean(((q - q_recorded) / s)^2) / tau), the mean over steps and joints; after the
    action similarity reward of RLinf. Neither a still nor a misplaced path can win it.

    Args:
        positions: Joint paths [..., T, J].
        recorded: Paths recorded from the same view [..., T, J].
        spread: s, standard deviation of each joint over the recordings [J].
        tau: Mean squared deviation, in units of s, at which r is 1/e.
    """
    deviation = (positions - recorded.to(positions)) / spread.to(positions)
    return (-deviation.square().mean((-2, -1)) / tau).exp()


@dataclass(frozen=True)
class RewardWeights:
    """Weight of each term in the reward; a term of weight 0 is only watched.

    Attributes:
        executability: Of the executability score, 0 to 10.
        motion: Of the motion floor, 0 or less (judge.MotionFloor).
        similarity: Of the similarity to the recorded joints, 0 to 1.
        outcome: Of the success of the recorded attempt that a dream belongs to, 0 or 1.
        progress: Of the critic's progress from first to last frame, -1 to 1.
    """

    executability: float = 1.0
    motion: float = 1.0
    similarity: float = 0.0
    outcome: float = 0.0
    progress: float = 0.0

    def used(self) -> dict[str, float]:
        """Return the terms in the reward and their weights."""
        return {name: weight for name, weight in vars(self).items() if weight}

    def total(self, terms: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of terms, each [...].

        Raises:
            UserError: A term of the reward is missing.
        """
        missing = [name for name in self.used() if name not in terms]
        if missing:
            raise UserError(f'The reward holds {missing[0]}, which nothing here can judge.')
        return torch.stack([weight * terms[name] for name, weight in self.used().items()]).sum(0)
