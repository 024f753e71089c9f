"""What a robot's URDF calls its joints and its root, read without building a model."""

import math
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.robot.spec import Robot


def urdf_joint_names(robot: Robot, urdf_path: Path | None = None) -> tuple[str, ...]:
    """Return the URDF's names of a robot's joints [J], in the robot's order.

    The URDF names a joint as the robot does inside, or else as its joint states do.

    Args:
        robot: whose joints.
        urdf_path: the robot's own URDF if None.

    Raises:
        UserError: no URDF, or it lacks a joint, or has one joint for both arms.
    """
    path = find_urdf(robot, urdf_path)
    movable = {
        joint.get('name') for joint in _tree(path).findall('joint') if joint.get('type') != 'fixed'
    }
    found: list[str] = []
    for arm in robot.arms.values():
        for names in zip(arm.joint_names, arm.state_joints):
            name = next((name for name in names if name in movable), None)
            if name is None:
                either = ' or '.join(dict.fromkeys(names))
                raise UserError(f'The URDF {path} has no joint {either}.')
            found.append(name)
    twice = sorted({name for name in found if found.count(name) > 1})
    if twice:
        raise UserError(
            f'The URDF {path} has one joint {twice[0]} for both arms of {robot.name}: it must '
            'name its joints as the robot YAML does.'
        )
    return tuple(found)


def root_link(robot: Robot) -> str:
    """Return the link of a robot's URDF that no joint moves or holds.

    Raises:
        UserError: no URDF, or it has several roots or none.
    """
    path = find_urdf(robot)
    tree = _tree(path)
    held = {child.get('link') for child in tree.findall('joint/child')}
    roots = [link.get('name', '') for link in tree.findall('link') if link.get('name') not in held]
    if len(roots) != 1:
        raise UserError(f'The URDF {path} must have one root link, and has {len(roots)}.')
    return roots[0]


def gripper_ranges(robot: Robot, urdf_path: Path | None = None) -> NDArray[np.float64]:
    """Return where each gripper's URDF joint is closed, and how far it opens [G, 2], m or rad.

    A gripper of unit `raw` moves over the whole range of its URDF joint.

    Args:
        robot: whose grippers.
        urdf_path: the robot's own URDF if None.

    Raises:
        UserError: a gripper of unit `raw` whose URDF joint has no limits.
    """
    found = []
    for gripper in robot.grippers:
        closed, opened = gripper.closed, gripper.open
        if gripper.unit == 'raw':
            names = dict(zip(robot.joint_names, urdf_joint_names(robot, urdf_path)))
            closed, opened = _range(find_urdf(robot, urdf_path), names[gripper.name])
        found.append((closed, opened - closed))
    return np.array(found).reshape(-1, 2)


def to_urdf(
    robot: Robot, positions: ArrayLike, ranges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return joints inside [..., J] in the URDF's units: rad, and m or rad for the grippers.

    Args:
        robot: whose joints.
        positions: [..., J], grippers 0 to 1.
        ranges: what gripper_ranges returned [G, 2].
    """
    values = np.array(positions, dtype=np.float64)
    closed, stroke = ranges.T
    values[..., robot.gripper_mask] = closed + values[..., robot.gripper_mask] * stroke
    return values


def find_urdf(robot: Robot, urdf_path: Path | None = None) -> Path:
    """Return the file of a robot's own URDF, or of another one.

    Raises:
        UserError: the robot YAML names none, or there is no such file.
    """
    path = robot.urdf if urdf_path is None else urdf_path
    if path is None:
        raise UserError(f'{robot.path} names no URDF: add `urdf`.')
    if not Path(path).is_file():
        raise UserError(f'The URDF {path} of robot {robot.name} does not exist.')
    return Path(path)


def _range(path: Path, joint: str) -> tuple[float, float]:
    limit = _tree(path).find(f"joint[@name='{joint}']/limit")
    if limit is None or limit.get('upper') is None:
        raise UserError(f'The URDF {path} gives joint {joint} no limits.')
    try:
        lower, upper = float(limit.get('lower', '0')), float(limit.get('upper', '0'))
    except ValueError:
        lower = upper = math.nan
    if not math.isfinite(upper - lower):
        raise UserError(f'The URDF {path} gives joint {joint} limits that are not finite numbers.')
    return lower, upper


def _tree(path: Path) -> ElementTree.Element:
    try:
        return ElementTree.parse(path).getroot()
    except ElementTree.ParseError as error:
        raise UserError(f'The URDF {path} is not XML: {error}.') from None
