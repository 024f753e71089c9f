"""Best of N: one batch of dreams, of which the best is kept, and what is refused."""

import dataclasses

import numpy as np
import pytest
from small_models import INSTRUCTION
from small_models import lively_world_model
from small_models import ROBOT
from small_models import small_critic
from small_models import small_idm
from small_models import VIEW
import torch

from eva_ros.alignment.best_of import BestOf
from eva_ros.alignment.best_of import by_consensus
from eva_ros.alignment.best_of import by_executability
from eva_ros.alignment.best_of import candidate_seeds
from eva_ros.alignment.best_of import load_score
from eva_ros.alignment.critic import load_critic
from eva_ros.alignment.reward import executability
from eva_ros.alignment.reward import MotionLimits
from eva_ros.errors import UserError
from eva_ros.idm.config import IdmConfig
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_rollout
from eva_ros.observations.views import load_view
from eva_ros.training.frames import frames_to_tensor
from eva_ros.world_model.checkpoint import load_world_model

SEEDS = candidate_seeds(7, 4)


@pytest.fixture(scope='module')
def model(tmp_path_factory):
    return load_world_model(lively_world_model(tmp_path_factory.mktemp('models') / 'm'))


@pytest.fixture(scope='module')
def observed():
    size = (VIEW.height, VIEW.width, 3)
    return np.random.default_rng(3).integers(0, 255, size, dtype=np.uint8)


@pytest.fixture(scope='module')
def dreams(model, observed):
    """Return what each seed dreams alone [4, T, H, W, 3]."""
    return np.stack([model.dream(observed, INSTRUCTION, seed=s).frames for s in SEEDS])


@pytest.fixture(scope='module')
def idm():
    """Return an inverse dynamics model that reads something else from each dream."""
    torch.manual_seed(1)
    shape = {'widths': (8, 16), 'keypoints': 4, 'values': 2, 'hidden': 16}
    model = InverseDynamics(IdmConfig.of(ROBOT, VIEW, **shape))
    return model.eval().requires_grad_(requires_grad=False)


def paths(idm, dreams):
    return [read_rollout(idm, frames).positions.double() for frames in dreams]


def kept(model, observed, score):
    """Return the best of four dreams."""
    return BestOf(model, score, 4).dream(observed, INSTRUCTION, seed=SEEDS[0])


def test_a_batch_dreams_bit_by_bit_what_each_seed_dreams_alone(model, observed, dreams):
    assert SEEDS[0] == 7 and len({frames.tobytes() for frames in dreams}) == 4
    together = model.candidates(observed, INSTRUCTION, SEEDS)
    assert [rollout.seed for rollout in together] == SEEDS
    np.testing.assert_array_equal([rollout.frames for rollout in together], dreams)


def test_the_highest_score_is_kept_and_its_seed_dreams_it_again(model, observed, dreams):
    for best in range(4):
        scores = torch.arange(4.0).roll(best + 1)
        rollout = kept(model, observed, lambda frames, text, s=scores: s)
        assert rollout.seed == SEEDS[best]
        np.testing.assert_array_equal(rollout.frames, dreams[best])


def test_of_equal_scores_the_first_candidate_is_kept(model, observed):
    assert kept(model, observed, lambda frames, text: torch.zeros(4)).seed == SEEDS[0]


def test_consensus_keeps_the_path_that_is_closest_to_all_others(model, observed, dreams, idm):
    read = paths(idm, dreams)
    far = [sum(float((a - b).square().sum().sqrt()) for b in read) for a in read]
    assert kept(model, observed, by_consensus(idm)).seed == SEEDS[int(np.argmin(far))]
    lone = np.stack([dreams[0], dreams[1], dreams[1]])
    assert by_consensus(idm)(frames_to_tensor(lone), INSTRUCTION).argmax() != 0


def test_executability_keeps_the_path_with_the_score_that_the_decoder_publishes(
    model, observed, dreams, idm
):
    limits = MotionLimits.of(ROBOT.limits, ROBOT.gripper_mask)
    scores = [float(executability(p, 0.1, limits).score) for p in paths(idm, dreams)]
    chosen = kept(model, observed, by_executability(idm, limits))
    assert chosen.seed == SEEDS[int(np.argmax(scores))]


def test_progress_keeps_the_dream_that_the_critic_finds_furthest(
    model, observed, dreams, tmp_path
):
    folder = small_critic(tmp_path / 'critic')
    progress = load_critic(folder).progress(frames_to_tensor(dreams), [INSTRUCTION] * 4)
    score = load_score('progress', ROBOT, VIEW, idm=tmp_path, critic=folder)
    assert progress.unique().numel() == 4
    assert kept(model, observed, score).seed == SEEDS[int(progress.argmax())]


def test_a_dream_that_is_not_finite_is_never_kept(model, observed):
    broken = BestOf(model, lambda frames, text: torch.zeros(4), 4)
    scale = float(model.codec.change_scale)
    model.codec.change_scale.fill_(3e38)
    try:
        with pytest.raises(UserError, match='not finite'):
            broken.dream(observed, INSTRUCTION, seed=0)
    finally:
        model.codec.change_scale.fill_(scale)


def test_what_cannot_choose_is_refused_with_what_to_do(tmp_path):
    idm, critic = small_idm(tmp_path / 'idm', ROBOT.home), small_critic(tmp_path / 'critic')

    def refused(match, by, view=VIEW, critic=critic):
        with pytest.raises(UserError, match=match):
            load_score(by, ROBOT, view, idm=idm, critic=critic)

    refused("chosen by 'similarity': choose by progress, executability, consensus", 'similarity')
    refused('by progress needs a critic: name the folder of one', 'progress', critic=None)
    refused("of kind 'idm', not a progress critic", 'progress', critic=idm)
    faster = load_view('aloha_sim').model_copy(update={'rate_hz': 20.0})
    refused('progress critic trained at 10 Hz', 'progress', view=faster)
    other = dataclasses.replace(ROBOT, name='other')
    with pytest.raises(UserError, match="trained on robot 'aloha_sim', not on 'other'"):
        load_score('progress', other, VIEW, idm=idm, critic=critic)
