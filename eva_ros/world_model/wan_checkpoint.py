"""Loads Wan checkpoints from a local folder in the diffusers layout; safetensors only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accelerate import cpu_offload_with_hook
from accelerate import init_empty_weights
from diffusers import AutoencoderKLWan
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers import UniPCMultistepScheduler
from diffusers import WanTransformer3DModel
import torch
from torch import nn
from transformers import AutoTokenizer
from transformers import CLIPImageProcessorPil
from transformers import CLIPVisionModel
from transformers import UMT5EncoderModel

from eva_ros.errors import UserError
from eva_ros.training.finite import require_finite
from eva_ros.training.weights import require_fit
from eva_ros.world_model.folder import Part
from eva_ros.world_model.folder import WAN_21
from eva_ros.world_model.folder import WAN_22_A14B
from eva_ros.world_model.folder import WAN_22_TI2V
from eva_ros.world_model.folder import WorldModelFolder
from eva_ros.world_model.memory import choose_placement
from eva_ros.world_model.memory import compute_dtype
from eva_ros.world_model.memory import dream_size
from eva_ros.world_model.memory import Placement
from eva_ros.world_model.rollout import WorldSettings
from eva_ros.world_model.sampler import Scheduler
from eva_ros.world_model.wan import require_frames
from eva_ros.world_model.wan import require_history
from eva_ros.world_model.wan import require_size
from eva_ros.world_model.wan import WanWorldModel

# What the published checkpoints were trained for, where neither a view nor eva.json says better.
_NATIVE: dict[str, dict[str, Any]] = {
    WAN_21: {'height': 480, 'width': 832, 'frames': 81, 'rate_hz': 16.0, 'guidance_scale': 5.0},
    WAN_22_TI2V: {
        'height': 704,
        'width': 1280,
        'frames': 121,
        'rate_hz': 24.0,
        'guidance_scale': 5.0,
    },
    WAN_22_A14B: {
        'height': 480,
        'width': 832,
        'frames': 81,
        'rate_hz': 16.0,
        'guidance_scale': 3.5,
    },
}
NATIVE_STEPS = 40
_SMALLEST = (1, 32, 32)
_CLASSES: dict[str, Any] = {
    'transformer': WanTransformer3DModel,
    'transformer_2': WanTransformer3DModel,
    'vae': AutoencoderKLWan,
    'text_encoder': UMT5EncoderModel,
    'image_encoder': CLIPVisionModel,
}
# In the order in which parts on the GPU make room for each other; the VAE stays for the decoding.
_ORDER = ('text_encoder', 'image_encoder', 'transformer', 'transformer_2', 'vae')


def native_settings(folder: WorldModelFolder) -> dict[str, Any]:
    """Return the WorldSettings of a plain diffusers folder that do not come from a view."""
    about = {'steps': NATIVE_STEPS, 'sampler': 'unipc', **_NATIVE[folder.family]}
    return {'name': folder.path.resolve().name, 'robot': '', 'view': '', **about}


def require_view(folder: WorldModelFolder, settings: WorldSettings) -> None:
    """Refuse a view that the model's tokens cannot cover.

    Raises:
        UserError: Says which number of pixels or frames is nearest.
    """
    name, vae = f'The world model {settings.name}', folder.parts['vae'].config
    require_frames(name, settings.frames, vae['scale_factor_temporal'])
    require_history(name, settings.history, vae['scale_factor_temporal'])
    require_size(name, vae, folder.parts['transformer'].config, settings.height, settings.width)


def load_wan(
    folder: WorldModelFolder, settings: WorldSettings, placement: Placement | None
) -> WanWorldModel:
    """Load a Wan checkpoint for inference, on the GPU if there is one.

    Args:
        folder: What the headers say.
        settings: World that it shall dream of.
        placement: How the weights are held; None takes the first way that fits.

    Raises:
        UserError: It does not fit into memory, a weight is missing, foreign or not finite, or a
            file is damaged.
    """
    require_view(folder, settings)
    # Without a view the frames may have any size: then only the weights count.
    size = dream_size(folder, settings) if settings.view else _SMALLEST
    placement = choose_placement(folder, *size, placement)
    for name in ('transformer', 'transformer_2', 'vae'):
        if name in folder.parts:
            _require_weights(folder.parts[name], _CLASSES[name])
    path = folder.path
    try:
        parts = {n: _load_part(n, folder.parts[n], placement) for n in _ORDER if n in folder.parts}
        model = WanWorldModel(
            settings,
            folder.family,
            parts,
            AutoTokenizer.from_pretrained(path / 'tokenizer', local_files_only=True),
            _load_scheduler(path / 'scheduler'),
            image_processor=_load_image_processor(folder),
            boundary=folder.index.get('boundary_ratio'),
        )
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else repr(error)
        raise UserError(f'The world model in {path} cannot be read: {reason}') from error
    _place(model.eval().requires_grad_(requires_grad=False), parts, placement)
    return model


def _require_weights(part: Part, kind: Any) -> None:
    """Compare the weights' names and shapes with those of the class, before they are loaded."""
    with init_empty_weights():
        module = kind.from_config(kind.load_config(part.path, local_files_only=True))
    wanted = {name: tuple(weight.shape) for name, weight in module.state_dict().items()}
    ignored = getattr(kind, '_keys_to_ignore_on_load_unexpected', None) or []
    found = {
        name: torch.empty(shape, device='meta')
        for name, shape in part.shapes.items()
        if not any(word in name for word in ignored)
    }
    require_fit(part.path, found, wanted)


def _load_part(name: str, part: Part, placement: Placement) -> nn.Module:
    dtype = torch.float32 if name == 'vae' else compute_dtype(part, placement)
    kind = _CLASSES[name]
    word = 'torch_dtype' if 'diffusers' in kind.__module__ else 'dtype'
    module, about = kind.from_pretrained(
        part.path,
        local_files_only=True,
        use_safetensors=True,
        output_loading_info=True,
        **{word: dtype},
    )
    missing = sorted(about['missing_keys'])
    if missing:
        raise UserError(
            f"{part.path} lacks weights ('{missing[0]}', {len(missing)} in all): it belongs to "
            'another model, or is not whole: copy it again.'
        )
    require_finite(module.state_dict(), str(part.path), 'copy it again')
    return module


def _load_scheduler(path: Path) -> Scheduler:
    config, _ = FlowMatchEulerDiscreteScheduler.load_config(
        path, return_unused_kwargs=True, local_files_only=True
    )
    kinds = {
        kind.__name__: kind for kind in (FlowMatchEulerDiscreteScheduler, UniPCMultistepScheduler)
    }
    name = config.get('_class_name', '')
    if name not in kinds or (name.startswith('UniPC') and not config.get('use_flow_sigmas')):
        raise UserError(
            f'{path} holds a {name or "scheduler without a name"} that is not a flow-matching '
            f'scheduler of {" or ".join(kinds)}: copy the scheduler of the checkpoint again.'
        )
    return kinds[name].from_config(config)


def _load_image_processor(folder: WorldModelFolder):
    if 'image_encoder' not in folder.parts:
        return None
    return CLIPImageProcessorPil.from_pretrained(
        folder.path / 'image_processor', local_files_only=True
    )


def _place(model: WanWorldModel, parts: Mapping[str, nn.Module], placement: Placement) -> None:
    """Put the parts where they work, as the placement says."""
    if placement.tiling:
        model.vae.enable_tiling()
    if placement.layerwise_casting:
        for name in ('transformer', 'transformer_2'):
            if name in parts:
                parts[name].enable_layerwise_casting(
                    storage_dtype=torch.float8_e4m3fn, compute_dtype=parts[name].dtype
                )
    device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
    if not placement.offload:
        model.to(device)
        return
    model.execution_device, hook = device, None
    model.latents_mean, model.latents_scale = (
        part.to(device) for part in (model.latents_mean, model.latents_scale)
    )
    for name in _ORDER:
        if name in parts:
            _, hook = cpu_offload_with_hook(parts[name], device, prev_module_hook=hook)
