"""The inverse dynamics model looks with an image backbone from a local folder."""

import json
import socket

import idm_world
import numpy as np
import pytest
import torch
from transformers import Dinov2Config
from transformers import Dinov2Model
from transformers import ResNetConfig
from transformers import ResNetForImageClassification
from transformers import SiglipVisionConfig
from transformers import SiglipVisionModel

from eva_ros.cli.main import main
from eva_ros.errors import UserError
from eva_ros.idm.backbones import read_backbone
from eva_ros.idm.checkpoint import load_idm
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_frames
from eva_ros.idm.reading import read_rollout
from eva_ros.idm.train import train
from eva_ros.idm.train import training_loop
from eva_ros.idm.train import TrainSettings
from eva_ros.training.frames import frames_to_tensor


def resnet():
    return ResNetForImageClassification(
        ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 16, 16, 16], depths=[1] * 4, layer_type='basic'
        )
    )


def dinov2():
    return Dinov2Model(
        Dinov2Config(
            hidden_size=16,
            num_hidden_layers=2,
            num_attention_heads=2,
            image_size=56,
            patch_size=14,
        )
    )


MADE = {'resnet': resnet, 'dinov2': dinov2}


@pytest.fixture(params=MADE)
def folder(request, tmp_path):
    return saved(MADE[request.param], tmp_path / 'backbone')


def saved(make, folder):
    torch.manual_seed(0)
    make().save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    def refuse(*_):
        raise AssertionError('a connection was opened')

    monkeypatch.setattr(socket.socket, 'connect', refuse)


def settings(**changes):
    return TrainSettings(**({'steps': 3, 'batch_clips': 2, 'warmup_steps': 1} | changes))


def trained(folder, out, *, frozen, stacked=False):
    backbone = read_backbone(folder)
    config = idm_world.config(backbone=backbone.spec, stacked=stacked)
    chosen = settings(freeze_backbone=frozen)
    model = train(config, idm_world.episodes(3), out, chosen, backbone=backbone)
    return backbone, model


@pytest.mark.parametrize('stacked', [False, True])
def test_a_checkpoint_with_a_backbone_reads_alike_after_loading(folder, tmp_path, stacked):
    _, model = trained(folder, tmp_path / 'idm', frozen=False, stacked=stacked)
    loaded = load_idm(tmp_path / 'idm', idm_world.ROBOT, idm_world.VIEW)
    frames = idm_world.episode(5).frames
    before, after = (read_rollout(m, frames).positions for m in (model, loaded))
    np.testing.assert_allclose(after, before, atol=1e-4)


def test_a_frozen_backbone_keeps_its_weights_and_a_fine_tuned_one_does_not(folder, tmp_path):
    for frozen in (True, False):
        backbone, model = trained(folder, tmp_path / f'idm {frozen}', frozen=frozen)
        weights = model.backbone.net.state_dict()
        same = [torch.equal(weights[name], start) for name, start in backbone.weights.items()]
        assert all(same) == frozen


def test_frames_that_are_all_alike_look_the_same_stacked_as_one_of_them(folder):
    backbone = read_backbone(folder)
    picture = 2 * frames_to_tensor(idm_world.episode(1).frames[:1]) - 1
    maps = []
    for stacked, seen in ((False, picture), (True, picture.repeat(1, 3, 1, 1))):
        model = InverseDynamics(idm_world.config(backbone=backbone.spec, stacked=stacked))
        model.backbone.load(backbone.weights)
        maps.append(model.backbone(seen))
    for one, three in zip(*maps, strict=True):
        torch.testing.assert_close(three, one, rtol=1e-3, atol=1e-3)


def test_stacked_windows_read_alike_in_a_clip_and_alone():
    torch.manual_seed(0)
    model = InverseDynamics(idm_world.config(stacked=True)).eval()
    frames = frames_to_tensor(idm_world.episode(3).frames)
    steps = len(frames)
    windows = [
        torch.stack([frames[min(max(t + k, 0), steps - 1)] for k in (-1, 0, 1)])
        for t in range(steps)
    ]
    decoded = read_frames(model, frames[None]).positions[0]
    torch.testing.assert_close(decoded, model(torch.stack(windows)), rtol=1e-4, atol=1e-5)


def test_a_frozen_backbone_still_passes_gradients_to_the_frames(folder, tmp_path):
    _, model = trained(folder, tmp_path / 'idm', frozen=True)
    frames = frames_to_tensor(idm_world.episode(3).frames[:5])[None].requires_grad_()
    read_frames(model, frames).positions.square().sum().backward()
    assert (frames.grad.flatten(2).abs().sum(-1) > 0).all()


def test_a_training_is_not_resumed_with_another_backbone(folder, tmp_path):
    backbone, _ = trained(folder, tmp_path / 'idm', frozen=True)
    with torch.no_grad():
        model = MADE[backbone.spec['config']['model_type']]()
        model.save_pretrained(folder)
    other = read_backbone(folder)
    config = idm_world.config(backbone=other.spec)
    loop = training_loop(
        config, idm_world.episodes(3), tmp_path / 'idm', settings(freeze_backbone=True),
        backbone=other,
    )  # fmt: skip
    with pytest.raises(UserError, match='another backbone'):
        loop.resume()


def test_the_pictures_are_normalised_as_the_folder_says(folder):
    (folder / 'preprocessor_config.json').write_text(
        json.dumps({'image_mean': [0.5, 0.5, 0.5], 'image_std': [0.25, 0.25, 0.25]})
    )
    spec = read_backbone(folder).spec
    assert spec['mean'] == [0.5] * 3 and spec['std'] == [0.25] * 3


def pickled(folder):
    (folder / 'model.safetensors').rename(folder / 'pytorch_model.bin')


def cut_off(folder):
    path = folder / 'model.safetensors'
    path.write_bytes(path.read_bytes()[:-100])


def unnamed(folder):
    (folder / 'config.json').write_text('{}')


def of_timm(folder):
    (folder / 'config.json').write_text(
        json.dumps({'model_type': 'timm_backbone', 'backbone': 'resnet18'})
    )


def missing(folder):
    (folder / 'config.json').unlink()


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        (pickled, 'has no safetensors'),
        (cut_off, 'cannot be read as a backbone'),
        (unnamed, 'describes no backbone'),
        (of_timm, "'timm_backbone'"),
        (missing, 'has no config.json'),
    ],
)
def test_a_folder_that_cannot_be_used_is_refused_in_a_sentence(tmp_path, damage, said):
    folder = saved(resnet, tmp_path / 'backbone')
    damage(folder)
    with pytest.raises(UserError, match=said) as error:
        read_backbone(folder)
    assert '\n' not in str(error.value)


def test_a_kind_of_model_that_has_no_backbone_is_named(tmp_path):
    model = SiglipVisionModel(
        SiglipVisionConfig(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
            image_size=32,
        )
    )  # fmt: skip
    model.save_pretrained(tmp_path / 'siglip')
    with pytest.raises(UserError, match="'siglip_vision_model'"):
        read_backbone(tmp_path / 'siglip')


def test_freezing_needs_a_backbone(capsys, tmp_path):
    code = main(
        ['idm', 'train', '--bags', str(tmp_path), '--out', str(tmp_path / 'idm'), '--steps', '1',
         '--freeze-backbone']
    )  # fmt: skip
    assert code == 2
    assert 'needs --backbone' in capsys.readouterr().err
