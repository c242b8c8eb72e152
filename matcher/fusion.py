"""From prints to persons: the log10 likelihood ratios of many pairs of prints become one.

Prints of one known position on one side are impressions of one finger; a print of unknown position is a
finger of its own. The ratios of all impressions of two fingers are correlated, for they share prints: n of
them, of mean m, are worth m n / (1 + (n - 1) correlation), the design effect of a clustered sample [2]_.

Different fingers of a person are independent evidence, so their ratios add. Each finger of the probe speaks
once and each of the reference is used once: where positions are unknown, the best assignment is taken. A
finger that one side lacks says nothing (ratio 1, logarithm 0).

A recorded position may be wrong: two fingers exchanged, the hands exchanged, one print under another's name.
So fingers whose positions disagree may meet too, at a price for each such pair, and one price for two fingers
that are exchanged; and only where some pair is worth more than its price. A finger whose partner met another
still speaks against, on the side where that costs less: positions were recorded wrongly on one side, not on
both.

References
----------
.. [1] ISO/IEC TR 24722, Multimodal and other multibiometric fusion (score-level fusion).
.. [2] L. Kish, "Survey Sampling", Wiley 1965 (design effect of correlated observations).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from matcher.template import Finger

Floats = NDArray[np.float64]
Pairs = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class FusionRules:
    """The numbers of fusion.

    Attributes
    ----------
    correlation : float
        Of two ratios of the same two fingers, from 0 (they add) to 1 (their mean).
    price : float
        Taken from the log10 ratio of a pair whose positions disagree; once for two fingers exchanged.
    """

    # Measured with left-out ratios of the eight FVC B sets, 1 x 2 to 4 x 4 impressions, against the greatest
    # ratio, the mean ratio and correlations 0 to 1. At 0.5 false-match rates are near or below those stated,
    # Cllr is the least or within 0.001 bit of it, and at the threshold for FMR 1e-9 fewer mates are missed
    # than by the greatest ratio. From 0 to 1/3 one print against many of a finger is overstated.
    correlation: float = 0.5
    # An assumption, not a count: one print in a hundred is recorded under a wrong position, which may be any
    # of nine others, so 1 in 900 for each. Measured on strangers, one print against ten of known positions:
    # at 3 the rate of false matches grows by a seventh, at 2 it doubles and exceeds the stated one.
    price: float = 3.0


RULES = FusionRules()
_NEVER = -1e6
"""Far below any sum of ratios."""


class Fused(NamedTuple):
    """Fused log10 ratio, and the prints that met: `pairs` (k, 2), the most alike of each two fingers."""

    score: float
    pairs: Pairs


def may_meet(a: Finger, b: Finger) -> bool:
    """Return whether these positions agree: they are equal, or one is unknown."""
    return a == b or Finger.UNKNOWN in (a, b)


def fingers_of(positions: Sequence[Finger]) -> list[list[int]]:
    """Group prints by finger: indices of one known position together, each of an unknown one alone."""
    groups: dict[tuple[Finger, int], list[int]] = {}
    for i, position in enumerate(positions):
        key = (position, i if position == Finger.UNKNOWN else -1)
        groups.setdefault(key, []).append(i)
    return list(groups.values())


def count_choices(probe: Sequence[Finger], reference: Sequence[Finger]) -> float:
    """Return how many pairs of fingers there are to choose from for each that is assigned, at least 1."""
    mine, theirs = ([side[group[0]] for group in fingers_of(side)] for side in (probe, reference))
    pairs = sum(may_meet(a, b) for a in mine for b in theirs)
    return max(1.0, pairs / max(1, min(len(mine), len(theirs))))


def fuse(
    probe: Sequence[Finger], reference: Sequence[Finger], scores: Floats, *, rules: FusionRules = RULES
) -> Fused:
    """Fuse the comparisons of a probe's prints with one encounter's prints.

    Parameters
    ----------
    probe, reference : sequence of Finger
        Positions of the p and r prints.
    scores : ndarray of float64, shape (p, r)
        log10 likelihood ratios; NaN where two prints were not compared.
    rules : FusionRules

    Returns
    -------
    Fused
        The one-to-one assignment of fingers with the largest sum, and that sum. Where positions agree every
        finger that can be assigned is, with a ratio below 1 too: a finger that does not match is evidence.
    """
    mine, theirs = fingers_of(probe), fingers_of(reference)
    ratios = _finger_ratios(mine, theirs, scores, rules.correlation)
    ours, others = [probe[group[0]] for group in mine], [reference[group[0]] for group in theirs]
    agree = np.array([[may_meet(a, b) for b in others] for a in ours], bool).reshape(ratios.shape)
    known = ~np.isnan(ratios)
    score, pairs = _assign(np.where(agree & known, ratios, _NEVER))
    gains = np.where(known, ratios - np.where(agree, 0.0, rules.price), _NEVER)
    worthwhile = (gains > 0) & ~agree
    if worthwhile.any():
        crossed, crossing = _exchange(gains, ratios, pairs)
        crossed += rules.price * _swaps([(ours[a], others[b]) for a, b in crossing.tolist()])
        if crossed > score and worthwhile[crossing[:, 0], crossing[:, 1]].any():
            score, pairs = crossed, crossing
    return Fused(score, _best_impressions(pairs, mine, theirs, scores))


def unmatched_pairs(
    probe: Sequence[Finger], reference: Sequence[Finger], matched: Collection[tuple[int, int]]
) -> list[tuple[int, int]]:
    """Return the pairs of prints whose positions disagree, of fingers that no pair of `matched` has."""
    mine = {probe[i] for i, _ in matched}
    theirs = {reference[j] for _, j in matched}
    open_ = [j for j, finger in enumerate(reference) if finger not in theirs]
    return [
        (i, j)
        for i, finger in enumerate(probe)
        if finger not in mine
        for j in open_
        if not may_meet(finger, reference[j])
    ]


def _finger_ratios(
    mine: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]], scores: Floats, correlation: float
) -> Floats:
    """Fuse the impressions of every two fingers, (p, r) -> (a, b); NaN where none were compared."""
    if len(mine) == scores.shape[0] and len(theirs) == scores.shape[1]:
        return scores  # one impression of each finger, as a rule
    known = ~np.isnan(scores)
    rows, columns = _membership(mine, scores.shape[0]), _membership(theirs, scores.shape[1])
    total = rows @ np.where(known, scores, 0.0) @ columns.T
    count = rows @ known @ columns.T
    worth = total / (1 + (count - 1) * correlation)
    return np.asarray(np.where(count > 0, worth, np.nan))


def _membership(groups: Sequence[Sequence[int]], size: int) -> Floats:
    table = np.zeros((len(groups), size))
    for k, members in enumerate(groups):
        table[k, members] = 1.0
    return table


def _assign(gains: Floats) -> tuple[float, Pairs]:
    """Assign as many as possible, and of those assignments the one with the largest sum."""
    pairs = np.column_stack(linear_sum_assignment(gains, maximize=True)).astype(np.int64)
    values = gains[pairs[:, 0], pairs[:, 1]]
    kept = values > _NEVER
    return float(values[kept].sum()), pairs[kept]


def _exchange(gains: Floats, ratios: Floats, agreed: Pairs) -> tuple[float, Pairs]:
    """Assign with disagreeing positions: the better of the probe's and the reference's being the wrong ones.

    `agreed` is the assignment without them; a finger that it had, and that now meets nobody, still counts
    with what spoke against it there.
    """
    against = np.minimum(ratios[agreed[:, 0], agreed[:, 1]], 0.0)
    alone = np.zeros(gains.shape[0]), np.zeros(gains.shape[1])
    for side in (0, 1):
        alone[side][agreed[:, side]] = against
    a, first = _assign_or_leave(gains, alone[0])
    b, second = _assign_or_leave(gains.T, alone[1])
    return (a, first) if a >= b else (b, second[:, ::-1])


def _assign_or_leave(gains: Floats, alone: Floats) -> tuple[float, Pairs]:
    """Assign rows where that is worth more than to leave them `alone`; ties go to the pair."""
    leave = np.full((len(alone), len(alone)), _NEVER)
    np.fill_diagonal(leave, alone - 1e-9)
    table = np.hstack((gains, leave))
    i, j = linear_sum_assignment(table, maximize=True)
    met = j < gains.shape[1]
    score = gains[i[met], j[met]].sum() + alone[i[~met]].sum()
    return float(score), np.column_stack((i[met], j[met])).astype(np.int64)


def _swaps(met: Collection[tuple[Finger, Finger]]) -> int:
    """Count the pairs of fingers that were exchanged: each met under the other's position."""
    return sum(a < b and (b, a) in met for a, b in met if not may_meet(a, b))


def _best_impressions(
    pairs: Pairs, mine: Sequence[Sequence[int]], theirs: Sequence[Sequence[int]], scores: Floats
) -> Pairs:
    """Return for each pair of fingers the pair of prints with the greatest ratio."""
    best = []
    for a, b in pairs.tolist():
        prints = [(i, j) for i in mine[a] for j in theirs[b] if not np.isnan(scores[i, j])]
        best.append(max(prints, key=lambda pair: scores[pair]))
    return np.asarray(best, np.int64).reshape(-1, 2)
