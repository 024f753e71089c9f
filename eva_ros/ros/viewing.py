"""What view.launch.py gives rviz and robot_state_publisher to read. Needs no ROS."""

from collections.abc import Callable
from copy import deepcopy
import os
from pathlib import Path
from typing import Any

import yaml

from eva_ros.errors import UserError
from eva_ros.robot.paths import config_dir
from eva_ros.robot.spec import Robot
from eva_ros.robot.urdf import find_urdf
from eva_ros.robot.urdf import root_link
from eva_ros.robot.urdf import urdf_joint_names
from eva_ros.ros import topics
from eva_ros.ros.parameter_files import EVERY_NODE

_INDEX = Path('share', 'ament_index', 'resource_index', 'packages')
_DECODER = 'compressed_image_transport'


def installed(package: str) -> bool:
    """Return whether a ROS package is installed, as the ament index says."""
    prefixes = filter(None, os.environ.get('AMENT_PREFIX_PATH', '').split(os.pathsep))
    return any((prefix / _INDEX / package).exists() for prefix in map(Path, prefixes))


def missing(package: str, consequence: str) -> str:
    """Return a sentence about a package that is not installed, and how to get it."""
    name = f'ros-{os.environ.get("ROS_DISTRO", "jazzy")}-{package.replace("_", "-")}'
    return f'{package} is not installed: {consequence} (apt install {name}).'


def needs_merging(robot: Robot) -> bool:
    """Return whether robot_state_publisher could not read the robot's joint states itself."""
    arms = robot.arms.values()
    return (
        len(robot.joint_state_topics) > 1
        or any(not arm.reports_urdf_units for arm in arms)
        or set(urdf_joint_names(robot)) != {name for arm in arms for name in arm.state_joints}
    )


def description_file(folder: Path, robot: Robot, frame_prefix: str, *, use_sim_time: bool) -> Path:
    """Write the parameters of a robot_state_publisher and return their file.

    Args:
        folder: where to write it.
        robot: whose URDF is published.
        frame_prefix: what stands before the URDF's frames.
        use_sim_time: whether the time is that of /clock.
    """
    parameters = {
        'robot_description': find_urdf(robot).read_text(encoding='utf-8'),
        'frame_prefix': frame_prefix,
        'use_sim_time': use_sim_time,
    }
    path = folder / f'{frame_prefix.replace("/", "_")}description.yaml'
    content = {EVERY_NODE: {'ros__parameters': parameters}}
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding='utf-8')
    return path


def rviz_file(
    folder: Path,
    given: str,
    robot: Robot,
    frame_prefix: str,
    namespace: str,
    say: Callable[[str], None],
) -> Path:
    """Return what rviz is to show: a file as it is, or one that is written after it.

    Args:
        folder: where to write it.
        given: the user's own file; the package's, fitted to the robot, if empty.
        robot: whose frames and camera are shown.
        frame_prefix: what stands before the frames of the robot.
        namespace: of the nodes; the ghost's frames are below it.
        say: called with a sentence where something is left out.

    Raises:
        UserError: there is no such file, or it is not rviz's.
    """
    source = Path(given).expanduser() if given else config_dir() / 'eva.rviz'
    content = _read(source)
    shown = content if given else _fitted(content, robot, frame_prefix, namespace)
    if not installed(_DECODER):
        whole, shown = shown, _without_compressed(shown)
        if whole != shown:
            say(missing(_DECODER, 'compressed pictures, on which rviz2 would abort, are left out'))
    if shown == content:
        return source
    path = folder / source.name
    path.write_text(yaml.safe_dump(shown, sort_keys=False), encoding='utf-8')
    return path


def _read(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding='utf-8'))
        content['Visualization Manager']['Displays']
    except OSError as error:
        raise UserError(f'{path} cannot be read: {error.strerror}.') from None
    except (yaml.YAMLError, UnicodeDecodeError, KeyError, TypeError):
        raise UserError(f'{path} is not a file of rviz.') from None
    return content


def _fitted(
    content: dict[str, Any], robot: Robot, frame_prefix: str, namespace: str
) -> dict[str, Any]:
    """Return the package's rviz file with a robot's frames and camera."""
    content = deepcopy(content)
    manager = content['Visualization Manager']
    ghost = topics.frame_prefix(namespace) + topics.GHOST_FRAME_PREFIX
    camera = robot.cameras.get('top') or next(iter(robot.cameras.values()))
    for display in manager['Displays']:
        if 'TF Prefix' in display:
            prefix = ghost if display['TF Prefix'] else frame_prefix
            display['TF Prefix'] = prefix.rstrip('/')
        if display['Name'] == 'Top camera':
            display['Topic']['Value'] = camera.topic
    if robot.urdf is not None:
        root = frame_prefix + root_link(robot)
        ends = [frame_prefix + arm.end_effector_frame for arm in robot.arms.values()
                if arm.end_effector_frame]  # fmt: skip
        manager['Global Options']['Fixed Frame'] = root
        (frames,) = (display for display in manager['Displays'] if 'Frames' in display)
        shown = {name: {'Value': True} for name in (root, *ends)}
        frames['Frames'] = {'All Enabled': False, **shown}
    return content


def _without_compressed(tree: Any) -> Any:
    """Return the content of an rviz file without the displays of compressed pictures."""
    if isinstance(tree, dict):
        return {key: _without_compressed(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_without_compressed(item) for item in tree if not _is_compressed(item)]
    return tree


def _is_compressed(display: Any) -> bool:
    topic = display.get('Topic') if isinstance(display, dict) else None
    name = topic.get('Value') if isinstance(topic, dict) else topic
    return isinstance(name, str) and name.endswith('/compressed')
