"""Which checkpoint a parameter means."""

from pathlib import Path

from eva_ros.errors import UserError
from eva_ros.robot.paths import checkpoint_dir

DEFAULT = 'default'
NONE = 'none'


def checkpoint_folder(value: str, shipped: str) -> Path:
    """Return the folder that a parameter names.

    Args:
        value: a path, or 'default' for what comes with the package.
        shipped: name of the shipped folder.

    Raises:
        UserError: there is no such folder.
    """
    folder = checkpoint_dir() / shipped if value in ('', DEFAULT) else Path(value).expanduser()
    if not folder.is_dir():
        raise UserError(f'There is no checkpoint folder {folder}.')
    return folder
