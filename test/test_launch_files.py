"""What the launch files and `eva up` start, and what they are told, is whole and consistent."""

import importlib
from pathlib import Path
import re

import pytest
import yaml

from eva_ros.errors import UserError
from eva_ros.nodes.composed import node_class
from eva_ros.robot.spec import load_robot
from eva_ros.robot.urdf import root_link
from eva_ros.ros import topics
from eva_ros.ros.bringup import ALL_NODES
from eva_ros.ros.bringup import Argument
from eva_ros.ros.bringup import ARGUMENTS
from eva_ros.ros.bringup import MERGERS
from eva_ros.ros.bringup import NODES
from eva_ros.ros.bringup import parse
from eva_ros.ros.bringup import plan
from eva_ros.ros.bringup import RECORDERS
from eva_ros.ros.bringup import remarks
from eva_ros.ros.bringup import RESPAWN
from eva_ros.ros.bringup import respawning
from eva_ros.ros.bringup import STACK
from eva_ros.ros.lifecycle import COMMON_PARAMS
from eva_ros.ros.qos import LEASED

ROOT = Path(__file__).resolve().parents[1]
NODES_YAML = ROOT / 'config' / 'nodes.yaml'
# What robot_state_publisher and rviz share.
NOT_ON_THE_PAGE = ('robot_description', 'ghost_description', 'ghost/')


def class_of(node):
    if node in (*STACK, *RECORDERS, *MERGERS):
        return node_class(node)
    return importlib.import_module(f'eva_ros.nodes.{node}').SimRobotNode


def declared(node):
    return {param.name: param for param in (*COMMON_PARAMS, *class_of(node).PARAMS)}


def write(folder, sections):
    path = folder / 'nodes.yaml'
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return path


def argument(name) -> Argument:
    return next(argument for argument in ARGUMENTS if argument.name == name)


def test_every_key_of_the_parameter_file_is_a_parameter_of_its_node():
    sections = yaml.safe_load(NODES_YAML.read_text())
    everywhere = sections.pop('/**')['ros__parameters']
    for section, body in sections.items():
        known = declared(section.removeprefix('/**/'))
        for name, value in body['ros__parameters'].items():
            assert name in known, f'{section}: {name}'
            assert type(value) is type(known[name].default), f'{section}: {name}'
    for node in ALL_NODES:
        assert set(everywhere) <= set(declared(node))


def test_the_parameter_file_repeats_the_defaults():
    sections = yaml.safe_load(NODES_YAML.read_text())
    for section, body in sections.items():
        known = declared(topics.SIM_ROBOT if section == '/**' else section.removeprefix('/**/'))
        for name, value in body['ros__parameters'].items():
            assert value == known[name].default, f'{section}: {name}'


def test_every_argument_sets_a_declared_parameter_of_its_kind():
    for argument in ARGUMENTS:
        for node, name in argument.sets:
            if name == 'use_sim_time':
                continue
            assert type(declared(node)[name].default) is argument.kind, f'{node}: {name}'


def test_every_parameter_has_a_sentence_of_description():
    for node in ALL_NODES:
        for param in declared(node).values():
            assert param.description.endswith('.'), f'{node}: {param.name}'
            if type(param.default) in (int, float):
                assert None not in (param.low, param.high), f'{node}: {param.name} has no range'


FOREIGN = {
    'controller_manager': {'ros__parameters': {'update_rate': 100}},
    '/**/camera_left': {'ros__parameters': {'rgb': {'width': 640}}},
}


@pytest.mark.parametrize(
    'section',
    ['camera_ingest', '/camera_ingest', '/**', '/**/camera_ingest', '/a/camera_ingest', '/*'],
)
def test_a_parameter_file_may_name_nodes_as_ros_does_and_hold_those_of_others(tmp_path, section):
    path = write(tmp_path, {section: {'ros__parameters': {'view': 'x'}}, **FOREIGN})
    namespace = 'a' if section.startswith('/a/') else ''
    settings = {'params_file': str(path), 'namespace': namespace}
    assert plan(STACK, settings, tmp_path)
    assert remarks(STACK, settings) == []


def test_a_parameter_file_may_nest_namespaces(tmp_path):
    path = write(tmp_path, {'a': {'camera_ingest': {'ros__parameters': {'view': 'x'}}}, **FOREIGN})
    settings = {'params_file': str(path), 'namespace': 'a'}
    assert plan(STACK, settings, tmp_path)
    (said,) = remarks(STACK, {**settings, 'view': 'y'})
    assert said == (
        f"The argument view:=y overrides view: x of section '/a/camera_ingest' in {path}."
    )


@pytest.mark.parametrize(
    ('text', 'said'),
    [
        ('camera_ingest: {view: x}', "section '/camera_ingest/view' must hold ros__parameters"),
        ('camera_ingest:', "section '/camera_ingest' must hold ros__parameters"),
        ('ros__parameters: {view: x}', 'must stand in the section of a node'),
        ('camera_ingest: {ros__parameters: x}', 'must be a map'),
        ('a: {ros__parameters: &x {b: 1}}\nc: {ros__parameters: *x}', 'no YAML aliases'),
        ('- a', 'must hold a map'),
    ],
)
def test_what_ros_cannot_read_is_refused_before_a_node_starts(tmp_path, text, said):
    path = tmp_path / 'nodes.yaml'
    path.write_text(text)
    with pytest.raises(UserError, match=re.escape(said)) as error:
        plan(STACK, {'params_file': str(path)}, tmp_path)
    assert str(path) in str(error.value)


def test_a_section_that_looks_meant_for_a_node_and_is_not_read_is_said(tmp_path):
    sections = {name: {'ros__parameters': {'view': 'x'}} for name in ('camera_ingest', 'cam')}
    path = write(tmp_path, sections)
    (said,) = remarks(STACK, {'params_file': str(path), 'namespace': 'a'})
    assert said == (
        f"{path}: /a/camera_ingest does not read the section '/camera_ingest': name it "
        "'/**/camera_ingest'."
    )
    path = write(tmp_path, {'/**/camera_injest': {'ros__parameters': {'view': 'x'}}})
    (said,) = remarks(STACK, {'params_file': str(path)})
    assert said == (
        f"{path}: none of these nodes reads the section '/**/camera_injest'; did you mean "
        "'/**/camera_ingest'?"
    )


def test_an_argument_that_overrides_the_parameter_file_is_said_with_both(tmp_path):
    path = write(
        tmp_path,
        {
            '/**': {'ros__parameters': {'robot': 'my_robot'}},
            'arm_trajectory_publisher': {'ros__parameters': {'dry_run': False}},
            'camera_ingest': {'ros__parameters': {'view': 'x'}},
        },
    )
    settings = {'params_file': str(path), 'robot': 'piper_dual', 'dry_run': True, 'view': 'x'}
    assert remarks(STACK, settings) == [
        f"The argument robot:=piper_dual overrides robot: my_robot of section '/**' in {path}.",
        'The argument dry_run:=true (its default) overrides dry_run: false of section '
        f"'/arm_trajectory_publisher' in {path}.",
    ]


def test_arguments_are_not_said_to_override_the_file_of_the_package():
    assert remarks(STACK, {'robot': 'piper_dual', 'dry_run': False}) == []


def test_a_parameter_file_that_is_missing_or_no_yaml_is_refused(tmp_path):
    with pytest.raises(UserError, match='There is no parameter file'):
        plan(STACK, {'params_file': str(tmp_path / 'none.yaml')}, tmp_path)
    (tmp_path / 'bad.yaml').write_text('a: [')
    with pytest.raises(UserError, match='is not YAML'):
        plan(STACK, {'params_file': str(tmp_path / 'bad.yaml')}, tmp_path)


def test_a_parameter_file_of_comments_alone_gives_nothing(tmp_path):
    path = tmp_path / 'nodes.yaml'
    path.write_text('# /**: {ros__parameters: {robot: x}}\n')
    assert plan(STACK, {'params_file': str(path)}, tmp_path)


def test_settings_reach_their_nodes_and_only_them(tmp_path):
    plan(
        STACK, {'checkpoint': '/m', 'idm': '/i', 'dry_run': False, 'robot': 'piper_dual'}, tmp_path
    )
    sections = yaml.safe_load((tmp_path / 'overrides.yaml').read_text())
    values = {key.rpartition('/')[2]: body['ros__parameters'] for key, body in sections.items()}
    assert values['rollout_generator'] == {
        'checkpoint': '/m',
        'idm': '/i',
        'robot': 'piper_dual',
    }
    assert values['action_decoder'] == {'checkpoint': '/i', 'robot': 'piper_dual'}
    assert values['arm_trajectory_publisher'] == {'dry_run': False, 'robot': 'piper_dual'}
    assert values['camera_ingest'] == {'robot': 'piper_dual'}


def test_the_simulated_robot_has_a_process_of_its_own_also_when_composed(tmp_path):
    processes = plan(NODES, {'composed': True, 'namespace': '/a/'}, tmp_path)
    assert [process.nodes for process in processes] == [(topics.SIM_ROBOT,), STACK]
    for process in processes:
        assert process.command_line()[-2:] == ['-r', '__ns:=/a']
    assert len(plan(NODES, {}, tmp_path)) == len(NODES)


def test_arguments_are_read_as_their_kind_or_refused():
    assert parse(argument('dry_run'), 'False') is False
    assert parse(argument('seed'), '7') == 7
    assert parse(argument('robot'), '') is None
    with pytest.raises(UserError, match="dry_run is 'maybe' and must be true or false"):
        parse(argument('dry_run'), 'maybe')


def test_nodes_are_started_again_where_somebody_asks_for_it_and_by_launch_alone():
    assert RESPAWN.default is False and RESPAWN not in ARGUMENTS
    assert respawning({'respawn': parse(RESPAWN, 'true')})['respawn'] is True
    for settings in ({}, {'respawn': None}, {'respawn': False}):
        assert respawning(settings)['respawn'] is False
    lease_s = LEASED.liveliness_lease_duration.nanoseconds * 1e-9
    assert respawning({})['respawn_delay'] > lease_s


def test_dry_run_is_the_default_everywhere():
    assert argument('dry_run').default is True
    assert declared(topics.ARM_TRAJECTORY_PUBLISHER)['dry_run'].default is True


def rviz_values(tree):
    """Return every topic named in an rviz file."""
    if isinstance(tree, list):
        return [value for item in tree for value in rviz_values(item)]
    if not isinstance(tree, dict):
        return []
    own = [tree['Value']] if 'Durability Policy' in tree else []
    return own + [value for item in tree.values() for value in rviz_values(item)]


def test_every_topic_in_the_rviz_file_exists():
    shown = rviz_values(yaml.safe_load((ROOT / 'config' / 'eva.rviz').read_text()))
    known = {value for name, value in vars(topics).items() if name.isupper()}
    inspector = {topics.of(topics.TRAJECTORY_INSPECTOR, name) for name in known if '~/' in name}
    robot = load_robot('aloha_sim')
    cameras = {camera.topic for camera in robot.cameras.values()}
    assert len(shown) == 5
    assert set(shown) <= known | inspector | cameras


def test_the_rviz_file_shows_the_frames_that_there_are():
    tree = yaml.safe_load((ROOT / 'config' / 'eva.rviz').read_text())
    manager = tree['Visualization Manager']
    assert manager['Global Options']['Fixed Frame'] == root_link(load_robot('aloha_sim'))
    urdf = load_robot('aloha_sim').urdf.read_text()
    frames = next(d for d in manager['Displays'] if d['Class'].endswith('/TF'))['Frames']
    for name in set(frames) - {'All Enabled'}:
        assert f'<link name="{name}"' in urdf


def test_the_page_on_the_nodes_names_every_parameter_topic_and_argument():
    page = (ROOT / 'docs' / 'nodes.md').read_text()
    for node in ALL_NODES:
        section = page.partition(f'### {node}\n')[2].partition('\n### ')[0]
        for param in class_of(node).PARAMS:
            (row,) = [
                line for line in section.splitlines() if line.startswith(f'| `{param.name}`')
            ]
            assert row.endswith(f'| {param.description} |')
            default = str(param.default)
            assert f'`{default.lower() if default in ("True", "False") else default}`' in (
                row.replace("'", '')
            )
    for name in [value for key, value in vars(topics).items() if key.isupper()]:
        assert name.removeprefix('~/') in page or name in NOT_ON_THE_PAGE, name
    for argument in (*ARGUMENTS, RESPAWN):
        assert argument.name in page
