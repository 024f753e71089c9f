"""What is asked of the arms' controllers and drivers: where they begin, and to be enabled."""

from functools import partial
import time
from typing import Any

from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import GetParameters
from rclpy.task import Future
from std_srvs.srv import SetBool
from std_srvs.srv import Trigger

from eva_ros.control.state import begins_at_measured
from eva_ros.nodes.arm_trajectory_publisher.outputs import STREAM
from eva_ros.robot.spec import Robot
from eva_ros.ros.diagnostics import Health
from eva_ros.ros.lifecycle import EvaNode

# One of them is true in a controller that begins at its own last command; Humble has the second.
NAMES = ('interpolate_from_desired_state', 'open_loop_control')

# A controller that died while asked never answers: its successor is asked again.
_PATIENCE_S = 2.0
_KINDS = {'std_srvs/srv/SetBool': SetBool, 'std_srvs/srv/Trigger': Trigger}


class ControllerStarts:
    """Asks each trajectory controller whether it begins at its last command.

    One that begins at the measured joints pulls the arm back by its lag at every message in
    mid-motion. A controller is the node its topic belongs to: `left_arm_controller` for
    `left_arm_controller/joint_trajectory`. Drivers and bridges without such a parameter or node
    stay unknown.

    Args:
        node: Node that owns the clients.
        robot: Robot with the arms.
    """

    def __init__(self, node: EvaNode, robot: Robot) -> None:
        self._simulated = robot.simulated
        self._clients: dict[str, Any] = {}
        self._streamed: list[str] = []
        self._answers: dict[str, dict[str, bool | None]] = {}
        self._asked: dict[str, list[Future]] = {}
        self._asked_s: dict[str, float] = {}
        for name, arm in robot.arms.items():
            if arm.controller.type == STREAM:
                self._streamed.append(name)
                continue
            owner = node.resolve_topic_name(arm.controller.topic).rpartition('/')[0]
            if owner:
                client = node.create_client(GetParameters, f'{owner}/get_parameters')
                node.own(partial(node.destroy_client, client))
                self._clients[name] = client
            self._answers[name] = {}

    def ask(self) -> None:
        """Ask the controllers that can be asked; the answers arrive later."""
        for arm, client in self._clients.items():
            waits = not all(answer.done() for answer in self._asked.get(arm, []))
            patient = time.monotonic() - self._asked_s.get(arm, 0.0) < _PATIENCE_S
            if (waits and patient) or not client.service_is_ready():
                continue
            for answer in self._asked.get(arm, []):
                client.remove_pending_request(answer)
            self._asked_s[arm] = time.monotonic()
            # One by one: asked for a parameter it lacks, a controller may answer none.
            self._asked[arm] = [
                client.call_async(GetParameters.Request(names=[name])) for name in NAMES
            ]
            for name, answer in zip(NAMES, self._asked[arm]):
                answer.add_done_callback(partial(self._on_answer, arm, name))

    def ask_the_unknown(self) -> None:
        """Ask again where an answer is missing."""
        if self.unknown():
            self.ask()

    def at_measured_joints(self) -> list[str]:
        """Return the arms whose controller has said that it begins at the measured joints."""
        return [
            arm
            for arm, said in self._answers.items()
            if set(said) == set(NAMES) and False in said.values() and True not in said.values()
        ]

    def unknown(self) -> list[str]:
        """Return the arms whose controller has not said where it begins."""
        return [
            arm
            for arm, said in self._answers.items()
            if arm not in self.at_measured_joints() and True not in said.values()
        ]

    def health(self) -> Health:
        """Return what is known, for the diagnostics."""
        wrong, unknown = self.at_measured_joints(), self.unknown()
        if not self._answers:
            arms = ' and '.join(self._streamed)
            return Health('ok', (
                f'No trajectory controller is asked: targets are streamed to the {arms} arm.'
            ))  # fmt: skip
        if wrong:
            return Health('error', begins_at_measured(wrong))
        if unknown:
            arms = ' and '.join(unknown)
            return Health('ok' if self._simulated else 'warn', (
                f'The controller of the {arms} arm does not say whether it begins at its last '
                'command; it must.'
            ))  # fmt: skip
        arms = ' and '.join(self._answers)
        return Health('ok', f'The controller of the {arms} arm begins at its last command.')

    def _on_answer(self, arm: str, name: str, answer: Future) -> None:
        values = answer.result().values
        known = len(values) == 1 and values[0].type == ParameterType.PARAMETER_BOOL
        self._answers[arm][name] = values[0].bool_value if known else None


class ArmEnabling:
    """Calls each arm's enable service, and remembers which drivers have agreed.

    Args:
        node: Node that owns the clients.
        robot: Robot with the arms.
    """

    def __init__(self, node: EvaNode, robot: Robot) -> None:
        self._node = node
        self._enabled: dict[str, bool] = {}
        self._clients: dict[str, Any] = {}
        for name, arm in robot.arms.items():
            service = arm.enable_service
            if service is not None:
                client = node.create_client(_KINDS[service.type], service.name)
                node.own(partial(node.destroy_client, client))
                self._clients[name] = (client, _KINDS[service.type])
                self._enabled[name] = False

    def missing(self) -> list[str]:
        """Return the arms whose driver has not agreed yet, and ask those."""
        waiting = [arm for arm, enabled in self._enabled.items() if not enabled]
        for arm in waiting:
            client, kind = self._clients[arm]
            if client.service_is_ready():
                request = kind.Request(data=True) if kind is SetBool else kind.Request()
                answer = client.call_async(request)
                answer.add_done_callback(partial(self._on_answer, arm))
        return waiting

    def _on_answer(self, arm: str, answer: Future) -> None:
        response = answer.result()
        self._enabled[arm] = response.success
        if not response.success:
            detail = f'The driver of the {arm} arm does not enable it: {response.message}'
            self._node.diagnostics.report('enable', 'error', detail)
