"""The simulated world moves, sees and feels what it should, and says why where it cannot see."""

import os
import subprocess
import sys

import numpy as np
import pytest

from eva_ros.sim.geometry import inverse_kinematics
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import TASKS
from eva_ros.sim.world import AlohaWorld
from eva_ros.sim.world import CUBE_HALF

HALF_OPEN = np.tile([0.0, -1.5, 1.5, 0.0, 0.3, 0.0, 0.5], 2)
FAR = (0.0, 0.8, CUBE_HALF)
WITHOUT_GL = """
import ctypes, ctypes.util
real, find = ctypes.CDLL, ctypes.util.find_library
def missing(name): return name and any(part in str(name) for part in ('GL', 'OSMesa'))
class Library(real):
    def __init__(self, name, *args, **kwargs):
        if missing(name): raise OSError(f'{name}: cannot open shared object file')
        super().__init__(name, *args, **kwargs)
ctypes.CDLL = Library
ctypes.cdll = ctypes.LibraryLoader(Library)
ctypes.util.find_library = lambda name: None if missing(name) else find(name)
"""
RENDER = """
from eva_ros.sim.robot import SimRobot
print(len(SimRobot('reach_left', 0, height=48, width=64).advance(0.1)))
"""


@pytest.fixture(scope='module')
def world():
    made = AlohaWorld(120, 160)
    yield made
    made.close()


def python(*programs):
    """Run a program in a new interpreter that nobody has told about MUJOCO_GL."""
    unset = {k: v for k, v in os.environ.items() if k not in ('MUJOCO_GL', 'PYOPENGL_PLATFORM')}
    return subprocess.run(
        [sys.executable, '-c', '\n'.join(programs)],
        env=unset, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def red(image):
    """Return the rows and columns [N, 2] of the pixels that show the cube."""
    r, g, b = np.moveaxis(image.astype(int), -1, 0)
    return np.argwhere((r > 120) & (g < 90) & (b < 90))


def test_arms_and_grippers_go_where_they_are_commanded(world):
    world.reset(HALF_OPEN, FAR)
    goal = HALF_OPEN + np.random.default_rng(0).uniform(-0.1, 0.1, 14)
    world.command(goal)
    world.step(1000)
    assert world.time_ns == 2_000_000_000
    np.testing.assert_allclose(world.joints, goal, atol=0.02)
    np.testing.assert_allclose(world.velocities, 0, atol=0.01)


def test_a_reset_puts_everything_where_the_scene_says_and_forgets_the_rest(world):
    scene = draw_scene(TASKS['reach_left'], 5)
    states = []
    for _ in range(2):
        world.reset(scene.joints, scene.target)
        np.testing.assert_allclose(world.joints, scene.joints, atol=0.02)
        np.testing.assert_allclose(world.target, scene.target, atol=0.002)
        assert world.time_ns == 0
        world.command(HALF_OPEN)
        world.step(100)
        states.append(world.data.qpos.copy())
    np.testing.assert_array_equal(states[0], states[1])


def test_the_cube_rests_on_the_table_until_fingers_close_on_it(world):
    cube = np.array([0.0, 0.5, CUBE_HALF])
    joints = HALF_OPEN.copy()
    joints[:7] = [*inverse_kinematics('left', cube, 1.1), 1.0]
    world.reset(joints, cube)
    assert world.touching_target() == {'table'}
    assert np.linalg.norm(world.fingertips('left') - world.target) < 0.015
    joints[6] = 0.0
    world.command(joints)
    world.step(300)
    assert world.touching_target() >= {'left/left', 'left/right'}


@pytest.mark.parametrize('seed', range(4))
def test_the_top_camera_sees_the_cube_at_the_start_where_it_lies(world, seed):
    scene = draw_scene(TASKS['lift_right'], seed)
    world.reset(scene.joints, scene.target)
    seen = red(world.render('top'))
    assert len(seen) >= 8
    # the camera looks along -z from (0, 0.6, 0.8) with 78 degrees from top to bottom
    focal = 60 / np.tan(np.deg2rad(39))
    x, y = scene.target[:2] - [0, 0.6]
    expected = [60 - focal * y / 0.78, 80 + focal * x / 0.78]
    np.testing.assert_allclose(seen.mean(0), expected, atol=2.5)


def test_a_wrist_camera_sees_its_own_hand_come_to_the_cube(world):
    cube = np.array([0.05, 0.45, CUBE_HALF])
    joints = HALF_OPEN.copy()
    joints[7:] = [*inverse_kinematics('right', cube, 1.1), 1.0]
    world.reset(joints, cube)
    near = len(red(world.render('right_wrist')))
    assert near > 300 > 20 >= len(red(world.render('left_wrist')))


def test_without_a_gl_library_it_says_what_to_install():
    result = python(WITHOUT_GL, RENDER)
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith('eva_ros.errors.UserError: The simulated cameras cannot render')
    assert 'libegl1' in last


def test_cameras_work_even_where_mujoco_was_imported_first():
    result = python('import mujoco', RENDER)
    assert (result.stdout.split(), result.returncode) == (['16'], 0), result.stderr
    assert 'Traceback' not in result.stderr
