"""Listens to topics as their publishers speak, byte for byte, and counts what never arrived."""

from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from importlib import import_module
from typing import Any

from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy

from eva_ros.errors import UserError
from eva_ros.ros.compat import with_message_info
from eva_ros.ros.definitions import learn_type
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.qos import as_recorded

# Deep, because images come in bursts.
_DEPTH = 200
Hear = Callable[[str, bytes], None]


@dataclass
class HeardTopic:
    """What is known of a topic.

    Attributes:
        name: as the robot YAML has it.
        kind: e.g. sensor_msgs/msg/JointState.
        count: messages heard since `HeardTopics.begin`.
        dropped: messages that were sent since then and never heard.
        heard_ns: when the last one was.
        latched: what its publishers keep for late listeners, in the order heard.
    """

    name: str
    kind: str
    count: int = 0
    dropped: int = 0
    heard_ns: int = 0
    latched: dict[bytes, None] = field(default_factory=dict)
    # Of the last message; None where the next one is the first, or there are several publishers.
    sequence: int | None = None
    publishers: int = 0
    quality: tuple[bool, bool] | None = None
    subscription: Any = None


class HeardTopics:
    """Topics of a node.

    Args:
        node: hears them.
        kinds: type of each topic.
        hear: is given a topic's name and each message's bytes.
        beside: further topics and their types, heard where the types are installed.

    Raises:
        UserError: a type's package is not installed.
    """

    def __init__(
        self, node: EvaNode, kinds: dict[str, str], hear: Hear, beside: dict[str, str]
    ) -> None:
        self._node, self._hear = node, hear
        self._unknown: list[str] = []
        self._classes = {name: message_class(kind) for name, kind in kinds.items()}
        for name, kind in beside.items():
            try:
                self._classes.setdefault(name, message_class(kind))
            except UserError:
                self._unknown.append(name)
        every = {**beside, **kinds}
        self.topics = {name: HeardTopic(name, every[name]) for name in self._classes}
        node.own(self._forget)
        self.look()

    def begin(self) -> None:
        """Count anew."""
        for topic in self.topics.values():
            topic.count = topic.dropped = 0
            topic.sequence = None

    def look(self) -> None:
        """Listen as the publishers that are there now speak: reliably if all of them do."""
        for topic in self.topics.values():
            full = self._node.resolve_topic_name(topic.name)
            offered = [i.qos_profile for i in self._node.get_publishers_info_by_topic(full)]
            changed = len(offered) != topic.publishers
            if changed:
                topic.publishers, topic.sequence = len(offered), None
            reliable = all(q.reliability == ReliabilityPolicy.RELIABLE for q in offered)
            kept = all(q.durability == DurabilityPolicy.TRANSIENT_LOCAL for q in offered)
            quality = (bool(offered) and reliable, bool(offered) and kept)
            # Whoever listens anew is told what each publisher keeps.
            anew = quality != topic.quality or (changed and kept)
            if topic.quality is None or (offered and anew):
                self._listen(topic, quality)

    def missed(self) -> list[str]:
        """Return the topics that are published, and whose type is not installed."""
        return [name for name in self._unknown if self._node.count_publishers(name)]

    def offered(self, name: str) -> list[dict[str, Any]]:
        """Return what each publisher of a topic offers, as a bag says it."""
        full = self._node.resolve_topic_name(name)
        found = self._node.get_publishers_info_by_topic(full)
        return [as_recorded(info.qos_profile) for info in found]

    def _listen(self, topic: HeardTopic, quality: tuple[bool, bool]) -> None:
        if topic.subscription is not None:
            self._node.destroy_subscription(topic.subscription)
        topic.quality, topic.sequence = quality, None
        topic.latched.clear()
        reliable, kept = quality
        policy = ReliabilityPolicy
        profile = QoSProfile(
            depth=_DEPTH,
            reliability=policy.RELIABLE if reliable else policy.BEST_EFFORT,
            durability=(DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE),
        )
        hear = self._node.guarded(topic.name, self._on_message)

        def on_message(data: bytes, info: dict[str, Any]) -> None:
            hear(topic, data, info)

        topic.subscription = self._node.create_subscription(
            self._classes[topic.name],
            topic.name,
            with_message_info(on_message),
            profile,
            raw=True,
        )

    def _on_message(self, topic: HeardTopic, data: bytes, info: dict[str, Any]) -> None:
        topic.count += 1
        topic.heard_ns = self._node.now_ns()
        if topic.quality and topic.quality[1]:
            if topic.publishers == 1:
                topic.latched.clear()
            topic.latched.pop(data, None)
            topic.latched[data] = None
        number = info.get('publication_sequence_number')
        if isinstance(number, int) and topic.publishers == 1:
            if topic.sequence is not None and number > topic.sequence + 1:
                topic.dropped += number - topic.sequence - 1
            topic.sequence = number
        self._hear(topic.name, data)

    def _forget(self) -> None:
        for topic in self.topics.values():
            if topic.subscription is not None:
                self._node.destroy_subscription(topic.subscription)
                topic.subscription = None


def message_class(kind: str) -> Any:
    """Return the class of a message type, whose definition bags can hold from then on.

    Raises:
        UserError: there is no such type in this ROS installation.
    """
    package, _, name = kind.partition('/msg/')
    try:
        found = getattr(import_module(f'{package}.msg'), name)
    except (ImportError, AttributeError, ValueError):
        raise UserError(f"The message type '{kind}' is not installed here.") from None
    learn_type(kind)
    return found
