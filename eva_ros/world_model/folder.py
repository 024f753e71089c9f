"""What a world-model folder holds, read from JSON and safetensors headers; nothing is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass
import hashlib
import json
import math
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors import SafetensorError

from eva_ros.errors import UserError
from eva_ros.training.manifest import FILE
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import read_manifest

KIND = 'world_model'
SMALL, WAN_21, WAN_22_TI2V, WAN_22_A14B = 'small', 'wan2.1-i2v', 'wan2.2-ti2v', 'wan2.2-a14b'
INDEX = 'model_index.json'
_PICKLES = ('.bin', '.pt', '.pth', '.ckpt', '.pkl', '.pickle')
# Where a small model keeps its own words, and any model the text encoder and its tokenizer.
TEXT, TEXT_ENCODER, TOKENIZER = 'text', 'text_encoder', 'tokenizer'
_SMALL_PARTS = {'transformer': 'WanTransformer3DModel', 'codec': 'LinearCodec'}
_WAN_PARTS = {
    'transformer': 'WanTransformer3DModel',
    'vae': 'AutoencoderKLWan',
    'text_encoder': 'UMT5EncoderModel',
}
_TOKENIZER_FILE = 'tokenizer_config.json'
# Files of a tokenizer that are not enough without its tokens, which have several names.
_NO_TOKENS = {_TOKENIZER_FILE, 'special_tokens_map.json', 'added_tokens.json'}
_SCHEDULER_FILE = 'scheduler_config.json'
_IMAGE_PROCESSOR_FILE = 'preprocessor_config.json'
# Bytes at each end of a file that its fingerprint covers.
_END = 1 << 20
BYTES = {'F64': 8, 'I64': 8, 'F32': 4, 'I32': 4, 'BF16': 2, 'F16': 2, 'F8_E4M3': 1, 'F8_E5M2': 1}


@dataclass(frozen=True)
class Part:
    """One model of the folder.

    Attributes:
        path: Folder of the part.
        class_name: Class that it is loaded as.
        config: Its config.json.
        shapes: Shape of each weight, by name.
        dtypes: Number of weights by their dtype, as safetensors names it.
        bytes: Size of the weights on disk.
    """

    path: Path
    class_name: str
    config: Mapping[str, Any]
    shapes: Mapping[str, tuple[int, ...]]
    dtypes: Mapping[str, int]
    bytes: int

    @property
    def parameters(self) -> int:
        """Return the number of weights."""
        return sum(self.dtypes.values())

    @property
    def dtype(self) -> str:
        """Return the dtype of most weights."""
        return max(self.dtypes, key=lambda dtype: self.dtypes[dtype])


@dataclass(frozen=True)
class WorldModelFolder:
    """A checkpoint as its headers describe it.

    Attributes:
        path: Folder of the checkpoint.
        family: 'small', 'wan2.1-i2v', 'wan2.2-ti2v' or 'wan2.2-a14b'.
        parts: Its models, by name.
        manifest: What eva.json says; None for a plain diffusers folder.
        index: What model_index.json says.
    """

    path: Path
    family: str
    parts: Mapping[str, Part]
    manifest: Manifest | None
    index: Mapping[str, Any]


def read_folder(path: Path) -> WorldModelFolder:
    """Return what a folder holds.

    Raises:
        UserError: It is not a world model, a part is missing, damaged or pickled, or parts do not
            fit each other.
    """
    manifest = read_manifest(path, KIND) if (path / FILE).is_file() else None
    if not (path / INDEX).is_file():
        if manifest is None:
            raise UserError(
                f'{path} does not hold a world model: it has neither {FILE} nor {INDEX}.'
            )
        parts = {name: _read_part(path / name, kind) for name, kind in _SMALL_PARTS.items()}
        if (path / TEXT).is_dir() and not (path / TEXT_ENCODER).is_dir():
            parts[TEXT] = _read_part(path / TEXT, 'WordEncoder')
        else:
            parts[TEXT_ENCODER] = read_text_encoder(path / TEXT_ENCODER)
        _read_json(_required(path / 'scheduler' / _SCHEDULER_FILE))
        return WorldModelFolder(path, SMALL, parts, manifest, {})
    index = _read_json(path / INDEX)
    names = dict(_WAN_PARTS)
    if _is_listed(index, 'transformer_2') or index.get('boundary_ratio') is not None:
        names['transformer_2'] = 'WanTransformer3DModel'
    parts = {name: _read_part(path / name, kind) for name, kind in names.items()}
    if parts['transformer'].config.get('image_dim') is not None:
        parts['image_encoder'] = _read_part(path / 'image_encoder', 'CLIPVisionModel')
        _read_json(_required(path / 'image_processor' / _IMAGE_PROCESSOR_FILE))
    _require_tokenizer(path / TOKENIZER)
    _read_json(_required(path / 'scheduler' / _SCHEDULER_FILE))
    family = _wan_family(path, index, parts)
    _require_channels(parts, family)
    return WorldModelFolder(path, family, parts, manifest, index)


def read_text_encoder(path: Path) -> Part:
    """Return a text encoder of transformers, of any architecture.

    Raises:
        UserError: It is missing, damaged or pickled, or its tokenizer is missing.
    """
    part = _read_part(path, 'text encoder')
    if not (path / _TOKENIZER_FILE).is_file():
        _require_tokenizer(path.parent / TOKENIZER)
    return part


def base_fingerprint(folder: WorldModelFolder) -> str:
    """Return a short hash of the transformers' weights: of both ends of each file."""
    digest = hashlib.sha256()
    for name, part in sorted(folder.parts.items()):
        for path in _weight_files(part.path, name) if 'transformer' in name else ():
            with path.open('rb') as file:
                digest.update(file.read(_END))
                file.seek(max(0, path.stat().st_size - _END))
                digest.update(file.read(_END))
    return digest.hexdigest()[:16]


def _is_listed(index: Mapping[str, Any], name: str) -> bool:
    return bool((index.get(name) or [None])[0])


def _wan_family(path: Path, index: Mapping[str, Any], parts: Mapping[str, Part]) -> str:
    latents = parts['vae'].config.get('z_dim', 16)
    channels = parts['transformer'].config.get('in_channels', 16)
    if index.get('expand_timesteps'):
        return WAN_22_TI2V
    if channels == latents:
        raise UserError(
            f'{path} holds a text-to-video model (its transformer takes {channels} channels): '
            'take an image-to-video checkpoint, which starts from the observed frame.'
        )
    return WAN_22_A14B if 'transformer_2' in parts else WAN_21


def _require_channels(parts: Mapping[str, Part], family: str) -> None:
    """Refuse parts whose widths do not fit each other."""
    vae, text = parts['vae'].config, parts['text_encoder'].config
    latents = vae.get('z_dim', 16)
    mask = vae.get('scale_factor_temporal', 4)
    wanted = {'in_channels': latents if family == WAN_22_TI2V else 2 * latents + mask,
              'out_channels': latents, 'text_dim': text.get('d_model')}  # fmt: skip
    if 'image_encoder' in parts:
        wanted['image_dim'] = parts['image_encoder'].config.get('hidden_size')
    sources = {'text_dim': 'text_encoder', 'image_dim': 'image_encoder'}
    for name in ('transformer', 'transformer_2'):
        if name not in parts:
            continue
        part = parts[name]
        for key, value in wanted.items():
            if part.config.get(key) != value:
                source = sources.get(key, 'vae')
                raise UserError(
                    f'{part.path} has {key} {part.config.get(key)}, but with the {source} of this '
                    f'folder a {family} model needs {value}: the parts belong to different '
                    'checkpoints; copy them again.'
                )
        patch = tuple(part.config.get('patch_size', (1, 2, 2)))
        shape = part.shapes.get('patch_embedding.weight', ())
        if shape[1:] != (part.config['in_channels'], *patch):
            raise UserError(
                f"{part.path}: the weight 'patch_embedding.weight' has the shape {list(shape)}, "
                f'which is not for the {part.config["in_channels"]} channels of its config.json: '
                'copy the part again.'
            )


def _read_part(path: Path, kind: str) -> Part:
    """Return a part from its config and the headers of its weights."""
    if not path.is_dir():
        raise UserError(f'{path.parent} lacks {path.name}/ ({kind}): copy it again, whole.')
    files = _weight_files(path, kind)
    config_file = path / ('words.json' if kind == 'WordEncoder' else 'config.json')
    config = _read_json(config_file)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, int] = {}
    size = 0
    for file in files:
        for name, (shape, dtype) in _header(file).items():
            shapes[name] = shape
            count = math.prod(shape)
            dtypes[dtype] = dtypes.get(dtype, 0) + count
            size += count * BYTES.get(dtype, 4)
    found = config.get('_class_name') or (config.get('architectures') or [kind])[0]
    if kind in ('WanTransformer3DModel', 'AutoencoderKLWan', 'UMT5EncoderModel') and found != kind:
        raise UserError(f'{path} holds a {found}, not a {kind}: it is another kind of model.')
    return Part(path, found, config, shapes, dtypes or {'F32': 0}, size)


def _weight_files(path: Path, kind: str) -> list[Path]:
    """Return the safetensors files of a part: those of its index, or its only one."""
    pickles = sorted(p.name for p in path.iterdir() if p.suffix in _PICKLES)
    for index in sorted(path.glob('*.safetensors.index.json')):
        names = sorted(set(_read_json(index).get('weight_map', {}).values()))
        for name in names:
            if not (path / name).is_file():
                raise UserError(f'{path} lacks {name}, which its index names: copy it again.')
        return [path / name for name in names]
    files = sorted(path.glob('*.safetensors'))
    if not files and pickles:
        raise UserError(
            f'{path} holds pickled weights ({pickles[0]}), which can run code when they are '
            'loaded: convert them to safetensors, or take a checkpoint that has them.'
        )
    if not files:
        raise UserError(f'{path} holds no weights (*.safetensors) of a {kind}: copy it again.')
    return files


def _header(file: Path) -> dict[str, tuple[tuple[int, ...], str]]:
    try:
        with safe_open(file, 'pt') as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118
            return {n: (tuple(s.get_shape()), s.get_dtype()) for n, s in slices.items()}
    except (OSError, SafetensorError) as error:
        raise UserError(
            f'{file} cannot be read as safetensors ({error}): copy it again; a pickle under this '
            'name is not loaded.'
        ) from error


def _require_tokenizer(path: Path) -> None:
    """Refuse a tokenizer whose configuration is missing or damaged, or that has no tokens."""
    _read_json(_required(path / _TOKENIZER_FILE))
    if {file.name for file in path.iterdir()} <= _NO_TOKENS:
        _required(path / 'tokenizer.json')


def _required(path: Path) -> Path:
    """Return the path of a file of a part, which must be there."""
    if not path.is_file():
        raise UserError(
            f'{path.parent.parent} lacks {path.parent.name}/{path.name}: copy it again.'
        )
    return path


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except FileNotFoundError as error:
        raise UserError(f'{path} does not exist: copy the checkpoint again.') from error
    except (OSError, ValueError) as error:
        raise UserError(f'{path} cannot be read ({error}): copy it again.') from error
    if not isinstance(found, dict):
        raise UserError(f'{path} cannot be read (it is not a JSON object): copy it again.')
    return found
