"""Metrics of dreams and of motion."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

# 8-bit levels: above what JPEG and the renderer change in a scene at rest.
MOVING_THRESHOLD = 20


def moving_pixels(frames: NDArray, first: NDArray) -> NDArray[np.bool_]:
    """Return a mask of the pixels that differ from the first frame [T, H, W].

    Args:
        frames: Recorded frames [T, H, W, 3], uint8.
        first: Frame before anything moved [H, W, 3], uint8.

    Returns:
        [T, H, W].
    """
    change = np.abs(frames.astype(np.int16) - first.astype(np.int16)[None])
    return change.max(axis=-1) > MOVING_THRESHOLD


def psnr_moving(dream: NDArray, real: NDArray, first: NDArray) -> float:
    """Return the PSNR in dB of a dream on the pixels that moved in the recording.

    Dreamed motion where nothing moved does not lower it.

    Args:
        dream: Dreamed frames [T, H, W, 3], uint8.
        real: Recorded frames at the same instants [T, H, W, 3], uint8.
        first: First frame of both [H, W, 3], uint8.

    Returns:
        The PSNR; nan if no pixel moved.
    """
    return _psnr(_squared_error(dream, real)[moving_pixels(real, first)])


def psnr_still(real: NDArray, first: NDArray) -> float:
    """Return psnr_moving of a prediction that repeats the first frame."""
    return psnr_moving(np.broadcast_to(first, real.shape), real, first)


def _squared_error(dream: NDArray, real: NDArray) -> NDArray:
    return np.square(dream.astype(np.float32) - real.astype(np.float32)).mean(axis=-1)


def _psnr(squared_error: NDArray) -> float:
    if squared_error.size == 0:
        return float('nan')
    error = float(squared_error.mean(dtype=np.float64))
    return float('inf') if error == 0 else 10 * float(np.log10(255.0**2 / error))


def standing_share(positions: ArrayLike, stamps_ns: ArrayLike, rest_velocity: float) -> float:
    """Return the share of time during which all joints stood still.

    Args:
        positions: Measured joints [N, J].
        stamps_ns: Stamps of the measurements [N].
        rest_velocity: Speed below which a joint stands still, in rad/s.

    Returns:
        The share, 0 to 1; nan for fewer than two samples.
    """
    joints, seconds = np.asarray(positions, dtype=float), np.asarray(stamps_ns) * 1e-9
    steps = np.diff(seconds)
    if not np.any(steps > 0):
        return float('nan')
    joints, steps = np.diff(joints, axis=0)[steps > 0], steps[steps > 0]
    still = np.all(np.abs(joints) / steps[:, None] < rest_velocity, axis=1)
    return float(steps[still].sum() / steps.sum())
