"""Parameter files reach a node as rcl reads them, and launch arguments win over every section."""

import subprocess
import sys

from hypothesis import given
from hypothesis import HealthCheck
from hypothesis import settings
from hypothesis import strategies as st
import pytest
import rclpy
from rclpy.context import Context
from rclpy.node import Node
from ros_harness import TIMEOUT_S
import yaml

from eva_ros.ros import topics
from eva_ros.ros.bringup import plan
from eva_ros.ros.parameter_files import given as given_to
from eva_ros.ros.parameter_files import read_parameter_file

NODE = topics.CAMERA_INGEST
PATTERNS = (
    NODE,
    f'/{NODE}',
    f'/a/{NODE}',
    f'a/{NODE}',
    f'/**/{NODE}',
    f'/*/{NODE}',
    f'/a/b/{NODE}',
    '/**',
    '/a/**',
    '/*',
    '/other_node',
    f'/**/{NODE}_2',
)


def as_rcl_reads(arguments, namespace):
    """Return what a node is given by these ROS arguments."""
    context = Context()
    rclpy.init(args=['--ros-args', *arguments], context=context)
    try:
        node = Node(
            NODE,
            context=context,
            namespace=namespace,
            start_parameter_services=False,
            enable_rosout=False,
        )
        values = {name: value.value for name, value in node._parameter_overrides.items()}
        node.destroy_node()
    finally:
        rclpy.try_shutdown(context=context)
    return values


def write(path, patterns):
    sections = {
        pattern: {'ros__parameters': {'view': f'v{number}'}}
        for number, pattern in enumerate(patterns)
    }
    path.write_text(yaml.safe_dump(sections, sort_keys=False))
    return path


several = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
layouts = st.lists(st.sampled_from(PATTERNS), min_size=1, max_size=6, unique=True)
namespaces = st.sampled_from(['', 'a', 'a/b'])


@several
@given(patterns=layouts, namespace=namespaces)
def test_a_file_gives_a_node_what_rcl_gives_it(tmp_path, patterns, namespace):
    path = write(tmp_path / 'nodes.yaml', patterns)
    full_name = f'/{namespace}/{NODE}' if namespace else f'/{NODE}'
    found = given_to(read_parameter_file(path), full_name, 'view')
    expected = as_rcl_reads(['--params-file', str(path)], namespace).get('view')
    assert (found and found[1]) == expected


@several
@given(patterns=layouts, namespace=namespaces)
def test_an_argument_wins_over_every_section_of_the_file(tmp_path, patterns, namespace):
    path = write(tmp_path / 'nodes.yaml', patterns)
    arguments = {'params_file': str(path), 'namespace': namespace, 'view': 'aloha_sim'}
    (process,) = plan([NODE], arguments, tmp_path)
    assert as_rcl_reads(process.arguments[1:], namespace)['view'] == 'aloha_sim'


def inspector(tmp_path, sections):
    """Start the trajectory inspector with a parameter file; it is not ready yet."""
    path = tmp_path / 'nodes.yaml'
    path.write_text(sections if isinstance(sections, str) else yaml.safe_dump(sections))
    command = [sys.executable, '-m', 'eva_ros.nodes', 'trajectory_inspector']
    return subprocess.Popen(
        [*command, '--ros-args', '--params-file', str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_node_comes_up_with_a_file_that_holds_sections_and_parameters_of_others(tmp_path):
    sections = {
        '/**': {'ros__parameters': {'publish_frequency': 50.0, 'playback_speed': 2.0}},
        'controller_manager': {'ros__parameters': {'update_rate': 100}},
        topics.TRAJECTORY_INSPECTOR: {'ros__parameters': {'pause_s': 1.0}},
    }
    with inspector(tmp_path, sections) as process:
        assert process.stdout.readline().strip() == f'ready: {topics.TRAJECTORY_INSPECTOR}'
        process.terminate()
        _, said = process.communicate(timeout=TIMEOUT_S)
        assert "'publish_frequency' is for every node, and no parameter of this one." in said


@pytest.mark.parametrize(
    ('section', 'name', 'said'),
    [
        (topics.TRAJECTORY_INSPECTOR, 'publish_frequency', "no parameter 'publish_frequency'; it"),
        ('/**', 'playback_sped', "no parameter 'playback_sped'; did you mean 'playback_speed'?"),
    ],
)
def test_a_nodes_own_unknown_parameter_and_a_misspelled_one_are_refused(
    tmp_path, section, name, said
):
    with inspector(tmp_path, {section: {'ros__parameters': {name: 1.0}}}) as process:
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 2
        assert said in errors.splitlines()[-1]


@pytest.mark.parametrize('text', ['/**: {ros__parameters: {view: *x}}', 'a: {view: 1}', 'a: ['])
def test_a_file_that_rcl_refuses_ends_the_process_with_2_and_one_sentence(tmp_path, text):
    with inspector(tmp_path, text) as process:
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 2
        assert errors.splitlines()[-1].startswith('ROS refuses the command line: ')
        assert str(tmp_path / 'nodes.yaml') in errors.splitlines()[-1]
        assert 'Traceback' not in errors
