"""Tasks: their words tell them apart, their scenes do not, and their judges are fair."""

from types import SimpleNamespace

from gym_aloha.tasks.sim import TransferCubeTask
import mujoco
import numpy as np
import pytest

from eva_ros.cli.sim_recording import episode_rng
from eva_ros.errors import UserError
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.experts import plan_episode
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import find_task
from eva_ros.sim.tasks import Judge
from eva_ros.sim.tasks import TASKS
from eva_ros.sim.world import AlohaWorld
from eva_ros.sim.world import CUBE_HALF

SHARED = ('reach_left', 'reach_right', 'lift_left', 'lift_right')
MS = 1_000_000


class FakeWorld:
    """A world in which a test says what is so."""

    def __init__(self, *, distance=1.0, height=CUBE_HALF, touching=()):
        self.time_ns = 0
        self.cube = np.array([0.0, 0.5, height])
        self.distance = distance
        self.touching = set(touching)

    def fingertips(self, side):
        distance = self.distance if side == 'left' else 1.0
        return self.cube + [0.0, 0.0, distance]

    def touching_cube(self):
        return self.touching


def watch(task, world, until_ms, judge=None):
    """Let a judge look every 10 ms; return it."""
    judge = judge or Judge(TASKS[task])
    while world.time_ns <= until_ms * MS:
        judge.watch(world)
        world.time_ns += 10 * MS
    return judge


# --- words ------------------------------------------------------------------------------------


def test_every_task_has_words_for_training_and_others_for_evaluation():
    for task in TASKS.values():
        assert len(set(task.training_phrasings)) >= 8
        assert len(set(task.held_out_phrasings)) == 3
        assert not set(task.training_phrasings) & set(task.held_out_phrasings)


def test_every_word_of_a_held_out_phrasing_occurs_in_training():
    known = {word for t in TASKS.values() for p in t.training_phrasings for word in p.split()}
    for task in TASKS.values():
        for phrasing in task.held_out_phrasings:
            assert set(phrasing.split()) <= known


def test_no_instruction_means_two_tasks():
    phrasings = [p for t in TASKS.values() for p in t.training_phrasings + t.held_out_phrasings]
    assert len(phrasings) == len(set(phrasings))
    for name in SHARED:
        task = TASKS[name]
        other = {'left': 'right', 'right': 'left'}[task.side]
        for phrasing in task.training_phrasings + task.held_out_phrasings:
            assert task.side in phrasing.split()
            assert other not in phrasing.split()


def test_an_unknown_task_is_refused_with_the_list():
    with pytest.raises(UserError, match=r"no task 'juggle'.*reach_left, .*transfer_cube"):
        find_task('juggle')


# --- scenes -----------------------------------------------------------------------------------


def test_reaches_and_lifts_start_alike_so_that_only_the_instruction_tells():
    for seed in range(20):
        scenes = [draw_scene(TASKS[name], seed) for name in SHARED]
        for scene in scenes[1:]:
            np.testing.assert_array_equal(scene.joints, scenes[0].joints)
            np.testing.assert_array_equal(scene.cube, scenes[0].cube)


def test_cubes_are_drawn_from_the_whole_area():
    cubes = np.array([draw_scene(TASKS['reach_left'], seed).cube[:2] for seed in range(400)])
    assert (np.ptp(cubes, axis=0) > 0.19).all()
    assert (np.abs(cubes - [0.0, 0.5]) <= 0.1).all()
    # evenly: a quarter in each quarter
    quarters = np.unique((cubes > [0.0, 0.5]) @ [1, 2], return_counts=True)[1]
    assert (quarters > 60).all()


def test_the_cube_to_transfer_lies_where_gym_aloha_puts_it():
    cubes = np.array([draw_scene(TASKS['transfer_cube'], seed).cube[:2] for seed in range(400)])
    assert (cubes >= [0.0, 0.4]).all()
    assert (cubes <= [0.2, 0.6]).all()
    assert (np.ptp(cubes, axis=0) > 0.19).all()


# --- judges -----------------------------------------------------------------------------------


def test_a_reach_is_done_after_three_tenths_of_a_second_near_the_cube():
    assert not watch('reach_left', FakeWorld(distance=0.029), 290).success
    judge = watch('reach_left', FakeWorld(distance=0.029), 2000)
    assert judge.success
    assert judge.done_ns == 300 * MS
    assert not watch('reach_left', FakeWorld(distance=0.031), 2000).success


def test_a_reach_by_the_other_arm_does_not_count():
    assert not watch('reach_right', FakeWorld(distance=0.0), 2000).success


def test_leaving_the_cube_starts_the_time_anew():
    world = FakeWorld(distance=0.0)
    judge = watch('reach_left', world, 200)
    world.distance = 0.05
    watch('reach_left', world, 220, judge)
    world.distance = 0.0
    assert not watch('reach_left', world, 500, judge).success
    assert watch('reach_left', world, 600, judge).success


def test_what_is_done_stays_done():
    world = FakeWorld(distance=0.0)
    judge = watch('reach_left', world, 400)
    world.distance = 1.0
    assert watch('reach_left', world, 2000, judge).done_ns == 300 * MS


def test_a_lift_needs_both_fingers_of_the_right_arm_and_five_centimetres():
    held = ('left/left', 'left/right')
    high = CUBE_HALF + 0.051
    assert watch('lift_left', FakeWorld(height=high, touching=held), 510).success
    assert not watch('lift_left', FakeWorld(height=high, touching=held), 490).success
    assert not watch('lift_left', FakeWorld(height=high - 0.002, touching=held), 2000).success
    assert not watch('lift_left', FakeWorld(height=high, touching=held[:1]), 2000).success
    assert not watch('lift_right', FakeWorld(height=high, touching=held), 2000).success


def test_a_transfer_is_judged_as_gym_aloha_rewards_it():
    task = TASKS['transfer_cube']
    world = AlohaWorld()
    names = [
        mujoco.mj_id2name(world.model, mujoco.mjtObj.mjOBJ_GEOM, i)
        for i in range(world.model.ngeom)
    ]
    physics = SimpleNamespace(
        data=world.data, model=SimpleNamespace(id2name=lambda index, kind: names[index])
    )
    plan = plan_episode(task, episode_rng(task.name, 3, 0), ExpertSettings(pause_chance=0.0))
    world.reset(plan.scene.joints, plan.scene.cube)
    rewards = []
    for joints in np.concatenate(plan.stretches):
        world.command(joints)
        world.step(10)
        rewards.append(TransferCubeTask().get_reward(physics))
        judge = Judge(task)
        judge.watch(world)
        assert judge.success == (rewards[-1] == 4)
    assert {0, 1, 2, 4} <= set(rewards)
