"""Arms whose controllers take FollowJointTrajectory: goals, rejections, and goals given up."""

from action_servers import ACTION
from action_servers import ArmServers
from action_servers import follow_joint_trajectory
from gate_bench import Bench
from gate_bench import ROBOT
import pytest
from robot_files import robot_content
from robot_files import write_robot
from ros_harness import Graph
import yaml

from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.robot.paths import config_dir
from eva_ros.robot.spec import load_robot

NAMES = {arm: f'{arm}_arm_controller/follow_joint_trajectory' for arm in ROBOT.arms}


@pytest.fixture(scope='module')
def action(tmp_path_factory):
    with follow_joint_trajectory(tmp_path_factory.mktemp('control_msgs')) as made:
        yield made


class ActionBench(Bench):
    """A bench whose arms are moved by action servers."""

    def heard(self):
        return all(arm._client.server_is_ready() for arm in self.node.outputs.arms.values())


@pytest.fixture
def bench(graph: Graph, action, tmp_path):
    content = robot_content()
    for arm, name in NAMES.items():
        content['arms'][arm]['controller'].update(type=ACTION, topic=name)
    robot = write_robot(tmp_path, content)
    settings = yaml.safe_load((config_dir() / 'gate.yaml').read_text())
    settings['robots'] = {}
    settings['gate'].update(approve=False, max_joint_state_age_s=1.0, collision_margin=0.005,
                            execute_steps=48)  # fmt: skip
    gate = tmp_path / 'gate.yaml'
    gate.write_text(yaml.safe_dump(settings))
    goals = {arm: [] for arm in ROBOT.arms}
    servers = ArmServers(graph, action, NAMES, lambda arm, sent: goals[arm].append(sent))
    try:
        made = ActionBench(graph, load_robot(robot), gate=str(gate))
        made.commands, made.servers = goals, servers
        yield made
        made.thread.stop()
    finally:
        servers.close()


def test_both_arms_get_a_goal_and_move(bench: Bench):
    bench.arm()
    report = bench.send(bench.chunk())
    assert (report.sent, report.reason) == (True, ChunkReport.OK), report.detail
    left, right = bench.sent(1).values()
    assert left.header.stamp == right.header.stamp
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ARMED)
    assert bench.safety[-1].reason == ChunkReport.OK
    for values in bench.values:
        assert values[0] == pytest.approx(0.2, abs=0.06)
    assert bench.rejections == []


def test_one_controller_rejects_its_goal(bench: Bench):
    bench.arm()
    bench.servers.rejects.add('right')
    bench.send(bench.chunk())
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.DISARMED)
    state = bench.safety[-1]
    assert state.reason == ChunkReport.CONTROLLER_REJECTED
    assert 'right arm rejected' in state.detail
    # The other arm, which had begun, is brought to rest before it has gone far.
    bench.graph.wait_for(lambda: len(bench.commands['left']) == 2)
    last = bench.commands['left'][1].points[-1]
    assert not any(last.velocities) and last.positions[0] < 0.1
    assert bench.commands['right'] == []


def test_one_controller_gives_up_in_mid_motion(bench: Bench):
    bench.arm()
    assert bench.send(bench.chunk()).sent
    bench.graph.wait_for(lambda: min(values[0] for values in bench.values) > 0.04)
    bench.servers.end('left', -4, 'Too far from the path.')
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.DISARMED)
    state = bench.safety[-1]
    assert state.reason == ChunkReport.CONTROLLER_ABORTED
    assert 'left arm gave up with code -4 (PATH_TOLERANCE_VIOLATED)' in state.detail
    assert 'Too far from the path.' in state.detail
    for message in bench.sent(2).values():
        assert not any(message.points[-1].velocities)
        assert message.points[-1].positions[0] < 0.19


def test_a_controller_that_is_not_there_leaves_both_arms_alone(bench: Bench):
    bench.arm()
    bench.servers._servers.pop().destroy()
    bench.graph.wait_for(lambda: not bench.heard())
    report = bench.send(bench.chunk())
    assert report.reason == ChunkReport.CONTROLLER_REJECTED
    assert 'right arm: no server answers' in report.detail
    assert not any(bench.commands.values())
