"""The calibration: its fit on evidence whose likelihood ratio is known, its honesty, and the command."""

import csv
import hashlib
import json

import numpy as np
import pytest
from runs import MEANS, observed, pairs_of, write_run
from typer.testing import CliRunner

from benchmarks import calibration, report
from benchmarks.__main__ import app
from benchmarks.calibration import KINDS, Ratios
from matcher.calibration import LOWEST, Calibration, Evidence
from matcher.errors import InvalidInput

RIDGES, MINUTIAE = (KINDS[kind].terms for kind in ("ridges", "minutiae"))


def classes(part, terms):
    values = part.values[:, [Evidence._fields.index(term) for term in terms]]
    return values[part.mated], values[~part.mated]


@pytest.mark.parametrize("terms", [("structure",), MINUTIAE, RIDGES])
def test_the_weights_of_two_normal_classes_are_found(terms):
    weights, intercept = calibration.logistic(*classes(observed(0, 40_000, 40_000), terms))
    means = np.asarray([MEANS[term] for term in terms])
    np.testing.assert_allclose(weights, means, rtol=0.1)
    assert intercept == pytest.approx(-(means**2).sum() / 2, rel=0.1)


def test_the_weights_do_not_depend_on_the_number_of_pairs_of_a_class():
    mated, nonmated = classes(observed(0), RIDGES)
    weights, intercept = calibration.logistic(mated, nonmated)
    again, other = calibration.logistic(mated, np.tile(nonmated, (2, 1)))
    np.testing.assert_allclose(again, weights, rtol=1e-4)
    assert other == pytest.approx(intercept, rel=1e-4)


def test_what_a_model_states_is_the_ratio_of_the_classes():
    part = observed(1, 40_000, 40_000)
    model = calibration.fit([part], RIDGES)
    assert tuple(model.terms) == RIDGES
    means = np.asarray([MEANS[term] for term in RIDGES])
    columns = part.values[:, [Evidence._fields.index(term) for term in RIDGES]]
    true = ((columns - means / 2) @ means) / np.log(10)
    stated = calibration.ratios_of(part.values, model)
    kept = true > LOWEST / 2
    assert np.abs(stated - true)[kept].mean() < 0.1
    assert stated.min() == LOWEST
    one = Evidence(*part.values[0].tolist())
    assert stated[0] == pytest.approx(max(LOWEST, sum(part.adds for part in model.parts(one))))
    for term in RIDGES[1:]:  # neutral halfway between its classes
        assert model.terms[term].neutral == pytest.approx(MEANS[term] / 2, abs=0.05)


def test_the_tail_of_exponential_impostors_is_found():
    rng = np.random.default_rng(0)
    part = observed(0, 1000, 200_000)
    part.values[:, 0] = np.where(part.mated, rng.normal(1, 0.3, len(part.mated)), 0)
    part.values[~part.mated, 0] = rng.exponential(0.1, 200_000)
    fitted = calibration.fit([part], ("structure",))
    weight, neutral = fitted.terms["structure"]
    assert fitted.tail_mean == pytest.approx(0.1 * weight, rel=0.05)
    assert fitted.tail_from == pytest.approx(weight * (-0.1 * np.log(0.01) - neutral), abs=0.02 * weight)
    for rate in (1e-2, 1e-3, 1e-4):
        stated = calibration.state(part, fitted).nonmated
        assert (stated >= fitted.threshold(rate)).mean() == pytest.approx(rate, rel=0.3)


def test_prints_that_failed_take_no_part():
    part = observed(2)
    values, failed = part.values.copy(), part.failed.copy()
    failed[:50] = failed[-50:] = True
    values[failed] = (-np.inf, 0, 0, np.nan)
    with_failed = part._replace(values=values, failed=failed)
    without = part._replace(values=values[~failed], mated=part.mated[~failed], failed=failed[~failed])
    model = calibration.fit([with_failed], RIDGES)
    assert model == calibration.fit([without], RIDGES)
    assert [len(each) for each in calibration.state(with_failed, model)] == [350, 3950]


def test_a_pair_that_cannot_be_laid_on_each_other_stops_no_fit():
    """Two enrolled prints of which no motion is found have no ridges in common: no agreement is known."""
    part = observed(3)
    values = part.values.copy()
    values[-1] = (np.log(1e-3), 0, 0, np.nan)
    odd = part._replace(values=values)
    model = calibration.fit([odd], RIDGES)
    assert model == calibration.fit(
        [part._replace(values=values[:-1], mated=part.mated[:-1], failed=part.failed[:-1])], RIDGES
    )
    assert calibration.ratios_of(values, model)[-1] == LOWEST
    assert len(calibration.state(odd, model).nonmated) == 4000


def test_cllr_of_known_ratios():
    assert calibration.cllr(Ratios(np.zeros(3), np.zeros(5))) == pytest.approx(1)
    assert calibration.cllr(Ratios(np.full(3, 20.0), np.full(5, -20.0))) == pytest.approx(0, abs=1e-12)
    one = Ratios(np.asarray([np.log10(3)]), np.asarray([-np.log10(3)]))
    assert calibration.cllr(one) == pytest.approx(np.log2(4 / 3))


def test_cllr_min_sees_discrimination_alone():
    right = Ratios(*(3 * (x[:, 0] - 1.5) / np.log(10) for x in classes(observed(1), ("structure",))))
    wrong = Ratios(*(10 * x + 7 for x in right))
    assert calibration.cllr_min(right) == pytest.approx(calibration.cllr_min(wrong))
    assert 0 < calibration.cllr_min(right) < calibration.cllr(right) < calibration.cllr(wrong)
    assert calibration.cllr_min(Ratios(np.ones(4), np.zeros(4))) == 0
    assert calibration.cllr_min(Ratios(np.zeros(4), np.zeros(9))) == pytest.approx(1)  # all equal: one pool


def test_each_set_is_judged_by_a_fit_to_the_others():
    sets = {"a": observed(1), "b": observed(2), "odd": observed(3, shift=1.0)}
    found = calibration.calibrate(dict.fromkeys(KINDS, sets), name="test")
    for kind, (_, terms) in KINDS.items():
        section = found[kind]
        own = calibration.fit([sets["a"], sets["b"]], terms)
        assert section["left_out"]["odd"]["fit"]["terms"] == own.terms
        assert section["left_out"]["odd"]["fit"]["tail_mean"] == own.tail_mean
        odd, even = (section["left_out"][name]["thresholds"][0] for name in ("odd", "a"))
        assert odd["stated_fmr"] == 0.01
        assert odd["fmr"] == pytest.approx(odd["false_matches"] / 4000, abs=1e-6)
        assert odd["fmr"] > 0.03 > 0.02 > even["fmr"]  # a shifted scale is found out
        losses = {name: each["cllr"] - each["cllr_min"] for name, each in section["left_out"].items()}
        assert losses["odd"] > 2 * losses["b"]
        assert [each["stated_fmr"] for each in section["pooled"]["thresholds"]] == [1e-2, 1e-3, 1e-4]
        assert section["pooled"]["nonmated"] == 12_000
    ridges, minutiae = (found[kind]["pooled"]["cllr"] for kind in ("ridges", "minutiae"))
    assert ridges < minutiae, "more parts tell more"


def _alone(mated, nonmated):
    part = observed(0, len(mated), len(nonmated))
    part.values[:, 0] = np.concatenate([mated, nonmated])
    return part


@pytest.mark.parametrize(
    "part",
    [
        _alone(np.full(9, 5.0), np.linspace(0, 1, 200)),  # apart: no weights are the best
        _alone(np.full(9, 0.5), np.linspace(0, 1, 50)),
        _alone(np.zeros(0), np.linspace(0, 1, 200)),
        _alone(np.linspace(-1, 1, 9), np.zeros(200)),  # all equal: no tail
    ],
)
def test_what_cannot_be_fitted_is_refused(part):
    with pytest.raises(InvalidInput, match="cannot be fitted"):
        calibration.fit([part], ("structure",))


@pytest.fixture
def results(tmp_path):
    for seed in range(3):
        failed = "101_1" if seed == 2 else ""
        rows = pairs_of(seed, range(101, 108), 4, failed=failed)
        write_run(tmp_path / "results", f"set{seed}", rows)
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
    fitted = Calibration.of(shipped["calibration"])
    inputs = shipped["provenance"]["inputs_sha256"]
    assert fitted.id == f"test-{inputs[:8]}"
    runs = calibration.load(results)
    for kind, (_, terms) in KINDS.items():
        assert getattr(fitted, kind) == calibration.fit(list(runs[kind].values()), terms)
        kept = shipped["provenance"]["sets"][kind]
        assert kept["set1"] == {"mated": 42, "nonmated": 336, "failed": 0}
        assert kept["set2"] == {"mated": 39, "nonmated": 312, "failed": 27}
    assert str(tmp_path) not in files[0].read_text()
    assert calibration.load_report(results)["calibration"] == shipped["calibration"]


def test_left_out_scores_are_systems_of_their_own(results, tmp_path, cli):
    assert cli("calibrate", "--scores", results, "--out", tmp_path / "c.json").exit_code == 0
    runs = calibration.load(results)
    for kind, (system, terms) in KINDS.items():
        part, folder = runs[kind]["set2"], results / "set2" / f"{system}-left-out"
        with (folder / "scores.csv").open() as file:
            rows = list(csv.DictReader(file))
        model = calibration.fit([runs[kind][name] for name in ("set0", "set1")], terms)
        wanted = np.where(part.failed, -np.inf, calibration.ratios_of(part.values, model))
        assert [float(row["score"]) for row in rows] == wanted.tolist()
        assert np.isinf(wanted).sum() == 27, "a print that failed counts as errors"
        about = json.loads((folder / "run.json").read_text())
        assert about["system"]["name"] == f"{system}-left-out"
        digest = hashlib.sha256((folder / "scores.csv").read_bytes()).hexdigest()
        assert about["scores_digest"] == digest
        assert "evidence_digest" not in about


def test_the_report_shows_both_tables_and_the_left_out_rates(results, tmp_path, cli):
    assert cli("calibrate", "--scores", results, "--out", tmp_path / "c.json", "--name", "t").exit_code == 0
    for folder in results.glob("*/papilar*"):  # the runs never wrote scores: only the left-out ones are there
        if not folder.name.endswith("left-out"):
            scored = folder.parent / f"{folder.name}-left-out" / "scores.csv"
            (folder / "scores.csv").write_bytes(scored.read_bytes())
            about = json.loads((folder / "run.json").read_text())
            about["scores_digest"] = hashlib.sha256(scored.read_bytes()).hexdigest()
            (folder / "run.json").write_text(json.dumps(about))
    figures = report.measure(results, replicates=20)
    assert set(figures["macro"]) == {
        f"{kind.system}{end}" for kind in KINDS.values() for end in ("", "-left-out")
    }
    better, bare = (figures["pooled"][f"{kind.system}-left-out"]["eer"] for kind in KINDS.values())
    assert better["value"] < bare["value"]
    done = cli("report", results, "--replicates", "0")
    assert done.exit_code == 0, done.output
    for kind in KINDS:
        assert f"{figures['calibration']['calibration']['id']}, {kind}:" in done.output


def test_a_report_of_other_scores_is_refused(results, tmp_path, cli):
    assert cli("calibrate", "--scores", results, "--out", tmp_path / "c.json").exit_code == 0
    write_run(results, "set9", pairs_of(9, range(101, 108), 4), [KINDS["minutiae"].system])
    with pytest.raises(InvalidInput, match="other scores"):
        calibration.load_report(results)


WRONG = ("missing", "damaged", "no evidence", "no run", "ridges alone", "minutiae alone", "one set", "out")


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_arguments_end_with_2_and_a_reason(results, tmp_path, cli, wrong):
    folder, out = results, tmp_path / "c.json"
    ridges, minutiae = (kind.system for kind in KINDS.values())
    if wrong == "missing":
        folder = tmp_path / "none"
    elif wrong == "damaged":
        (results / "set1" / ridges / "evidence.csv").write_text("probe")
    elif wrong == "no evidence":
        (results / "set1" / minutiae / "evidence.csv").unlink()
    elif wrong == "no run":
        (results / "set1" / minutiae / "run.json").write_text("[]")
    elif wrong.endswith("alone"):
        gone = minutiae if wrong == "ridges alone" else ridges
        for path in results.glob(f"*/{gone}/run.json"):
            path.unlink()
    elif wrong == "one set":
        folder = tmp_path / "single"
        write_run(folder, "set", pairs_of(0, range(101, 108), 4))
    else:
        out = tmp_path / "none" / "c.json"
    done = cli("calibrate", "--scores", folder, "--out", out)
    assert done.exit_code == 2
    assert "error: " in done.stderr
    assert not out.exists()
    assert not list(folder.glob("*/*-left-out"))


def test_the_shipped_calibration_came_from_this_command():
    from importlib import resources

    kept = json.loads(resources.files("matcher").joinpath("calibration.json").read_text())
    provenance = kept["provenance"]
    assert kept["calibration"]["id"].endswith(provenance["inputs_sha256"][:8])
    assert "python -m benchmarks calibrate" in provenance["command"]
    for kind, (_, terms) in KINDS.items():
        assert len(provenance["sets"][kind]) == 8
        assert tuple(kept["calibration"][kind]["terms"]) == terms
