"""What the inspector draws is where forward kinematics puts it."""

import dataclasses

import numpy as np
import pytest
from ros_harness import Graph
from sensor_msgs.msg import Image
from sensor_msgs.msg import JointState
from two_drivers import JOINTS
from two_drivers import robot_of_two_drivers
from visualization_msgs.msg import Marker
from visualization_msgs.msg import MarkerArray

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Rollout
from eva_ros.nodes.trajectory_inspector import TrajectoryInspector
from eva_ros.nodes.trajectory_inspector.path_markers import closeness
from eva_ros.nodes.trajectory_inspector.path_markers import colour
from eva_ros.robot.kinematics import ForwardKinematics
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.images import to_frame
from eva_ros.ros.rollouts import rollout_message
from eva_ros.ros.rollouts import StampedRollout
from eva_ros.ros.stamps import to_duration

ROBOT = load_robot('aloha_sim')
NODE = topics.TRAJECTORY_INSPECTOR
STEPS = 17


def a_path():
    path = np.tile(ROBOT.home, (STEPS, 1))
    path[:, 0] += np.linspace(0.0, 0.3, STEPS)
    path[:, 8] += np.linspace(0.0, 0.2, STEPS)
    return path


def a_rollout(frames, path, robot=ROBOT):
    return StampedRollout(
        observation_stamp_ns=1,
        observation_id=1,
        rollout_id=1,
        robot=robot.name,
        instruction='touch the cube',
        frames=frames,
        dt=0.1,
        joint_names=robot.joint_names,
        joint_positions=path[0],
        seed=0,
        denoising_steps=1,
        checkpoint='w@0',
        duration_s=0.1,
    )


def a_chunk(positions, rollout_id=1, robot=ROBOT):
    message = ActionChunk(rollout_id=rollout_id, robot=robot.name, instruction='touch the cube')
    message.step_dt = to_duration(0.1)
    message.horizon = len(positions)
    message.joint_names = list(robot.joint_names)
    message.positions = positions.ravel().tolist()
    message.observed_positions = positions[0].tolist()
    return message


class Viewer:
    """rviz, for a test: hears everything the inspector draws."""

    def __init__(self, graph: Graph, namespace: str = '', **parameters):
        self.graph = graph
        options = {'namespace': namespace} if namespace else {}
        self.thread = graph.start_with(TrajectoryInspector, options, **parameters)
        assert self.thread.refusal == ''
        self.root = f'/{namespace}/' if namespace else ''
        self.markers = self.hear(MarkerArray, topics.MARKERS, qos.LATCHED)
        self.dream = self.hear(Image, topics.DREAM, qos.SENSOR_OUTPUT)
        self.ghost = self.hear(JointState, topics.GHOST_JOINT_STATES, qos.SENSOR_OUTPUT)
        self.chunks = graph.publisher(ActionChunk, self.root + topics.CHUNK, qos.PIPELINE)

    def hear(self, kind, name, profile):
        return self.graph.collect(kind, self.root + topics.of(NODE, name), profile)

    def drawn(self, text=''):
        """Return the latest markers by namespace once their caption has a text."""

        def find():
            for array in self.markers[::-1]:
                found = {marker.ns: marker for marker in array.markers}
                if text in found['caption'].text:
                    return found
            return None

        return self.graph.wait_for(find)


def xyz(marker):
    return np.array([[point.x, point.y, point.z] for point in marker.points])


def test_paths_lead_where_forward_kinematics_puts_the_end_effectors(graph: Graph):
    viewer = Viewer(graph)
    path = a_path()
    viewer.chunks.publish(a_chunk(path))
    drawn = viewer.drawn()
    expected = ForwardKinematics(ROBOT).end_effector(path)
    for arm in ('left', 'right'):
        line = drawn[f'{arm}_path']
        assert line.type == Marker.LINE_STRIP
        assert line.header.frame_id == 'world'
        np.testing.assert_allclose(xyz(line), expected[arm], atol=1e-6)
        assert len(line.colors) == STEPS
    assert np.ptp(xyz(drawn['left_path']), axis=0).max() > 0.05
    assert 'touch the cube' in drawn['caption'].text


@pytest.mark.parametrize('side', [-1, 1], ids=['below', 'above'])
def test_steps_beyond_a_limit_are_spheres_on_that_arm_alone(graph: Graph, side):
    viewer = Viewer(graph)
    path = a_path()
    ends = (ROBOT.limits.min_position, ROBOT.limits.max_position)
    path[12:, 1] = ends[side > 0][1] + side * 0.1
    viewer.chunks.publish(a_chunk(path))
    drawn = viewer.drawn()
    expected = ForwardKinematics(ROBOT).end_effector(path)['left'][12:]
    assert drawn['left_clamped'].type == Marker.SPHERE_LIST
    np.testing.assert_allclose(xyz(drawn['left_clamped']), expected, atol=1e-6)
    assert drawn['left_clamped'].color.r == pytest.approx(colour(1.0).r)
    assert drawn['left_clamped'].color.g == pytest.approx(colour(1.0).g)
    assert drawn['right_clamped'].action == Marker.DELETE


def test_the_gates_word_is_added_to_the_caption(graph: Graph):
    viewer = Viewer(graph)
    reports = graph.publisher(ChunkReport, topics.CHUNK_REPORT, qos.REPORT)
    viewer.chunks.publish(a_chunk(a_path()))
    viewer.drawn()
    reports.publish(ChunkReport(rollout_id=7, detail='another one'))
    reports.publish(ChunkReport(rollout_id=1, detail='too fast'))
    assert 'refused: too fast' in viewer.drawn('too fast')['caption'].text


def test_whoever_comes_late_sees_the_latest_chunk(graph: Graph):
    viewer = Viewer(graph)
    viewer.chunks.publish(a_chunk(a_path()))
    viewer.drawn()
    late = graph.collect(MarkerArray, topics.of(NODE, topics.MARKERS), qos.LATCHED)
    graph.wait_for(lambda: late)


def test_paths_are_drawn_in_the_frames_of_the_namespace(graph: Graph):
    viewer = Viewer(graph, namespace='a')
    viewer.chunks.publish(a_chunk(a_path()))
    assert viewer.drawn()['left_path'].header.frame_id == 'a/world'


def test_paths_and_ghost_are_named_as_in_the_urdf_where_two_drivers_share_names(graph, tmp_path):
    robot = load_robot(robot_of_two_drivers(tmp_path))
    viewer = Viewer(graph, robot=str(robot.path))
    rollouts = graph.publisher(Rollout, topics.ROLLOUT, qos.PIPELINE)
    path = np.tile(robot.home, (STEPS, 1))
    frames = np.zeros((STEPS, 24, 32, 3), np.uint8)
    rollouts.publish(rollout_message(a_rollout(frames, path, robot), 2))
    viewer.chunks.publish(a_chunk(path, robot=robot))
    assert viewer.drawn()['left_path'].header.frame_id == 'base'
    (ghost,) = graph.wait_for(lambda: viewer.ghost)[:1]
    assert tuple(ghost.name) == JOINTS
    opening = ghost.position[ghost.name.index('left_gripper')]
    assert opening == pytest.approx(0.5 * 0.07)


def test_dreamed_frames_and_ghost_are_played_together(graph: Graph):
    viewer = Viewer(graph, playback_speed=0.5)
    rollouts = graph.publisher(Rollout, topics.ROLLOUT, qos.PIPELINE)
    graph.wait_for(lambda: viewer.thread.node._dream.get_subscription_count())
    # Frame i is of brightness i.
    frames = np.broadcast_to(
        np.arange(STEPS, dtype=np.uint8)[:, None, None, None], (STEPS, 24, 32, 3)
    )
    path = a_path()
    rollouts.publish(rollout_message(a_rollout(frames, path), 2))
    viewer.chunks.publish(a_chunk(path))
    graph.wait_for(lambda: viewer.dream and to_frame(viewer.dream[-1])[0, 0, 0] == STEPS - 1)
    shown = [int(to_frame(image)[0, 0, 0]) for image in viewer.dream]
    # A busy machine shows fewer of them, at the same pace.
    assert len(set(shown)) >= 4
    by_stamp = {image.header.stamp.nanosec: frame for image, frame in zip(viewer.dream, shown)}
    graph.wait_for(lambda: any(s.header.stamp.nanosec in by_stamp for s in viewer.ghost))
    for state in viewer.ghost:
        frame = by_stamp.get(state.header.stamp.nanosec)
        if frame is not None:
            decoded = ROBOT.from_joint_state(state.name, state.position)
            np.testing.assert_allclose(decoded, path[frame], atol=1e-6)


def test_a_chunk_with_other_joints_is_said_and_not_drawn(graph: Graph):
    viewer = Viewer(graph)
    chunk = a_chunk(a_path())
    chunk.joint_names[0] = 'hip'
    viewer.chunks.publish(chunk)
    viewer.chunks.publish(a_chunk(a_path(), rollout_id=2))
    assert 'rollout 2' in viewer.drawn()['caption'].text
    assert len(viewer.markers) == 1


def test_joints_without_limits_are_close_to_none():
    robot = load_robot('ur5e_dual')
    none = dataclasses.replace(
        robot.limits, **{name: np.full(12, sign * np.inf) for name, sign in
                         (('min_position', -1), ('max_position', 1), ('max_velocity', 1))}
    )  # fmt: skip
    assert not closeness(np.random.default_rng(0).normal(size=(5, 12)), 0.1, none).any()


def test_closeness_is_one_at_a_limit_of_position_or_velocity():
    limits = ROBOT.limits
    middle = (limits.max_position + limits.min_position) / 2
    still = np.stack([middle, middle, middle])
    assert closeness(still, 0.1, limits).max() == pytest.approx(0.0)
    at_limit = np.stack([limits.max_position] * 3)
    np.testing.assert_allclose(closeness(at_limit, 0.1, limits), 1.0)
    speed = middle + np.arange(3)[:, None] * limits.max_velocity * 0.1 * np.eye(14)[2]
    assert closeness(speed, 0.1, limits)[1, 2] >= 1.0


def test_colours_run_from_green_over_yellow_to_red():
    assert colour(0.0).g > colour(0.0).r
    assert colour(0.8).r > 0.9 and colour(0.8).g > 0.8
    assert colour(1.0) == colour(3.0)
    assert colour(1.0).r > 0.8 and colour(1.0).g < 0.2
