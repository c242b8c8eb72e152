"""The measure of a whole extraction: how times are put together, and the command."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from benchmarks import extraction, extraction_speed
from benchmarks.__main__ import app
from benchmarks.extraction_speed import Times
from matcher.errors import InvalidInput


def test_means_are_compared_and_not_each_print():
    times = np.array([Times(4.0, 0.5, 1.0), Times(2.0, 1.5, 2.0)])
    found = extraction_speed.summarise("a", [times], 200, np.random.default_rng(0))
    assert (found.prints, found.naive_s, found.network_s, found.whole_s) == (2, 3.0, 1.0, 1.5)
    assert (found.ratio, found.network_ratio) == (2.0, 3.0)
    assert found.interval == (1.0, 4.0)


def test_prints_are_drawn_within_their_set():
    """Two sets of one print each leave nothing to draw."""
    groups = [np.array([Times(4.0, 0.5, 1.0)]), np.array([Times(2.0, 1.5, 2.0)])]
    found = extraction_speed.summarise("all", groups, 50, np.random.default_rng(0))
    assert found.interval == (2.0, 2.0)
    assert found.prints == 2


def test_no_prints_and_no_graph_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="no prints"):
        extraction_speed.run([], tmp_path)
    with pytest.raises(InvalidInput, match="no graph"):
        extraction.naive(tmp_path / "LEADER.onnx")


@pytest.mark.datasets
def test_the_command_times_a_real_print(datasets, tmp_path):
    data, out = datasets / "fvc2002" / "DB3_B", tmp_path / "out"
    done = CliRunner().invoke(
        app, ["run", "extraction-speed", "--data", str(data), "--out", str(out), "--prints", "1"]
    )
    assert done.exit_code == 0, done.output
    kept = json.loads((out / extraction_speed.FILE).read_text())
    assert extraction_speed.load(out) == kept
    assert [each["name"] for each in kept["sets"]] == ["fvc2002-DB3_B", "all"]
    assert kept["sets"][0]["ratio"] > 2.5
    assert kept["sets"][0]["network_s"] < kept["sets"][0]["whole_s"]
