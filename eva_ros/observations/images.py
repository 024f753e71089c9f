"""Image messages of any usual encoding as RGB pictures; live, in the closed loop and from bags."""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from eva_ros.errors import UserError
from eva_ros.observations.image_format import ImageFormat
from eva_ros.observations.image_format import parse_format
from eva_ros.observations.picture_header import header_of


@dataclass(frozen=True)
class _Pixels:
    """How an encoding holds a pixel: channels, bytes each, and OpenCV's way to RGB (None: is)."""

    channels: int
    conversion: int | None
    depth: int = 1


# Colour conversions are those of cv_bridge (its name of a Bayer pattern is OpenCV's, shifted).
_BAYER = {
    'rggb': cv2.COLOR_BayerBG2RGB,
    'bggr': cv2.COLOR_BayerRG2RGB,
    'gbrg': cv2.COLOR_BayerGR2RGB,
    'grbg': cv2.COLOR_BayerGB2RGB,
}
_RAW = {
    'rgb8': _Pixels(3, None),
    'bgr8': _Pixels(3, cv2.COLOR_BGR2RGB),
    'rgba8': _Pixels(4, cv2.COLOR_RGBA2RGB),
    'bgra8': _Pixels(4, cv2.COLOR_BGRA2RGB),
    'mono8': _Pixels(1, cv2.COLOR_GRAY2RGB),
    'rgb16': _Pixels(3, None, 2),
    'bgr16': _Pixels(3, cv2.COLOR_BGR2RGB, 2),
    'rgba16': _Pixels(4, cv2.COLOR_RGBA2RGB, 2),
    'bgra16': _Pixels(4, cv2.COLOR_BGRA2RGB, 2),
    'mono16': _Pixels(1, cv2.COLOR_GRAY2RGB, 2),
    **{f'bayer_{name}8': _Pixels(1, code) for name, code in _BAYER.items()},
    **{f'bayer_{name}16': _Pixels(1, code, 2) for name, code in _BAYER.items()},
    **dict.fromkeys(('yuv422', 'uyvy'), _Pixels(2, cv2.COLOR_YUV2RGB_UYVY)),
    **dict.fromkeys(('yuv422_yuy2', 'yuyv'), _Pixels(2, cv2.COLOR_YUV2RGB_YUY2)),
}
# Numbers without a meaning of their own: the robot's YAML says which are black and white.
_NUMBERS = '16UC1'
_CODECS = ('jpeg', 'jpg', 'png')
# Camera images are too small to share among threads: on a busy machine OpenCV would wait for its
# threads fifty times longer than the work takes.
cv2.setNumThreads(1)

_JPEG_BEGIN, _JPEG_END = b'\xff\xd8', b'\xff\xd9'
_PNG_BEGIN = b'\x89PNG'
# Newer OpenCVs decode to RGB by themselves: the same pixels without another pass over them.
_DIRECT = getattr(cv2, 'IMREAD_COLOR_RGB', None)
# Drivers leave some bytes behind a JPEG's end.
_TAIL = 256
# Their headers end within this many bytes.
_HEAD = 1 << 16
# A picture of more pixels is not believed: its header is damaged.
_MOST_PIXELS = 1 << 26


def decode_image(
    message: Any, value_range: tuple[float, float] | None = None
) -> NDArray[np.uint8]:
    """Return the picture in an image message.

    Args:
        message: has the fields of sensor_msgs/Image (height, width, encoding, is_bigendian,
            step, data) or of sensor_msgs/CompressedImage (format, data).
        value_range: for 16UC1, the values that are shown black and white.

    Returns:
        [H, W, 3] uint8, RGB.

    Raises:
        UserError: the encoding is not known, or the data do not hold the picture.
    """
    if hasattr(message, 'encoding'):
        return _decode_raw(message, value_range)
    return decode_compressed(message.data, message.format)


def decode_compressed(data: Any, format: str = 'jpeg') -> NDArray[np.uint8]:  # noqa: A002
    """Return the picture in a JPEG or PNG stream.

    Args:
        data: the bytes of one picture.
        format: of sensor_msgs/CompressedImage: 'jpeg', or 'bgr8; jpeg compressed bgr8'.

    Returns:
        [H, W, 3] uint8, RGB; grey pictures have three channels alike, as raw mono8 has, unless
        the format says that they are a Bayer mosaic: that is demosaiced.

    Raises:
        UserError: another format, more than 8 bits a channel, or the bytes cannot be decoded or
            are cut off.
    """
    promised = parse_format(format)
    if not any(codec in promised.words for codec in _CODECS):
        raise UserError(f"Images of format '{format}' cannot be read: record JPEG or PNG.")
    stream = _bytes(data)
    _refuse_cut_off(stream)
    _refuse_huge(stream)
    _refuse_deep(stream)
    try:
        # OpenCV asserts on an empty buffer and returns None for anything else it cannot read.
        picture = _decoded(stream) if stream.size else None
    except cv2.error:
        picture = None
    if picture is None:
        raise UserError(f"An image of format '{format}', {stream.size} bytes, cannot be decoded.")
    return _demosaiced(picture, promised)


def format_doubt(message: Any) -> str:
    """Return how the colours promised by a compressed image differ from its picture's.

    Args:
        message: as decode_image takes it; those that are not compressed promise nothing twice.

    Returns:
        A sentence, '' where they agree.
    """
    if hasattr(message, 'encoding'):
        return ''
    found = header_of(_head(_bytes(message.data)))
    return parse_format(message.format).doubt(found) if found else ''


def _demosaiced(picture: NDArray[np.uint8], promised: ImageFormat) -> NDArray[np.uint8]:
    """Return a picture [H, W, 3] in colour where its equal channels hold a mosaic."""
    code = _BAYER.get(promised.mosaic)
    grey = picture[..., 0]
    if code is None or any(not np.array_equal(grey, picture[..., i]) for i in (1, 2)):
        return picture
    return cv2.cvtColor(np.ascontiguousarray(grey), code)


def _decoded(stream: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    if _DIRECT is not None:
        return cv2.imdecode(stream, _DIRECT)
    picture = cv2.imdecode(stream, cv2.IMREAD_COLOR)
    return picture if picture is None else cv2.cvtColor(picture, cv2.COLOR_BGR2RGB)


def _refuse_cut_off(stream: NDArray[np.uint8]) -> None:
    """Refuse a JPEG without an end: OpenCV would fill what is missing with grey."""
    tail = stream[-_TAIL:].tobytes().rstrip(b'\0')
    if len(tail) < 2:
        tail = stream.tobytes().rstrip(b'\0')[-_TAIL:]
    if stream[:2].tobytes() == _JPEG_BEGIN and _JPEG_END not in tail:
        raise UserError(f'A JPEG image is cut off after {stream.size} bytes.')


def _refuse_deep(stream: NDArray[np.uint8]) -> None:
    """Refuse a PNG of 16 bits a channel: OpenCV would drop the lower half of each number."""
    if stream[:4].tobytes() == _PNG_BEGIN and stream.size > 24 and stream[24] > 8:
        raise UserError(
            f'A PNG image has {stream[24]} bits a channel, as depth has: record 8 bits, or the '
            "raw image as 16UC1 with the camera's value_range in the robot YAML."
        )


def _refuse_huge(stream: NDArray[np.uint8]) -> None:
    """Refuse a picture whose header asks for more memory than any camera's."""
    found = header_of(_head(stream))
    if found and found.height * found.width > _MOST_PIXELS:
        size = f'{found.height}x{found.width}'
        raise UserError(f'An image says that it has {size} pixels: it is damaged.')


def _decode_raw(message: Any, value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    encoding = message.encoding
    if encoding == _NUMBERS:
        return _shade(_pixels(message, _Pixels(1, None, 2))[..., 0], value_range)
    if encoding not in _RAW:
        raise UserError(
            f"Images of encoding '{encoding}' cannot be read: publish one of "
            f'{", ".join(_RAW)}, JPEG or PNG.'
        )
    how = _RAW[encoding]
    pixels = _pixels(message, how)
    if how.conversion is not None:
        try:
            pixels = cv2.cvtColor(pixels, how.conversion)
        except cv2.error:
            height, width = pixels.shape[:2]
            raise UserError(
                f"An image of {height}x{width} pixels cannot be of encoding '{encoding}'."
            ) from None
    return pixels if how.depth == 1 else _to_8_bits(pixels)


def _pixels(message: Any, how: _Pixels) -> NDArray:
    """Return the numbers in an image message [H, W, channels], without its rows' padding."""
    height, width, step = int(message.height), int(message.width), int(message.step)
    data = _bytes(message.data)
    used = width * how.channels * how.depth
    if not height or not width or step < used or data.size < height * step:
        raise UserError(
            f'An image of {height}x{width} pixels, encoding {message.encoding}, holds '
            f'{data.size} bytes with {step} a row: it needs {height} rows of at least {used}.'
        )
    rows = data[: height * step].reshape(height, step)[:, :used].copy()
    if how.depth == 2:
        order = '>u2' if getattr(message, 'is_bigendian', False) else '<u2'
        rows = rows.view(order).astype(np.uint16)
    return rows.reshape(height, width, how.channels)


def _to_8_bits(pixels: NDArray) -> NDArray[np.uint8]:
    """Return 16-bit numbers as cv_bridge scales them: v * 255 / 65535, rounded."""
    return ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _shade(values: NDArray, value_range: tuple[float, float] | None) -> NDArray[np.uint8]:
    """Return numbers [H, W] as shades of grey [H, W, 3], rounded to the nearest."""
    if value_range is None:
        raise UserError(
            'Images of encoding 16UC1 hold bare numbers: say in the robot YAML which are black '
            "and white (the camera's value_range)."
        )
    low, high = value_range
    share = (np.clip(values.astype(np.float64), low, high) - low) / (high - low)
    return cv2.cvtColor(np.rint(share * 255).astype(np.uint8), cv2.COLOR_GRAY2RGB)


def _head(stream: NDArray[np.uint8]) -> bytes:
    return stream[:_HEAD].tobytes()


def _bytes(data: Any) -> NDArray[np.uint8]:
    """Return bytes, an array or a list of numbers as an array, without a copy if possible."""
    try:
        return np.frombuffer(data, np.uint8)
    except (TypeError, ValueError):
        return np.asarray(data, np.uint8).reshape(-1)
