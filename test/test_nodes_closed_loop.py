"""One scene both ways: the nodes send the arms what the closed loop without ROS sends them."""

import numpy as np
import pytest
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from ros_harness import TIMEOUT_S
from ros_harness import wait
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory

from eva_msgs.action import ExecuteTask
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Rollout
from eva_ros.control.settings import load_gate_settings
from eva_ros.evaluation.closed_loop import LoopSettings
from eva_ros.evaluation.closed_loop import run_episode
from eva_ros.evaluation.variants import Attempt
from eva_ros.evaluation.variants import load_driver
from eva_ros.evaluation.variants import World
from eva_ros.nodes.composed import node_class
from eva_ros.nodes.sim_robot import SimRobotNode
from eva_ros.observations.views import load_view
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.trajectories import received_points
from eva_ros.sim.robot import SimRobot

ROBOT = load_robot('aloha_sim')
TASK, SCENE, SEED = 'reach_left', 104, 7
INSTRUCTION = 'reach for the red cube with your left hand'
# Long enough for gravity to have pulled the arms where they stay.
SETTLED_NS = 7_000_000_000
NODES = (
    topics.CAMERA_INGEST,
    topics.ROLLOUT_GENERATOR,
    topics.ACTION_DECODER,
    topics.ARM_TRAJECTORY_PUBLISHER,
    topics.TASK_EXECUTOR,
)


def sent_by_nodes(graph):
    """Return the first rollout of a task, and both arms' first trajectories."""
    heard = {
        arm: graph.collect(JointTrajectory, spec.controller.topic, qos.COMMAND)
        for arm, spec in ROBOT.arms.items()
    }
    rollouts = graph.collect(Rollout, topics.ROLLOUT, qos.PIPELINE)
    reports = graph.collect(ChunkReport, topics.CHUNK_REPORT, qos.REPORT)
    graph.probe.set_parameters([Parameter('use_sim_time', value=True)])
    robot = graph.start(SimRobotNode, task=TASK, seed=SCENE)
    assert robot.refusal == ''
    for name in NODES:
        overrides = {'use_sim_time': True}
        if name == topics.ARM_TRAJECTORY_PUBLISHER:
            overrides['dry_run'] = False
        assert graph.start(node_class(name), **overrides).refusal == ''
    clock = graph.probe.get_clock()
    graph.wait_for(lambda: clock.now().nanoseconds > SETTLED_NS)
    arm = topics.of(topics.ARM_TRAJECTORY_PUBLISHER, topics.ARM)
    graph.wait_for(lambda: graph.call(Trigger, arm).success)
    ask(
        graph, ExecuteTask.Goal(instruction=INSTRUCTION, task=TASK, seed=SEED, max_duration_s=60.0)
    )
    graph.wait_for(lambda: reports)
    assert reports[0].accepted, reports[0].detail
    graph.wait_for(lambda: all(heard.values()))
    return rollouts[0], {arm: received_points(found[0]) for arm, found in heard.items()}


def ask(graph, goal):
    client = ActionClient(graph.probe, ExecuteTask, topics.EXECUTE_TASK)
    assert client.wait_for_server(TIMEOUT_S)
    assert wait(client.send_goal_async(goal)).accepted


def sent_by_closed_loop():
    """Return the first turn of the closed loop in the same scene."""
    world = World(ROBOT, load_view('aloha_sim'), checkpoint_dir())
    planner = load_driver('aligned', world)(Attempt(TASK, INSTRUCTION, SEED))
    turns = []
    sim = SimRobot(TASK, SCENE)
    try:
        sim.cameras_on = False
        while sim.time_ns < SETTLED_NS:
            sim.advance(0.1)
        run_episode(
            sim,
            INSTRUCTION,
            planner,
            ROBOT,
            world.view,
            load_gate_settings(ROBOT.name),
            LoopSettings(time_limit_s=1.5),
            turns.append,
        )
    finally:
        sim.close()
    return turns[0]


@pytest.mark.slow
def test_nodes_and_closed_loop_send_the_same_trajectories(graph):
    rollout, sent = sent_by_nodes(graph)
    turn = sent_by_closed_loop()
    observed = np.array(rollout.frames[0].data, np.uint8).reshape(turn.observation.view.shape)
    assert to_ns(rollout.observation_stamp) > SETTLED_NS
    assert np.array_equal(observed, turn.observation.view)
    dreamed = np.array(rollout.frames[-1].data, np.uint8).reshape(observed.shape)
    assert np.abs(dreamed.astype(int) - turn.plan.frames[-1]).max() <= 2
    assert np.abs(dreamed.astype(int) - observed).max() > 20
    assert turn.verdict.accepted, turn.verdict.detail
    assert set(turn.verdict.command) == set(sent) == {'left', 'right'}
    for arm, trajectory in turn.verdict.command.items():
        times = sent[arm]['time_from_start']
        assert times == pytest.approx(np.asarray(trajectory.time_from_start), abs=2e-3)
        assert sent[arm]['positions'] == pytest.approx(trajectory.positions, abs=2e-3)
