"""The contents of a run's bag, sorted by purpose."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from mcap.exceptions import McapError
from mcap.reader import make_reader
from rosbags.interfaces import MessageDefinition
from rosbags.interfaces import MessageDefinitionFormat

from eva_ros.errors import UserError
from eva_ros.recordings.typestore import store_for
from eva_ros.robot.spec import Robot


@dataclass(frozen=True)
class Logged:
    """A message and its reception time, in ns of this machine's clock."""

    logged_ns: int
    message: Any


@dataclass
class Series:
    """Messages of a stream by their own stamps."""

    stamps: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def as_of(self, stamp_ns: int) -> Any | None:
        """Return the newest value not after an instant."""
        index = bisect_right(self.stamps, stamp_ns)
        return self.values[index - 1] if index else None


@dataclass
class RunTopics:
    """Images and commands by name; rollouts, chunks and reports by rollout number."""

    cameras: dict[str, Series] = field(default_factory=lambda: defaultdict(Series))
    joints: Series = field(default_factory=Series)
    rollouts: dict[int, Logged] = field(default_factory=dict)
    chunks: dict[int, Logged] = field(default_factory=dict)
    reports: dict[int, Logged] = field(default_factory=dict)
    commands: dict[str, list[Logged]] = field(default_factory=lambda: defaultdict(list))


def read_topics(bag: Path, robot: Robot) -> RunTopics:
    """Return the messages of a bag on a robot's topics."""
    cameras = {f'/{camera.topic}': camera.name for camera in robot.cameras.values()}
    arms = {f'/{arm.controller.topic}': arm.name for arm in robot.arms.values()}
    by_rollout = {'/rollout': 'rollouts', '/chunk': 'chunks', '/chunk_report': 'reports'}
    states = {f'/{topic}' for topic in robot.joint_state_topics}
    wanted = {*cameras, *arms, *by_rollout, *states}
    topics = RunTopics()
    for topic, logged_ns, message in _messages(bag, wanted):
        if topic in cameras:
            _append(topics.cameras[cameras[topic]], message, message)
        elif topic in states:
            _append(topics.joints, message, robot.from_joint_state(message.name, message.position))
        elif topic in arms:
            topics.commands[arms[topic]].append(Logged(logged_ns, message))
        else:
            getattr(topics, by_rollout[topic])[message.rollout_id] = Logged(logged_ns, message)
    return topics


def _messages(bag: Path, wanted: set[str]) -> Iterator[tuple[str, int, Any]]:
    """Yield topic, reception time and message, in the order of reception."""
    try:
        files = sorted(bag.glob('*.mcap'))
        if len(files) != 1:
            raise ValueError(f'it has {len(files)} MCAP files instead of one')
        with files[0].open('rb') as stream:
            found = make_reader(stream).iter_messages(list(wanted), log_time_order=False)
            for schema, channel, message in found:
                kind, text = (schema.name, schema.data.decode()) if schema else ('', '')
                store = store_for(kind, MessageDefinition(MessageDefinitionFormat.MSG, text))
                if store is None:
                    raise ValueError(f"the type '{kind}' of '{channel.topic}' is not known")
                read = store.deserialize_cdr(message.data, kind)
                yield channel.topic, message.publish_time, read
    except (OSError, ValueError, McapError) as error:
        raise UserError(f'The bag {bag} cannot be read: {error}.') from error


def _append(series: Series, message: Any, value: Any) -> None:
    series.stamps.append(to_ns(message.header.stamp))
    series.values.append(value)


def to_ns(stamp: Any) -> int:
    """Return a Time or Duration message in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec
