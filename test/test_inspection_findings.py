"""What `eva bags check` says is true, complete and worst first; what nobody needs is a note."""

import json
import sqlite3
import struct

from episode_bags import JOINTS
from episode_bags import joints_at
from episode_bags import messages
from episode_bags import Recording
from episode_bags import SECOND
from episode_bags import serialize
from episode_bags import write_bag
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer
from test_inspection_check import joints
from test_inspection_check import NOW
from test_inspection_check import record
from test_inspection_check import ROBOT
from test_inspection_check import run
from test_inspection_check import VIEW

from eva_ros.cli.main import main
from eva_ros.episodes.cache import Cache
from eva_ros.inspection.check import check_bag
from eva_ros.recordings.typestore import typestore

# Two nodes on one joint-state topic.


def doubled(path, *others, **options):
    """Write a good recording with further joint states: when, and where all joints are then."""
    content = messages(Recording(**{'duration_s': 2.0, **options}))
    for at_s, joints_now in others:
        stamp_ns = SECOND + round(at_s * SECOND)
        names, values = ROBOT.to_joint_state(joints_now)
        fields = {'name': list(names), 'position': values, 'velocity': np.zeros(0)}
        content.append((stamp_ns, '/joint_states', JOINTS, fields | {'effort': np.zeros(0)}))
    content.sort(key=lambda entry: entry[0])
    return write_bag(path, content)


FAR = ROBOT.home + 0.4
NEAR = [joints_at(SECOND + round(at * SECOND)) + 0.12 for at in np.arange(0.505, 1.0, 0.01)]


@pytest.mark.parametrize(
    'others',
    [
        [(1.004, FAR)],
        [(0.5 + 0.1 * k, FAR) for k in range(10)],
        [(1.001 + 0.002 * k, FAR) for k in range(3)],
        [(0.505 + 0.01 * k, place) for k, place in enumerate(NEAR)],
    ],
    ids=['one message', 'seldom', 'a burst', 'everywhere'],
)
def test_joint_states_that_contradict_each_other_make_a_bag_unusable(tmp_path, others):
    path = doubled(tmp_path / 'bag', *others)
    found = check_bag(path, ROBOT, VIEW)
    assert found.verdict == 'unusable' and not found.episodes
    assert found.reasons[0].startswith("Left arm: joint states on 'joint_states' contradict each")
    assert 'left_waist goes from' in found.reasons[0] and 'two nodes publish' in found.reasons[0]
    meta = Cache(tmp_path / 'cache', ROBOT, VIEW).build(path)
    assert not meta['episodes'] and any('contradict each other' in t for t in meta['problems'])


def by_arm(stamp_ns, fields):
    half = slice(0, 7) if stamp_ns // 10_000_000 % 2 else slice(7, 14)
    fields.update(name=fields['name'][half], position=fields['position'][half])


def quantised(stamp_ns, fields):
    count = np.radians(1.0)
    fields['position'] = np.round(fields['position'] / count) * count


def lost(stamp_ns, fields):
    if stamp_ns // 10_000_000 % 7 > 2:
        fields.update(name=[], position=np.zeros(0))


@pytest.mark.parametrize('change', [by_arm, quantised, lost])
def test_what_one_driver_can_publish_is_no_contradiction(tmp_path, change):
    path = record(tmp_path / 'bag', lambda n, t, f: joints(n, t, f, change), NOW)
    found = check_bag(path, ROBOT, VIEW)
    assert found.episodes and 'contradict' not in ' '.join(found.reasons)


def test_joint_states_that_were_held_up_and_sent_at_once_are_no_contradiction(tmp_path):
    def change(ns, topic, fields):
        at_s = (ns - SECOND) * 1e-9
        if topic == '/joint_states':
            fields['position'] = 0.03 + 0.3 * np.sin(6.0 * at_s + np.arange(14))
            return ns // 100_000_000 * 100_000_000 + ns % 100_000_000 // 1000, fields
        return ns, fields

    found = check_bag(record(tmp_path / 'bag', change, NOW), ROBOT, VIEW)
    assert 'contradict' not in ' '.join(found.reasons)


# Topics that are not needed.


def an_mcap(path, encoding, form):
    """Write a recording with two topics that are not of ROS 2 into a file without an index."""

    def text(value):
        return struct.pack('<I', len(value)) + value.encode()

    def write(file, code, body):
        file.write(struct.pack('<BQ', code, len(body)) + body)

    def declare(file, number, topic, kind, encoding, definition, form):
        head = struct.pack('<H', number) + text(kind) + text(encoding)
        write(file, 3, head + text(definition))
        channel = struct.pack('<HH', number, number) + text(topic) + text(form)
        write(file, 4, channel + struct.pack('<I', 0))

    content, numbers = messages(Recording(duration_s=2.0)), {}
    with path.open('wb') as file:
        file.write(b'\x89MCAP0\r\n')
        write(file, 1, text('ros2') + text('test'))
        declare(file, 99, '/plot', 'foo.Plot', encoding, '{}', form)
        for index, (stamp_ns, topic, kind, fields) in enumerate(content):
            if topic not in numbers:
                numbers[topic] = len(numbers) + 1
                definition, _ = typestore().generate_msgdef(kind, ros_version=2)
                declare(file, numbers[topic], topic, kind, 'ros2msg', definition, 'cdr')
            times = struct.pack('<QQ', stamp_ns + NOW, stamp_ns + NOW)
            data = serialize(kind, stamp_ns + NOW, fields)
            write(file, 5, struct.pack('<HI', numbers[topic], index) + times + data)
            if index % 10 == 0:
                write(file, 5, struct.pack('<HI', 99, index) + times + b'{}')
        write(file, 15, struct.pack('<I', 0))
        write(file, 2, struct.pack('<QQI', 0, 0, 0))
        file.write(b'\x89MCAP0\r\n')
    return path


@pytest.mark.parametrize('form', ['protobuf', 'json'])
def test_topics_of_other_systems_are_a_note_and_never_a_verdict(tmp_path, capsys, form):
    encoding = {'protobuf': 'protobuf', 'json': 'jsonschema'}[form]
    path = an_mcap(tmp_path / 'bag.mcap', encoding, form)
    found = check_bag(path, ROBOT, VIEW)
    assert found.verdict == 'usable' and found.reasons == [] and found.lost_messages == 0
    (note,) = found.notes
    assert f"33 messages are left out on 'plot': they are serialized as '{form}'" in note
    assert found.topics['plot']['messages'] == 33
    code, out, _ = run(capsys, path)
    assert code == 0 and '  note: ' in out and 'no index' not in out


def test_an_unknown_type_in_sqlite_is_a_note_and_its_messages_are_counted(tmp_path):
    path = tmp_path / 'bag'
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections = {}
        about = {'msgdef': 'float64 newton\n', 'rihs01': 'RIHS01_' + 64 * '0'}
        force = writer.add_connection('/force', 'gripper_msgs/msg/Force', **about)
        for index, (ns, topic, kind, fields) in enumerate(messages(Recording(duration_s=2.0))):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
            writer.write(connections[topic], ns + NOW, serialize(kind, ns + NOW, fields))
            if index % 100 == 0:
                writer.write(force, ns + NOW, b'\0\1\0\0' + bytes(8))
    database = sqlite3.connect(next(path.glob('*.db3')))
    with database:
        database.execute('DELETE FROM message_definitions')
    database.close()
    found = check_bag(path, ROBOT, VIEW)
    assert found.verdict == 'usable' and found.lost_messages == 0
    assert found.topics['force']['messages'] == 4
    assert "4 messages are left out on 'force'" in found.notes[0]
    assert "knows the type 'gripper_msgs/msg/Force'" in found.notes[0]


def test_messages_that_cannot_be_read_are_in_the_file_all_the_same(tmp_path):
    path = tmp_path / 'bag'
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        store = typestore()
        states = writer.add_connection('/joint_states', JOINTS, typestore=store)
        text = writer.add_connection('/top/image_raw/compressed', 'std_msgs/msg/Bool',
                                     typestore=store)  # fmt: skip
        for index in range(3):
            writer.write(states, NOW + index * SECOND, b'\0\1\0\0')
            writer.write(text, NOW + index * SECOND, b'\0\1\0\0\1')
    found = check_bag(path, ROBOT, VIEW)
    said = ' '.join(found.reasons)
    assert "3 messages on 'joint_states' cannot be read" in said
    assert "messages on 'top/image_raw/compressed' are of type 'std_msgs/msg/Bool', not" in said
    assert "no message on 'joint_states'" not in said and "no message on 'top/" not in said
    assert [found.topics[topic]['messages'] for topic in found.topics] == [3, 3]
    assert found.lost_messages == 3


@pytest.mark.parametrize('topics', [(), ('/joint_states',)])
def test_an_empty_bag_is_called_empty_and_nothing_else(tmp_path, topics):
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for topic in topics:
            writer.add_connection(topic, JOINTS, typestore=typestore())
    found = check_bag(tmp_path / 'bag', ROBOT, VIEW)
    assert found.reasons == ['The bag is empty: it holds no message.']
    assert found.verdict == 'unusable'


def test_a_file_of_no_bytes_is_called_empty(tmp_path):
    path = tmp_path / 'bag.mcap'
    path.touch()
    assert check_bag(path, ROBOT, VIEW).reasons == [f'{path} is empty: it has 0 bytes.']


# Findings.


def piper_states(path, names, positions):
    arms = ('left_arm', 'right_arm')
    fields = {'name': names, 'velocity': np.zeros(0), 'effort': np.zeros(0)}
    content = [
        (SECOND + index * SECOND // 100, f'/{arm}/joint_states_single', JOINTS,
         fields | {'position': np.array(positions) + index * 1e-3})
        for index in range(50) for arm in arms
    ]  # fmt: skip
    return write_bag(path, content)


def test_findings_that_differ_in_a_joint_or_a_number_stay_apart(tmp_path, capsys):
    names = [f'joint{number}' for number in range(1, 7)] + ['gripper']
    path = piper_states(tmp_path / 'bag', names, [8.0, 9.0, 10.0, 11.0, 12.0, 13.0, 0.01])
    code, out, _ = run(capsys, path, '--robot', 'piper_dual', '--json')
    reasons = json.loads(out)['bags'][0]['reasons']
    for number in range(1, 7):
        (one,) = [text for text in reasons if f'left_joint{number} reaches' in text]
        assert f'reaches {7 + number}.0' in one and 'times in all' not in one
    _, out, _ = run(capsys, path, '--robot', 'piper_dual')
    assert all(f'right_joint{number} reaches' in out for number in range(1, 7))


def test_programs_get_every_finding_and_people_the_first_of_many_of_a_kind(tmp_path, capsys):
    def keeps(stream, ns):
        return stream != 'top' or ns // 50_000_000 % 12 < 6

    path = record(tmp_path / 'bag', shift_ns=NOW, duration_s=12.0, keeps=keeps)
    _, out, _ = run(capsys, path, '--json')
    (bag,) = json.loads(out)['bags']
    cuts = [text for text in bag['reasons'] if text.startswith('Attempt 0 is cut at')]
    assert len(cuts) == len(set(cuts)) > 15
    assert not any('more' in text for text in bag['reasons'])
    _, out, _ = run(capsys, path)
    assert out.count('Attempt 0 is cut at') == 6
    assert f'... and {len(cuts) - 6} more like this one; --json lists them all' in out


def test_what_hurts_most_comes_first(tmp_path):
    def change(ns, topic, fields):
        if topic == '/joint_states':
            fields['position'][0] = 9.0 + ns * 1e-12
        if topic == '/top/image_raw/compressed' and SECOND * 1.5 < ns < SECOND * 2:
            return None
        return ns, fields

    path = record(tmp_path / 'bag', change, NOW)
    file = next(path.glob('*.mcap'))
    with file.open('r+b') as stream:
        stream.truncate(file.stat().st_size * 9 // 10)
    found = check_bag(path, ROBOT, VIEW).reasons
    order = ['outside its limits', 'cut off or damaged', 'is cut at']
    places = [next(n for n, text in enumerate(found) if words in text) for words in order]
    assert places == sorted(places) and places[0] == 0


def test_pictures_of_another_size_than_the_robot_yaml_says_are_a_finding(tmp_path):
    path = record(tmp_path / 'bag', shift_ns=NOW, sizes={'left_wrist': (120, 160)})
    said = ' '.join(check_bag(path, ROBOT, VIEW).reasons)
    assert "Camera 'left_wrist': its pictures are 120x160 pixels, and the robot YAML says" in said
    assert "Camera 'top'" not in said


def test_joints_that_are_held_but_never_measured_are_not_said_to_be_missing(tmp_path):
    def change(ns, fields):
        fields['position'][:7] = -1.0

    path = record(tmp_path / 'bag', lambda n, t, f: joints(n, t, f, change), NOW)
    found = check_bag(path, ROBOT, VIEW)
    said = ' '.join(found.reasons)
    assert 'no joint state holds' not in said and 'all joints are -1 in 201' in said
    assert 'joint states hold left_waist, left_shoulder' in said
    assert found.topics['joint_states']['joints']['left']['missing'] == []


def test_wrong_joint_names_are_met_with_those_that_the_bag_has(tmp_path):
    def names(own):
        return own

    def change(ns, fields):
        fields['name'] = [name.replace('left_', 'follower_') for name in fields['name']]

    path = record(
        tmp_path / 'bag', lambda n, t, f: joints(n, t, f, change), NOW, joint_names=names
    )
    said = ' '.join(check_bag(path, ROBOT, VIEW).reasons)
    assert 'no joint state holds left_waist, left_shoulder' in said
    assert 'the bag has follower_waist, follower_shoulder' in said
    assert 'the bag has right_waist' not in said and 'robot YAML right?' in said


def test_the_rate_of_bursts_is_not_that_within_a_burst(tmp_path, capsys):
    def change(ns, topic, fields):
        index = (ns - SECOND) // 10_000_000
        return (ns - index % 5 * 9_990_000 if topic == '/joint_states' else ns), fields

    path = record(tmp_path / 'bag', change, NOW)
    facts = check_bag(path, ROBOT, VIEW).topics['joint_states']
    assert facts['bursts'] and facts['mean_rate_hz'] == pytest.approx(100.0, abs=1.0)
    assert facts['rate_hz'] == pytest.approx(100_000.0) and facts['gaps'] == []
    _, out, _ = run(capsys, path)
    (row,) = [line for line in out.splitlines() if line.startswith('  joint_states')]
    assert f'{facts["mean_rate_hz"]} in bursts' in row and '100000' not in row


# Encoders.


def slow_and_coarse(ns, fields):
    """One count in a second and less, as a joint that creeps: rests, and a step between two."""
    count, at_s = np.radians(1.0), (ns - SECOND) * 1e-9
    positions = 0.3 + np.linspace(0.02, 0.06, 14) * at_s
    positions[:3] = 0.3 + 0.3 * at_s - 0.04 * np.minimum(at_s, 3.75) ** 2
    fields['position'] = np.round(positions / count) * count


def a_switch(ns, fields):
    """A gripper that is open or closed."""
    fields['position'][6] = 0.021 if (ns - SECOND) // 700_000_000 % 2 else 0.057


def fine_and_slowing(ns, fields):
    """4096 counts a turn; the first joint comes to rest as a planned move does."""
    count, share = 2 * np.pi / 4096, min(1.0, (ns - SECOND) * 0.5e-9)
    fields['position'] = 0.05 + 0.1 * (fields['position'] - 0.05)
    fields['position'][0] = 0.5 * (10 * share**3 - 15 * share**4 + 6 * share**5)
    fields['position'] = np.round(fields['position'] / count) * count


@pytest.mark.parametrize('change', [slow_and_coarse, a_switch, fine_and_slowing])
def test_a_quantised_encoder_is_not_a_frozen_one(tmp_path, change):
    path = record(tmp_path / 'bag', lambda n, t, f: joints(n, t, f, change), NOW, duration_s=5.0)
    found = check_bag(path, with_tight_limits(), VIEW)
    said = ' '.join(found.reasons)
    assert not any(word in said for word in ('frozen', 'faster', 'contradict')) and found.episodes


def with_tight_limits():
    """Return the robot with speed limits at which a coarse count looks like a leap."""
    import dataclasses

    limits = dataclasses.replace(ROBOT.limits, max_velocity=ROBOT.limits.max_velocity * 0.25)
    return dataclasses.replace(ROBOT, limits=limits)


def test_a_quantised_encoder_that_freezes_in_motion_is_named(tmp_path):
    def change(ns, fields):
        count, stop = 2 * np.pi / 4096, 2 * SECOND
        fields['position'] = 0.05 + 0.1 * (fields['position'] - 0.05)
        fields['position'][0] = 0.15 * min(ns, stop) / SECOND
        fields['position'] = np.round(fields['position'] / count) * count

    path = record(tmp_path / 'bag', lambda n, t, f: joints(n, t, f, change), NOW, duration_s=5.0)
    (reason,) = check_bag(path, ROBOT, VIEW).reasons
    assert 'left_waist repeats one value for the last 4.0 s' in reason


def test_the_page_shows_notes_beside_findings(tmp_path):
    path, page = an_mcap(tmp_path / 'bag.mcap', 'jsonschema', 'json'), tmp_path / 'page.html'
    assert main(['bags', 'view', str(path), '--out', str(page)]) == 0
    assert '<li>note: ' in page.read_text() and 'is not needed' in page.read_text()
