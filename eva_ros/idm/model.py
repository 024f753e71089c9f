"""The inverse dynamics model: three frames of the view to the joint positions of the middle one.

EVA section 3 (arXiv 2603.17808): convolutions, spatial softmax, MLP, absolute joint positions.
Here every frame is looked at once and the three are joined late, so that decoding T frames costs
T passes through the towers; every camera has a tower (cameras of one size share it), and every
arm its own head, which sees only the cameras that serve it. On request the three frames are
stacked into one picture instead, and an image backbone of transformers looks at the pictures.
"""

from typing import NamedTuple

import torch
from torch import nn
from torch import Tensor

from eva_ros.idm.backbones import Backbone
from eva_ros.idm.backbones import BackboneTower
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
    """Joins what a window of frames shows of one arm into the joints of the middle one."""

    def __init__(self, inputs: int, hidden: int, joints: int, window: int) -> None:
        """Create a head for a number of features per frame, joints, and frames per window."""
        super().__init__()
        self.frame = nn.Sequential(
            nn.LayerNorm(inputs), nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.window = nn.Sequential(
            nn.GELU(), nn.Linear(window * hidden, hidden), nn.GELU(), nn.Linear(hidden, hidden)
        )
        self.joints = nn.Linear(hidden, joints)
        self.spread = nn.Sequential(nn.Linear(hidden, 64), nn.GELU(), nn.Linear(64, joints))

    def forward(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Map [B, window, hidden] to normalised positions and log spread, [B, joints] each."""
        joined = frames[:, frames.shape[1] // 2] + self.window(frames.flatten(1))
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
        # Frames of a picture, and pictures of a window.
        self._stacked, window = (WINDOW, 1) if config.stacked else (1, WINDOW)
        self.backbone = Backbone(config.backbone, self._stacked) if config.backbone else None
        self.towers = nn.ModuleDict({_size(c): self._tower(c) for c in config.cameras})
        self.readouts = nn.ModuleDict()
        self.heads = nn.ModuleDict()
        for arm, columns in config.columns.items():
            for camera in self._cameras_of(arm):
                tower, size = self.towers[_size(camera)], (camera.box[2] // 4, camera.box[3] // 4)
                if isinstance(tower, BackboneTower):
                    size = tower.size
                self.readouts[f'{arm} {camera.name}'] = KeypointReadout(
                    config.widths[0], size, config.keypoints, config.values
                )
            inputs = sum(self.readouts[f'{arm} {c.name}'].size for c in self._cameras_of(arm))
            self.heads[arm] = ArmHead(inputs, config.hidden, len(columns), window)
        self.register_buffer('mean', torch.zeros(len(config.joint_names)))
        self.register_buffer('std', torch.ones(len(config.joint_names)))

    def _tower(self, camera: Camera) -> Tower | BackboneTower:
        if self.backbone is None:
            return Tower(self.config.widths, self._stacked)
        shapes = self.backbone.map_shapes((camera.box[2], camera.box[3]))
        return BackboneTower(shapes, self.config.widths[0])

    def _cameras_of(self, arm: str) -> list[Camera]:
        """Return the cameras that an arm is read from: all where each belongs to another arm."""
        own = [camera for camera in self.config.cameras if camera.serves(arm)]
        return own or list(self.config.cameras)

    def frame_features(self, frames: Tensor) -> Tensor:
        """Look at each picture once.

        Args:
            frames: [N, 3, H, W], 0 to 1; [N, 9, H, W] where three are stacked.

        Returns:
            What each shows of each arm [N, arms, hidden].
        """
        maps: dict[str, Tensor] = {}
        for size, tower in self.towers.items():
            cameras = [camera for camera in self.config.cameras if _size(camera) == size]
            pictures = torch.cat([_cut(frames, camera) for camera in cameras]) * 2 - 1
            pictures = pictures.contiguous(memory_format=torch.channels_last)
            found = tower(pictures if self.backbone is None else self.backbone(pictures))
            maps |= zip([c.name for c in cameras], found.chunk(len(cameras)), strict=True)
        arms = []
        for arm in self.heads:
            seen = [self.readouts[f'{arm} {c.name}'](maps[c.name]) for c in self._cameras_of(arm)]
            arms.append(self.heads[arm].frame(torch.cat(seen, -1)))
        return torch.stack(arms, 1)

    def read_features(self, features: Tensor) -> JointEstimate:
        """Join the features of a window [B, window, arms, hidden] to its middle frame's joints."""
        arms = [head(features[:, :, i]) for i, head in enumerate(self.heads.values())]
        positions = torch.cat([positions for positions, _ in arms], -1).float()
        log_spread = torch.cat([spread for _, spread in arms], -1).float()
        # A clamp alone would turn what is infinite into a spread like any other.
        spread = torch.where(log_spread.isfinite(), log_spread.clamp(-8, 2), torch.nan).exp()
        return JointEstimate(positions * self.std + self.mean, spread * self.std)

    def read(self, frames: Tensor) -> JointEstimate:
        """Read windows of frames [B, 3, 3, H, W], 0 to 1 and `stride` frames apart."""
        if self.config.stacked:
            return self.read_features(self.frame_features(frames.flatten(1, 2))[:, None])
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
