"""Invariance: images turned and shifted as said, what is drawn, and the command on synthetic prints."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import datasets, invariance
from benchmarks.__main__ import app
from benchmarks.invariance import Sample, border, shifted, turned
from benchmarks.synthetic import archive
from matcher.calibration import shipped


@pytest.fixture
def pixels():
    """A white image with noise in its middle."""
    image = np.full((41, 60), 250, np.uint8)
    image[8:33, 10:50] = np.random.default_rng(0).integers(0, 200, (25, 40))
    return image


def test_quarters_of_a_turn_change_no_grey_value(pixels):
    for quarters in range(1, 4):
        np.testing.assert_array_equal(turned(pixels, 90 * quarters), np.rot90(pixels, quarters))
    np.testing.assert_array_equal(turned(pixels, 0), pixels)


def test_a_turn_keeps_the_whole_image(pixels):
    smooth = np.full_like(pixels, 200)
    smooth[3:-3, 3:-3] = 100
    made = turned(smooth, 30)
    c, s = np.cos(np.pi / 6), 0.5
    assert made.shape == (np.ceil(41 * c + 60 * s), np.ceil(60 * c + 41 * s))
    assert border(made) == 200
    assert (200 - made.astype(float)).sum() == pytest.approx(100 * 35 * 54, rel=0.01)


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("way", [-1, 1])
def test_a_shifted_print_and_its_control_show_the_same_part(pixels, axis, way):
    pushed, control = shifted(pixels, axis, way)
    third = pixels.shape[1 - axis] // 3
    np.testing.assert_array_equal(np.roll(control, way * third, axis=1 - axis), pushed)
    assert pushed.shape == control.shape == pixels.shape
    seen = control != 250
    np.testing.assert_array_equal(control[seen], pixels[seen])
    lost = (
        np.moveaxis(control, 1 - axis, 0)[-third:] if way > 0 else np.moveaxis(control, 1 - axis, 0)[:third]
    )
    assert (lost == 250).all(), "what is pushed over the edge"


@pytest.fixture(scope="module")
def archived(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "made"
    archive(folder, subjects=3, impressions=3, seed=5, severity=0.2, workers=1)
    return folder


def test_what_is_drawn_repeats_and_leaves_out_what_failed(archived):
    (each,) = datasets.load(archived).sets
    references = [object(), None, object()]
    tasks = invariance._draw(each, references, 10, Sample(fingers=9, impostors=9, seed=1))
    assert [(task.finger, task.others) for task in tasks] == [(10, (12,)), (12, (10,))]
    assert [task.probe.finger for task in tasks] == ["001", "003"]
    assert {task.probe.impression for task in tasks} <= {"2", "3"}
    assert tasks == invariance._draw(each, references, 10, Sample(fingers=9, impostors=9, seed=1))
    with pytest.raises(invariance.InvalidInput, match="too few"):
        invariance._draw(each, [object(), None, None], 0, Sample())


def test_synthetic_prints_lose_nothing(archived, tmp_path):
    report = invariance.run(
        datasets.load(archived).sets, tmp_path, sample=Sample(fingers=2), turns=(0, 150), replicates=50
    )
    changes = report["changes"]
    sides = [f"{what}, {side}" for side in ("width", "height") for what in ("control", "shifted")]
    assert list(changes) == ["unchanged", "turned 150", *sides]
    whole = changes["unchanged"]
    assert (whole["against"], whole["difference"], whole["fnmr"], whole["eer"]) == (None, None, 0, 0)
    assert changes["turned 150"]["fnmr"] == 0
    assert changes["turned 150"]["mean"] > shipped().threshold(1e-5)
    for name in ("turned 150", *sides):
        gap, against = changes[name]["difference"], changes[name]["against"]
        assert gap["value"] == pytest.approx(changes[name]["mean"] - changes[against]["mean"], abs=2e-4)
        assert gap["low"] <= gap["value"] <= gap["high"]
        assert changes[name]["rejected"] == 0
    for side in ("width", "height"):
        assert changes[f"shifted, {side}"]["against"] == f"control, {side}"
        assert abs(changes[f"shifted, {side}"]["difference"]["value"]) < 1, "no loss beyond the area"
    assert json.loads((tmp_path / invariance.FILE).read_text()) == report


def test_a_print_that_is_rejected_once_changed_counts_as_a_miss(archived, tmp_path, monkeypatch):
    whole = invariance._prepared

    def rejecting(image):
        return None if len(set(image.pixels[:, 0].tolist())) == 1 else whole(image)

    monkeypatch.setattr(invariance, "_prepared", rejecting)
    monkeypatch.setattr(invariance, "turned", lambda pixels, degrees: np.zeros_like(pixels))
    report = invariance.run(
        datasets.load(archived).sets, tmp_path, sample=Sample(fingers=1), turns=(90,), replicates=5
    )
    entry = report["changes"]["turned 90"]
    assert (entry["rejected"], entry["mean"], entry["fnmr"], entry["fmr"]) == (1, -3, 1, 0)


def test_the_command_shows_and_keeps_the_figures(archived, tmp_path, monkeypatch):
    monkeypatch.setattr(invariance, "_changes", lambda pixels, ways, turns: [("unchanged", "", pixels)])
    arguments = ["run", "invariance", "--data", archived, "--out", tmp_path, "--fingers", 1, "--seed", 2]
    done = CliRunner().invoke(app, [str(each) for each in arguments])
    assert done.exit_code == 0, done.output
    assert "1 probes" in done.output
    assert "unchanged" in done.output
    assert json.loads((tmp_path / "invariance.json").read_text())["sample"]["seed"] == 2


def test_the_command_refuses_what_it_cannot_sample(tmp_path):
    done = CliRunner().invoke(
        app, ["run", "invariance", "--data", str(tmp_path), "--out", str(tmp_path / "o")]
    )
    assert done.exit_code == 2
    assert "error: " in done.stderr
