"""A linear video codec: principal components of pixel blocks, in the layout of Wan's latents.

The first frame is coded alone, every following group of four frames as its *change* from the
first frame, in blocks of 8x8 pixels. Both maps are orthonormal projections, so that a latent of
zero means "nothing has moved", decoding costs one matrix product, and gradients are exact.
"""

from collections.abc import Iterable
from dataclasses import asdict
from dataclasses import dataclass
import json
from pathlib import Path

from safetensors.torch import save_file
import torch
from torch import nn
from torch import Tensor

from eva_ros.errors import UserError
from eva_ros.training.weights import load_weights


@dataclass(frozen=True)
class CodecConfig:
    """Sizes of the codec: pixels of a block, frames of a group, channels of a latent."""

    height: int
    width: int
    block: int = 8
    group: int = 4
    channels: int = 96

    @property
    def grid(self) -> tuple[int, int]:
        """Return latent rows and columns."""
        return self.height // self.block, self.width // self.block


class LinearCodec(nn.Module):
    """Views [B, T, 3, H, W] in 0..1 to latents [B, C, 1 + (T-1)/group, h, w] and back."""

    def __init__(self, config: CodecConfig):
        """Create a codec that still has to be fitted or loaded."""
        super().__init__()
        self.config = config
        pixels = 3 * config.block**2
        self.register_buffer('frame_basis', torch.zeros(config.channels, pixels))
        self.register_buffer('frame_mean', torch.zeros(pixels))
        self.register_buffer('change_basis', torch.zeros(config.channels, config.group * pixels))
        self.register_buffer('frame_scale', torch.ones(()))
        self.register_buffer('change_scale', torch.ones(()))

    def encode_first(self, frames: Tensor) -> Tensor:
        """Return the latent [B, C, 1, h, w] of single frames [B, 3, H, W]."""
        blocks = self._blocks(frames[:, None])[:, 0] - self.frame_mean
        latent = blocks @ self.frame_basis.T / self.frame_scale
        return latent.permute(0, 3, 1, 2).unsqueeze(2)

    def encode_changes(self, frames: Tensor) -> Tensor:
        """Return the latents [B, C, (T-1)/group, h, w] of the frames [B, T, 3, H, W] after 0."""
        change = frames[:, 1:] - frames[:, :1]
        groups = change.unflatten(1, (-1, self.config.group))
        blocks = torch.stack([self._blocks(g) for g in groups.unbind(2)], 2)
        latent = blocks.permute(0, 1, 3, 4, 2, 5).flatten(4) @ self.change_basis.T
        return latent.permute(0, 4, 1, 2, 3) / self.change_scale

    def decode(self, changes: Tensor, first: Tensor) -> Tensor:
        """Return frames [B, T, 3, H, W] (not clamped) from change latents and the first frame.

        Args:
            changes: latents of the groups [B, C, G, h, w].
            first: the observed frame [B, 3, H, W] in 0..1, kept as it is.
        """
        config = self.config
        flat = changes.permute(0, 2, 3, 4, 1) * self.change_scale @ self.change_basis
        size = config.block
        blocks = flat.unflatten(-1, (config.group, 3, size, size))
        change = blocks.permute(0, 1, 4, 5, 2, 6, 3, 7)
        frames = change.flatten(6, 7).flatten(4, 5).flatten(1, 2) + first[:, None]
        return torch.cat((first[:, None], frames), 1)

    def _blocks(self, frames: Tensor) -> Tensor:
        """Cut frames [B, N, 3, H, W] into blocks [B, N, h, w, 3 * block**2]."""
        size = self.config.block
        tiles = frames.unflatten(4, (-1, size)).unflatten(3, (-1, size))
        return tiles.permute(0, 1, 3, 5, 2, 4, 6).flatten(4)

    @torch.no_grad()
    def fit(self, clips: Iterable[Tensor]) -> 'LinearCodec':
        """Fit both bases to clips [B, T, 3, H, W]; changes around zero, not their mean.

        The scales make the root mean square of the 16 strongest channels one where
        something moves, so that unit noise hides the picture and nothing else.
        """
        config = self.config
        pixels = 3 * config.block**2
        frame_moment = torch.zeros(pixels, pixels, dtype=torch.float64)
        frame_sum = torch.zeros(pixels, dtype=torch.float64)
        change_moment = torch.zeros(config.group * pixels, config.group * pixels).double()
        frame_count = change_count = 0
        for clip in clips:
            flat = self._blocks(clip[:, :1]).flatten(0, 3).double()
            frame_moment += flat.T @ flat
            frame_sum += flat.sum(0)
            frame_count += len(flat)
            change = (clip[:, 1:] - clip[:, :1]).unflatten(1, (-1, config.group))
            blocks = torch.stack([self._blocks(g) for g in change.unbind(2)], 2)
            rows = blocks.permute(0, 1, 3, 4, 2, 5).flatten(4).flatten(0, 3)
            rows = rows[rows.abs().amax(1) > 0.05].double()
            change_moment += rows.T @ rows
            change_count += len(rows)
        if frame_count == 0 or change_count == 0:
            raise UserError('The codec cannot be fitted: nothing moves in the given clips.')
        mean = frame_sum / frame_count
        covariance = frame_moment / frame_count - mean[:, None] * mean[None]
        frame_values, frame_basis = _principal(covariance, config.channels)
        self.frame_basis[: len(frame_basis)] = frame_basis
        self.frame_mean[:] = mean
        values, change_basis = _principal(change_moment / change_count, config.channels)
        self.change_basis[: len(change_basis)] = change_basis
        self.frame_scale.fill_(float(frame_values[:16].mean()) ** 0.5)
        self.change_scale.fill_(float(values[:16].mean()) ** 0.5)
        return self

    def save(self, folder: Path) -> None:
        """Write config.json and codec.safetensors into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / 'config.json').write_text(json.dumps(asdict(self.config), indent=2) + '\n')
        save_file(
            {k: v.contiguous() for k, v in self.state_dict().items()}, folder / 'codec.safetensors'
        )

    @classmethod
    def load(cls, folder: Path) -> 'LinearCodec':
        """Read a codec back from the folder that save wrote."""
        config = CodecConfig(**json.loads((folder / 'config.json').read_text()))
        codec = cls(config)
        load_weights(codec, folder / 'codec.safetensors')
        return codec


def _principal(moment: Tensor, count: int) -> tuple[Tensor, Tensor]:
    values, vectors = torch.linalg.eigh(moment)
    order = values.argsort(descending=True)[:count]
    return values[order], vectors[:, order].T.to(torch.float32)
