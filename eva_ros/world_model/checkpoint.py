"""World-model checkpoints: a folder in the diffusers layout plus eva.json.

eva.json            the world it knows: robot, view, rate, frames; how it was trained
transformer/        WanTransformer3DModel (config.json, safetensors)
scheduler/          FlowMatchEulerDiscreteScheduler
codec/, text/       the linear codec and the words
"""

from collections.abc import Iterable
from collections.abc import Mapping
from dataclasses import asdict
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
from eva_ros.training.weights import load_weights
from eva_ros.training.weights import read_weights
from eva_ros.training.weights import require_fit
from eva_ros.world_model.codec import LinearCodec
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.pipeline import WorldSettings
from eva_ros.world_model.text import WordEncoder

FORMAT = 1
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
    meta = {
        'format': FORMAT,
        'kind': 'world_model',
        'settings': asdict(model.settings),
        'training': training or {},
    }
    (folder / 'eva.json').write_text(json.dumps(meta, indent=2) + '\n')


def load_world_model(
    folder: str | Path, *, lora: str | Path | None = None, robot: str | None = None, view=None
) -> WorldModel:
    """Load a checkpoint for inference.

    Args:
        folder: what save_world_model wrote.
        lora: folder of an adapter trained by `eva align` for these weights.
        robot: name of the robot it will drive; another one than trained on is refused.
        view: the ViewSpec of the cameras; another size, name or rate is refused.

    Raises:
        UserError: something is missing, not finite or does not fit, said in one sentence.
    """
    folder = Path(folder)
    settings = read_settings(folder)
    _check_world(folder, settings, robot, view)
    try:
        model = WorldModel(
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


def read_settings(folder: Path) -> WorldSettings:
    """Read eva.json of a world model."""
    path = folder / 'eva.json'
    if not path.is_file():
        raise UserError(f'{folder} is no world model: {path} does not exist.')
    meta = json.loads(path.read_text())
    if meta.get('kind') != 'world_model':
        raise UserError(f'{path} describes a {meta.get("kind")}, not a world model.')
    known = {field.name for field in fields(WorldSettings)}
    unknown = sorted(set(meta['settings']) - known)
    if meta.get('format') != FORMAT or unknown:
        raise UserError(
            f'{path} has format {meta.get("format")} and unknown keys {unknown}: '
            f'this version reads format {FORMAT}.'
        )
    return WorldSettings(**meta['settings'])


def load_adapter(model: WorldModel, folder: Path) -> None:
    """Load a LoRA adapter trained for these weights into the transformer.

    Raises:
        UserError: it is missing, belongs to another checkpoint, or a weight is missing, foreign or
            not finite.
    """
    path = folder / 'eva.json'
    if not path.is_file():
        raise UserError(f'{folder} is no adapter: {path} does not exist.')
    meta = json.loads(path.read_text())
    if meta.get('kind') != 'adapter':
        raise UserError(f'{path} describes a {meta.get("kind")}, not an adapter.')
    if meta.get('world_model') != model.settings.name:
        raise UserError(
            f'The adapter {folder} was trained on the world model {meta.get("world_model")}, '
            f'not on {model.settings.name}: align again, or load that one.'
        )
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


def _check_world(folder: Path, settings: WorldSettings, robot: str | None, view) -> None:
    if robot is not None and robot != settings.robot:
        raise UserError(
            f'The world model {folder} was trained on the robot {settings.robot}, not on {robot}: '
            f'choose a checkpoint of {robot}, or train one.'
        )
    if view is None:
        return
    wanted = (view.name, view.height, view.width, view.rate_hz)
    has = (settings.view, settings.height, settings.width, settings.rate_hz)
    if wanted != has:
        raise UserError(
            f'The world model {folder} dreams the view {has[0]} ({has[1]}x{has[2]} '
            f'at {has[3]} Hz), but the cameras give {wanted[0]} '
            f'({wanted[1]}x{wanted[2]} at {wanted[3]} Hz).'
        )
