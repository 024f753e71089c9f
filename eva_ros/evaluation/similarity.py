"""Structural similarity of videos: SSIM and its multi-scale form."""

import cv2
import numpy as np
from numpy.typing import NDArray

_WINDOW, _SIGMA = 11, 1.5
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
# Wang, Simoncelli and Bovik (2003), table of the calibrated exponents, finest scale first.
_SCALES = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)


def ssim(video: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Return the mean structural similarity of two videos, at most 1.

    Wang, Bovik, Sheikh and Simoncelli (2004), equation 13: Gaussian window of 11 pixels with
    sigma 1.5, K1 = 0.01 and K2 = 0.03; the mean over frames, colours and all whole windows.

    Args:
        video: Frames [T, H, W, 3], uint8, 11 pixels high and wide at least.
        reference: Frames to compare with [T, H, W, 3], uint8.
    """
    pairs = zip(video.astype(np.float64), reference.astype(np.float64), strict=True)
    return float(np.mean([np.prod(_terms(*pair), axis=0).mean() for pair in pairs]))


def ms_ssim(video: NDArray[np.uint8], reference: NDArray[np.uint8]) -> float:
    """Return the mean multi-scale structural similarity of two videos, 0 to 1.

    Wang, Simoncelli and Bovik (2003), equation 7. Five scales need frames of 176 pixels; of
    smaller ones as many scales are used as hold a window, with exponents that still sum to 1.

    Args:
        video: Frames [T, H, W, 3], uint8, 11 pixels high and wide at least.
        reference: Frames to compare with [T, H, W, 3], uint8.
    """
    pairs = zip(video.astype(np.float64), reference.astype(np.float64), strict=True)
    return float(np.mean([_multi_scale(*pair) for pair in pairs]))


def _multi_scale(frame: NDArray, reference: NDArray) -> float:
    """Return the multi-scale similarity of two frames [H, W, 3], the mean over colours."""
    fitting = int(np.log2(min(frame.shape[:2]) / _WINDOW)) + 1
    exponents = np.array(_SCALES[:fitting]) / sum(_SCALES[:fitting])
    product = np.ones(frame.shape[-1])
    for scale, exponent in enumerate(exponents):
        if scale:
            frame, reference = _halve(frame), _halve(reference)
        luminance, structure = _terms(frame, reference)
        coarsest = scale == len(exponents) - 1
        term = luminance * structure if coarsest else structure
        # Structures that are opposite count as unlike: a power of a negative is not a number.
        product *= term.mean(axis=(0, 1)).clip(0) ** exponent
    return float(product.mean())


def _terms(frame: NDArray, reference: NDArray) -> tuple[NDArray, NDArray]:
    """Return luminance, and contrast times structure, at every whole window [h, w, 3]."""
    mean, other_mean = _weigh(frame), _weigh(reference)
    variances = _weigh(frame**2) - mean**2 + _weigh(reference**2) - other_mean**2
    covariance = _weigh(frame * reference) - mean * other_mean
    luminance = (2 * mean * other_mean + _C1) / (mean**2 + other_mean**2 + _C1)
    return luminance, (2 * covariance + _C2) / (variances + _C2)


def _weigh(values: NDArray) -> NDArray:
    margin = _WINDOW // 2
    blurred = cv2.GaussianBlur(values, (_WINDOW, _WINDOW), _SIGMA)
    return blurred[margin:-margin, margin:-margin]


def _halve(frame: NDArray) -> NDArray:
    """Return a frame at half the resolution, each pixel the mean of four."""
    height, width = frame.shape[0] // 2, frame.shape[1] // 2
    blocks = frame[: 2 * height, : 2 * width].reshape(height, 2, width, 2, -1)
    return np.asarray(blocks.mean(axis=(1, 3)))
