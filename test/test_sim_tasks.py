"""Tasks: their words tell them apart, their scenes do not."""

import numpy as np
import pytest

from eva_ros.errors import UserError
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import find_task
from eva_ros.sim.tasks import TASKS

SHARED = ('reach_left', 'reach_right', 'lift_left', 'lift_right')


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
