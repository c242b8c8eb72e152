"""Results of runs that never took place: evidence whose likelihood ratio is known, written as runs do."""

import csv
import hashlib
import json
from collections.abc import Iterable
from itertools import combinations
from pathlib import Path

import numpy as np

from benchmarks.calibration import KINDS, Both, Observed
from matcher.calibration import Evidence

MEANS = {"structure": 3.0, "share": 1.0, "ridges": 2.0}
"""Of the mated class; that of the other is 0, and all are one unit wide: ln LR = sum of m (x - m / 2)."""

FAILED = Evidence(-np.inf, 0.0, 0.0, None, 0)

Rows = list[tuple[str, str, bool, Evidence]]
"""Probe, reference, whether mated, evidence."""


def evidence(random: np.random.Generator, mated: bool, shift: float = 0.0) -> Evidence:
    """Draw the evidence of one pair; `shift` is added to its structure, as by an odd sensor."""
    values = {name: float(random.normal(mean * mated, 1)) for name, mean in MEANS.items()}
    fewer = int(random.integers(5, 60))
    return Evidence(values["structure"] + shift, values["share"], 10.0, values["ridges"], fewer)


def both(seed: int, mated: int = 400, nonmated: int = 4000, *, shift: float = 0.0) -> Both:
    """Return the evidence of a set of these many pairs, of whole probes and, drawn anew, of parts."""
    return Both(*(observed(seed + k, mated, nonmated, shift=shift) for k in (0, 1000)))


def observed(seed: int, mated: int = 400, nonmated: int = 4000, *, shift: float = 0.0) -> Observed:
    """Return the evidence of a set of these many pairs, drawn as `evidence` does."""
    random = np.random.default_rng(seed)
    truth = np.repeat([True, False], [mated, nonmated])
    values = random.normal(0, 1, (len(truth), len(Evidence._fields)))
    for name, mean in MEANS.items():
        values[truth, Evidence._fields.index(name)] += mean
    values[:, 0] += shift
    values[:, Evidence._fields.index("fewer")] = random.integers(5, 60, len(truth))
    names = [(f"{k}_1", f"{k if same else -1}_2") for k, same in enumerate(truth.tolist())]
    return Observed(values, truth, np.zeros(len(truth), bool), names, f"{seed:064x}")


def pairs_of(
    seed: int, fingers: Iterable[int], impressions: int, *, failed: str = "", shift: float = 0.0
) -> Rows:
    """Draw the evidence of all pairs of prints `<finger>_<impression>`, of which `failed` did not enrol."""
    random = np.random.default_rng(seed)
    prints = [f"{finger}_{impression + 1}" for finger in fingers for impression in range(impressions)]
    rows = []
    for one, other in combinations(prints, 2):
        mated = one.split("_")[0] == other.split("_")[0]
        found = FAILED if failed in (one, other) else evidence(random, mated, shift)
        rows.append((one, other, mated, found))
    return rows


def write_run(results: Path, name: str, rows: Rows, systems: Iterable[str] = ()) -> None:
    """Write these pairs as the evidence of set `name`, by default of all systems that have evidence."""
    for system in systems or [name for kind in KINDS.values() for name in (kind.system, kind.partial)]:
        folder = results / name / system
        folder.mkdir(parents=True, exist_ok=True)
        bare = system in KINDS["minutiae"]
        with (folder / "evidence.csv").open("w", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["probe", "reference", "mated", *Evidence._fields])
            for probe, reference, mated, found in rows:
                values = found._replace(ridges=None) if bare else found
                writer.writerow(
                    [probe, reference, int(mated), *("" if v is None else repr(v) for v in values)]
                )
        (folder / "run.json").write_text(json.dumps(_about(name, system, rows, folder / "evidence.csv")))


def _about(name: str, system: str, rows: Rows, evidence_file: Path) -> dict[str, object]:
    prints = {one for row in rows for one in row[:2]}
    return {
        "set": name,
        "system": {"name": system, "calibration": "none"},
        "prints": len(prints),
        "failures_to_enrol": [],
        "clock": "thread CPU",
        "extraction_seconds": {"median": 0.1, "mean": 0.1},
        "comparison_seconds": {"median": 1e-3, "mean": 1e-3},
        "evidence_digest": hashlib.sha256(evidence_file.read_bytes()).hexdigest(),
    }
