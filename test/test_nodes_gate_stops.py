"""Stops that do not reach an arm, and an e-stop that outlives what happens to the node."""

from gate_bench import Bench
from gate_bench import ROBOT
import numpy as np
import pytest
from ros_harness import Graph
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
import yaml

from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.nodes.arm_trajectory_publisher import ArmTrajectoryPublisher
from eva_ros.robot.paths import config_dir
from eva_ros.ros import qos
from eva_ros.ros import topics

WAISTS = (0, 7)


@pytest.fixture
def make(graph: Graph, tmp_path):
    """Return a maker of benches whose chunks may be long."""

    def made(estop_heartbeat_s=0.0, **parameters) -> Bench:
        settings = yaml.safe_load((config_dir() / 'gate.yaml').read_text())
        settings['robots'] = {}
        settings['gate'].update(
            {'velocity_scaling_factor': 1.0, 'acceleration_scaling_factor': 1.0, 'approve': False,
             'max_joint_state_age_s': 1.0, 'collision_margin': 0.005, 'execute_steps': 48,
             'estop_heartbeat_s': estop_heartbeat_s}
        )  # fmt: skip
        path = tmp_path / 'gate.yaml'
        path.write_text(yaml.safe_dump(settings))
        return Bench(graph, gate=str(path), **parameters)

    return made


def send(bench):
    positions = np.tile(ROBOT.home, (49, 1))
    for joint in WAISTS:
        positions[:, joint] += np.linspace(0.0, 0.9, 49)
    chunk = bench.chunk(positions=positions.ravel().tolist(), horizon=49)
    assert bench.send(chunk).sent
    bench.graph.wait_for(lambda: min(values[0] for values in bench.values) > 0.06)


@pytest.mark.parametrize(
    ('service', 'state', 'reason'),
    [
        (topics.DISARM, SafetyState.DISARMED, ChunkReport.ARM_NOT_FOLLOWING),
        (topics.TRIGGER_ESTOP, SafetyState.ESTOP, ChunkReport.ESTOP),
        (topics.HOLD, SafetyState.DISARMED, ChunkReport.ARM_NOT_FOLLOWING),
    ],
    ids=['disarmed', 'e-stop', 'hold'],
)
@pytest.mark.parametrize('arm', ['left', 'right'])
def test_a_stop_that_does_not_reach_one_arm_is_sent_again(make, service, state, reason, arm):
    bench = make()
    bench.arm()
    send(bench)
    bench.deaf.add(arm)
    assert bench.ask(service).success
    bench.graph.wait_for(lambda: bench.taken[arm] == 2)
    bench.deaf.clear()
    bench.sent(3)
    said = bench.graph.wait_for(
        lambda: next((s for s in bench.safety[::-1] if f'The {arm} arm goes on' in s.detail), None)
    )
    assert (said.state, said.reason) == (state, reason)
    bench.graph.wait_for(
        lambda: not any(c.is_moving(bench.now_ns()) for c in bench.controllers.values())
    )
    assert bench.rejections == []
    ends = [values[0] for values in bench.values]
    # It ends a little beyond the other arm, and far before what it was sent first.
    assert max(ends) < 0.5 and abs(ends[0] - ends[1]) > 0.05


def test_two_estop_publishers_are_not_armed_with_and_release_nothing(make):
    bench = make()
    first = bench.graph.publisher(Bool, topics.ESTOP, qos.REPORT)
    second = bench.graph.publisher(Bool, topics.ESTOP, qos.REPORT)
    bench.graph.wait_for(lambda: bench.node.count_publishers(topics.ESTOP) == 2)
    answer = bench.graph.wait_for(lambda: a if (a := bench.ask(topics.ARM)) else None)
    assert not answer.success and 'Let one node publish' in answer.message
    first.publish(Bool(data=True))
    bench.wait_for_state(SafetyState.ESTOP)
    heard = bench.graph.collect(Bool, topics.ESTOP, qos.REPORT)
    second.publish(Bool(data=False))
    bench.graph.wait_for(lambda: heard)
    assert 'release it first' in bench.ask(topics.RESET_ESTOP).message
    bench.graph.probe.destroy_publisher(second)
    bench.graph.wait_for(lambda: bench.node.count_publishers(topics.ESTOP) == 1)
    first.publish(Bool(data=False))
    bench.graph.wait_for(lambda: bench.ask(topics.RESET_ESTOP).success)


def test_estop_publishers_are_counted_by_the_name_that_it_was_remapped_to(graph):
    remapped = {'cli_args': ['--ros-args', '-r', 'estop:=red_button']}
    node = graph.start_with(ArmTrajectoryPublisher, remapped).node
    buttons = [graph.publisher(Bool, 'red_button', qos.REPORT) for _ in range(2)]
    graph.wait_for(lambda: node.count_publishers('red_button') == 2)
    name = topics.of(topics.ARM_TRAJECTORY_PUBLISHER, topics.ARM)
    assert 'Let one node publish' in graph.call(Trigger, name).message
    heard = graph.collect(Bool, 'red_button', qos.REPORT)
    buttons[0].publish(Bool(data=True))
    graph.wait_for(lambda: node.estop.is_pressed)
    buttons[1].publish(Bool(data=False))
    graph.wait_for(lambda: len(heard) == 2)
    assert node.estop.is_pressed


def test_what_is_pressed_while_the_node_is_inactive_is_latched(make):
    bench = make()
    estop = bench.graph.publisher(Bool, topics.ESTOP, qos.REPORT)
    bench.node.trigger_deactivate()
    for pressed in (True, False):
        estop.publish(Bool(data=pressed))
        bench.graph.wait_for(lambda pressed=pressed: bench.node.estop.is_pressed == pressed)
    bench.node.trigger_activate()
    state = bench.wait_for_state(SafetyState.ESTOP)
    assert 'inactive' in state.detail
    bench.graph.wait_for(lambda: bench.ask(topics.RESET_ESTOP).success)
    # What was known before is not told again.
    bench.node.trigger_deactivate()
    bench.node.trigger_activate()
    assert bench.safety[-1].state == SafetyState.DISARMED


def test_an_estop_stays_latched_when_the_node_is_configured_anew(make):
    bench = make()
    assert bench.ask(topics.TRIGGER_ESTOP).success
    node = bench.node
    for step in (node.trigger_deactivate, node.trigger_cleanup, node.trigger_configure,
                 node.trigger_activate):  # fmt: skip
        step()
    assert node.supervisor.machine.state.value == 'ESTOP'
    bench.graph.wait_for(lambda: 'reset it first' in bench.ask(topics.ARM).message)
    bench.graph.wait_for(lambda: bench.ask(topics.RESET_ESTOP).success)
    for step in (node.trigger_deactivate, node.trigger_cleanup, node.trigger_configure,
                 node.trigger_activate):  # fmt: skip
        step()
    assert node.supervisor.machine.state.value == 'DISARMED'


def test_arms_far_outside_their_limits_are_not_moved_by_disarming(make):
    bench = make()
    bench.slip[1] = -1.0
    bench.graph.wait_for(lambda: (seen := bench.node.joints.of('left')) and seen[0][1] < -1.85)
    bench.arm()
    answer = bench.ask(topics.DISARM)
    assert answer.success and 'outside their limits' in answer.message
    assert bench.nothing_was_sent()


def test_what_is_pressed_before_the_node_is_configured_anew_is_latched(make):
    bench = make()
    node = bench.node
    estop = bench.graph.publisher(Bool, topics.ESTOP, qos.REPORT)
    node.trigger_deactivate()
    estop.publish(Bool(data=True))
    bench.graph.wait_for(lambda: node.estop.is_pressed)
    for step in (node.trigger_cleanup, node.trigger_configure, node.trigger_activate):
        step()
    assert node.supervisor.machine.state.value == 'ESTOP'


def test_a_second_estop_publisher_disarms_where_the_first_must_be_heard(make):
    bench = make(estop_heartbeat_s=5.0)
    first = bench.graph.publisher(Bool, topics.ESTOP, qos.REPORT)
    beat = bench.graph.probe.create_timer(0.1, lambda: first.publish(Bool(data=False)))
    bench.arm()
    bench.graph.publisher(Bool, topics.ESTOP, qos.REPORT)
    state = bench.graph.wait_for(
        lambda: bench.safety[-1].state == SafetyState.DISARMED and bench.safety[-1]
    )
    assert 'Let one node publish' in state.detail
    bench.graph.probe.destroy_timer(beat)
