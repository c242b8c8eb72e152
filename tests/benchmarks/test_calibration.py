"""The calibration's fit on scores whose likelihood ratio is known, its honesty measures, and the command."""

import csv
import hashlib
import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import calibration
from benchmarks.__main__ import app
from benchmarks.calibration import Ratios, RawScores
from matcher.calibration import Calibration
from matcher.errors import InvalidInput


def scores(seed, mated=400, nonmated=4000, shift=0.0):
    """Normal classes, one unit wide and three apart: ln LR = 3 (x - 1.5), exactly linear."""
    rng = np.random.default_rng(seed)
    return RawScores(rng.normal(3 + shift, 1, mated), rng.normal(shift, 1, nonmated), 0, f"{seed:064x}")


def test_the_line_of_two_normal_classes_is_found():
    slope, intercept = calibration.logistic(*scores(0, 20_000, 20_000)[:2])
    assert slope == pytest.approx(3, rel=0.05)
    assert intercept == pytest.approx(-4.5, rel=0.05)


def test_the_line_does_not_depend_on_the_number_of_pairs_of_a_class():
    part = scores(0)
    once = calibration.logistic(part.mated, part.nonmated)
    twice = calibration.logistic(part.mated, np.tile(part.nonmated, 2))
    assert once == pytest.approx(twice, rel=1e-5)


def test_the_tail_of_exponential_impostors_is_found():
    rng = np.random.default_rng(0)
    nonmated = rng.exponential(0.1, 200_000)
    fitted = calibration.fit([RawScores(rng.normal(1, 0.3, 1000), nonmated, 0, "")])
    assert fitted.tail_mean == pytest.approx(0.1, rel=0.05)
    assert fitted.tail_from == pytest.approx(-0.1 * np.log(0.01), rel=0.02)
    for rate in (1e-2, 1e-3, 1e-4):
        line = (fitted.threshold(rate) - fitted.intercept) / fitted.slope
        assert (nonmated >= line).mean() == pytest.approx(rate, rel=0.3)


def test_cllr_of_known_ratios():
    assert calibration.cllr(Ratios(np.zeros(3), np.zeros(5))) == pytest.approx(1)
    assert calibration.cllr(Ratios(np.full(3, 20.0), np.full(5, -20.0))) == pytest.approx(0, abs=1e-12)
    one = Ratios(np.asarray([np.log10(3)]), np.asarray([-np.log10(3)]))
    assert calibration.cllr(one) == pytest.approx(np.log2(4 / 3))


def test_cllr_min_sees_discrimination_alone():
    part = scores(1)
    right = Ratios(*(3 * (x - 1.5) / np.log(10) for x in part[:2]))
    wrong = Ratios(*(10 * x + 7 for x in right))
    assert calibration.cllr_min(right) == pytest.approx(calibration.cllr_min(wrong))
    assert 0 < calibration.cllr_min(right) < calibration.cllr(right) < calibration.cllr(wrong)
    assert calibration.cllr_min(Ratios(np.ones(4), np.zeros(4))) == 0
    assert calibration.cllr_min(Ratios(np.zeros(4), np.zeros(9))) == pytest.approx(1)  # all equal: one pool


def test_each_set_is_judged_by_a_fit_to_the_others():
    sets = {"a": scores(1), "b": scores(2), "odd": scores(3, shift=1.0)}
    report = calibration.calibrate(sets, name="test")
    assert report["left_out"]["odd"]["fit"] == calibration_numbers(calibration.fit([sets["a"], sets["b"]]))
    odd, even = (report["left_out"][name]["thresholds"][0] for name in ("odd", "a"))
    assert odd["stated_fmr"] == 0.01
    assert odd["fmr"] == pytest.approx(odd["false_matches"] / 4000, abs=1e-6)
    assert odd["fmr"] > 0.05 > 0.02 > even["fmr"]  # a shifted scale is found out
    assert report["left_out"]["odd"]["cllr"] - report["left_out"]["odd"]["cllr_min"] > 0.05
    assert [each["stated_fmr"] for each in report["pooled"]["thresholds"]] == [1e-2, 1e-3, 1e-4]
    assert report["pooled"]["nonmated"] == 12_000


def calibration_numbers(fitted):
    return {name: getattr(fitted, name) for name in Calibration.__slots__ if name != "id"}


@pytest.mark.parametrize(
    "part",
    [
        RawScores(np.full(9, 5.0), np.linspace(0, 1, 200), 0, ""),  # apart: no line is best
        RawScores(np.full(9, 0.5), np.linspace(0, 1, 50), 0, ""),
        RawScores(np.zeros(0), np.linspace(0, 1, 200), 0, ""),
    ],
)
def test_what_cannot_be_fitted_is_refused(part):
    with pytest.raises(InvalidInput, match="cannot be fitted"):
        calibration.fit([part])


def write_results(folder, name, part, failed=()):
    """Write raw scores as a run does."""
    target = folder / name / "papilar"
    target.mkdir(parents=True)
    rows = [(f"1_{i}", 1, score) for i, score in enumerate(part.mated)]
    rows += [(f"2_{i}", 0, score) for i, score in enumerate(part.nonmated)]
    rows += [(f"3_{i}", 0, -np.inf) for i in failed]
    with (target / "raw.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["probe", "reference", "mated", "raw_score"])
        writer.writerows([probe, "9_9", mated, repr(float(score))] for probe, mated, score in rows)
    digest = hashlib.sha256((target / "raw.csv").read_bytes()).hexdigest()
    (target / "run.json").write_text(json.dumps({"raw_digest": digest}))


@pytest.fixture
def results(tmp_path):
    for seed in range(3):
        write_results(tmp_path / "results", f"set{seed}", scores(seed), failed=range(seed))
    return tmp_path / "results"


@pytest.fixture
def cli():
    return lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])


def test_the_command_writes_what_the_matcher_reads_and_repeats(results, tmp_path, cli):
    files = tmp_path / "one.json", tmp_path / "two.json"
    for file in files:
        done = cli("calibrate", "--scores", results, "--out", file, "--name", "test")
        assert done.exit_code == 0, done.output
    assert files[0].read_bytes() == files[1].read_bytes()
    shipped = json.loads(files[0].read_text())
    fitted = Calibration(**shipped["calibration"])
    inputs = shipped["provenance"]["inputs_sha256"]
    assert fitted.id == f"test-{inputs[:8]}"
    assert fitted.slope > 0
    assert shipped["provenance"]["sets"]["set2"] == {"mated": 400, "nonmated": 4000, "failed": 2}
    assert str(tmp_path) not in files[0].read_text()
    report = calibration.load_report(results)
    assert report["calibration"] == shipped["calibration"]


def test_a_report_of_other_scores_is_refused(results, tmp_path, cli):
    assert cli("calibrate", "--scores", results, "--out", tmp_path / "c.json").exit_code == 0
    write_results(results, "set9", scores(9))
    with pytest.raises(InvalidInput, match="other scores"):
        calibration.load_report(results)


@pytest.mark.parametrize("wrong", ["missing", "damaged", "no raw", "one set", "out"])
def test_wrong_arguments_end_with_2_and_a_reason(results, tmp_path, cli, wrong):
    folder, out = results, tmp_path / "c.json"
    if wrong == "missing":
        folder = tmp_path / "none"
    elif wrong == "damaged":
        (results / "set1" / "papilar" / "raw.csv").write_text("probe")
    elif wrong == "no raw":
        (results / "set1" / "papilar" / "raw.csv").unlink()
    elif wrong == "one set":
        folder = tmp_path / "single"
        write_results(folder, "set", scores(0))
    else:
        out = tmp_path / "none" / "c.json"
    done = cli("calibrate", "--scores", folder, "--out", out)
    assert done.exit_code == 2
    assert "error: " in done.stderr
    assert not out.exists()


def test_the_shipped_calibration_came_from_this_command():
    from importlib import resources

    kept = json.loads(resources.files("matcher").joinpath("calibration.json").read_text())
    provenance = kept["provenance"]
    assert kept["calibration"]["id"].endswith(provenance["inputs_sha256"][:8])
    assert "python -m benchmarks calibrate" in provenance["command"]
    assert len(provenance["sets"]) == 8
