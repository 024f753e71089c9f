"""The e-stop topic: what was pressed last, and whether anybody is there to press it."""

from collections.abc import Callable
from functools import partial

from rclpy.event_handler import SubscriptionEventCallbacks
from std_msgs.msg import Bool

from eva_ros.nodes.arm_watchers import Heartbeat
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.lifecycle import EvaNode

# What a latched topic said before is told to the second alone; the third hears best effort too.
_QUALITIES = (qos.REPORT, qos.LATCHED, qos.SENSOR_INPUT)


class EstopTopic:
    """Hears whoever presses, by whatever quality of service, and while the node is inactive too.

    What was pressed before this node came is told by a latched topic alone.

    Args:
        node: on which the subscriptions are made.
        heartbeat_s: its publisher is lost when silent for longer; 0: it may be silent.
        on_press: is called at every message that says pressed; what it raises would end the
            node, and the latch with it.

    Attributes:
        is_pressed: what the last message said.
    """

    def __init__(self, node: EvaNode, heartbeat_s: float, on_press: Callable[[], object]) -> None:
        self.is_pressed = False
        self._node = node
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

    def is_lost(self, now_ns: int) -> bool:
        """Return whether its publisher must be heard and is not."""
        return self._heartbeat.lost(now_ns)

    def _on_message(self, message: Bool) -> None:
        self._heartbeat.beat(self._node.now_ns())
        self.is_pressed = message.data
        if message.data:
            self._on_press()
