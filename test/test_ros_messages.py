"""What goes into a message comes out of it unchanged, and what is not well formed is refused."""

import re

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from rclpy.serialization import deserialize_message
from rclpy.serialization import serialize_message

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import ChunkReport
from eva_msgs.msg import Executability
from eva_msgs.msg import SafetyState
from eva_ros.alignment.reward import Executability as Judged
from eva_ros.control import reasons
from eva_ros.control.state import State
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.errors import UserError
from eva_ros.observations.ingest import Observation
from eva_ros.robot.spec import load_robot
from eva_ros.ros.chunks import chunk_message
from eva_ros.ros.chunks import received_chunk
from eva_ros.ros.observations import observation_message
from eva_ros.ros.observations import received_observation
from eva_ros.ros.reports import reason_code
from eva_ros.ros.rollouts import received_rollout
from eva_ros.ros.rollouts import rollout_message
from eva_ros.ros.rollouts import StampedRollout
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time
from eva_ros.ros.trajectories import received_points
from eva_ros.ros.trajectories import trajectory_message

ROBOT = load_robot('aloha_sim')
RNG = np.random.default_rng(0)


def over_the_wire(message):
    """Return the message as a subscriber would get it."""
    return deserialize_message(serialize_message(message), type(message))


def same(a, b):
    """Return whether two dataclasses hold the same values."""
    for name, value in vars(a).items():
        np.testing.assert_array_equal(np.asarray(value), np.asarray(getattr(b, name)), name)
    return True


def an_observation(**changes):
    fields = {
        'stamp_ns': 5_000_000_001,
        'view': RNG.integers(0, 255, (144, 128, 3), dtype=np.uint8),
        'image_stamps': {'top': 4_950_000_000, 'left_wrist': 4_960_000_000},
        'joint_positions': RNG.normal(size=14),
        'joint_stamp_ns': 4_990_000_000,
        'joint_velocities': RNG.normal(size=14),
        'at_rest': True,
    }
    return Observation(**{**fields, **changes})


def a_rollout():
    return StampedRollout(
        observation_stamp_ns=5_000_000_001,
        observation_id=3,
        rollout_id=2,
        robot='aloha_sim',
        instruction='touch the cube',
        frames=RNG.integers(0, 255, (5, 144, 128, 3), dtype=np.uint8),
        dt=0.1,
        joint_names=ROBOT.joint_names,
        joint_positions=RNG.normal(size=14),
        seed=7,
        denoising_steps=8,
        checkpoint='w@0123456789ab',
        duration_s=0.5,
    )


@given(st.integers(0, 2**31 * 10**9 - 1))
def test_stamps_keep_every_nanosecond(stamp_ns):
    assert to_ns(to_time(stamp_ns)) == stamp_ns


@given(st.floats(0, 1e6))
def test_durations_keep_every_nanosecond(seconds):
    assert abs(to_ns(to_duration(seconds)) - seconds * 1e9) <= 1


def test_an_observation_survives():
    sent = an_observation()
    received = received_observation(over_the_wire(observation_message(sent, 9, ROBOT)), ROBOT)
    assert received.observation_id == 9
    assert received.oldest_image_ns == 4_950_000_000
    assert same(sent, received.observation)


def test_unknown_velocities_stay_unknown():
    sent = an_observation(joint_velocities=np.full(14, np.nan))
    message = over_the_wire(observation_message(sent, 1, ROBOT))
    assert len(message.joint_state.velocity) == 0
    received = received_observation(message, ROBOT)
    assert np.isnan(received.observation.joint_velocities).all()


def test_an_observation_of_another_robot_or_other_joints_is_refused():
    message = observation_message(an_observation(), 1, ROBOT)
    message.robot = 'piper_dual'
    with pytest.raises(UserError, match="for robot 'piper_dual', and this node works for"):
        received_observation(message, ROBOT)
    message.robot = 'aloha_sim'
    message.joint_state.name[0] = 'hip'
    with pytest.raises(UserError, match="lacks \\['left_waist'\\], has \\['hip'\\]"):
        received_observation(message, ROBOT)


def test_a_rollout_survives():
    sent = a_rollout()
    message = over_the_wire(rollout_message(sent, 6_000_000_000))
    assert same(sent, received_rollout(message))
    assert to_ns(message.frames[2].header.stamp) == sent.observation_stamp_ns + 200_000_000
    assert message.frames[0].encoding == 'rgb8'


@pytest.mark.parametrize(
    ('spoil', 'said'),
    [
        (lambda m: m.frames.pop(), 'says 5 frames and holds 4'),
        (lambda m: setattr(m, 'step_dt', to_duration(0)), 'step_dt of 0.0 s'),
        (lambda m: setattr(m.frames[0], 'encoding', '8UC7'), '8UC7'),
        (lambda m: setattr(m.frames[0], 'height', 3), 'different sizes'),
    ],
)
def test_a_rollout_that_is_not_well_formed_is_refused(spoil, said):
    message = rollout_message(a_rollout(), 0)
    spoil(message)
    with pytest.raises(UserError, match=said):
        received_rollout(message)


def test_a_chunk_survives_in_row_major_order():
    rollout = a_rollout()
    positions = RNG.normal(size=(5, 14))
    terms = dict.fromkeys(Judged._fields, 1.5)
    sent = chunk_message(
        rollout, positions, terms, confidence=0.5, checkpoint='idm@0', now_ns=7_000_000_000
    )
    message = over_the_wire(sent)
    assert message.positions[2 * 14 + 3] == positions[2, 3]
    chunk = received_chunk(message)
    np.testing.assert_array_equal(chunk.positions, positions)
    np.testing.assert_array_equal(chunk.observed_positions, rollout.joint_positions)
    assert (chunk.rollout_id, chunk.dt, chunk.confidence) == (2, 0.1, 0.5)
    assert chunk.observation_stamp_ns == rollout.observation_stamp_ns
    assert message.executability.score == 1.5


def test_a_chunk_whose_positions_do_not_fill_it_is_refused():
    message = ActionChunk(horizon=2, joint_names=['a', 'b'], positions=[0.0] * 3)
    with pytest.raises(UserError, match='2 steps of 2 joints and holds 3 positions'):
        received_chunk(message)


def test_the_reward_and_the_message_name_the_same_terms():
    assert set(Judged._fields) == set(Executability.get_fields_and_field_types())


def test_a_trajectory_survives():
    sent = ArmTrajectory(('a', 'b'), np.array([0.1, 0.25]), *RNG.normal(size=(3, 2, 2)))
    message = over_the_wire(trajectory_message(sent, 12))
    received = received_points(message)
    assert to_ns(message.header.stamp) == 12
    for name, values in received.items():
        np.testing.assert_array_equal(values, getattr(sent, name))


def test_what_a_trajectory_leaves_out_is_none_and_ragged_points_have_no_column():
    message = trajectory_message(
        ArmTrajectory(('a',), np.array([1.0, 2.0]), *np.zeros((3, 2, 1))), 0
    )
    for point in message.points:
        point.velocities = []
    message.points[1].accelerations = []
    received = received_points(message)
    assert received['velocities'] is None
    assert received['accelerations'].shape == (2, 0)


def test_every_reason_and_state_of_the_core_has_its_constant():
    names = [name for name in vars(reasons) if re.fullmatch('[A-Z_]+', name)]
    assert len(names) > 10
    for name in names:
        assert hasattr(ChunkReport, name), name
        assert reason_code(name) == getattr(ChunkReport, name)
    for state in State:
        assert hasattr(SafetyState, state.value)
    assert reason_code('SOMETHING_NEW') == ChunkReport.ERROR
