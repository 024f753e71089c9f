"""`eva gate check` says as JSON what the gate would do with a chunk."""

import json

import numpy as np
import pytest

from eva_ros.cli.main import main
from eva_ros.robot.motion import minimum_jerk
from eva_ros.robot.spec import load_robot

ROBOT = load_robot('aloha_sim')
GOAL = ROBOT.home + 0.1 * ~ROBOT.gripper_mask


@pytest.fixture
def ask(tmp_path, capsys):
    def asked(measured=None, robot='aloha_sim', names=None, **arrays):
        arrays = {'positions': minimum_jerk(ROBOT.home, GOAL, 17), 'dt': 0.1, **arrays}
        np.savez(tmp_path / 'chunk.npz', **{k: v for k, v in arrays.items() if v is not None})
        command = ['gate', 'check', str(tmp_path / 'chunk.npz'), '--robot', robot, '--json']
        if measured is not None:
            named = {} if names is None else {'joint_names': names}
            np.savez(tmp_path / 'now.npz', positions=measured, **named)
            command += ['--measured', str(tmp_path / 'now.npz')]
        code = main(command)
        out, err = capsys.readouterr()
        return code, json.loads(out) if out else err

    return asked


def test_an_accepted_chunk_comes_with_both_arms_messages(ask):
    code, answer = ask()
    assert code == 0
    assert (answer['accepted'], answer['reason'], answer['stretch']) == (True, 'OK', 1.0)
    assert answer['clamped'] == {}
    assert set(answer['arms']) == {'left', 'right'}
    for arm, message in answer['arms'].items():
        assert tuple(message['joint_names']) == ROBOT.arms[arm].controller.joints
        times = message['time_from_start']
        # As the node sends it: one control period of rest, then the first step.
        assert times[:2] == [pytest.approx(0.02), pytest.approx(0.12)]
        assert (np.diff(times) > 0.0).all()
        np.testing.assert_allclose(message['positions'][0], ROBOT.arm_command(arm, ROBOT.home)[1])
        for key in ('positions', 'velocities', 'accelerations'):
            assert np.shape(message[key]) == (len(times), 7)
        assert not any(message['velocities'][-1])


def test_a_refused_chunk_has_no_arms_and_exit_code_1(ask):
    positions = minimum_jerk(ROBOT.home, GOAL, 17)
    positions[4, 2] = np.nan
    code, answer = ask(positions=positions)
    assert (code, answer['accepted'], answer['reason'], answer['arms']) == (
        1, False, 'NON_FINITE', {},
    )  # fmt: skip


def test_joint_names_are_matched_and_others_refused(ask):
    order = np.random.default_rng(0).permutation(14)
    names = np.array(ROBOT.joint_names)
    _, expected = ask()
    _, answer = ask(
        positions=minimum_jerk(ROBOT.home, GOAL, 17)[:, order], joint_names=names[order]
    )
    assert answer['arms'] == expected['arms']
    assert ask(joint_names=np.array(['x', *names[1:]]))[1]['reason'] == 'JOINT_MISMATCH'


def test_arms_that_are_elsewhere(ask):
    near = ROBOT.home + 0.02 * ~ROBOT.gripper_mask
    code, answer = ask(measured=near)
    assert code == 0
    far = ROBOT.home.copy()
    far[1] += 1.0
    code, answer = ask(measured=far)
    assert (code, answer['reason']) == (1, 'START_BLEND_EXCEEDED')


@pytest.mark.parametrize(
    ('measured', 'names', 'words'),
    [
        (ROBOT.home[:13], None, 'holds 13 positions: one is needed for each of the 14 joints'),
        (np.zeros(0), None, 'holds 0 positions'),
        (np.stack([ROBOT.home] * 2), None, 'holds 28 positions'),
        (np.where(np.arange(14) == 2, np.nan, ROBOT.home), None, 'of left_elbow is not finite.'),
        (np.where(np.arange(14) == 2, np.inf, ROBOT.home), ROBOT.joint_names[::-1],
         'of right_wrist_angle is not finite.'),
        (ROBOT.home, ['x', *ROBOT.joint_names[1:]], 'must name each joint once: left_waist'),
    ],
)  # fmt: skip
def test_joints_now_that_are_not_the_robots_are_said_of_their_file(ask, measured, names, words):
    code, sentence = ask(measured=measured, names=names)
    assert code == 2
    assert 'now.npz' in sentence and 'chunk.npz' not in sentence
    assert words in sentence


def test_joints_now_are_matched_by_name(ask):
    near = ROBOT.home + 0.02 * (np.arange(14) == 2)
    expected = ask(measured=near)
    assert ask(measured=near[::-1], names=ROBOT.joint_names[::-1]) == expected


def test_a_robot_whose_collisions_are_not_checked_says_so(ask, tmp_path, capsys):
    assert ask()[1]['unchecked'] is None
    piper = load_robot('piper_dual')
    _, answer = ask(positions=np.tile(piper.home, (17, 1)), robot='piper_dual')
    assert answer['accepted'] and answer['unchecked'] == (
        'Nothing keeps the arms from each other and from themselves: the robot YAML of piper_dual '
        'has no collision bodies.'
    )
    assert main(['gate', 'check', str(tmp_path / 'chunk.npz'), '--robot', 'piper_dual']) == 0
    assert 'not checked: Nothing keeps the arms' in capsys.readouterr().out
    # A gate file may turn the check off for any robot.
    gate = tmp_path / 'gate.yaml'
    gate.write_text('gate: {check_collisions: false}')
    np.savez(tmp_path / 'chunk.npz', positions=np.tile(ROBOT.home, (17, 1)), dt=0.1)
    assert main(['gate', 'check', str(tmp_path / 'chunk.npz'), '--gate', str(gate)]) == 0
    assert 'check_collisions is false' in capsys.readouterr().out


@pytest.mark.parametrize('arrays', [{'dt': None}, {'positions': None}, {'positions': np.zeros(3)},
                                    {'positions': np.array([['a']])},
                                    {'positions': np.full((17, 14), 1j)},
                                    {'joint_names': np.array('left_waist')}])  # fmt: skip
def test_a_file_that_holds_no_chunk_is_said(ask, arrays):
    code, sentence = ask(**arrays)
    assert code == 2
    assert 'chunk.npz' in sentence


@pytest.mark.parametrize('content', [b'', b'PK\x03\x04 cut off', b'no zip at all'])
def test_a_file_that_is_damaged_is_said(tmp_path, capsys, content):
    path = tmp_path / 'chunk.npz'
    path.write_bytes(content)
    assert main(['gate', 'check', str(path), '--json']) == 2
    said = capsys.readouterr()
    assert said.out == '' and 'chunk.npz cannot be read as npz' in said.err
