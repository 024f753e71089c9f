"""What a node says about itself on /diagnostics; a log line per change, not per message."""

from collections.abc import Callable
from collections.abc import Mapping
from dataclasses import dataclass
from dataclasses import field
import re
import threading

from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus
from diagnostic_msgs.msg import KeyValue
from rclpy.clock import Clock
from rclpy.clock import ClockType
from rclpy.node import Node

from eva_ros.ros import topics

_LEVELS = {
    'ok': DiagnosticStatus.OK,
    'warn': DiagnosticStatus.WARN,
    'error': DiagnosticStatus.ERROR,
}
PERIOD_S = 1.0
_FIGURE = re.compile(r'-?\d+(\.\d+)?(e[+-]?\d+)?')


@dataclass(frozen=True)
class Health:
    """How one component of a node is.

    Attributes:
        level: 'ok', 'warn' or 'error'.
        message: one sentence for the person at the robot.
        values: figures beside it.
    """

    level: str
    message: str
    values: Mapping[str, object] = field(default_factory=dict)


def _kind(health: Health) -> str:
    """Return what a message says, whatever the figures in it."""
    return _FIGURE.sub('#', health.message)


class Diagnostics:
    """The health of a node's components, published once a second and at each change.

    Where level or message of a component changes, by more than its figures, one line is logged.
    """

    def __init__(self, node: Node) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._health: dict[str, Health] = {}
        self._checks: dict[str, Callable[[], Health]] = {}
        self._hardware_id = ''
        self._publisher = node.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
        # A steady clock: the health of a node is news above all where /clock stands still.
        clock = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PERIOD_S, self.publish, clock=clock)

    def set_hardware_id(self, hardware_id: str) -> None:
        """Name the robot this node works for."""
        self._hardware_id = hardware_id

    def add_check(self, component: str, check: Callable[[], Health]) -> None:
        """Ask `check` for a component's health each time before publishing."""
        with self._lock:
            self._checks[component] = check

    def forget(self) -> None:
        """Drop every component and check."""
        with self._lock:
            self._health.clear()
            self._checks.clear()

    def report(self, component: str, level: str, message: str, **values: object) -> None:
        """Set a component's health; log and publish at once if level or message changed."""
        if self._set(component, Health(level, message, values)):
            self._send()

    def publish(self) -> None:
        """Run the checks and publish the health of all components."""
        with self._lock:
            checks = list(self._checks.items())
        for component, check in checks:
            self._set(component, check())
        self._send()

    def _set(self, component: str, health: Health) -> bool:
        with self._lock:
            before = self._health.get(component)
            self._health[component] = health
        same = before and (before.level, _kind(before)) == (health.level, _kind(health))
        if not same and not (before is None and health.level == 'ok'):
            self._log(component, health)
        return not same

    def _log(self, component: str, health: Health) -> None:
        # A call each: rclpy ties the severity to the line that logs.
        logger = self._node.get_logger()
        sentence = f'{component}: {health.message}'
        if health.level == 'error':
            logger.error(sentence)
        elif health.level == 'warn':
            logger.warning(sentence)
        else:
            logger.info(sentence)

    def _send(self) -> None:
        if not self._node.context.ok():
            return
        with self._lock:
            statuses = [self._status(name, health) for name, health in self._health.items()]
        message = DiagnosticArray(status=statuses)
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)

    def _status(self, component: str, health: Health) -> DiagnosticStatus:
        values = [KeyValue(key=key, value=str(value)) for key, value in health.values.items()]
        return DiagnosticStatus(
            level=_LEVELS[health.level],
            name=f'{self._node.get_fully_qualified_name()}: {component}',
            message=health.message,
            hardware_id=self._hardware_id,
            values=values,
        )
