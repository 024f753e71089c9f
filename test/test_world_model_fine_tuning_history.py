"""Fine-tuning a Wan checkpoint with history: learnt, forgotten in half of the steps, loaded."""

from dataclasses import replace
import json
import shutil

from fine_tuning_world import error
from fine_tuning_world import FAMILIES
from fine_tuning_world import moving_square
from fine_tuning_world import ROBOT
from fine_tuning_world import sampler
from fine_tuning_world import SETTINGS
from fine_tuning_world import view
from fine_tuning_world import wan_folder
import pytest
import torch
from wan_folders import INSTRUCTION
from wan_folders import wan_pipeline

from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.training.loop import Budget
from eva_ros.training.loop import TrainingLoop
from eva_ros.training.manifest import FILE
from eva_ros.training.manifest import Manifest
from eva_ros.training.manifest import World
from eva_ros.training.manifest import write_manifest
from eva_ros.world_model import fine_tuning
from eva_ros.world_model import load_world_model
from eva_ros.world_model.adapters import load_adapter
from eva_ros.world_model.fine_tuning import fine_tune
from eva_ros.world_model.fine_tuning import FineTuning

FRAMES = 5
VIEW = view(FRAMES)


@pytest.fixture(scope='module')
def episodes():
    # Squares that move either way: history tells which.
    return [moving_square(8 * (seed // 2), backwards=not seed % 2) for seed in range(4)]


@pytest.fixture(scope='module', params=FAMILIES)
def base(request, tmp_path_factory):
    return wan_folder(request.param, tmp_path_factory)


def test_an_adapter_learns_history_says_so_and_its_model_takes_it(base, episodes, tmp_path):
    fresh = load_world_model(base, VIEW)
    fresh.take_history(4)
    before = [error(fresh, episodes, history) for history in (0, 4)]
    settings = replace(SETTINGS, steps=24, batch=4, rank=4, history=4)
    assert fine_tune(base, episodes, ROBOT, VIEW, tmp_path / 'lora', settings)
    assert json.loads((tmp_path / 'lora' / FILE).read_text())['history'] == 4
    assert load_world_model(base, VIEW).settings.history == 0
    model = load_world_model(base, VIEW, lora=tmp_path / 'lora')
    assert model.settings.history == 4
    for old, history in zip(before, (0, 4)):
        assert error(model, episodes, history) < 0.9 * old
    views = episodes[0].frames
    moving = model.dream(views[8], INSTRUCTION, seed=0, steps=1, before=list(views[4:8]))
    rest = model.dream(views[8], INSTRUCTION, seed=0, steps=1)
    assert (moving.frames != rest.frames).any()


def test_what_was_observed_before_tells_which_way_things_go_on(base, tmp_path):
    wide = {'num_attention_heads': 4, 'attention_head_dim': 16, 'ffn_dim': 128}
    wan_pipeline(base.name, **wide).save_pretrained(tmp_path)
    model = load_world_model(tmp_path, VIEW)
    model.take_history(4)
    # It becomes lighter or darker, and is equally light in the view, at frame 4.
    change = 0.1 * torch.arange(-4, 5)
    ways = 0.5 + torch.stack((change, -change))
    clips = ways.view(2, 9, 1, 1, 1).expand(2, 9, 3, 32, 32)
    # Weights at random hardly see a difference: let the latents vary by about 2.
    raw = model.encode(clips[:, 4:], clips[:, :4]) / model.latents_scale + model.latents_mean
    model.latents_mean.copy_(raw.mean((0, 2, 3, 4), keepdim=True))
    model.latents_scale.copy_(2.0 / raw.std((0, 2, 3, 4), keepdim=True))
    target, told = model.encode(clips[:, 4:], clips[:, :4]), [INSTRUCTION] * 2
    right, wrong = (
        model.condition(clips[:, 4], told, history=clips[order, :4]) for order in ([0, 1], [1, 0])
    )

    def loss(condition, generator):
        levels = torch.ones(2)
        return model.denoising_loss(target, levels, model.noise(2, generator), condition)

    optimizer = torch.optim.AdamW(model.transformer.requires_grad_().parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        optimizer.zero_grad()
        loss(right, generator).backward()
        optimizer.step()
    with torch.no_grad():
        learnt, other = (
            float(loss(condition, torch.Generator().manual_seed(1)))
            for condition in (right, wrong)
        )
    assert learnt < 0.3 * other


def trained(base, episodes, folder, settings, steps=3):
    model = load_world_model(base, VIEW)
    model.take_history(settings.history or 0)
    task = FineTuning(model, sampler(episodes, FRAMES, model.settings.history), settings, {})
    loop = TrainingLoop(task, folder, Budget(steps))
    loop.run()
    return loop


def test_forgotten_history_leaves_the_training_that_there_is_without_it(base, episodes, tmp_path):
    plain = trained(base, episodes, tmp_path / 'plain', SETTINGS)
    forgotten = replace(SETTINGS, history=4, history_dropout=1.0)
    same = trained(base, episodes, tmp_path / 'same', forgotten)
    kept = trained(base, episodes, tmp_path / 'kept', replace(forgotten, history_dropout=0.0))
    assert all(torch.equal(plain.averages[n], v) for n, v in same.averages.items())
    assert not all(torch.equal(plain.averages[n], v) for n, v in kept.averages.items())


def test_half_of_the_steps_are_learnt_without_history(base, episodes, tmp_path, monkeypatch):
    lengths = []

    def counted(model, frames, *_):
        lengths.append(frames.shape[1])
        return sum(weight.sum() for weight in model.parameters() if weight.requires_grad) * 0.0

    monkeypatch.setattr(fine_tuning, 'flow_loss', counted)
    settings = replace(SETTINGS, history=4, steps=100)
    trained(base, episodes, tmp_path / 'run', settings, steps=100)
    assert set(lengths) == {5, 9}
    assert lengths.count(5) == pytest.approx(50, abs=20)


def test_a_history_that_is_not_of_whole_latents_is_refused_before_anything_is_loaded(
    base, episodes, tmp_path, monkeypatch
):
    monkeypatch.setattr(torch.nn.Module, 'load_state_dict', None)
    sentence = 'takes a history in multiples of 4 frames, not 6'
    with pytest.raises(UserError, match=sentence):
        fine_tune(base, episodes, ROBOT, VIEW, tmp_path, replace(SETTINGS, history=6))
    copy = shutil.copytree(base, tmp_path / 'copy')
    told = {'settings': {'name': 'copy', 'frames': FRAMES, 'history': 6}}
    write_manifest(copy, Manifest('world_model', World.of(None, VIEW), told))
    with pytest.raises(UserError, match=sentence):
        load_world_model(copy, VIEW)


def test_an_adapter_whose_history_cannot_be_is_refused(base, episodes, tmp_path):
    fine_tune(base, episodes, ROBOT, VIEW, tmp_path, replace(SETTINGS, steps=1, history=4))
    about, model = json.loads((tmp_path / FILE).read_text()), load_world_model(base, VIEW)
    for said in (6, -4, 'four', None):
        (tmp_path / FILE).write_text(json.dumps(about | {'history': said}))
        with pytest.raises(UserError, match=f'in multiples of 4 frames, not {said}'):
            load_adapter(model, tmp_path)
    assert model.settings.history == 0
    assert not model.adapter_name


def test_the_command_learns_history_with_an_adapter_and_says_where_it_is(
    base, episodes, tmp_path, monkeypatch, capsys
):
    asked = []
    monkeypatch.setattr('eva_ros.cli.loading.recordings', lambda *_, **__: (ROBOT, VIEW, episodes))
    monkeypatch.setattr('eva_ros.training.launch.launch', lambda _, run, args: run(args))
    monkeypatch.setattr('eva_ros.observations.mirror.mirror_fault', lambda *_: 'none stated')
    monkeypatch.setattr(fine_tuning, 'fine_tune', lambda *given, **_: asked.append(given) or True)
    options = ['--from', str(base), '--lora', '4', '--history', '4', '--out', str(tmp_path / 'l')]
    assert main(['world-model', 'train', '--bags', str(tmp_path), *options]) == 0
    assert asked[0][-1].history == 4
    assert capsys.readouterr().out == f'written to {tmp_path / "l"}\n'
