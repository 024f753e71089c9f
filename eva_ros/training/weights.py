"""Weights on disk: whole, finite and of this very model, or refused by file and tensor."""

from collections.abc import Mapping
import hashlib
from pathlib import Path

from safetensors import safe_open
from safetensors import SafetensorError
from torch import nn
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite

Shape = tuple[int, ...]
_BLOCK = 1 << 20


def checkpoint_label(folder: Path) -> str:
    """Return "name@" with the first 12 digits of the SHA-256 of the folder's weights."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob('*.safetensors')):
        with path.open('rb') as file:
            while block := file.read(_BLOCK):
                digest.update(block)
    return f'{folder.resolve().name}@{digest.hexdigest()[:12]}'


def read_weights(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors of a safetensors file and its metadata.

    Raises:
        UserError: it is missing or damaged, or a value is not finite (a NotFiniteError).
    """
    try:
        with safe_open(path, 'pt') as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            metadata = file.metadata() or {}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f'{path} cannot be read ({error}): copy it again, or train again.'
        ) from error
    require_finite(tensors, str(path), 'copy it again, or train again')
    return tensors, metadata


def require_fit(path: Path, tensors: Mapping[str, Tensor], wanted: Mapping[str, Shape]) -> None:
    """Refuse a file that lacks weights, or holds weights of something else.

    Args:
        path: of the file.
        tensors: what it holds.
        wanted: shapes of what it must hold, by name.

    Raises:
        UserError: names the first tensor that is missing, foreign or of another shape.
    """
    advice = 'it belongs to another model, or is not whole: copy it again, or train again.'
    missing = [name for name in wanted if name not in tensors]
    foreign = [name for name in tensors if name not in wanted]
    for names, what in ((missing, 'lacks'), (foreign, 'holds foreign')):
        if names:
            raise UserError(f"{path} {what} weights ('{names[0]}', {len(names)} in all): {advice}")
    for name, shape in wanted.items():
        if tuple(tensors[name].shape) != tuple(shape):
            raise UserError(
                f"{path}: '{name}' has the shape {tuple(tensors[name].shape)}, not "
                f'{tuple(shape)}: {advice}'
            )


def load_weights(module: nn.Module, *paths: Path) -> None:
    """Load a module's weights from the files that hold them together.

    Args:
        module: whose parameters and buffers are all in the files.
        paths: of the files; the first is named where something is missing.

    Raises:
        UserError: a file is damaged, a value not finite, or a weight missing or foreign.
    """
    tensors: dict[str, Tensor] = {}
    for path in paths:
        tensors |= read_weights(path)[0]
    wanted = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    require_fit(paths[0], tensors, wanted)
    module.load_state_dict(tensors)
