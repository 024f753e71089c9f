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
        UserError: the folder does not exist.
    """
    folder = checkpoint_dir() / shipped if value in ('', DEFAULT) else Path(value).expanduser()
    if not folder.is_dir():
        raise UserError(f'There is no checkpoint folder {folder}.')
    return folder


def optional_folder(value: str, shipped: str) -> Path | None:
    """Return the folder that a parameter names; None for 'none' or ''.

    Args:
        value: a path, 'default' for what comes with the package, or 'none'.
        shipped: name of the shipped folder.

    Raises:
        UserError: the folder does not exist.
    """
    return None if value in ('', NONE) else checkpoint_folder(value, shipped)


def adapter_folder(value: str, checkpoint: str) -> Path | None:
    """Return the folder of the adapter that the parameter `lora` names; None for no adapter.

    Args:
        value: a path, 'default', 'none', or 'auto': the shipped adapter with the shipped
            checkpoint, no adapter with any other.
        checkpoint: the parameter `checkpoint` of the world model.

    Raises:
        UserError: the folder does not exist.
    """
    if value == AUTO:
        value = DEFAULT if checkpoint in ('', DEFAULT) else NONE
    return optional_folder(value, 'aligned')
