"""Joint paths from dreamed or recorded frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from eva_ros.errors import NotFiniteError
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.model import Reading
from eva_ros.idm.smoothing import smooth

# The spread at which half the confidence is lost: 0.05 rad at every joint of a half-metre arm
# puts a fingertip about 2 cm off.
_HALF_CONFIDENCE_RAD = 0.05


@dataclass(frozen=True)
class DecodedPath:
    """A joint path and how sure the decoder is of it.

    Attributes:
        positions: [T, J], rad; grippers 0 to 1.
        confidence: 0 to 1; 1 when the decoder expects no error at all.
    """

    positions: NDArray[np.float64]
    confidence: float


def read_tensor(model: InverseDynamics, frames: Tensor) -> Reading:
    """Read every frame of clips, looking at each frame once.

    At the ends of a clip the window repeats the first or the last frame.

    Args:
        model: the inverse dynamics model.
        frames: [B, T, 3, H, W], 0 to 1, evenly spaced at the model's rate.

    Returns:
        Positions and spread [B, T, J], differentiable in the frames.
    """
    clips, steps = frames.shape[:2]
    features = model.frame_features(frames.flatten(0, 1)).unflatten(0, (clips, steps))
    stride = model.config.stride
    middle = torch.arange(steps, device=frames.device)
    windows = torch.stack([middle - stride, middle, middle + stride], -1).clamp(0, steps - 1)
    reading = model.read_features(features[:, windows].flatten(0, 1))
    return Reading(*(value.unflatten(0, (clips, steps)) for value in reading))


def decode_tensor(model: InverseDynamics, frames: Tensor) -> Tensor:
    """Return the joint paths of clips [B, T, J], differentiable in the frames.

    Args:
        model: the inverse dynamics model.
        frames: [B, T, 3, H, W], 0 to 1, evenly spaced at the model's rate.

    Raises:
        NotFiniteError: what was read is not finite; names joint and frame.
    """
    reading = read_tensor(model, frames)
    _require_finite(model, reading)
    return reading.positions


def frames_to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Turn uint8 RGB frames [..., H, W, 3] into floats 0 to 1 [..., 3, H, W]."""
    return torch.from_numpy(np.array(frames)).movedim(-1, -3).float().div_(255)


def read(model: InverseDynamics, frames: NDArray[np.uint8]) -> Reading:
    """Read a clip of uint8 RGB frames [T, H, W, 3]: positions and spread [T, J].

    Raises:
        NotFiniteError: what was read is not finite; names joint and frame.
    """
    with torch.inference_mode():
        reading = read_tensor(model, frames_to_tensor(frames)[None])
    _require_finite(model, reading)
    return Reading(reading.positions[0], reading.spread[0])


def _require_finite(model: InverseDynamics, reading: Reading) -> None:
    finite = torch.isfinite(reading.positions) & torch.isfinite(reading.spread)
    if bool(finite.all()):
        return
    _, frame, joint = (int(index) for index in (~finite).nonzero()[0])
    raise NotFiniteError(
        f'The inverse dynamics model reads values that are not finite '
        f'({int((~finite).sum())} of {finite.numel()}; the first is '
        f'{model.config.joint_names[joint]} in frame {frame})',
        'no joint path is made of it; check its checkpoint',
    )


def decode(model: InverseDynamics, frames: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Return the joint path of uint8 RGB frames [T, H, W, 3], as read: [T, J]."""
    return read(model, frames).positions.double().numpy()


def confidence(model: InverseDynamics, spread: Tensor) -> float:
    """Return how sure the decoder is of a path: 1 / (1 + (spread / 0.05 rad)^2).

    The spread is the model's own guess of its error, learnt beside the positions on clean and on
    corrupted frames; `eva idm evaluate` prints how well it ranks the true errors. It is a guess:
    frames unlike anything in training can fool it.

    Args:
        model: the inverse dynamics model.
        spread: [T, J], rad; grippers are left out.
    """
    arms = ~torch.tensor(model.config.gripper_mask)
    square = spread[..., arms].square().mean() / _HALF_CONFIDENCE_RAD**2
    return float(1 / (1 + square))


def decode_confident(model: InverseDynamics, frames: NDArray[np.uint8], dt: float) -> DecodedPath:
    """Read a dream for the arms to follow: smoothed, and with the decoder's confidence.

    Args:
        model: the inverse dynamics model.
        frames: uint8 RGB [T, H, W, 3].
        dt: time between frames, s.
    """
    reading = read(model, frames)
    path = smooth(reading.positions.double().numpy(), dt)
    mask = np.asarray(model.config.gripper_mask)
    path[:, mask] = path[:, mask].clip(0.0, 1.0)
    return DecodedPath(path, confidence(model, reading.spread))


def decode_path(
    model: InverseDynamics, frames: NDArray[np.uint8], dt: float
) -> NDArray[np.float64]:
    """Return the smoothed joint path of a dream [T, J] (see `decode_confident`)."""
    return decode_confident(model, frames, dt).positions
