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

# What a latched topic said before is told to the second alone; the third hears best effort too.
_QUALITIES = (qos.REPORT, qos.LATCHED, qos.SENSOR_INPUT)
_FORWARD_JUMP = Duration(seconds=5)
_BACKWARD_JUMP = Duration(nanoseconds=-1)
_SMALLEST_STEP_S = 0.1


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


class ClockJumps:
    """Tells by how much the node's clock was set.

    Simulated time says by itself that it was set; the system's clock is looked at.

    Args:
        node: whose clock.
        max_clock_skew_s: what is less is taken for the system clock's own correction.
        on_jump: is called with by how much it was set, in ns.

    Attributes:
        happened: since the last `forget`.
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
        """Begin anew, by the clock as it is now."""
        self.look()
        self.happened = False

    def look(self) -> None:
        """Find out whether the system's clock was set since the last look."""
        by_ns = self._watch.jumped_ns()
        if by_ns and not self.is_simulated:
            self._jumped(by_ns)

    def _on_simulated(self, jump: TimeJump) -> None:
        # The first message on /clock sets the time; that is no jump.
        if jump.delta.nanoseconds < self._node.now_ns():
            jumped = self._when_active if self._node.is_active else self._jumped
            jumped(jump.delta.nanoseconds)

    def _jumped(self, by_ns: int) -> None:
        self.happened = True
        self._on_jump(by_ns)
