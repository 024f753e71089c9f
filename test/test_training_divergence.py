"""A training that diverges stops or warns, and what is on disk stays as good as it was."""

from dataclasses import replace
import math
from types import SimpleNamespace

import alignment_world
import idm_world
import numpy as np
import pytest
from safetensors.torch import load_file
import torch

from eva_ros.alignment.direct import DirectSettings
from eva_ros.alignment.grpo import GrpoSettings
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.trainer import align
from eva_ros.alignment.trainer import training_loop
from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.idm.data import ClipSampler as IdmClips
from eva_ros.idm.train import train
from eva_ros.idm.train import TrainSettings
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.training.divergence import DivergenceGuard
from eva_ros.training.run_state import STATE
from eva_ros.world_model import training_run
from eva_ros.world_model.clips import ClipSampler as WorldClips
from eva_ros.world_model.training_run import RunOptions

HUGE = 1e12
IDM = TrainSettings(steps=8, batch_clips=4, warmup_steps=2)
WORLD = RunOptions('tiny', steps=6, batch=2, width=64, layers=1)
DIRECT = DirectSettings(iterations=4, dreams=2, rank=2, data_clips=2)
GRPO = GrpoSettings(iterations=4, groups=1, group_size=2, rank=2, data_clips=2)


def train_idm(out, recorded=None, **changes):
    recorded = recorded or idm_world.episodes(3)
    return train(idm_world.config(), recorded, out, replace(IDM, **changes))


def train_world_model(out, recorded=None, **changes):
    recorded = recorded or alignment_world.episodes(3)
    view = SimpleNamespace(**vars(idm_world.VIEW), frames=alignment_world.FRAMES)
    return training_run.train(
        recorded, SimpleNamespace(name='dots'), view, out, replace(WORLD, **changes)
    )


def run_align(out, settings, judge=None, **changes):
    policy = WorldModelPolicy(alignment_world.world_model(), 2, 0)
    judge = judge or alignment_world.brightness_judge()
    return align(policy, alignment_world.prompts(3), judge, out, replace(settings, **changes))


def run_direct(out, **changes):
    return run_align(out, DIRECT, **changes)


def run_grpo(out, **changes):
    return run_align(out, GRPO, **changes)


@pytest.mark.parametrize(
    ('run', 'label'),
    [
        (train_idm, 'idm: stopped at step'),
        (train_world_model, 'world-model: stopped at step'),
        (run_direct, 'align: stopped at iteration'),
        (run_grpo, 'align: stopped at iteration'),
    ],
)
def test_a_learning_rate_far_too_high_stops_with_step_and_quantity(tmp_path, run, label):
    with pytest.raises(UserError) as stopped:
        run(tmp_path, learning_rate=HUGE)
    said = str(stopped.value)
    assert said.startswith(label)
    assert 'is nan' in said or 'is inf' in said or 'not finite' in said
    assert 'nothing had been saved yet' in said
    assert '--learning-rate' in said
    assert {path.name for path in tmp_path.rglob('*.safetensors')} <= {
        'diffusion_pytorch_model.safetensors', 'codec.safetensors', 'text.safetensors'
    }  # fmt: skip
    assert not (tmp_path / 'eva.json').exists()


def spoil(monkeypatch, sampler, number):
    """Let batch `number` of a sampler hold a nan."""
    batch = sampler.batch

    def spoiled(self, index, *args):
        found = batch(self, index, *args)
        frames = found[0] if isinstance(found, tuple) else found.frames
        if index == number:
            frames[0, 0, 0, 0, 0] = math.nan
        return found

    monkeypatch.setattr(sampler, 'batch', spoiled)


def test_the_last_finite_state_of_the_idm_stays_and_resuming_says_why(
    tmp_path, monkeypatch, capsys
):
    train_idm(tmp_path, steps=4)
    kept = {name: (tmp_path / name).read_bytes() for name in (STATE, 'model.safetensors')}
    with monkeypatch.context() as patch:
        spoil(patch, IdmClips, 5)
        with pytest.raises(UserError, match=r'stopped at step 6: the loss .* the state of step 4'):
            train_idm(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    capsys.readouterr()
    train_idm(tmp_path)
    said = capsys.readouterr().err
    assert 'idm: resumed at step 4; the run before was stopped at step 6: the loss (' in said
    train_idm(tmp_path, steps=9)
    assert 'stopped' not in capsys.readouterr().err


def test_the_last_finite_state_of_the_world_model_stays_and_resuming_says_why(
    tmp_path, monkeypatch, capsys
):
    train_world_model(tmp_path, steps=2)
    files = (f'run/{STATE}', 'transformer/diffusion_pytorch_model.safetensors')
    kept = {name: (tmp_path / name).read_bytes() for name in files}
    with monkeypatch.context() as patch:
        spoil(patch, WorldClips, 3)
        with pytest.raises(UserError, match=r'step 4: the loss is nan; the state of step 2 in'):
            train_world_model(tmp_path)
    assert {name: (tmp_path / name).read_bytes() for name in kept} == kept
    capsys.readouterr()
    train_world_model(tmp_path)
    said = capsys.readouterr().err
    assert 'resumed at step 2; the run before was stopped at step 4: the loss is nan' in said


class NanJudge(alignment_world.BrightnessJudge):
    """Gives nan from a number of judgements on."""

    left = 3

    def __call__(self, frames, demonstrated, prompts=()):
        NanJudge.left -= 1
        judged = super().__call__(frames, demonstrated)
        return judged if NanJudge.left > 0 else judged._replace(reward=judged.reward * math.nan)


def test_the_last_finite_state_of_an_alignment_stays_and_resuming_says_why(
    tmp_path, monkeypatch, capsys
):
    run_direct(tmp_path, iterations=2)
    kept = (tmp_path / STATE).read_bytes()
    monkeypatch.setattr(NanJudge, 'left', 3)
    judge = NanJudge(*vars(alignment_world.brightness_judge()).values())
    with pytest.raises(
        UserError, match='iteration 4: the reward is nan; the state of iteration 2'
    ):
        run_direct(tmp_path, judge=judge)
    assert (tmp_path / STATE).read_bytes() == kept
    capsys.readouterr()
    run_direct(tmp_path)
    said = capsys.readouterr().err
    assert 'resumed at iteration 2; the run before was stopped at iteration 4: the reward' in said


def test_an_exploding_ratio_stops_the_alignment_with_step_and_quantity(tmp_path, monkeypatch):
    trained, velocity = [], WorldModelPolicy.velocity

    def run_away(self, *arguments):
        """Leave the policy that has dreamed before the second pass over its dreams."""
        trained.append(torch.is_grad_enabled())
        return velocity(self, *arguments) * (1e30 if sum(trained) > GRPO.window else 1.0)

    monkeypatch.setattr(WorldModelPolicy, 'velocity', run_away)
    with pytest.raises(UserError, match=r'^align: stopped at iteration 1: the \w+ is (inf|nan); '):
        run_grpo(tmp_path)
    assert not (tmp_path / 'eva.json').exists()


class IndifferentJudge(alignment_world.BrightnessJudge):
    """Likes all dreams equally."""

    def __call__(self, frames, demonstrated, prompts=()):
        judged = super().__call__(frames, demonstrated)
        return judged._replace(reward=torch.ones_like(judged.reward))


def test_groups_whose_rewards_are_all_equal_are_warned_of_once(tmp_path, capsys):
    judge = IndifferentJudge(*vars(alignment_world.brightness_judge()).values())
    loop = run_grpo(tmp_path, judge=judge, iterations=2, data_weight=0.0)
    said = capsys.readouterr().err
    assert said.count('warning: at iteration 1 no group has dreams of different reward') == 1
    assert said.count('no group has dreams') == 1
    # Beside the divergence from the unaligned model, which begins at zero, nothing pulls.
    assert loop.step == 2 and loop.task.history[0]['gradient norm'] < 1e-6


def test_weights_that_are_not_finite_are_never_written(tmp_path):
    policy = WorldModelPolicy(alignment_world.world_model(), 2, 0)
    judge = alignment_world.brightness_judge()
    made = training_loop(policy, alignment_world.prompts(2), judge, DIRECT, tmp_path)
    made.save()
    before = load_file(tmp_path / STATE)
    name, weight = next(iter(made.weights.items()))
    with torch.no_grad():
        weight.view(-1)[0] = math.inf
    with pytest.raises(UserError, match=f"'weights/{name}' is not finite"):
        made.save()
    with pytest.raises(UserError, match=f"'{name.removeprefix('transformer.')}' is not finite"):
        policy.save(tmp_path / 'lora', {})
    assert not (tmp_path / 'lora').exists()
    assert all(
        torch.equal(before[key], value) for key, value in load_file(tmp_path / STATE).items()
    )


def test_divergence_that_stays_finite_is_warned_about_once_until_it_is_over(capsys):
    guard = DivergenceGuard('idm')
    losses = [1.0, 1.2, 0.9, 1.1, 500.0, 600.0, 1.0, 300.0]
    for step, loss in enumerate(losses, 1):
        guard.check(step, {'loss': loss, 'gradient norm': 0.1})
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert 'at step 5 the loss is 500 (476 times its median)' in lines[0]
    assert 'at step 8 the loss is 300' in lines[1]


def test_a_loss_that_crosses_zero_is_not_taken_for_divergence(capsys):
    guard = DivergenceGuard('idm')
    noise = np.random.default_rng(0).normal(0, 0.02, 400)
    for step, loss in enumerate(np.linspace(0.4, -0.4, 400) + noise):
        guard.check(step, {'loss': loss})
    assert capsys.readouterr().err == ''


def test_training_as_usual_warns_of_nothing(tmp_path, capsys):
    train_idm(tmp_path / 'idm', steps=40, learning_rate=3e-3)
    train_world_model(tmp_path / 'world_model', steps=40)
    run_direct(tmp_path / 'direct', iterations=6)
    run_grpo(tmp_path / 'grpo', iterations=6)
    assert 'warning' not in capsys.readouterr().err


def test_training_with_a_learning_rate_too_high_warns(tmp_path, capsys):
    train_idm(tmp_path, learning_rate=10.0, steps=4)
    said = capsys.readouterr().err
    assert 'idm: warning: at step 2 the loss (joints) is' in said
    assert 'times its median' in said


@pytest.mark.parametrize('run', [train_idm, train_world_model])
def test_a_recorded_joint_that_is_not_finite_is_refused_with_its_episode(tmp_path, run):
    recorded = alignment_world.episodes(3)
    recorded[1].joints[7, 2] = math.nan
    with pytest.raises(
        UserError, match=r'^episode 1: the position of .* in frame 7 is not finite'
    ):
        run(tmp_path, recorded)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_the_commands_end_with_one_sentence_and_another_exit_code_than_0(tmp_path, capfd):
    bags, cache = str(tmp_path / 'bags'), str(tmp_path / 'cache')
    record = ('sim', 'record', '--task', 'reach_left', '--episodes', '3', '--seed', '900')
    assert main([*record, '--out', bags]) == 0
    data = ('--bags', bags, '--cache', cache, '--learning-rate', '1e12')
    models = (
        *('--world-model', str(checkpoint_dir() / 'world_model')),
        *('--idm', str(checkpoint_dir() / 'idm')),
    )
    for command in (
        ('idm', 'train', *data, '--steps', '6', '--batch', '2'),
        ('world-model', 'train', *data, '--steps', '6', '--batch', '2', '--width', '64',
         '--layers', '1', '--processes', '2'),
        ('align', *data, *models, '--held-out', '0.4', '--iterations', '4', '--dreams', '1'),
    ):  # fmt: skip
        capfd.readouterr()
        assert main([*command, '--out', str(tmp_path / command[0])]) == 2
        said = capfd.readouterr().err
        assert said.splitlines()[-1].startswith('eva: ')
        assert 'stopped at' in said.splitlines()[-1]
        assert 'Traceback' not in said
