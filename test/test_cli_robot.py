"""`eva robot` describes a robot from what there is of it, and says what the description lacks."""

import json
import re

from episode_bags import record
import numpy as np
import pyarrow.parquet as parquet
import pytest
from robot_files import robot_content
from robot_files import write_robot
from test_interchange_import import bring
from test_interchange_import import content
from test_interchange_import import given
from test_interchange_import import version2
import yaml

from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.robot.joint_naming import divide
from eva_ros.robot.paths import config_dir
from eva_ros.robot.spec import load_robot
from eva_ros.robot.spec import missing_for
from eva_ros.robot.urdf import gripper_ranges

SHIPPED = ['aloha_sim', 'franka_duo', 'piper_dual', 'so101', 'so101_dual', 'ur5e_dual']
ARM = ('pan', 'lift', 'elbow')


def urdf(path, sides=('left_', 'right_'), limit='lower="-2" upper="1.5" velocity="3" effort="9"'):
    """Write a URDF of an arm a side: three joints, a finger that another mimics, a tool."""
    parts = ['<link name="base"/>']

    def link(name):
        parts.append(f'<link name="{name}"/>')

    def joint(name, kind, parent, child, inner=''):
        link(child)
        parts.append(
            f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
            f'{inner}</joint>'
        )

    for side in sides:
        joint(f'{side}mount', 'fixed', 'base', f'{side}link0')
        # Not in their order from the base.
        for i in (2, 0, 1):
            joint(f'{side}{ARM[i]}', 'revolute', f'{side}link{i}', f'{side}link{i + 1}',
                  f'<limit {limit}/>')  # fmt: skip
        joint(f'{side}tool', 'fixed', f'{side}link3', f'{side}tcp')
        opening = '<limit lower="0" upper="0.04" velocity="0.2" effort="20"/>'
        joint(f'{side}finger1', 'prismatic', f'{side}tcp', f'{side}pad1', opening)
        joint(f'{side}finger2', 'prismatic', f'{side}tcp', f'{side}pad2',
              f'{opening}<mimic joint="{side}finger1"/>')  # fmt: skip
    joint('neck', 'revolute', 'base', 'skull', f'<limit {limit}/>')
    path.write_text(f'<robot name="made_up">{"".join(parts)}</robot>')
    return path


def init(capsys, out, *arguments, code=0):
    assert main(['robot', 'init', '--out', str(out), *map(str, arguments)]) == code
    said = capsys.readouterr()
    return said.out if code == 0 else said.err


def questions(path):
    return [line.strip() for line in path.read_text().splitlines() if '# QUESTION: ' in line]


def check(capsys, robot, *more):
    code = main(['robot', 'check', str(robot), *more])
    return code, capsys.readouterr().out


def test_a_urdf_gives_joints_limits_with_their_source_and_frames(tmp_path, capsys):
    init(capsys, tmp_path / 'mine.yaml', '--urdf', urdf(tmp_path / 'two.urdf'))
    robot = load_robot(tmp_path / 'mine.yaml')
    assert robot.name == 'mine' and robot.urdf == tmp_path / 'two.urdf'
    for side in ('left', 'right'):
        arm = robot.arms[side]
        assert arm.joints == tuple(f'{side}_{name}' for name in ARM)
        assert (arm.base_frame, arm.end_effector_frame) == (f'{side}_link0', f'{side}_tcp')
    assert set(robot.limits.min_position) == {-2.0} and set(robot.limits.max_velocity) == {3.0}
    text = (tmp_path / 'mine.yaml').read_text()
    assert 'source: {position: two.urdf, velocity: two.urdf}' in text
    assert '# Left out, as they belong to no arm: neck.' in text and 'finger2' not in text
    # Which end is closed, no file says.
    (gripper,) = (line for line in questions(tmp_path / 'mine.yaml') if 'finger1' in line)
    assert '0 to 0.04' in gripper and robot.grippers == ()


@pytest.mark.parametrize(
    ('limit', 'kind', 'words'),
    [
        ('lower="-10" upper="10" velocity="3" effort="9"', 'position', '-10 to 10 in two.urdf'),
        ('lower="-2" upper="2" velocity="1000" effort="9"', 'velocity', '1000 in two.urdf'),
        ('lower="-2" upper="2" velocity="10" effort="10"', 'velocity', '10 in two.urdf'),
        ('lower="0" upper="0" velocity="3" effort="9"', 'position', 'two.urdf gives none'),
        ('lower="-2" upper="2"', 'velocity', 'two.urdf gives none'),
        ('lower="nan" upper="2" velocity="3"', 'position', "lower='nan' in two.urdf is not"),
        ('lower="-2" upper="${pi}" velocity="3"', 'position', "upper='${pi}' in two.urdf is not"),
        ('lower="-inf" upper="2" velocity="3"', 'position', "lower='-inf' in two.urdf is not"),
        ('lower="-2" upper="" velocity="3"', 'position', "upper='' in two.urdf is not"),
        ('lower="-2" upper="2" velocity="fast"', 'velocity', "velocity='fast' in two.urdf is"),
        ('lower="-2" upper="2" velocity="inf"', 'velocity', "velocity='inf' in two.urdf is"),
    ],
)
def test_placeholders_become_questions_and_not_limits(tmp_path, capsys, limit, kind, words):
    init(capsys, tmp_path / 'mine.yaml', '--urdf', urdf(tmp_path / 'two.urdf', limit=limit))
    asked = [line for line in questions(tmp_path / 'mine.yaml') if f'which {kind} limits' in line]
    assert len(asked) == 1 and words in asked[0] and 'all joints' in asked[0]
    limits = load_robot(tmp_path / 'mine.yaml').limits
    assert np.isinf(limits.max_position if kind == 'position' else limits.max_velocity).all()


@pytest.mark.parametrize(
    'name',
    ['left_j{}/right_j{}', 'j{}_left/j{}_right', 'l_j{}/r_j{}', 'j{}_l/j{}_r', 'fl_j{}/fr_j{}',
     'LeftArmJoint{}/RightArmJoint{}', 'arm1_j{}/arm2_j{}', 'robot0/j{}/robot1/j{}',
     'openarm_left_joint{}/openarm_right_joint{}'],
)  # fmt: skip
def test_arms_are_told_apart_by_their_names(name):
    left, right = re.fullmatch(r'(.+)/(\D.+)', name).groups()
    if name.startswith('robot0'):
        left, right = 'robot0/j{}', 'robot1/j{}'
    names = [part.format(i) for i in range(1, 4) for part in (right, left)]
    division = divide([*names, 'torso_lift', 'left_knee', 'right_knee'])
    assert division.arms == {
        side: [part.format(i) for i in range(1, 4)]
        for side, part in (('left', left), ('right', right))
    }
    assert division.others == ['torso_lift', 'left_knee', 'right_knee']
    assert bool(division.guess) == (name[:3] in ('arm', 'rob'))


def test_a_single_arm_is_one_whatever_its_joints_are_called():
    assert divide(['joint1', 'joint2', 'gripper']).arms == {
        'left': ['joint1', 'joint2', 'gripper']
    }
    assert divide(['right_j1', 'right_j2']).arms == {'right': ['right_j1', 'right_j2']}
    assert divide(['shoulder_pan', 'wrist_roll']).arms == {'left': ['shoulder_pan', 'wrist_roll']}


def test_a_bag_and_a_urdf_give_what_the_shipped_robot_says(tmp_path, capsys):
    shipped = load_robot('aloha_sim')
    bag = record(tmp_path / 'bag', duration_s=1.0)
    init(capsys, tmp_path / 'mine.yaml', '--bag', bag, '--urdf', shipped.urdf)
    robot = load_robot(tmp_path / 'mine.yaml')
    assert robot.name == shipped.name and list(robot.cameras) == sorted(shipped.cameras)
    for name, camera in robot.cameras.items():
        assert camera == shipped.cameras[name]
    for side, arm in robot.arms.items():
        wanted = shipped.arms[side]
        assert (arm.joints, arm.state_topic) == (wanted.joints, wanted.state_topic)
        assert arm.end_effector_frame == wanted.end_effector_frame
    arms = ~shipped.gripper_mask
    np.testing.assert_array_equal(robot.limits.max_position, shipped.limits.max_position[arms])
    assert '20 Hz' in (tmp_path / 'mine.yaml').read_text()
    # And the bag can be looked at with it, without limits of the hand, home or controller.
    code = main(['bags', 'check', str(bag), '--robot', str(tmp_path / 'mine.yaml'), '--json'])
    (found,) = json.loads(capsys.readouterr().out)['bags']
    assert code == 0 and found['verdict'] == 'usable', found['reasons']


def test_a_folder_of_bags_gives_what_its_first_bag_gives(tmp_path, capsys):
    first = record(tmp_path / 'bags' / 'attempt_000', duration_s=1.0)
    record(tmp_path / 'bags' / 'attempt_001', duration_s=1.0, cameras=())
    init(capsys, tmp_path / 'one.yaml', '--bag', first, '--name', 'mine')
    init(capsys, tmp_path / 'folder.yaml', '--bag', tmp_path / 'bags', '--name', 'mine')
    assert (tmp_path / 'folder.yaml').read_text() == (tmp_path / 'one.yaml').read_text()


def test_joints_in_servo_ticks_are_a_question_and_good_for_recordings_alone(tmp_path, capsys):
    data = version2(tmp_path / 'set')
    init(capsys, tmp_path / 'mine.yaml', '--dataset', data)
    robot = load_robot(tmp_path / 'mine.yaml')
    assert robot.joint_names == ('joint0', 'joint1', 'joint2')
    assert robot.cameras['top'].topic == 'top/image_raw/compressed'
    assert (robot.cameras['top'].height, robot.cameras['top'].width) == (48, 64)
    asked = ' '.join(questions(tmp_path / 'mine.yaml'))
    assert 'is one of these joints a gripper?' in asked and 'joint states in' in asked
    code, about = bring(capsys, data, tmp_path / 'bags', '--robot', tmp_path / 'mine.yaml')
    assert 'leaves out' not in ' '.join(about['notes'])
    text = (tmp_path / 'mine.yaml').read_text()
    (tmp_path / 'mine.yaml').write_text(
        text.replace('state_topic: joint_states', 'state_topic: joint_states\n    '
                     'state_unit: unknown') if 'unknown' not in text else text
    )  # fmt: skip
    code, said = check(capsys, tmp_path / 'mine.yaml', '--json')
    missing = json.loads(said)['missing']
    assert code == 1 and missing['recordings'] == []
    assert missing['training'][0] == "the unit of the left arm's joint states is unknown"
    assert check(capsys, tmp_path / 'mine.yaml', '--purpose', 'recordings')[0] == 0
    assert check(capsys, tmp_path / 'mine.yaml', '--purpose', 'training')[0] == 1


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ((), 'Give --urdf, --bag or --dataset'),
        (('--urdf', 'nowhere.urdf'), 'nowhere.urdf cannot be read'),
        (('--bag', 'nowhere'), 'There is no bag nowhere'),
        (('--dataset', 'nowhere'), 'nowhere'),
    ],
)
def test_what_cannot_be_read_ends_in_one_sentence(tmp_path, capsys, arguments, words):
    said = init(capsys, tmp_path / 'mine.yaml', *arguments, code=2)
    assert words in said and said.count('\n') == 1 and not (tmp_path / 'mine.yaml').exists()


def test_a_xacro_a_description_that_is_there_and_too_many_joints_are_refused(tmp_path, capsys):
    (tmp_path / 'a.xacro').write_text(
        '<robot xmlns:xacro="http://www.ros.org/wiki/xacro"><xacro:include filename="b"/></robot>'
    )
    out = tmp_path / 'mine.yaml'
    assert 'expand it first' in init(capsys, out, '--urdf', tmp_path / 'a.xacro', code=2)
    many = urdf(tmp_path / 'many.urdf', sides=[f'j{i}_' for i in range(4)])
    said = init(capsys, out, '--urdf', many, code=2)
    assert '12 joints look like those of the left arm' in said and '--joints REGEX' in said
    init(capsys, out, '--urdf', many, '--joints', '^j0_')
    assert len(load_robot(out).joint_names) == 3
    assert 'is there already' in init(capsys, out, '--urdf', many, code=2)


def test_a_pattern_that_matches_no_joint_is_refused_with_the_names_there_are(tmp_path, capsys):
    out, two, data = tmp_path / 'z.yaml', urdf(tmp_path / 'two.urdf'), version2(tmp_path / 'set')
    for sources, names in (
        (('--urdf', two), 'neck, left_pan, right_pan, left_lift'),
        (('--dataset', data), 'joint0, joint1, joint2'),
        (('--dataset', data, '--urdf', two), 'joint0, joint1, joint2'),
    ):
        said = init(capsys, out, *sources, '--joints', 'zzz', code=2)
        assert said.startswith("eva: --joints 'zzz' matches none of the joints: ")
        assert names in said and said.count('\n') == 1 and not out.exists()


def test_a_urdf_with_none_of_the_recorded_joints_is_refused(tmp_path, capsys):
    data, two = version2(tmp_path / 'set'), urdf(tmp_path / 'two.urdf')
    said = init(capsys, tmp_path / 'mine.yaml', '--dataset', data, '--urdf', two, code=2)
    assert 'two.urdf has none of the joints of the' in said and said.count('\n') == 1
    assert 'left_pan' in said and 'and not joint0, joint1, joint2. Give the URDF' in said
    assert not (tmp_path / 'mine.yaml').exists()


def test_joints_that_a_urdf_lacks_are_named_in_the_questions(tmp_path, capsys):
    data, part = version2(tmp_path / 'set'), tmp_path / 'part.urdf'
    part.write_text(
        urdf(tmp_path / 'two.urdf', sides=('',)).read_text().replace('"pan"', '"joint0"')
    )
    init(capsys, tmp_path / 'mine.yaml', '--dataset', data, '--urdf', part)
    asked = ' '.join(questions(tmp_path / 'mine.yaml'))
    assert 'by these names (part.urdf lacks joint1, joint2)?' in asked
    assert 'position limits have joint1, joint2 (part.urdf has no such joint)?' in asked
    robot = load_robot(tmp_path / 'mine.yaml')
    known = dict(zip(robot.joint_names, robot.limits.max_velocity))
    assert known == {'joint0': 3.0, 'joint1': np.inf, 'joint2': np.inf}


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_robots_take_under_60_lines_and_have_all_joints_for_recordings(name, capsys):
    assert sorted(path.stem for path in (config_dir() / 'robots').glob('*.yaml')) == SHIPPED
    assert len((config_dir() / 'robots' / f'{name}.yaml').read_text().splitlines()) < 60
    code, said = check(capsys, name, '--json')
    about = json.loads(said)
    assert about['missing']['recordings'] == about['missing']['training'] == []
    assert code == bool(about['missing']['gate'])


def test_shipped_robots_have_the_arms_they_say():
    sizes = {
        name: [(len(a.joints), a.gripper is not None) for a in load_robot(name).arms.values()]
        for name in SHIPPED
    }
    assert sizes == {
        'aloha_sim': [(6, True)] * 2,
        'franka_duo': [(7, True)] * 2,
        'piper_dual': [(6, True)] * 2,
        'so101': [(5, True)],
        'so101_dual': [(5, True)] * 2,
        'ur5e_dual': [(6, False)] * 2,
    }


@pytest.mark.parametrize('name', SHIPPED)
def test_shipped_robots_can_be_driven_or_the_docs_say_that_they_cannot(repository, name):
    docs = (repository / 'docs' / 'your_robot.md').read_text()
    (undriven,) = re.findall(r'([^.]*)\nare for recordings and training', docs)
    assert bool(missing_for(load_robot(name), 'gate')) == (f'`{name}`' in undriven)


def test_so101_dual_is_what_init_makes_and_under_ten_lines_by_hand(repository, tmp_path, capsys):
    source = given(repository, 'biso101_moving_tape')
    made = tmp_path / 'so101_dual.yaml'
    init(capsys, made, '--dataset', source)
    shipped = (config_dir() / 'robots' / 'so101_dual.yaml').read_text().splitlines()
    by_hand = [line for line in shipped if line not in made.read_text().splitlines()]
    assert 0 < len(by_hand) < 10


@pytest.mark.parametrize(
    ('recording', 'name'), [('biso101_moving_tape', 'so101_dual'), ('so101_lerobot', 'so101')]
)
def test_both_recordings_come_in_without_a_map_and_with_every_joint(
    repository, tmp_path, capsys, recording, name
):
    source = given(repository, recording)
    _, about = bring(capsys, source, tmp_path / 'bags', '--robot', name)
    assert 'leaves out' not in ' '.join(about['notes'])
    robot = load_robot(name)
    for file, bag in zip(sorted((source / 'data').rglob('*.parquet')), about['bags']):
        wanted = np.array(parquet.read_table(file)['observation.state'].to_pylist())
        with BagReader(tmp_path / bag) as reader:
            found = list(reader.records(['joint_states']))
        names, _ = robot.to_joint_state(np.zeros(len(robot.joint_names)))
        assert found[0].names == names and len(names) == wanted.shape[1]
        np.testing.assert_allclose(found[0].positions, wanted[0], atol=1e-9)
    assert main(['bags', 'check', about['bags'][0], '--robot', name, '--json']) == 1
    (checked,) = json.loads(capsys.readouterr().out)['bags']
    assert checked['verdict'] == 'partial' and len(checked['reasons']) == 1


@pytest.mark.parametrize(
    'command',
    [
        ('idm', 'train', '--out', 'out', '--steps', '1'),
        ('world-model', 'train', '--out', 'out', '--steps', '1'),
        ('align', 'critic', '--out', 'out', '--steps', '1'),
        ('align', 'probe', '--idm', 'idm'),
        ('align', 'verify', '--idm', 'idm', '--attempts', 'bag'),
        ('evaluate', 'prepare-controls', '--out', 'out'),
        ('score',),
    ],
    ids=' '.join,
)
def test_joints_of_an_unknown_unit_are_neither_trained_on_nor_judged(
    tmp_path, capsys, monkeypatch, command
):
    monkeypatch.chdir(tmp_path)
    content = robot_content()
    content['arms']['left']['state_unit'] = 'unknown'
    robot = write_robot(tmp_path, content)
    bag = record(tmp_path / 'bag', duration_s=1.0)
    bags = (str(bag),) if command[0] == 'score' else ('--bags', str(bag))
    assert main([*command, *bags, '--robot', str(robot)]) == 2
    said = capsys.readouterr().err
    why = f"{robot} is not complete for training: the unit of the left arm's joint states is "
    assert why in said and said.count('\n') == 1 and not (tmp_path / 'out').exists()


def answer(path, words):
    """Delete the questions that hold these words."""
    lines = path.read_text().splitlines(keepends=True)
    kept = [line for line in lines if not ('# QUESTION: ' in line and words in line)]
    assert len(kept) < len(lines)
    path.write_text(''.join(kept))


def lacking(capsys, path):
    """Return what a robot lacks for training."""
    return json.loads(check(capsys, path, '--json')[1])['missing']['training']


def test_nothing_is_trained_while_the_unit_or_a_gripper_is_a_question(tmp_path, capsys):
    path = tmp_path / 'mine.yaml'
    init(capsys, path, '--dataset', version2(tmp_path / 'set'))
    unit, gripper = lacking(capsys, path)
    assert re.match(r"line \d+ asks 'are the joint states in rad \(recorded values go", unit)
    assert 'is one of these joints a gripper?' in gripper and 'delete the line' in gripper
    with pytest.raises(UserError, match=r'not complete for training: line .* in rad'):
        load_robot(path).require('training')
    load_robot(path).require('recordings')
    answer(path, 'in rad')
    answer(path, 'a gripper')
    assert lacking(capsys, path) == []


def test_nothing_is_trained_while_the_ends_of_a_gripper_are_a_question(tmp_path, capsys):
    path, file = tmp_path / 'mine.yaml', urdf(tmp_path / 'one.urdf', sides=('left_',))
    init(capsys, path, '--urdf', file, '--joints', 'left_')
    (asked,) = [line for line in lacking(capsys, path) if line != 'no cameras']
    assert 'at which value is left_finger1 closed' in asked
    answer(path, 'left_finger1 closed')
    assert lacking(capsys, path) == ['no cameras']


def test_a_calibration_of_some_joints_leaves_the_unit_of_the_others_open(tmp_path, capsys):
    content = robot_content()
    arm = content['arms']['left']
    first, second, *others = arm['joints']
    arm['calibration'] = {first: {'scale': 0.01}, second: {'offset': 5.0}}
    (said,) = lacking(capsys, write_robot(tmp_path, content))
    names = ', '.join([second, *others])
    assert said == f'the calibration of the left arm has no scale of {names}'
    # In rad, one joint alone may turn the other way; and a scale of 1 is one.
    arm['calibration'] = {first: {'sign': -1}, second: {'scale': 1.0, 'offset': 5.0}}
    assert lacking(capsys, write_robot(tmp_path, content)) == []
    arm['calibration'] = {name: {'scale': 1.0} for name in arm['joints']} | {
        first: {'scale': 0.01}
    }
    assert lacking(capsys, write_robot(tmp_path, content)) == []


def test_a_home_as_asked_for_holds_the_joints_that_there_are(tmp_path, capsys):
    path = tmp_path / 'mine.yaml'
    init(capsys, path, '--urdf', urdf(tmp_path / 'two.urdf'))
    (line,) = [line for line in path.read_text().splitlines() if line.startswith('# home:')]
    # Only the side has to be filled in, and values.
    given = re.sub(r': (?=[,}])', ': 0.0', line.removeprefix('# '))
    path.write_text(path.read_text().replace(line, given))
    np.testing.assert_array_equal(load_robot(path).home, 0.0)


def plain_robot(path, joints):
    path.write_text(yaml.safe_dump({
        'name': 'plain', 'arms': {'left': {'joints': list(joints)}},
        'cameras': {'top': {'topic': 'top/image_raw', 'height': 48, 'width': 64}},
    }))  # fmt: skip
    return path


def test_joints_are_imported_by_name_in_any_order_and_by_number_with_a_note(tmp_path, capsys):
    data = version2(tmp_path / 'set')
    _, raw = bring(capsys, data, tmp_path / 'raw')
    by_name = plain_robot(tmp_path / 'name.yaml', ('joint2', 'joint0', 'joint1'))
    _, about = bring(capsys, data, tmp_path / 'name', '--robot', by_name)
    assert 'only counts its joints' not in ' '.join(about['notes'])
    wanted = content(raw['bags'][0])[0]['joint_states']
    np.testing.assert_allclose(
        content(about['bags'][0])[0]['joint_states'], wanted[:, [2, 0, 1]], atol=1e-12
    )
    by_number = plain_robot(tmp_path / 'number.yaml', ('pan', 'lift', 'elbow'))
    _, about = bring(capsys, data, tmp_path / 'number', '--robot', by_number)
    assert 'joint0.pos is pan, joint1.pos is lift' in ' '.join(about['notes'])
    np.testing.assert_allclose(content(about['bags'][0])[0]['joint_states'], wanted, atol=1e-12)


def test_a_robot_without_limits_has_no_infinite_ones_on_any_page(tmp_path, capsys):
    data = version2(tmp_path / 'set')
    robot = plain_robot(tmp_path / 'plain.yaml', ('joint0', 'joint1', 'joint2'))
    bring(capsys, data, tmp_path / 'bags', '--robot', robot)
    page = tmp_path / 'page.html'
    main(['bags', 'check', str(tmp_path / 'bags'), '--robot', str(robot), '--json'])
    said = capsys.readouterr().out
    json.loads(said, parse_constant=lambda word: pytest.fail(word))
    main(['bags', 'view', str(tmp_path / 'bags'), '--robot', str(robot), '--out', str(page)])
    for text in (said, re.sub(r'base64,[^"]*', '', page.read_text())):
        assert not re.search(r'\b(inf|nan)\b', text, re.IGNORECASE)


def test_the_simulated_robots_name_is_said_in_one_place(repository):
    files = [*(repository / 'eva_ros').rglob('*.py'), *(repository / 'launch').glob('*.py')]
    found = [path.name for path in files for line in path.read_text().splitlines()
             if "'aloha_sim'" in line]  # fmt: skip
    assert found == ['paths.py']


@pytest.mark.parametrize('upper', ['nan', 'inf', 'wide'])
def test_a_grippers_range_is_not_taken_from_an_unreadable_limit(tmp_path, upper):
    robot = load_robot('so101_dual')
    joints = ''.join(
        f'<joint name="{name}" type="revolute"><limit lower="0" upper="{upper}"/></joint>'
        for name in robot.joint_names
    )
    (tmp_path / 'one.urdf').write_text(f'<robot name="made_up">{joints}</robot>')
    with pytest.raises(UserError, match='gives joint left_gripper limits that are not finite'):
        gripper_ranges(robot, tmp_path / 'one.urdf')
