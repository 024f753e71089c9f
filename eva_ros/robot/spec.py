"""A robot: one YAML that says joints, limits, cameras and controllers of its two arms."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.robot.limits import Limits
from eva_ros.robot.paths import find_config
from eva_ros.robot.schema import read_robot_file
from eva_ros.robot.schema import RobotFile

ARM_NAMES = ('left', 'right')
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Gripper:
    """A gripper: 0 closed, 1 open inside; the controller's joint has its own range and unit.

    Attributes:
        name: its joint name inside.
        controller_joint: its joint name in joint states and commands.
        closed: the controller's position when closed, in `unit`.
        open: the controller's position when open, in `unit`.
        unit: 'm' or 'rad'.
        part_of_trajectory: whether it is a joint of the arm's trajectory.
        grip: how many times as far as it was dreamed it is sent closed.
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

    def to_controller(self, opening: ArrayLike) -> NDArray[np.float64]:
        """Return the controller's position(s) for an opening of 0 to 1."""
        return self.closed + np.asarray(opening, dtype=np.float64) * self.scale

    def from_controller(self, position: ArrayLike) -> NDArray[np.float64]:
        """Return the opening (0 closed, 1 open) for controller position(s)."""
        return (np.asarray(position, dtype=np.float64) - self.closed) / self.scale


@dataclass(frozen=True)
class Controller:
    """Where an arm takes its commands: topic, message type and joint names as sent."""

    topic: str
    type: str
    joints: tuple[str, ...]


@dataclass(frozen=True)
class EnableService:
    """A service of the arm's driver that switches it on: its name and type."""

    name: str
    type: str


@dataclass(frozen=True)
class Body:
    """A capsule or a box fixed to a frame of the URDF, m; the other one is None.

    Attributes:
        capsule: begin, end and radius.
        box: centre and size.
    """

    name: str
    frame: str
    capsule: tuple[Point, Point, float] | None
    box: tuple[Point, Point] | None


@dataclass(frozen=True)
class Bodies:
    """What must not touch, and the pairs of names that may."""

    bodies: tuple[Body, ...]
    allowed: frozenset[frozenset[str]]


@dataclass(frozen=True)
class Arm:
    """One arm: joint names inside, their names at the controller, and its frames.

    Attributes:
        joints: the six arm joints, names inside.
        state_topic: topic of this arm's joint states.
        state_unit: of the six joints in them, 'rad' or 'deg'; commands are in rad.
        controller: command topic and the joints as sent, gripper included where it is part of
            the trajectory.
        stamp_source: 'header', or 'receive' where the driver's stamps are another clock's.
        enable_service: called at arming; None where the driver needs none.
    """

    name: str
    joints: tuple[str, ...]
    gripper: Gripper
    controller: Controller
    state_topic: str
    stamp_source: str
    enable_service: EnableService | None
    base_frame: str
    end_effector_frame: str
    state_unit: str = 'rad'

    @property
    def state_scale(self) -> float:
        """Return the units of this arm's joint states for each rad, gripper apart."""
        return 180.0 / np.pi if self.state_unit == 'deg' else 1.0

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Return the names inside, gripper last."""
        return (*self.joints, self.gripper.name)

    @property
    def state_joints(self) -> tuple[str, ...]:
        """Return the names in this arm's joint states, in the order of joint_names."""
        return (*self.controller.joints[: len(self.joints)], self.gripper.controller_joint)

    def from_joint_state(
        self, names: Sequence[str], positions: Sequence[float]
    ) -> NDArray[np.float64]:
        """Return this arm's joints [7] from a joint state, matched by name, gripper 0 to 1.

        Raises:
            UserError: a joint is missing or named twice, or a position is not finite.
        """
        values = _by_name(self.state_joints, names, positions)
        values[:-1] /= self.state_scale
        values[-1] = self.gripper.from_controller(values[-1])
        return values

    def velocities_from_joint_state(
        self, names: Sequence[str], velocities: Sequence[float]
    ) -> NDArray[np.float64]:
        """Return this arm's joint velocities [7]; nan where the joint state gives none."""
        given = dict(zip(names, velocities))
        values = np.array([given.get(name, np.nan) for name in self.state_joints])
        values[:-1] /= self.state_scale
        values[-1] /= self.gripper.scale
        return values


@dataclass(frozen=True)
class Camera:
    """A camera: its image topic and the size of its images in pixels.

    `value_range` holds the values that are black and white in images of encoding 16UC1.
    """

    name: str
    topic: str
    height: int
    width: int
    value_range: tuple[float, float] | None = None


@dataclass(frozen=True, eq=False)
class Robot:
    """Two arms and what they can do; the order of joint_names is the order of every array.

    Attributes:
        joint_names: left arm's six joints, left gripper, right arm's six, right gripper [14].
        gripper_mask: True where a joint is a gripper [14].
        home: a pose to rest in [14].
        rest_velocity: a joint that is slower stands still, in rad/s.
        bodies: what must not touch; None where the YAML does not say.
        workspace: lowest and highest corner of the box that both end effectors stay in, m in the
            URDF's root frame; None where the YAML gives none.
        max_tracking_error: by joint, where it is not the gate's.
        path: the YAML file it was read from.
    """

    name: str
    simulated: bool
    arms: Mapping[str, Arm]
    limits: Limits
    home: NDArray[np.float64]
    cameras: Mapping[str, Camera]
    rest_velocity: float
    urdf: Path | None
    bodies: Bodies | None
    workspace: tuple[Point, Point] | None
    max_tracking_error: Mapping[str, float]
    path: Path

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """Return the names inside, left arm first, each arm's gripper last [14]."""
        return tuple(name for arm in ARM_NAMES for name in self.arms[arm].joint_names)

    @cached_property
    def gripper_mask(self) -> NDArray[np.bool_]:
        """Return True where a joint is a gripper [14]."""
        grippers = {arm.gripper.name for arm in self.arms.values()}
        mask = np.array([name in grippers for name in self.joint_names])
        mask.setflags(write=False)
        return mask

    def gripping(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Return what to send for joints [..., 14] that were read from frames.

        Frames show where a thing stops the fingers; a position controller sent just there does
        not press, and the thing slips. An open gripper stays open: 1 - grip * (1 - opening).
        """
        sent = np.array(positions, dtype=np.float64)
        grips = np.array([self.arms[arm].gripper.grip for arm in ARM_NAMES])
        closed = grips * (1.0 - sent[..., self.gripper_mask])
        sent[..., self.gripper_mask] = np.clip(1.0 - closed, 0.0, 1.0)
        return sent

    @property
    def joint_state_topics(self) -> tuple[str, ...]:
        """Return the topics of joint states, each once, left arm's first."""
        return tuple(dict.fromkeys(self.arms[arm].state_topic for arm in ARM_NAMES))

    def arm_indices(self, arm: str) -> slice:
        """Return where an arm's joints stand in an array of all joints."""
        start = self.joint_names.index(self.arms[arm].joint_names[0])
        return slice(start, start + len(self.arms[arm].joint_names))

    def from_joint_state(
        self, names: Sequence[str], positions: Sequence[float]
    ) -> NDArray[np.float64]:
        """Return all joints [14] from one joint state, by name in any order, grippers 0 to 1.

        For robots whose arms share a topic; otherwise use Arm.from_joint_state for each.

        Raises:
            UserError: a joint is missing or named twice, a position is not finite, or the arms
                have a topic each.
        """
        if len(self.joint_state_topics) > 1:
            raise UserError(
                f'The arms of {self.name} report on {" and ".join(self.joint_state_topics)}: '
                'one joint state does not hold both.'
            )
        parts = [self.arms[arm].from_joint_state(names, positions) for arm in ARM_NAMES]
        return np.concatenate(parts)

    def velocities_from_joint_state(
        self, names: Sequence[str], velocities: Sequence[float]
    ) -> NDArray[np.float64]:
        """Return all joint velocities [14]; nan where the joint state gives none."""
        parts = [self.arms[a].velocities_from_joint_state(names, velocities) for a in ARM_NAMES]
        return np.concatenate(parts)

    def to_joint_state(self, positions: ArrayLike) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return the names and values [14] of a joint state in the controllers' units."""
        values = np.array(positions, dtype=np.float64)
        for arm in ARM_NAMES:
            own = self.arm_indices(arm)
            last = own.stop - 1
            values[own.start : last] *= self.arms[arm].state_scale
            values[last] = self.arms[arm].gripper.to_controller(values[last])
        names = tuple(name for arm in ARM_NAMES for name in self.arms[arm].state_joints)
        return names, values

    def arm_command(
        self, arm: str, positions: ArrayLike
    ) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return an arm's joints as its controller wants them.

        Args:
            arm: 'left' or 'right'.
            positions: all joints inside [..., 14].

        Returns:
            The controller's joint names [K] and positions [..., K] in its units; K is 7, or 6
            where the gripper is not part of the trajectory.
        """
        values = np.array(np.asarray(positions)[..., self.arm_indices(arm)], dtype=np.float64)
        values[..., -1] = self.arms[arm].gripper.to_controller(values[..., -1])
        names = self.arms[arm].controller.joints
        return names, values[..., : len(names)]

    def arm_command_rates(self, arm: str, rates: ArrayLike) -> NDArray[np.float64]:
        """Return an arm's velocities or accelerations [..., K] in its controller's units."""
        values = np.array(np.asarray(rates)[..., self.arm_indices(arm)], dtype=np.float64)
        values[..., -1] *= self.arms[arm].gripper.scale
        return values[..., : len(self.arms[arm].controller.joints)]


def load_robot(name_or_path: str | Path) -> Robot:
    """Return the robot of that name in config/robots, or of a YAML file.

    Raises:
        UserError: no such file, an unknown key, or limits that cannot be right; names the file.
    """
    path = find_config('robots', name_or_path)
    file, limits = read_robot_file(path)
    arms = {name: _arm(name, file) for name in ARM_NAMES}
    cameras = {
        name: Camera(name, camera.topic, camera.height, camera.width, camera.value_range)
        for name, camera in file.cameras.items()
    }
    urdf = None if file.urdf is None else (path.parent / file.urdf).resolve()
    home = np.array([file.home[joint] for joint in limits.joint_names])
    home.setflags(write=False)
    return Robot(
        name=file.name,
        simulated=file.simulated,
        arms=arms,
        limits=limits,
        home=home,
        cameras=cameras,
        rest_velocity=file.rest_velocity,
        urdf=urdf,
        bodies=_bodies(file),
        workspace=None if file.workspace is None else (file.workspace.min, file.workspace.max),
        max_tracking_error=file.max_tracking_error,
        path=path,
    )


def _arm(name: str, file: RobotFile) -> Arm:
    arm = file.arms[name]
    return Arm(
        name=name,
        joints=tuple(arm.joints),
        gripper=Gripper(**arm.gripper.model_dump()),
        controller=Controller(**arm.controller.model_dump()),
        state_topic=arm.state_topic,
        stamp_source=arm.stamp_source,
        enable_service=(
            None if arm.enable_service is None else EnableService(**vars(arm.enable_service))
        ),
        base_frame=arm.base_frame,
        end_effector_frame=arm.end_effector_frame,
        state_unit=arm.state_unit,
    )


def _bodies(file: RobotFile) -> Bodies | None:
    if file.collision is None:
        return None
    bodies = tuple(
        Body(
            name=body.name,
            frame=body.frame,
            capsule=(
                None
                if body.capsule is None
                else (body.capsule.begin, body.capsule.end, body.capsule.radius)
            ),
            box=None if body.box is None else (body.box.center, body.box.size),
        )
        for body in file.collision.bodies
    )
    allowed = frozenset(
        frozenset((first, second))
        for one, other in file.collision.allowed
        for first in file.collision.bodies_of(one)
        for second in file.collision.bodies_of(other)
    )
    return Bodies(bodies, allowed)


def _by_name(
    wanted: Sequence[str], names: Sequence[str], positions: Sequence[float]
) -> NDArray[np.float64]:
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
