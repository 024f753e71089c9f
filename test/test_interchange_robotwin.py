"""RoboTwin files of both layouts become bags with the same joints, colours, rate and words."""

from itertools import cycle
import json
from pathlib import Path

import cv2
from episode_bags import joints_at
from episode_bags import SECOND
import numpy as np
import pytest

from eva_ros.cli.main import main
from eva_ros.inspection.check import check_bag
from eva_ros.interchange.robotwin.reader import read_robotwin
from eva_ros.observations.images import decode_image
from eva_ros.observations.views import load_view
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import JointStateRecord
from eva_ros.robot.spec import load_robot

h5py = pytest.importorskip('h5py')
ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
PARTS = {
    'left_arm': slice(0, 6), 'left_ee': slice(6, 7), 'right_arm': slice(7, 13),
    'right_ee': slice(13, 14),
}  # fmt: skip
RED = np.zeros((240, 320, 3), np.uint8)
RED[..., 0] = 200
STATES = np.stack([joints_at(SECOND + i * SECOND // 10) for i in range(13)])
CAMERAS = ('cam_head', 'cam_left_wrist', 'cam_right_wrist')


def exchanged(picture):
    """Return a JPEG as RoboTwin writes it: RGB given to OpenCV's encoder for BGR."""
    return cv2.imencode('.jpg', picture)[1].tobytes()


def marked(picture, comment=b'XPL-RGB1'):
    """Return a standard JPEG with a comment behind its first segment."""
    data = cv2.imencode('.jpg', picture[..., ::-1])[1].tobytes()
    end = 4 + int.from_bytes(data[4:6], 'big')
    segment = b'\xff\xfe' + (len(comment) + 2).to_bytes(2, 'big') + comment
    return data[:end] + segment + data[end:]


def padded(streams):
    """Return byte strings of one length, filled up with zeros."""
    return np.array(streams, dtype=f'S{max(map(len, streams)) + 7}')


def new_file(path, frames=STATES, pack=exchanged, change=None, **fields):
    """Write an episode as RoboTwin does from August 2026 on.

    Args:
        path: its file.
        frames: joints [T + 1, 14]: states are all but the last ones, actions all but the first.
        pack: makes a JPEG of a picture.
        change: is given the open file.
        fields: other values for `instructions` and `frequency`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w') as file:
        file.attrs['source_format'] = 'RoboTwin'
        text = h5py.string_dtype('utf-8')
        file.create_dataset('data_format_version', data='v1.0', dtype=text)
        words = fields.get('instructions', json.dumps(['open the laptop', 'lift its lid']))
        file.create_dataset('instructions', data=words, dtype=text)
        if fields.get('frequency', 10):
            file['additional_info/frequency'] = np.int32(fields.get('frequency', 10))
        for name, columns in PARTS.items():
            file[f'state/{name}_joint_states'] = frames[:-1, columns].astype(np.float32)
            file[f'action/{name}_joint_states'] = frames[1:, columns].astype(np.float32)
        for camera in CAMERAS:
            file[f'vision/{camera}/colors'] = padded([pack(RED) for _ in frames[:-1]])
            file[f'vision/{camera}/shape'] = np.array([240, 320, 3], np.int32)
        if change:
            change(file)
    return path


def old_file(path, frames=STATES, pack=exchanged, change=None):
    """Write an episode in the layout before that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, 'w') as file:
        file['joint_action/vector'] = frames
        for name, columns in PARTS.items():
            file[f'joint_action/{name.replace("ee", "gripper")}'] = frames[:, columns]
        for camera in ('head_camera', 'left_camera', 'right_camera'):
            file[f'observation/{camera}/rgb'] = padded([pack(RED) for _ in frames])
        if change:
            change(file)
    return path


def bring(capsys, source, out, *more):
    """Import as the robot's; returns the exit code and what was printed."""
    options = ['--out', str(out), '--robot', 'aloha_sim', '--json', *map(str, more)]
    code = main(['bags', 'import', str(source), *options])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else err


def content(bag):
    """Return a bag's joints [T, 14], its pictures by topic, stamps and facts."""
    names, _ = ROBOT.to_joint_state(ROBOT.home)
    joints, pictures, stamps = [], {}, []
    with BagReader(Path(bag)) as reader:
        for record in reader.records():
            if isinstance(record, JointStateRecord):
                joints.append(ROBOT.from_joint_state(names, record.positions))
                stamps.append(record.stamp_ns)
            elif isinstance(record, ImageRecord):
                pictures.setdefault(record.topic, []).append(decode_image(record.message))
        return np.array(joints), pictures, np.diff(stamps), reader.facts


def is_red(picture):
    return np.abs(picture.astype(int) - RED).max() < 8


def test_files_of_august_2026_say_their_rate_and_words_and_become_the_robots(tmp_path, capsys):
    folder = tmp_path / 'demo_clean/open_laptop/aloha_agilex'
    new_file(folder / 'data/episode_0000003.hdf5')
    code, about = bring(capsys, folder, tmp_path / 'bags')
    assert (code, about['findings']) == (0, [])
    assert (about['rate_hz'], about['frames'], about['cameras']) == (10, 12, list(CAMERAS))
    (bag,) = about['bags']
    assert Path(bag).name == 'open_laptop-aloha_agilex-00003'
    joints, pictures, steps, facts = content(bag)
    np.testing.assert_allclose(joints, STATES[:-1], atol=1e-6)
    assert set(steps.tolist()) == {SECOND // 10}
    assert facts['eva.instruction'] == 'open the laptop'
    topics = {ROBOT.cameras[name].topic for name in ('top', 'left_wrist', 'right_wrist')}
    assert set(pictures) == topics
    assert all(is_red(p) for found in pictures.values() for p in found)
    assert check_bag(Path(bag), ROBOT, VIEW).episodes


def test_actions_are_the_states_one_frame_later_and_that_is_no_fault(tmp_path, capsys):
    path = new_file(tmp_path / 'episode0.hdf5')
    assert main(['bags', 'import', str(path), '--out', str(tmp_path / 'bags'), '--json']) == 0
    assert 'next' in ' '.join(json.loads(capsys.readouterr().out)['notes'])
    (episode,) = read_robotwin(path).episodes
    np.testing.assert_allclose(episode.actions[:-1], episode.states[1:])
    np.testing.assert_allclose(episode.actions[-1], STATES[-1], atol=1e-6)


@pytest.mark.parametrize('write', [new_file, old_file])
def test_each_picture_says_the_order_of_its_colours(tmp_path, write):
    """Both kinds may be in one file, and another comment says nothing."""
    kinds = [exchanged, marked, lambda picture: marked(picture[..., ::-1], b'made by hand')]

    turn = cycle(kinds)
    path = write(tmp_path / 'episode0.hdf5', pack=lambda picture: next(turn)(picture))
    (episode,) = read_robotwin(path, 10.0).episodes
    for get in episode.frames.values():
        assert all(is_red(picture) for picture in get())


@pytest.mark.parametrize('kind', ['rows of bytes', 'bytes of any length', 'raw'])
def test_pictures_are_read_however_they_are_kept(tmp_path, kind):
    def change(file):
        streams = [marked(RED) for _ in STATES[:-1]]
        del file['vision/cam_head/colors']
        if kind == 'raw':
            file['vision/cam_head/colors'] = np.stack([RED] * len(streams))
        elif kind == 'rows of bytes':
            rows = [np.frombuffer(s.ljust(9000, b'\0'), np.uint8) for s in streams]
            file['vision/cam_head/colors'] = np.stack(rows)
        else:
            bytes_of_any = h5py.vlen_dtype(np.uint8)
            kept = file.create_dataset('vision/cam_head/colors', (len(streams),), bytes_of_any)
            for index, stream in enumerate(streams):
                kept[index] = np.frombuffer(stream, np.uint8)

    data = read_robotwin(new_file(tmp_path / 'episode0.hdf5', change=change))
    assert data.findings == []
    found = list(data.episodes[0].frames['cam_head']())
    assert len(found) == 12 and all(map(is_red, found))


@pytest.mark.parametrize(
    ('words', 'asked'),
    [
        (json.dumps(['stack the bowls']), 'stack the bowls'),
        ('stack the bowls', 'stack the bowls'),
        (json.dumps({'seen': [], 'unseen': ['stack the bowls']}), 'stack the bowls'),
        (['stack the bowls', 'pile them'], 'stack the bowls'),
        (json.dumps(['']), ''),
    ],
)
def test_instructions_are_read_as_json_text_or_list(tmp_path, words, asked):
    data = read_robotwin(new_file(tmp_path / 'episode0.hdf5', instructions=words))
    assert data.episodes[0].instruction == asked
    assert ('No instruction is in or beside episode 0.' in data.findings) == (not asked)


def test_both_layouts_may_lie_in_one_folder(tmp_path, capsys):
    new_file(tmp_path / 'set/data/episode_0000000.hdf5', pack=marked)
    old_file(tmp_path / 'set/data/episode1.hdf5')
    code, about = bring(capsys, tmp_path / 'set', tmp_path / 'bags', '--rate', 10)
    assert about['findings'] == ['No instruction is in or beside episode 1.'] and code == 1
    for bag in about['bags']:
        joints, pictures, _, _ = content(bag)
        np.testing.assert_allclose(joints, STATES[: len(joints)], atol=1e-6)
        assert len(pictures) == 3 and all(is_red(p) for found in pictures.values() for p in found)


def set_rows(file, name, rows):
    values = file[name][:rows]
    del file[name]
    file[name] = values


def set_to(file, name, value):
    del file[name]
    file[name] = value


@pytest.mark.parametrize(
    ('write', 'change', 'words'),
    [
        (
            new_file, lambda f: set_rows(f, 'state/right_arm_joint_states', 11),
            'state/left_arm_joint_states 12, state/left_ee_joint_states 12, '
            'state/right_arm_joint_states 11',
        ),
        (
            new_file, lambda f: [set_rows(f, f'action/{n}_joint_states', 11) for n in PARTS],
            'action has 11 rows of 14 and state 12 rows of 14',
        ),
        (
            new_file, lambda f: set_rows(f, 'vision/cam_left_wrist/colors', 9),
            'vision/cam_left_wrist/colors has 9 pictures for 12 rows of joints',
        ),
        (
            new_file, lambda f: set_to(f, 'state/left_arm_joint_states', np.zeros((12, 7))),
            'action has 12 rows of 14 and state 12 rows of 15',
        ),
        (
            new_file, lambda f: set_to(f, 'state/left_ee_joint_states', np.zeros((12, 2))),
            'state/left_ee_joint_states has the shape (12, 2), and not [T, 1]',
        ),
        (
            new_file, lambda f: set_to(f, 'state/left_ee_joint_states', np.full((12, 1), np.nan)),
            'state/left_ee_joint_states is empty or holds values that are not finite',
        ),
        (new_file, lambda f: f.pop('state/right_ee_joint_states'),
            'state has no right_ee_joint_states'),
        (
            new_file, lambda f: f.update({'state/joint_states': STATES[1:]}),
            'state/joint_states differs from the joints of the arms in 12 of 12 rows',
        ),
        (
            old_file, lambda f: set_to(f, 'joint_action/right_arm', STATES[:, 7:13] + 0.01),
            'joint_action/vector differs from the joints of the arms in 13 of 13 rows',
        ),
        (
            new_file, lambda f: set_to(f, 'additional_info/frequency', 0),
            'additional_info/frequency is [0.0], not a rate',
        ),
    ],
)  # fmt: skip
def test_a_file_that_contradicts_itself_is_left_out_and_named(
    tmp_path, capsys, write, change, words
):
    new_file(tmp_path / 'set/data/episode_0000000.hdf5')
    bad = write(tmp_path / 'set/data/episode_0000001.hdf5', change=change)
    code, about = bring(capsys, tmp_path / 'set', tmp_path / 'bags', '--rate', 10)
    said = [finding for finding in about['findings'] if words in finding]
    assert code == 1 and about['episodes'] == 1
    assert len(said) == 1 and str(bad) in said[0]


def seven_joints(file):
    for group in ('state', 'action'):
        for side in ('left', 'right'):
            name = f'{group}/{side}_arm_joint_states'
            set_to(file, name, np.pad(file[name][:], ((0, 0), (0, 1))))


def test_arms_of_seven_joints_are_read_apart_from_those_of_six(tmp_path):
    data = read_robotwin(new_file(tmp_path / 'a/episode0.hdf5', change=seven_joints))
    assert len(data.joint_names) == 16 and data.joint_names[7] == 'left_gripper'
    assert data.joint_names[6] == 'left_joint_6' and data.joint_names[-1] == 'right_gripper'
    np.testing.assert_allclose(data.episodes[0].states[:, 7], STATES[:-1, 6], atol=1e-6)
    for number in (1, 2):
        new_file(tmp_path / f'a/episode{number}.hdf5')
    data = read_robotwin(tmp_path / 'a')
    assert [episode.index for episode in data.episodes] == [1, 2]
    assert data.findings == [
        'What has not 14 joints, as most episodes have, is left out: episode 0; import it by '
        'itself.'
    ]


def test_contradictions_that_leave_the_rows_alone_are_said_once_with_their_episodes(
    tmp_path, capsys
):
    for number in range(3):
        new_file(
            tmp_path / f'set/data/episode_{number:07d}.hdf5',
            change=lambda f: f['vision/cam_head/shape'].write_direct(
                np.array([480, 640, 3], 'i4')
            ),
        )
    new_file(
        tmp_path / 'set/data/episode_0000003.hdf5',
        change=lambda f: (f.pop('vision/cam_head'), f.update({'instruction': 'dance'})),
        frequency=20,
    )
    code, about = bring(capsys, tmp_path / 'set', tmp_path / 'bags')
    assert code == 1 and about['episodes'] == 4 and about['rate_hz'] == 10
    assert about['findings'][:4] == [
        'Episodes 0 to 2: vision/cam_head/shape says 480x640 and the pictures are 240x320.',
        'Episode 3: its instruction is none of its instructions.',
        'Episode 3: additional_info/frequency says 20 frames a second and most episodes say 10.',
        "Camera 'cam_head' is not in episode 3.",
    ]
    steps = content(about['bags'][3])[2]
    assert set(steps.tolist()) == {SECOND // 20}


def test_a_rate_that_is_given_is_taken_and_the_files_own_is_said(tmp_path, capsys):
    new_file(tmp_path / 'episode0.hdf5')
    _, about = bring(capsys, tmp_path / 'episode0.hdf5', tmp_path / 'bags', '--rate', 20)
    words = 'additional_info/frequency says 10 frames a second and --rate 20, which is taken'
    assert f'Episode 0: {words}.' in about['findings']
    assert set(content(about['bags'][0])[2].tolist()) == {SECOND // 20}


def test_files_that_hold_no_time_need_a_rate(tmp_path, capsys):
    old_file(tmp_path / 'set/data/episode1.hdf5')
    code, err = bring(capsys, tmp_path / 'set', tmp_path / 'bags')
    assert code == 2 and 'hold no time: give the frames a second with --rate' in err
    new_file(tmp_path / 'set/data/episode_0000000.hdf5')
    code, about = bring(capsys, tmp_path / 'set', tmp_path / 'bags')
    assert code == 1 and about['episodes'] == 1
    assert 'What holds no time is left out: episode 1; give --rate.' in about['findings']
