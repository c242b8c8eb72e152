"""Error rates of a 1:1 comparison as pure functions of its scores, with bootstrap intervals.

Definitions
-----------
A higher score means more alike; a pair is accepted at threshold `t` when its score is at least `t`.
FMR(t) is the share of non-mated pairs accepted, FNMR(t) the share of mated pairs not accepted. A print
that failed to enrol scores minus infinity against all others, so that its failures count as errors: what
is called FMR and FNMR here is the *generalised* rate (GFAR, GFRR) of ISO/IEC 19795-1.

The DET is the sequence of points (FMR, FNMR) at every distinct score and above the highest; equal scores,
mated or not, move together in one step. On it

- EER is where FMR = FNMR, by linear interpolation between the two neighbouring points between which FMR -
  FNMR changes sign. (FVC gives the middle of the interval of thresholds instead: the two differ by less
  than one step.)
- FMRx (FMR100, FMR1000, FMR10000) is FNMR at the lowest threshold where FMR <= 1/x.
- ZeroFMR is FNMR at the lowest threshold where no non-mated pair is accepted.

FMRx is measurable with at least `x` non-mated pairs: with fewer, the rate cannot be told from zero.

References
----------
ISO/IEC 19795-1:2006, clause 4 (FMR, FNMR, GFAR, GFRR, DET) and annex B (test size and uncertainty).
D. Maio, D. Maltoni, R. Cappelli, J. L. Wayman, A. K. Jain, "FVC2000: Fingerprint verification
competition", IEEE TPAMI 24(3), 2002, doi:10.1109/34.990140, section 4 (EER, FMR100, FMR1000, ZeroFMR).
R. M. Bolle, N. K. Ratha, S. Pankanti, "Error analysis of pattern recognition systems: the subsets bootstrap",
CVIU 93(1), 2004, doi:10.1016/j.cviu.2003.08.002.
T. A. B. Snijders, S. P. Borgatti, "Non-parametric standard errors and tests for network statistics",
Connections 22(2), 1999 (resampling the vertices of pairwise data).
"""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RATIOS = {"fmr100": 100, "fmr1000": 1_000, "fmr10000": 10_000}
"""Metrics that are FNMR at FMR <= 1/x, with their x."""

METRICS = ("eer", *RATIOS, "zero_fmr")
"""Columns of `measure` and of each bootstrap replicate, in this order."""

BLOCK = 1 << 22
"""Most cells of a bootstrap table held at once."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of one system over one set (or several sets, pooled), with the fingers they belong to.

    Attributes
    ----------
    mated : ndarray of float64, shape (a,)
    mated_finger : ndarray of int64, shape (a,)
        Finger of each mated pair.
    nonmated : ndarray of float64, shape (b,)
    nonmated_fingers : ndarray of int64, shape (b, 2)
        The two fingers of each non-mated pair.
    strata : tuple of int
        Number of fingers in each set, in the order of the fingers' numbers; one entry for one set.
    """

    mated: Floats
    mated_finger: Ints
    nonmated: Floats
    nonmated_fingers: Ints
    strata: tuple[int, ...]


class Det(NamedTuple):
    """Detection error trade-off: `fmr` falls and `fnmr` rises along `threshold`, which ends with infinity."""

    threshold: Floats
    fmr: Floats
    fnmr: Floats


@dataclass(frozen=True, slots=True)
class Estimate:
    """A rate as a fraction, with its 95 % bootstrap interval; None where it cannot be measured."""

    value: float | None
    low: float | None
    high: float | None


class _Steps(NamedTuple):
    """Pairs sorted by score, and for each of `k` thresholds how many of them lie below it."""

    threshold: Floats
    mated_order: Ints
    mated_below: Ints
    nonmated_order: Ints
    nonmated_below: Ints


def det(mated: Floats, nonmated: Floats) -> Det:
    """Return the DET of two lists of scores, of which neither may be empty or hold a NaN."""
    steps = _steps(mated, nonmated)
    fmr = (len(nonmated) - steps.nonmated_below) / len(nonmated)
    return Det(steps.threshold, fmr, steps.mated_below / len(mated))


def eer(curve: Det) -> float:
    """Return the equal error rate, a fraction; see the module for its definition."""
    return float(_eer(curve.fmr[None], curve.fnmr[None])[0])


def fnmr_at(curve: Det, fmr: float) -> float:
    """Return FNMR, a fraction, at the lowest threshold where FMR is at most `fmr`."""
    return float(curve.fnmr[np.argmax(curve.fmr <= fmr)])


def measure(scores: Scores) -> Floats:
    """Return `METRICS` of all pairs, shape (5,), as fractions; not measurable ones are NaN."""
    once = np.ones((1, sum(scores.strata)), np.int64)
    return np.where(
        measurable(scores), _measure(_steps(scores.mated, scores.nonmated), scores, once)[0], np.nan
    )


def measurable(scores: Scores) -> NDArray[np.bool_]:
    """Tell which of `METRICS` the number of non-mated pairs can measure, shape (5,)."""
    needed = [1, *RATIOS.values(), 1]
    return np.asarray([len(scores.nonmated) >= count for count in needed])


def replicate(scores: Scores, draws: Ints) -> Floats:
    """Return `METRICS` of each bootstrap replicate.

    Parameters
    ----------
    scores : Scores
    draws : ndarray of int64, shape (r, fingers)
        How often each finger was drawn, as from `draw`. A mated pair weighs as often as its finger was
        drawn, a non-mated pair the product of its two fingers' counts; pairs of a finger with its own copy
        do not arise.

    Returns
    -------
    ndarray of float64, shape (r, 5)
        NaN in a replicate that has no mated or no non-mated pair, and in a column that is not measurable.
    """
    steps = _steps(scores.mated, scores.nonmated)
    rows = max(1, BLOCK // max(len(scores.mated) + len(scores.nonmated), 1))
    blocks = [_measure(steps, scores, draws[at : at + rows]) for at in range(0, len(draws), rows)]
    table = np.concatenate(blocks) if blocks else np.empty((0, len(METRICS)))
    table[:, ~measurable(scores)] = np.nan
    return table


def draw(strata: Sequence[int], names: Sequence[str], *, replicates: int, seed: int) -> Ints:
    """Draw fingers with replacement within each set.

    Parameters
    ----------
    strata : sequence of int
        Number of fingers in each set.
    names : sequence of str
        Name of each set: it seeds the set's own draw, so that every system sees the same fingers drawn.
    replicates, seed : int

    Returns
    -------
    ndarray of int64, shape (replicates, sum(strata))
        Counts; each row of each set sums to the set's number of fingers.
    """
    parts = [_draw(count, name, replicates, seed) for count, name in zip(strata, names, strict=True)]
    return np.concatenate(parts, axis=1)


def estimates(names: Iterable[str], values: Floats, replicates: Floats) -> dict[str, Estimate]:
    """Join values, shape (c,), with the 2.5 and 97.5 percentiles of their replicates, shape (r, c).

    Replicates that are NaN (one finger drawn throughout) measure nothing and are left out.
    """
    return dict(zip(names, map(_estimate, values, replicates.T), strict=True))


def pool(parts: Sequence[Scores]) -> Scores:
    """Join the pairs of several sets under one threshold; no pair crosses two sets."""
    offsets = np.cumsum([0, *(sum(part.strata) for part in parts)])[:-1]
    numbered = list(zip(parts, offsets, strict=True))
    return Scores(
        np.concatenate([part.mated for part in parts]),
        np.concatenate([part.mated_finger + offset for part, offset in numbered]),
        np.concatenate([part.nonmated for part in parts]),
        np.concatenate([part.nonmated_fingers + offset for part, offset in numbered]),
        tuple(count for part in parts for count in part.strata),
    )


def macro_det(curves: Sequence[Det], points: int = 400) -> tuple[Floats, Floats]:
    """Return FMR, spaced by ratio, and the mean over sets of FNMR at each set's own threshold for it."""
    grid = np.geomspace(1e-4, 1.0, points)
    return grid, np.mean([[fnmr_at(curve, fmr) for fmr in grid] for curve in curves], axis=0)


def _draw(count: int, name: str, replicates: int, seed: int) -> Ints:
    rng = np.random.default_rng([seed, zlib.crc32(name.encode())])
    return rng.multinomial(count, np.full(count, 1 / count), size=replicates)


def _estimate(value: float, replicates: Floats) -> Estimate:
    usable = replicates[~np.isnan(replicates)]
    if np.isnan(value):
        return Estimate(None, None, None)
    if not usable.size:
        return Estimate(float(value), None, None)
    low, high = np.percentile(usable, [2.5, 97.5])
    return Estimate(float(value), float(low), float(high))


def _steps(mated: Floats, nonmated: Floats) -> _Steps:
    if not (len(mated) and len(nonmated)) or np.isnan(mated).any() or np.isnan(nonmated).any():
        raise ValueError(
            f"{len(mated)} mated and {len(nonmated)} non-mated scores: need some of each, and no NaN"
        )
    distinct = np.unique(np.concatenate([mated, nonmated]))
    a, b = np.argsort(mated, kind="stable"), np.argsort(nonmated, kind="stable")
    a_below = np.append(np.searchsorted(mated[a], distinct), len(a))
    b_below = np.append(np.searchsorted(nonmated[b], distinct), len(b))
    return _Steps(np.append(distinct, np.inf), a, a_below, b, b_below)


def _measure(steps: _Steps, scores: Scores, draws: Ints) -> Floats:
    """Metrics of weighted pairs, shape (r, 5)."""
    first, second = scores.nonmated_fingers[steps.nonmated_order].T
    rejected = _below(draws[:, scores.mated_finger[steps.mated_order]], steps.mated_below)
    refused = _below(draws[:, first] * draws[:, second], steps.nonmated_below)
    accepted = refused[:, -1:] - refused
    with np.errstate(invalid="ignore"):
        fmr, fnmr = accepted / refused[:, -1:], rejected / rejected[:, -1:]
    # In whole numbers, so that 1 of 100 is at most 1/100 whatever the rounding.
    reached = [accepted * ratio <= accepted[:, :1] for ratio in RATIOS.values()] + [accepted == 0]
    columns = [_eer(fmr, fnmr), *(_first(fnmr, each) for each in reached)]
    void = (accepted[:, 0] == 0) | (rejected[:, -1] == 0)
    return np.where(void[:, None], np.nan, np.stack(columns, axis=1))


def _below(weights: Ints, below: Ints) -> Ints:
    """Weight of the pairs under each threshold, shape (r, k)."""
    total = np.zeros((len(weights), weights.shape[1] + 1), np.int64)
    np.cumsum(weights, axis=1, out=total[:, 1:])
    return total[:, below]


def _first(values: Floats, reached: NDArray[np.bool_]) -> Floats:
    """Value of each row where `reached` is first true."""
    return np.asarray(values[np.arange(len(values)), reached.argmax(axis=1)])


def _eer(fmr: Floats, fnmr: Floats) -> Floats:
    """Crossing of the rows of two step curves, (r, k) -> (r,).

    With d = FMR - FNMR, which is 1 at the first threshold and -1 at the last, and i the first place where
    d <= 0: EER = FMR[i-1] + s (FMR[i] - FMR[i-1]), s = d[i-1] / (d[i-1] - d[i]).
    """
    gap = fmr - fnmr
    after = np.maximum((gap <= 0).argmax(axis=1), 1)
    row = np.arange(len(gap))
    before = after - 1
    with np.errstate(invalid="ignore", divide="ignore"):
        share = gap[row, before] / (gap[row, before] - gap[row, after])
        return np.asarray(fmr[row, before] + share * (fmr[row, after] - fmr[row, before]))
