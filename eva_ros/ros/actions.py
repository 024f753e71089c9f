"""An action server that leaves the executor free while a goal is executed."""

from collections.abc import Callable
import threading
from typing import Any

from rclpy.action import ActionServer
from rclpy.action.server import ServerGoalHandle
from rclpy.task import Task


class ThreadedActionServer(ActionServer):
    """Executes each goal in a thread of its own.

    rclpy runs a goal as a task of the executor: a callback that waits would hold the executor's
    only thread, and one that awaits keeps it spinning at full load.
    """

    def notify_execute(
        self, goal_handle: ServerGoalHandle, execute_callback: Callable[..., Any] | None
    ) -> None:
        """Start the goal's thread instead of a task of the executor."""
        callback = execute_callback or self._execute_callback
        task = Task(self._execute_goal, (callback, goal_handle), {})
        threading.Thread(target=task, name='goal', daemon=True).start()
