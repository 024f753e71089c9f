"""The last step to the arms: an accepted motion to both or to neither, and the stop."""

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_ros.control import reasons
from eva_ros.control.gate import Verdict
from eva_ros.control.guard import ArmGuard
from eva_ros.control.guard import Order
from eva_ros.errors import UserError
from eva_ros.nodes.arm_outputs import ArmOutputs
from eva_ros.nodes.arm_reports import ArmReports
from eva_ros.nodes.measured_joints import MeasuredJoints
from eva_ros.ros.reports import refusal_report
from eva_ros.ros.reports import verdict_report


class ArmDispatch:
    """Sends both arms what the guard lets them have.

    Args:
        guard: begins a motion, or keeps it back.
        joints: where the motion is begun.
        outputs: of both arms.
        reports: tell of the state and the path.
        stamp_mode: 'common': messages carry the time of sending; 'zero': they begin at receipt.
    """

    def __init__(
        self,
        guard: ArmGuard,
        joints: MeasuredJoints,
        outputs: ArmOutputs,
        reports: ArmReports,
        stamp_mode: str,
    ) -> None:
        self._guard = guard
        self._joints = joints
        self._outputs = outputs
        self._reports = reports
        self._begins_at_receipt = stamp_mode == 'zero'

    def execute(self, chunk: ActionChunk, verdict: Verdict, now_ns: int) -> ChunkReport:
        """Send a chunk's motion, if it was accepted, and return the report on it.

        Args:
            chunk: as received.
            verdict: of the gate on it.
            now_ns: the time of sending.
        """
        try:
            sent = self.send(verdict, chunk.rollout_id, now_ns)
        except UserError as error:
            return refusal_report(chunk, reasons.CONTROLLER_REJECTED, str(error), now_ns)
        self._reports.preview(verdict, now_ns)
        return verdict_report(chunk, verdict, self._guard.robot, now_ns, sent=sent)

    def send(self, verdict: Verdict, rollout_id: int, now_ns: int) -> bool:
        """Send an accepted motion to both arms, or to neither; return whether it was sent.

        Args:
            verdict: of the gate.
            rollout_id: that it came from; 0: from none.
            now_ns: the time at which the motion begins.

        Raises:
            UserError: one arm cannot be reached.
        """
        if self._guard.dry_run or not verdict.accepted:
            return False
        stamp_ns = self._stamp_ns(now_ns)
        prepared = self._outputs.prepare(Order(verdict.command, verdict.path), stamp_ns)
        order = self._guard.execute(verdict, rollout_id, self._joints.positions, now_ns)
        if order:
            self._outputs.send(prepared, now_ns)
            self._reports.publish_state()
        return bool(order)

    def stop(self, order: Order, now_ns: int, *, clock_is_good: bool) -> None:
        """Bring both arms to rest.

        A brake goes on with the motion under way and tells when; a hold of arms at rest begins
        when it arrives, however late that is.

        Args:
            order: of the guard.
            now_ns: the time of sending.
            clock_is_good: the controllers know this time; else it begins when it arrives.

        Raises:
            UserError: an arm cannot be reached; the other one got its stop.
        """
        timed = order.goes_on and clock_is_good
        self._outputs.stop(order, self._stamp_ns(now_ns) if timed else 0, now_ns)

    def _stamp_ns(self, now_ns: int) -> int:
        return 0 if self._begins_at_receipt else now_ns
