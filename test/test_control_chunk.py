"""What a chunk must be before anything is planned; each refusal has its reason."""

from dataclasses import replace
import re

import numpy as np
import pytest

from eva_ros.control import reasons
from eva_ros.control.chunk import Chunk
from eva_ros.control.gate import check_chunk
from eva_ros.control.settings import GateSettings
from eva_ros.control.settings import load_gate_settings
from eva_ros.errors import UserError
from eva_ros.robot.motion import minimum_jerk
from eva_ros.robot.paths import config_dir
from eva_ros.robot.spec import load_robot

SECOND = 1_000_000_000
NOW_NS = 100 * SECOND


@pytest.fixture(scope='module')
def robot():
    return load_robot('aloha_sim')


@pytest.fixture(scope='module')
def chunk(robot):
    goal = robot.home + 0.3 * ~robot.gripper_mask
    return Chunk(
        observation_stamp_ns=NOW_NS - SECOND,
        rollout_id=1,
        joint_names=robot.joint_names,
        dt=0.1,
        positions=minimum_jerk(robot.home, goal, 17),
        observed_positions=robot.home,
        instruction='move',
        confidence=0.8,
    )


@pytest.fixture
def check(robot):
    def checked(chunk, measured=None, now_ns=NOW_NS, settings=None, **more):
        measured = robot.home if measured is None else measured
        settings = GateSettings() if settings is None else settings
        return check_chunk(chunk, measured, robot, settings, now_ns, **more)

    return checked


def refused(verdict, reason, *words):
    assert not verdict.accepted
    assert verdict.reason == reason
    assert verdict.command == {}
    assert verdict.path is None
    assert verdict.execute_steps == 0
    assert verdict.detail.endswith('.')
    for word in words:
        assert word in verdict.detail
    return True


def test_every_reason_is_a_constant_of_chunk_report(repository):
    text = (repository / 'eva_msgs' / 'msg' / 'ChunkReport.msg').read_text()
    constants = set(re.findall(r'^uint8 (\w+)=', text, flags=re.MULTILINE))
    ours = {name: value for name, value in vars(reasons).items() if name.isupper()}
    assert ours
    assert all(name == value and name in constants for name, value in ours.items())


def test_a_good_chunk_is_accepted_for_both_arms(check, chunk):
    verdict = check(chunk)
    assert verdict.accepted
    assert verdict.reason == 'OK'
    assert set(verdict.command) == {'left', 'right'}
    assert verdict.execute_steps == 16
    assert verdict.stretch == pytest.approx(1.0)
    assert verdict.observation_age_s == pytest.approx(1.0)


def test_joints_are_matched_by_name(check, chunk, robot):
    order = np.random.default_rng(0).permutation(14)
    shuffled = replace(
        chunk,
        joint_names=[robot.joint_names[i] for i in order],
        positions=chunk.positions[:, order],
        observed_positions=chunk.observed_positions[order],
    )
    expected, verdict = check(chunk), check(shuffled)
    for arm in ('left', 'right'):
        np.testing.assert_array_equal(
            verdict.command[arm].positions, expected.command[arm].positions
        )


def test_other_joints_are_refused(check, chunk):
    names = list(chunk.joint_names)
    assert refused(check(replace(chunk, joint_names=['x', *names[1:]])),
                   'JOINT_MISMATCH', 'left_waist', 'x')  # fmt: skip
    assert refused(check(replace(chunk, joint_names=[*names[:-1], names[0]])),
                   'JOINT_MISMATCH', 'left_waist twice')  # fmt: skip
    assert refused(check(replace(chunk, joint_names=names[:7])), 'JOINT_MISMATCH', 'right_waist')
    assert refused(check(replace(chunk, joint_names=[])), 'JOINT_MISMATCH')


@pytest.mark.parametrize(
    'change',
    [
        {'positions': np.zeros((1, 14))},
        {'positions': np.zeros((0, 14))},
        {'positions': np.zeros((17, 13))},
        {'positions': np.zeros((14, 17))},
        {'positions': np.zeros(14)},
        {'positions': [[1.0] * 14, [1.0] * 13]},
        {'observed_positions': np.zeros(13)},
        {'observed_positions': np.zeros((1, 14))},
        {'observed_positions': ['a'] * 14},
    ],
)
def test_arrays_of_another_shape_are_refused(check, chunk, change):
    assert refused(check(replace(chunk, **change)), 'SHAPE_MISMATCH')


@pytest.mark.parametrize('dt', [0.0, -0.1, np.nan, np.inf, 1e-300, 1e9])
def test_step_times_that_make_no_sense_are_refused(check, chunk, dt):
    assert refused(check(replace(chunk, dt=dt)), 'BAD_TIMING')


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
def test_one_value_that_is_not_finite_refuses_both_arms(check, chunk, value):
    positions = chunk.positions.copy()
    positions[16, 12] = value
    assert refused(check(replace(chunk, positions=positions)), 'NON_FINITE', 'right_wrist_rotate')
    observed = chunk.observed_positions.copy()
    observed[0] = value
    assert refused(check(replace(chunk, observed_positions=observed)), 'NON_FINITE', 'left_waist')


def test_unknown_joints_are_refused(check, chunk, robot):
    settings = GateSettings()
    verdict = check_chunk(chunk, None, robot, settings, NOW_NS)
    assert refused(verdict, 'NO_JOINT_STATE')
    assert refused(check(chunk, measured=robot.home[:13]), 'NO_JOINT_STATE')
    lost = np.where(np.arange(14) == 3, np.nan, robot.home)
    assert refused(check(chunk, measured=lost), 'NO_JOINT_STATE', 'left_forearm_roll')


def test_old_joint_states_are_refused(check, chunk):
    assert check(chunk, measured_stamp_ns=NOW_NS - SECOND // 10).accepted
    verdict = check(chunk, measured_stamp_ns=NOW_NS - SECOND)
    assert refused(verdict, 'STALE_JOINT_STATE', '1.00 s old')
    assert verdict.joint_state_age_s == pytest.approx(1.0)


def test_an_old_observation_is_refused(check, chunk):
    assert check(chunk, now_ns=chunk.observation_stamp_ns + 29 * SECOND).accepted
    verdict = check(chunk, now_ns=chunk.observation_stamp_ns + 31 * SECOND)
    assert refused(verdict, 'STALE_OBSERVATION', '31.00 s old')
    assert verdict.observation_age_s == pytest.approx(31.0)


def test_a_stamp_in_the_future_is_refused(check, chunk):
    verdict = check(chunk, now_ns=chunk.observation_stamp_ns - SECOND)
    assert refused(verdict, 'STAMP_IN_FUTURE', 'clocks')
    assert refused(check(chunk, measured_stamp_ns=NOW_NS + SECOND), 'STAMP_IN_FUTURE', 'joints')


def test_arms_that_moved_since_the_observation_are_refused(check, chunk, robot):
    moved = robot.home.copy()
    moved[8] += 0.02
    verdict = check(chunk, measured=moved)
    assert verdict.accepted
    assert verdict.start_deviation_rad == pytest.approx(0.02)
    moved[8] += 0.02
    assert refused(check(chunk, measured=moved), 'START_DEVIATION', 'right_shoulder', '0.040')


def test_grippers_have_their_own_tolerance(check, chunk, robot):
    moved = robot.home.copy()
    moved[6] += 0.08
    assert check(chunk, measured=moved).accepted
    moved[6] += 0.08
    assert refused(check(chunk, measured=moved), 'START_DEVIATION', 'left_gripper')


def test_a_first_step_far_from_the_joints_is_refused(check, chunk):
    far = replace(chunk, positions=chunk.positions + 0.2)
    assert refused(check(far), 'START_BLEND_EXCEEDED', 'max_start_blend is 0.1')
    wide = GateSettings(max_start_blend=0.3, check_collisions=False)
    assert check(far, settings=wide).accepted


def test_an_unsure_decoder_is_refused_where_confidence_is_asked_for(check, chunk):
    settings = GateSettings(min_confidence=0.9)
    assert refused(check(chunk, settings=settings), 'LOW_CONFIDENCE', '0.80', '0.9')
    silent = replace(chunk, confidence=float('nan'))
    assert refused(check(silent, settings=settings), 'LOW_CONFIDENCE')
    assert check(silent).accepted


def test_arms_that_are_not_where_they_were_sent_are_refused(check, chunk, robot):
    sent = robot.home + 0.09 * ~robot.gripper_mask
    verdict = check(chunk, commanded=sent)
    assert verdict.accepted
    np.testing.assert_array_equal(verdict.path.positions[0], sent)
    sent = robot.home + 0.2 * (np.arange(14) == 1)
    assert refused(check(chunk, commanded=sent), 'START_DEVIATION', 'left_shoulder')


def test_a_gripper_that_holds_something_may_be_wider_than_sent(check, chunk, robot):
    sent = robot.home * ~robot.gripper_mask
    measured = robot.home + 0.3 * robot.gripper_mask
    held = replace(chunk, observed_positions=measured)
    assert check(held, measured=measured, commanded=sent).accepted


def test_the_shipped_settings_are_known_and_slow_for_a_real_robot():
    sim, real = load_gate_settings('aloha_sim'), load_gate_settings('piper_dual')
    assert sim.max_start_blend == 0.5
    assert real.max_start_blend == 0.10
    assert real.velocity_scaling_factor == 0.25
    assert sim.velocity_scaling_factor == 1.0


def test_a_real_robot_that_kept_the_simulators_name_does_not_get_its_settings():
    real = load_gate_settings('aloha_sim', simulated=False)
    assert real.approve and real.velocity_scaling_factor == 0.25
    assert real.max_tracking_error == 0.15


def test_a_gate_file_that_says_nothing_is_gentle_and_asks(tmp_path):
    path = tmp_path / 'gate.yaml'
    path.write_text('gate: {}')
    settings = load_gate_settings('my_robot', path, simulated=False)
    assert settings.approve
    assert settings.velocity_scaling_factor == settings.acceleration_scaling_factor == 0.25


@pytest.mark.parametrize(
    ('pattern', 'replacement', 'word'),
    [
        ('execute_steps: 16', 'execute_step: 16', 'execute_step'),
        ('execute_steps: 16', 'execute_steps: 0', 'execute_steps'),
        ('max_start_blend: 0.5', 'max_start_bland: 0.5', 'max_start_bland'),
        ('velocity_scaling_factor: 0.25', 'velocity_scaling_factor: 1.5', 'velocity_scaling'),
        ('min_confidence: 0.0', 'min_confidence: .nan', 'min_confidence'),
        ('robots:', 'robot:', 'robot'),
    ],
)
def test_a_wrong_gate_file_is_refused_with_file_and_key(tmp_path, pattern, replacement, word):
    path = tmp_path / 'gate.yaml'
    text = (config_dir() / 'gate.yaml').read_text()
    assert pattern in text
    path.write_text(text.replace(pattern, replacement))
    with pytest.raises(UserError) as error:
        load_gate_settings('aloha_sim', path)
    assert word in str(error.value)
    assert 'gate.yaml' in str(error.value)


@pytest.mark.parametrize(
    ('key', 'value', 'words'),
    [
        ('max_start_blend', 'true', 'valid number, not true.'),
        ('max_start_blend', "'0.1'", "valid number, not the text '0.1'."),
        ('stream_rate_hz', '2e2', "valid number, not the text '2e2'."),
        ('hold_s', '', 'valid number, not nothing.'),
        ('hold_s', '[0.2]', 'valid number, not a list.'),
        ('execute_steps', '16.0', 'valid integer, not 16.0.'),
        ('execute_steps', 'true', 'valid integer, not true.'),
        ('approve', '0', 'valid boolean, not 0.'),
        ('check_collisions', "'false'", "valid boolean, not the text 'false'."),
    ],
)
@pytest.mark.parametrize('where', ['gate: {{{}}}', 'gate: {{}}\nrobots: {{other: {{{}}}}}'],
                         ids=['every robot', 'another robot'])  # fmt: skip
def test_a_value_of_another_type_in_the_gate_file_is_refused(tmp_path, where, key, value, words):
    path = tmp_path / 'gate.yaml'
    path.write_text(where.format(f'{key}: {value}'))
    with pytest.raises(UserError) as error:
        load_gate_settings('aloha_sim', path)
    assert str(error.value) == f'{path}: {key}: Input should be a {words}'


def test_a_whole_number_is_a_number(tmp_path):
    path = tmp_path / 'gate.yaml'
    path.write_text('gate: {stop_steps: 2, stream_rate_hz: 100}')
    settings = load_gate_settings('aloha_sim', path)
    assert (settings.stop_steps, settings.stream_rate_hz) == (2.0, 100.0)
    assert isinstance(settings.stop_steps, float)


def test_new_steps_do_not_begin_before_what_was_sent_may_change(tmp_path):
    path = tmp_path / 'gate.yaml'
    path.write_text('gate: {switch_lead_s: 0.02, control_period_s: 0.02}')
    with pytest.raises(UserError, match=r'gate\.yaml: switch_lead_s must be above control_per'):
        load_gate_settings('aloha_sim', path)
    path.write_text('gate: {switch_lead_s: 0.03, control_period_s: 0.02}')
    assert load_gate_settings('aloha_sim', path).switch_lead_s == 0.03
