"""What the gate and the state machine say, as eva_msgs/ChunkReport and eva_msgs/SafetyState."""

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.control import reasons
from eva_ros.control.state import SafetyStateMachine
from eva_ros.control.state import State
from eva_ros.control.verdict import Verdict
from eva_ros.robot.spec import Robot
from eva_ros.ros.stamps import to_time

NAN = float('nan')


def reason_code(name: str) -> int:
    """Return the constant of ChunkReport for a reason of eva_ros.control."""
    return int(getattr(ChunkReport, name, ChunkReport.ERROR))


def refusal_report(chunk: ActionChunk, reason: str, detail: str, now_ns: int) -> ChunkReport:
    """Return the report on a chunk that never came to the gate.

    Args:
        chunk: as received.
        reason: name of a ChunkReport constant.
        detail: one sentence.
        now_ns: when this was decided.
    """
    report = ChunkReport()
    report.header.stamp = to_time(now_ns)
    report.observation_stamp = chunk.observation_stamp
    report.observation_id = chunk.observation_id
    report.rollout_id = chunk.rollout_id
    report.reason = reason_code(reason)
    report.detail = detail
    report.stretch = NAN
    report.observation_age_s = NAN
    report.joint_state_age_s = NAN
    report.start_deviation_rad = NAN
    return report


def verdict_report(
    chunk: ActionChunk,
    verdict: Verdict,
    robot: Robot,
    now_ns: int,
    *,
    sent: bool,
    waits: bool = False,
) -> ChunkReport:
    """Return the report on a chunk that the gate judged.

    Args:
        chunk: as received.
        verdict: of the gate.
        robot: whose joints.
        now_ns: when this was decided.
        sent: whether both arms' commands were published; accepted and not sent is a dry run,
        waits: or waits for approval.
    """
    reason = verdict.reason
    if verdict.accepted and not sent:
        reason = reasons.AWAITING_APPROVAL if waits else reasons.DRY_RUN
    report = refusal_report(chunk, reason, verdict.detail, now_ns)
    report.accepted = verdict.accepted
    report.sent = sent
    report.joint_names = list(robot.joint_names)
    report.clamped_steps = [verdict.clamped_steps.get(name, 0) for name in robot.joint_names]
    report.clamped_max_rad = [verdict.clamped.get(name, 0.0) for name in robot.joint_names]
    report.limit_violations_before = verdict.limit_violations_before
    report.limit_violations_after = verdict.limit_violations_after
    report.stretch = float(verdict.stretch)
    report.execute_steps = verdict.execute_steps
    report.duration_s = float(verdict.duration_s)
    report.observation_age_s = float(verdict.observation_age_s)
    report.joint_state_age_s = float(verdict.joint_state_age_s)
    report.start_deviation_rad = float(verdict.start_deviation_rad)
    report.collision_pair = list(verdict.collision_pair)
    return report


def safety_message(
    machine: SafetyStateMachine,
    robot: Robot,
    entered_ns: int,
    *,
    dry_run: bool,
    rollout_id: int,
    mode: str = 'look_dream_move',
) -> SafetyState:
    """Return the state machine's state as a message.

    Args:
        machine: the state, and why it was entered.
        robot: whose arms.
        entered_ns: when the state was entered.
        dry_run: nothing is published to the controllers.
        rollout_id: the rollout being executed, else 0.
        mode: the gate's.
    """
    message = SafetyState(robot=robot.name, dry_run=dry_run)
    message.mode = int(getattr(SafetyState, mode.upper()))
    message.header.stamp = to_time(entered_ns)
    message.state = int(getattr(SafetyState, machine.state.value))
    message.estop = machine.state is State.ESTOP
    message.reason = reason_code(machine.reason)
    message.detail = machine.detail
    message.rollout_id = rollout_id
    return message
