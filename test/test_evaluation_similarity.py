"""Structural similarity is the published one."""

import numpy as np
import pytest

from eva_ros.evaluation.similarity import ms_ssim
from eva_ros.evaluation.similarity import ssim


def videos(size):
    """Return a video of two frames and a noisy copy."""
    rng = np.random.default_rng(0)
    ys, xs = np.mgrid[: size[0], : size[1]]
    frames = [
        (128 + 80 * np.sin(xs / 7 + t) + 0 * ys, 128 + 80 * np.cos(ys / 5 + t),
         (xs * 3 + ys * 2 + 9 * t) % 256)
        for t in range(2)
    ]  # fmt: skip
    clean = np.stack([np.stack(frame, -1) for frame in frames])
    noisy = clean + rng.normal(0, 25, clean.shape)
    return clean.clip(0, 255).astype(np.uint8), noisy.clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ('size', 'known'), [((48, 64), 0.331703919517677), ((192, 180), 0.35424415746974836)]
)
def test_ssim_is_that_of_scikit_image(size, known):
    # structural_similarity(..., gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    # data_range=255, channel_axis=-1) of scikit-image 0.25, the mean of both frames.
    assert ssim(*videos(size)) == pytest.approx(known, abs=1e-9)


def test_ms_ssim_is_that_of_pytorch_msssim():
    # ms_ssim(..., data_range=255) of pytorch-msssim 1.0, whose window is in single precision.
    assert ms_ssim(*videos((192, 180))) == pytest.approx(0.8985763912, abs=1e-4)


def test_ssim_of_one_window_is_equation_13():
    a, b = (video[:1, :11, :11] for video in videos((48, 64)))
    taps = np.exp(-0.5 * (np.arange(-5, 6) / 1.5) ** 2)
    weights = np.outer(taps, taps)[..., None] / taps.sum() ** 2
    x, y = a[0].astype(float), b[0].astype(float)

    def mean(values):
        return (weights * values).sum((0, 1))

    mx, my = mean(x), mean(y)
    vx, vy = mean((x - mx) ** 2), mean((y - my) ** 2)
    covariance = mean((x - mx) * (y - my))
    c1, c2 = 2.55**2, 7.65**2
    expected = ((2 * mx * my + c1) * (2 * covariance + c2)) / (
        (mx**2 + my**2 + c1) * (vx + vy + c2)
    )
    assert ssim(a, b) == pytest.approx(expected.mean(), abs=1e-9)


@pytest.mark.parametrize('size', [(11, 11), (30, 25), (144, 128)])
def test_alike_is_one_and_pictures_smaller_than_five_scales_have_a_figure(size):
    clean, noisy = videos(size)
    for measure in (ssim, ms_ssim):
        assert measure(clean, clean) == pytest.approx(1.0)
        assert 0 < measure(noisy, clean) < 0.95


def test_opposite_structures_are_unlike_and_not_nan():
    clean, _ = videos((48, 64))
    assert ms_ssim(255 - clean, clean) < 0.2
