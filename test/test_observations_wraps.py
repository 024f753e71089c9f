"""Labels are not made up across an encoder that wraps; the joint and the time are said."""

from episode_bags import messages
from episode_bags import Recording
from episode_bags import SECOND
from episode_bags import write_bag
import numpy as np
import pytest

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


def test_an_import_says_which_encoders_wrap_in_which_episodes(tmp_path):
    states = np.tile(ROBOT.home, (20, 1))
    jumps = states.copy()
    jumps[:, JOINT] = np.where(np.arange(20) < 12, 3.13, -3.13)
    episodes = [
        ImportedEpisode(index, 'reach', np.arange(20) / 10, values, None, {})
        for index, values in enumerate([states, jumps, jumps])
    ]
    names = tuple('gripper' if is_one else f'joint_{i}' for i, is_one in enumerate(GRIPPERS))
    data = DataSet(tmp_path / 'set', 'RoboTwin', 10.0, names, episodes)
    how = automatic_map(data, ROBOT)[0]
    findings = write_bags(data, tmp_path / 'bags', robot=ROBOT, found=how).findings
    name = 'left_forearm_roll wraps in episode 1 (at 1.20 s), 2 (at 1.20 s)'
    assert findings == [f'The encoder of {name}: training cuts it there.']


def test_a_gripper_does_not_wrap(tmp_path):
    path = turning(tmp_path / 'bag', SECOND + 1000 * MS, ROBOT.joint_names.index('left_gripper'))
    assert 'wraps' not in ' '.join(check_bag(path, ROBOT, VIEW).reasons)
