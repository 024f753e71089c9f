"""Holds an instruction: asks for the next rollout when the arms rest, until the task is over.

In mode overlap of the arm trajectory publisher it asks while they move. By the action
`execute_task`, or by its service twins `~/start_task` (instruction from the parameters) and
`~/cancel_task`. One task at a time.
"""

from functools import partial
import random
import threading
from typing import Any

from rclpy.action import ActionClient
from rclpy.action import CancelResponse
from rclpy.action import GoalResponse
from rclpy.action.server import ServerGoalHandle
from std_srvs.srv import Trigger

from eva_msgs.action import ExecuteTask
from eva_msgs.action import GenerateRollout
from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Episode
from eva_msgs.msg import Observation
from eva_msgs.msg import SafetyState
from eva_ros.control.turn_pacing import SWITCH
from eva_ros.errors import UserError
from eva_ros.nodes.task_executor.dream_client import DreamClient
from eva_ros.nodes.task_executor.node_watch import NodeWatch
from eva_ros.nodes.task_executor.task_board import Sighting
from eva_ros.nodes.task_executor.task_board import Success
from eva_ros.nodes.task_executor.task_board import TaskBoard
from eva_ros.nodes.task_executor.task_loop import TaskEndedError
from eva_ros.nodes.task_executor.task_loop import TaskLoop
from eva_ros.nodes.task_executor.task_loop import TaskSettings
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.actions import ThreadedActionServer
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.parameters import MAX_SEED
from eva_ros.ros.parameters import Param
from eva_ros.ros.run import run
from eva_ros.ros.stamps import to_ns

Result = ExecuteTask.Result
# What a task cannot go on without.
_NEEDED = (
    topics.CAMERA_INGEST,
    topics.ROLLOUT_GENERATOR,
    topics.ACTION_DECODER,
    topics.ARM_TRAJECTORY_PUBLISHER,
)


class TaskExecutor(EvaNode):
    """The node `task_executor`."""

    PARAMS = (
        Param(
            'max_duration_s',
            20.0,
            'Time limit of a task that names none, in s of ROS time.',
            low=0.1,
            high=36000.0,
            live=True,
        ),
        Param(
            'rest_timeout_s',
            10.0,
            'Patience for an observation of resting arms, in s.',
            low=0.1,
            high=600.0,
            live=True,
        ),
        Param(
            'dream_timeout_s',
            120.0,
            'Patience for a rollout, in s.',
            low=0.1,
            high=36000.0,
            live=True,
        ),
        Param(
            'decode_timeout_s',
            10.0,
            'Patience for the chunk, and for the report on it, in s.',
            low=0.1,
            high=3600.0,
            live=True,
        ),
        Param(
            'execution_timeout_s',
            10.0,
            'Patience beyond the duration of a motion, in s.',
            low=0.1,
            high=3600.0,
            live=True,
        ),
        Param(
            'approval_timeout_s',
            300.0,
            'Patience for somebody to approve a chunk, in s.',
            low=0.1,
            high=36000.0,
            live=True,
        ),
        Param(
            'max_refusals',
            5,
            'So many chunks refused in a row end the task.',
            low=1,
            high=1000,
            live=True,
        ),
        Param(
            'switch',
            SWITCH,
            'Part of a motion after which the next chunk is to be ready, in mode overlap.',
            low=0.0,
            high=1.0,
            live=True,
        ),
        Param('instruction', '', 'What ~/start_task executes.', live=True),
        Param('task', '', 'Short name of that task.', live=True),
        Param(
            'seed',
            -1,
            'Seed of its first rollout; negative draws one.',
            low=-1,
            high=MAX_SEED,
            live=True,
        ),
    )

    def __init__(self, **options: Any) -> None:
        super().__init__(topics.TASK_EXECUTOR, **options)

    def _setup(self) -> None:
        self._board = TaskBoard(self.now_ns)
        self._board.expect(_NEEDED)
        self._busy = threading.Lock()
        self._listen()
        self._dreamer = DreamClient(
            ActionClient(self, GenerateRollout, topics.GENERATE_ROLLOUT), self._board
        )
        self.own(self._dreamer.destroy)
        hold = topics.of(topics.ARM_TRAJECTORY_PUBLISHER, topics.HOLD)
        self._hold = self.create_client(Trigger, hold)
        self.own(lambda: self.destroy_client(self._hold))
        self._server = ThreadedActionServer(
            self,
            ExecuteTask,
            topics.EXECUTE_TASK,
            self._execute,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
        )
        self.own(self._server.destroy)
        self._own_goals = ActionClient(self, ExecuteTask, topics.EXECUTE_TASK)
        self.own(self._own_goals.destroy)
        self._own_goal: Any = None
        self.offer(topics.START_TASK, self._start_task)
        self.offer(topics.CANCEL_TASK, self._cancel_task)

    def _listen(self) -> None:
        self.listen_to(Observation, topics.OBSERVATION, self._on_observation, qos.PIPELINE)
        self.listen_to(
            ActionChunk, topics.CHUNK, lambda m: self._board.add_chunk(m.rollout_id), qos.PIPELINE
        )
        self.listen_to(
            ChunkReport, topics.CHUNK_REPORT, lambda m: self._board.add_report(m), qos.REPORT
        )
        watch = NodeWatch(self, _NEEDED, self._board.set_node)
        # A latched state is sent once, on connecting: that may be before this node is active.
        safety = self.create_subscription(
            SafetyState,
            topics.SAFETY_STATE,
            self._board.set_safety,
            qos.LEASED,
            event_callbacks=watch.lease_of(topics.ARM_TRAJECTORY_PUBLISHER),
        )
        episode = self.create_subscription(Episode, topics.EPISODE, self._on_episode, qos.LATCHED)
        for subscription in (safety, episode):
            self.own(partial(self.destroy_subscription, subscription))

    def _start(self) -> None:
        self._board.set_node(self.get_name(), '')

    def _stop(self) -> None:
        self._board.set_node(self.get_name(), f'{self.get_name()} was stopped.')

    # What is heard.

    def _on_observation(self, message: Observation) -> None:
        oldest_ns = min((to_ns(stamp) for stamp in message.image_stamps), default=0)
        sighting = Sighting(to_ns(message.header.stamp), oldest_ns, message.observation_id)
        self._board.see(sighting, at_rest=message.at_rest)

    def _on_episode(self, message: Episode) -> None:
        if message.phase == Episode.START:
            self._board.set_scene(to_ns(message.header.stamp))
            return
        done = message.success == Episode.SUCCESS
        success = Success(to_ns(message.header.stamp), message.task) if done else None
        self._board.set_success(success)

    # The action.

    def _on_goal(self, _goal: ExecuteTask.Goal) -> GoalResponse:
        return GoalResponse.ACCEPT if self.is_active else GoalResponse.REJECT

    def _on_cancel(self, _handle: ServerGoalHandle) -> CancelResponse:
        self._board.wake()
        return CancelResponse.ACCEPT

    def _execute(self, handle: ServerGoalHandle) -> ExecuteTask.Result:
        if not self._busy.acquire(blocking=False):
            handle.abort()
            sentence = 'Another task is being executed: cancel it first.'
            return Result(termination_reason=Result.REFUSED_BUSY, message=sentence)
        try:
            return self._run(handle)
        finally:
            self._busy.release()

    def _run(self, handle: ServerGoalHandle) -> ExecuteTask.Result:
        goal = handle.request
        self._task_status('ok', f"executes '{goal.instruction}'")
        loop = TaskLoop(
            self._board,
            self._dreamer.bind(goal.instruction, self.param('dream_timeout_s')),
            self.now_ns,
            lambda: handle.is_cancel_requested,
            handle.publish_feedback,
            self._settings(goal.max_duration_s),
            task=goal.task,
            seed=goal.seed if goal.seed >= 0 else random.randint(0, MAX_SEED),
        )
        end = self._ending(loop)
        if end.reason == Result.CANCELED or not self.is_active:
            self._hold.call_async(Trigger.Request())
        asked_for = end.reason in (Result.STOPPED_BY_TASK_STATUS, Result.CANCELED)
        self._task_status('ok' if asked_for else 'warn', str(end))
        self._conclude(handle, end)
        return Result(
            termination_reason=end.reason,
            message=str(end),
            chunks_executed=loop.feedback.chunks_executed,
            chunks_refused=loop.feedback.chunks_refused,
            elapsed_s=loop.elapsed_s,
        )

    def _ending(self, loop: TaskLoop) -> TaskEndedError:
        try:
            return loop.run()
        except Exception as error:
            self.report_unexpected('task', error)
            return TaskEndedError(Result.ERROR, f'{type(error).__name__}: {error}')

    def _conclude(self, handle: ServerGoalHandle, end: TaskEndedError) -> None:
        if end.reason == Result.CANCELED and handle.is_cancel_requested:
            handle.canceled()
        elif end.reason == Result.STOPPED_BY_TASK_STATUS:
            handle.succeed()
        else:
            handle.abort()

    def _task_status(self, level: str, sentence: str) -> None:
        self.diagnostics.report('task', level, sentence)

    def _settings(self, max_duration_s: float) -> TaskSettings:
        return TaskSettings(
            max_duration_s=max_duration_s if max_duration_s > 0 else self.param('max_duration_s'),
            rest_timeout_s=self.param('rest_timeout_s'),
            decode_timeout_s=self.param('decode_timeout_s'),
            execution_timeout_s=self.param('execution_timeout_s'),
            approval_timeout_s=self.param('approval_timeout_s'),
            max_refusals=self.param('max_refusals'),
            switch=self.param('switch'),
        )

    # The service twins.

    def _start_task(self) -> str:
        instruction = self.param('instruction')
        if not instruction:
            raise UserError("The parameter 'instruction' is empty: set it first.")
        if self._busy.locked():
            raise UserError('A task is being executed: call ~/cancel_task first.')
        goal = ExecuteTask.Goal(
            instruction=instruction, task=self.param('task'), seed=self.param('seed')
        )
        self._own_goals.send_goal_async(goal).add_done_callback(self._on_own_goal)
        return f"executing '{instruction}'; {topics.EXECUTE_TASK} gives feedback and result"

    def _on_own_goal(self, future: Any) -> None:
        self._own_goal = future.result()

    def _cancel_task(self) -> str:
        if self._own_goal is None or not self._busy.locked():
            raise UserError('No task that ~/start_task started is being executed.')
        self._own_goal.cancel_goal_async()
        return 'canceling'


def main(args: list[str] | None = None) -> int:
    """Run the node until SIGINT."""
    return run([TaskExecutor], args=args)
