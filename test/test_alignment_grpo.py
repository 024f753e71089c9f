"""One group of Flow-GRPO against what can be computed by hand."""

from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from eva_ros.alignment.grpo import GrpoSettings
from eva_ros.alignment.grpo import GrpoTask
from eva_ros.alignment.grpo import sample_groups
from eva_ros.alignment.grpo import window_loss
from eva_ros.world_model.sampler import euler_step
from eva_ros.world_model.sampler import sde_step

LEVELS = [1.0, 0.9, 0.75, 0.5, 0.0]


class ShiftPolicy:
    """Predicts the clean target `shift` everywhere; the reference predicts zero."""

    def __init__(self, elements=3):
        self.shift = torch.zeros(elements, requires_grad=True)
        self.off = False

    def velocity(self, x, sigma, condition):
        clean = torch.zeros_like(self.shift) if self.off else self.shift
        return (x - clean) / sigma

    @contextmanager
    def reference(self):
        self.off = True
        yield
        self.off = False


def draw(policy, settings):
    generator = torch.Generator().manual_seed(0)
    return sample_groups(policy, None, torch.zeros(1, 3), LEVELS, settings, [generator])


def test_dreams_of_a_group_differ_by_the_window_alone():
    settings = GrpoSettings(group_size=5, window=2)
    group = draw(ShiftPolicy(), settings)
    assert len(group.window) == 2
    first = group.window[0].before
    torch.testing.assert_close(first, first[:1].expand_as(first))
    x = group.window[-1].after
    for sigma, sigma_next in ((0.75, 0.5), (0.5, 0.0)):
        x = euler_step(x, x / sigma, sigma, sigma_next)
    torch.testing.assert_close(group.samples, x)


def test_gradient_at_the_first_ratio_is_that_of_reinforce():
    policy, settings = ShiftPolicy(), GrpoSettings(group_size=4)
    group = draw(policy, settings)
    advantage = torch.tensor([1.0, -1.0, 2.0, -2.0])
    step = group.window[0]
    loss = window_loss(policy, group, advantage, settings, step)
    assert loss.ratio_deviation == 0.0
    (gradient,) = torch.autograd.grad(loss.policy, policy.shift)
    std = settings.eta
    noise = (step.after - step.reference_mean) / std
    velocity_gain = -(1 + std**2 * 0 / 2) * (0.9 - 1.0)
    by_hand = -(advantage[:, None] * noise).mean(0) / std / 3 * velocity_gain
    torch.testing.assert_close(gradient, by_hand, rtol=1e-4, atol=1e-6)


def test_ratio_beyond_the_clip_range_gives_no_gradient():
    policy, settings = ShiftPolicy(), GrpoSettings(group_size=2, clip=1e-6)
    group = draw(policy, settings)
    with torch.no_grad():
        policy.shift += 5.0
    step = group.window[0]
    velocity = policy.velocity(step.before, step.sigma, None)
    now = sde_step(step.before, velocity, 1.0, 0.9, eta=settings.eta, sample=step.after)
    already_likelier = (now.log_prob - step.log_prob).sign().detach()
    loss = window_loss(policy, group, already_likelier, settings, step)
    assert loss.clipped == 1.0
    assert (torch.autograd.grad(loss.policy, policy.shift)[0] == 0).all()
    loss = window_loss(policy, group, -already_likelier, settings, step)
    assert (torch.autograd.grad(loss.policy, policy.shift)[0] != 0).all()


def test_divergence_grows_with_the_square_of_the_distance_to_the_reference():
    policy, settings = ShiftPolicy(), GrpoSettings(group_size=2)
    group = draw(policy, settings)
    found = []
    for distance in (0.0, 1.0, 2.0):
        with torch.no_grad():
            policy.shift.fill_(distance)
        step = group.window[0]
        found.append(window_loss(policy, group, torch.zeros(2), settings, step).kl.item())
    assert found[0] == 0
    assert found[2] == pytest.approx(4 * found[1], rel=1e-4)


def test_groups_dreamed_in_one_pass_are_those_dreamed_one_by_one():
    policy, settings = ShiftPolicy(), GrpoSettings(group_size=3)
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))

    def dream(rows):
        generators = [torch.Generator().manual_seed(row) for row in rows]
        return sample_groups(policy, None, noise[rows], LEVELS, settings, generators).samples

    torch.testing.assert_close(dream([0, 1]), torch.cat([dream([0]), dream([1])]))


@pytest.mark.parametrize('elements', [3, 30_000])
def test_the_gradient_is_as_large_for_dreams_of_any_size(elements):
    policy, settings = ShiftPolicy(elements), GrpoSettings(group_size=8, window=1)
    task = SimpleNamespace(settings=settings, policy=policy)
    generator = torch.Generator().manual_seed(0)
    group = sample_groups(policy, None, torch.zeros(1, elements), LEVELS, settings, [generator])
    advantage = torch.linspace(-1, 1, 8)
    loss, _ = GrpoTask._loss(task, group, advantage, group.window[0], 1.0)
    (gradient,) = torch.autograd.grad(loss, policy.shift)
    assert 0.03 < gradient.norm() < 0.3
