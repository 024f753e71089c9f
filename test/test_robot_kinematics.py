"""The URDF stands where MuJoCo's model stands."""

from pathlib import Path
import subprocess
import sys

import numpy as np
import pytest

from eva_ros.errors import UserError
from eva_ros.robot.spec import load_robot

pytest.importorskip('pinocchio')
from eva_ros.robot.kinematics import ForwardKinematics

FINGERTIP_OFFSET_M = 0.15


@pytest.fixture(scope='module')
def robot():
    return load_robot('aloha_sim')


@pytest.fixture(scope='module')
def kinematics(robot):
    return ForwardKinematics(robot)


@pytest.fixture(scope='module')
def mujoco_model():
    mujoco = pytest.importorskip('mujoco')
    gym_aloha = pytest.importorskip('gym_aloha')
    folder = Path(gym_aloha.__file__).parent / 'assets'
    model = mujoco.MjModel.from_xml_path(str(folder / 'bimanual_viperx_transfer_cube.xml'))
    return mujoco, model, mujoco.MjData(model)


def random_joints(robot, n):
    rng = np.random.default_rng(0)
    return rng.uniform(robot.limits.min_position, robot.limits.max_position, size=(n, 14))


def set_mujoco(mujoco_model, robot, q):
    mujoco, model, data = mujoco_model
    names, values = robot.to_joint_state(q)
    for name, value in zip(names, values):
        arm, joint = name.split('_', 1)
        data.joint(f'vx300s_{arm}/{joint}').qpos[0] = value
        if joint == 'left_finger':
            data.joint(f'vx300s_{arm}/right_finger').qpos[0] = -value
    mujoco.mj_kinematics(model, data)
    return data


def test_end_effectors_are_mujocos_fingertips_midpoints(robot, kinematics, mujoco_model):
    for q in random_joints(robot, 200):
        data = set_mujoco(mujoco_model, robot, q)
        for arm, position in kinematics.end_effector(q).items():
            gripper = data.body(f'vx300s_{arm}/gripper_link')
            axis = gripper.xmat.reshape(3, 3)[:, 0]
            expected = gripper.xpos + FINGERTIP_OFFSET_M * axis
            assert np.abs(position - expected).max() < 1e-3
            fingers = [data.body(f'vx300s_{arm}/{side}_finger_link').xpos
                       for side in ('left', 'right')]  # fmt: skip
            middle = np.mean(fingers, axis=0) + (FINGERTIP_OFFSET_M - 0.0687) * axis
            assert np.abs(position - middle).max() < 1e-3


def test_the_simulators_fingertips_are_the_same_point():
    world = pytest.importorskip('eva_ros.sim.world')
    np.testing.assert_array_equal(world.FINGERTIPS, [FINGERTIP_OFFSET_M, 0.0, 0.0])


def test_every_link_is_where_mujoco_has_it(robot, kinematics, mujoco_model):
    links = ['shoulder_link', 'upper_arm_link', 'upper_forearm_link', 'lower_forearm_link',
             'wrist_link', 'gripper_link', 'left_finger_link', 'right_finger_link']  # fmt: skip
    for q in random_joints(robot, 20):
        data = set_mujoco(mujoco_model, robot, q)
        for arm in ('left', 'right'):
            for link in links:
                rotation, position = kinematics.frame(q, f'{arm}_{link}')
                body = data.body(f'vx300s_{arm}/{link}')
                assert np.abs(position - body.xpos).max() < 1e-3
                assert np.abs(rotation - body.xmat.reshape(3, 3)).max() < 1e-3


def test_a_batch_is_its_rows(robot, kinematics):
    q = random_joints(robot, 6)
    batch = kinematics.end_effector(q.reshape(2, 3, 14))
    assert batch['left'].shape == (2, 3, 3)
    for i, row in enumerate(q):
        single = kinematics.end_effector(row)['right']
        np.testing.assert_array_equal(batch['right'].reshape(6, 3)[i], single)


def test_the_shipped_urdf_is_what_the_script_writes(repository):
    pytest.importorskip('gym_aloha')
    script = repository / 'scripts' / 'generate_urdf.py'
    done = subprocess.run([sys.executable, str(script), '--check'], cwd=repository, check=False)
    assert done.returncode == 0, 'run: python scripts/generate_urdf.py'


def test_a_robot_without_urdf_is_refused_with_its_file():
    with pytest.raises(UserError, match=r'piper_dual.yaml names no URDF'):
        ForwardKinematics(load_robot('piper_dual'))


def test_a_urdf_of_another_robot_is_refused(robot, tmp_path):
    path = tmp_path / 'other.urdf'
    path.write_text('<robot name="other"><link name="world"/></robot>')
    with pytest.raises(UserError, match='has no joint left_waist'):
        ForwardKinematics(robot, path)
