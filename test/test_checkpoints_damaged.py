"""Weights that were cut off on the way end in one sentence that names the file."""

import shutil

import pytest

from eva_ros.episodes.views import load_view
from eva_ros.errors import UserError
from eva_ros.idm.checkpoint import load_idm
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.robot.spec import load_robot
from eva_ros.world_model.checkpoint import load_world_model


def cut(source, folder):
    shutil.copytree(source, folder)
    (path,) = folder.glob('*.safetensors')
    path.write_bytes(path.read_bytes()[:1000])
    return folder


def test_a_damaged_inverse_dynamics_model_is_named(tmp_path):
    folder = cut(checkpoint_dir() / 'idm', tmp_path / 'idm')
    with pytest.raises(UserError, match=r'model\.safetensors cannot be read'):
        load_idm(folder, load_robot('aloha_sim'), load_view('aloha_sim'))


def test_a_damaged_adapter_is_named(tmp_path):
    folder = cut(checkpoint_dir() / 'aligned', tmp_path / 'aligned')
    with pytest.raises(UserError, match=r'pytorch_lora_weights\.safetensors cannot be read'):
        load_world_model(checkpoint_dir() / 'world_model', lora=folder)
