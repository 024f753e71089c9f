"""Read what is left of an MCAP file that was cut off or has no index, from front to back.

Records of the format: https://mcap.dev/spec
"""

from collections.abc import Generator
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
import struct
import sys
from typing import BinaryIO

from lz4.frame import LZ4FrameDecompressor

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_MAGIC = b'\x89MCAP0\r\n'
_FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK, _DATA_END = 0x02, 0x03, 0x04, 0x05, 0x06, 0x0F
# A longer record is not believed: its length is damaged.
_LONGEST = 1 << 30


@dataclass(frozen=True)
class SalvagedMessage:
    """A message with its topic, type and the type's definition ('' if the file has none)."""

    topic: str
    type: str
    definition: str
    received_ns: int
    data: bytes


class McapSalvage:
    """An MCAP file read without its index.

    After `messages` has ended, `damaged_at` is the offset of the first record that could not be
    read whole, or None where the file ends as it should.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._schemas: dict[int, tuple[str, str]] = {}
        self._channels: dict[int, tuple[str, int]] = {}
        self.size = path.stat().st_size
        self.damaged_at: int | None = None

    def messages(self) -> Iterator[SalvagedMessage]:
        """Yield messages in the order of the file, up to the damage."""
        with self._path.open('rb') as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                self.damaged_at = 0
                return
            while True:
                offset = file.tell()
                head = file.read(9)
                if len(head) == 9 and head[0] in (_DATA_END, _FOOTER):
                    return
                try:
                    whole = yield from self._record(head, file)
                except (struct.error, UnicodeDecodeError, KeyError, EOFError):
                    whole = False
                if not whole:
                    self.damaged_at = offset
                    return

    def _record(self, head: bytes, file: BinaryIO) -> Generator[SalvagedMessage, None, bool]:
        """Read a top-level record; returns whether it was whole."""
        code, length = struct.unpack('<BQ', head)
        if length > _LONGEST:
            return False
        body = file.read(length)
        if code == _CHUNK:
            inner, whole = _chunk(body, length)
            return (yield from self._records(inner)) and whole
        if len(body) < length:
            return False
        yield from self._take(code, body)
        return True

    def _records(self, data: bytes) -> Generator[SalvagedMessage, None, bool]:
        """Read the records in a chunk; returns whether the last one was whole."""
        at = 0
        while at + 9 <= len(data):
            code, length = struct.unpack_from('<BQ', data, at)
            if at + 9 + length > len(data):
                return False
            yield from self._take(code, data[at + 9 : at + 9 + length])
            at += 9 + length
        return at == len(data)

    def _take(self, code: int, body: bytes) -> Iterator[SalvagedMessage]:
        if code == _SCHEMA:
            name, at = _string(body, 2)
            encoding, at = _string(body, at)
            (size,) = struct.unpack_from('<I', body, at)
            text = body[at + 4 : at + 4 + size].decode() if encoding == 'ros2msg' else ''
            self._schemas[struct.unpack_from('<H', body)[0]] = (name, text)
        elif code == _CHANNEL:
            number, schema = struct.unpack_from('<HH', body)
            self._channels[number] = (_string(body, 4)[0], schema)
        elif code == _MESSAGE:
            number, _, received_ns = struct.unpack_from('<HIQ', body)
            topic, schema = self._channels[number]
            name, text = self._schemas.get(schema, ('', ''))
            yield SalvagedMessage(topic, name, text, received_ns, body[22:])


def _string(data: bytes, at: int) -> tuple[str, int]:
    """Return a length-prefixed string and where it ends."""
    (size,) = struct.unpack_from('<I', data, at)
    return data[at + 4 : at + 4 + size].decode(), at + 4 + size


def _chunk(body: bytes, length: int) -> tuple[bytes, bool]:
    """Return what can be unpacked of a chunk, and whether that is all of it."""
    (size,) = struct.unpack_from('<Q', body, 16)
    compression, at = _string(body, 28)
    packed = body[at + 8 :]
    data = _unpack(packed, compression)
    return data, len(body) == length and len(data) == size


def _unpack(packed: bytes, compression: str) -> bytes:
    """Return as much of the data as there is; a cut-off stream gives its beginning."""
    if not compression:
        return packed
    try:
        if compression == 'zstd':
            return zstd.ZstdDecompressor().decompress(packed)
        if compression == 'lz4':
            return LZ4FrameDecompressor().decompress(packed)
    except (zstd.ZstdError, RuntimeError):
        return b''
    return b''
