"""Which checkpoint a parameter means, and how a message names it."""

import hashlib
from pathlib import Path

from eva_ros.errors import UserError
from eva_ros.robot.paths import checkpoint_dir

DEFAULT = 'default'
NONE = 'none'
_BLOCK = 1 << 20


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


def checkpoint_label(folder: Path) -> str:
    """Return "name@" with the first 12 digits of the SHA-256 of the folder's weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.safetensors')):
        with path.open('rb') as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return f'{folder.resolve().name}@{digest.hexdigest()[:12]}'
