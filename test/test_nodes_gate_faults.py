"""What can go wrong, row by row of the fault table in docs/safety.md, against the real node."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from itertools import product
import os
import re
import signal
import subprocess
import sys
import time

from gate_bench import Bench
from gate_bench import ROBOT
from gate_bench import SimulatedClock
import numpy as np
import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.serialization import serialize_message
from robot_files import robot_content
from robot_files import write_robot
from ros_harness import Graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Bool
from trajectory_msgs.msg import JointTrajectory
import yaml

from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Executability
from eva_msgs.msg import SafetyState
from eva_ros.robot.paths import config_dir
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_time

WAISTS = (0, 7)


@dataclass(frozen=True)
class Row:
    """A fault.

    Attributes:
        name: as in the table.
        reason: constant of ChunkReport that is said.
        inject: makes it happen.
        gate: what differs in the gate's settings.
    """

    name: str
    reason: str
    inject: Callable[[Bench], object]
    gate: dict | None = None


@pytest.fixture
def make(graph: Graph, tmp_path):
    """Return a maker of benches whose files are copies that a test may change."""

    def made(gate=None, robot=None, **parameters) -> Bench:
        settings = yaml.safe_load((config_dir() / 'gate.yaml').read_text())
        settings['robots'] = {}
        settings['gate'].update(
            {'velocity_scaling_factor': 1.0, 'acceleration_scaling_factor': 1.0,
             'approve': False, 'max_joint_state_age_s': 1.0,
             'collision_margin': 0.005, **(gate or {})}
        )  # fmt: skip
        path = tmp_path / 'gate.yaml'
        path.write_text(yaml.safe_dump(settings))
        content = robot_content()
        urdf = tmp_path / 'robot.urdf'
        urdf.write_bytes(ROBOT.urdf.read_bytes())
        content['urdf'] = str(urdf)
        content.update(robot or {})
        robot_path = write_robot(tmp_path, content)
        bench = Bench(graph, load_robot(robot_path), gate=str(path), **parameters)
        bench.files = (path, robot_path, urdf)
        return bench

    return made


# --- the arms cannot be armed: nothing is ever sent ----------------------------------------------


def unmeasured(bench):
    bench.measuring = False


def nameless(bench):
    bench.keep = lambda name: False


def half(bench):
    bench.keep = lambda name: not name.startswith('right')


def not_a_number(bench):
    bench.slip[3] = np.nan


def press(bench):
    bench.graph.publisher(Bool, topics.ESTOP, qos.REPORT).publish(Bool(data=True))
    bench.wait_for_state(SafetyState.ESTOP)


def second_publisher(bench):
    topic = ROBOT.arms['right'].controller.topic
    bench.graph.publisher(JointTrajectory, topic, listeners=0)
    bench.graph.wait_for(lambda: bench.node.count_publishers(topic) > 1)


def change_limits(bench):
    path = bench.files[1]
    path.write_text(path.read_text().replace('max_velocity: 3.14159', 'max_velocity: 30.0'))


def change_gate(bench):
    path = bench.files[0]
    path.write_text(path.read_text().replace('max_start_blend: 0.1', 'max_start_blend: 3.0'))


def change_urdf(bench):
    path = bench.files[2]
    path.write_text(path.read_text() + '<!-- other links -->\n')


def other_clock(seconds):
    def shift(bench):
        bench.now_ns = lambda: time.time_ns() + round(seconds * 1e9)
        bench.graph.wait_for(
            lambda: abs((bench.node.joints.stamp_ns or 0) - bench.now_ns()) < 5_000_000_000
        )

    return shift


def begins_at_the_measured_joints(bench):
    controller = Node('right_arm_controller', context=bench.graph.context)
    controller.declare_parameter('interpolate_from_desired_state', False)
    controller.declare_parameter('open_loop_control', False)
    bench.graph.add(controller)


def contradict(bench):
    """One message of another node that has the left waist elsewhere."""
    stray = Node('stray', context=bench.graph.context)
    bench.graph.add(stray)
    publisher = stray.create_publisher(JointState, 'joint_states', 10)
    bench.graph.wait_for(
        lambda: publisher.get_subscription_count() and len(bench.publishers('joint_states')) > 1
    )
    values = np.concatenate(bench.values)
    values[0] += 0.5
    message = JointState(name=bench.names, position=values.tolist())
    message.header.stamp = to_time(bench.now_ns())
    publisher.publish(message)
    bench.graph.wait_for(lambda: bench.node.joints.contradiction())


UNARMED = [
    Row('joints were never measured', 'was ever measured', unmeasured),
    Row('joint state with an empty name[]', 'was ever measured', nameless),
    Row('joint state of one arm alone', 'was ever measured', half),
    Row('a measured joint is NaN', 'was ever measured', not_a_number),
    Row('e-stop pressed before arming', 'release it first', press),
    Row('second publisher before arming', '/probe publishes', second_publisher),
    Row('second publisher of joint states that contradicts the driver before arming',
        "/probe and /stray publish 'joint_states' and contradict each other: left_waist leaps by "
        '0.50 rad', contradict),
    Row('robot file changed before arming', 'has changed', change_limits),
    Row('clock of another machine is ahead', 'synchronise the clocks', other_clock(30.0)),
    Row('clock of another machine is behind', 'old', other_clock(-30.0)),
    Row('controller that begins at the measured joints',
        'right arm begins at the measured joints: set its interpolate_from_desired_state',
        begins_at_the_measured_joints),
    Row('e-stop not connected where its heartbeat is asked for', 'Nothing is heard',
        lambda bench: None, {'estop_heartbeat_s': 0.5}),
]  # fmt: skip


@pytest.mark.parametrize('row', UNARMED, ids=lambda row: row.name)
def test_arms_that_cannot_be_armed(make, row):
    graph_first = row.inject in (unmeasured, nameless, half, not_a_number)
    if graph_first:
        # From the first message on.
        original = Bench.measure

        def measure(bench):
            row.inject(bench)
            original(bench)

        Bench.measure = measure
    try:
        bench = make(row.gate)
    finally:
        if graph_first:
            Bench.measure = original
    if not graph_first:
        row.inject(bench)
    answer = bench.graph.wait_for(lambda: row.reason in (a := bench.ask(topics.ARM)).message and a)
    assert not answer.success
    assert bench.nothing_was_sent()
    assert bench.safety[-1].state in (SafetyState.DISARMED, SafetyState.ESTOP)


@pytest.mark.parametrize('quality', [qos.LATCHED, qos.REPORT, qos.SENSOR_INPUT],
                         ids=['latched', 'reliable', 'best effort'])  # fmt: skip
def test_an_estop_of_any_quality_of_service_is_heard(make, quality):
    bench = make()
    estop = bench.graph.probe.create_publisher(Bool, topics.ESTOP, quality)
    bench.graph.wait_for(lambda: estop.get_subscription_count() > 0)
    estop.publish(Bool(data=True))
    assert bench.wait_for_state(SafetyState.ESTOP).reason == ChunkReport.ESTOP
    assert 'release it first' in bench.ask(topics.ARM).message


def test_an_estop_that_was_pressed_before_the_node_came(graph, make):
    estop = graph.probe.create_publisher(Bool, topics.ESTOP, qos.LATCHED)
    estop.publish(Bool(data=True))
    bench = make()
    bench.graph.wait_for(lambda: bench.node.estop.is_pressed)
    answer = bench.ask(topics.ARM)
    assert not answer.success and 'release it first' in answer.message
    assert bench.nothing_was_sent()


def test_sim_time_on_a_robot_that_is_none(make):
    bench = make(robot={'simulated': False}, use_sim_time=True)
    clock = bench.graph.publisher(Clock, topics.CLOCK)
    clock.publish(Clock(clock=to_time(10_000_000_000)))
    answer = bench.ask(topics.ARM)
    assert not answer.success and 'not a simulated one' in answer.message
    assert bench.nothing_was_sent()


# --- the chunk is refused: nothing is sent to either arm -----------------------------------------


def path(**joints):
    positions = np.tile(ROBOT.home, (17, 1))
    for name, end in joints.items():
        j = ROBOT.joint_names.index(name)
        positions[:, j] = np.linspace(positions[0, j], end, 17)
    return positions


def broken(positions, step, joint, value):
    positions = positions.copy()
    positions[step, joint] = value
    return positions.ravel().tolist()


FORWARD = {'left_shoulder': 0.75, 'left_elbow': -0.35, 'right_shoulder': 0.75,
           'right_elbow': -0.35}  # fmt: skip
REFUSED = [
    ('chunk for another robot', 'ROBOT_MISMATCH', {'robot': 'piper_dual'}, {}),
    ('a step of the right arm is NaN', 'NON_FINITE',
     {'positions': broken(path(), 9, 12, float('nan'))}, {}),
    ('a step of the left arm is infinite', 'NON_FINITE',
     {'positions': broken(path(), 3, 1, float('inf'))}, {}),
    ('chunk with other joints', 'JOINT_MISMATCH',
     {'joint_names': ['other', *ROBOT.joint_names[1:]]}, {}),
    ('chunk that names a joint twice', 'JOINT_MISMATCH',
     {'joint_names': [*ROBOT.joint_names[:-1], ROBOT.joint_names[0]]}, {}),
    ('chunk of another shape', 'SHAPE_MISMATCH', {'positions': [0.0] * 13}, {}),
    ('chunk of one step', 'SHAPE_MISMATCH',
     {'positions': ROBOT.home.tolist(), 'horizon': 1}, {}),
    ('steps without time', 'BAD_TIMING', {'step_dt': to_duration(0.0)}, {}),
    ('stale observation', 'STALE_OBSERVATION', {'observation_stamp': to_time(1)}, {}),
    ('observation from the future', 'STAMP_IN_FUTURE',
     {'observation_stamp': to_time(2_000_000_000_000_000_000)}, {}),
    ('joints moved since the observation', 'START_DEVIATION',
     {'observed_positions': (ROBOT.home + 0.1).tolist()}, {}),
    ('first decoded step far from the joints', 'START_BLEND_EXCEEDED',
     {'positions': (path() + 0.2 * ~ROBOT.gripper_mask).ravel().tolist()}, {}),
    ('camera bumped: the decoder is not confident', 'LOW_CONFIDENCE',
     {'confidence': 0.3}, {'min_confidence': 0.5}),
    ('decoder that says no confidence where one is asked for', 'LOW_CONFIDENCE',
     {}, {'min_confidence': 0.5}),
    ('dream that no arm can follow', 'LOW_EXECUTABILITY',
     {'executability': Executability(score=1.0)}, {'min_executability': 5.0}),
    ('chunk far too fast', 'STRETCH_EXCEEDED',
     {'positions': path(left_forearm_roll=3.0, right_waist=-2.5).ravel().tolist(),
      'step_dt': to_duration(0.02)}, {}),
    ('arms would touch', 'COLLISION', {'positions': path(**FORWARD).ravel().tolist()}, {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ('name', 'reason', 'changes', 'gate'), REFUSED, ids=[row[0] for row in REFUSED]
)
def test_chunks_that_are_refused_for_both_arms(make, name, reason, changes, gate):
    bench = make(gate)
    bench.arm()
    report = bench.send(bench.chunk(**changes))
    assert report.reason == getattr(ChunkReport, reason), report.detail
    assert (report.accepted, report.sent) == (False, False)
    assert report.detail.endswith('.')
    assert bench.nothing_was_sent()
    assert bench.safety[-1].state == SafetyState.ARMED


def test_a_workspace_that_would_be_left(make):
    bench = make(robot={'workspace': {'min': [-0.6, -1.0, 0.0], 'max': [0.6, 1.0, 0.35]}})
    bench.arm()
    up = path(left_shoulder=-0.5, left_elbow=0.2).ravel().tolist()
    report = bench.send(bench.chunk(positions=up))
    assert report.reason == ChunkReport.WORKSPACE, report.detail
    assert bench.nothing_was_sent()


def test_joint_states_from_the_future(make):
    bench = make()
    bench.arm()
    chunk, ahead = bench.chunk(), bench.now_ns() + 30_000_000_000
    bench.now_ns = lambda: ahead
    state = bench.wait_for_state(SafetyState.ARMED) and bench.graph.wait_for(
        lambda: bench.safety[-1].state == SafetyState.DISARMED and bench.safety[-1]
    )
    assert state.reason == ChunkReport.STAMP_IN_FUTURE and 'synchronise' in state.detail
    assert not bench.send(chunk).accepted
    for message in bench.sent(1).values():
        # A hold at rest, where the arms are.
        assert len(message.points) == 1
        assert abs(message.points[0].positions[0]) < 1e-6


def lose_right_controller(bench):
    for subscription in list(bench.graph.probe.subscriptions):
        if subscription.topic_name.endswith(ROBOT.arms['right'].controller.topic):
            bench.graph.probe.destroy_subscription(subscription)
    bench.graph.wait_for(
        lambda: not bench.node.outputs.arms['right'].publisher.get_subscription_count()
    )


def test_an_estop_where_one_arm_cannot_be_reached(make):
    """The other one stops, the e-stop stays latched, and the node lives and says so."""
    bench = make(LONG)
    bench.arm()
    assert bench.send(long_chunk(bench)).sent
    bench.sent(1)
    lose_right_controller(bench)
    press(bench)
    bench.graph.wait_for(lambda: len(bench.commands['left']) > 1)
    assert not np.any(bench.commands['left'][-1].points[-1].velocities)
    said = 'right arm: nobody listens'
    bench.graph.wait_for(
        lambda: any(said in status.message for a in bench.diagnostics for status in a.status)
    )
    answer = bench.ask(topics.ARM)
    assert not answer.success and 'release it first' in answer.message
    assert bench.safety[-1].state == SafetyState.ESTOP


def test_a_controller_that_nobody_runs(make):
    bench = make()
    bench.arm()
    lose_right_controller(bench)
    report = bench.send(bench.chunk())
    assert report.reason == ChunkReport.CONTROLLER_REJECTED
    assert 'right arm: nobody listens' in report.detail
    assert bench.nothing_was_sent()
    assert bench.safety[-1].state == SafetyState.ARMED


def test_the_right_arm_out_of_its_limits(make):
    """Clamped, and said so."""
    bench = make({'max_time_stretch': 20.0, 'check_collisions': False})
    bench.arm()
    report = bench.send(bench.chunk(positions=path(right_shoulder=1.5).ravel().tolist()))
    assert report.accepted, report.detail
    j = ROBOT.joint_names.index('right_shoulder')
    assert report.clamped_steps[j] > 0
    assert report.clamped_max_rad[j] == pytest.approx(1.5 - 1.25664 + 0.01, abs=1e-3)
    last = bench.sent(1)['right'].points[-1]
    assert last.positions[1] <= 1.25664
    assert report.limit_violations_after == 0


def test_a_chunk_while_disarmed(make):
    bench = make()
    assert bench.send(bench.chunk()).reason == ChunkReport.NOT_ARMED
    assert bench.nothing_was_sent()


def test_a_chunk_in_mid_motion(make):
    bench = make()
    bench.arm()
    assert bench.send(bench.chunk()).sent
    assert bench.send(bench.chunk(rollout_id=2)).reason == ChunkReport.BUSY
    assert all(len(heard) == 1 for heard in bench.commands.values())


# --- in mid-motion: both arms brake --------------------------------------------------------------


def stuck(bench):
    bench.stuck.add('left')


def deaf(bench):
    bench.deaf.add('right')


def lost(bench):
    bench.measuring = False


def frozen(bench):
    bench.frozen = True


def push(bench):
    bench.slip[8] = 0.4


def half_lost(bench):
    bench.keep = lambda name: not name.startswith('right')


IN_MOTION = [
    Row('e-stop pressed in mid-motion', 'ESTOP', press),
    Row('e-stop service in mid-motion', 'ESTOP', lambda bench: bench.ask(topics.TRIGGER_ESTOP)),
    Row('joint states lost in mid-motion', 'STALE_JOINT_STATE', lost),
    Row('joint states of one arm lost in mid-motion', 'STALE_JOINT_STATE', half_lost),
    Row('joint states frozen in mid-motion', 'STALE_JOINT_STATE', frozen,
        {'max_tracking_error': 5.0}),
    Row('an arm pushed away', 'TRACKING', push),
    Row('second publisher in mid-motion', 'SECOND_PUBLISHER', second_publisher),
    Row('second publisher of joint states that contradicts the driver in mid-motion',
        'JOINT_STATES_CONTRADICT', contradict),
    Row('robot file changed in mid-motion', 'LIMITS_CHANGED', change_limits),
    Row('gate file changed in mid-motion', 'LIMITS_CHANGED', change_gate),
    Row('URDF changed in mid-motion', 'LIMITS_CHANGED', change_urdf),
    Row('controller in mid-motion that begins at the measured joints', 'CONTROLLER_REJECTED',
        begins_at_the_measured_joints),
    Row('operator disarms in mid-motion', 'OPERATOR', lambda bench: bench.ask(topics.DISARM)),
    Row('publisher node deactivated in mid-motion', 'DEACTIVATED',
        lambda bench: bench.thread.stop()),
]  # fmt: skip


def long_chunk(bench):
    """A chunk of 4.8 s: the shoulders stay, the waists turn by 0.6 rad."""
    positions = np.tile(ROBOT.home, (49, 1))
    for joint in WAISTS:
        positions[:, joint] += np.linspace(0.0, 0.6, 49)
    return bench.chunk(positions=positions.ravel().tolist(), horizon=49)


LONG = {'execute_steps': 48}


@pytest.mark.parametrize('row', IN_MOTION, ids=lambda row: row.name)
def test_faults_in_mid_motion_brake_both_arms(make, row):
    bench = make({**LONG, **(row.gate or {})})
    bench.arm()
    assert bench.send(long_chunk(bench)).sent
    bench.sent(1)
    # Both arms have begun.
    bench.graph.wait_for(lambda: min(values[0] for values in bench.values) > 0.04)
    row.inject(bench)
    state = bench.graph.wait_for(
        lambda: (
            bench.safety[-1].state in (SafetyState.DISARMED, SafetyState.ESTOP)
            and bench.safety[-1]
        )
    )
    assert state.reason == getattr(ChunkReport, row.reason), state.detail
    both_braked(bench)


def both_braked(bench, message=2):
    left, right = bench.sent(message).values()
    assert left.points[-1].time_from_start == right.points[-1].time_from_start
    for message in (left, right):
        last = message.points[-1]
        assert not any(last.velocities) and not any(last.accelerations)
        assert last.positions[0] < 0.55


# --- mode overlap: a chunk comes while the arms move ---------------------------------------------


OVERLAP = {**LONG, 'mode': 'overlap'}


def overlapping(make, **gate):
    """Return a bench whose arms move, its clock, and the place of their waists."""
    bench = make({**OVERLAP, **gate}, use_sim_time=True)
    # Time stands still while a chunk is checked, however busy the machine.
    clock = SimulatedClock(bench)
    clock.arm()
    assert bench.send(long_chunk(bench)).sent
    bench.sent(1)
    go_on(bench, clock, lambda: min(values[0] for values in bench.values) > 0.04)
    return bench, clock, bench.values[0][0]


def go_on(bench, clock, condition):
    """Let time go on until a condition is met, and return it."""

    def found():
        met = condition()
        if not met:
            clock.set(clock.seconds + 0.1)
        return met

    return bench.graph.wait_for(found)


def next_chunk(bench, begin):
    """Return a chunk that goes on from where the waists are."""
    chunk = long_chunk(bench)
    positions = np.array(chunk.positions).reshape(49, -1)
    positions[:, WAISTS] += begin
    chunk.positions, chunk.rollout_id = positions.ravel().tolist(), 2
    return chunk


JOINED = [
    Row('e-stop pressed in a motion that a chunk has joined', 'ESTOP', press),
    Row('joint states lost in a motion that a chunk has joined', 'STALE_JOINT_STATE', lost),
    Row('an arm pushed away in a motion that a chunk has joined', 'TRACKING', push),
    Row('operator disarms in a motion that a chunk has joined', 'OPERATOR',
        lambda bench: bench.ask(topics.DISARM)),
]  # fmt: skip


@pytest.mark.parametrize('row', JOINED, ids=lambda row: row.name)
def test_faults_in_a_joined_motion_brake_both_arms(make, row):
    bench, clock, place = overlapping(make)
    report = bench.send(next_chunk(bench, place))
    assert report.sent, report.detail
    bench.sent(2)
    row.inject(bench)
    off = (SafetyState.DISARMED, SafetyState.ESTOP)
    state = go_on(bench, clock, lambda: bench.safety[-1].state in off and bench.safety[-1])
    assert state.reason == getattr(ChunkReport, row.reason), state.detail
    both_braked(bench, message=3)


def far_off(bench, chunk):
    positions = np.array(chunk.positions).reshape(49, -1)
    positions[:, 9] += 0.5
    chunk.positions = positions.ravel().tolist()


def not_finite(bench, chunk):
    chunk.positions[20 * len(ROBOT.joint_names)] = float('nan')


def too_old(bench, chunk):
    chunk.observation_stamp = to_time(bench.now_ns() - 20_000_000_000)


TO_JOIN = [
    Row('chunk to join a motion that begins far from the arms', 'START_BLEND_EXCEEDED', far_off),
    Row('chunk to join a motion with a step that is NaN', 'NON_FINITE', not_finite),
    Row('chunk to join a motion whose steps are all past', 'STALE_OBSERVATION', too_old),
]


@pytest.mark.parametrize('row', TO_JOIN, ids=lambda row: row.name)
def test_chunks_that_are_not_joined_leave_the_motion_as_it_is(make, row):
    bench, clock, place = overlapping(make)
    chunk = next_chunk(bench, place)
    row.inject(bench, chunk)
    report = bench.send(chunk)
    assert report.reason == getattr(ChunkReport, row.reason), report.detail
    ended_at_rest(bench, clock)


def ended_at_rest(bench, clock):
    go_on(bench, clock, lambda: bench.safety[-1].state == SafetyState.ARMED)
    assert bench.safety[-1].reason == ChunkReport.OK
    for (message,) in bench.commands.values():
        assert not any(message.points[-1].velocities)


def test_a_chunk_that_comes_after_the_motion_that_it_was_to_join(make):
    bench, clock, _ = overlapping(make, execute_steps=8)
    chunk = next_chunk(bench, 0.0)
    ended_at_rest(bench, clock)
    # It begins where the arms are: it is its dream that did not know of their rest.
    now = np.array(bench.node.joints.positions)
    chunk.positions = np.tile(now, (49, 1)).ravel().tolist()
    chunk.observed_positions = now.tolist()
    report = bench.send(chunk)
    assert report.reason == ChunkReport.STALE_OBSERVATION
    assert 'came too late' in report.detail
    ended_at_rest(bench, clock)


@pytest.mark.parametrize(
    ('name', 'inject'), [('one arm blocked', stuck), ("one arm's message lost", deaf)]
)
def test_an_arm_that_does_not_begin(make, name, inject):
    bench = make(LONG)
    bench.arm()
    inject(bench)
    assert bench.send(long_chunk(bench)).sent
    state = bench.wait_for_state(SafetyState.DISARMED) and bench.graph.wait_for(
        lambda: bench.safety[-1].state == SafetyState.DISARMED and bench.safety[-1]
    )
    assert state.reason == ChunkReport.ARM_NOT_FOLLOWING
    arm = 'left' if inject is stuck else 'right'
    assert f'The {arm} arm' in state.detail
    both_braked(bench)


def test_an_estop_publisher_that_vanishes(make):
    bench = make({**LONG, 'estop_heartbeat_s': 0.3})
    estop = bench.graph.publisher(Bool, topics.ESTOP, qos.REPORT)
    beat = bench.graph.probe.create_timer(0.05, lambda: estop.publish(Bool(data=False)))
    bench.arm()
    assert bench.send(long_chunk(bench)).sent
    bench.sent(1)
    bench.graph.probe.destroy_timer(beat)
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ESTOP)
    assert bench.safety[-1].reason == ChunkReport.ESTOP_HEARTBEAT_LOST
    both_braked(bench)


@pytest.mark.parametrize('to_s', [20.0, 500.0], ids=['clock reset', 'clock leaps ahead'])
def test_a_clock_that_jumps(make, to_s):
    bench = make(LONG, use_sim_time=True)
    clock = SimulatedClock(bench)
    clock.arm()
    assert bench.send(long_chunk(bench)).sent
    bench.sent(1)
    while clock.seconds < 52.0:
        clock.go_on(clock.seconds + 0.1)
    places = [values[0] for values in bench.values]
    assert 0.1 < min(places) <= max(places) < 0.4
    clock.set(to_s)
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.DISARMED)
    assert bench.safety[-1].reason == ChunkReport.CLOCK_JUMP
    # Joints measured before are of the clock before.
    assert abs(bench.node.joints.stamp_ns - bench.now_ns()) < 500_000_000
    braked_from(bench, places)
    # Nor is the time told of what follows, until the node is activated anew.
    press(bench)
    assert {message.header.stamp.sec for message in bench.sent(3).values()} == {0}


def braked_from(bench, places):
    """The stop begins where the arms are: not where a clock that lies would have them."""
    for message, place in zip(bench.sent(2).values(), places):
        way = np.array([point.positions[0] for point in message.points])
        assert (place - 0.02 <= way).all() and (way <= place + 0.15).all(), (place, way)
        # With a clock that jumped, at receipt.
        assert message.header.stamp == to_time(0)


@pytest.mark.parametrize(
    'by_s', [-30.0, 30.0], ids=['system clock set back', 'system clock set ahead']
)
def test_a_system_clock_that_is_set(make, by_s):
    bench = make(LONG)
    bench.arm()
    assert bench.send(long_chunk(bench)).sent
    bench.graph.wait_for(lambda: min(values[0] for values in bench.values) > 0.1)
    clock = bench.node.now_ns
    # The controllers go on by their own clock; the node's and the joint states' is set.
    place = []

    def set_clock():
        place.extend(values[0] for values in bench.values)
        return clock() + round(by_s * 1e9)

    bench.node.now_ns = lambda: clock() + round(by_s * 1e9) if place else set_clock()
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.DISARMED)
    assert bench.safety[-1].reason == ChunkReport.CLOCK_JUMP
    assert f'{by_s:.2f} s' in bench.safety[-1].detail
    for message in bench.sent(2).values():
        way = np.array([point.positions[0] for point in message.points])
        assert (place[0] - 0.1 <= way).all() and (way <= place[0] + 0.2).all(), (place, way)
        assert message.header.stamp == to_time(0)


def test_a_clock_that_is_reset_while_the_node_is_inactive(make):
    bench = make(LONG, use_sim_time=True)
    clock = SimulatedClock(bench)
    clock.arm()
    assert bench.send(long_chunk(bench)).sent
    clock.set(51.0)
    bench.node.trigger_deactivate()
    bench.sent(2)
    clock.set(55.0)
    clock.set(59.0)
    # The simulation begins anew.
    clock.set(1.0)
    bench.node.trigger_activate()
    assert bench.node.supervisor.watched_s(bench.now_ns()) == 0.0
    press(bench)
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ESTOP)
    assert [len(heard) for heard in bench.commands.values()] == [2, 2]


def test_arming_while_the_arms_brake(make):
    bench = make(LONG, use_sim_time=True)
    clock = SimulatedClock(bench)
    clock.arm()
    assert bench.send(long_chunk(bench)).sent
    clock.go_on(51.0)
    assert bench.ask(topics.DISARM).success
    assert 'stopped just now: arm them again in ' in bench.ask(topics.ARM).message
    # Time does not go on before the arms have got their stop.
    bench.graph.wait_for(lambda: min(bench.taken.values()) == 2)
    clock.go_on(53.0)
    # They rest; what they were to do before would not be over, had they missed their stop.
    assert 'stopped just now' in bench.ask(topics.ARM).message
    clock.go_on(56.0)
    assert bench.ask(topics.ARM).success


def test_the_operator_holds(make):
    bench = make(LONG)
    bench.arm()
    bench.send(long_chunk(bench))
    bench.graph.wait_for(lambda: min(values[0] for values in bench.values) > 0.04)
    assert bench.ask(topics.HOLD).success
    both_braked(bench)
    assert bench.wait_for_state(SafetyState.STOPPING)
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ARMED)


def test_nothing_begins_right_after_a_hold(make):
    bench = make(LONG)
    bench.arm()
    bench.send(long_chunk(bench))
    bench.graph.wait_for(lambda: min(values[0] for values in bench.values) > 0.04)
    assert bench.ask(topics.HOLD).success
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ARMED)
    bench.sent(2)
    assert 'stopped just now' in bench.ask(topics.GO_HOME).message
    assert bench.send(long_chunk(bench)).reason == ChunkReport.BUSY
    assert [len(heard) for heard in bench.commands.values()] == [2, 2]
    bench.graph.wait_for(lambda: bench.ask(topics.GO_HOME).success)


def test_nothing_more_comes_from_upstream(make):
    """A camera is lost: the arms end at rest, and wait."""
    bench = make()
    bench.arm()
    report = bench.send(bench.chunk())
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.EXECUTING)
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ARMED)
    assert all(len(heard) == 1 for heard in bench.commands.values())
    left = bench.commands['left'][0].points[-1]
    assert not any(left.velocities)
    assert left.time_from_start.sec + left.time_from_start.nanosec * 1e-9 == pytest.approx(
        report.duration_s
    )


UPSTREAM = """
import sys
import rclpy
from rclpy.node import Node
from rclpy.serialization import deserialize_message
from eva_msgs.msg import ActionChunk
from eva_ros.ros import qos
from eva_ros.ros import topics

rclpy.init()
node = Node('action_decoder')
chunks = node.create_publisher(ActionChunk, topics.CHUNK, qos.REPORT)
while not chunks.get_subscription_count():
    rclpy.spin_once(node, timeout_sec=0.05)
print('ready', flush=True)
while True:
    length = int(sys.stdin.buffer.readline())
    chunks.publish(deserialize_message(sys.stdin.buffer.read(length), ActionChunk))
"""


def test_an_upstream_node_that_is_killed_in_mid_motion(make):
    bench = make(LONG)
    bench.arm()
    decoder = subprocess.Popen(
        [sys.executable, '-u', '-c', UPSTREAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert decoder.stdout.readline() == b'ready\n'
        bench.graph.wait_for(lambda: bench.node.count_publishers(topics.CHUNK) >= 2)
        before = len(bench.reports)
        data = serialize_message(long_chunk(bench))
        decoder.stdin.write(b'%d\n%b' % (len(data), data))
        decoder.stdin.flush()
        report = bench.graph.wait_for(lambda: bench.reports[before:])[0]
        assert report.sent, report.detail
        bench.graph.wait_for(lambda: min(values[0] for values in bench.values) > 0.1)
    finally:
        decoder.kill()
    assert decoder.wait(30.0) == -signal.SIGKILL
    assert bench.safety[-1].state == SafetyState.EXECUTING
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ARMED)
    for arm, (message,) in bench.commands.items():
        assert not any(message.points[-1].velocities)
        control = bench.controllers[arm]
        bench.graph.wait_for(lambda control=control: not control.desired().velocities.any())


def test_an_estop_while_the_arms_brake_already(make):
    bench = make(LONG, use_sim_time=True)
    clock = SimulatedClock(bench)
    clock.arm()
    assert bench.send(long_chunk(bench)).sent
    bench.sent(1)
    for tick in range(1, 16):
        clock.go_on(50.0 + 0.1 * tick)
    assert bench.ask(topics.DISARM).success
    bench.sent(2)
    clock.go_on(51.52)
    assert bench.ask(topics.TRIGGER_ESTOP).success
    bench.sent(3)
    assert bench.safety[-1].state == SafetyState.ESTOP
    for heard in bench.commands.values():
        soft, hard = (message.points[-2].time_from_start for message in heard[1:3])
        assert hard.sec + hard.nanosec * 1e-9 + 0.02 < soft.sec + soft.nanosec * 1e-9


# --- a person decides ----------------------------------------------------------------------------


def test_a_chunk_that_is_approved(make):
    bench = make({'approve': True})
    bench.arm()
    report = bench.send(bench.chunk())
    assert (report.accepted, report.sent) == (True, False)
    assert report.reason == ChunkReport.AWAITING_APPROVAL
    assert bench.wait_for_state(SafetyState.AWAITING_APPROVAL).rollout_id == 1
    assert bench.nothing_was_sent()
    assert bench.ask(topics.APPROVE).success
    assert bench.graph.wait_for(lambda: bench.reports[-1].sent)
    bench.sent(1)


@pytest.mark.parametrize('how', ['nobody approves a chunk', 'somebody rejects a chunk'])
def test_a_chunk_that_is_not_approved(make, how):
    bench = make({'approve': True, 'approve_timeout_s': 0.3 if 'nobody' in how else 60.0})
    bench.arm()
    bench.send(bench.chunk())
    if 'somebody' in how:
        assert bench.ask(topics.REJECT).success
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ARMED)
    wanted = ChunkReport.NOT_APPROVED if 'somebody' in how else ChunkReport.APPROVAL_EXPIRED
    bench.graph.wait_for(lambda: bench.reports[-1].reason == wanted)
    assert not bench.ask(topics.APPROVE).success
    assert bench.nothing_was_sent()


def test_arms_that_are_disarmed_while_a_chunk_waits(make):
    bench = make({'approve': True})
    bench.arm()
    bench.send(bench.chunk())
    assert bench.wait_for_state(SafetyState.AWAITING_APPROVAL)
    assert bench.ask(topics.DISARM).success
    report = bench.graph.wait_for(lambda: len(bench.reports) > 1 and bench.reports[1])
    assert (report.rollout_id, report.accepted, report.sent) == (1, False, False)
    assert report.reason == ChunkReport.OPERATOR, report.detail
    assert 'No chunk waits' in bench.ask(topics.APPROVE).message
    assert bench.safety[-1].state == SafetyState.DISARMED
    assert bench.safety[-1].rollout_id == 0


def test_joints_that_move_while_a_chunk_waits(make):
    bench = make({'approve': True})
    bench.arm()
    bench.send(bench.chunk())
    bench.slip[1] = 0.2
    bench.graph.wait_for(lambda: bench.node.joints.positions[1] > ROBOT.home[1] + 0.1)
    answer = bench.ask(topics.APPROVE)
    assert not answer.success and 'has moved' in answer.message
    assert bench.nothing_was_sent()


def test_dry_run_and_a_scaling_factor_raised_while_armed(make):
    bench = make(velocity_scaling_factor=0.5, acceleration_scaling_factor=0.5)
    bench.arm()
    for name in ('velocity_scaling_factor', 'acceleration_scaling_factor'):
        # 0 takes the gate file's, which is 1.
        for value in (0.9, 0.51, 0.0):
            (raised,) = bench.node.set_parameters([Parameter(name, value=value)])
            assert not raised.successful and f'{name} is raised only' in raised.reason
            assert getattr(bench.node.supervisor.settings, name) == 0.5
        (lowered,) = bench.node.set_parameters([Parameter(name, value=0.2)])
        assert lowered.successful
        assert getattr(bench.node.supervisor.settings, name) == 0.2
    (dry,) = bench.node.set_parameters([Parameter('dry_run', value=True)])
    assert not dry.successful


def test_home_goes_through_the_same_gate(make):
    bench = make()
    assert 'disarmed' in bench.ask(topics.GO_HOME).message
    bench.arm()
    report = bench.send(bench.chunk())
    assert report.sent
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.EXECUTING)
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ARMED)
    assert bench.ask(topics.GO_HOME).success
    for arm, message in bench.sent(2).items():
        home = ROBOT.arm_command(arm, ROBOT.home)[1]
        np.testing.assert_allclose(message.points[-1].positions, home, atol=1e-9)


def test_home_is_approved_by_the_call_and_previewed(make):
    bench = make({'approve': True}, dry_run=True)
    bench.arm()
    away = bench.slip[0] = 0.3
    bench.graph.wait_for(lambda: abs(bench.node.joints.positions[0] - ROBOT.home[0] - away) < 1e-6)
    assert 'nothing is sent' in bench.ask(topics.GO_HOME).message
    (preview,) = bench.graph.wait_for(lambda: bench.previews)
    assert bench.nothing_was_sent()
    assert bench.ask(topics.DISARM).success
    (real,) = bench.node.set_parameters([Parameter('dry_run', value=False)])
    assert real.successful
    bench.arm()
    assert bench.ask(topics.GO_HOME).success
    bench.sent(1)
    assert bench.wait_for_state(SafetyState.EXECUTING)
    assert all(state.state != SafetyState.AWAITING_APPROVAL for state in bench.safety)
    bench.graph.wait_for(lambda: len(bench.previews) == 2)
    for shown in bench.previews:
        begin, end = shown.points[0].positions, shown.points[-1].positions
        assert begin[0] == pytest.approx(ROBOT.home[0] + away, abs=1e-6)
        np.testing.assert_allclose(end, ROBOT.home, atol=1e-9)


# --- the publisher itself dies -------------------------------------------------------------------


@pytest.mark.parametrize(
    'number', [signal.SIGINT, signal.SIGKILL], ids=['publisher gets SIGINT', 'publisher is killed']
)
def test_a_publisher_that_dies_in_mid_motion(graph: Graph, make, number, monkeypatch):
    started = []

    class Process:
        """The node in a process of its own, in the place of a NodeThread."""

        refusal = ''

        def __init__(self, *_args, **parameters):
            given = [f'{key}:={value}' for key, value in parameters.items()]
            command = [sys.executable, '-m', 'eva_ros.nodes', 'arm_trajectory_publisher']
            arguments = [part for text in given for part in ('-p', text)]
            self.process = subprocess.Popen(
                [*command, '--ros-args', *arguments], stdout=subprocess.PIPE, env=os.environ
            )
            started.append(self.process)
            assert self.process.stdout.readline().startswith(b'ready:')
            self.node = None

    monkeypatch.setattr(graph, 'start', Process)
    monkeypatch.setattr(Bench, 'heard', lambda bench: True)
    bench = make(LONG)
    (process,) = started
    bench.arm()
    assert bench.send(long_chunk(bench)).sent
    bench.graph.wait_for(lambda: min(values[0] for values in bench.values) > 0.05)
    process.send_signal(number)
    process.wait(30.0)
    if number == signal.SIGINT:
        assert process.returncode == 0
        both_braked(bench)
    bench.graph.wait_for(
        lambda: not any(c.is_moving(bench.now_ns()) for c in bench.controllers.values())
    )
    for control in bench.controllers.values():
        control.sample(bench.now_ns())
        assert not control.desired().velocities.any()


# --- the table -----------------------------------------------------------------------------------

# Rows of the table whose test is not one of a list of rows: its name here, or in another module;
# in brackets which of its parameters.
OTHERS = {
    'use_sim_time on a robot not marked as simulated': 'test_sim_time_on_a_robot_that_is_none',
    'an end effector would leave the workspace': 'test_a_workspace_that_would_be_left',
    'joint states from the future': 'test_joint_states_from_the_future',
    'nobody listens on a command topic': 'test_a_controller_that_nobody_runs',
    'e-stop where one arm cannot be reached': 'test_an_estop_where_one_arm_cannot_be_reached',
    'right arm out of limits': 'test_the_right_arm_out_of_its_limits',
    'chunk while disarmed': 'test_a_chunk_while_disarmed',
    'chunk in mid-motion': 'test_a_chunk_in_mid_motion',
    'chunk to join a motion that is over':
        'test_a_chunk_that_comes_after_the_motion_that_it_was_to_join',
    'chunk to join a motion whose check takes too long':
        'test_nodes_arm_modes.test_a_chunk_whose_switch_is_past_when_it_is_checked_is_refused',
    'mode overlap where chunks wait for approval':
        'test_nodes_arm_modes.test_overlap_and_approval_are_refused_together',
    'one arm blocked, or its controller inactive':
        'test_an_arm_that_does_not_begin[one arm blocked]',
    "one arm's message lost": "test_an_arm_that_does_not_begin[one arm's message lost]",
    'e-stop publisher vanishes': 'test_an_estop_publisher_that_vanishes',
    'clock reset': 'test_a_clock_that_jumps[clock reset]',
    'clock reset while the node is inactive':
        'test_a_clock_that_is_reset_while_the_node_is_inactive',
    'clock leaps ahead': 'test_a_clock_that_jumps[clock leaps ahead]',
    'system clock set back': 'test_a_system_clock_that_is_set[system clock set back]',
    'system clock set ahead': 'test_a_system_clock_that_is_set[system clock set ahead]',
    'e-stop while the arms brake already': 'test_an_estop_while_the_arms_brake_already',
    'e-stop pressed before the publisher came':
        'test_an_estop_that_was_pressed_before_the_node_came',
    'the stop of one arm lost':
        'test_nodes_gate_stops.test_a_stop_that_does_not_reach_one_arm_is_sent_again[left-disarmed]',
    'the e-stop of one arm lost':
        'test_nodes_gate_stops.test_a_stop_that_does_not_reach_one_arm_is_sent_again[right-e-stop]',
    'two e-stop publishers':
        'test_nodes_gate_stops.test_two_estop_publishers_are_not_armed_with_and_release_nothing',
    'second e-stop publisher while armed, where one must be heard':
        'test_nodes_gate_stops.test_a_second_estop_publisher_disarms_where_the_first_must_be_heard',
    'e-stop pressed and released while the node is inactive':
        'test_nodes_gate_stops.test_what_is_pressed_while_the_node_is_inactive_is_latched',
    'node configured anew while the e-stop is latched':
        'test_nodes_gate_stops.test_an_estop_stays_latched_when_the_node_is_configured_anew',
    'arms that rest far outside their limits are disarmed':
        'test_nodes_gate_stops.test_arms_far_outside_their_limits_are_not_moved_by_disarming',
    'one controller rejects its goal':
        'test_nodes_arm_action.test_one_controller_rejects_its_goal',
    'one controller gives up in mid-motion':
        'test_nodes_arm_action.test_one_controller_gives_up_in_mid_motion',
    'arming while the arms brake, or a stop that was lost could still show':
        'test_arming_while_the_arms_brake',
    'chunk, or going home, while a hold that was lost could still show':
        'test_nothing_begins_right_after_a_hold',
    'operator holds': 'test_the_operator_holds',
    'weight of the world model or its adapter that is NaN':
        'test_nodes_models.test_a_world_model_with_a_weight_that_is_nan_is_refused_at_configure',
    'weight of the decoder that is NaN':
        'test_nodes_models.test_an_idm_with_a_weight_that_is_nan_is_refused_at_configure',
    'observation with a joint that is NaN':
        'test_nodes_models.test_an_observation_with_a_joint_that_is_nan_is_said_and_not_dreamed_of',
    'dream that is not finite':
        'test_nodes_system.test_a_dream_that_is_not_finite_ends_the_task_and_the_arms_rest',
    'reading of a dream that is not finite':
        'test_nodes_models.test_a_reading_that_is_not_finite_makes_no_chunk_and_a_report',
    'camera lost': 'test_nothing_more_comes_from_upstream',
    'upstream node killed (SIGKILL) in mid-motion':
        'test_an_upstream_node_that_is_killed_in_mid_motion',
    **{
        f'{name} killed (SIGKILL) during a task':
            'test_nodes_dead_servers.test_a_server_that_is_killed_aborts_the_goal_and_is_named'
            f'[{node}-EXECUTING]'
        for name, node in (('rollout generator', topics.ROLLOUT_GENERATOR),
                           ('action decoder', topics.ACTION_DECODER),
                           ('publisher', topics.ARM_TRAJECTORY_PUBLISHER))
    },
    'one of these deactivated during a task':
        'test_nodes_dead_servers.test_a_server_that_is_deactivated_aborts_the_goal_until_it_is_'
        f'active_again[{topics.ARM_TRAJECTORY_PUBLISHER}]',
    'publisher killed and started again':
        'test_nodes_dead_servers.test_a_gate_that_was_killed_comes_back_disarmed_and_moves_nothing',
    'nobody approves a chunk':
        'test_a_chunk_that_is_not_approved[nobody approves a chunk]',
    'somebody rejects a chunk':
        'test_a_chunk_that_is_not_approved[somebody rejects a chunk]',
    'disarmed while a chunk waits for approval': 'test_arms_that_are_disarmed_while_a_chunk_waits',
    'joints move while a chunk waits for approval': 'test_joints_that_move_while_a_chunk_waits',
    'dry_run, or a scaling factor raised, while armed':
        'test_dry_run_and_a_scaling_factor_raised_while_armed',
    'publisher gets SIGINT in mid-motion':
        'test_a_publisher_that_dies_in_mid_motion[publisher gets SIGINT]',
    'publisher is killed (SIGKILL) in mid-motion':
        'test_a_publisher_that_dies_in_mid_motion[publisher is killed]',
}  # fmt: skip


def ids_of(test):
    """Return the ids that a test's parameters give it; none without parameters."""
    marks = [mark for mark in getattr(test, 'pytestmark', []) if mark.name == 'parametrize']
    return ['-'.join(ids) for ids in product(*map(_ids, marks))] if marks else []


def _ids(mark):
    values, ids = mark.args[1], mark.kwargs.get('ids')
    if callable(ids):
        return [ids(value) for value in values]
    return ids or [value if isinstance(value, str) else value[0] for value in values]


def assert_is_a_test(where):
    name, _, case = where.rstrip(']').partition('[')
    module, _, function = name.rpartition('.')
    test = getattr(import_module(module or __name__), function, None)
    assert callable(test) and function.startswith('test_'), f'{where} is no test'
    ids = ids_of(test)
    assert case in ids if case else not ids, f'{where}: there are {ids}'


@pytest.mark.parametrize('where', OTHERS.values())
def test_a_row_that_is_tested_elsewhere_has_a_test_there(where):
    assert_is_a_test(where)


@pytest.mark.parametrize('where', ['test_a_test_that_was_deleted', 'test_a_chunk_in_mid_motion[x]',
                                   'test_nodes_arm_action.test_no_more', 'make',
                                   'test_a_clock_that_jumps'])  # fmt: skip
def test_a_test_that_is_not_there_is_noticed(where):
    with pytest.raises(AssertionError):
        assert_is_a_test(where)


def test_the_fault_table_has_these_rows_and_these_alone(repository):
    page = (repository / 'docs' / 'safety.md').read_text()
    table = page.partition('## What can go wrong')[2].partition('\n## ')[0]
    rows = re.findall(r'^\| ([^|]+?) \|', table, flags=re.MULTILINE)[1:]
    tests = (
        test_arms_that_cannot_be_armed,
        test_chunks_that_are_refused_for_both_arms,
        test_faults_in_mid_motion_brake_both_arms,
        test_faults_in_a_joined_motion_brake_both_arms,
        test_chunks_that_are_not_joined_leave_the_motion_as_it_is,
    )
    tested = [name for test in tests for name in ids_of(test)] + list(OTHERS)
    assert sorted(rows) == sorted(tested)
    assert len(rows) >= 40
