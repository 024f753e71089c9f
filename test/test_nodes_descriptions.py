"""What `ros2 param describe` says of every parameter of every node is true."""

from pathlib import Path

import pytest
from rcl_interfaces.msg import Parameter as ParameterMessage
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.srv import DescribeParameters
from rcl_interfaces.srv import GetParameters
from rcl_interfaces.srv import SetParameters
from ros_harness import Graph
from small_models import small_idm
from small_models import small_world_model
from test_launch_files import class_of
from test_launch_files import declared

from eva_ros.robot.spec import load_robot
from eva_ros.ros import topics
from eva_ros.ros.bringup import ALL_NODES


def values_of(node: str, folder: Path) -> dict:
    """Return the parameters with which a node comes up quickly in a test."""
    if node == topics.ROLLOUT_GENERATOR:
        return {'checkpoint': str(small_world_model(folder / 'world_model'))}
    if node == topics.ACTION_DECODER:
        return {'checkpoint': str(small_idm(folder / 'idm', load_robot('aloha_sim').home))}
    if node == topics.EPISODE_RECORDER:
        return {'folder': str(folder / 'bags')}
    return {}


@pytest.mark.slow
@pytest.mark.parametrize('node', ALL_NODES)
def test_a_parameter_is_described_as_read_only_where_a_change_is_refused(
    graph: Graph, node: str, tmp_path: Path
):
    thread = graph.start(class_of(node), **values_of(node, tmp_path))
    assert thread.refusal == ''
    names = [*declared(node), 'use_sim_time']
    described = graph.call(
        DescribeParameters,
        f'/{node}/describe_parameters',
        DescribeParameters.Request(names=names),
    ).descriptors
    values = graph.call(
        GetParameters, f'/{node}/get_parameters', GetParameters.Request(names=names)
    ).values
    for descriptor, value in zip(described, values):
        message = ParameterMessage(name=descriptor.name, value=value)
        request = SetParameters.Request(parameters=[message])
        (result,) = graph.call(SetParameters, f'/{node}/set_parameters', request).results
        assert result.successful != descriptor.read_only, f'{descriptor.name}: {result.reason}'
        assert descriptor.description.endswith('.'), descriptor.name
        assert descriptor.additional_constraints.endswith('.'), descriptor.name
        whole, real = ParameterType.PARAMETER_INTEGER, ParameterType.PARAMETER_DOUBLE
        assert len(descriptor.integer_range) == (value.type == whole), descriptor.name
        assert len(descriptor.floating_point_range) == (value.type == real), descriptor.name


def test_what_else_holds_of_a_value_is_among_the_constraints():
    publisher = declared(topics.ARM_TRAJECTORY_PUBLISHER)
    assert 'disarmed' in publisher['dry_run'].descriptor().additional_constraints
    assert "'common' or 'zero'" in publisher['stamp_mode'].descriptor().additional_constraints
    assert 'reach_left' in declared(topics.SIM_ROBOT)['task'].descriptor().additional_constraints
