"""Tasks: their words tell them apart, their scenes do not."""

import numpy as np
import pytest

from eva_ros.cli.sim_recording import episode_rng
from eva_ros.errors import UserError
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.experts import plan_episode
from eva_ros.sim.phrasings import RECORDED_PHRASINGS
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import EXPLORE
from eva_ros.sim.tasks import find_task
from eva_ros.sim.tasks import TASKS
from eva_ros.world_model.text_encoder import TextEncoder

SHARED = ('reach_left', 'reach_right', 'lift_left', 'lift_right')


# --- words ------------------------------------------------------------------------------------


def all_phrasings(task):
    groups = (task.shipped, task.grammar)
    return {text for group in groups for text in group.training + group.held_out}


def word_edits(one, other):
    """Return how many words must be put in, taken out or exchanged (Levenshtein)."""
    a, b = one.split(), other.split()
    row = list(range(len(b) + 1))
    for i, word in enumerate(a, 1):
        corner, row[0] = row[0], i
        for j, opposite in enumerate(b, 1):
            least = min(row[j] + 1, row[j - 1] + 1, corner + (word != opposite))
            corner, row[j] = row[j], least
    return row[-1]


@pytest.mark.parametrize('task', TASKS.values(), ids=TASKS)
def test_a_task_has_sixty_phrasings_for_training_and_twenty_of_other_kinds_held_out(task):
    assert len(set(task.grammar.training)) >= 60
    assert len(set(task.grammar.held_out)) >= 20
    for held_out in task.grammar.held_out:
        assert min(word_edits(held_out, known) for known in task.grammar.training) >= 3
    # None is in the training data, whichever group is evaluated.
    recorded = {*task.shipped.training, *task.grammar.training}
    assert not recorded & {*task.shipped.held_out, *task.grammar.held_out}


def test_every_word_held_out_occurs_in_the_training_phrasings_of_some_task():
    known = {word for t in TASKS.values() for p in t.grammar.training for word in p.split()}
    for task in TASKS.values():
        for phrasing in all_phrasings(task):
            assert set(phrasing.split()) <= known
            assert len(phrasing.split()) <= 16


def test_the_shipped_models_can_read_the_shipped_phrasings_of_all_tasks_but_the_newest():
    encoder = TextEncoder.load(checkpoint_dir() / 'world_model' / 'text_encoder')
    for task in TASKS.values():
        for phrasing in task.shipped.training + task.shipped.held_out:
            encoder.check(phrasing, 'shipped')
    assert [task.name for task in TASKS.values() if not task.shipped.held_out] == ['lift_bar']


def test_no_instruction_means_two_tasks():
    phrasings = [phrasing for task in TASKS.values() for phrasing in all_phrasings(task)]
    assert len(phrasings) == len(set(phrasings))
    for name in SHARED:
        task = TASKS[name]
        other = {'left': 'right', 'right': 'left'}[task.side]
        for phrasing in all_phrasings(task):
            assert task.side in phrasing.split()
            assert other not in phrasing.split()


@pytest.mark.parametrize(('group', 'least'), [('shipped', 6), ('training', 20)])
def test_recordings_draw_their_instruction_from_a_group_by_seed(group, least):
    task, settings = TASKS['lift_left'], ExpertSettings(phrasings=group)
    told = [
        plan_episode(task, episode_rng(task.name, 0, index), settings).instruction
        for index in (*range(30), *range(30))
    ]
    known = {'shipped': task.shipped, 'training': task.grammar}[group].training
    assert set(told) <= set(known)
    assert len(set(told)) > least
    assert told[:30] == told[30:]


def test_recordings_are_in_words_of_the_shipped_models_unless_others_are_asked_for():
    encoder = TextEncoder.load(checkpoint_dir() / 'world_model' / 'text_encoder')
    for task in TASKS.values():
        if task.shipped.training:
            plan = plan_episode(task, episode_rng(task.name, 0, 0), ExpertSettings())
            encoder.check(plan.instruction, 'shipped')


def test_an_unknown_task_is_refused_with_the_list():
    with pytest.raises(UserError, match=r"no task 'juggle'.*reach_left, .*transfer_cube"):
        find_task('juggle')


# --- scenes -----------------------------------------------------------------------------------


def test_reaches_and_lifts_start_alike_so_that_only_the_instruction_tells():
    for seed in range(20):
        scenes = [draw_scene(TASKS[name], seed) for name in SHARED]
        for scene in scenes[1:]:
            np.testing.assert_array_equal(scene.joints, scenes[0].joints)
            np.testing.assert_array_equal(scene.target, scenes[0].target)


def test_cubes_are_drawn_from_the_whole_area():
    cubes = np.array([draw_scene(TASKS['reach_left'], seed).target[:2] for seed in range(400)])
    assert (np.ptp(cubes, axis=0) > 0.19).all()
    assert (np.abs(cubes - [0.0, 0.5]) <= 0.1).all()
    # evenly: a quarter in each quarter
    quarters = np.unique((cubes > [0.0, 0.5]) @ [1, 2], return_counts=True)[1]
    assert (quarters > 60).all()


def test_the_cube_to_transfer_lies_where_gym_aloha_puts_it():
    cubes = np.array([draw_scene(TASKS['transfer_cube'], seed).target[:2] for seed in range(400)])
    assert (cubes >= [0.0, 0.4]).all()
    assert (cubes <= [0.2, 0.6]).all()
    assert (np.ptp(cubes, axis=0) > 0.19).all()


@pytest.mark.parametrize('group', RECORDED_PHRASINGS)
def test_every_task_can_be_recorded_with_each_group_of_phrasings(group):
    for task in (*TASKS.values(), EXPLORE):
        told = task.recorded(group)
        assert told
        assert all(told) == (task is not EXPLORE)
