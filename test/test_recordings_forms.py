"""Whatever split, compression, storage and definitions a bag has, the same records come out."""

import io
import json
from pathlib import Path
import re
import shutil
import sqlite3

from backports import zstd
from episode_bags import messages
from episode_bags import Recording
from episode_bags import serialize
import pytest
from rosbags.interfaces import MessageDefinition
from rosbags.interfaces import MessageDefinitionFormat
from rosbags.rosbag2 import CompressionFormat
from rosbags.rosbag2 import CompressionMode
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer

from eva_ros.cli.main import main
from eva_ros.episodes.dataset import load_episodes
from eva_ros.errors import UserError
from eva_ros.observations.views import load_view
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.bag_search import find_bags
from eva_ros.recordings.typestore import store_for
from eva_ros.recordings.typestore import typestore
from eva_ros.recordings.unpack import unpack_zstd
from eva_ros.robot.spec import load_robot

CONTENT = messages(Recording(duration_s=0.5))


def read(path):
    """Return topic and stamp of each record, what was said, and the reader."""
    said = []
    with BagReader(path, said.append) as bag:
        records = [(found.topic, found.stamp_ns) for found in bag.records()]
    return records, said, bag


WANTED = [(topic.lstrip('/'), stamp_ns) for stamp_ns, topic, _, _ in CONTENT]


def write(path, content, storage=StoragePlugin.MCAP, mode=None, begin_ns=10**12):
    """Write messages as a bag with a compression, at even times of reception."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        _fill(writer, content, begin_ns)
    if mode:
        shutil.rmtree(path)
        writer = Writer(path, version=9, storage_plugin=storage)
        writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            _fill(writer, content)
    return path


def _fill(writer, content, begin_ns=10**12):
    connections = {}
    for index, (stamp_ns, topic, kind, fields) in enumerate(content):
        if topic not in connections:
            connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
        writer.write(
            connections[topic], begin_ns + index * 10**6, serialize(kind, stamp_ns, fields)
        )


def test_what_is_unpacked_of_a_message_is_bounded():
    bomb = zstd.compress(bytes(10_000_000))
    assert len(unpack_zstd(bomb, 1000)) <= 1000
    assert unpack_zstd(zstd.compress(b'abc'), 1000) == b'abc'


@pytest.mark.parametrize(
    ('storage', 'mode'),
    [
        (StoragePlugin.MCAP, CompressionMode.FILE),
        (StoragePlugin.MCAP, CompressionMode.MESSAGE),
        (StoragePlugin.MCAP, CompressionMode.STORAGE),
        (StoragePlugin.SQLITE3, CompressionMode.FILE),
        (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    ],
)
@pytest.mark.parametrize('metadata', [True, False])
def test_every_form_of_zstd_is_unpacked(tmp_path, storage, mode, metadata):
    path = write(tmp_path / 'bag', CONTENT, storage, mode)
    if not metadata:
        (path / 'metadata.yaml').unlink()
    records, said, bag = read(path)
    assert records == WANTED and bool(said) == (not metadata)
    assert bag.losses.messages == bag.losses.bytes == 0


def pack(path):
    """Compress a whole file and remove it."""
    packed = path.with_name(path.name + '.zstd')
    packed.write_bytes(zstd.compress(path.read_bytes()))
    path.unlink()
    return packed


def test_a_whole_file_that_somebody_packed_is_read_with_and_without_its_bag(tmp_path):
    path = write(tmp_path / 'bag', CONTENT)
    packed = pack(next(path.glob('*.mcap')))
    assert read(path)[:2] == (WANTED, [])
    assert read(packed)[:2] == (WANTED, [])


@pytest.mark.parametrize('storage', StoragePlugin)
def test_a_packed_file_that_is_cut_off_gives_what_is_left(tmp_path, storage):
    path = write(tmp_path / 'bag', messages(Recording(duration_s=3.0)), storage)
    packed = pack(next(path.iterdir() if storage is None else path.glob('*.[md][cb]*')))
    packed.write_bytes(packed.read_bytes()[: packed.stat().st_size * 2 // 3])
    records, said, bag = read(packed)
    assert 100 < len(records) < 500
    assert 'cut off' in said[0] and str(packed) in ' '.join(said)
    assert bag.losses.messages >= 1


def split(path, count, storage=StoragePlugin.MCAP, pauses_s=()):
    """Write the content as several files without metadata, one going on where another ends.

    Args:
        path: folder of the files.
        count: of files.
        storage: of each.
        pauses_s: before the second file and those behind it, where there is a pause.
    """
    share, begin_ns = -(-len(CONTENT) // count), 10**12
    path.mkdir()
    for index, pause_s in zip(range(count), [0, *pauses_s, *[0] * count]):
        own = CONTENT[index * share : (index + 1) * share]
        begin_ns += round(pause_s * 1e9)
        part = write(path / f'bag_{index}', own, storage, begin_ns=begin_ns)
        begin_ns += len(own) * 10**6
        file = next(part.glob('*.[md][cb]*'))
        file.rename(path / file.name)
        shutil.rmtree(part)
    return path


@pytest.mark.parametrize('storage', StoragePlugin)
def test_splits_are_read_in_the_order_of_their_numbers(tmp_path, storage):
    path = split(tmp_path / 'bag', 12, storage)
    records, said, _ = read(path)
    assert records == WANTED and 'no metadata.yaml' in said[0]
    assert 'Its 12 files are taken for the splits of one recording.' in said[0]
    assert found([tmp_path]) == ([path], [])


def found(paths):
    """Return the bags that are found, and what is guessed of any."""
    guesses = []
    return find_bags(paths, lambda bag, said: guesses.append((bag.name, said))), guesses


@pytest.mark.parametrize('storage', StoragePlugin)
@pytest.mark.parametrize(
    ('pauses_s', 'guessed'),
    [
        ([300, 300], []),
        ([-0.15, 300], []),
        ([2.5, 300], ['bag_1.*begins 2.5 s behind the end of bag_0']),
        ([0, 300], ['bag_1.*goes on where bag_0.* ends, as other files of that name do not']),
        ([0.2, 3.0], ['bag_1.*goes on where', 'bag_2.*begins 3.0 s behind the end of bag_1']),
    ],
    ids=['far', 'overlap', 'near', 'mixed', 'unsure'],
)
def test_recordings_that_are_numbered_are_bags_of_their_own(tmp_path, storage, pauses_s, guessed):
    path = split(tmp_path / 'bag', 3, storage, pauses_s)
    bags, said = found([path])
    assert bags == sorted(path.iterdir()) and len(bags) == 3
    assert len(said) == len(guessed)
    for (bag, sentence), words in zip(said, guessed):
        assert re.search(words, sentence) and bag in sentence and sentence.endswith('.')


def test_numbered_files_with_other_topics_are_bags_of_their_own(tmp_path):
    path = split(tmp_path / 'bag', 1)
    other = [(ns, '/gripper', kind, fields) for ns, topic, kind, fields in CONTENT if 's' in topic]
    part = write(tmp_path / 'bag_1', other, begin_ns=10**12 + len(CONTENT) * 10**6)
    next(part.glob('*.mcap')).rename(path / 'bag_1.mcap')
    assert len(found([path])[0]) == 2


@pytest.mark.parametrize('storage', StoragePlugin)
@pytest.mark.parametrize('share', [0, 0.6])
def test_the_last_split_of_a_recorder_that_died_belongs_to_the_others(tmp_path, storage, share):
    path = split(tmp_path / 'bag', 2, storage)
    file = max(path.iterdir())
    file.write_bytes(file.read_bytes()[: int(file.stat().st_size * share)])
    assert found([path]) == ([path], [])


def test_a_guess_about_loose_files_is_a_reason_and_told_to_training(tmp_path, capsys):
    path = split(tmp_path / 'bag', 2, pauses_s=[2.5])
    main(['bags', 'check', str(path), '--json'])
    first, second = json.loads(capsys.readouterr().out)['bags']
    assert 'begins 2.5 s behind' in ' '.join(second['reasons'])
    assert 'behind the end' not in ' '.join(first['reasons'])
    report = io.StringIO()
    robot = load_robot('aloha_sim')
    load_episodes([path], robot, load_view('aloha_sim'), tmp_path / 'cache', report=report)
    assert 'begins 2.5 s behind' in report.getvalue()


def metadata_of(path, files):
    topics = ''.join(
        f'    - topic_metadata: {{name: {topic}, type: {kind}, serialization_format: cdr, '
        "offered_qos_profiles: '', type_description_hash: ''}\n"
        f'      message_count: {sum(entry[1] == topic for entry in CONTENT)}\n'
        for topic, kind in dict.fromkeys((entry[1], entry[2]) for entry in CONTENT)
    )
    (path / 'metadata.yaml').write_text(
        'rosbag2_bagfile_information:\n  version: 9\n  storage_identifier: mcap\n'
        f'  relative_file_paths: [{", ".join(files)}]\n  message_count: {len(CONTENT)}\n'
        '  duration: {nanoseconds: 500000000}\n'
        '  topics_with_message_count:\n' + topics
    )


def test_what_missing_splits_held_is_counted_from_the_metadata(tmp_path):
    path = split(tmp_path / 'bag', 4)
    names = [f'bag_{index}.mcap' for index in range(4)]
    metadata_of(path, names)
    assert read(path)[:2] == (WANTED, [])
    (path / names[1]).unlink()
    records, said, bag = read(path)
    assert len(said) == 1 and '1 of the 4 files' in said[0] and names[1] in said[0]
    assert bag.losses.messages == len(WANTED) - len(records) > 0


def test_renamed_files_are_read_in_place_of_those_that_the_metadata_name(tmp_path):
    path = write(tmp_path / 'bag', CONTENT)
    next(path.glob('*.mcap')).rename(path / 'tuesday.mcap')
    records, said, bag = read(path)
    assert records == WANTED and bag.losses.messages == 0
    assert 'tuesday.mcap' in ' '.join(said) and 'missing' in said[0]


def test_a_file_that_the_metadata_do_not_name_is_left_out_and_said(tmp_path):
    path = write(tmp_path / 'bag', CONTENT)
    other = write(tmp_path / 'other', CONTENT[:3])
    shutil.copy(next(other.glob('*.mcap')), path / 'other.mcap')
    records, said, _ = read(path)
    assert records == WANTED and 'other.mcap' in said[0]


@pytest.mark.parametrize('text', ['', 'a: [', 'rosbag2_bagfile_information: 3', '\0\xff'])
def test_broken_metadata_do_not_hide_the_files(tmp_path, text):
    path = write(tmp_path / 'bag', CONTENT)
    (path / 'metadata.yaml').write_text(text)
    records, said, _ = read(path)
    assert records == WANTED and 'metadata.yaml' in said[0]


def test_loose_files_are_bags_of_their_own_unless_they_are_splits(tmp_path):
    for name in ('monday', 'tuesday'):
        file = next(write(tmp_path / 'made' / name, CONTENT[:3]).glob('*.mcap'))
        file.rename(tmp_path / file.name)
    shutil.rmtree(tmp_path / 'made')
    assert find_bags([tmp_path]) == [tmp_path / 'monday.mcap', tmp_path / 'tuesday.mcap']


UNKNOWN = 'gripper_msgs/msg/Force'


def with_unknown(path, text):
    """Write a bag with three messages of a type that this package does not know."""
    definition = MessageDefinition(MessageDefinitionFormat.MSG, text)
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        _fill(writer, CONTENT)
        connection = writer.add_connection(
            '/force', UNKNOWN, msgdef=definition.data, rihs01='RIHS01_' + 64 * '0'
        )
        for index in range(3):
            writer.write(connection, 10**12 + index, b'\0\1\0\0' + bytes(8))
    return path


def delete_definitions(path, where):
    database = sqlite3.connect(next(Path(path).glob('*.db3')))
    with database:
        database.execute(f'DELETE FROM message_definitions WHERE {where}')
    database.close()


def test_messages_of_unknown_types_are_left_out_and_counted(tmp_path):
    path = with_unknown(tmp_path / 'bag', 'float64 newton\n')
    assert read(path)[:2] == (WANTED, [])
    delete_definitions(path, f"topic_type = '{UNKNOWN}'")
    records, said, _ = read(path)
    assert records == WANTED and len(said) == 1
    assert "3 messages are left out on 'force'" in said[0] and UNKNOWN in said[0]


def test_missing_definitions_in_a_bag_of_mixed_kind_are_filled_in(tmp_path):
    path = with_unknown(tmp_path / 'bag', 'float64 newton\n')
    delete_definitions(path, "topic_type LIKE 'eva_msgs%' OR topic_type LIKE '%JointState'")
    assert read(path)[:2] == (WANTED, [])


def test_a_definition_that_cannot_be_parsed_counts_as_none():
    broken = MessageDefinition(MessageDefinitionFormat.MSG, 'float64[[ x\nnowhere/Thing y')
    own = store_for('sensor_msgs/msg/JointState', broken)
    assert own is typestore()
    assert store_for(UNKNOWN, broken) is None
    lacking = MessageDefinition(MessageDefinitionFormat.MSG, 'nowhere/Thing thing\n')
    assert store_for('sensor_msgs/msg/Image', lacking) is typestore()


@pytest.mark.parametrize('share', [0.9, 0.6, 0.3])
def test_of_a_cut_off_sqlite_file_the_rows_before_the_cut_are_read(tmp_path, share):
    path = write(tmp_path / 'bag', messages(Recording(duration_s=3.0)), StoragePlugin.SQLITE3)
    whole, _, _ = read(path)
    file = next(path.glob('*.db3'))
    with file.open('r+b') as stream:
        stream.truncate(int(file.stat().st_size * share))
    records, said, bag = read(path)
    assert share * 0.5 * len(whole) < len(records) < len(whole)
    assert records == whole[: len(records)]
    assert bag.losses.messages == len(whole) - len(records)
    assert str(file) in ' '.join(said) and f'{len(records)} messages' in ' '.join(said)


def test_a_bag_cut_off_in_a_split_says_how_many_messages_are_lost(tmp_path):
    path = write(tmp_path / 'bag', messages(Recording(duration_s=3.0)))
    whole, _, _ = read(path)
    file = next(path.glob('*.mcap'))
    size = file.stat().st_size
    with file.open('r+b') as stream:
        stream.truncate(size // 2)
    records, said, bag = read(path)
    assert 0 < len(records) < len(whole)
    assert bag.losses.messages == len(whole) - len(records)
    assert 0 < bag.losses.bytes < size // 2 and 'cut off or damaged at byte' in ' '.join(said)


def test_facts_in_the_metadata_are_handed_out(tmp_path):
    writer = Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP)
    with writer:
        writer.set_custom_data('eva.instruction', 'reach the cube')
        _fill(writer, CONTENT[:3])
    with BagReader(tmp_path / 'bag') as bag:
        assert bag.facts == {'eva.instruction': 'reach the cube'}


def test_an_empty_packed_file_is_refused(tmp_path):
    file = tmp_path / 'bag.mcap.zstd'
    file.write_bytes(b'')
    with pytest.raises(UserError, match=r'bag\.mcap\.zstd'):
        read(file)
