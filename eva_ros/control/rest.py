"""What is sent to arms at rest begins with a moment of rest."""

from dataclasses import replace

from eva_ros.control.reasons import RefusedError
from eva_ros.control.settings import GateSettings
from eva_ros.control.stop import standing
from eva_ros.control.trajectory import check_command
from eva_ros.control.trajectory import to_command
from eva_ros.control.verdict import Verdict
from eva_ros.robot.spec import Robot


def begun_at_rest(verdict: Verdict, robot: Robot, settings: GateSettings) -> Verdict:
    """Let an accepted motion begin with the rest that is committed for a control period.

    A controller that takes the message anew within it begins to move when the other one does, and
    as planned: without it the way to the first point would be left less time.

    Args:
        verdict: on a chunk for arms at rest; a refusal is returned as it is.
        robot: whose arms.
        settings: of the gate; the control period.

    Returns:
        The verdict on it; refused where the messages would not be fit to be sent.
    """
    if not verdict.accepted or verdict.path is None:
        return verdict
    start, limits = verdict.path.positions[0], robot.limits
    if ((start < limits.min_position) | (start > limits.max_position)).any():
        # No point outside the limits is sent, not even to stay there: the chunk brings them back.
        return verdict
    path = standing(start, settings.control_period_s).then(verdict.path)
    command = to_command(robot, path)
    try:
        check_command(command, robot)
    except RefusedError as refusal:
        return replace(
            verdict, accepted=False, reason=refusal.reason, detail=refusal.detail, command={},
            path=None, limit_violations_after=0, execute_steps=0, duration_s=0.0,
        )  # fmt: skip
    return replace(verdict, command=command, path=path, duration_s=path.duration)
