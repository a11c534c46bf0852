"""The sign test (Arbuthnott 1710): is one of two paired runs better more often than a coin would have it?"""

from __future__ import annotations

import math

import numpy as np


def sign_test(n_more: int, n_less: int) -> float:
    """Two-sided p-value, exact. Pairs that are equal say nothing and are left out by who counts.

    Args:
        n_more, n_less: pairs in which the one, or the other, is larger.
    """
    n, least = n_more + n_less, min(n_more, n_less)
    if not n:
        return 1.0
    # In logarithms: the coefficients of some thousand pairs are no floats.
    k = np.arange(least + 1)
    logs = np.concatenate([[0.0], np.cumsum(np.log(n - k[:-1]) - np.log(k[1:]))])
    largest = logs.max()
    log_tail = largest + math.log(float(np.exp(logs - largest).sum())) - n * math.log(2)
    return min(1.0, 2 * math.exp(log_tail))


def p_text(p: float) -> str:
    """A p-value as papers write it."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
