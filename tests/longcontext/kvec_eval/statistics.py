"""Means with standard errors, paired differences, bootstrap and Holm's correction."""

import dataclasses

import numpy as np
from scipy import stats


@dataclasses.dataclass(frozen=True)
class Mean:
    value: float
    error: float  # standard error; NaN for fewer than two values
    count: int


def mean_of(values):
    values = np.asarray(values, dtype=float)
    error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else np.nan
    return Mean(float(values.mean()), float(error), len(values))


def paired(subject, baseline):
    """Mean of subject - baseline, and the two-sided p of the paired t-test: 1 where all
    differences are 0, NaN where there are too few to tell."""
    differences = np.asarray(subject, dtype=float) - np.asarray(baseline, dtype=float)
    mean = mean_of(differences)
    if not differences.any():
        return mean, 1.0
    if not mean.error > 0:
        return mean, np.nan
    return mean, float(stats.ttest_1samp(differences, 0).pvalue)


RESAMPLES = 10_000


def bootstrap(subject, baseline):
    """Bounds of the mean of subject - baseline in 95 % of resamples of the pairs; NaN where there
    are too few to tell. The same for the same numbers."""
    differences = np.asarray(subject, dtype=float) - np.asarray(baseline, dtype=float)
    if len(differences) < 2:
        return np.nan, np.nan
    drawn = np.random.default_rng(0).integers(len(differences), size=(RESAMPLES, len(differences)))
    low, high = np.quantile(differences[drawn].mean(axis=1), (0.025, 0.975))
    return float(low), float(high)


def holm(p_values):
    """Adjusted p-values, in the given order; NaN stays NaN and does not count."""
    adjusted = np.full(len(p_values), np.nan)
    order = [i for i in np.argsort(p_values) if not np.isnan(p_values[i])]
    greatest = 0.0
    for rank, index in enumerate(order):
        greatest = max(greatest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = greatest
    return adjusted.tolist()


def rank_correlation(x, y):
    """Spearman's; NaN where one of the two does not vary."""
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(stats.spearmanr(x, y).statistic)
