"""The executor's dream client: answers that get lost on the way are asked for again."""

import threading
from types import SimpleNamespace

import pytest
from rclpy.task import Future

from eva_msgs.action import GenerateRollout
from eva_ros.nodes.task_executor import dream_client
from eva_ros.nodes.task_executor.dream_client import DreamClient
from eva_ros.nodes.task_executor.task_board import Sighting
from eva_ros.nodes.task_executor.task_board import TaskBoard

SEEN = Sighting(10**9, 10**9, 1)


class Handle:
    def __init__(self, lost_results=0):
        self.accepted = True
        self.canceled = 0
        self.asked = 0
        self._lost = lost_results

    def get_result_async(self):
        self.asked += 1
        future = Future()
        if self.asked > self._lost:
            future.set_result(SimpleNamespace(result=GenerateRollout.Result(rollout_id=7)))
        return future

    def cancel_goal_async(self):
        self.canceled += 1


class Server:
    """Stands for rclpy's ActionClient: answers goals when it is told to."""

    def __init__(self, lost_goals=0, lost_results=0):
        self.goals = []
        self.handles = []
        self._lost = lost_goals
        self._lost_results = lost_results

    def server_is_ready(self):
        return True

    def send_goal_async(self, _goal, _on_feedback):
        self.goals.append(Future())
        if len(self.goals) > self._lost:
            self.answer(-1)
        return self.goals[-1]

    def answer(self, which):
        self.handles.append(Handle(self._lost_results))
        self.goals[which].set_result(self.handles[-1])


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(dream_client, '_ASK_AGAIN_S', 0.05)


def ask(server, timeout_s=5.0, check=lambda: None):
    now_ns = iter(range(10**9, 10**18, 10**7))
    lock = threading.Lock()

    def clock():
        with lock:
            return next(now_ns)

    dream = DreamClient(server, TaskBoard(clock)).bind('touch', timeout_s)
    return dream(SEEN, 0, lambda *_: None, check)


def test_one_goal_is_sent_where_the_answer_comes():
    server = Server()
    assert ask(server).rollout_id == 7
    assert len(server.goals) == 1
    assert server.handles[0].canceled == 0


def test_a_lost_answer_to_a_goal_is_asked_for_again_and_a_late_one_is_cancelled():
    server = Server(lost_goals=2)
    assert ask(server).rollout_id == 7
    assert len(server.goals) == 3
    server.answer(0)
    assert [handle.canceled for handle in server.handles] == [0, 1]


def test_a_lost_result_is_asked_for_again():
    server = Server(lost_results=2)
    assert ask(server).rollout_id == 7
    assert server.handles[0].asked == 3
    assert len(server.goals) == 1


def test_a_server_that_never_answers_ends_the_wait():
    server = Server(lost_goals=1000)
    assert ask(server, timeout_s=0.3) is None


def test_a_task_that_ends_meanwhile_cancels_what_was_asked():
    server = Server(lost_results=1000)

    def canceled():
        if server.handles:
            raise RuntimeError('canceled')

    with pytest.raises(RuntimeError):
        ask(server, check=canceled)
    assert server.handles[0].canceled == 1
