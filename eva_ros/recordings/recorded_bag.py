"""A bag that grows while a robot is watched, and that is readable wherever it is cut off.

Written with the mcap library: chunks are small, checked by their CRC, and handed to the system
every second, so that a process that dies takes no more than the last second with it.
"""

from collections import Counter
from collections.abc import Mapping
from collections.abc import Sequence
from contextlib import suppress
import os
from pathlib import Path
import shutil
from typing import Any

from mcap.writer import CompressionType
from mcap.writer import Writer
import yaml

from eva_ros.errors import UserError
from eva_ros.recordings.bag_files import METADATA
from eva_ros.recordings.typestore import typestore

# Damage costs a chunk.
_CHUNK = 1 << 18


class RecordedBag:
    """A rosbag2 folder with one MCAP file.

    Attributes:
        path: the folder.
        counts: messages by topic.
        size: bytes of all messages.
    """

    def __init__(self, path: Path, facts: Mapping[str, str]) -> None:
        """Begin a bag.

        Args:
            path: folder of the bag; it must not exist.
            facts: what the bag says about itself, also where it is never finished.

        Raises:
            UserError: the folder cannot be made.
        """
        try:
            path.mkdir(parents=True)
            self._file = path / f'{path.name}_0.mcap'
            self._stream = self._file.open('wb')
        except OSError as error:
            raise UserError(f'The bag {path} cannot be made: {error.strerror}.') from None
        self.path = path
        self.counts: Counter[str] = Counter()
        self.size = 0
        self._facts = dict(facts)
        self._kinds: dict[str, str] = {}
        self._offered: dict[str, list[dict[str, Any]]] = {}
        self._channels: dict[str, int] = {}
        self._times: list[int] = []
        self._writer = Writer(self._stream, chunk_size=_CHUNK, compression=CompressionType.NONE)
        self._writer.start('ros2', library='eva_ros')
        self._writer.add_metadata('eva', self._facts)

    def add_topic(self, name: str, kind: str, offered: Sequence[Mapping[str, Any]] = ()) -> None:
        """Name a topic that messages may come on.

        Args:
            name: of the topic.
            kind: its type.
            offered: what each publisher offers, in rosbag2's names; a player offers the same.

        Raises:
            UserError: the type is not known, so that nobody could read the messages. A bag that
                holds none yet is removed, or half a bag would be left of a recording that never
                began.
        """
        store = typestore()
        if kind not in store.types:
            if not self.counts:
                self.discard()
            raise UserError(
                f"The bag {self.path} cannot hold '{name}': its type '{kind}' is not known here."
            )
        text, _ = store.generate_msgdef(kind, ros_version=2)
        schema = self._writer.register_schema(kind, 'ros2msg', text.encode())
        self._offered[name] = [dict(profile) for profile in offered]
        profiles = yaml.safe_dump(self._offered[name], sort_keys=False) if offered else ''
        about = {'offered_qos_profiles': profiles, 'topic_type_hash': store.hash_rihs01(kind)}
        self._channels[name] = self._writer.register_channel(name, 'cdr', schema, about)
        self._kinds[name] = kind

    def write(
        self, topic: str, received_ns: int, data: bytes, published_ns: int | None = None
    ) -> None:
        """Write a message on a topic that was named before.

        Args:
            topic: its name.
            received_ns: when it was heard, in ROS time: what a player goes by.
            data: CDR bytes.
            published_ns: when it was sent, by the system's clock; `received_ns` where unknown.
        """
        sent_ns = received_ns if published_ns is None else published_ns
        self._writer.add_message(
            self._channels[topic], received_ns, data, sent_ns, self.counts[topic]
        )
        self.counts[topic] += 1
        self.size += len(data)
        first, last = self._times or (received_ns, received_ns)
        self._times = [min(first, received_ns), max(last, received_ns)]

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._writer.flush()

    def close(self, facts: Mapping[str, str]) -> None:
        """Finish the bag and say more about it; it is on the disk when this returns."""
        self._writer.finish()
        self._stream.flush()
        # Some disks say only here that they could not take what was written.
        os.fsync(self._stream.fileno())
        self._stream.close()
        part = self.path / (METADATA + '.part')
        part.write_text(yaml.safe_dump(self._about({**self._facts, **facts})), encoding='utf-8')
        part.rename(self.path / METADATA)

    def discard(self) -> None:
        """Remove the bag."""
        with suppress(OSError):
            # What could not be written is not wanted any more.
            self._stream.close()
        shutil.rmtree(self.path)

    def _about(self, facts: dict[str, str]) -> dict[str, Any]:
        """Return the metadata as rosbag2 writes them, version 9."""
        store = typestore()
        begin, end = self._times or (0, 0)
        duration = {'nanoseconds': end - begin}
        start = {'nanoseconds_since_epoch': begin}
        count = self.counts.total()
        file = {
            'path': self._file.name, 'starting_time': start, 'duration': duration,
            'message_count': count,
        }  # fmt: skip
        topics = [
            {
                'topic_metadata': {
                    'name': name, 'type': kind, 'serialization_format': 'cdr',
                    'offered_qos_profiles': self._offered[name],
                    'type_description_hash': store.hash_rihs01(kind),
                },
                'message_count': self.counts[name],
            }
            for name, kind in self._kinds.items()
        ]  # fmt: skip
        about = {
            'version': 9, 'storage_identifier': 'mcap', 'duration': duration,
            'starting_time': start, 'message_count': count, 'topics_with_message_count': topics,
            'compression_format': '', 'compression_mode': '',
            'relative_file_paths': [self._file.name], 'files': [file], 'custom_data': facts,
            'ros_distro': 'jazzy',
        }  # fmt: skip
        return {'rosbag2_bagfile_information': about}
