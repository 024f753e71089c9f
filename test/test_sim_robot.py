"""The simulated robot publishes, executes and judges as the nodes and the recorder rely on."""

import cv2
import numpy as np
import pytest

from eva_ros.robot.spec import load_robot
from eva_ros.sim.geometry import inverse_kinematics
from eva_ros.sim.robot import CameraImage
from eva_ros.sim.robot import JointState
from eva_ros.sim.robot import SimRobot
from eva_ros.sim.robot import TrajectoryCommand
from eva_ros.sim.scenes import TIME_LIMIT_S
from eva_ros.sim.world import CAMERAS
from eva_ros.sim.world import STEP_NS

ROBOT = load_robot('aloha_sim')
MS = 1_000_000


@pytest.fixture(scope='module')
def shared():
    made = SimRobot('reach_left', 0, height=48, width=64)
    yield made
    made.close()


@pytest.fixture
def sim(shared):
    shared.reset('reach_left', 0)
    shared.cameras_on = False
    return shared


def move(sim, arm, q, seconds=1.0, **fields):
    """Send one arm to a posture [14]; returns the controller's answer."""
    names, positions = ROBOT.arm_command(arm, np.asarray(q)[None])
    return sim.send(arm, TrajectoryCommand(0, names, [seconds], positions, **fields))


def at_the_cube(sim, side='left'):
    q = sim.world.joints
    place = slice(0, 6) if side == 'left' else slice(7, 13)
    q[place] = inverse_kinematics(side, sim.world.target, 1.1)
    # an open hand
    q[place.stop] = 1.0
    return q


# --- what it publishes ------------------------------------------------------------------------


def test_cameras_run_at_20_hz_and_joint_states_at_100_hz_on_the_physics_grid(sim):
    sim.cameras_on = True
    start_ns = sim.time_ns
    events = sim.advance(1.0)
    assert sim.time_ns == start_ns + 1000 * MS
    stamps = [event.stamp_ns for event in events]
    assert stamps == sorted(stamps)
    assert all(stamp % STEP_NS == 0 for stamp in stamps)
    states = [event.stamp_ns for event in events if isinstance(event, JointState)]
    assert (np.diff(states) == 10 * MS).all()
    assert len(states) == 100
    for camera in CAMERAS:
        images = [e.stamp_ns for e in events if isinstance(e, CameraImage) and e.camera == camera]
        assert len(images) == 20
        assert (np.diff(images) == 50 * MS).all()


def test_cameras_that_are_off_publish_nothing(sim):
    assert {type(event) for event in sim.advance(0.2)} == {JointState}


def test_pictures_are_jpegs_of_the_size_asked_for(sim):
    sim.cameras_on = True
    (image,) = [e for e in sim.advance(0.05) if isinstance(e, CameraImage) and e.camera == 'top']
    decoded = cv2.imdecode(np.frombuffer(image.data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == (48, 64, 3)
    assert decoded.std() > 10


def test_joint_states_have_the_controllers_names_and_units(sim):
    state = sim.joint_state()
    assert state.names[6] == 'left_left_finger'
    assert len(state.names) == len(set(state.names)) == 14
    np.testing.assert_allclose(
        ROBOT.from_joint_state(state.names, state.positions), sim.world.joints, atol=1e-9
    )
    assert 0.02 < state.positions[6] < 0.058


def test_the_same_scene_gives_the_same_pictures(sim):
    sim.cameras_on = True
    seen = []
    for _ in range(2):
        sim.reset('lift_left', 3)
        move(sim, 'left', at_the_cube(sim))
        seen.append([e.data for e in sim.advance(0.3) if isinstance(e, CameraImage)])
    assert seen[0] == seen[1]


# --- what it executes -------------------------------------------------------------------------


def test_an_arm_goes_where_its_controller_is_told_and_the_other_stays(sim):
    before = sim.world.joints
    goal = before + np.r_[np.full(6, 0.1), 0.0, np.full(7, 0.3)]
    assert move(sim, 'left', goal) is None
    sim.advance(1.5)
    np.testing.assert_allclose(sim.world.joints[:6], goal[:6], atol=0.02)
    np.testing.assert_allclose(sim.world.joints[7:], before[7:], atol=0.01)


@pytest.mark.parametrize(('acceleration', 'extra'), [(None, 0.0), (2.0, 2.0 / 64)])
def test_a_command_is_cubic_and_quintic_with_accelerations(sim, acceleration, extra):
    start = sim.commanded()
    rows = None if acceleration is None else np.full((1, 7), acceleration)
    assert move(sim, 'left', start + 0.2, velocities=np.zeros((1, 7)), accelerations=rows) is None
    sim.advance(0.5)
    # from rest to rest in 1 s, half way; of the last point's acceleration a there is a / 64
    np.testing.assert_allclose(sim.commanded()[:6], start[:6] + 0.1 + extra, atol=1e-9)


def test_a_wrong_joint_is_rejected_and_nothing_moves(sim):
    before = sim.commanded()
    names, target = ROBOT.arm_command('left', before[None] + 0.2)
    refusal = sim.send('left', TrajectoryCommand(0, ('nobody', *names[1:]), [1.0], target))
    assert 'nobody' in refusal
    sim.advance(0.5)
    np.testing.assert_array_equal(sim.commanded(), before)


def test_a_reset_forgets_the_trajectory_while_time_goes_on(sim):
    move(sim, 'left', sim.world.joints + 0.2)
    sim.advance(0.5)
    time_ns = sim.time_ns
    sim.reset('reach_left', 0)
    assert sim.time_ns >= time_ns
    held = sim.commanded()
    sim.advance(1.0)
    np.testing.assert_array_equal(sim.commanded(), held)


def test_the_clock_can_start_anew_for_another_bag(sim):
    sim.advance(0.3)
    sim.restart_clock()
    assert sim.time_ns == 1000 * MS


# --- what it judges ---------------------------------------------------------------------------


def test_success_is_latched_until_the_reset(sim):
    home = sim.world.joints
    move(sim, 'left', at_the_cube(sim))
    sim.advance(1.1)
    assert not sim.success()
    sim.advance(1.5)
    assert sim.success()
    move(sim, 'left', home)
    sim.advance(1.0)
    assert sim.success()
    assert sim.in_time()
    sim.reset('reach_left', 1)
    assert not sim.success()


def test_what_is_done_after_the_limit_is_not_done_in_time(sim):
    sim.advance(TIME_LIMIT_S)
    move(sim, 'left', at_the_cube(sim))
    sim.advance(3.0)
    assert sim.success()
    assert not sim.in_time()
