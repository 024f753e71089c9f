"""The robot YAML: its keys, and the checks that need more than one of them."""

from pathlib import Path
from typing import Annotated
from typing import Literal

from pydantic import Field
from pydantic import model_validator
from pydantic import StrictBool
from pydantic import StrictInt

from eva_ros.errors import UserError
from eva_ros.robot.limits import JointLimits
from eva_ros.robot.limits import Limits
from eva_ros.robot.limits import limits_from_joints
from eva_ros.robot.limits import Number
from eva_ros.robot.strict_yaml import parse
from eva_ros.robot.strict_yaml import read_yaml
from eva_ros.robot.strict_yaml import StrictModel

Point = tuple[Number, Number, Number]


class GripperEntry(StrictModel):
    """`gripper` of an arm; `closed` and `open` are the controller's positions in `unit`.

    `grip` is how many times as far as it was dreamed a gripper is sent closed.
    """

    name: str
    controller_joint: str
    closed: Number
    open: Number
    unit: Literal['m', 'rad']
    part_of_trajectory: StrictBool = True
    grip: Number = Field(default=1.0, ge=1.0, le=3.0)

    @model_validator(mode='after')
    def _check(self) -> 'GripperEntry':
        if self.closed == self.open:
            raise ValueError('closed and open are the same position')
        return self


class ControllerEntry(StrictModel):
    """`controller` of an arm: where its commands go and its joint names as sent."""

    topic: str
    type: Literal[
        'trajectory_msgs/msg/JointTrajectory',
        'control_msgs/action/FollowJointTrajectory',
        'sensor_msgs/msg/JointState',
    ]
    joints: tuple[str, ...]


class EnableEntry(StrictModel):
    """`enable_service` of an arm: called with true at arming, before anything is sent."""

    name: str
    type: Literal['std_srvs/srv/SetBool', 'std_srvs/srv/Trigger'] = 'std_srvs/srv/SetBool'


class ArmEntry(StrictModel):
    """An arm: six joints, a gripper, a controller; `state_unit` is of its joint states."""

    joints: tuple[str, ...] = Field(min_length=6, max_length=6)
    gripper: GripperEntry
    controller: ControllerEntry
    state_topic: str = 'joint_states'
    state_unit: Literal['rad', 'deg'] = 'rad'
    stamp_source: Literal['header', 'receive'] = 'header'
    enable_service: EnableEntry | None = None
    base_frame: str
    end_effector_frame: str

    @model_validator(mode='after')
    def _check(self) -> 'ArmEntry':
        sent = len(self.joints) + self.gripper.part_of_trajectory
        if len(self.controller.joints) != sent:
            raise ValueError(f'controller.joints must name {sent} joints')
        if len(set(self.controller.joints)) != sent:
            raise ValueError('controller.joints names a joint twice')
        last = self.controller.joints[-1]
        if self.gripper.part_of_trajectory and last != self.gripper.controller_joint:
            raise ValueError('controller.joints must end with gripper.controller_joint')
        return self


class CameraEntry(StrictModel):
    """A camera: topic of its images and their size in pixels.

    `value_range` is for images of encoding 16UC1: the values that are shown black and white.
    """

    topic: str
    height: StrictInt = Field(gt=0)
    width: StrictInt = Field(gt=0)
    value_range: tuple[Number, Number] | None = None

    @model_validator(mode='after')
    def _check(self) -> 'CameraEntry':
        if self.value_range and self.value_range[0] >= self.value_range[1]:
            raise ValueError('value_range must be the lower and the higher value')
        return self


class CapsuleEntry(StrictModel):
    """A capsule: the points within a radius of a line, m in the body's frame."""

    begin: Point = Field(alias='from')
    end: Point = Field(alias='to')
    radius: Number = Field(gt=0.0)


class BoxEntry(StrictModel):
    """A box along the axes of the body's frame, m."""

    center: Point
    size: Point


class BodyEntry(StrictModel):
    """A body that must not touch another: a capsule or a box fixed to a frame of the URDF."""

    name: str
    frame: str
    capsule: CapsuleEntry | None = None
    box: BoxEntry | None = None

    @model_validator(mode='after')
    def _check(self) -> 'BodyEntry':
        if (self.capsule is None) == (self.box is None):
            raise ValueError('give either capsule or box')
        if self.box is not None and min(self.box.size) <= 0.0:
            raise ValueError('a box needs a size above 0')
        return self


class CollisionEntry(StrictModel):
    """`collision`: the bodies, and the pairs of them that may touch.

    A name in a pair is a body's, or that of all bodies with a number behind it: `left_base` for
    `left_base_1` and `left_base_2`.
    """

    bodies: tuple[BodyEntry, ...] = Field(min_length=2)
    allowed: tuple[tuple[str, str], ...] = ()

    @model_validator(mode='after')
    def _check(self) -> 'CollisionEntry':
        names = [body.name for body in self.bodies]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f'bodies name {", ".join(twice)} twice')
        wanted = {name for pair in self.allowed for name in pair}
        unknown = sorted(name for name in wanted if not self.bodies_of(name))
        if unknown:
            raise ValueError(f'allowed names {", ".join(unknown)}, which are no bodies')
        return self

    def bodies_of(self, name: str) -> list[str]:
        """Return the names of the bodies that a name in a pair stands for."""
        parts = [body.name.rpartition('_') for body in self.bodies]
        numbered = [f'{stem}_{number}' for stem, _, number in parts
                    if stem == name and number.isdecimal()]  # fmt: skip
        return [body.name for body in self.bodies if body.name == name] + numbered


class WorkspaceEntry(StrictModel):
    """`workspace`: the box that both end effectors stay in, m in the URDF's root frame."""

    min: Point
    max: Point

    @model_validator(mode='after')
    def _check(self) -> 'WorkspaceEntry':
        if not all(low < high for low, high in zip(self.min, self.max)):
            raise ValueError('min must be below max')
        return self


class RobotFile(StrictModel):
    """The whole file."""

    name: str
    simulated: StrictBool
    arms: dict[str, ArmEntry]
    cameras: dict[str, CameraEntry]
    home: dict[str, Number]
    rest_velocity: Number = Field(default=0.02, gt=0.0)
    urdf: str | None = None
    collision: CollisionEntry | None = None
    workspace: WorkspaceEntry | None = None
    max_tracking_error: dict[str, Annotated[Number, Field(gt=0.0)]] = Field(default_factory=dict)
    joint_limits: dict[str, dict]

    @model_validator(mode='after')
    def _check(self) -> 'RobotFile':
        if set(self.arms) != {'left', 'right'}:
            raise ValueError('arms must be left and right')
        names = self.joint_names()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f'arms name {", ".join(twice)} twice')
        for key, given in (('joint_limits', self.joint_limits), ('home', self.home)):
            different = sorted(set(names) ^ set(given))
            if different:
                raise ValueError(f'{key} must hold the joints of the arms: {", ".join(different)}')
        unknown = sorted(set(self.max_tracking_error) - set(names))
        if unknown:
            raise ValueError(f'max_tracking_error names {", ".join(unknown)}, which are no joints')
        if self.urdf is None and (self.collision or self.workspace):
            raise ValueError('collision and workspace need a urdf')
        return self

    def joint_names(self) -> list[str]:
        """Return the names inside, left arm first, each arm's gripper last."""
        arms = (self.arms['left'], self.arms['right'])
        return [name for arm in arms for name in (*arm.joints, arm.gripper.name)]


def read_robot_file(path: Path) -> tuple[RobotFile, Limits]:
    """Return the checked file and its limits.

    Raises:
        UserError: names the file, and the key or joint that is wrong.
    """
    file = parse(RobotFile, read_yaml(path), path)
    order = file.joint_names()
    joints = {name: _joint_limits(name, file.joint_limits[name], path) for name in order}
    for arm in file.arms.values():
        gripper = joints[arm.gripper.name]
        if gripper.lowest() < 0.0 or gripper.highest() > 1.0:
            raise UserError(f'{path}: joint {arm.gripper.name}: a gripper moves within 0 to 1.')
    limits = limits_from_joints(joints, order)
    for i, name in enumerate(order):
        if not limits.min_position[i] <= file.home[name] <= limits.max_position[i]:
            raise UserError(f'{path}: home: joint {name} is outside its limits.')
    return file, limits


def _joint_limits(name: str, entry: dict, path: Path) -> JointLimits:
    """Return one joint's limits; a robot needs those that the gate cannot do without."""
    try:
        limits = parse(JointLimits, entry, path)
    except UserError as error:
        problem = str(error).removeprefix(f'{path}: ')
        raise UserError(f'{path}: joint {name}: {problem}') from None
    for flag in ('has_position_limits', 'has_velocity_limits', 'has_acceleration_limits'):
        if not getattr(limits, flag):
            raise UserError(f'{path}: joint {name}: {flag} must be true for a robot that moves.')
    return limits
