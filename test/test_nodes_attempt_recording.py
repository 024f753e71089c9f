"""One attempt recorded twice, by the nodes and by `eva evaluate`: the same training samples."""

from dataclasses import dataclass

import numpy as np
import pytest
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from ros_harness import TIMEOUT_S
from ros_harness import wait
from std_srvs.srv import Trigger

from eva_msgs.action import ExecuteTask
from eva_msgs.action import RecordEpisode
from eva_ros.alignment.attempts import AttemptDream
from eva_ros.alignment.attempts import dream_prompts
from eva_ros.alignment.attempts import DreamPrompt
from eva_ros.alignment.attempts import read_dreams
from eva_ros.alignment.prompts import find_prompts
from eva_ros.alignment.prompts import Prompt
from eva_ros.cli.main import main
from eva_ros.episodes.dataset import Episode
from eva_ros.inspection.check import check_bag
from eva_ros.nodes.composed import node_class
from eva_ros.nodes.episode_recorder import EpisodeRecorder
from eva_ros.nodes.sim_robot import SimRobotNode
from eva_ros.observations.views import load_view
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.bag_search import find_bags
from eva_ros.robot.spec import load_robot
from eva_ros.ros import topics

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
TASK, SCENE = 'reach_left', 104
# The phrasing and the seed that `eva evaluate` takes for this scene.
INSTRUCTION, SEED = 'reach for the red cube with your left hand', 104_000
NODES = (
    topics.CAMERA_INGEST,
    topics.ROLLOUT_GENERATOR,
    topics.ACTION_DECODER,
    topics.ARM_TRAJECTORY_PUBLISHER,
    topics.TASK_EXECUTOR,
)


@dataclass
class Samples:
    """What training makes of a recorded attempt."""

    topics: dict[str, str]
    facts: set[str]
    episode: Episode
    motions: list[Prompt]
    dreams: list[AttemptDream]
    prompts: list[DreamPrompt]


def record_live(graph, folder):
    """Attempt the task with the nodes while the episode recorder runs."""
    graph.probe.set_parameters([Parameter('use_sim_time', value=True)])
    assert graph.start(SimRobotNode, task=TASK, seed=SCENE).refusal == ''
    for name in NODES:
        overrides = {'use_sim_time': True}
        if name == topics.ARM_TRAJECTORY_PUBLISHER:
            overrides['dry_run'] = False
        assert graph.start(node_class(name), **overrides).refusal == ''
    room = {'warn_free_gb': 0.0, 'stop_free_gb': 0.0}
    recorder = graph.start(EpisodeRecorder, folder=str(folder), use_sim_time=True, **room)
    assert recorder.refusal == ''
    arm = topics.of(topics.ARM_TRAJECTORY_PUBLISHER, topics.ARM)
    graph.wait_for(lambda: graph.call(Trigger, arm).success)
    asked = RecordEpisode.Goal(instruction=INSTRUCTION, task=TASK, max_duration_s=120.0)
    recorded = ask(graph, RecordEpisode, topics.RECORD_EPISODE, asked)
    goal = ExecuteTask.Goal(instruction=INSTRUCTION, task=TASK, seed=SEED, max_duration_s=110.0)
    ask(graph, ExecuteTask, topics.EXECUTE_TASK, goal)
    result = wait(recorded).result
    assert result.outcome == RecordEpisode.Result.RECORDED, result.message


def ask(graph, kind, name, goal):
    client = ActionClient(graph.probe, kind, name)
    assert client.wait_for_server(TIMEOUT_S)
    handle = wait(client.send_goal_async(goal))
    assert handle.accepted
    return handle.get_result_async()


def record_by_evaluate(folder):
    asked = ('--variants', 'aligned', '--tasks', TASK, '--episodes', '1', '--seed', str(SCENE))
    assert main(['evaluate', *asked, '--workers', '1', '--record', str(folder)]) == 0


def samples(folder, load):
    (bag,) = find_bags([folder])
    checked = check_bag(bag, ROBOT, VIEW)
    # A busy machine may be late with an image of the running robot.
    assert checked.verdict in ('usable', 'partial'), checked.reasons
    print(folder.name, checked.verdict, *checked.reasons)
    with BagReader(bag) as reader:
        kinds, facts = dict(reader.topics), set(reader.facts)
    episodes, _ = load(folder)
    dreams = list(read_dreams([folder], ROBOT, VIEW))
    prompts = dream_prompts(dreams, episodes)
    episode = episodes[prompts[0].episode]
    motions = find_prompts([episode], VIEW.frames, VIEW.rate_hz)
    return Samples(kinds, facts, episode, motions, dreams, prompts)


@pytest.mark.slow
def test_an_attempt_gives_the_same_training_samples_live_and_by_evaluate(graph, tmp_path, load):
    record_live(graph, tmp_path / 'live')
    record_by_evaluate(tmp_path / 'evaluate')
    live, made = (samples(tmp_path / name, load) for name in ('live', 'evaluate'))
    # evaluate says more about itself: the scene and the variant.
    assert live.topics == made.topics
    assert made.facts - live.facts == {'eva.scene', 'eva.scenes', 'eva.variant'}
    assert live.facts <= made.facts
    same_episode(live.episode, made.episode)
    same_motion(live.motions[0], made.motions[0])
    same_dream(live.dreams[0], made.dreams[0])
    same_dream_prompt(live.prompts[0], made.prompts[0])


def same_episode(live, made):
    for name in ('instruction', 'task', 'success', 'number'):
        assert getattr(live, name) == getattr(made, name)
    assert made.success is True and made.instruction == INSTRUCTION
    for name in ('frames', 'joints', 'observed_joints', 'speed', 'image_stamps_ns'):
        there, here = getattr(live, name), getattr(made, name)
        assert (there.dtype, there.shape[1:]) == (here.dtype, here.shape[1:])
    for episode in (live, made):
        assert set(np.diff(episode.ticks_ns)) == {round(1e9 / VIEW.rate_hz)}


def same_motion(live, made):
    assert (live.instruction, live.task, live.success) == (
        made.instruction,
        made.task,
        made.success,
    )
    assert live.frames.shape == made.frames.shape == (VIEW.frames, VIEW.height, VIEW.width, 3)
    # The same way, sampled up to a tick earlier or later.
    assert np.abs(live.joints[0] - made.joints[0]).max() < 0.02
    ways = [prompt.joints[-1] - prompt.joints[0] for prompt in (live, made)]
    assert np.linalg.norm(ways[0] - ways[1]) < 0.25 * np.linalg.norm(ways[1])


def same_dream(live, made):
    there, here = live.rollout, made.rollout
    for name in ('seed', 'checkpoint', 'denoising_steps', 'robot', 'instruction', 'joint_names'):
        assert getattr(there, name) == getattr(here, name), name
    assert there.seed == SEED and there.checkpoint.startswith('world_model@')
    assert there.dt == pytest.approx(here.dt)
    assert there.frames.shape == here.frames.shape == (VIEW.frames, VIEW.height, VIEW.width, 3)
    # Gravity has pulled the arms a little further where the nodes took longer to start.
    apart = np.abs(there.frames.astype(int) - here.frames)
    assert apart[0].mean() < 0.5 and apart.mean() < 1
    assert (
        live.sent
        and made.sent
        and live.report.stretch == pytest.approx(made.report.stretch, abs=0.02)
    )
    assert live.chunk.checkpoint == made.chunk.checkpoint
    assert live.chunk.positions == pytest.approx(made.chunk.positions, abs=0.03)
    assert live.chunk.confidence == pytest.approx(made.chunk.confidence, abs=0.01)
    for name, value in made.chunk.executability.items():
        assert np.isfinite(value) == np.isfinite(live.chunk.executability[name])
    assert live.chunk.executability['score'] == pytest.approx(
        made.chunk.executability['score'], abs=0.1
    )


def same_dream_prompt(live, made):
    # The arms followed the same motion, at the same pace.
    for name in ('instruction', 'task', 'success', 'seed', 'checkpoint'):
        assert getattr(live, name) == getattr(made, name)
    assert live.joints.shape == made.joints.shape == (VIEW.frames, len(ROBOT.joint_names))
    assert np.abs(live.joints - made.joints).max() < 0.05
