"""The parts of the arm trajectory publisher by themselves, without a graph."""

from concurrent.futures import Future
import os
import sys
from types import ModuleType
from types import SimpleNamespace

from action_msgs.msg import GoalStatus
import numpy as np
import pytest
from rcl_interfaces.msg import ParameterType
from rcl_interfaces.msg import ParameterValue
from rcl_interfaces.srv import GetParameters
from sensor_msgs.msg import JointState

from eva_msgs.msg import ActionChunk
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.running_motion import Order
from eva_ros.control.settings import GateSettings
from eva_ros.control.state import ArmingFacts
from eva_ros.control.state import Event
from eva_ros.control.trajectory import to_command
from eva_ros.control.watchers import FileWatch
from eva_ros.errors import UserError
from eva_ros.nodes.arm_trajectory_publisher import outputs as arm_outputs
from eva_ros.nodes.arm_trajectory_publisher.commands import ArmCommands
from eva_ros.nodes.arm_trajectory_publisher.drivers import ControllerStarts
from eva_ros.nodes.arm_trajectory_publisher.measured_joints import MeasuredJoints
from eva_ros.nodes.arm_trajectory_publisher.outputs import ActionOutput
from eva_ros.nodes.arm_trajectory_publisher.outputs import ArmOutputs
from eva_ros.nodes.arm_trajectory_publisher.outputs import check_listener
from eva_ros.robot.spec import load_robot
from eva_ros.robot.splines import HermiteSpline
from eva_ros.ros.publishers import other_publishers
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time

ROBOT = load_robot('aloha_sim')
PIPER = load_robot('piper_dual')
SECOND = 1_000_000_000


class Publisher:
    """Keeps what is published."""

    def __init__(self, topic):
        self.topic_name = topic
        self.messages = []
        self.listeners = 1

    def publish(self, message):
        self.messages.append(message)

    def get_subscription_count(self):
        return self.listeners

    def wait_for_all_acked(self, timeout):
        return True


class FakeNode:
    """As much of an EvaNode as an arm's way out needs; its time is set by the test."""

    def __init__(self):
        self.time_ns = 100 * SECOND
        self.use_sim_time = True
        self.publishers_by_topic = {}
        self.timers = []

    def now_ns(self):
        return self.time_ns

    def param(self, name):
        assert name == 'use_sim_time'
        return self.use_sim_time

    def publish_on(self, kind, topic, quality):
        return self.publishers_by_topic.setdefault(topic, Publisher(topic))

    def call_every(self, period_s, callback, clock):
        self.timers.append(callback)

    def resolve_topic_name(self, topic):
        return f'/{topic}'

    def own(self, destroy):
        pass


def move(robot, seconds=1.0):
    """Both waists turn by 0.5 rad, from rest to rest."""
    goal = robot.home + 0.5 * np.isin(np.arange(14), (0, 7))
    still = np.zeros((2, 14))
    path = HermiteSpline(np.array([0.0, seconds]), np.stack([robot.home, goal]), still, still)
    return Order(to_command(robot, path), path)


def outputs_of(robot, node, **settings):
    return ArmOutputs(node, robot, GateSettings(**settings), lambda reason, detail: None)


# --- the ways out --------------------------------------------------------------------------------


@pytest.mark.parametrize(('lost', 'other'), [('left', 'right'), ('right', 'left')])
def test_a_stop_goes_to_the_arm_that_can_be_reached(lost, other):
    node = FakeNode()
    outputs = outputs_of(ROBOT, node)
    outputs.arms[lost].publisher.listeners = 0
    with pytest.raises(UserError, match=f'The {lost} arm: nobody listens'):
        outputs.stop(move(ROBOT), node.time_ns, node.time_ns)
    assert len(outputs.arms[other].publisher.messages) == 1
    assert outputs.arms[lost].publisher.messages == []


def test_a_stop_that_reaches_no_arm_names_both():
    node = FakeNode()
    outputs = outputs_of(ROBOT, node)
    for output in outputs.arms.values():
        output.publisher.listeners = 0
    with pytest.raises(UserError, match=r'The left arm: .*The right arm: '):
        outputs.stop(move(ROBOT), node.time_ns, node.time_ns)


@pytest.mark.parametrize('lost', ['left', 'right'])
def test_a_motion_is_prepared_for_both_arms_or_for_none(lost):
    node = FakeNode()
    outputs = outputs_of(ROBOT, node)
    outputs.arms[lost].publisher.listeners = 0
    with pytest.raises(UserError, match=f'The {lost} arm: nobody listens'):
        outputs.prepare(move(ROBOT), node.time_ns)
    assert not any(output.publisher.messages for output in outputs.arms.values())


def test_where_nobody_listens_is_said_with_the_topic():
    publisher = Publisher('/left/command')
    check_listener(publisher, 'left')
    publisher.listeners = 0
    with pytest.raises(UserError, match='The left arm: nobody listens on /left/command'):
        check_listener(publisher, 'left')


# --- streams -------------------------------------------------------------------------------------


def waists(outputs):
    return [[m.position[0] for m in out.publisher.messages] for out in outputs.arms.values()]


def test_a_late_timer_skips_ahead_and_never_catches_up():
    node = FakeNode()
    outputs, order = outputs_of(PIPER, node), move(PIPER)
    (tick,) = node.timers
    outputs.send(outputs.prepare(order, node.time_ns), node.time_ns)
    for after_s in (0.005, 0.7, 0.705):
        node.time_ns = 100 * SECOND + round(after_s * 1e9)
        tick()
    # One target for each call, of the time of the call.
    wanted = order.path.sample(np.array([0.0, 0.005, 0.7, 0.705]))[0]
    for arm, targets in zip(PIPER.arms, waists(outputs)):
        first = PIPER.arm_indices(arm).start
        np.testing.assert_allclose(targets, wanted[:, first], atol=1e-9)
    node.time_ns += 10 * SECOND
    tick()
    tick()
    # The last one is where it ends, and nothing comes after it.
    for arm, targets in zip(PIPER.arms, waists(outputs)):
        first = PIPER.arm_indices(arm).start
        assert len(targets) == 5
        assert targets[-1] == pytest.approx(order.path.positions[-1, first])


def test_a_motion_that_was_planned_earlier_is_streamed_from_where_it_should_be():
    node = FakeNode()
    outputs, order = outputs_of(PIPER, node), move(PIPER)
    outputs.send(outputs.prepare(order, node.time_ns), node.time_ns - SECOND // 2)
    for targets in waists(outputs):
        assert targets == [pytest.approx(0.25, abs=1e-9)]


@pytest.mark.parametrize(('late_ns', 'done'), [(0, 0.0), (SECOND // 2, 0.25)])
def test_a_stop_is_streamed_at_once_from_where_it_should_be(late_ns, done):
    node = FakeNode()
    outputs = outputs_of(PIPER, node)
    outputs.stop(move(PIPER), 0, node.time_ns - late_ns)
    for targets in waists(outputs):
        assert targets == [pytest.approx(done, abs=1e-9)]


@pytest.mark.parametrize('use_sim_time', [False, True])
def test_what_is_streamed_when_the_node_ends_comes_to_its_end(use_sim_time):
    """Also where simulated time stands still."""
    node = FakeNode()
    node.use_sim_time = use_sim_time
    outputs, order = outputs_of(PIPER, node), move(PIPER, seconds=0.2)
    outputs.send(outputs.prepare(order, node.time_ns), node.time_ns)
    outputs.finish()
    for arm, targets in zip(PIPER.arms, waists(outputs)):
        first = PIPER.arm_indices(arm).start
        assert targets[-1] == pytest.approx(order.path.positions[-1, first])
        assert len(targets) > 5
        assert np.abs(np.diff(targets)).max() < 0.25


# --- actions -------------------------------------------------------------------------------------


class Goals:
    """An action client whose server answers when the test says so."""

    def __init__(self):
        self.answers = []

    def destroy(self):
        pass

    def server_is_ready(self):
        return True

    def send_goal_async(self, goal):
        self.answers.append(Future())
        return self.answers[-1]


class Handle:
    """A goal that a server has taken."""

    accepted = True

    def __init__(self):
        self.result = Future()

    def get_result_async(self):
        return self.result


@pytest.fixture
def goals(monkeypatch):
    """Two goals that were sent, the second in the place of the first, and the faults found."""
    action = SimpleNamespace(
        Goal=lambda trajectory: trajectory,
        Result=type('Result', (), {'SUCCESSFUL': 0, 'PATH_TOLERANCE_VIOLATED': -4}),
    )
    module = ModuleType('control_msgs.action')
    module.FollowJointTrajectory = action
    monkeypatch.setitem(sys.modules, 'control_msgs', ModuleType('control_msgs'))
    monkeypatch.setitem(sys.modules, 'control_msgs.action', module)
    client = Goals()
    monkeypatch.setattr(arm_outputs, 'ActionClient', lambda node, kind, name: client)
    faults = []
    output = ActionOutput(FakeNode(), ROBOT.arms['left'], lambda *fault: faults.append(fault))
    order = move(ROBOT)
    for _ in range(2):
        output.send(output.prepare(order.command['left'], order, 0), 0)
    old, new = client.answers
    return SimpleNamespace(old=old, new=new, faults=faults)


def aborted():
    result = SimpleNamespace(error_code=-4, error_string='Too far.')
    return SimpleNamespace(status=GoalStatus.STATUS_ABORTED, result=result)


def test_a_goal_that_is_rejected_after_a_newer_one_was_sent_is_no_fault(goals):
    goals.old.set_result(SimpleNamespace(accepted=False))
    assert goals.faults == []
    goals.new.set_result(SimpleNamespace(accepted=False))
    ((reason, detail),) = goals.faults
    assert (reason, 'left arm rejected' in detail) == ('CONTROLLER_REJECTED', True)


def test_a_goal_that_is_given_up_for_a_newer_one_is_no_fault(goals):
    handles = Handle(), Handle()
    goals.old.set_result(handles[0])
    goals.new.set_result(handles[1])
    handles[0].result.set_result(aborted())
    assert goals.faults == []
    handles[1].result.set_result(aborted())
    ((reason, detail),) = goals.faults
    assert reason == 'CONTROLLER_ABORTED' and 'PATH_TOLERANCE_VIOLATED' in detail


def test_a_goal_that_is_reached_is_no_fault(goals):
    handle = Handle()
    goals.new.set_result(handle)
    result = SimpleNamespace(error_code=0, error_string='')
    handle.result.set_result(SimpleNamespace(status=GoalStatus.STATUS_SUCCEEDED, result=result))
    assert goals.faults == []


# --- the command flow ----------------------------------------------------------------------------


class AtHome:
    """Joints that were measured at home at some time; None: never."""

    positions = ROBOT.home

    def __init__(self, stamp_ns):
        self.stamp_ns = stamp_ns

    def age_s(self, now_ns):
        return None if self.stamp_ns is None else (now_ns - self.stamp_ns) * 1e-9


class Commands:
    """The command flow of armed arms at home; what is sent, reported and previewed is kept."""

    def __init__(self, stamp_mode='common', **settings):
        self.node = FakeNode()
        self.jumps = SimpleNamespace(happened=False, look=lambda: None)
        self.supervisor = CommandSupervisor(
            ROBOT, GateSettings(check_collisions=False, **settings),
            dry_run=False, now_ns=self.node.time_ns,
        )  # fmt: skip
        assert self.supervisor.arm(ArmingFacts(0.01), self.node.time_ns)[0]
        self.joints = AtHome(self.node.time_ns)
        self.outputs, self.reports = outputs_of(ROBOT, self.node), []
        said = SimpleNamespace(
            publish_report=self.reports.append,
            publish_state=lambda: None,
            preview=lambda verdict, now_ns: None,
        )
        self.flow = ArmCommands(
            self.node, self.supervisor, self.joints, self.jumps, self.outputs, said, stamp_mode
        )

    def sent(self):
        """Return the stamps of the messages to both arms."""
        return [
            [to_ns(message.header.stamp) for message in output.publisher.messages]
            for output in self.outputs.arms.values()
        ]

    def chunk(self):
        """A chunk that turns the left waist by 0.2 rad."""
        chunk = ActionChunk(rollout_id=1, robot=ROBOT.name, step_dt=to_duration(0.1), horizon=17)
        chunk.observation_stamp = to_time(self.node.time_ns)
        chunk.joint_names = list(ROBOT.joint_names)
        path = np.tile(ROBOT.home, (17, 1))
        path[:, 0] += np.linspace(0.0, 0.2, 17)
        chunk.positions = path.ravel().tolist()
        chunk.observed_positions = ROBOT.home.tolist()
        chunk.confidence = float('nan')
        return chunk


@pytest.mark.parametrize(
    ('moves', 'clock_jumped', 'stamp_mode', 'is_timed'),
    [
        (True, False, 'common', True),
        # At rest it begins when it arrives, however late that is.
        (False, False, 'common', False),
        (True, True, 'common', False),
        (True, False, 'zero', False),
    ],
)
def test_a_stop_tells_its_time_where_it_goes_on_with_a_motion(
    moves, clock_jumped, stamp_mode, is_timed
):
    arms = Commands(stamp_mode, approve=False)
    if moves:
        arms.flow.take(arms.chunk())
        assert arms.reports[0].sent, arms.reports[0].detail
    arms.node.time_ns += SECOND // 2
    arms.jumps.happened = clock_jumped
    arms.flow.leave(Event.DISARM, 'OPERATOR', 'Disarmed.')
    for stamps in arms.sent():
        assert len(stamps) == 1 + moves
        assert stamps[-1] == (arms.node.time_ns if is_timed else 0)


# --- controllers that are asked ------------------------------------------------------------------


class Parameters(FakeNode):
    """A node whose controllers' parameter services take requests and never answer."""

    def __init__(self):
        super().__init__()
        self.requests = []

    def resolve_topic_name(self, topic):
        return f'/{topic}'

    def create_client(self, kind, name):
        return self

    def own(self, destroy):
        pass

    def destroy_client(self, client):
        pass

    def service_is_ready(self):
        return True

    def call_async(self, request):
        self.requests.append((request.names[0], Future()))
        return self.requests[-1][1]

    def remove_pending_request(self, answer):
        pass


def test_a_controller_that_died_while_it_was_asked_is_asked_again_when_it_is_back(monkeypatch):
    node, now_s = Parameters(), [100.0]
    monkeypatch.setattr('time.monotonic', lambda: now_s[0])
    starts = ControllerStarts(node, ROBOT)
    starts.ask()
    asked = len(node.requests)
    assert asked == 2 * len(ROBOT.arms)
    starts.ask_the_unknown()
    assert len(node.requests) == asked
    now_s[0] += 5.0
    starts.ask_the_unknown()
    assert len(node.requests) == 2 * asked
    for name, answer in node.requests[asked:]:
        begins = name == 'open_loop_control'
        value = ParameterValue(type=ParameterType.PARAMETER_BOOL, bool_value=begins)
        answer.set_result(GetParameters.Response(values=[value]))
    assert starts.unknown() == []


# --- joints and a clock that is set --------------------------------------------------------------


class Watched:
    """Arms in motion, and the joint states of them; the waists turn by 0.5 rad in a second."""

    def __init__(self):
        self.begin_ns = 100 * SECOND
        self.supervisor = CommandSupervisor(
            ROBOT, GateSettings(), dry_run=False, now_ns=self.begin_ns
        )
        assert self.supervisor.arm(ArmingFacts(0.01), self.begin_ns)[0]
        order = move(ROBOT)
        verdict = SimpleNamespace(detail='', order=order)
        assert self.supervisor.execute(verdict, 1, ROBOT.home, self.begin_ns)
        self.joints = MeasuredJoints(ROBOT)

    def measure(self, positions, stamp_ns):
        names, values = ROBOT.to_joint_state(positions)
        message = JointState(name=names, position=values.tolist())
        message.header.stamp = to_time(stamp_ns)
        for topic in ROBOT.joint_state_topics:
            self.joints.add(topic, message, stamp_ns)

    def astray(self, now_ns):
        return self.supervisor.astray(self.joints.by_arm(), now_ns)

    def jump_and_brake(self, now_ns, by_ns):
        """Let the clock jump, as the node does, and return the time and the stop."""
        self.supervisor.clock_jumped(by_ns)
        self.joints.clock_jumped(by_ns)
        now_ns += by_ns
        order = self.supervisor.leave(
            Event.FAULT, 'CLOCK_JUMP', 'It jumped.', self.joints.positions, now_ns
        )[2]
        return now_ns, order.path


@pytest.mark.parametrize('by_s', [-0.5, -1.0, -30.0, 0.5, 30.0])
def test_joints_measured_by_the_clock_before_are_not_compared_with_a_stop_by_the_new_one(by_s):
    watched = Watched()
    now_ns, by_ns = watched.begin_ns + SECOND // 2, round(by_s * 1e9)
    there = watched.supervisor.motion.place(now_ns)
    watched.measure(there, now_ns)
    assert watched.astray(now_ns) is None
    now_ns, stop = watched.jump_and_brake(now_ns, by_ns)
    assert watched.astray(now_ns) is None
    # What was under way when the clock was set comes with its old stamp.
    watched.measure(there, now_ns - by_ns)
    assert watched.astray(now_ns) is None
    # From then on they are looked at as ever.
    later_ns = now_ns + SECOND // 5
    watched.measure(stop.sample(stop.times[0] + 0.2)[0], later_ns)
    assert watched.astray(later_ns) is None
    watched.measure(ROBOT.home - 1.0, later_ns)
    assert watched.astray(later_ns)[1][0] == 'TRACKING'


def test_joints_stamped_by_reception_are_as_old_after_the_clock_was_set():
    joints = MeasuredJoints(PIPER)
    assert PIPER.arms['left'].stamp_source == 'receive'
    for arm in PIPER.arms.values():
        message = JointState(name=arm.state_joints, position=[0.0] * len(arm.state_joints))
        joints.add(arm.state_topic, message, 100 * SECOND)
    joints.clock_jumped(-30 * SECOND)
    assert joints.age_s(71 * SECOND) == pytest.approx(1.0)


# --- approval ------------------------------------------------------------------------------------


@pytest.fixture
def waiting():
    """A chunk that waits for approval."""
    arms = Commands()
    arms.flow.take(arms.chunk())
    (report,) = arms.reports
    assert (report.accepted, report.sent) == (True, False), report.detail
    assert report.reason == report.AWAITING_APPROVAL
    arms.reports.clear()
    return arms


def test_nothing_is_approved_on_joints_that_are_not_known_now(waiting):
    allowed_s = waiting.supervisor.settings.max_joint_state_age_s
    waiting.node.time_ns += round((allowed_s + 0.01) * 1e9)
    with pytest.raises(UserError, match='too old to approve'):
        waiting.flow.approve()
    waiting.joints.stamp_ns = None
    with pytest.raises(UserError, match='too old to approve'):
        waiting.flow.approve()
    assert waiting.sent() == [[], []] and waiting.reports == []
    # It still waits, and goes when they are known again.
    waiting.joints.stamp_ns = waiting.node.time_ns
    waiting.flow.approve()
    assert waiting.sent() == [[waiting.node.time_ns]] * 2
    assert [report.sent for report in waiting.reports] == [True]


def test_what_waits_is_reported_once_when_it_is_withdrawn(waiting):
    waiting.flow.leave(Event.ESTOP, 'ESTOP', 'Pressed.')
    (report,) = waiting.reports
    assert (report.rollout_id, report.accepted, report.sent) == (1, False, False)
    assert (report.reason, report.detail) == (report.ESTOP, 'Pressed.')
    waiting.flow.leave(Event.ESTOP, 'ESTOP', 'Pressed.')
    assert len(waiting.reports) == 1
    with pytest.raises(UserError, match='No chunk waits'):
        waiting.flow.approve()


# --- files ---------------------------------------------------------------------------------------


@pytest.fixture
def watched(tmp_path):
    """Two files and what watches them."""
    files = [tmp_path / 'robot.yaml', tmp_path / 'gate.yaml']
    for path in files:
        path.write_text('max_velocity: 1.0\n')
    watch = FileWatch(files)
    assert watch.changed() is None
    return *files, watch


def test_a_file_of_the_same_size_and_time_has_changed(watched):
    _, gate, watch = watched
    before = gate.stat()
    gate.write_text('max_velocity: 9.0\n')
    os.utime(gate, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = gate.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size, before.st_mtime_ns, before.st_ino,
    )  # fmt: skip
    assert watch.changed() == str(gate)
    gate.write_text('max_velocity: 1.0\n')
    assert watch.changed() is None


def test_a_file_that_is_gone_has_changed(watched):
    robot, _, watch = watched
    robot.unlink()
    assert watch.changed() == str(robot)


def test_a_file_with_the_same_content_in_its_place_has_not_changed(watched, tmp_path):
    robot, _, watch = watched
    copy = tmp_path / 'copy.yaml'
    copy.write_text(robot.read_text())
    copy.replace(robot)
    assert watch.changed() is None


# --- who else publishes --------------------------------------------------------------------------


class Speakers:
    """A node that is told who publishes on which topic."""

    def __init__(self, speakers):
        self.speakers = speakers

    def get_fully_qualified_name(self):
        return '/robot/publisher'

    def get_publishers_info_by_topic(self, topic):
        return [SimpleNamespace(node_namespace=namespace, node_name=name)
                for namespace, name in self.speakers.get(topic, [])]  # fmt: skip


ME = ('/robot', 'publisher')


@pytest.mark.parametrize(
    ('speakers', 'found'),
    [
        ({'a': [ME], 'b': [ME]}, []),
        # Another process with our own name: only their number tells.
        ({'a': [ME], 'b': [ME, ME]}, ['/robot/publisher']),
        ({'a': [ME, ('/', 'rqt')], 'b': [ME, ('/robot', 'rqt')]}, ['/robot/rqt', '/rqt']),
        ({'a': [('/', 'publisher')]}, ['/publisher']),
    ],
)
def test_other_publishers_are_named(speakers, found):
    assert other_publishers(Speakers(speakers), ['a', 'b']) == found
