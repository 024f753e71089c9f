"""The inverse dynamics model: three frames of the view to the joint positions of the middle one.

EVA section 3 (arXiv 2603.17808): convolutions, spatial softmax, MLP, absolute joint positions.
Here every frame is looked at once and the three are joined late, so that decoding T frames costs
T passes through the towers; every camera has a tower (cameras of one size share it), and every
arm its own head, which sees only the cameras that serve it.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch import Tensor

from eva_ros.idm.config import Camera
from eva_ros.idm.config import IdmConfig
from eva_ros.idm.towers import KeypointReadout
from eva_ros.idm.towers import Tower

WINDOW = 3


class JointEstimate(NamedTuple):
    """The joints that the model reads from a window of frames.

    Attributes:
        positions: of the middle frame's joints [..., J], rad; grippers 0 to 1.
        spread: how far off the model expects each to be (Laplace scale) [..., J], same units.
    """

    positions: Tensor
    spread: Tensor


class ArmHead(nn.Module):
    """Joins what three frames show of one arm into the joint positions of the middle one."""

    def __init__(self, inputs: int, hidden: int, joints: int) -> None:
        """Build a head for so many numbers a frame and so many joints."""
        super().__init__()
        self.frame = nn.Sequential(
            nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.window = nn.Sequential(
            nn.GELU(), nn.Linear(WINDOW * hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.joints = nn.Linear(hidden, joints)
        self.spread = nn.Sequential(nn.Linear(hidden, 64), nn.GELU(), nn.Linear(64, joints))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, 3, hidden] to normalised positions and their log spread, [B, joints] each."""
        joined = frames[:, WINDOW // 2] + self.window(frames.flatten(1))
        # The spread only watches: it must not bend what the positions are read from.
        return self.joints(joined), self.spread(joined.detach())


class InverseDynamics(nn.Module):
    """Reads joint positions from frames of the view."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: IdmConfig) -> None:
        """Build an untrained model for a robot and a view."""
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict({_size(c): Tower(config.widths) for c in config.cameras})
        self.readouts = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for arm, columns in config.columns.items():
            for camera in self._cameras_of(arm):
                height, width = camera.box[2] // 4, camera.box[3] // 4
                self.readouts[f'{arm} {camera.name}'] = KeypointReadout(
                    config.widths[0], (height, width), config.keypoints, config.values
                )
            inputs = sum(self.readouts[f'{arm} {c.name}'].size for c in self._cameras_of(arm))
            self.heads[arm] = ArmHead(inputs, config.hidden, len(columns))
        self.register_buffer('mean', torch.zeros(len(config.joint_names)))
        self.register_buffer('std', torch.ones(len(config.joint_names)))

    def _cameras_of(self, arm: str) -> list[Camera]:
        """Return the cameras that an arm is read from: all where each belongs to another arm."""
        own = [camera for camera in self.config.cameras if camera.serves(arm)]
        return own or list(self.config.cameras)

    def frame_features(self, frames: Tensor) -> Tensor:
        """Look at each frame once.

        Args:
            frames: [N, 3, H, W], 0 to 1.

        Returns:
            What each shows of each arm [N, arms, hidden].
        """
        maps: dict[str, Tensor] = {}
        for size, tower in self.towers.items():
            cameras = [camera for camera in self.config.cameras if _size(camera) == size]
            pictures = torch.cat([_cut(frames, camera) for camera in cameras]) * 2 - 1
            found = tower(pictures.contiguous(memory_format=torch.channels_last))
            maps |= zip([c.name for c in cameras], found.chunk(len(cameras)), strict=True)
        arms = []
        for arm in self.heads:
            seen = [self.readouts[f'{arm} {c.name}'](maps[c.name]) for c in self._cameras_of(arm)]
            arms.append(self.heads[arm].frame(torch.cat(seen, -1)))
        return torch.stack(arms, 1)

    def read_features(self, features: Tensor) -> JointEstimate:
        """Join the features of three frames [B, 3, arms, hidden] to the middle one's joints."""
        arms = [head(features[:, :, i]) for i, head in enumerate(self.heads.values())]
        positions = torch.cat([positions for positions, _ in arms], -1).float()
        log_spread = torch.cat([spread for _, spread in arms], -1).float()
        # A clamp alone would turn what is infinite into a spread like any other.
        spread = torch.where(log_spread.isfinite(), log_spread.clamp(-8, 2), torch.nan).exp()
        return JointEstimate(positions * self.std + self.mean, spread * self.std)

    def read(self, frames: Tensor) -> JointEstimate:
        """Read windows of frames [B, 3, 3, H, W], 0 to 1 and `stride` frames apart."""
        features = self.frame_features(frames.flatten(0, 1))
        return self.read_features(features.unflatten(0, (-1, WINDOW)))

    def forward(self, frames: Tensor) -> Tensor:
        """Return the joint positions of the middle frames [B, J], rad; grippers 0 to 1.

        Args:
            frames: windows [B, 3, 3, H, W], 0 to 1 and `stride` frames apart.
        """
        return self.read(frames).positions


def _size(camera: Camera) -> str:
    return f'{camera.box[2]}x{camera.box[3]}'


def _cut(frames: Tensor, camera: Camera) -> Tensor:
    y, x, height, width = camera.box
    return frames[..., y : y + height, x : x + width]
