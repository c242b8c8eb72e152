"""The ablation on made-up templates: every variant measured on the same pairs, by fits to the other sets."""

import json
import types

import cv2
import numpy as np
import pytest
from minutiae import finger, mate, ridge_grid
from typer.testing import CliRunner

from benchmarks import ablation, calibration, datasets, metrics
from benchmarks.__main__ import app
from benchmarks.ablation import VARIANTS
from benchmarks.runner import pairs
from matcher.cylinders import prepare
from matcher.errors import InvalidInput
from matcher.ridges import pack
from matcher.template import Template

FINGERS, IMPRESSIONS = 6, 3
STRANGERS, REJECTED = ("2_3", "3_2", "5_1", "6_3"), "4_1"
"""Prints of other fingers than their names say, so that the classes overlap; one that is not enrolled."""


def template(number: int) -> Template:
    """Return the template that stands for print `number`: of one finger all, moved and jittered a little."""
    seed, impression = divmod(number, 10)
    first = finger(seed, 25)
    made, x, y = first, 0, 0
    if impression > 1:
        other = mate(first, number, jitter=1.0 * impression)
        made, (x, y) = other.template, np.rint(-other.shift).astype(int).tolist()
    grid = ridge_grid(seed, 12, 10)._replace(step=12, x=80 + x, y=100 + y)
    numbers = made.xy, made.angle, made.kind, np.arange(20, 20 + len(made)) % 80 + 20
    return Template.of(*numbers, size=made.size, ridges=pack(grid))


@pytest.fixture
def sets(tmp_path, monkeypatch):
    """Two sets whose images hold a number alone; the extraction looks its template up."""
    for at, name in enumerate("ab"):
        folder = tmp_path / "data" / name
        folder.mkdir(parents=True)
        for who in range(1, FINGERS + 1):
            for impression in range(1, IMPRESSIONS + 1):
                print_ = f"{who}_{impression}"
                number = 1000 * (at + 1) + 10 * who + impression
                image = np.full((64, 64), 255 if print_ == REJECTED else 0, np.uint8)
                image[0, :2] = divmod(number + 500 if print_ in STRANGERS else number, 256)
                cv2.imwrite(str(folder / f"{print_}.png"), image)

    def extract(image):
        number = int(image.pixels[0, 0]) * 256 + int(image.pixels[0, 1])
        return types.SimpleNamespace(rejected=bool(image.pixels[1, 1] == 255), template=template(number))

    monkeypatch.setattr(ablation, "extract", extract)
    monkeypatch.setattr(ablation, "part_of", lambda image, whole: whole.best(14))
    return datasets.load(tmp_path / "data", ppi=500).sets


def test_every_variant_is_measured_on_the_same_pairs(sets, tmp_path):
    report = ablation.run(sets, tmp_path / "out")
    assert json.loads((tmp_path / "out" / ablation.FILE).read_text()) == report
    assert report["sets"] == ["a", "b"]
    assert list(report["variants"]) == [variant.name for variant in VARIANTS]
    assert len(set(report["variants"])) == len(VARIANTS)
    assert report["variants"]["whole"]["time"] == 1
    for entry in report["variants"].values():
        assert entry["time"] > 0
        for judged in (entry["stated"], entry["stated_parts"]):
            assert 0 <= judged["cllr_min"] <= judged["cllr"]
        for rate in ablation.RATES:
            by_set = [each[rate] for each in entry["sets"].values()]
            assert entry["macro"][rate] == pytest.approx(np.mean(by_set))
            assert 0 < entry["pooled"][rate] < 1, "the rejected print is missed, others are not"


def test_a_variant_of_one_part_errs_as_that_part_does(sets, tmp_path):
    alone = next(each for each in VARIANTS if each.name == "structure alone")
    report = ablation.run(sets, tmp_path, variants=[alone])
    (entry,) = report["variants"].values()
    for each in sets:
        prepared = [
            prepare(ablation._templates(one.path.read_bytes(), 500)[0] or template(1)) for one in each.prints
        ]
        failed = [one.name == REJECTED for one in each.prints]
        scores, mated = [], []
        for i, j in pairs(len(prepared)):
            found = ablation.evidence(prepared[i], prepared[j]).structure
            scores.append(-np.inf if failed[i] or failed[j] else found)
            mated.append(each.prints[i].finger == each.prints[j].finger)
        truth = np.asarray(mated)
        curve = metrics.det(np.asarray(scores)[truth], np.asarray(scores)[~truth])
        # not quite: of prints with fewer minutiae it says less
        assert entry["sets"][each.name]["eer"] == pytest.approx(metrics.eer(curve), abs=0.03)


def test_what_variants_leave_out_is_left_out():
    whole = template(1011)
    by_name = {variant.name: variant for variant in VARIANTS}
    prepared = {name: variant.prepare(whole) for name, variant in by_name.items()}
    assert len(prepared["whole"].ridges)
    for name in ("minutiae alone", "minutiae alone, through ISO 19794-2", "structure alone"):
        assert not len(prepared[name].ridges)
        assert "ridges" not in by_name[name].terms
    one = prepared["one level of quality, 50"]
    assert one.sure is one.every
    assert len(one.pose) == (whole.quality >= 50).sum() < len(prepared["whole"].pose)
    plain, other = prepared["whole"], prepare(template(1012))

    def differs(name):
        found = ablation.evidence(plain, other, numbers=by_name[name].numbers)
        return found != ablation.evidence(plain, other)

    assert differs("no bending")
    assert differs("no settling")
    assert not differs("ridges alone"), "it weighs the same evidence in another way"


def test_terms_are_fields_of_the_evidence():
    known = set(calibration.Evidence._fields) - {"matched"}
    assert all(set(variant.terms) <= known and variant.terms for variant in VARIANTS)


def test_one_set_alone_is_refused_and_said(sets, tmp_path, monkeypatch):
    monkeypatch.setattr(ablation, "VARIANTS", VARIANTS[:1])
    with pytest.raises(InvalidInput, match="one set alone"):
        ablation.run(sets[:1], tmp_path, variants=VARIANTS[:1])
    data = sets[0].prints[0].path.parents[1]
    arguments = ["run", "ablation", "--data", data / "a", "--out", tmp_path / "o", "--ppi", 500]
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 2
    assert "error: one set alone" in done.stderr
    assert not (tmp_path / "o").exists()
