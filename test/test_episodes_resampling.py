"""Attempts begin, are cut and are counted where the recording says so and nowhere else."""

import dataclasses

from episode_bags import messages
from episode_bags import record
from episode_bags import Recording
from episode_bags import SECOND
from episode_bags import write_bag
import numpy as np
import pytest

from eva_ros.episodes.cache import Cache
from eva_ros.episodes.cache import world_of
from eva_ros.episodes.dataset import Episode
from eva_ros.episodes.dataset import split_episodes
from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.views import load_view
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
MS = 1_000_000
EPISODE = 'eva_msgs/msg/Episode'


def silent(stream, *spans):
    """Return a `keeps` that loses a stream between instants, s after the start."""

    def keeps(name, stamp_ns):
        after_s = (stamp_ns - SECOND) * 1e-9
        return name != stream or not any(since < after_s < until for since, until in spans)

    return keeps


@pytest.mark.parametrize('until_s', [6.0, 9.0], ids=['comes back', 'never again'])
def test_a_stream_that_is_silent_for_long_costs_nothing_of_what_was_before(
    tmp_path, load, until_s
):
    path = record(tmp_path / 'bag', duration_s=8.0, keeps=silent('left_wrist', (1.0, until_s)))
    pieces, _ = load(path)
    assert (pieces[0].stamps_ns[[0, -1]] == [SECOND, SECOND + 1100 * MS]).all()
    assert len(pieces[0]) == 12 and len(pieces) == (2 if until_s < 8 else 1)


def numbers(load, path, gap_s):
    return [episode.number for episode in load(path, settings=ResamplingSettings(gap_s=gap_s))[0]]


def test_only_gaps_as_long_as_stated_count_and_each_counts_once(tmp_path, load):
    # From the last tick before a gap (0.1 s into it) to the first one behind it.
    keeps = silent('top', (1.0, 2.1), (4.0, 5.5))
    path = record(tmp_path / 'bag', duration_s=7.0, marked=False, keeps=keeps)
    assert numbers(load, path, 1.01) == [0, 0, 1]
    assert numbers(load, path, 1.0) == [0, 1, 2]
    assert numbers(load, path, 0.05) == [0, 1, 2]


def test_a_gap_within_an_attempt_of_a_stated_task_begins_no_other(tmp_path, load):
    path = record(tmp_path / 'bag', duration_s=5.0, keeps=silent('top', (1.0, 3.0)))
    assert numbers(load, path, 1.0) == [0, 0]


def test_images_from_before_the_start_marker_belong_to_no_attempt(tmp_path, load):
    content = messages(Recording(duration_s=3.0))
    # The marker is received first, and the images that were taken before it are late.
    start = (2 * SECOND, *content[0][1:])
    (episode,), report = load(write_bag(tmp_path / 'bag', [start, *content[1:]]))
    assert episode.stamps_ns[0] == 2 * SECOND and len(episode) == 21
    assert 'late' not in report


def test_what_comes_behind_the_end_marker_on_a_clock_set_back_belongs_to_no_attempt(
    tmp_path, load
):
    first = [(stamp + 100 * SECOND, *rest) for stamp, *rest in messages(Recording())]
    later = messages(Recording(marked=False))
    (episode,), _ = load(write_bag(tmp_path / 'bag', first + later))
    # The last 0.25 s were still open to late messages when the clock was set back.
    assert episode.stamps_ns[0] == 101 * SECOND and 28 <= len(episode) <= 31


def test_behind_a_clock_set_back_an_attempt_has_ticks_of_its_own_and_is_not_late(tmp_path, load):
    first = messages(Recording(duration_s=5.0, marked=False))
    later = messages(Recording(duration_s=5.0, marked=False))
    # Set back by 2 s; the images begin between the old ticks.
    later = [(stamp + 3033 * MS, *rest) for stamp, *rest in later]
    (one, other), report = load(write_bag(tmp_path / 'bag', first + later))
    assert one.stamps_ns[0] == SECOND and other.stamps_ns[0] == SECOND + 3033 * MS
    assert len(other) == 51 and 'late' not in report


def test_streams_that_begin_late_behind_a_clock_set_back_are_named(tmp_path, load):
    first = messages(Recording(duration_s=3.0, marked=False))
    later = messages(Recording(duration_s=3.0, marked=False, keeps=silent('top', (-1.0, 1.0))))
    first = [(stamp + 100 * SECOND, *rest) for stamp, *rest in first]
    _, report = load(write_bag(tmp_path / 'bag', first + later))
    assert 'begins 1.0 s late' in report


def test_an_image_stream_that_jumps_back_takes_all_that_was_known_with_it():
    said = []
    builder = ObservationBuilder(ROBOT, VIEW, on_clock_jump=said.append)
    for camera in VIEW.camera_names:
        builder.add_image(camera, 9 * SECOND, b'')
    builder.add_joint_state(9 * SECOND, *ROBOT.to_joint_state(ROBOT.home))
    assert len(builder.newest()) == 4
    builder.add_image('top', SECOND, b'')
    assert builder.newest() == {'top': SECOND}
    assert len(said) == 1 and "'top' jumped back" in said[0]


def changed_arm(**changes):
    left = dataclasses.replace(ROBOT.arms['left'], **changes)
    return dataclasses.replace(ROBOT, arms={**ROBOT.arms, 'left': left})


def changed_camera(**changes):
    top = dataclasses.replace(ROBOT.cameras['top'], **changes)
    return dataclasses.replace(ROBOT, cameras={**ROBOT.cameras, 'top': top})


GRIPPER = ROBOT.arms['left'].gripper
OTHER_ROBOTS = {
    'unit': changed_arm(state_unit='deg'),
    'clock': changed_arm(stamp_source='receive'),
    'joints': changed_arm(joints=ROBOT.arms['left'].joints[::-1]),
    'joint topic': changed_arm(state_topic='left/joint_states'),
    'closed': changed_arm(gripper=dataclasses.replace(GRIPPER, closed=0.5)),
    'open': changed_arm(gripper=dataclasses.replace(GRIPPER, open=0.9)),
    'gripper': changed_arm(gripper=dataclasses.replace(GRIPPER, controller_joint='other')),
    'camera topic': changed_camera(topic='other/image_raw'),
    'value range': changed_camera(value_range=(100.0, 2000.0)),
}


@pytest.mark.parametrize('what', OTHER_ROBOTS)
def test_what_was_cached_of_a_robot_is_not_read_for_one_that_differs(tmp_path, what):
    path = record(tmp_path / 'bag', duration_s=0.5)
    Cache(tmp_path / 'cache', ROBOT, VIEW).build(path)
    assert Cache(tmp_path / 'cache', ROBOT, VIEW).read(path)
    assert Cache(tmp_path / 'cache', OTHER_ROBOTS[what], VIEW).read(path) is None


def test_the_values_that_a_range_shows_black_and_white_are_part_of_the_world():
    worlds = [world_of(changed_camera(value_range=(0.0, high)), VIEW) for high in (1e3, 2e3)]
    assert worlds[0] != worlds[1] and world_of(ROBOT, VIEW) not in worlds


def attempts(count):
    """Return so many attempts of one task."""
    empty = np.zeros(0)
    about = {'instruction': 'a', 'task': 'a', 'success': None, 'number': 0}
    arrays = ('frames', 'stamps_ns', 'joints', 'ticks_ns', 'image_stamps_ns', 'observed_joints')
    fields = {**about, **dict.fromkeys((*arrays, 'speed'), empty)}
    return [Episode(source=f'bag_{index}', **fields) for index in range(count)]


@pytest.mark.parametrize(
    ('count', 'share', 'wanted'),
    [
        (8, 0.2, 2),  # 1.6, to the nearest
        (7, 0.2, 1),  # 1.4
        (3, 0.1, 1),  # 0.3, but at least one
        (3, 1.0, 2),  # all, but one is left to train on
        (1, 0.9, 1),  # 0.9: where there is one, it goes where most of it belongs
        (1, 0.2, 0),
        (5, 0.0, 0),
    ],
)
def test_a_share_of_the_attempts_is_rounded_and_neither_side_is_left_empty(count, share, wanted):
    training, held_out = split_episodes(attempts(count), share)
    assert (len(training), len(held_out)) == (count - wanted, wanted)
