"""Replay ceiling: what the arms do that follow only what the IDM reads from recorded video."""

from itertools import pairwise
import json
import shutil

import numpy as np
import pytest
from small_models import small_idm

from eva_ros.cli.main import main
from eva_ros.cli.sim_recording import episode_rng
from eva_ros.cli.sim_recording import Job
from eva_ros.cli.sim_recording import record
from eva_ros.cli.sim_recording import recorded_scene
from eva_ros.errors import UserError
from eva_ros.evaluation.replay import chunks
from eva_ros.resources import resource
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.experts import plan_episode
from eva_ros.sim.scenes import parse_scenes
from eva_ros.sim.tasks import find_task

SETTINGS = ExpertSettings(pause_chance=0.0, astray_chance=1.0, phrasings='training')
SCENES = parse_scenes('randomised:0.5')


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    path = tmp_path_factory.mktemp('bags') / 'reach'
    plain = ExpertSettings(pause_chance=0.0)
    success, _ = record(Job('reach_left', 3, 0, path, '0', plain))
    assert success
    return path


def evaluated(capsys, bag, checkpoint):
    code = main(
        ['idm', 'evaluate', '--checkpoint', str(checkpoint), '--bags', str(bag), '--all',
         '--cache', str(bag.parent / 'cache'), '--replay', '--workers', '1', '--json']
    )  # fmt: skip
    assert code == 0
    return json.loads(capsys.readouterr().out)


def test_arms_that_follow_the_video_of_a_reach_do_it(capsys, bag):
    figures = evaluated(capsys, bag, resource('models', 'idm'))
    replay = figures['replay']
    assert (replay['episodes'], replay['successes']) == (1, 1)
    low, high = replay['interval']
    assert 0 < low < high == pytest.approx(1)
    assert 0 < figures['smoothed_reading_noise']['mean'] < figures['reading_noise']['mean']
    assert figures['calibration']['recordings']['clips'] == 3


def test_arms_that_follow_a_blind_reading_fail_and_recorded_joints_show_that_it_was_the_reading(
    capsys, bag, tmp_path
):
    figures = evaluated(capsys, bag, small_idm(tmp_path / 'blind', np.zeros(14)))
    assert (figures['replay']['episodes'], figures['replay']['successes']) == (1, 0)
    assert figures['replay']['recorded_joints']['successes'] == 1


def test_the_scene_is_the_recorded_one(tmp_path):
    path = tmp_path / 'bag'
    record(Job('lift_left', 4, 2, path, '0', SETTINGS, SCENES))
    rng = episode_rng('lift_left', 4, 2)
    expected = plan_episode(find_task('lift_left'), rng, SETTINGS, SCENES).scene
    found = recorded_scene(path)
    np.testing.assert_array_equal(found.joints, expected.joints)
    np.testing.assert_array_equal(found.target, expected.target)
    assert repr(found.look) == repr(expected.look)


@pytest.mark.parametrize(
    ('facts', 'by'),
    [
        ('eva.settings', 'eva.nothing'),
        ('ExpertSettings(', '__import__("os").system('),
        ('eva.task: reach_left', 'eva.task: 3'),
    ],
)
def test_a_bag_that_does_not_say_its_scene_is_refused_in_a_sentence(tmp_path, bag, facts, by):
    copy = shutil.copytree(bag, tmp_path / 'copy')
    path = copy / 'metadata.yaml'
    assert facts in path.read_text()
    path.write_text(path.read_text().replace(facts, by))
    with pytest.raises(UserError, match=r'copy|There is no task'):
        recorded_scene(copy)


def test_a_bag_of_another_scene_is_refused(capsys, bag, tmp_path):
    copy = shutil.copytree(bag, tmp_path / 'copy')
    path = copy / 'metadata.yaml'
    path.write_text(path.read_text().replace("eva.seed: '3'", "eva.seed: '4'"))
    code = main(
        ['idm', 'evaluate', '--checkpoint', str(resource('models', 'idm')), '--bags', str(copy),
         '--all', '--cache', str(tmp_path / 'cache'), '--replay']
    )  # fmt: skip
    assert code == 2
    assert 'away from the scene that its metadata describe' in capsys.readouterr().err


@pytest.mark.parametrize(('count', 'length'), [(1, 17), (17, 17), (18, 17), (50, 17), (5, 2)])
def test_chunks_cover_a_video_and_each_starts_where_the_previous_one_ends(count, length):
    found = chunks(count, length)
    assert all(len(chunk) == length for chunk in found)
    assert found[0][0] == 0 and found[-1][-1] == count - 1
    assert all(a[-1] == b[0] for a, b in pairwise(found))
    assert set(np.concatenate(found)) == set(range(count))
