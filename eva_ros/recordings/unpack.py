"""Zstandard in bags: whole files and single messages, never more than is reasonable."""

from pathlib import Path
import shutil
import sys
import tempfile
from typing import Any

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

from eva_ros.errors import UserError

SUFFIXES = ('.zstd', '.zst')
_MAGIC = b'\x28\xb5\x2f\xfd'
# A longer message or chunk is not believed: its length is damaged.
LONGEST = 1 << 28
_PIECE = 1 << 20
# What must stay free on the disk that unpacked files go to.
_SPARE = 1 << 28


def is_packed(path: Path) -> bool:
    """Return whether a file's name says that all of it is compressed."""
    return path.suffix in SUFFIXES


def unpack_file(path: Path) -> tuple['tempfile.TemporaryDirectory[str]', Path, str]:
    """Unpack a whole file into a temporary folder, as far as it goes.

    Returns:
        The folder, which the caller cleans up, the file in it, and a sentence about what could
        not be unpacked ('' where all was).

    Raises:
        UserError: nothing can be unpacked, or the disk is full.
    """
    folder = tempfile.TemporaryDirectory(prefix='eva_bag_')
    target = Path(folder.name) / path.stem
    try:
        damage = _copy(path, target)
        if not target.stat().st_size:
            raise UserError(f'The file {path} cannot be unpacked: {damage or "it is empty"}.')
    except BaseException:
        folder.cleanup()
        raise
    return folder, target, damage and f'{path} is damaged: {damage}.'


def _copy(path: Path, target: Path) -> str:
    unpacker = zstd.ZstdDecompressor()
    size, used = path.stat().st_size, 0
    with path.open('rb') as source, target.open('wb') as sink:
        while True:
            try:
                data = source.read(_PIECE) if unpacker.needs_input else b''
                used += len(data)
                if not data and unpacker.needs_input:
                    return f'it is cut off after {size} bytes'
                sink.write(unpacker.decompress(data, max_length=_PIECE))
            except zstd.ZstdError:
                return f'the compressed data are broken near byte {used} of {size}'
            if unpacker.eof:
                rest = unpacker.unused_data
                if not rest and not source.peek(1):
                    return ''
                source.seek(source.tell() - len(rest))
                used -= len(rest)
                unpacker = zstd.ZstdDecompressor()
            if shutil.disk_usage(target.parent).free < _SPARE:
                raise UserError(f'There is no room on the disk to unpack {path}.')


def unpack_message(data: Any) -> bytes:
    """Return a message's bytes, unpacked where they are compressed (a CDR header is not).

    Raises:
        ValueError: the compressed data are broken.
    """
    head = bytes(data[:4])
    if head != _MAGIC:
        return data
    return unpack_zstd(data, LONGEST)


def unpack_zstd(data: Any, longest: int) -> bytes:
    """Return what a zstd frame holds, `longest` bytes at most; a cut-off one its beginning.

    Raises:
        ValueError: the data are broken.
    """
    try:
        return zstd.ZstdDecompressor().decompress(data, max_length=longest)
    except zstd.ZstdError as error:
        raise ValueError(f'the compressed data are broken ({error})') from None
