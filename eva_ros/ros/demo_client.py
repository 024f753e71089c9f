"""The person at the robot, as a program: sets the scene, arms, asks for a task and watches."""

from collections.abc import Callable
from dataclasses import dataclass
import threading
import time
from typing import Any

from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.srv import SetParameters
import rclpy
from rclpy.action import ActionClient
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.signals import SignalHandlerOptions
from std_srvs.srv import Trigger

from eva_msgs.action import ExecuteTask
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Episode
from eva_ros.errors import UserError
from eva_ros.ros import topics
from eva_ros.ros.qos import LATCHED
from eva_ros.ros.qos import REPORT
from eva_ros.ros.stamps import to_ns

_STATES = {
    value: name.lower().replace('_', ' ')
    for name, value in vars(ExecuteTask.Feedback).items()
    if name.isupper() and isinstance(value, int)
}


# What comes at once may take so long on a busy machine.
_PATIENCE_S = 60.0
_ARM = topics.of(topics.ARM_TRAJECTORY_PUBLISHER, topics.ARM)
_DISARM = topics.of(topics.ARM_TRAJECTORY_PUBLISHER, topics.DISARM)
_RESET = topics.of(topics.SIM_ROBOT, topics.RESET)
_TRIGGERS = (_ARM, _DISARM, _RESET)
_SET_PARAMETERS = f'{topics.SIM_ROBOT}/set_parameters'


@dataclass(frozen=True)
class Status:
    """What the executor last said of the task.

    Attributes:
        state: in words.
        step: finished denoising steps, and all of them.
        verdict: what the gate said of the latest chunk; empty before the first.
    """

    state: str
    step: tuple[int, int]
    executed: int
    refused: int
    verdict: str
    elapsed_s: float


@dataclass(frozen=True)
class Ended:
    """How a task ended, in ROS time and in this machine's."""

    success: bool
    message: str
    start_ns: int
    end_ns: int
    start_wall_ns: int
    end_wall_ns: int


class DemoClient:
    """Owns a node and the thread that spins it; `close` ends both."""

    def __init__(self, check: Callable[[], None] = lambda: None) -> None:
        """Begin; rclpy must not be initialised.

        Args:
            check: is called again and again while waiting; raises if waiting is in vain.
        """
        self.check = check
        rclpy.init(signal_handler_options=SignalHandlerOptions.NO)
        sim_time = Parameter('use_sim_time', value=True)
        self.node = Node('demo', parameter_overrides=[sim_time])
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, name='demo', daemon=True)
        # A server drops its answer to a client that it has not discovered yet. These are known
        # to the nodes before they come up.
        self._goals = ActionClient(self.node, ExecuteTask, topics.EXECUTE_TASK)
        self._clients = {name: self.node.create_client(Trigger, name) for name in _TRIGGERS}
        self._clients[_SET_PARAMETERS] = self.node.create_client(SetParameters, _SET_PARAMETERS)
        self._scene: Episode | None = None
        self._done: Episode | None = None
        self._verdict = ''
        self.node.create_subscription(Episode, topics.EPISODE, self._on_episode, LATCHED)
        self.node.create_subscription(ChunkReport, topics.CHUNK_REPORT, self._on_report, REPORT)

    def start(self) -> None:
        """Start to listen."""
        self._thread.start()

    def close(self) -> None:
        """Stop to listen."""
        self._executor.shutdown(timeout_sec=2.0)
        if self._thread.is_alive():
            self._thread.join(2.0)
        self.node.destroy_node()
        rclpy.try_shutdown()

    def others(self, wait_s: float) -> list[str]:
        """Return the names of the nodes that share the domain, after waiting for them to show."""
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline:
            found = [name for name in self.node.get_node_names() if name != self.node.get_name()]
            if found:
                return found
            time.sleep(0.05)
        return []

    def draw_scene(self, task: str, seed: int) -> None:
        """Let the simulated robot draw a scene, and wait until it has."""
        self._scene = None
        wanted = {'task': task, 'seed': seed}
        request = SetParameters.Request(
            parameters=[_parameter(name, value) for name, value in wanted.items()]
        )
        for result in self._call(_SET_PARAMETERS, request).results:
            if not result.successful:
                raise UserError(f'The simulated robot refused the scene: {result.reason}')
        self._trigger(_RESET)
        self.wait_for(
            lambda: self._scene and self._scene.task == task, _PATIENCE_S, 'the new scene'
        )

    def arm(self) -> None:
        """Arm the publisher, trying again while it waits for fresh joint states."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            try:
                return self._trigger(_ARM)
            except UserError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def disarm(self) -> None:
        """Disarm the publisher."""
        self._trigger(_DISARM)

    def execute(self, goal: Any, on_status: Callable[[Status], None]) -> Ended:
        """Ask for a task and wait for its end.

        Args:
            goal: what to do, an ExecuteTask.Goal.
            on_status: is told of each change, from another thread.

        Raises:
            UserError: the task was not accepted, or its end never came.
        """
        self._done, self._verdict = None, ''
        start_ns, start_wall_ns = self.now_ns(), time.time_ns()
        handle = self._result(
            self._goals.send_goal_async(goal, lambda message: on_status(self._status(message))),
            _PATIENCE_S,
            'the task executor',
        )
        if not handle.accepted:
            raise UserError(f'The task executor did not accept {goal.task}.')
        # Simulated time may be many times slower than this machine's.
        patience_s = 20.0 * goal.max_duration_s + _PATIENCE_S
        result = self._result(
            handle.get_result_async(), patience_s, f'the end of {goal.task}'
        ).result
        # The judge's word may come a moment later than the result.
        time.sleep(0.3)
        return Ended(
            success=self._done is not None,
            message=result.message,
            start_ns=start_ns,
            end_ns=to_ns(self._done.header.stamp) if self._done else self.now_ns(),
            start_wall_ns=start_wall_ns,
            end_wall_ns=time.time_ns(),
        )

    def wait_until_ready(self, timeout_s: float) -> None:
        """Wait until the task executor and the clock are there."""
        self.wait_for(lambda: self.now_ns() > 0, timeout_s, 'the clock')
        self.wait_for(self._goals.server_is_ready, timeout_s, 'the task executor')

    def now_ns(self) -> int:
        """Return the ROS time."""
        return self.node.get_clock().now().nanoseconds

    # What is heard.

    def _on_episode(self, message: Episode) -> None:
        if message.phase == Episode.START:
            self._scene, self._done = message, None
        elif message.success == Episode.SUCCESS:
            self._done = message

    def _on_report(self, message: ChunkReport) -> None:
        if message.accepted:
            self._verdict = f'accepted, {message.stretch:.2f} times as long as dreamed'
        else:
            self._verdict = f'refused: {message.detail}'

    def _status(self, message: Any) -> Status:
        feedback = message.feedback
        return Status(
            state=_STATES.get(feedback.state, '?'),
            step=(feedback.denoising_step, feedback.denoising_steps),
            executed=feedback.chunks_executed,
            refused=feedback.chunks_refused,
            verdict=self._verdict,
            elapsed_s=feedback.elapsed_s,
        )

    # How to wait.

    def _trigger(self, service: str) -> None:
        answer = self._call(service, Trigger.Request())
        if not answer.success:
            raise UserError(f'{service}: {answer.message}')

    def _call(self, service: str, request: Any) -> Any:
        client = self._clients[service]
        self.wait_for(client.service_is_ready, _PATIENCE_S, f'the service {service}')
        return self._result(client.call_async(request), _PATIENCE_S, f'the service {service}')

    def _result(self, future: Any, timeout_s: float, what: str) -> Any:
        answered = threading.Event()
        future.add_done_callback(lambda _future: answered.set())
        deadline = time.monotonic() + timeout_s
        while not answered.wait(0.2):
            self.check()
            if time.monotonic() > deadline:
                raise UserError(f'{_sentence(what)} did not answer within {timeout_s:.0f} s.')
        return future.result()

    def wait_for(self, ready: Callable[[], Any], timeout_s: float, what: str) -> None:
        """Wait until something is there.

        Raises:
            UserError: it did not come in time, or waiting is in vain.
        """
        deadline = time.monotonic() + timeout_s
        while not ready():
            self.check()
            if time.monotonic() > deadline:
                raise UserError(f'{_sentence(what)} did not appear within {timeout_s:.0f} s.')
            time.sleep(0.02)


def _parameter(name: str, value: Any) -> ParameterMessage:
    return Parameter(name, value=value).to_parameter_msg()


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:]


def task_goal(task: str, instruction: str, seed: int, max_duration_s: float) -> Any:
    """Return a goal of the action ExecuteTask."""
    goal = ExecuteTask.Goal(instruction=instruction, task=task, seed=seed)
    goal.max_duration_s = max_duration_s
    return goal
