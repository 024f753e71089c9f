"""The last guard before the arms: both arms or neither, and nothing unless armed."""

import json

from gate_bench import Bench
from gate_bench import NODE
from gate_bench import ROBOT
from gate_bench import SimulatedClock
import numpy as np
import pytest
from rclpy.parameter import Parameter
from ros_harness import Graph
from std_msgs.msg import Bool
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.cli.main import main
from eva_ros.nodes.arm_trajectory_publisher import ArmTrajectoryPublisher
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time


@pytest.fixture
def bench(graph):
    return Bench(graph)


def test_it_starts_disarmed_and_in_dry_run(graph: Graph):
    thread = graph.start(ArmTrajectoryPublisher)
    safety = graph.collect(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
    state = graph.wait_for(lambda: safety)[0]
    assert (state.state, state.dry_run, state.estop) == (SafetyState.DISARMED, True, False)
    assert thread.node.param('dry_run') is True


def test_a_disarmed_node_refuses_every_chunk_and_says_so(bench: Bench):
    report = bench.send(bench.chunk())
    assert (report.accepted, report.reason) == (False, ChunkReport.NOT_ARMED)
    assert 'arm them first' in report.detail
    assert bench.nothing_was_sent()


def test_an_armed_node_moves_both_arms_with_one_stamp(bench: Bench):
    bench.arm()
    report = bench.send(bench.chunk())
    assert (report.accepted, report.sent, report.reason) == (True, True, ChunkReport.OK), report
    left, right = bench.sent(1).values()
    assert left.header.stamp == right.header.stamp
    assert to_ns(left.header.stamp) > 0
    assert tuple(left.joint_names) == ROBOT.arms['left'].controller.joints
    assert tuple(right.joint_names) == ROBOT.arms['right'].controller.joints
    for message in (left, right):
        times = [to_ns(point.time_from_start) for point in message.points]
        assert times[0] > 0
        assert times == sorted(set(times))
        assert not any(message.points[-1].velocities)
        assert message.points[-1].positions[0] == pytest.approx(0.2, abs=0.05)
    assert bench.wait_for_state(SafetyState.EXECUTING).rollout_id == 1


def test_eva_gate_check_prints_what_is_sent(bench: Bench, tmp_path, capsys):
    bench.arm()
    chunk = bench.chunk()
    assert bench.send(chunk).sent
    sent = bench.sent(1)
    positions = np.reshape(chunk.positions, (17, 14))
    np.savez(tmp_path / 'chunk.npz', positions=positions, dt=0.1)
    assert main(['gate', 'check', str(tmp_path / 'chunk.npz'), '--json']) == 0
    printed = json.loads(capsys.readouterr().out)['arms']
    for arm, message in sent.items():
        assert printed[arm]['joint_names'] == list(message.joint_names)
        times = [to_ns(point.time_from_start) * 1e-9 for point in message.points]
        np.testing.assert_allclose(printed[arm]['time_from_start'], times, atol=2e-9)
        for key in ('positions', 'velocities', 'accelerations'):
            rows = [getattr(point, key) for point in message.points]
            np.testing.assert_allclose(printed[arm][key], rows, atol=1e-9)


def test_after_the_motion_it_is_armed_again(bench: Bench):
    bench.arm()
    report = bench.send(bench.chunk())
    bench.wait_for_state(SafetyState.EXECUTING)
    last = bench.graph.wait_for(
        lambda: bench.safety[-1].state == SafetyState.ARMED and bench.safety[-1]
    )
    lasted = (to_ns(last.header.stamp) - to_ns(report.header.stamp)) * 1e-9
    assert report.duration_s <= lasted < report.duration_s + 1.0
    assert last.rollout_id == 0


def test_a_dry_run_judges_and_previews_and_sends_nothing(graph: Graph):
    bench = Bench(graph, dry_run=True)
    bench.arm()
    report = bench.send(bench.chunk())
    assert (report.accepted, report.sent) == (True, False)
    assert report.reason == ChunkReport.DRY_RUN
    preview = graph.wait_for(lambda: bench.previews)[0]
    assert tuple(preview.joint_names) == ROBOT.joint_names
    assert bench.nothing_was_sent()


@pytest.mark.parametrize(
    ('changes', 'reason', 'said'),
    [
        ({'robot': 'piper_dual'}, ChunkReport.ROBOT_MISMATCH, 'piper_dual'),
        ({'positions': [0.0] * 13}, ChunkReport.SHAPE_MISMATCH, '13 positions'),
        ({'positions': [float('nan')] * 238}, ChunkReport.NON_FINITE, 'no number'),
        (
            {'joint_names': ['other', *ROBOT.joint_names[1:]]},
            ChunkReport.JOINT_MISMATCH,
            'left_waist',
        ),
        ({'step_dt': to_duration(0.0)}, ChunkReport.BAD_TIMING, '0 s'),
        (
            {'observed_positions': (ROBOT.home + 0.1).tolist()},
            ChunkReport.START_DEVIATION,
            'has moved',
        ),
        ({'observation_stamp': to_time(1)}, ChunkReport.STALE_OBSERVATION, 'observation'),
    ],
)
def test_a_wrong_chunk_is_refused_for_both_arms_with_its_reason(
    bench: Bench, changes, reason, said
):
    bench.arm()
    report = bench.send(bench.chunk(**changes))
    assert (report.accepted, report.sent, report.reason) == (False, False, reason), report.detail
    assert said in report.detail
    assert bench.nothing_was_sent()


def test_a_chunk_that_comes_in_mid_motion_is_refused_as_busy(bench: Bench):
    bench.arm()
    assert bench.send(bench.chunk()).sent
    report = bench.send(bench.chunk(rollout_id=2))
    assert (report.rollout_id, report.reason) == (2, ChunkReport.BUSY)


def brakes(message: JointTrajectory, bench: Bench):
    """Return whether a command stops at once, at rest, short of where the chunk led.

    It goes on with the motion under way, and so carries a time; arms at rest hold on receipt.
    """
    last = message.points[-1]
    assert message.header.stamp != to_time(0)
    assert not any(last.velocities)
    return last.positions[0] < 0.15


def test_an_estop_in_mid_motion_brakes_both_arms_and_latches(bench: Bench):
    bench.arm()
    estop = bench.graph.publisher(Bool, topics.ESTOP, qos.REPORT)
    bench.send(bench.chunk())
    bench.sent(1)
    estop.publish(Bool(data=True))
    assert all(brakes(message, bench) for message in bench.sent(2).values())
    state = bench.wait_for_state(SafetyState.ESTOP)
    assert (state.estop, state.reason) == (True, ChunkReport.ESTOP)
    assert bench.send(bench.chunk()).reason == ChunkReport.ESTOP
    for service in (topics.ARM, topics.RESET_ESTOP):
        answer = bench.ask(service)
        assert not answer.success
        assert 'release it first' in answer.message
    estop.publish(Bool(data=False))
    bench.graph.wait_for(lambda: bench.ask(topics.RESET_ESTOP).success)
    assert bench.safety[-1].state == SafetyState.DISARMED


def test_the_estop_service_latches_too(bench: Bench):
    bench.arm()
    assert bench.ask(topics.TRIGGER_ESTOP).success
    assert bench.wait_for_state(SafetyState.ESTOP).estop
    assert not bench.ask(topics.ARM).success
    assert 'just now' in bench.ask(topics.RESET_ESTOP).message
    bench.graph.wait_for(lambda: bench.ask(topics.RESET_ESTOP).success)


def test_hold_brakes_both_arms_and_stays_armed(bench: Bench):
    bench.arm()
    bench.send(bench.chunk())
    bench.sent(1)
    assert bench.ask(topics.HOLD).success
    assert all(brakes(message, bench) for message in bench.sent(2).values())
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ARMED)


def test_lost_joint_states_stop_and_disarm(bench: Bench):
    bench.arm()
    bench.send(bench.chunk())
    bench.measuring = False
    state = bench.graph.wait_for(
        lambda: bench.safety[-1].state == SafetyState.DISARMED and bench.safety[-1]
    )
    assert state.reason == ChunkReport.STALE_JOINT_STATE
    assert all(brakes(message, bench) for message in bench.sent(2).values())


def test_without_joint_states_the_arms_cannot_be_armed(graph: Graph):
    graph.start(ArmTrajectoryPublisher, dry_run=False)
    answer = graph.call(Trigger, topics.of(NODE, topics.ARM))
    assert not answer.success
    assert answer.message == 'Not every joint was ever measured.'


def test_a_missing_joint_name_is_named_and_keeps_the_arms_disarmed(bench: Bench):
    bench.arm()
    assert bench.ask(topics.DISARM).success
    bench.keep = lambda name: name != 'left_forearm_roll'
    sentence = "On 'joint_states': The joint state lacks left_forearm_roll."
    bench.graph.wait_for(
        lambda: sentence in [s.message for array in bench.diagnostics for s in array.status]
    )
    bench.graph.wait_for(lambda: bench.ask(topics.ARM).message.endswith('old.'))
    assert all(len(heard) == 1 for heard in bench.commands.values())


def test_a_second_publisher_on_a_command_topic_is_named(bench: Bench):
    bench.arm()
    assert bench.ask(topics.DISARM).success
    bench.graph.publisher(JointTrajectory, ROBOT.arms['right'].controller.topic, listeners=0)
    answer = bench.graph.wait_for(lambda: not (answer := bench.ask(topics.ARM)).success and answer)
    assert answer.message == '/probe publishes to the arms too: stop it first.'


def test_dry_run_changes_only_while_disarmed(bench: Bench):
    (change,) = bench.node.set_parameters([Parameter('dry_run', value=True)])
    assert change.successful
    bench.arm()
    (change,) = bench.node.set_parameters([Parameter('dry_run', value=False)])
    assert not change.successful
    assert 'disarm' in change.reason
    assert bench.safety[-1].dry_run


def test_stopping_the_node_in_mid_motion_brakes_both_arms_first(bench: Bench):
    bench.arm()
    bench.send(bench.chunk())
    bench.sent(1)
    bench.thread.stop()
    assert all(brakes(message, bench) for message in bench.sent(2).values())
    state = bench.graph.wait_for(
        lambda: bench.safety[-1].state == SafetyState.DISARMED and bench.safety[-1]
    )
    assert state.reason == ChunkReport.DEACTIVATED


def test_stopping_a_disarmed_node_sends_nothing(bench: Bench):
    bench.thread.stop()
    assert bench.nothing_was_sent()


def test_a_clock_that_is_set_back_disarms(graph: Graph):
    bench = Bench(graph, use_sim_time=True)
    clock = SimulatedClock(bench)
    clock.arm()
    clock.set(20.0)
    state = graph.wait_for(
        lambda: bench.safety[-1].state == SafetyState.DISARMED and bench.safety[-1]
    )
    assert state.reason == ChunkReport.CLOCK_JUMP
    assert '-30.00 s' in state.detail
    assert 'jumped' in bench.ask(topics.ARM).message


def test_another_gate_file_with_an_unknown_key_is_refused(graph: Graph, tmp_path):
    path = tmp_path / 'gate.yaml'
    path.write_text('gate: {max_start_bland: 0.1}\n')
    thread = graph.start(ArmTrajectoryPublisher, gate=str(path))
    assert str(path) in thread.refusal
    assert 'max_start_bland' in thread.refusal
