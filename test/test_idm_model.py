"""What the inverse dynamics model promises of its outputs, trained or not."""

import json

import idm_world
import numpy as np
import pytest
import torch

from eva_ros.idm.config import IdmConfig
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.reading import read_frames
from eva_ros.idm.reading import read_rollout
from eva_ros.idm.reading import Reading
from eva_ros.training.frames import frames_to_tensor


@pytest.fixture
def model():
    torch.manual_seed(0)
    made = InverseDynamics(idm_world.config()).eval()
    made.mean.copy_(torch.linspace(-1, 1, 6))
    made.std.copy_(torch.linspace(0.1, 0.6, 6))
    return made


@pytest.fixture
def frames():
    return frames_to_tensor(idm_world.episode(3).frames)


@pytest.mark.parametrize('stride', [1, 2])
def test_decoding_a_clip_equals_reading_its_windows_with_clamped_ends(frames, stride):
    torch.manual_seed(0)
    model = InverseDynamics(idm_world.config(stride=stride)).eval()
    decoded = read_frames(model, frames[None]).positions[0]
    steps = len(frames)
    windows = [
        torch.stack([frames[min(max(t + k * stride, 0), steps - 1)] for k in (-1, 0, 1)])
        for t in range(steps)
    ]
    torch.testing.assert_close(decoded, model(torch.stack(windows)), rtol=1e-4, atol=1e-5)


def test_decoding_is_differentiable_in_every_frame(model, frames):
    frames = frames[None].clone().requires_grad_()
    read_frames(model, frames).positions.square().sum().backward()
    assert (frames.grad.flatten(2).abs().sum(-1) > 0).all()


def test_the_other_arms_wrist_camera_changes_nothing(model, frames):
    before = read_frames(model, frames[None]).positions
    frames[:, :, 32:, 24:] = torch.rand_like(frames[:, :, 32:, 24:])
    after = read_frames(model, frames[None]).positions
    torch.testing.assert_close(before[..., :3], after[..., :3])
    assert (before[..., 3:] - after[..., 3:]).abs().max() > 1e-4


def test_the_view_may_say_whose_arm_a_camera_shows(frames):
    """A camera called `left` may stand where it shows the right arm best."""
    view = idm_world.view_with_arms(left_wrist=('left', 'right'), right_wrist=('left',))
    config = IdmConfig.of(idm_world.ROBOT, view)
    assert IdmConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    model = InverseDynamics(config).eval()
    before = read_frames(model, frames[None]).positions
    left, right = frames.clone(), frames.clone()
    left[:, :, 32:, :24], right[:, :, 32:, 24:] = 0.5, 0.5
    after_left, after_right = (read_frames(model, f[None]).positions for f in (left, right))
    changed = (before - after_left).abs().amax((0, 1))
    assert changed[:3].max() > 1e-4 and changed[3:].max() > 1e-4
    torch.testing.assert_close(before[..., 3:], after_right[..., 3:])


def test_outputs_are_denormalised(model, frames):
    one = read_frames(model, frames[None]).positions
    model.mean += 1
    torch.testing.assert_close(read_frames(model, frames[None]).positions, one + 1)


def test_uint8_and_float_frames_decode_alike(model):
    frames = idm_world.episode(4).frames
    tensor = read_frames(model, frames_to_tensor(frames)[None]).positions[0]
    np.testing.assert_allclose(
        read_rollout(model, frames).positions, tensor.detach().numpy(), atol=1e-5
    )


def test_command_path_keeps_grippers_between_closed_and_open(model):
    model.mean += 3
    path = read_rollout(model, idm_world.episode(4).frames).smoothed
    assert path.shape == (20, 6)
    assert (path[:, [2, 5]] == 1).all()
    assert (path[:, [0, 1, 3, 4]] > 1).any()


def test_confidence_falls_with_the_expected_error_of_the_arms():
    grippers = torch.tensor(idm_world.GRIPPERS)

    def confidence(spread):
        return Reading(torch.zeros(17, 6), spread, 0.1, grippers).confidence

    spread = torch.full((17, 6), 0.05)
    assert confidence(spread) == pytest.approx(0.5)
    assert confidence(2 * spread) < 0.25
    assert confidence(0 * spread) == 1.0
    spread[:, [2, 5]] = 9.0
    assert confidence(spread) == pytest.approx(0.5)


def test_spread_does_not_bend_what_positions_are_read_from(model, frames):
    reading = model.read(frames[None, :3])
    reading.spread.sum().backward()
    assert all(weight.grad is None for weight in model.towers.parameters())


def test_a_rollout_is_looked_at_once_for_positions_smoothed_path_and_confidence(model):
    frames = idm_world.episode(4).frames
    looked = []
    for tower in model.towers.values():
        tower.register_forward_hook(lambda *_: looked.append(1))
    reading = read_rollout(model, frames)
    assert reading.smoothed.shape == reading.positions.shape
    assert 0 < reading.confidence < 1
    assert len(looked) == len(model.towers)
