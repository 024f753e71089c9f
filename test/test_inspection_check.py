"""`eva bags check` finds each fault of a recording, names it, and says what can be used."""

import json
import re
import shutil
import sqlite3
from types import SimpleNamespace

from episode_bags import COMPRESSED
from episode_bags import JOINTS
from episode_bags import jpeg
from episode_bags import messages
from episode_bags import picture
from episode_bags import Recording
from episode_bags import SECOND
from episode_bags import serialize
from episode_bags import write_bag
import numpy as np
import pytest
from robot_files import PAIRS
from robot_files import write_robot
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer

from eva_ros.cli.main import main
from eva_ros.episodes.resampling import Piece
from eva_ros.episodes.resampling import Tick
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.inspection.check import check_bag
from eva_ros.inspection.joint_curves import joint_curves
from eva_ros.observations.ingest import NotReady
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.picture_check import PictureCheck
from eva_ros.observations.views import load_view
from eva_ros.observations.views import view_of
from eva_ros.recordings.typestore import typestore
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
NOW = 1_700_000_000 * SECOND
KEYS = ['path', 'verdict', 'reasons', 'notes', 'topics', 'episodes', 'lost_messages']


def run(capsys, *arguments):
    """Return the exit code of eva bags check, what it printed, and what it said on stderr."""
    code = main(['bags', 'check', *map(str, arguments)])
    out, err = capsys.readouterr()
    return code, out, err


def record(path, change=None, shift_ns=0, **options):
    """Write a recording whose messages `change` may alter, received as they are stamped.

    Args:
        path: folder of the bag.
        change: takes stamp, topic and fields of a message and returns stamp and fields, or None
            to leave it out.
        shift_ns: added to the stamps, not to the times of reception.
        options: of the Recording.
    """
    store, connections = typestore(), {}
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        for stamp_ns, topic, kind, fields in messages(Recording(**{'duration_s': 2.0, **options})):
            found = change(stamp_ns, topic, dict(fields)) if change else (stamp_ns, fields)
            if found is None:
                continue
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=store)
            stamp = found[0] + shift_ns if found[0] else 0
            writer.write(connections[topic], stamp_ns + NOW, serialize(kind, stamp, found[1]))
    return path


def test_a_good_recording_is_usable_and_the_json_has_the_promised_fields(tmp_path, capsys):
    path = record(tmp_path / 'bag', shift_ns=NOW)
    code, out, _ = run(capsys, path, '--robot', 'aloha_sim', '--json')
    (bag,) = json.loads(out)['bags']
    assert code == 0 and list(bag) == KEYS
    assert bag['verdict'] == 'usable' and bag['reasons'] == [] and bag['lost_messages'] == 0
    assert bag['episodes'] == [
        {
            'instruction': 'reach the cube', 'success': True, 'start_s': 0.0,
            'duration_s': 2.0, 'frames': 21,
        }
    ]  # fmt: skip
    top = bag['topics']['top/image_raw/compressed']
    assert (top['type'], top['messages'], top['rate_hz']) == (COMPRESSED, 41, 20.0)
    assert top['resolution'] == [240, 320] and top['declared_messages'] == 41
    assert top['declared_rate_hz'] == pytest.approx(20.5, abs=0.1)
    arms = bag['topics']['joint_states']['joints']
    assert [len(arms[arm]['found']) for arm in arms] == [7, 7]
    assert bag['topics']['joint_states']['type'] == JOINTS


def test_findings_and_unreadable_paths_give_1_and_nothing_readable_gives_2(tmp_path, capsys):
    path = record(tmp_path / 'bag', shift_ns=NOW)
    nowhere = tmp_path / 'nowhere'
    code, out, _ = run(capsys, path, nowhere, '--json')
    assert code == 1
    assert [bag['verdict'] for bag in json.loads(out)['bags']] == ['usable', 'unusable']
    code, out, err = run(capsys, nowhere, '--json')
    assert code == 2 and str(nowhere) in json.loads(out)['bags'][0]['reasons'][0]
    assert err.count('\n') == 1 and str(nowhere) in err
    code, _, err = run(capsys, path, '--robot', 'nobody')
    assert code == 2 and 'nobody' in err


def test_the_table_is_plain_where_stdout_is_no_terminal(tmp_path, capsys):
    code, out, _ = run(capsys, record(tmp_path / 'bag', shift_ns=NOW))
    assert code == 0 and '\x1b' not in out
    assert 'usable' in out and '21 frames' in out and '2.0 usable seconds' in out


def joints(stamp_ns, topic, fields, change):
    if topic == '/joint_states':
        change(stamp_ns, fields)
    return stamp_ns, fields


def sentinel(ns, fields):
    if ns < SECOND + 200_000_000:
        fields['position'] = np.full(14, -1.0)


def sentinel_of_one_arm(ns, fields):
    if SECOND + 500_000_000 <= ns < SECOND + 1_000_000_000:
        fields['position'][7:] = -1.0


def nameless(ns, fields):
    if ns % 100_000_000 == 0:
        fields.update(name=[], position=np.zeros(0))


def frozen(ns, fields):
    at = ns - SECOND
    fields['position'][0] = 0.0 if at < 1.0e9 else 1.0 + at * 1e-10


def without_wrist(ns, fields):
    fields['name'].pop(4)
    fields['position'] = np.delete(fields['position'], 4)


def degrees(ns, fields):
    fields['position'] = np.degrees(fields['position'])


def still(ns, fields):
    fields['position'] = np.full(14, 0.1)


def broken(ns, fields):
    if ns == SECOND + 500_000_000:
        fields['position'][3] = np.nan


@pytest.mark.parametrize(
    ('change', 'words', 'verdict'),
    [
        (sentinel, 'all joints are -1 in 20 joint states', 'partial'),
        (sentinel_of_one_arm, 'Right arm: all joints are -1 in 50 joint states', 'partial'),
        (sentinel_of_one_arm, "joint states on 'joint_states' have a gap of 0.51 s", 'partial'),
        (nameless, 'name no joint', 'partial'),
        (frozen, 'left_waist repeats one value for 1.00 s and then jumps by 1.1', 'partial'),
        (without_wrist, 'no joint state holds left_wrist_angle', 'unusable'),
        (degrees, 'outside its limits', 'partial'),
        (still, 'No joint moves: all 14', 'partial'),
        (broken, 'not a number in 1 joint states', 'partial'),
    ],
)
def test_faults_of_joint_states_are_named(tmp_path, change, words, verdict):
    path = record(
        tmp_path / 'bag', lambda ns, topic, fields: joints(ns, topic, fields, change), NOW
    )
    found = check_bag(path, ROBOT, VIEW)
    assert words in ' '.join(found.reasons) and found.verdict == verdict


def test_a_joint_that_is_not_there_is_not_said_to_rest(tmp_path):
    path = record(
        tmp_path / 'bag', lambda ns, topic, fields: joints(ns, topic, fields, without_wrist), NOW
    )
    left = check_bag(path, ROBOT, VIEW).topics['joint_states']['joints']['left']
    assert left['missing'] == ['left_wrist_angle']
    assert 'left_wrist_angle' not in left['motionless']


def test_joints_that_never_move_are_listed_and_alone_no_finding(tmp_path):
    def change(ns, fields):
        fields['position'][7:] = 0.05

    path = record(tmp_path / 'bag', lambda n, t, f: joints(n, t, f, change), NOW)
    found = check_bag(path, ROBOT, VIEW)
    arms = found.topics['joint_states']['joints']
    assert len(arms['right']['motionless']) == 7 and not arms['left']['motionless'][1:]
    assert found.verdict == 'usable'


@pytest.mark.parametrize(
    ('change', 'shift_ns', 'words'),
    [
        (lambda ns, topic, f: (0 if 'top' in topic else ns, f), NOW, '41 of 41 stamps are zero'),
        (None, NOW - 3600 * SECOND, '3600.0 s behind the recorder'),
        (
            lambda ns, topic, f: (ns - 30_000_000 * (ns // 50_000_000 % 7 == 0), f),
            NOW,
            'stamps go back',
        ),
    ],
)
def test_stamps_that_cannot_be_true_are_named(tmp_path, change, shift_ns, words):
    found = check_bag(record(tmp_path / 'bag', change, shift_ns), real(), VIEW)
    assert words in ' '.join(found.reasons)


YEARS = 10 * 365 * 24 * 3600 * SECOND
MID = 2 * SECOND


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (
            lambda n, t, f: (n + YEARS * (n >= MID), f),
            'stamps jump ahead by 10.0 years at message 21',
        ),
        (
            lambda n, t, f: (n - YEARS * (n >= MID), f),
            'stamps jump back by 10.0 years at message 21',
        ),
        (lambda n, t, f: (n + YEARS * (n == MID), f), 'the stamp of message 21 alone is ahead by'),
        (lambda n, t, f: (n * (n != MID), f), '1 of 41 stamps are zero'),
    ],
    ids=['ahead', 'back', 'one', 'zero'],
)
def test_absurd_stamps_are_said_as_what_they_are_and_make_no_gap(tmp_path, change, words):
    def with_a_still_joint(ns, topic, fields):
        if topic == '/joint_states':
            fields['position'][0] = 0.1
        return change(ns, topic, fields)

    found = check_bag(record(tmp_path / 'bag', with_a_still_joint, NOW), ROBOT, VIEW)
    said = ' '.join(found.reasons)
    assert f"On 'top/image_raw/compressed', {words}" in said
    assert 'go back' not in said
    top = found.topics['top/image_raw/compressed']
    assert top['mean_rate_hz'] == pytest.approx(20, abs=0.6)
    assert all(length < 1 for facts in found.topics.values() for _, length in facts['gaps'])
    assert found.episodes and all(0 <= episode['start_s'] <= 2.0 for episode in found.episodes)
    assert found.topics['joint_states']['joints']['left']['longest_exact_rest_s'] < 2.1
    assert '31536000' not in json.dumps(found.as_json())


def test_an_age_of_years_asks_for_the_clock_and_not_for_the_camera():
    builder = ObservationBuilder(ROBOT, VIEW)
    for camera in VIEW.camera_names:
        builder.add_image(camera, NOW, jpeg(picture(camera, NOW)))
    for at_ns in (NOW + YEARS, NOW - YEARS):
        with pytest.raises(NotReady, match=r'10\.0 years .*was a clock set'):
            builder.latest(at_ns)


def test_boot_clock_stamps_are_named_and_simulated_ones_are_none(tmp_path):
    path = record(tmp_path / 'bag')
    assert 'not from 1970' in ' '.join(check_bag(path, real(), VIEW).reasons)
    assert check_bag(path, ROBOT, VIEW).verdict == 'usable'


def real():
    import dataclasses

    return dataclasses.replace(ROBOT, simulated=False)


def test_what_is_missing_is_named_with_what_may_be_meant(tmp_path):
    def change(ns, topic, fields):
        return None if topic.startswith('/top') else (ns, fields)

    found = check_bag(record(tmp_path / 'bag', change, NOW), ROBOT, VIEW)
    assert found.verdict == 'unusable'
    assert "no message on 'top/image_raw/compressed'" in ' '.join(found.reasons)


def test_gaps_and_cut_episodes_are_told(tmp_path):
    def keeps(stream, ns):
        return stream != 'top' or not SECOND + 5 * 10**8 < ns < SECOND + 15 * 10**8

    found = check_bag(record(tmp_path / 'bag', shift_ns=NOW, keeps=keeps), ROBOT, VIEW)
    assert found.verdict == 'partial' and len(found.episodes) == 2
    (gap,) = found.topics['top/image_raw/compressed']['gaps']
    assert gap == pytest.approx([0.5, 1.0], abs=0.06)
    assert found.episodes[1]['start_s'] == pytest.approx(1.5, abs=0.11)


def test_lost_messages_are_counted(tmp_path):
    path = record(tmp_path / 'bag', shift_ns=NOW)
    file = next(path.glob('*.mcap'))
    with file.open('r+b') as stream:
        stream.truncate(file.stat().st_size // 2)
    found = check_bag(path, ROBOT, VIEW)
    heard = sum(facts['messages'] for facts in found.topics.values())
    assert found.lost_messages == 326 - heard > 0 and found.verdict == 'partial'
    assert 'cut off or damaged at byte' in ' '.join(found.reasons)


@pytest.mark.parametrize('storage', StoragePlugin)
@pytest.mark.parametrize('share', [1.0, 0.6])
def test_how_many_messages_are_lost_is_null_where_nothing_says_it(tmp_path, storage, share):
    path = write_bag(tmp_path / 'bag', messages(Recording(duration_s=2.0)), storage)
    (path / 'metadata.yaml').unlink()
    (file,) = path.iterdir()
    with file.open('r+b') as stream:
        stream.truncate(int(file.stat().st_size * share))
    found = check_bag(path, ROBOT, VIEW)
    known = share == 1.0
    assert found.as_json()['lost_messages'] == (0 if known else None)
    assert known != ('It is not known how many messages are lost' in ' '.join(found.reasons))


def test_what_is_left_out_on_a_topic_that_is_not_needed_is_not_lost(tmp_path):
    path, text = tmp_path / 'bag', 'gripper_msgs/msg/Force'
    with Writer(path, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        about = {'msgdef': 'float64 newton\n', 'rihs01': 'RIHS01_' + 64 * '0'}
        connection = writer.add_connection('/force', text, **about)
        for index in range(3):
            writer.write(connection, NOW + index, b'\0\1\0\0' + bytes(8))
    assert check_bag(path, ROBOT, VIEW).lost_messages == 0
    database = sqlite3.connect(next(path.glob('*.db3')))
    with database:
        database.execute('DELETE FROM message_definitions')
    database.close()
    found = check_bag(path, ROBOT, VIEW)
    assert found.lost_messages == 0 and found.topics['force']['messages'] == 3
    assert "3 messages are left out on 'force'" in found.notes[0]


def test_of_what_cannot_be_opened_nobody_knows_what_is_lost(tmp_path, capsys):
    path = tmp_path / 'text.mcap'
    path.write_text('no bag')
    _, out, _ = run(capsys, path, tmp_path / 'nowhere', '--json')
    assert [bag['lost_messages'] for bag in json.loads(out)['bags']] == [None, None]


def test_images_that_do_not_decode_are_a_finding(tmp_path):
    def change(ns, topic, fields):
        if 'left_wrist' in topic:
            fields['data'] = fields['data'][: len(fields['data']) // 2]
        return ns, fields

    found = check_bag(record(tmp_path / 'bag', change, NOW), ROBOT, VIEW)
    assert 'cut off' in ' '.join(found.reasons) and found.verdict == 'unusable'


def test_a_covered_and_a_frozen_camera_are_named():
    rng = np.random.default_rng(0)
    covered, frozen_one, good = PictureCheck(), PictureCheck(), PictureCheck()
    for _ in range(20):
        noise = rng.integers(0, 7, (480, 640, 3), np.uint8)
        dark = 30 + noise * 3
        dark[100:250, 200:350] = rng.integers(0, 255, (150, 150, 3))
        covered.add(dark)
        frozen_one.add(picture('top', SECOND) + np.arange(320, dtype=np.uint8)[None, :, None])
        good.add(np.repeat(rng.integers(0, 255, (48, 64, 3), np.uint8), 10, 0).repeat(10, 1))
    assert 'covered' in covered.faults()[0] and covered.blank_share > 0.8
    assert 'never changes' in frozen_one.faults()[0]
    assert not good.faults()


def test_the_page_shows_pictures_and_joints_of_each_episode(tmp_path):
    told = '<script>alert(1)</script> reach the <b>cube</b>'
    path, page = record(tmp_path / 'b<a>g', shift_ns=NOW, instruction=told), tmp_path / 'page.html'
    assert main(['bags', 'view', str(path), '--out', str(page)]) == 0
    text = page.read_text()
    assert text.count('data:image/jpeg') == 12 and text.count('<svg') == 2
    assert text.count('<polyline') == 14 and 'left_waist</span>' in text
    assert 'reach the &lt;b&gt;cube' in text and '<b>cube' not in text
    assert '&lt;script&gt;alert(1)' in text and '<script' not in text
    assert 'b&lt;a&gt;g' in text and 'b<a>g' not in text


def test_the_page_shows_the_time_under_each_picture(tmp_path):
    path, page = record(tmp_path / 'bag', shift_ns=NOW), tmp_path / 'page.html'
    main(['bags', 'view', str(path), '--out', str(page)])
    times = re.findall(r'<figcaption>([\d.]+) s</figcaption>', page.read_text())
    assert len(times) == 12 and (times[0], times[-1]) == ('0.0', '2.0')
    assert times == sorted(times, key=float)


def test_a_page_of_several_bags_begins_with_a_table_that_leads_to_each(tmp_path):
    record(tmp_path / 'all/a&b', shift_ns=NOW)
    write_bag(tmp_path / 'all/c/d', messages(Recording(duration_s=1.0, cameras=())))
    page = tmp_path / 'page.html'
    assert main(['bags', 'view', str(tmp_path / 'all'), '--out', str(page)]) == 1
    text = page.read_text()
    assert f'2 bags in {tmp_path}/all: 1 usable, 1 unusable; 1 episodes, 2.0 usable' in text
    first, second = re.findall(r'<tr><td><a href="#bag-.*', text.replace('<tr>', '\n<tr>'))[:2]
    assert '#bag-0">a&amp;b</a>' in first and '>usable</span>' in first and '"s">2.0' in first
    assert '#bag-1">c/d</a>' in second and '>unusable</span>' in second
    assert text.index('href="#bag-1"') < text.index('id="bag-0"') < text.index('id="bag-1"')
    main(['bags', 'view', str(tmp_path / 'all/a&b'), '--out', str(page)])
    assert '<a href="#bag' not in page.read_text()


@pytest.mark.parametrize('arms', PAIRS)
def test_the_page_draws_the_joints_of_any_arms(arms, tmp_path):
    robot = load_robot(write_robot(tmp_path, PAIRS[arms]))
    ticks = [
        Tick(SimpleNamespace(stamp_ns=i * SECOND), robot.home + 0.1 * i, frame=0) for i in range(3)
    ]
    plots = joint_curves(Piece(ticks=ticks), robot)
    drawn = [joint for plot in plots for joint, _, _ in plot.curves]
    assert tuple(drawn) == robot.joint_names
    for plot, arm in zip(plots, robot.arms.values()):
        assert ('gripper' in plot.units) == (arm.gripper is not None)
        assert len({colour for _, colour, _ in plot.curves}) == len(plot.curves)


def test_a_robot_without_a_view_is_checked_with_all_its_cameras_in_a_row():
    robot = load_robot('piper_dual')
    view = view_of(robot)
    assert view.camera_names == tuple(robot.cameras) and view.shape == (96, 384, 3)


RECORDINGS = (
    'damaged_mcap', 'missing_splits', 'rosbag2_fixtures', 'synthetic_all_types',
)  # fmt: skip


@pytest.mark.parametrize('name', RECORDINGS)
def test_recordings_of_others_end_in_reasons_and_never_in_a_traceback(repository, capsys, name):
    path = repository.parent / 'shared' / 'recordings' / name
    if not path.exists():
        pytest.skip(f'{path} is not here')
    code, out, err = run(capsys, path, '--json')
    bags = json.loads(out)['bags']
    assert code == 1 and not err and bags
    for bag in bags:
        assert bag['verdict'] == 'unusable' and bag['reasons']
        assert all(reason.strip() for reason in bag['reasons'])


def test_bags_in_a_folder_are_each_checked(tmp_path, capsys):
    first = record(tmp_path / 'all' / 'a', shift_ns=NOW, duration_s=1.0)
    shutil.copytree(first, tmp_path / 'all' / 'b')
    write_bag(tmp_path / 'all' / 'c', messages(Recording(duration_s=1.0, cameras=())))
    code, out, _ = run(capsys, tmp_path / 'all', '--json')
    verdicts = [bag['verdict'] for bag in json.loads(out)['bags']]
    assert code == 1 and verdicts == ['usable', 'usable', 'unusable']


def test_an_instruction_steers_no_terminal(tmp_path, capsys):
    path = record(tmp_path / 'bag', shift_ns=NOW, instruction='red \x1b[31m\nline')
    _, out, _ = run(capsys, path)
    assert '"red ?[31m?line"' in out and '\x1b' not in out


@pytest.mark.parametrize('marked', [True, False])
@pytest.mark.parametrize(
    ('stream', 'name'), [('left_wrist',) * 2, ('top',) * 2, ('joints', 'joint_states')]
)
def test_an_attempt_that_begins_late_is_partial_and_the_stream_is_named(
    tmp_path, stream, name, marked
):
    def keeps(found, ns):
        return found != stream or ns >= 2 * SECOND

    path = record(tmp_path / 'bag', keeps=keeps, marked=marked)
    found = check_bag(path, ROBOT, VIEW)
    (reason,) = found.reasons
    assert 'begins 1.0 s late' in reason and f"'{name}" in reason and 'clocks' not in reason
    assert found.verdict == 'partial' and found.episodes[0]['frames'] == 11


def test_the_start_of_an_episode_is_told_on_the_clock_that_aligns_it(tmp_path):
    def change(ns, topic, fields):
        return (ns - NOW if topic == '/joint_states' else ns), fields

    path = record(tmp_path / 'bag', change, NOW, marked=False)
    settings = ResamplingSettings(clock={'joint_states': 'receive'})
    (episode,) = check_bag(path, ROBOT, VIEW, settings).episodes
    assert episode['start_s'] == pytest.approx(0.0, abs=0.06)


@pytest.mark.parametrize(
    ('stamp', 'words'),
    [
        (lambda ns: ns, ['begins with the first image received', 'ends with the last image']),
        (lambda ns: 0, ['ends with the last image received before it']),
        (
            lambda ns: ns + NOW + YEARS,
            ['begins with the first image received', 'ends with the last image'],
        ),
        (lambda ns: ns + NOW, []),
    ],
    ids=['boot', 'zero', 'ahead', 'same'],
)
def test_markers_of_another_clock_are_taken_by_the_time_of_reception(tmp_path, stamp, words):
    def change(ns, topic, fields):
        return (stamp(ns) if topic == '/episode' else ns + NOW), fields

    found = check_bag(record(tmp_path / 'bag', change), ROBOT, VIEW)
    assert len(found.reasons) == len(words) and ('late' not in ' '.join(found.reasons))
    for reason, word in zip(found.reasons, words):
        assert 'its marker is not stamped by the clock of the images' in reason and word in reason
    (episode,) = found.episodes
    assert episode['frames'] >= 20 and episode['success'] is True


def test_what_follows_the_end_of_an_attempt_is_not_taken_by_markers_of_a_clock_ahead(tmp_path):
    content = [
        (ns + NOW if topic == '/episode' else ns, topic, kind, fields)
        for ns, topic, kind, fields in messages(Recording(duration_s=3.0))
    ]
    # The marker says END when half of it was received.
    content.insert(len(content) // 2, content.pop())
    (episode,) = check_bag(write_bag(tmp_path / 'bag', content), ROBOT, VIEW).episodes
    assert 12 <= episode['frames'] <= 16


@pytest.mark.parametrize(
    ('until_s', 'named'), [(1.0, True), (2.5, False), (9.0, False)], ids=['gone', 'short', 'good']
)
def test_an_encoder_that_freezes_for_good_is_named(tmp_path, until_s, named):
    stop = SECOND + round(until_s * SECOND)

    def change(ns, fields):
        fields['position'] = 0.05 + 0.1 * (fields['position'] - 0.05)
        fields['position'][0] = 0.1 * min(ns, stop) / SECOND

    path = record(tmp_path / 'bag', lambda n, t, f: joints(n, t, f, change), NOW, duration_s=4.0)
    reasons = ' '.join(check_bag(path, ROBOT, VIEW).reasons)
    assert named == ('left_waist repeats one value for the last 3.0 s' in reasons)
    assert named == ('frozen encoder' in reasons)


def test_a_joint_that_comes_to_rest_before_the_others_is_no_frozen_encoder(tmp_path):
    def change(ns, fields):
        left_s = max(0.0, 2.0 - ns / SECOND)
        fields['position'][0] = 0.3 - 0.3 * left_s**3

    path = record(tmp_path / 'bag', lambda n, t, f: joints(n, t, f, change), NOW, duration_s=4.0)
    assert 'frozen encoder' not in ' '.join(check_bag(path, ROBOT, VIEW).reasons)
