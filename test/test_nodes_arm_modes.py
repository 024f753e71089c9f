"""Chunks that overlap, and a robot whose controllers take an action."""

import importlib.util
import time

from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus
from gate_bench import Bench
from gate_bench import ROBOT
import numpy as np
import pytest
from rclpy.parameter import Parameter
from robot_files import robot_content
from robot_files import write_robot
from ros_harness import Graph
import yaml

from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.control.watchers import FileWatch
from eva_ros.nodes.arm_trajectory_publisher import ArmTrajectoryPublisher
from eva_ros.robot.paths import config_dir
from eva_ros.ros import topics
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time


@pytest.fixture
def overlap(graph: Graph, tmp_path):
    settings = yaml.safe_load((config_dir() / 'gate.yaml').read_text())
    settings['robots'] = {}
    settings['gate'].update(mode='overlap', approve=False, velocity_scaling_factor=1.0,
                            acceleration_scaling_factor=1.0, collision_margin=0.005,
                            max_joint_state_age_s=1.0,
                            # A busy machine takes its time to check a chunk.
                            switch_lead_s=0.6)  # fmt: skip
    path = tmp_path / 'gate.yaml'
    path.write_text(yaml.safe_dump(settings))
    return Bench(graph, gate=str(path))


def waist_path(begin, end):
    positions = np.tile(ROBOT.home, (17, 1))
    for joint in (0, 7):
        positions[:, joint] = np.linspace(begin, end, 17)
    return positions.ravel().tolist()


def test_a_chunk_in_mid_motion_is_joined_and_the_arms_never_stop(overlap: Bench):
    overlap.arm()
    assert overlap.send(overlap.chunk(positions=waist_path(0.0, 0.4))).sent
    assert overlap.wait_for_state(SafetyState.EXECUTING).mode == SafetyState.OVERLAP
    overlap.graph.wait_for(lambda: min(values[0] for values in overlap.values) > 0.1)
    place = overlap.values[0][0]
    chunk = overlap.chunk(rollout_id=2, positions=waist_path(place, place + 0.4))
    chunk.observation_stamp = to_time(overlap.now_ns())
    report = overlap.send(chunk)
    assert (report.sent, report.reason) == (True, ChunkReport.OK), report.detail
    left, right = overlap.sent(2).values()
    assert left.header.stamp == right.header.stamp
    for message in (left, right):
        velocities = np.array([point.velocities for point in message.points])
        # The motion under way comes first; nothing rests before the end.
        assert message.points[0].time_from_start.nanosec <= 80_000_000
        assert (np.abs(velocities[:-1]).max(axis=1) > 0.0).all()
        assert not velocities[-1].any()
    overlap.graph.wait_for(lambda: overlap.safety[-1].state == SafetyState.ARMED)
    assert overlap.safety[-1].reason == ChunkReport.OK
    assert overlap.rejections == []


def test_a_chunk_joins_at_the_instant_that_it_was_planned_for(overlap: Bench, monkeypatch):
    """However long its check took: the new message goes through where the old one leads."""
    judge = overlap.node.supervisor.judge

    def slow(*args):
        verdict = judge(*args)
        time.sleep(0.05)
        return verdict

    overlap.arm()
    assert overlap.send(overlap.chunk(positions=waist_path(0.0, 0.4))).sent
    overlap.graph.wait_for(lambda: min(values[0] for values in overlap.values) > 0.1)
    first = overlap.node.supervisor.motion
    monkeypatch.setattr(overlap.node.supervisor, 'judge', slow)
    place = overlap.values[0][0]
    chunk = overlap.chunk(rollout_id=2, positions=waist_path(place, place + 0.4))
    chunk.observation_stamp = to_time(overlap.now_ns())
    assert overlap.send(chunk).sent
    second = overlap.node.supervisor.motion
    message = overlap.sent(2)['left']
    assert to_ns(message.header.stamp) == second.start_ns
    begun = first.path.sample(first.path.times[0] + first.elapsed_s(second.start_ns))[0]
    np.testing.assert_allclose(second.path.positions[0], begun, atol=1e-6)


def test_a_chunk_whose_switch_is_past_when_it_is_checked_is_refused(overlap: Bench, monkeypatch):
    judge = overlap.node.supervisor.judge

    def slower(*args):
        verdict = judge(*args)
        time.sleep(0.6)
        return verdict

    overlap.arm()
    assert overlap.send(overlap.chunk(positions=waist_path(0.0, 0.4))).sent
    overlap.graph.wait_for(lambda: min(values[0] for values in overlap.values) > 0.1)
    monkeypatch.setattr(overlap.node.supervisor, 'judge', slower)
    place = overlap.values[0][0]
    chunk = overlap.chunk(rollout_id=2, positions=waist_path(place, place + 0.4))
    chunk.observation_stamp = to_time(overlap.now_ns())
    report = overlap.send(chunk)
    assert (report.sent, report.reason) == (False, ChunkReport.STALE_OBSERVATION)
    assert 'is past' in report.detail


def test_overlap_and_approval_are_refused_together(graph: Graph, tmp_path):
    path = tmp_path / 'gate.yaml'
    path.write_text('gate: {mode: overlap, approve: true}')
    thread = graph.start(ArmTrajectoryPublisher, gate=str(path))
    assert 'set approve to false' in thread.refusal


def test_parameters_are_taken_all_or_none(graph: Graph):
    bench = Bench(graph)
    answer = bench.node.set_parameters_atomically(
        [Parameter('dry_run', value=True), Parameter('stamp_mode', value='zero')]
    )
    assert not answer.successful and 'stamp_mode' in answer.reason
    assert not bench.node.supervisor.dry_run and not bench.node.param('dry_run')
    answer = bench.node.set_parameters_atomically(
        [Parameter('dry_run', value=True), Parameter('velocity_scaling_factor', value=0.1)]
    )
    assert not answer.successful and 'one at a time' in answer.reason
    assert not bench.node.supervisor.dry_run


def test_the_source_of_time_is_not_changed_while_configured(graph: Graph):
    bench = Bench(graph)
    (answer,) = bench.node.set_parameters([Parameter('use_sim_time', value=True)])
    assert not answer.successful and 'takes effect at configure' in answer.reason


def test_arms_a_little_outside_their_limits_get_a_report_and_come_back(graph: Graph):
    bench = Bench(graph)
    elbow = ROBOT.joint_names.index('left_elbow')
    bench.arm()
    over = ROBOT.home.copy()
    over[elbow] = ROBOT.limits.max_position[elbow] + 0.02
    bench.slip[elbow] = over[elbow] - ROBOT.home[elbow]
    bench.graph.wait_for(
        lambda: (
            bench.node.joints.positions is not None
            and abs(bench.node.joints.positions[elbow] - over[elbow]) < 1e-6
        )
    )
    positions = np.tile(over, (17, 1))
    positions[:, elbow] -= np.linspace(0.0, 0.3, 17)
    chunk = bench.chunk(positions=positions.ravel().tolist())
    chunk.observed_positions = over.tolist()
    report = bench.send(chunk)
    assert report.sent, report.detail
    ends = [point.positions for point in bench.sent(1)['left'].points]
    assert max(p[2] for p in ends) <= ROBOT.limits.max_position[elbow]


def test_a_watch_that_fails_stops_the_arms(graph: Graph, monkeypatch):
    bench = Bench(graph)
    bench.arm()
    assert bench.send(bench.chunk(positions=waist_path(0.0, 0.4))).sent
    bench.graph.wait_for(lambda: min(values[0] for values in bench.values) > 0.05)
    monkeypatch.setattr(FileWatch, 'changed', lambda watch: 1 / 0)
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.DISARMED)
    assert bench.safety[-1].reason == ChunkReport.ERROR
    assert 'ZeroDivisionError' in bench.safety[-1].detail
    bench.sent(2)


@pytest.mark.skipif(
    importlib.util.find_spec('control_msgs') is not None, reason='control_msgs is installed'
)
def test_an_action_without_its_package_is_said_at_configure(graph: Graph, tmp_path):
    content = robot_content()
    content['arms']['left']['controller']['type'] = 'control_msgs/action/FollowJointTrajectory'
    path = write_robot(tmp_path, content)
    thread = graph.start(ArmTrajectoryPublisher, robot=str(path))
    assert 'left arm takes control_msgs/action/FollowJointTrajectory' in thread.refusal
    assert 'install control_msgs' in thread.refusal


def test_overlap_without_a_shared_clock_is_refused_at_configure(graph: Graph, tmp_path):
    settings = yaml.safe_load((config_dir() / 'gate.yaml').read_text())
    settings['gate']['mode'] = 'overlap'
    path = tmp_path / 'gate.yaml'
    path.write_text(yaml.safe_dump(settings))
    thread = graph.start(ArmTrajectoryPublisher, gate=str(path), stamp_mode='zero')
    assert 'Mode overlap joins chunks at a time that stamp_mode zero does not tell' in (
        thread.refusal
    )


def test_messages_for_a_clock_of_their_own_begin_at_receipt(graph: Graph):
    bench = Bench(graph, stamp_mode='zero')
    bench.arm()
    assert bench.send(bench.chunk()).sent
    for message in bench.sent(1).values():
        assert message.header.stamp == to_time(0)


def test_a_robot_whose_collisions_are_not_checked_says_so(graph: Graph):
    said = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
    thread = graph.start(ArmTrajectoryPublisher, robot='piper_dual')
    assert thread.refusal == ''
    sentence = (
        'Nothing keeps the arms from each other and from themselves: the robot YAML of piper_dual '
        'has no collision bodies.'
    )
    graph.wait_for(
        lambda: any(
            status.message == sentence and status.level == DiagnosticStatus.WARN
            for array in said
            for status in array.status
        )
    )
