"""Bags of either storage are read; of damaged ones, everything before the damage."""

import sqlite3

from episode_bags import COMPRESSED
from episode_bags import messages
from episode_bags import picture
from episode_bags import read_bag
from episode_bags import record
from episode_bags import Recording
from episode_bags import SECOND
from episode_bags import write_bag
import numpy as np
import pytest
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import Reader
from rosbags.rosbag2 import StoragePlugin

from eva_ros.errors import UserError
from eva_ros.observations.images import decode_image
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.bag_search import find_bags
from eva_ros.recordings.records import EpisodeRecord
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.records import TrajectoryRecord


def read(path, **options):
    """Return the records of a bag and what was said about it."""
    said = []
    return list(read_bag(path, on_problem=said.append, **options)), said


def kinds(records):
    return [type(record).__name__ for record in records]


@pytest.mark.parametrize('storage', StoragePlugin)
def test_both_storages_give_the_same_records(tmp_path, storage):
    content = messages(Recording(duration_s=0.2))
    records, said = read(write_bag(tmp_path / 'bag', content, storage))
    assert not said and len(records) == len(content)
    start, end = records[0], records[-1]
    assert isinstance(start, EpisodeRecord) and start.starts and start.success is None
    assert isinstance(end, EpisodeRecord) and not end.starts and end.success is True
    assert (start.task, start.instruction) == ('reach_left', 'reach the cube')
    images = [found for found in records if isinstance(found, ImageRecord)]
    assert {found.topic for found in images} >= {'top/image_raw/compressed'}
    shown = decode_image(images[0].message)
    assert np.abs(shown.astype(int) - picture('top', SECOND)).max() < 12
    states = [found for found in records if isinstance(found, JointStateRecord)]
    assert len(states) == 21 and len(states[0].names) == len(states[0].positions) == 14


def test_trajectories_are_read_as_they_were_sent(tmp_path):
    from eva_ros.recordings.typestore import typestore

    store = typestore()
    duration = store.types['builtin_interfaces/msg/Duration']
    point = store.types['trajectory_msgs/msg/JointTrajectoryPoint']
    empty = np.zeros(0)
    points = [
        point(np.array([0.1 * k, 0.2]), empty, empty, empty, duration(sec=k, nanosec=5))
        for k in (1, 2)
    ]
    topic, kind = '/left_arm_controller/joint_trajectory', 'trajectory_msgs/msg/JointTrajectory'
    content = [(SECOND, topic, kind, {'joint_names': ['a', 'b'], 'points': points})]
    (found,), _ = read(write_bag(tmp_path / 'bag', content))
    assert isinstance(found, TrajectoryRecord) and found.joint_names == ('a', 'b')
    assert found.times_s == pytest.approx([1 + 5e-9, 2 + 5e-9])
    assert found.positions == pytest.approx(np.array([[0.1, 0.2], [0.2, 0.2]]))


def test_topics_are_chosen_with_or_without_a_slash(tmp_path):
    path = record(tmp_path / 'bag', duration_s=0.1)
    for name in ('joint_states', '/joint_states'):
        records, _ = read(path, topics=[name])
        assert set(kinds(records)) == {'JointStateRecord'}
    with BagReader(path) as bag:
        assert bag.topics['episode'] == 'eva_msgs/msg/Episode'


def test_a_bag_without_definitions_is_read_with_our_own(tmp_path):
    path = write_bag(tmp_path / 'bag', messages(Recording(duration_s=0.1)), StoragePlugin.SQLITE3)
    database = sqlite3.connect(next(path.glob('*.db3')))
    with database:
        database.execute('DELETE FROM message_definitions')
    database.close()
    with Reader(path) as reader:
        assert {c.msgdef.format for c in reader.connections} == {MessageDefinitionFormat.NONE}
    records, said = read(path)
    assert not said and {'EpisodeRecord', 'ImageRecord'} <= set(kinds(records))


def test_a_bag_without_metadata_is_read_from_its_file(tmp_path):
    path = record(tmp_path / 'bag', duration_s=0.2)
    whole, _ = read(path)
    (path / 'metadata.yaml').unlink()
    records, said = read(path)
    assert len(records) == len(whole) and 'metadata' in said[0]
    assert len(read(next(path.glob('*.mcap')))[0]) == len(whole)


def cut(path, share):
    """Cut a bag's file as a recorder that was killed leaves it."""
    (path / 'metadata.yaml').unlink()
    file = next(path.glob('*.mcap'))
    size = int(file.stat().st_size * share)
    with file.open('r+b') as stream:
        stream.truncate(size)
    return size


@pytest.mark.parametrize('share', [0.97, 0.5, 0.2])
def test_of_a_cut_off_file_everything_before_the_cut_is_read(tmp_path, share):
    path = record(tmp_path / 'bag', duration_s=2.0)
    whole, _ = read(path)
    size = cut(path, share)
    records, said = read(path)
    assert len(records) > share * 0.7 * len(whole)
    for found, wanted in zip(records, whole):
        assert (found.topic, found.stamp_ns) == (wanted.topic, wanted.stamp_ns)
    assert 'cut off or damaged at byte' in said[-1] and f'of {size}' in said[-1]
    assert f'{len(records)} messages' in said[-1]


def test_a_file_with_nothing_left_is_refused(tmp_path):
    path = record(tmp_path / 'bag', duration_s=0.2)
    cut(path, 0.001)
    with pytest.raises(UserError, match='Nothing of it can be read'):
        read(path)


def test_damage_in_the_middle_is_said_and_the_rest_before_it_kept(tmp_path):
    rng, topic = np.random.default_rng(0), '/top/image_raw/compressed'
    noise = rng.integers(0, 256, (99, 40_000), np.uint8)
    images = [{'format': 'jpeg', 'data': data} for data in noise]
    content = [(SECOND + k, topic, COMPRESSED, fields) for k, fields in enumerate(images)]
    path = write_bag(tmp_path / 'bag', content)
    whole, _ = read(path)
    file = next(path.glob('*.mcap'))
    data = bytearray(file.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 90_000] = b'\xff' * 90_000
    file.write_bytes(data)
    records, said = read(path)
    assert said and str(path) in said[0]
    assert 20 < len(records) < len(whole) and f'{len(records)} of 99' in said[0]


def test_a_cut_off_sqlite_file_ends_in_a_sentence(tmp_path):
    path = write_bag(tmp_path / 'bag', messages(Recording(duration_s=1.0)), StoragePlugin.SQLITE3)
    file = next(path.glob('*.db3'))
    with file.open('r+b') as stream:
        stream.truncate(file.stat().st_size // 2)
    try:
        _, said = read(path)
    except UserError as error:
        said = [str(error)]
    assert said and str(path) in said[0]


@pytest.mark.parametrize('name', ['nowhere', 'empty', 'text.mcap'])
def test_what_is_no_bag_is_refused(tmp_path, name):
    (tmp_path / 'empty').mkdir()
    (tmp_path / 'text.mcap').write_text('no bag')
    with pytest.raises(UserError, match=name):
        read(tmp_path / name)


def test_bags_are_found_at_any_depth_and_unfinished_ones_left_out(tmp_path):
    content = messages(Recording(duration_s=0.1))
    wanted = [write_bag(tmp_path / where, content) for where in ('a/1', 'a/2', 'b')]
    write_bag(tmp_path / 'a/3.part', content)
    assert find_bags([tmp_path]) == wanted
    assert find_bags([wanted[2], tmp_path / 'b']) == [wanted[2]]
    for path in (tmp_path / 'c', tmp_path / 'a/3.part'):
        with pytest.raises(UserError, match='There is no'):
            find_bags([path])


def test_bags_beside_a_loose_file_and_below_a_bag_are_found(tmp_path):
    content = messages(Recording(duration_s=0.1))
    wanted = [write_bag(tmp_path / where, content) for where in ('ep1', 'ep1/again', 'ep2')]
    (tmp_path / 'test.mcap').write_bytes(next(wanted[0].glob('*.mcap')).read_bytes())
    assert find_bags([tmp_path]) == [tmp_path, *wanted]
    (tmp_path / 'other.mcap').write_bytes((tmp_path / 'test.mcap').read_bytes())
    assert find_bags([tmp_path]) == [tmp_path / 'other.mcap', tmp_path / 'test.mcap', *wanted]


def test_a_bag_that_is_named_twice_is_found_once_by_its_first_name(tmp_path, monkeypatch):
    bag = write_bag(tmp_path / 'in/bag', messages(Recording(duration_s=0.1)))
    (tmp_path / 'in/me').symlink_to('.')
    (tmp_path / 'link').symlink_to('in')
    monkeypatch.chdir(tmp_path)
    relative = bag.relative_to(tmp_path)
    assert find_bags([tmp_path / 'in']) == [bag]
    assert find_bags([relative, bag, tmp_path]) == [relative]
    assert find_bags([tmp_path / 'link', bag]) == [tmp_path / 'link/bag']
    assert find_bags([bag, next(bag.glob('*.mcap'))]) == [bag]


FOREIGN = {
    'damaged_mcap': (0, 'cut off or damaged at byte 1475 of 1533: 14 messages'),
    'damaged_mcap/test_sample.mcap.zstd': (0, ''),
    'missing_splits': (2, '12 of the 13 files'),
    'rosbag2_fixtures/mcap/bag_with_topics_and_service_events': (0, ''),
    'rosbag2_fixtures/mcap/cdr_test': (0, ''),
    'rosbag2_fixtures/mcap/no_metadata': (3177, 'Its 3 files are taken for the splits'),
    'rosbag2_fixtures/mcap/talker': (10, ''),
    'rosbag2_fixtures/mcap/wbag': (6074, ''),
    'rosbag2_fixtures/mcap/wrong_rmw_test': (0, "serialized as 'wrong_format'"),
    'rosbag2_fixtures/sqlite3/cdr_test': (0, ''),
    'rosbag2_fixtures/sqlite3/file_compression': (383, ''),
    'rosbag2_fixtures/sqlite3/message_compression': (369, ''),
    'rosbag2_fixtures/sqlite3/no_metadata': (3177, 'Its 3 files are taken for the splits'),
    'rosbag2_fixtures/sqlite3/talker': (10, ''),
    'rosbag2_fixtures/sqlite3/wbag': (6074, ''),
    'rosbag2_fixtures/sqlite3/wrong_rmw_test': (0, "serialized as 'wrong_format'"),
    'synthetic_all_types/test_bag_mcap': (8, ''),
    'synthetic_all_types/test_bag_sqlite3': (8, ''),
}


@pytest.mark.parametrize('name', FOREIGN)
def test_bags_that_others_recorded_are_read_and_their_faults_said(repository, name):
    path = repository.parent / 'shared' / 'recordings' / name
    if not path.exists():
        pytest.skip(f'{path} is not here')
    records, said = read(path)
    count, words = FOREIGN[name]
    assert len(records) == count
    assert words in ' '.join(said) and bool(said) == bool(words)
