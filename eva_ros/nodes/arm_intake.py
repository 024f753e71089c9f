"""From a chunk that arrives to what becomes of it: sent, asked for, or refused; and the report."""

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_ros.control import reasons
from eva_ros.control.guard import ArmGuard
from eva_ros.errors import UserError
from eva_ros.nodes.arm_approval import ChunkApproval
from eva_ros.nodes.arm_clock import ClockJumps
from eva_ros.nodes.arm_dispatch import ArmDispatch
from eva_ros.nodes.arm_reports import ArmReports
from eva_ros.nodes.measured_joints import MeasuredJoints
from eva_ros.ros.chunks import received_chunk
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.reports import refusal_report
from eva_ros.ros.reports import verdict_report


class ChunkIntake:
    """Has chunks judged, and passes on what is accepted.

    Args:
        node: whose time it is.
        guard: judges.
        joints: where the arms are.
        jumps: of the clock, by which a chunk's age is told.
        approval: where an accepted chunk may have to wait.
        dispatch: sends it.
        reports: tell of every chunk.
    """

    def __init__(
        self,
        node: EvaNode,
        guard: ArmGuard,
        joints: MeasuredJoints,
        jumps: ClockJumps,
        approval: ChunkApproval,
        dispatch: ArmDispatch,
        reports: ArmReports,
    ) -> None:
        self._node = node
        self._guard = guard
        self._joints = joints
        self._jumps = jumps
        self._approval = approval
        self._dispatch = dispatch
        self._reports = reports

    def take(self, chunk: ActionChunk) -> None:
        """Judge a chunk, let the arms have it or not, and report on it."""
        now_ns = self._node.now_ns()
        try:
            report = self._judged(chunk, now_ns)
        except UserError as error:
            report = refusal_report(chunk, reasons.SHAPE_MISMATCH, str(error), now_ns)
        self._reports.publish_report(report)

    def _judged(self, chunk: ActionChunk, now_ns: int) -> ChunkReport:
        self._jumps.look()
        guard = self._guard
        if chunk.robot != guard.robot.name:
            detail = f"The chunk is for robot '{chunk.robot}', not for '{guard.robot.name}'."
            return refusal_report(chunk, reasons.ROBOT_MISMATCH, detail, now_ns)
        refusal = guard.refusal(now_ns)
        if refusal is not None:
            return refusal_report(chunk, *refusal, now_ns)
        verdict = guard.judge(
            received_chunk(chunk), self._joints.positions, self._joints.stamp_ns, now_ns
        )
        if guard.motion is not None:
            # It joins the motion under way at the instant it was planned for.
            late_s = (self._node.now_ns() - now_ns) * 1e-9
            settings = guard.settings
            if verdict.accepted and late_s > settings.switch_lead_s - settings.control_period_s:
                detail = f'It took {late_s:.3f} s to check the chunk: the switch to it is past.'
                return refusal_report(chunk, reasons.STALE_OBSERVATION, detail, now_ns)
            return self._dispatch.execute(chunk, verdict, now_ns)
        now_ns = self._node.now_ns()
        if self._approval.propose(chunk, verdict, now_ns):
            return verdict_report(chunk, verdict, guard.robot, now_ns, sent=False, waits=True)
        return self._dispatch.execute(chunk, verdict, now_ns)
