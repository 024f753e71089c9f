"""The state of a training on disk: one safetensors file, whole or not at all."""

from collections.abc import Mapping
import json
import os
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
import torch
from torch import nn
from torch import Tensor
from torch.distributed.tensor import distribute_tensor
from torch.distributed.tensor import DTensor

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.training.weights import read_weights

STATE = 'training.safetensors'
# Where earlier versions kept the state of a world model.
_EARLIER_STATE = 'state.pt'


def read_state(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Return tensors and facts of the state in a folder; None if there is none.

    Raises:
        UserError: The state is damaged, or an earlier version wrote it in another format.
    """
    path, earlier = folder / STATE, folder / _EARLIER_STATE
    if path.is_file():
        tensors, facts = read_tensors(path)
        if 'identity' in facts:
            return tensors, facts
    elif earlier.is_file():
        path = earlier
    else:
        return None
    raise UserError(
        f'{path} is the state of a training that an earlier version of this package began and '
        'this one cannot resume: finish it with that version, or give another --out.'
    )


def write_tensors(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON facts as one safetensors file, whole or not at all.

    Raises:
        NotFiniteError: A value is not finite; what is on disk stays.
    """
    require_finite(tensors, str(path), 'it is left as it was')
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f'{path.name}.part')
    # Clones: safetensors refuses tensors that share their memory.
    whole = {name: t.detach().cpu().contiguous().clone() for name, t in tensors.items()}
    save_file(whole, draft, metadata={'facts': json.dumps(facts)})
    with draft.open('rb') as file:
        os.fsync(file.fileno())
    os.replace(draft, path)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the facts that `write_tensors` wrote.

    Raises:
        UserError: The file is damaged, or a value is not finite.
    """
    tensors, metadata = read_weights(path)
    return tensors, json.loads(metadata.get('facts', '{}'))


def pack(parts: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Join named groups of tensors into one flat map, 'group/name' each."""
    return {f'{group}/{name}': t for group, ts in parts.items() for name, t in ts.items()}


def unpack(tensors: Mapping[str, Tensor], group: str) -> dict[str, Tensor]:
    """Return one group of what `pack` joined."""
    head = f'{group}/'
    return {name[len(head) :]: t for name, t in tensors.items() if name.startswith(head)}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the optimizer's moments and step counts, by parameter and name."""
    state = optimizer.state_dict()['state']
    return {
        f'{index}.{name}': torch.as_tensor(value)
        for index, entry in state.items()
        for name, value in entry.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned."""
    parameters = [weight for group in optimizer.param_groups for weight in group['params']]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, _, name = key.partition('.')
        state.setdefault(int(index), {})[name] = shard_like(value, parameters[int(index)])
    optimizer.load_state_dict({**optimizer.state_dict(), 'state': state})


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor, gathered from all processes if FSDP has sharded it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shard_like(value: Tensor, own: Tensor) -> Tensor:
    """Return this process' part of a whole value if `own` is sharded and of the same shape."""
    if not isinstance(own, DTensor) or value.shape != own.shape:
        return value
    return distribute_tensor(value.to(own.device), own.device_mesh, own.placements)


@torch.no_grad()
def gather_weights(model: nn.Module) -> None:
    """Replace the weights that FSDP has sharded by whole ones, to be saved."""
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            if isinstance(weight, DTensor):
                gathered = nn.Parameter(weight.full_tensor(), weight.requires_grad)
                module.register_parameter(name, gathered)
