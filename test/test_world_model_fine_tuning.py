"""Fine-tuning a Wan checkpoint: the loss falls, a killed run resumes, the adapter loads."""

from dataclasses import replace
import re
from types import SimpleNamespace

import numpy as np
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
from eva_ros.world_model.clips import ClipSampler
from eva_ros.world_model.clips import ClipSettings
from eva_ros.world_model.clips import find_clips
from eva_ros.world_model.fine_tuning import check
from eva_ros.world_model.fine_tuning import fine_tune
from eva_ros.world_model.fine_tuning import FineTuneSettings
from eva_ros.world_model.fine_tuning import FineTuning
from eva_ros.world_model.fine_tuning import logit_normal_levels
from eva_ros.world_model.train import flow_loss

VIEW = SimpleNamespace(name='tiny', height=32, width=32, rate_hz=10.0, frames=9, cameras=[])
ROBOT = SimpleNamespace(name='any', joint_names=())
SETTINGS = FineTuneSettings(steps=3, rank=2, batch=2, learning_rate=1e-2, warmup=1)


def moving_square(seed):
    video = np.full((20, 32, 32, 3), 40, np.uint8)
    joints = np.zeros((20, 14))
    for t in range(20):
        x = int(np.clip(2 * (t - 4), 0, 20))
        video[t, 4 * seed : 4 * seed + 6, x : x + 8] = 220
        joints[t] = 0.05 * x
    return SimpleNamespace(frames=video, joints=joints, instruction=INSTRUCTION)


@pytest.fixture(scope='module')
def episodes():
    return [moving_square(seed) for seed in range(4)]


@pytest.fixture(scope='module', params=['wan2.2-ti2v', 'wan2.2-a14b'])
def base(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp('fine') / request.param
    wan_pipeline(request.param).save_pretrained(folder)
    return folder


def sampler(episodes):
    clips = find_clips([e.joints for e in episodes], 0.1, ClipSettings(VIEW.frames))
    return ClipSampler(episodes, clips, seed=0)


def loop(base, episodes, folder, settings=SETTINGS):
    model = load_world_model(base, VIEW)
    task = FineTuning(model, sampler(episodes), settings, {})
    return TrainingLoop(task, folder, Budget(settings.steps))


def error(model, episodes):
    """Return the loss on fixed clips, noise and levels."""
    frames, words = sampler(episodes).batch(99, 8)
    generator = torch.Generator().manual_seed(0)
    sigma = torch.linspace(0.2, 1.0, 8)
    with torch.no_grad():
        return float(flow_loss(model, frames, words, sigma, model.noise(8, generator)))


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
