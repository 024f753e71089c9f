"""Observe, dream, decode, move, until the task is over: one goal of the task executor.

In mode look_dream_move the arms rest while a turn is made; in mode overlap the next turn begins
while they move. The mode is that of the arm trajectory publisher, which says it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from eva_msgs.action import ExecuteTask
from eva_msgs.action import GenerateRollout
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.control.turn_pacing import SWITCH
from eva_ros.control.turn_pacing import TurnPacing
from eva_ros.nodes.task_executor.task_board import Sighting
from eva_ros.nodes.task_executor.task_board import TaskBoard
from eva_ros.ros.stamps import to_ns

Feedback = ExecuteTask.Feedback
Result = ExecuteTask.Result
# Two topics' messages overtake each other: arming, said before the goal came, may come after it.
_ARMING_PATIENCE_S = 1.0
# Nothing at all was heard: the publisher may be found only now (see ros/discovery.py).
_FINDING_PATIENCE_S = 10.0
_DREAM_REFUSED = {
    GenerateRollout.Result.REFUSED_INSTRUCTION: Result.REFUSED_INSTRUCTION,
    GenerateRollout.Result.NO_OBSERVATION: Result.NO_OBSERVATION,
    GenerateRollout.Result.CANCELED: Result.CANCELED,
    GenerateRollout.Result.NON_FINITE: Result.NON_FINITE,
}


class TaskEndedError(Exception):
    """The task is over: a termination reason of ExecuteTask and one sentence."""

    def __init__(self, reason: int, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


class _TooLateError(Exception):
    """No dream is ready in time to continue the current motion."""


class Dreamer(Protocol):
    """Asks for a rollout and waits for it."""

    def __call__(
        self,
        sighting: Sighting,
        seed: int,
        on_step: Callable[[int, int], None],
        check: Callable[[], None],
    ) -> GenerateRollout.Result | None:
        """Return the generator's answer; None if it gives none."""


@dataclass(frozen=True)
class TaskSettings:
    """Patience and limits of a task.

    Attributes:
        max_duration_s: of ROS time.
        rest_timeout_s: for an observation of resting arms; all are as task_board.Patience has it.
        decode_timeout_s: for a chunk, and then for the report on it.
        execution_timeout_s: for the end of a chunk's motion.
        approval_timeout_s: for somebody to approve a chunk.
        max_refusals: so many chunks refused in a row end the task.
        switch: part of a motion after which the next chunk is to be ready, in mode overlap.
    """

    max_duration_s: float
    rest_timeout_s: float
    decode_timeout_s: float
    execution_timeout_s: float
    approval_timeout_s: float
    max_refusals: int
    switch: float = SWITCH


class TaskLoop:
    """One task from its start to its end.

    Args:
        board: what is heard.
        dream: asks for a rollout.
        now_ns: the ROS time.
        canceled: whether somebody wants the task to end.
        publish: is given the feedback whenever it changes.
        settings: patience and limits.
        task: its short name; another task's success is not ours.
        seed: of the first rollout.
    """

    def __init__(
        self,
        board: TaskBoard,
        dream: Dreamer,
        now_ns: Callable[[], int],
        canceled: Callable[[], bool],
        publish: Callable[[ExecuteTask.Feedback], None],
        settings: TaskSettings,
        *,
        task: str,
        seed: int,
    ) -> None:
        self._board = board
        self._dream = dream
        self._now_ns = now_ns
        self._canceled = canceled
        self._publish = publish
        self._settings = settings
        self._task = task
        self._seed = seed
        self._start_ns = self._not_before_ns = now_ns()
        self._refused_in_a_row = 0
        self._lost = False
        self._pacing = TurnPacing(settings.switch)
        # The motion under way that the next chunk may join; in mode overlap alone.
        self._under_way: ChunkReport | None = None
        self.feedback = Feedback()

    @property
    def elapsed_s(self) -> float:
        """Return how long the task has been going on, in ROS time."""
        return (self._now_ns() - self._start_ns) * 1e-9

    def run(self) -> TaskEndedError:
        """Do turn after turn and return why it ended."""
        self._board.forget()
        try:
            self._begin()
            self._board.wait_for(self._all_are_known, _FINDING_PATIENCE_S, self._check_outside)
            self._check_heard()
            self._board.wait_for(self._arms_are_on, _ARMING_PATIENCE_S, self._check_outside)
            self.check()
            while True:
                self._turn()
        except TaskEndedError as end:
            return end

    def check(self) -> None:
        """Raise TaskEndedError if something outside ends the task now."""
        self._check_outside()
        self._check_safety()
        self._check_success()
        if self.elapsed_s > self._settings.max_duration_s:
            limit_s = self._settings.max_duration_s
            sentence = (
                f'The time limit of {limit_s:g} s is over, and the task was not judged done.'
            )
            raise TaskEndedError(Result.COMPLETED_TIME_LIMIT, sentence)

    def _begin(self) -> None:
        """Take the time, once there is one: before /clock is heard, it is zero."""
        if not self._board.wait_for(self._now_ns, _FINDING_PATIENCE_S, self._check_outside):
            sentence = 'use_sim_time is set and nothing was heard on /clock: start the simulator.'
            raise TaskEndedError(Result.NODE_LOST, sentence)
        # Who asks for a task means what is there now: the scene may have been drawn just before.
        self._start_ns = self._not_before_ns = self._now_ns()

    def _check_outside(self) -> None:
        if self._canceled():
            raise TaskEndedError(Result.CANCELED, 'The task was canceled.')
        if lost := self._board.lost:
            raise TaskEndedError(Result.NODE_LOST, lost)

    def _check_heard(self) -> None:
        if unheard := sorted(self._board.unheard):
            sentence = f'{" and ".join(unheard)} cannot be found: start what is not running.'
            raise TaskEndedError(Result.NODE_LOST, sentence)

    def _check_success(self) -> None:
        success = self._board.success
        if success is None or success.stamp_ns < self._start_ns:
            return
        if success.task == self._task or '' in (success.task, self._task):
            sentence = f'The task {success.task} is done.'
            raise TaskEndedError(Result.STOPPED_BY_TASK_STATUS, sentence)

    def _check_safety(self) -> None:
        state = self._board.safety
        if state is None:
            raise TaskEndedError(
                Result.REFUSED_NOT_ARMED, 'Nothing was heard from the arm trajectory publisher.'
            )
        if state.estop:
            raise TaskEndedError(Result.ESTOP, f'E-stop: {state.detail}')
        if state.state == SafetyState.DISARMED:
            first = self.feedback.rollout_id == 0
            reason = Result.REFUSED_NOT_ARMED if first else Result.DISARMED
            raise TaskEndedError(reason, f'The arms are disarmed: {state.detail}')

    def _arms_are_on(self) -> bool:
        """Return whether arming was heard of, or an e-stop, which no patience undoes."""
        state = self._board.safety
        return state is not None and (state.estop or state.state != SafetyState.DISARMED)

    def _all_are_known(self) -> bool:
        return self._board.safety is not None and not self._board.unheard

    def _turn(self) -> None:
        sighting = self._look_ahead() or self._look()
        try:
            rollout_id = self._ask(sighting)
        except _TooLateError:
            self._rest()
            return
        report = self._judged(rollout_id)
        if report is None:
            self._rest()
            return
        self._pacing.took((to_ns(report.header.stamp) - sighting.stamp_ns) * 1e-9)
        self.feedback.chunk_accepted = report.accepted
        self.feedback.chunk_reason = report.reason
        self.feedback.chunk_detail = report.detail
        if not report.accepted:
            self._refusal(report)
            self._rest()
        elif report.sent:
            self._execute(report)
        else:
            self._refused_in_a_row = 0
            self._show(self.feedback.state)

    def _look_ahead(self) -> Sighting | None:
        """Return an observation of the arms in mid-motion, in time for the chunk to join it.

        None where the next observation is one of resting arms.
        """
        report, board = self._under_way, self._board
        if report is None:
            return None
        look_ns = self._pacing.look_ns(
            to_ns(report.header.stamp), report.duration_s, self._now_ns()
        )
        if look_ns is not None:
            board.wait_for(
                lambda: board.sighting_since(look_ns) or self._execution_end_ns(report),
                report.duration_s + self._settings.execution_timeout_s,
                self.check,
            )
        sighting = None if look_ns is None else board.sighting_since(look_ns)
        if sighting is None or self._execution_end_ns(report):
            self._rest()
            return None
        return sighting

    def _look(self) -> Sighting:
        self._show(Feedback.WAITING_FOR_OBSERVATION)
        board = self._board
        sighting = board.wait_for(
            lambda: board.sighting_at_rest(max(self._not_before_ns, board.scene_ns)),
            self._settings.rest_timeout_s,
            self.check,
        )
        if sighting is None:
            raise TaskEndedError(
                Result.NO_OBSERVATION,
                f'No observation of resting arms within {self._settings.rest_timeout_s:g} s: see '
                'what camera_ingest says on /diagnostics.',
            )
        return sighting

    def _ask(self, sighting: Sighting) -> int:
        self._show(Feedback.DREAMING)
        answer = self._dream(sighting, self._seed, self._on_step, self._check_in_time)
        if answer is None:
            raise TaskEndedError(Result.NO_ROLLOUT, 'rollout_generator does not answer.')
        if answer.termination_reason != GenerateRollout.Result.SUCCEEDED:
            lacking = answer.termination_reason == GenerateRollout.Result.NO_OBSERVATION
            if lacking and self._under_way is not None:
                # What is missing is from before the observation: from rest it is not needed.
                raise _TooLateError
            reason = _DREAM_REFUSED.get(answer.termination_reason, Result.NO_ROLLOUT)
            raise TaskEndedError(reason, answer.message)
        self._seed += 1
        self.feedback.rollout_id = answer.rollout_id
        return answer.rollout_id

    def _check_in_time(self) -> None:
        """Check as ever; raise _TooLateError if the motion to join is over."""
        self.check()
        if self._under_way is not None and self._execution_end_ns(self._under_way):
            raise _TooLateError

    def _on_step(self, step: int, steps: int) -> None:
        self.feedback.denoising_step = step
        self.feedback.denoising_steps = steps
        self._show(Feedback.DREAMING)

    def _judged(self, rollout_id: int) -> ChunkReport | None:
        """Return the report on a rollout's chunk; None if either got lost, for the first time."""
        board, settings = self._board, self._settings
        self._show(Feedback.DECODING)
        # A report says as much as the chunk itself, and may be here before it.
        decoded = board.wait_for(
            lambda: board.has_chunk(rollout_id) or board.report_on(rollout_id),
            settings.decode_timeout_s,
            self.check,
        )
        if not decoded:
            self._missing(
                f'Rollout {rollout_id} was not decoded within {settings.decode_timeout_s:g} s: '
                'see what action_decoder says on /diagnostics.'
            )
            return None
        self._show(Feedback.CHECKING)
        report = self._wait_for_report(rollout_id, settings.decode_timeout_s)
        if report is None:
            self._missing(
                f'The arm trajectory publisher said nothing on rollout {rollout_id} within '
                f'{settings.decode_timeout_s:g} s.'
            )
            return None
        self._lost = False
        if report.reason == ChunkReport.AWAITING_APPROVAL:
            self._show(Feedback.AWAITING_APPROVAL)
            report = self._wait_for_report(rollout_id, settings.approval_timeout_s, waiting=True)
            if report is None:
                raise TaskEndedError(
                    Result.NO_CHUNK,
                    f'Nobody approved rollout {rollout_id} within '
                    f'{settings.approval_timeout_s:g} s.',
                )
        return report

    def _missing(self, sentence: str) -> None:
        """Let the task dream again once: between two processes a first message may get lost."""
        if self._lost:
            raise TaskEndedError(Result.NO_CHUNK, sentence)
        self._lost = True

    def _wait_for_report(
        self, rollout_id: int, timeout_s: float, *, waiting: bool = False
    ) -> ChunkReport | None:
        def find() -> ChunkReport | None:
            report = self._board.report_on(rollout_id)
            if report and waiting and report.reason == ChunkReport.AWAITING_APPROVAL:
                return None
            return report

        return self._board.wait_for(find, timeout_s, self.check)

    def _refusal(self, report: ChunkReport) -> None:
        self.feedback.chunks_refused += 1
        self._refused_in_a_row += 1
        self._show(self.feedback.state)
        if self._refused_in_a_row >= self._settings.max_refusals:
            raise TaskEndedError(
                Result.CHUNK_REFUSED,
                f'{self._refused_in_a_row} chunks in a row were refused, the last one: '
                f'{report.detail}',
            )

    def _execute(self, report: ChunkReport) -> None:
        self._refused_in_a_row = 0
        # The one before goes over into this one.
        self.feedback.chunks_executed += self._under_way is not None
        self._under_way = report
        self._show(Feedback.EXECUTING)
        if not self._overlaps:
            self._rest()

    @property
    def _overlaps(self) -> bool:
        state = self._board.safety
        return state is not None and state.mode == SafetyState.OVERLAP

    def _rest(self) -> None:
        """Wait for the end of the motion under way, if there is one."""
        report, self._under_way = self._under_way, None
        if report is None:
            return
        ended = self._board.wait_for(
            lambda: self._execution_end_ns(report),
            report.duration_s + self._settings.execution_timeout_s,
            self.check,
        )
        if ended is None:
            raise TaskEndedError(
                Result.ERROR,
                f'The motion of rollout {report.rollout_id} should have ended after '
                f'{report.duration_s:.1f} s and has not: is the clock running?',
            )
        self._not_before_ns = ended
        self.feedback.chunks_executed += 1

    def _execution_end_ns(self, report: ChunkReport) -> int | None:
        """Return when the arms were free again after a report; None: not yet."""
        state = self._board.safety
        if state is None or state.state != SafetyState.ARMED:
            return None
        entered_ns = to_ns(state.header.stamp)
        return entered_ns if entered_ns > to_ns(report.header.stamp) else None

    def _show(self, state: int) -> None:
        self.feedback.state = state
        self.feedback.elapsed_s = self.elapsed_s
        self._publish(self.feedback)
