"""Passes the joint states of both arms on under the URDF's names, for robot_state_publisher.

A robot's arms may report on a topic each, under the same names, in degrees.
"""

from collections.abc import Callable
import math
from typing import Any

from sensor_msgs.msg import JointState

from eva_ros.errors import UserError
from eva_ros.robot.arm import Arm
from eva_ros.robot.urdf import gripper_ranges
from eva_ros.robot.urdf import urdf_joint_names
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.run import run
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time


class JointStateMerger(EvaNode):
    """The node `joint_state_merger`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.JOINT_STATE_MERGER, **options)

    def _setup(self) -> None:
        self._urdf_names = urdf_joint_names(self.robot)
        self._ranges = gripper_ranges(self.robot)
        self._merged = self.publish_on(JointState, topics.MERGED_JOINT_STATES, qos.SENSOR_OUTPUT)
        for topic in self.robot.joint_state_topics:
            self.listen_to(JointState, topic, self._listener(topic), qos.SENSOR_INPUT)

    def _listener(self, topic: str) -> Callable[[JointState], None]:
        """Return what passes on the joint states of a topic; other joints stay as they are."""
        arms = [arm for arm in self.robot.arms.values() if arm.state_topic == topic]
        joints = {name: joint for arm in arms for name, joint in self._joints_of(arm).items()}
        by_reception = any(arm.stamp_source == 'receive' for arm in arms)

        def pass_on(message: JointState) -> None:
            stamp_ns = 0 if by_reception else to_ns(message.header.stamp)
            merged = JointState()
            merged.header.stamp = to_time(stamp_ns or self.now_ns())
            for name, position in zip(message.name, message.position):
                if not math.isfinite(position):
                    raise UserError(f"On '{topic}': position of {name} is not finite.")
                urdf_name, offset, scale = joints.get(name, (name, 0.0, 1.0))
                merged.name.append(urdf_name)
                merged.position.append((position - offset) / scale)
            self._merged.publish(merged)

        return pass_on

    def _joints_of(self, arm: Arm) -> dict[str, tuple[str, float, float]]:
        """Return each joint's URDF name, its state at the URDF's zero, and its state units."""
        names = self._urdf_names[self.robot.arm_indices(arm.name)]
        offset, scale = arm.state_interface.offset.copy(), arm.state_interface.scale.copy()
        if arm.gripper is not None:
            closed, stroke = self._ranges[self.robot.grippers.index(arm.gripper)]
            scale[-1] = arm.gripper.scale / stroke
            offset[-1] = arm.gripper.closed - closed * scale[-1]
        return dict(zip(arm.state_joints, zip(names, offset.tolist(), scale.tolist())))


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([JointStateMerger], args=args)
