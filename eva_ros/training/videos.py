"""Videos for TensorBoard, as animated GIFs among its images."""

import io
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tensorboard.compat.proto.summary_pb2 import Summary


class Video(NamedTuple):
    """Frames to be shown.

    Attributes:
        frames: Frames [T, H, W, 3], uint8, RGB.
        rate_hz: Frames per second.
    """

    frames: NDArray[np.uint8]
    rate_hz: float


def video_summary(name: str, video: Video) -> Summary:
    """Return what TensorBoard shows as a video; torch's `add_video` would need moviepy for it."""
    first, *others = [Image.fromarray(frame) for frame in video.frames]
    encoded = io.BytesIO()
    first.save(
        encoded,
        format='GIF',
        save_all=True,
        append_images=others,
        duration=1000 / video.rate_hz,
        loop=0,
    )
    image = Summary.Image(
        height=first.height,
        width=first.width,
        colorspace=3,
        encoded_image_string=encoded.getvalue(),
    )
    return Summary(value=[Summary.Value(tag=name, image=image)])
