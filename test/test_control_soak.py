"""A quick run of what `make soak-gate` and `make soak-overlap` run far more often."""

from collections import Counter

import gate_cases
import numpy as np
import overlap_cases
import pytest

from eva_ros.control import joining
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.gate import check_chunk
from eva_ros.control.state import Event
from eva_ros.control.state import State
from eva_ros.control.state import TRANSITIONS
from eva_ros.nodes.rollout_generator.recent import RecentObservations


@pytest.mark.parametrize('begin', [0, 1_000_000])
def test_nothing_unsafe_leaves(begin):
    found = Counter(gate_cases.run(begin + i) for i in range(400))
    # Something of everything.
    kinds = {'OK', 'SEAM', 'BRAKE', 'ESTOP', 'MISSED', 'HOLD', 'NO_HOLD', 'NON_FINITE'}
    assert kinds <= set(found)
    assert found['OK'] > 80


@pytest.mark.parametrize('number', [869_315])
def test_what_the_million_cases_found_stays_mended(number):
    assert gate_cases.run(number) in ('BRAKE', 'ESTOP')


def test_limits_that_touch_zero_and_starts_outside_the_limits_are_among_the_cases():
    rng = np.random.default_rng(0)
    outside = 0
    for robot in gate_cases.TOUCHING:
        ends = np.stack([robot.limits.min_position, robot.limits.max_position])[:, :6]
        assert (ends == 0.0).any()
        starts = np.array([gate_cases._start(rng, robot) for _ in range(50)])
        beyond = np.maximum(robot.limits.min_position - starts, starts - robot.limits.max_position)
        outside += (beyond.max(axis=1) > 0.0).sum()
    assert 20 < outside < 180


def test_the_roots_find_what_a_fine_grid_finds():
    rng = np.random.default_rng(0)
    c = rng.normal(size=(6, 5, 7))
    T = rng.uniform(0.1, 2.0, (5, 1))
    low, high = gate_cases.extremes(c, T)
    s = np.linspace(0.0, 1.0, 5000)[:, None, None] * T
    values = sum(c[k] * s**k for k in range(6))
    np.testing.assert_allclose(values.min(axis=0), low, atol=1e-4)
    np.testing.assert_allclose(values.max(axis=0), high, atol=1e-4)


def test_a_command_that_breaks_a_limit_is_found():
    """The checks themselves can fail."""
    now = gate_cases.ROBOT.home
    steps = np.linspace(now, now + 0.3 * ~gate_cases.ROBOT.gripper_mask, 17)
    chunk = gate_cases.Chunk(0, 1, gate_cases.ROBOT.joint_names, 0.1, steps, now)
    verdict = check_chunk(chunk, now, gate_cases.ROBOT, gate_cases.OPEN, 0)
    gate_cases.assert_verdict(verdict, now)
    verdict.command['right'].positions[8, 2] += 0.05
    with pytest.raises(AssertionError, match='right: '):
        gate_cases.assert_verdict(verdict, now)


@pytest.mark.parametrize(
    ('late', 'wrong'), [(0.95, False), (6.0, True)], ids=['within a period', 'six periods late']
)
def test_what_is_executed_too_late_is_found(late, wrong):
    """Within a control period the controllers do as sent; the check sees where they do not."""
    now = gate_cases.ROBOT.home
    steps = np.linspace(now, now + 1.5 * np.isin(np.arange(14), (0, 7)), 17)
    chunk = gate_cases.Chunk(0, 1, gate_cases.ROBOT.joint_names, 0.1, steps, now)
    verdict = check_chunk(chunk, now, gate_cases.ROBOT, gate_cases.OPEN, 0)
    stop = gate_cases.brake(gate_cases.ROBOT, gate_cases.OPEN, verdict.path, 0.8)
    sent = [(0.0, verdict.command, verdict.path), (0.8, stop.command, stop.path)]

    class Late:
        def uniform(self, low, high, size):
            return np.full(size, late * 0.02)

    if wrong:
        with pytest.raises(AssertionError, match='leaps by'):
            gate_cases.assert_executed(sent, Late(), 0.02)
    else:
        gate_cases.assert_executed(sent, Late(), 0.02)


def test_tasks_in_overlap_are_safe_whatever_happens_at_the_join():
    happened = Counter()
    for number in range(60):
        task = overlap_cases.Task(number)
        task.run()
        happened += task.happened
    wanted = {'JOINED', 'LATE', 'NO_HISTORY', 'MISSED_SWITCH', 'START_BLEND_EXCEEDED', 'CANCELED'}
    assert wanted <= set(happened), happened
    assert any(kind.endswith('OF_A_JOINED_MOTION') for kind in happened), happened


def _joined_from_50_ms_ahead(monkeypatch):
    def committed(path, elapsed_s, *args):
        return joining_committed(path, elapsed_s + 0.05, *args)

    joining_committed = joining.committed
    monkeypatch.setattr(joining, 'committed', committed)


def _late_chunks_taken(monkeypatch):
    monkeypatch.setattr(CommandSupervisor, '_is_late', lambda supervisor, chunk: False)


def _chunks_taken_after_an_estop(monkeypatch):
    monkeypatch.setitem(TRANSITIONS, (State.ESTOP, Event.EXECUTE), State.EXECUTING)


def _gaps_in_the_history_ignored(monkeypatch):
    def before(recent, stamp_ns, count, period_ns):
        return [received.observation for received in recent._kept][-count:]

    monkeypatch.setattr(RecentObservations, 'before', before)


@pytest.mark.parametrize(
    ('plant', 'found'),
    [
        (_joined_from_50_ms_ahead, 'jump at the join'),
        (_late_chunks_taken, 'came too late was accepted'),
        (_chunks_taken_after_an_estop, 'moved arms that are off'),
        (_gaps_in_the_history_ignored, 'a stale observation'),
    ],
)
def test_a_fault_planted_in_the_joining_is_found(plant, found, monkeypatch):
    plant(monkeypatch)
    with pytest.raises(AssertionError, match=found):
        for number in range(200):
            overlap_cases.run(number)
