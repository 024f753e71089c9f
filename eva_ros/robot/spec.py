"""A robot: one YAML that says joints, limits, cameras and controllers of its arms."""

from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.robot.arm import Arm
from eva_ros.robot.arm import Calibration
from eva_ros.robot.arm import Controller
from eva_ros.robot.arm import EnableService
from eva_ros.robot.arm import Gripper
from eva_ros.robot.limits import Limits
from eva_ros.robot.paths import find_config
from eva_ros.robot.questions import open_questions
from eva_ros.robot.schema import ArmEntry
from eva_ros.robot.schema import read_robot_file
from eva_ros.robot.schema import RobotFile
from eva_ros.robot.sides import SIDES

Point = tuple[float, float, float]


# Openings from which a gripper may hold something, and above which it does not.
_PRESSED, _OPEN = 0.7, 0.9
# A gripper that opens by this much within so many steps of a path lets go.
_OPENS, _STEPS_AHEAD = 0.05, 3


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
    """One or two arms and what they can do; the order of joint_names is that of every array.

    Attributes:
        arms: By name, left before right; a robot may have one of them alone.
        limits: Of all joints; infinite where the YAML gives none.
        home: A pose to rest in [J]; nan where the YAML gives none.
        rest_velocity: A joint that is slower stands still, rad/s.
        bodies: What must not touch; None where the YAML does not say.
        workspace: Lowest and highest corner of the box that all end effectors stay in, m in the
            URDF's root frame; None where the YAML gives none.
        max_tracking_error: By joint, where it is not the gate's.
        mirror_signs: Factors that turn an arm's joints, without the gripper, into the other's in
            the mirrored view; None where the YAML does not say that the arms mirror each other.
        path: The YAML file it was read from.
        collision_path: The file that it names for `collision`; None where there is none.
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
    collision_path: Path | None = None
    mirror_signs: tuple[int, ...] | None = None

    @property
    def files(self) -> list[Path]:
        """Return all files that say what the robot is."""
        return [f for f in (self.path, self.collision_path, self.urdf) if f is not None]

    @cached_property
    def joint_names(self) -> tuple[str, ...]:
        """Return the names inside, left arm first, each arm's gripper last [J]."""
        return tuple(name for arm in self.arms.values() for name in arm.joint_names)

    @cached_property
    def gripper_mask(self) -> NDArray[np.bool_]:
        """Return True where a joint is a gripper [J]."""
        grippers = {gripper.name for gripper in self.grippers}
        mask = np.array([name in grippers for name in self.joint_names])
        mask.setflags(write=False)
        return mask

    @cached_property
    def grippers(self) -> tuple[Gripper, ...]:
        """Return the grippers that there are, in the order of joint_names [G]."""
        return tuple(arm.gripper for arm in self.arms.values() if arm.gripper is not None)

    def gripping(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Return what to send for joints that were read from frames.

        Frames show where a thing stops the fingers; a position controller sent just there does
        not press, and the thing slips: 1 - grip * (1 - opening) is sent instead. A gripper that is
        nearly open or about to open has nothing to press on, and is sent as it was read: a hand
        that comes down with its fingers closer than they were seen would land on the thing.

        Args:
            positions: A path [..., T, J], or one pose [J].
        """
        sent = np.array(positions, dtype=np.float64)
        opening = sent[..., self.gripper_mask]
        grips = np.array([gripper.grip for gripper in self.grippers])
        pressing = np.clip((_OPEN - opening) / (_OPEN - _PRESSED), 0.0, 1.0)
        if opening.ndim > 1:
            pressing *= np.clip(1.0 - _opens_by(opening) / _OPENS, 0.0, 1.0)
        closed = (1.0 + (grips - 1.0) * pressing) * (1.0 - opening)
        sent[..., self.gripper_mask] = np.clip(1.0 - closed, 0.0, 1.0)
        return sent

    @property
    def arms_are_alike(self) -> bool:
        """Return whether two arms have the same number of joints and may mirror each other."""
        sizes = [(len(arm.joints), arm.gripper is None) for arm in self.arms.values()]
        return len(sizes) == 2 and sizes[0] == sizes[1]

    def mirrored(self, positions: ArrayLike) -> NDArray[np.float64]:
        """Return the joints [..., J] that the mirrored view shows.

        Raises:
            ValueError: The YAML states no mirror_signs.
        """
        if self.mirror_signs is None:
            raise ValueError(f'{self.name} has no mirror_signs')
        left, right = np.split(np.asarray(positions, dtype=np.float64), 2, axis=-1)
        signs = np.ones(left.shape[-1])
        signs[: len(self.mirror_signs)] = self.mirror_signs
        return np.concatenate([signs * right, signs * left], axis=-1)

    @property
    def has_end_effectors(self) -> bool:
        """Return whether the YAML says where an arm ends: a URDF, and a frame in it."""
        return self.urdf is not None and any(a.end_effector_frame for a in self.arms.values())

    @property
    def joint_state_topics(self) -> tuple[str, ...]:
        """Return the topics of joint states, each once, left arm's first."""
        return tuple(dict.fromkeys(arm.state_topic for arm in self.arms.values()))

    def arm_indices(self, arm: str) -> slice:
        """Return where an arm's joints stand in an array of all joints."""
        start = self.joint_names.index(self.arms[arm].joint_names[0])
        return slice(start, start + len(self.arms[arm].joint_names))

    def arm_joints_mask(self, arm: str) -> NDArray[np.bool_]:
        """Return True for an arm's joints, False for its gripper [K]."""
        return ~self.gripper_mask[self.arm_indices(arm)]

    def from_joint_state(
        self, names: Sequence[str], positions: Sequence[float]
    ) -> NDArray[np.float64]:
        """Return all joints [J] from one joint state, by name in any order, grippers 0 to 1.

        For robots whose arms share a topic; otherwise use Arm.from_joint_state for each.

        Raises:
            UserError: A joint is missing or named twice, a position is not finite, or the arms
                have a topic each.
        """
        if len(self.joint_state_topics) > 1:
            raise UserError(
                f'The arms of {self.name} report on {" and ".join(self.joint_state_topics)}: '
                'one joint state does not hold both.'
            )
        parts = [arm.from_joint_state(names, positions) for arm in self.arms.values()]
        return np.concatenate(parts)

    def velocities_from_joint_state(
        self, names: Sequence[str], velocities: Sequence[float]
    ) -> NDArray[np.float64]:
        """Return all joint velocities [J]; nan where the joint state gives none."""
        parts = [arm.velocities_from_joint_state(names, velocities) for arm in self.arms.values()]
        return np.concatenate(parts)

    def to_joint_state(self, positions: ArrayLike) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return the names and values [J] of a joint state in the arms' own units."""
        values = np.array(positions, dtype=np.float64)
        for name, arm in self.arms.items():
            own = self.arm_indices(name)
            values[own] = arm.state_interface.to_message(values[own])
        names = tuple(name for arm in self.arms.values() for name in arm.state_joints)
        return names, values

    def arm_command(
        self, arm: str, positions: ArrayLike
    ) -> tuple[tuple[str, ...], NDArray[np.float64]]:
        """Return an arm's joints as its controller wants them.

        Args:
            arm: 'left' or 'right'.
            positions: All joints inside [..., J].

        Returns:
            The controller's joint names [C] and positions [..., C] in its units; the gripper is
            left out where it is not part of the trajectory.
        """
        interface = self.arms[arm].command_interface
        own = np.asarray(positions, dtype=np.float64)[..., self.arm_indices(arm)]
        return interface.names, interface.to_message(own[..., : len(interface.names)])

    def arm_command_rates(self, arm: str, rates: ArrayLike) -> NDArray[np.float64]:
        """Return an arm's velocities or accelerations [..., C] in its controller's units."""
        interface = self.arms[arm].command_interface
        own = np.asarray(rates, dtype=np.float64)[..., self.arm_indices(arm)]
        return interface.rates_to_message(own[..., : len(interface.names)])

    def require(self, purpose: str) -> None:
        """Refuse a robot whose YAML is not complete for a purpose, one of PURPOSES.

        Raises:
            UserError: What is missing, and how to see all of it.
        """
        missing = missing_for(self, purpose)
        if missing:
            raise UserError(
                f'{self.path} is not complete for {PURPOSES[purpose]}: {"; ".join(missing)} '
                f'(`eva robot check {self.path}` lists what is missing for each purpose).'
            )


def _opens_by(opening: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how much further a gripper opens within the next steps of a path [..., T, G]."""
    steps = np.arange(opening.shape[-2])
    ahead = np.minimum(steps[:, None] + np.arange(_STEPS_AHEAD + 1), steps[-1])
    return opening[..., ahead, :].max(axis=-2) - opening


# What a robot is described for, from the least that the YAML must say to the most.
PURPOSES = {
    'recordings': 'recordings',
    'training': 'training',
    'gate': 'driving the arms',
}


def missing_for(robot: Robot, purpose: str) -> list[str]:
    """Return what a robot's YAML lacks for a purpose, a phrase each; empty if nothing."""
    missing = [] if robot.cameras else ['no cameras']
    if purpose != 'recordings':
        missing += _missing_for_joints(robot)
    if purpose == 'gate':
        missing += [f'the {arm.name} arm has no controller' for arm in robot.arms.values()
                    if arm.own_controller is None]  # fmt: skip
        for kind, values in (
            ('position', robot.limits.min_position),
            ('position', robot.limits.max_position),
            ('velocity', robot.limits.max_velocity),
            ('acceleration', robot.limits.max_acceleration),
        ):
            joints = [n for n, value in zip(robot.joint_names, values) if np.isinf(value)]
            if joints:
                whose = '' if len(joints) == len(values) else f' of {", ".join(joints)}'
                missing.append(f'no {kind} limits{whose}')
        if np.isnan(robot.home).any():
            missing.append('no home pose')
    return list(dict.fromkeys(missing))


def _missing_for_joints(robot: Robot) -> list[str]:
    """Return what leaves it open what the numbers of the joint states mean."""
    arms = robot.arms.values()
    missing = [f"the unit of the {arm.name} arm's joint states is unknown"
               for arm in arms if arm.state_unit == 'unknown']  # fmt: skip
    missing += [f'the calibration of the {arm.name} arm has no scale of {", ".join(joints)}'
                for arm in arms if (joints := arm.unscaled_joints)]  # fmt: skip
    missing += [f"line {question.line} asks '{question.what}' (answer it and delete the line)"
                for question in open_questions(robot.path)
                if question.bars_training]  # fmt: skip
    return missing


def load_robot(name_or_path: str | Path) -> Robot:
    """Return the robot of that name in config/robots, or of a YAML file.

    Raises:
        UserError: No such file, an unknown key, or limits that cannot be right; names the file.
    """
    path = find_config('robots', name_or_path)
    file, limits, collision = read_robot_file(path)
    cameras = {
        name: Camera(name, camera.topic, camera.height, camera.width, camera.value_range)
        for name, camera in file.cameras.items()
    }
    urdf = None if file.urdf is None else (path.parent / file.urdf).resolve()
    home = np.array([file.home.get(joint, np.nan) for joint in limits.joint_names])
    home.setflags(write=False)
    return Robot(
        name=file.name,
        simulated=file.simulated,
        arms={side: _arm(side, file.arms[side]) for side in SIDES if side in file.arms},
        limits=limits,
        home=home,
        cameras=cameras,
        rest_velocity=file.rest_velocity,
        urdf=urdf,
        bodies=_bodies(file),
        workspace=None if file.workspace is None else (file.workspace.min, file.workspace.max),
        max_tracking_error=file.max_tracking_error,
        path=path,
        collision_path=collision,
        mirror_signs=file.mirror_signs,
    )


def _arm(name: str, entry: ArmEntry) -> Arm:
    return Arm(
        name=name,
        joints=entry.joints,
        gripper=None if entry.gripper is None else Gripper(**vars(entry.gripper)),
        own_controller=_controller(entry),
        state_topic=entry.state_topic,
        state_names=entry.names_in_states(),
        stamp_source=entry.stamp_source,
        enable_service=(
            None if entry.enable_service is None else EnableService(**vars(entry.enable_service))
        ),
        base_frame=entry.base_frame,
        end_effector_frame=entry.end_effector_frame,
        state_unit=entry.state_unit,
        calibration={joint: Calibration(**vars(c)) for joint, c in entry.calibration.items()},
    )


def _controller(entry: ArmEntry) -> Controller | None:
    if entry.controller is None:
        return None
    given = dict(vars(entry.controller))
    if given['joints'] is None:
        gripper = entry.gripper if entry.gripper_is_sent() else None
        last = () if gripper is None else (gripper.controller_joint,)
        given['joints'] = (*entry.names_in_states(), *last)
    return Controller(**given)


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
