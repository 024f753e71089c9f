"""What interrupts the arms from outside: the e-stop topic, and a clock that is set."""

from collections.abc import Callable
from functools import partial
import time

from rclpy.clock import JumpThreshold
from rclpy.clock import TimeJump
from rclpy.duration import Duration
from std_msgs.msg import Bool

from eva_ros.control.watchers import ClockWatch
from eva_ros.control.watchers import Heartbeat
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.compat import SubscriptionEventCallbacks
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.publishers import publisher_names

# Only the second receives what a latched topic said earlier; the third hears best effort too.
_QUALITIES = (qos.REPORT, qos.LATCHED, qos.SENSOR_INPUT)
_FORWARD_JUMP = Duration(seconds=5)
_BACKWARD_JUMP = Duration(nanoseconds=-1)
_SMALLEST_STEP_S = 0.1


class EstopTopic:
    """Hears every publisher of the e-stop, of any quality of service, while inactive too.

    Only a latched topic reveals an e-stop pressed before this node started. A message does not
    say who sent it: with several publishers none of them can release what another pressed.

    Args:
        node: Node that subscribes.
        heartbeat_s: Longest silence of the publisher before it counts as lost; 0: any.
        on_press: Called at every message that says pressed. It must not raise: that would end the
            node, and the latch with it.

    Attributes:
        is_pressed: What the last message said; stays true while there are several publishers.
        was_pressed: Whether it was pressed since the last `forget`.
    """

    def __init__(self, node: EvaNode, heartbeat_s: float, on_press: Callable[[], object]) -> None:
        self.is_pressed = self.was_pressed = False
        self._node = node
        # Graph queries need the remapped name.
        self._topic = node.resolve_topic_name(topics.ESTOP)
        self._heartbeat = Heartbeat(heartbeat_s)
        self._on_press = on_press
        # An incompatible publisher is not worth a warning: another subscription fits it.
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
        """Return the nodes that publish the e-stop, by full name."""
        return publisher_names(self._node, self._topic)

    @property
    def must_be_heard(self) -> bool:
        """Return whether a silent publisher counts as lost."""
        return self._heartbeat.is_needed

    @property
    def is_lost(self) -> bool:
        """Return whether the publisher must be heard and is not."""
        return self._heartbeat.lost(time.monotonic_ns())

    def forget(self) -> None:
        """Reset `was_pressed` to the present state."""
        self.was_pressed = self.is_pressed

    def _on_message(self, message: Bool) -> None:
        # Not by the node's clock, which can be set.
        self._heartbeat.beat(time.monotonic_ns())
        if message.data:
            self.is_pressed = self.was_pressed = True
            self._on_press()
        elif self._node.count_publishers(self._topic) < 2:
            self.is_pressed = False


class ClockJumps:
    """Detects that the node's clock was set.

    Simulated time announces its jumps; the system's clock has to be polled.

    Args:
        node: Node whose clock is watched.
        max_clock_skew_s: Smaller jumps of the system's clock are its own corrections.
        on_jump: Called with the size of the jump in ns.

    Attributes:
        happened: Whether it jumped since the last `forget`.
    """

    def __init__(
        self, node: EvaNode, max_clock_skew_s: float, on_jump: Callable[[int], object]
    ) -> None:
        self.happened = False
        self._node = node
        self._on_jump = on_jump
        self._when_active = node.guarded('clock', self._jumped)
        allowed_s = max(max_clock_skew_s, _SMALLEST_STEP_S)
        self._watch = ClockWatch(lambda: node.now_ns(), allowed_s)
        threshold = JumpThreshold(
            min_forward=_FORWARD_JUMP, min_backward=_BACKWARD_JUMP, on_clock_change=False
        )
        jumps = node.get_clock().create_jump_callback(threshold, post_callback=self._on_simulated)
        node.own(jumps.unregister)

    @property
    def is_simulated(self) -> bool:
        """Return whether the time comes from /clock."""
        return self._node.param('use_sim_time')

    def forget(self) -> None:
        """Start again from the clock as it is now."""
        self.look()
        self.happened = False

    def look(self) -> None:
        """Check whether the system's clock was set since the last look."""
        by_ns = self._watch.jumped_ns()
        if by_ns and not self.is_simulated:
            self._jumped(by_ns)

    def _on_simulated(self, jump: TimeJump) -> None:
        # The first message on /clock sets the time; that is not a jump.
        if jump.delta.nanoseconds < self._node.now_ns():
            jumped = self._when_active if self._node.is_active else self._jumped
            jumped(jump.delta.nanoseconds)

    def _jumped(self, by_ns: int) -> None:
        self.happened = True
        self._on_jump(by_ns)
