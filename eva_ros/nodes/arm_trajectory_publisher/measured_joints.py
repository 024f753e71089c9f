"""The joints as last measured, from one joint state or from several that hold some each."""

from collections.abc import Callable
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from sensor_msgs.msg import JointState

from eva_ros.errors import UserError
from eva_ros.nodes.arm_trajectory_publisher.joint_claims import JointClaims
from eva_ros.robot.spec import Robot
from eva_ros.ros.diagnostics import Health
from eva_ros.ros.stamps import to_ns

# A joint that other messages hold is not missed in this one.
_LONGEST_SILENCE_NS = 1_000_000_000


class MeasuredJoints:
    """Collects joint states by name; each joint has the newest value that a message gave it.

    Args:
        robot: whose joints, and the topics they come on.
        publishers: returns the full names of the nodes that publish on such a topic.
    """

    def __init__(
        self, robot: Robot, publishers: Callable[[str], Sequence[str]] = lambda topic: ()
    ) -> None:
        self._robot = robot
        self._claims = JointClaims(robot, publishers)
        self._positions = np.full(len(robot.joint_names), np.nan)
        # 0: never measured.
        self._stamps_ns = np.zeros(len(robot.joint_names), np.int64)
        self._by_reception = False

    def add(self, topic: str, message: JointState, received_ns: int) -> None:
        """Take in a joint state, unless it contradicts another publisher's.

        Args:
            topic: as the robot YAML names it.
            message: of some or all joints of the topic's arms (a driver for each arm on one
                topic, grippers apart); a stamp of zero counts as received now.
            received_ns: ROS time now.

        Raises:
            UserError: a joint is named twice or not a number, or lacks and is in no other message.
        """
        arms = [name for name, arm in self._robot.arms.items() if arm.state_topic == topic]
        named = [name for name in arms if self._held(name, message).size] or arms
        for name in named:
            try:
                self._take(name, topic, message, received_ns)
            except UserError as error:
                raise UserError(f"On '{topic}': {error}") from error

    def _held(self, name: str, message: JointState) -> NDArray[np.int64]:
        """Return which of an arm's joints a message holds."""
        given = set(message.name)
        joints = self._robot.arms[name].state_joints
        return np.array([i for i, joint in enumerate(joints) if joint in given], np.int64)

    def _take(self, name: str, topic: str, message: JointState, received_ns: int) -> None:
        arm, held = self._robot.arms[name], self._held(name, message)
        joints = self._robot.arm_indices(name).start + held
        lacking = [joint for joint in arm.state_joints if joint not in set(message.name)]
        fillers = [0.0] * len(lacking)
        values = arm.from_joint_state([*message.name, *lacking], [*message.position, *fillers])
        by_reception = self._by_reception or arm.stamp_source == 'receive'
        stamp_ns = (0 if by_reception else to_ns(message.header.stamp)) or received_ns
        if self._claims.believe(topic, joints, values[held], stamp_ns, received_ns):
            self._positions[joints] = values[held]
            self._stamps_ns[joints] = stamp_ns
        missing = [
            joint
            for joint in lacking
            if stamp_ns - self._stamp_of(name, joint) > _LONGEST_SILENCE_NS
        ]
        if missing:
            raise UserError(f'The joint state lacks {", ".join(missing)}.')

    def _stamp_of(self, name: str, joint: str) -> int:
        index = self._robot.arms[name].state_joints.index(joint)
        return int(self._stamps_ns[self._robot.arm_indices(name)][index])

    def contradiction(self) -> str:
        """Return the sentence on publishers that contradict each other; empty where none do."""
        return self._claims.contradiction()

    def health(self) -> Health:
        """Return whether the publishers of the joint states agree, for the diagnostics."""
        found = self.contradiction()
        return Health('error', found) if found else Health('ok', 'the publishers agree')

    def clock_jumped(self, by_ns: int) -> None:
        """Take over the stamps into a clock that jumped; those to come are of who knows which.

        Until `trust_stamps` joints count as measured when they are received.
        """
        self._stamps_ns[self._stamps_ns > 0] += by_ns
        self._by_reception = True
        self._claims.forget()

    def trust_stamps(self) -> None:
        """Go by the stamps of messages again, and compare them with none from before."""
        self._by_reception = False
        self._claims.forget()

    @property
    def positions(self) -> NDArray[np.float64] | None:
        """Return all joints [J], or None while one was never measured."""
        return None if self.stamp_ns is None else self._positions.copy()

    def of(self, arm: str) -> tuple[NDArray[np.float64], int] | None:
        """Return an arm's joints [K] and their stamp; None if one was never measured.

        The stamp is that of the arm's joints: a gripper apart may be measured less often.
        """
        own = self._robot.arm_indices(arm)
        if not self._stamps_ns[own].all():
            return None
        own_joints = ~self._robot.gripper_mask[own]
        return self._positions[own].copy(), int(self._stamps_ns[own][own_joints].min())

    def by_arm(self) -> dict[str, tuple[NDArray[np.float64], int] | None]:
        """Return each arm's joints [K] and their stamp, as `of` does."""
        return {arm: self.of(arm) for arm in self._robot.arms}

    @property
    def stamp_ns(self) -> int | None:
        """Return the stamp of the joint measured longest ago; None while one never was."""
        return int(self._stamps_ns.min()) if self._stamps_ns.all() else None

    def ahead_s(self, now_ns: int) -> float:
        """Return how far the newest joint state lies ahead of now; 0 if none does."""
        return max(0.0, (int(self._stamps_ns.max()) - now_ns) * 1e-9)

    def age_s(self, now_ns: int) -> float | None:
        """Return the age of the joint measured longest ago; None while one never was."""
        stamp_ns = self.stamp_ns
        return None if stamp_ns is None else (now_ns - stamp_ns) * 1e-9
