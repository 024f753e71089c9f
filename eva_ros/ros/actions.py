"""An action server that leaves the executor free while a goal is executed."""

from collections.abc import Callable
import threading
from typing import Any

from rclpy.action import ActionServer
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Task

_PATIENCE_S = 5.0


class ThreadedActionServer(ActionServer):
    """Executes each goal in a thread of its own.

    rclpy runs a goal as a task of the executor: a callback that waits would hold the executor's
    only thread, and one that awaits keeps it spinning at full load.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._threads: list[threading.Thread] = []
        super().__init__(*args, **options)

    def notify_execute(
        self, goal_handle: ServerGoalHandle, execute_callback: Callable[..., Any] | None
    ) -> None:
        """Start the goal's thread instead of a task of the executor."""
        callback = execute_callback or self._execute_callback
        task = Task(self._execute_goal, (callback, goal_handle), {})
        thread = threading.Thread(target=task, name='goal', daemon=True)
        self._threads = [*(other for other in self._threads if other.is_alive()), thread]
        thread.start()

    def destroy(self) -> None:
        """Wait for the goals, which should know that they are to end, and destroy the server."""
        for thread in self._threads:
            thread.join(_PATIENCE_S)
        super().destroy()
