"""What the supervisor of the arms remembers, and by which clock; and what watches the clock."""

from dataclasses import replace

import numpy as np
import pytest

from eva_ros.control.chunk import Chunk
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.reasons import RefusedError
from eva_ros.control.settings import GateSettings
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import Event
from eva_ros.control.state import State
from eva_ros.control.stop import brake
from eva_ros.control.watchers import ClockWatch
from eva_ros.errors import UserError
from eva_ros.robot.collision import collision_world
from eva_ros.robot.spec import load_robot

ROBOT = load_robot('aloha_sim')
# What a gripper that holds something 0.6 wide is sent.
PRESSES = float(ROBOT.gripping(np.full(14, 0.6))[6])
BEGIN_NS = 100_000_000_000


@pytest.fixture
def moving():
    """A supervisor whose arms turn their waists by 3 rad from BEGIN_NS on."""
    settings = GateSettings(check_collisions=False, execute_steps=48, max_time_stretch=20.0)
    supervisor = CommandSupervisor(ROBOT, settings, dry_run=False, now_ns=0)
    assert supervisor.arm(ArmingFacts(0.01), BEGIN_NS)[0]
    path = np.tile(ROBOT.home, (49, 1))
    path[:, [0, 7]] += np.linspace(0.0, 3.0, 49)[:, None]
    chunk = Chunk(BEGIN_NS, 1, ROBOT.joint_names, 0.1, path, ROBOT.home)
    verdict = supervisor.judge(chunk, ROBOT.home, BEGIN_NS, BEGIN_NS)
    assert verdict.accepted, verdict.detail
    assert supervisor.execute(verdict, 1, ROBOT.home, BEGIN_NS)
    return supervisor


def place(supervisor, elapsed_s):
    return supervisor.motion.path.sample(supervisor.motion.path.times[0] + elapsed_s)[0]


def test_arms_at_rest_are_sent_the_rest_that_is_committed_first(moving):
    path = moving.motion.path
    period_s = moving.settings.control_period_s
    assert path.times[1] - path.times[0] == pytest.approx(period_s)
    np.testing.assert_array_equal(path.positions[1], path.positions[0])
    assert not path.velocities[1].any() and not path.accelerations[1].any()


def chunk_from(place, now_ns):
    """A chunk that turns the waists by 0.2 rad from a place where the arms are said to be."""
    path = np.tile(place, (17, 1))
    path[:, [0, 7]] += np.linspace(0.0, 0.2, 17)[:, None]
    return Chunk(now_ns, 2, ROBOT.joint_names, 0.1, path, place)


def test_arms_that_somebody_moved_while_disarmed_are_taken_from_where_they_are(moving):
    end_ns = BEGIN_NS + round(1e9 * moving.motion.path.duration) + 1
    sent = moving.motion.path.positions[-1]
    assert moving.finish(end_ns)
    moved = sent + 0.3 * (np.arange(14) == 2)
    verdict = moving.judge(chunk_from(moved, end_ns), moved, end_ns, end_ns)
    assert verdict.reason == 'START_DEVIATION' and 'where it was sent' in verdict.detail
    # Armed once more they are where they were sent, as before.
    assert moving.arm(ArmingFacts(0.01), end_ns)[0]
    assert not moving.judge(chunk_from(moved, end_ns), moved, end_ns, end_ns).accepted
    assert moving.leave(Event.DISARM, 'OPERATOR', 'Disarmed.', moved, end_ns)[0]
    assert moving.arm(ArmingFacts(0.01), end_ns)[0]
    verdict = moving.judge(chunk_from(moved, end_ns), moved, end_ns, end_ns)
    assert verdict.accepted, verdict.detail
    np.testing.assert_array_equal(verdict.path.positions[0], moved)


def test_joints_measured_before_the_motion_began_say_nothing_about_it(moving):
    far = ROBOT.home[:7] + 1.0
    assert moving.watch('left', far, BEGIN_NS - 1) is None
    assert moving.watch('left', far, BEGIN_NS)[0] == 'TRACKING'


@pytest.mark.parametrize('how', ['disarm', 'fault', 'estop', 'stop'])
def test_a_dry_run_sends_no_stop_either(how):
    supervisor = CommandSupervisor(
        ROBOT, GateSettings(check_collisions=False), dry_run=True, now_ns=0
    )
    assert supervisor.arm(ArmingFacts(0.01), BEGIN_NS)[0]
    verdict = supervisor.judge(chunk_from(ROBOT.home, BEGIN_NS), ROBOT.home, BEGIN_NS, BEGIN_NS)
    assert verdict.accepted
    assert not supervisor.execute(verdict, 2, ROBOT.home, BEGIN_NS)
    if how == 'stop':
        assert not supervisor.stop(ROBOT.home, BEGIN_NS)
    else:
        went, _, order = supervisor.leave(Event(how), 'OPERATOR', 'Left.', ROBOT.home, BEGIN_NS)
        assert went and not order


def test_arms_that_a_chunk_joins_in_mid_motion_need_not_begin():
    settings = GateSettings(mode='overlap', check_collisions=False)
    supervisor = CommandSupervisor(ROBOT, settings, dry_run=False, now_ns=0)
    assert supervisor.arm(ArmingFacts(0.01), BEGIN_NS)[0]
    verdict = supervisor.judge(chunk_from(ROBOT.home, BEGIN_NS), ROBOT.home, BEGIN_NS, BEGIN_NS)
    assert supervisor.execute(verdict, 1, ROBOT.home, BEGIN_NS)
    now_ns = BEGIN_NS + 800_000_000
    on = place(supervisor, 0.8)
    joined = supervisor.judge(chunk_from(on, now_ns), on, now_ns, now_ns)
    assert joined.accepted, joined.detail
    assert supervisor.execute(joined, 2, on, now_ns)
    # Behind by less than is allowed: the arms that are to begin are refused it.
    later_ns = now_ns + 600_000_000
    assert np.abs(place(supervisor, 0.6) - on).max() < settings.max_tracking_error
    assert np.abs(place(supervisor, 0.4) - on).max() > 0.02
    assert supervisor.watch('left', on[:7], later_ns) is None


@pytest.mark.parametrize('by_s', [0.0, -0.4])
def test_a_chunk_that_was_to_join_a_motion_that_is_over_moves_nothing(by_s):
    """Nor where the clock was set meanwhile: what counts is when its dream began."""
    settings = GateSettings(mode='overlap', check_collisions=False)
    supervisor = CommandSupervisor(ROBOT, settings, dry_run=False, now_ns=0)
    assert supervisor.arm(ArmingFacts(0.01), BEGIN_NS)[0]
    verdict = supervisor.judge(chunk_from(ROBOT.home, BEGIN_NS), ROBOT.home, BEGIN_NS, BEGIN_NS)
    assert supervisor.execute(verdict, 1, ROBOT.home, BEGIN_NS)
    end_ns, place_then = supervisor.motion.end_ns, verdict.path.positions[-1]
    assert supervisor.finish(end_ns)
    supervisor.clock_jumped(round(by_s * 1e9))
    end_ns += round(by_s * 1e9)
    now_ns = end_ns + 200_000_000
    # From where the arms are, but seen while they still moved.
    late = supervisor.judge(chunk_from(place_then, end_ns - 1), place_then, now_ns, now_ns)
    assert (late.reason, late.command) == ('STALE_OBSERVATION', {})
    assert 'came too late' in late.detail
    assert supervisor.judge(chunk_from(place_then, end_ns), place_then, now_ns, now_ns).accepted


@pytest.mark.parametrize('by_s', [-80.0, -1.0, 0.5, 400.0])
def test_a_clock_that_jumps_moves_no_arm(moving, by_s):
    after_s = 2.0
    wanted = place(moving, after_s)
    by_ns = round(by_s * 1e9)
    moving.clock_jumped(by_ns)
    now_ns = BEGIN_NS + round(after_s * 1e9) + by_ns
    _, _, order = moving.leave(Event.FAULT, 'CLOCK_JUMP', 'It jumped.', ROBOT.home, now_ns)
    np.testing.assert_allclose(order.path.positions[0], wanted, atol=1e-9)
    assert order.goes_on
    assert moving.is_braking(now_ns + round(0.5e9 * order.path.duration))
    assert not moving.is_braking(now_ns + round(1.01e9 * order.path.duration))


def test_arms_are_not_armed_again_while_a_lost_stop_could_still_show(moving):
    """What was under way would go on for two seconds; the stop itself takes less."""
    now_ns = BEGIN_NS + 1_000_000_000
    end_ns = moving.motion.end_ns
    assert moving.watched_s(now_ns) == 0.0
    stop = moving.leave(Event.DISARM, 'OPERATOR', 'Disarmed.', ROBOT.home, now_ns)[2]
    stopped_ns = now_ns + round(1e9 * stop.path.duration)
    assert stopped_ns < end_ns and not moving.is_braking(stopped_ns + 1)
    left_s = (end_ns - stopped_ns) * 1e-9
    assert moving.watched_s(stopped_ns) == pytest.approx(left_s + 0.5)
    assert moving.watched_s(end_ns + 600_000_000) == 0.0
    # Whoever has the arms then may move them.
    assert look(moving, ROBOT.home + 1.0, end_ns + 600_000_000) == {'left': None, 'right': None}


def test_an_estop_brakes_harder_what_brakes_already(moving):
    now_ns = BEGIN_NS + 2_000_000_000
    soft = moving.leave(Event.DISARM, 'OPERATOR', 'Disarmed.', ROBOT.home, now_ns)[2]
    later_ns = now_ns + 30_000_000
    went, _, hard = moving.leave(Event.ESTOP, 'ESTOP', 'Pressed.', ROBOT.home, later_ns)
    assert went and moving.machine.state is State.ESTOP
    np.testing.assert_allclose(
        hard.path.positions[0], soft.path.sample(soft.path.times[0] + 0.03)[0], atol=1e-9
    )
    assert hard.path.duration + 0.03 < soft.path.duration
    # Once more changes nothing.
    assert not moving.leave(Event.ESTOP, 'ESTOP', 'Again.', ROBOT.home, later_ns + 10)[2]


def test_a_stop_stays_at_its_end_so_that_it_is_not_refused_as_past(moving):
    order = moving.stop(ROBOT.home, BEGIN_NS + 2_000_000_000)
    for trajectory in order.command.values():
        assert trajectory.time_from_start[-1] >= order.path.duration + 1.0
        np.testing.assert_array_equal(trajectory.positions[-1], trajectory.positions[-2])


def look(supervisor, measured, now_ns):
    """Return what the supervisor says of each arm at these joints [14]."""
    return {
        arm: supervisor.watch(arm, measured[ROBOT.arm_indices(arm)], now_ns) for arm in ROBOT.arms
    }


def joints(motion, now_ns, unreached=None, before=None):
    """Return where the arms are that do a motion; one of them goes on with another [14]."""
    q = motion.path.sample(motion.path.times[0] + motion.elapsed_s(now_ns))[0]
    if unreached:
        part = ROBOT.arm_indices(unreached)
        q[part] = before.path.sample(before.path.times[0] + before.elapsed_s(now_ns))[0][part]
    return q


STOPPED_NS = BEGIN_NS + 2_000_000_000
TICK_NS = 20_000_000


@pytest.mark.parametrize('arm', ['left', 'right'])
@pytest.mark.parametrize('event', [Event.DISARM, Event.ESTOP, Event.STOP])
def test_an_arm_that_goes_on_after_a_stop_gets_another_from_where_it_is(moving, arm, event):
    before = moving.motion
    if event is Event.STOP:
        first = moving.stop(joints(before, STOPPED_NS), STOPPED_NS)
    else:
        first = moving.leave(event, 'OPERATOR', 'Stop.', joints(before, STOPPED_NS), STOPPED_NS)[2]
    stop = moving.last_stop
    other = {'left': 'right', 'right': 'left'}[arm]
    for now_ns in range(STOPPED_NS, STOPPED_NS + 5_000_000_000, TICK_NS):
        q = joints(stop, now_ns, arm, before)
        found = look(moving, q, now_ns)
        assert found[other] is None
        if found[arm]:
            break
    reason, detail = found[arm]
    assert reason == 'ARM_NOT_FOLLOWING' and f'The {arm} arm' in detail
    away = np.abs(q - joints(stop, now_ns)).max()
    assert 0.15 < away < 0.25
    if event is Event.STOP:
        again = moving.leave(Event.FAULT, reason, detail, q, now_ns)[2]
    else:
        again = moving.stop_again(arm, (reason, detail), q, now_ns)
    # Each arm's stop begins where that arm is, and the one that stopped does not come back.
    np.testing.assert_allclose(again.path.positions[0], q, atol=1e-9)
    part = ROBOT.arm_indices(other)
    np.testing.assert_allclose(again.path.positions[-1, part], first.path.positions[-1, part])
    assert set(again.command) == {'left', 'right'} and again.goes_on
    went = moving.last_stop
    for later_ns in range(now_ns, now_ns + 5_000_000_000, TICK_NS):
        assert not any(look(moving, joints(went, later_ns), later_ns).values())
    assert detail in moving.machine.detail


def test_an_arm_that_missed_a_stop_too_is_not_taken_back_to_it(moving):
    before = moving.motion
    moving.leave(Event.DISARM, 'OPERATOR', 'Stop.', joints(before, STOPPED_NS), STOPPED_NS)
    for now_ns in range(STOPPED_NS, STOPPED_NS + 2_000_000_000, TICK_NS):
        q = joints(before, now_ns)
        # Only the arm that is looked at first is found so far.
        fault = moving.watch('left', q[ROBOT.arm_indices('left')], now_ns)
        if fault:
            break
    order = moving.stop_again('left', fault, q, now_ns)
    np.testing.assert_allclose(order.path.positions[0], q, atol=1e-9)


def test_an_estop_that_one_arm_missed_goes_on_as_one(moving):
    before = moving.motion
    moving.leave(Event.ESTOP, 'ESTOP', 'Pressed.', joints(before, STOPPED_NS), STOPPED_NS)
    now_ns = STOPPED_NS + 600_000_000
    q = joints(moving.last_stop, now_ns, 'left', before)
    hard = moving.stop_again('left', look(moving, q, now_ns)['left'], q, now_ns)
    assert moving.machine.state is State.ESTOP and moving.machine.reason == 'ESTOP'
    soft = brake(ROBOT, moving.settings, before.path, before.elapsed_s(now_ns))
    assert hard.path.duration < 0.9 * soft.path.duration


def test_an_arm_that_is_pushed_away_while_it_stops_is_said_once_and_sent_nothing(moving):
    moving.leave(Event.DISARM, 'OPERATOR', 'Stop.', place(moving, 2.0), STOPPED_NS)
    now_ns = STOPPED_NS + 100_000_000
    q = joints(moving.last_stop, now_ns) + 0.4 * (np.arange(14) == 8)
    found = look(moving, q, now_ns)
    assert found['left'] is None and found['right'][0] == 'TRACKING'
    assert not moving.stop_again('right', found['right'], q, now_ns)
    assert moving.machine.reason == 'TRACKING'
    assert not any(look(moving, q, now_ns + TICK_NS).values())


def test_an_arm_that_did_not_begin_stays_where_it_is(moving):
    motion = moving.motion
    for now_ns in range(BEGIN_NS, BEGIN_NS + 1_000_000_000, TICK_NS):
        q = joints(motion, now_ns)
        q[ROBOT.arm_indices('right')] = ROBOT.home[ROBOT.arm_indices('right')]
        fault = look(moving, q, now_ns)['right']
        if fault:
            break
    # It is too far from where it should be before it is late.
    assert fault[0] == 'TRACKING'
    order = moving.leave(Event.FAULT, *fault, q, now_ns)[2]
    assert set(order.command) == {'left', 'right'}
    part = ROBOT.arm_indices('right')
    assert (order.path.positions[:, part] == ROBOT.home[part]).all()
    assert np.abs(order.path.velocities[:, 0]).max() > 0.1


def refuse_every_stop(monkeypatch):
    def unfit(*args, **kwargs):
        raise RefusedError('LIMIT_VIOLATION', 'The left arm: a value is not finite.')

    monkeypatch.setattr('eva_ros.control.stop_monitor.check_command', unfit)


def test_an_estop_latches_though_its_stop_cannot_be_made(moving, monkeypatch):
    def broken(*args, **kwargs):
        raise FloatingPointError('no such stop')

    monkeypatch.setattr('eva_ros.control.stop_monitor.brake', broken)
    with pytest.raises(FloatingPointError):
        moving.leave(Event.ESTOP, 'ESTOP', 'Pressed.', ROBOT.home, STOPPED_NS)
    assert moving.machine.state is State.ESTOP
    # The arms end what they were sent: nobody arms them before.
    assert moving.is_braking(STOPPED_NS)


def test_a_stop_that_is_not_fit_to_be_sent_is_not_sent(moving, monkeypatch):
    refuse_every_stop(monkeypatch)
    with pytest.raises(UserError, match=r'No stop could be sent.*not finite'):
        moving.leave(Event.DISARM, 'OPERATOR', 'Stop.', ROBOT.home, STOPPED_NS)
    assert moving.machine.state is State.DISARMED


def test_what_is_wrong_with_an_arm_is_said_though_no_other_stop_can_be_made(moving, monkeypatch):
    before = moving.motion
    moving.leave(Event.DISARM, 'OPERATOR', 'Stop.', joints(before, STOPPED_NS), STOPPED_NS)
    now_ns = STOPPED_NS + 600_000_000
    q = joints(moving.last_stop, now_ns, 'left', before)
    fault = look(moving, q, now_ns)['left']
    refuse_every_stop(monkeypatch)
    with pytest.raises(UserError, match='No stop could be sent'):
        moving.stop_again('left', fault, q, now_ns)
    assert (moving.machine.reason, fault[1] in moving.machine.detail) == (fault[0], True)


def test_after_a_hold_nothing_is_begun_while_a_lost_one_could_still_show(moving):
    end_ns = moving.motion.end_ns
    now_ns = BEGIN_NS + 1_000_000_000
    stop = moving.stop(place(moving, 1.0), now_ns)
    rest_ns = now_ns + round(1e9 * stop.path.duration) + 1
    assert moving.finish(rest_ns) and moving.machine.state is State.ARMED
    assert rest_ns < end_ns
    reason, detail = moving.refusal(rest_ns)
    assert (reason, 'stopped just now' in detail) == ('BUSY', True)
    assert moving.refusal(end_ns + 600_000_000) is None


@pytest.mark.parametrize(
    ('measured', 'begins'),
    # It holds a thing; somebody opened it meanwhile; it is as far closed as it was sent.
    [(0.6, PRESSES), (0.58, PRESSES), (1.0, 1.0), (PRESSES, PRESSES)],
)
def test_a_gripper_that_presses_goes_on_when_the_arms_are_armed_again(measured, begins):
    settings = GateSettings(check_collisions=False, max_start_blend_gripper=1.0)
    supervisor = CommandSupervisor(ROBOT, settings, dry_run=False, now_ns=0)
    holding = ROBOT.home.copy()
    holding[6] = 0.6
    assert supervisor.arm(ArmingFacts(0.01), BEGIN_NS)[0]
    steps = chunk_from(holding, BEGIN_NS)
    steps.positions[:, 6] = PRESSES
    verdict = supervisor.judge(steps, holding, BEGIN_NS, BEGIN_NS)
    assert verdict.accepted, verdict.detail
    assert supervisor.execute(verdict, 2, holding, BEGIN_NS)
    end_ns = BEGIN_NS + 5_000_000_000
    now = verdict.path.positions[-1].copy()
    assert now[6] == pytest.approx(PRESSES, abs=2e-3)
    assert supervisor.finish(end_ns)
    now[6] = measured
    for _ in range(2):
        assert supervisor.leave(Event.DISARM, 'OPERATOR', 'Disarmed.', now, end_ns)[0]
        assert supervisor.arm(ArmingFacts(0.01), end_ns)[0]
    again = supervisor.judge(chunk_from(now, end_ns), now, end_ns, end_ns)
    assert again.accepted, again.detail
    assert again.path.positions[0, 6] == pytest.approx(begins, abs=2e-3)
    order = supervisor.leave(Event.ESTOP, 'ESTOP', 'Pressed.', now, end_ns)[2]
    assert order.path.positions[-1, 6] == pytest.approx(begins, abs=2e-3)


def test_arms_on_their_way_back_into_the_limits_stop_there():
    settings = GateSettings(check_collisions=False, max_start_blend=1.0)
    supervisor = CommandSupervisor(ROBOT, settings, dry_run=False, now_ns=0)
    assert supervisor.arm(ArmingFacts(0.01), BEGIN_NS)[0]
    q = ROBOT.home.copy()
    q[0] = ROBOT.limits.max_position[0] + 0.4
    steps = np.tile(q, (17, 1)) - np.linspace(0.0, 1.0, 17)[:, None] * (np.arange(14) == 0)
    chunk = Chunk(BEGIN_NS, 1, ROBOT.joint_names, 0.1, steps, q)
    verdict = supervisor.judge(chunk, q, BEGIN_NS, BEGIN_NS)
    assert verdict.accepted and supervisor.execute(verdict, 1, q, BEGIN_NS)
    now_ns = BEGIN_NS + 30_000_000
    order = supervisor.leave(
        Event.ESTOP, 'ESTOP', 'Pressed.', joints(supervisor.motion, now_ns), now_ns
    )[2]
    assert set(order.command) == {'left', 'right'}
    # Where it is by then, not after the rest of the way.
    assert order.path.positions[0, 0] > ROBOT.limits.max_position[0] + 0.3
    assert order.path.duration < 0.5 < verdict.duration_s
    assert order.path.positions[-1, 0] > ROBOT.limits.max_position[0]


@pytest.mark.parametrize('outside', [0.5, np.nan])
def test_arms_that_rest_outside_their_limits_are_not_moved_by_disarming(outside):
    supervisor = CommandSupervisor(ROBOT, GateSettings(), dry_run=False, now_ns=0)
    assert supervisor.arm(ArmingFacts(0.01), BEGIN_NS)[0]
    q = ROBOT.home.copy()
    q[1] = ROBOT.limits.min_position[1] - outside
    went, sentence, order = supervisor.leave(Event.DISARM, 'OPERATOR', 'Disarmed.', q, BEGIN_NS)
    assert went and not order
    assert 'outside their limits' in sentence


class Clocks:
    """A clock that somebody sets, and one that nobody sets."""

    def __init__(self):
        self.steady_ns, self.offset_ns = 0, 10**15
        self.held_up_ns = 0

    def steady(self):
        return self.steady_ns

    def now(self):
        self.steady_ns += self.held_up_ns
        return self.steady_ns + self.offset_ns


def test_a_clock_that_is_set_is_noticed_once():
    clocks = Clocks()
    watch = ClockWatch(clocks.now, 0.1, clocks.steady)
    for jump_s in (0.0, 30.0, 0.0, -30.0, 0.0, 0.05):
        clocks.steady_ns += 20_000_000
        clocks.offset_ns += round(jump_s * 1e9)
        wanted = round(jump_s * 1e9) if abs(jump_s) > 0.1 else 0
        assert watch.jumped_ns() == wanted


def test_a_process_that_is_held_up_is_no_clock_that_is_set():
    clocks = Clocks()
    watch = ClockWatch(clocks.now, 0.1, clocks.steady)
    clocks.steady_ns += 20_000_000
    clocks.held_up_ns = 3_000_000_000
    assert watch.jumped_ns() == 0
    clocks.held_up_ns = 0
    clocks.steady_ns += 20_000_000
    assert watch.jumped_ns() == 0


# --- what the node may change --------------------------------------------------------------------


def test_a_latched_estop_outlives_the_configuration(moving):
    assert moving.latched() is None
    # Pressed while the node could not act on it.
    assert moving.latched('Pressed meanwhile.').detail == 'Pressed meanwhile.'
    moving.leave(Event.ESTOP, 'ESTOP', 'Pressed.', ROBOT.home, STOPPED_NS)
    again = CommandSupervisor(
        ROBOT, GateSettings(), dry_run=False, now_ns=STOPPED_NS, latched=moving.latched()
    )
    assert (again.machine.state, again.machine.detail) == (State.ESTOP, moving.machine.detail)
    later_ns = STOPPED_NS + 10_000_000_000
    assert not again.arm(ArmingFacts(0.01), later_ns)[0]
    assert again.reset(later_ns)[0]
    assert again.latched() is None


def test_a_dry_run_begins_and_ends_only_while_disarmed_arms_are_at_rest(moving):
    with pytest.raises(UserError, match='call ~/disarm first'):
        moving.set_dry_run(True, STOPPED_NS)
    stop = moving.leave(Event.DISARM, 'OPERATOR', 'Stop.', ROBOT.home, STOPPED_NS)[2]
    with pytest.raises(UserError, match='call ~/disarm first'):
        moving.set_dry_run(True, STOPPED_NS + 1)
    assert not moving.dry_run
    moving.set_dry_run(True, STOPPED_NS + round(1e9 * stop.path.duration) + 1)
    assert moving.dry_run


def test_scaling_factors_are_raised_only_while_disarmed(moving):
    moving.set_scaling('velocity_scaling_factor', 0.5)
    with pytest.raises(UserError, match='velocity_scaling_factor is raised only while disarmed'):
        moving.set_scaling('velocity_scaling_factor', 0.6)
    assert moving.settings.velocity_scaling_factor == 0.5
    moving.leave(Event.DISARM, 'OPERATOR', 'Stop.', ROBOT.home, STOPPED_NS)
    moving.set_scaling('velocity_scaling_factor', 0.6)
    assert moving.settings.velocity_scaling_factor == 0.6


def test_a_chunk_that_was_checked_too_late_for_its_switch_is_refused(moving):
    spare_s = moving.settings.switch_lead_s - moving.settings.control_period_s
    in_time_ns = STOPPED_NS + round((spare_s - 0.001) * 1e9)
    assert moving.missed_switch(STOPPED_NS, in_time_ns) is None
    reason, detail = moving.missed_switch(STOPPED_NS, in_time_ns + 2_000_000)
    assert (reason, 'the switch to it is past' in detail) == ('STALE_OBSERVATION', True)


def test_the_first_chunk_finds_the_collision_world_built():
    collision_world.cache_clear()
    settings = GateSettings(min_confidence=0.9, min_executability=9.0)
    supervisor = CommandSupervisor(ROBOT, settings, dry_run=False, now_ns=0)
    supervisor.prepare()
    assert collision_world.cache_info().misses == 1
    chunk = replace(chunk_from(ROBOT.home, BEGIN_NS), confidence=1.0, executability=10.0)
    assert supervisor.judge(chunk, ROBOT.home, BEGIN_NS, BEGIN_NS).accepted
    assert collision_world.cache_info().misses == 1
