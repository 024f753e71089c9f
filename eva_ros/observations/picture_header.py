"""What a JPEG or PNG says of itself before its pixels: size, channels and comments."""

from collections.abc import Iterator
import struct
from typing import NamedTuple

_JPEG_BEGIN, _PNG_BEGIN = b'\xff\xd8', b'\x89PNG'
_COMMENT, _SCAN = 0xFE, 0xDA
# SOF0 to SOF15, without the three other segments among these numbers.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, RST0 to RST7, SOI and EOI.
_BARE = frozenset({0x01, *range(0xD0, 0xDA)})
# A PNG's colour types without colours: grey, and grey with alpha.
_GREY_PNG = (0, 4)


class Header(NamedTuple):
    """Height and width in pixels, and the channels of colour: 1 for grey."""

    height: int
    width: int
    channels: int


def header_of(data: bytes) -> Header | None:
    """Return what the beginning of a JPEG or PNG says; None where it says nothing."""
    if data[:4] == _PNG_BEGIN and len(data) > 25:
        width, height = struct.unpack_from('>II', data, 16)
        return Header(height, width, 1 if data[25] in _GREY_PNG else 3)
    for marker, content in _segments(data):
        if marker in _FRAMES and len(content) >= 6:
            height, width, channels = struct.unpack_from('>HHB', content, 1)
            return Header(height, width, channels)
    return None


def comments_of(data: bytes) -> list[bytes]:
    """Return the comment segments (COM) of a JPEG."""
    return [content for marker, content in _segments(data) if marker == _COMMENT]


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield marker and content of a JPEG's segments up to its first scan."""
    at = 2
    while data[:2] == _JPEG_BEGIN and at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == _SCAN:
            return
        if marker == 0xFF or marker in _BARE:
            at += 1 if marker == 0xFF else 2
            continue
        (length,) = struct.unpack_from('>H', data, at + 2)
        yield marker, data[at + 4 : at + 2 + length]
        at += 2 + max(2, length)
