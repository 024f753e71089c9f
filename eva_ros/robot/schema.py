"""The robot YAML: its keys, and the checks that need more than one of them."""

from pathlib import Path
from typing import Annotated
from typing import Literal

from pydantic import Field
from pydantic import model_validator
from pydantic import StrictBool
from pydantic import StrictInt

from eva_ros.errors import UserError
from eva_ros.robot.collision_schema import CollisionEntry
from eva_ros.robot.collision_schema import Point
from eva_ros.robot.limits import JointLimits
from eva_ros.robot.limits import Limits
from eva_ros.robot.limits import limits_from_joints
from eva_ros.robot.limits import Number
from eva_ros.robot.sides import expand_sides
from eva_ros.robot.sides import SIDES
from eva_ros.robot.strict_yaml import parse
from eva_ros.robot.strict_yaml import read_yaml
from eva_ros.robot.strict_yaml import StrictModel

MOST_JOINTS = 8


class GripperEntry(StrictModel):
    """`gripper` of an arm; `closed` and `open` are the controller's positions in `unit`.

    `grip` is the closing gain applied to the decoded gripper opening.
    """

    name: str
    controller_joint: str
    closed: Number
    open: Number
    unit: Literal['m', 'rad', 'raw']
    part_of_trajectory: StrictBool = True
    grip: Number = Field(default=1.0, ge=1.0, le=3.0)

    @model_validator(mode='after')
    def _check(self) -> 'GripperEntry':
        if self.closed == self.open:
            raise ValueError('closed and open are the same position')
        return self


class ControllerEntry(StrictModel):
    """`controller` of an arm: where its commands go, and its joint names and unit as sent.

    `joints` are those of the joint states by default; unit `state` means the unit and the
    calibration of the joint states.
    """

    topic: str
    type: Literal[
        'trajectory_msgs/msg/JointTrajectory',
        'control_msgs/action/FollowJointTrajectory',
        'sensor_msgs/msg/JointState',
    ] = 'trajectory_msgs/msg/JointTrajectory'
    joints: tuple[str, ...] | None = None
    unit: Literal['rad', 'state'] = 'rad'


class EnableEntry(StrictModel):
    """`enable_service` of an arm: called with true at arming, before anything is sent."""

    name: str
    type: Literal['std_srvs/srv/SetBool', 'std_srvs/srv/Trigger'] = 'std_srvs/srv/SetBool'


class CalibrationEntry(StrictModel):
    """`calibration` of a joint: rad = sign * scale * (value in the joint state - offset).

    `scale` is 1 where it is not given.
    """

    scale: Annotated[Number, Field(gt=0.0)] | None = None
    offset: Number = 0.0
    sign: Literal[1, -1] = 1


class ArmEntry(StrictModel):
    """An arm: one to eight joints, and as far as known a gripper, a controller and frames.

    `state_joints`, `state_unit` and `calibration` are those of its joint states; a gripper has
    its own range and takes no calibration.
    """

    joints: tuple[str, ...] = Field(min_length=1, max_length=MOST_JOINTS)
    gripper: GripperEntry | None = None
    controller: ControllerEntry | None = None
    state_topic: str = 'joint_states'
    state_joints: tuple[str, ...] | None = None
    state_unit: Literal['rad', 'deg', 'unknown'] = 'rad'
    calibration: dict[str, CalibrationEntry] = Field(default_factory=dict)
    stamp_source: Literal['header', 'receive'] = 'header'
    enable_service: EnableEntry | None = None
    base_frame: str = ''
    end_effector_frame: str = ''

    @model_validator(mode='after')
    def _check(self) -> 'ArmEntry':
        sent = len(self.joints) + self.gripper_is_sent()
        commanded = None if self.controller is None else self.controller.joints
        for key, names, count in (
            ('controller.joints', commanded, sent),
            ('state_joints', self.state_joints, len(self.joints)),
        ):
            if names is not None and len(names) != count:
                raise ValueError(f'{key} must name {count} joints')
            if names is not None and len(set(names)) != count:
                raise ValueError(f'{key} names a joint twice')
        self._check_gripper()
        unknown = sorted(set(self.calibration) - set(self.joints))
        if unknown:
            raise ValueError(f'calibration names {", ".join(unknown)}, not joints of this arm')
        if self.calibration and self.state_unit != 'rad':
            raise ValueError('give either state_unit or calibration: its scale holds the unit')
        return self

    def _check_gripper(self) -> None:
        joints = self.controller and self.controller.joints
        if self.gripper is None or not joints or not self.gripper.part_of_trajectory:
            return
        if joints[-1] != self.gripper.controller_joint:
            raise ValueError('controller.joints must end with gripper.controller_joint')

    def gripper_is_sent(self) -> bool:
        """Return whether a gripper is one of the joints of the arm's trajectory."""
        return self.gripper is not None and self.gripper.part_of_trajectory

    def joint_names(self) -> list[str]:
        """Return the names inside, gripper last."""
        return [*self.joints, *([self.gripper.name] if self.gripper else [])]

    def names_in_states(self) -> tuple[str, ...]:
        """Return the arm joints' names in joint states, gripper excluded."""
        if self.state_joints is not None:
            return self.state_joints
        if self.controller is not None and self.controller.joints is not None:
            return self.controller.joints[: len(self.joints)]
        return self.joints


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
    """The whole file.

    `mirror_signs` says that the arms mirror each other: the factors, one for each joint of an arm
    without its gripper, that turn an arm's joints into the other's in the mirrored view.
    """

    name: str
    simulated: StrictBool = False
    arms: dict[Literal['left', 'right'], ArmEntry] = Field(min_length=1)
    cameras: dict[str, CameraEntry] = Field(default_factory=dict)
    home: dict[str, Number] = Field(default_factory=dict)
    rest_velocity: Number = Field(default=0.02, gt=0.0)
    urdf: str | None = None
    collision: CollisionEntry | None = None
    workspace: WorkspaceEntry | None = None
    max_tracking_error: dict[str, Annotated[Number, Field(gt=0.0)]] = Field(default_factory=dict)
    mirror_signs: tuple[Literal[1, -1], ...] | None = None
    joint_limits: dict[str, dict] = Field(default_factory=dict)

    @model_validator(mode='after')
    def _check(self) -> 'RobotFile':
        names = self.joint_names()
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f'arms name {", ".join(twice)} twice')
        for key in ('joint_limits', 'home', 'max_tracking_error'):
            unknown = sorted(set(getattr(self, key)) - set(names))
            if unknown:
                raise ValueError(f'{key} names {", ".join(unknown)}: the arms have no such joint')
        missing = [name for name in names if name not in self.home]
        if self.home and missing:
            raise ValueError(f'home must hold the joints of the arms: {", ".join(missing)}')
        if self.urdf is None and (self.collision or self.workspace):
            raise ValueError('collision and workspace need a urdf')
        if self.mirror_signs is not None:
            self._check_mirror_signs(self.mirror_signs)
        if self.workspace and not all(arm.end_effector_frame for arm in self.arms.values()):
            raise ValueError('workspace needs the end_effector_frame of every arm')
        return self

    def _check_mirror_signs(self, signs: tuple[int, ...]) -> None:
        sizes = [(len(arm.joints), arm.gripper is None) for arm in self.arms.values()]
        if len(sizes) != 2 or sizes[0] != sizes[1]:
            raise ValueError('mirror_signs need two arms with the same number of joints')
        if len(signs) != sizes[0][0]:
            raise ValueError(f'mirror_signs must hold {sizes[0][0]} signs, one for each joint')

    def joint_names(self) -> list[str]:
        """Return the names inside, left arm first, each arm's gripper last."""
        arms = [self.arms[side] for side in SIDES if side in self.arms]
        return [name for arm in arms for name in arm.joint_names()]


def read_robot_file(path: Path) -> tuple[RobotFile, Limits, Path | None]:
    """Return the checked file, its limits, and the file that it names for `collision`.

    Limits are infinite where the file gives none; the last is None where it names no file.

    Raises:
        UserError: Names the file, and the key or joint that is wrong.
    """
    content, collision = read_yaml(path), None
    if isinstance(content.get('collision'), str):
        collision = path.parent / content['collision']
        content['collision'] = read_yaml(collision)
    file = parse(RobotFile, expand_sides(content), path)
    order = file.joint_names()
    joints = {name: _joint_limits(name, file.joint_limits.get(name), path) for name in order}
    for arm in file.arms.values():
        if arm.gripper is None or arm.gripper.name not in file.joint_limits:
            continue
        gripper = joints[arm.gripper.name]
        if gripper.lowest() < 0.0 or gripper.highest() > 1.0:
            raise UserError(f'{path}: joint {arm.gripper.name}: a gripper moves within 0 to 1.')
    limits = limits_from_joints(joints, order)
    for i, name in enumerate(order):
        at_home = file.home.get(name, limits.min_position[i])
        if not limits.min_position[i] <= at_home <= limits.max_position[i]:
            raise UserError(f'{path}: home: joint {name} is outside its limits.')
    return file, limits, collision


def _joint_limits(name: str, entry: dict | None, path: Path) -> JointLimits:
    """Return one joint's limits; none where there is no entry."""
    try:
        return parse(JointLimits, {'source': {}} if entry is None else entry, path)
    except UserError as error:
        problem = str(error).removeprefix(f'{path}: ')
        raise UserError(f'{path}: joint {name}: {problem}') from None
