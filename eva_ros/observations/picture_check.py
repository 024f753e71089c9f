"""What a camera's pictures are like: their size, and whether something covers the lens."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

_WIDTH, _HEIGHT, _BLOCK = 160, 120, 8
# Fewer looks say nothing about what changes.
_FEWEST = 8
# Grey levels. A block of a picture is blank if it changes less than this over time, and shows
# less detail (mean of the absolute Laplacian) than that.
_CHANGE, _DETAIL = 6.0, 5.0
# A real camera's noise shows as detail everywhere; drawn pictures have plain surfaces.
_NOISE = 0.5
_COVERED = 0.7
_DARK, _BRIGHT = 12.0, 243.0


class PictureCheck:
    """Looks at pictures of one camera now and then."""

    def __init__(self) -> None:
        self.sizes: dict[tuple[int, int], int] = {}
        self.looks = 0
        shape = (_HEIGHT, _WIDTH)
        self._sum, self._squares = np.zeros(shape), np.zeros(shape)
        self._detail = np.zeros(shape)
        self._first: NDArray[np.float32] | None = None
        self._differs = False

    def add(self, picture: NDArray[np.uint8]) -> None:
        """Take in a picture [H, W, 3]."""
        size = (int(picture.shape[0]), int(picture.shape[1]))
        self.sizes[size] = self.sizes.get(size, 0) + 1
        small = cv2.resize(picture, (_WIDTH, _HEIGHT), interpolation=cv2.INTER_AREA)
        grey = cv2.cvtColor(small, cv2.COLOR_RGB2GRAY).astype(np.float32)
        self._sum += grey
        self._squares += grey.astype(np.float64) ** 2
        self._detail += np.abs(cv2.Laplacian(grey, cv2.CV_32F))
        if self._first is None:
            self._first = grey
        self._differs |= bool(np.any(grey != self._first))
        self.looks += 1

    @property
    def blank_share(self) -> float:
        """Return the share of the picture that neither changes nor shows detail; 0 if unknown."""
        if self.looks < _FEWEST:
            return 0.0
        mean = self._sum / self.looks
        change = _blocks(np.sqrt(np.maximum(self._squares / self.looks - mean**2, 0)))
        detail = _blocks(self._detail / self.looks)
        if np.percentile(detail, 10) < _NOISE:
            return 0.0
        return float(((change < _CHANGE) & (detail < _DETAIL)).mean())

    def faults(self, declared: tuple[int, int] | None = None) -> list[str]:
        """Return what is wrong, a phrase each.

        Args:
            declared: height and width that its pictures should have, px.
        """
        if not self.looks:
            return []
        found = []
        sizes = ', '.join(f'{h}x{w}' for h, w in self.sizes)
        if len(self.sizes) > 1:
            found.append(f'its pictures have several sizes: {sizes}')
        if declared and set(self.sizes) != {declared}:
            found.append(
                f'its pictures are {sizes} pixels, and the robot YAML says '
                f'{declared[0]}x{declared[1]} (height x width): correct the one that is wrong'
            )
        brightness = float(self._sum.mean() / self.looks)
        if not _DARK <= brightness <= _BRIGHT:
            found.append(f'its pictures are {"black" if brightness < _DARK else "white"}')
        if self.looks >= _FEWEST and not self._differs:
            found.append('its picture never changes: is it frozen?')
        elif self.blank_share >= _COVERED:
            found.append(
                f'{self.blank_share:.0%} of its picture shows neither detail nor motion: is the '
                'lens covered?'
            )
        return found

    def facts(self) -> dict[str, Any]:
        """Return what was found as JSON holds it."""
        sizes = sorted(self.sizes, key=lambda size: -self.sizes[size])
        return {
            'resolution': list(sizes[0]) if sizes else None,
            'blank_share': round(self.blank_share, 2),
        }


def _blocks(values: NDArray) -> NDArray:
    """Return the means of blocks."""
    shape = (_HEIGHT // _BLOCK, _BLOCK, _WIDTH // _BLOCK, _BLOCK)
    return values.reshape(shape).mean(axis=(1, 3))
