"""Judges count their own task, done by the right hands, and nothing else."""

from types import SimpleNamespace

from gym_aloha.tasks.sim import TransferCubeTask
import mujoco
import numpy as np
import pytest

from eva_ros.cli.sim_recording import episode_rng
from eva_ros.cli.sim_recording import run_expert
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.experts import plan_episode
from eva_ros.sim.judge import Judge
from eva_ros.sim.judge import Sight
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.tasks import TASKS
from eva_ros.sim.world import AlohaWorld

MS = 1_000_000
RECORDED = ExpertSettings(astray_chance=0.5)
TABLE = frozenset({'table'})
LEFT = frozenset({'left/left', 'left/right'})
RIGHT = frozenset({'right/left', 'right/right'})
AWAY = {'left': 0.3, 'right': 0.3}


class Watch:
    """A judge that is shown, every 10 ms, what a test makes up."""

    def __init__(self, task):
        self.judge = Judge(TASKS[task])
        self.now_ns = 0

    def show(self, ms, *, touching=TABLE, height=0.0, tilt=0.0, away=AWAY, opening=1.0):
        """Show the same for a while; `away` is each hand's distance from the object."""
        for _ in range(ms // 10):
            target = np.array([0.0, 0.5, 0.02 + height])
            sight = Sight(
                time_ns=self.now_ns,
                target=target,
                height=height,
                tilt=np.deg2rad(tilt),
                fingertips={
                    'left': target - [away['left'], 0, 0],
                    'right': target + [away['right'], 0, 0],
                },
                openings={'left': opening, 'right': opening},
                touching=frozenset(touching),
            )
            self.judge.watch(sight)
            self.now_ns += 10 * MS
        return self

    @property
    def success(self):
        return self.judge.success


def at(side, metres=0.0):
    return {**AWAY, side: metres}


# --- reaches ----------------------------------------------------------------------------------


def test_a_reach_is_an_open_hand_that_stands_at_the_cube():
    assert not Watch('reach_left').show(1200, away=at('left', 0.029)).success
    watch = Watch('reach_left').show(2000, away=at('left', 0.029))
    assert watch.success and watch.judge.done_ns == 1200 * MS
    assert not Watch('reach_left').show(2000, away=at('left', 0.031)).success


def test_leaving_the_cube_restarts_the_time():
    watch = Watch('reach_left').show(700, away=at('left')).show(20, away=at('left', 0.05))
    assert not watch.show(1200, away=at('left')).success
    assert watch.show(100, away=at('left')).success


def test_what_is_done_stays_done():
    watch = Watch('reach_left').show(1300, away=at('left')).show(500)
    assert watch.judge.done_ns == 1200 * MS


@pytest.mark.parametrize(
    'wrong',
    [
        {'away': at('right')},
        {'away': at('left'), 'opening': 0.4},
        {'away': at('left'), 'touching': LEFT, 'height': 0.1},
        {'away': at('left'), 'touching': TABLE | {'right/arm'}},
    ],
    ids=['the other arm', 'a closed hand', 'a cube in the air', 'a cube that both arms touch'],
)
def test_a_reach_does_not_count(wrong):
    assert not Watch('reach_left').show(2000, **wrong).success


def test_a_hand_that_passes_the_cube_has_not_reached_it():
    watch = Watch('reach_left')
    for step in range(100):
        watch.show(10, away=at('left', 0.025 * np.sin(step / 5)))
    assert not watch.success


def test_a_reach_or_lift_does_not_count_when_the_other_arm_goes_along():
    for task, shown in (('reach_left', {}), ('lift_left', {'touching': LEFT, 'height': 0.1})):
        watch = Watch(task).show(10)
        watch.show(2000, away={'left': 0.0, 'right': 0.2}, **shown)
        assert not watch.success


# --- lifts ------------------------------------------------------------------------------------


def test_a_lift_is_both_fingers_five_centimetres_up_for_half_a_second():
    up = {'touching': LEFT, 'height': 0.051}
    assert Watch('lift_left').show(520, **up).success
    assert not Watch('lift_left').show(500, **up).success


@pytest.mark.parametrize(
    'wrong',
    [
        {'touching': LEFT, 'height': 0.049},
        {'touching': {'left/left'}, 'height': 0.1},
        {'touching': RIGHT, 'height': 0.1},
        {'touching': LEFT | RIGHT, 'height': 0.1},
        {'touching': LEFT | {'right/arm'}, 'height': 0.1},
    ],
    ids=['too low', 'one finger', 'the other arm', 'both arms', 'help from the other arm'],
)
def test_a_lift_does_not_count(wrong):
    assert not Watch('lift_left').show(2000, **wrong).success


# --- transfers --------------------------------------------------------------------------------


def test_a_transfer_is_held_by_the_right_hand_and_then_by_the_left_alone():
    watch = Watch('transfer_cube').show(300, touching=RIGHT, height=0.2)
    watch.show(300, touching=RIGHT | LEFT, height=0.2)
    assert not watch.show(500, touching=LEFT, height=0.2).success
    assert watch.show(20, touching=LEFT, height=0.2).success


@pytest.mark.parametrize(
    'wrong',
    [
        [LEFT],
        [TABLE | RIGHT, LEFT],
        [RIGHT, TABLE, LEFT],
        [RIGHT, RIGHT | LEFT],
        [RIGHT, LEFT | {'right/left'}],
        [RIGHT, {'left/left'}],
        [RIGHT, LEFT | TABLE],
        [{'right/left'}, LEFT],
    ],
    ids=[
        'a left lift', 'a cube that the right hand did not lift', 'a cube put down between',
        'a cube that both hold', 'a cube that the right hand still touches', 'one finger',
        'a cube on the table', 'a right hand that touched with one finger',
    ],
)  # fmt: skip
def test_a_transfer_does_not_count(wrong):
    watch = Watch('transfer_cube')
    for touching in wrong:
        watch.show(1000, touching=touching, height=0.2)
    assert not watch.success


def test_a_left_lift_is_a_transfer_for_gym_aloha_only():
    judge = Watch('transfer_cube').show(1000, touching=LEFT, height=0.2).judge
    assert judge.gym_aloha_done_ns == 0 and not judge.success


def test_the_second_figure_is_gym_alohas_own_reward():
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
    world.reset(plan.scene.joints, plan.scene.target)
    rewards = []
    for joints in np.concatenate(plan.stretches):
        world.command(joints)
        world.step(10)
        rewards.append(TransferCubeTask().get_reward(physics))
        judge = Judge(task)
        judge.watch(Sight.of(world))
        assert (judge.gym_aloha_done_ns is not None) == (rewards[-1] == 4)
    assert {0, 1, 2, 4} <= set(rewards)


# --- the bar ----------------------------------------------------------------------------------


def test_a_bar_is_lifted_level_by_both_hands_for_half_a_second():
    up = {'touching': LEFT | RIGHT, 'height': 0.051, 'tilt': 9}
    assert Watch('lift_bar').show(520, **up).success
    assert not Watch('lift_bar').show(500, **up).success


@pytest.mark.parametrize(
    'wrong',
    [
        {'touching': LEFT},
        {'touching': RIGHT},
        {'touching': LEFT | {'right/left'}},
        {'touching': LEFT | RIGHT | TABLE},
        {'touching': LEFT | RIGHT | {'distractor_0'}},
        {'height': 0.049},
        {'tilt': 11},
    ],
    ids=[
        'the left hand alone', 'the right hand alone', 'one finger', 'one end on the table',
        'a bar that rests on something', 'too low', 'tilted',
    ],
)  # fmt: skip
def test_a_bar_lift_does_not_count(wrong):
    up = {'touching': LEFT | RIGHT, 'height': 0.1}
    assert not Watch('lift_bar').show(2000, **{**up, **wrong}).success


@pytest.mark.parametrize('side', ['left', 'right'])
def test_one_hand_that_lifts_the_bar_in_the_simulator_does_not_do_the_task(side):
    task = TASKS['lift_bar']
    plan = plan_episode(task, episode_rng('lift_bar', 0, 0), ExpertSettings(pause_chance=0.0))
    world, judge = AlohaWorld(target='bar'), Judge(task)
    world.reset(plan.scene.joints, plan.scene.target)
    idle = slice(7, 14) if side == 'left' else slice(0, 7)
    highest = 0.0
    for joints in np.concatenate(plan.stretches):
        joints[idle] = plan.scene.joints[idle]
        world.command(joints)
        world.step(10)
        judge.watch(Sight.of(world))
        highest = max(highest, world.height)
    assert highest > 0.01
    assert not judge.success


# --- experts ----------------------------------------------------------------------------------


@pytest.fixture(scope='module')
def sim():
    made = SimRobot('reach_left', 0)
    yield made
    made.close()


@pytest.mark.parametrize('task', TASKS)
def test_an_expert_does_its_own_task_in_time_and_no_other(sim, task):
    for index in range(4):
        assert run_expert(sim, task, episode_rng(task, 11, index), RECORDED)
        assert sim.tasks_done() == (task,)


def test_a_left_arm_that_lifts_the_cube_by_itself_has_not_transferred_it():
    plan = plan_episode(TASKS['lift_left'], episode_rng('lift_left', 0, 0), ExpertSettings())
    world, judge = AlohaWorld(), Judge(TASKS['transfer_cube'])
    world.reset(plan.scene.joints, plan.scene.target)
    for joints in np.concatenate(plan.stretches):
        world.command(joints)
        world.step(10)
        judge.watch(Sight.of(world))
    assert judge.gym_aloha_done_ns is not None
    assert not judge.success
