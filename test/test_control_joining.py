"""A chunk that comes in mid-motion: the arms go on as they were, then as the chunk says."""

from dataclasses import replace

from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
import numpy as np
import pytest

from eva_ros.control.chunk import Chunk
from eva_ros.control.gate import check_chunk
from eva_ros.control.running_motion import Motion
from eva_ros.control.settings import GateSettings
from eva_ros.control.stop import committed
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.motion import minimum_jerk_time
from eva_ros.robot.spec import load_robot
from eva_ros.sim.controller import TrajectoryCommand
from eva_ros.sim.controller import TrajectoryController

ROBOT = load_robot('aloha_sim')
LIMITS = ROBOT.limits
DT = 0.1
OVERLAP = GateSettings(mode='overlap', max_start_blend=0.3, check_collisions=False,
                       max_observation_age_s=5.0, max_time_stretch=20.0)  # fmt: skip


def sweep(seed, noise=0.0, steps=33):
    """A long smooth move of all arm joints, of which chunks see pieces."""
    rng = np.random.default_rng(seed)
    t = np.arange(steps)[:, None] * DT
    q = ROBOT.home + 0.8 * minimum_jerk_fraction(t / 2.6) * rng.uniform(-1.0, 1.0, 14) * (
        ~ROBOT.gripper_mask
    )
    return q + noise * rng.normal(size=q.shape) * ~ROBOT.gripper_mask


def make_chunk(positions, stamp_s=0.0):
    return Chunk(round(stamp_s * 1e9), 1, ROBOT.joint_names, DT, positions, positions[0])


def first_motion(seed, noise=0.0):
    chunk = replace(make_chunk(sweep(seed, noise)[:17]), observed_positions=ROBOT.home)
    verdict = check_chunk(chunk, ROBOT.home, ROBOT, OVERLAP, 0, commanded=ROBOT.home)
    assert verdict.accepted, verdict.detail
    return verdict


def join(seed, now_s, noise=0.0, settings=OVERLAP, off=0.0, dream_s=0.3):
    """Return the running path and the verdict on a chunk dreamed dream_s before now_s."""
    path = first_motion(seed, noise).path
    begun = round((now_s - dream_s) / DT)
    positions = sweep(seed, noise)[begun : begun + 17] + off * ~ROBOT.gripper_mask
    measured = path.sample(now_s)[0]
    chunk = make_chunk(positions, begun * DT)
    return path, check_chunk(
        chunk, measured, ROBOT, settings, round(now_s * 1e9), running=Motion(path, 0)
    )


def test_the_motion_goes_on_as_it_was_until_the_switch():
    path, verdict = join(1, 0.8)
    assert verdict.accepted, verdict.detail
    times = np.linspace(0.0, OVERLAP.switch_lead_s, 50)
    for before, now in zip(path.sample(0.8 + times), verdict.path.sample(times)):
        np.testing.assert_allclose(now, before, atol=1e-6)


@given(st.integers(0, 1000), st.integers(400, 1000), st.sampled_from([0.0, 0.01]))
@runs(max_examples=40, deadline=None)
def test_position_velocity_and_acceleration_are_continuous_at_the_seam(seed, now_ms, noise):
    now_s = now_ms * 1e-3
    path, verdict = join(seed, now_s, noise)
    assert verdict.accepted, verdict.detail
    # Also where it could not be joined and stops on the old path first.
    until_s = OVERLAP.switch_lead_s
    for a, b in zip(path.sample(now_s + until_s), verdict.path.sample(until_s)):
        np.testing.assert_allclose(a, b, atol=1e-9)
    bounds = verdict.path.bounds
    assert (bounds.velocity <= LIMITS.max_velocity * 1.01).all()
    assert (bounds.acceleration <= LIMITS.max_acceleration * 1.01).all()
    assert (bounds.jerk <= LIMITS.max_jerk * 1.01).all()
    assert not verdict.path.velocities[-1].any()
    assert not verdict.path.accelerations[-1].any()


@pytest.mark.parametrize('splice', [False, True])
def test_the_arms_do_the_same_whether_the_controller_forgets_or_splices(splice):
    path, verdict = join(3, 0.7)
    assert verdict.accepted
    for arm in ('left', 'right'):
        names, start = ROBOT.arm_command(arm, path.positions[0])
        control = TrajectoryController(names, start, splice=splice)
        first = first_motion(3).command[arm]
        assert control.accept(TrajectoryCommand(1, **vars(first)), 1) is None
        now_ns = 700_000_000
        for t in range(1, now_ns, 5_000_000):
            control.sample(t)
        # Received half a control period late.
        late_ns = now_ns + 10_000_000
        for t in range(now_ns, late_ns, 1_000_000):
            control.sample(t)
        command = TrajectoryCommand(now_ns, **vars(verdict.command[arm]))
        assert control.accept(command, late_ns) is None
        times = np.arange(0.012, verdict.duration_s, 0.002)
        executed = [control.sample(now_ns + round(t * 1e9)) for t in times]
        _, planned = ROBOT.arm_command(arm, verdict.path.sample(times)[0])
        assert np.abs(np.array(executed) - planned).max() < 1e-3


def test_where_the_motion_cannot_be_joined_the_arms_stop_first():
    # Dreamed to go back at once: no law takes such a speed around the corner within the limits.
    path = first_motion(5).path
    now_s = 0.8
    measured = path.sample(now_s)[0]
    ahead = path.sample(now_s + OVERLAP.switch_lead_s)[0]
    positions = np.vstack([ahead, np.tile(ROBOT.home, (16, 1))])
    tight = OVERLAP.model_copy(
        update={'path_tolerance': 0.0, 'max_start_blend': 0.4, 'start_blend_steps': 1}
    )
    verdict = check_chunk(
        make_chunk(positions, now_s + 0.1), measured, ROBOT,
        tight.model_copy(update={'max_clock_skew_s': 1.0}), round(now_s * 1e9),
        running=Motion(path, 0),
    )  # fmt: skip
    assert verdict.accepted, verdict.detail
    stopped = np.abs(verdict.path.velocities[1:-1]).max(axis=1) == 0.0
    assert stopped.any()
    # Not before the switch: a check that takes as long as it may changes nothing.
    times = np.linspace(0.0, OVERLAP.switch_lead_s, 50)
    for before, now in zip(path.sample(now_s + times), verdict.path.sample(times)):
        np.testing.assert_allclose(now, before, atol=1e-6)
    bounds = verdict.path.bounds
    assert (bounds.velocity <= LIMITS.max_velocity * 1.01).all()
    assert (bounds.acceleration <= LIMITS.max_acceleration * 1.01).all()


def test_steps_that_are_past_are_dropped():
    _, verdict = join(2, 1.0, dream_s=0.5)
    _, early = join(2, 1.0, dream_s=0.1)
    assert verdict.accepted and early.accepted
    assert verdict.execute_steps == 16 - 6
    assert early.execute_steps == 16 - 2


def test_a_dream_that_starts_from_rest_is_joined_where_the_arms_are_on_it():
    """What has been dreamed of as if the arms had stood still lies behind where they are."""
    path = first_motion(2).path
    now_s = 0.8
    ahead, begun = path.sample(now_s + OVERLAP.switch_lead_s), path.sample(now_s - 0.3)[0]
    # Along the path that the arms are on, but as slow in the beginning as from rest.
    times = now_s - 0.3 + np.maximum(np.arange(17) * DT - 0.2, 0.0)
    chunk = make_chunk(path.sample(times)[0], now_s - 0.3)
    measured = path.sample(now_s)[0]
    verdict = check_chunk(
        replace(chunk, observed_positions=begun), measured, ROBOT, OVERLAP, round(now_s * 1e9),
        running=Motion(path, 0),
    )  # fmt: skip
    assert verdict.accepted, verdict.detail
    joint = int(np.abs(ahead[1] * ~ROBOT.gripper_mask).argmax())
    # It takes up the dream where the arms are, not where the dream is by then.
    there, before = (path.sample(now_s + 0.5 - late_s)[0][joint] for late_s in (0.0, 0.2))
    assert abs(verdict.path.sample(0.5)[0][joint] - there) < 0.3 * abs(there - before)


@pytest.mark.parametrize('closes', [0.02, 0.1, 0.4])
def test_a_gripper_closes_when_it_was_dreamed_to_and_arms_go_over_in_their_time(closes):
    gripper, waist = 6, 0
    path = first_motion(2).path
    now_s = 0.8
    positions = sweep(2)[5:22].copy()
    positions[:, gripper] = positions[:, 13] = 0.5
    held = replace(path, positions=path.positions.copy())
    held.positions[:, [gripper, 13]] = 0.5
    positions[:, gripper] -= closes
    positions[:, waist] += 0.05
    verdict = check_chunk(
        make_chunk(positions, now_s - 0.3), held.sample(now_s)[0], ROBOT, OVERLAP,
        round(now_s * 1e9), running=Motion(held, 0),
    )  # fmt: skip
    assert verdict.accepted, verdict.detail
    soonest_s = minimum_jerk_time(closes * np.ones(14), LIMITS)[gripper]
    switch_s, blend_s = OVERLAP.switch_lead_s, OVERLAP.start_blend_steps * DT
    by_s = switch_s + max(soonest_s, DT) + DT
    assert verdict.path.sample(by_s)[0][gripper] == pytest.approx(0.5 - closes, abs=0.05 * closes)
    if closes < 0.1:
        # Sooner than the arms, which take their time for a small difference, too.
        dreamed = sweep(2)[5:22][:, waist] + 0.05
        half_s = switch_s + blend_s / 2
        at = np.interp(now_s + half_s, now_s - 0.3 + np.arange(17) * DT, dreamed)
        assert at - verdict.path.sample(half_s)[0][waist] == pytest.approx(0.025, abs=0.012)


def test_a_chunk_whose_steps_are_all_past_is_stale():
    path = first_motion(2).path
    chunk = make_chunk(sweep(2)[:17], 0.0)
    verdict = check_chunk(
        replace(chunk, observation_stamp_ns=-1_000_000_000), path.sample(1.0)[0], ROBOT, OVERLAP,
        1_000_000_000, running=Motion(path, 0),
    )  # fmt: skip
    assert (verdict.reason, verdict.command) == ('STALE_OBSERVATION', {})


def test_an_arm_that_left_the_running_path_takes_no_chunk():
    path = first_motion(2).path
    measured = path.sample(0.8)[0]
    measured[8] += 0.2
    chunk = make_chunk(sweep(2)[5:22], 0.5)
    verdict = check_chunk(chunk, measured, ROBOT, OVERLAP, 800_000_000, running=Motion(path, 0))
    assert verdict.reason == 'START_DEVIATION'
    assert 'right_shoulder' in verdict.detail


def test_a_dream_far_from_the_running_path_is_refused():
    _, verdict = join(1, 0.8, off=0.4)
    assert verdict.reason == 'START_BLEND_EXCEEDED'
    assert verdict.command == {}


def test_look_dream_move_takes_no_chunk_in_mid_motion():
    _, verdict = join(1, 0.8, settings=OVERLAP.model_copy(update={'mode': 'look_dream_move'}))
    assert (verdict.reason, verdict.command) == ('BUSY', {})


def test_what_is_committed_is_the_running_spline():
    path = first_motion(4, 0.01).path
    again = committed(path, 0.55, 0.5, 0.02, LIMITS.max_jerk)
    times = np.linspace(0.0, 0.5, 200)
    for before, now in zip(path.sample(0.55 + times), again.sample(times)):
        np.testing.assert_allclose(now, before, atol=1e-3)
    assert again.times[1] == pytest.approx(0.02)


def test_most_dreams_are_joined_without_a_stop():
    joined = 0
    for seed in range(40):
        path, verdict = join(seed, 0.8, noise=0.01)
        assert verdict.accepted, verdict.detail
        moving = np.abs(verdict.path.velocities[1:-1]).max(axis=1) > 0.0
        joined += bool(moving.all())
    assert joined >= 30
