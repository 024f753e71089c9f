"""Image backbones of transformers as the eyes of the inverse dynamics model.

Any class that `AutoBackbone` knows can be used, read from a local folder with safetensors. The
hub is never asked: `AutoBackbone.from_pretrained` asks it even for a folder, so the class that it
would choose is called directly.
"""

from dataclasses import dataclass
import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
import torch
from torch import nn
from torch import Tensor
from torch.nn import functional

from eva_ros.errors import UserError
from eva_ros.idm.towers import Conv

_COLOURS = 3
# Largest stride of the feature maps, in pixels of the camera image. Images are upsampled for
# backbones with larger patches.
_STRIDE = 8
# Used where preprocessor_config.json does not say (ImageNet's).
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Parts of a backbone class that a checkpoint of the plain model does not have; they start neutral.
_OPTIONAL = 'hidden_states_norms'

Size = tuple[int, int]


@dataclass(frozen=True)
class Pretrained:
    """A backbone that was read from a folder.

    Attributes:
        spec: How to build it: IdmConfig.backbone.
        weights: Its weights, for one frame of three colours.
        fingerprint: Start of the SHA-256 of the weights.
    """

    spec: dict[str, Any]
    weights: dict[str, Tensor]
    fingerprint: str


class Backbone(nn.Module):
    """Feature maps of pictures by an image backbone.

    Statistics and dropout stay as in inference, also while it is fine-tuned: the batches are
    small, and clips of one episode are alike.
    """

    def __init__(self, spec: dict[str, Any], frames: int) -> None:
        """Build it with random weights.

        Args:
            spec: `Pretrained.spec`.
            frames: Number of frames that are stacked into one picture.
        """
        super().__init__()
        self.net = _build(spec['config'], _COLOURS * frames).eval()
        self._stride = int(spec['stride'])
        for name in ('mean', 'std'):
            values = torch.tensor(spec[name]).repeat(frames)[:, None, None]
            self.register_buffer(name, values, persistent=False)

    def train(self, mode: bool = True) -> 'Backbone':
        """Set the mode of everything but the network."""
        super().train(mode)
        self.net.eval()
        return self

    def forward(self, pictures: Tensor) -> tuple[Tensor, ...]:
        """Map pictures [N, 3 * frames, h, w] in -1..1 to feature maps, finest first."""
        seen = ((pictures + 1) / 2 - self.mean) / self.std
        if self._stride > _STRIDE:
            size = tuple(max(1, round(n / _STRIDE)) * self._stride for n in pictures.shape[-2:])
            seen = functional.interpolate(seen, size=size, mode='bilinear', antialias=True)
        return tuple(self.net(seen).feature_maps)

    def map_shapes(self, size: Size) -> list[tuple[int, ...]]:
        """Return the shapes [C, h, w] of the feature maps of a picture of a size.

        Raises:
            UserError: The backbone does not take such pictures.
        """
        picture = torch.zeros(1, self.mean.shape[0], *size)
        try:
            with torch.no_grad():
                return [tuple(found.shape[1:]) for found in self(picture)]
        except (ValueError, RuntimeError, IndexError) as error:
            raise UserError(
                f'The backbone {self.net.config.model_type} does not take pictures of '
                f'{size[0]}x{size[1]} pixels ({error}): use another, or a larger view.'
            ) from error

    def load(self, weights: dict[str, Tensor]) -> None:
        """Load weights made for one frame; the first layer is widened for stacked frames.

        Each of the frames gets an equal share, so that frames that are all alike give the same
        features as one of them did.
        """
        own = self.net.state_dict()
        self.net.load_state_dict({name: _widened(weights[name], own[name]) for name in own})


def _widened(weight: Tensor, like: Tensor) -> Tensor:
    if weight.shape == like.shape:
        return weight
    times = like.shape[1] // weight.shape[1]
    return weight.repeat(1, times, *[1] * (weight.ndim - 2)) / times


class BackboneTower(nn.Module):
    """Joins the feature maps of a backbone at the resolution of the finest."""

    def __init__(self, shapes: list[tuple[int, ...]], channels: int) -> None:
        """Build it for feature maps [C, h, w], finest first."""
        super().__init__()
        self.size: Size = (shapes[0][1], shapes[0][2])
        self.joins = nn.ModuleList([Conv(shape[0], channels, 1) for shape in shapes])

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Map feature maps [N, C, h, w] to features [N, channels, h, w] of the finest size."""
        joined = [join(found) for join, found in zip(self.joins, maps, strict=True)]
        finest, *coarser = joined
        for other in coarser:
            finest = finest + functional.interpolate(other, size=finest.shape[-2:], mode='nearest')
        return functional.relu(finest)


def read_backbone(folder: Path) -> Pretrained:
    """Return the backbone in a folder.

    Args:
        folder: Holds config.json, safetensors and, as a rule, preprocessor_config.json.

    Raises:
        UserError: The folder does not exist, holds no safetensors, or transformers has no
            backbone class for this architecture.
    """
    if not (folder / 'config.json').is_file():
        raise UserError(f'{folder} holds no backbone: it has no config.json.')
    if not list(folder.glob('*.safetensors')):
        raise UserError(
            f'{folder} has no safetensors: save the backbone again with '
            '`model.save_pretrained(FOLDER, safe_serialization=True)`; pickles are not read.'
        )
    content = _read_json(folder / 'config.json')
    config = _config({**content, 'model_type': content.get('model_type', '')}, str(folder))
    config.out_features = list(config.stage_names)
    net = _pretrained(folder, config)
    size = config.image_size if isinstance(getattr(config, 'image_size', None), int) else 224
    with torch.no_grad():
        maps = net(torch.zeros(1, _COLOURS, size, size)).feature_maps
    # The last stage of each resolution: earlier ones see less.
    last = {found.shape[-1]: name for name, found in zip(config.stage_names, maps, strict=True)}
    chosen = [name for name in config.stage_names if name in last.values()]
    shown = _read_json(folder / 'preprocessor_config.json')
    described = json.loads(json.dumps(config.to_diff_dict() | {'out_features': chosen}))
    held = net.state_dict()
    weights = {name: held[name].contiguous() for name in _build(described, _COLOURS).state_dict()}
    spec = {
        'config': described,
        'stride': size // max(found.shape[-1] for found in maps),
        'mean': list(shown.get('image_mean') or _MEAN),
        'std': list(shown.get('image_std') or _STD),
    }
    return Pretrained(spec, weights, _fingerprint(weights))


def _pretrained(folder: Path, config: Any) -> nn.Module:
    """Return the backbone with its weights."""
    from transformers import MODEL_FOR_BACKBONE_MAPPING

    made = MODEL_FOR_BACKBONE_MAPPING[type(config)]
    try:
        net, info = made.from_pretrained(
            folder,
            config=config,
            local_files_only=True,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, SafetensorError) as error:
        reason = ' '.join(str(error).split())[:200]
        raise UserError(f'{folder} cannot be read as a backbone ({reason}).') from error
    missing = sorted(name for name in info['missing_keys'] if _OPTIONAL not in name)
    if missing:
        raise UserError(
            f"{folder} lacks weights of its backbone ('{missing[0]}', {len(missing)} in all): "
            'copy it again.'
        )
    return net


def _build(content: dict[str, Any], channels: int) -> nn.Module:
    from transformers import MODEL_FOR_BACKBONE_MAPPING

    config = _config({**content, 'num_channels': channels}, 'The checkpoint')
    return MODEL_FOR_BACKBONE_MAPPING[type(config)](config)


def _config(content: dict[str, Any], where: str) -> Any:
    """Return a configuration; code in the folder is never run, and no hub is asked."""
    from transformers import AutoConfig
    from transformers import MODEL_FOR_BACKBONE_MAPPING

    kind = content['model_type']
    given = {k: v for k, v in content.items() if k not in ('model_type', 'out_indices')}
    try:
        config = AutoConfig.for_model(kind, **given)
        known = type(config) in MODEL_FOR_BACKBONE_MAPPING and kind != 'timm_backbone'
    except (ValueError, TypeError, KeyError) as error:
        reason = ' '.join(str(error).split())[:120]
        raise UserError(f'{where} describes no backbone ({reason}).') from error
    if not known:
        raise UserError(
            f"{where} is a '{kind}', of which transformers' AutoBackbone makes no backbone: use "
            'for example a resnet, dinov2, dinov3_vit or convnext.'
        )
    return config


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error}): copy it again.') from error
    return content if isinstance(content, dict) else {}


def _fingerprint(weights: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(weights):
        digest.update(name.encode() + weights[name].numpy().tobytes())
    return digest.hexdigest()[:16]
