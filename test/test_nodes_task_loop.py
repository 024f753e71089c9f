"""One task of the executor: what it waits for, in which order, and how it ends."""

from collections import deque
from dataclasses import replace
from itertools import pairwise
import threading

import pytest

from eva_msgs.action import ExecuteTask
from eva_msgs.action import GenerateRollout
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.nodes.task_executor.task_board import Patience
from eva_ros.nodes.task_executor.task_board import Sighting
from eva_ros.nodes.task_executor.task_board import Success
from eva_ros.nodes.task_executor.task_board import TaskBoard
from eva_ros.nodes.task_executor.task_loop import TaskEndedError
from eva_ros.nodes.task_executor.task_loop import TaskLoop
from eva_ros.nodes.task_executor.task_loop import TaskSettings
from eva_ros.ros.stamps import to_time

Result = ExecuteTask.Result
Feedback = ExecuteTask.Feedback
S = 1_000_000_000
SETTINGS = TaskSettings(
    max_duration_s=10.0,
    rest_timeout_s=0.3,
    decode_timeout_s=0.3,
    execution_timeout_s=0.3,
    approval_timeout_s=0.3,
    max_refusals=2,
)


class World:
    """Everything around the loop, in simulated time: answers each question as it was told to."""

    def __init__(self, reports=()):
        self.now_ns = 100 * S
        self.board = TaskBoard(lambda: self.now_ns)
        self.reports = deque(reports)
        self.asked = []
        self.shown = []
        self.canceled = False
        self.answer = GenerateRollout.Result.SUCCEEDED
        self.be(SafetyState.ARMED)
        self.rest()

    def be(self, state, **fields):
        message = SafetyState(state=state, detail='said so', **fields)
        message.header.stamp = to_time(self.now_ns)
        self.board.set_safety(message)

    def rest(self, images_ns=None, at_rest=True):
        for _ in range(2):
            self.now_ns += S // 10
            oldest_ns = self.now_ns if images_ns is None else images_ns
            sighting = Sighting(self.now_ns, oldest_ns, 1)
            self.board.see(sighting, at_rest=at_rest)

    def dream(self, sighting, seed, on_step, check):
        self.asked.append((sighting.stamp_ns, seed))
        on_step(1, 2)
        check()
        number = len(self.asked)
        if self.answer != GenerateRollout.Result.SUCCEEDED:
            return GenerateRollout.Result(termination_reason=self.answer, message='no dream')
        self.board.add_chunk(number)
        if self.reports:
            self.judge(number, self.reports.popleft())
        return GenerateRollout.Result(rollout_id=number)

    def judge(self, number, fields):
        self.now_ns += S // 10
        report = ChunkReport(rollout_id=number, **fields)
        report.header.stamp = to_time(self.now_ns)
        self.board.add_report(report)
        if report.sent:
            self.be(SafetyState.EXECUTING, rollout_id=number)

    def show(self, feedback):
        self.shown.append(feedback.state)
        if feedback.state == Feedback.EXECUTING:
            # The motion takes a second, then the arms rest again.
            self.now_ns += S
            self.be(SafetyState.ARMED)
            self.rest()

    def in_a_thread(self):
        """Run in a thread; return it and the list that its end will be in."""
        ends: list[TaskEndedError] = []
        thread = threading.Thread(target=lambda: ends.append(self.run()[0]))
        thread.start()
        return thread, ends

    def run(self, task='reach_left', settings=SETTINGS):
        loop = TaskLoop(
            self.board,
            self.dream,
            lambda: self.now_ns,
            lambda: self.canceled,
            self.show,
            settings,
            task=task,
            seed=7,
        )
        return loop.run(), loop


PHASES = ['observation', 'dreaming', 'decoding', 'checking', 'approval', 'executing']
SENT = {'accepted': True, 'sent': True, 'detail': 'fine', 'duration_s': 1.0}
REFUSED = {'reason': ChunkReport.START_DEVIATION, 'detail': 'moved'}
UNREAD = {'reason': ChunkReport.NON_FINITE, 'detail': 'what was read is not finite'}
DRY = {'accepted': True, 'reason': ChunkReport.DRY_RUN, 'detail': 'dry'}
WAITS = {'accepted': True, 'reason': ChunkReport.AWAITING_APPROVAL, 'detail': 'look'}


def test_turns_follow_each_other_until_the_time_is_over():
    world = World([SENT] * 20)
    end, loop = world.run()
    assert end.reason == Result.COMPLETED_TIME_LIMIT
    # The limit may cut the last motion short.
    assert 6 <= loop.feedback.chunks_executed <= len(world.asked)
    assert [seed for _, seed in world.asked] == list(range(7, 7 + len(world.asked)))
    order = [
        Feedback.WAITING_FOR_OBSERVATION,
        Feedback.DREAMING,
        Feedback.DREAMING,
        Feedback.DECODING,
        Feedback.CHECKING,
        Feedback.EXECUTING,
    ]
    assert world.shown[:6] == order


def test_the_next_observation_is_taken_after_the_motion_and_at_rest():
    world = World([SENT, SENT])
    ends = []
    before = world.show

    def show(feedback):
        before(feedback)
        if feedback.state == Feedback.EXECUTING:
            ends.append(world.board.safety.header.stamp.sec * S)

    world.show = show
    world.run()
    assert world.asked[1][0] > ends[0]


def test_an_image_from_before_the_rest_is_not_looked_at():
    world = World()
    world.rest(at_rest=False)
    world.rest(images_ns=world.now_ns)
    end, _ = world.run()
    assert end.reason == Result.NO_OBSERVATION
    assert not world.asked


def test_what_was_seen_before_the_task_or_its_scene_is_not_looked_at():
    world = World()
    seen_ns = world.now_ns
    world.now_ns += S
    assert world.run()[0].reason == Result.NO_OBSERVATION
    world = World([SENT])
    # The executor's clock may be behind the one that stamps the scene.
    world.board.set_scene(world.now_ns + S)
    assert world.run()[0].reason == Result.NO_OBSERVATION
    world.now_ns += S
    world.rest()
    world.run()
    assert world.asked[0][0] > seen_ns + S


def test_the_judge_ends_the_task_it_judged_and_no_other():
    world = World([SENT] * 20)
    world.board.set_success(Success(world.now_ns, 'lift_left'))
    assert world.run()[0].reason == Result.COMPLETED_TIME_LIMIT
    world = World([SENT] * 20)
    world.board.set_success(Success(world.now_ns + 3 * S, 'reach_left'))
    end, loop = world.run()
    assert end.reason == Result.STOPPED_BY_TASK_STATUS


def test_a_success_from_before_the_task_is_none():
    world = World([SENT] * 20)
    world.board.set_success(Success(world.now_ns - S, 'reach_left'))
    assert world.run()[0].reason == Result.COMPLETED_TIME_LIMIT


@pytest.mark.parametrize(
    ('reason', 'expected'),
    [
        (GenerateRollout.Result.REFUSED_INSTRUCTION, Result.REFUSED_INSTRUCTION),
        (GenerateRollout.Result.NO_OBSERVATION, Result.NO_OBSERVATION),
        (GenerateRollout.Result.ERROR, Result.NO_ROLLOUT),
    ],
)
def test_without_a_dream_the_task_ends_with_the_generators_sentence(reason, expected):
    world = World()
    world.answer = reason
    end, _ = world.run()
    assert (end.reason, str(end)) == (expected, 'no dream')


def test_nothing_is_asked_while_the_arms_are_disarmed():
    world = World()
    world.be(SafetyState.DISARMED)
    end, _ = world.run()
    assert end.reason == Result.REFUSED_NOT_ARMED
    assert not world.asked


@pytest.mark.parametrize('comes', [True, False])
def test_a_publisher_that_was_not_found_yet_is_waited_for(comes):
    world = World([SENT] * 20)
    world.board.set_safety(None)
    wait_for = world.board.wait_for

    def found_meanwhile(find, timeout_s, *args):
        world.board.wait_for = wait_for
        assert timeout_s >= 5
        if comes:
            world.be(SafetyState.ARMED)
        return find()

    world.board.wait_for = found_meanwhile
    end, _ = world.run()
    expected = Result.COMPLETED_TIME_LIMIT if comes else Result.REFUSED_NOT_ARMED
    assert end.reason == expected
    assert bool(world.asked) is comes


def test_arming_that_the_goal_has_overtaken_is_waited_for():
    world = World([SENT] * 20)
    world.be(SafetyState.DISARMED)
    wait_for = world.board.wait_for

    def armed_meanwhile(*args):
        world.board.wait_for = wait_for
        world.be(SafetyState.ARMED)
        return wait_for(*args)

    world.board.wait_for = armed_meanwhile
    end, loop = world.run()
    assert end.reason == Result.COMPLETED_TIME_LIMIT
    assert loop.feedback.chunks_executed > 0


@pytest.mark.parametrize(
    ('state', 'estop', 'reason'),
    [(SafetyState.DISARMED, False, Result.DISARMED), (SafetyState.ESTOP, True, Result.ESTOP)],
)
def test_being_disarmed_or_stopped_in_mid_task_ends_it_with_the_reason(state, estop, reason):
    world = World([SENT] * 3)
    before = world.show

    def show(feedback):
        if len(world.asked) == 2:
            world.be(state, estop=estop)
        else:
            before(feedback)

    world.show = show
    end, loop = world.run()
    assert end.reason == reason
    assert 'said so' in str(end)
    assert loop.feedback.chunks_executed == 1


@pytest.mark.parametrize('phase', range(6), ids=PHASES)
def test_a_node_that_is_lost_in_any_phase_ends_the_task_and_is_named(phase):
    world = World([WAITS if phase == Feedback.AWAITING_APPROVAL else SENT] * 3)
    before = world.show

    def show(feedback):
        if feedback.state == phase:
            world.board.set_node('action_decoder', 'action_decoder has died.')
            # It is back before anybody looks.
            world.board.set_node('action_decoder', '')
        else:
            before(feedback)

    world.show = show
    end, loop = world.run()
    assert (end.reason, str(end)) == (Result.NODE_LOST, 'action_decoder has died.')
    assert loop.feedback.state == phase
    # The next task goes on with the one that is back.
    world.show = before
    world.reports.append(SENT)
    world.rest()
    assert world.run()[0].reason != Result.NODE_LOST


def test_a_task_does_not_begin_without_a_node_that_it_needs():
    world = World([SENT])
    world.board.expect(['action_decoder', 'camera_ingest'])
    world.board.set_node('camera_ingest', '')
    thread, ends = world.in_a_thread()
    for _ in range(1000):
        world.now_ns += S
        threading.Event().wait(0.01)
        world.board.wake()
        if not thread.is_alive():
            break
    assert ends[0].reason == Result.NODE_LOST
    assert str(ends[0]) == 'action_decoder cannot be found: start what is not running.'
    assert not world.asked


def test_a_node_that_was_never_active_ends_the_task_at_once():
    world = World([SENT])
    world.board.set_node('rollout_generator', 'rollout_generator is inactive.')
    end, _ = world.run()
    assert (end.reason, str(end)) == (Result.NODE_LOST, 'rollout_generator is inactive.')


def test_refused_chunks_in_a_row_end_the_task_with_the_last_detail():
    world = World([SENT, REFUSED, REFUSED])
    end, loop = world.run()
    assert end.reason == Result.CHUNK_REFUSED
    assert 'moved' in str(end)
    assert (loop.feedback.chunks_executed, loop.feedback.chunks_refused) == (1, 2)


def test_a_dry_run_dreams_on_without_executing():
    world = World([DRY, DRY])
    end, loop = world.run()
    assert end.reason == Result.NO_CHUNK
    # Two, and twice one on which nothing is said.
    assert (len(world.asked), loop.feedback.chunks_executed) == (4, 0)


def test_a_chunk_that_awaits_approval_is_waited_for():
    world = World([WAITS])
    before = world.show

    def show(feedback):
        before(feedback)
        if feedback.state == Feedback.AWAITING_APPROVAL:
            world.judge(1, SENT)
            world.show = before

    world.show = show
    end, loop = world.run()
    assert loop.feedback.chunks_executed == 1


def test_a_rollout_that_is_never_decoded_ends_the_task():
    world = World()
    world.board.add_chunk = lambda number: None
    end, _ = world.run()
    assert end.reason == Result.NO_CHUNK
    assert 'action_decoder' in str(end)
    assert len(world.asked) == 2


def test_a_dream_that_is_not_finite_ends_the_task_for_that_reason():
    world = World()
    world.answer = GenerateRollout.Result.NON_FINITE
    end, loop = world.run()
    assert (end.reason, str(end)) == (Result.NON_FINITE, 'no dream')
    assert loop.feedback.chunks_executed == 0


def test_a_rollout_that_no_chunk_is_made_of_is_refused_without_waiting_for_one():
    world = World()
    world.board.add_chunk = lambda number: world.judge(number, UNREAD)
    end, loop = world.run()
    assert end.reason == Result.CHUNK_REFUSED
    assert 'not finite' in str(end)
    assert loop.feedback.chunk_reason == ChunkReport.NON_FINITE


def test_one_rollout_that_got_lost_is_dreamed_again():
    world = World([SENT] * 20)
    add = world.board.add_chunk
    judge = world.judge

    def lose_the_first(number, *fields):
        (add if not fields else judge)(number, *fields) if number > 1 else None

    world.board.add_chunk = world.judge = lose_the_first
    end, loop = world.run()
    assert end.reason == Result.COMPLETED_TIME_LIMIT
    assert loop.feedback.chunks_executed >= 1


def test_a_task_asked_for_before_the_clock_was_heard_has_all_of_its_time():
    world = World()
    world.now_ns = 0
    world.board.expect(['action_decoder'])
    thread, ends = world.in_a_thread()
    world.reports = deque([SENT] * 20)
    threading.Event().wait(0.05)
    # Longer than any patience and than the task may take.
    world.now_ns = 1000 * S
    world.rest()
    threading.Event().wait(0.05)
    assert not ends
    world.board.set_node('action_decoder', '')
    thread.join(10.0)
    assert ends[0].reason == Result.COMPLETED_TIME_LIMIT
    assert world.shown.count(Feedback.EXECUTING) > 1


def test_a_task_without_a_clock_says_so(monkeypatch):
    monkeypatch.setattr('eva_ros.nodes.task_executor.task_loop._FINDING_PATIENCE_S', 0.05)
    world = World()
    world.now_ns = 0
    end, _ = world.run()
    assert end.reason == Result.NODE_LOST
    assert str(end).endswith('nothing was heard on /clock: start the simulator.')


def test_cancel_wakes_a_loop_that_waits():
    world = World()
    world.rest(at_rest=False)
    patient = TaskSettings(10.0, 60.0, 60.0, 60.0, 60.0, 2)
    ends: list[TaskEndedError] = []
    thread = threading.Thread(target=lambda: ends.append(world.run(settings=patient)[0]))
    thread.start()
    world.canceled = True
    world.board.wake()
    thread.join(10.0)
    assert ends[0].reason == Result.CANCELED


def test_patience_is_ros_time_but_not_with_a_clock_that_stands_still():
    now_ns = [0]
    patience = Patience(lambda: now_ns[0], 0.2)
    for _ in range(30):
        now_ns[0] += 1_000_000
        threading.Event().wait(0.01)
        assert not patience.is_over()
    now_ns[0] = 200_000_000
    assert patience.is_over()
    still = Patience(lambda: 0, 0.01)
    threading.Event().wait(0.02)
    assert still.is_over()


# --- mode overlap: the next turn begins while the arms move --------------------------------------

MOTION_S = 1.6


class Overlapping(World):
    """Arms that move on from chunk to chunk; a dream takes 0.3 s, observations come at 10 Hz.

    Attributes:
        dream_s: how long dreams take; the last one again and again.
        moving: of each dream's observation, whether the arms moved then.
        events: by the time at which they happen, in s since the start.
    """

    def __init__(self, reports=(), dream_s=(0.3,)):
        self.end_ns, self.moving, self.events = 0, [], {}
        self.dream_s, self.began_ns = list(dream_s), 0
        super().__init__(reports)
        self.began_ns = self.now_ns
        wait_for = self.board.wait_for

        def waiting(find, timeout_s, check=lambda: None):
            def finds():
                found = find()
                if not found:
                    self.go_on(0.1)
                return found or find()

            return wait_for(finds, timeout_s, check)

        self.board.wait_for = waiting

    def be(self, state, **fields):
        super().be(state, mode=SafetyState.OVERLAP, **fields)

    def go_on(self, seconds):
        """Let time go on; the arms come to rest at the end of their motion."""
        until_ns = self.now_ns + round(seconds * S)
        while self.now_ns < until_ns:
            self.now_ns += S // 10
            if self.board.safety.state == SafetyState.EXECUTING and self.now_ns >= self.end_ns:
                self.be(SafetyState.ARMED)
            for at_s in [t for t in self.events if self.now_ns >= self.began_ns + t * S]:
                self.events.pop(at_s)()
            at_rest = self.board.safety.state != SafetyState.EXECUTING
            self.board.see(Sighting(self.now_ns, self.now_ns, 1), at_rest=at_rest)

    def dream(self, sighting, seed, on_step, check):
        self.moving.append(self.board.safety.state == SafetyState.EXECUTING)
        seconds = self.dream_s.pop(0) if len(self.dream_s) > 1 else self.dream_s[0]
        for _ in range(round(seconds * 10)):
            self.go_on(0.1)
            check()
        return super().dream(sighting, seed, on_step, check)

    def judge(self, number, fields):
        super().judge(number, fields)
        if fields.get('sent'):
            self.end_ns = self.now_ns + round(fields['duration_s'] * S)

    def show(self, feedback):
        self.shown.append(feedback.state)


MOVES = {**SENT, 'duration_s': MOTION_S}
PATIENT = replace(SETTINGS, rest_timeout_s=5.0, execution_timeout_s=5.0, switch=0.5)


def test_in_overlap_the_next_dream_begins_while_the_arms_move_and_is_ready_at_the_switch():
    world = Overlapping([MOVES] * 20)
    end, loop = world.run(settings=PATIENT)
    assert end.reason == Result.COMPLETED_TIME_LIMIT
    assert world.moving == [False] + [True] * (len(world.moving) - 1)
    looked_s = [(stamp_ns - world.began_ns) / S for stamp_ns, _ in world.asked]
    # A chunk comes 0.4 s after its observation, half a motion after the chunk before.
    assert [b - a for a, b in pairwise(looked_s)] == pytest.approx(
        [MOTION_S / 2] * (len(looked_s) - 1), abs=0.11
    )
    assert loop.feedback.chunks_executed >= len(world.asked) - 2


@pytest.mark.parametrize('switch', [0.25, 0.75])
def test_the_switch_is_where_the_settings_say(switch):
    world = Overlapping([MOVES] * 20, dream_s=[0.1])
    world.run(settings=replace(PATIENT, switch=switch))
    looked_s = [stamp_ns / S for stamp_ns, _ in world.asked]
    assert looked_s[3] - looked_s[2] == pytest.approx(switch * MOTION_S, abs=0.11)


def test_a_dream_that_comes_late_is_given_up_and_the_next_begins_from_rest():
    world = Overlapping([MOVES] * 20, dream_s=[0.3, 9.0, 0.3])
    given_up = []
    dream = world.dream

    def watched(*args):
        try:
            return dream(*args)
        except Exception as error:
            given_up.append((type(error).__name__, world.board.safety.state))
            raise

    world.dream = watched
    end, loop = world.run(settings=PATIENT)
    assert given_up[0] == ('_TooLateError', SafetyState.ARMED)
    assert world.moving[:4] == [False, True, False, True]
    assert end.reason == Result.COMPLETED_TIME_LIMIT
    assert loop.feedback.chunks_refused == 0


@pytest.mark.parametrize('at_rest_too', [False, True])
def test_without_history_for_a_dream_in_motion_the_next_begins_from_rest(at_rest_too):
    world = Overlapping([MOVES] * 20)
    dream, answers = world.dream, GenerateRollout.Result

    def forgetful(*args):
        lacking = len(world.moving) in ((1, 2) if at_rest_too else (1,))
        world.answer = answers.NO_OBSERVATION if lacking else answers.SUCCEEDED
        return dream(*args)

    world.dream = forgetful
    end, loop = world.run(settings=PATIENT)
    if at_rest_too:
        assert (end.reason, str(end)) == (Result.NO_OBSERVATION, 'no dream')
        assert world.moving == [False, True, False]
    else:
        assert end.reason == Result.COMPLETED_TIME_LIMIT
        assert world.moving[:4] == [False, True, False, True]
        assert loop.feedback.chunks_refused == 0


def test_dreams_that_take_longer_than_a_motion_begin_from_rest():
    world = Overlapping([MOVES] * 20, dream_s=[2.0])
    end, loop = world.run(settings=PATIENT)
    assert end.reason == Result.COMPLETED_TIME_LIMIT
    assert not any(world.moving) and loop.feedback.chunks_executed >= 2


def test_a_chunk_refused_in_motion_lets_the_arms_come_to_rest_before_the_next_turn():
    world = Overlapping([MOVES, REFUSED, *[MOVES] * 20])
    _, loop = world.run(settings=PATIENT)
    assert world.moving[:4] == [False, True, False, True]
    assert loop.feedback.chunks_refused == 1


@pytest.mark.parametrize('phase', ['while it waits to look', 'while it dreams'])
@pytest.mark.parametrize(
    ('happens', 'reason'),
    [
        (lambda world: setattr(world, 'canceled', True), Result.CANCELED),
        (lambda world: world.be(SafetyState.ESTOP, estop=True), Result.ESTOP),
        (lambda world: world.be(SafetyState.DISARMED), Result.DISARMED),
        (lambda world: world.board.set_node('action_decoder', 'It died.'), Result.NODE_LOST),
        (lambda world: world.board.set_success(Success(world.now_ns, 'reach_left')),
         Result.STOPPED_BY_TASK_STATUS),
    ],
    ids=['cancel', 'e-stop', 'disarmed', 'node lost', 'done'],
)  # fmt: skip
def test_what_ends_a_task_ends_it_in_mid_motion_too(phase, happens, reason):
    world = Overlapping([MOVES] * 20)
    # It looks at about 0.8 s and dreams until 1.1 s.
    world.events[0.6 if 'waits' in phase else 1.0] = lambda: happens(world)
    end, _ = world.run(settings=PATIENT)
    assert end.reason == reason
    assert len(world.asked) == 1
    assert (len(world.moving) == 2) is ('dreams' in phase)


def test_progress_is_shown_in_overlap_as_ever():
    world = Overlapping([MOVES] * 20)
    _, loop = world.run(settings=PATIENT)
    order = [Feedback.WAITING_FOR_OBSERVATION, Feedback.DREAMING, Feedback.DREAMING,
             Feedback.DECODING, Feedback.CHECKING, Feedback.EXECUTING,
             Feedback.DREAMING, Feedback.DREAMING, Feedback.DECODING]  # fmt: skip
    assert world.shown[:9] == order
    assert loop.feedback.chunk_accepted and loop.feedback.rollout_id == len(world.asked)
