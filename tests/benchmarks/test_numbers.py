"""The figures that the README states, measured anew: `make soak`, about a quarter of an hour on two cores.

Bounds are those that the project set itself, not what was measured: a machine that is busy must not fail
here, a change that costs accuracy must. Error rates and costs are those of left-out sets, each scored by a
fit to the others: no set has a say in the calibration that it is judged by.
"""

import json
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks.datasets import load
from enroll.image import read_image
from enroll.pipeline import extract
from matcher.calibration import shipped
from matcher.compare import score
from matcher.cylinders import Prepared, prepare
from matcher.ridges import MOST_BYTES
from matcher.search import SHORTLIST
from matcher.template import Template

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("ridges", "minutiae")
IDENTIFIED = f"shortlist-{SHORTLIST}"
EVERY = 20
"""One comparison in so many is timed."""
REPEATS = 5

pytestmark = [pytest.mark.soak, pytest.mark.datasets, pytest.mark.timeout(3600)]


class Measured(NamedTuple):
    """What the report and `fuse` wrote, and the calibration that was fitted to this run."""

    figures: dict[str, Any]
    fusion: dict[str, Any]
    fitted: dict[str, Any]


@pytest.fixture(scope="module")
def measured(datasets: Path, tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """All benchmarks on all eight sets, as a reader of the README would run them."""
    results = tmp_path_factory.mktemp("results")
    report, fitted = results / "figures.json", results / "calibration.json"
    for kind in ("fvc", "identify", "extraction"):
        benchmark("run", kind, "--data", datasets, "--out", results)
    benchmark("calibrate", "--scores", results, "--out", fitted)
    benchmark("fuse", "--scores", results)
    benchmark("report", results, "--json", report)
    return Measured(*(json.loads(p.read_text()) for p in (report, results / "fusion.json", fitted)))


@pytest.fixture(scope="module")
def figures(measured: Measured) -> dict[str, Any]:
    return measured.figures


def benchmark(*arguments: object) -> None:
    command = [sys.executable, "-m", "benchmarks", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def templates(datasets: Path) -> dict[str, list[Template]]:
    """The templates of every print that is not rejected, by set."""
    return {
        each.name: [
            found.template
            for one in each.prints
            if not (found := extract(read_image(one.path.read_bytes(), ppi=each.ppi))).rejected
        ]
        for each in load(datasets).sets
    }


# ---- one to one


def test_the_protocols_pairs_are_compared(figures: dict[str, Any]) -> None:
    for system in ("papilar", "papilar-left-out", "papilar-iso-left-out", "nbis"):
        pairs = figures["pooled"][system]["pairs"]
        assert (pairs["mated"], pairs["nonmated"]) == (8 * 280, 8 * 2880)


def test_one_to_one_each_set_by_its_own_threshold(figures: dict[str, Any]) -> None:
    ours, nbis = figures["macro"]["papilar-left-out"], figures["macro"]["nbis"]
    assert ours["eer"]["value"] <= 0.006
    assert ours["fmr1000"]["value"] <= 0.011
    assert ours["eer"]["value"] < nbis["eer"]["value"]
    by_set = {name: systems["papilar-left-out"]["eer"]["value"] for name, systems in figures["sets"].items()}
    assert len(by_set) == 8
    assert {name: eer for name, eer in by_set.items() if eer > 0.022} == {}


def test_one_to_one_all_sets_by_one_threshold(figures: dict[str, Any]) -> None:
    ours = figures["pooled"]["papilar-left-out"]
    assert ours["eer"]["value"] <= 0.010
    assert ours["fmr1000"]["value"] <= 0.018


def test_minutiae_alone_through_iso_records(figures: dict[str, Any]) -> None:
    assert figures["macro"]["papilar-iso-left-out"]["eer"]["value"] <= 0.008


# ---- what a score means


@pytest.mark.parametrize("kind", KINDS)
def test_little_is_lost_to_calibration(figures: dict[str, Any], kind: str) -> None:
    section = figures["calibration"][kind]
    assert section["pooled"]["cllr"] - section["pooled"]["cllr_min"] <= 0.03
    losses = [each["cllr"] - each["cllr_min"] for each in section["left_out"].values()]
    assert len(losses) == 8
    assert max(losses) <= {"ridges": 0.03, "minutiae": 0.05}[kind]
    assert np.mean(losses) <= 0.02


@pytest.mark.parametrize("kind", KINDS)
def test_a_stated_rate_holds_for_parts_of_prints_too(figures: dict[str, Any], kind: str) -> None:
    """Within a factor of three: one stated as 1 in 1,000 lets no more than 3 in 1,000 strangers pass."""
    section = figures["calibration"][kind]
    assert section["parts"]["cllr"] - section["parts"]["cllr_min"] <= 0.05
    for entry in (section["pooled"], section["parts"]):
        assert entry["thresholds"][1]["fmr"] <= 0.003


@pytest.mark.parametrize("kind", KINDS)
def test_the_shipped_calibration_is_that_of_the_code(measured: Measured, kind: str) -> None:
    """Machines may differ in a last digit, not in a threshold: whoever changes the code calibrates anew."""
    fitted, ours = measured.fitted["calibration"][kind], getattr(shipped(), kind)
    assert set(fitted["terms"]) == set(ours.terms)
    assert fitted["tail_from"] == pytest.approx(ours.tail_from, abs=0.05)
    assert fitted["tail_mean"] == pytest.approx(ours.tail_mean, rel=0.05)


def test_two_fused_fingers(measured: Measured) -> None:
    (two,) = (c for c in measured.fusion["cases"] if (c["fingers"], c["impressions"]) == (2, 1))
    assert two["rates"]["fmr1000"]["value"] <= 0.001


# ---- what it costs


def test_the_ridge_description_of_every_print_is_small(templates: dict[str, list[Template]]) -> None:
    sizes = [len(one.ridges) for found in templates.values() for one in found]
    assert len(sizes) >= 0.99 * 640
    assert min(sizes) > 0
    assert max(sizes) <= min(1500, MOST_BYTES)


def test_time_of_a_comparison(templates: dict[str, list[Template]]) -> None:
    """Of each pair the least of some repeats counts: a busy machine can only make a comparison slower.

    The repeats of a pair are far apart, so that one burst of other work does not touch all of them.
    """
    pairs = [
        (a, b)
        for found in templates.values()
        for a, b in list(combinations([prepare(one) for one in found], 2))[::EVERY]
    ]
    score(*pairs[0])  # the kernels are loaded, and the calibration read
    seconds = np.min([[_spent(a, b) for a, b in pairs] for _ in range(REPEATS)], axis=0)
    assert len(seconds) > 1000
    assert np.median(seconds) <= 1e-3
    assert np.percentile(seconds, 99) <= 5e-3


def _spent(probe: Prepared, reference: Prepared) -> float:
    started = time.thread_time()
    score(probe, reference)
    return time.thread_time() - started


# ---- one to many, and extraction


def test_identification(figures: dict[str, Any]) -> None:
    found = figures["identification"][IDENTIFIED]["as_labelled"]
    assert found["probes"] == 560
    assert found["rank1"]["value"] >= 0.96


def test_extraction(figures: dict[str, Any]) -> None:
    summary = figures["extraction"]["summary"]
    assert summary["ratio_median"] >= 1.5
    assert summary["agreement"] >= 0.995
