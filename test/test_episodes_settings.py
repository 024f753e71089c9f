"""Recorders differ: clocks, tolerances, attempts and joint states as a robot has them."""

import dataclasses

from episode_bags import joints_at
from episode_bags import messages
from episode_bags import record
from episode_bags import Recording
from episode_bags import SECOND
from episode_bags import write_bag
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer

from eva_ros.episodes.cache import world_of
from eva_ros.episodes.settings import by_reception
from eva_ros.episodes.settings import load_settings
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.errors import UserError
from eva_ros.observations.ingest import NotReady
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.joints import JointTrack
from eva_ros.observations.views import load_view
from eva_ros.recordings.typestore import typestore
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
MS = 1_000_000
CAMERAS = VIEW.camera_names[:2]
STATE = 'sensor_msgs/msg/JointState'


def write(path, content, zero=(), texts=(), facts=(), shift_ns=0):
    """Write a bag whose messages are received when they are stamped.

    Args:
        path: folder of the bag.
        content: as messages gives it.
        zero: topics whose headers hold no stamp.
        texts: instants and texts on /task.
        facts: custom data of the bag.
        shift_ns: added to the stamps, not to the times of reception.
    """
    from episode_bags import serialize

    store, connections = typestore(), {}
    text = store.types['std_msgs/msg/String']
    entries = [
        (ns, topic, kind, serialize(kind, 0 if topic in zero else ns + shift_ns, fields))
        for ns, topic, kind, fields in content
    ]
    entries += [
        (ns, '/task', 'std_msgs/msg/String', store.serialize_cdr(text(said), text.__msgtype__))
        for ns, said in texts
    ]
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for key, value in facts:
            writer.set_custom_data(key, value)
        for ns, topic, kind, data in sorted(entries, key=lambda entry: entry[0]):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            writer.write(connections[topic], ns, data)
    return path


def test_a_stream_without_stamps_is_aligned_by_the_time_it_was_received(tmp_path, load):
    content = messages(Recording())
    path = write(tmp_path / 'bag', content, zero=('/joint_states',))
    with pytest.raises(UserError):
        load(path)
    (episode,), _ = load(path, settings=ResamplingSettings(clock={'joint_states': 'receive'}))
    wanted = np.array([joints_at(stamp) for stamp in episode.stamps_ns])
    assert np.abs(episode.joints - wanted).max() < 1e-9 and len(episode) == 31


def test_a_slow_stream_may_have_a_tolerance_of_its_own(tmp_path, load):
    path = record(tmp_path / 'bag', keeps=lambda s, ns: s != 'top' or ns // (100 * MS) % 4 == 0)
    assert max(len(episode) for episode in load(path)[0]) < 5
    (episode,), _ = load(path, settings=ResamplingSettings(max_age_s={'top': 0.5}))
    assert len(episode) > 25
    assert (episode.ticks_ns - episode.image_stamps_ns[:, 0]).max() > 200 * MS


def test_texts_on_a_task_topic_divide_a_bag_into_attempts(tmp_path, load):
    texts = [(SECOND, 'open the box'), (SECOND + 500 * MS, 'open the box')]
    texts += [(3 * SECOND, 'close the box'), (5 * SECOND, ''), (6 * SECOND, 'wave')]
    content = messages(Recording(duration_s=7.0, marked=False))
    path = write(tmp_path / 'bag', content, texts=texts)
    found, _ = load(path, settings=ResamplingSettings(task_topic='/task'))
    assert [(e.instruction, e.number) for e in found] == [
        ('open the box', 0), ('close the box', 1), ('wave', 2),
    ]  # fmt: skip
    assert all(abs(len(e) - 20) <= 1 for e in found)
    assert found[1].stamps_ns[0] >= 3 * SECOND


@pytest.mark.parametrize('shift_s', [-1_700_000_000, -1.5, 1.5])
def test_attempts_of_a_task_topic_are_on_whatever_clock_the_images_have(tmp_path, load, shift_s):
    """Boot clocks, simulations and clocks that are a little off: a text has no stamp."""
    begin = 1_700_000_000 * SECOND
    content = messages(Recording(duration_s=4.0, marked=False))
    texts = [(begin + SECOND, 'open the box'), (begin + 3 * SECOND, 'close the box')]
    content = [(begin + ns, *rest) for ns, *rest in content]
    path = write(tmp_path / 'bag', content, texts=texts, shift_ns=round(shift_s * SECOND))
    found, said = load(path, settings=ResamplingSettings(task_topic='/task'))
    assert [(e.instruction, len(e)) for e in found] == [
        ('open the box', 20),
        ('close the box', 20),
    ]
    assert 'no usable image' not in said and 'late' not in said
    first_ns = found[1].stamps_ns[0] - round(shift_s * SECOND)
    assert 0 <= first_ns - (begin + 3 * SECOND) <= 100 * MS


@pytest.mark.parametrize('shift_s', [-1_700_000_000, 0])
def test_seconds_without_images_behind_a_text_are_told(tmp_path, load, shift_s):
    begin = 1_700_000_000 * SECOND
    content = messages(Recording(marked=False, keeps=lambda _, ns: ns >= 2.5 * SECOND))
    content = [(begin + ns, *rest) for ns, *rest in content]
    texts = [(begin + SECOND, 'open the box')]
    path = write(tmp_path / 'bag', content, texts=texts, shift_ns=round(shift_s * SECOND))
    _, said = load(path, settings=ResamplingSettings(task_topic='/task'))
    assert 'Attempt 0 begins 1.5 s late' in said


def test_a_long_gap_begins_another_attempt_where_nothing_else_says_so(tmp_path, load):
    def keeps(stream, ns):
        return not (3 * SECOND < ns < 6 * SECOND or 7 * SECOND < ns < 7.4 * SECOND)

    path = record(tmp_path / 'bag', duration_s=8.0, marked=False, keeps=keeps)
    assert [e.number for e in load(path)[0]] == [0, 0, 0]
    found, _ = load(path, settings=ResamplingSettings(gap_s=2.0))
    assert [e.number for e in found] == [0, 1, 1]


def test_a_bag_of_one_attempt_says_its_instruction_itself(tmp_path, load):
    facts = [('eva.instruction', 'wave'), ('eva.task', 'greet'), ('eva.success', 'true')]
    path = write(tmp_path / 'bag', messages(Recording(marked=False)), facts=facts)
    (episode,), _ = load(path)
    assert (episode.instruction, episode.task, episode.success) == ('wave', 'greet', True)


def test_settings_that_name_no_stream_are_refused(tmp_path, load):
    path = record(tmp_path / 'bag', duration_s=1.0)
    with pytest.raises(UserError, match='ceiling'):
        load(path, settings=ResamplingSettings(clock={'ceiling': 'receive'}))
    file = tmp_path / 'align.yaml'
    file.write_text('clock: {top: receive}\ngap_s: 2.5\n')
    assert load_settings(file) == ResamplingSettings(clock={'top': 'receive'}, gap_s=2.5)
    file.write_text('gap: 2.5\n')
    with pytest.raises(UserError, match='gap'):
        load_settings(file)


def test_the_default_settings_keep_what_was_cached_without_any():
    assert world_of(ROBOT, VIEW) == world_of(ROBOT, VIEW, ResamplingSettings())
    assert world_of(ROBOT, VIEW) != world_of(ROBOT, VIEW, ResamplingSettings(gap_s=1.0))


# Joint states.


def builder():
    found = ObservationBuilder(ROBOT, VIEW)
    return found, *ROBOT.to_joint_state(joints_at(SECOND))


def test_partial_messages_are_put_together():
    made, names, values = builder()
    made.add_joint_state(SECOND, names[:7], values[:7])
    with pytest.raises(NotReady, match='lacks right_waist'):
        made.joints(SECOND + MS)
    made.add_joint_state(SECOND + 5 * MS, names[7:], values[7:])
    found = made.joints(SECOND + 6 * MS)
    assert found.positions == pytest.approx(joints_at(SECOND))
    assert found.stamp_ns == SECOND, 'the older part counts'
    with pytest.raises(NotReady):
        made.joints(SECOND + 4 * MS)


def test_labels_from_partial_messages_are_interpolated_part_by_part():
    made, names, _ = builder()
    for ms in range(0, 100, 10):
        for part, late in ((slice(0, 7), 0), (slice(7, 14), 4)):
            stamp_ns = SECOND + (ms + late) * MS
            _, values = ROBOT.to_joint_state(joints_at(stamp_ns))
            made.add_joint_state(stamp_ns, names[part], values[part])
    at_ns = SECOND + 57 * MS
    assert made.joints_between(at_ns) == pytest.approx(joints_at(at_ns), abs=1e-9)


def test_an_arm_that_falls_silent_is_not_hidden_by_the_other():
    made, names, values = builder()
    made.add_joint_state(SECOND, names[:7], values[:7])
    for ms in range(0, 1000, 10):
        made.add_joint_state(SECOND + ms * MS, names[7:], values[7:])
    with pytest.raises(NotReady, match=r'0\.99 s old.*lacks left_waist'):
        made.joints(SECOND + 990 * MS)


def test_a_sentinel_is_never_taken_for_joints():
    made, names, values = builder()
    made.add_joint_state(SECOND, names, np.full(14, -1.0))
    with pytest.raises(NotReady, match='-1'):
        made.joints(SECOND + MS)
    made.add_joint_state(SECOND + 2 * MS, names, values)
    assert made.joints(SECOND + 3 * MS).positions == pytest.approx(joints_at(SECOND))


def test_an_empty_joint_state_is_named():
    made, _, _ = builder()
    made.add_joint_state(SECOND, (), ())
    with pytest.raises(NotReady, match='names no joint'):
        made.joints(SECOND + MS)


def test_degrees_are_converted_where_the_robot_says_so_and_nowhere_else():
    arms = {n: dataclasses.replace(arm, state_unit='deg') for n, arm in ROBOT.arms.items()}
    robot = dataclasses.replace(ROBOT, arms=arms)
    q = joints_at(SECOND)
    names, values = robot.to_joint_state(q)
    assert values[0] == pytest.approx(np.degrees(q[0]))
    assert robot.from_joint_state(names, values) == pytest.approx(q)
    assert robot.velocities_from_joint_state(names, values)[0] == pytest.approx(q[0])
    assert ROBOT.from_joint_state(*ROBOT.to_joint_state(q)) == pytest.approx(q)
    assert world_of(robot, VIEW) != world_of(ROBOT, VIEW)


def test_a_stamp_centuries_ahead_neither_hangs_nor_costs_the_rest(tmp_path, load):
    content = messages(Recording(duration_s=3.0, marked=False))
    late = content[len(content) // 2][0]
    for stream in ('/joint_states', *(f'/{name}/image_raw/compressed' for name in CAMERAS)):
        bad = [
            (entry[0] + 60 * 10**9 * 10**6, *entry[1:])
            if entry[0] == late and entry[1] == stream
            else entry
            for entry in content
        ]
        name = stream.strip('/').replace('/', '_')
        episodes, said = load(write_bag(tmp_path / name, bad))
        assert sum(map(len, episodes)) >= 20
        assert 'jumped back' in said or 'in the future' in said


def test_a_robot_whose_drivers_stamps_are_of_another_clock_is_aligned_by_reception():
    piper = load_robot('piper_dual')
    assert by_reception(ResamplingSettings(), piper) == set(piper.joint_state_topics)
    stated = ResamplingSettings(clock=dict.fromkeys(piper.joint_state_topics, 'header'))
    assert by_reception(stated, piper) == by_reception(ResamplingSettings(), ROBOT) == set()


@pytest.mark.parametrize('robot', ['aloha_sim', 'piper_dual'])
def test_joints_of_known_names_are_read_as_those_of_new_ones(robot):
    robot = load_robot(robot)
    track = JointTrack(robot, 1.0)
    names, _ = robot.to_joint_state(robot.home)
    rng = np.random.default_rng(0)
    for topic in robot.joint_state_topics:
        own = [n for a in robot.arms.values() if a.state_topic == topic for n in a.state_joints]
        for mixed in (own, own[::-1], ['other', *own]):
            values, rates = rng.normal(size=(2, len(mixed)))
            for given in (rates, ()):
                fast = track._whole(topic, mixed, values, given)
                slow = track._value(topic, mixed, values, given)
                assert fast[0] == slow[0]
                np.testing.assert_array_equal(fast[1], slow[1])
        assert track._whole(topic, own[1:], values, ()) is None
        assert track._whole(topic, own, np.full(len(own), -1.0), ()) is None
        assert track._whole(topic, own, np.full(len(own), np.nan), ()) is None
        assert track._whole(topic, own, values[:3], ()) is None
