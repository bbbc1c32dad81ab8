"""Measure how much two samples differ.

Numbers are compared by the Kolmogorov-Smirnov statistic. Counts of categories are compared by the
population stability index and the Jensen-Shannon distance.
"""

import numpy as np

_UNSEEN = 0.5  # added to every count, because a share of zero would make the index infinite
_FEW = 100  # number of values up to which the exact probability is fast to compute


def kolmogorov_smirnov(reference: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """Return (D, p) of two samples of numbers, which must not be empty.

    D, from 0 to 1, is the largest difference between the cumulative distributions of the samples. p
    is the probability that chance alone gives a D at least as large. For more than 100 values p is
    asymptotic, and it is too large if values repeat.
    """
    from scipy.stats import ks_2samp

    few = max(len(reference), len(new)) <= _FEW
    found = ks_2samp(reference, new, method="exact" if few else "asymp")
    return float(found.statistic), float(found.pvalue)


def stability_index(reference: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """Return (PSI, p) of two arrays (K,) of counts of the same categories, not all zero.

    PSI = sum of (q - p) ln(q / p): Siddiqi, Credit Risk Scorecards, 2006. Without drift, PSI / (1/n
    + 1/m) follows chi-squared with K - 1 degrees of freedom: Yurdakul and Naranjo, Journal of Risk
    Model Validation 14 (4), 2020.
    """
    from scipy.stats import chi2

    p, q = _shares(reference), _shares(new)
    index = float(((q - p) * np.log(q / p)).sum())
    return index, float(chi2.sf(index / (1 / reference.sum() + 1 / new.sum()), max(len(p) - 1, 1)))


def jensen_shannon(reference: np.ndarray, new: np.ndarray) -> float:
    """Return the Jensen-Shannon distance of two arrays (K,) of counts, not all zero.

    The distance is the square root of the divergence in bits (Endres and Schindelin, 2003). It is
    0 for equal shares and 1 if no category occurs in both arrays.
    """
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(reference, new, base=2))


def _shares(counts: np.ndarray) -> np.ndarray:
    """Return the share of each category, after adding `_UNSEEN` to its count."""
    return (counts + _UNSEEN) / (counts + _UNSEEN).sum()
