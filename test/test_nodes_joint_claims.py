"""Several publishers of joint states: those that agree are believed, no leap of any other is."""

from gate_bench import Bench
from gate_bench import ROBOT
import numpy as np
import pytest
from rclpy.node import Node
from ros_harness import Graph
from sensor_msgs.msg import JointState
import yaml

from eva_msgs.msg import ChunkReport
from eva_msgs.msg import SafetyState
from eva_ros.nodes.arm_trajectory_publisher.measured_joints import MeasuredJoints
from eva_ros.robot.paths import config_dir
from eva_ros.robot.spec import load_robot
from eva_ros.ros import topics
from eva_ros.ros.stamps import to_time

TOPIC = 'joint_states'
SECOND = 1_000_000_000
MS = 1_000_000


class Heard:
    """What a gate measures of what it hears, in a time of the test's own."""

    def __init__(self, publishers=('/driver', '/other')):
        self.publishers = list(publishers)
        self.joints = MeasuredJoints(ROBOT, lambda topic: self.publishers)

    def say(self, positions, stamp_ns, received_ns=None, keep=lambda name: True):
        names, values = ROBOT.to_joint_state(positions)
        held = [(n, float(v)) for n, v in zip(names, values) if keep(n)]
        message = JointState(name=[n for n, _ in held], position=[v for _, v in held])
        message.header.stamp = to_time(stamp_ns)
        self.joints.add(TOPIC, message, received_ns or stamp_ns)


def moving(now_ns):
    """Return arms whose every joint goes as fast as its limit allows, there and back."""
    seconds = now_ns * 1e-9
    way = ROBOT.limits.max_velocity * abs((seconds + 0.25) % 1.0 - 0.5)
    return ROBOT.home + np.where(ROBOT.gripper_mask, 0.0, way)


def elsewhere(joint, by):
    positions = ROBOT.home.copy()
    positions[joint] += by
    return positions


@pytest.mark.parametrize(('joint', 'by'), [(0, 0.5), (13, -0.6), (8, -0.2)])
def test_one_message_that_leaps_is_not_believed_and_names_both_publishers(joint, by):
    heard = Heard()
    for tick in range(5):
        heard.say(ROBOT.home, SECOND + tick * 10 * MS)
    heard.say(elsewhere(joint, by), SECOND + 45 * MS)
    np.testing.assert_allclose(heard.joints.positions, ROBOT.home)
    sentence = heard.joints.contradiction()
    assert sentence.startswith("/driver and /other publish 'joint_states' and contradict each")
    assert ROBOT.joint_names[joint] in sentence and f'{abs(by):.2f}' in sentence
    assert heard.joints.health().level == 'error'
    heard.say(ROBOT.home, SECOND + 50 * MS)
    assert heard.joints.contradiction() == sentence


def test_a_leap_of_a_topic_with_one_publisher_contradicts_nobody():
    heard = Heard(publishers=['/driver'])
    heard.say(ROBOT.home, SECOND)
    heard.say(elsewhere(0, 0.5), SECOND + 10 * MS)
    assert heard.joints.contradiction() == ''
    np.testing.assert_allclose(heard.joints.positions, elsewhere(0, 0.5))


def test_a_recording_played_beside_the_driver_contradicts_it_even_in_the_same_pose():
    heard = Heard()
    heard.say(ROBOT.home, 1000 * SECOND)
    heard.say(ROBOT.home, 10 * SECOND, received_ns=1000 * SECOND + 5 * MS)
    assert 'out of step' in heard.joints.contradiction()
    assert heard.joints.stamp_ns == 1000 * SECOND


@pytest.mark.parametrize('late_ms', [0, 3, 40])
@pytest.mark.parametrize('burst', [1, 5])
def test_publishers_that_say_the_same_agree_however_fast_the_arms_move(late_ms, burst):
    heard = Heard()
    said = []
    for tick in range(300):
        stamp_ns = SECOND + tick * 10 * MS
        said += [(stamp_ns, stamp_ns), (stamp_ns + late_ms * MS, stamp_ns)]
    said.sort()
    for number, (received_ns, stamp_ns) in enumerate(said):
        # Held up in the executor: several of them come at once.
        received_ns = said[min(number // burst * burst + burst - 1, len(said) - 1)][0]
        heard.say(moving(stamp_ns), stamp_ns, received_ns)
    assert heard.joints.contradiction() == ''


def test_publishers_of_different_joints_on_one_topic_make_up_one_robot():
    heard = Heard()
    grippers = [arm.gripper.controller_joint for arm in ROBOT.arms.values()]
    is_gripper = grippers.__contains__
    parts = (
        lambda name: name.startswith('left') and not is_gripper(name),
        lambda name: name.startswith('right') and not is_gripper(name),
        is_gripper,
    )
    for tick in range(30):
        for part in parts[: 3 if tick % 5 == 0 else 2]:
            stamp_ns = SECOND + tick * 10 * MS
            heard.say(moving(stamp_ns), stamp_ns, keep=part)
    assert heard.joints.contradiction() == ''
    np.testing.assert_allclose(heard.joints.positions, moving(stamp_ns))
    assert heard.joints.age_s(stamp_ns) == pytest.approx(0.04)
    assert heard.joints.of('right')[1] == stamp_ns


def test_a_contradiction_is_over_when_one_publisher_is_left(monkeypatch):
    heard = Heard()
    heard.say(ROBOT.home, SECOND)
    heard.say(elsewhere(0, 0.5), SECOND + 5 * MS)
    heard.publishers.remove('/other')
    # It was there all the same.
    assert heard.joints.contradiction()
    monkeypatch.setattr('time.monotonic', lambda: 1e12)
    assert heard.joints.contradiction() == ''


def test_joints_stamped_by_reception_are_compared_too():
    arm = load_robot('piper_dual').arms['left']
    joints = MeasuredJoints(load_robot('piper_dual'), lambda topic: ['/driver', '/other'])
    message = JointState(name=arm.state_joints, position=[0.0] * len(arm.state_joints))
    for tick in range(5):
        joints.add(arm.state_topic, message, SECOND + tick * 10 * MS)
    message.position[1] = 0.6
    joints.add(arm.state_topic, message, SECOND + 45 * MS)
    assert 'leaps by 0.60 rad within 5 ms' in joints.contradiction()


# --- the real node -------------------------------------------------------------------------------


@pytest.fixture
def bench(graph: Graph, tmp_path) -> Bench:
    settings = yaml.safe_load((config_dir() / 'gate.yaml').read_text())
    settings['robots'] = {}
    settings['gate'].update(approve=False, max_joint_state_age_s=1.0)
    path = tmp_path / 'gate.yaml'
    path.write_text(yaml.safe_dump(settings))
    return Bench(graph, gate=str(path))


def other_publisher(bench: Bench, name):
    """Return another node's publisher of joint states, known to the node under test."""
    node = Node(name, context=bench.graph.context)
    bench.graph.add(node)
    publisher = node.create_publisher(JointState, TOPIC, 10)
    bench.graph.wait_for(
        lambda: publisher.get_subscription_count() and name in bench.publishers(TOPIC)
    )
    return publisher


def test_armed_arms_at_rest_are_disarmed_and_held_where_the_driver_has_them(bench):
    bench.arm()
    stray = other_publisher(bench, 'stray')
    values = np.concatenate(bench.values) + 0.4
    message = JointState(name=bench.names, position=values.tolist())
    message.header.stamp = to_time(bench.now_ns())
    stray.publish(message)
    state = bench.graph.wait_for(
        lambda: bench.safety[-1].state == SafetyState.DISARMED and bench.safety[-1]
    )
    assert state.reason == ChunkReport.JOINT_STATES_CONTRADICT
    assert "/probe and /stray publish 'joint_states'" in state.detail
    for arm, hold in bench.sent(1).items():
        home = ROBOT.arm_command(arm, ROBOT.home)[1]
        np.testing.assert_allclose(hold.points[-1].positions, home, atol=1e-3)
    assert 'contradict each other' in bench.ask(topics.ARM).message


def test_arms_of_a_broadcaster_each_on_one_topic_are_armed_and_moved(bench):
    right = other_publisher(bench, 'right_broadcaster')
    publish = bench.states.publish

    def apart(message):
        for publisher, side in ((publish, 'left'), (right.publish, 'right')):
            held = [i for i, name in enumerate(message.name) if name.startswith(side)]
            half = JointState(header=message.header)
            half.name = [message.name[i] for i in held]
            half.position = [message.position[i] for i in held]
            publisher(half)

    bench.states.publish = apart
    bench.arm()
    assert bench.send(bench.chunk()).sent
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.EXECUTING)
    bench.graph.wait_for(lambda: bench.safety[-1].state == SafetyState.ARMED)
