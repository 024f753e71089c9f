"""The adapter that ships: when it is loaded, and that it may be merged."""

import numpy as np
import pytest

from eva_ros.errors import UserError
from eva_ros.nodes.checkpoints import adapter_folder
from eva_ros.robot.paths import checkpoint_dir
from eva_ros.world_model.checkpoint import load_world_model

SHIPPED = checkpoint_dir() / 'aligned'


@pytest.mark.parametrize(
    ('value', 'checkpoint', 'folder'),
    [
        ('auto', 'default', SHIPPED),
        ('auto', '', SHIPPED),
        ('auto', str(checkpoint_dir() / 'world_model'), None),
        ('default', 'elsewhere', SHIPPED),
        ('none', 'default', None),
        (str(SHIPPED), 'elsewhere', SHIPPED),
    ],
)
def test_the_shipped_adapter_goes_with_the_shipped_checkpoint(value, checkpoint, folder):
    assert adapter_folder(value, checkpoint) == folder


def test_an_adapter_that_is_not_there_is_refused():
    with pytest.raises(UserError, match='There is no checkpoint folder elsewhere'):
        adapter_folder('elsewhere', 'default')


def test_a_merged_adapter_dreams_the_same_up_to_rounding():
    folder = checkpoint_dir() / 'world_model'
    apart, merged, without = (
        load_world_model(folder, lora=lora) for lora in (SHIPPED, SHIPPED, None)
    )
    view = np.random.default_rng(0).integers(256, size=(144, 128, 3), dtype=np.uint8)
    dreams = [
        model.dream(view, 'lift the cube with the left arm', seed=1)
        for model in (apart, merged.for_dreaming(), without)
    ]
    frames = [dream.frames.astype(int) for dream in dreams]
    assert not hasattr(merged.transformer.blocks[0].attn1.to_q, 'lora_A')
    assert np.abs(frames[0] - frames[1]).mean() < 0.3 * np.abs(frames[0] - frames[2]).mean()
    assert dreams[0].checkpoint == dreams[1].checkpoint != dreams[2].checkpoint
