"""The calibration: its fit on evidence whose likelihood ratio is known, its honesty, and the command."""

import csv
import hashlib
import json

import numpy as np
import pytest
from runs import MEANS, both, observed, pairs_of, write_run
from typer.testing import CliRunner

from benchmarks import calibration, report
from benchmarks.__main__ import app
from benchmarks.calibration import KINDS, Both, Ratios
from matcher.calibration import LOWEST, Calibration, Evidence
from matcher.errors import InvalidInput

RIDGES, MINUTIAE = (KINDS[kind].terms for kind in ("ridges", "minutiae"))


def classes(part, terms):
    values = part.values[:, [Evidence._fields.index(term) for term in terms]]
    return values[part.mated], values[~part.mated]


def regressed(part, terms, *, counts=None):
    values = part.values[:, [Evidence._fields.index(term) for term in terms]]
    counts = np.ones(len(values)) if counts is None else counts
    return calibration.logistic(values, calibration.size(part.values), part.mated, counts)


def alone(part):
    """Return a set without parts: those of it that are none count for nothing."""
    return Both(part, part._replace(failed=np.ones(len(part.failed), bool)))


@pytest.mark.parametrize("terms", [("structure",), MINUTIAE, RIDGES])
def test_the_weights_of_two_normal_classes_are_found(terms):
    """They are the same for few minutiae and for many."""
    weights, intercepts = regressed(observed(0, 40_000, 40_000), terms)
    means = np.asarray([MEANS[term] for term in terms])
    np.testing.assert_allclose(weights, [means, means], rtol=0.15)
    assert intercepts == pytest.approx([-(means**2).sum() / 2] * 2, rel=0.15)


def test_what_says_more_of_many_minutiae_weighs_more_there():
    """Mated structure is drawn about 3 s, with s the share of many minutiae: few minutiae say nothing."""
    part = observed(4, 40_000, 40_000)
    share = calibration.size(part.values)
    part.values[:, 0] = np.random.default_rng(0).normal(3 * share * part.mated, 1)
    (few, many), _ = regressed(part, ("structure",))
    assert few[0] < 0.5 * many[0]
    assert many[0] == pytest.approx(3, rel=0.2)


def test_no_part_weighs_less_than_nothing():
    part = observed(5)
    part.values[:, 1] *= -1
    weights, _ = regressed(part, MINUTIAE)
    assert (weights > 0).all()
    assert (weights[:, 1] < 1e-3).all()


def test_a_value_weighs_as_often_as_it_counts():
    part = observed(6)
    counts = np.random.default_rng(1).integers(1, 4, len(part.mated))
    repeated = part._replace(
        values=np.repeat(part.values, counts, axis=0), mated=np.repeat(part.mated, counts)
    )
    for one, other in zip(regressed(part, RIDGES, counts=counts), regressed(repeated, RIDGES), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3)


def test_the_weights_do_not_depend_on_the_number_of_pairs_of_a_class():
    part = observed(0)
    often = regressed(part, RIDGES, counts=np.where(part.mated, 1.0, 2.0))
    for one, other in zip(regressed(part, RIDGES), often, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3)


def test_what_a_model_states_is_the_ratio_of_the_classes():
    part = observed(1, 40_000, 40_000)
    model = calibration.fit([alone(part)], RIDGES)
    assert tuple(model.terms) == RIDGES
    means = np.asarray([MEANS[term] for term in RIDGES])
    columns = part.values[:, [Evidence._fields.index(term) for term in RIDGES]]
    true = ((columns - means / 2) @ means) / np.log(10)
    stated = calibration.ratios_of(part.values, model)
    kept = true > LOWEST / 2
    assert np.abs(stated - true)[kept].mean() < 0.1
    assert stated.min() == LOWEST
    one = Evidence._make(part.values[0].tolist())
    assert stated[0] == pytest.approx(max(LOWEST, sum(part.adds for part in model.parts(one))))
    for term in RIDGES[1:]:  # neutral halfway between its classes
        for line in model.terms[term]:
            assert line.neutral == pytest.approx(MEANS[term] / 2, abs=0.05)


def test_the_tail_of_exponential_impostors_is_found():
    rng = np.random.default_rng(0)
    part = observed(0, 1000, 200_000)
    part.values[:, 0] = np.where(part.mated, rng.normal(1, 0.3, len(part.mated)), 0)
    part.values[~part.mated, 0] = rng.exponential(0.1, 200_000)
    part.values[:, Evidence._fields.index("fewer")] = 100
    fitted = calibration.fit([alone(part)], ("structure",))
    _, (weight, neutral) = fitted.terms["structure"]
    assert fitted.tail_mean == pytest.approx(0.1 * weight, rel=0.05)
    assert fitted.tail_from == pytest.approx(weight * (-0.1 * np.log(0.01) - neutral), abs=0.02 * weight)
    for rate in (1e-2, 1e-3, 1e-4):
        stated = calibration.state(part, fitted).nonmated
        assert (stated >= fitted.threshold(rate)).mean() == pytest.approx(rate, rel=0.3)


def test_prints_that_failed_take_no_part():
    part = observed(2)
    values, failed = part.values.copy(), part.failed.copy()
    failed[:50] = failed[-50:] = True
    values[failed] = (-np.inf, 0, 0, np.nan, 0)
    with_failed = part._replace(values=values, failed=failed)
    without = part._replace(values=values[~failed], mated=part.mated[~failed], failed=failed[~failed])
    model = calibration.fit([alone(with_failed)], RIDGES)
    assert model == calibration.fit([alone(without)], RIDGES)
    assert [len(each) for each in calibration.state(with_failed, model)] == [350, 3950]


def test_a_pair_that_cannot_be_laid_on_each_other_stops_no_fit():
    """Two enrolled prints of which no motion is found have no ridges in common: no agreement is known."""
    part = observed(3)
    values = part.values.copy()
    values[-1] = (-20, 0, 0, np.nan, 1)
    odd = part._replace(values=values)
    less = part._replace(values=values[:-1], mated=part.mated[:-1], failed=part.failed[:-1])
    model = calibration.fit([alone(odd)], RIDGES)
    assert model == calibration.fit([alone(less)], RIDGES)
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


def test_parts_count_half_in_a_fit():
    """As if every whole pair were there twice and every part once."""
    whole, part = both(7)
    doubled = whole._replace(
        **{name: np.concatenate([getattr(whole, name)] * 2) for name in ("values", "mated", "failed")}
    )
    together = doubled._replace(
        **{
            name: np.concatenate([getattr(doubled, name), getattr(part, name)])
            for name in ("values", "mated", "failed")
        }
    )
    one, other = calibration.fit([Both(whole, part)], RIDGES), calibration.fit([alone(together)], RIDGES)
    for name in RIDGES:
        for line, wanted in zip(one.terms[name], other.terms[name], strict=True):
            assert line.weight == pytest.approx(wanted.weight, rel=0.01)
    assert one.tail_from == pytest.approx(other.tail_from, abs=0.02)
    assert one.tail_mean == pytest.approx(other.tail_mean, rel=0.02)


def test_each_set_is_judged_by_a_fit_to_the_others():
    sets = {"a": both(1), "b": both(2), "odd": both(3, shift=1.0)}
    found = calibration.calibrate(dict.fromkeys(KINDS, sets), name="test")
    for kind, (_, _, terms) in KINDS.items():
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
        assert section["pooled"]["nonmated"] == section["parts"]["nonmated"] == 12_000
        assert section["pooled"]["cllr"] != section["parts"]["cllr"]
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
        calibration.fit([alone(part)], ("structure",))


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
    for kind, (_, _, terms) in KINDS.items():
        assert getattr(fitted, kind) == calibration.fit(list(runs[kind].values()), terms)
        kept = shipped["provenance"]["sets"][kind]
        for name in Both._fields:
            assert kept["set1"][name] == {"mated": 42, "nonmated": 336, "failed": 0}
            assert kept["set2"][name] == {"mated": 39, "nonmated": 312, "failed": 27}
    assert str(tmp_path) not in files[0].read_text()
    assert calibration.load_report(results)["calibration"] == shipped["calibration"]


def test_left_out_scores_are_systems_of_their_own(results, tmp_path, cli):
    assert cli("calibrate", "--scores", results, "--out", tmp_path / "c.json").exit_code == 0
    runs = calibration.load(results)
    every = [
        (kind, system, index) for kind, (*systems, _) in KINDS.items() for index, system in enumerate(systems)
    ]
    assert len(every) == 4
    for kind, system, index in every:
        part, folder = runs[kind]["set2"][index], results / "set2" / f"{system}-left-out"
        with (folder / "scores.csv").open() as file:
            rows = list(csv.DictReader(file))
        model = calibration.fit([runs[kind][name] for name in ("set0", "set1")], KINDS[kind].terms)
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
        f"{system}{end}"
        for kind in KINDS.values()
        for system in (kind.system, kind.partial)
        for end in ("", "-left-out")
    }
    better, bare = (figures["pooled"][f"{kind.system}-left-out"]["eer"] for kind in KINDS.values())
    assert better["value"] < bare["value"]
    done = cli("report", results, "--replicates", "0")
    assert done.exit_code == 0, done.output
    for kind in KINDS:
        assert f"{figures['calibration']['calibration']['id']}, {kind}:" in done.output


def test_a_report_of_other_scores_is_refused(results, tmp_path, cli):
    assert cli("calibrate", "--scores", results, "--out", tmp_path / "c.json").exit_code == 0
    minutiae = KINDS["minutiae"]
    rows = pairs_of(9, range(101, 108), 4)
    write_run(results, "set9", rows, [minutiae.system, minutiae.partial])
    with pytest.raises(InvalidInput, match="other scores"):
        calibration.load_report(results)


WRONG = (
    "missing",
    "damaged",
    "no evidence",
    "no run",
    "ridges alone",
    "minutiae alone",
    "no parts",
    "a set without parts",
    "one set",
    "out",
)


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
    elif wrong.endswith("parts"):
        for path in results.glob(f"{'set1' if 'set' in wrong else '*'}/papilar-part/run.json"):
            path.unlink()
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
    for kind, (_, _, terms) in KINDS.items():
        assert len(provenance["sets"][kind]) == 8
        assert tuple(kept["calibration"][kind]["terms"]) == terms
