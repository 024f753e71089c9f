"""Confidence intervals of success rates, means and paired differences."""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import binomtest
from scipy.stats import bootstrap

Interval = tuple[float, float]

LEVEL = 0.95
RESAMPLES = 10_000


def wilson_interval(successes: int, trials: int) -> Interval:
    """Return the 95 % Wilson score interval of a success rate.

    Wilson (1927); unlike the normal approximation it stays within 0 and 1 and is valid for few
    trials and for rates of 0 and 1.

    Args:
        successes: Number of successes, 0 to trials.
        trials: Number of independent attempts; with none, the interval is (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f'{successes} successes in {trials} trials cannot be')
    if trials == 0:
        return 0.0, 1.0
    found = binomtest(successes, trials).proportion_ci(LEVEL, method='wilson')
    return float(found.low), float(found.high)


def bootstrap_interval(values: ArrayLike, seed: int) -> Interval:
    """Return the 95 % percentile bootstrap interval of a mean.

    Args:
        values: One value per independent sample (clip, scene, episode) [N]; nan is left out.
        seed: Random seed of the resampling.

    Raises:
        ValueError: There is no value.
    """
    kept = np.asarray(values, dtype=float).ravel()
    kept = kept[~np.isnan(kept)]
    if kept.size == 0:
        raise ValueError('an interval needs at least one value')
    if kept.size == 1:  # resampling one value gives that value; SciPy refuses it
        return float(kept[0]), float(kept[0])
    found = bootstrap(
        (kept,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // kept.size),
        confidence_level=LEVEL,
        method='percentile',
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return float(found.low), float(found.high)


def bootstrap_ratio(values: ArrayLike, reference: ArrayLike, seed: int) -> tuple[float, Interval]:
    """Return the sum of values over that of a reference, and its 95 % bootstrap interval.

    Args:
        values: One value per independent sample [N].
        reference: Values to divide by, of the same samples [N].
        seed: Random seed of the resampling.
    """
    ours, theirs = np.asarray(values, dtype=float), np.asarray(reference, dtype=float)
    ratio = float(ours.sum() / theirs.sum())
    if ours.size == 1:
        return ratio, (ratio, ratio)
    found = bootstrap(
        (ours, theirs),
        lambda a, b, axis: a.sum(axis) / b.sum(axis),
        n_resamples=RESAMPLES,
        batch=max(1, 2_000_000 // ours.size),
        paired=True,
        vectorized=True,
        confidence_level=LEVEL,
        method='percentile',
        random_state=np.random.default_rng(seed),
    ).confidence_interval
    return ratio, (float(found.low), float(found.high))


def paired_difference(
    ours: Sequence[float] | ArrayLike, theirs: Sequence[float] | ArrayLike, seed: int
) -> tuple[float, Interval]:
    """Return the mean of ours - theirs over the same scenes, and its bootstrap interval.

    Args:
        ours: One value per scene [N].
        theirs: Values of the same scenes, in the same order [N].
        seed: Random seed of the resampling.
    """
    first, second = np.asarray(ours, dtype=float), np.asarray(theirs, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f'{first.size} and {second.size} figures are not pairs')
    difference = first - second
    return float(np.nanmean(difference)), bootstrap_interval(difference, seed)


class PairedGain(NamedTuple):
    """What one variant succeeds more often at than another, on the same scenes.

    Attributes:
        mean: Mean over tasks of the difference of success rates, -1 to 1.
        interval: 95 % percentile bootstrap interval, scenes resampled within each task.
        gained: Scenes that only the first did.
        lost: Scenes that only the second did.
        p_value: Of McNemar's exact test, two-sided; 1 where no scene differs.
    """

    mean: float
    interval: Interval
    gained: int
    lost: int
    p_value: float


def paired_gain(
    ours: Mapping[str, Sequence[float]], theirs: Mapping[str, Sequence[float]], seed: int
) -> PairedGain:
    """Compare the successes of two variants on the same scenes.

    Args:
        ours: Successes, 0 or 1, by task, in the order of the scenes; or their means over training
            seeds, for which gained, lost and p-value mean nothing.
        theirs: Successes of the other variant in the same scenes.
        seed: Random seed of the resampling.

    Raises:
        ValueError: `ours` and `theirs` are empty, or differ in their tasks or number of scenes.
    """
    if not ours or {t: len(s) for t, s in ours.items()} != {t: len(s) for t, s in theirs.items()}:
        raise ValueError('the tasks or the numbers of scenes of two variants differ')
    rng = np.random.default_rng(seed)
    differences = [np.array(ours[task], float) - np.array(theirs[task], float) for task in ours]
    drawn = [d[rng.integers(len(d), size=(RESAMPLES, len(d)))].mean(1) for d in differences]
    low, high = np.quantile(np.mean(drawn, axis=0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    every = np.concatenate(differences)
    gained, lost = int((every > 0).sum()), int((every < 0).sum())
    p_value = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    mean = float(np.mean([d.mean() for d in differences]))
    return PairedGain(mean, (float(low), float(high)), gained, lost, float(p_value))
