"""The wait for approval: an accepted chunk moves the arms when somebody says so, or never."""

from eva_msgs.msg import ActionChunk
from eva_ros.control import reasons
from eva_ros.control.gate import Verdict
from eva_ros.control.guard import ArmGuard
from eva_ros.errors import UserError
from eva_ros.nodes.arm_dispatch import ArmDispatch
from eva_ros.nodes.arm_reports import ArmReports
from eva_ros.nodes.measured_joints import MeasuredJoints
from eva_ros.ros.chunks import received_chunk
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.reports import refusal_report


class ChunkApproval:
    """Keeps the one chunk that waits, and says what becomes of it.

    Args:
        node: whose time it is.
        guard: whose state says that a chunk waits.
        joints: against which it is judged again.
        dispatch: sends it once it is approved.
        reports: tell what became of it.
    """

    def __init__(
        self,
        node: EvaNode,
        guard: ArmGuard,
        joints: MeasuredJoints,
        dispatch: ArmDispatch,
        reports: ArmReports,
    ) -> None:
        self._node = node
        self._guard = guard
        self._joints = joints
        self._dispatch = dispatch
        self._reports = reports
        self._waiting: ActionChunk | None = None

    def propose(self, chunk: ActionChunk, verdict: Verdict, now_ns: int) -> bool:
        """Let a chunk wait, if it was accepted and is to be asked for; return whether it waits.

        Args:
            chunk: as received.
            verdict: of the gate on it.
            now_ns: when it was judged.
        """
        guard = self._guard
        asks = guard.settings.approve and not guard.dry_run and guard.motion is None
        if not (verdict.accepted and asks and guard.propose(verdict, chunk.rollout_id, now_ns)):
            return False
        self._waiting = chunk
        self._reports.publish_state()
        self._reports.preview(verdict, now_ns)
        return True

    def approve(self) -> str:
        """Send what waits and return the sentence on it.

        The arms have waited too: it is judged again against the joints now, but not for its age.

        Raises:
            UserError: nothing waits, or it is no longer accepted.
        """
        now_ns = self._node.now_ns()
        chunk = self._chunk()
        age_s = self._joints.age_s(now_ns)
        if age_s is None or age_s > self._guard.settings.max_joint_state_age_s:
            raise UserError('The joint states are too old to approve anything.')
        proposed_ns = self._guard.entered_ns
        verdict = self._guard.judge(
            received_chunk(chunk), self._joints.positions, None, proposed_ns
        )
        if not verdict.accepted:
            self._give_up(verdict.reason, verdict.detail)
            raise UserError(f'It is no longer accepted: {verdict.detail}')
        # Judging takes a while, and the motion begins when it is sent.
        self._waiting, now_ns = None, self._node.now_ns()
        report = self._dispatch.execute(chunk, verdict, now_ns)
        if not report.sent:
            self._guard.reject(reasons.CONTROLLER_REJECTED, report.detail, now_ns)
            self._reports.publish_state()
        self._reports.publish_report(report)
        return report.detail

    def reject(self) -> str:
        """Refuse what waits; UserError if nothing does."""
        self._chunk()
        self._give_up(reasons.NOT_APPROVED, 'The operator rejected the chunk.')
        return 'Rejected.'

    def expire(self, now_ns: int) -> None:
        """Refuse what has waited for too long."""
        if self._guard.expired(now_ns):
            self._give_up(reasons.APPROVAL_EXPIRED, 'Nobody approved the chunk in time.')

    def withdraw(self, reason: str, detail: str, now_ns: int) -> None:
        """Report that what waited was refused, where the guard has left that state already.

        Args:
            reason: name of a ChunkReport constant.
            detail: one sentence.
            now_ns: when that was.
        """
        chunk, self._waiting = self._waiting, None
        if chunk is not None:
            self._reports.publish_report(refusal_report(chunk, reason, detail, now_ns))

    def _chunk(self) -> ActionChunk:
        if self._waiting is None or not self._guard.waiting_id:
            raise UserError('No chunk waits for approval.')
        return self._waiting

    def _give_up(self, reason: str, detail: str) -> None:
        now_ns = self._node.now_ns()
        self._guard.reject(reason, detail, now_ns)
        self._reports.publish_state()
        self.withdraw(reason, detail, now_ns)
