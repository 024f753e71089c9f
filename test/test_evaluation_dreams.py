"""`eva world-model evaluate`: figures of dreams, baselines, videos and a contact sheet."""

from dataclasses import replace
import re
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch

from eva_ros.evaluation import dreams
from eva_ros.evaluation.dream_motion import DreamMotion
from eva_ros.evaluation.dream_sheet import DreamSheet
from eva_ros.evaluation.held_out import NearestClips
from eva_ros.idm.config import IdmConfig
from eva_ros.idm.reading import Reading
from eva_ros.robot.spec import load_robot

RATE_HZ, FRAMES = 10.0, 17
ROBOT = replace(load_robot('aloha_sim'), urdf=None)
SIZE = (47, 33)


def drawn(place):
    """Return a frame with a bright square whose column is a place, 0 to 1."""
    frame = np.full((*SIZE, 3), 60, np.uint8)
    column = round(place * (SIZE[1] - 9))
    frame[16:24, column : column + 8] = 220
    return frame


def episode(number, shift=0.0):
    """Return an episode in which the left waist and a square move, from rest to rest."""
    steps = np.clip((np.arange(24) - 2) / 14, 0, 1)
    joints = np.zeros((24, 14))
    joints[:, 0] = shift + 0.5 * steps
    frames = np.stack([drawn(value) for value in joints[:, 0]])
    return SimpleNamespace(
        frames=frames, joints=joints, instruction='move', task='move',
        source=f'bag {number}', number=0,
    )  # fmt: skip


class Model:
    """Dreams what a function makes of the true clip."""

    settings = SimpleNamespace(frames=FRAMES, rate_hz=RATE_HZ, steps=1, history=0)

    def __init__(self, episodes, change):
        self._clips = {e.frames[0].tobytes(): e for e in episodes}
        self._change = change

    def dream(self, view, instruction, *, seed, steps, before):
        joints = self._clips[view.tobytes()].joints
        start = int(np.flatnonzero(np.diff(joints[:, 0]) > 0)[0]) - 1
        frames = [drawn(value) for value in joints[start : start + FRAMES, 0]]
        return SimpleNamespace(frames=np.stack(self._change(frames)))


def foreseen(frames):
    return frames


def still(frames):
    return frames[:1] * FRAMES


def judged(change, *, episodes=None, training=(), keep=lambda clip: None):
    episodes = episodes or [episode(0), episode(1, 0.3)]
    return dreams.judge(
        Model(episodes, change), episodes, ROBOT, None, count=2, seed=0, training=training,
        keep=keep,
    )  # fmt: skip


def test_a_dream_that_stands_still_is_as_good_as_the_baseline_and_one_that_foresees_is_alike():
    held = judged(still)
    assert held['gain_over_still_db']['mean'] == 0
    assert held['ssim']['mean'] == held['still_ssim']['mean'] < 1
    seen = judged(foreseen)
    assert seen['ssim']['mean'] == pytest.approx(1) == seen['ms_ssim']['mean']


def test_the_nearest_clip_is_of_another_attempt_with_the_nearest_first_view():
    near, far = episode(2, 0.25), episode(3, 0.0)
    held_out = episode(1, 0.3)
    found = NearestClips(Model([], foreseen), [far, near, held_out])
    frames = found.find(held_out, held_out.frames[0])
    np.testing.assert_array_equal(frames[0], near.frames[0])
    alone = NearestClips(Model([], foreseen), [held_out])
    assert alone.find(held_out, held_out.frames[0]) is None


def test_the_nearest_clip_is_looked_up_in_the_training_bags_if_they_are_named():
    held_out = [episode(1, 0.3)]
    alone = judged(still, episodes=held_out)
    assert alone['nearest_clip_psnr_moving'] is None
    assert 'nearest_clip_psnr_moving not measured' in re.sub(' +', ' ', dreams.table(alone))
    twin = episode(7, 0.3)
    twin.frames = twin.frames.copy()
    twin.frames[:, :2] += 10  # not where anything moves
    with_twin = judged(still, episodes=held_out, training=[twin])
    assert with_twin['nearest_clip_of'] == 'training bags'
    assert with_twin['nearest_clip_ssim']['mean'] > with_twin['still_ssim']['mean']


def test_without_an_idm_the_motion_is_unknown_and_said_to_be():
    figures = judged(foreseen)
    assert figures['motion_ratio'] is None and figures['instructed_arm_fraction'] is None
    assert 'needs --idm' in dreams.table(figures)


class Idm:
    """Reads the place of the square as the waist of one arm."""

    def __init__(self, column, robot=ROBOT):
        self.config = IdmConfig.of(robot, SimpleNamespace(
            name='v', height=SIZE[0], width=SIZE[1], rate_hz=RATE_HZ, cameras=()
        ))  # fmt: skip
        self.column = column


@pytest.fixture
def reading(monkeypatch):
    """Read dreams by the column of the square."""

    def read(idm, frames):
        columns = np.array([np.flatnonzero(frame[20, :, 0] > 150)[0] for frame in frames])
        positions = torch.zeros(len(frames), len(idm.config.joint_names))
        positions[:, idm.column] = torch.tensor(columns / (SIZE[1] - 9))
        grippers = torch.tensor(idm.config.gripper_mask)
        return Reading(positions, torch.zeros_like(positions), 1 / RATE_HZ, grippers)

    monkeypatch.setattr('eva_ros.evaluation.dream_motion.read_rollout', read)


@pytest.mark.parametrize(('column', 'instructed'), [(0, 1.0), (7, 0.0)])
def test_the_instructed_arm_is_the_one_that_moved_in_the_recording(reading, column, instructed):
    one = episode(0)
    figures = DreamMotion(Idm(column), ROBOT).figures(
        one.frames[1:18], one.frames[1:18], one.joints[1:18]
    )
    assert figures['instructed arm'] == instructed


def test_the_motion_ratio_is_that_of_the_motion_in_dreams_to_the_recorded_one(reading):
    episodes = [episode(0), episode(1, 0.3)]

    def half_as_far(frames):
        return [frames[k // 2] for k in range(len(frames))]

    for change, low, high in ((foreseen, 0.85, 1.15), (still, 0, 0.05), (half_as_far, 0.3, 0.7)):
        figures = dreams.judge(
            Model(episodes, change), episodes, ROBOT, Idm(0), count=2, seed=0
        )  # fmt: skip
        ratio = figures['motion_ratio']
        assert low <= ratio['mean'] <= high
        assert ratio['interval'][0] <= ratio['mean'] <= ratio['interval'][1]
        assert set(figures['instructed_arm_fraction']) == {'mean', 'interval'}


def test_dreams_of_a_robot_without_acceleration_limits_have_an_executability(reading):
    """As `eva align evaluate` has it: what the robot YAML does not limit never binds."""
    robot, one = load_robot('so101_dual'), episode(0)
    frames, joints = one.frames[1:18], one.joints[1:18, : len(robot.joint_names)]
    smooth = DreamMotion(Idm(0, robot), robot).figures(frames, frames, joints)
    jumping = frames[[*range(8), 0, 16, *range(10, 17)]]
    rough = DreamMotion(Idm(0, robot), robot).figures(jumping, frames, joints)
    assert 0 < rough['executability'] < smooth['executability'] <= 10


def test_every_clip_has_a_video_of_both_and_a_place_on_the_contact_sheet(tmp_path):
    sheet = DreamSheet(tmp_path / 'new' / 'videos')
    result = judged(still, keep=sheet.add)
    page = sheet.write(result).read_text()
    for name in ('clip-000.mp4', 'clip-001.mp4'):
        assert f'href="{name}"' in page
        with av.open(str(tmp_path / 'new' / 'videos' / name)) as film:
            pictures = [frame.to_ndarray(format='rgb24') for frame in film.decode(video=0)]
            assert float(film.streams.video[0].average_rate) == RATE_HZ
        assert len(pictures) == FRAMES
        recorded, dreamed = np.split(pictures[-1][:, :66].astype(int), 2, axis=1)
        assert np.abs(recorded[16:24].max(0) - dreamed[16:24].max(0)).max() > 100
    assert page.count('<img') == 2 * 2 * 6
    assert 'psnr_moving_db' in page and '"http' not in page
