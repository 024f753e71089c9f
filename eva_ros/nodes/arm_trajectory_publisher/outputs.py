"""How a motion reaches each arm: a topic, an action, or a stream of targets, as its YAML says.

Every message of both arms is built before the first one leaves.
"""

from collections.abc import Callable
import time
from typing import Any
from typing import Protocol

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.clock import Clock
from rclpy.clock import ClockType
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from eva_ros.control import reasons
from eva_ros.control.running_motion import Order
from eva_ros.control.settings import GateSettings
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.errors import UserError
from eva_ros.robot.spec import Arm
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline
from eva_ros.ros import qos
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.lifecycle import flush
from eva_ros.ros.stamps import to_time
from eva_ros.ros.trajectories import trajectory_message

TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
ACTION = 'control_msgs/action/FollowJointTrajectory'
# Not the ROS clock: a timer on one that is set back would not call for as long.
STEADY = Clock(clock_type=ClockType.STEADY_TIME)
STREAM = 'sensor_msgs/msg/JointState'
Fault = Callable[[str, str], object]


def check_listener(publisher: Any, arm: str) -> None:
    """Refuse to send where no controller or driver listens."""
    if not publisher.get_subscription_count():
        raise UserError(f'The {arm} arm: nobody listens on {publisher.topic_name}.')


class Output(Protocol):
    """One arm's way out."""

    topic: str

    def prepare(self, trajectory: ArmTrajectory, order: Order, stamp_ns: int) -> Any:
        """Return what is to be sent."""

    def send(self, prepared: Any, begin_ns: int) -> None:
        """Send it; streams begin at a time of their own clock."""

    def finish(self) -> None:
        """Bring what is under way to its end, before the publishers fall silent."""


class TopicOutput:
    """A joint trajectory to the arm's controller."""

    def __init__(self, node: EvaNode, arm: Arm) -> None:
        self._arm = arm.name
        self.publisher = node.publish_on(JointTrajectory, arm.controller.topic, qos.COMMAND)
        self.topic = self.publisher.topic_name

    def prepare(self, trajectory: ArmTrajectory, order: Order, stamp_ns: int) -> Any:
        """Return the message; UserError where nobody listens."""
        check_listener(self.publisher, self._arm)
        return trajectory_message(trajectory, stamp_ns)

    def send(self, prepared: Any, begin_ns: int) -> None:
        """Publish it."""
        self.publisher.publish(prepared)

    def finish(self) -> None:
        """Wait until the controller has what was sent last."""
        flush([self.publisher])


class ActionOutput:
    """A goal for the arm's FollowJointTrajectory server; a new one takes the place of the old."""

    def __init__(self, node: EvaNode, arm: Arm, on_fault: Fault) -> None:
        try:
            from control_msgs.action import FollowJointTrajectory
        except ImportError:
            raise UserError(
                f'The {arm.name} arm takes {ACTION}: install control_msgs, or name the topic of '
                f'its controller and type {TRAJECTORY}.'
            ) from None
        self._goal_type = FollowJointTrajectory.Goal
        self._results = FollowJointTrajectory.Result
        self._arm = arm.name
        self._on_fault = on_fault
        self._client = ActionClient(node, FollowJointTrajectory, arm.controller.topic)
        node.own(self._client.destroy)
        self.topic = node.resolve_topic_name(arm.controller.topic)
        self._newest = 0

    def prepare(self, trajectory: ArmTrajectory, order: Order, stamp_ns: int) -> Any:
        """Return the goal; UserError where no server takes it."""
        if not self._client.server_is_ready():
            raise UserError(f'The {self._arm} arm: no server answers on {self.topic}.')
        return self._goal_type(trajectory=trajectory_message(trajectory, stamp_ns))

    def send(self, prepared: Any, begin_ns: int) -> None:
        """Send the goal; what becomes of it comes back as a fault, or not at all."""
        self._newest += 1
        number = self._newest
        future = self._client.send_goal_async(prepared)
        future.add_done_callback(lambda done: self._on_answer(done.result(), number))

    def finish(self) -> None:
        """A goal that was sent is with the server."""

    def _on_answer(self, handle: Any, number: int) -> None:
        if handle.accepted:
            handle.get_result_async().add_done_callback(
                lambda done: self._on_result(done.result(), number)
            )
        elif number == self._newest:
            detail = f'The controller of the {self._arm} arm rejected its goal.'
            self._on_fault(reasons.CONTROLLER_REJECTED, detail)

    def _on_result(self, answer: Any, number: int) -> None:
        if number != self._newest or answer.status == GoalStatus.STATUS_SUCCEEDED:
            return
        code = answer.result.error_code
        names = [n for n, v in vars(self._results).items() if n.isupper() and v == code]
        self._on_fault(
            reasons.CONTROLLER_ABORTED,
            f'The controller of the {self._arm} arm gave up with code {code} '
            f'({names[0] if names else "unknown"}). {answer.result.error_string}'.strip(),
        )


class StreamOutput:
    """Targets at a steady rate for a driver without a trajectory controller.

    A late timer takes the target of its own time: it skips ahead and never catches up. Positions
    of all joints of the arm and nothing else: some drivers read a joint they are not given as
    zero, and the last velocity as a speed in percent.
    """

    def __init__(self, node: EvaNode, robot: Robot, arm: Arm) -> None:
        self.publisher = node.publish_on(JointState, arm.controller.topic, qos.COMMAND)
        self.topic = self.publisher.topic_name
        self._node = node
        self._robot = robot
        self._arm = arm
        self._path: HermiteSpline | None = None
        self._start_ns = 0

    def prepare(self, trajectory: ArmTrajectory, order: Order, stamp_ns: int) -> Any:
        """Return the motion: its targets are made when they are due."""
        check_listener(self.publisher, self._arm.name)
        return order.path

    def send(self, prepared: Any, begin_ns: int) -> None:
        """Begin it; its targets are published as time advances."""
        self._path, self._start_ns = prepared, begin_ns

    def finish(self) -> None:
        """Wait until the driver has the last target."""
        flush([self.publisher])

    def advance(self, to_ns: int) -> bool:
        """Publish the target of a time; return whether more are to come."""
        path = self._path
        if path is None:
            return False
        elapsed_s = (to_ns - self._start_ns) * 1e-9
        at = path.times[0] + min(max(elapsed_s, 0.0), path.duration)
        names, values = self._robot.arm_command(self._arm.name, path.sample(at)[0])
        message = JointState(name=list(names), position=values.tolist())
        message.header.stamp = to_time(self._node.now_ns())
        self.publisher.publish(message)
        if elapsed_s >= path.duration:
            self._path = None
        return self._path is not None


class ArmOutputs:
    """Both arms' ways out.

    Args:
        node: on which publishers and clients are made.
        robot: whose arms.
        settings: for stream_rate_hz.
        on_fault: is told a reason and a sentence when a controller gives up.

    Raises:
        UserError: an arm takes an action whose package is not installed.
    """

    def __init__(
        self, node: EvaNode, robot: Robot, settings: GateSettings, on_fault: Fault
    ) -> None:
        def output(arm: Arm) -> Output:
            if arm.controller.type == STREAM:
                return StreamOutput(node, robot, arm)
            if arm.controller.type == ACTION:
                return ActionOutput(node, arm, on_fault)
            return TopicOutput(node, arm)

        self._node = node
        self.arms = {name: output(arm) for name, arm in robot.arms.items()}
        self._streams = [out for out in self.arms.values() if isinstance(out, StreamOutput)]
        self._period_s = 1.0 / settings.stream_rate_hz
        if self._streams:
            node.call_every(self._period_s, self._tick, clock=STEADY)

    @property
    def topics(self) -> list[str]:
        """Return the command topics, on which nobody else may speak."""
        return [output.topic for output in self.arms.values()]

    def prepare(self, order: Order, stamp_ns: int) -> dict[str, Any]:
        """Return what both arms are to be sent; nothing is sent yet.

        Args:
            order: of the supervisor.
            stamp_ns: of both messages; 0: at receipt.

        Raises:
            UserError: one arm cannot be reached.
        """
        return {
            arm: self.arms[arm].prepare(trajectory, order, stamp_ns)
            for arm, trajectory in order.command.items()
        }

    def send(self, prepared: dict[str, Any], planned_ns: int) -> None:
        """Send both arms what was prepared.

        Args:
            prepared: of both arms.
            planned_ns: ROS time at which the motion begins; streams catch up with it.
        """
        begin_ns = self._begin_ns(planned_ns)
        for arm, message in prepared.items():
            self.arms[arm].send(message, begin_ns)
        # Not with where it was planned to begin: arms in motion are past that.
        self._tick()

    def stop(self, order: Order, stamp_ns: int, planned_ns: int) -> None:
        """Send a stop to each arm that can be reached, whatever becomes of the other.

        Args:
            order: of the supervisor.
            stamp_ns: of both messages; 0: at receipt.
            planned_ns: ROS time at which the stop begins; streams catch up with it.
        """
        problems = []
        begin_ns = self._begin_ns(planned_ns)
        for arm, trajectory in order.command.items():
            try:
                message = self.arms[arm].prepare(trajectory, order, stamp_ns)
                self.arms[arm].send(message, begin_ns)
            except UserError as error:
                problems.append(str(error))
        self._tick()
        if problems:
            raise UserError(' '.join(problems))

    def finish(self) -> None:
        """Bring both arms to the end of what was sent last: together, where they are streamed."""
        begun, begun_ns = time.monotonic_ns(), self._time_ns()
        # The timer calls no more, and simulated time may stand still.
        while self._advance(begun_ns + time.monotonic_ns() - begun):
            time.sleep(self._period_s)
        for output in self.arms.values():
            output.finish()

    def _tick(self) -> None:
        self._advance(self._time_ns())

    def _advance(self, to_ns: int) -> bool:
        more = [stream.advance(to_ns) for stream in self._streams]
        return any(more)

    def _begin_ns(self, planned_ns: int) -> int:
        return self._time_ns() - max(0, self._node.now_ns() - planned_ns)

    def _time_ns(self) -> int:
        """Return the time by which targets are due.

        One that nobody sets, or else the simulation's: the system's clock may leap, the targets
        must not.
        """
        return self._node.now_ns() if self._node.param('use_sim_time') else time.monotonic_ns()
