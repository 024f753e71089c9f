"""`eva sim`: bags that hold what the robot published, the same on every machine, and figures."""

from collections import defaultdict
from dataclasses import replace
import json

import numpy as np
import pytest
from rosbags.rosbag2 import Reader

from eva_ros.cli.main import main
from eva_ros.cli.sim_recording import is_recorded
from eva_ros.cli.sim_recording import Job
from eva_ros.cli.sim_recording import record
from eva_ros.errors import UserError
from eva_ros.recordings.bag_writer import EpisodeBagWriter
from eva_ros.recordings.typestore import typestore
from eva_ros.robot.spec import load_robot
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.tasks import TASKS
from eva_ros.sim.world import CAMERAS

QUICK = ExpertSettings(pause_chance=0.0, hold_s=1.5)


def job(folder, index):
    return Job('reach_right', 5, index, folder / f'episode-{index}', '0.0.0', QUICK)


def read(path):
    """Return stamps and messages of every topic of a bag."""
    store = typestore()
    found = defaultdict(list)
    with Reader(path) as bag:
        for connection, stamp_ns, raw in bag.messages():
            message = store.deserialize_cdr(raw, connection.msgtype)
            found[connection.topic].append((stamp_ns, message, bytes(raw)))
    return found


@pytest.fixture(scope='module')
def bags(tmp_path_factory):
    """Record episode 1 after episode 0, and episode 1 alone."""
    after, alone = tmp_path_factory.mktemp('after'), tmp_path_factory.mktemp('alone')
    results = [record(job(after, 0)), record(job(after, 1)), record(job(alone, 1))]
    return after / 'episode-1', alone / 'episode-1', results[1]


def test_a_bag_holds_every_camera_the_joints_and_both_commands(bags):
    path, _, (success, seconds) = bags
    topics = read(path)
    assert success
    for camera in CAMERAS:
        images = topics[f'/{camera}/image_raw/compressed']
        assert len(images) == pytest.approx(20 * seconds, abs=1)
        assert all(message.format == 'jpeg' for _, message, _ in images)
        assert all(bytes(message.data[:2]) == b'\xff\xd8' for _, message, _ in images)
    assert len(topics['/joint_states']) == pytest.approx(100 * seconds, abs=1)
    robot = load_robot('aloha_sim')
    for arm in robot.arms.values():
        _, sent, _ = topics['/' + arm.controller.topic][0]
        assert tuple(sent.joint_names) == arm.controller.joints
        assert not sent.points[-1].velocities.any()


def test_stamps_are_the_messages_own_and_begin_at_one_second(bags):
    topics = read(bags[0])
    for topic in ('/joint_states', '/top/image_raw/compressed', '/episode'):
        for stamp_ns, message, _ in topics[topic]:
            stamp = message.header.stamp
            assert stamp.sec * 10**9 + stamp.nanosec == stamp_ns
    assert topics['/episode'][0][0] == 10**9
    assert topics['/joint_states'][0][0] == 10**9 + 10**7


def test_markers_say_what_was_asked_and_whether_it_was_done(bags):
    (_, start, _), (_, end, _) = read(bags[0])['/episode']
    assert (start.phase, end.phase) == (start.START, end.END)
    assert (start.success, end.success) == (start.UNKNOWN, start.SUCCESS)
    for marker in (start, end):
        assert (marker.task, marker.robot, marker.index) == ('reach_right', 'aloha_sim', 1)
        assert marker.instruction in TASKS['reach_right'].shipped.training
    assert start.instruction == end.instruction


def test_the_arm_follows_the_commands_that_were_recorded(bags):
    topics = read(bags[0])
    _, command, _ = topics['/right_arm_controller/joint_trajectory'][0]
    _, state, _ = topics['/joint_states'][-1]
    measured = dict(zip(state.name, state.position))
    target = dict(zip(command.joint_names, command.points[-1].positions))
    for name, position in target.items():
        tolerance = 0.003 if name.endswith('finger') else 0.03
        assert measured[name] == pytest.approx(position, abs=tolerance)


def test_an_episode_is_the_same_whatever_was_recorded_before_it(bags):
    after, alone = read(bags[0]), read(bags[1])
    assert after.keys() == alone.keys()
    for topic, messages in after.items():
        assert [(m[0], m[2]) for m in messages] == [(m[0], m[2]) for m in alone[topic]]


def test_the_bag_says_how_it_came_to_be(bags):
    about = (bags[0] / 'metadata.yaml').read_text()
    for text in ('eva.robot: aloha_sim', 'eva.task: reach_right', "eva.seed: '5'"):
        assert text in about


def test_a_recording_goes_on_where_it_stopped(tmp_path, capsys):
    arguments = ['sim', 'record', '--task', 'reach_left', '--seed', '3', '--pauses', '0']
    arguments += ['--out', str(tmp_path), '--workers', '1', '--episodes']
    assert main([*arguments, '1']) == 0
    (first,) = tmp_path.iterdir()
    before = first.stat().st_mtime_ns
    # what a killed recorder leaves behind
    (tmp_path / 'reach_left-3-00001.part').mkdir()
    capsys.readouterr()
    assert main([*arguments, '2']) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith('1 of 2 already exist')
    assert captured.out == ''
    assert first.stat().st_mtime_ns == before
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        'reach_left-3-00000', 'reach_left-3-00001',
    ]  # fmt: skip
    assert len(read(tmp_path / 'reach_left-3-00001')['/episode']) == 2
    assert main([*arguments, '2', '--astray', '0.1']) == 2
    assert 'reach_left-3-00000 was recorded with other settings' in capsys.readouterr().err


def test_cameras_at_the_views_rate_record_the_same_episode_in_half_of_the_images(
    bags, tmp_path, load
):
    slow = replace(job(tmp_path, 1), camera_hz=10)
    assert record(slow) == bags[2]
    whole, half = read(bags[0]), read(slow.path)
    for camera in CAMERAS:
        topic = f'/{camera}/image_raw/compressed'
        kept = {stamp_ns: raw for stamp_ns, _, raw in whole[topic] if stamp_ns % 10**8 == 0}
        assert {stamp_ns: raw for stamp_ns, _, raw in half[topic]} == kept
    (fast_episode,), _ = load(bags[0])
    (episode,), _ = load(slow.path)
    assert len(episode) == pytest.approx(len(fast_episode), abs=1)
    assert is_recorded(slow)
    with pytest.raises(UserError, match='--camera-rate'):
        is_recorded(replace(slow, camera_hz=20))


def test_a_bag_takes_its_place_only_when_it_is_complete(tmp_path):
    writer = EpisodeBagWriter(tmp_path / 'bag', 'aloha_sim', {})
    writer.write_episode(10**9, start=True, task='', instruction='')
    assert not (tmp_path / 'bag').exists()
    writer.abort()
    assert list(tmp_path.iterdir()) == []


def test_expert_figures_are_one_json_object(capsys):
    arguments = ['sim', 'evaluate-expert', '--tasks', 'reach_left', 'reach_right']
    assert main([*arguments, '--episodes', '2', '--workers', '1', '--json']) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found['robot'], found['seed']) == ('aloha_sim', 0)
    for row in found['tasks'].values():
        assert (row['episodes'], row['successes']) == (2, 2)
        np.testing.assert_allclose(row['interval'], [0.342, 1.0], atol=0.001)


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (['--task', 'juggle', '--episodes', '1'], "no task 'juggle'"),
        (['--task', 'reach_left', '--episodes', '0'], '--episodes'),
        (['--task', 'reach_left', '--episodes', '1', '--workers', '0'], '--workers'),
        (['--task', 'reach_left', '--episodes', '1', '--astray', '1.5'], '--astray'),
        (['--task', 'reach_left', '--episodes', '1', '--seed', '-1'], '--seed'),
    ],
)
def test_wrong_use_ends_in_one_sentence(wrong, words, tmp_path, capsys):
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(['sim', 'record', '--out', str(tmp_path / 'bags'), *wrong]))
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert not (tmp_path / 'bags').exists()
