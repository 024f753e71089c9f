"""Weights that are damaged, not finite or not whole end in one sentence: file and tensor."""

import shutil

import alignment_world
import idm_world
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.torch import save_file
import small_models
import torch

from eva_ros.alignment.direct import DirectSettings
from eva_ros.alignment.policy import WorldModelPolicy
from eva_ros.alignment.trainer import align
from eva_ros.alignment.trainer import training_loop as alignment_loop
from eva_ros.errors import UserError
from eva_ros.evaluation import controls
from eva_ros.idm.checkpoint import load_idm
from eva_ros.idm.train import train
from eva_ros.idm.train import training_loop
from eva_ros.idm.train import TrainSettings
from eva_ros.observations.views import load_view
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.spec import load_robot
from eva_ros.world_model.checkpoint import load_world_model

ADAPTER = 'aligned/pytorch_lora_weights.safetensors'
QUERY = 'blocks.2.attn1.to_q.lora_A.weight'


@pytest.fixture
def models(tmp_path):
    """Return a copy of the shipped models, and beside them a world model with words of its own."""
    small_models.small_world_model(tmp_path / 'models' / 'words')
    return shutil.copytree(checkpoint_dir(), tmp_path / 'models', dirs_exist_ok=True)


def load(models, path):
    """Load the checkpoint that a file belongs to."""
    robot, view = load_robot('aloha_sim'), load_view('aloha_sim')
    if path.startswith('idm'):
        return load_idm(models / 'idm', robot, view)
    if path.startswith('controls'):
        return controls.load(models / 'controls', robot, view)
    if path.startswith('words'):
        return load_world_model(models / 'words', robot=robot, view=view)
    lora = models / 'aligned' if path.startswith('aligned') else None
    return load_world_model(models / 'world_model', lora=lora, robot=robot, view=view)


def change(path, how):
    """Write a safetensors file again, its tensors changed by `how`."""
    with safe_open(path, 'pt') as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        metadata = file.metadata()
    how(tensors)
    save_file(tensors, path, metadata)


def plant(name, value):
    def how(tensors):
        tensors[name].view(-1)[0] = value

    return how


def rename(name, other):
    def how(tensors):
        tensors[other] = tensors.pop(name)

    return how


FILES = {
    'idm/model.safetensors': 'heads.left.joints.bias',
    'world_model/transformer/diffusion_pytorch_model.safetensors': 'blocks.0.attn1.to_k.bias',
    'world_model/codec/codec.safetensors': 'change_basis',
    'words/text/text.safetensors': 'embedding.weight',
    ADAPTER: QUERY,
}


@pytest.mark.parametrize('path', ['idm/model.safetensors', ADAPTER])
def test_a_file_that_was_cut_off_is_named(models, path):
    (models / path).write_bytes((models / path).read_bytes()[:1000])
    with pytest.raises(UserError, match=rf'{path} cannot be read'):
        load(models, path)


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('path', FILES)
def test_weights_that_are_not_finite_are_refused_by_file_and_tensor(models, path, value):
    change(models / path, plant(FILES[path], value))
    with pytest.raises(UserError) as refused:
        load(models, path)
    said = str(refused.value)
    assert str(models / path) in said
    assert f"values of '{FILES[path]}' is not finite" in said
    assert '\n' not in said


@pytest.mark.parametrize('path', FILES)
def test_a_missing_and_a_foreign_weight_are_refused_by_file_and_name(models, path):
    name = FILES[path]
    shutil.copy(models / path, models / 'whole')
    change(models / path, lambda tensors: tensors.pop(name))
    with pytest.raises(UserError, match=rf"{path} lacks weights \('{name}', 1 in all\)"):
        load(models, path)
    shutil.copy(models / 'whole', models / path)
    change(models / path, lambda tensors: tensors.update({'stranger': torch.zeros(1)}))
    with pytest.raises(UserError, match=rf"{path} holds foreign weights \('stranger', 1 in all"):
        load(models, path)


def test_an_adapter_without_the_weights_of_one_block_is_refused(models):
    def without(tensors):
        for name in [name for name in tensors if name.startswith('blocks.3.')]:
            del tensors[name]

    change(models / ADAPTER, without)
    with pytest.raises(UserError, match=r"lacks weights \('blocks\.3\.attn1\..*, 20 in all\)"):
        load(models, ADAPTER)


def test_an_adapter_without_its_settings_is_still_compared_block_by_block(models):
    def without_metadata(how):
        with safe_open(models / ADAPTER, 'pt') as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        how(tensors)
        save_file(tensors, models / ADAPTER)

    without_metadata(lambda tensors: None)
    assert load(models, ADAPTER).adapter_name == '+aligned'
    without_metadata(lambda tensors: tensors.pop(QUERY))
    with pytest.raises(UserError, match='lacks weights'):
        load(models, ADAPTER)


def test_weights_of_another_shape_are_refused_by_name(models):
    change(models / ADAPTER, lambda tensors: tensors.update({QUERY: torch.zeros(16, 3)}))
    with pytest.raises(UserError, match=r"'blocks\.2\..* has the shape \(16, 3\), not \(16, 256"):
        load(models, ADAPTER)


def test_controls_that_are_not_finite_are_refused(models):
    path = models / 'controls' / controls.FILE
    with np.load(path) as arrays:
        changed = dict(arrays)
    changed['reach_left.motions'][0, 3, 1] = np.nan
    np.savez_compressed(path, **changed)
    with pytest.raises(UserError, match=r"controls\.npz: 1 of .* 'reach_left\.motions' is not"):
        load(models, 'controls')


def test_a_state_of_the_idm_that_is_not_finite_or_cut_off_is_not_resumed(tmp_path):
    settings = TrainSettings(steps=2, batch_clips=2)
    recorded = idm_world.episodes(2)
    loop = training_loop(idm_world.config(), recorded, tmp_path, settings)
    loop.run_step()
    loop.save()
    path = tmp_path / 'training.safetensors'
    whole = path.read_bytes()
    change(path, plant('optimizer 1/0.exp_avg', np.nan))
    with pytest.raises(
        UserError, match=r"training\.safetensors: 1 of .* 'optimizer 1/0\.exp_avg' is not"
    ):
        train(idm_world.config(), recorded, tmp_path, settings)
    path.write_bytes(whole[:1000])
    with pytest.raises(UserError, match=r'training\.safetensors cannot be read'):
        train(idm_world.config(), recorded, tmp_path, settings)


def test_a_state_of_an_alignment_that_is_not_finite_is_not_resumed(tmp_path):
    settings = DirectSettings(iterations=2, dreams=2, rank=2, data_clips=1)
    prompts, judge = alignment_world.prompts(2), alignment_world.brightness_judge()

    def policy():
        return WorldModelPolicy(alignment_world.world_model(), 2, 0)

    alignment_loop(policy(), prompts, judge, settings, tmp_path).save()
    path = tmp_path / 'training.safetensors'
    name = f'transformer.{next(iter(policy().parameters()))}'
    change(path, plant(f'weights/{name}', np.inf))
    with pytest.raises(
        UserError, match=rf"training\.safetensors: 1 of .* 'weights/{name}' is not"
    ):
        align(policy(), prompts, judge, tmp_path, settings)
