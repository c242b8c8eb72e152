"""Calibrate: fit what turns raw scores into log10 likelihood ratios, and measure how honest it is.

The fit is over the raw scores of a run (`raw.csv`), all sets together; see `matcher.calibration` for the
model. The likelihood ratio's line is a logistic regression in which mated and non-mated pairs weigh the same
whatever their numbers, so that no prior enters. The tail is the exponential that has the mean excess of the
non-mated scores over their 99th percentile.

A fit cannot be judged on what it was fitted to. So each set is also scored by a fit to the other sets alone
(`left_out`), and on it are measured

- Cllr, the mean cost of the ratios in bits: 0 is perfect, 1 says no more than a constant ratio of 1;
- Cllr_min, that of the same scores after the best monotone map, found by pooling adjacent violators on the
  left-out set itself: what remains is discrimination, and Cllr - Cllr_min is the loss of calibration;
- the share of non-mated pairs over the threshold that the fit states for a false-match rate.

Pairs of a print that failed to enrol have no ratio and take no part.

References
----------
.. [1] N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
   Language 20(2-3), 2006, doi:10.1016/j.csl.2005.08.001 (Cllr, Cllr_min).
.. [2] S. Coles, "An Introduction to Statistical Modeling of Extreme Values", Springer 2001, section 4.3.
"""

import csv
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit

from benchmarks.datasets import natural
from benchmarks.runner import dumps, write_atomic
from matcher.calibration import Calibration
from matcher.errors import InvalidInput

Floats = NDArray[np.float64]

REPORT = "calibration-report.json"
"""Name of the report in the results folder."""

TAIL_RATE = 0.01
RATES = (1e-2, 1e-3)
"""False-match rates whose thresholds are checked on a set; it takes 10 expected errors or so to see one."""

POOLED_RATES = (*RATES, 1e-4)
DIGITS = 6
"""Significant digits of the fitted numbers: far finer than their uncertainty."""


class RawScores(NamedTuple):
    """Raw scores of one set, without the pairs of prints that failed to enrol; `digest` is of all."""

    mated: Floats
    nonmated: Floats
    failed: int
    digest: str


class Ratios(NamedTuple):
    """log10 likelihood ratios as they were stated."""

    mated: Floats
    nonmated: Floats


def load(results: Path, system: str = "papilar") -> dict[str, RawScores]:
    """Read the raw scores of every set of a run.

    Raises
    ------
    InvalidInput
        There are none, or a file is not its run's.
    """
    paths = sorted(results.glob(f"*/{system}/run.json"), key=lambda path: natural(str(path)))
    found = {path.parent.parent.name: _load(path.parent) for path in paths}
    if not found:
        raise InvalidInput(
            f"no scores of {system} in {results}", remedy=f"run fvc with --systems {system} --out {results}"
        )
    return found


def calibrate(sets: Mapping[str, RawScores], *, name: str) -> dict[str, Any]:
    """Fit all sets, and each set's left-out fit.

    Parameters
    ----------
    sets : mapping of str to RawScores
        At least two.
    name : str
        Beginning of the calibration's id; a hash of the inputs follows it.

    Returns
    -------
    dict
        `calibration` and `provenance` (what ships), `method`, `left_out` (by set) and `pooled`.

    Raises
    ------
    InvalidInput
        One set alone, or scores that cannot be fitted.
    """
    if len(sets) < 2:
        raise InvalidInput("one set alone", remedy="run two sets or more, so that each can be left out")
    parts = list(sets.values())
    fitted = replace(fit(parts), id=f"{name}-{inputs_digest(sets)[:8]}")
    others = {left: fit([part for name, part in sets.items() if name != left]) for left in sets}
    return {
        "calibration": asdict(fitted),
        "provenance": _provenance(sets, name),
        "method": {
            "cllr": "bits",
            "fits": "each set by a fit to the others",
            "failures_to_enrol": "left out",
        },
        "left_out": {left: _judge_set(sets[left], others[left]) for left in sets},
        "pooled": _judge_pooled(sets, others),
    }


def save(report: Mapping[str, Any], results: Path, out: Path) -> None:
    """Write the calibration to `out` and the report into the results folder.

    Raises
    ------
    InvalidInput
        The folder of `out` does not exist.
    """
    if not out.parent.is_dir():
        raise InvalidInput(f"{out.parent} is no folder", remedy="run in the source tree, or give --out FILE")
    write_atomic(results / REPORT, dumps(report))
    shipped = {key: report[key] for key in ("calibration", "provenance")}
    write_atomic(out, json.dumps(shipped, indent=2) + "\n")


def load_report(results: Path) -> dict[str, Any] | None:
    """Return the report in a results folder, or None where there is none.

    Raises
    ------
    InvalidInput
        It was made from other scores than those that lie there now.
    """
    path = results / REPORT
    if not path.is_file():
        return None
    report: dict[str, Any] = json.loads(path.read_bytes())
    if report["provenance"]["inputs_sha256"] != inputs_digest(load(results)):
        raise InvalidInput(f"{path} is of other scores", remedy="calibrate again, or delete it")
    return report


def inputs_digest(sets: Mapping[str, RawScores]) -> str:
    """Return the SHA-256 of the sets' names and raw scores, in hexadecimal."""
    lines = (f"{name} {part.digest}\n" for name, part in sorted(sets.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def fit(parts: Sequence[RawScores]) -> Calibration:
    """Fit the line and the tail to several sets together; the id is left empty.

    Raises
    ------
    InvalidInput
        Too few scores, or no overlap of mated and non-mated ones: no line is the best then.
    """
    mated = np.concatenate([part.mated for part in parts])
    nonmated = np.concatenate([part.nonmated for part in parts])
    if len(nonmated) < 1 / TAIL_RATE or not len(mated) or mated.min() > nonmated.max():
        raise InvalidInput(
            f"{len(mated)} mated and {len(nonmated)} non-mated scores that cannot be fitted",
            remedy=f"run more prints: {1 / TAIL_RATE:.0f} non-mated pairs and some overlap are needed",
        )
    slope, intercept = logistic(mated, nonmated)
    start = float(np.quantile(nonmated, 1 - TAIL_RATE))
    excess = float((nonmated[nonmated > start] - start).mean())
    numbers = (slope / np.log(10), intercept / np.log(10), start, TAIL_RATE, excess)
    return Calibration("", *(float(f"{number:.{DIGITS}g}") for number in numbers))


def logistic(mated: Floats, nonmated: Floats) -> tuple[float, float]:
    """Return slope a and intercept b of the natural log likelihood ratio of a score x.

    They minimise mean ln(1 + exp(-(a x + b))) over mated + mean ln(1 + exp(a x + b)) over non-mated: both
    classes weigh the same, so that the log odds are the log likelihood ratio.
    """
    centre, spread = nonmated.mean(), nonmated.std() or 1.0
    m, n = (mated - centre) / spread, (nonmated - centre) / spread

    def cost(line: Floats) -> tuple[float, Floats]:
        a, b = line
        wrong_m, wrong_n = expit(-(a * m + b)), expit(a * n + b)
        value = np.logaddexp(0, -(a * m + b)).mean() + np.logaddexp(0, a * n + b).mean()
        slope = (wrong_n * n).mean() - (wrong_m * m).mean()
        return float(value), np.asarray([slope, wrong_n.mean() - wrong_m.mean()])

    a, b = minimize(cost, np.asarray([1.0, 0.0]), jac=True, method="BFGS", options={"gtol": 1e-9}).x
    return float(a / spread), float(b - a * centre / spread)


def cllr(ratios: Ratios) -> float:
    """Return the mean cost of log10 likelihood ratios in bits [1]_.

    Cllr = (mean log2(1 + 1/LR) over mated + mean log2(1 + LR) over non-mated) / 2
    """
    mated, nonmated = (np.log(10) * values for values in ratios)
    both = np.logaddexp(0, -mated).mean() + np.logaddexp(0, nonmated).mean()
    return float(both / (2 * np.log(2)))


def cllr_min(ratios: Ratios) -> float:
    """Return Cllr after the monotone map that makes it least: pooling of adjacent violators."""
    scores = np.concatenate(ratios)
    truth = np.repeat([1.0, 0.0], [len(part) for part in ratios])
    weight = np.repeat([0.5 / len(part) for part in ratios], [len(part) for part in ratios])
    order = np.lexsort((-truth, scores))  # of equal scores the mated first, so that they are pooled
    posterior = isotonic_regression(truth[order], weights=weight[order]).x
    right = np.where(truth[order] == 1, posterior, 1 - posterior)
    return abs(float((weight[order] * np.log2(right)).sum()))


def state(scores: RawScores, fitted: Calibration) -> Ratios:
    """Return the ratios that a calibration states for raw scores."""
    return Ratios(*(np.asarray([fitted.llr(x) for x in part.tolist()]) for part in scores[:2]))


def _judge_set(scores: RawScores, fitted: Calibration) -> dict[str, Any]:
    ratios = state(scores, fitted)
    rates = [_observe(rate, [_above(ratios, fitted.threshold(rate))]) for rate in RATES]
    numbers = {key: value for key, value in asdict(fitted).items() if key != "id"}
    return _costs(ratios) | {"failed": scores.failed, "thresholds": rates, "fit": numbers}


def _judge_pooled(sets: Mapping[str, RawScores], fits: Mapping[str, Calibration]) -> dict[str, Any]:
    """Judge all left-out sets together, each pair by the ratio and threshold of the fit that never saw it."""
    stated = {name: state(sets[name], fits[name]) for name in sets}
    ratios = Ratios(*(np.concatenate(parts) for parts in zip(*stated.values(), strict=True)))
    rates = [
        _observe(rate, [_above(stated[name], fits[name].threshold(rate)) for name in sets])
        for rate in POOLED_RATES
    ]
    return _costs(ratios) | {"failed": sum(part.failed for part in sets.values()), "thresholds": rates}


def _costs(ratios: Ratios) -> dict[str, Any]:
    counts = {"mated": len(ratios.mated), "nonmated": len(ratios.nonmated)}
    return counts | {"cllr": round(cllr(ratios), 6), "cllr_min": round(cllr_min(ratios), 6)}


def _above(ratios: Ratios, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    return ratios.mated >= threshold, ratios.nonmated >= threshold


def _observe(
    stated: float, accepted: Sequence[tuple[NDArray[np.bool_], NDArray[np.bool_]]]
) -> dict[str, float | int]:
    mated, nonmated = (np.concatenate(parts) for parts in zip(*accepted, strict=True))
    rates = {"fmr": float(nonmated.mean()), "fnmr": float(1 - mated.mean())}
    return {"stated_fmr": stated, "false_matches": int(nonmated.sum())} | {
        key: round(value, 7) for key, value in rates.items()
    }


def _provenance(sets: Mapping[str, RawScores], name: str) -> dict[str, Any]:
    return {
        "description": "Logistic regression with both classes of equal weight; exponential tail over the "
        "99th percentile of the non-mated pairs. Every pair of impressions of a set, sets not mixed.",
        "command": f"python -m benchmarks calibrate --scores RESULTS --name {name}",
        "inputs_sha256": inputs_digest(sets),
        "sets": {
            each: {"mated": len(part.mated), "nonmated": len(part.nonmated), "failed": part.failed}
            for each, part in sets.items()
        },
    }


def _load(folder: Path) -> RawScores:
    try:
        content = (folder / "raw.csv").read_bytes()
        wanted = json.loads((folder / "run.json").read_bytes()).get("raw_digest")
    except (OSError, ValueError, AttributeError):
        content, wanted = b"", None
    digest = hashlib.sha256(content).hexdigest()
    if digest != wanted:
        raise InvalidInput(f"{folder} has no raw.csv of its run", remedy="run the set and system again")
    rows = list(csv.DictReader(content.decode().splitlines()))
    score = np.asarray([float(row["raw_score"]) for row in rows])
    mated = np.asarray([row["mated"] == "1" for row in rows], bool)
    known = np.isfinite(score)
    return RawScores(score[mated & known], score[~mated & known], int((~known).sum()), digest)
