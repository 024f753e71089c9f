"""Rosbag2 recordings, MCAP or SQLite3, as typed records; damaged ones as far as they go."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
import logging
from pathlib import Path

from rosbags.interfaces import Connection
from rosbags.interfaces import MessageDefinition
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import get_types_from_idl
from rosbags.typesys import get_types_from_msg
from rosbags.typesys import get_typestore
from rosbags.typesys import Stores
from rosbags.typesys.store import Typestore

from eva_ros.episodes.mcap_salvage import McapSalvage
from eva_ros.episodes.records import KINDS
from eva_ros.episodes.records import Record
from eva_ros.episodes.records import to_record
from eva_ros.episodes.typestore import typestore
from eva_ros.errors import UserError

_log = logging.getLogger(__name__)
_SUFFIXES = ('.mcap', '.db3')
_NO_TEXT = MessageDefinition(MessageDefinitionFormat.NONE, '')


def is_bag(path: Path) -> bool:
    """Return whether a path is a rosbag2 folder or one of its files."""
    if path.is_file():
        return path.suffix in _SUFFIXES
    return bool((path / 'metadata.yaml').is_file() or storage_files(path))


def storage_files(path: Path) -> list[Path]:
    """Return the files that hold a bag's messages, in order."""
    if path.is_file():
        return [path]
    return sorted(entry for entry in path.iterdir() if entry.suffix in _SUFFIXES)


def read_bag(
    path: Path,
    topics: Collection[str] | None = None,
    on_problem: Callable[[str], None] = _log.warning,
) -> Iterator[Record]:
    """Yield a bag's images, joint states, trajectories and episode markers as received.

    Args:
        path: folder or file of the bag.
        topics: only these, with or without the leading slash; all where None.
        on_problem: is given a sentence for whatever could not be read.

    Raises:
        UserError: there is no bag, or nothing of it can be read.
    """
    wanted = None if topics is None else {topic.lstrip('/') for topic in topics}
    for topic, kind, text, received_ns, data in _raw(path, wanted, on_problem):
        try:
            message = _store(kind, text).deserialize_cdr(data, kind)
            yield to_record(topic, received_ns, message, kind)
        except Exception as error:  # damaged bytes fail in any way
            on_problem(f"{path}: a message on '{topic}' cannot be read: {_brief(error)}.")


def topics_of(path: Path) -> dict[str, str]:
    """Return the type of each topic in a bag, names without the leading slash.

    A damaged bag is read once to find out.

    Raises:
        UserError: there is no bag, or nothing of it can be read.
    """
    try:
        reader = _open(path)
    except UserError:
        found = _raw(path, None, lambda problem: None)
        return {topic.lstrip('/'): kind for topic, kind, *_ in found}
    try:
        return {found.topic.lstrip('/'): found.msgtype for found in reader.connections}
    finally:
        reader.close()


_Raw = tuple[str, str, MessageDefinition, int, bytes]


def _raw(
    path: Path, wanted: set[str] | None, on_problem: Callable[[str], None]
) -> Iterator[_Raw]:
    """Yield topic, type, definition, time and bytes of each message of a known type."""
    if not path.exists():
        raise UserError(f'There is no bag {path}.')
    try:
        reader = _open(path)
    except UserError as error:
        files = storage_files(path)
        if not files:
            raise
        if path.is_dir():
            on_problem(f'{error} Its files are read one by one.')
            for file in files:
                yield from _raw(file, wanted, on_problem)
        else:
            yield from _salvage(path, wanted, on_problem, str(error))
        return
    try:
        yield from _indexed(path, reader, wanted, on_problem)
    finally:
        with suppress(Exception):
            reader.close()


def _open(path: Path) -> Reader:
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:  # whatever damage does to the library's parsing
        raise UserError(f'The bag {path} cannot be opened: {_brief(error)}.') from None
    return reader


def _indexed(
    path: Path, reader: Reader, wanted: set[str] | None, on_problem: Callable[[str], None]
) -> Iterator[_Raw]:
    connections = [found for found in reader.connections if _is_wanted(found, wanted)]
    if not connections:
        return
    messages, count = reader.messages(connections), 0
    while True:
        try:
            connection, received_ns, data = next(messages)
        except StopIteration:
            return
        except Exception as error:  # a damaged chunk or page
            total = sum(found.msgcount for found in connections)
            on_problem(
                f'{path} is damaged: {_brief(error)}; {count} of {total} messages were read.'
            )
            return
        count += 1
        yield connection.topic, connection.msgtype, connection.msgdef, received_ns, data


def _is_wanted(connection: Connection, wanted: set[str] | None) -> bool:
    named = wanted is None or connection.topic.lstrip('/') in wanted
    return named and connection.msgtype in KINDS


def _salvage(
    path: Path, wanted: set[str] | None, on_problem: Callable[[str], None], reason: str
) -> Iterator[_Raw]:
    """Read an MCAP file that cannot be opened from front to back."""
    if path.suffix != '.mcap':
        raise UserError(reason)
    salvage, count = McapSalvage(path), 0
    for found in salvage.messages():
        count += 1
        if found.type in KINDS and (wanted is None or found.topic.lstrip('/') in wanted):
            text = MessageDefinition(MessageDefinitionFormat.MSG, found.definition)
            definition = text if found.definition else _NO_TEXT
            yield found.topic, found.type, definition, found.received_ns, found.data
    if not count:
        raise UserError(f'{reason} Nothing of it can be read.')
    at = salvage.damaged_at
    end = 'has no index' if at is None else f'is cut off or damaged at byte {at} of {salvage.size}'
    on_problem(f'{path} {end}: {count} messages before that were read.')


@lru_cache(maxsize=64)
def _store(kind: str, definition: MessageDefinition) -> Typestore:
    """Return the types to read a message with: as the bag defines them, else our own."""
    if definition.format == MessageDefinitionFormat.NONE:
        return typestore()
    store = get_typestore(Stores.EMPTY)
    if definition.format == MessageDefinitionFormat.MSG:
        store.register(get_types_from_msg(definition.data, kind))
    else:
        store.register(_idl_types(definition.data))
    return store


def _idl_types(text: str) -> dict:
    """Return the types of an IDL definition, or of several behind each other."""
    line = '=' * 80 + '\n'
    if not text.startswith(f'{line}IDL: '):
        return get_types_from_idl(text)
    types: dict = {}
    for part in text.split(line)[1:]:
        types.update(get_types_from_idl(part.split('\n', 1)[1]))
    return types


def _brief(error: Exception) -> str:
    """Return an error as one line without a full stop."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return text[:200].rstrip('.')
