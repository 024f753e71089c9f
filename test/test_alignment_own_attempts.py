"""Learning from own attempts: it imitates successes, flees failures, and resumes exactly."""

from dataclasses import replace

import alignment_world
import numpy as np
import pytest
import torch

from eva_ros.alignment.attempts import DreamPrompt
from eva_ros.alignment.own_attempts import FilteredSettings
from eva_ros.alignment.own_attempts import FinetuneSettings
from eva_ros.alignment.own_attempts import judged
from eva_ros.alignment.own_attempts import nft_loss
from eva_ros.alignment.own_attempts import NftSettings
from eva_ros.alignment.own_attempts import optimality
from eva_ros.alignment.own_attempts import require_contrast
from eva_ros.alignment.policy import dream_and_judge
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.prompts import draw_balanced
from eva_ros.alignment.trainer import align
from eva_ros.alignment.trainer import training_loop
from eva_ros.errors import UserError

KINDS = {'filtered': FilteredSettings, 'nft': NftSettings, 'finetune': FinetuneSettings}


def settings(name, **changes):
    given = {'iterations': 10, 'clips': 8, 'steps': 4, 'rank': 4, 'learning_rate': 8e-3}
    return KINDS[name](**(given | changes))


def brighter(prompt, change, success, number=0):
    """Return a dream that begins with a prompt's view and becomes brighter or darker."""
    fade = change * np.linspace(0, 1, len(prompt.frames)).reshape(-1, 1, 1, 1)
    frames = np.clip(prompt.frames + fade, 0, 255).astype(np.uint8)
    return DreamPrompt(frames, prompt.joints, prompt.instruction, 'move', success, number)


def own():
    """Return attempts: those that became bright succeeded, those that became dark failed."""
    made = []
    for number, prompt in enumerate(alignment_world.prompts()):
        made += [
            brighter(prompt, 60, success=True, number=2 * number),
            brighter(prompt, -60, success=False, number=2 * number + 1),
        ]
    return made


def learning(name, folder, attempts=None, **changes):
    chosen = settings(name, **changes)
    if attempts is None:
        attempts = [] if name == 'finetune' else own()
        if name == 'filtered':
            attempts = [prompt for prompt in attempts if prompt.success]
    policy = WorldModelPolicy(alignment_world.world_model(), chosen.rank, chosen.seed)
    judge = alignment_world.brightness_judge()
    return training_loop(policy, alignment_world.prompts(), judge, chosen, folder, attempts)


def brightness(loop):
    task = loop.task
    return dream_and_judge(task.policy.model, task.prompts, task.judge, 7, 4).reward.mean()


@pytest.mark.parametrize('name', ['filtered', 'nft'])
def test_what_succeeded_is_dreamed_more_often_than_by_fine_tuning_alone(name, tmp_path):
    gains = {}
    for which in (name, 'finetune'):
        loop = learning(which, tmp_path / which)
        before = brightness(loop)
        for _ in range(10):
            loop.run_step()
        gains[which] = float(brightness(loop) - before)
    assert gains[name] > gains['finetune'] + 0.3


def test_nft_turns_with_the_outcomes(tmp_path):
    swapped = [replace(prompt, success=not prompt.success) for prompt in own()]
    loop = learning('nft', tmp_path, swapped)
    before = brightness(loop)
    for _ in range(10):
        loop.run_step()
    assert brightness(loop) < before - 0.1


def test_nft_watches_how_far_it_moves_what_is_predicted(tmp_path):
    loop = learning('nft', tmp_path)
    moved = [loop.run_step()['moved'] for _ in range(5)]
    assert moved[0] == 0
    assert moved[-1] > 0


def test_loss_of_nft_has_the_gradient_of_its_formula():
    torch.manual_seed(0)
    old, clean = torch.randn(2, 3, 4, dtype=torch.float64), torch.randn(2, 3, 4).double()
    new = old + 0.1 * torch.randn_like(old)
    worth = torch.tensor([0.9, 0.2]).double()
    new.requires_grad_()
    nft_loss(new, old, clean, worth, 0.5).backward()
    for index in ((0, 1, 2), (1, 0, 3)):
        # The weights |x - clean| hold no gradient, so they are held fixed here too.
        by_hand = 0.0
        for sign, share in ((1, worth[index[0]]), (-1, 1 - worth[index[0]])):
            error = old + sign * 0.5 * (new.detach() - old) - clean
            scale = error[index[0]].abs().mean()
            by_hand += share * 2 * error[index] * sign * 0.5 / (12 * scale) / 2 / 0.5
        torch.testing.assert_close(new.grad[index], by_hand)


def test_dreams_of_attempts_that_all_ended_alike_are_not_preferred():
    prompts = alignment_world.prompts(3)
    alike = [brighter(p, 0, success=True, number=n) for n, p in enumerate(prompts)]
    torch.testing.assert_close(optimality(alike, alike, 2.0), torch.full((len(alike),), 0.5))


def test_a_rare_success_is_worth_more_than_a_common_failure_is_worth_less():
    prompt = alignment_world.prompts(1)[0]
    ended = [brighter(prompt, 0, success=n == 0, number=n) for n in range(5)]
    worth = optimality(ended, ended, 2.0)
    assert worth[0] == 1.0
    assert (worth[1:] > 0.3).all()
    assert (worth[1:] < 0.5).all()


@pytest.mark.parametrize('name', KINDS)
def test_killed_learning_ends_with_the_same_adapter(name, tmp_path):
    whole = learning(name, tmp_path / 'whole', iterations=3)
    for _ in range(3):
        whole.run_step()
    killed = learning(name, tmp_path / 'killed', iterations=3)
    killed.run_step()
    killed.save()
    resumed = learning(name, tmp_path / 'killed', iterations=3)
    resumed.resume()
    for _ in range(2):
        resumed.run_step()
    for key, weight in whole.weights.items():
        torch.testing.assert_close(resumed.weights[key], weight, rtol=0, atol=0)


def test_learning_from_other_attempts_is_not_resumed(tmp_path):
    learning('nft', tmp_path).save()
    other = learning('nft', tmp_path, own()[:6])
    with pytest.raises(UserError, match='other'):
        other.resume()


def test_the_adapter_says_what_it_learnt_from(tmp_path):
    chosen = settings('filtered', iterations=1)
    policy = WorldModelPolicy(alignment_world.world_model(), chosen.rank, chosen.seed)
    attempts = [prompt for prompt in own() if prompt.success]
    align(
        policy, alignment_world.prompts(), alignment_world.brightness_judge(), tmp_path, chosen,
        {'own': len(attempts)}, attempts,
    )  # fmt: skip
    assert '"own": ' in (tmp_path / 'eva.json').read_text()
    assert '"filtered"' in (tmp_path / 'eva.json').read_text()


def test_every_task_is_drawn_as_often_however_many_prompts_it_has():
    one, two = alignment_world.prompts(2)[:2]
    prompts = [replace(one, task='rare')] + [replace(two, task='common')] * 50
    drawn = draw_balanced(prompts, 400, np.random.default_rng(0))
    assert 150 < sum(prompt.task == 'rare' for prompt in drawn) < 250


def test_half_a_clip_cannot_be_shared():
    with pytest.raises(UserError, match='even number'):
        settings('filtered', clips=7).check()


def test_nothing_can_be_told_apart_without_two_successes_and_two_failures():
    prompt = alignment_world.prompts(1)[0]
    ended = [brighter(prompt, 0, success=n == 0, number=n) for n in range(5)]
    with pytest.raises(UserError, match='move: 1 of 5'):
        require_contrast(ended)
    require_contrast([*ended, brighter(prompt, 0, success=True, number=9)])


def test_an_unknown_outcome_is_not_taken_for_a_failure():
    prompt = alignment_world.prompts(1)[0]
    ended = [brighter(prompt, 0, success=s, number=n) for n, s in enumerate((True, None, False))]
    assert [dream.episode for dream in judged(ended)] == [0, 2]
    with pytest.raises(UserError, match='None of the 2 dreams belongs to an attempt'):
        judged([ended[1]] * 2)
    # Bags without any dream are for `require_contrast` to name.
    assert judged([]) == []
