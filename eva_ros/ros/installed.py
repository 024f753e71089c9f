"""What eva_ros needs beside itself: a sentence for each thing that is missing here."""

import importlib.util
import re
import sys

from eva_ros.errors import UserError

_ROS_PACKAGE = re.compile(r'\w+_(msgs|srvs|interfaces)|cv_bridge')
_RCLPY = (
    'ROS 2 (rclpy) is not installed here: source a ROS 2 installation, or run `make setup` in a '
    'checkout.'
)
_EVA_MSGS = (
    'eva_msgs is not installed here: build it beside eva_ros (in the workspace, `colcon build '
    '--base-paths src src/eva_ros/eva_msgs`, then `source install/setup.bash`), or run '
    '`make setup` in a checkout.'
)


def check_ros() -> None:
    """Refuse to go on without ROS 2 or eva_msgs, without importing either.

    Raises:
        UserError: one of them cannot be imported.
    """
    for module, sentence in (('rclpy', _RCLPY), ('eva_msgs.msg', _EVA_MSGS)):
        if not _is_there(module):
            raise UserError(sentence)


def _is_there(module: str) -> bool:
    try:
        spec = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        return False
    # Without an origin it is a folder of that name: eva_msgs/ of a checkout has no Python in it.
    return spec is not None and spec.origin is not None


def missing(error: ImportError) -> str:
    """Return what is missing and what to do about it.

    Args:
        error: of an import; one that lies in eva_ros itself is raised again.
    """
    package = (error.name or '').partition('.')[0]
    if package in ('', 'eva_ros'):
        raise error
    if package == 'eva_msgs':
        return _EVA_MSGS
    if not isinstance(error, ModuleNotFoundError):
        return f"The package '{package}' cannot be loaded: {error}."
    if package == 'rclpy':
        return _RCLPY
    if _ROS_PACKAGE.fullmatch(package):
        return f"The ROS package '{package}' is not installed here: let rosdep install it."
    return (
        f"The Python package '{package}' is not installed for {sys.executable}: activate the "
        'virtual environment that has it, or install it as README.md says ("Install").'
    )
