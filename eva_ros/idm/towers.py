"""The convolutional towers of the inverse dynamics model, and how keypoints are read from them."""

import torch
from torch import nn
from torch import Tensor
from torch.nn import functional


class Conv(nn.Module):
    """A convolution whose weight is stored as a matrix [outputs, inputs * k * k].

    Muon, which orthogonalises the updates of matrices, then trains it like any other matrix.
    """

    def __init__(self, inputs: int, outputs: int, size: int, *, stride: int = 1) -> None:
        """Build a convolution with `size` x `size` taps that keeps the centre in place."""
        super().__init__()
        self.shape = (outputs, inputs, size, size)
        self.stride = stride
        self.padding = (size - stride + 1) // 2
        fan_in = inputs * size * size
        self.weight = nn.Parameter(torch.randn(outputs, fan_in) * (2 / fan_in) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, inputs, h, w] to [N, outputs, h / stride, w / stride]."""
        weight = self.weight.view(self.shape)
        return functional.conv2d(x, weight, self.bias, self.stride, self.padding)


class Residual(nn.Module):
    """Two 3x3 convolutions beside a skip."""

    def __init__(self, channels: int) -> None:
        """Begin as the identity: the second convolution starts at zero."""
        super().__init__()
        self.first = Conv(channels, channels, 3)
        self.second = Conv(channels, channels, 3)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map [N, C, h, w] to [N, C, h, w]."""
        return functional.relu(x + self.second(functional.relu(self.first(x))))


class Tower(nn.Module):
    """A camera's picture to feature maps at a quarter of its resolution.

    Details come from a strided stem on the full picture, context from an eighth of its
    resolution. No normalisation layers: they cost as much as the convolutions on a CPU.
    """

    def __init__(self, widths: tuple[int, int], frames: int = 1) -> None:
        """Build a tower.

        Args:
            widths: channels at a quarter and at an eighth of the resolution.
            frames: frames that are stacked into one picture.
        """
        super().__init__()
        fine, coarse = widths
        self.stem = Conv(3 * frames, fine, 8, stride=4)
        self.fine = Residual(fine)
        self.down = Conv(fine, coarse, 4, stride=2)
        self.coarse = Residual(coarse)
        self.up = Conv(coarse, fine, 1)

    def forward(self, picture: Tensor) -> Tensor:
        """Map [N, 3 * frames, h, w] in -1..1 to features [N, C, h/4, w/4]."""
        fine = self.fine(functional.relu(self.stem(picture)))
        coarse = self.coarse(functional.relu(self.down(fine)))
        up = functional.interpolate(self.up(coarse), size=fine.shape[-2:], mode='nearest')
        return functional.relu(fine + up)


class KeypointReadout(nn.Module):
    """Spatial softmax with a learnable temperature: where each keypoint is, and what is there.

    Finn et al., Deep Spatial Autoencoders (arXiv 1509.06113); EVA section 3 uses it because it is
    steadier on artefacts than global pooling. Here a learnable prior says in addition where a
    keypoint is to be expected, and a few feature values are read at each.
    """

    def __init__(self, channels: int, size: tuple[int, int], keypoints: int, values: int) -> None:
        """Build a readout of feature maps [channels, *size]."""
        super().__init__()
        self.maps = nn.Linear(channels, keypoints)
        self.values = nn.Linear(channels, values)
        self.log_temperature = nn.Parameter(torch.full((keypoints,), 1.5))
        ys, xs = (torch.linspace(-1, 1, n) for n in size)
        grid = torch.stack(torch.meshgrid(ys, xs, indexing='ij'), -1).reshape(-1, 2)
        self.register_buffer('grid', grid, persistent=False)
        # Each begins by watching a region of its own: from a flat prior all see the same mean.
        centres = 1.6 * torch.rand(keypoints, 2) - 0.8
        self.prior = nn.Parameter(-4 * torch.cdist(grid, centres).square())

    @property
    def size(self) -> int:
        """How many numbers a picture gives."""
        return self.maps.out_features * (2 + self.values.out_features)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, h, w] to coordinates (-1..1) and values [N, keypoints * (2 + values)]."""
        flat = features.flatten(2).transpose(1, 2).float()
        with torch.autocast(features.device.type, enabled=False):
            logits = self.maps(flat) * self.log_temperature.exp() + self.prior
            weights = logits.softmax(dim=1).transpose(1, 2)
            values = functional.relu(self.values(flat))
            return torch.cat([3 * weights @ self.grid, weights @ values], -1).flatten(1)
