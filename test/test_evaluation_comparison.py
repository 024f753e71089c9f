"""Comparisons count what was asked for and what was done, and say by which criterion."""

from dataclasses import replace
from pathlib import Path

import pytest

from eva_ros.errors import UserError
from eva_ros.evaluation import table
from eva_ros.evaluation.closed_loop import LoopSettings
from eva_ros.evaluation.comparison import compare
from eva_ros.evaluation.comparison import Comparison
from eva_ros.evaluation.comparison import counts
from eva_ros.evaluation.comparison import jobs
from eva_ros.evaluation.comparison import Outcome
from eva_ros.sim.scenes import parse_scenes
from eva_ros.sim.tasks import TASKS


def comparison(*tasks, phrasings='shipped', episodes=3, scenes='clean'):
    return Comparison(
        robot='aloha_sim',
        view=None,
        models=Path('models'),
        tasks=tasks,
        variants=('unaligned',),
        episodes=episodes,
        seed=500,
        loop=LoopSettings(),
        scenes=parse_scenes(scenes),
        phrasings=phrasings,
    )


def outcome(task, scene, *done, gym_aloha=None):
    return Outcome(
        variant='unaligned',
        task=task,
        scene=scene,
        instruction='do it',
        scenes='clean',
        phrasings='shipped',
        success=task in done,
        elapsed_s=5.0,
        moving_s=3.0,
        accepted=2,
        refused=0,
        tasks_done=done,
        gym_aloha_success=gym_aloha,
        late=0,
        standing_s=1.0,
        mode='look_dream_move',
    )


OUTCOMES = [
    outcome('lift_left', 500, 'reach_left', 'lift_left'),
    outcome('lift_left', 501, 'reach_left'),
    outcome('lift_left', 502),
    outcome('transfer_cube', 500, 'transfer_cube', gym_aloha=True),
    outcome('transfer_cube', 501, 'lift_left', gym_aloha=True),
    outcome('transfer_cube', 502, gym_aloha=False),
]


def test_counts_tell_strict_successes_gym_alohas_and_what_was_done_instead():
    made = counts(comparison('lift_left', 'transfer_cube'), OUTCOMES)
    assert made == {
        'robot': 'aloha_sim',
        'seed': 500,
        'strict': True,
        'scenes': 'clean',
        'phrasings': 'shipped',
        'mode': 'look_dream_move',
        'think_times_s': [0.2],
        'variants': {
            'unaligned': {
                'tasks': {
                    'lift_left': {'episodes': 3, 'successes': 1},
                    'transfer_cube': {'episodes': 3, 'successes': 1, 'gym_aloha_successes': 2},
                },
                'confusion': {
                    'lift_left': {'lift_left': 1, 'reach_left': 1, 'nothing': 1},
                    'transfer_cube': {'transfer_cube': 1, 'lift_left': 1, 'nothing': 1},
                },
            }
        },
    }


def test_the_table_shows_tasks_asked_and_done_and_the_second_figure():
    shown = table.text(comparison('lift_left', 'transfer_cube', scenes='randomised'), OUTCOMES)
    lines = [line.split() for line in shown.splitlines()]
    head = ['unaligned,', 'shipped:', 'asked', '\\', 'done']
    begin = lines.index([*head, 'lift_left', 'transfer_cube', 'reach_left', 'nothing'])
    assert lines[begin + 1] == ['lift_left', '1', '0', '1', '1']
    assert lines[begin + 2] == ['transfer_cube', '1', '1', '0', '1']
    assert 'gym_aloha_success of unaligned, transfer_cube: 2/3' in shown
    assert 'Scenes 500 to 502 (randomised:1), the same for every row, shipped phrasings' in shown


def test_the_table_shows_the_median_duration_and_how_long_the_arms_stood_by_mode():
    slow = [replace(o, elapsed_s=10.0, standing_s=4.0) for o in OUTCOMES[3:5]]
    made = replace(comparison('lift_left', 'transfer_cube'), mode='overlap')
    shown = table.text(made, [*OUTCOMES[:3], *slow, OUTCOMES[5]])
    lines = [line.split('  ') for line in shown.splitlines()]
    cells = [[cell.strip() for cell in line if cell] for line in lines]
    head = ['overlap: median duration, standing', 'lift_left', 'transfer_cube', 'all']
    row = cells[cells.index(head) + 1]
    assert row == ['unaligned', '5.0 s, 20%', '10.0 s, 36%', '5.0 s, 30%']


@pytest.mark.parametrize('group', ['shipped', 'training', 'held_out'])
def test_instructions_come_from_the_group_asked_for_and_from_all_of_it(group):
    task = TASKS['lift_left']
    group_of_task = task.told(group)
    made = comparison('lift_left', phrasings=group, episodes=len(group_of_task))
    assert {job.instruction for job in jobs(made)} == set(group_of_task)


def test_the_shipped_phrasings_meet_the_same_scenes_as_before():
    told = [job.instruction for job in jobs(comparison('transfer_cube', episodes=4))]
    first = 'transfer the cube from the right hand to the left hand'
    assert told == [first, *TASKS['transfer_cube'].shipped.held_out[1:], first]


def test_a_task_that_the_shipped_models_cannot_be_told_is_refused_before_anything_runs():
    with pytest.raises(UserError, match='know no instruction for lift_bar'):
        compare(comparison('lift_bar'))
