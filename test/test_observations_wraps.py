"""Labels are not made up across an encoder that wraps; the joint and the time are said."""

from episode_bags import messages
from episode_bags import Recording
from episode_bags import SECOND
from episode_bags import write_bag
import numpy as np
import pytest
from robot_files import robot_content
from robot_files import write_robot

from eva_ros.inspection.check import check_bag
from eva_ros.interchange.bag_import import write_bags
from eva_ros.interchange.import_map import automatic_map
from eva_ros.interchange.imported import DataSet
from eva_ros.interchange.imported import ImportedEpisode
from eva_ros.observations.ingest import NotReady
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.views import load_view
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
MS = 1_000_000
JOINT = ROBOT.joint_names.index('left_forearm_roll')
GRIPPERS = ROBOT.gripper_mask
NAMES, HOME = ROBOT.to_joint_state(ROBOT.home)


def turning(path, at_ns, joint=JOINT, **changes):
    """Write a bag in which a joint nears pi, and reads a full turn less from an instant on."""
    content = []
    for stamp_ns, topic, kind, fields in messages(Recording(**{'duration_s': 2.0, **changes})):
        if topic == '/joint_states':
            turn = 2 * np.pi if stamp_ns >= at_ns else 0.0
            fields['position'][joint] = np.pi + 0.2 * (stamp_ns - at_ns) * 1e-9 - turn
        content.append((stamp_ns, topic, kind, fields))
    return write_bag(path, content)


@pytest.mark.parametrize('at_ms', [506, 550], ids=['around a picture', 'between two'])
def test_an_episode_is_cut_where_an_encoder_wraps(tmp_path, load, at_ms):
    # Pictures are taken 4 ms behind a joint state, every 50 ms.
    late = {'jitter': lambda camera, index: 0.004}
    path = turning(tmp_path / 'bag', SECOND + at_ms * MS, **late)
    pieces, report = load(path)
    assert len(pieces) == 2
    for piece in pieces:
        labels = piece.joints[:, JOINT]
        assert np.abs(np.diff(labels)).max() < 0.05
        np.testing.assert_allclose(np.abs(labels), np.pi, atol=0.6)
        np.testing.assert_allclose(piece.observed_joints[:, JOINT], labels, atol=0.05)
    assert 'encoder of left_forearm_roll wraps (-6.28 rad' in report and 'cut at 0.' in report


def test_the_check_says_a_wrap_and_neither_a_speed_nor_a_frozen_encoder(tmp_path):
    found = check_bag(turning(tmp_path / 'bag', SECOND + 1000 * MS), ROBOT, VIEW)
    assert found.verdict == 'partial' and len(found.episodes) == 2
    said = ' '.join(found.reasons)
    assert 'encoder of left_forearm_roll wraps (1 times, first at 1.00 s' in said
    assert 'faster' not in said and 'frozen' not in said
    assert 'left_gripper' not in said and 'right_' not in said


def percent_robot(folder):
    """Return a robot of an unknown unit, with the limits of one in rad."""
    content = robot_content()
    for arm in content['arms'].values():
        arm['state_unit'] = 'unknown'
    return load_robot(write_robot(folder, content))


def percent(path):
    """Write a bag of joints in percent, which go a turn's number of them between two states.

    One repeats a value and goes on at once, and one flickers by an encoder's step.
    """
    content = []
    for stamp_ns, topic, kind, fields in messages(Recording(duration_s=2.0)):
        if topic == '/joint_states':
            seconds = (stamp_ns - SECOND) * 1e-9
            fields['position'][JOINT] = -80.0 + 6.3 * round(seconds / 0.2)
            fields['position'][JOINT + 1] = 60.0 * min(max(seconds - 0.5, 0.0), 1.0)
            fields['position'][JOINT - 1] = 40.0 + 0.2 * (round(seconds * 50) % 2)
        content.append((stamp_ns, topic, kind, fields))
    return write_bag(path, content)


def test_joints_of_an_unknown_unit_are_not_held_against_rad(tmp_path):
    robot, path = percent_robot(tmp_path), percent(tmp_path / 'bag')
    found = check_bag(path, robot, VIEW)
    assert found.verdict == 'usable' and len(found.episodes) == 1, found.reasons
    assert len(found.notes) == 2 and 'Left arm: the unit of its joint states' in found.notes[0]
    # In rad they do wrap, leap and leave their limits.
    said = ' '.join(check_bag(path, ROBOT, VIEW).reasons)
    assert 'wraps' in said and 'outside its limits' in said


def test_episodes_kept_without_a_unit_are_made_anew_once_there_is_one(tmp_path, load):
    path, robot = turning(tmp_path / 'bag', SECOND + 550 * MS), percent_robot(tmp_path)
    assert len(load(path, robot=robot)[0]) == 1
    assert len(load(path)[0]) == 2


def test_an_import_finds_no_wraps_in_joints_of_an_unknown_unit(tmp_path):
    robot = percent_robot(tmp_path)
    data = jumping(tmp_path)
    how = automatic_map(data, robot)[0]
    assert write_bags(data, tmp_path / 'bags', robot=robot, found=how).findings == []


def feed(builder, steps):
    """Give a builder joint states 20 ms apart, and pictures of all cameras."""
    picture = np.zeros((240, 320, 3), np.uint8)
    for index, value in enumerate(steps):
        positions = HOME.copy()
        positions[JOINT] = value
        builder.add_joint_state(SECOND + index * 20 * MS, NAMES, positions)
    return picture


@pytest.mark.parametrize(
    ('steps', 'wraps'),
    [
        ([3.1, -3.1], True),
        ([-3.1, 3.1], True),
        ([3.1, 3.3], False),
        ([0.0, 3.1], False),
        ([3.1, -3.9], False),
    ],
)
def test_a_jump_of_about_a_full_turn_alone_is_a_wrap(steps, wraps):
    builder = ObservationBuilder(ROBOT, VIEW)
    feed(builder, steps)
    middle_ns = SECOND + 10 * MS
    if not wraps:
        np.testing.assert_allclose(builder.joints_between(middle_ns)[JOINT], np.mean(steps))
        return
    with pytest.raises(NotReady, match=r'encoder of left_forearm_roll wraps \([+-]6\.20 rad'):
        builder.joints_between(middle_ns)
    np.testing.assert_allclose(builder.joints_between(SECOND)[JOINT], steps[0])


def jumping(folder):
    """Return a data set in which an encoder wraps in two of three episodes."""
    states = np.tile(ROBOT.home, (20, 1))
    jumps = states.copy()
    jumps[:, JOINT] = np.where(np.arange(20) < 12, 3.13, -3.13)
    episodes = [
        ImportedEpisode(index, 'reach', np.arange(20) / 10, values, None, {})
        for index, values in enumerate([states, jumps, jumps])
    ]
    names = tuple('gripper' if is_one else f'joint_{i}' for i, is_one in enumerate(GRIPPERS))
    return DataSet(folder / 'set', 'RoboTwin', 10.0, names, episodes)


def test_an_import_says_which_encoders_wrap_in_which_episodes(tmp_path):
    data = jumping(tmp_path)
    how = automatic_map(data, ROBOT)[0]
    findings = write_bags(data, tmp_path / 'bags', robot=ROBOT, found=how).findings
    name = 'left_forearm_roll wraps in episode 1 (at 1.20 s), 2 (at 1.20 s)'
    assert findings == [f'The encoder of {name}: training cuts it there.']


def test_a_gripper_does_not_wrap(tmp_path):
    path = turning(tmp_path / 'bag', SECOND + 1000 * MS, ROBOT.joint_names.index('left_gripper'))
    assert 'wraps' not in ' '.join(check_bag(path, ROBOT, VIEW).reasons)
