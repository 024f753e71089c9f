"""What the arm trajectory publisher says: chunk reports, the safety state, the previewed path."""

from trajectory_msgs.msg import JointTrajectory

from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.control import reasons
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.verdict import Verdict
from eva_ros.nodes.arm_trajectory_publisher.measured_joints import MeasuredJoints
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.diagnostics import Health
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.lifecycle import flush
from eva_ros.ros.reports import safety_message
from eva_ros.ros.trajectories import path_message

_NO_FAULT = (reasons.OK, reasons.OPERATOR, reasons.DEACTIVATED, reasons.AWAITING_APPROVAL,
             reasons.NOT_APPROVED, reasons.APPROVAL_EXPIRED)  # fmt: skip


class ArmReports:
    """Publishes what becomes of chunks, the safety state and the previewed path.

    Args:
        node: Node that owns the publishers and the diagnostics.
        supervisor: Supervisor with the state.
        joints: Measured joints, for their age.
    """

    def __init__(
        self, node: EvaNode, supervisor: CommandSupervisor, joints: MeasuredJoints
    ) -> None:
        self._node = node
        self._supervisor = supervisor
        self._joints = joints
        self._preview = node.publish_on(JointTrajectory, topics.PREVIEW, qos.LATCHED)
        self._chunks = node.publish_on(ChunkReport, topics.CHUNK_REPORT, qos.REPORT)
        self._safety = node.publish_on(SafetyState, topics.SAFETY_STATE, qos.LEASED)

    def publish_report(self, report: ChunkReport) -> None:
        """Publish the report on a chunk."""
        self._chunks.publish(report)
        level = 'ok' if report.accepted else 'warn'
        self._node.diagnostics.report('chunk', level, report.detail, rollout_id=report.rollout_id)

    def preview(self, verdict: Verdict, now_ns: int) -> None:
        """Publish the path of a verdict, if it has one, for people to look at."""
        if verdict.path is not None:
            message = path_message(self._supervisor.robot, verdict.path, now_ns)
            self._preview.publish(message)

    def publish_state(self) -> None:
        """Publish the state as it is now."""
        supervisor = self._supervisor
        self._safety.publish(
            safety_message(
                supervisor.machine,
                supervisor.robot,
                supervisor.entered_ns,
                dry_run=supervisor.dry_run,
                rollout_id=supervisor.rollout_id,
                mode=supervisor.settings.mode,
            )
        )
        self._node.diagnostics.publish()

    def finish(self) -> None:
        """Wait until every listener has the last state."""
        flush([self._safety])

    def health(self) -> Health:
        """Return how the arms are, for the diagnostics."""
        machine = self._supervisor.machine
        level = 'ok' if machine.reason in _NO_FAULT else 'error'
        age_s = self._joints.age_s(self._node.now_ns())
        return Health(
            level,
            f'{machine.state.value}: {machine.detail}',
            {'dry_run': self._supervisor.dry_run, 'joint_state_age_s': age_s},
        )
