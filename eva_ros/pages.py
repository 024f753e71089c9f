"""HTML pages from the templates of this package: whole in one file, nothing is fetched."""

from base64 import b64encode
from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import jinja2
import numpy as np
from numpy.typing import NDArray

# More points of a curve than a screen shows.
_MOST_POINTS = 400


def render(template: str, **values: Any) -> str:
    """Return a template of eva_ros/templates with its values filled in, escaped."""
    return _templates().get_template(template).render(values)


@cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader('eva_ros'),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def jpeg(image: NDArray[np.uint8], quality: int = 88) -> bytes:
    """Return an RGB image [H, W, 3] as JPEG."""
    done, data = cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise ValueError(f'an image of shape {image.shape} cannot be written as JPEG')
    return data.tobytes()


def data_uri(data: bytes) -> str:
    """Return a JPEG as text that a page shows without a file."""
    return 'data:image/jpeg;base64,' + b64encode(data).decode('ascii')


def evenly(count: int, most: int) -> NDArray[np.int_]:
    """Return at most `most` indices spread evenly over `count` items, first and last included."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


@dataclass(frozen=True)
class Axes:
    """The area of an SVG plot, in px: time to the right, positions upward.

    Attributes:
        width: Width of the area.
        height: Height of the area.
        duration_s: Time at its right edge.
        low: Position at its bottom.
        high: Position at its top.
    """

    width: float
    height: float
    duration_s: float
    low: float
    high: float

    def x(self, seconds: Any) -> Any:
        """Return the place of instants, none outside the area."""
        return self.width * np.clip(seconds / max(self.duration_s, 1e-9), 0, 1)

    def y(self, positions: Any) -> Any:
        """Return the place of positions, none outside the area."""
        positions = np.clip(positions, self.low, self.high)
        return self.height * (self.high - positions) / (self.high - self.low)

    def points(self, seconds: NDArray, positions: NDArray) -> str:
        """Return a curve as the points of an SVG polyline; positions may be nan."""
        known = np.isfinite(positions)
        seconds, positions = seconds[known], positions[known]
        chosen = evenly(len(seconds), _MOST_POINTS)
        xs, ys = self.x(seconds[chosen]), self.y(positions[chosen])
        return ' '.join(f'{x:.1f},{y:.1f}' for x, y in zip(xs, ys))


def padded(values: NDArray, least: float, margin: float) -> tuple[float, float]:
    """Return a plot's range for values: a little wider, and no narrower than `least`."""
    low, high = float(values.min()), float(values.max())
    half = max(high - low, least) / 2 * margin
    return (low + high) / 2 - half, (low + high) / 2 + half
