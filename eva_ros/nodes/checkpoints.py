"""Which checkpoint a parameter means."""

from pathlib import Path

from eva_ros.errors import UserError
from eva_ros.robot.paths import checkpoint_dir

AUTO = 'auto'
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


def adapter_folder(value: str, checkpoint: str) -> Path | None:
    """Return the folder of the adapter that a parameter names; None goes without.

    Args:
        value: a path, 'default', 'none', or 'auto': the shipped adapter for the shipped
            checkpoint, none for others.
        checkpoint: what the parameter of the world model says.

    Raises:
        UserError: there is no such folder.
    """
    if value == AUTO:
        value = DEFAULT if checkpoint in ('', DEFAULT) else NONE
    return None if value in ('', NONE) else checkpoint_folder(value, 'aligned')
