"""`eva score`: any joint path gets the executability score, or one sentence why not."""

import json

import episode_bags
import numpy as np
import pytest

from eva_ros.cli.main import main
from eva_ros.robot.spec import load_robot

PIPER = load_robot('piper_dual')
STEPS, DT = 49, 1 / 16
TERMS = ['jerk', 'acceleration', 'velocity_limit', 'acceleration_limit', 'position_limit']


def random_path(seed=0, steps=20, joints=14, scale=0.3):
    return scale * np.random.default_rng(seed).standard_normal((steps, joints)).cumsum(0)


def huber(x, bend):
    return 0.5 * x * x if abs(x) <= bend else bend * (abs(x) - 0.5 * bend)


def published_by_loops(q, dt):
    """Restate the published reward number by number."""
    arm = [3.1416, 3.4034, 3.1416, 3.9270, 3.9270, 3.9270]
    v_max = ([0.85 * v for v in arm] + [2.0]) * 2
    a_max = ([5.0] * 6 + [10.0]) * 2
    weight = ([1.0] * 6 + [0.2]) * 2
    mean_weight = sum(weight) / 14
    weight = [w / mean_weight for w in weight]
    sums, counts = dict.fromkeys(TERMS, 0.0), dict.fromkeys(TERMS, 0)

    def add(name, value):
        sums[name] += value
        counts[name] += 1

    for j in range(14):
        v = [(q[t + 1][j] - q[t][j]) / dt for t in range(len(q) - 1)]
        a = [(v[t + 1] - v[t]) / dt for t in range(len(v) - 1)]
        jerk = [(a[t + 1] - a[t]) / dt for t in range(len(a) - 1)]
        for x in v:
            add('velocity_limit', weight[j] * max(abs(x) - v_max[j], 0) ** 2)
        for x in a:
            add('acceleration', weight[j] * huber(x, 0.5 * a_max[j]))
            add('acceleration_limit', weight[j] * max(abs(x) - a_max[j], 0) ** 2)
        for x in jerk:
            add('jerk', weight[j] * huber(x, 0.5 * a_max[j] / dt))
    terms = {name: sums[name] / counts[name] if counts[name] else 0.0 for name in TERMS}
    penalty = (
        0.5 * terms['jerk']
        + 0.25 * terms['acceleration']
        + 2.0 * terms['velocity_limit']
        + terms['acceleration_limit']
    )
    return {'score': 10 * (1 + penalty / 2000) ** -0.5, 'penalty': penalty, 'terms': terms}


def scored(capsys, *arguments):
    assert main(['score', *map(str, arguments), '--json']) == 0
    return json.loads(capsys.readouterr().out)


def refused(capsys, *arguments):
    assert main(['score', *map(str, arguments)]) == 2
    said = capsys.readouterr().err
    assert said.count('\n') == 1 and 'Traceback' not in said
    return said


def npz(folder, **content):
    np.savez(folder / 'path.npz', **content)
    return folder / 'path.npz'


def close(found, expected):
    assert list(found) == ['score', 'penalty', 'terms']
    assert list(found['terms']) == TERMS
    assert found['score'] == pytest.approx(expected['score'], abs=1e-9)
    assert found['penalty'] == pytest.approx(expected['penalty'], rel=1e-9, abs=1e-9)
    for name in TERMS:
        assert found['terms'][name] == pytest.approx(expected['terms'][name], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize('scale', [0.002, 0.05, 0.5])
def test_paper_preset_equals_an_independent_restatement_by_loops(tmp_path, capsys, scale):
    path = random_path(scale=scale)
    told = scored(capsys, npz(tmp_path, positions=path, dt=DT), '--robot', 'piper_dual',
                  '--preset', 'paper')  # fmt: skip
    assert list(told) == ['paths']
    close(told['paths'][0], published_by_loops(path.tolist(), DT))


def test_a_batch_gives_one_entry_a_path_in_order(tmp_path, capsys):
    paths = np.stack([random_path(seed) for seed in range(3)])
    told = scored(capsys, npz(tmp_path, positions=paths, dt=DT), '--robot', 'piper_dual',
                  '--preset', 'paper')  # fmt: skip
    assert len(told['paths']) == 3
    for found, path in zip(told['paths'], paths):
        close(found, published_by_loops(path.tolist(), DT))


def test_only_the_robot_preset_knows_position_limits(tmp_path, capsys):
    beyond = np.tile(PIPER.limits.max_position + 0.1, (STEPS, 1))
    file = npz(tmp_path, positions=beyond, dt=DT)
    own, paper = (
        scored(capsys, file, '--robot', 'piper_dual', '--preset', preset)['paths'][0]
        for preset in ('robot', 'paper')
    )
    assert own['terms']['position_limit'] == pytest.approx(0.01)
    assert own['penalty'] == pytest.approx(1.0)
    assert paper['terms']['position_limit'] == 0 and paper['score'] == 10


def test_robot_preset_takes_the_robots_own_velocity_limits(tmp_path, capsys):
    """A ramp of 1.5 rad/s is below PiPER's limit, above 0.85 times that of a slow robot."""
    ramp = 1.5 * np.arange(STEPS)[:, None] * DT * np.array(([1.0] + [0.0] * 6) * 2)
    file = npz(tmp_path, positions=ramp - 1.0, dt=DT)
    slow = (PIPER.path.read_text()).replace('max_velocity: 3.0', 'max_velocity: 1.0')
    (tmp_path / 'slow.yaml').write_text(slow)
    fast = scored(capsys, file, '--robot', 'piper_dual')['paths'][0]
    found = scored(capsys, file, '--robot', tmp_path / 'slow.yaml')['paths'][0]
    assert fast['terms']['velocity_limit'] == 0
    assert found['terms']['velocity_limit'] > 0.01


def test_joint_names_in_the_file_put_the_joints_in_the_robots_order(tmp_path, capsys):
    path = random_path()
    order = np.random.default_rng(1).permutation(14)
    names = np.array(PIPER.joint_names)[order]
    mixed = npz(tmp_path, positions=path[:, order], dt=DT, joint_names=names)
    told = scored(capsys, mixed, '--robot', 'piper_dual', '--preset', 'paper')
    close(told['paths'][0], published_by_loops(path.tolist(), DT))


def test_csv_gives_the_same_score_as_npz(tmp_path, capsys):
    path = random_path()
    lines = [','.join(['time', 'effort', *PIPER.joint_names])]
    lines += [
        ','.join(map(repr, [float(i * DT), 0.0, *row.tolist()])) for i, row in enumerate(path)
    ]
    (tmp_path / 'path.csv').write_text('\n'.join(lines) + '\n')
    told = scored(capsys, tmp_path / 'path.csv', '--robot', 'piper_dual', '--preset', 'paper')
    close(told['paths'][0], published_by_loops(path.tolist(), DT))


def test_the_table_names_the_file(tmp_path, capsys):
    file = npz(tmp_path, positions=random_path(), dt=DT)
    assert main(['score', str(file), '--robot', 'piper_dual']) == 0
    assert str(file) in capsys.readouterr().out


def test_a_bag_gives_one_path_for_each_attempt(tmp_path, capsys):
    """Its joints move evenly: nothing but the limits could cost anything."""
    bag = episode_bags.record(tmp_path / 'bag', cameras=(), duration_s=2.0)
    told = scored(capsys, bag, '--preset', 'paper', '--robot', 'aloha_sim')
    assert len(told['paths']) == 1
    assert told['paths'][0]['score'] == pytest.approx(10, abs=1e-3)
    unmarked = episode_bags.record(tmp_path / 'unmarked', cameras=(), marked=False)
    assert len(scored(capsys, unmarked, bag, '--robot', 'aloha_sim')['paths']) == 2


def test_a_folder_of_bags_gives_what_its_bags_give(tmp_path, capsys):
    bags = [
        episode_bags.record(tmp_path / 'reach_left' / name, cameras=(), duration_s=duration_s)
        for name, duration_s in (('attempt_000', 2.0), ('attempt_001', 3.0))
    ]
    told = scored(capsys, tmp_path / 'reach_left', '--robot', 'aloha_sim')
    assert told == scored(capsys, *bags, '--robot', 'aloha_sim') and len(told['paths']) == 2
    assert main(['score', str(tmp_path / 'reach_left'), '--robot', 'aloha_sim']) == 0
    table = capsys.readouterr().out
    assert all(str(bag) in table for bag in bags)


def test_a_folder_without_a_bag_is_refused(tmp_path, capsys):
    (tmp_path / 'empty').mkdir()
    assert 'There is no bag in' in refused(capsys, tmp_path / 'empty', '--robot', 'aloha_sim')


def test_a_bag_without_the_robots_joints_is_refused(tmp_path, capsys):
    bag = episode_bags.record(tmp_path / 'bag', cameras=('top',), keeps=lambda s, _: s == 'top')
    assert 'holds no joint states' in refused(capsys, bag, '--robot', 'aloha_sim')


def test_a_bag_that_is_too_short_is_refused(tmp_path, capsys):
    bag = episode_bags.record(tmp_path / 'bag', cameras=(), duration_s=0.2)
    assert 'jerk needs at least 4' in refused(capsys, bag, '--robot', 'aloha_sim')


@pytest.mark.parametrize(
    ('content', 'words'),
    [
        ({'positions': random_path()}, 'holds no dt'),
        ({'dt': DT}, 'holds no positions'),
        ({'positions': random_path(), 'dt': 0.0}, 'above zero'),
        ({'positions': random_path(), 'dt': np.nan}, 'above zero'),
        ({'positions': random_path(steps=3), 'dt': DT}, '3 steps; jerk needs at least 4'),
        ({'positions': random_path(joints=12), 'dt': DT}, '12 joints'),
        ({'positions': random_path()[0], 'dt': DT}, '[N, T, J]'),
        ({'positions': np.full((9, 14), np.nan), 'dt': DT}, 'left_joint1 is not finite'),
        ({'positions': np.full((9, 14), 'x'), 'dt': DT}, 'real numbers'),
        ({'positions': random_path() * 1e200, 'dt': DT}, 'too large'),
        ({'positions': np.zeros((0, 9, 14)), 'dt': DT}, 'holds no path'),
        (
            {'positions': random_path(), 'dt': DT, 'joint_names': np.array(['a'] * 14)},
            'must name each joint',
        ),
    ],
)
def test_an_unusable_npz_is_one_sentence(tmp_path, capsys, content, words):
    assert words in refused(capsys, npz(tmp_path, **content), '--robot', 'piper_dual')


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('path.txt', 'x', 'neither an npz file, a csv file nor a bag'),
        ('path.npz', 'x', 'cannot be read as npz'),
        ('path.csv', '', 'first line'),
        ('path.csv', '1,2,3\n', 'first line'),
        ('path.csv', 'time,left_joint1\n0,1\n', 'must name each joint'),
        ('path.csv', ','.join(['time', *PIPER.joint_names]) + '\n0,x\n', 'row 2'),
    ],
)
def test_an_unusable_file_is_one_sentence(tmp_path, capsys, name, text, words):
    (tmp_path / name).write_text(text)
    assert words in refused(capsys, tmp_path / name, '--robot', 'piper_dual')


def test_uneven_times_in_a_csv_are_refused(tmp_path, capsys):
    lines = [','.join(['t', *PIPER.joint_names])]
    lines += [','.join([str(t), *['0'] * 14]) for t in (0, 0.1, 0.2, 0.9, 1.0)]
    (tmp_path / 'path.csv').write_text('\n'.join(lines))
    assert 'not evenly spaced' in refused(capsys, tmp_path / 'path.csv', '--robot', 'piper_dual')


def test_a_missing_file_is_named(tmp_path, capsys):
    assert 'There is no file' in refused(capsys, tmp_path / 'none.npz')


def test_a_robot_without_the_limits_that_the_preset_needs_is_refused(tmp_path, capsys):
    text = PIPER.path.read_text()
    source = (
        "      acceleration: piper_sdk, range of JointConfig's max_joint_acc (0 to 5 rad/s2)\n"
    )
    for line in ('    max_acceleration: 5.0\n', source):
        assert line in text
        text = text.replace(line, '')
    (tmp_path / 'weak.yaml').write_text(text)
    file = npz(tmp_path, positions=random_path(), dt=DT)
    said = refused(capsys, file, '--robot', tmp_path / 'weak.yaml')
    assert 'no acceleration limit for left_joint1' in said and "preset 'robot'" in said
    scored(capsys, file, '--robot', tmp_path / 'weak.yaml', '--preset', 'paper')
