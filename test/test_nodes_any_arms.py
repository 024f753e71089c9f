"""The arm trajectory publisher with one arm, and with two that have no gripper."""

from gate_bench import Bench
import pytest
from robot_files import write_robot
from test_robot_any_arms import PAIRS
import yaml

from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.robot.paths import config_dir
from eva_ros.robot.spec import load_robot
from eva_ros.ros import topics


@pytest.fixture(params=['a right arm alone', 'no grippers', 'seven joints each'])
def bench(request, graph, tmp_path):
    robot = load_robot(write_robot(tmp_path, PAIRS[request.param]))
    settings = yaml.safe_load((config_dir() / 'gate.yaml').read_text())
    settings['gate'].update(approve=False)
    path = tmp_path / 'gate.yaml'
    path.write_text(yaml.safe_dump(settings))
    return Bench(graph, robot, gate=str(path))


def test_every_arm_there_is_gets_its_command_and_stops(bench):
    bench.arm()
    report = bench.send(bench.chunk())
    assert report.accepted and report.sent, report.detail
    for arm, message in bench.sent(1).items():
        assert tuple(message.joint_names) == bench.robot.arms[arm].controller.joints
    assert bench.ask(topics.HOLD).success
    assert set(bench.sent(2)) == set(bench.robot.arms) and not bench.rejections


def test_an_arm_that_does_not_follow_stops_all_there_are(bench):
    bench.arm()
    bench.stuck.add(next(iter(bench.robot.arms)))
    assert bench.send(bench.chunk()).sent
    followed = (ChunkReport.TRACKING, ChunkReport.ARM_NOT_FOLLOWING)
    (state,) = bench.graph.wait_for(lambda: [s for s in bench.safety if s.reason in followed][:1])
    assert state.state == SafetyState.DISARMED
    assert next(iter(bench.robot.arms)) in state.detail
    assert set(bench.sent(2)) == set(bench.robot.arms)


def test_a_chunk_that_lacks_a_joint_is_refused(bench):
    bench.arm()
    message = bench.chunk()
    message.joint_names[0] = 'nobody'
    assert bench.send(message).reason == ChunkReport.JOINT_MISMATCH
