"""How sure a figure is: intervals for success rates, means and paired differences."""

from collections.abc import Sequence
from math import sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

Interval = tuple[float, float]

RESAMPLES = 10_000


def wilson_interval(successes: int, trials: int, *, level: float = 0.95) -> Interval:
    """Return the Wilson score interval of a success rate.

    Wilson (1927); unlike the normal approximation it stays within 0 and 1 and is honest for few
    trials and for rates of 0 and 1.

    Args:
        successes: number of successes, 0 to trials.
        trials: number of independent attempts; with none, anything is possible: (0, 1).
        level: how often such an interval holds the true rate.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f'{successes} successes in {trials} trials cannot be')
    if trials == 0:
        return 0.0, 1.0
    z = NormalDist().inv_cdf(0.5 + level / 2)
    rate = successes / trials
    spread = 1 + z * z / trials
    centre = (rate + z * z / (2 * trials)) / spread
    half = z / spread * sqrt(rate * (1 - rate) / trials + z * z / (4 * trials * trials))
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def bootstrap_interval(values: ArrayLike, seed: int, *, level: float = 0.95) -> Interval:
    """Return the percentile bootstrap interval of a mean.

    Args:
        values: one figure per independent thing (clip, scene, episode) [N]; nan is left out.
        seed: of the resampling, so that the same figures give the same interval.
        level: how often such an interval holds the true mean.

    Raises:
        ValueError: there is no value.
    """
    kept = np.asarray(values, dtype=float).ravel()
    kept = kept[~np.isnan(kept)]
    if kept.size == 0:
        raise ValueError('an interval needs at least one value')
    means = _resampled_means(kept, np.random.default_rng(seed))
    low, high = np.quantile(means, [0.5 - level / 2, 0.5 + level / 2])
    return float(low), float(high)


def paired_difference(
    ours: Sequence[float] | ArrayLike,
    theirs: Sequence[float] | ArrayLike,
    seed: int,
    *,
    level: float = 0.95,
) -> tuple[float, Interval]:
    """Return the mean of ours - theirs over the same scenes, and its bootstrap interval.

    Args:
        ours: one figure per scene [N].
        theirs: the figure of the same scene, in the same order [N].
        seed: of the resampling.
        level: how often such an interval holds the true difference.
    """
    first, second = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f'{first.size} and {second.size} figures are not pairs')
    difference = first - second
    return float(np.nanmean(difference)), bootstrap_interval(difference, seed, level=level)


def _resampled_means(values: NDArray, rng: np.random.Generator) -> NDArray:
    rows = max(1, 2_000_000 // values.size)
    means = []
    for start in range(0, RESAMPLES, rows):
        count = min(rows, RESAMPLES - start)
        means.append(values[rng.integers(0, values.size, (count, values.size))].mean(axis=1))
    return np.concatenate(means)
