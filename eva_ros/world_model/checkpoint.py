"""World-model checkpoints: a folder in the diffusers layout plus eva.json.

eva.json            the world it knows: robot, view, rate, frames; how it was trained
transformer/        WanTransformer3DModel (config.json, safetensors)
scheduler/          FlowMatchEulerDiscreteScheduler
codec/              the linear codec
text/               the words, or text_encoder/ and tokenizer/ of transformers
"""

from dataclasses import fields
from pathlib import Path

from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers import WanTransformer3DModel
import torch
from torch import nn

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.training.manifest import FILE
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import require_world
from eva_ros.training.manifest import view_fingerprint
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_manifest
from eva_ros.training.weights import checkpoint_label
from eva_ros.training.weights import load_weights
from eva_ros.world_model.adapters import load_adapter
from eva_ros.world_model.codec import LinearCodec
from eva_ros.world_model.folder import base_fingerprint
from eva_ros.world_model.folder import KIND
from eva_ros.world_model.folder import read_folder
from eva_ros.world_model.folder import SMALL
from eva_ros.world_model.folder import TEXT
from eva_ros.world_model.folder import TEXT_ENCODER
from eva_ros.world_model.folder import WorldModelFolder
from eva_ros.world_model.memory import Placement
from eva_ros.world_model.pipeline import WorldModel
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.small import SmallWorldModel
from eva_ros.world_model.text import WordEncoder
from eva_ros.world_model.text_encoder import TextEncoder
from eva_ros.world_model.transformer import POSITION_CHANNELS


def save_world_model(
    model: SmallWorldModel,
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
    # All of it: diffusers' own cast warns that it would keep some modules in float32.
    nn.Module.to(saved, dtype)
    weights = {'transformer': saved, 'codec': model.codec, TEXT: model.text}
    for name, part in weights.items():
        require_finite(part.state_dict(), f'{folder / name}', 'it is not written')
    folder.mkdir(parents=True, exist_ok=True)
    saved.save_pretrained(folder / 'transformer')
    model.scheduler.save_pretrained(folder / 'scheduler')
    model.codec.save(folder / 'codec')
    model.text.save(folder)
    settings = model.settings
    details = {
        'settings': {
            'name': settings.name,
            'frames': settings.frames,
            'steps': settings.steps,
            **({'history': settings.history} if settings.history else {}),
        }
    }
    write_manifest(folder, Manifest(KIND, settings.world, details, training or {}))


def load_world_model(
    folder: str | Path,
    view=None,
    *,
    lora: str | Path | None = None,
    robot=None,
    placement: Placement | None = None,
) -> WorldModel:
    """Load a world model of any family for inference.

    Args:
        folder: What save_world_model wrote, or a Wan checkpoint in the diffusers layout, with or
            without eva.json.
        view: ViewSpec of the cameras; another one than trained on is refused. Without eva.json it
            says how large and long the dreams are.
        lora: Folder of an adapter trained for these weights.
        robot: Robot that it will drive; another one than trained on is refused.
        placement: How the weights of a Wan model are held; None takes what eva.json says, else
            the first way that fits into memory.

    Raises:
        UserError: Something is missing, not finite, too large for this machine or does not fit,
            said in one sentence.
    """
    holds = read_folder(Path(folder))
    if holds.manifest is not None:
        require_world(holds.path, holds.manifest, World.of(robot, view))
    settings = settings_of(holds, view)
    model: WorldModel
    if holds.family == SMALL:
        model = _load_small(holds, settings)
    else:
        from eva_ros.world_model.wan_checkpoint import load_wan

        model = load_wan(holds, settings, placement or placement_of(holds))
    model.base = base_fingerprint(holds)
    # The weights of the large ones take minutes to hash.
    small = holds.family == SMALL
    model.label = checkpoint_label(holds.path) if small else f'{holds.path.name}@{model.base[:12]}'
    if lora is not None:
        load_adapter(model, Path(lora))
    return model.eval().requires_grad_(False)


def load_text(
    folder: Path, view=None, *, robot=None
) -> tuple[WorldSettings, WordEncoder | TextEncoder]:
    """Load the settings and the text encoder of a small world model, and nothing else.

    Args:
        folder: What save_world_model wrote.
        view: As in load_world_model.
        robot: Likewise.

    Raises:
        UserError: The folder lacks a part, the text encoder cannot be read, or the robot or the
            view is not the one that was trained on.
    """
    holds = read_folder(folder)
    if holds.manifest is not None:
        require_world(holds.path, holds.manifest, World.of(robot, view))
    return settings_of(holds, view), _load_text(holds)


def _load_small(holds: WorldModelFolder, settings: WorldSettings) -> SmallWorldModel:
    folder = holds.path
    try:
        model = SmallWorldModel(
            settings,
            LinearCodec.load(folder / 'codec'),
            _load_text(holds),
            _load_transformer(folder / 'transformer'),
            FlowMatchEulerDiscreteScheduler.from_pretrained(
                folder / 'scheduler', local_files_only=True
            ),
        )
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        raise UserError(f'The world model in {folder} cannot be read: {error}') from error
    _require_history(model, folder)
    wanted = model.transformer.config.text_dim
    if model.text.width != wanted:
        raise UserError(
            f'The text encoder of {folder} gives {model.text.width} features a token, and its '
            f'transformer takes {wanted}: take the one that it was trained with.'
        )
    return model


def _require_history(model: SmallWorldModel, folder: Path) -> None:
    """Refuse a transformer that does not look at the frames before that eva.json names."""
    codec, frames = model.codec.config, model.settings.history
    wanted = (2 + frames // codec.group) * codec.channels + POSITION_CHANNELS
    found = model.transformer.config.in_channels
    if frames % codec.group or found != wanted:
        raise UserError(
            f'{folder / FILE} says that the model takes {frames} frames before the first one, '
            f'which asks for {wanted} channels in multiples of {codec.group} frames, and its '
            f'transformer has {found}: the parts belong to different checkpoints; copy them again.'
        )


def _load_text(holds: WorldModelFolder) -> WordEncoder | TextEncoder:
    if TEXT_ENCODER in holds.parts:
        return TextEncoder.load(holds.path / TEXT_ENCODER)
    return WordEncoder.load(holds.path / TEXT)


def _load_transformer(folder: Path) -> WanTransformer3DModel:
    config = WanTransformer3DModel.load_config(folder, local_files_only=True)
    transformer = WanTransformer3DModel.from_config(config)
    paths = sorted(folder.glob('*.safetensors'))
    if not paths:
        raise UserError(f'{folder} holds no weights (*.safetensors): copy it again.')
    load_weights(transformer, *paths)
    return transformer


def settings_of(folder: WorldModelFolder, view=None) -> WorldSettings:
    """Return the world that a checkpoint dreams of, with the view's size where it says none.

    Raises:
        UserError: eva.json has settings that this version does not know.
    """
    if folder.manifest is None:
        from eva_ros.world_model.wan_checkpoint import native_settings

        about = native_settings(folder)
        if view is not None:
            about |= {'view': view.name, 'view_hash': view_fingerprint(view)}
            about |= {key: getattr(view, key) for key in ('height', 'width', 'rate_hz', 'frames')}
        return WorldSettings(**about)
    given, world = folder.manifest.details.get('settings', {}), folder.manifest.world
    known = {field.name for field in fields(WorldSettings)} - set(vars(world))
    if set(given) - known:
        raise UserError(
            f'{folder.path} has settings that this version does not know '
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


def placement_of(folder: WorldModelFolder) -> Placement | None:
    """Return how eva.json wants the weights to be held; None where it does not say."""
    said = folder.manifest.details.get('placement') if folder.manifest is not None else None
    return None if said is None else Placement.of(said, str(folder.path / FILE))
