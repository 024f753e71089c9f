"""Read what is left of an MCAP file that was cut off or has no index, from front to back.

Records of the format: https://mcap.dev/spec
"""

from collections import deque
from collections.abc import Collection
from collections.abc import Generator
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
import os
from pathlib import Path
import struct
from typing import BinaryIO
from zlib import crc32

from lz4.frame import LZ4FrameDecompressor

from eva_ros.recordings.salvage.mcap_summary import is_summary_damaged
from eva_ros.recordings.typestore import full_name
from eva_ros.recordings.unpack import LONGEST
from eva_ros.recordings.unpack import unpack_zstd

# Topics and their types.
Names = Collection[tuple[str, str]]

_MAGIC = b'\x89MCAP0\r\n'
# What files of ROS 2 are written in; tools of other systems write others beside them.
_PROFILE, _ENCODINGS, _FORMAT = 'ros2', ('ros2msg', 'ros2idl', 'omgidl', ''), 'cdr'
_HEADER, _FOOTER, _SCHEMA, _CHANNEL, _MESSAGE, _CHUNK = 0x01, 0x02, 0x03, 0x04, 0x05, 0x06
_DATA_END = 0x0F


@dataclass(frozen=True)
class SalvagedMessage:
    """A message with its topic, type and the type's definition ('' if the file has none).

    `encoding` is of the definition: 'ros2msg' or 'ros2idl'; `format` that of the data: 'cdr'.
    """

    topic: str
    type: str
    definition: str
    encoding: str
    format: str
    received_ns: int
    data: bytes


class McapSalvage:
    """An MCAP file read without its index.

    After `messages` has ended, `damaged_at` is the offset of the record behind which nothing could
    be read, or None where the file ends as it should; `broken` has the offsets of damaged chunks
    that were passed over, `broken_bytes` their size; `cut_messages` counts the messages that are
    known to be lost, at least one for each damaged chunk. `index_damaged` says whether the index
    at the end of the file is, `foreign` whether the file holds what ROS 2 does not write.
    """

    def __init__(self, path: Path, named: Names = frozenset()) -> None:
        """Begin with nothing.

        Args:
            path: the file.
            named: topics and types that are known from elsewhere. Of those that stand in a
                damaged index alone, no other is believed: a changed letter gives a topic's
                messages another name.
        """
        self._path, self._named = path, {(topic.lstrip('/'), kind) for topic, kind in named}
        self.index_damaged = is_summary_damaged(path)
        self._schemas: dict[int, tuple[str, str, str]] = {}
        self._channels: dict[int, tuple[str, str, int]] = {}
        self.size = path.stat().st_size
        self.damaged_at: int | None = None
        self.foreign = False
        self.cut_messages = 0
        self.broken: list[int] = []
        self.broken_bytes = 0

    def messages(self) -> Iterator[SalvagedMessage]:
        """Yield messages in the order of the file, up to the damage."""
        with self._path.open('rb') as file:
            if file.read(len(_MAGIC)) != _MAGIC:
                self.damaged_at = 0
                return
            self._survey(file)
            while True:
                offset = file.tell()
                head = file.read(9)
                if len(head) == 9 and head[0] in (_DATA_END, _FOOTER):
                    return
                try:
                    whole = yield from self._record(head, file)
                except (struct.error, UnicodeDecodeError, KeyError, EOFError, OverflowError):
                    whole = False
                if not whole:
                    self.damaged_at = offset
                    return

    def _survey(self, file: BinaryIO) -> None:
        """Learn the topics from the end of the file: those in a damaged chunk are there again."""
        begin = file.tell()
        while len(head := file.read(9)) == 9:
            code, length = struct.unpack('<BQ', head)
            if length > self.size:
                break
            if code not in (_SCHEMA, _CHANNEL):
                file.seek(length, os.SEEK_CUR)
                continue
            with suppress(struct.error, UnicodeDecodeError):
                deque(self._take(code, file.read(length)), maxlen=0)
        if self.index_damaged:
            self._channels = {n: c for n, c in self._channels.items() if self._is_named(*c)}
        file.seek(begin)

    def _is_named(self, topic: str, _: str, schema: int) -> bool:
        kind = self._schemas.get(schema, ('', '', ''))[0]
        return (topic.lstrip('/'), full_name(kind)) in self._named

    def _record(self, head: bytes, file: BinaryIO) -> Generator[SalvagedMessage, None, bool]:
        """Read a top-level record; returns whether it was whole."""
        code, length = struct.unpack('<BQ', head)
        if length > LONGEST:
            return False
        body = file.read(length)
        if code == _CHUNK:
            try:
                inner, whole = _chunk(body, length)
                whole = (yield from self._records(inner)) and whole
            except (struct.error, UnicodeDecodeError, EOFError, OverflowError):
                whole = False
            # A chunk is written because it holds messages: at least one was in what is gone.
            self.cut_messages += not whole
            if not whole and len(body) == length:
                self.broken.append(file.tell() - length - 9)
                self.broken_bytes += length
                return True
            return whole
        if len(body) < length:
            self.cut_messages += code == _MESSAGE
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
        if code == _HEADER:
            self.foreign |= _string(body, 0)[0] != _PROFILE
        elif code == _SCHEMA:
            name, at = _string(body, 2)
            encoding, at = _string(body, at)
            self.foreign |= encoding not in _ENCODINGS
            (size,) = struct.unpack_from('<I', body, at)
            text = body[at + 4 : at + 4 + size].decode()
            self._schemas[struct.unpack_from('<H', body)[0]] = (name, encoding, text)
        elif code == _CHANNEL:
            number, schema = struct.unpack_from('<HH', body)
            topic, at = _string(body, 4)
            form = _string(body, at)[0]
            self.foreign |= form != _FORMAT
            self._channels[number] = (topic, form, schema)
        elif code == _MESSAGE:
            number, _, received_ns = struct.unpack_from('<HIQ', body)
            if number not in self._channels:
                self.cut_messages += 1
                return
            topic, form, schema = self._channels[number]
            name, encoding, text = self._schemas.get(schema, ('', '', ''))
            yield SalvagedMessage(topic, name, text, encoding, form, received_ns, body[22:])


def _string(data: bytes, at: int) -> tuple[str, int]:
    """Return a length-prefixed string and where it ends."""
    (size,) = struct.unpack_from('<I', data, at)
    return data[at + 4 : at + 4 + size].decode(), at + 4 + size


def _chunk(body: bytes, length: int) -> tuple[bytes, bool]:
    """Return what can be unpacked of a chunk, and whether that is all of it."""
    (size,) = struct.unpack_from('<Q', body, 16)
    compression, at = _string(body, 28)
    (crc,) = struct.unpack_from('<I', body, 24)
    (records,) = struct.unpack_from('<Q', body, at)
    is_cut = len(body) < length
    # A chunk that seems to go beyond the end of the file is cut off, or its length is damaged:
    # then that of its records says otherwise, and is checked.
    lies = is_cut and at + 8 + records != length
    packed = body[at + 8 : at + 8 + records] if lies else body[at + 8 :]
    data = _unpack(packed, compression, min(size, LONGEST))
    if is_cut and not lies:
        return data, False
    # A chunk that is all there and not what was written: nothing in it can be believed.
    if (crc and crc32(data) != crc) or (lies and at + 8 + records > len(body)):
        return b'', False
    return data, len(data) == size and not lies


def _unpack(packed: bytes, compression: str, longest: int) -> bytes:
    """Return as much of the data as there is; a cut-off stream gives its beginning."""
    if not compression:
        return packed
    try:
        if compression == 'zstd':
            return unpack_zstd(packed, longest)
        if compression == 'lz4':
            return LZ4FrameDecompressor().decompress(packed, max_length=longest)
    except (ValueError, RuntimeError):
        return b''
    return b''
