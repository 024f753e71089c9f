"""A low-pass filter for joint paths that keeps their ends where they are."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

# Half of what moves at this frequency is let through. Arms that follow minimum-jerk segments of
# a second move below 1.5 Hz; the decoder's noise is white up to half the frame rate.
CUTOFF_HZ = 2.0


@lru_cache(maxsize=32)
def smoothing_matrix(steps: int, dt: float, cutoff_hz: float = CUTOFF_HZ) -> NDArray[np.float64]:
    """Return the matrix [steps, steps] that smooths a path of evenly spaced samples.

    Whittaker-Henderson smoothing with third differences (Whittaker 1923; Eilers 2003): it
    minimises sum (s - q)^2 + penalty * sum (third difference of s)^2, so any parabola passes
    unchanged, and the ends need no padding. Its gain at frequency f is
    1 / (1 + penalty * (2 sin(pi f dt))^6); the penalty puts one half at the cut-off.

    Args:
        steps: number of samples.
        dt: time between them, s.
        cutoff_hz: frequency of which half passes; from half the sampling rate on, all passes.
    """
    if steps < 4 or cutoff_hz * dt >= 0.5:
        return np.eye(steps)
    penalty = (2 * np.sin(np.pi * cutoff_hz * dt)) ** -6
    third = np.diff(np.eye(steps), 3, axis=0)
    matrix = np.linalg.inv(np.eye(steps) + penalty * third.T @ third)
    matrix.setflags(write=False)
    return matrix


def smooth(positions: NDArray, dt: float, cutoff_hz: float = CUTOFF_HZ) -> NDArray[np.float64]:
    """Return the joint path without what moves faster than the cut-off.

    Args:
        positions: [T, J].
        dt: time between samples, s.
        cutoff_hz: frequency of which half passes.
    """
    positions = np.asarray(positions, dtype=np.float64)
    return smoothing_matrix(len(positions), dt, cutoff_hz) @ positions
