"""Asks the rollout generator for a rollout and waits for it, from a thread of its own."""

from collections.abc import Callable
from functools import partial
import time
from typing import Any

from rclpy.action import ActionClient

from eva_msgs.action import GenerateRollout
from eva_ros.nodes.task_executor.task_board import Sighting
from eva_ros.nodes.task_executor.task_board import TaskBoard
from eva_ros.ros.stamps import to_time

_ASK_AGAIN_S = 5.0


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
            # Not this very one, which the generator may have missed: a later one shows the same
            # where the arms rest, and otherwise where they are by then.
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

        handle = self._accepted(goal, on_feedback, timeout_s, pass_on)
        if handle is None or not handle.accepted:
            return None
        try:
            answer = self._answer(handle.get_result_async, timeout_s, pass_on)
        except BaseException:
            handle.cancel_goal_async()
            raise
        if answer is None:
            handle.cancel_goal_async()
            return None
        return answer.result

    def _accepted(
        self,
        goal: GenerateRollout.Goal,
        on_feedback: Callable[[Any], None],
        timeout_s: float,
        check: Callable[[], None],
    ) -> Any:
        """Send the goal until its answer comes; of those sent, none but the one returned lives."""
        sent: list[Any] = []

        def send() -> Any:
            sent.append(self._client.send_goal_async(goal, on_feedback))
            return sent[-1]

        handle = None
        try:
            handle = self._answer(send, timeout_s, check)
        finally:
            for future in sent:
                future.add_done_callback(partial(_cancel_unless, handle))
        return handle

    def _answer(self, ask: Callable[[], Any], timeout_s: float, check: Callable[[], None]) -> Any:
        """Ask, and again when no answer comes, until one does; wait for it in this thread.

        A server that has not found this client yet drops its answer (a goal with it), and rclpy's
        client drops one that overtakes the return of its request.

        Args:
            ask: returns a future, whose callbacks belong to the executor's thread.
            timeout_s: then None is returned.
            check: raises to end the wait.
        """
        asked: list[Any] = []
        again_s = 0.0

        def find() -> Any:
            nonlocal again_s
            if time.monotonic() >= again_s:
                asked.append(ask())
                asked[-1].add_done_callback(lambda _: self._board.wake())
                again_s = time.monotonic() + _ASK_AGAIN_S
            return next((future for future in asked if future.done()), None)

        found = self._board.wait_for(find, timeout_s, check)
        return found.result() if found else None


def _cancel_unless(wanted: Any, future: Any) -> None:
    handle = None if future.cancelled() else future.result()
    if handle is not None and handle is not wanted and handle.accepted:
        handle.cancel_goal_async()
