"""The base of every node: it comes up by itself, refuses aloud, and stops with exit code 0."""

import os
import signal
import subprocess
import sys

from diagnostic_msgs.msg import DiagnosticArray
import pytest
from rclpy.parameter import Parameter
from ros_harness import Graph
from ros_harness import TIMEOUT_S
from std_msgs.msg import String

from eva_ros.errors import UserError
from eva_ros.ros.lifecycle import EvaNode
from eva_ros.ros.parameters import Param
from eva_ros.ros.qos import REPORT
from eva_ros.ros.run import run

PARAMS = (
    Param('speed', 1.0, 'How fast, in m/s.', low=0.0, high=2.0, live=True),
    Param('count', 3, 'How many.', low=1, high=9),
)


class Echo(EvaNode):
    """Says what it hears."""

    PARAMS = PARAMS

    def __init__(self, **options):
        super().__init__('echo', **options)
        self.log = []

    def _setup(self):
        self.log.append('setup')
        self.out = self.publish_on(String, 'out', REPORT)
        self.listen_to(String, 'in', self._on_in, REPORT)

    def _teardown(self):
        self.log.append('teardown')

    def _start(self):
        self.log.append('start')

    def _stop(self):
        self.log.append('stop')
        self.out.publish(String(data='stopping'))

    def _on_in(self, message):
        if message.data == 'bad':
            raise UserError('That word is not known: say another.')
        if message.data == 'crash':
            raise RuntimeError('a defect')
        self.out.publish(message)


class Picky(EvaNode):
    """Refuses to be configured."""

    def __init__(self, **options):
        super().__init__('picky', **options)

    def _setup(self):
        self.publish_on(String, 'out', REPORT)
        raise UserError('The checkpoint is for another robot: give --checkpoint.')


def sentences(heard, component):
    return [
        status.message
        for array in heard
        for status in array.status
        if status.name.endswith(component)
    ]


def test_autostart_brings_a_node_to_work(graph: Graph):
    thread = graph.start(Echo)
    assert thread.refusal == ''
    heard = graph.collect(String, 'out', REPORT)
    publisher = graph.publisher(String, 'in', REPORT)
    graph.wait_for(lambda: graph.probe.count_publishers('out'))
    publisher.publish(String(data='hello'))
    assert graph.wait_for(lambda: heard)[0].data == 'hello'


def test_a_refusal_is_one_sentence_in_the_log_and_on_diagnostics(graph: Graph):
    heard = graph.collect(DiagnosticArray, '/diagnostics')
    thread = graph.start(Picky)
    assert thread.refusal == 'The checkpoint is for another robot: give --checkpoint.'
    message = graph.wait_for(lambda: sentences(heard, 'lifecycle'))[-1]
    assert message == f'cannot configure: {thread.refusal}'
    assert graph.probe.count_publishers('out') == 0


def test_a_failing_callback_is_reported_and_the_node_lives_on(graph: Graph):
    heard = graph.collect(DiagnosticArray, '/diagnostics')
    graph.start(Echo)
    out = graph.collect(String, 'out', REPORT)
    publisher = graph.publisher(String, 'in', REPORT)
    for word in ('bad', 'crash', 'good'):
        publisher.publish(String(data=word))
    graph.wait_for(lambda: 'works again' in sentences(heard, 'in'))
    assert sentences(heard, 'in')[0] == 'That word is not known: say another.'
    assert 'RuntimeError: a defect' in sentences(heard, 'in')
    graph.wait_for(lambda: [message.data for message in out] == ['good'])


def test_a_message_whose_figures_alone_change_is_logged_once(graph: Graph, monkeypatch):
    diagnostics = graph.start(Echo).node.diagnostics
    logged = []
    monkeypatch.setattr(diagnostics, '_log', lambda _, health: logged.append(health.message))
    for age_s in (0.98, 0.91, -3e-05):
        diagnostics.report('top', 'error', f'Images are {age_s} s old.')
    diagnostics.report('top', 'error', 'No image came.')
    assert logged == ['Images are 0.98 s old.', 'No image came.']


def test_an_unknown_parameter_is_refused_with_the_nearest_name(graph: Graph):
    thread = graph.start(Echo, sped=1.0)
    assert thread.refusal == "echo: there is no parameter 'sped'; did you mean 'speed'?"


@pytest.mark.parametrize(('name', 'value'), [('speed', 3.0), ('speed', 'fast'), ('count', 0)])
def test_a_parameter_that_does_not_fit_is_refused_by_name(graph: Graph, name, value):
    thread = graph.start(Echo, **{name: value})
    assert thread.refusal.startswith(f"echo: parameter '{name}' must be a ")
    assert repr(value) in thread.refusal


def test_an_unknown_robot_is_refused_with_those_there_are(graph: Graph):
    thread = graph.start(Echo, robot='nobody')
    assert 'nobody' in thread.refusal
    assert 'aloha_sim' in thread.refusal


def test_parameters_that_are_read_at_configure_do_not_change_later(graph: Graph):
    node = graph.start(Echo).node
    count, speed = node.set_parameters(
        [Parameter('count', value=5), Parameter('speed', value=2.0)]
    )
    assert not count.successful
    assert 'configure' in count.reason
    assert speed.successful
    assert node.param('count') == 3


def test_a_description_says_what_cannot_be_changed_now(graph: Graph):
    node = graph.start(Echo, autostart=False).node
    assert not node.describe_parameter('count').read_only
    assert node.set_parameters([Parameter('count', value=4)])[0].successful
    node.trigger_configure()
    for name, fixed in {'count': True, 'speed': False, 'use_sim_time': True}.items():
        assert node.describe_parameter(name).read_only == fixed, name
    assert not node.set_parameters([Parameter('use_sim_time', value=True)])[0].successful
    node.trigger_cleanup()
    assert not node.describe_parameter('count').read_only
    assert node.set_parameters([Parameter('count', value=5)])[0].successful


def test_a_parameter_that_is_read_at_the_start_is_read_only_ever_after(graph: Graph):
    node = graph.start(Echo, autostart=False).node
    assert node.describe_parameter('autostart').read_only
    assert not node.set_parameters([Parameter('autostart', value=True)])[0].successful


def test_the_stop_is_heard_because_publishers_live_until_it_is_done(graph: Graph):
    thread = graph.start(Echo)
    heard = graph.collect(String, 'out', REPORT)
    graph.wait_for(lambda: thread.node.out.get_subscription_count())
    node = thread.node
    thread.stop()
    assert graph.wait_for(lambda: heard)[0].data == 'stopping'
    assert node.log == ['setup', 'start', 'stop', 'teardown']


PROCESS = """
import sys
sys.path.insert(0, sys.argv.pop())
from test_ros_lifecycle import Echo, Picky
from eva_ros.ros.run import run
sys.exit(run([Echo, Picky][:int(sys.argv.pop())]))
"""


def start_process(nodes: int) -> subprocess.Popen:
    arguments = [sys.executable, '-c', PROCESS, str(nodes), os.path.dirname(__file__)]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize('number', [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_process_with_exit_code_0(number):
    with start_process(1) as process:
        assert process.stdout.readline().strip() == 'ready: echo'
        process.send_signal(number)
        _, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 0, errors
        assert 'Traceback' not in errors


def test_a_node_that_refuses_ends_the_process_with_exit_code_2_and_its_sentence():
    with start_process(2) as process:
        output, errors = process.communicate(timeout=TIMEOUT_S)
        assert process.returncode == 2
        assert 'ready' not in output
        assert errors.splitlines()[-1] == (
            'picky: The checkpoint is for another robot: give --checkpoint.'
        )


def test_an_argument_that_no_node_knows_is_refused(capfd):
    assert run([Picky], args=['picky', '--size', '3']) == 2
    assert capfd.readouterr().err == (
        "A node does not know the argument '--size': parameters are given as "
        '--ros-args -p name:=value.\n'
    )
