"""Report: what runs left on disk to rates with intervals, tables, DET plots and JSON. No matcher is run.

A results folder may hold a 1:1 run (`fvc`), the calibration's report, identifications and the measure of the
extraction; what is there is shown. This module measures the first; see `calibration`, `identification` and
`extraction` for the others.

The figures are over the all-impostor list: every pair of impressions of one finger is mated, every pair of
impressions of two fingers non-mated. `fvc_eer` alone is over FVC's own list, where the non-mated pairs are
those of the fingers' first impressions. `macro` is the mean over sets, each weighing the same; `pooled`
puts the pairs of all sets under one threshold (pairs across sets are not compared).

The interval of a figure is the 2.5 to 97.5 percentile of bootstrap replicates in which the fingers of each
set are drawn with replacement (see `metrics`). It cannot see errors that did not occur: at 0 errors in n
independent pairs the 95 % upper bound is about 3/n ("rule of 3", ISO/IEC 19795-1:2006, annex B), whatever
the bootstrap says. Nor can a replicate hold a worse impostor than the worst that was seen: the intervals of
ZeroFMR, and of FMRx where few non-mated pairs exceed the threshold, lean to the low side.
"""

import csv
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from benchmarks import calibration, extraction, identification, metrics
from benchmarks.datasets import natural, split_name
from benchmarks.metrics import Estimate, Floats, Scores
from benchmarks.runner import write_atomic
from matcher.errors import InvalidInput

HEADINGS = {
    "eer": "EER",
    "fmr100": "FMR100",
    "fmr1000": "FMR1000",
    "fmr10000": "FMR10000",
    "zero_fmr": "ZeroFMR",
    "fvc_eer": "FVC EER",
}
"""Metrics of the report and their names in the table."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one system gave on one set.

    Attributes
    ----------
    scores : Scores
        All-impostor list.
    fvc : Scores
        FVC's own list: the same mated pairs, first impressions alone non-mated.
    run : mapping
        The content of `run.json`.
    """

    scores: Scores
    fvc: Scores
    run: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Measured:
    """Metrics of one result: all of `metrics.METRICS`, then the EER of FVC's list.

    Attributes
    ----------
    values : ndarray of float64, shape (6,)
    replicates : ndarray of float64, shape (r, 6)
    """

    values: Floats
    replicates: Floats


Results = dict[str, dict[str, Result]]
"""Results by set, then system."""


def measure(results: Path, *, replicates: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Measure all that lies in a results folder.

    Parameters
    ----------
    results : Path
    replicates, seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        What `build` returns and `environment`, where there is a 1:1 run; `calibration`, `identification` (by
        shortlist) and `extraction` where there are such.

    Raises
    ------
    InvalidInput
        The folder does not exist or holds no results, or a result is damaged.
    """
    found = load(results)
    figures: dict[str, Any] = {}
    if found:
        figures |= {"environment": environment(results)} | build(found, replicates=replicates, seed=seed)
    figures["calibration"] = calibration.load_report(results)
    figures["identification"] = {
        name: identification.measure(about, searches, replicates=replicates, seed=seed)
        for name, (about, searches) in identification.load(results).items()
    }
    figures["extraction"] = extraction.load(results)
    figures = {name: section for name, section in figures.items() if section or name == "environment"}
    if not figures:
        raise InvalidInput(f"no results in {results}", remedy="name the folder that --out of a run named")
    return figures


def load(results: Path) -> Results:
    """Read every result of a 1:1 run under a folder; empty where there are none.

    Raises
    ------
    InvalidInput
        A result is damaged.
    """
    found: Results = {}
    for path in sorted(results.glob("*/*/run.json"), key=lambda path: natural(str(path))):
        if path.parent.parent.name != identification.FOLDER:
            found.setdefault(path.parent.parent.name, {})[path.parent.name] = _load(path.parent)
    return found


def build(results: Results, *, replicates: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Measure all results.

    Parameters
    ----------
    results : dict
    replicates : int
        Bootstrap replicates; 0 gives no intervals.
    seed : int
        Seed of the bootstrap; equal seeds give equal reports.

    Returns
    -------
    dict
        `sets` (by set, then system), `macro` and `pooled` (by system) and `method`. Rates and times are
        fractions and seconds. A metric is `{"value", "low", "high", "measurable"}`; where `measurable` is
        false the set has fewer non-mated pairs than 1/FMR, and the others are null.
    """
    measured = {
        (each, name): _measure(each, result, replicates, seed)
        for each, systems in results.items()
        for name, result in systems.items()
    }
    names = sorted({name for _, name in measured})
    by_system = {name: [each for each in results if name in results[each]] for name in names}
    return {
        "method": _method(replicates, seed),
        "sets": {
            each: {name: _entry(measured[each, name], [result]) for name, result in systems.items()}
            for each, systems in results.items()
        },
        "macro": {
            name: _macro(
                [measured[each, name] for each in sets], sets, [results[each][name] for each in sets]
            )
            for name, sets in by_system.items()
        },
        "pooled": {
            name: _pooled(sets, [results[each][name] for each in sets], replicates, seed)
            for name, sets in by_system.items()
        },
    }


def environment(results: Path) -> Any:
    """Return the environment of the latest run, or None where it was not kept."""
    path = results / "environment.json"
    return _json(path) if path.is_file() else None


def tables(figures: Mapping[str, Any]) -> Iterator[Table]:
    """Yield a table for each section that is there."""
    if "sets" in figures:
        yield table(figures)
    if "calibration" in figures:
        yield from (calibration_table(figures["calibration"], kind) for kind in calibration.KINDS)
    for section in figures.get("identification", {}).values():
        yield identification_table(section)
    if "extraction" in figures:
        yield extraction_table(figures["extraction"]["summary"])


def table(report: Mapping[str, Any]) -> Table:
    """Lay the 1:1 figures out for a terminal: percent, milliseconds, microseconds."""
    grid = Table(title="Error rates in percent, all-impostor list, 95 % bootstrap intervals by finger")
    for heading in ("set", "system"):
        grid.add_column(heading, no_wrap=True)
    for heading in (*HEADINGS.values(), "FTE", "extract ms", "compare us"):
        grid.add_column(heading, justify="right")
    groups = {**report["sets"], "macro": report["macro"], "pooled": report["pooled"]}
    for each, systems in groups.items():
        for at, (name, entry) in enumerate(systems.items()):
            grid.add_row(each if at == 0 else "", name, *_cells(entry), end_section=at == len(systems) - 1)
    return grid


def calibration_table(report: Mapping[str, Any], kind: str) -> Table:
    """Lay out what was measured of each set by the calibration fitted to the others."""
    section = report[kind]
    rates = [each["stated_fmr"] for each in section["pooled"]["thresholds"]]
    headings = [f"FMR, stated {rate:g}" for rate in rates]
    grid = _grid(
        f"Calibration {report['calibration']['id']}, {kind}: each set by a fit to the others",
        ["set", "mated", "non-mated", "Cllr bits", "Cllr_min", *headings],
    )
    together = {"pooled": section["pooled"], "pooled, parts as probes": section["parts"]}
    for name, entry in {**section["left_out"], **together}.items():
        observed = [f"{each['fmr']:.2g} ({each['false_matches']})" for each in entry["thresholds"]]
        counts = [str(entry["mated"]), str(entry["nonmated"])]
        costs = [f"{entry['cllr']:.4f}", f"{entry['cllr_min']:.4f}"]
        grid.add_row(name, *counts, *costs, *observed)
    return grid


def identification_table(section: Mapping[str, Any]) -> Table:
    """Lay out an identification: percent, milliseconds."""
    grid = _grid(
        f"Identification over gRPC: {section['enrolled']} fingers enrolled, shortlist {section['shortlist']}",
        ["set", "probes", "failed", *(f"rank-{rank}" for rank in identification.RANKS)],
        caption=_identification_caption(section),
    )
    together = {"all": section["all"], "all, as labelled": section["as_labelled"]}
    for name, entry in {**section["sets"], **together}.items():
        ranks = [_percent(entry[f"rank{rank}"]) for rank in identification.RANKS]
        grid.add_row(name, str(entry["probes"]), str(entry["failures"]), *ranks)
    return grid


def extraction_table(summary: Mapping[str, Any]) -> Table:
    """Lay out the measure of the extraction."""
    grid = _grid(
        "Extraction: our graph against the naive export, one core",
        ["prints", "naive ms", "ours ms", "ratio median", "ratio least", "minutiae", "in common"],
    )
    grid.add_row(
        str(summary["prints"]),
        *(f"{1e3 * summary[name]:.0f}" for name in ("naive_s_median", "ours_s_median")),
        *(f"{summary[name]:.2f}" for name in ("ratio_median", "ratio_min")),
        str(summary["minutiae"]),
        f"{summary['agreement']:.2%}",
    )
    return grid


def plot(results: Results, folder: Path) -> list[Path]:
    """Draw `<set>/det.png` for each set and `det-macro.png`, all systems in each; return their paths."""
    drawn = []
    curves = {
        each: {name: _curve(result) for name, result in systems.items()} for each, systems in results.items()
    }
    for each, systems in curves.items():
        lines = {name: (curve.fmr, curve.fnmr) for name, curve in systems.items()}
        drawn.append(_draw(each, lines, folder / each / "det.png"))
    if not curves:
        return drawn
    names = sorted({name for systems in curves.values() for name in systems})
    lines = {
        name: metrics.macro_det([systems[name] for systems in curves.values() if name in systems])
        for name in names
    }
    drawn.append(_draw(f"Mean of {len(curves)} sets", lines, folder / "det-macro.png"))
    return drawn


def _load(folder: Path) -> Result:
    run = _json(folder / "run.json")
    try:
        content = (folder / "scores.csv").read_bytes()
    except OSError as error:
        raise _damaged(folder, "has no scores.csv") from error
    if hashlib.sha256(content).hexdigest() != run.get("scores_digest"):
        raise _damaged(folder, "has a scores.csv that is not its run's")
    rows = list(csv.DictReader(content.decode().splitlines()))
    return Result(_scores(rows), _scores(_fvc(rows)), run)


def _json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise _damaged(path.parent, f"has a {path.name} that is no JSON object")
    return content


def _damaged(folder: Path, cause: str) -> InvalidInput:
    return InvalidInput(f"{folder} {cause}", remedy="run the set and system again")


def _scores(rows: Sequence[Mapping[str, str]]) -> Scores:
    names = sorted({_finger(row[side]) for row in rows for side in ("probe", "reference")}, key=natural)
    number = {name: at for at, name in enumerate(names)}
    mated = [row for row in rows if row["mated"] == "1"]
    nonmated = [row for row in rows if row["mated"] == "0"]
    both = [(number[_finger(row["probe"])], number[_finger(row["reference"])]) for row in nonmated]
    return Scores(
        np.asarray([float(row["score"]) for row in mated]),
        np.asarray([number[_finger(row["probe"])] for row in mated], np.int64),
        np.asarray([float(row["score"]) for row in nonmated]),
        np.asarray(both, np.int64).reshape(-1, 2),
        (len(names),),
    )


def _fvc(rows: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
    """Keep the mated pairs and those of two fingers' first impressions."""
    prints = sorted({row[side] for row in rows for side in ("probe", "reference")}, key=natural)
    prints.sort(key=_finger)
    first = {next(group) for _, group in groupby(prints, key=_finger)}
    return [row for row in rows if row["mated"] == "1" or {row["probe"], row["reference"]} <= first]


def _finger(name: str) -> str:
    parts = split_name(name)
    return parts[0] if parts else name


def _measure(name: str, result: Result, replicates: int, seed: int) -> Measured:
    return _measure_pairs([name], result.scores, result.fvc, replicates, seed)


def _measure_pairs(names: Sequence[str], scores: Scores, fvc: Scores, replicates: int, seed: int) -> Measured:
    draws = metrics.draw(scores.strata, names, replicates=replicates, seed=seed)
    values = np.append(metrics.measure(scores), metrics.measure(fvc)[0])
    tables = [metrics.replicate(scores, draws), metrics.replicate(fvc, draws)[:, :1]]
    return Measured(values, np.concatenate(tables, axis=1))


def _macro(parts: Sequence[Measured], sets: Sequence[str], results: Sequence[Result]) -> dict[str, Any]:
    values = np.mean([part.values for part in parts], axis=0)
    replicates = np.mean([part.replicates for part in parts], axis=0)
    return {"sets": list(sets)} | _entry(Measured(values, replicates), results)


def _pooled(sets: Sequence[str], results: Sequence[Result], replicates: int, seed: int) -> dict[str, Any]:
    scores = metrics.pool([result.scores for result in results])
    fvc = metrics.pool([result.fvc for result in results])
    return {"sets": list(sets)} | _entry(_measure_pairs(sets, scores, fvc, replicates, seed), results)


def _entry(measured: Measured, results: Sequence[Result]) -> dict[str, Any]:
    estimates = metrics.estimates(HEADINGS, measured.values, measured.replicates)
    failed = [item for result in results for item in result.run["failures_to_enrol"]]
    return {
        **{name: _metric(estimate) for name, estimate in estimates.items()},
        "pairs": {
            "mated": sum(len(result.scores.mated) for result in results),
            "nonmated": sum(len(result.scores.nonmated) for result in results),
            "fvc_nonmated": sum(len(result.fvc.nonmated) for result in results),
        },
        "prints": sum(result.run["prints"] for result in results),
        "failures_to_enrol": len(failed),
        "extraction_seconds": _seconds(results, "extraction_seconds", "median"),
        "comparison_seconds": _seconds(results, "comparison_seconds", "median"),
        "extraction_seconds_mean": _seconds(results, "extraction_seconds", "mean"),
        "comparison_seconds_mean": _seconds(results, "comparison_seconds", "mean"),
        "clock": results[0].run["clock"],
    }


def _metric(estimate: Estimate) -> dict[str, Any]:
    return asdict(estimate) | {"measurable": estimate.value is not None}


def _seconds(results: Sequence[Result], what: str, key: str) -> float | None:
    """Mean over sets of a set's median or mean; None where nothing was timed."""
    known = [value for result in results if (value := result.run[what][key]) is not None]
    return sum(known) / len(known) if known else None


def _method(replicates: int, seed: int) -> dict[str, Any]:
    return {
        "list": "all-impostor; fvc_eer: first impressions",
        "interval": "95 %, percentile bootstrap, fingers drawn with replacement within each set",
        "replicates": replicates,
        "seed": seed,
        "eer": "linear interpolation on the DET's steps",
        "fmrx": "FNMR at the lowest threshold where FMR <= 1/x; measurable with x non-mated pairs or more",
        "failures_to_enrol": "score minus infinity against every print",
        "times": "median over a set (and mean); over several sets the mean of theirs",
    }


def _cells(entry: Mapping[str, Any]) -> list[str]:
    milliseconds, microseconds = entry["extraction_seconds"], entry["comparison_seconds"]
    return [
        *(_percent(entry[name]) for name in HEADINGS),
        f"{entry['failures_to_enrol']}/{entry['prints']}",
        "-" if milliseconds is None else f"{milliseconds * 1e3:.1f}",
        "-" if microseconds is None else f"{microseconds * 1e6:.0f}",
    ]


def _grid(title: str, headings: Sequence[str], *, caption: str | None = None) -> Table:
    grid = Table(title=title, caption=caption, caption_justify="left")
    for at, heading in enumerate(headings):
        grid.add_column(heading, no_wrap=at == 0, justify="right" if at else "left")
    return grid


def _identification_caption(section: Mapping[str, Any]) -> str:
    open_set = (f"FNIR {e['fnir']:.2%} at FPIR {e['fpir']:g}" for e in section["open_set"])
    stated = (
        f"stated FPIR {e['stated_fpir']:g}: observed {e['fpir']:.2%}, FNIR {e['fnir']:.2%}"
        for e in section["stated"]
    )
    times = (
        f"{name} {1e3 * spread['median']:.1f} (95 %: {1e3 * spread['p95']:.1f})"
        for name, spread in section["seconds"].items()
    )
    return "\n".join(["; ".join(open_set), "; ".join(stated), f"ms, median: {', '.join(times)}"])


def _percent(metric: Mapping[str, Any]) -> str:
    if metric["value"] is None:
        return "n/a"
    bounds = "" if metric["low"] is None else f"\n{100 * metric['low']:.2f}-{100 * metric['high']:.2f}"
    return f"{100 * metric['value']:.2f}{bounds}"


def _curve(result: Result) -> metrics.Det:
    return metrics.det(result.scores.mated, result.scores.nonmated)


def _draw(title: str, lines: Mapping[str, tuple[Floats, Floats]], path: Path) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, (fmr, fnmr) in lines.items():
        axes.step(100 * fmr, 100 * fnmr, where="pre", label=name)
    axes.plot([1e-3, 100], [1e-3, 100], color="grey", linewidth=0.5)
    axes.set(xscale="log", yscale="log", xlim=(1e-2, 100), ylim=(1e-2, 100), title=title)
    axes.set(xlabel="false match rate, %", ylabel="false non-match rate, %")
    axes.grid(which="both", linewidth=0.3)
    axes.legend()
    return _write_figure(figure, path)


def _write_figure(figure: Any, path: Path) -> Path:
    from io import BytesIO

    image = BytesIO()
    figure.savefig(image, format="png", dpi=120)
    write_atomic(path, image.getvalue())
    return path
