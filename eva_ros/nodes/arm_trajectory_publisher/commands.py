"""The command flow: from a chunk or an operator's call to what both arms are sent.

A chunk is judged, waits for approval where that is required, and is sent to both arms or to
neither; a report says what became of it. A stop is sent to every arm that can be reached.
"""

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_ros.control import reasons
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.running_motion import Order
from eva_ros.control.state import Event
from eva_ros.control.verdict import Verdict
from eva_ros.errors import UserError
from eva_ros.nodes.arm_trajectory_publisher.interrupts import ClockJumps
from eva_ros.nodes.arm_trajectory_publisher.measured_joints import MeasuredJoints
from eva_ros.nodes.arm_trajectory_publisher.outputs import ArmOutputs
from eva_ros.nodes.arm_trajectory_publisher.reports import ArmReports
from eva_ros.ros.chunks import received_chunk
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.reports import refusal_report
from eva_ros.ros.reports import verdict_report


class ArmCommands:
    """Sends both arms what the supervisor lets them have.

    Args:
        node: Node whose time it is.
        supervisor: Supervisor that judges, and keeps the state.
        joints: Measured joints.
        jumps: Watch on the node's clock; is asked before any time is used.
        outputs: Ways out to both arms.
        reports: Publishers of the reports, the state and the preview.
        stamp_mode: 'common': messages carry the time of sending; 'zero': they begin at receipt.
    """

    def __init__(
        self,
        node: EvaNode,
        supervisor: CommandSupervisor,
        joints: MeasuredJoints,
        jumps: ClockJumps,
        outputs: ArmOutputs,
        reports: ArmReports,
        stamp_mode: str,
    ) -> None:
        self._node = node
        self._supervisor = supervisor
        self._joints = joints
        self._jumps = jumps
        self._outputs = outputs
        self._reports = reports
        self._begins_at_receipt = stamp_mode == 'zero'
        self._waiting: ActionChunk | None = None

    # Chunks.

    def take(self, chunk: ActionChunk) -> None:
        """Judge a chunk, send it, let it wait or refuse it, and report on it."""
        now_ns = self._node.now_ns()
        try:
            report = self._judged(chunk, now_ns)
        except UserError as error:
            report = refusal_report(chunk, reasons.SHAPE_MISMATCH, str(error), now_ns)
        self._reports.publish_report(report)

    def _judged(self, chunk: ActionChunk, now_ns: int) -> ChunkReport:
        self._jumps.look()
        supervisor = self._supervisor
        if chunk.robot != supervisor.robot.name:
            detail = f"The chunk is for robot '{chunk.robot}', not for '{supervisor.robot.name}'."
            return refusal_report(chunk, reasons.ROBOT_MISMATCH, detail, now_ns)
        if refusal := supervisor.refusal(now_ns):
            return refusal_report(chunk, *refusal, now_ns)
        verdict = supervisor.judge(
            received_chunk(chunk), self._joints.positions, self._joints.stamp_ns, now_ns
        )
        if supervisor.motion is not None:
            # It joins the motion under way at the instant it was planned for.
            late = supervisor.missed_switch(now_ns, self._node.now_ns())
            if verdict.accepted and late:
                return refusal_report(chunk, *late, now_ns)
            return self._execute(chunk, verdict, now_ns)
        # Judging takes a while, and the motion begins when it is sent.
        now_ns = self._node.now_ns()
        if not supervisor.propose(verdict, chunk.rollout_id, now_ns):
            return self._execute(chunk, verdict, now_ns)
        self._waiting = chunk
        self._reports.publish_state()
        self._reports.preview(verdict, now_ns)
        return verdict_report(chunk, verdict, supervisor.robot, now_ns, sent=False, waits=True)

    def _execute(self, chunk: ActionChunk, verdict: Verdict, now_ns: int) -> ChunkReport:
        """Send a chunk's motion, if it was accepted, and return the report on it."""
        try:
            sent = self._send(verdict, chunk.rollout_id, now_ns)
        except UserError as error:
            return refusal_report(chunk, reasons.CONTROLLER_REJECTED, str(error), now_ns)
        self._reports.preview(verdict, now_ns)
        return verdict_report(chunk, verdict, self._supervisor.robot, now_ns, sent=sent)

    def _send(self, verdict: Verdict, rollout_id: int, now_ns: int) -> bool:
        """Send an accepted motion to both arms or to neither; return whether it was sent.

        Raises:
            UserError: One arm cannot be reached.
        """
        order = verdict.order
        if self._supervisor.dry_run or order is None:
            return False
        prepared = self._outputs.prepare(order, self._stamp_ns(now_ns))
        if not self._supervisor.execute(verdict, rollout_id, self._joints.positions, now_ns):
            return False
        self._outputs.send(prepared, now_ns)
        self._reports.publish_state()
        return True

    # Approval.

    def approve(self) -> str:
        """Send the chunk that waits and return a sentence.

        The arms have waited too: it is judged again against the joints now, but not for its age.

        Raises:
            UserError: No chunk waits, or it is no longer accepted.
        """
        now_ns, supervisor, chunk = self._look(), self._supervisor, self._waiting_chunk()
        age_s = self._joints.age_s(now_ns)
        if age_s is None or age_s > supervisor.settings.max_joint_state_age_s:
            raise UserError('The joint states are too old to approve anything.')
        verdict = supervisor.judge(
            received_chunk(chunk), self._joints.positions, None, supervisor.entered_ns
        )
        if not verdict.accepted:
            self._give_up(verdict.reason, verdict.detail)
            raise UserError(f'It is no longer accepted: {verdict.detail}')
        # Judging takes a while, and the motion begins when it is sent.
        self._waiting, now_ns = None, self._node.now_ns()
        report = self._execute(chunk, verdict, now_ns)
        if not report.sent:
            supervisor.reject(reasons.CONTROLLER_REJECTED, report.detail, now_ns)
            self._reports.publish_state()
        self._reports.publish_report(report)
        return report.detail

    def reject(self) -> str:
        """Refuse the chunk that waits; UserError if none does."""
        self._waiting_chunk()
        self._give_up(reasons.NOT_APPROVED, 'The operator rejected the chunk.')
        return 'Rejected.'

    def expire(self, now_ns: int) -> None:
        """Refuse a chunk that has waited for too long."""
        if self._supervisor.expired(now_ns):
            self._give_up(reasons.APPROVAL_EXPIRED, 'Nobody approved the chunk in time.')

    def _waiting_chunk(self) -> ActionChunk:
        if self._waiting is None or not self._supervisor.waiting_id:
            raise UserError('No chunk waits for approval.')
        return self._waiting

    def _give_up(self, reason: str, detail: str) -> None:
        now_ns = self._node.now_ns()
        self._supervisor.reject(reason, detail, now_ns)
        self._reports.publish_state()
        self._withdraw(reason, detail, now_ns)

    def _withdraw(self, reason: str, detail: str, now_ns: int) -> None:
        """Report that a chunk that waited was refused; the supervisor has left that state."""
        chunk, self._waiting = self._waiting, None
        if chunk is not None:
            self._reports.publish_report(refusal_report(chunk, reason, detail, now_ns))

    # The home pose.

    def go_home(self) -> str:
        """Move both arms to their home pose; UserError if they may not."""
        now_ns, supervisor = self._look(), self._supervisor
        refusal = supervisor.refusal(now_ns)
        if refusal is not None or supervisor.motion is not None:
            raise UserError(refusal[1] if refusal else 'The arms are moving.')
        verdict = supervisor.judge_home(self._joints.positions, self._joints.stamp_ns, now_ns)
        if not verdict.accepted:
            raise UserError(verdict.detail)
        now_ns = self._node.now_ns()
        sent = self._send(verdict, 0, now_ns)
        self._reports.preview(verdict, now_ns)
        return verdict.detail + ('' if sent else ' Dry run: nothing is sent.')

    # Stops.

    def leave(self, event: Event, reason: str, detail: str) -> str:
        """Disarm, fault or e-stop: bring both arms to rest and return a sentence.

        Raises:
            UserError: The state does not allow it, or an arm could not be reached; all else is
                done all the same.
        """
        now_ns = self._look()
        try:
            went, sentence, order = self._supervisor.leave(
                event, reason, detail, self._joints.positions, now_ns
            )
            self._stop(order, now_ns)
        finally:
            self._withdraw(reason, detail, now_ns)
            self._reports.publish_state()
        if not went:
            raise UserError(sentence)
        return sentence

    def hold(self) -> str:
        """Brake and stay armed; return a sentence."""
        now_ns = self._look()
        if self._supervisor.motion is None:
            return 'The arms are not moving.'
        try:
            self._stop(self._supervisor.stop(self._joints.positions, now_ns), now_ns)
        finally:
            self._reports.publish_state()
        return 'The arms brake; they stay armed.'

    def stop_again(self, arm: str, fault: tuple[str, str]) -> None:
        """Send disarmed arms another stop if one of them goes on, or say what is wrong.

        Args:
            arm: Arm with the fault.
            fault: Reason and sentence.
        """
        now_ns = self._node.now_ns()
        try:
            order = self._supervisor.stop_again(arm, fault, self._joints.positions, now_ns)
            self._stop(order, now_ns)
        finally:
            self._reports.publish_state()

    def _stop(self, order: Order | None, now_ns: int) -> None:
        """Bring both arms to rest; UserError if one cannot be reached, the other got its stop.

        A brake continues the motion under way and carries a stamp; a hold of arms at rest begins
        when it arrives, however late that is. Once the clock jumped, until the node is activated
        again, the controllers' clocks may have jumped too, and a brake begins at receipt as well.
        """
        if order is None:
            return
        timed = order.goes_on and not self._jumps.happened
        self._outputs.stop(order, self._stamp_ns(now_ns) if timed else 0, now_ns)

    def _look(self) -> int:
        """Return the time now, once a jump of the clock has been dealt with."""
        self._jumps.look()
        return self._node.now_ns()

    def _stamp_ns(self, now_ns: int) -> int:
        return 0 if self._begins_at_receipt else now_ns
