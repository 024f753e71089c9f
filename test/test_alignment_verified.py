"""Verified self-training: only what succeeded, and what cameras and joints agree on, counts."""

from types import SimpleNamespace

import idm_world
import numpy as np
import probe_world
import pytest
import torch

from eva_ros.alignment import verified
from eva_ros.alignment.prompts import find_prompts
from eva_ros.errors import UserError
from eva_ros.idm.model import JointEstimate

IDM = 'idm@0123456789ab'
LIFT = 1


class ReadingIdm:
    """Reads the joints off the columns, as exactly as a pixel's level allows."""

    config = SimpleNamespace(
        stride=1,
        stacked=False,
        rate_hz=probe_world.RATE_HZ,
        joint_names=idm_world.JOINTS,
        gripper_mask=idm_world.GRIPPERS,
    )

    def frame_features(self, frames):
        return probe_world.joints_in(frames[None])[0]

    def read_features(self, windows):
        return JointEstimate(windows[:, 1], torch.full_like(windows[:, 1], 0.01))


def attempt(number, **changes):
    made = probe_world.episode(number)
    made.source, made.number = f'bag {number}', 0
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def slipped(number, by_rad):
    """Return an attempt whose encoder of one joint says something else than the cameras saw."""
    made = attempt(number)
    made.joints = made.joints + np.eye(6)[LIFT] * by_rad
    return made


def motions(episodes):
    return find_prompts(episodes, probe_world.STEPS, probe_world.RATE_HZ)


@pytest.fixture(scope='module')
def tolerance():
    recordings = motions([probe_world.episode(i) for i in range(100, 140)])
    return verified.measure_tolerance(ReadingIdm(), recordings, IDM)


def verify(attempts, tolerance):
    return verified.verify(ReadingIdm(), attempts, probe_world.STEPS, tolerance)


def test_nine_of_ten_recorded_parts_are_within_the_tolerance(tolerance):
    recordings = motions([probe_world.episode(i) for i in range(100, 140)])
    within = [tolerance.error(ReadingIdm(), p)[0] <= tolerance.limit for p in recordings]
    assert np.mean(within) == pytest.approx(0.9, abs=0.03)


def test_a_part_that_ends_with_the_attempt_in_mid_motion_does_not_teach_to_stop(tolerance):
    whole, cut = attempt(0), attempt(1)
    for name in ('frames', 'joints', 'stamps_ns'):
        if hasattr(cut, name):
            setattr(cut, name, getattr(cut, name)[: probe_world.STEPS // 2])
    parts = {part.prompt.episode: part for part in verify([whole, cut], tolerance)}
    assert parts[1].rejected == verified.CUT_OFF
    assert parts[0].rejected in ('', verified.DISAGREES)


def test_a_part_that_ends_at_rest_counts_however_short_it_is():
    short = attempt(0)
    steps = probe_world.STEPS - 3
    short.frames, short.joints = short.frames[:steps].copy(), short.joints[:steps].copy()
    short.joints[-2:], short.frames[-2:] = short.joints[-3], short.frames[-3]
    assert all(prompt.whole for prompt in motions([short]))


def test_a_part_counts_where_the_task_succeeded_and_cameras_agree_with_joints(tolerance):
    attempts = [
        *(attempt(i) for i in range(20)),
        *(slipped(i, 0.05) for i in range(20, 23)),
        *(attempt(i, success=False) for i in range(23, 27)),
        *(attempt(i, success=None) for i in range(27, 29)),
        attempt(29, instruction=' '),
    ]
    parts = verify(attempts, tolerance)
    told = verified.counts(parts, attempts)['left']
    assert (told['attempts'], told['successes'], told['parts']) == (30, 24, 30)
    assert told['rejected'].pop(verified.DISAGREES) in (3, 4, 5, 6, 7)
    assert told['rejected'] == {
        verified.FAILED: 4, verified.NOT_JUDGED: 2, verified.NOT_TOLD: 1,
    }  # fmt: skip
    assert 14 <= told['verified'] <= 20
    planted = [part for part in parts if 20 <= part.prompt.episode < 23]
    assert {part.rejected for part in planted} == {verified.DISAGREES}
    assert {part.joint for part in planted} == {idm_world.JOINTS[LIFT]}
    assert all(part.prompt.success for part in parts if not part.rejected)


def test_a_disagreement_is_found_in_the_part_that_has_it(tolerance):
    whole, twice = attempt(2), attempt(2)
    rest = np.repeat(whole.joints[-1:], 12, axis=0)
    back = whole.joints[::-1]
    twice.joints = np.concatenate([whole.joints, rest, back])
    seen = twice.joints.copy()
    seen[-8:, LIFT] += 0.05
    twice.frames = probe_world.draw(seen)
    first, *later = verify([twice], tolerance)
    assert first.rejected == ''
    assert later and {part.rejected for part in later} == {verified.DISAGREES}


def test_the_tolerance_is_frozen_and_belongs_to_its_model(tolerance, tmp_path):
    path = tmp_path / 'kept' / 'tolerance.json'
    tolerance.save(path)
    assert verified.load_tolerance(path, IDM) == tolerance
    with pytest.raises(UserError, match=rf'was measured with .* {IDM}, not with other@1'):
        verified.load_tolerance(path, 'other@1')
    for text in ('', '{}', '[1]', '{"limit": NaN}'):
        path.write_text(text)
        with pytest.raises(UserError, match='holds no tolerance'):
            verified.load_tolerance(path, IDM)


def test_too_few_recordings_give_no_tolerance():
    few = motions([probe_world.episode(i) for i in range(4)])
    with pytest.raises(UserError, match=r'hold 4 motions from rest, .* needs 10 at least'):
        verified.measure_tolerance(ReadingIdm(), few, IDM)


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'instruction': ''}, 'None of the 3 attempts has an instruction'),
        ({'success': None}, 'None of the 3 attempts has an outcome'),
    ],
)
def test_attempts_that_lack_what_is_needed_are_refused_in_a_sentence(tolerance, changes, words):
    with pytest.raises(UserError, match=words):
        verify([attempt(i, **changes) for i in range(3)], tolerance)
