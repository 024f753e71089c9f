"""Alignment of a world model: it improves, starts on-policy, resumes, and can be switched off."""

from dataclasses import replace

import alignment_world
import numpy as np
import pytest
import torch

from eva_ros.alignment.direct import DirectSettings
from eva_ros.alignment.grpo import advantages
from eva_ros.alignment.grpo import GrpoSettings
from eva_ros.alignment.policy import dream_and_judge
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.trainer import align
from eva_ros.alignment.trainer import training_loop
from eva_ros.errors import UserError
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.checkpoint import save_world_model


def settings(**changes):
    given = {
        'iterations': 3, 'groups': 2, 'group_size': 6, 'steps': 4, 'rank': 4,
        'learning_rate': 4e-3, 'passes': 2, 'data_weight': 0.1, 'data_clips': 2,
    }  # fmt: skip
    return GrpoSettings(**(given | changes))


def direct_settings(**changes):
    given = {
        'iterations': 3, 'dreams': 4, 'steps': 4, 'rank': 4, 'learning_rate': 4e-3,
        'data_weight': 0.1, 'data_clips': 2,
    }  # fmt: skip
    return DirectSettings(**(given | changes))


def aligning(chosen, folder):
    policy = WorldModelPolicy(alignment_world.world_model(), chosen.rank, chosen.seed)
    judge = alignment_world.brightness_judge()
    return training_loop(policy, alignment_world.prompts(), judge, chosen, folder)


def dreams_of(loop):
    task = loop.task
    return dream_and_judge(task.policy.model, task.prompts, task.judge, 7, 4)


@pytest.fixture(scope='module', params=[settings, direct_settings], ids=['grpo', 'direct'])
def trained(request, tmp_path_factory):
    """Return an alignment after 12 iterations and what its dreams scored before."""
    made = aligning(request.param(iterations=12), tmp_path_factory.mktemp('aligned'))
    before = dreams_of(made)
    for _ in range(12):
        made.run_step()
    return made, before


def test_alignment_improves_a_known_problem_on_dreams_it_was_not_trained_on(trained):
    made, before = trained
    after = dreams_of(made)
    assert (after.reward > before.reward).all()
    assert (after.reward - before.reward).mean() > 0.1


@pytest.mark.parametrize('trained', [settings], indirect=True, ids=['grpo'])
def test_first_ratio_of_every_iteration_is_exactly_one(trained):
    made, _ = trained
    assert [figures['first_ratio_deviation'] for figures in made.task.history] == [0.0] * 12
    assert all(figures['ratio_deviation'] > 0 for figures in made.task.history)


def test_with_the_adapter_off_the_model_is_the_old_one(trained):
    made, before = trained
    with made.task.policy.reference():
        again = dreams_of(made)
    torch.testing.assert_close(again.reward, before.reward, rtol=0, atol=0)


def test_saved_adapter_dreams_as_the_aligned_model(trained, tmp_path):
    made, before = trained
    made.task.policy.save(tmp_path / 'lora', {})
    after = dreams_of(made)
    base = alignment_world.world_model()
    save_world_model(base, tmp_path / 'base', dtype=torch.float32)
    loaded = load_world_model(tmp_path / 'base', lora=tmp_path / 'lora')
    again = dream_and_judge(loaded, made.task.prompts, made.task.judge, 7, 4)
    torch.testing.assert_close(again.reward, after.reward, rtol=1e-3, atol=1e-3)


def test_groups_in_smaller_batches_teach_the_same(tmp_path):
    learned = []
    for size in (1, 2, 3):
        loop = aligning(settings(groups=3, batch_groups=size, learning_rate=1e-3), tmp_path)
        loop.run_step()
        assert loop.task.history[0]['first_ratio_deviation'] == 0
        learned.append(torch.cat([weight.detach().flatten() for weight in loop.weights.values()]))
    start = torch.cat(
        [w.detach().flatten() for w in aligning(settings(), tmp_path).weights.values()]
    )
    for other in learned[1:]:
        assert torch.cosine_similarity(other - start, learned[0] - start, dim=0) > 0.95


@pytest.mark.parametrize('settings', [settings, direct_settings])
def test_killed_alignment_ends_with_the_same_adapter(settings, tmp_path):
    whole = aligning(settings(), tmp_path / 'whole')
    for _ in range(3):
        whole.run_step()
    killed = aligning(settings(), tmp_path / 'killed')
    killed.run_step()
    killed.save()
    resumed = aligning(settings(), tmp_path / 'killed')
    resumed.resume()
    for _ in range(2):
        resumed.run_step()
    assert resumed.task.history == whole.task.history
    for name, weight in whole.weights.items():
        torch.testing.assert_close(resumed.weights[name], weight, rtol=0, atol=0)


def test_state_of_another_alignment_is_refused(tmp_path):
    aligning(settings(), tmp_path).save()
    aligning(settings(iterations=9), tmp_path).resume()
    with pytest.raises(UserError, match='another settings: repeat'):
        aligning(settings(kl_weight=0.5), tmp_path).resume()
    with pytest.raises(UserError, match='another algorithm'):
        aligning(direct_settings(), tmp_path).resume()


def test_state_made_with_another_model_or_other_views_is_refused(tmp_path):
    made = aligning(settings(), tmp_path)
    made.save()
    with torch.no_grad():
        other = alignment_world.world_model()
        other.transformer.proj_out.weight.mul_(1.01)
    policy = WorldModelPolicy(other, 4, 0)
    judge, prompts = alignment_world.brightness_judge(), made.task.prompts
    with pytest.raises(UserError, match='another world_model'):
        training_loop(policy, prompts, judge, settings(), tmp_path).resume()
    # As many views, but the first one shows something else.
    others = [replace(prompts[0], frames=255 - prompts[0].frames), *prompts[1:]]
    with pytest.raises(UserError, match='another prompts'):
        training_loop(made.task.policy, others, judge, settings(), tmp_path).resume()


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (direct_settings(gradient_steps=5), 'flow through 5 .* give --gradient-steps 4 or fewer'),
        (settings(window=5), 'have 4: give --dream-steps 5 or more'),
        (settings(group_size=1), 'group of 1 .* --group-size 2 or more'),
    ],
)
def test_settings_that_contradict_each_other_are_refused(tmp_path, wrong, words):
    task = aligning(settings(), tmp_path).task
    with pytest.raises(UserError, match=words):
        align(task.policy, task.prompts, task.judge, tmp_path / 'out', wrong)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize('settings', [settings, direct_settings])
def test_training_asks_for_the_motion_that_was_recorded_or_dreamed_before(settings, tmp_path):
    asked = []

    class Spy(alignment_world.BrightnessJudge):
        def __call__(self, frames, demonstrated, prompts=()):
            asked.append((self.floor_share, self.floor_weight, demonstrated))
            seen = super().__call__(frames, demonstrated)
            return seen._replace(travelled=torch.full((len(frames),), 0.2))

    judge = Spy(*vars(alignment_world.brightness_judge()).values())
    chosen = settings(iterations=1, floor_share=0.5, floor_weight=3.0)
    prompts = alignment_world.prompts()
    assert max(p.demonstrated(0.1, judge.limits.grippers) for p in prompts) > 0.2
    align(WorldModelPolicy(alignment_world.world_model(), 4, 0), prompts, judge, tmp_path, chosen)
    share, weight, last = asked[-1]
    assert (share, weight) == (0.5, 3.0)
    assert last.min() > 0 and last.max() <= 0.2 + 1e-6


@pytest.mark.parametrize('settings', [settings, direct_settings])
def test_recorded_clips_pull_a_model_that_the_reward_says_nothing_to(settings, tmp_path):
    moved = {}
    for weight in (0.0, 1.0):
        made = aligning(settings(data_weight=weight), tmp_path)
        before = {name: value.detach().clone() for name, value in made.weights.items()}
        made.update(*made.task.anchor(np.random.default_rng(0)))
        moved[weight] = max(
            float((value.detach() - before[name]).abs().max())
            for name, value in made.weights.items()
        )
    assert moved[0.0] == 0.0
    assert moved[1.0] > 0.0


def test_scale_is_the_median_penalty_of_unaligned_dreams_and_travels(tmp_path):
    chosen = settings(iterations=1)
    task = aligning(chosen, tmp_path).task
    align(task.policy, task.prompts, task.judge, tmp_path, chosen)
    assert '"scale": 1.0' in (tmp_path / 'eva.json').read_text()


def test_groups_whose_dreams_are_alike_teach_nothing_much():
    alike = torch.tensor([[1.0, 1.0001, 0.9999, 1.0], [0.0, 1.0, 2.0, 3.0]])
    better = advantages(alike, settings())
    assert better[0].abs().max() < 0.01
    assert better[1].max() > 1
    np.testing.assert_allclose(better.mean(-1), 0, atol=1e-6)


def test_views_and_anchors_are_drawn_evenly_from_the_tasks_however_often_each_was_recorded(
    tmp_path, monkeypatch
):
    often, seldom = alignment_world.prompts(12), alignment_world.prompts(1)
    often, seldom = ([replace(p, task=t) for p in ps] for ps, t in ((often, 'a'), (seldom, 'b')))
    chosen = direct_settings(dreams=12, data_clips=12)
    policy = WorldModelPolicy(alignment_world.world_model(), chosen.rank, chosen.seed)
    judge = alignment_world.brightness_judge()
    task = training_loop(policy, [*often, *seldom], judge, chosen, tmp_path).task
    anchored = []
    monkeypatch.setattr(task, 'supervised', lambda _name, prompts, *_: anchored.extend(prompts))
    rng = np.random.default_rng(0)
    drawn = [prompt for _ in range(50) for prompt in task.draw(12, rng)]
    for _ in range(50):
        task.anchor(rng)
    for prompts in (drawn, anchored):
        share = sum(prompt.task == 'b' for prompt in prompts) / len(prompts)
        assert share == pytest.approx(0.5, abs=0.1)


def test_where_no_motion_is_required_no_dream_is_spent_on_how_much(tmp_path, monkeypatch):
    chosen = direct_settings()
    policy = WorldModelPolicy(alignment_world.world_model(), chosen.rank, chosen.seed)
    judge = alignment_world.brightness_judge()
    judge = replace(judge, weights=replace(judge.weights, motion=0.0))
    loop = training_loop(policy, alignment_world.prompts(), judge, chosen, tmp_path)
    dreams = []
    sample = policy.model.sample
    monkeypatch.setattr(
        policy.model, 'sample', lambda *a, **k: dreams.append(1) or sample(*a, **k)
    )
    loop.run_step()
    assert len(dreams) == 1
