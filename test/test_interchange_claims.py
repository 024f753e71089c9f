"""What a LeRobot data set says twice is compared: rows, pictures, tasks, pointers and names."""

from itertools import pairwise
import json
from pathlib import Path
import shutil

from episode_bags import record
import numpy as np
import pyarrow
import pyarrow.parquet as parquet
import pytest
from test_interchange_import import bring
from test_interchange_import import content
from test_interchange_import import film
from test_interchange_import import given
from test_interchange_import import NAMES
from test_interchange_import import refused
from test_interchange_import import ROBOT
from test_interchange_import import TOP
from test_interchange_import import version2
from test_interchange_import import VIEW

from eva_ros.cli.main import main
from eva_ros.episodes.dataset import load_episodes
from eva_ros.interchange.lerobot.reader import read_lerobot
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.records import EpisodeRecord

COUNTS = (8, 9, 6)
INFO = 'meta/info.json'
V3_DATA = 'data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet'
V3_VIDEO = 'videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4'


def change_info(folder, **changes):
    path = folder / INFO
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_table(path, change):
    """Give each row of a parquet file to a function that changes it, or drops it (False)."""
    rows = [row for row in parquet.read_table(path).to_pylist() if change(row) is not False]
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def rows_file(folder):
    return folder / 'data/chunk-000/file-000.parquet'


def change_entry(folder, episode, **changes):
    """Change the metadata of an episode; keys of a camera without their beginning."""

    def change(about):
        if about['episode_index'] == episode:
            about.update({_full(key): value for key, value in changes.items()})

    change_table(folder / 'meta/episodes/chunk-000/file-000.parquet', change)


def _full(key):
    return f'videos/{TOP}/{key}' if key.endswith('_timestamp') else key.replace('__', '/')


def version3(folder, counts=COUNTS):
    """Write a LeRobot v3.0 data set at 10 Hz; picture k of the one video has the level 10 k."""
    version2(folder, counts)
    shutil.rmtree(folder / 'data')
    shutil.rmtree(folder / 'videos')
    (folder / 'meta/episodes.jsonl').unlink()
    change_info(folder, codebase_version='v3.0', data_path=V3_DATA, video_path=V3_VIDEO)
    film(folder / f'videos/{TOP}/chunk-000/file-000.mp4', sum(counts))
    rows, entries, begin = [], [], 0
    for number, count in enumerate(counts):
        states = np.cumsum(np.random.default_rng(number).normal(size=(count, 3)), axis=0)
        rows += [
            {
                'observation.state': states[i].tolist(), 'action': (states[i] + 0.5).tolist(),
                'timestamp': i / 10, 'frame_index': i, 'episode_index': number,
                'index': begin + i, 'task_index': 0,
            }
            for i in range(count)
        ]  # fmt: skip
        entries.append({
            'episode_index': number, 'tasks': ['stack the cups'], 'length': count,
            'data/chunk_index': 0, 'data/file_index': 0,
            f'videos/{TOP}/chunk_index': 0, f'videos/{TOP}/file_index': 0,
            _full('from_timestamp'): begin / 10, _full('to_timestamp'): (begin + count) / 10,
        })  # fmt: skip
        begin += count
    for path, table in (
        (rows_file(folder), rows),
        (folder / 'meta/episodes/chunk-000/file-000.parquet', entries),
        (folder / 'meta/tasks.parquet', [{'task_index': 0, 'task': 'stack the cups'}]),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        parquet.write_table(pyarrow.Table.from_pylist(table), path)
    return folder


def levels(bag):
    """Return which picture of the video each picture of a bag is."""
    _, pictures = content(bag)
    return [round(float(picture.mean()) / 10) for picture in pictures]


def of_its_own_size(view):
    """Return a view of cameras whose pictures are as large as they are in it."""
    whole = {'image_size': None, 'crop': (0.0, 0.0, 1.0, 1.0)}
    cameras = tuple(camera.model_copy(update=whole) for camera in view.cameras)
    return view.model_copy(update={'cameras': cameras})


def said_by(about):
    return '\n'.join(about['findings'])


def instructions(bag):
    """Return instruction and stamps of the attempts that a bag marks."""
    with BagReader(Path(bag)) as reader:
        found = [r for r in reader.records() if isinstance(r, EpisodeRecord)]
    return [
        (a.instruction, (a.stamp_ns - 10**9) // 10**8, (b.stamp_ns - 10**9) // 10**8)
        for a, b in zip(found[::2], found[1::2], strict=True)
        if a.starts and not b.starts
    ]


# Rows and pictures.


def test_a_data_set_without_contradictions_is_imported_without_findings(tmp_path, capsys):
    code, about = bring(capsys, version3(tmp_path / 'set'), tmp_path / 'bags')
    assert (code, about['findings']) == (0, [])
    assert [levels(bag) for bag in about['bags']] == [
        list(range(8)), list(range(8, 17)), list(range(17, 23)),
    ]  # fmt: skip


@pytest.mark.parametrize('version', [version2, version3])
def test_pictures_are_paired_by_index_where_the_stamps_of_rows_jitter(tmp_path, capsys, version):
    source = version(tmp_path / 'set', (12, 9))
    stamps = np.arange(12) / 10 + np.linspace(0, 1.6, 12) + np.tile([0, 0.09], 6)
    path = next((source / 'data').rglob('*.parquet'))
    table, place = parquet.read_table(path).to_pylist(), iter(stamps.tolist())
    for row in table[:12]:
        row['timestamp'] = next(place)
    parquet.write_table(pyarrow.Table.from_pylist(table), path)
    _, about = bring(capsys, source, tmp_path / 'bags')
    assert levels(about['bags'][0]) == list(range(12))
    assert 'picture' not in said_by(about)


def test_rows_without_a_picture_are_said_with_their_number_and_place(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    film(source / f'videos/{TOP}/episode_000000.mp4', 12, skipped=(4, 5, 9, 10, 11))
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and levels(about['bags'][0]) == [0, 1, 2, 3, 6, 7, 8]
    wanted = f"Episode 0: 5 of 12 frames have no picture in '{TOP}': rows 4, 5, 9 to 11."
    assert wanted in about['findings']


def test_a_video_longer_than_its_rows_is_not_imported_as_if_it_were_right(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    film(source / f'videos/{TOP}/episode_000001.mp4', 14)
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and levels(about['bags'][0]) == list(range(12))
    assert levels(about['bags'][1]) == []
    assert (
        f"Episode 1, '{TOP}': 14 pictures for 9 rows, and nothing says which 5 belong to no row: "
        'its pictures are left out.'
    ) in about['findings']


def test_one_picture_too_many_is_said_and_costs_no_picture(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    film(source / f'videos/{TOP}/episode_000001.mp4', 10)
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and levels(about['bags'][1]) == list(range(9))
    assert '10 pictures for 9 rows' in said_by(about)


def test_a_hole_in_a_video_of_many_episodes_costs_its_own_rows_alone(tmp_path, capsys):
    source = version3(tmp_path / 'set')
    film(source / f'videos/{TOP}/chunk-000/file-000.mp4', sum(COUNTS), skipped=(10, 11))
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and about['findings'] == [
        f"Episode 1: 2 of 9 frames have no picture in '{TOP}': rows 2, 3."
    ]
    found = [level for bag in about['bags'] for level in levels(bag)]
    assert found == [level for level in range(23) if level not in (10, 11)]


def test_pictures_that_two_episodes_claim_are_counted_and_left_out(tmp_path, capsys):
    source = version3(tmp_path / 'set')
    change_entry(source, 1, from_timestamp=0.0, to_timestamp=0.9)
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and [len(levels(bag)) for bag in about['bags']] == [0, 0, 6]
    said = said_by(about)
    assert f"8 of 23 pictures of '{TOP}' belong to no row" in said
    assert f"8 of 23 pictures of '{TOP}' belong to rows of two episodes or more" in said
    assert '8 of its pictures are claimed by another episode, too' in said


def test_a_stretch_that_is_not_as_long_as_its_rows_is_said_and_the_rows_win(tmp_path, capsys):
    source = version3(tmp_path / 'set')
    change_entry(source, 0, to_timestamp=2.0)
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and levels(about['bags'][0]) == list(range(8))
    assert about['findings'] == [
        f"Episode 0, '{TOP}': from_timestamp to to_timestamp are 20 pictures at 10 Hz, for 8 rows."
    ]


def trimmed(folder, episode, count, renumbered):
    """Drop an episode's first rows and leave the videos, and where they begin, as they are."""

    def change(row):
        if row['episode_index'] != episode:
            return True
        row['frame_index'] -= count
        row['timestamp'] -= count / 10 * renumbered
        is_kept = row['frame_index'] >= 0
        row['frame_index'] += 0 if renumbered else count
        return is_kept

    change_table(rows_file(folder), change)
    rows, begin = COUNTS[episode] - count, sum(COUNTS[:episode]) / 10
    change_entry(folder, episode, length=rows, to_timestamp=begin + rows / 10)
    change_info(folder, total_frames=sum(COUNTS) - count)


def test_an_episode_trimmed_at_the_front_does_not_get_its_first_pictures(tmp_path, capsys):
    source = version3(tmp_path / 'set')
    trimmed(source, 1, 4, renumbered=True)
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and f"4 of 23 pictures of '{TOP}' belong to no row." in said_by(about)
    assert [len(levels(bag)) for bag in about['bags']] == [8, 0, 6]
    assert 'Episode 1' in said_by(about) and 'left out' in said_by(about)


def test_a_trimmed_episode_whose_rows_kept_their_numbers_gets_their_pictures(tmp_path, capsys):
    source = version3(tmp_path / 'set')
    trimmed(source, 1, 4, renumbered=False)
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and levels(about['bags'][1]) == [12, 13, 14, 15, 16]
    assert 'whose frame_index says which 4 belong to no row' in said_by(about)


def test_videos_cut_at_the_front_and_stretches_that_were_not_are_left_out(tmp_path, capsys):
    source = version3(tmp_path / 'set')
    change_table(rows_file(source), lambda row: row['episode_index'] > 0)
    change_table(
        source / 'meta/episodes/chunk-000/file-000.parquet', lambda row: row['episode_index'] > 0
    )
    film(source / f'videos/{TOP}/chunk-000/file-000.mp4', sum(COUNTS[1:]))
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and all(levels(bag) == [] for bag in about['bags'])
    assert f"8 pictures of '{TOP}' belong to no row, and 8 rows lie behind its end" in said_by(
        about
    )


def test_the_one_arm_recordings_episodes_do_not_share_pictures(repository, tmp_path):
    source = shutil.copytree(given(repository, 'so101_lerobot'), tmp_path / 'set')
    key, entries = 'observation.images.wrist', next((source / 'meta/episodes').rglob('*.parquet'))

    def claim_the_first(about):
        if about['episode_index'] == 3:
            about |= {f'videos/{key}/from_timestamp': 0.0, f'videos/{key}/to_timestamp': 382 / 30}

    assert all(list(e.frames) == [key] for e in read_lerobot(source).episodes)
    change_table(entries, claim_the_first)
    data = read_lerobot(source)
    # What is left of the third episode's room is its own and the fourth's: it cannot be told.
    assert [bool(e.frames) for e in data.episodes] == [False, True, False, False, True, True]
    said = '\n'.join(data.findings)
    assert f"382 of 1782 pictures of '{key}' belong to no row." in said
    assert f"382 of 1782 pictures of '{key}' belong to rows of two episodes or more." in said


# Tasks.


def test_the_task_of_an_episode_is_that_of_its_rows(tmp_path, capsys):
    source = version3(tmp_path / 'set')
    tasks = [{'task_index': i, 'task': text} for i, text in enumerate(('stack', 'unstack'))]
    parquet.write_table(pyarrow.Table.from_pylist(tasks), source / 'meta/tasks.parquet')
    change_entry(source, 0, tasks=['stack'])
    change_entry(source, 1, tasks=['stack'])
    change_entry(source, 2, tasks=None)
    change_table(rows_file(source), lambda row: row.update(task_index=row['episode_index'] % 2))
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert [instructions(bag)[0][0] for bag in about['bags']] == ['stack', 'unstack', 'stack']
    assert code == 1 and about['findings'] == [
        "Episode 1 is listed with the tasks 'stack', and its rows are of 'unstack': the rows are "
        'taken.'
    ]


def test_an_index_without_tasks_is_no_loss(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    entries = [{'episode_index': i, 'length': count} for i, count in enumerate((12, 9))]
    (source / 'meta/episodes.jsonl').write_text('\n'.join(map(json.dumps, entries)))
    (source / 'meta/tasks.jsonl').write_text('{"task_index": 3, "task": "fold"}')
    for path in (source / 'data').rglob('*.parquet'):
        change_table(path, lambda row: row.update(task_index=3))
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert (code, about['findings']) == (0, [])
    assert [instructions(bag)[0][0] for bag in about['bags']] == ['fold', 'fold']


def test_a_change_of_task_begins_another_attempt(tmp_path, capsys):
    bag = record(tmp_path / 'bag', duration_s=3.0)
    out, cache = tmp_path / 'export', tmp_path / 'cache'
    arguments = ['bags', 'export', str(bag), '--out', str(out), '--cache', str(cache)]
    assert main(arguments) == 0
    tasks = [{'task_index': i, 'task': text} for i, text in enumerate(('reach', 'lift'))]
    parquet.write_table(pyarrow.Table.from_pylist(tasks), out / 'meta/tasks.parquet')
    change_table(rows_file(out), lambda row: row.update(task_index=int(row['frame_index'] >= 14)))
    change_entry(out, 0, tasks=['reach', 'lift'])
    change_info(out, total_tasks=2)
    found = {
        'joints': {name: {'source': name} for name in ROBOT.joint_names},
        'cameras': {name: f'observation.images.{name}' for name in VIEW.camera_names},
    }
    (tmp_path / 'map.yaml').write_text(json.dumps(found))
    more = ['--robot', 'aloha_sim', '--map', tmp_path / 'map.yaml']
    code, about = bring(capsys, out, tmp_path / 'bags', *more)
    assert (code, about['findings']) == (0, [])
    count = about['frames']
    assert instructions(about['bags'][0]) == [('reach', 0, 13), ('lift', 14, count - 1)]
    episodes = load_episodes(about['bags'], ROBOT, of_its_own_size(VIEW), cache, report=None)
    assert [(e.instruction, len(e)) for e in episodes] == [('reach', 14), ('lift', count - 14)]


# Pointers.


@pytest.mark.parametrize('number', [0, 7])
def test_rows_are_found_where_the_pointer_is_stale(tmp_path, capsys, number):
    source = version3(tmp_path / 'set')
    elsewhere = source / 'data/chunk-002/file-005.parquet'
    elsewhere.parent.mkdir()
    table = parquet.read_table(rows_file(source))
    parquet.write_table(table.slice(0, COUNTS[0]), rows_file(source))
    parquet.write_table(table.slice(COUNTS[0]), elsewhere)
    for episode in (1, 2):
        change_entry(source, episode, data__file_index=number)
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert about['frames'] == sum(COUNTS) and code == 1
    assert about['findings'] == [
        'Episode 1 has its rows in data/chunk-002/file-005.parquet: the pointer to '
        f'data/chunk-000/file-{number:03d}.parquet is stale; likewise episode 2.'
    ]


def test_a_file_whose_name_is_another_episodes_is_not_believed(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    first, second = sorted((source / 'data').rglob('*.parquet'))
    wanted = [
        parquet.read_table(path)['observation.state'].to_pylist() for path in (first, second)
    ]
    first.rename(first.with_name('x'))
    second.rename(first)
    first.with_name('x').rename(second)
    code, about = bring(capsys, source, tmp_path / 'bags')
    for bag, states in zip(about['bags'], wanted):
        np.testing.assert_array_equal(content(bag)[0]['joint_states'], states)
    assert code == 1 and 'is stale' in said_by(about)


def test_rows_that_are_there_twice_are_not_taken_for_one_episode(tmp_path, capsys):
    source = version3(tmp_path / 'set')
    shutil.copy(rows_file(source), source / 'data/chunk-000/file-001.parquet')
    _, about = bring(capsys, source, tmp_path / 'bags')
    assert about['episodes'] == 0
    assert 'frame_index 0 is there 2 times in file-000.parquet, file-001.parquet' in said_by(about)


def test_a_video_that_lies_elsewhere_is_found_by_its_name(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    shutil.move(source / 'videos', source / 'films')
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and 'is stale' in said_by(about)
    assert [levels(bag) for bag in about['bags']] == [list(range(12)), list(range(9))]


# info.json as it is found.


@pytest.mark.parametrize(
    ('data', 'video'),
    [
        (
            'data/chunk-{chunk_index:03d}/episode_{file_index:06d}.parquet',
            'videos/{image_key}/episode_{file_index:06d}.mp4',
        ),
        (
            'data/chunk-{episode_chunk:03d}/episode_{episode_id:06d}.parquet',
            'videos/observation.images.{camera}/episode_{episode:06d}.mp4',
        ),
    ],
)
def test_placeholders_of_paths_may_have_other_names(tmp_path, capsys, data, video):
    source = version2(tmp_path / 'set')
    change_info(source, data_path=data, video_path=video)
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert (code, about['findings'], about['cameras']) == (0, [], [TOP])
    assert levels(about['bags'][1]) == list(range(9))


def test_v3_may_have_a_file_an_episode_in_folders_of_its_own(tmp_path, capsys):
    source = version3(tmp_path / 'set')
    table = parquet.read_table(rows_file(source))
    shutil.rmtree(source / 'data')
    (source / 'train').mkdir()
    for number, count in enumerate(COUNTS):
        part = table.slice(sum(COUNTS[:number]), count)
        parquet.write_table(part, source / f'train/ep{number}.parquet')
    change_info(source, data_path='train/ep{episode_index}.parquet')
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert (code, about['findings'], about['frames']) == (0, [], sum(COUNTS))


@pytest.mark.parametrize(
    ('names', 'wanted'),
    [
        ([NAMES], NAMES),
        ({'motors': NAMES}, NAMES),
        ({'motors': [NAMES]}, NAMES),
        ({'units': ['rad'], 'axes': NAMES}, NAMES),
        ({name: place for place, name in enumerate(NAMES)}, NAMES),
        ([{'name': name} for name in NAMES], NAMES),
        ({'left': ['hip', 'knee'], 'right': ['hip']}, ['left_hip', 'left_knee', 'right_hip']),
        (None, ['joint_0', 'joint_1', 'joint_2']),
    ],
)
def test_names_may_be_nested(tmp_path, capsys, names, wanted):
    vector = {'dtype': 'float32', 'shape': [3], 'names': names}
    source = version2(tmp_path / 'set', **{'observation.state': vector})
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert (code, about['joints']) == (0, list(wanted))


def odd_keys(folder, state='state', action='actions'):
    """Rename the columns of states and actions."""
    info = json.loads((folder / INFO).read_text())
    names = {'observation.state': state, 'action': action}
    features = {names.get(key, key): value for key, value in info['features'].items()}
    change_info(folder, features=features)
    for path in (folder / 'data').rglob('*.parquet'):
        table = parquet.read_table(path)
        parquet.write_table(
            table.rename_columns([names.get(n, n) for n in table.column_names]), path
        )
    return folder


def test_states_and_actions_are_read_by_their_other_usual_keys(tmp_path, capsys):
    source = odd_keys(version2(tmp_path / 'set'))
    _, about = bring(capsys, source, tmp_path / 'bags')
    assert about['frames'] == 21 and set(content(about['bags'][0])[0]) == {
        'joint_states',
        'action',
    }


def robot_map(path, names, **more):
    """Write a map that takes the first joints of the robot from a data set's, and others too."""
    joints = {own: {'source': names[i % len(names)]} for i, own in enumerate(ROBOT.joint_names)}
    path.write_text(json.dumps({'joints': joints, **more}))
    return ['--robot', 'aloha_sim', '--map', path]


def test_a_map_names_the_keys_of_states_and_actions(tmp_path, capsys):
    source = odd_keys(version2(tmp_path / 'set'), 'qpos', 'target')
    more = robot_map(tmp_path / 'map.yaml', NAMES, state='qpos', action='target')
    _, about = bring(capsys, source, tmp_path / 'bags', *more)
    assert about['frames'] == 21 and 'unusual' not in said_by(about)
    wrong = robot_map(tmp_path / 'wrong.yaml', NAMES, state='joints')
    said = refused(capsys, source, tmp_path / 'other', *wrong)
    assert "has no 'joints', which the map names: its keys are qpos, target" in said


def test_a_map_that_drops_joints_or_cameras_says_which(tmp_path, capsys):
    more = robot_map(tmp_path / 'map.yaml', NAMES[:1])
    _, about = bring(capsys, version2(tmp_path / 'set'), tmp_path / 'bags', *more)
    assert f'The map leaves out joints of the data set: {NAMES[1]}, {NAMES[2]}.' in about['notes']
    assert f'The map leaves out cameras of the data set: {TOP}.' in about['notes']


def test_keys_of_lerobot_are_refused_for_another_kind_of_data_set(tmp_path, capsys):
    more = robot_map(tmp_path / 'map.yaml', NAMES, state='qpos')
    (tmp_path / 'set').mkdir()
    said = refused(capsys, tmp_path / 'set', tmp_path / 'bags', *more)
    assert 'names state or action, which are keys of LeRobot data sets' in said


def test_a_camera_may_be_two_of_the_robots(tmp_path, capsys):
    more = robot_map(tmp_path / 'map.yaml', NAMES, cameras={'top': TOP, 'left_wrist': TOP})
    _, about = bring(capsys, version2(tmp_path / 'set'), tmp_path / 'bags', *more)
    assert len(levels(about['bags'][0])) == 2 * 12


# Single episodes.


def test_faults_of_single_episodes_are_one_line_a_kind(tmp_path, capsys):
    source = version2(tmp_path / 'set', (12, 11, 10, 9, 8))
    for number in (1, 2, 4):
        film(source / f'videos/{TOP}/episode_{number:06d}.mp4', 12 - number, level=0)
    for number in (0, 2, 3):
        path = source / f'data/chunk-000/episode_{number:06d}.parquet'
        rows = parquet.read_table(path).to_pylist()
        for row, later in pairwise(rows):
            row['action'] = later['observation.state']
        parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    for number in (3, 4):
        path = source / f'data/chunk-000/episode_{number:06d}.parquet'
        change_table(path, lambda row: row['observation.state'].__setitem__(1, 0.25))
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and sorted(about['findings']) == sorted([
        f"Episode 1: camera '{TOP}': its pictures are black; likewise episodes 2, 4.",
        f'Joints that do not move in single episodes: {NAMES[1]} in episodes 3, 4.',
        'The action is a copy of the next state in episodes 0, 2: it was not commanded.',
    ])  # fmt: skip


def test_actions_that_are_the_states_are_said(tmp_path, capsys):
    source = version2(tmp_path / 'set')
    for path in (source / 'data').rglob('*.parquet'):
        change_table(path, lambda row: row.update(action=row['observation.state']))
    code, about = bring(capsys, source, tmp_path / 'bags')
    assert code == 1 and about['findings'] == [
        "The action is a copy of the same row's state in episodes 0, 1: it was not commanded."
    ]


def test_numbers_of_grouped_faults_are_kept(tmp_path, capsys):
    source = version2(tmp_path / 'set', (12, 9, 8, 7))
    entries = [
        {'episode_index': i, 'tasks': ['stack'], 'length': length}
        for i, length in enumerate((12, 10, 11, 12))
    ]
    (source / 'meta/episodes.jsonl').write_text('\n'.join(map(json.dumps, entries)))
    _, about = bring(capsys, source, tmp_path / 'bags')
    assert about['findings'] == [
        'Episode 1 has 9 rows; its metadata say 10; likewise episodes 2 (8, 11), 3 (7, 12).'
    ]
