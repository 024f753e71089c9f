"""Image messages of any usual encoding as RGB pictures; live, in the closed loop and from bags."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError

# Channels of a pixel and how OpenCV turns them into RGB (None: they are).
_RAW = {
    'rgb8': (3, None),
    'bgr8': (3, cv2.COLOR_BGR2RGB),
    'rgba8': (4, cv2.COLOR_RGBA2RGB),
    'bgra8': (4, cv2.COLOR_BGRA2RGB),
    'mono8': (1, cv2.COLOR_GRAY2RGB),
}
_CODECS = ('jpeg', 'jpg', 'png')
# Camera images are too small to share among threads: on a busy machine OpenCV would wait for its
# threads fifty times longer than the work takes.
cv2.setNumThreads(1)

_JPEG_BEGIN, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
# Drivers leave some bytes behind a JPEG's end.
_TAIL = 256


def decode_image(message: Any) -> NDArray[np.uint8]:
    """Return the picture in an image message.

    Args:
        message: has the fields of sensor_msgs/Image (height, width, encoding, step, data) or of
            sensor_msgs/CompressedImage (format, data).

    Returns:
        [H, W, 3] uint8, RGB.

    Raises:
        UserError: the encoding is not known, or the data do not hold the picture.
    """
    if hasattr(message, 'encoding'):
        return _decode_raw(message)
    return decode_compressed(message.data, message.format)


def decode_compressed(data: Any, format: str = 'jpeg') -> NDArray[np.uint8]:  # noqa: A002
    """Return the picture in a JPEG or PNG stream.

    Args:
        data: the bytes of one picture.
        format: of sensor_msgs/CompressedImage: 'jpeg', or 'bgr8; jpeg compressed bgr8'.

    Returns:
        [H, W, 3] uint8, RGB.

    Raises:
        UserError: another format, or the bytes cannot be decoded or are cut off.
    """
    words = format.lower().replace(';', ' ').split()
    if not any(codec in words for codec in _CODECS):
        raise UserError(f"Images of format '{format}' cannot be read: record JPEG or PNG.")
    stream = _bytes(data)
    _refuse_cut_off(stream)
    # OpenCV asserts on an empty buffer and returns None for anything else it cannot read.
    picture = cv2.imdecode(stream, cv2.IMREAD_COLOR) if stream.size else None
    if picture is None:
        raise UserError(f"An image of format '{format}', {stream.size} bytes, cannot be decoded.")
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _refuse_cut_off(stream: NDArray[np.uint8]) -> None:
    """Refuse a JPEG without an end: OpenCV would fill what is missing with grey."""
    tail = stream[-_TAIL:].tobytes().rstrip(b'\0')
    if len(tail) < 2:
        tail = stream.tobytes().rstrip(b'\0')[-_TAIL:]
    if stream[:2].tobytes() == _JPEG_BEGIN and _JPEG_END not in tail:
        raise UserError(f'A JPEG image is cut off after {stream.size} bytes.')


def _decode_raw(message: Any) -> NDArray[np.uint8]:
    if message.encoding not in _RAW:
        raise UserError(
            f"Images of encoding '{message.encoding}' cannot be read: publish one of "
            f'{", ".join(_RAW)}, JPEG or PNG.'
        )
    channels, conversion = _RAW[message.encoding]
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = _bytes(message.data)
    used = width * channels
    if not height or not width or step < used or data.size < height * step:
        raise UserError(
            f'An image of {height}x{width} pixels, encoding {message.encoding}, holds '
            f'{data.size} bytes with {step} a row: it needs {height} rows of at least {used}.'
        )
    rows = data[: height * step].reshape(height, step)[:, :used]
    if conversion is None:
        return rows.copy().reshape(height, width, channels)
    return cv2.cvtColor(np.ascontiguousarray(rows).reshape(height, width, channels), conversion)


def _bytes(data: Any) -> NDArray[np.uint8]:
    """Return bytes, an array or a list of numbers as an array, without a copy if possible."""
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError):
        return np.asarray(data, np.uint8).reshape(-1)
