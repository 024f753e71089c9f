"""What may happen to a frame without the joints changing: light, blur, noise, ghosts.

Only light changes: a moved or turned picture would show other joints. Draws come from torch's
global generator, which the trainer seeds at every step.
"""

from collections.abc import Callable
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

# A function over clips [B, T, 3, H, W], 0 to 1, that leaves the joints what they are.
Corruption = Callable[[Tensor], Tensor]

LUMA = (0.299, 0.587, 0.114)


def jitter_colours(clips: Tensor) -> Tensor:
    """Change brightness, contrast and the balance of colours of each clip a little."""
    one = (len(clips), 1, 1, 1, 1)
    gain = 1 + 0.15 * (2 * torch.rand(one) - 1)
    tint = 1 + 0.06 * (2 * torch.rand(len(clips), 1, 3, 1, 1) - 1)
    offset = 0.06 * (2 * torch.rand(one) - 1)
    return (clips * (gain * tint).to(clips) + offset.to(clips)).clamp(0, 1)


def add_noise(clips: Tensor, scale: float = 0.02) -> Tensor:
    """Add pixel noise of a strength up to `scale`, drawn for each clip."""
    strength = scale * torch.rand(len(clips), 1, 1, 1, 1)
    noise = torch.randn(clips.shape, device=clips.device, dtype=clips.dtype)
    return clips + strength.to(clips) * noise


def blur(clips: Tensor, largest: float = 1.2) -> Tensor:
    """Blur each clip by a Gaussian of up to `largest` pixels."""
    return gaussian_blur(clips, torch.rand(len(clips)).clamp_min(0.05) * largest, radius=3)


def gaussian_blur(clips: Tensor, sigma: Tensor, radius: int) -> Tensor:
    """Blur clips [B, T, 3, H, W] by Gaussians of sigma [B], cut off at the radius, pixels."""
    taps = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (taps / sigma[:, None]).square())
    kernels = (kernels / kernels.sum(1, keepdim=True)).to(clips)
    count, steps, channels, height, width = clips.shape
    one = clips.permute(1, 2, 0, 3, 4).reshape(steps * channels, count, height, width)
    one = functional.pad(one, (radius, radius, radius, radius), mode='replicate')
    one = functional.conv2d(one, kernels[:, None, None, :], groups=count)
    one = functional.conv2d(one, kernels[:, None, :, None], groups=count)
    return one.unflatten(0, (steps, channels)).permute(2, 0, 1, 3, 4)


def blend_neighbours(clips: Tensor, most: float = 0.5) -> Tensor:
    """Blend every frame with both neighbours, as a dream that is unsure of the moment does."""
    weight = (most * torch.rand(len(clips), 1, 1, 1, 1)).to(clips)
    before = torch.cat([clips[:, :1], clips[:, :-1]], 1)
    after = torch.cat([clips[:, 1:], clips[:, -1:]], 1)
    return (1 - weight) * clips + weight * (before + after) / 2


def blend_strangers(clips: Tensor, most: float = 0.25) -> Tensor:
    """Let another clip shine through, as a dream between two outcomes does."""
    weight = (most * torch.rand(len(clips), 1, 1, 1, 1)).to(clips)
    return (1 - weight) * clips + weight * clips.roll(1, 0)


BUILT_IN: tuple[Corruption, ...] = (blur, blend_neighbours, blend_strangers)


def augment(clips: Tensor, corruptions: Sequence[Corruption], share: float) -> Tensor:
    """Return clips as a dream might show them.

    All get other light and noise. A `share` of the batch is cut into one part for each
    corruption; a built-in blur or blend follows there half of the time, since dreams have both.

    Args:
        clips: [B, T, 3, H, W], 0 to 1.
        corruptions: besides the built-in ones, e.g. a codec's round trip.
        share: of the clips that are corrupted, 0 to 1.
    """
    every = (*corruptions, *BUILT_IN)
    out = jitter_colours(clips)
    order = torch.randperm(len(clips))[: round(share * len(clips))]
    first = int(torch.randint(len(every), ()))
    for number, rows in enumerate(order.chunk(len(every)) if len(order) else []):
        worse = every[(first + number) % len(every)](out[rows])
        if torch.rand(()) < 0.5:
            worse = BUILT_IN[int(torch.randint(len(BUILT_IN), ()))](worse)
        out[rows] = worse
    return add_noise(out).clamp(0, 1)
