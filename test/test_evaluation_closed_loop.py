"""Look, dream, move on the simulated robot: what is planned is done, and nothing else."""

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest

from eva_ros.alignment.best_of import BestOf
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.settings import load_gate_settings
from eva_ros.control.state import State
from eva_ros.errors import UserError
from eva_ros.evaluation import controls
from eva_ros.evaluation import variants
from eva_ros.evaluation.closed_loop import LoopSettings
from eva_ros.evaluation.closed_loop import Plan
from eva_ros.evaluation.closed_loop import run_episode
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.views import load_view
from eva_ros.robot.motion import minimum_jerk
from eva_ros.robot.spec import load_robot
from eva_ros.sim.robot import SimRobot

SHORT = LoopSettings(time_limit_s=5.0, think_times_s=(0.2,))


@pytest.fixture(scope='module')
def robot():
    return load_robot('aloha_sim')


def attempt(robot, planner, loop=SHORT, seed=3, mode='look_dream_move', draws=0, history=0):
    """Return the result and the turns of one attempt."""
    turns = []
    sim = SimRobot('reach_left', seed)
    try:
        result = run_episode(
            sim,
            'reach the cube with the left arm',
            planner,
            robot,
            load_view('aloha_sim'),
            load_gate_settings(robot.name).model_copy(update={'mode': mode}),
            loop,
            turns.append,
            seed=draws,
            history=history,
        )
    finally:
        sim.close()
    return result, turns


def turn_waists(observation):
    """Plan to turn both waists by 0.15 rad within 1.6 s."""
    goal = observation.joint_positions.copy()
    goal[[0, 7]] += 0.15
    return Plan(minimum_jerk(observation.joint_positions, goal, 17), 0.1)


@pytest.fixture(scope='module')
def turned(robot):
    return attempt(robot, turn_waists)


def test_a_dreamed_plan_closes_grippers_as_the_node_does(robot, monkeypatch):
    """The decoder node sends robot.gripping of what was read: so must an evaluation."""
    read = np.tile(robot.home, (17, 1))
    read[:, 6] = np.linspace(1.0, 0.6, 17)
    rollout = SimpleNamespace(frames=np.zeros((17, 8, 8, 3), np.uint8), dt=0.1)
    monkeypatch.setattr(
        variants, 'read_rollout',
        lambda idm, frames: SimpleNamespace(smoothed=read, confidence=0.9),
    )  # fmt: skip
    dreamer = SimpleNamespace(
        dream=lambda view, instruction, **_: rollout, settings=SimpleNamespace(history=0)
    )
    planner = variants.dreaming(dreamer, None, robot)(SimpleNamespace(seed=3, instruction='lift'))
    plan = planner(SimpleNamespace(view=rollout.frames[0], before=()))
    np.testing.assert_array_equal(plan.positions, robot.gripping(read))
    assert plan.positions[-1, 6] < 0.3


def test_arms_go_where_the_plan_says_and_are_seen_at_rest(robot, turned):
    result, turns = turned
    assert result.accepted == len(turns) >= 2 and result.refused == 0
    assert not result.success and result.elapsed_s == pytest.approx(5.0, abs=0.021)
    first, second = turns[0], turns[1]
    assert first.observation.at_rest and second.observation.at_rest
    moved = second.observation.joint_positions - first.observation.joint_positions
    assert moved[[0, 7]] == pytest.approx(0.15, abs=0.02)
    assert np.abs(np.delete(moved, [0, 7])).max() < 0.02
    assert 0 < result.moving_s < result.elapsed_s
    for arm, trajectory in first.verdict.command.items():
        assert trajectory.joint_names == robot.arms[arm].controller.joints


def test_the_supervisor_that_the_node_drives_judges_and_begins_every_motion(robot, monkeypatch):
    seen = []

    def recorded(name):
        method = getattr(CommandSupervisor, name)

        def call(supervisor, *args):
            result = method(supervisor, *args)
            seen.append((supervisor, name, result, supervisor.machine.state))
            return result

        return call

    for name in ('judge', 'execute', 'finish'):
        monkeypatch.setattr(CommandSupervisor, name, recorded(name))
    _, turns = attempt(robot, turn_waists, LoopSettings(time_limit_s=3.0))
    assert len({supervisor for supervisor, *_ in seen}) == 1
    begun = [(name, result, state) for _, name, result, state in seen if result]
    assert [state for name, _, state in begun][:3] == [State.ARMED, State.EXECUTING, State.ARMED]
    judged = [result for name, result, _ in begun if name == 'judge']
    assert judged == [turn.verdict for turn in turns]
    orders = [result for name, result, _ in begun if name == 'execute']
    assert [order.command for order in orders] == [verdict.command for verdict in judged]


def test_every_observation_is_newer_than_the_motion_before_it(turned):
    _, turns = turned
    for before, after in pairwise(turns):
        ended_ns = before.observation.stamp_ns + int((SHORT.think_times_s[0] + 1.6) * 1e9)
        assert min(after.observation.image_stamps.values()) > ended_ns


def test_a_refused_chunk_moves_nothing_and_time_goes_on(robot):
    def nonsense(observation):
        return Plan(np.full((17, 14), np.nan), 0.1)

    result, turns = attempt(robot, nonsense, LoopSettings(time_limit_s=1.5))
    assert result.accepted == 0 and result.refused == len(turns) >= 2
    assert all(turn.verdict.reason == 'NON_FINITE' for turn in turns)
    poses = np.array([turn.observation.joint_positions for turn in turns])
    assert np.ptp(poses, axis=0).max() < 1e-3


def test_same_scene_and_plans_send_the_same_trajectories(robot, turned):
    (first, turns), (again, repeated) = turned, attempt(robot, turn_waists)
    assert first == again
    for turn, repeat in zip(turns, repeated):
        assert turn.observation.stamp_ns == repeat.observation.stamp_ns
        assert np.array_equal(turn.observation.view, repeat.observation.view)
        for arm, trajectory in turn.verdict.command.items():
            assert np.array_equal(trajectory.positions, repeat.verdict.command[arm].positions)


def test_thinking_is_charged(robot, turned):
    _, slow = attempt(robot, turn_waists, LoopSettings(time_limit_s=5.0, think_times_s=(1.2,)))
    turns = [slow, turned[1]]
    apart = [
        second.observation.stamp_ns - first.observation.stamp_ns for first, second, *_ in turns
    ]
    assert apart[0] - apart[1] == pytest.approx(1e9, abs=6e7)


def test_the_gate_judges_the_joints_of_now_however_long_the_thinking_took(robot):
    # Longer than an image stays fresh: the cameras are off meanwhile.
    loop = LoopSettings(time_limit_s=6.0, think_times_s=(2.5,))
    result, turns = attempt(robot, turn_waists, loop)
    assert result.accepted == len(turns) >= 1
    assert turns[0].verdict.joint_state_age_s < 0.02
    assert turns[0].verdict.observation_age_s == pytest.approx(2.5, abs=0.021)


def test_still_stays_where_it_is(robot):
    view = load_view('aloha_sim')
    result, turns = attempt(robot, controls.still(1 / view.rate_hz, view.frames))
    assert not result.success and result.refused == 0
    moved = turns[-1].observation.joint_positions - turns[0].observation.joint_positions
    # The actuators give way to gravity a little each time they are sent to where they are.
    assert np.abs(moved).max() < 0.03


def test_a_replayed_motion_ends_where_it_was_recorded_to_end(robot):
    view = load_view('aloha_sim')
    goal = robot.home.copy()
    goal[[0, 1, 8]] += (0.3, 0.2, 0.2)
    motion = minimum_jerk(robot.home, goal, 30).astype(np.float32)
    size = (view.height // 4, view.width // 4, 3)
    recorded = controls.TaskMotions(
        np.zeros((1, *size), np.uint8), motion[None], np.array([30], np.int32)
    )
    for make in (controls.mean_motion, controls.nearest_start):
        planner = make(recorded, 1 / view.rate_hz, view.frames)
        _, turns = attempt(robot, planner, LoopSettings(time_limit_s=8.0))
        end = turns[-1].observation.joint_positions
        arms = ~robot.gripper_mask
        assert end[arms] == pytest.approx(goal[arms], abs=0.03)


@pytest.mark.parametrize('moved', [False, True])
def test_arms_that_never_rest_are_an_error_at_first_and_a_failure_after_a_motion(
    robot, monkeypatch, moved
):
    real, plans = ObservationBuilder.latest, []

    def trembling(self, now_ns):
        observation = real(self, now_ns)
        return observation if moved and not plans else replace(observation, at_rest=False)

    def planner(observation):
        plans.append(turn_waists(observation))
        return plans[-1]

    monkeypatch.setattr(ObservationBuilder, 'latest', trembling)
    loop = LoopSettings(time_limit_s=9.0, rest_timeout_s=1.0)
    if not moved:
        with pytest.raises(UserError, match=r'did not come to rest within 1\.0 s'):
            attempt(robot, planner, loop)
        return
    result, turns = attempt(robot, planner, loop)
    assert not result.success and len(turns) == 1 and result.elapsed_s < 9.0


# --- mode overlap: the next turn begins while the arms move --------------------------------------


def sweep_waists(observation):
    """Plan to go on turning both waists at 0.2 rad/s, for as long as there are steps."""
    steps = np.tile(observation.joint_positions, (17, 1))
    steps[:, [0, 7]] += 0.02 * np.arange(17)[:, None]
    return Plan(steps, 0.1)


@pytest.fixture(scope='module')
def swept(robot):
    return attempt(robot, sweep_waists, mode='overlap')


def test_in_overlap_the_next_turn_begins_in_motion_and_the_arms_do_not_stand(robot, swept):
    result, turns = swept
    standing, _ = attempt(robot, sweep_waists)
    assert result.accepted == len(turns) > standing.accepted and result.late == 0
    assert [turn.observation.at_rest for turn in turns] == [True] + [False] * (len(turns) - 1)
    # All but the first look and the first dream.
    assert result.standing_s < 0.6
    assert standing.standing_s > 1.0
    assert result.elapsed_s - result.moving_s == pytest.approx(result.standing_s, abs=0.2)


@pytest.mark.parametrize('switch', [0.25, 0.5, 0.75])
def test_in_overlap_the_chunk_is_ready_at_the_switch(robot, switch):
    loop = replace(SHORT, switch=switch)
    _, turns = attempt(robot, sweep_waists, loop, mode='overlap')
    ready_s = [turn.observation.stamp_ns * 1e-9 + SHORT.think_times_s[0] for turn in turns]
    assert len(ready_s) >= 3
    for (before, after), turn in zip(pairwise(ready_s), turns):
        # Observations come ten times a second.
        assert 0 <= after - before - switch * turn.verdict.duration_s < 0.13


@pytest.mark.parametrize('history', [0, 4, 8])
def test_an_observation_in_motion_has_as_many_before_it_as_the_model_takes(robot, history):
    _, (first, *others) = attempt(robot, sweep_waists, mode='overlap', history=history)
    assert first.observation.before == ()
    in_motion = [turn.observation for turn in others if not turn.observation.at_rest]
    assert in_motion
    for observation in in_motion:
        assert len(observation.before) == history
        stamps = [seen.stamp_ns for seen in (*observation.before, observation)]
        assert np.diff(stamps) == pytest.approx(1e8)
        for seen in observation.before:
            assert seen.stamp_ns - min(seen.image_stamps.values()) < 5e7
        # As they were then, not as they are now.
        waists = [seen.joint_positions[0] for seen in observation.before]
        assert not history or np.ptp(waists) > 0.02


def test_arms_that_were_not_observed_for_as_long_as_the_model_takes_are_seen_at_rest(robot):
    _, (first, second, *_) = attempt(robot, sweep_waists, mode='overlap', history=40)
    assert second.observation.at_rest and second.observation.before == ()
    assert second.observation.stamp_ns * 1e-9 > first.verdict.duration_s


def test_a_model_is_asked_how_many_observations_it_takes(robot):
    model = SimpleNamespace(settings=SimpleNamespace(history=12))
    assert variants.dreaming(model, None, robot).history == 12
    assert variants.dreaming(BestOf(model, None, 2), None, robot).history == 12


def test_a_dream_that_comes_late_moves_nothing_and_the_next_begins_from_rest(robot):
    # Quick first, so that the second is begun in motion; then it takes longer than the motion.
    times_s = (0.05, 4.0)
    draws = 27
    assert list(np.random.default_rng(draws).choice(times_s, 4)) == [0.05, 4.0, 0.05, 0.05]
    loop = LoopSettings(time_limit_s=5.0, think_times_s=times_s)
    result, turns = attempt(robot, turn_waists, loop, mode='overlap', draws=draws)
    assert result.late >= 1
    first, second = turns[:2]
    assert second.observation.at_rest and second.observation.before == ()
    ended_ns = first.observation.stamp_ns + round(first.verdict.duration_s * 1e9)
    assert min(second.observation.image_stamps.values()) > ended_ns
    end = first.verdict.path.positions[-1]
    assert second.observation.joint_positions[[0, 7]] == pytest.approx(end[[0, 7]], abs=0.02)


def test_think_times_are_drawn_with_the_attempts_seed_from_those_given(robot):
    loop = LoopSettings(time_limit_s=3.0, think_times_s=(0.1, 0.2, 0.3, 0.4, 0.5), switch=0.5)

    def ages(draws):
        turns = attempt(robot, sweep_waists, loop, mode='overlap', draws=draws)[1]
        return [round(turn.verdict.observation_age_s, 2) for turn in turns]

    first = ages(1)
    assert len(set(first)) > 1 and set(first) <= {0.1, 0.2, 0.3, 0.4, 0.5}
    assert ages(1) == first != ages(2)


def test_a_refused_chunk_in_motion_lets_the_arms_come_to_rest(robot):
    def once(observation):
        plan = sweep_waists(observation)
        return plan if observation.at_rest else replace(plan, positions=plan.positions * np.nan)

    result, turns = attempt(robot, once, mode='overlap')
    reasons = [turn.verdict.reason for turn in turns]
    assert reasons[:4] == ['OK', 'NON_FINITE', 'OK', 'NON_FINITE']
    assert turns[2].observation.at_rest
    assert result.refused == reasons.count('NON_FINITE')
