"""LoRA adapters on a world model, by peft: loaded, scaled, merged, or off as the reference."""

from collections.abc import Iterable
from collections.abc import Iterator
from collections.abc import Mapping
from contextlib import contextmanager
import json
from pathlib import Path
import re
from typing import Any

from torch import nn
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.manifest import FILE
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import read_manifest
from eva_ros.training.manifest import require_world
from eva_ros.training.weights import checkpoint_label
from eva_ros.training.weights import read_weights
from eva_ros.training.weights import require_fit
from eva_ros.world_model.pipeline import WorldModel

ADAPTER = 'adapter'
WEIGHTS = 'pytorch_lora_weights.safetensors'
# Of the second transformer, where a model has two.
WEIGHTS_2 = 'pytorch_lora_weights_2.safetensors'
# Where peft's settings stand in these files.
METADATA = 'lora_adapter_metadata'
_NAME = 'eva'


def load_adapter(model: WorldModel, folder: Path, scale: float = 1.0) -> None:
    """Load a LoRA adapter trained for these weights into the transformer, or into both.

    Args:
        model: World model that it was trained for.
        folder: What `eva align` or `eva world-model train --lora` wrote, or what diffusers'
            `save_lora_weights` did (without eva.json).
        scale: Weight of what it changes.

    Raises:
        UserError: It is missing, belongs to another checkpoint, needs a history that the model
            cannot take, or a weight is missing, foreign or not finite.
    """
    if (folder / FILE).is_file() or not (folder / WEIGHTS).is_file():
        manifest = read_manifest(folder, ADAPTER)
        _require_base(model, folder, manifest)
        if 'history' in manifest.details:
            model.take_history(manifest.details['history'])
    for transformer, name in zip(model.transformers, (WEIGHTS, WEIGHTS_2)):
        path = folder / name
        if name == WEIGHTS or path.is_file():
            tensors, about = _read(path)
            targets = about['target_modules'] if about else _targets(tensors)
            require_fit(path, tensors, _adapter_shapes(transformer, targets, tensors))
            transformer.load_lora_adapter(tensors, prefix=None, metadata=about, adapter_name=_NAME)
    model.adapter_name = f'+{folder.name}'
    model.label += f'+{checkpoint_label(folder)}'
    if scale != 1.0:
        scale_adapter(model, scale)


def scale_adapter(model: WorldModel, scale: float) -> None:
    """Weight what the loaded adapter changes; 1 is as trained, 0 nothing."""
    for transformer in _adapted(model):
        transformer.set_adapters(_NAME, scale)


def merge_adapter(model: WorldModel) -> None:
    """Add the loaded adapter to the weights, which costs nothing afterwards and is final."""
    for transformer in _adapted(model):
        transformer.fuse_lora()
        transformer.unload_lora()


@contextmanager
def without_adapter(model: WorldModel) -> Iterator[None]:
    """Switch the adapter off for a while: the model is its own reference."""
    adapted = _adapted(model)
    for transformer in adapted:
        transformer.disable_adapters()
    try:
        yield
    finally:
        for transformer in adapted:
            transformer.enable_adapters()


def _adapted(model: WorldModel) -> list[Any]:
    return [t for t in model.transformers if getattr(t, 'peft_config', None)]


def _require_base(model: WorldModel, folder: Path, manifest: Manifest) -> None:
    """Refuse an adapter of another checkpoint, by name and, where it says so, by the weights."""
    trained_on = manifest.details.get('world_model')
    if trained_on != model.settings.name:
        raise UserError(
            f'The adapter {folder} was trained on the world model {trained_on}, '
            f'not on {model.settings.name}: align again, or load that one.'
        )
    base = manifest.details.get('base', '')
    if base and model.base and base != model.base:
        raise UserError(
            f'The adapter {folder} was trained on other weights of {trained_on} than these: train '
            'it again, or load those.'
        )
    if model.settings.view:  # a plain diffusers folder dreams any view
        require_world(folder, manifest, model.settings.world)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Return the weights of an adapter and peft's settings, names without 'transformer.'."""
    tensors, metadata = read_weights(path)
    plain = {re.sub(r'^transformer(_2)?\.', '', name): t for name, t in tensors.items()}
    about = json.loads(metadata[METADATA]) if METADATA in metadata else {}
    about = {re.sub(r'^transformer(_2)?\.', '', key): value for key, value in about.items()}
    return plain, about or None


def _targets(names: Iterable[str]) -> list[str]:
    """Return which modules of a block an adapter changes, by the names of its weights."""
    modules = (name.rpartition('.lora_')[0] for name in names)
    return sorted({re.sub(r'^.*?blocks\.\d+\.', '', module) for module in modules})


def _adapter_shapes(
    transformer: nn.Module, targets: list[str], tensors: Mapping[str, Tensor]
) -> dict[str, tuple[int, ...]]:
    """Return the shapes of all weights of an adapter of these modules, by their names."""
    rank = next((t.shape[0] for name, t in tensors.items() if '.lora_A.' in name), 0)
    shapes: dict[str, tuple[int, ...]] = {}
    for name, module in transformer.named_modules():
        adapted = any(f'.{name}'.endswith(f'.{target}') for target in targets)
        if adapted and isinstance(module, nn.Linear):
            shapes[f'{name}.lora_A.weight'] = (rank, module.in_features)
            shapes[f'{name}.lora_B.weight'] = (module.out_features, rank)
    return shapes
