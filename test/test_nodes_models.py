"""The nodes around the models: rollouts on request, chunks from rollouts, and what is refused."""

import threading

from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.action import ActionClient
from ros_harness import Graph
from ros_harness import TIMEOUT_S
from ros_harness import wait
from safetensors.torch import load_file
from safetensors.torch import save_file
from small_models import INSTRUCTION
from small_models import lively_world_model
from small_models import renamed
from small_models import ROBOT
from small_models import small_critic
from small_models import small_idm
from small_models import small_world_model
from small_models import VIEW
from std_srvs.srv import Trigger

from eva_msgs.action import GenerateRollout
from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Observation
from eva_msgs.msg import Rollout
from eva_ros.alignment.best_of import BestOf
from eva_ros.alignment.best_of import by_progress
from eva_ros.alignment.best_of import candidate_seeds
from eva_ros.alignment.critic import load_critic
from eva_ros.nodes.action_decoder import ActionDecoder
from eva_ros.nodes.rollout_generator import RolloutGenerator
from eva_ros.observations.ingest import Observation as Observed
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.observations import observation_message
from eva_ros.ros.rollouts import received_rollout
from eva_ros.ros.rollouts import rollout_message
from eva_ros.ros.rollouts import StampedRollout
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time
from eva_ros.world_model.checkpoint import load_world_model

Result = GenerateRollout.Result
S = 1_000_000_000


@pytest.fixture(scope='module')
def world_model(tmp_path_factory):
    return small_world_model(tmp_path_factory.mktemp('models') / 'world_model')


@pytest.fixture(scope='module')
def idm(tmp_path_factory):
    return small_idm(tmp_path_factory.mktemp('models') / 'idm', ROBOT.home)


def an_observation(stamp_ns, number=1, seed=0, at_rest=True):
    view = np.random.default_rng(seed).integers(
        0, 255, (VIEW.height, VIEW.width, 3), dtype=np.uint8
    )
    stamps = dict.fromkeys(VIEW.camera_names, stamp_ns)
    observed = Observed(stamp_ns, view, stamps, ROBOT.home, stamp_ns, np.zeros(14), at_rest)
    return observation_message(observed, number, ROBOT)


class Asker:
    """A client of the rollout generator that gives observations and takes rollouts."""

    def __init__(self, graph: Graph, checkpoint, **parameters):
        self.graph = graph
        self.rollouts = graph.collect(Rollout, topics.ROLLOUT, qos.PIPELINE)
        self.thread = graph.start(RolloutGenerator, checkpoint=str(checkpoint), **parameters)
        assert self.thread.refusal == ''
        self.observations = graph.publisher(Observation, topics.OBSERVATION, qos.REPORT)
        self.client = ActionClient(graph.probe, GenerateRollout, topics.GENERATE_ROLLOUT)
        assert self.client.wait_for_server(TIMEOUT_S)
        self.steps = []

    def ask(self, **goal):
        """Send a goal and return its handle."""
        goal = GenerateRollout.Goal(**{'instruction': INSTRUCTION, 'seed': 5, **goal})

        def on_feedback(message):
            self.steps.append((message.feedback.denoising_step, message.feedback.denoising_steps))

        return wait(self.client.send_goal_async(goal, on_feedback))

    def result(self, **goal):
        """Send a goal and return its result."""
        return wait(self.ask(**goal).get_result_async()).result

    def show(self, *messages):
        for message in messages:
            self.observations.publish(message)


def test_a_goal_gives_the_rollout_of_the_observation_it_names(graph: Graph, world_model):
    asker = Asker(graph, world_model)
    asker.show(an_observation(1 * S, 1, seed=1), an_observation(2 * S, 2, seed=2))
    result = asker.result(observation_stamp=to_time(1 * S))
    assert (result.termination_reason, result.rollout_id) == (Result.SUCCEEDED, 1)
    message = graph.wait_for(lambda: asker.rollouts)[0]
    assert (message.observation_id, to_ns(message.observation_stamp)) == (1, 1 * S)
    assert message.instruction == INSTRUCTION
    assert message.checkpoint.startswith('world_model@')
    rollout = received_rollout(message)
    assert rollout.frames.shape == (VIEW.frames, VIEW.height, VIEW.width, 3)
    expected = load_world_model(world_model).dream(
        received_view(an_observation(1 * S, 1, seed=1)), INSTRUCTION, seed=5
    )
    np.testing.assert_array_equal(rollout.frames, expected.frames)
    assert (rollout.denoising_steps, rollout.dt) == (3, 0.1)
    np.testing.assert_array_equal(rollout.joint_positions, ROBOT.home)
    graph.wait_for(lambda: asker.steps == [(1, 3), (2, 3), (3, 3)])


def received_view(message):
    return np.frombuffer(message.view.data, np.uint8).reshape(VIEW.height, VIEW.width, 3)


def in_motion(*ages_s, number=1):
    """Return observations of moving arms so long before 10 s, each of its own view."""
    return [
        an_observation(10 * S - round(age_s * S), number + k, seed=number + k, at_rest=False)
        for k, age_s in enumerate(ages_s)
    ]


@pytest.fixture(scope='module')
def looking_back(tmp_path_factory):
    """Return the folder of a model that dreams of moving arms from four frames before."""
    return lively_world_model(tmp_path_factory.mktemp('models') / 'back', history=4)


def test_a_dream_of_moving_arms_starts_from_the_views_before(graph: Graph, looking_back):
    asker = Asker(graph, looking_back)
    shown = in_motion(0.5, 0.4, 0.3, 0.2, 0.1, 0.0)
    asker.show(*shown)
    assert asker.result(observation_stamp=to_time(10 * S)).termination_reason == Result.SUCCEEDED
    rollout = received_rollout(graph.wait_for(lambda: asker.rollouts)[0])
    model, views = load_world_model(looking_back), [received_view(m) for m in shown]
    expected = model.dream(views[-1], INSTRUCTION, seed=5, before=views[1:5])
    np.testing.assert_array_equal(rollout.frames, expected.frames)
    assert (model.dream(views[-1], INSTRUCTION, seed=5).frames != expected.frames).any()


def test_at_rest_no_views_before_are_needed(graph: Graph, looking_back):
    asker = Asker(graph, looking_back)
    asker.show(an_observation(10 * S))
    assert asker.result().termination_reason == Result.SUCCEEDED
    rollout = received_rollout(graph.wait_for(lambda: asker.rollouts)[0])
    view = received_view(an_observation(10 * S))
    expected = load_world_model(looking_back).dream(view, INSTRUCTION, seed=5)
    np.testing.assert_array_equal(rollout.frames, expected.frames)


def test_views_from_before_a_pause_are_not_taken_for_history(graph: Graph, looking_back):
    heard = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
    asker = Asker(graph, looking_back, instruction=INSTRUCTION)
    asker.show(*in_motion(5.4, 5.3, 5.2, 5.1, 5.0, 0.2, 0.1, 0.0))
    result = asker.result(observation_stamp=to_time(10 * S))
    assert result.termination_reason == Result.NO_OBSERVATION
    assert 'of the 4 observations before, 0.1 s apart, only 2 came: see' in result.message
    assert '\n' not in result.message
    graph.wait_for(lambda: [s for a in heard for s in a.status if s.message == result.message])
    name = topics.of(topics.ROLLOUT_GENERATOR, topics.GENERATE)
    assert graph.call(Trigger, name).message == result.message
    assert not asker.rollouts


def test_the_service_twin_dreams_of_moving_arms_from_the_views_before(graph: Graph, looking_back):
    asker = Asker(graph, looking_back, instruction=INSTRUCTION, seed=5)
    shown = in_motion(0.4, 0.3, 0.2, 0.1, 0.0)
    asker.show(*shown)
    name = topics.of(topics.ROLLOUT_GENERATOR, topics.GENERATE)
    graph.wait_for(lambda: 'observation 5' in graph.call(Trigger, name).message)
    rollout = received_rollout(graph.wait_for(lambda: asker.rollouts)[0])
    *before, view = [received_view(message) for message in shown]
    expected = load_world_model(looking_back).dream(view, INSTRUCTION, seed=5, before=before)
    np.testing.assert_array_equal(rollout.frames, expected.frames)


def test_a_goal_waits_for_an_observation_that_is_new_enough(graph: Graph, world_model):
    asker = Asker(graph, world_model)
    asker.show(an_observation(1 * S, 1))
    handle = asker.ask(not_before=to_time(2 * S))
    future = handle.get_result_async()
    asker.show(an_observation(3 * S, 2))
    result = wait(future).result
    assert result.termination_reason == Result.SUCCEEDED
    assert to_ns(result.observation_stamp) == 3 * S


def test_without_an_observation_the_goal_ends_with_a_sentence(graph: Graph, world_model):
    asker = Asker(graph, world_model, observation_timeout_s=0.1)
    result = asker.result()
    assert result.termination_reason == Result.NO_OBSERVATION
    assert "'observation'" in result.message
    assert not asker.rollouts


def test_an_instruction_outside_the_vocabulary_is_refused_with_the_list(graph: Graph, world_model):
    asker = Asker(graph, world_model)
    asker.show(an_observation(1 * S))
    result = asker.result(instruction='juggle the cube')
    assert result.termination_reason == Result.REFUSED_INSTRUCTION
    assert 'juggle' in result.message
    assert 'touch, the, cube, with, left, right, arm' in result.message
    assert not asker.rollouts


def test_a_goal_can_be_canceled_while_it_dreams(graph: Graph, tmp_path):
    asker = Asker(graph, small_world_model(tmp_path / 'slow', steps=900))
    asker.show(an_observation(1 * S))
    handle = asker.ask()
    graph.wait_for(lambda: asker.steps)
    future = handle.get_result_async()
    wait(handle.cancel_goal_async())
    result = wait(future).result
    assert result.termination_reason == Result.CANCELED
    assert 'of 900' in result.message
    assert not asker.rollouts


def test_of_the_goals_that_wait_the_newest_wins(graph: Graph, world_model):
    asker = Asker(graph, world_model)
    asker.show(an_observation(1 * S))
    model, begun, go_on = asker.thread.node._model, threading.Event(), threading.Event()
    dream = model.dream

    def slow_dream(*args, **options):
        begun.set()
        assert go_on.wait(TIMEOUT_S)
        return dream(*args, **options)

    model.dream = slow_dream
    first = asker.ask().get_result_async()
    assert begun.wait(TIMEOUT_S)
    second = asker.ask().get_result_async()
    third = asker.ask().get_result_async()
    assert wait(second).result.termination_reason == Result.REFUSED_BUSY
    go_on.set()
    assert wait(first).result.termination_reason == Result.SUCCEEDED
    assert wait(third).result.termination_reason == Result.SUCCEEDED


def test_stopping_the_node_ends_a_dream_and_its_goal(graph: Graph, tmp_path):
    asker = Asker(graph, small_world_model(tmp_path / 'slow', steps=900))
    asker.show(an_observation(1 * S))
    asker.ask()
    graph.wait_for(lambda: asker.steps)
    asker.thread.stop()
    assert not asker.thread._thread.is_alive()
    assert asker.steps[-1][0] < 900


def test_the_service_twin_dreams_of_the_parameters_instruction(graph: Graph, world_model):
    asker = Asker(graph, world_model, instruction=INSTRUCTION, seed=3)
    asker.show(an_observation(1 * S, 4))
    name = topics.of(topics.ROLLOUT_GENERATOR, topics.GENERATE)
    answer = graph.wait_for(lambda: (a := graph.call(Trigger, name)).success and a)
    assert 'observation 4' in answer.message
    rollout = graph.wait_for(lambda: asker.rollouts)[0]
    assert (rollout.seed, rollout.instruction) == (3, INSTRUCTION)


def test_an_observation_of_another_robot_is_said_and_not_dreamed_of(graph: Graph, world_model):
    heard = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
    asker = Asker(graph, world_model, observation_timeout_s=0.1)
    message = an_observation(1 * S)
    message.robot = 'other'
    asker.show(message)
    graph.wait_for(
        lambda: [s for a in heard for s in a.status if "for robot 'other'" in s.message]
    )
    assert asker.result().termination_reason == Result.NO_OBSERVATION


def test_a_world_model_of_another_robot_is_refused_at_configure(graph: Graph, tmp_path):
    folder = small_world_model(tmp_path / 'm', robot='other')
    thread = graph.start(RolloutGenerator, checkpoint=str(folder))
    assert "trained on robot 'other', not on 'aloha_sim'" in thread.refusal


def test_of_several_candidates_the_best_is_published_with_its_seed(graph: Graph, tmp_path):
    folder, critic = lively_world_model(tmp_path / 'm'), small_critic(tmp_path / 'critic')
    asker = Asker(graph, folder, candidates=4, critic=str(critic), idm=str(folder))
    asker.show(an_observation(1 * S))
    view, seeds = received_view(an_observation(1 * S)), []
    model = load_world_model(folder)
    best = BestOf(model, by_progress(load_critic(critic)), 4)
    for number, seed in enumerate((5, 6, 7)):
        assert asker.result(seed=seed).termination_reason == Result.SUCCEEDED
        rollout = graph.wait_for(lambda n=number: asker.rollouts[n:])[0]
        seeds.append(candidate_seeds(seed, 4).index(rollout.seed))
        frames = received_rollout(rollout).frames
        expected = best.dream(view, INSTRUCTION, seed=seed)
        assert rollout.seed == expected.seed
        alone = model.dream(view, INSTRUCTION, seed=rollout.seed)
        np.testing.assert_array_equal(frames, alone.frames)
    assert any(seeds)
    assert asker.steps[:3] == [(1, 3), (2, 3), (3, 3)]


def test_one_candidate_asks_for_no_critic(graph: Graph, world_model):
    asker = Asker(graph, world_model, critic='none', idm='/none', choose_by='luck')
    asker.show(an_observation(1 * S))
    assert asker.result().termination_reason == Result.SUCCEEDED


@pytest.mark.parametrize(
    ('parameters', 'said'),
    [
        ({'critic': 'none'}, 'by progress needs a critic: name the folder of one'),
        ({'critic': '/nowhere/critic'}, 'no checkpoint folder /nowhere/critic'),
        ({'choose_by': 'luck'}, "by 'luck': choose by progress, executability, consensus"),
        ({'choose_by': 'consensus', 'idm': '/nowhere'}, 'no checkpoint folder /nowhere'),
        ({'candidates': 0}, "parameter 'candidates' must be a int between 1 and 16"),
        ({'candidates': 17}, "parameter 'candidates' must be a int between 1 and 16"),
    ],
)
def test_candidates_that_cannot_be_chosen_from_are_refused_at_configure(
    graph: Graph, world_model, parameters, said
):
    given = {'checkpoint': str(world_model), 'candidates': 4, **parameters}
    assert said in graph.start(RolloutGenerator, **given).refusal


def test_a_critic_of_another_view_is_refused_at_configure(graph: Graph, world_model, tmp_path):
    slower = VIEW.model_copy(update={'rate_hz': 5.0})
    given = {'candidates': 2, 'critic': str(small_critic(tmp_path / 'critic', slower))}
    thread = graph.start(RolloutGenerator, checkpoint=str(world_model), **given)
    assert 'progress critic trained at 5 Hz' in thread.refusal


def test_a_checkpoint_folder_that_is_not_there_is_refused_at_configure(graph: Graph, tmp_path):
    for kind in (RolloutGenerator, ActionDecoder):
        thread = graph.start(kind, checkpoint=str(tmp_path / 'none'))
        assert str(tmp_path / 'none') in thread.refusal


def test_an_idm_of_another_robot_is_refused_at_configure(graph: Graph, tmp_path):
    folder = small_idm(tmp_path / 'idm', ROBOT.home, renamed(ROBOT, 'other'))
    thread = graph.start(ActionDecoder, checkpoint=str(folder))
    assert "trained on robot 'other'" in thread.refusal


def spoil(path, name):
    """Plant a nan in a tensor of a safetensors file."""
    tensors = load_file(path)
    tensors[name].view(-1)[0] = np.nan
    save_file(tensors, path)


def test_a_world_model_with_a_weight_that_is_nan_is_refused_at_configure(graph: Graph, tmp_path):
    folder = small_world_model(tmp_path / 'm')
    spoil(folder / 'codec' / 'codec.safetensors', 'frame_mean')
    thread = graph.start(RolloutGenerator, checkpoint=str(folder))
    assert "codec.safetensors: 1 of 192 values of 'frame_mean' is not finite" in thread.refusal


def test_an_idm_with_a_weight_that_is_nan_is_refused_at_configure(graph: Graph, tmp_path):
    folder = small_idm(tmp_path / 'idm', ROBOT.home)
    spoil(folder / 'model.safetensors', 'mean')
    thread = graph.start(ActionDecoder, checkpoint=str(folder))
    assert "model.safetensors: 1 of 14 values of 'mean' is not finite" in thread.refusal


def errors_on(diagnostics, text):
    """Return the errors among diagnostics whose message contains a text."""
    return [
        status
        for array in diagnostics
        for status in array.status
        if status.level == DiagnosticStatus.ERROR and text in status.message
    ]


def test_a_dream_that_is_not_finite_ends_its_goal_and_is_not_published(graph: Graph, tmp_path):
    heard = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
    asker = Asker(graph, small_world_model(tmp_path / 'm', scale=3e38))
    asker.show(an_observation(1 * S))
    result = asker.result()
    assert result.termination_reason == Result.NON_FINITE
    assert 'not finite' in result.message
    assert result.rollout_id == 0
    graph.wait_for(lambda: errors_on(heard, result.message))
    assert not asker.rollouts


def test_an_observation_with_a_joint_that_is_nan_is_said_and_not_dreamed_of(
    graph: Graph, world_model
):
    heard = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
    asker = Asker(graph, world_model, observation_timeout_s=0.1)
    message = an_observation(1 * S)
    message.joint_state.position[2] = np.nan
    asker.show(message)
    graph.wait_for(lambda: errors_on(heard, f'{ROBOT.joint_names[2]} in the observation'))
    assert asker.result().termination_reason == Result.NO_OBSERVATION


def test_a_reading_that_is_not_finite_makes_no_chunk_and_a_report(graph: Graph, tmp_path):
    reports = graph.collect(ChunkReport, topics.CHUNK_REPORT, qos.REPORT)
    folder = small_idm(tmp_path / 'idm', np.full(14, 3e38), bias=3e38)
    rollouts = Rollouts(graph, folder)
    rollouts.send(rollout_id=7)
    report = graph.wait_for(lambda: reports)[0]
    assert (report.rollout_id, report.reason) == (7, ChunkReport.NON_FINITE)
    assert not report.accepted and not report.sent
    assert 'reads values that are not finite' in report.detail
    graph.wait_for(lambda: errors_on(rollouts.diagnostics, report.detail))
    assert not rollouts.chunks


class Rollouts:
    """A source of rollouts for the decoder, and ears on its chunks."""

    def __init__(self, graph: Graph, idm):
        self.chunks = graph.collect(ActionChunk, topics.CHUNK, qos.PIPELINE)
        self.diagnostics = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
        self.graph = graph
        assert graph.start(ActionDecoder, checkpoint=str(idm)).refusal == ''
        self.publisher = graph.publisher(Rollout, topics.ROLLOUT, qos.PIPELINE)

    def send(self, **changes):
        fields = {
            'observation_stamp_ns': 5 * S,
            'observation_id': 3,
            'rollout_id': 2,
            'robot': ROBOT.name,
            'instruction': INSTRUCTION,
            'frames': np.zeros((17, VIEW.height, VIEW.width, 3), np.uint8),
            'dt': 0.1,
            'joint_names': ROBOT.joint_names,
            'joint_positions': ROBOT.home,
            'seed': 1,
            'denoising_steps': 3,
            'checkpoint': 'w@0',
            'duration_s': 0.1,
        }
        self.publisher.publish(rollout_message(StampedRollout(**{**fields, **changes}), 6 * S))

    def said(self, text):
        return self.graph.wait_for(
            lambda: [s for a in self.diagnostics for s in a.status if text in s.message]
        )


def test_a_rollout_becomes_a_chunk_with_its_executability(graph: Graph, idm):
    rollouts = Rollouts(graph, idm)
    rollouts.send()
    chunk = graph.wait_for(lambda: rollouts.chunks)[0]
    assert (chunk.rollout_id, chunk.observation_id) == (2, 3)
    assert to_ns(chunk.observation_stamp) == 5 * S
    assert (chunk.horizon, tuple(chunk.joint_names)) == (17, ROBOT.joint_names)
    positions = np.reshape(chunk.positions, (17, 14))
    sent = ROBOT.gripping(ROBOT.home)
    assert sent[6] < ROBOT.home[6]
    np.testing.assert_allclose(positions, np.tile(sent, (17, 1)), atol=2e-5)
    np.testing.assert_array_equal(chunk.observed_positions, ROBOT.home)
    # Nothing moves: the best score there is, and no motion.
    assert chunk.executability.score == pytest.approx(10.0, abs=1e-2)
    assert chunk.executability.motion == pytest.approx(0.0, abs=1e-4)
    assert 0.0 <= chunk.confidence <= 1.0
    assert chunk.checkpoint.startswith('idm@')


@pytest.mark.parametrize(
    ('changes', 'said'),
    [
        ({'robot': 'other'}, "for robot 'other'"),
        ({'joint_names': ('hip', *ROBOT.joint_names[1:])}, 'hip'),
        ({'frames': np.zeros((17, 32, 32, 3), np.uint8)}, '(32, 32)'),
        ({'dt': 0.2}, 'a frame every 0.2 s'),
        ({'joint_positions': np.full(14, np.nan)}, 'in the rollout is not finite'),
    ],
)
def test_a_rollout_that_does_not_fit_is_said_and_makes_no_chunk(graph: Graph, idm, changes, said):
    rollouts = Rollouts(graph, idm)
    rollouts.send(**changes)
    assert rollouts.said(said)
    rollouts.send(rollout_id=9)
    assert graph.wait_for(lambda: rollouts.chunks)[0].rollout_id == 9
