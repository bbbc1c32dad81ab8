"""How far one sample is from another: numbers by the Kolmogorov-Smirnov statistic, shares of kinds by the population
stability index and the Jensen-Shannon distance."""

import numpy as np

_UNSEEN = 0.5  # added to every count, because a share of zero would make the index infinite
_FEW = 100  # values, of which the exact probability is known at once


def kolmogorov_smirnov(reference: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """(D, p) of two samples of numbers, not empty. D, from 0 to 1, is the largest difference between the shares of both
    that are below some value; p how often chance alone gives as large a one (of many, asymptotic; too large where values
    repeat)."""
    from scipy.stats import ks_2samp

    few = max(len(reference), len(new)) <= _FEW
    found = ks_2samp(reference, new, method="exact" if few else "asymp")
    return float(found.statistic), float(found.pvalue)


def stability_index(reference: np.ndarray, new: np.ndarray) -> tuple[float, float]:
    """(PSI, p) of two arrays of counts of the same kinds, (K,), not all zero. PSI = sum of (q - p) ln(q / p): Siddiqi,
    Credit Risk Scorecards, 2006. Where nothing has changed, PSI / (1/n + 1/m) follows chi-squared with K - 1 degrees
    of freedom: Yurdakul and Naranjo, Journal of Risk Model Validation 14 (4), 2020."""
    from scipy.stats import chi2

    p, q = _shares(reference), _shares(new)
    index = float(((q - p) * np.log(q / p)).sum())
    return index, float(chi2.sf(index / (1 / reference.sum() + 1 / new.sum()), max(len(p) - 1, 1)))


def jensen_shannon(reference: np.ndarray, new: np.ndarray) -> float:
    """Of two arrays of counts, not all zero: the square root of the divergence in bits (Endres and Schindelin, 2003), from 0
    for equal shares to 1 for nothing in common."""
    from scipy.spatial.distance import jensenshannon

    return float(jensenshannon(reference, new, base=2))


def _shares(counts: np.ndarray) -> np.ndarray:
    return (counts + _UNSEEN) / (counts + _UNSEEN).sum()
