"""Fine-tuning a Wan checkpoint: the loss falls, a killed run resumes, the adapter loads."""

from dataclasses import replace
import re
from types import SimpleNamespace

from fine_tuning_world import error
from fine_tuning_world import FAMILIES
from fine_tuning_world import moving_square
from fine_tuning_world import ROBOT
from fine_tuning_world import sampler
from fine_tuning_world import SETTINGS
from fine_tuning_world import view
from fine_tuning_world import wan_folder
import pytest
from tensorboard.compat.proto.summary_pb2 import Summary
import torch
from wan_folders import INSTRUCTION
from wan_folders import wan_pipeline

from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.training.loop import Budget
from eva_ros.training.loop import TrainingLoop
from eva_ros.world_model import memory
from eva_ros.world_model.checkpoint import load_world_model
from eva_ros.world_model.fine_tuning import check
from eva_ros.world_model.fine_tuning import fine_tune
from eva_ros.world_model.fine_tuning import FineTuning
from eva_ros.world_model.fine_tuning import logit_normal_levels

VIEW = view(9)


@pytest.fixture(scope='module')
def episodes():
    return [moving_square(4 * seed) for seed in range(4)]


@pytest.fixture(scope='module', params=FAMILIES)
def base(request, tmp_path_factory):
    return wan_folder(request.param, tmp_path_factory)


def loop(base, episodes, folder, settings=SETTINGS):
    model = load_world_model(base, VIEW)
    task = FineTuning(model, sampler(episodes, VIEW.frames), settings, {})
    return TrainingLoop(task, folder, Budget(settings.steps))


def test_an_adapter_learns_the_recordings_and_is_loaded_for_its_base_alone(
    base, episodes, tmp_path
):
    before = error(load_world_model(base, VIEW), episodes)
    settings = replace(SETTINGS, steps=40, batch=4, rank=4)
    assert fine_tune(base, episodes, ROBOT, VIEW, tmp_path / 'lora', settings)
    model = load_world_model(base, VIEW, lora=tmp_path / 'lora')
    assert error(model, episodes) < 0.9 * before
    dream = model.dream(episodes[0].frames[0], INSTRUCTION, seed=0, steps=1)
    assert re.fullmatch(rf'{base.name}@\w{{12}}\+lora@\w{{12}}', dream.checkpoint)
    other = tmp_path / base.name
    wan_pipeline(base.name, ffn_dim=48).save_pretrained(other)
    with pytest.raises(UserError, match='was trained on other weights of'):
        load_world_model(other, VIEW, lora=tmp_path / 'lora')


def test_a_killed_fine_tuning_resumes_exactly(base, episodes, tmp_path):
    whole = loop(base, episodes, tmp_path / 'whole')
    whole.run()
    killed = loop(base, episodes, tmp_path / 'killed')
    killed.run_step()
    killed.save()
    resumed = loop(base, episodes, tmp_path / 'killed')
    assert resumed.resume()
    resumed.run()
    assert len(whole.averages) > 0
    for name, value in whole.averages.items():
        assert torch.equal(value, resumed.averages[name]), name
    with pytest.raises(UserError, match='another settings'):
        loop(base, episodes, tmp_path / 'killed', replace(SETTINGS, rank=4)).resume()


def test_videos_of_dreams_change_no_weight_of_an_adapter(base, episodes, tmp_path, monkeypatch):
    monkeypatch.setattr('eva_ros.training.loop.SHOW_EVERY_S', 0.0)
    shown = []
    monkeypatch.setattr(
        'eva_ros.training.loop.video_summary', lambda *video: shown.append(video) or Summary()
    )
    learnt = []
    for folder in ('with', 'without'):
        trained = loop(base, episodes, tmp_path / folder, replace(SETTINGS, steps=2))
        if folder == 'without':
            trained.task.videos = dict
        trained.run()
        learnt.append(trained.averages)
    assert len(shown) == 4
    name, video = shown[0]
    assert name.endswith(INSTRUCTION)
    assert video.frames.shape == (VIEW.frames, 32, 64, 3)
    for name, value in learnt[0].items():
        assert torch.equal(value, learnt[1][name]), name


def test_noise_levels_are_logit_normal_before_the_shift():
    levels = logit_normal_levels(20_000, 3.0, torch.Generator().manual_seed(0))
    u = levels / (3.0 - 2.0 * levels)
    logits = (u / (1 - u)).log()
    assert float(logits.mean()) == pytest.approx(0.0, abs=0.03)
    assert float(logits.std()) == pytest.approx(1.0, abs=0.03)


def test_what_cannot_be_fine_tuned_is_refused_before_it_is_loaded(
    base, episodes, monkeypatch, capsys
):
    with pytest.raises(UserError, match='is a small model, which is trained whole'):
        check('models/world_model', episodes, VIEW, SETTINGS)
    silent = [SimpleNamespace(instruction='', joints=e.joints) for e in episodes]
    with pytest.raises(UserError, match='nothing to learn from'):
        check(base, silent, VIEW, SETTINGS)
    monkeypatch.setattr(memory, 'available_bytes', lambda: 10)
    monkeypatch.setattr('eva_ros.world_model.fine_tuning.available_bytes', lambda: 10)
    with pytest.raises(UserError, match=r'Fine-tuning .* needs .* and 0\.0 GiB are free'):
        check(base, episodes, VIEW, SETTINGS)
    options = ['world-model', 'train', '--bags', 'bags', '--out', 'new', '--from', str(base)]
    for more, said in (([], 'give --lora RANK'), (['--width', '64'], 'leave out --width')):
        assert main([*options, *more]) == 2
        assert said in capsys.readouterr().err
