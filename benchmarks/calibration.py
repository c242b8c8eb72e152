"""Calibrate: fit what turns evidence into log10 likelihood ratios, and measure how honest it is.

The fit is over the evidence of a run (`evidence.csv`), all sets together, of whole prints and of parts of
them as probes, which count half; see `matcher.calibration` for the model. The likelihood ratio is a logistic
regression in which mated and non-mated pairs weigh the same whatever their numbers, so that no prior enters.
The tail is the exponential that has the mean excess of the non-mated ratios over their 99th percentile. There
are two fits: of prints with their ridge descriptions (systems papilar and papilar-part), and of minutiae
alone (papilar-iso and papilar-part-iso).

A fit cannot be judged on what it was fitted to. So each set is also scored by a fit to the other sets alone
(`left_out`), and on it are measured

- Cllr, the mean cost of the ratios in bits: 0 is perfect, 1 says no more than a constant ratio of 1;
- Cllr_min, that of the same scores after the best monotone map, found by pooling adjacent violators on the
  left-out set itself: what remains is discrimination, and Cllr - Cllr_min is the loss of calibration;
- the share of non-mated pairs over the threshold that the fit states for a false-match rate.

Pairs of a print that failed to enrol have no ratio and take no part in these. The left-out ratios of all
pairs are also kept as scores of a system of their own (`papilar-left-out`), so that the report gives their
error rates with intervals: those are the figures to quote.

References
----------
.. [1] N. Brümmer, J. du Preez, "Application-independent evaluation of speaker detection", Computer Speech and
   Language 20(2-3), 2006, doi:10.1016/j.csl.2005.08.001 (Cllr, Cllr_min).
.. [2] S. Coles, "An Introduction to Statistical Modeling of Extreme Values", Springer 2001, section 4.3.
"""

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression, minimize
from scipy.special import expit

from benchmarks.datasets import natural
from benchmarks.runner import EVIDENCE, FAILED, dumps, write_atomic
from matcher.calibration import LOWEST, MANY, Calibration, Evidence, Line, Model, Term
from matcher.errors import InvalidInput

Floats = NDArray[np.float64]

REPORT = "calibration-report.json"
"""Name of the report in the results folder."""

LEFT_OUT = "left-out"
"""What is added to a system's name for its left-out scores."""

LEAST_WEIGHT = 1e-4
"""Of a value in its deviations; not 0, so that a part that is worth nothing still has its neutral value."""

TAIL_RATE = 0.01
RATES = (1e-2, 1e-3)
"""False-match rates whose thresholds are checked on a set; it takes 10 expected errors or so to see one."""

POOLED_RATES = (*RATES, 1e-4)
DIGITS = 6
"""Significant digits of the fitted numbers: far finer than their uncertainty."""


class Kind(NamedTuple):
    """One of the two models: whose evidence of whole and partial probes it is fitted to, what it weighs."""

    system: str
    partial: str
    terms: tuple[str, ...]


KINDS = {
    "ridges": Kind("papilar", "papilar-part", ("structure", "share", "ridges")),
    "minutiae": Kind("papilar-iso", "papilar-part-iso", ("structure", "share")),
}
"""By the field of `Calibration`. What each part gives is measured by `ablation`."""

PARTIAL = 0.5
"""What a comparison of a part counts in a fit, where one of whole prints counts 1."""


class Observed(NamedTuple):
    """Evidence of one set, (n, 5) in the order of `Evidence`, in the order of its file.

    `failed` says of which pairs a print failed to enrol; `names` are the file's first columns, `digest` is
    that of its bytes.
    """

    values: Floats
    mated: NDArray[np.bool_]
    failed: NDArray[np.bool_]
    names: list[tuple[str, str]]
    digest: str


class Ratios(NamedTuple):
    """log10 likelihood ratios as they were stated."""

    mated: Floats
    nonmated: Floats


class Both(NamedTuple):
    """Evidence of a set: of whole probes and of parts of them, each against whole references."""

    whole: Observed
    part: Observed


Runs = Mapping[str, Mapping[str, Both]]
"""By the name of the kind, then of the set."""


def load(results: Path) -> dict[str, dict[str, Both]]:
    """Read the evidence of every set of a run, of both kinds.

    Raises
    ------
    InvalidInput
        There is none of a kind, or a file is not its run's.
    """
    return {name: load_kind(results, kind) for name, kind in KINDS.items()}


def load_kind(results: Path, kind: Kind) -> dict[str, Both]:
    """Read the evidence of every set of a run that has it of whole and of partial probes."""
    whole, part = (_load_system(results, system) for system in (kind.system, kind.partial))
    if alone := sorted(whole.keys() ^ part.keys()):
        raise InvalidInput(
            f"{', '.join(alone)} was not run with both {kind.system} and {kind.partial}",
            remedy="run fvc with both on the same sets",
        )
    return {name: Both(whole[name], part[name]) for name in whole}


def _load_system(results: Path, system: str) -> dict[str, Observed]:
    paths = sorted(results.glob(f"*/{system}/run.json"), key=lambda path: natural(str(path)))
    found = {path.parent.parent.name: _load(path.parent) for path in paths}
    if not found:
        systems = ",".join(name for kind in KINDS.values() for name in (kind.system, kind.partial))
        raise InvalidInput(
            f"no scores of {system} in {results}", remedy=f"run fvc with --systems {systems} --out {results}"
        )
    return found


def calibrate(runs: Runs, *, name: str) -> dict[str, Any]:
    """Fit all sets, and each set's left-out fit.

    Parameters
    ----------
    runs : mapping
        At least two sets of each kind.
    name : str
        Beginning of the calibration's id; a hash of the inputs follows it.

    Returns
    -------
    dict
        `calibration` and `provenance` (what ships), `method`, and by kind `left_out` (by set) and `pooled`.

    Raises
    ------
    InvalidInput
        One set alone, or evidence that cannot be fitted.
    """
    models = {kind: fit(list(sets.values()), KINDS[kind].terms) for kind, sets in runs.items()}
    fitted = Calibration(f"{name}-{inputs_digest(runs)[:8]}", **models)
    return {
        "calibration": asdict(fitted),
        "provenance": _provenance(runs, name),
        "method": {
            "cllr": "bits",
            "fits": "each set by a fit to the others",
            "failures_to_enrol": "left out",
        },
    } | {kind: _judge(sets, left_out(sets, KINDS[kind].terms)) for kind, sets in runs.items()}


def left_out(sets: Mapping[str, Both], terms: Sequence[str]) -> dict[str, Model]:
    """Return the model for each set that was fitted to the others.

    Raises
    ------
    InvalidInput
        One set alone.
    """
    if len(sets) < 2:
        raise InvalidInput("one set alone", remedy="run two sets or more, so that each can be left out")
    return {left: fit([part for name, part in sets.items() if name != left], terms) for left in sets}


def save(report: Mapping[str, Any], runs: Runs, results: Path, out: Path) -> None:
    """Write the calibration to `out`, report and left-out scores into the results folder.

    Raises
    ------
    InvalidInput
        The folder of `out` does not exist.
    """
    if not out.parent.is_dir():
        raise InvalidInput(f"{out.parent} is no folder", remedy="run in the source tree, or give --out FILE")
    for kind, sets in runs.items():
        system, partial, terms = KINDS[kind]
        for name, model in left_out(sets, terms).items():
            _save_left_out(results / name, system, sets[name].whole, model)
            _save_left_out(results / name, partial, sets[name].part, model)
    write_atomic(results / REPORT, dumps(report))
    shipped = {key: report[key] for key in ("calibration", "provenance")}
    write_atomic(out, json.dumps(shipped, indent=2) + "\n")


def _save_left_out(folder: Path, system: str, observed: Observed, model: Model) -> None:
    """Write a set's left-out scores beside the system that they come from, as a system of their own."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["probe", "reference", "mated", "score"])
    scores = np.where(observed.failed, FAILED, ratios_of(observed.values, model))
    for names, mated, score in zip(observed.names, observed.mated.tolist(), scores.tolist(), strict=True):
        writer.writerow([*names, int(mated), repr(score)])
    content = table.getvalue().encode()
    about = json.loads((folder / system / "run.json").read_bytes())
    about.pop("evidence_digest")
    name = f"{system}-{LEFT_OUT}"
    about["system"] |= {"name": name, "calibration": "each set by a fit to the others"}
    target = folder / name
    target.mkdir(exist_ok=True)
    write_atomic(target / "scores.csv", content)
    digest = hashlib.sha256(content).hexdigest()
    write_atomic(target / "run.json", dumps(about | {"scores_digest": digest}))


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


def inputs_digest(runs: Runs) -> str:
    """Return the SHA-256 of the sets' names and evidence, in hexadecimal."""
    lines = (
        f"{kind} {name} {both.whole.digest} {both.part.digest}\n"
        for kind, sets in sorted(runs.items())
        for name, both in sorted(sets.items())
    )
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def fit(sets: Sequence[Both], terms: Sequence[str]) -> Model:
    """Fit the weights and the tail to several sets together.

    Each term is neutral in the middle of its two classes; what the intercept leaves goes to the first. Pairs
    of which a term is missing, as two prints that no motion lays on each other, take no part.

    Raises
    ------
    InvalidInput
        Too few scores, or no overlap of mated and non-mated ones: no weights are the best then.
    """
    columns = [Evidence._fields.index(term) for term in terms]
    drawn = [(one, count) for both in sets for one, count in zip(both, (1.0, PARTIAL), strict=True)]
    rows = np.concatenate([one.values[~one.failed] for one, _ in drawn])
    mated = np.concatenate([one.mated[~one.failed] for one, _ in drawn])
    counts = np.concatenate([np.full((~one.failed).sum(), count) for one, count in drawn])
    known = np.isfinite(rows[:, columns]).all(axis=1)
    values, share, mated, counts = rows[known][:, columns], size(rows[known]), mated[known], counts[known]
    if (~mated).sum() < 1 / TAIL_RATE or not mated.any():
        raise _unfit(mated)
    weights, intercepts = logistic(values, share, mated, counts)
    stated = _stated(values, share, weights, intercepts) / np.log(10)
    if stated[mated].min() > stated[~mated].max():
        raise _unfit(mated)
    middle = (values[mated].mean(axis=0) + values[~mated].mean(axis=0)) / 2
    few, many = (_lines(*end, middle) for end in zip(weights, intercepts, strict=True))
    found = {name: Term(*ends) for name, *ends in zip(terms, few, many, strict=True)}
    return Model(found, *_tail(stated[~mated], counts[~mated]))


def size(values: Floats) -> Floats:
    """Return the share (n,) with which the weights for many minutiae count, of evidence (n, 5)."""
    return np.minimum(1.0, values[:, Evidence._fields.index("fewer")] / MANY)


def _lines(weights: Floats, intercept: float, neutral: Floats) -> list[Line]:
    """Return lines, in log10, of a natural logarithm's weights and intercept."""
    neutral = neutral.copy()
    neutral[0] -= (intercept + weights @ neutral) / weights[0]
    return [Line(_rounded(a), _rounded(b)) for a, b in zip(weights / np.log(10), neutral, strict=True)]


def _tail(nonmated: Floats, counts: Floats) -> tuple[float, float, float]:
    """Return where the tail of the ratios begins, at which rate, and the mean excess over it."""
    order = np.argsort(nonmated)
    passed = counts[order].cumsum() / counts.sum()
    start = float(nonmated[order][np.searchsorted(passed, 1 - TAIL_RATE)])
    above = nonmated > start
    if not above.any():
        raise _unfit(np.zeros(len(nonmated), bool))
    excess = float(np.average(nonmated[above] - start, weights=counts[above]))
    return _rounded(start), TAIL_RATE, _rounded(excess)


def _rounded(number: float) -> float:
    return float(f"{number:.{DIGITS}g}")


def _unfit(mated: NDArray[np.bool_]) -> InvalidInput:
    return InvalidInput(
        f"{mated.sum()} mated and {(~mated).sum()} non-mated scores that cannot be fitted",
        remedy=f"run more prints: {1 / TAIL_RATE:.0f} non-mated pairs and some overlap are needed",
    )


def logistic(
    values: Floats, share: Floats, mated: NDArray[np.bool_], counts: Floats
) -> tuple[Floats, Floats]:
    """Return weights a (2, k) and intercepts b (2,) of the natural log likelihood ratio of values x (n, k).

    It is (1 - s) (a[0] . x + b[0]) + s (a[1] . x + b[1]), with s the `share` of each value. They minimise the
    mean of ln(1 + 1 / ratio) over mated, plus that of ln(1 + ratio) over non-mated, each value as often as it
    counts: both classes weigh the same, so that the log odds are the log likelihood ratio. No weight is below
    `LEAST_WEIGHT`: that something agrees never speaks against.
    """
    spread = values.std(axis=0)
    spread[spread == 0] = 1.0
    scaled = values / spread
    sign = np.where(mated, -1.0, 1.0)
    weight = counts / np.where(mated, counts[mated].sum(), counts[~mated].sum())
    k = values.shape[1]

    def cost(line: Floats) -> tuple[float, Floats]:
        a, b = line[: 2 * k].reshape(2, k), line[2 * k :]
        wrong = sign * _stated(scaled, share, a, b)
        slope = weight * sign * expit(wrong)
        each = np.stack((slope * (1 - share), slope * share))
        return float(weight @ np.logaddexp(0, wrong)), np.append(each @ scaled, each.sum(axis=1))

    start = np.append(np.ones(2 * k), (0.0, 0.0))
    bounds = [(LEAST_WEIGHT, None)] * (2 * k) + [(None, None)] * 2
    found = minimize(
        cost,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"ftol": 1e-14, "gtol": 1e-9, "maxiter": 10_000},
    ).x
    return found[: 2 * k].reshape(2, k) / spread, found[2 * k :]


def _stated(values: Floats, share: Floats, weights: Floats, intercepts: Floats) -> Floats:
    """Return the natural logarithm of the ratio that `logistic` describes."""
    few, many = (values @ a + b for a, b in zip(weights, intercepts, strict=True))
    stated: Floats = (1 - share) * few + share * many
    return stated


def ratios_of(values: Floats, model: Model) -> Floats:
    """Return the ratios that a model states for evidence (n, 5); `LOWEST` where a term is missing."""
    total, share = np.zeros(len(values)), size(values)
    for name, term in model.terms.items():
        value = values[:, Evidence._fields.index(name)]
        known = np.isfinite(value)
        few, many = (weight * (np.where(known, value, 0.0) - neutral) for weight, neutral in term)
        total += np.where(known, (1 - share) * few + share * many, np.nan)
    return np.fmax(LOWEST, total)


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


def state(observed: Observed, model: Model) -> Ratios:
    """Return the ratios that a model states for a set, without those of prints that failed to enrol."""
    ratios, kept = ratios_of(observed.values, model), ~observed.failed
    return Ratios(ratios[observed.mated & kept], ratios[~observed.mated & kept])


def _judge(sets: Mapping[str, Both], models: Mapping[str, Model]) -> dict[str, Any]:
    """Judge each left-out set, and all together, each pair by the model and threshold that never saw it."""
    whole = {name: both.whole for name, both in sets.items()}
    part = {name: both.part for name, both in sets.items()}
    return {
        "left_out": {name: _judge_set(whole[name], models[name]) for name in sets},
        "pooled": judge(whole, models),
        "parts": judge(part, models),
    }


def _judge_set(observed: Observed, model: Model) -> dict[str, Any]:
    ratios = state(observed, model)
    rates = [_observe(rate, [_above(ratios, model.threshold(rate))]) for rate in RATES]
    failed = int(observed.failed.sum())
    return _costs(ratios) | {"failed": failed, "thresholds": rates, "fit": asdict(model)}


def judge(sets: Mapping[str, Observed], models: Mapping[str, Model]) -> dict[str, Any]:
    """Judge all sets together, each by its own model: costs in bits, error rates at stated thresholds."""
    stated = {name: state(sets[name], models[name]) for name in sets}
    pooled = Ratios(*(np.concatenate(parts) for parts in zip(*stated.values(), strict=True)))
    rates = [
        _observe(rate, [_above(stated[name], models[name].threshold(rate)) for name in sets])
        for rate in POOLED_RATES
    ]
    failed = sum(int(one.failed.sum()) for one in sets.values())
    return _costs(pooled) | {"failed": failed, "thresholds": rates}


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


def _provenance(runs: Runs, name: str) -> dict[str, Any]:
    return {
        "description": "Logistic regression with both classes of equal weight; exponential tail over the "
        "99th percentile of the non-mated pairs. Every pair of impressions of a set, sets not mixed; with "
        "whole probes, and with parts of them, which count half.",
        "command": f"python -m benchmarks calibrate --scores RESULTS --name {name}",
        "inputs_sha256": inputs_digest(runs),
        "sets": {kind: {each: _counts(both) for each, both in sets.items()} for kind, sets in runs.items()},
    }


def _counts(both: Both) -> dict[str, dict[str, int]]:
    return {name: _count(one) for name, one in zip(Both._fields, both, strict=True)}


def _count(one: Observed) -> dict[str, int]:
    kept = ~one.failed
    mated, nonmated = (int((which & kept).sum()) for which in (one.mated, ~one.mated))
    return {"mated": mated, "nonmated": nonmated, "failed": int(one.failed.sum())}


def _load(folder: Path) -> Observed:
    try:
        content = (folder / EVIDENCE).read_bytes()
        wanted = json.loads((folder / "run.json").read_bytes()).get("evidence_digest")
    except (OSError, ValueError, AttributeError):
        content, wanted = b"", None
    digest = hashlib.sha256(content).hexdigest()
    if digest != wanted:
        raise InvalidInput(f"{folder} has no {EVIDENCE} of its run", remedy="run the set and system again")
    rows = list(csv.DictReader(content.decode().splitlines()))
    values = [[float(row[field] or "nan") for field in Evidence._fields] for row in rows]
    evidence = np.asarray(values, np.float64).reshape(-1, len(Evidence._fields))
    mated = np.asarray([row["mated"] == "1" for row in rows], bool)
    names = [(row["probe"], row["reference"]) for row in rows]
    return Observed(evidence, mated, evidence[:, 0] == FAILED, names, digest)
