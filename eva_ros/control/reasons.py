"""Why a chunk was refused or the arms were stopped: the constants of eva_msgs/ChunkReport."""

OK = 'OK'
DRY_RUN = 'DRY_RUN'
AWAITING_APPROVAL = 'AWAITING_APPROVAL'
NOT_ARMED = 'NOT_ARMED'
ESTOP = 'ESTOP'
BUSY = 'BUSY'
NOT_APPROVED = 'NOT_APPROVED'
APPROVAL_EXPIRED = 'APPROVAL_EXPIRED'
STALE_OBSERVATION = 'STALE_OBSERVATION'
STALE_JOINT_STATE = 'STALE_JOINT_STATE'
NO_JOINT_STATE = 'NO_JOINT_STATE'
STAMP_IN_FUTURE = 'STAMP_IN_FUTURE'
NON_FINITE = 'NON_FINITE'
JOINT_MISMATCH = 'JOINT_MISMATCH'
SHAPE_MISMATCH = 'SHAPE_MISMATCH'
BAD_TIMING = 'BAD_TIMING'
ROBOT_MISMATCH = 'ROBOT_MISMATCH'
LOW_CONFIDENCE = 'LOW_CONFIDENCE'
LOW_EXECUTABILITY = 'LOW_EXECUTABILITY'
START_DEVIATION = 'START_DEVIATION'
START_BLEND_EXCEEDED = 'START_BLEND_EXCEEDED'
STRETCH_EXCEEDED = 'STRETCH_EXCEEDED'
COLLISION = 'COLLISION'
WORKSPACE = 'WORKSPACE'
LIMIT_VIOLATION = 'LIMIT_VIOLATION'
TRACKING = 'TRACKING'
ARM_NOT_FOLLOWING = 'ARM_NOT_FOLLOWING'
CONTROLLER_REJECTED = 'CONTROLLER_REJECTED'
CONTROLLER_ABORTED = 'CONTROLLER_ABORTED'
SECOND_PUBLISHER = 'SECOND_PUBLISHER'
CLOCK_JUMP = 'CLOCK_JUMP'
LIMITS_CHANGED = 'LIMITS_CHANGED'
ESTOP_HEARTBEAT_LOST = 'ESTOP_HEARTBEAT_LOST'
SIM_TIME = 'SIM_TIME'
OPERATOR = 'OPERATOR'
DEACTIVATED = 'DEACTIVATED'
ERROR = 'ERROR'


class RefusedError(Exception):
    """A check failed: nothing may be sent to either arm.

    Attributes:
        reason: one of the constants above.
        detail: a sentence for the person at the robot.
        pair: the two colliding bodies, if that is the reason.
    """

    def __init__(self, reason: str, detail: str, pair: tuple[str, ...] = ()) -> None:
        super().__init__(f'{reason}: {detail}')
        self.reason = reason
        self.detail = detail
        self.pair = pair
