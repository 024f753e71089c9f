"""What is wrong within a bag is found from where it matters on, and costs no more than it must."""

import shutil
import sqlite3

from episode_bags import joints_at
from episode_bags import messages
from episode_bags import Recording
from episode_bags import SECOND
from episode_bags import serialize
from episode_bags import write_bag
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin

from eva_ros.inspection.joint_check import ArmCheck
from eva_ros.observations.picture_check import PictureCheck
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.recorded_bag import RecordedBag
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.streams import Stream
from eva_ros.robot.spec import load_robot

ROBOT = load_robot('aloha_sim')
NAMES, _ = ROBOT.to_joint_state(ROBOT.home)
LOW, HIGH, FASTEST = (
    getattr(ROBOT.limits, name)[ROBOT.arm_indices('left')]
    for name in ('min_position', 'max_position', 'max_velocity')
)
NOW = 1_700_000_000 * SECOND
CONTENT = messages(Recording(duration_s=0.5))
STATE = 'sensor_msgs/msg/JointState'


def read(path):
    """Return topic and stamp of each record, what was said, and the reader."""
    said = []
    with BagReader(path, said.append) as bag:
        records = [(found.topic, found.stamp_ns) for found in bag.records()]
    return records, said, bag


def recorded(path, times_ns, flush_every=0):
    """Write joint states with an MCAP recorder, received at these times; returns the file."""
    bag = RecordedBag(path, {})
    bag.add_topic('/joint_states', STATE)
    for index, received_ns in enumerate(times_ns):
        names, values = ROBOT.to_joint_state(joints_at(SECOND + index))
        fields = {'name': list(names), 'position': values,
                  'velocity': np.zeros(0), 'effort': np.zeros(0)}  # fmt: skip
        bag.write('/joint_states', received_ns, serialize(STATE, SECOND + index, fields))
        if flush_every and index % flush_every == flush_every - 1:
            bag.flush()
    bag.close({})
    return next(path.glob('*.mcap'))


def test_messages_whose_times_of_reception_cannot_be_are_left_out_and_counted(tmp_path):
    last = (1 << 63) - 1
    file = recorded(tmp_path / 'bag', [10, 20, last, 1 << 63, (1 << 64) - 5])
    data = file.read_bytes()
    # Without an index nobody has sorted or looked at the times.
    file.write_bytes(data[: data.rindex(b'\x0f\x04\0\0\0\0\0\0\0')])
    records, said, bag = read(tmp_path / 'bag')
    assert [stamp_ns - SECOND for _, stamp_ns in records] == [0, 1, 2]
    assert "2 messages on 'joint_states' are left out" in ' '.join(said)
    assert bag.losses.messages == 2


def test_rows_received_before_1970_are_left_out_and_counted(tmp_path):
    path = write_bag(tmp_path / 'bag', CONTENT, StoragePlugin.SQLITE3)
    file = next(path.glob('*.db3'))
    with sqlite3.connect(file) as database:
        database.execute('UPDATE messages SET timestamp = -1 WHERE id = 5')
        database.execute('UPDATE messages SET timestamp = 0 WHERE id = 1')
    database.close()
    stamps = [(topic.lstrip('/'), stamp_ns) for stamp_ns, topic, _, _ in CONTENT]
    records, said, bag = read(path)
    assert records == [*stamps[:4], *stamps[5:]]
    assert 'the times when they were received are damaged' in ' '.join(said)
    assert bag.losses.messages == 1


def test_topics_that_a_damaged_chunk_names_are_learnt_from_the_end_of_the_file(tmp_path):
    file = recorded(tmp_path / 'bag', range(1, 31), flush_every=10)
    data = bytearray(file.read_bytes())
    # In the first chunk, which is where the only topic is named before its messages.
    data[data.index(NAMES[0].encode())] ^= 1
    file.write_bytes(data)
    records, said, bag = read(tmp_path / 'bag')
    assert [stamp_ns - SECOND for _, stamp_ns in records] == list(range(10, 30))
    assert 'damaged' in ' '.join(said) and bag.losses.messages == 10


def test_messages_that_sqlite_has_not_put_into_the_bag_yet_are_said_to_be_lost(tmp_path):
    path = write_bag(tmp_path / 'bag', CONTENT, StoragePlugin.SQLITE3)
    file, copy = next(path.glob('*.db3')), tmp_path / 'copy'
    database = sqlite3.connect(file)
    database.execute('PRAGMA journal_mode=WAL')
    with database:
        database.execute(
            'INSERT INTO messages (topic_id, timestamp, data) '
            'SELECT topic_id, timestamp + 1, data FROM messages WHERE id = 3'
        )
    # As a recorder that dies here leaves it.
    shutil.copytree(path, copy)
    database.close()
    log = copy / f'{file.name}-wal'
    assert log.stat().st_size
    records, said, _ = read(copy)
    assert len(records) == len(CONTENT)
    assert said == [f'{log} holds messages that were never put into the bag: they are lost.']
    log.write_bytes(b'')
    assert read(copy)[1] == []


def faults(change):
    """Return what is said of joint states of 2 s that `change` alters: seconds and values."""
    arm = ArmCheck(ROBOT.arms['left'], LOW, HIGH, FASTEST)
    for index in range(201):
        values = ROBOT.home.copy()
        change(index * 0.01, values)
        names, positions = ROBOT.to_joint_state(values)
        arm.add(JointStateRecord('t', 0, index * 10_000_000, names, positions, np.zeros(0)))
    return ' '.join(arm.faults())


@pytest.mark.parametrize(('share', 'named'), [(0.005, False), (0.015, True)])
@pytest.mark.parametrize('side', [0, 1])
def test_a_joint_may_measure_a_hundredth_of_its_range_beyond_its_limits(share, named, side):
    low, high = LOW[0], HIGH[0]
    edge = high + share * (high - low) if side else low - share * (high - low)

    def change(seconds, values):
        values[0] = edge - (2 * side - 1) * 0.1 * (2.0 - seconds)

    assert ('outside its limits' in faults(change)) == named


@pytest.mark.parametrize(('share', 'named'), [(1.1, False), (1.3, True)])
def test_a_joint_may_measure_a_fifth_faster_than_its_limit(share, named):
    def change(seconds, values):
        values[0] = LOW[0] + 0.5 + share * FASTEST[0] * min(seconds, 0.3)

    assert ('faster than its limit of' in faults(change)) == named


@pytest.mark.parametrize(
    ('lag_s', 'named'), [(1.9, False), (2.1, True), (-1.9, False), (-2.1, True)]
)
def test_stamps_two_seconds_from_the_recorder_are_of_another_clock(lag_s, named):
    stream = Stream(STATE)
    for index in range(20):
        received_ns = NOW + index * SECOND
        stream.add(received_ns - round(lag_s * SECOND), received_ns, 100)
    assert ('two clocks' in ' '.join(stream.faults(simulated=False))) == named


@pytest.mark.parametrize(('noise', 'covered'), [(0, False), (2, True)], ids=['drawn', 'camera'])
def test_plain_surfaces_without_any_noise_are_drawn_and_no_covered_lens(noise, covered):
    check, rng = PictureCheck(), np.random.default_rng(0)
    for index in range(20):
        picture = np.full((480, 640, 3), 90, np.uint8)
        picture += rng.integers(0, noise + 1, (480, 640, 1), np.uint8) * 4
        picture[200:260, 10 * index : 60 + 10 * index] = 200
        check.add(picture)
    assert ('covered' in ' '.join(check.faults())) == covered
