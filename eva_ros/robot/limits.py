"""What each joint can do at most: the one object that reward, clamp, gate and report read."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import fields
from dataclasses import replace
import math
from typing import Annotated
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from pydantic import model_validator
from pydantic import StrictBool

from eva_ros.errors import UserError
from eva_ros.robot.strict_yaml import StrictModel

Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]

MAX_TURNS_RAD = 4.0 * math.pi
MAX_SENSIBLE_VELOCITY = 50.0
# What may be beyond a limit by rounding, as where a spline was stretched exactly to it: in rad,
# and as a part of the limit of a rate.
ROUNDING = 1e-6

# Flag of ros2_control's joint_limits and the values that belong to it.
_VALUES_OF_FLAG = {
    'has_position_limits': ('min_position', 'max_position'),
    'has_velocity_limits': ('max_velocity',),
    'has_acceleration_limits': ('max_acceleration',),
    'has_deceleration_limits': ('max_deceleration',),
    'has_jerk_limits': ('max_jerk',),
    'has_soft_limits': ('soft_lower_limit', 'soft_upper_limit'),
}


class Source(StrictModel):
    """Where the limits of a joint come from: a sentence for each kind that is set."""

    position: str | None = None
    velocity: str | None = None
    acceleration: str | None = None
    deceleration: str | None = None
    jerk: str | None = None
    soft: str | None = None


class JointLimits(StrictModel):
    """The limits of one joint with the keys of ros2_control's `joint_limits`.

    Units: rad, rad/s, rad/s2, rad/s3; grippers 0 (closed) to 1 (open) instead of rad. A flag that
    is left out is true where its values are given. Stricter than ros2_control: a flag without
    its values is an error, and so is a value whose flag is false.
    """

    has_position_limits: StrictBool = False
    min_position: Number | None = None
    max_position: Number | None = None
    has_velocity_limits: StrictBool = False
    max_velocity: Number | None = None
    has_acceleration_limits: StrictBool = False
    max_acceleration: Number | None = None
    has_deceleration_limits: StrictBool = False
    max_deceleration: Number | None = None
    has_jerk_limits: StrictBool = False
    max_jerk: Number | None = None
    has_soft_limits: StrictBool = False
    soft_lower_limit: Number | None = None
    soft_upper_limit: Number | None = None
    source: Source = Field(default_factory=Source)

    @model_validator(mode='before')
    @classmethod
    def _infer_flags(cls, data: Any) -> Any:
        if not isinstance(data, Mapping):
            return data
        given = {
            flag: True
            for flag, names in _VALUES_OF_FLAG.items()
            if flag not in data and any(data.get(name) is not None for name in names)
        }
        return {**data, **given}

    @model_validator(mode='after')
    def _check(self) -> 'JointLimits':
        for flag, names in _VALUES_OF_FLAG.items():
            self._check_flag(flag, names)
        self._check_range('min_position', 'max_position', self.has_position_limits)
        self._check_range('soft_lower_limit', 'soft_upper_limit', self.has_soft_limits)
        self._check_soft_inside_hard()
        for name in ('max_velocity', 'max_acceleration', 'max_deceleration', 'max_jerk'):
            value = getattr(self, name)
            if value is not None and value <= 0.0:
                raise ValueError(f'{name} is {value:g}, it must be above 0')
        self._check_placeholders()
        return self

    def _check_flag(self, flag: str, names: Sequence[str]) -> None:
        """Refuse a flag without its value, a value without its flag and a missing source."""
        for name in names:
            if getattr(self, flag) and getattr(self, name) is None:
                raise ValueError(f'{flag} is true but {name} is missing')
            if not getattr(self, flag) and getattr(self, name) is not None:
                raise ValueError(f'{name} is given but {flag} is not true')
        kind = flag.removeprefix('has_').removesuffix('_limits')
        if getattr(self, flag) and not (getattr(self.source, kind) or '').strip():
            raise ValueError(f'source.{kind} is missing: say where the limit comes from')

    def _check_range(self, low: str, high: str, given: bool) -> None:
        if given and getattr(self, low) >= getattr(self, high):
            raise ValueError(f'{low} {getattr(self, low):g} is not below {high}')

    def _check_soft_inside_hard(self) -> None:
        if not (self.has_soft_limits and self.has_position_limits):
            return
        low, high = self._hard_range()
        if self.lowest() < low or self.highest() > high:
            raise ValueError('the soft limits reach beyond the position limits')

    def _check_placeholders(self) -> None:
        """Refuse values that no joint has, such as the +-10 rad and 1000 rad/s of some URDFs."""
        low, high = self._hard_range()
        if self.has_position_limits and (low < -MAX_TURNS_RAD or high > MAX_TURNS_RAD):
            raise ValueError('position limits beyond two turns look like a placeholder')
        if self.max_velocity is not None and self.max_velocity > MAX_SENSIBLE_VELOCITY:
            raise ValueError(
                f'max_velocity {self.max_velocity:g} looks like a placeholder '
                f'(above {MAX_SENSIBLE_VELOCITY:g} per second)'
            )

    def _hard_range(self) -> tuple[float, float]:
        low, high = self.min_position, self.max_position
        return -math.inf if low is None else low, math.inf if high is None else high

    def lowest(self) -> float:
        """Return the lower end of the allowed range, the soft one where there is one."""
        return self._hard_range()[0] if self.soft_lower_limit is None else self.soft_lower_limit

    def highest(self) -> float:
        """Return the upper end of the allowed range, the soft one where there is one."""
        return self._hard_range()[1] if self.soft_upper_limit is None else self.soft_upper_limit


@dataclass(frozen=True, eq=False)
class Limits:
    """The limits of all joints as arrays [J] in the order of joint_names.

    Units as in JointLimits. Infinite where a joint has no such limit; max_deceleration is
    max_acceleration where none of its own is given, as in ros2_control.
    """

    joint_names: tuple[str, ...]
    min_position: NDArray[np.float64]
    max_position: NDArray[np.float64]
    max_velocity: NDArray[np.float64]
    max_acceleration: NDArray[np.float64]
    max_deceleration: NDArray[np.float64]
    max_jerk: NDArray[np.float64]

    def __post_init__(self) -> None:
        """Freeze the arrays and refuse what cannot be a limit."""
        for field in fields(self)[1:]:
            values = np.array(getattr(self, field.name), dtype=np.float64)
            if values.shape != (len(self.joint_names),) or np.isnan(values).any():
                raise ValueError(f'{field.name} must hold a number for each joint')
            values.setflags(write=False)
            object.__setattr__(self, field.name, values)
        for name, low, high in zip(self.joint_names, self.min_position, self.max_position):
            if not low < high:
                raise UserError(f'No position is left for joint {name}: {low:g} to {high:g}.')

    def scaled(self, *, velocity: float, acceleration: float) -> 'Limits':
        """Return these limits with a part of them only, as MoveIt's scaling factors do.

        Args:
            velocity: 0 to 1, for max_velocity.
            acceleration: 0 to 1, for acceleration, deceleration and jerk.
        """
        return replace(
            self,
            max_velocity=self.max_velocity * velocity,
            max_acceleration=self.max_acceleration * acceleration,
            max_deceleration=self.max_deceleration * acceleration,
            max_jerk=self.max_jerk * acceleration,
        )

    def select(self, indices: Sequence[int] | NDArray[Any]) -> 'Limits':
        """Return the limits of some joints only: indices or a boolean mask [J]."""
        chosen = np.arange(len(self.joint_names))[indices]
        arrays = {field.name: getattr(self, field.name)[chosen] for field in fields(self)[1:]}
        return Limits(tuple(self.joint_names[i] for i in chosen), **arrays)


def limits_from_joints(joints: Mapping[str, JointLimits], order: Sequence[str]) -> Limits:
    """Return the limits of the joints in `order` as arrays.

    Args:
        joints: checked `joint_limits` map of a YAML file.
        order: joint names; each must be in `joints`.
    """

    def column(name: str) -> NDArray[np.float64]:
        values = [getattr(joints[joint], name) for joint in order]
        return np.array([math.inf if value is None else value for value in values])

    acceleration, deceleration = column('max_acceleration'), column('max_deceleration')
    own = np.array([joints[joint].has_deceleration_limits for joint in order])
    return Limits(
        joint_names=tuple(order),
        min_position=np.array([joints[joint].lowest() for joint in order]),
        max_position=np.array([joints[joint].highest() for joint in order]),
        max_velocity=column('max_velocity'),
        max_acceleration=acceleration,
        max_deceleration=np.where(own, deceleration, acceleration),
        max_jerk=column('max_jerk'),
    )
