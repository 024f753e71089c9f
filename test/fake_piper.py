"""A driver of two PiPER arms with the habits of AgileX's own (Piper_ros).

Each arm takes targets on `joint_ctrl_single` and reports on `joint_states_single`: seven
positions and six velocities, stamps of another clock, the same names in both arms, the gripper in
metres. It moves to a target at full speed, nothing before it is enabled; a joint that a target
does not name is commanded to zero.
"""

import numpy as np
from sensor_msgs.msg import JointState
from std_srvs.srv import SetBool

from eva_ros.robot.spec import load_robot

ROBOT = load_robot('piper_dual')
NAMES = ('joint1', 'joint2', 'joint3', 'joint4', 'joint5', 'joint6', 'gripper')
PERIOD_S = 0.005
FULL_SPEED = np.array([3.0] * 6 + [0.14])


class FakePiper:
    """One arm's driver on a test's probe node."""

    def __init__(self, graph, arm: str) -> None:
        spec = ROBOT.arms[arm]
        self.place = ROBOT.arm_command(arm, ROBOT.home)[1]
        self.target = self.place.copy()
        self.enabled = False
        self.targets: list[np.ndarray] = []
        self.messages: list[JointState] = []
        self.feedback = graph.probe.create_publisher(JointState, spec.state_topic, 10)
        graph.probe.create_subscription(JointState, spec.controller.topic, self._on_target, 10)
        graph.probe.create_service(SetBool, f'{arm}_arm/enable_srv', self._enable)
        graph.probe.create_timer(PERIOD_S, self._step)

    def _enable(self, request, response):
        self.enabled = request.data
        response.success = True
        return response

    def _on_target(self, message):
        self.messages.append(message)
        given = dict(zip(message.name, message.position))
        self.target = np.array([given.get(name, 0.0) for name in NAMES])
        self.targets.append(self.target)

    def _step(self):
        if self.enabled:
            step = np.clip(self.target - self.place, -FULL_SPEED * PERIOD_S, FULL_SPEED * PERIOD_S)
            self.place = self.place + step
        report = JointState(name=list(NAMES), position=self.place.tolist(), velocity=[0.0] * 6)
        # The SDK's own clock.
        report.header.stamp.sec = 7
        self.feedback.publish(report)
