"""The joints as last measured, from one joint state for both arms or from one for each."""

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import JointState

from eva_ros.errors import UserError
from eva_ros.robot.spec import Robot
from eva_ros.ros.stamps import to_ns


class MeasuredJoints:
    """Collects joint states by name.

    Args:
        robot: whose joints, and the topics they come on.
    """

    def __init__(self, robot: Robot) -> None:
        self._robot = robot
        self._positions = np.full(len(robot.joint_names), np.nan)
        self._stamps_ns: dict[str, int] = {}
        self._by_reception = False

    def add(self, topic: str, message: JointState, received_ns: int) -> None:
        """Take in a joint state.

        Args:
            topic: as the robot YAML names it.
            message: a stamp of zero counts as received now.
            received_ns: ROS time now.

        Raises:
            UserError: a joint is missing, named twice or not a number.
        """
        for name, arm in self._robot.arms.items():
            if arm.state_topic != topic:
                continue
            try:
                values = arm.from_joint_state(message.name, message.position)
            except UserError as error:
                raise UserError(f"On '{topic}': {error}") from error
            self._positions[self._robot.arm_indices(name)] = values
            by_reception = self._by_reception or arm.stamp_source == 'receive'
            stamp_ns = 0 if by_reception else to_ns(message.header.stamp)
            self._stamps_ns[name] = stamp_ns or received_ns

    def clock_jumped(self, by_ns: int) -> None:
        """Take over the stamps into a clock that jumped; those to come are of who knows which.

        Until `trust_stamps` joints count as measured when they are received.
        """
        self._stamps_ns = {arm: stamp + by_ns for arm, stamp in self._stamps_ns.items()}
        self._by_reception = True

    def trust_stamps(self) -> None:
        """Go by the stamps of messages again."""
        self._by_reception = False

    @property
    def positions(self) -> NDArray[np.float64] | None:
        """Return all joints [J], or None while one was never measured."""
        return None if len(self._stamps_ns) < len(self._robot.arms) else self._positions.copy()

    def of(self, arm: str) -> tuple[NDArray[np.float64], int] | None:
        """Return an arm's joints [K] and their stamp; None if it was never measured."""
        if arm not in self._stamps_ns:
            return None
        return self._positions[self._robot.arm_indices(arm)].copy(), self._stamps_ns[arm]

    @property
    def stamp_ns(self) -> int | None:
        """Return the stamp of the older arm; None while one was never measured."""
        if len(self._stamps_ns) < len(self._robot.arms):
            return None
        return min(self._stamps_ns.values())

    def ahead_s(self, now_ns: int) -> float:
        """Return how far the newest joint state lies ahead of now; 0 if none does."""
        return max(0.0, *((stamp - now_ns) * 1e-9 for stamp in self._stamps_ns.values()), 0.0)

    def age_s(self, now_ns: int) -> float | None:
        """Return the age of the older arm's joints; None while one was never measured."""
        stamp_ns = self.stamp_ns
        return None if stamp_ns is None else (now_ns - stamp_ns) * 1e-9
