"""LeRobot and RoboTwin data sets become bags with the same numbers and pictures, and go back."""

from argparse import ArgumentTypeError
import json
from pathlib import Path
import shutil
import subprocess
import sys

import av
from episode_bags import joints_at
from episode_bags import record
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest

from eva_ros.cli import arguments
from eva_ros.cli.main import main
from eva_ros.episodes.dataset import load_episodes
from eva_ros.errors import UserError
from eva_ros.interchange.import_map import ImportMap
from eva_ros.interchange.import_map import JointSource
from eva_ros.interchange.lerobot.reader import read_lerobot
from eva_ros.observations.images import decode_image
from eva_ros.observations.views import load_view
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import JointStateRecord
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
TOP = 'observation.images.top'
NAMES = [f'joint{i}.pos' for i in range(3)]
RECORDINGS = Path('recordings')


def plain(path):
    """Return all pictures of a video as PyAV gives them."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format='rgb24') for frame in container.decode(video=0)]


def film(path, count, rate=10, skipped=(), level=10):
    """Write a small video whose pictures get brighter by a level each, without those skipped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), 'w') as container:
        stream = container.add_stream('libx264', rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, 'yuv420p'
        for index in (i for i in range(count) if i not in skipped):
            picture = np.full((48, 64, 3), level * index, np.uint8)
            frame = av.VideoFrame.from_ndarray(picture, format='rgb24')
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def version2(folder, counts=(12, 9), **features):
    """Write a LeRobot v2.1 data set: an episode for each count."""
    (folder / 'meta').mkdir(parents=True)
    vector = {'dtype': 'float32', 'shape': [3], 'names': NAMES}
    video = {'dtype': 'video', 'shape': [48, 64, 3], 'names': ['height', 'width', 'channel']}
    counters = ('timestamp', 'frame_index', 'episode_index', 'index', 'task_index')
    info = {
        'codebase_version': 'v2.1', 'fps': 10, 'chunks_size': 1000,
        'total_episodes': len(counts), 'total_frames': sum(counts),
        'data_path': 'data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet',
        'video_path': 'videos/{video_key}/episode_{episode_index:06d}.mp4',
        'features': {
            'observation.state': vector, 'action': vector, TOP: video,
            **{key: {'dtype': 'int64', 'shape': [1]} for key in counters}, **features,
        },
    }  # fmt: skip
    (folder / 'meta' / 'info.json').write_text(json.dumps(info))
    lines = []
    for number, count in enumerate(counts):
        rng = np.random.default_rng(number)
        states = np.cumsum(rng.normal(size=(count, 3)), axis=0).astype(np.float32)
        rows(folder, number, states)
        film(folder / f'videos/{TOP}/episode_{number:06d}.mp4', count)
        lines.append({'episode_index': number, 'tasks': ['stack the cups'], 'length': count})
    (folder / 'meta' / 'episodes.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    return folder


def rows(folder, number, states, stamps=None):
    """Write the parquet file of an episode."""
    path = folder / f'data/chunk-000/episode_{number:06d}.parquet'
    path.parent.mkdir(parents=True, exist_ok=True)
    count = len(states)
    parquet.write_table(
        pyarrow.table(
            {
                'observation.state': list(states),
                'action': [row + 0.5 for row in states],
                'timestamp': np.arange(count, dtype=np.float32) / 10 if stamps is None else stamps,
                'episode_index': [number] * count,
            }
        ),
        path,
    )


def bring(capsys, source, out, *more):
    """Return exit code and JSON of eva bags import."""
    code = main(['bags', 'import', str(source), '--out', str(out), '--json', *map(str, more)])
    return code, json.loads(capsys.readouterr().out)


def content(bag):
    """Return a bag's joint states, by topic, and pictures."""
    joints, pictures, said = {}, [], []
    with BagReader(Path(bag), said.append) as reader:
        for found in reader.records():
            if isinstance(found, JointStateRecord):
                joints.setdefault(found.topic, []).append(found.positions)
            elif isinstance(found, ImageRecord):
                pictures.append(decode_image(found.message))
    assert not said
    return {topic: np.stack(values) for topic, values in joints.items()}, pictures


def test_numbers_and_pictures_of_v2_are_in_the_bags_as_they_were(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    code, about = bring(capsys, source, tmp_path / 'bags', '--images', 'png')
    assert (about['episodes'], about['frames'], about['kind']) == (2, 21, 'LeRobot v2.1')
    for number, bag in enumerate(about['bags']):
        joints, pictures = content(bag)
        table = parquet.read_table(source / f'data/chunk-000/episode_{number:06d}.parquet')
        for topic, column in (('joint_states', 'observation.state'), ('action', 'action')):
            np.testing.assert_array_equal(joints[topic], np.array(table[column].to_pylist()))
        wanted = plain(source / f'videos/{TOP}/episode_{number:06d}.mp4')
        np.testing.assert_array_equal(np.stack(pictures), np.stack(wanted))
        with BagReader(Path(bag)) as reader:
            assert reader.facts['eva.instruction'] == 'stack the cups'
    assert (code, about['findings']) == (0, [])
    (note,) = about['notes']
    assert 'counted, not measured' in note


def _no_video(folder):
    (folder / f'videos/{TOP}/episode_000001.mp4').unlink()


def _broken_video(folder):
    path = folder / f'videos/{TOP}/episode_000001.mp4'
    path.write_bytes(path.read_bytes()[:200])


def _short_video(folder):
    film(folder / f'videos/{TOP}/episode_000000.mp4', 7)


def _holes(folder):
    film(folder / f'videos/{TOP}/episode_000000.mp4', 12, skipped=(4, 5))


def _no_rows(folder):
    (folder / 'data/chunk-000/episode_000001.parquet').unlink()


def _empty(folder):
    rows(folder, 1, np.zeros((0, 3), np.float32))


def _ragged(folder):
    rows(folder, 1, [np.zeros(3), np.zeros(2)])


def _wide(folder):
    rows(folder, 1, np.zeros((9, 4), np.float32))


def _nan(folder):
    rows(folder, 1, np.full((9, 3), np.nan, np.float32))


def _early(folder):
    rows(folder, 1, np.zeros((9, 3), np.float32), np.arange(9) - 50.0)


def _late(folder):
    rows(folder, 1, np.zeros((9, 3), np.float32), np.arange(9) + 1e12)


def _at_the_end_of_32_bits(folder):
    rows(folder, 1, np.zeros((9, 3), np.float32), np.arange(9) + 2.0**31 - 9)


def _too_fast(folder):
    path = folder / 'meta' / 'info.json'
    path.write_text(json.dumps(json.loads(path.read_text()) | {'fps': 1e300}))


def _listed(*lines):
    """Return what writes lines behind those of episodes 0 and 1 in episodes.jsonl."""

    def damage(folder):
        path = folder / 'meta' / 'episodes.jsonl'
        path.write_text('\n'.join([path.read_text(), *lines, '']))

    return damage


def _twice(folder):
    path = folder / 'meta' / 'episodes.jsonl'
    path.write_text('\n'.join([*path.read_text().split('\n'), path.read_text()]))


@pytest.mark.parametrize(
    ('damage', 'words'),
    [
        (_twice, 'episodes.jsonl, line 3 is left out: it names episode 0, as '),
        (_twice, 'episodes.jsonl, line 2 does.'),
        (_listed('{"episode_index": 2'), 'episodes.jsonl, line 3 is left out: it is no JSON ('),
        (_listed('', '[2]'), 'episodes.jsonl, line 4 is left out: it is no map.'),
        (_listed('{"index": 2}'), 'line 3 is left out: it has no episode_index.'),
        (_listed('{"episode_index": "2"}'), "episode_index '2' is no whole number"),
        (_listed('{"episode_index": -1}'), "episode_index '-1' is no whole number"),
        (_no_video, 'Episode 1 lacks the video'),
        (_broken_video, 'cannot be opened'),
        (_short_video, "5 of 12 frames have no picture in 'observation.images.top'"),
        (_holes, "2 of 12 frames have no picture in 'observation.images.top'"),
        (_no_rows, 'Episode 1 is left out: its rows cannot be read'),
        (_empty, 'Episode 1 is left out: it has no rows'),
        (_ragged, 'are not all as long'),
        (_wide, 'has 4 values for 3 names'),
        (_nan, 'no numbers'),
        (_early, 'Episode 1 is left out: its time stamps go from -50 to -42 s'),
        (_late, 'Episode 1 is left out: its time stamps go from 1e+12 to 1e+12 s'),
        (_at_the_end_of_32_bits, 'Episode 1 is left out: its time stamps'),
        (_too_fast, 'fps 1e+300, which is no rate'),
    ],
)
def test_what_a_data_set_lacks_is_said_and_the_rest_is_read(tmp_path, capsys, damage, words):
    source = version2(tmp_path / 'set')
    damage(source)
    code, about = bring(capsys, source, tmp_path / 'bags', '--images', 'png')
    assert code == 1 and words in ' '.join(about['findings'])
    joints, _ = content(about['bags'][0])
    assert len(joints['joint_states']) == 12


def test_a_picture_goes_to_the_row_of_its_own_instant(tmp_path):
    source = version2(tmp_path / 'set')
    _holes(source)
    pictures = list(read_lerobot(source).episodes[0].frames[TOP]())
    levels = [None if picture is None else round(picture.mean() / 10) for picture in pictures]
    assert levels == [0, 1, 2, 3, None, None, 6, 7, 8, 9, 10, 11]


def test_deviating_keys_are_named(tmp_path, capsys):
    odd = {'observation.force': {'dtype': 'float32', 'shape': [1]}}
    odd['observation.images.side'] = {'dtype': 'image', 'shape': [48, 64, 3]}
    source = version2(tmp_path / 'set', **odd)
    _, about = bring(capsys, source, tmp_path / 'bags')
    said = ' '.join(about['findings'])
    assert 'unusual keys: observation.force' in said
    assert 'Pictures in the parquet files are left out: observation.images.side' in said


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'codebase_version': 'v9'}, "of version 'v9'"),
        ({'data_path': '../../{episode_index}.parquet'}, 'leads out of the data set'),
        ({'data_path': '{nobody}'}, "has no 'nobody'"),
    ],
)
def test_a_data_set_that_cannot_be_read_ends_in_one_sentence(tmp_path, capsys, change, words):
    source = version2(tmp_path / 'set')
    info = json.loads((source / 'meta' / 'info.json').read_text())
    (source / 'meta' / 'info.json').write_text(json.dumps(info | change))
    assert main(['bags', 'import', str(source), '--out', str(tmp_path / 'bags')]) == 2
    err = capsys.readouterr().err
    assert words in err and str(source) in err and err.count('\n') == 1


def test_bags_that_are_there_are_kept(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    _, about = bring(capsys, source, tmp_path / 'bags')
    before = {bag: next(Path(bag).glob('*.mcap')).stat().st_mtime_ns for bag in about['bags']}
    shutil.rmtree(about['bags'][1])
    _, again = bring(capsys, source, tmp_path / 'bags')
    first = next(Path(about['bags'][0]).glob('*.mcap'))
    assert first.stat().st_mtime_ns == before[about['bags'][0]]
    assert Path(again['bags'][1]).is_dir() and '1 bags were there' in ' '.join(again['findings'])


def refused(capsys, source, out, *more):
    """Return the one sentence with which an import is refused."""
    assert main(['bags', 'import', str(source), '--out', str(out), *map(str, more)]) == 2
    err = capsys.readouterr().err
    assert err.count('\n') == 1 and 'Traceback' not in err
    return err


def test_only_bags_that_were_written_are_counted(tmp_path, capsys):
    arguments = ['bags', 'import', str(version2(tmp_path / 'set')), '--out', str(tmp_path / 'b')]
    main(arguments)
    assert 'wrote 2 bags' in capsys.readouterr().out
    shutil.rmtree(tmp_path / 'b/set-00001')
    main(arguments)
    out = capsys.readouterr().out
    assert 'wrote 1 bags' in out and '; 1 were there already' in out


def test_bags_of_another_set_or_of_other_options_are_not_taken_for_these(tmp_path, capsys):
    source = version2(tmp_path / 'one/set.v1')
    _, about = bring(capsys, source, tmp_path / 'bags')
    assert Path(about['bags'][0]).name == 'set.v1-00000'
    said = refused(capsys, source, tmp_path / 'bags', '--images', 'png')
    assert 'images jpeg, not png' in said and 'another --out' in said
    said = refused(capsys, version2(tmp_path / 'two/set.v1'), tmp_path / 'bags')
    assert str(source) in said and str(tmp_path / 'two/set.v1') in said
    _, about = bring(capsys, version2(tmp_path / 'set.v2'), tmp_path / 'bags')
    assert all(Path(bag).is_dir() for bag in about['bags'])


def test_a_wrong_instruction_is_put_right_as_it_is_imported(tmp_path, capsys):
    source, text = version2(tmp_path / 'set'), 'hand over the tape'
    _, about = bring(capsys, source, tmp_path / 'all', '--instruction', text)
    assert [instruction(bag) for bag in about['bags']] == [text] * 2
    change = ('--instruction', f'stack the cups={text}')
    _, about = bring(capsys, source, tmp_path / 'one', *change)
    assert [instruction(bag) for bag in about['bags']] == [text] * 2
    said = refused(capsys, source, tmp_path / 'other', '--instruction', f'clap={text}')
    assert "No attempt has the instruction 'clap': there are 'stack the cups'" in said
    assert 'is empty' in refused(capsys, source, tmp_path / 'other', '--instruction', ' ')
    said = refused(capsys, source, tmp_path / 'all', '--instruction', 'another text')
    assert f'instruction {text}, not another text' in said


def instruction(bag):
    """Return what a bag's markers say was asked."""
    with BagReader(Path(bag)) as reader:
        (asked,) = {found.instruction for found in reader.records(['episode'])}
    return asked


def test_a_folder_in_the_place_of_a_bag_is_refused_before_anything_is_written(tmp_path, capsys):
    source, out = version2(tmp_path / 'set'), tmp_path / 'bags'
    (out / 'set-00001').mkdir(parents=True)
    (out / 'set-00001/notes.txt').write_text('mine')
    said = refused(capsys, source, out)
    assert 'set-00001 is there and has no metadata.yaml' in said
    assert [path.name for path in out.iterdir()] == ['set-00001']


def exported(tmp_path, **options):
    """Return the episodes of two bags, and the LeRobot data set made from them."""
    bags = [record(tmp_path / f'bag_{i}', duration_s=1.0 + i, **options) for i in range(2)]
    out, cache = tmp_path / 'export', tmp_path / 'cache'
    arguments = ['bags', 'export', *map(str, bags), '--out', str(out), '--cache', str(cache)]
    assert main(arguments) == 0
    return load_episodes(bags, ROBOT, VIEW, cache, report=None), out


def test_an_export_holds_the_episodes_joints_and_pictures(tmp_path):
    episodes, out = exported(tmp_path)
    data = read_lerobot(out)
    assert data.kind == 'LeRobot v3.0' and data.findings == []
    assert data.joint_names == ROBOT.joint_names and data.rate_hz == VIEW.rate_hz
    assert len(data.episodes) == len(episodes) == 2
    for got, episode in zip(data.episodes, episodes):
        np.testing.assert_array_equal(got.states, episode.joints.astype(np.float32))
        np.testing.assert_array_equal(got.actions[:-1], got.states[1:])
        assert got.instruction == episode.instruction
        for camera in VIEW.camera_names:
            wanted = [VIEW.untile(view)[camera] for view in episode.frames]
            found = list(got.frames[f'observation.images.{camera}']())
            error = np.abs(np.stack(found).astype(int) - np.stack(wanted))
            assert len(found) == len(wanted) and error.mean() < 3


def test_an_export_comes_back_as_episodes_of_the_robot(tmp_path, capsys):
    episodes, out = exported(tmp_path)
    found = ImportMap(
        joints={name: JointSource(source=name) for name in ROBOT.joint_names},
        cameras={name: f'observation.images.{name}' for name in VIEW.camera_names},
    )
    (tmp_path / 'map.yaml').write_text(json.dumps(found.model_dump()))
    more = ['--robot', 'aloha_sim', '--map', tmp_path / 'map.yaml', '--images', 'png']
    code, about = bring(capsys, out, tmp_path / 'again', *more)
    assert (code, about['findings']) == (0, []) and 'The actions are left out' in about['notes'][
        -1
    ]
    # The export's pictures are as large as they are in the view.
    cameras = tuple(
        camera.model_copy(update={'image_size': None, 'crop': (0.0, 0.0, 1.0, 1.0)})
        for camera in VIEW.cameras
    )
    view = VIEW.model_copy(update={'cameras': cameras})
    again = load_episodes(about['bags'], ROBOT, view, tmp_path / 'cache', report=None)
    assert [len(e) for e in again] == [len(e) for e in episodes]
    for got, episode in zip(again, episodes):
        np.testing.assert_allclose(got.joints, episode.joints, atol=1e-6)
        assert got.instruction == episode.instruction
        assert np.abs(got.frames.astype(int) - episode.frames).mean() < 4


def test_attempts_that_failed_are_exported_only_where_asked_for(tmp_path, capsys):
    good = record(tmp_path / 'good', duration_s=1.0)
    bad = record(tmp_path / 'bad', duration_s=1.0, success=2)
    arguments = ['bags', 'export', '--cache', str(tmp_path / 'cache'), str(bad)]
    assert main([*arguments, '--out', str(tmp_path / 'none')]) == 2
    assert '--failures' in capsys.readouterr().err
    assert main([*arguments, str(good), '--out', str(tmp_path / 'one')]) == 0
    assert 'left out: 1 episodes that failed' in capsys.readouterr().err
    assert len(read_lerobot(tmp_path / 'one').episodes) == 1
    assert main([*arguments, str(good), '--failures', '--out', str(tmp_path / 'both')]) == 0
    assert len(read_lerobot(tmp_path / 'both').episodes) == 2


def test_an_export_that_exists_is_not_overwritten(tmp_path, capsys):
    (tmp_path / 'there').mkdir()
    bag = record(tmp_path / 'bag', duration_s=1.0)
    arguments = [str(bag), '--out', str(tmp_path / 'there'), '--cache', str(tmp_path / 'cache')]
    assert main(['bags', 'export', *arguments]) == 2
    assert 'exists already' in capsys.readouterr().err


def robotwin(path, states, pictures, key='joint_action/vector'):
    """Write an episode as RoboTwin does: RGB given to OpenCV's encoder, zeros behind."""
    h5py = pytest.importorskip('h5py')
    import cv2

    path.parent.mkdir(parents=True, exist_ok=True)
    packed = [cv2.imencode('.jpg', p)[1].tobytes() for p in pictures]
    longest = max(map(len, packed))
    with h5py.File(path, 'w') as file:
        file[key] = states
        file['observation/head_camera/rgb'] = np.array(packed, dtype=f'S{longest}')
    asked = path.parent.parent / 'instructions' / f'{path.stem}.json'
    asked.parent.mkdir(exist_ok=True)
    asked.write_text(json.dumps({'seen': ['open the laptop'], 'unseen': []}))


def test_robotwin_episodes_become_bags_of_a_robot(tmp_path, capsys):
    states = np.stack([joints_at(10**9 + i * 10**8) for i in range(6)])
    red = np.zeros((240, 320, 3), np.uint8)
    red[..., 0] = 200
    robotwin(tmp_path / 'set/data/episode0.hdf5', states, [red] * 6)
    more = ['--rate', '10', '--robot', 'aloha_sim']
    _, about = bring(capsys, tmp_path / 'set', tmp_path / 'bags', *more)
    assert (about['episodes'], about['frames']) == (1, 6)
    joints, pictures = content(about['bags'][0])
    names, _ = ROBOT.to_joint_state(ROBOT.home)
    back = [ROBOT.from_joint_state(names, row) for row in joints['joint_states']]
    np.testing.assert_allclose(back, states, atol=1e-9)
    assert np.abs(pictures[0].astype(int) - red).max() < 6
    with BagReader(Path(about['bags'][0])) as reader:
        assert reader.facts['eva.instruction'] == 'open the laptop'


def test_robotwin_bags_are_named_by_task_and_settings(tmp_path, capsys):
    picture = np.zeros((24, 32, 3), np.uint8)
    names = []
    for task in ('beat_hammer', 'open_laptop'):
        folder = tmp_path / task / 'demo_clean/data'
        robotwin(folder / 'episode0.hdf5', np.ones((6, 14)), [picture] * 6)
        for source in (folder, folder / 'episode0.hdf5'):
            _, about = bring(capsys, source, tmp_path / 'bags', '--rate', '10')
            names += [Path(bag).name for bag in about['bags']]
    assert names[:2] == ['beat_hammer-demo_clean-00000', 'beat_hammer-demo_clean-episode0-00000']
    assert names[2] == 'open_laptop-demo_clean-00000' and len(set(names)) == 4
    assert sorted(names) == sorted(path.name for path in (tmp_path / 'bags').iterdir())
    said = refused(capsys, folder, tmp_path / 'bags', '--rate', '20')
    assert 'rate 10.0, not 20.0' in said


def test_a_robotwin_episode_keeps_its_number_when_files_are_added(tmp_path, capsys):
    folder, picture = tmp_path / 'set/data', np.zeros((24, 32, 3), np.uint8)
    more = [tmp_path / 'set', tmp_path / 'bags', '--rate', '10']

    def add(number):
        robotwin(folder / f'episode{number}.hdf5', np.full((6, 14), number), [picture] * 6)
        _, about = bring(capsys, *more)
        return {Path(b).name[-5:]: content(b)[0]['joint_states'][0, 0] for b in about['bags']}

    assert add(12) == {'00012': 12}
    assert add(3) == {'00003': 3, '00012': 12}
    assert add(100) == {'00003': 3, '00012': 12, '00100': 100}


def test_robotwin_files_without_a_number_of_their_own_are_named(tmp_path, capsys):
    picture = np.zeros((24, 32, 3), np.uint8)
    for name in ('a/data/episode0', 'a/data/notes'):
        robotwin(tmp_path / f'{name}.hdf5', np.ones((6, 14)), [picture] * 6)
    code, about = bring(capsys, tmp_path / 'a', tmp_path / 'bags', '--rate', '10')
    assert code == 1 and about['episodes'] == 1
    assert 'notes.hdf5 is left out: its name has no number' in ' '.join(about['findings'])
    more = [tmp_path / 'a/data/notes.hdf5', tmp_path / 'bags', '--rate', '10']
    assert bring(capsys, *more)[1]['episodes'] == 1
    robotwin(tmp_path / 'b/data/episode0.hdf5', np.ones((6, 14)), [picture] * 6)
    said = refused(capsys, tmp_path, tmp_path / 'bags', '--rate', '10')
    assert 'are both episode 0: import their folders' in said


@pytest.mark.parametrize(
    ('states', 'key', 'words'),
    [
        (np.zeros((6, 7)), 'joint_action/vector', 'has the shape (6, 7)'),
        (np.zeros((5, 14)), 'joint_action/vector', 'has 6 pictures for 5 rows of joints'),
        (np.full((6, 14), np.nan), 'joint_action/vector', 'not finite'),
        (np.zeros((6, 14)), 'action', 'nor joint_action/vector'),
    ],
)
def test_a_robotwin_file_that_deviates_is_named(tmp_path, capsys, states, key, words):
    path = tmp_path / 'set/data/episode0.hdf5'
    robotwin(path, states, [np.zeros((8, 8, 3), np.uint8)] * 6, key)
    assert main(['bags', 'import', str(path), '--out', str(tmp_path / 'b'), '--rate', '10']) == 2
    err = capsys.readouterr().err
    assert words in err and str(path) in err


def test_what_is_no_data_set_is_refused(tmp_path, capsys):
    assert main(['bags', 'import', str(tmp_path), '--out', str(tmp_path / 'bags')]) == 2
    assert 'is not a dataset' in capsys.readouterr().err


def given(repository, name):
    """Return a recording's folder, or skip."""
    path = repository.parent / 'shared' / 'recordings' / name
    if not path.is_dir():
        pytest.skip(f'{path} is not here')
    return path


def test_the_two_arm_recording_keeps_its_joints_and_names_its_faults(repository, tmp_path, capsys):
    source = given(repository, 'biso101_moving_tape')
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert (about['kind'], about['episodes'], about['frames']) == ('LeRobot v2.1', 5, 2295)
    assert code == 1 and len(about['cameras']) == 3
    said = ' '.join(about['findings'])
    assert 'The action leads the state by 4 frames' in ' '.join(about['notes'])
    assert "'observation.images.top': 80% of its picture" in said and 'covered' in said
    assert 'have no picture' not in said
    files = sorted((source / 'data').rglob('*.parquet'))
    for file, bag in zip(files, about['bags'], strict=True):
        table = parquet.read_table(file)
        with BagReader(Path(bag)) as reader:
            found = list(reader.records(['joint_states']))
        wanted = np.array(table['observation.state'].to_pylist())
        np.testing.assert_array_equal(np.stack([state.positions for state in found]), wanted)


def test_the_two_arm_recordings_pictures_are_the_videos(repository):
    source = given(repository, 'biso101_moving_tape')
    episode = read_lerobot(source).episodes[-1]
    for key in ('observation.images.left', 'observation.images.top'):
        (path,) = source.glob(f'videos/**/{key}/episode_000004.mp4')
        wanted, count = plain_stream(path), 0
        for got, frame in zip(episode.frames[key](), wanted, strict=True):
            assert np.array_equal(got, frame)
            count += 1
        assert count == len(episode) == 432


def plain_stream(path):
    """Yield all pictures of a video as PyAV gives them."""
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            yield frame.to_ndarray(format='rgb24')


def test_the_one_arm_recording_is_the_parquet_and_the_video_and_does_not_move(
    repository, tmp_path, capsys
):
    source = given(repository, 'so101_lerobot')
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert (about['kind'], about['episodes'], about['frames']) == ('LeRobot v3.0', 6, 1782)
    assert (
        code == 1
        and 'No joint moves: all 6 keep one value in all 1782 frames.' in about['findings']
    )
    assert 'have no picture' not in ' '.join(about['findings'])
    table = [parquet.read_table(file) for file in sorted((source / 'data').rglob('*.parquet'))]
    wanted = np.concatenate([np.array(t['observation.state'].to_pylist()) for t in table])
    states = []
    for bag in about['bags']:
        with BagReader(Path(bag)) as reader:
            states += [found.positions for found in reader.records(['joint_states'])]
    np.testing.assert_array_equal(np.stack(states), wanted)
    (video,) = source.glob('videos/**/*.mp4')
    (key,) = about['cameras']
    episodes = read_lerobot(source).episodes
    found = (picture for episode in episodes for picture in episode.frames[key]())
    assert all(np.array_equal(a, b) for a, b in zip(found, plain_stream(video), strict=True))


@pytest.mark.parametrize('rate', ['1e-9', '1e12', '0.09', '1001', 'nan'])
def test_a_rate_that_cannot_be_is_refused(tmp_path, capsys, rate):
    with pytest.raises(SystemExit) as raised:
        main(['bags', 'import', str(tmp_path), '--out', str(tmp_path / 'b'), '--rate', rate])
    assert raised.value.code == 2 and f"'{rate}' is " in capsys.readouterr().err


def test_an_argument_and_a_data_set_have_the_same_bounds_of_rates(tmp_path, monkeypatch):
    source = version2(tmp_path / 'set')
    assert arguments.rate_hz('10') == read_lerobot(source).rate_hz == 10
    monkeypatch.setattr('eva_ros.interchange.rates._MOST_HZ', 5.0)
    with pytest.raises(ArgumentTypeError):
        arguments.rate_hz('10')
    assert read_lerobot(source).rate_hz == 0


def test_the_command_line_has_its_arguments_before_it_loads_anything_heavy():
    code = 'import sys, eva_ros.cli.bags; sys.exit(bool({"numpy", "yaml"} & set(sys.modules)))'
    assert subprocess.run([sys.executable, '-c', code]).returncode == 0


def test_a_rate_for_a_set_that_says_its_own_is_refused(tmp_path, capsys):
    said = refused(capsys, version2(tmp_path / 'set'), tmp_path / 'bags', '--rate', '10')
    assert 'leave out --rate' in said and not (tmp_path / 'bags').exists()


def test_a_map_that_does_not_fit_is_refused(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    arguments = ['bags', 'import', str(source), '--out', str(tmp_path / 'bags')]
    assert main([*arguments, '--robot', 'aloha_sim']) == 2
    assert 'say in a YAML (--map)' in capsys.readouterr().err
    (tmp_path / 'map.yaml').write_text('joints: {left_waist: {source: nobody}}\n')
    more = ['--robot', 'aloha_sim', '--map', str(tmp_path / 'map.yaml')]
    assert main([*arguments, *more]) == 2
    assert 'nobody' in capsys.readouterr().err
    with pytest.raises(UserError):
        read_lerobot(tmp_path)
