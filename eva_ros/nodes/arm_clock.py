"""Time that is set while the arms are looked after."""

from collections.abc import Callable

from rclpy.clock import JumpThreshold
from rclpy.clock import TimeJump
from rclpy.duration import Duration

from eva_ros.nodes.arm_watchers import ClockWatch
from eva_ros.ros.lifecycle import EvaNode

_FORWARD_JUMP = Duration(seconds=5)
_BACKWARD_JUMP = Duration(nanoseconds=-1)
_SMALLEST_STEP_S = 0.1


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
