"""A checkpoint of an inverse dynamics model knows its world and refuses another."""

from types import SimpleNamespace

import idm_world
import numpy as np
import pytest
import torch

from eva_ros.errors import UserError
from eva_ros.idm.checkpoint import load_idm
from eva_ros.idm.checkpoint import save_idm
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_rollout
from eva_ros.training.manifest import view_fingerprint


@pytest.fixture
def folder(tmp_path):
    torch.manual_seed(0)
    model = InverseDynamics(idm_world.config())
    save_idm(model, tmp_path / 'idm', {'seed': 0}, view_fingerprint(idm_world.VIEW))
    return tmp_path / 'idm'


def changed(thing, **changes):
    return SimpleNamespace(**{**vars(thing), **changes})


def test_loaded_model_decodes_as_the_saved_one(folder):
    torch.manual_seed(0)
    frames = idm_world.episode(1).frames
    saved = InverseDynamics(idm_world.config()).eval()
    loaded = load_idm(folder, idm_world.ROBOT, idm_world.VIEW)
    before, after = (read_rollout(model, frames).positions for model in (saved, loaded))
    np.testing.assert_allclose(after, before, atol=1e-5)
    assert loaded.config == idm_world.config()


@pytest.mark.parametrize(
    ('robot', 'view', 'said'),
    [
        ({'name': 'other'}, {}, "trained on robot 'dots', not on 'other'"),
        ({'joint_names': idm_world.JOINTS[::-1]}, {}, 'in this order'),
        ({}, {'name': 'other'}, "for view 'dots', not 'other'"),
        ({}, {'rate_hz': 20.0}, 'trained at 10 Hz'),
        ({}, {'width': 64}, 'for frames of 48x48'),
        ({}, {'cameras': idm_world.VIEW.cameras[::-1]}, 'another camera layout'),
    ],
)
def test_another_world_is_refused_with_a_sentence_that_says_which(folder, robot, view, said):
    with pytest.raises(UserError, match=said):
        load_idm(folder, changed(idm_world.ROBOT, **robot), changed(idm_world.VIEW, **view))


def test_missing_folder_and_other_kind_are_refused(folder, tmp_path):
    with pytest.raises(UserError, match='does not hold an IDM'):
        load_idm(tmp_path / 'nothing')
    path = folder / 'eva.json'
    path.write_text(path.read_text().replace('"kind": "idm"', '"kind": "world_model"'))
    with pytest.raises(UserError, match="kind 'world_model'"):
        load_idm(folder)
