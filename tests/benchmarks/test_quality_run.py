"""What is said of a quality that tells which prints will not match, and of one that does not."""

import json

import numpy as np
import pytest
from minutiae import finger, mate

from benchmarks import quality
from benchmarks.datasets import Print, PrintSet
from benchmarks.quality import Mates, Seen, fit
from matcher.cylinders import prepare

POOR = "3"
"""The impression that shows another finger than its name says, and has the lowest quality."""


@pytest.fixture
def sets(monkeypatch, tmp_path):
    def see(one, ppi):
        number = int(one.finger) + (50 if one.impression == POOR else 0)
        template = mate(finger(number, 30), int(one.impression), jitter=1.0).template
        told = 5.0 if one.impression == POOR else 60.0 + number
        lie = np.array([-1.0, -0.2]) + 0.1 * np.sin([number, 2 * number])
        return Seen(prepare(template), (told, told, 100 - told, 100.0), 0.4, lie, (0.2, 0.1))

    monkeypatch.setattr(quality, "_see", see)
    names = [(str(f), str(i)) for f in range(1, 5) for i in range(1, 4)]
    prints = tuple(Print(tmp_path / f"{f}_{i}.png", f, i) for f, i in names)
    return [PrintSet(name, 500.0, prints) for name in "ab"]


def test_what_is_written_is_what_is_returned_and_names_no_print(sets, tmp_path):
    report = quality.run(sets, tmp_path / "results")
    text = (tmp_path / "results" / quality.FILE).read_text()
    assert json.loads(text) == json.loads(json.dumps(report))
    assert "_1" not in text
    assert report["mated_pairs"] == 2 * 4 * 3
    assert report["sets"]["a"]["nfiq2"][0] == 5
    assert report["sets"]["a"]["extraction_ms"] == 200


def test_a_quality_that_knows_the_poor_prints_lowers_the_misses_and_its_opposite_does_not(sets, tmp_path):
    report = quality.run(sets, tmp_path)
    knowing, opposite = (report["discard"][name]["0.001"] for name in ("nfiq2", "minutiae"))
    assert knowing[0] == opposite[0] == pytest.approx(2 / 3, abs=0.01)
    assert knowing[2] < knowing[1] < knowing[0]
    assert opposite[2] > opposite[0]
    assert report["rank_correlation"]["nfiq2"] > 0.5 > report["rank_correlation"]["minutiae"]
    assert report["rank_correlation"]["area"] == 0


def test_the_share_that_is_left_out_is_left_out():
    mates = Mates(np.arange(10.0), np.tile(np.arange(10.0)[:, None], (1, 4)))
    assert quality._discard(mates, 0, 5.0) == [0.5, round(4 / 9, 5), round(3 / 8, 5)]


def test_weights_find_the_way_up_and_turning_all_prints_over_negates_them():
    lies = np.random.default_rng(1).normal((-1.0, 0.0), 0.5, (200, 2))
    weights = fit(lies)
    assert (lies @ weights > 0).mean() > 0.9
    assert abs(weights[1]) < 0.3 * abs(weights[0])
    assert fit(-lies) == pytest.approx(-weights, abs=1e-3)


def test_prints_told_to_lie_wrong_are_counted(sets, tmp_path):
    upright = quality.run(sets, tmp_path)["upright"]
    assert upright["right"]["0"] == 1
    assert set(upright["wrong"].values()) == {0}
    assert len(upright["weights"]) == 2
