"""Training the inverse dynamics model: it learns, and a kill changes nothing."""

import idm_world
import numpy as np
import pytest
import torch

from eva_ros.errors import UserError
from eva_ros.idm.checkpoint import load_idm
from eva_ros.idm.data import fingertip_jacobians
from eva_ros.idm.evaluate import evaluate
from eva_ros.idm.evaluate import NearestFrames
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.train import train
from eva_ros.idm.train import training_loop
from eva_ros.idm.train import TrainSettings
from eva_ros.training.run_state import STATE


def settings(**changes):
    given = {'steps': 6, 'batch_clips': 4, 'warmup_steps': 2, 'learning_rate': 3e-3}
    return TrainSettings(**(given | changes))


@pytest.fixture(scope='module')
def recorded():
    return idm_world.episodes(12)


def test_trained_model_reads_held_out_episodes_better_than_their_mean(recorded, tmp_path):
    train(
        idm_world.config(), recorded, tmp_path, settings(steps=400, batch_clips=8),
        fingertips=idm_world.fingertips,
    )  # fmt: skip
    held_out = idm_world.episodes(4, first=100)
    model = load_idm(tmp_path, idm_world.ROBOT, idm_world.VIEW)
    figures = evaluate(model, held_out, idm_world.fingertips)
    error = np.mean([figure.joint_error for figure in figures])
    mean = np.concatenate([episode.joints for episode in recorded]).mean(0)
    naive = np.mean([np.abs(episode.joints - mean) for episode in held_out])
    assert error < 0.35 * naive
    assert np.isfinite([figure.fingertip_error for figure in figures]).all()
    assert np.isfinite([figure.noise_floor for figure in figures]).all()


def test_an_idm_is_compared_with_the_mean_pose_and_the_most_similar_training_frame(recorded):
    model = InverseDynamics(idm_world.config()).eval()
    mean = np.concatenate([episode.joints for episode in recorded]).mean(0)
    model.mean.copy_(torch.from_numpy(mean))
    known, other = recorded[0], idm_world.episode(100)
    seen, unseen = evaluate(
        model, [known, other], idm_world.fingertips, nearest=NearestFrames(recorded)
    )
    assert seen.nearest_frame_error == pytest.approx(0, abs=0.02)
    assert 0.02 < unseen.nearest_frame_error.mean() < unseen.mean_pose_error.mean()
    np.testing.assert_allclose(unseen.mean_pose_error, np.abs(other.joints - mean).mean(0), 1e-4)


def test_killed_training_ends_with_the_same_weights(recorded, tmp_path):
    whole = train(idm_world.config(), recorded, tmp_path / 'whole', settings())
    killed = training_loop(idm_world.config(), recorded, tmp_path / 'killed', settings())
    for _ in range(3):
        killed.run_step()
    killed.save()
    resumed = train(idm_world.config(), recorded, tmp_path / 'killed', settings())
    for name, weight in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], weight, rtol=0, atol=0)


def test_training_from_a_checkpoint_begins_with_its_weights_and_changes_them(recorded, tmp_path):
    train(idm_world.config(), recorded, tmp_path / 'first', settings())
    first = load_idm(tmp_path / 'first')
    start = load_idm(tmp_path / 'first')
    options = {'start': start}
    loop = training_loop(start.config, recorded, tmp_path / 'on', settings(steps=2), **options)
    for name, weight in first.state_dict().items():
        torch.testing.assert_close(loop.task.model.state_dict()[name], weight, rtol=0, atol=0)
    loop.run()
    changed = loop.task.model.state_dict()
    assert any(not torch.equal(weight, changed[name]) for name, weight in first.named_parameters())
    anew = training_loop(first.config, recorded, tmp_path / 'on', settings(steps=2))
    with pytest.raises(UserError, match='another start'):
        anew.resume()


def test_state_of_another_training_is_refused(recorded, tmp_path):
    train(idm_world.config(), recorded, tmp_path, settings())
    with pytest.raises(UserError, match='another settings'):
        train(idm_world.config(), recorded, tmp_path, settings(seed=1, steps=8))
    with pytest.raises(UserError, match='another clips'):
        train(idm_world.config(), recorded[:5], tmp_path, settings(steps=8))


def test_interrupted_write_leaves_the_old_state(recorded, tmp_path, monkeypatch):
    loop = training_loop(idm_world.config(), recorded, tmp_path, settings())
    loop.save()
    before = (tmp_path / STATE).read_bytes()
    loop.run_step()

    def fail(*_):
        raise OSError('disk full')

    monkeypatch.setattr('os.replace', fail)
    with pytest.raises(OSError, match='disk full'):
        loop.save()
    assert (tmp_path / STATE).read_bytes() == before


def test_fingertip_jacobian_is_that_of_the_kinematics():
    jacobians = fingertip_jacobians(idm_world.fingertips, np.random.rand(3, 6))
    assert jacobians.shape == (3, 2, 3, 6)
    np.testing.assert_allclose(jacobians[:, 1, 0], np.eye(6)[[3] * 3], atol=1e-6)


def test_episodes_shorter_than_a_clip_are_refused(tmp_path):
    with pytest.raises(UserError, match='has 5 frames'):
        train(idm_world.config(), [idm_world.episode(0, steps=4)], tmp_path, settings())
