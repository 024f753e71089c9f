"""The e-stop topic: what was pressed last, and whether anybody is there to press it."""

from collections.abc import Callable
from functools import partial
import time

from std_msgs.msg import Bool

from eva_ros.nodes.arm_watchers import Heartbeat
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.compat import SubscriptionEventCallbacks
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.publishers import publisher_names

# What a latched topic said before is told to the second alone; the third hears best effort too.
_QUALITIES = (qos.REPORT, qos.LATCHED, qos.SENSOR_INPUT)


class EstopTopic:
    """Hears whoever presses, by whatever quality of service, and while the node is inactive too.

    What was pressed before this node came is told by a latched topic alone. A message does not
    say who sent it: with several publishers none of them can release what another pressed.

    Args:
        node: on which the subscriptions are made.
        heartbeat_s: its publisher is lost when silent for longer; 0: it may be silent.
        on_press: is called at every message that says pressed; what it raises would end the
            node, and the latch with it.

    Attributes:
        is_pressed: what the last message said; stays true while there are several publishers.
        was_pressed: somebody pressed it; until `forget`.
    """

    def __init__(self, node: EvaNode, heartbeat_s: float, on_press: Callable[[], object]) -> None:
        self.is_pressed = self.was_pressed = False
        self._node = node
        # The graph is asked by the name that it was remapped to.
        self._topic = node.resolve_topic_name(topics.ESTOP)
        self._heartbeat = Heartbeat(heartbeat_s)
        self._on_press = on_press
        # That one of them does not fit a publisher is no news: another does.
        quiet = SubscriptionEventCallbacks(
            incompatible_qos=lambda event: None, use_default_callbacks=False
        )
        for quality in _QUALITIES:
            subscription = node.create_subscription(
                Bool, topics.ESTOP, self._on_message, quality, event_callbacks=quiet
            )
            node.own(partial(node.destroy_subscription, subscription))

    @property
    def publishers(self) -> list[str]:
        """Return who can press, by full name."""
        return publisher_names(self._node, self._topic)

    @property
    def must_be_heard(self) -> bool:
        """Return whether its publisher may not fall silent."""
        return self._heartbeat.is_needed

    @property
    def is_lost(self) -> bool:
        """Return whether its publisher must be heard and is not."""
        return self._heartbeat.lost(time.monotonic_ns())

    def forget(self) -> None:
        """Take what was pressed until now as known."""
        self.was_pressed = self.is_pressed

    def _on_message(self, message: Bool) -> None:
        # Not by the node's clock, which somebody may set.
        self._heartbeat.beat(time.monotonic_ns())
        if message.data:
            self.is_pressed = self.was_pressed = True
            self._on_press()
        elif self._node.count_publishers(self._topic) < 2:
            self.is_pressed = False
