"""Switch the arms' drivers on, where they have a service for it."""

from functools import partial
from typing import Any

from rclpy.task import Future
from std_srvs.srv import SetBool
from std_srvs.srv import Trigger

from eva_ros.robot.spec import Robot
from eva_ros.ros.lifecycle import EvaNode

_KINDS = {'std_srvs/srv/SetBool': SetBool, 'std_srvs/srv/Trigger': Trigger}


class ArmEnabling:
    """Calls each arm's enable service, and remembers which driver has said yes.

    Args:
        node: on which the clients are made.
        robot: whose arms.
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
        """Return the arms whose driver has not said yes, having asked them."""
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
