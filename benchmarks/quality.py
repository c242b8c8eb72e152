"""Quality: what NFIQ 2, our score and the count of minutiae say of prints, and whether leaving out helps.

Every print is extracted and measured once, then compared with the others of its finger alone: what a poor
print costs is a miss. A pair is as good as the poorer of its two prints. What is written is figures of sets,
and nothing of a single print.

Error versus discard is FNMR at a fixed threshold after the mated pairs of lowest quality are left
out [1]_. The better a quality says which prints will not match, the faster FNMR falls.

It also fits `enroll.measures.LIE`: to all sets, and for the figures to all but the set in question.

References
----------
.. [1] P. Grother, E. Tabassi, "Performance of biometric quality measures", IEEE TPAMI 29(4), 2007.
   doi:10.1109/TPAMI.2007.1019
"""

import time
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.optimize import minimize
from scipy.stats import spearmanr

from benchmarks.datasets import Print, PrintSet
from benchmarks.metrics import Floats
from benchmarks.runner import Track, dumps, untracked, write_atomic
from enroll import nfiq
from enroll.image import read_image
from enroll.measures import lie, measure
from enroll.pipeline import extract
from enroll.segment import foreground
from matcher.calibration import shipped
from matcher.compare import evidence
from matcher.cylinders import Prepared, prepare

FILE = "quality.json"
DISCARDS = (0.0, 0.1, 0.2)
FMRS = (1e-3, 1e-5)
QUALITIES = ("nfiq2", "ours", "minutiae", "area")
SURE = (0.0, 0.25, 0.5, 0.75, 1.0)
"""log10 of odds, of the figures on which way up prints lie."""


class Seen(NamedTuple):
    """What is kept of a print: numbers as in `QUALITIES`; seconds of extraction and of `measure`."""

    prepared: Prepared
    qualities: tuple[float, ...]
    ridge_share: float
    lie: Floats
    seconds: tuple[float, float]


class Mates(NamedTuple):
    """Mated pairs: the ratio of each, shape (n,), and the poorer quality of the two prints, shape (n, 4)."""

    ratios: Floats
    qualities: Floats


def run(sets: Sequence[PrintSet], out: Path, *, track: Track = untracked) -> dict[str, Any]:
    """Measure and write `quality.json`.

    Parameters
    ----------
    sets : sequence of PrintSet
        At least two; their prints upright.
    out : Path
        Results folder; made when it does not exist.
    track : Track

    Returns
    -------
    dict
        `nfiq2`: its version; `sets`: by name, see `_describe`; `discard`: by quality and FMR, FNMR after
        `DISCARDS`; `rank_correlation`: of quality and ratio over mated pairs; `upright`: see `_upright`.
    """
    seen = {
        each.name: [_see(one, each.ppi) for one in track(each.prints, each.name, len(each.prints))]
        for each in sets
    }
    mates = {each.name: _compare(each.prints, seen[each.name]) for each in sets}
    every = Mates(*(np.concatenate(parts) for parts in zip(*mates.values(), strict=True)))
    report = {
        "nfiq2": nfiq.version(),
        "sets": {name: _describe(seen[name]) for name in seen},
        "mated_pairs": len(every.ratios),
        "discard": {
            name: {f"{fmr:g}": _discard(every, column, shipped().threshold(fmr)) for fmr in FMRS}
            for column, name in enumerate(QUALITIES)
        },
        "rank_correlation": {
            name: _correlations(mates.values(), column) for column, name in enumerate(QUALITIES)
        },
        "upright": _upright([np.array([one.lie for one in prints]) for prints in seen.values()]),
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / FILE, dumps(report))
    return report


def _see(one: Print, ppi: float | None) -> Seen:
    image = read_image(one.path.read_bytes(), ppi=ppi)
    started = time.perf_counter()
    found = extract(image)
    extracted = time.perf_counter()
    measures = measure(found)
    judged = time.perf_counter()
    qualities = (measures.nfiq.score or 0, found.quality.score, measures.minutiae, measures.area_mm2)
    pixels = found.image.pixels
    return Seen(
        prepare(found.template),
        qualities,
        measures.ridge_share,
        lie(pixels, foreground(pixels)),
        (extracted - started, judged - extracted),
    )


def _compare(prints: Sequence[Print], seen: Sequence[Seen]) -> Mates:
    pairs = [(i, j) for i, j in combinations(range(len(prints)), 2) if prints[i].finger == prints[j].finger]
    ratios = [shipped().llr(evidence(seen[i].prepared, seen[j].prepared)) for i, j in pairs]
    qualities = np.array([one.qualities for one in seen], np.float64)
    first, second = np.array(pairs).T
    return Mates(np.array(ratios), np.minimum(qualities[first], qualities[second]))


def _describe(seen: Sequence[Seen]) -> dict[str, Any]:
    """Percentiles 10, 50, 90 of NFIQ 2 and 2, 50, 98 of the ridge share; rank correlation; milliseconds."""
    qualities = np.array([one.qualities for one in seen])
    shares = np.array([one.ridge_share for one in seen])
    extraction, judging = np.median([one.seconds for one in seen], axis=0) * 1000
    return {
        "prints": len(seen),
        "nfiq2": [_round(value, 1) for value in np.percentile(qualities[:, 0], (10, 50, 90))],
        "without_nfiq2": int((qualities[:, 0] == 0).sum()),
        "nfiq2_with_ours": _round(_rank_correlation(*qualities.T[:2])),
        "ridge_share": [_round(value) for value in np.percentile(shares, (2, 50, 98))],
        "extraction_ms": _round(extraction, 0),
        "measures_ms": _round(judging, 0),
    }


def _discard(mates: Mates, column: int, threshold: float) -> list[float]:
    """Return FNMR after each of `DISCARDS`; of pairs of equal quality the earlier ones are left out first."""
    order = np.argsort(mates.qualities[:, column], kind="stable")
    missed = (mates.ratios < threshold)[order]
    return [_round(missed[round(part * len(missed)) :].mean(), 5) for part in DISCARDS]


def _correlations(parts: Any, column: int) -> float:
    """Return the mean over sets of Spearman's rank correlation of a quality with the ratio."""
    return _round(np.mean([_rank_correlation(part.qualities[:, column], part.ratios) for part in parts]))


def _rank_correlation(a: Floats, b: Floats) -> float:
    """Return Spearman's; 0 where one of the two never changes, and so says nothing."""
    return float(spearmanr(a, b).statistic) if np.ptp(a) and np.ptp(b) else 0.0


def _upright(lies: Sequence[Floats]) -> dict[str, Any]:
    """Weights fitted to all sets; by those of the others, which prints are told to lie right and wrong."""
    odds = np.concatenate(
        [each @ fit(np.concatenate([*lies[:k], *lies[k + 1 :]])) / np.log(10) for k, each in enumerate(lies)]
    )
    return {
        "weights": [_round(weight, 2) for weight in fit(np.concatenate(lies))],
        "right": {f"{sure:g}": _round((odds > sure).mean()) for sure in SURE},
        "wrong": {f"{sure:g}": int((odds < -sure).sum()) for sure in SURE},
    }


def fit(lies: Floats) -> Floats:
    """Fit weights for log odds to upright prints, each of which counts as one turned over too, shape (2,).

    Logistic regression without a constant, as turning over negates; the squared weights weigh one.
    """
    loss = minimize(lambda w: np.logaddexp(0, -lies @ w).sum() + w @ w, np.zeros(lies.shape[1]))
    return np.asarray(loss.x, np.float64)


def _round(value: Any, digits: int = 3) -> float:
    return round(float(value), digits)
