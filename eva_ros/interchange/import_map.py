"""How the names and units of another data set become a robot's."""

from pathlib import Path
import re

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eva_ros.errors import UserError
from eva_ros.interchange.imported import DataSet
from eva_ros.robot.spec import Robot
from eva_ros.robot.strict_yaml import load
from eva_ros.robot.strict_yaml import StrictModel

# What LeRobot's own recorder puts behind the name of a motor.
KEY_SUFFIX = '.pos'


class JointSource(StrictModel):
    """Where a joint's value comes from: `scale` * number + `offset`, in rad (grippers 0 to 1)."""

    source: str
    scale: float = 1.0
    offset: float = 0.0


class ImportMap(StrictModel):
    """All joints of a robot, and the cameras that are there.

    Attributes:
        joints: by the robot's own names inside.
        cameras: the data set's camera for each of the robot's.
        state: key of LeRobot's measured joints, where it is not `observation.state`.
        action: key of the commanded ones, where it is not `action`.
    """

    joints: dict[str, JointSource] = Field(min_length=1)
    cameras: dict[str, str] = {}
    state: str | None = None
    action: str | None = None


def load_map(path: Path) -> ImportMap:
    """Return the map in a YAML file; UserError names the file and what is wrong."""
    return load(ImportMap, path)


def automatic_map(data: DataSet, robot: Robot) -> tuple[ImportMap, list[str]]:
    """Return the map for a data set that needs none, and what was assumed, a sentence each.

    LeRobot joints are the robot's that have their name in joint states, in the units of these;
    names that only count (j0, j1, ...) are taken in the robot's order. RoboTwin's are taken in
    order: the left arm's and its gripper (0 closed, 1 open), then the right one's. Cameras are
    matched by name.

    Raises:
        UserError: a joint of the robot is not in the data set, so that a map is needed.
    """
    if data.kind == 'RoboTwin':
        joints, cameras, notes = *_by_order(data, robot), list[str]()
    else:
        joints, notes = _by_name(data, robot)
        cameras = {name.removeprefix('observation.images.'): name for name in data.cameras}
    lacking = [name for name in robot.cameras if name not in cameras]
    if lacking:
        notes.append(f'The data set has no camera named {", ".join(lacking)}.')
    return ImportMap(
        joints=joints, cameras={own: cameras[own] for own in robot.cameras if own in cameras}
    ), notes


def _by_order(data: DataSet, robot: Robot) -> tuple[dict[str, JointSource], dict[str, str]]:
    if [name.endswith('gripper') for name in data.joint_names] != robot.gripper_mask.tolist():
        raise UserError(
            f'The joints of {data.path} ({", ".join(data.joint_names)}) are not those of '
            f'{robot.name} in order ({", ".join(robot.joint_names)}): say in a YAML (--map) which '
            'is which.'
        )
    usual = {
        'head_camera': 'top', 'left_camera': 'left_wrist', 'right_camera': 'right_wrist',
        'cam_head': 'top', 'cam_left_wrist': 'left_wrist', 'cam_right_wrist': 'right_wrist',
    }  # fmt: skip
    joints = {own: JointSource(source=name)
              for own, name in zip(robot.joint_names, data.joint_names)}  # fmt: skip
    return joints, {usual.get(name, name): name for name in data.cameras}


def _by_name(data: DataSet, robot: Robot) -> tuple[dict[str, JointSource], list[str]]:
    given = {name.removesuffix(KEY_SUFFIX): name for name in data.joint_names}
    names, _ = robot.to_joint_state(robot.home)
    found: dict[str, str] = {}
    for own, name in zip(robot.joint_names, names):
        # Arms that report on a topic each may call their joints the same.
        called = name if names.count(name) == 1 and name in given else own
        if called in given:
            found[own] = given[called]
    notes = list[str]()
    if not found and _only_count(list(given)) and len(given) == len(robot.joint_names):
        found = dict(zip(robot.joint_names, data.joint_names))
        pairs = ', '.join(f'{name} is {own}' for own, name in found.items())
        notes.append(
            f'The data set only counts its joints: they are taken in the order of {robot.name} '
            f'({pairs}). Give a --map if that is wrong.'
        )
    lacking = [own for own in robot.joint_names if own not in found]
    if lacking:
        raise UserError(
            f'{data.path} names its joints {", ".join(data.joint_names)}, and none of them is '
            f'{", ".join(lacking)} of {robot.name}: say in a YAML (--map) which is which, or '
            f'describe this robot with `eva robot init --dataset {data.path}`.'
        )
    units = [unit for arm in robot.arms.values()
             for unit in zip(arm.state_interface.scale, arm.state_interface.offset)]  # fmt: skip
    return {
        own: JointSource(source=found[own], scale=1.0 / scale, offset=-offset / scale)
        for own, (scale, offset) in zip(robot.joint_names, units)
    }, notes


def _only_count(names: list[str]) -> bool:
    """Return whether names are one word with numbers that go up from 0 or 1."""
    parts = [re.fullmatch(r'(.*?)(\d+)', name) for name in names]
    numbers = [int(part[2]) for part in parts if part and part[1] == (parts[0] or part)[1]]
    return numbers in (list(range(len(names))), list(range(1, len(names) + 1)))


def check_map(found: ImportMap, data: DataSet, robot: Robot) -> None:
    """Refuse a map that does not fit the data set or the robot.

    Raises:
        UserError: names the joint or camera.
    """
    lacking = [name for name in robot.joint_names if name not in found.joints]
    lacking += [source.source for source in found.joints.values()
                if source.source not in data.joint_names]  # fmt: skip
    lacking += [name for name in found.joints if name not in robot.joint_names]
    lacking += [name for name in found.cameras if name not in robot.cameras]
    lacking += [name for name in found.cameras.values() if name not in data.cameras]
    if lacking:
        raise UserError(
            f'The map from {data.path} to {robot.name} does not fit: {", ".join(lacking)} '
            f'(the data set has {", ".join([*data.joint_names, *data.cameras])}).'
        )


def left_out(found: ImportMap, data: DataSet) -> list[str]:
    """Say which of the data set's joints and cameras a map takes for none of the robot's."""
    taken = {source.source for source in found.joints.values()}
    joints = [name for name in data.joint_names if name not in taken]
    cameras = [name for name in data.cameras if name not in found.cameras.values()]
    return [
        f'The map leaves out {what} of the data set: {", ".join(names)}.'
        for what, names in (('joints', joints), ('cameras', cameras))
        if names
    ]


def mapped(
    values: NDArray[np.float64], found: ImportMap, data: DataSet, robot: Robot
) -> NDArray[np.float64]:
    """Return the data set's numbers [T, N] as the robot's joints [T, J]."""
    sources = [found.joints[name] for name in robot.joint_names]
    index = [data.joint_names.index(source.source) for source in sources]
    scale = np.array([source.scale for source in sources])
    return values[:, index] * scale + np.array([source.offset for source in sources])
