"""A training is resumed, or refused with what is on disk left as it was."""

import pytest
from test_training_divergence import run_direct
from test_training_divergence import run_grpo
from test_training_divergence import train_idm
from test_training_divergence import train_world_model
import torch

from eva_ros.errors import UserError
from eva_ros.training.run_state import STATE
from eva_ros.training.run_state import write_tensors


@pytest.mark.parametrize(
    ('run', 'name'),
    [
        (train_idm, STATE), (run_direct, STATE), (run_grpo, STATE),
        (train_world_model, 'run/state.pt'),
    ],
)  # fmt: skip
def test_a_state_of_an_earlier_version_is_refused_and_kept(tmp_path, run, name):
    path = tmp_path / name
    write_tensors(path, {'weights/x': torch.ones(2)}, {'step': 3, 'spent_s': 1.0, 'world': {}})
    before = path.read_bytes()
    with pytest.raises(UserError, match=rf'{name} is the state .* give another --out\.'):
        run(tmp_path)
    assert path.read_bytes() == before
    assert not (path.parent / STATE).exists() or path.name == STATE
    assert not (tmp_path / 'eva.json').exists()
