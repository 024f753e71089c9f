"""Pictures that a page carries inside itself."""

import base64

import cv2
import numpy as np
from numpy.typing import NDArray

_QUALITY = 88


def jpeg_uri(image: NDArray[np.uint8], quality: int = _QUALITY) -> str:
    """Return an RGB image [H, W, 3] as a data URI."""
    done, data = cv2.imencode(
        '.jpg', cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f'an image of shape {image.shape} cannot be written as JPEG')
    return 'data:image/jpeg;base64,' + base64.b64encode(data.tobytes()).decode('ascii')


def sheet(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return frames [T, H, W, 3] side by side [H, T * W, 3]: one picture shows them all."""
    return np.concatenate(list(frames), axis=1)
