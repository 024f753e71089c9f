"""Before and after an alignment: the same views, the same noise, the adapter off and on."""

import alignment_world
import numpy as np
import pytest
import torch

from eva_ros.alignment.judge import Judgement
from eva_ros.alignment.policy import dream_and_judge
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.errors import UserError
from eva_ros.evaluation.alignment_comparison import compare


class MotionlessJudge(alignment_world.BrightnessJudge):
    """Judges brightness; a motion is judged as nothing."""

    def of_motion(self, positions, demonstrated):
        nothing = torch.zeros(len(positions))
        return Judgement(nothing, None, nothing, positions)


def judge():
    return MotionlessJudge(*vars(alignment_world.brightness_judge()).values())


def adapted(strength):
    """Return a model whose adapter changes its dreams by so much."""
    policy = WorldModelPolicy(alignment_world.world_model(), 4, 0)
    with torch.no_grad():
        for name, weight in policy.parameters().items():
            if 'lora_B' in name:
                weight.normal_(0.0, strength, generator=torch.Generator().manual_seed(1))
    return policy.model


def test_before_is_what_the_model_dreams_without_the_adapter():
    prompts = alignment_world.prompts()
    found = compare(adapted(0.5), prompts, judge(), views=len(prompts), seed=5, steps=4)
    plain = dream_and_judge(
        alignment_world.world_model(), chosen(prompts, 5), judge(), 5, 4
    ).reward
    torch.testing.assert_close(found.before.reward, plain, rtol=0, atol=1e-4)
    assert (found.after.reward - found.before.reward).abs().min() > 1e-3


def chosen(prompts, seed):
    return [prompts[i] for i in np.random.default_rng(seed).permutation(len(prompts))]


def test_an_adapter_that_changes_nothing_scores_exactly_the_same():
    """The noise is the same before and after."""
    prompts = alignment_world.prompts()
    found = compare(adapted(0.0), prompts, judge(), views=4, seed=5, steps=4)
    assert torch.equal(found.before.reward, found.after.reward)
    other = compare(adapted(0.0), prompts, judge(), views=4, seed=6, steps=4)
    assert not torch.equal(found.before.reward, other.before.reward)


def test_more_views_than_there_are_is_refused():
    with pytest.raises(UserError, match='Only 6 held-out initial views for the 7'):
        compare(adapted(0.0), alignment_world.prompts(), judge(), views=7, seed=5, steps=4)
