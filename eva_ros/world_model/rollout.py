"""What a world model dreams of, and the dreams it gives."""

from dataclasses import dataclass
import hashlib

import numpy as np
import torch
from torch import Tensor

from eva_ros.training.finite import require_finite
from eva_ros.training.manifest import World


@dataclass(frozen=True)
class Rollout:
    """Dreamed frames.

    Attributes:
        frames: views [T, H, W, 3], uint8 RGB; the first is the observed one.
        dt: seconds between frames.
        instruction: what was asked for.
        seed: of the noise.
        duration_s: how long the dream took.
        checkpoint: name of the weights, with the adapter's when one is loaded.
        denoising_steps: how many it took.
    """

    frames: np.ndarray
    dt: float
    instruction: str
    seed: int
    duration_s: float
    checkpoint: str
    denoising_steps: int


@dataclass(frozen=True)
class WorldSettings:
    """What a checkpoint says of the world it dreams (eva.json).

    Attributes:
        name: of the checkpoint.
        view: name of the view, with height, width and rate_hz.
        robot: name of the robot whose recordings it was trained on.
        frames: length of a rollout, the observed frame included.
        steps: denoising steps of an ordinary dream.
        view_hash: fingerprint of the view; empty where a checkpoint does not say it.
        sampler: 'euler' or 'unipc', of an ordinary dream.
        guidance_scale: weight of the instruction in an ordinary dream; up to 1 no guidance.
        history_scale: weight of the history in an ordinary dream; up to 1 no guidance.
        history: observed frames before the first one that dreams of moving arms start from; 0 for
            models that only dream from rest.
    """

    name: str
    robot: str
    view: str
    height: int
    width: int
    rate_hz: float
    frames: int
    steps: int = 4
    view_hash: str = ''
    sampler: str = 'euler'
    guidance_scale: float = 1.0
    history_scale: float = 1.0
    history: int = 0

    @property
    def world(self) -> World:
        """Return the robot and the view, as a manifest says them."""
        return World(
            robot=self.robot,
            view=self.view,
            view_hash=self.view_hash,
            height=self.height,
            width=self.width,
            rate_hz=self.rate_hz,
        )


def to_uint8(video: Tensor) -> np.ndarray:
    """Return frames [T, 3, H, W] in 0..1 as uint8 [T, H, W, 3].

    Raises:
        NotFiniteError: a value is not finite; as an integer it would look like any other.
    """
    require_finite({'frames': video}, 'A dream', 'no picture can be made of it')
    scaled = video.detach().float().permute(0, 2, 3, 1) * 255.0
    return scaled.round_().clamp_(0, 255).to(torch.uint8).contiguous().cpu().numpy()


def rollout_seed(seed: int, index: int) -> int:
    """Return the noise seed of the index-th dream of a run, the same in every process."""
    digest = hashlib.sha256(f'{seed}/{index}'.encode()).digest()
    return int.from_bytes(digest[:6], 'big')
