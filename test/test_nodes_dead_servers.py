"""What a task relies on dies or is deactivated: the goal is aborted at once, and says who."""

import os
import signal
import subprocess
import sys
import threading
import time

from action_msgs.msg import GoalStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import pytest
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from ros_harness import Graph
from ros_harness import TIMEOUT_S
from ros_harness import wait
from small_models import INSTRUCTION
from small_models import ROBOT
from small_models import small_idm
from small_models import small_world_model
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
import yaml

from eva_msgs.action import ExecuteTask
from eva_msgs.msg import Episode
from eva_msgs.msg import SafetyState
from eva_ros.nodes.composed import node_class
from eva_ros.nodes.sim_robot import SimRobotNode
from eva_ros.robot.paths import config_dir
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import find_task

Result = ExecuteTask.Result
Feedback = ExecuteTask.Feedback
GATE = topics.ARM_TRAJECTORY_PUBLISHER
SERVERS = (topics.ROLLOUT_GENERATOR, topics.ACTION_DECODER, GATE)
NOTICED_S = 2.0


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Return the parameters of nodes whose models let both waists turn by 0.2 rad."""
    folder = tmp_path_factory.mktemp('models')
    pose = np.array(draw_scene(find_task('reach_left'), 0).joints)
    pose[[0, 7]] += 0.2
    world = small_world_model(folder / 'world_model')
    gate = yaml.safe_load((config_dir() / 'gate.yaml').read_text())
    # A busy machine is no fault of the arms here.
    gate['robots'][ROBOT.name].update(
        start_timeout_s=5.0, frozen_joint_state_s=5.0, max_joint_state_age_s=5.0,
        max_tracking_error=2.0, max_clock_skew_s=5.0,
    )  # fmt: skip
    (folder / 'gate.yaml').write_text(yaml.safe_dump(gate))
    return {
        topics.ROLLOUT_GENERATOR: {'checkpoint': str(world), 'steps': 30},
        topics.ACTION_DECODER: {'checkpoint': str(small_idm(folder / 'idm', pose))},
        GATE: {'dry_run': False, 'gate': str(folder / 'gate.yaml')},
    }


class System:
    """The simulated robot and all nodes, one of them in a process of its own."""

    def __init__(self, graph: Graph, models: dict, victim: str):
        self.graph, self.victim = graph, victim
        self._parameters = {'use_sim_time': True, **models[victim]}
        self.tasks = ActionClient(graph.probe, ExecuteTask, topics.EXECUTE_TASK)
        self.transitions = graph.client(ChangeState, f'{victim}/change_state')
        graph.client(Trigger, topics.of(GATE, topics.ARM))
        self.safety = graph.collect(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self.victim_states = graph.collect(State, topics.of(victim, topics.STATE), qos.LATCHED)
        self.commands = [
            graph.collect(JointTrajectory, arm.controller.topic, qos.COMMAND)
            for arm in ROBOT.arms.values()
        ]
        graph.probe.set_parameters([Parameter('use_sim_time', value=True)])
        assert graph.start(SimRobotNode, task='reach_left', seed=0).refusal == ''
        self.process = self.begin()
        for name in (topics.CAMERA_INGEST, *SERVERS, topics.TASK_EXECUTOR):
            if name != victim:
                parameters = {'use_sim_time': True, **models.get(name, {})}
                assert graph.start(node_class(name), **parameters).refusal == ''
        self.feedback: list = []

    def begin(self):
        """Start the victim's process, and wait until it is active."""
        self.victim_states.clear()
        given = [f'{name}:={value}' for name, value in self._parameters.items()]
        process = subprocess.Popen(
            [
                *(sys.executable, '-m', 'eva_ros.nodes', self.victim, '--ros-args'),
                *(part for text in given for part in ('-p', text)),
            ],
            stdout=subprocess.PIPE,
            env=os.environ,
        )
        assert process.stdout.readline().startswith(b'ready:')
        self.graph.wait_for(
            lambda: self.victim_states and self.victim_states[-1].label == 'active'
        )
        return process

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(TIMEOUT_S)

    def change(self, transition):
        request = ChangeState.Request(transition=Transition(id=transition))
        assert self.graph.call(ChangeState, f'{self.victim}/change_state', request).success

    def arm(self):
        self.graph.wait_for(lambda: self.graph.call(Trigger, topics.of(GATE, topics.ARM)).success)

    def execute(self, **goal):
        """Ask for a task and return the future of its result."""
        assert self.tasks.wait_for_server(TIMEOUT_S)
        self.feedback.clear()
        request = ExecuteTask.Goal(instruction=INSTRUCTION, task='reach_left', seed=0)
        request.max_duration_s = 1000.0
        for name, value in goal.items():
            setattr(request, name, value)
        sent = self.tasks.send_goal_async(request, lambda m: self.feedback.append(m.feedback))
        return wait(sent).get_result_async()

    def aborted(self, phase, lose):
        """Lose the victim in a phase of a task, and return how long its end took in s."""
        self.arm()
        future = self.execute()
        self.graph.wait_for(
            lambda: future.done() or any(seen.state == phase for seen in self.feedback)
        )
        assert not future.done(), future.result().result.message
        ended = threading.Event()
        future.add_done_callback(lambda _: ended.set())
        began_s = time.monotonic()
        lose()
        assert ended.wait(TIMEOUT_S)
        took_s = time.monotonic() - began_s
        end = future.result()
        assert end.status == GoalStatus.STATUS_ABORTED
        assert end.result.termination_reason == Result.NODE_LOST, end.result.message
        assert end.result.message.startswith(f'{self.victim} '), end.result.message
        return took_s


@pytest.fixture
def make(graph, models):
    """Give a function that makes a system, and end its process with the test."""
    made = []

    def begin(victim):
        made.append(System(graph, models, victim))
        return made[-1]

    yield begin
    for system in made:
        system.process.kill()
        system.process.wait(TIMEOUT_S)


@pytest.mark.slow
@pytest.mark.parametrize('phase', ['DREAMING', 'EXECUTING'])
@pytest.mark.parametrize('victim', SERVERS)
def test_a_server_that_is_killed_aborts_the_goal_and_is_named(make, victim, phase):
    system = make(victim)
    assert system.aborted(getattr(Feedback, phase), system.kill) < NOTICED_S
    # Nor does another task begin without it.
    end = wait(system.execute())
    assert end.status == GoalStatus.STATUS_ABORTED
    assert end.result.termination_reason == Result.NODE_LOST
    assert end.result.message.startswith(f'{victim} has died')


@pytest.mark.slow
@pytest.mark.parametrize('victim', SERVERS)
def test_a_server_that_is_deactivated_aborts_the_goal_until_it_is_active_again(make, victim):
    system = make(victim)
    deactivate = Transition.TRANSITION_DEACTIVATE
    assert system.aborted(Feedback.DREAMING, lambda: system.change(deactivate)) < NOTICED_S
    assert wait(system.execute()).result.message.startswith(f'{victim} is inactive')
    system.change(Transition.TRANSITION_ACTIVATE)
    system.arm()
    future = system.execute()
    system.graph.wait_for(lambda: future.done() or system.feedback)
    assert not future.done(), future.result().result.message


@pytest.mark.slow
def test_a_gate_that_was_killed_comes_back_disarmed_and_moves_nothing(make):
    system = make(GATE)
    system.aborted(Feedback.EXECUTING, system.kill)
    sent = [len(heard) for heard in system.commands]
    system.process = system.begin()
    state = system.graph.wait_for(
        lambda: system.safety[-1].state == SafetyState.DISARMED and system.safety[-1]
    )
    assert state.detail == 'Start-up: the arms are disarmed.'

    def refused():
        # The task executor may hear of the new process a moment later than this test.
        end = wait(system.execute())
        assert end.status == GoalStatus.STATUS_ABORTED
        return end.result.termination_reason == Result.REFUSED_NOT_ARMED

    system.graph.wait_for(refused)
    assert [len(heard) for heard in system.commands] == sent


@pytest.mark.slow
def test_only_a_task_that_was_judged_done_succeeds(make):
    system = make(topics.ACTION_DECODER)
    system.arm()
    end = wait(system.execute(max_duration_s=1.0))
    assert end.status == GoalStatus.STATUS_ABORTED
    assert end.result.termination_reason == Result.COMPLETED_TIME_LIMIT
    message = end.result.message
    assert message.startswith('The time limit of 1 s is over, and the task was not judged')
    future = system.execute()
    system.graph.wait_for(lambda: system.feedback)
    judge = system.graph.publisher(Episode, topics.EPISODE, qos.LATCHED)
    done = Episode(phase=Episode.END, success=Episode.SUCCESS, task='reach_left')
    done.header.stamp = system.graph.probe.get_clock().now().to_msg()
    judge.publish(done)
    end = wait(future)
    assert end.status == GoalStatus.STATUS_SUCCEEDED
    assert end.result.termination_reason == Result.STOPPED_BY_TASK_STATUS
