"""How the names and units of another data set become a robot's."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from eva_ros.episodes.imported import DataSet
from eva_ros.errors import UserError
from eva_ros.robot.spec import Robot
from eva_ros.robot.strict_yaml import load
from eva_ros.robot.strict_yaml import StrictModel


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


def map_by_order(data: DataSet, robot: Robot) -> ImportMap:
    """Return the map for a data set whose joints are the robot's, in order and in its units.

    That is RoboTwin's layout: the joints and the gripper (0 closed, 1 open) of the left arm, then
    of the right one. Cameras that the robot has by name are taken, and RoboTwin's by its names.

    Raises:
        UserError: the data set says something else, so that a map is needed.
    """
    if data.kind != 'RoboTwin':
        raise UserError(
            f'{data.path} names its joints {", ".join(data.joint_names[:3])} ...: say in a YAML '
            f'(--map) which of them are the joints of {robot.name}, and in which units they are.'
        )
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
    cameras = {usual.get(name, name): name for name in data.cameras}
    return ImportMap(
        joints={
            own: JointSource(source=name) for own, name in zip(robot.joint_names, data.joint_names)
        },
        cameras={own: name for own, name in cameras.items() if own in robot.cameras},
    )


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
