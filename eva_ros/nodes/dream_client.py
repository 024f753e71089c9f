"""Asks the rollout generator for a rollout and waits for it, from a thread of its own."""

from collections.abc import Callable
from typing import Any

from rclpy.action import ActionClient

from eva_msgs.action import GenerateRollout
from eva_ros.nodes.task_board import Sighting
from eva_ros.nodes.task_board import TaskBoard
from eva_ros.ros.stamps import to_time


class DreamClient:
    """The action client of `generate_rollout`.

    Args:
        client: its callbacks run in the node's executor, not in the thread that waits.
        board: is woken by every answer, and lends its wait.
    """

    def __init__(self, client: ActionClient, board: TaskBoard) -> None:
        self._client = client
        self._board = board

    def destroy(self) -> None:
        """Destroy the client."""
        self._client.destroy()

    def bind(self, instruction: str, timeout_s: float) -> Callable[..., Any]:
        """Return a function that dreams of one instruction (see task_loop.Dreamer)."""

        def dream(
            sighting: Sighting,
            seed: int,
            on_step: Callable[[int, int], None],
            check: Callable[[], None],
        ) -> GenerateRollout.Result | None:
            goal = GenerateRollout.Goal(instruction=instruction, seed=seed)
            # Not this very one, which the generator may have missed: the arms rest until it is
            # answered, so that any later one shows the same.
            goal.not_before = to_time(sighting.stamp_ns)
            return self._ask(goal, timeout_s, on_step, check)

        return dream

    def _ask(
        self,
        goal: GenerateRollout.Goal,
        timeout_s: float,
        on_step: Callable[[int, int], None],
        check: Callable[[], None],
    ) -> GenerateRollout.Result | None:
        if not self._board.wait_for(self._client.server_is_ready, timeout_s, check):
            return None
        steps: list[tuple[int, int]] = []

        def on_feedback(message: Any) -> None:
            feedback = message.feedback
            steps.append((feedback.denoising_step, feedback.denoising_steps))
            self._board.wake()

        def pass_on() -> None:
            while steps:
                on_step(*steps.pop(0))
            check()

        handle = self._wait(self._client.send_goal_async(goal, on_feedback), timeout_s, pass_on)
        if handle is None or not handle.accepted:
            return None
        try:
            answer = self._wait(handle.get_result_async(), timeout_s, pass_on)
        except BaseException:
            handle.cancel_goal_async()
            raise
        if answer is None:
            handle.cancel_goal_async()
            return None
        return answer.result

    def _wait(self, future: Any, timeout_s: float, check: Callable[[], None]) -> Any:
        """Wait for a future in this thread; its callbacks belong to the executor's."""
        future.add_done_callback(lambda _: self._board.wake())
        done = self._board.wait_for(future.done, timeout_s, check)
        return future.result() if done else None
