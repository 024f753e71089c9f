"""Recordings are mirrored only where the robot YAML states the signs, and then truly."""

from types import SimpleNamespace

import numpy as np
import pytest
from robot_files import robot_content
from robot_files import write_robot

from eva_ros.cli import loading
from eva_ros.cli.main import main
from eva_ros.episodes.dataset import Episode
from eva_ros.episodes.dataset import mirrored_episodes
from eva_ros.errors import UserError
from eva_ros.observations.mirror import mirror_fault
from eva_ros.observations.views import load_view
from eva_ros.robot.spec import load_robot
from eva_ros.sim.world import AlohaWorld
from eva_ros.sim.world import CAMERAS

VIEW = load_view('aloha_sim')
SIGNS = (-1, 1, 1, -1, 1, -1)


def robot_with(tmp_path, **changes):
    content = robot_content()
    del content['mirror_signs']
    return load_robot(write_robot(tmp_path, {**content, **changes}))


def test_mirrored_joints_of_the_simulated_robot_are_what_the_mirrored_view_shows():
    robot, world = load_robot('aloha_sim'), AlohaWorld()

    def shown(joints, cube):
        world.reset(joints, cube, None)
        return VIEW.tile({camera: world.render(camera) for camera in CAMERAS}).astype(int)

    rng = np.random.default_rng(0)
    joints = np.tile([0, -1.2, 1.2, 0, 0.1, 0, 0.6], 2) + rng.uniform(-0.35, 0.35, 14)
    cube = np.array([0.06, 0.5, 0.02])
    there = shown(joints, cube)[:, ::-1]
    mirrored = shown(robot.mirrored(joints), cube * [-1, 1, 1])
    plain = shown(np.roll(joints, 7), cube * [-1, 1, 1])
    world.close()
    assert np.abs(mirrored - there).mean() < 2 < np.abs(plain - there).mean() / 2


def test_mirroring_twice_changes_nothing_and_grippers_keep_their_sign():
    robot = load_robot('aloha_sim')
    joints = np.random.default_rng(0).normal(size=(3, 14))
    once = robot.mirrored(joints)
    np.testing.assert_array_equal(once[:, [6, 13]], joints[:, [13, 6]])
    np.testing.assert_array_equal(once[:, 7], -joints[:, 0])
    np.testing.assert_array_equal(robot.mirrored(once), joints)


@pytest.mark.parametrize(
    ('signs', 'said'),
    [
        ([1, 1], 'must hold 6 signs'),
        ([1, 1, 1, 1, 1, 2], 'mirror_signs'),
        ([0] * 6, 'mirror_signs'),
    ],
)
def test_signs_that_cannot_be_are_refused(tmp_path, signs, said):
    with pytest.raises(UserError, match=said):
        robot_with(tmp_path, mirror_signs=signs)


def test_one_arm_has_no_mirror(tmp_path):
    content = robot_content('so101')
    with pytest.raises(UserError, match='two arms with the same number of joints'):
        load_robot(write_robot(tmp_path, {**content, 'mirror_signs': [1] * 5}))


def test_neither_a_robot_without_signs_nor_a_lopsided_view_is_mirrored(tmp_path):
    assert mirror_fault(load_robot('aloha_sim'), VIEW) == ''
    assert 'states no mirror_signs' in mirror_fault(robot_with(tmp_path), VIEW)
    top, left, right = VIEW.cameras
    for cameras in ([top, left], [top, left.model_copy(update={'name': 'front'}), right]):
        lopsided = VIEW.model_copy(update={'cameras': tuple(cameras)})
        assert 'has no mirror image' in mirror_fault(load_robot('aloha_sim'), lopsided)


class Seen(Exception):
    """Ends a command where its settings are known."""


@pytest.fixture
def chosen(monkeypatch):
    """Return a function that runs a training up to its settings, and returns them."""

    def run(robot, *command):
        found = robot, VIEW, [SimpleNamespace(task='a', success=None)] * 2
        monkeypatch.setattr(loading, 'recordings', lambda args, **_: found)
        caught = {}

        def stop(*given, **named):
            caught['given'] = [*given, *named.values()]
            raise Seen

        for place in (
            'eva_ros.world_model.training_run.check',
            'eva_ros.world_model.fine_tuning.check',
            'eva_ros.alignment.critic_training.train_critic',
        ):
            monkeypatch.setattr(place, stop)
        monkeypatch.setattr('eva_ros.episodes.dataset.split_episodes', lambda e, *_: (e, []))
        with pytest.raises(Seen):
            main([*command, '--bags', '.'])
        return next(x for x in caught['given'] if hasattr(x, 'mirror'))

    return run


@pytest.mark.parametrize(
    'command',
    [
        ('world-model', 'train', '--out', 'out'),
        ('world-model', 'train', '--out', 'out', '--from', 'base', '--lora', '4'),
        ('align', 'critic', '--out', 'out'),
    ],
    ids=' '.join,
)
def test_no_training_mirrors_without_signs(tmp_path, monkeypatch, chosen, command):
    monkeypatch.chdir(tmp_path)
    base = SimpleNamespace(family='wan2.2-ti2v')
    monkeypatch.setattr('eva_ros.world_model.folder.read_folder', lambda path: base)
    assert not chosen(robot_with(tmp_path), *command).mirror
    assert chosen(robot_with(tmp_path, mirror_signs=list(SIGNS)), *command).mirror


def test_the_idm_learns_from_mirrored_recordings_on_request_and_only_with_signs(tmp_path):
    rng = np.random.default_rng(0)
    frames = rng.integers(0, 255, (4, *VIEW.shape), dtype=np.uint8)
    joints = rng.normal(size=(4, 14))
    stamps = np.arange(4)
    recorded = Episode(
        frames, stamps, joints, 'lift with the left arm', 'lift', False, 'bag', 0, stamps,
        stamps[:, None], joints, rng.uniform(size=(4, 2)),
    )  # fmt: skip
    (mirrored,) = mirrored_episodes([recorded], load_robot('aloha_sim'), VIEW)
    np.testing.assert_array_equal(mirrored.frames, frames[:, :, ::-1])
    np.testing.assert_array_equal(mirrored.joints[:, :7], joints[:, 7:] * [*SIGNS, 1])
    np.testing.assert_array_equal(mirrored.speed, recorded.speed[:, ::-1])
    with pytest.raises(UserError, match='Recordings cannot be mirrored'):
        mirrored_episodes([recorded], robot_with(tmp_path), VIEW)
