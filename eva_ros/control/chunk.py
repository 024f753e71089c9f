"""A chunk as it reaches the gate, and the checks on what it is (not on where it leads)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.reasons import RefusedError

Array = NDArray[np.float64]

# Step times outside this range are a mistake, not a motion.
_MIN_DT_S = 1e-3
_MAX_DT_S = 10.0


@dataclass(frozen=True, eq=False)
class Chunk:
    """Joint positions decoded from a rollout. Nothing about it has been checked yet.

    Attributes:
        observation_stamp_ns: when the observation was taken that the dream began with.
        rollout_id: the rollout it was decoded from.
        joint_names: names [J], any order.
        dt: time between two steps in s.
        positions: [T, J]; step 0 is the observed instant; rad, grippers 0 to 1.
        observed_positions: measured joints at the observation [J], same order.
        instruction: what the robot was told.
        confidence: the decoder's own, 0 to 1; nan if it gives none.
        executability: the score of the path as read; nan if not judged.
    """

    observation_stamp_ns: int
    rollout_id: int
    joint_names: Sequence[str]
    dt: float
    positions: Array
    observed_positions: Array
    instruction: str = ''
    confidence: float = float('nan')
    executability: float = float('nan')


def in_robot_order(chunk: Chunk, joint_names: Sequence[str]) -> tuple[Array, Array]:
    """Return positions [T, J] and observed positions [J] in the robot's joint order.

    Raises:
        RefusedError: the joints are not the robot's, the arrays do not fit them, the step time
            makes no sense, or a value is not finite.
    """
    names = list(chunk.joint_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise RefusedError(reasons.JOINT_MISMATCH, f'The chunk names {_list(twice)} twice.')
    missing = [name for name in joint_names if name not in names]
    unknown = [name for name in names if name not in joint_names]
    if missing or unknown:
        parts = [f'lacks {_list(missing)}'] if missing else []
        parts += [f'names {_list(unknown)}, which the robot has not'] if unknown else []
        raise RefusedError(reasons.JOINT_MISMATCH, f'The chunk {" and ".join(parts)}.')
    positions, observed = _shaped(chunk, len(names))
    if not (np.isfinite(chunk.dt) and _MIN_DT_S <= chunk.dt <= _MAX_DT_S):
        raise RefusedError(reasons.BAD_TIMING, f'A step of the chunk lasts {chunk.dt:g} s.')
    order = [names.index(name) for name in joint_names]
    positions, observed = positions[:, order], observed[order]
    finite = np.isfinite(positions).all(axis=0) & np.isfinite(observed)
    if not finite.all():
        bad = [name for name, good in zip(joint_names, finite) if not good]
        raise RefusedError(reasons.NON_FINITE, f'The chunk holds no number for {_list(bad)}.')
    return positions, observed


def _shaped(chunk: Chunk, joints: int) -> tuple[Array, Array]:
    try:
        positions = np.asarray(chunk.positions, dtype=np.float64)
        observed = np.asarray(chunk.observed_positions, dtype=np.float64)
    except (TypeError, ValueError):
        raise RefusedError(
            reasons.SHAPE_MISMATCH, 'The positions of the chunk are not an array of numbers.'
        ) from None
    if positions.ndim != 2 or positions.shape[0] < 2 or positions.shape[1] != joints:
        raise RefusedError(
            reasons.SHAPE_MISMATCH,
            f'The chunk has positions of shape {list(positions.shape)}; '
            f'at least 2 steps of {joints} joints are needed.',
        )
    if observed.shape != (joints,):
        raise RefusedError(
            reasons.SHAPE_MISMATCH,
            f'The chunk has {observed.size} observed positions for {joints} joints.',
        )
    return positions, observed


def _list(names: Sequence[str]) -> str:
    return ', '.join(names)
