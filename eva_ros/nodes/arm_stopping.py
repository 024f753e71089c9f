"""How the arms stop: asked to hold, disarmed, for a fault or an e-stop; and whether they do."""

from eva_ros.control import reasons
from eva_ros.control.guard import ArmGuard
from eva_ros.control.motion import Order
from eva_ros.control.state import Event
from eva_ros.errors import UserError
from eva_ros.nodes.arm_approval import ChunkApproval
from eva_ros.nodes.arm_clock import ClockJumps
from eva_ros.nodes.arm_dispatch import ArmDispatch
from eva_ros.nodes.arm_reports import ArmReports
from eva_ros.nodes.measured_joints import MeasuredJoints
from eva_ros.ros.lifecycle import EvaNode


class ArmStopping:
    """Brings both arms to rest.

    Args:
        node: whose time it is.
        guard: says how, and keeps the state.
        joints: where the arms are.
        jumps: of the clock by which they brake.
        dispatch: sends the stop.
        approval: of what waited, and waits no more.
        reports: tell of the state.
    """

    def __init__(
        self,
        node: EvaNode,
        guard: ArmGuard,
        joints: MeasuredJoints,
        jumps: ClockJumps,
        dispatch: ArmDispatch,
        approval: ChunkApproval,
        reports: ArmReports,
    ) -> None:
        self._node = node
        self._guard = guard
        self._joints = joints
        self._jumps = jumps
        self._dispatch = dispatch
        self._approval = approval
        self._reports = reports

    def leave(self, event: Event, detail: str, reason: str = reasons.OPERATOR) -> str:
        """Disarm, fault or e-stop: bring both arms to rest and return the sentence on it.

        Raises:
            UserError: the state does not allow it, or an arm could not be reached; all else is
                done all the same.
        """
        self._jumps.look()
        now_ns = self._node.now_ns()
        try:
            went, sentence, order = self._guard.leave(
                event, reason, detail, self._joints.positions, now_ns
            )
            self._send(order, now_ns)
        finally:
            self._approval.withdraw(reason, detail, now_ns)
            self._reports.publish_state()
        if not went:
            raise UserError(sentence)
        return sentence

    def hold(self) -> str:
        """Brake, and stay armed."""
        self._jumps.look()
        if self._guard.motion is None:
            return 'The arms are not moving.'
        now_ns = self._node.now_ns()
        try:
            self._send(self._guard.stop(self._joints.positions, now_ns), now_ns)
        finally:
            self._reports.publish_state()
        return 'The arms brake; they stay armed.'

    def again(self, arm: str, fault: tuple[str, str]) -> None:
        """Send arms that are not armed another stop, where one goes on, or say what is wrong.

        Args:
            arm: 'left' or 'right'.
            fault: that was found with it.
        """
        now_ns = self._node.now_ns()
        try:
            order = self._guard.stop_again(arm, fault, self._joints.positions, now_ns)
            self._send(order, now_ns)
        finally:
            self._reports.publish_state()

    def _send(self, order: Order, now_ns: int) -> None:
        # Until the node is activated anew, who knows whose clock jumped too.
        self._dispatch.stop(order, now_ns, clock_is_good=not self._jumps.happened)
