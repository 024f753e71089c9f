"""Arms whose driver takes targets: the checked spline, sampled, and the same stop."""

import time
from types import SimpleNamespace

from diagnostic_msgs.msg import DiagnosticArray
from fake_piper import FakePiper
from fake_piper import NAMES
from fake_piper import ROBOT
import numpy as np
import pytest
from std_srvs.srv import Trigger
import yaml

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.nodes.arm_trajectory_publisher import ArmTrajectoryPublisher
from eva_ros.robot.paths import config_dir
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_time

NODE = topics.ARM_TRAJECTORY_PUBLISHER


@pytest.fixture
def piper(graph, tmp_path):
    """Both drivers and the node, with everything as the shipped YAML has it but the approval."""
    settings = yaml.safe_load((config_dir() / 'gate.yaml').read_text())
    settings['gate'].update(approve=False, max_joint_state_age_s=1.0)
    gate = tmp_path / 'gate.yaml'
    gate.write_text(yaml.safe_dump(settings))
    drivers = {arm: FakePiper(graph, arm) for arm in ROBOT.arms}
    reports = graph.collect(ChunkReport, topics.CHUNK_REPORT, qos.REPORT)
    safety = graph.collect(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
    thread = graph.start(
        ArmTrajectoryPublisher, robot=str(ROBOT.path), gate=str(gate), dry_run=False
    )
    assert thread.refusal == ''
    outputs = thread.node.outputs.arms.values()
    graph.wait_for(lambda: all(o.publisher.get_subscription_count() for o in outputs))
    bench = SimpleNamespace(graph=graph, drivers=drivers, reports=reports, safety=safety,
                            thread=thread)  # fmt: skip
    bench.ask = lambda name: graph.call(Trigger, topics.of(NODE, name))
    bench.chunks = graph.publisher(ActionChunk, topics.CHUNK, qos.REPORT)
    return bench


def arm_and_send(piper, span=0.3):
    piper.graph.wait_for(lambda: piper.ask(topics.ARM).success)
    path = np.tile(ROBOT.home, (17, 1))
    for joint in (0, 7):
        path[:, joint] += np.linspace(0.0, span, 17)
    message = ActionChunk(rollout_id=1, robot=ROBOT.name, step_dt=to_duration(0.1), horizon=17)
    message.observation_stamp = to_time(piper.graph.probe.get_clock().now().nanoseconds)
    message.joint_names = list(ROBOT.joint_names)
    message.positions = path.ravel().tolist()
    message.observed_positions = ROBOT.home.tolist()
    message.confidence = float('nan')
    piper.chunks.publish(message)
    report = piper.graph.wait_for(lambda: piper.reports)[0]
    assert report.sent, report.detail
    return report


def speeds(driver):
    return np.abs(np.diff(np.array(driver.targets), axis=0))


def wait_for_silence(piper):
    """Wait until no target has come for half a second."""
    seen = [(), 0.0]

    def silent():
        counts = [len(driver.targets) for driver in piper.drivers.values()]
        if counts != seen[0]:
            seen[:] = counts, time.monotonic()
        return time.monotonic() - seen[1] > 0.5

    piper.graph.wait_for(silent)


def test_both_arms_are_streamed_all_their_joints_to_rest(piper):
    arm_and_send(piper)
    piper.graph.wait_for(lambda: piper.safety[-1].state == SafetyState.EXECUTING)
    piper.graph.wait_for(lambda: piper.safety[-1].state == SafetyState.ARMED)
    for driver in piper.drivers.values():
        assert driver.enabled
        assert len(driver.targets) > 50
        assert all(tuple(m.name) == NAMES and len(m.position) == 7 for m in driver.messages)
        # A seventh velocity would be read as a speed in percent.
        assert not any(len(message.velocity) for message in driver.messages)
        last = driver.targets[-1]
        assert last[0] == pytest.approx(0.3, abs=0.05)
        # The gripper in metres, open as far as at home.
        assert last[6] == pytest.approx(0.035, abs=1e-3)
        assert (speeds(driver)[-3:] < 1e-3).all()


def test_a_disarm_in_mid_motion_streams_a_stop(piper):
    arm_and_send(piper, span=0.6)
    piper.graph.wait_for(lambda: all(d.place[0] > 0.05 for d in piper.drivers.values()))
    assert piper.ask(topics.DISARM).success
    wait_for_silence(piper)
    for driver in piper.drivers.values():
        assert 0.05 < driver.targets[-1][0] < 0.55
        # From one target to the next as fast as the joint may move, however late the timer was.
        assert speeds(driver)[:, 0].max() < 0.3


def test_a_node_that_is_stopped_streams_its_stop_to_the_end(piper):
    arm_and_send(piper, span=0.6)
    piper.graph.wait_for(lambda: all(d.place[0] > 0.05 for d in piper.drivers.values()))
    piper.thread.stop()
    wait_for_silence(piper)
    for driver in piper.drivers.values():
        assert 0.05 < driver.targets[-1][0] < 0.55


def test_an_arm_is_not_armed_before_its_driver_is_enabled(piper):
    answers = []
    piper.graph.wait_for(lambda: answers.append(piper.ask(topics.ARM)) or answers[-1].success)
    assert not answers[0].success
    assert 'being enabled: arm again' in answers[0].message or 'measured' in answers[0].message
    assert all(driver.enabled for driver in piper.drivers.values())


def test_nothing_is_streamed_at_rest(piper):
    piper.graph.wait_for(lambda: piper.ask(topics.ARM).success)
    assert not any(driver.targets for driver in piper.drivers.values())


def test_nothing_is_said_of_trajectory_controllers_where_there_are_none(piper):
    heard = piper.graph.collect(DiagnosticArray, topics.DIAGNOSTICS)

    def said():
        statuses = (status for message in heard for status in message.status)
        return [s.message for s in statuses if s.name == f'/{NODE}: controllers']

    assert piper.graph.wait_for(said)[-1] == (
        'No trajectory controller is asked: targets are streamed to the left and right arm.'
    )
