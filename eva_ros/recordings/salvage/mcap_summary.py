"""Whether an MCAP file has its end, and whether the index there is what was written.

The index has a checksum of its own. The library that reads it does not look at that, and a
changed letter there gives the messages of a topic another name. Records of the format:
https://mcap.dev/spec
"""

from pathlib import Path
import struct
from zlib import crc32

_FOOTER = struct.pack('<BQ', 0x02, 20)
_MAGIC = b'\x89MCAP0\r\n'
_TAIL = len(_FOOTER) + 20 + len(_MAGIC)
_PIECE = 1 << 20


def has_end(path: Path) -> bool:
    """Return whether a file ends as MCAP files do: nothing was cut off."""
    size = path.stat().st_size
    if size < _TAIL:
        return False
    with path.open('rb') as file:
        file.seek(size - _TAIL)
        tail = file.read()
    return tail[: len(_FOOTER)] == _FOOTER and tail[-len(_MAGIC) :] == _MAGIC


def is_summary_damaged(path: Path) -> bool:
    """Return whether the summary differs from its checksum; not where it has none."""
    size = path.stat().st_size
    if size < 2 * _TAIL or not has_end(path):
        return False
    with path.open('rb') as file:
        file.seek(size - _TAIL)
        tail = file.read()
        begin, _, crc = struct.unpack_from('<QQI', tail, len(_FOOTER))
        if not (begin and crc):
            return False
        # From the first record of the summary to the checksum in the footer.
        left = size - len(_MAGIC) - 4 - begin
        if left < 0:
            return True
        file.seek(begin)
        found = 0
        while left > 0 and (piece := file.read(min(left, _PIECE))):
            found, left = crc32(piece, found), left - len(piece)
    return found != crc
