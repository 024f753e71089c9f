"""World-model checkpoints: a folder in the diffusers layout plus eva.json.

eva.json            the world it knows: robot, view, rate, frames; how it was trained
transformer/        WanTransformer3DModel (config.json, safetensors)
scheduler/          FlowMatchEulerDiscreteScheduler
codec/, text/       the linear codec and the words
"""

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import fields
import json
from pathlib import Path
import re

from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers import WanTransformer3DModel
import torch
from torch import nn
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import read_manifest
from eva_ros.training.manifest import require_world
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_manifest
from eva_ros.training.weights import load_weights
from eva_ros.training.weights import read_weights
from eva_ros.training.weights import require_fit
from eva_ros.world_model.codec import LinearCodec
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.pipeline import WorldSettings
from eva_ros.world_model.small import SmallWorldModel
from eva_ros.world_model.text import WordEncoder

KIND = 'world_model'
ADAPTER = 'adapter'
_ADAPTER_WEIGHTS = 'pytorch_lora_weights.safetensors'
# Where peft's settings stand in that file.
_ADAPTER_METADATA = 'lora_adapter_metadata'


def save_world_model(
    model: WorldModel,
    folder: Path,
    training: dict | None = None,
    dtype: torch.dtype = torch.bfloat16,
) -> None:
    """Write a checkpoint folder; weights of the transformer in bfloat16 (half the size).

    Raises:
        NotFiniteError: a weight is not finite; nothing is written.
    """
    # Without the path that it was loaded from, which says nothing anywhere else.
    config = {k: v for k, v in model.transformer.config.items() if k != '_name_or_path'}
    saved = WanTransformer3DModel.from_config(config)
    saved.load_state_dict(model.transformer.state_dict())
    saved.to(dtype)
    weights = {'transformer': saved, 'codec': model.codec, 'text': model.text}
    for name, part in weights.items():
        require_finite(part.state_dict(), f'{folder / name}', 'it is not written')
    folder.mkdir(parents=True, exist_ok=True)
    saved.save_pretrained(folder / 'transformer')
    model.scheduler.save_pretrained(folder / 'scheduler')
    model.codec.save(folder / 'codec')
    model.text.save(folder / 'text')
    settings = model.settings
    details = {
        'settings': {
            'name': settings.name,
            'frames': settings.frames,
            'steps': settings.steps,
        }
    }
    write_manifest(folder, Manifest(KIND, settings.world, details, training or {}))


def load_world_model(
    folder: str | Path, *, lora: str | Path | None = None, robot=None, view=None
) -> WorldModel:
    """Load a checkpoint for inference.

    Args:
        folder: what save_world_model wrote.
        lora: folder of an adapter trained by `eva align` for these weights.
        robot: the Robot it will drive; another one than trained on is refused.
        view: the ViewSpec of the cameras; another one is refused.

    Raises:
        UserError: something is missing, not finite or does not fit, said in one sentence.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, KIND)
    require_world(folder, manifest, World.of(robot, view))
    settings = _settings(folder, manifest)
    try:
        model = SmallWorldModel(
            settings,
            LinearCodec.load(folder / 'codec'),
            WordEncoder.load(folder / 'text'),
            _load_transformer(folder / 'transformer'),
            FlowMatchEulerDiscreteScheduler.from_pretrained(
                folder / 'scheduler', local_files_only=True
            ),
        )
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(f'The world model in {folder} cannot be read: {error}') from error
    if lora is not None:
        load_adapter(model, Path(lora))
    return model.eval().requires_grad_(False)


def _load_transformer(folder: Path) -> WanTransformer3DModel:
    config = WanTransformer3DModel.load_config(folder, local_files_only=True)
    transformer = WanTransformer3DModel.from_config(config)
    paths = sorted(folder.glob('*.safetensors'))
    if not paths:
        raise UserError(f'{folder} holds no weights (*.safetensors): copy it again.')
    load_weights(transformer, *paths)
    return transformer


def _settings(folder: Path, manifest: Manifest) -> WorldSettings:
    given, world = manifest.details.get('settings', {}), manifest.world
    known = {field.name for field in fields(WorldSettings)} - set(vars(world))
    if set(given) - known:
        raise UserError(
            f'{folder} has settings that this version does not know '
            f'({", ".join(sorted(set(given) - known))}): update it.'
        )
    return WorldSettings(
        robot=world.robot,
        view=world.view,
        height=world.height,
        width=world.width,
        rate_hz=world.rate_hz,
        view_hash=world.view_hash,
        **given,
    )


def load_adapter(model: WorldModel, folder: Path) -> None:
    """Load a LoRA adapter trained for these weights into the transformer.

    Raises:
        UserError: it is missing, belongs to another checkpoint, or a weight is missing, foreign or
            not finite.
    """
    manifest = read_manifest(folder, ADAPTER)
    trained_on = manifest.details.get('world_model')
    if trained_on != model.settings.name:
        raise UserError(
            f'The adapter {folder} was trained on the world model {trained_on}, '
            f'not on {model.settings.name}: align again, or load that one.'
        )
    require_world(folder, manifest, model.settings.world)
    path = folder / _ADAPTER_WEIGHTS
    tensors, metadata = read_weights(path)
    about = json.loads(metadata[_ADAPTER_METADATA]) if _ADAPTER_METADATA in metadata else None
    targets = about['target_modules'] if about else _targets(tensors)
    require_fit(path, tensors, _adapter_shapes(model.transformer, targets, tensors))
    model.transformer.load_lora_adapter(tensors, prefix=None, metadata=about)
    model.adapter_name = f'+{folder.name}'


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
