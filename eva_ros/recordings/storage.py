"""The files of a bag: opened by their index, or else read from front to back."""

from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
import tempfile

from rosbags.interfaces import MessageDefinition
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader

from eva_ros.errors import UserError
from eva_ros.recordings.bag_files import storage_name
from eva_ros.recordings.salvage.mcap_messages import McapSalvage
from eva_ros.recordings.salvage.mcap_messages import Names
from eva_ros.recordings.salvage.mcap_messages import SalvagedMessage
from eva_ros.recordings.salvage.mcap_summary import has_end
from eva_ros.recordings.salvage.mcap_summary import is_summary_damaged
from eva_ros.recordings.salvage.sqlite_messages import SavedTopic
from eva_ros.recordings.salvage.sqlite_messages import SqliteSalvage
from eva_ros.recordings.typestore import full_name
from eva_ros.recordings.unpack import is_packed
from eva_ros.recordings.unpack import unpack_file

Say = Callable[[str], None]
CDR = 'cdr'
_NO_TEXT = MessageDefinition(MessageDefinitionFormat.NONE, '')
_FORMATS = {
    'ros2msg': MessageDefinitionFormat.MSG,
    'ros2idl': MessageDefinitionFormat.IDL,
    'omgidl': MessageDefinitionFormat.IDL,
}


@dataclass(frozen=True)
class StoredTopic:
    """What a file says about a topic.

    Attributes:
        name: without the leading slash.
        type: complete name, e.g. sensor_msgs/msg/Image.
        definition: the type's text, of the format NONE where the file has none.
        format: how its messages are serialized; only CDR can be read.
        count: messages, as the file's index says; None where there is no index.
    """

    name: str
    type: str
    definition: MessageDefinition
    format: str
    count: int | None


RawMessage = tuple[StoredTopic, int, bytes]


class Part:
    """A file of a bag.

    Attributes:
        path: the file, as the user knows it.
        topics: what it holds.
        lost_messages: those known to be lost, where no index says how many there were.
        uncounted: whether more may be lost than `lost_messages` and an index say.
        lost_bytes: of the file, from the damage to its end.
    """

    path: Path
    topics: list[StoredTopic]
    lost_messages: int = 0
    uncounted: bool = False
    lost_bytes: int = 0

    def messages(self, wanted: Collection[str], say: Say) -> Iterator[RawMessage]:
        """Yield topic, time received and bytes of messages on wanted topics."""
        raise NotImplementedError

    def span(self) -> tuple[int, int | None] | None:
        """Return when its first and last messages were received; None where there is none.

        The last is not known of a file that is cut off.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the file."""


def open_part(path: Path, say: Say, named: Names = frozenset()) -> Part:
    """Open a file of a bag: packed, whole, cut off or without an index.

    Args:
        path: the file.
        say: is given a sentence for whatever is damaged.
        named: topics and types that the bag's metadata name.

    Raises:
        UserError: nothing of it can be read; names the file.
    """
    if not path.stat().st_size:
        raise UserError(f'{path} is empty: it has 0 bytes.')
    if not is_packed(path):
        return _open(path, path, say, named)
    folder, inside, damage = unpack_file(path)
    try:
        if damage:
            say(damage)
        part = _open(inside, path, say, named)
    except BaseException:
        folder.cleanup()
        raise
    return _Unpacked(part, folder, path)


def _open(path: Path, shown: Path, say: Say, named: Names) -> Part:
    try:
        return _Indexed(path, shown, named)
    except UserError as error:
        if storage_name(path).suffix == '.mcap':
            return _SalvagedMcap(path, shown, str(error), named)
        return _SalvagedSqlite(path, shown, str(error), say)


class _Indexed(Part):
    """A file that opens as it should."""

    def __init__(self, path: Path, shown: Path, named: Names) -> None:
        self.path, self._file, self._place, self._named = shown, path, '', named
        try:
            self._reader = Reader(path)
            self._reader.open()
            self._topics = {found.id: _topic(found) for found in self._reader.connections}
        except Exception as error:  # whatever damage does to the library's parsing
            raise UserError(f'The bag {shown} cannot be opened: {brief(error)}.') from None
        if path.suffix == '.mcap' and is_summary_damaged(path):
            self.close()
            raise UserError(f'The index at the end of {shown} is damaged: its checksum differs.')
        self.topics = list(self._topics.values())
        self._wal = path.with_name(path.name + '-wal')

    def close(self) -> None:
        with suppress(Exception):
            self._reader.close()

    def span(self) -> tuple[int, int | None] | None:
        if not self._reader.message_count:
            return None
        return self._reader.start_time, self._reader.end_time

    def messages(self, wanted: Collection[str], say: Say) -> Iterator[RawMessage]:
        found = [c for c in self._reader.connections if self._topics[c.id].name in wanted]
        if not found:
            return
        if self._wal.is_file() and self._wal.stat().st_size:
            self.uncounted = True
            say(f'{self._wal} holds messages that were never put into the bag: they are lost.')
        messages, count = self._reader.messages(found), 0
        # What was read last, and all that was received at that instant.
        last_ns, same = -1, list[tuple[str, bytes]]()
        while True:
            try:
                connection, received_ns, data = next(messages)
            except StopIteration:
                return
            except Exception as error:  # a damaged chunk or page
                total = sum(connection.msgcount for connection in found)
                for later in self._behind(last_ns, same, wanted):
                    count += 1
                    yield later
                say(
                    f'{self.path} is damaged: {brief(error)}; {count} of {total} messages were '
                    f'read.{self._place}'
                )
                return
            if not isinstance(received_ns, int) or not isinstance(data, bytes | memoryview):
                say(f"{self.path}: a row of '{connection.topic}' is damaged and left out.")
                continue
            count += 1
            if received_ns != last_ns:
                last_ns = received_ns
                same.clear()
            same.append((connection.topic, bytes(data)))
            yield self._topics[connection.id], received_ns, bytes(data)

    def _behind(
        self, last_ns: int, same: list[tuple[str, bytes]], wanted: Collection[str]
    ) -> Iterator[RawMessage]:
        """Yield what the other chunks of a damaged MCAP file hold of later times."""
        if self._file.suffix != '.mcap':
            return
        salvage = McapSalvage(self._file, self._named)
        known = {(topic.name, topic.type): topic for topic in self.topics}
        for found in salvage.messages():
            topic = known.get((found.topic.lstrip('/'), full_name(found.type)))
            if topic is None or topic.name not in wanted or found.received_ns < last_ns:
                continue
            if found.received_ns > last_ns or (found.topic, found.data) not in same:
                yield topic, found.received_ns, found.data
        places = [*salvage.broken, *([salvage.damaged_at] if salvage.damaged_at else [])]
        self._place = f' The first damage is at byte {places[0]}.' if places else ''
        self.lost_bytes = salvage.broken_bytes
        if salvage.damaged_at is not None:
            self.lost_bytes += salvage.size - salvage.damaged_at


def _topic(connection: object) -> StoredTopic:
    form = getattr(connection.ext, 'serialization_format', '') or CDR  # type: ignore[attr-defined]
    return StoredTopic(
        connection.topic.lstrip('/'),  # type: ignore[attr-defined]
        full_name(connection.msgtype),  # type: ignore[attr-defined]
        connection.msgdef,  # type: ignore[attr-defined]
        form,
        int(connection.msgcount),  # type: ignore[attr-defined]
    )


class _SalvagedMcap(Part):
    """An MCAP file that cannot be opened: read from front to back.

    It may be whole: the library opens none that holds what ROS 2 does not write.
    """

    def __init__(self, path: Path, shown: Path, reason: str, named: Names) -> None:
        self.path, self._file, self._first_ns, self._named = shown, path, 1 << 64, named
        self._last_ns = 0
        found: dict[tuple[str, str], StoredTopic] = {}
        salvage = McapSalvage(path, named)
        for message in salvage.messages():
            found.setdefault((message.topic, message.type), _salvaged(message))
            self._first_ns = min(self._first_ns, message.received_ns)
            self._last_ns = max(self._last_ns, message.received_ns)
        self._whole = salvage.foreign and has_end(path) and salvage.damaged_at is None
        self.topics = list(found.values())
        if not self.topics:
            raise UserError(f'{reason} Nothing of it can be read.')

    def span(self) -> tuple[int, int | None] | None:
        return self._first_ns, self._last_ns if self._whole else None

    def messages(self, wanted: Collection[str], say: Say) -> Iterator[RawMessage]:
        salvage, count = McapSalvage(self._file, self._named), 0
        known: dict[tuple[str, str], StoredTopic] = {}
        for found in salvage.messages():
            count += 1
            key = (found.topic, found.type)
            topic = known.get(key) or known.setdefault(key, _salvaged(found))
            if topic.name in wanted:
                yield topic, found.received_ns, found.data
        damaged = salvage.index_damaged or has_end(self._file)
        end = 'has a damaged index at its end' if damaged else 'has no index'
        if salvage.damaged_at is not None:
            end = f'is cut off or damaged at byte {salvage.damaged_at} of {salvage.size}'
            self.lost_bytes = salvage.size - salvage.damaged_at
        self.uncounted = salvage.damaged_at is not None or bool(salvage.broken)
        self.lost_messages = salvage.cut_messages
        self.lost_bytes += salvage.broken_bytes
        if salvage.index_damaged or not self._whole:
            say(f'{self.path} {end}: {count} messages before that were read.')
        if salvage.broken:
            say(
                f'{self.path}: {len(salvage.broken)} damaged chunks were passed over, the first '
                f'at byte {salvage.broken[0]}.'
            )


def _salvaged(found: SalvagedMessage | SavedTopic) -> StoredTopic:
    name = found.topic if isinstance(found, SalvagedMessage) else found.name
    form = _FORMATS.get(found.encoding)
    text = MessageDefinition(form, found.definition) if form and found.definition else _NO_TEXT
    return StoredTopic(name.lstrip('/'), full_name(found.type), text, found.format or CDR, None)


class _SalvagedSqlite(Part):
    """An SQLite3 file whose size or index is wrong: read row by row."""

    # How many rows there were stands nowhere else.
    uncounted = True

    def __init__(self, path: Path, shown: Path, reason: str, say: Say) -> None:
        self.path = shown
        try:
            self._salvage = SqliteSalvage(path)
        except UserError:
            raise UserError(f'{reason} Nothing of it can be read.') from None
        self._known = {saved: _salvaged(saved) for saved in self._salvage.topics.values()}
        self.topics = list(self._known.values())
        say(reason)

    def span(self) -> tuple[int, int | None] | None:
        first = next(iter(self._salvage.messages()), None)
        return (first[1], None) if first else None

    def close(self) -> None:
        self._salvage.close()

    def messages(self, wanted: Collection[str], say: Say) -> Iterator[RawMessage]:
        count = 0
        for saved, received_ns, data in self._salvage.messages():
            count += 1
            if self._known[saved].name in wanted:
                yield self._known[saved], received_ns, data
        if self._salvage.damage:
            # The row that was being read when the damage was met.
            self.lost_messages = 1
            say(
                f'{self.path} is cut off or damaged ({self._salvage.damage}): {count} messages '
                'before that were read.'
            )


class _Unpacked(Part):
    """A file in a temporary folder."""

    def __init__(self, part: Part, folder: 'tempfile.TemporaryDirectory[str]', path: Path) -> None:
        self.path, self.topics, self._part, self._folder = path, part.topics, part, folder

    def messages(self, wanted: Collection[str], say: Say) -> Iterator[RawMessage]:
        yield from self._part.messages(wanted, say)
        self.lost_messages, self.lost_bytes = self._part.lost_messages, self._part.lost_bytes
        self.uncounted = self._part.uncounted

    def span(self) -> tuple[int, int | None] | None:
        return self._part.span()

    def close(self) -> None:
        self._part.close()
        self._folder.cleanup()


def brief(error: Exception) -> str:
    """Return an error as one line without a full stop."""
    text = ' '.join(str(error).split()) or type(error).__name__
    return text[:200].rstrip('.')
