"""Whether publishers of one joint state topic agree on where the arms are."""

from collections.abc import Callable
from collections.abc import Sequence
import time

import numpy as np
from numpy.typing import NDArray

from eva_ros.robot.leaps import encoder_noise
from eva_ros.robot.leaps import SPEED_MARGIN
from eva_ros.robot.spec import Robot

# Messages that were held up on their way arrive together: their stamps tell how far they are
# apart, as long as that is no more than a hold-up.
_LONGEST_HOLD_UP_S = 0.1
# Stamps of one publisher go on as time does.
_MOST_STAMP_SLIP_S = 1.0
# A publisher that said one thing and left was there all the same.
_REMEMBERED_S = 2.0

Array = NDArray[np.float64]


class JointClaims:
    """Compares each joint state with the one before it that was believed, joint by joint.

    rclpy doesn't say who sent a message. Where a topic has several publishers, a leap that no
    joint can make within the time between two messages is therefore a contradiction: the message
    is not believed, and the topic's publishers count as contradicting each other until only one
    of them is left, and for two seconds at least. Publishers of different joints, and those that
    say the same, never leap.

    Args:
        robot: whose joints, and their velocity limits.
        publishers: returns the full names of the nodes that publish on a topic.
    """

    def __init__(self, robot: Robot, publishers: Callable[[str], Sequence[str]]) -> None:
        self._robot = robot
        self._publishers = publishers
        self._noise = encoder_noise(robot.gripper_mask)
        # The sentence by topic, and until when it stands whoever leaves.
        self._found: dict[str, tuple[str, float]] = {}
        self.forget()

    def forget(self) -> None:
        """Compare nothing with what was heard until now."""
        count = len(self._robot.joint_names)
        self._values = np.full(count, np.nan)
        self._stamps_ns = np.zeros(count, np.int64)
        self._received_ns = np.zeros(count, np.int64)
        self._found.clear()

    def believe(
        self, topic: str, joints: NDArray[np.int64], values: Array, stamp_ns: int, received_ns: int
    ) -> bool:
        """Return whether a joint state may be believed, and remember it if so.

        Args:
            topic: as the robot YAML names it.
            joints: indices of the joints it holds [K].
            values: their positions [K].
            stamp_ns: when they were measured.
            received_ns: ROS time now.
        """
        leap = self._leap(joints, values, stamp_ns, received_ns)
        if leap and len(names := self._publishers(topic)) > 1:
            sentence = (
                f"{' and '.join(names)} publish '{topic}' and contradict each other: {leap}. "
                'Stop the one that is not the driver.'
            )
            self._found[topic] = sentence, time.monotonic() + _REMEMBERED_S
            return False
        self._values[joints] = values
        self._stamps_ns[joints] = stamp_ns
        self._received_ns[joints] = received_ns
        return True

    def contradiction(self) -> str:
        """Return the sentence on publishers that contradict each other; empty where none do."""
        for topic, (sentence, until_s) in list(self._found.items()):
            if time.monotonic() < until_s or len(self._publishers(topic)) > 1:
                return sentence
            del self._found[topic]
        return ''

    def _leap(
        self, joints: NDArray[np.int64], values: Array, stamp_ns: int, received_ns: int
    ) -> str:
        """Return what no joint does by itself, as a clause; empty where it may have."""
        known = self._stamps_ns[joints] > 0
        joints, values = joints[known], values[known]
        waited_s = (received_ns - self._received_ns[joints]) * 1e-9
        apart_s = (stamp_ns - self._stamps_ns[joints]) * 1e-9
        slip_s = np.abs(apart_s - waited_s)
        if slip_s.size and slip_s.max() > _MOST_STAMP_SLIP_S:
            return f'stamps of two messages in a row are {slip_s.max():.1f} s out of step'
        elapsed_s = np.maximum(waited_s, np.minimum(np.abs(apart_s), _LONGEST_HOLD_UP_S))
        limits = self._robot.limits.max_velocity[joints]
        allowed = SPEED_MARGIN * limits * np.maximum(elapsed_s, 0.0) + self._noise[joints]
        moved = np.abs(values - self._values[joints])
        beyond = moved - allowed
        if not beyond.size or beyond.max() <= 0.0:
            return ''
        worst = int(beyond.argmax())
        unit = '' if self._robot.gripper_mask[joints[worst]] else ' rad'
        return (
            f'{self._robot.joint_names[joints[worst]]} leaps by {moved[worst]:.2f}{unit} within '
            f'{elapsed_s[worst] * 1e3:.0f} ms'
        )
