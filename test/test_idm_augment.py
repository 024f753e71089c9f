"""What training does to frames: pictures stay pictures, and the draw can be repeated."""

import pytest
import torch

from eva_ros.idm import augment


@pytest.fixture
def clips():
    return torch.rand(6, 5, 3, 16, 24, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    'corruption', [augment.jitter_colours, augment.add_noise, *augment.BUILT_IN]
)
def test_corruption_keeps_shape_and_changes_something(clips, corruption):
    torch.manual_seed(0)
    out = corruption(clips)
    assert out.shape == clips.shape
    assert (out - clips).abs().max() > 1e-3


def test_same_torch_seed_gives_the_same_pictures(clips):
    outs = []
    for _ in range(2):
        torch.manual_seed(3)
        outs.append(augment.augment(clips, [], 0.5))
    torch.testing.assert_close(*outs, rtol=0, atol=0)


def test_given_corruptions_get_their_part_of_the_batch(clips):
    seen = []

    def black(some):
        seen.append(len(some))
        return torch.zeros_like(some)

    torch.manual_seed(0)
    for _ in range(8):
        out = augment.augment(clips, [black], 1.0)
        assert out.min() >= 0
        assert out.max() <= 1
    assert sum(seen) == pytest.approx(8 * 6 / 4, abs=6)


def test_blur_moves_nothing(clips):
    spot = torch.zeros(1, 1, 3, 17, 17)
    spot[..., 8, 8] = 1
    torch.manual_seed(1)
    out = augment.blur(spot.repeat(4, 1, 1, 1, 1))
    weights = out[:, 0, 0] / out[:, 0, 0].sum((1, 2), keepdim=True)
    rows = (weights.sum(2) * torch.arange(17.0)).sum(1)
    torch.testing.assert_close(rows, torch.full((4,), 8.0))
