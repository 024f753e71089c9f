"""Pictures that repeat the stamp before them are counted, and no labels where they are many."""

from episode_bags import messages
from episode_bags import Recording
from episode_bags import write_bag
import pytest

from eva_ros.episodes.settings import ResamplingSettings
from eva_ros.inspection.check import check_bag
from eva_ros.observations.views import load_view
from eva_ros.robot.spec import load_robot

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
TOP = '/top/image_raw/compressed'


def repeating(path, is_repeated, before=(), **changes):
    """Write a bag in which pictures of the top camera have the stamp of the one before them."""
    content, index, last = list(before), 0, 0
    for stamp_ns, topic, kind, fields in messages(Recording(**{'duration_s': 3.0, **changes})):
        if topic == TOP:
            stamp_ns = last if index and is_repeated(index) else stamp_ns
            index, last = index + 1, stamp_ns
        content.append((stamp_ns, topic, kind, fields))
    return write_bag(path, content)


@pytest.mark.parametrize(
    ('every', 'count', 'verdict'),
    [(2, 30, 'unusable'), (8, 7, 'unusable'), (10, 6, 'partial'), (60, 1, 'partial')],
)
def test_repeated_stamps_are_counted_and_a_tenth_of_them_is_the_most(
    tmp_path, load, every, count, verdict
):
    path = repeating(tmp_path / 'bag', lambda index: index % every == 0)
    found = check_bag(path, ROBOT, VIEW)
    said = f'{count} of 61 pictures repeat the stamp before them; up to 10% may'
    assert f"On 'top/image_raw/compressed', {said}" in ' '.join(found.reasons)
    assert found.verdict == verdict
    # Training gets what the check says.
    pieces = load(path)[0] if verdict == 'partial' else []
    assert bool(pieces) == bool(found.episodes)
    if verdict == 'unusable':
        reason = f"ttempt 0 is left out: of camera 'top', {said}"
        assert reason in ' '.join(found.reasons)


def test_an_attempt_is_judged_by_its_own_pictures(tmp_path, load):
    """The stamps stand still behind the END marker: the attempt before it is whole."""
    content = messages(Recording(duration_s=2.0))
    late = messages(Recording(duration_s=4.0, marked=False))
    frozen = [
        (content[-1][0] if topic == TOP else stamp_ns, topic, kind, fields)
        for stamp_ns, topic, kind, fields in late
        if stamp_ns > content[-1][0]
    ]
    path = write_bag(tmp_path / 'bag', [*content, *frozen])
    assert sum(map(len, load(path)[0])) >= 20
    found = check_bag(path, ROBOT, VIEW)
    assert found.verdict == 'partial' and 'repeat the stamp' in ' '.join(found.reasons)


def test_joint_states_of_one_instant_may_come_in_parts(tmp_path):
    content = []
    for stamp_ns, topic, kind, fields in messages(Recording(duration_s=2.0)):
        if topic == '/joint_states':
            for part in (slice(0, 7), slice(7, 14)):
                half = {'name': fields['name'][part], 'position': fields['position'][part]}
                content.append((stamp_ns, topic, kind, {**fields, **half}))
        else:
            content.append((stamp_ns, topic, kind, fields))
    found = check_bag(write_bag(tmp_path / 'bag', content), ROBOT, VIEW)
    assert 'repeat the stamp' not in ' '.join(found.reasons) and found.episodes


def test_stamps_of_reception_are_not_said_to_repeat(tmp_path):
    streams = [*VIEW.camera_names, *ROBOT.joint_state_topics]
    settings = ResamplingSettings(clock=dict.fromkeys(streams, 'receive'), max_age_s={'top': 1.0})
    path = repeating(tmp_path / 'bag', lambda index: index % 2, marked=False)
    assert 'repeat' not in ' '.join(check_bag(path, ROBOT, VIEW, settings).reasons)
