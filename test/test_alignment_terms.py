"""The terms of the reward: each known, each differentiable, each returned."""

from dataclasses import replace

import numpy as np
import probe_world
import pytest
import torch

from eva_ros.alignment.critic import CriticConfig
from eva_ros.alignment.critic import ProgressCritic
from eva_ros.alignment.judge import figures_of
from eva_ros.alignment.reward import executability
from eva_ros.alignment.reward import MotionLimits
from eva_ros.alignment.reward import RewardWeights
from eva_ros.alignment.reward import similarity
from eva_ros.errors import UserError
from eva_ros.training.frames import frames_to_tensor

SPREAD = torch.tensor([0.1, 0.2, 0.4], dtype=torch.float64)


def path(seed=0, shape=(12, 3)):
    generator = torch.Generator().manual_seed(seed)
    return 0.1 * torch.randn(*shape, generator=generator, dtype=torch.float64).cumsum(0)


def critic(words=('arm', 'left', 'reach', 'right', 'the', 'with'), size=16):
    torch.manual_seed(0)
    return ProgressCritic(CriticConfig(words, size, size, (8, 8), 4, 2, 16))


def test_similarity_is_the_published_formula():
    recorded, dreamed = path(0), path(1)
    total = 0.0
    for t in range(12):
        for j in range(3):
            total += float((dreamed[t, j] - recorded[t, j]) / SPREAD[j]) ** 2
    expected = np.exp(-total / 36 / 2.0)
    assert float(similarity(dreamed, recorded, SPREAD, 2.0)) == pytest.approx(expected, rel=1e-12)


def test_similarity_is_best_for_the_recorded_path_and_batched():
    recorded = torch.stack([path(seed) for seed in range(4)])
    still = recorded[:, :1].expand_as(recorded)
    misplaced = recorded + torch.linspace(0, 0.3, 12, dtype=torch.float64)[:, None]
    assert similarity(recorded, recorded, SPREAD, 2.0).tolist() == [1.0] * 4
    for worse in (still, misplaced):
        assert (similarity(worse, recorded, SPREAD, 2.0) < 0.9).all()


def test_a_small_tau_leaves_a_dream_alone_that_does_something_else():
    """A dream far from the recorded motion is hardly pulled there; one near it is."""

    def pull(away, tau):
        positions = torch.full((12, 3), away, dtype=torch.float64, requires_grad=True)
        similarity(positions, torch.zeros(12, 3), torch.ones(3), tau).backward()
        return float(positions.grad.norm())

    assert pull(0.5, 2.0) > pull(0.1, 2.0)
    assert pull(0.5, 0.03) < 0.01 * pull(0.1, 0.03)


def test_executability_gradient_agrees_with_finite_differences():
    limits = MotionLimits.paper()
    positions = path(2, (9, 14)).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: executability(q, 1 / 16, limits).score, positions)


def test_similarity_gradient_agrees_with_finite_differences():
    recorded = path(0)
    positions = path(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda q: similarity(q, recorded, SPREAD, 2.0), positions)


def test_progress_gradient_agrees_with_finite_differences():
    judge, asked = critic(), ['reach left']
    frames = torch.rand(1, 2, 3, 16, 16)
    value = frames.clone().requires_grad_()
    judge.progress(value, asked).sum().backward()
    direction = value.grad / value.grad.norm()
    step = 0.05  # the critic is float32
    ahead, behind = (
        judge.progress(frames + sign * step * direction, asked).item() for sign in (1, -1)
    )
    slope = float(value.grad.norm())
    assert slope > 1e-4
    assert (ahead - behind) / (2 * step) == pytest.approx(slope, rel=0.05)


def test_reward_gradient_reaches_the_frames_through_every_term():
    chosen = probe_world.weights(executability=1.0, motion=1.0, similarity=5.0, progress=1.0)
    judge = probe_world.judge(weights=chosen, critic=critic())
    prompts = probe_world.prompts(4)
    frames = frames_to_tensor(np.stack([p.frames for p in prompts])).requires_grad_()
    needed = torch.full((len(prompts),), 0.5)
    judge(frames, needed, prompts).reward.sum().backward()
    assert torch.isfinite(frames.grad).all() and frames.grad.abs().sum() > 0


def test_judge_returns_each_term_and_their_weighted_sum():
    chosen = probe_world.weights(executability=0.5, similarity=2.0, outcome=3.0)
    judge = probe_world.judge(weights=chosen, critic=critic())
    prompts = [replace(p, success=i % 2 == 0) for i, p in enumerate(probe_world.prompts(6))]
    frames = frames_to_tensor(np.stack([p.frames for p in prompts]))
    judged = judge(frames, torch.zeros(len(prompts)), prompts)
    terms = judged.terms
    assert set(terms) == set(vars(RewardWeights()))
    assert terms['outcome'].tolist() == [float(p.success) for p in prompts]
    assert terms['similarity'].min() > 0.99
    expected = 0.5 * terms['executability'] + 2 * terms['similarity'] + 3 * terms['outcome']
    torch.testing.assert_close(judged.reward, expected)
    sharper = replace(judge, reward=replace(judge.reward, similarity_tau=0.02))
    sharp = sharper(frames, torch.zeros(len(prompts)), prompts).terms['similarity']
    torch.testing.assert_close(sharp, terms['similarity'] ** 100)
    assert {'similarity', 'outcome', 'progress'} < set(figures_of(judged))


def test_default_reward_is_the_score_less_the_motion_floor():
    judge, prompts = probe_world.judge(), probe_world.prompts(3)
    frames = frames_to_tensor(np.stack([p.frames for p in prompts]))
    judged = judge(frames, torch.full((3,), 5.0), prompts)
    lost = judged.executability.score - judged.reward
    assert (lost > 1).all()
    torch.testing.assert_close(lost, -judged.terms['motion'])


def test_a_term_without_what_it_needs_is_named():
    judge = probe_world.judge(weights=probe_world.weights(progress=1.0))
    prompts = probe_world.prompts(2)
    frames = frames_to_tensor(np.stack([p.frames for p in prompts]))
    with pytest.raises(UserError, match='progress, which nothing here can judge'):
        judge(frames, torch.zeros(2), prompts)


def test_a_judge_with_other_weights_has_another_fingerprint():
    def name(**options):
        judge = probe_world.judge(**options)
        module = torch.nn.Linear(1, 1)
        torch.nn.init.ones_(module.weight), torch.nn.init.zeros_(module.bias)
        object.__setattr__(judge, 'idm', module)
        return judge.fingerprint()

    similar = probe_world.weights(similarity=1.0)
    assert name() == name(critic=critic())
    assert len({name(), name(weights=similar), name(weights=RewardWeights(2.0))}) == 3
