"""Recorded bags become aligned episodes: inputs as-of, labels interpolated, nothing made up."""

import io
import os
import shutil

from episode_bags import joints_at
from episode_bags import messages
from episode_bags import read_bag
from episode_bags import record
from episode_bags import Recording
from episode_bags import SECOND
from episode_bags import serialize
from episode_bags import write_bag
import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer

from eva_ros.episodes.dataset import load_episodes
from eva_ros.episodes.dataset import split_episodes
from eva_ros.errors import UserError
from eva_ros.inspection.check import check_bag
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.views import load_view
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.typestore import typestore
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')


def late(camera, index):
    """Return a jitter of up to 20 ms, another one for every image."""
    return (hash((len(camera), index)) % 1000) * 2e-5


def test_an_even_recording_becomes_an_episode_at_the_views_rate(tmp_path, load):
    (episode,), report = load(record(tmp_path / 'bag', duration_s=3.0))
    assert isinstance(episode.frames, np.memmap) and not episode.frames.flags.writeable
    assert episode.frames.shape == (31, 144, 128, 3) and len(episode) == 31
    assert (np.diff(episode.stamps_ns) == SECOND // 10).all()
    assert episode.stamps_ns[0] == SECOND
    assert (episode.task, episode.instruction) == ('reach_left', 'reach the cube')
    assert episode.success is True and episode.source == str(tmp_path / 'bag')
    assert 'reach_left' in report and '1 bags, 1 of them read anew' in report


def test_labels_are_exact_at_the_images_own_stamps(tmp_path, load):
    path = record(tmp_path / 'bag', jitter=late, camera_hz=19.0, joint_hz=43.0)
    (episode,), _ = load(path)
    assert len(set(np.diff(episode.stamps_ns))) > 3, 'the recording is not jittered'
    wanted = np.array([joints_at(stamp) for stamp in episode.stamps_ns])
    assert np.abs(episode.joints - wanted).max() < 1e-9
    as_of = np.abs(episode.observed_joints - wanted).max()
    assert as_of > 1e-3, 'as-of joints would not do as labels'


def test_inputs_are_never_from_the_future_and_the_newest_there_are(tmp_path, load):
    path = record(tmp_path / 'bag', jitter=late, camera_hz=19.0, joint_hz=43.0)
    (episode,), _ = load(path)
    stamps = {camera: [] for camera in VIEW.camera_names}
    for found in read_bag(path):
        if isinstance(found, ImageRecord):
            stamps[found.topic.split('/')[0]].append(found.stamp_ns)
    for column, camera in enumerate(VIEW.camera_names):
        for tick, used in zip(episode.ticks_ns, episode.image_stamps_ns[:, column]):
            assert used == max(stamp for stamp in stamps[camera] if stamp <= tick)
    assert (np.diff(episode.ticks_ns) == SECOND // 10).all()


def test_the_same_messages_give_the_same_tensors_live_and_from_a_bag(tmp_path, load):
    path = record(tmp_path / 'bag', jitter=late, camera_hz=19.0, duration_s=2.0)
    (episode,), _ = load(path)
    builder, ticks = ObservationBuilder(ROBOT, VIEW), list(enumerate(episode.ticks_ns))
    for found in read_bag(path):
        # Live, the observation is made as soon as the first later message is heard.
        while ticks and found.stamp_ns > ticks[0][1]:
            index, tick = ticks.pop(0)
            live = builder.latest(int(tick))
            assert np.array_equal(live.view, episode.frames[index])
            assert np.array_equal(live.joint_positions, episode.observed_joints[index])
            assert list(live.image_stamps.values()) == episode.image_stamps_ns[index].tolist()
        if isinstance(found, ImageRecord):
            camera, message = found.topic.split('/')[0], found.message
            builder.add_image(camera, found.stamp_ns, bytes(message.data), message.format)
        elif isinstance(found, JointStateRecord):
            builder.add_joint_state(found.stamp_ns, list(found.names), list(found.positions))
    assert len(ticks) <= 1


def test_order_of_arrival_does_not_matter(tmp_path, load):
    content = messages(Recording(duration_s=2.0))
    rng = np.random.default_rng(0)
    delayed = sorted(content[1:-1], key=lambda entry: entry[0] + rng.integers(0, SECOND // 5))
    shuffled = [content[0], *delayed, content[-1]]
    (one,), _ = load(write_bag(tmp_path / 'one', content))
    (other,), _ = load(write_bag(tmp_path / 'other', shuffled))
    assert np.array_equal(one.frames, other.frames)
    assert np.array_equal(one.joints, other.joints)


def gap(stream, since_s, until_s):
    """Return a `keeps` that loses a stream for a while."""

    def keeps(name, stamp_ns):
        return name != stream or not since_s < (stamp_ns - SECOND) * 1e-9 < until_s

    return keeps


@pytest.mark.parametrize(
    ('stream', 'words'), [('left_wrist', "camera 'left_wrist'"), ('joints', 'joint_states')]
)
def test_an_episode_is_cut_where_a_stream_is_missing_and_never_padded(
    tmp_path, load, stream, words
):
    pieces, report = load(record(tmp_path / 'bag', keeps=gap(stream, 1.0, 1.8), duration_s=3.0))
    assert len(pieces) == 2 and words in report and 'is cut at 1.' in report
    first, second = pieces
    assert first.number == second.number and second.success is True
    assert first.stamps_ns[-1] <= SECOND * 2.2 and second.stamps_ns[0] >= SECOND * 2.7
    for piece in pieces:
        assert np.abs(piece.joints - [joints_at(s) for s in piece.stamps_ns]).max() < 1e-9
        ages = piece.ticks_ns[:, None] - piece.image_stamps_ns
        assert ages.min() >= 0 and ages.max() <= 150_000_000


def test_an_episode_begins_where_everything_is_there(tmp_path, load):
    (episode,), _ = load(record(tmp_path / 'bag', keeps=gap('right_wrist', -1.0, 0.62)))
    assert episode.stamps_ns[0] == SECOND + 650_000_000


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'cameras': ('top', 'left_wrist')}, "no image of camera 'right_wrist'"),
        ({'cameras': ('left_wrist', 'right_wrist')}, "no image of camera 'top'"),
        ({'sizes': {'top': (480, 640)}}, "'top'.*480x640.*240x320"),
        ({'joint_names': lambda names: names[1:]}, 'lacks left_waist'),
        ({'keeps': gap('joints', -1.0, 9.0)}, "no joint state on 'joint_states'"),
        ({'robot': 'piper_dual'}, "'piper_dual', not 'aloha_sim'"),
    ],
)
def test_bags_that_cannot_be_used_are_refused_with_the_reason(tmp_path, load, changes, words):
    path = record(tmp_path / 'bag', duration_s=1.0, **changes)
    with pytest.raises(UserError, match=words) as refusal:
        load(path)
    assert str(path) in str(refusal.value) and '\n' not in str(refusal.value)


def test_a_bad_bag_does_not_spoil_the_others(tmp_path, load):
    good = record(tmp_path / 'bags' / 'good', duration_s=1.0)
    record(tmp_path / 'bags' / 'no_wrist', duration_s=1.0, cameras=('top',))
    broken = record(tmp_path / 'bags' / 'broken', duration_s=1.0)
    next(broken.glob('*.mcap')).write_bytes(b'nothing')
    episodes, report = load(tmp_path / 'bags')
    assert [episode.source for episode in episodes] == [str(good)]
    assert '2 bags without a usable episode' in report
    assert "'left_wrist'" in report and str(broken) in report


def test_a_cut_off_recording_is_used_as_far_as_it_goes(tmp_path, load):
    path = record(tmp_path / 'bag', duration_s=4.0)
    (path / 'metadata.yaml').unlink()
    file = next(path.glob('*.mcap'))
    with file.open('r+b') as stream:
        stream.truncate(int(file.stat().st_size * 0.6))
    (episode,), report = load(path)
    assert 15 < len(episode) < 30 and episode.success is None
    assert 'cut off or damaged at byte' in report


def test_without_markers_a_bag_is_one_episode_of_an_unknown_task(tmp_path, load):
    (episode,), report = load(record(tmp_path / 'bag', marked=False, duration_s=1.0))
    assert (episode.task, episode.instruction, episode.success) == ('', '', None)
    assert len(episode) == 11 and '(not said)' in report


def test_markers_divide_a_bag_into_attempts(tmp_path, load):
    content = messages(Recording(duration_s=6.0, marked=False))
    marks = [(0.0, 0, 0), (1.5, 1, 1), (2.5, 0, 0), (4.0, 1, 2), (5.0, 0, 0)]
    for after_s, phase, success in marks:
        fields = {
            'phase': phase, 'index': 0, 'task': 't', 'instruction': f'at {after_s}',
            'success': success, 'robot': 'aloha_sim',
        }  # fmt: skip
        stamp = SECOND + round(after_s * SECOND)
        content.append((stamp, '/episode', 'eva_msgs/msg/Episode', fields))
    content.sort(key=lambda entry: (entry[0], entry[1] != '/episode'))
    episodes, _ = load(write_bag(tmp_path / 'bag', content))
    assert [episode.success for episode in episodes] == [True, False, None]
    assert [episode.instruction for episode in episodes] == ['at 0.0', 'at 2.5', 'at 5.0']
    assert [episode.number for episode in episodes] == [0, 1, 2]
    spans = [(e.stamps_ns[0] - SECOND, e.stamps_ns[-1] - SECOND) for e in episodes]
    assert spans == [(0, 15e8), (25e8, 40e8), (50e8, 60e8)]


def test_a_clock_that_jumps_back_cuts_the_episode_and_is_said(tmp_path, load):
    first = messages(Recording(duration_s=2.0, marked=False))
    content = [(stamp + 100 * SECOND, *rest) for stamp, *rest in first] + first
    episodes, report = load(write_bag(tmp_path / 'bag', content))
    assert len(episodes) == 2 and 'jumped back' in report
    assert all((np.diff(episode.stamps_ns) == SECOND // 10).all() for episode in episodes)


def test_the_cache_is_used_until_a_bag_changes(tmp_path, load):
    path = record(tmp_path / 'bag', duration_s=1.0)
    (before,), report = load(path)
    assert '1 of them read anew' in report
    (again,), report = load(path)
    assert '0 of them read anew' in report
    assert np.array_equal(before.frames, again.frames)
    assert np.array_equal(before.joints, again.joints)
    shutil.rmtree(path)
    record(path, duration_s=2.0)
    (changed,), report = load(path)
    assert '1 of them read anew' in report and len(changed) == 21


def test_a_change_in_the_middle_of_a_file_is_noticed(tmp_path, load):
    path = record(tmp_path / 'bag', duration_s=2.0)
    load(path)
    file = next(path.glob('*.mcap'))
    about = file.stat()
    with file.open('r+b') as stream:
        stream.seek(about.st_size // 2)
        stream.write(b'\0')
    os.utime(file, ns=(about.st_atime_ns, about.st_mtime_ns + 1))
    _, report = load(path)
    assert '1 of them read anew' in report


def test_another_view_or_robot_never_reads_what_was_made_for_this_one(tmp_path, load):
    path = record(tmp_path / 'bag', duration_s=1.0)
    load(path)
    wide = VIEW.camera('top').model_copy(update={'crop': (0.0, 0.0, 1.0, 1.0)})
    other = VIEW.model_copy(update={'cameras': (wide, *VIEW.cameras[1:])})
    report = io.StringIO()
    (episode,) = load_episodes([path], ROBOT, other, tmp_path / 'cache', report=report)
    assert '1 of them read anew' in report.getvalue()
    builder = ObservationBuilder(ROBOT, other)
    for found in read_bag(path):
        if isinstance(found, ImageRecord) and found.stamp_ns == SECOND:
            builder.add_image_message(found.topic.split('/')[0], SECOND, found.message)
    builder.add_joint_state(SECOND, *ROBOT.to_joint_state(ROBOT.home))
    assert np.array_equal(episode.frames[0], builder.latest(SECOND).view)


def test_what_was_built_before_an_interruption_is_not_built_again(tmp_path, load):
    for index in range(3):
        record(tmp_path / 'bags' / str(index), duration_s=0.5)
    load(tmp_path / 'bags' / '0', tmp_path / 'bags' / '1')
    # A process that was killed leaves an unfinished folder.
    (tmp_path / 'cache' / 'aloha_sim-aloha_sim' / '2-abc.1.part').mkdir()
    episodes, report = load(tmp_path / 'bags')
    assert len(episodes) == 3 and '3 bags, 1 of them read anew' in report


def test_several_processes_give_what_one_gives(tmp_path, load):
    for index in range(6):
        record(tmp_path / 'bags' / str(index), duration_s=0.5 + 0.1 * index)
    many, _ = load(tmp_path / 'bags', workers=2)
    shutil.rmtree(tmp_path / 'cache')
    one, _ = load(tmp_path / 'bags', workers=1)
    assert [episode.source for episode in many] == [episode.source for episode in one]
    for left, right in zip(many, one):
        assert np.array_equal(left.frames, right.frames)
        assert np.array_equal(left.joints, right.joints)


@pytest.fixture(scope='module')
def many(tmp_path_factory):
    """Return ten attempts of one task and two of another, one of them in two pieces."""
    tmp_path = tmp_path_factory.mktemp('many')
    for index in range(10):
        keeps = gap('top', 0.5, 1.0) if index == 4 else lambda stream, stamp_ns: True
        record(tmp_path / 'bags' / f'a-{index}', duration_s=1.5, keeps=keeps)
    for index in range(2):
        record(tmp_path / 'bags' / f'b-{index}', duration_s=0.5, task='lift_left')
    return load_episodes([tmp_path / 'bags'], ROBOT, VIEW, tmp_path / 'cache', 1, None)


def test_episodes_are_held_out_by_attempt_in_every_task(many):
    assert len(many) == 13
    for seed in range(8):
        training, held_out = split_episodes(many, 0.2, seed)
        assert len(training) + len(held_out) == 13
        assert not {e.source for e in training} & {e.source for e in held_out}
        tasks = [{e.source for e in held_out if e.task == t} for t in ('reach_left', 'lift_left')]
        assert [len(sources) for sources in tasks] == [2, 1]
    splits = {tuple(e.source for e in split_episodes(many, 0.2, seed)[1]) for seed in range(8)}
    assert len(splits) > 3
    assert split_episodes(many, 0.0)[1] == []


def test_the_split_follows_from_names_and_not_from_order_or_place(many):
    _, held_out = split_episodes(many, 0.2, 1)
    _, again = split_episodes(many[::-1], 0.2, 1)
    assert {e.source for e in held_out} == {e.source for e in again}


def test_speed_is_the_mean_of_an_arms_joints_without_the_gripper(many):
    rates = np.abs(np.linspace(-0.2, 0.3, 14))
    wanted = [rates[:6].mean(), rates[7:13].mean()]
    assert many[0].speed == pytest.approx(np.tile(wanted, (len(many[0]), 1)))


def marks(*entries):
    """Return a recording of 6 s with markers: seconds, phase and robot each."""
    content = messages(Recording(duration_s=6.0, marked=False))
    for after_s, phase, robot in entries:
        fields = {
            'phase': phase, 'index': 0, 'task': 't', 'instruction': f'at {after_s}',
            'success': phase, 'robot': robot,
        }  # fmt: skip
        stamp = SECOND + round(after_s * SECOND)
        content.append((stamp, '/episode', 'eva_msgs/msg/Episode', fields))
    return sorted(content, key=lambda entry: (entry[0], entry[1] != '/episode'))


def test_an_attempt_of_another_robot_is_left_out_and_the_others_are_used(tmp_path, load):
    robots = ('aloha_sim', 'piper_dual', 'aloha_sim')
    entries = [
        (2.0 * index + 1.5 * phase, phase, robot)
        for index, robot in enumerate(robots)
        for phase in (0, 1)
    ]
    path = write_bag(tmp_path / 'bag', marks(*entries))
    episodes, report = load(path)
    assert [episode.instruction for episode in episodes] == ['at 0.0', 'at 4.0']
    assert [(episode.number, episode.success) for episode in episodes] == [(0, True), (2, True)]
    assert "'piper_dual', not 'aloha_sim'" in report
    checked = check_bag(path, ROBOT, VIEW)
    assert [e['frames'] for e in checked.episodes] == [len(e) for e in episodes] == [16, 16]


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ('name', 'damage'),
    [
        ('frames.npy', cut),
        ('joints.npy', cut),
        ('stamps.npy', lambda file: file.write_bytes(b'')),
        ('image_stamps.npy', lambda file: file.unlink()),
        ('meta.json', cut),
        ('meta.json', lambda file: file.write_text('[]')),
        ('meta.json', lambda file: file.write_text(file.read_text().replace('"ticks"', '"t"'))),
    ],
)
def test_a_damaged_cache_is_built_anew(tmp_path, load, name, damage):
    path = record(tmp_path / 'bag', duration_s=0.5)
    (before,), _ = load(path)
    frames = before.frames.copy()
    del before
    (file,) = (tmp_path / 'cache').glob(f'*/*/{name}')
    damage(file)
    (again,), report = load(path)
    assert '1 of them read anew' in report and np.array_equal(again.frames, frames)
    assert '0 of them read anew' in load(path)[1]


def test_a_recording_that_begins_behind_its_start_marker_is_told_so(tmp_path, load):
    path = write_bag(tmp_path / 'bag', marks((3.0, 1, 'aloha_sim')))
    words = 'says END and none before it says START'
    with pytest.raises(UserError, match=words):
        load(path)
    found = check_bag(path, ROBOT, VIEW)
    assert not found.episodes and words in ' '.join(found.reasons)


def test_a_marker_topic_without_messages_marks_nothing(tmp_path, load):
    with Writer(tmp_path / 'bag', version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        writer.add_connection('/episode', 'eva_msgs/msg/Episode', typestore=typestore())
        connections = {}
        for ns, topic, kind, fields in messages(Recording(duration_s=1.0, marked=False)):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
            writer.write(connections[topic], ns, serialize(kind, ns, fields))
    (episode,), _ = load(tmp_path / 'bag')
    found = check_bag(tmp_path / 'bag', ROBOT, VIEW)
    assert found.verdict == 'usable' and found.episodes[0]['frames'] == len(episode) == 11
