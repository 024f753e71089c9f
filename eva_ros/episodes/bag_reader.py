"""Rosbag2 recordings, MCAP or SQLite3, as typed records; damaged ones as far as they go."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from contextlib import suppress
from functools import lru_cache
import logging
from pathlib import Path

from rosbags.interfaces import MessageDefinition
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.typesys import get_types_from_idl
from rosbags.typesys import get_types_from_msg
from rosbags.typesys import get_typestore
from rosbags.typesys import Stores
from rosbags.typesys.store import Typestore

from eva_ros.episodes.bag_files import storage_files
from eva_ros.episodes.mcap_salvage import McapSalvage
from eva_ros.episodes.records import KINDS
from eva_ros.episodes.records import Record
from eva_ros.episodes.records import to_record
from eva_ros.episodes.typestore import typestore
from eva_ros.errors import UserError

_log = logging.getLogger(__name__)
_NO_TEXT = MessageDefinition(MessageDefinitionFormat.NONE, '')


_Raw = tuple[str, str, MessageDefinition, int, bytes]


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
    with BagReader(path, on_problem) as bag:
        yield from bag.records(topics)


class BagReader:
    """An open bag; damage is reported, and what was not damaged is read.

    Attributes:
        topics: the type of each topic, names without the leading slash.
    """

    def __init__(self, path: Path, on_problem: Callable[[str], None] = _log.warning) -> None:
        """Open a bag.

        Args:
            path: folder or file of the bag.
            on_problem: is given a sentence for whatever could not be read.

        Raises:
            UserError: there is no bag, or nothing of it can be read.
        """
        if not path.exists():
            raise UserError(f'There is no bag {path}.')
        self._on_problem = on_problem
        self._parts = self._open(path)
        self.topics: dict[str, str] = {}
        for part in self._parts:
            self.topics.update(part.topics)

    def __enter__(self) -> 'BagReader':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag's files."""
        for part in self._parts:
            part.close()

    def records(self, topics: Collection[str] | None = None) -> Iterator[Record]:
        """Yield the records on some topics, or on all, as received; see read_bag."""
        wanted = set(self.topics) if topics is None else {t.lstrip('/') for t in topics}
        for part in self._parts:
            for topic, kind, text, received_ns, data in part.messages(wanted, self._on_problem):
                try:
                    message = _store(kind, text).deserialize_cdr(data, kind)
                    yield to_record(topic, received_ns, message, kind)
                except Exception as error:  # damaged bytes fail in any way
                    self._on_problem(
                        f"{part.path}: a message on '{topic}' cannot be read: {_brief(error)}."
                    )

    def _open(self, path: Path) -> list['_Indexed | _Salvaged']:
        try:
            return [_Indexed(path)]
        except UserError as error:
            files = storage_files(path)
            if path.is_dir() and files:
                self._on_problem(f'{error} Its files are read one by one.')
                return self._open_files(files)
            if path.suffix != '.mcap':
                raise
            return [_Salvaged(path, str(error))]

    def _open_files(self, files: list[Path]) -> list['_Indexed | _Salvaged']:
        """Open the files that can be opened; if none can, say why the first one cannot."""
        parts, errors = [], []
        for file in files:
            try:
                parts += self._open(file)
            except UserError as error:
                errors.append(error)
        if not parts:
            raise errors[0]
        for refusal in errors:
            self._on_problem(str(refusal))
        return parts


class _Indexed:
    """A bag that opens as it should."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._reader = Reader(path)
            self._reader.open()
        except Exception as error:  # whatever damage does to the library's parsing
            raise UserError(f'The bag {path} cannot be opened: {_brief(error)}.') from None
        found = self._reader.connections
        self.topics = {connection.topic.lstrip('/'): connection.msgtype for connection in found}

    def close(self) -> None:
        with suppress(Exception):
            self._reader.close()

    def messages(self, wanted: set[str], on_problem: Callable[[str], None]) -> Iterator[_Raw]:
        """Yield topic, type, definition, time and bytes of each message of a known type."""
        connections = [
            connection
            for connection in self._reader.connections
            if connection.msgtype in KINDS and connection.topic.lstrip('/') in wanted
        ]
        if not connections:
            return
        messages, count = self._reader.messages(connections), 0
        while True:
            try:
                connection, received_ns, data = next(messages)
            except StopIteration:
                return
            except Exception as error:  # a damaged chunk or page
                total = sum(found.msgcount for found in connections)
                on_problem(
                    f'{self.path} is damaged: {_brief(error)}; {count} of {total} messages were '
                    'read.'
                )
                return
            count += 1
            yield connection.topic, connection.msgtype, connection.msgdef, received_ns, data


class _Salvaged:
    """An MCAP file that cannot be opened: read from front to back."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.topics = {
            found.topic.lstrip('/'): found.type for found in McapSalvage(path).messages()
        }
        if not self.topics:
            raise UserError(f'{reason} Nothing of it can be read.')

    def close(self) -> None:
        pass

    def messages(self, wanted: set[str], on_problem: Callable[[str], None]) -> Iterator[_Raw]:
        salvage, count = McapSalvage(self.path), 0
        for found in salvage.messages():
            count += 1
            if found.type in KINDS and found.topic.lstrip('/') in wanted:
                text = MessageDefinition(MessageDefinitionFormat.MSG, found.definition)
                definition = text if found.definition else _NO_TEXT
                yield found.topic, found.type, definition, found.received_ns, found.data
        at = salvage.damaged_at
        end = (
            'has no index'
            if at is None
            else f'is cut off or damaged at byte {at} of {salvage.size}'
        )
        on_problem(f'{self.path} {end}: {count} messages before that were read.')


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
