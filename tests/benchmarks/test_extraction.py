"""The measure of the extraction: what counts as common, how prints are put together, and the command."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import extraction, report
from benchmarks.__main__ import app
from benchmarks.extraction import Row
from matcher.template import Template


def template(xy, angle):
    count = len(xy)
    return Template.of(np.asarray(xy), np.asarray(angle), np.ones(count), np.full(count, 50), size=(96, 96))


def test_a_minutia_is_common_within_a_pixel_and_two_degrees():
    one = template([(10, 10), (20, 20), (30, 30), (40, 40)], [0.0, 1.0, 2.0, 3.0])
    other = template([(11, 10), (22, 20), (30, 30), (40, 39)], [6.27, 1.0, 2.05, 3.02])
    assert extraction.kept(one, other) == extraction.kept(other, one) == 2


def test_the_summary_takes_the_smaller_share():
    rows = [
        Row("a", (96, 96), 0.9, 0.3, naive_n=10, ours_n=11, naive_kept=10, ours_kept=10),
        Row("b", (96, 96), 0.8, 0.4, naive_n=30, ours_n=29, naive_kept=28, ours_kept=28),
    ]
    found = extraction.summarise(rows)
    assert (found.prints, found.minutiae) == (2, 40)
    assert (found.ratio_min, found.ratio_median) == (pytest.approx(2), pytest.approx(2.5))
    assert found.agreement == pytest.approx(38 / 40)


@pytest.mark.datasets
def test_run_and_report_of_one_real_print(datasets, tmp_path):
    data, out = datasets / "fvc2002" / "DB3_B", tmp_path / "out"

    def cli(*arguments):
        return CliRunner().invoke(app, [str(each) for each in arguments])

    done = cli("run", "extraction", "--data", data, "--out", out, "--prints", 1)
    assert done.exit_code == 0, done.output
    kept = json.loads((out / "extraction.json").read_text())
    assert kept["summary"]["agreement"] > 0.99
    assert kept["environment"]["packages"]["onnxruntime"]
    done = cli("report", out, "--json", tmp_path / "figures.json")
    assert done.exit_code == 0, done.output
    assert "naive export" in done.output
    assert json.loads((tmp_path / "figures.json").read_text()) == {"extraction": kept}
    assert report.measure(out) == {"extraction": kept}


def test_data_of_unknown_resolution_is_refused(tmp_path):
    folder = tmp_path / "own"
    folder.mkdir()
    for name in ("1_1", "1_2", "2_1", "2_2"):
        (folder / f"{name}.png").touch()
    done = CliRunner().invoke(app, ["run", "extraction", "--data", str(folder), "--out", str(tmp_path / "o")])
    assert done.exit_code == 2
    assert "known resolution" in done.stderr
