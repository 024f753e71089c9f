"""Scripted experts: smooth, within limits, deterministic, and they do the task."""

import mujoco
import numpy as np
import pytest

from eva_ros.cli.sim_recording import episode_rng
from eva_ros.cli.sim_recording import run_expert
from eva_ros.robot.motion import differences
from eva_ros.robot.spec import load_robot
from eva_ros.sim.experts import astray
from eva_ros.sim.experts import DT
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.experts import plan_episode
from eva_ros.sim.geometry import inverse_kinematics
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import EXPLORE
from eva_ros.sim.tasks import TASKS
from eva_ros.sim.world import AlohaWorld
from eva_ros.sim.world import SIDES

RECORDED = ExpertSettings(astray_chance=0.5)
ONE_ARMED = ('reach_left', 'reach_right', 'lift_left', 'lift_right')


@pytest.fixture(scope='module')
def world():
    return AlohaWorld()


@pytest.fixture(scope='module')
def sim():
    made = SimRobot('reach_left', 0)
    yield made
    made.close()


def plan_of(task, index, settings=RECORDED):
    return plan_episode(task, episode_rng(task.name, 7, index), settings)


def plan(name, index, settings=RECORDED):
    return plan_of(TASKS[name], index, settings)


def is_wait(stretch):
    return not np.diff(stretch, axis=0).any()


def pauses(task, chance, episodes):
    """Return the lengths in s of all pauses in the middle of stretches."""
    settings = ExpertSettings(pause_chance=chance)
    found = []
    for index in range(episodes):
        *inner, _ = plan(task, index, settings).stretches
        found += [len(stretch) * DT for stretch in inner if is_wait(stretch)]
    return np.array(found)


@pytest.mark.parametrize('side', SIDES)
def test_inverse_kinematics_puts_mujocos_fingertips_on_the_target(world, side):
    rng = np.random.default_rng(1)
    for _ in range(200):
        target = rng.uniform([-0.1, 0.4, 0.02], [0.1, 0.6, 0.15])
        joints = np.zeros(16)
        at = 8 * SIDES.index(side)
        joints[at : at + 6] = inverse_kinematics(
            side, target, rng.uniform(0.9, 1.2), rng.uniform(-1, 1)
        )
        world.data.qpos[:16] = joints
        mujoco.mj_kinematics(world.model, world.data)
        np.testing.assert_allclose(world.fingertips(side), target, atol=1e-4)


def test_inverse_kinematics_refuses_what_is_out_of_reach():
    with pytest.raises(ValueError, match='left arm cannot reach'):
        inverse_kinematics('left', [0.4, 0.5, 0.02], 1.1)


def test_neighbouring_cubes_are_reached_by_neighbouring_postures():
    steps = np.linspace(0.4, 0.6, 101)
    for x in (-0.1, 0.0, 0.1):
        for side in SIDES:
            postures = [inverse_kinematics(side, [x, y, 0.02], 1.1) for y in steps]
            assert np.abs(np.diff(postures, axis=0)).max() < 0.02


def test_exploration_stays_within_the_joints_ranges_and_shows_both_arms():
    limits = load_robot('aloha_sim').limits
    for index in range(20):
        path = np.concatenate(plan_of(EXPLORE, index).stretches)
        assert (path >= limits.min_position - 1e-9).all()
        assert (path <= limits.max_position + 1e-9).all()
        assert (np.ptp(path.reshape(-1, 2, 7), axis=0)[:, :3] > 0.1).all()


@pytest.mark.parametrize('task', TASKS)
def test_experts_stay_within_the_robots_limits(task):
    limits = load_robot('aloha_sim').limits
    inside = []
    for index in range(10):
        for path in plan(task, index).stretches:
            assert (path >= limits.min_position - 1e-9).all()
            assert (path <= limits.max_position + 1e-9).all()
            v, a, j = differences(np.pad(path, ((3, 3), (0, 0)), mode='edge'), DT)
            assert (np.abs(v) <= limits.max_velocity).all()
            inside.append((np.abs(a) <= limits.max_acceleration).all(1)[:-1])
            inside[-1] &= (np.abs(j) <= limits.max_jerk).all(1)
    # the limits are 1.5 times the 99.9th percentile, not the maximum
    assert np.mean(np.concatenate(inside)) > 0.995


@pytest.mark.parametrize('task', TASKS)
def test_stretches_join_and_begin_and_end_at_rest(task):
    for index in range(5):
        episode = plan(task, index)
        joints = episode.scene.joints
        for path in episode.stretches:
            np.testing.assert_allclose(path[0], joints, atol=1e-12)
            # a first step at full speed would be some 0.03
            assert np.abs(np.diff(path, axis=0)[[0, -1]]).max() < 0.005
            joints = path[-1]


@pytest.mark.parametrize('task', ONE_ARMED)
def test_the_arm_that_is_not_asked_holds_still(task):
    idle = slice(7, 14) if TASKS[task].side == 'left' else slice(0, 7)
    for index in range(5):
        episode = plan(task, index)
        for path in episode.stretches:
            assert (path[:, idle] == episode.scene.joints[idle]).all()


def test_pauses_last_a_fifth_of_a_second_to_a_second_and_come_at_random():
    found = pauses('reach_left', 1.0, 60)
    assert len(found) > 50
    assert found.min() >= 0.2 - DT
    assert found.max() <= 1.0 + DT
    assert np.ptp(found) > 0.6
    assert 5 < len(pauses('reach_left', 0.3, 60)) < 32


def test_pauses_can_be_left_out():
    assert len(pauses('reach_left', 0.0, 30)) == 0


def test_half_of_the_episodes_start_astray_near_the_cube():
    near = []
    for index in range(60):
        scene = plan('reach_left', index).scene
        near.append(np.abs(scene.joints[:6] - [0, -1.5, 1.5, 0, 0.3, 0]).max() > 0.121)
    assert 15 < np.sum(near) < 45


def test_a_start_astray_is_beside_the_cube_not_at_it(world):
    rng = np.random.default_rng(0)
    for seed in range(20):
        scene = draw_scene(TASKS['reach_right'], seed)
        start = astray(TASKS['reach_right'], scene, rng, RECORDED)
        np.testing.assert_array_equal(start.target, scene.target)
        np.testing.assert_array_equal(start.joints[:7], scene.joints[:7])
        world.data.qpos[8:14] = start.joints[7:13]
        mujoco.mj_kinematics(world.model, world.data)
        offset = world.fingertips('right') - scene.target
        assert (np.abs(offset) < [0.12, 0.12, 0.2]).all()
        assert offset[2] > 0.0


def test_an_episode_is_the_same_whenever_it_is_planned_and_unlike_the_next():
    first, again, other = (plan('lift_left', index) for index in (4, 4, 5))
    np.testing.assert_array_equal(np.concatenate(first.stretches), np.concatenate(again.stretches))
    assert first.instruction == again.instruction
    assert np.abs(first.scene.joints - other.scene.joints).max() > 0.01


@pytest.mark.parametrize('task', TASKS)
def test_the_expert_does_its_task_in_time(sim, task):
    done = [run_expert(sim, task, episode_rng(task, 11, index), RECORDED) for index in range(3)]
    assert done == [True] * 3


def test_an_expert_of_another_arm_does_not_do_the_task(sim):
    episode = plan('reach_left', 0)
    sim.reset('reach_right', 0, episode.scene)
    sim.cameras_on = False
    sim.advance(3.0)
    assert not sim.success()
