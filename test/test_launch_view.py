"""view.launch.py fits real robots, and says what is missing instead of dying."""

from pathlib import Path
import tempfile

import pytest
from two_drivers import robot_of_two_drivers
import yaml

from eva_ros.robot.paths import config_dir
from eva_ros.ros import topics

ALL = ('rviz2', 'robot_state_publisher', 'tf2_ros', 'compressed_image_transport')
URDF = config_dir() / 'urdf' / 'aloha_sim.urdf'


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return what makes these packages the only ones that are installed."""

    def only(*packages):
        index = tmp_path / 'ros' / 'share' / 'ament_index' / 'resource_index' / 'packages'
        index.mkdir(parents=True)
        for package in packages:
            (index / package).touch()
        monkeypatch.setenv('AMENT_PREFIX_PATH', str(tmp_path / 'ros'))
        monkeypatch.setenv('ROS_DISTRO', 'jazzy')

    return only


def described(node):
    (path,) = node.parameters
    return yaml.safe_load(Path(path).read_text())['/**']['ros__parameters']


def publishers(nodes):
    return [node for node in nodes if node.executable == 'robot_state_publisher']


def frames(nodes):
    """Return (parent, child) of every frame that is published as another one's place."""
    found = [node for node in nodes if node.executable == 'static_transform_publisher']
    return {(node.arguments[1], node.arguments[3]) for node in found}


def rviz(nodes):
    (node,) = (node for node in nodes if node.executable == 'rviz2')
    return Path(node.arguments[node.arguments.index('-d') + 1])


def test_the_simulated_robot_is_shown_by_the_packages_own_file(launcher, install):
    install(*ALL)
    nodes = launcher.launch('view.launch.py')
    assert rviz(nodes) == config_dir() / 'eva.rviz'
    robot, ghost = publishers(nodes)
    assert robot.remappings == [('joint_states', 'joint_states')]
    assert described(robot) == {
        'robot_description': URDF.read_text(),
        'frame_prefix': '',
        'use_sim_time': False,
    }
    assert described(ghost)['frame_prefix'] == 'ghost/'
    assert frames(nodes) == {('world', 'ghost/world')}
    assert launcher.said == []


def test_where_a_robot_state_publisher_runs_no_second_one_starts(launcher, install):
    install(*ALL)
    nodes = launcher.launch('view.launch.py', robot_state_publisher='false')
    (ghost,) = publishers(nodes)
    assert ghost.name == 'ghost_state_publisher'
    assert not [node for node in nodes if node.package == 'eva_ros']


def test_arms_that_report_on_a_topic_each_are_merged(launcher, install, tmp_path):
    install(*ALL)
    nodes = launcher.launch('view.launch.py', robot=str(robot_of_two_drivers(tmp_path)))
    (merger,) = (node for node in nodes if node.package == 'eva_ros')
    assert merger.executable == topics.JOINT_STATE_MERGER
    robot, _ = publishers(nodes)
    assert robot.remappings == [('joint_states', 'joint_state_merger/joint_states')]
    assert frames(nodes) == {('base', 'ghost/base')}
    shown = yaml.safe_load(rviz(nodes).read_text())['Visualization Manager']
    assert shown['Global Options']['Fixed Frame'] == 'base'
    text = rviz(nodes).read_text()
    assert 'camera_top/color/image_raw/compressed' in text
    assert 'left_gripper_base' in text and 'left_fingertips' not in text


def test_frames_are_below_the_namespace(launcher, install):
    install(*ALL)
    nodes = launcher.launch('view.launch.py', namespace='a')
    assert [described(node)['frame_prefix'] for node in publishers(nodes)] == ['a/', 'a/ghost/']
    assert frames(nodes) == {('a/world', 'a/ghost/world')}
    assert {node.namespace for node in nodes} == {'a'}
    manager = yaml.safe_load(rviz(nodes).read_text())['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == 'a/world'
    prefixes = [item['TF Prefix'] for item in manager['Displays'] if 'TF Prefix' in item]
    assert prefixes == ['a', 'a/ghost']


def test_paths_stand_at_a_robot_whose_own_frames_have_no_prefix(launcher, install):
    install(*ALL)
    arguments = {'namespace': 'a', 'frame_prefix': '/', 'robot_state_publisher': 'false'}
    nodes = launcher.launch('view.launch.py', **arguments)
    assert frames(nodes) == {('world', 'a/world'), ('world', 'a/ghost/world')}


def test_without_rviz_the_links_are_published_all_the_same(launcher, install):
    install('robot_state_publisher', 'tf2_ros')
    nodes = launcher.launch('view.launch.py')
    assert len(publishers(nodes)) == 2
    assert launcher.said == [
        'rviz2 is not installed: no window opens (apt install ros-jazzy-rviz2).'
    ]


@pytest.mark.parametrize('own', [False, True])
def test_without_compressed_image_transport_rviz_shows_no_compressed_pictures(
    launcher,
    install,
    tmp_path,
    own,
):
    install('rviz2', 'robot_state_publisher', 'tf2_ros')
    path = tmp_path / 'mine.rviz'
    path.write_text((config_dir() / 'eva.rviz').read_text())
    nodes = launcher.launch('view.launch.py', rviz_config=str(path) if own else '')
    text = rviz(nodes).read_text()
    assert '/compressed' not in text
    assert 'trajectory_inspector/dream' in text
    assert launcher.said == [
        'compressed_image_transport is not installed: compressed pictures, on which rviz2 would '
        'abort, are left out (apt install ros-jazzy-compressed-image-transport).'
    ]


def test_without_robot_state_publisher_rviz_shows_the_rest(launcher, install):
    install('rviz2', 'compressed_image_transport')
    (node,) = launcher.launch('view.launch.py')
    assert node.executable == 'rviz2'
    assert launcher.said[0].startswith('robot_state_publisher is not installed: ')


def test_a_robot_without_a_urdf_is_said_to_have_none(launcher, install):
    install(*ALL)
    (node,) = launcher.launch('view.launch.py', robot='piper_dual')
    assert node.executable == 'rviz2'
    assert launcher.said == [
        'piper_dual names no URDF: neither its links nor the paths are shown.'
    ]


@pytest.mark.parametrize('file', ['sim', 'bringup', 'record', 'view'])
def test_a_launch_file_writes_nothing_into_the_folder_for_temporary_files(
    launcher,
    install,
    tmp_path,
    monkeypatch,
    file,
):
    install(*ALL)
    temporary = tmp_path / 'temporary'
    temporary.mkdir()
    monkeypatch.setattr(tempfile, 'tempdir', str(temporary))
    assert launcher.launch(f'{file}.launch.py')
    assert list(temporary.iterdir()) == []


def test_a_launch_file_warns_of_an_argument_that_overrides_the_file(launcher, tmp_path):
    path = tmp_path / 'mine.yaml'
    path.write_text('/**: {ros__parameters: {use_sim_time: false}}')
    launcher.launch('sim.launch.py', params_file=str(path))
    assert launcher.said == [
        'The argument use_sim_time:=true overrides use_sim_time: false of section '
        f"'/**' in {path}."
    ]
