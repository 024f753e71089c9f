"""One arm: its joints, its gripper, and how both appear in messages."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.errors import UserError

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class JointInterface:
    """How joints appear in messages: value = offset + scale * position.

    Attributes:
        names: The joints' names in the messages [K].
        offset: What the messages hold at position 0 [K].
        scale: Message units for each rad (for a gripper: for its whole opening) [K].
    """

    names: tuple[str, ...]
    offset: Floats
    scale: Floats

    def to_message(self, positions: ArrayLike) -> Floats:
        """Return message values [..., K] for positions [..., K]."""
        return self.offset + np.asarray(positions, dtype=np.float64) * self.scale

    def from_message(self, values: ArrayLike) -> Floats:
        """Return positions [..., K] for message values [..., K]."""
        return (np.asarray(values, dtype=np.float64) - self.offset) / self.scale

    def rates_to_message(self, rates: ArrayLike) -> Floats:
        """Return velocities or accelerations [..., K] in message units."""
        return np.asarray(rates, dtype=np.float64) * self.scale

    def rates_from_message(self, rates: ArrayLike) -> Floats:
        """Return velocities or accelerations [..., K] in rad, gripper openings per second."""
        return np.asarray(rates, dtype=np.float64) / self.scale


@dataclass(frozen=True)
class Gripper:
    """A gripper: 0 closed, 1 open inside; the controller's joint has its own range and unit.

    Attributes:
        name: Its joint name inside.
        controller_joint: Its joint name in joint states and commands.
        closed: The controller's position when closed, in `unit`.
        open: The controller's position when open, in `unit`.
        unit: 'm' or 'rad'; 'raw' where messages hold neither (percent, servo ticks).
        part_of_trajectory: Whether it is a joint of the arm's trajectory.
        grip: Closing gain applied to the decoded gripper opening.
    """

    name: str
    controller_joint: str
    closed: float
    open: float
    unit: str
    part_of_trajectory: bool
    grip: float = 1.0

    @property
    def scale(self) -> float:
        """Return controller units for each unit of opening."""
        return self.open - self.closed


@dataclass(frozen=True)
class Controller:
    """Where an arm takes its commands.

    Attributes:
        topic: Of the commands.
        type: Message or action type.
        joints: Names as sent, the gripper last where it is part of the trajectory [C].
        unit: 'rad', or 'state' where commands have the unit and calibration of the joint states.
    """

    topic: str
    type: str
    joints: tuple[str, ...]
    unit: str = 'rad'


@dataclass(frozen=True)
class Calibration:
    """What a joint state says of a joint: rad = sign * scale * (value - offset).

    A scale of None is not given, and 1.
    """

    scale: float | None = None
    offset: float = 0.0
    sign: int = 1


@dataclass(frozen=True)
class EnableService:
    """A service of the arm's driver that switches it on: its name and type."""

    name: str
    type: str


@dataclass(frozen=True, eq=False)
class Arm:
    """One arm of one to eight joints, with or without a gripper.

    Attributes:
        joints: Names of the arm's joints inside, gripper excluded.
        gripper: None where the arm has none.
        own_controller: None where the YAML names none; `controller` refuses that.
        state_topic: Topic of this arm's joint states.
        state_names: The joints' names in them, gripper excluded.
        state_unit: Of the joints in them: 'rad', 'deg', or 'unknown', which is good for looking at
            recordings alone.
        calibration: By joint, of those whose joint states need one.
        stamp_source: 'header', or 'receive' where the driver's stamps come from another clock.
        enable_service: Called at arming; None where the driver needs none.
        base_frame: '' where the YAML does not say.
        end_effector_frame: '' where the YAML does not say.
    """

    name: str
    joints: tuple[str, ...]
    gripper: Gripper | None
    own_controller: Controller | None
    state_topic: str
    state_names: tuple[str, ...]
    stamp_source: str
    enable_service: EnableService | None
    base_frame: str
    end_effector_frame: str
    state_unit: str = 'rad'
    calibration: Mapping[str, Calibration] = field(default_factory=dict)

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """Return the names inside, gripper last [K]."""
        return self.joints if self.gripper is None else (*self.joints, self.gripper.name)

    @cached_property
    def in_rad(self) -> NDArray[np.bool_]:
        """Return True where positions are rad: neither a gripper nor of an unknown unit [K]."""
        known = self.state_unit != 'unknown'
        return np.array([known and name in self.joints for name in self.joint_names])

    @property
    def unscaled_joints(self) -> tuple[str, ...]:
        """Return the joints that are given no scale although others of the arm need one."""
        given = {joint: c.scale for joint, c in self.calibration.items() if c.scale is not None}
        return tuple(j for j in self.joints if j not in given) if {*given.values()} - {1.0} else ()

    @property
    def controller(self) -> Controller:
        """Return where the arm takes its commands.

        Raises:
            UserError: The robot's YAML names no controller.
        """
        if self.own_controller is None:
            raise UserError(f'The {self.name} arm has no controller: add one to the robot YAML.')
        return self.own_controller

    @cached_property
    def state_interface(self) -> JointInterface:
        """Return how joint states hold the joints, gripper last [K]."""
        unit = 180.0 / np.pi if self.state_unit == 'deg' else 1.0
        own = [self.calibration.get(joint) for joint in self.joints]
        offset = [0.0 if c is None else c.offset for c in own]
        scale = [unit if c is None else c.sign / (c.scale or 1.0) for c in own]
        return _interface(self.state_names, offset, scale, self.gripper)

    @cached_property
    def command_interface(self) -> JointInterface:
        """Return how the controller takes the joints it is sent [C]."""
        controller, count = self.controller, len(self.joints)
        offset, scale = [0.0] * count, [1.0] * count
        if controller.unit == 'state':
            offset, scale = (
                list(values[:count])
                for values in (self.state_interface.offset, self.state_interface.scale)
            )
        sent = self.gripper if self.gripper and self.gripper.part_of_trajectory else None
        return _interface(controller.joints[:count], offset, scale, sent)

    @property
    def state_joints(self) -> tuple[str, ...]:
        """Return the names in this arm's joint states, in the order of joint_names [K]."""
        return self.state_interface.names

    @property
    def reports_urdf_units(self) -> bool:
        """Return whether joint states hold the joints as a URDF has them: rad or m, no offset."""
        own, count = self.state_interface, len(self.joints)
        plain = (own.scale[:count] == 1.0).all() and not own.offset[:count].any()
        return bool(plain) and (self.gripper is None or self.gripper.unit != 'raw')

    def from_joint_state(self, names: Sequence[str], positions: Sequence[float]) -> Floats:
        """Return this arm's joints [K] from a joint state, matched by name, gripper 0 to 1.

        Raises:
            UserError: A joint is missing or named twice, or a position is not finite.
        """
        return self.state_interface.from_message(_by_name(self.state_joints, names, positions))

    def velocities_from_joint_state(
        self, names: Sequence[str], velocities: Sequence[float]
    ) -> Floats:
        """Return this arm's joint velocities [K]; nan where the joint state gives none."""
        given = dict(zip(names, velocities))
        return self.state_interface.rates_from_message(
            [given.get(name, np.nan) for name in self.state_joints]
        )


def _interface(
    names: Sequence[str], offset: list[float], scale: list[float], gripper: Gripper | None
) -> JointInterface:
    """Return an interface of arm joints, with the gripper behind them where there is one."""
    if gripper is not None:
        names, offset = [*names, gripper.controller_joint], [*offset, gripper.closed]
        scale = [*scale, gripper.scale]
    return JointInterface(tuple(names), np.array(offset), np.array(scale))


def _by_name(wanted: Sequence[str], names: Sequence[str], positions: Sequence[float]) -> Floats:
    """Return the positions of the wanted names, in that order."""
    if len(names) != len(positions):
        raise UserError(f'A joint state has {len(names)} names but {len(positions)} positions.')
    place = {name: index for index, name in enumerate(names)}
    missing = [name for name in wanted if name not in place]
    if missing:
        raise UserError(f'The joint state lacks {", ".join(missing)}.')
    if len(place) < len(names):
        twice = [name for name in wanted if list(names).count(name) > 1]
        if twice:
            raise UserError(f'The joint state names {", ".join(twice)} more than once.')
    values = np.asarray(positions, dtype=np.float64)[[place[name] for name in wanted]]
    if not np.isfinite(values).all():
        bad = [name for name, value in zip(wanted, values) if not np.isfinite(value)]
        raise UserError(f'The joint state of {", ".join(bad)} is not a number.')
    return values
