"""Why a chunk was refused or the arms were stopped: the constants of eva_msgs/ChunkReport."""

OK = 'OK'
NOT_ARMED = 'NOT_ARMED'
ESTOP = 'ESTOP'
BUSY = 'BUSY'
STALE_OBSERVATION = 'STALE_OBSERVATION'
STALE_JOINT_STATE = 'STALE_JOINT_STATE'
NO_JOINT_STATE = 'NO_JOINT_STATE'
STAMP_IN_FUTURE = 'STAMP_IN_FUTURE'
NON_FINITE = 'NON_FINITE'
JOINT_MISMATCH = 'JOINT_MISMATCH'
SHAPE_MISMATCH = 'SHAPE_MISMATCH'
BAD_TIMING = 'BAD_TIMING'
LOW_CONFIDENCE = 'LOW_CONFIDENCE'
START_DEVIATION = 'START_DEVIATION'
START_BLEND_EXCEEDED = 'START_BLEND_EXCEEDED'
STRETCH_EXCEEDED = 'STRETCH_EXCEEDED'
LIMIT_VIOLATION = 'LIMIT_VIOLATION'
SECOND_PUBLISHER = 'SECOND_PUBLISHER'
CLOCK_JUMP = 'CLOCK_JUMP'
SIM_TIME = 'SIM_TIME'
OPERATOR = 'OPERATOR'


class RefusedError(Exception):
    """A check failed: nothing may be sent to either arm.

    Attributes:
        reason: one of the constants above.
        detail: a sentence for the person at the robot.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(f'{reason}: {detail}')
        self.reason = reason
        self.detail = detail
