"""Rosbag2 recordings, MCAP or SQLite3, as typed records; damaged ones as far as they go."""

from collections import Counter
from collections.abc import Callable
from collections.abc import Collection
from collections.abc import Iterator
from dataclasses import dataclass
import logging
from pathlib import Path
from pathlib import PurePath
from typing import Any

from rosbags.interfaces import MessageDefinition
from rosbags.interfaces import MessageDefinitionFormat

from eva_ros.errors import UserError
from eva_ros.recordings.bag_files import METADATA
from eva_ros.recordings.bag_files import read_metadata
from eva_ros.recordings.bag_files import storage_files
from eva_ros.recordings.bag_files import storage_name
from eva_ros.recordings.records import EPISODE
from eva_ros.recordings.records import KINDS
from eva_ros.recordings.records import Record
from eva_ros.recordings.records import to_record
from eva_ros.recordings.storage import brief
from eva_ros.recordings.storage import CDR
from eva_ros.recordings.storage import open_part
from eva_ros.recordings.storage import Part
from eva_ros.recordings.storage import RawMessage
from eva_ros.recordings.storage import StoredTopic
from eva_ros.recordings.typestore import deviates
from eva_ros.recordings.typestore import full_name
from eva_ros.recordings.typestore import store_for
from eva_ros.recordings.unpack import unpack_message

# Nanoseconds that a signed number of 64 bits holds.
_LATEST_NS = 1 << 63
_log = logging.getLogger(__name__)


@dataclass
class Losses:
    """What a bag is known to have lost.

    Attributes:
        messages: that its index or metadata promise and that are not there, that are there in
            part, or that cannot be decoded.
        uncounted: whether there may be more, as nothing says how many there were.
        bytes: of its files, behind the place of a damage.
    """

    messages: int = 0
    uncounted: bool = False
    bytes: int = 0


class BagReader:
    """An open bag; damage is reported, and what was not damaged is read.

    Attributes:
        topics: the type of each topic, names without the leading slash.
        promised: how many messages each topic holds by the metadata or the files' indexes; a
            topic of which neither says so is missing.
        declared_s: how long the metadata say that the bag is, s; 0 where they do not.
        facts: what the bag says about itself (custom data in its metadata).
        found: how many messages of each topic were met, whether they can be read or not.
        unreadable: why the messages of a topic cannot be read, where they cannot.
        losses: complete when the messages have been read.
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
        self.path = path
        self.losses = Losses()
        self.found = Counter[str]()
        self._on_problem = on_problem
        # Whether messages are gone that only the metadata could count.
        self._gone = False
        about, files, fault = self._look(path)
        self._parts = self._open(files, set() if fault else _named(about))
        self.topics = {topic.name: topic.type for part in self._parts for topic in part.topics}
        self.facts = _facts(about)
        self.declared_s = _duration_s(about)
        stated = {} if fault else _promised(about)
        self._counted = bool(stated)
        self.promised = stated or _indexed(self._parts)
        self._texts = _texts(self._parts)
        self.unreadable = self._unreadable(_formats(about))
        for kind, text in self._texts.items():
            if deviates(kind, text):
                on_problem(
                    f"{path}: its definition of '{kind}' is damaged; it is read as ROS 2 has it."
                )

    @property
    def marked(self) -> bool:
        """Return whether there are Episode markers: a topic known to hold no message is none."""
        kinds = self.topics.items()
        return any(kind == EPISODE and self.promised.get(name) != 0 for name, kind in kinds)

    def __enter__(self) -> 'BagReader':
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the bag's files."""
        for part in self._parts:
            part.close()

    def records(self, topics: Collection[str] | None = None) -> Iterator[Record]:
        """Yield the records on some topics, or on all, as received.

        Types that are no records (see records.KINDS) are passed over.
        """
        wanted = set(self.topics) if topics is None else {t.lstrip('/') for t in topics}
        if topics is not None:
            wanted = {topic for topic in wanted if self.topics.get(topic) in KINDS}
        unread = Unread(self)
        for topic, received_ns, data in self.messages(wanted):
            if topic in self.unreadable:
                unread.leave_out(topic)
                continue
            if topic.type not in KINDS:
                continue
            try:
                yield self.decode(topic, received_ns, data)
            except Exception as error:  # damaged bytes fail in any way
                unread.fail(topic, received_ns, error)
        self.losses.messages += unread.count()
        for text in unread.sentences().values():
            self._on_problem(text)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[RawMessage]:
        """Yield topic, time received and bytes of each message, as received.

        Those on topics in `unreadable` are among them; `decode` is not for them.
        """
        wanted = set(self.topics if topics is None else topics)
        self.found.clear()
        broken = Counter[str]()
        for part in self._parts:
            for topic, received_ns, data in part.messages(wanted, self._on_problem):
                self.found[topic.name] += 1
                if 0 <= received_ns < _LATEST_NS:
                    yield topic, received_ns, data
                else:
                    broken[topic.name] += 1
        for name, count in broken.items():
            self._on_problem(
                f"{self.path}: {count} messages on '{name}' are left out: the times when they "
                'were received are damaged.'
            )
        self._count_losses(wanted, broken.total())

    def decode(self, topic: StoredTopic, received_ns: int, data: bytes) -> Record:
        """Return a message of one of the types in KINDS as a record.

        Raises:
            Exception: of any kind, where the bytes are damaged.
        """
        store = store_for(topic.type, self._texts.get(topic.type, topic.definition))
        if store is None:
            raise UserError(f"the type '{topic.type}' is not known")
        message = store.deserialize_cdr(unpack_message(data), topic.type)
        return to_record(topic.name, received_ns, message, topic.type)

    # Opening.

    def _look(self, path: Path) -> tuple[dict[str, Any], list[Path], str]:
        """Return what the metadata say, the files to read, and what is wrong with the metadata."""
        if path.is_file():
            return {}, [path], ''
        about, problem = read_metadata(path)
        files = storage_files(path)
        if problem and files:
            rest = '' if about else _in_place_of_metadata(files)
            self._on_problem(f'{problem}.{rest}')
        if not files:
            why = problem or 'its metadata.yaml names files that are missing'
            raise UserError(
                f'There is no bag in {path}: {why}, and no .mcap or .db3 file lies there.'
            )
        return about, self._listed(path, about, files), problem

    def _listed(self, path: Path, about: dict[str, Any], files: list[Path]) -> list[Path]:
        """Return the files in the order of the metadata, and say which are missing or new."""
        named = about.get('relative_file_paths')
        names = [PurePath(str(n)).name for n in named] if isinstance(named, list) else []
        if not names:
            return files
        there = {file.name: file for file in files}
        # A file may have been packed or unpacked after it was recorded.
        there = {storage_name(file).name: file for file in files} | there
        listed = [there[name] for name in dict.fromkeys(names) if name in there]
        missing = [name for name in names if name not in there]
        other = [file for file in files if file not in listed]
        self._gone = bool(missing) and not other
        if missing:
            shown = ', '.join(missing[:3]) + (' and more' if len(missing) > 3 else '')
            self._on_problem(
                f'{len(missing)} of the {len(names)} files that {path / METADATA} names are '
                f'missing ({shown}).'
            )
        if missing and other:
            self._on_problem(
                f'{", ".join(file.name for file in other)} in {path} are read in their place.'
            )
            return [*listed, *other]
        if other:
            self._on_problem(
                f'{path / METADATA} does not name {", ".join(file.name for file in other)}: '
                'they are left out; name them as bags of their own if they belong here.'
            )
        return listed

    def _open(self, files: list[Path], named: set[tuple[str, str]]) -> list[Part]:
        """Open the files that can be opened; if none can, say why the first one cannot."""
        parts, errors = [], []
        for file in files:
            try:
                parts.append(open_part(file, self._on_problem, named))
            except UserError as error:
                errors.append(error)
        if not parts:
            raise errors[0]
        for refusal in errors:
            self._on_problem(str(refusal))
        self._gone = self._gone or bool(errors)
        return parts

    def _unreadable(self, formats: dict[str, str]) -> dict[StoredTopic, str]:
        """Return why the messages of a topic cannot be read."""
        reasons = {}
        for topic in (topic for part in self._parts for topic in part.topics):
            form = formats.get(topic.name, topic.format)
            form = topic.format if form == CDR else form
            if form != CDR:
                reasons[topic] = f"they are serialized as '{form}', and only CDR can be read"
            elif topic.type not in self._texts and store_for(topic.type, _NONE) is None:
                reasons[topic] = f"neither the bag nor this package knows the type '{topic.type}'"
        return reasons

    def _count_losses(self, wanted: set[str], broken: int) -> None:
        """Compare what was found with what was promised; `broken` was there and of no use."""
        self.losses.bytes = sum(part.lost_bytes for part in self._parts)
        promised = {name: count for name, count in self.promised.items() if name in wanted}
        lost = sum(max(0, count - self.found[name]) for name, count in promised.items())
        known = sum(part.lost_messages for part in self._parts)
        self.losses.messages = max(lost, known) + broken
        hidden = self._gone or any(part.uncounted for part in self._parts)
        self.losses.uncounted = hidden and not self._counted


class Unread:
    """Counts messages that are in a bag and cannot be read, by topic."""

    def __init__(self, reader: BagReader) -> None:
        self._reader = reader
        self._left_out = Counter[tuple[str, str]]()
        self._broken: dict[str, tuple[int, str]] = {}

    def leave_out(self, topic: StoredTopic) -> None:
        """Take in a message on one of the reader's unreadable topics."""
        self._left_out[topic.name, self._reader.unreadable[topic]] += 1

    def fail(self, topic: StoredTopic, received_ns: int, error: Exception) -> None:
        """Take in a message that cannot be decoded."""
        count, first = self._broken.get(topic.name, (0, ''))
        first = first or f'the first, received at {received_ns} ns: {brief(error)}'
        self._broken[topic.name] = (count + 1, first)

    def count(self, topics: Collection[str] | None = None) -> int:
        """Return how many messages they are on some topics, or on all."""
        counts = Counter({name: count for name, (count, _) in self._broken.items()})
        for (name, _), count in self._left_out.items():
            counts[name] += count
        return sum(n for name, n in counts.items() if topics is None or name in topics)

    def sentences(self) -> dict[tuple[str, str], str]:
        """Return a sentence for each topic and cause."""
        path, found = self._reader.path, {}
        for name, (count, first) in self._broken.items():
            what = 'a message' if count == 1 else f'{count} messages'
            found[name, first] = f"{path}: {what} on '{name}' cannot be read: {first}."
        for (name, why), count in self._left_out.items():
            what = 'a message is' if count == 1 else f'{count} messages are'
            found[name, why] = f"{path}: {what} left out on '{name}': {why}."
        return found


def _in_place_of_metadata(files: list[Path]) -> str:
    if len(files) == 1:
        return ' Its file is read without.'
    return f' Its {len(files)} files are taken for the splits of one recording.'


_NONE = MessageDefinition(MessageDefinitionFormat.NONE, '')


def _facts(about: dict[str, Any]) -> dict[str, str]:
    found = about.get('custom_data')
    return (
        {str(key): str(value) for key, value in found.items()} if isinstance(found, dict) else {}
    )


def _duration_s(about: dict[str, Any]) -> float:
    try:
        return max(0, int(about['duration']['nanoseconds'])) * 1e-9
    except (KeyError, TypeError, ValueError):
        return 0.0


def _promised(about: dict[str, Any]) -> dict[str, int]:
    """Return each topic's number of messages as the metadata have it."""
    try:
        return {
            str(entry['topic_metadata']['name']).lstrip('/'): int(entry['message_count'])
            for entry in about['topics_with_message_count']
        }
    except (KeyError, TypeError, ValueError):
        return {}


def _named(about: dict[str, Any]) -> set[tuple[str, str]]:
    """Return the topics and types that the metadata name."""
    try:
        entries = [entry['topic_metadata'] for entry in about['topics_with_message_count']]
        return {(str(entry['name']), full_name(str(entry['type']))) for entry in entries}
    except (KeyError, TypeError):
        return set()


def _formats(about: dict[str, Any]) -> dict[str, str]:
    """Return how each topic's messages are serialized as the metadata have it."""
    try:
        entries = [entry['topic_metadata'] for entry in about['topics_with_message_count']]
        return {str(e['name']).lstrip('/'): str(e['serialization_format']) for e in entries}
    except (KeyError, TypeError):
        return {}


def _indexed(parts: list[Part]) -> dict[str, int]:
    counts = Counter[str]()
    for topic in (topic for part in parts for topic in part.topics):
        if topic.count is not None:
            counts[topic.name] += topic.count
    return dict(counts)


def _texts(parts: list[Part]) -> dict[str, MessageDefinition]:
    """Return the definition of each type that some file of the bag has."""
    return {
        topic.type: topic.definition
        for part in parts
        for topic in part.topics
        if topic.definition.format != MessageDefinitionFormat.NONE
    }
