"""From fingers to persons: the log10 likelihood ratios of several fingers become one.

Different fingers of a person are treated as independent evidence, so their ratios add. Each print of the
probe speaks once and each print of the reference is used once: where positions are unknown, the best
assignment is taken. A finger that one side lacks says nothing (ratio 1, logarithm 0).

References
----------
.. [1] ISO/IEC TR 24722, Multimodal and other multibiometric fusion (score-level fusion).
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


class Assignment(NamedTuple):
    """Fused ratio and which probe print met which reference print: `pairs` (k, 2)."""

    score: float
    pairs: NDArray[np.int64]


def fuse(scores: NDArray[np.float64], allowed: NDArray[np.bool_]) -> Assignment:
    """Fuse the comparisons of a probe's prints with one encounter's prints.

    Parameters
    ----------
    scores : ndarray of float64, shape (p, r)
        log10 likelihood ratios.
    allowed : ndarray of bool, shape (p, r)
        Where the finger positions agree or one is unknown.

    Returns
    -------
    Assignment
        The one-to-one assignment of allowed pairs with the largest sum, and that sum. Every probe print that
        can be assigned is, with a ratio below 1 too: a finger that does not match is evidence.
    """
    if not allowed.any():
        return Assignment(0.0, np.zeros((0, 2), np.int64))
    unreachable = -1e6  # far below any sum of ratios, so that as many prints as possible are assigned
    i, j = linear_sum_assignment(np.where(allowed, scores, unreachable), maximize=True)
    kept = allowed[i, j]
    pairs = np.column_stack((i[kept], j[kept])).astype(np.int64)
    return Assignment(float(scores[i[kept], j[kept]].sum()), pairs)
