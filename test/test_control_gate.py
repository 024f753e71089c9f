"""What leaves the gate keeps the limits everywhere, ends at rest, and is for both arms or none."""

from dataclasses import replace

from hypothesis import example
from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
import numpy as np
import pytest
from scipy.interpolate import BPoly

from eva_ros.control.chunk import Chunk
from eva_ros.control.gate import check_chunk
from eva_ros.control.settings import GateSettings
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.spec import load_robot
from eva_ros.sim.controller import TrajectoryCommand
from eva_ros.sim.controller import TrajectoryController

ROBOT = load_robot('aloha_sim')
LIMITS = ROBOT.limits
DT = 0.1
OPEN = GateSettings(max_start_blend=10.0, max_start_blend_gripper=2.0, max_time_stretch=100.0,
                    allowed_start_tolerance=10.0, allowed_start_tolerance_gripper=2.0,
                    check_collisions=False)  # fmt: skip


def make_chunk(positions, observed=None):
    return Chunk(
        observation_stamp_ns=0,
        rollout_id=1,
        joint_names=ROBOT.joint_names,
        dt=DT,
        positions=positions,
        observed_positions=positions[0] if observed is None else observed,
    )


def check(positions, settings=OPEN, now=None, **more):
    now = positions[0] if now is None else now
    return check_chunk(make_chunk(positions, now), now, ROBOT, settings, 0, **more)


def dream(seed=0, noise=0.0, span=0.6, steps=17):
    """A chunk as a decoder gives it: a smooth move from rest, with jitter."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps) * DT
    move = minimum_jerk_fraction((t - rng.uniform(0.0, 0.5)) / rng.uniform(0.9, 1.5))[:, None]
    q = ROBOT.home + move * rng.uniform(-span, span, 14) * ~ROBOT.gripper_mask
    return q + noise * rng.normal(size=q.shape) * ~ROBOT.gripper_mask


def sent_spline(verdict, times):
    """Both arms' messages as quintics through their points (scipy's) [N, 14], inside."""
    start = verdict.path.positions[0]
    columns = []
    for arm, trajectory in verdict.command.items():
        _, begin = ROBOT.arm_command(arm, start)
        knots = np.concatenate([[0.0], trajectory.time_from_start])
        points = [trajectory.positions, trajectory.velocities, trajectory.accelerations]
        rest = [begin, np.zeros(7), np.zeros(7)]
        given = np.stack([np.vstack(pair) for pair in zip(rest, points)], axis=1)
        q = BPoly.from_derivatives(knots, given)(times)
        columns.append(ROBOT.arms[arm].command_interface.from_message(q))
    return np.hstack(columns)


def assert_safe(verdict, limits=LIMITS):
    """What is promised of every verdict, checked on the messages themselves."""
    if not verdict.accepted:
        assert verdict.command == {}
        assert verdict.path is None
        assert verdict.reason != 'OK'
        return
    assert set(verdict.command) == {'left', 'right'}
    for arm, trajectory in verdict.command.items():
        assert trajectory.joint_names == ROBOT.arms[arm].controller.joints
        times = trajectory.time_from_start
        assert times[0] > 0.0
        assert (np.diff(times) > 0.0).all()
        for values in (trajectory.positions, trajectory.velocities, trajectory.accelerations):
            assert values.shape == (len(times), 7)
            assert np.isfinite(values).all()
        assert not trajectory.velocities[-1].any()
        assert not trajectory.accelerations[-1].any()
        q = ROBOT.arms[arm].command_interface.from_message(trajectory.positions)
        part = ROBOT.arm_indices(arm)
        assert (q >= limits.min_position[part] - 1e-9).all()
        assert (q <= limits.max_position[part] + 1e-9).all()
    lefts, rights = verdict.command['left'], verdict.command['right']
    np.testing.assert_array_equal(lefts.time_from_start, rights.time_from_start)
    assert_spline_keeps(verdict, limits)


def assert_spline_keeps(verdict, limits):
    """Finite differences of the sent spline: at 1 kHz, or 20000 points of a longer motion."""
    dt = max(1e-3, verdict.duration_s / 20_000)
    q = sent_spline(verdict, np.arange(0.0, verdict.duration_s, dt))
    start = verdict.path.positions[0]
    assert (q >= np.minimum(limits.min_position, start) - 1e-6).all()
    assert (q <= np.maximum(limits.max_position, start) + 1e-6).all()
    v = np.diff(q, axis=0) / dt
    a = np.diff(v, axis=0) / dt
    j = np.diff(a, axis=0) / dt
    assert (np.abs(v) <= limits.max_velocity * (1.0 + 1e-5)).all()
    assert (np.abs(a) <= limits.max_acceleration * (1.0 + 1e-5) + 1e-6).all()
    assert (np.abs(j) <= limits.max_jerk * (1.0 + 1e-5) + 1e-2).all()


# --- any chunk at all --------------------------------------------------------------------------

ODD = [0.0, -0.0, 5e-324, 1e-308, 1e308, -1e308, 3.14158, 7.0, np.nan, np.inf, -np.inf]
NUMBERS = st.one_of(
    st.sampled_from(ODD), st.floats(-4.0, 4.0), st.floats(allow_nan=True, allow_infinity=True)
)


@st.composite
def chunks(draw):
    """A plausible chunk with some of its values replaced by anything."""
    steps = draw(st.integers(1, 20))
    positions = dream(draw(st.integers(0, 1000)), draw(st.sampled_from([0.0, 0.02, 0.5, 3.0])),
                      draw(st.sampled_from([0.1, 1.0, 6.0])), steps)  # fmt: skip
    for _ in range(draw(st.integers(0, 3))):
        i, j = draw(st.integers(0, steps - 1)), draw(st.integers(0, 13))
        positions[i, j] = draw(NUMBERS)
    names = list(ROBOT.joint_names)
    if draw(st.booleans()) and draw(st.booleans()):
        names[draw(st.integers(0, 13))] = draw(st.sampled_from([*names, 'x']))
    now = ROBOT.home + 0.01 * draw(st.integers(-5, 5))
    dt = draw(st.sampled_from([0.1, 0.05, 0.02, 1.0, 0.0, -0.1, np.nan, 1e-320]))
    return replace(make_chunk(positions, now), joint_names=names, dt=dt), now


@given(chunks(), st.sampled_from([GateSettings(), OPEN, GateSettings(execute_steps=1)]))
@runs(max_examples=150, deadline=None)
def test_any_chunk_is_safe_or_refused_for_both_arms(made, settings):
    chunk, now = made
    verdict = check_chunk(chunk, now, ROBOT, settings, 0)
    assert_safe(verdict)
    if not np.isfinite(chunk.positions).all():
        assert not verdict.accepted


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.01, 0.05, 0.3]), st.integers(1, 16))
@example(seed=0, noise=0.3, execute=1)
@runs(max_examples=60, deadline=None)
def test_a_noisy_dream_keeps_the_limits_everywhere(seed, noise, execute):
    settings = OPEN.model_copy(update={'execute_steps': execute})
    verdict = check(dream(seed, noise), settings, now=ROBOT.home)
    assert verdict.accepted
    assert verdict.limit_violations_after == 0
    # The step after the last one that is executed is the stop.
    assert len(verdict.command['left'].time_from_start) == min(execute + 1, 16)
    assert_safe(verdict)


@given(st.integers(0, 10_000))
@runs(max_examples=40, deadline=None)
def test_steps_beyond_the_limits_are_clamped_without_overshoot(seed):
    rng = np.random.default_rng(seed)
    q = dream(seed, span=6.0)
    q[:, ROBOT.gripper_mask] = rng.uniform(-1.0, 2.0, size=(17, 2))
    verdict = check(q, now=ROBOT.home)
    assert verdict.accepted
    assert_safe(verdict)
    outside = np.maximum(LIMITS.min_position - q, q - LIMITS.max_position).max(axis=0)
    for j in np.flatnonzero(outside > 0.0):
        name = ROBOT.joint_names[j]
        margin = 0.0 if ROBOT.gripper_mask[j] else OPEN.joint_limit_margin
        assert verdict.clamped[name] >= outside[j] + margin - 1e-9
        assert verdict.clamped_steps[name] >= 1


# --- what it does, one by one ------------------------------------------------------------------


def test_a_gentle_chunk_is_followed_exactly_at_the_dreams_pace():
    q = dream(1, span=0.3)
    verdict = check(q)
    assert verdict.stretch == 1.0
    assert verdict.clamped == {}
    np.testing.assert_allclose(verdict.path.positions[:-1], q[:-1], atol=1e-12)
    np.testing.assert_allclose(verdict.path.times[1], DT)
    # The last step is drawn out to stop gently.
    assert verdict.duration_s == pytest.approx(16 * DT + (OPEN.stop_steps - 1.0) * DT)


def test_the_path_stays_within_the_tolerance_of_every_step():
    for seed in range(20):
        q = dream(seed, noise=0.02)
        verdict = check(q, now=q[0])
        inside = np.clip(q, LIMITS.min_position + 0.01, LIMITS.max_position - 0.01)
        away = np.abs(verdict.path.positions[1:] - inside[1:])[:, ~ROBOT.gripper_mask]
        assert (away <= OPEN.path_tolerance + 1e-9).all()


def test_smoothing_saves_time_on_a_jittering_dream():
    exact = OPEN.model_copy(update={'path_tolerance': 0.0})
    pairs = [(check(q).stretch, check(q, exact).stretch) for q in
             (dream(seed, noise=0.02) for seed in range(10))]  # fmt: skip
    smooth, interpolated = np.mean(pairs, axis=0)
    assert smooth < 0.8 * interpolated


def test_a_fast_chunk_is_stretched_as_a_whole():
    q = dream(2, span=0.0)
    q[1:] += 1.0 * (np.arange(14) == 3)
    verdict = check(q)
    assert verdict.accepted
    assert verdict.stretch > 1.3
    assert verdict.limit_violations_before > 0
    assert verdict.limit_violations_after == 0
    assert_safe(verdict)


def test_a_chunk_far_too_fast_is_refused_with_the_joint():
    q = dream(2, span=0.0)
    q[8:] += 3.0 * (np.arange(14) == 3)
    verdict = check(q, GateSettings())
    assert verdict.reason == 'STRETCH_EXCEEDED'
    assert 'left_forearm_roll' in verdict.detail
    assert verdict.stretch > 3.0
    assert verdict.command == {}


def test_scaling_factors_slow_the_motion_down():
    slow = OPEN.model_copy(
        update={'velocity_scaling_factor': 0.25, 'acceleration_scaling_factor': 0.25}
    )
    q = dream(3, span=0.8)
    verdict = check(q, slow)
    assert verdict.stretch > check(q).stretch
    assert_safe(verdict, LIMITS.scaled(velocity=0.25, acceleration=0.25))


def test_the_start_difference_is_faded_out():
    q = np.tile(ROBOT.home, (17, 1))
    now = ROBOT.home - 0.2 * ~ROBOT.gripper_mask
    verdict = check(q, now=now)
    path = verdict.path.positions
    np.testing.assert_array_equal(path[0], now)
    arm = path[:, 0] - now[0]
    assert arm[1] < 0.05
    assert arm.max() < 0.22
    np.testing.assert_allclose(path[OPEN.start_blend_steps + 2 :, 0], q[0, 0], atol=0.06)
    assert_safe(verdict)


def test_a_start_outside_the_limits_comes_back_inside():
    now = ROBOT.home.copy()
    now[6], now[13] = -0.05, 1.04
    q = np.tile(ROBOT.home, (17, 1))
    verdict = check(q, now=now)
    assert verdict.accepted
    assert_safe(verdict)


def test_only_the_steps_to_execute_leave():
    settings = OPEN.model_copy(update={'execute_steps': 6})
    q = dream(4)
    verdict = check(q, settings)
    assert verdict.execute_steps == 6
    # Six steps, and a stop on the way to the seventh.
    assert len(verdict.command['right'].time_from_start) == 7
    away = np.abs(verdict.path.positions[-2:] - q[6:8]).max(axis=0)
    assert (away <= OPEN.path_tolerance + 1e-9)[~ROBOT.gripper_mask].all()


def test_a_limit_that_touches_the_pose_is_kept():
    now = np.where(ROBOT.gripper_mask, 0.0, ROBOT.home)
    q = np.tile(now, (17, 1))
    q[:, ROBOT.gripper_mask] = 0.2 * np.random.default_rng(0).normal(size=(17, 2))
    verdict = check(q, now=now)
    assert verdict.accepted
    assert_safe(verdict)


def test_the_controller_executes_what_was_planned():
    for seed in range(5):
        verdict = check(dream(seed, noise=0.02), now=ROBOT.home)
        times_ns = [i * 5_000_000 for i in range(int(verdict.duration_s / 0.005) + 20)]
        planned = verdict.path.sample(np.array(times_ns) * 1e-9)[0]
        for arm, trajectory in verdict.command.items():
            names, begin = ROBOT.arm_command(arm, verdict.path.positions[0])
            control = TrajectoryController(names, begin)
            assert control.accept(TrajectoryCommand(0, **vars(trajectory)), 0) is None
            executed = np.array([control.sample(now_ns) for now_ns in times_ns])
            assert np.abs(executed - ROBOT.arm_command(arm, planned)[1]).max() < 1e-6
