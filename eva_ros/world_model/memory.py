"""How much memory a world model needs, computed from headers and sizes before it is loaded.

Weights are counted exactly. Activations are estimated: a few copies of the tokens of one block
and of the decoder's widest layer, as eager PyTorch keeps them with fused attention.
"""

from collections.abc import Iterator
from dataclasses import asdict
from dataclasses import dataclass
from dataclasses import fields
import math
from typing import Any

import psutil
import torch

from eva_ros.errors import UserError
from eva_ros.world_model.folder import BYTES
from eva_ros.world_model.folder import Part
from eva_ros.world_model.folder import SMALL
from eva_ros.world_model.folder import WAN_22_TI2V
from eva_ros.world_model.folder import WorldModelFolder
from eva_ros.world_model.rollout import WorldSettings

LORA_RANK = 16
# Bytes of a trained weight: itself, its gradient, two moments of AdamW and the average, float32.
_TRAINED = 20
_CLIPS_OF_A_SMALL_STEP = 8
_TILE = 256
_GIB = 1024**3


@dataclass(frozen=True)
class Placement:
    """Where and how the weights are held (`placement` in eva.json).

    Attributes:
        dtype: 'float32' or 'bfloat16' for transformers and text encoder; 'auto' is bfloat16 on a
            GPU, and as stored on a CPU. The VAE stays in float32.
        tiling: Whether frames larger than 256 pixels go through the VAE in tiles.
        offload: Whether the parts rest in CPU memory and visit the GPU one at a time.
        layerwise_casting: Whether the transformers' weights rest in float8 and are cast for each
            layer.
    """

    dtype: str = 'auto'
    tiling: bool = False
    offload: bool = False
    layerwise_casting: bool = False

    @classmethod
    def of(cls, said: dict[str, Any], where: str) -> 'Placement':
        """Return what eva.json says.

        Raises:
            UserError: It has a key or a value that is not known.
        """
        unknown = set(said) - {field.name for field in fields(cls)}
        if unknown:
            raise UserError(
                f'{where} has a placement that this version does not know '
                f'({", ".join(sorted(unknown))}): use {", ".join(f.name for f in fields(cls))}.'
            )
        if said.get('dtype', 'auto') not in ('auto', 'float32', 'bfloat16'):
            raise UserError(f'{where}: dtype is {said["dtype"]!r}: use auto, float32 or bfloat16.')
        for key in set(said) - {'dtype'}:
            if not isinstance(said[key], bool):
                raise UserError(f'{where}: {key} is {said[key]!r}: use true or false.')
        return cls(**said)

    @property
    def described(self) -> str:
        """Return what is switched on, for a sentence."""
        on = [name for name, value in asdict(self).items() if value is True]
        return f' with {" and ".join(name.replace("_", "-") for name in on)}' if on else ''


def compute_dtype(part: Part, placement: Placement) -> torch.dtype:
    """Return the dtype that a part other than the VAE is loaded in."""
    if placement.dtype != 'auto':
        return torch.bfloat16 if placement.dtype == 'bfloat16' else torch.float32
    if torch.cuda.is_available():
        return torch.bfloat16
    return {'BF16': torch.bfloat16, 'F16': torch.bfloat16}.get(part.dtype, torch.float32)


def available_bytes() -> int:
    """Return the free memory of the GPU if there is one, else of this machine."""
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    return psutil.virtual_memory().available


def dream_size(folder: WorldModelFolder, settings: WorldSettings) -> tuple[int, int, int]:
    """Return the frames, height and width that a dream takes memory for.

    Wan models hold the frames before the first as tokens, the small one as channels.
    """
    before = 0 if folder.family == SMALL else settings.history
    return settings.frames + before, settings.height, settings.width


def needed_bytes(
    folder: WorldModelFolder, frames: int, height: int, width: int, placement: Placement
) -> dict[str, int]:
    """Return bytes for inference of one dream, LoRA training of one clip, and full training.

    Args:
        folder: What is loaded.
        frames: Frames of a dream.
        height: Height of the view, pixels.
        width: Width of the view, pixels.
        placement: How the weights are held.
    """
    weights = {name: _held(folder, name, placement) for name in folder.parts}
    trained = sum(p.parameters for name, p in folder.parts.items() if 'transformer' in name)
    resident = sum(weights.values())
    if placement.offload:
        resident = max(weights.values()) + weights['vae']
    frozen = sum(size for name, size in weights.items() if 'transformer' not in name)
    block, kept = _block_bytes(folder, frames, height, width)
    video = frames * height * width * 3 * 4 * 2
    dream = max(block, _decoder_bytes(folder, height, width, placement)) + video
    clips = _CLIPS_OF_A_SMALL_STEP if folder.family == SMALL else 1
    # A step keeps every block's input and, of one block, what its backward pass needs; the small
    # model, which is not checkpointed, keeps that of all blocks.
    step = clips * (kept * block * 3 if folder.family == SMALL else kept + 3 * block)
    work = max(step, _decoder_bytes(folder, height, width, placement)) + video
    return {
        'inference': resident + dream,
        'lora': sum(weights.values()) + _adapter_weights(folder) * _TRAINED + work,
        'full': frozen + trained * _TRAINED + work,
    }


def choose_placement(
    folder: WorldModelFolder, frames: int, height: int, width: int, given: Placement | None
) -> Placement:
    """Return how to hold the weights: as given, or the first way that fits.

    Raises:
        UserError: Nothing fits into the memory of this machine.
    """
    free = available_bytes()
    ways = [given] if given is not None else list(_ways())
    for way in ways:
        needed = needed_bytes(folder, frames, height, width, way)['inference']
        if needed <= free:
            return way
    raise UserError(
        f'{folder.path} needs {needed / _GIB:.1f} GiB of memory for a dream of {frames} frames of '
        f'{height}x{width}{way.described}, and {free / _GIB:.1f} GiB are free: use a machine with '
        'more memory, a smaller view, or a smaller model.'
    )


def _ways() -> Iterator[Placement]:
    yield Placement()
    yield Placement(tiling=True)
    if torch.cuda.is_available():
        yield Placement(tiling=True, offload=True)
        yield Placement(tiling=True, offload=True, layerwise_casting=True)


def _held(folder: WorldModelFolder, name: str, placement: Placement) -> int:
    """Return the bytes of a part's weights as they rest in memory."""
    part = folder.parts[name]
    if folder.family == SMALL or name == 'vae':
        return part.parameters * 4
    if placement.layerwise_casting and 'transformer' in name:
        return part.parameters * BYTES['F8_E4M3']
    return part.parameters * compute_dtype(part, placement).itemsize


def _block_bytes(
    folder: WorldModelFolder, frames: int, height: int, width: int
) -> tuple[int, int]:
    """Return bytes of one block's activations, and of all blocks' inputs (small: their count)."""
    config = folder.parts['transformer'].config
    _, rows, columns = config.get('patch_size', (1, 2, 2))
    size = folder.parts['vae'].config.get('scale_factor_spatial', 8) if _is_wan(folder) else 8
    latents = (frames - 1) // 4 + 1
    tokens = latents * math.ceil(height / (size * rows)) * math.ceil(width / (size * columns))
    features = config['num_attention_heads'] * config['attention_head_dim']
    each = 10 * features * 4 + 2 * config['ffn_dim'] * 2
    if folder.family == WAN_22_TI2V:
        each += 12 * features * 4  # its modulation, which others have once for all tokens
    layers = config['num_layers']
    return tokens * each, layers if not _is_wan(folder) else layers * tokens * features * 2


def _decoder_bytes(folder: WorldModelFolder, height: int, width: int, placement: Placement) -> int:
    """Return bytes of the VAE's widest layer, four frames at a time."""
    if not _is_wan(folder):
        return 0
    config = folder.parts['vae'].config
    if placement.tiling:
        height, width = min(height, _TILE), min(width, _TILE)
    patch = config.get('patch_size') or 1
    features = config.get('decoder_base_dim') or config.get('base_dim', 96)
    return 4 * (height // patch) * (width // patch) * features * 4 * 12


def _adapter_weights(folder: WorldModelFolder) -> int:
    """Return the weights of an adapter of the attention and feed-forward layers."""
    count = 0
    for name, part in folder.parts.items():
        if 'transformer' not in name:
            continue
        for weight, shape in part.shapes.items():
            if weight.startswith('blocks.') and weight.endswith('.weight') and len(shape) == 2:
                count += LORA_RANK * sum(shape)
    return count


def _is_wan(folder: WorldModelFolder) -> bool:
    return folder.family != SMALL
