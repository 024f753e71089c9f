"""All nodes and the simulated robot together: an instruction in, two moving arms."""

from itertools import pairwise
import os
from pathlib import Path
import signal
import subprocess
import sys
import threading

from diagnostic_msgs.msg import DiagnosticArray
import numpy as np
import pytest
from rclpy.action import ActionClient
from ros_harness import Graph
from ros_harness import TIMEOUT_S
from ros_harness import wait
from sensor_msgs.msg import JointState
from small_models import INSTRUCTION
from small_models import lively_world_model
from small_models import ROBOT
from small_models import small_critic
from small_models import small_idm
from small_models import small_world_model
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from eva_msgs.action import ExecuteTask
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Rollout
from eva_msgs.msg import SafetyState
from eva_ros.alignment.best_of import BestOf
from eva_ros.alignment.best_of import by_progress
from eva_ros.alignment.critic import load_critic
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.rollouts import received_rollout
from eva_ros.ros.stamps import to_ns
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import find_task
from eva_ros.world_model.checkpoint import load_world_model

PUBLISHER = topics.ARM_TRAJECTORY_PUBLISHER
Result = ExecuteTask.Result
STEP_RAD = 0.2
# What takes longer to be answered was lost.
ANSWER_S = 10.0


@pytest.fixture(scope='module')
def models(tmp_path_factory):
    """Return models that let both waists turn by STEP_RAD from the start of seed 0."""
    folder = tmp_path_factory.mktemp('models')
    pose = np.array(draw_scene(find_task('reach_left'), 0).joints)
    pose[[0, 7]] += STEP_RAD
    small_world_model(folder / 'world_model')
    small_idm(folder / 'idm', pose)
    return folder


class System:
    """`eva up --sim` as a child, and ears on it."""

    def __init__(self, graph: Graph, models, *arguments):
        self.graph = graph
        # Known to the nodes before they come up (see Graph.client).
        self.tasks = ActionClient(graph.probe, ExecuteTask, topics.EXECUTE_TASK)
        for name in (topics.ARM, topics.DISARM):
            graph.client(Trigger, topics.of(PUBLISHER, name))
        command = [
            *(sys.executable, '-m', 'eva_ros.cli.main', 'up', '--sim', '--task', 'reach_left'),
            *('--checkpoint', str(models / 'world_model'), '--idm', str(models / 'idm')),
            *arguments,
        ]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.said = []
        self.states = graph.collect(JointState, 'joint_states', qos.SENSOR_INPUT)
        self.commands = {
            arm: graph.collect(JointTrajectory, spec.controller.topic, qos.COMMAND)
            for arm, spec in ROBOT.arms.items()
        }
        self.reports = graph.collect(ChunkReport, topics.CHUNK_REPORT, qos.REPORT)
        self.safety = graph.collect(SafetyState, topics.SAFETY_STATE, qos.LATCHED)
        self.diagnostics = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
        self.feedback = []
        self._ready = threading.Event()
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self):
        for line in self.process.stderr:
            self.said.append(line.rstrip())
            if line.startswith('eva up: ready'):
                self._ready.set()
        self._ready.set()

    def wait_until_ready(self):
        assert self._ready.wait(TIMEOUT_S)
        assert self.process.poll() is None, self.said

    def arm(self):
        """Ask until the arms are armed; an answer between processes may get lost on its way."""
        client = self.graph.client(Trigger, topics.of(PUBLISHER, topics.ARM))
        assert client.wait_for_service(TIMEOUT_S)

        def is_armed():
            answered = threading.Event()
            future = client.call_async(Trigger.Request())
            future.add_done_callback(lambda _: answered.set())
            return answered.wait(ANSWER_S) and future.result().success

        self.graph.wait_for(is_armed)

    def execute(self, **goal):
        """Ask for a task and return the result's future."""
        assert self.tasks.wait_for_server(TIMEOUT_S)
        request = ExecuteTask.Goal(instruction=INSTRUCTION, task='reach_left', seed=0)
        for name, value in goal.items():
            setattr(request, name, value)
        self.handle = wait(self.tasks.send_goal_async(request, self.on_feedback))
        return self.handle.get_result_async()

    def until(self, task, condition):
        """Wait for a condition while a task goes on, and say why it ended if it did before."""
        found = self.graph.wait_for(lambda: condition() or task.done())
        assert found is not True or condition(), (task.result().result.message, self.said)
        return condition()

    def on_feedback(self, message):
        self.feedback.append(message.feedback)

    def joints(self):
        return ROBOT.from_joint_state(self.states[-1].name, self.states[-1].position)

    def stop(self, number=signal.SIGINT):
        self.process.send_signal(number)
        return self.process.wait(TIMEOUT_S)


@pytest.fixture
def start(graph, models):
    """Give a function that starts a system, and end it with the test."""
    systems = []

    def begin(*arguments):
        systems.append(System(graph, models, *arguments))
        return systems[-1]

    yield begin
    for system in systems:
        if system.process.poll() is None:
            system.stop(signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize('arguments', [('--composed',), ('--no-composed', '--namespace', '')])
def test_an_instruction_moves_both_arms_until_it_is_cancelled(start, arguments):
    system = start('--no-dry-run', *arguments)
    system.wait_until_ready()
    system.graph.wait_for(lambda: system.states)
    before = system.joints()
    system.arm()
    # However many seconds of simulated time a busy machine takes for a dream.
    future = system.execute(max_duration_s=1000.0)
    system.until(future, lambda: [f for f in system.feedback if f.chunks_executed])
    wait(system.handle.cancel_goal_async())
    result = wait(future).result
    assert result.termination_reason == Result.CANCELED, result.message
    assert result.chunks_executed >= 1
    assert {feedback.state for feedback in system.feedback} >= {0, 1, 5}
    assert (3, 3) in {(f.denoising_step, f.denoising_steps) for f in system.feedback}
    for heard in system.commands.values():
        assert len(heard) >= result.chunks_executed
    moved = system.joints() - before
    np.testing.assert_allclose(moved[[0, 7]], STEP_RAD, atol=0.05)
    assert all(report.sent for report in system.reports if report.accepted)
    assert system.stop() == 0, system.said
    assert not [line for line in system.said if 'Traceback' in line]


@pytest.mark.slow
def test_in_overlap_chunks_join_the_motion_under_way_until_the_task_is_cancelled(start):
    system = start('--no-dry-run', '--composed', '--mode', 'overlap')
    system.wait_until_ready()
    system.arm()
    future = system.execute(max_duration_s=1000.0)

    def joined():
        sent = [report for report in system.reports if report.sent]
        return [
            second
            for first, second in pairwise(sent)
            if to_ns(second.header.stamp) < to_ns(first.header.stamp) + first.duration_s * 1e9
        ]

    system.until(future, joined)
    wait(system.handle.cancel_goal_async())
    result = wait(future).result
    assert result.termination_reason == Result.CANCELED, result.message
    assert {feedback.state for feedback in system.feedback} >= {0, 1, 5}
    assert system.safety[-1].mode == SafetyState.OVERLAP
    joins = joined()[0]
    assert to_ns(joins.observation_stamp) < to_ns(joins.header.stamp)
    rests = system.graph.wait_for(lambda: system.safety[-1].state == SafetyState.ARMED)
    assert rests and not any(system.commands['left'][-1].points[-1].velocities)
    assert system.stop() == 0, system.said
    assert not [line for line in system.said if 'Traceback' in line]


@pytest.mark.slow
def test_a_mode_that_there_is_not_ends_eva_up_with_2_and_one_sentence(start):
    system = start('--composed', '--mode', 'hasty')
    assert system.process.wait(TIMEOUT_S) == 2
    assert any("mode is 'hasty': look_dream_move or overlap." in line for line in system.said)


@pytest.mark.slow
@pytest.mark.parametrize('composed', ['--composed', '--no-composed'])
def test_the_system_dreams_the_best_of_several_candidates(start, models, tmp_path, composed):
    lively, critic = lively_world_model(tmp_path / 'm'), small_critic(tmp_path / 'critic')
    path = tmp_path / 'nodes.yaml'
    chosen = f'candidates: 4, choose_by: progress, critic: {critic}'
    path.write_text(f'/**/rollout_generator: {{ros__parameters: {{{chosen}}}}}\n')
    system = start(composed, '--params-file', str(path), '--checkpoint', str(lively))
    rollouts = system.graph.collect(Rollout, topics.ROLLOUT, qos.PIPELINE)
    system.wait_until_ready()
    system.arm()
    future = system.execute(max_duration_s=1000.0, seed=3)

    def judged():
        # The first of either topic may be missed.
        ids = {report.rollout_id for report in system.reports}
        return next((message for message in rollouts if message.rollout_id in ids), None)

    rollout = received_rollout(system.until(future, judged))
    best = BestOf(load_world_model(lively), by_progress(load_critic(critic)), 4)
    expected = best.dream(rollout.frames[0], INSTRUCTION, seed=2 + rollout.rollout_id)
    assert rollout.seed == expected.seed
    np.testing.assert_array_equal(rollout.frames, expected.frames)
    assert system.stop() == 0, system.said


@pytest.mark.slow
def test_a_dry_run_dreams_and_judges_and_sends_nothing(start):
    system = start('--composed')
    system.wait_until_ready()
    system.arm()
    future = system.execute(max_duration_s=1000.0)
    reports = system.until(future, lambda: len(system.reports) >= 2 and system.reports)
    assert {report.reason for report in reports} == {ChunkReport.DRY_RUN}
    wait(system.handle.cancel_goal_async())
    assert wait(future).result.termination_reason == Result.CANCELED
    assert not any(system.commands.values())


@pytest.mark.slow
def test_cancelling_in_mid_motion_brakes_and_a_disarmed_robot_takes_no_task(start):
    system = start('--composed', '--no-dry-run')
    system.wait_until_ready()
    system.arm()
    future = system.execute(max_duration_s=1000.0)
    system.until(future, lambda: system.commands['left'])
    wait(system.handle.cancel_goal_async())
    assert wait(future).result.termination_reason == Result.CANCELED
    brake = system.graph.wait_for(lambda: system.commands['left'][1:])[0]
    # With the time of its first point: what was travelled meanwhile is not gone over again.
    assert brake.header.stamp.sec > 0
    assert not any(brake.points[-1].velocities)
    assert system.graph.call(Trigger, topics.of(PUBLISHER, topics.DISARM)).success
    result = wait(system.execute()).result
    assert result.termination_reason == Result.REFUSED_NOT_ARMED
    result = wait(system.execute(instruction='juggle the cube')).result
    assert result.termination_reason == Result.REFUSED_NOT_ARMED


@pytest.mark.slow
def test_an_instruction_outside_the_vocabulary_is_refused_with_the_list(start):
    system = start('--composed', '--no-dry-run')
    system.wait_until_ready()
    system.arm()
    result = wait(system.execute(instruction='juggle the cube')).result
    assert result.termination_reason == Result.REFUSED_INSTRUCTION
    assert 'touch, the, cube' in result.message
    assert not any(system.commands.values())


@pytest.mark.slow
def test_a_dream_that_is_not_finite_ends_the_task_and_the_arms_rest(start, models, tmp_path):
    broken = small_world_model(tmp_path / 'm', scale=3e38)
    system = start('--composed', '--no-dry-run', '--checkpoint', str(broken))
    system.wait_until_ready()
    system.arm()
    result = wait(system.execute(max_duration_s=1000.0)).result
    assert result.termination_reason == Result.NON_FINITE, result.message
    assert 'not finite' in result.message
    assert not system.reports
    assert not any(system.commands.values())


def test_a_checkpoint_of_another_robot_ends_eva_up_with_2_and_one_sentence(start, tmp_path):
    folder = small_world_model(tmp_path / 'm', robot='other')
    system = start('--nodes', topics.ROLLOUT_GENERATOR, '--checkpoint', str(folder))
    assert system.process.wait(TIMEOUT_S) == 2
    said = [line for line in system.said if not line.startswith(('[', 'eva up:'))]
    assert len(said) == 1
    assert "trained on robot 'other', not on 'aloha_sim'" in said[0]


def test_an_unknown_key_in_the_parameter_file_ends_eva_up_with_2_and_one_sentence(start, tmp_path):
    path = tmp_path / 'nodes.yaml'
    path.write_text('/**/camera_ingest: {ros__parameters: {veiw: aloha_sim}}\n')
    system = start('--nodes', topics.CAMERA_INGEST, '--params-file', str(path))
    assert system.process.wait(TIMEOUT_S) == 2
    said = [line for line in system.said if not line.startswith(('[', 'eva up:'))]
    assert said == ["camera_ingest: there is no parameter 'veiw'; did you mean 'view'?"]


def test_eva_up_refuses_an_unknown_robot_before_anything_starts():
    command = [sys.executable, '-m', 'eva_ros.cli.main', 'up', '--robot', 'nobody']
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert '"nobody"' in line and 'aloha_sim' in line


def test_eva_up_that_is_stopped_while_it_starts_leaves_no_traceback():
    command = [sys.executable, '-m', 'eva_ros.cli.main', 'up', '--sim']
    up = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    # Its first children are there; what they need is still being imported.
    while not Path(f'/proc/{up.pid}/task/{up.pid}/children').read_text().strip():
        assert up.poll() is None
    up.send_signal(signal.SIGINT)
    _, said = up.communicate(timeout=60)
    assert up.returncode == 0
    assert 'Traceback' not in said


def test_eva_up_refuses_a_parameter_file_that_ros_cannot_read(tmp_path):
    path = tmp_path / 'nodes.yaml'
    path.write_text('camera_ingest: {view: aloha_sim}\n')
    command = [sys.executable, '-m', 'eva_ros.cli.main', 'up', '--params-file', str(path)]
    result = subprocess.run(command, capture_output=True, text=True, env=dict(os.environ))
    assert result.returncode == 2
    assert 'must hold ros__parameters' in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_eva_up_says_which_argument_overrides_the_parameter_file(start, tmp_path):
    path = tmp_path / 'nodes.yaml'
    path.write_text('camera_ingest: {ros__parameters: {view: mine, autostart: false}}\n')
    arguments = ['--params-file', str(path), '--view', 'aloha_sim']
    system = start('--nodes', topics.CAMERA_INGEST, *arguments)
    system.wait_until_ready()
    (said,) = [line for line in system.said if 'overrides' in line]
    assert said == (
        'eva up: The argument view:=aloha_sim overrides view: mine of section '
        f"'/camera_ingest' in {path}."
    )
