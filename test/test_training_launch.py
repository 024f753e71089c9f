"""Several processes that train together end together, with one sentence, and learn as one."""

from accelerate import Accelerator
from accelerate import FullyShardedDataParallelPlugin
from accelerate.utils import DistributedType
import alignment_world
import pytest
from safetensors.torch import load_file
from test_training_divergence import run_direct
from test_training_divergence import run_grpo
from test_training_divergence import train_idm
from test_training_divergence import train_world_model
import torch
from torch.distributed.tensor import DTensor

from eva_ros.errors import UserError
from eva_ros.training import launch
from eva_ros.training.loop import TrainingLoop
from eva_ros.training.run_state import read_tensors
from eva_ros.training.run_state import STATE


def refuse_in_one_process():
    state = launch.process_state()
    if state.process_index == 1:
        raise UserError('One sentence.')
    state.wait_for_everyone()


def test_what_one_of_several_processes_refuses_is_said_as_one_sentence():
    with pytest.raises(UserError, match=r'^One sentence\.$'):
        launch.launch(2, refuse_in_one_process)


def share_three_clips():
    launch.share_of(3, 'clips')


def test_a_batch_that_cannot_be_shared_evenly_is_refused():
    with pytest.raises(UserError, match='3 clips cannot be shared evenly by 2 processes'):
        launch.launch(2, share_three_clips)


def train_idm_briefly(out):
    train_idm(out, steps=3)


def align_by_grpo(out):
    return run_grpo(out, iterations=2, groups=2)


def align_directly(out):
    return run_direct(out, iterations=2)


@pytest.mark.slow
@pytest.mark.parametrize('train', [train_idm_briefly, align_by_grpo, align_directly])
def test_every_training_runs_in_two_processes(tmp_path, train):
    launch.launch(2, train, tmp_path)
    tensors, facts = read_tensors(tmp_path / STATE)
    assert facts['step'] == (3 if train is train_idm_briefly else 2)
    assert any(name.startswith('optimizer 0/') for name in tensors)
    assert (tmp_path / 'eva.json').is_file()


def train_sharded(train, out):
    """Train under FSDP: accelerate has it for GPUs alone, torch for the CPU too."""
    state = Accelerator(cpu=True).state
    state.fsdp_plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2, auto_wrap_policy='no_wrap', cpu_ram_efficient_loading=False
    )
    state.distributed_type = launch.process_state().distributed_type = DistributedType.FSDP
    loop = train(out)
    if isinstance(loop, TrainingLoop):
        assert all(isinstance(weight, DTensor) for weight in loop.weights.values())


@pytest.mark.slow
@pytest.mark.parametrize('train', [train_world_model, align_by_grpo])
def test_shards_learn_what_whole_weights_learn(tmp_path, train):
    launch.launch(2, train, tmp_path / 'whole')
    launch.launch(2, train_sharded, train, tmp_path / 'shards')
    for path in (tmp_path / 'whole').rglob('*.safetensors'):
        other = tmp_path / 'shards' / path.relative_to(tmp_path / 'whole')
        expected, found = load_file(path), load_file(other)
        assert expected.keys() == found.keys()
        for name, value in expected.items():
            torch.testing.assert_close(found[name], value, rtol=0.02, atol=1e-3, msg=name)


def dream_training(out):
    train_world_model(out, alignment_world.episodes(3), learning_rate=0.02)


@pytest.mark.slow
def test_two_processes_learn_what_one_learns(tmp_path):
    learned = []
    for count in (1, 2):
        out = tmp_path / str(count)
        launch.launch(count, dream_training, out)
        tensors, facts = read_tensors(out / 'run' / STATE)
        assert facts['step'] == 6
        # It begins at zero: what is there was learned.
        learned.append(tensors['weights/transformer.proj_out.weight'].flatten())
    assert learned[0].abs().max() > 1e-3
    assert torch.cosine_similarity(*learned, dim=0) > 0.98
