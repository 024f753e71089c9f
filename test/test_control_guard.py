"""What the guard of the arms remembers, and by which clock; and what watches the clock."""

import numpy as np
import pytest

from eva_ros.control.chunk import Chunk
from eva_ros.control.guard import ArmGuard
from eva_ros.control.settings import GateSettings
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import Event
from eva_ros.control.state import State
from eva_ros.nodes.arm_watchers import ClockWatch
from eva_ros.robot.spec import load_robot

ROBOT = load_robot('aloha_sim')
BEGIN_NS = 100_000_000_000


@pytest.fixture
def moving():
    """A guard whose arms turn their waists by 3 rad from BEGIN_NS on."""
    settings = GateSettings(check_collisions=False, execute_steps=48, max_time_stretch=20.0)
    guard = ArmGuard(ROBOT, settings, dry_run=False, now_ns=0)
    assert guard.arm(ArmingFacts(0.01), BEGIN_NS)[0]
    path = np.tile(ROBOT.home, (49, 1))
    path[:, [0, 7]] += np.linspace(0.0, 3.0, 49)[:, None]
    chunk = Chunk(BEGIN_NS, 1, ROBOT.joint_names, 0.1, path, ROBOT.home)
    verdict = guard.judge(chunk, ROBOT.home, BEGIN_NS, BEGIN_NS)
    assert verdict.accepted, verdict.detail
    assert guard.execute(verdict, 1, ROBOT.home, BEGIN_NS)
    return guard


def place(guard, elapsed_s):
    return guard.motion.path.sample(guard.motion.path.times[0] + elapsed_s)[0]


def test_arms_at_rest_are_sent_the_rest_that_is_committed_first(moving):
    path = moving.motion.path
    period_s = moving.settings.control_period_s
    assert path.times[1] - path.times[0] == pytest.approx(period_s)
    np.testing.assert_array_equal(path.positions[1], path.positions[0])
    assert not path.velocities[1].any() and not path.accelerations[1].any()


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
