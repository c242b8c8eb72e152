"""Identification: what is measured of searches, and one real node asked over gRPC."""

import math
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from benchmarks import datasets as folders
from benchmarks import identification, report
from benchmarks.__main__ import app
from benchmarks.identification import Search
from matcher.errors import InvalidInput
from papilar.api.v1 import matching_pb2, types_pb2

ABOUT = {
    "shortlist": 500,
    "enrolled": 4,
    "failures_to_enrol": [],
    "thresholds": [{"fpir": 0.1, "score": 2.5}],
}


def searched(name, finger, rank, mate, nonmate, failure="", group="a", twin=-math.inf):
    return Search(group, name, finger, rank, mate, nonmate, twin, 0.3, 0.2, 0.01, failure)


@pytest.fixture
def searches():
    """Ten probes of two fingers in each of two sets: one late mate, one lost, one rejected."""
    rows = [searched(f"1_{i}", "1", 1, 5.0 + i, 1.0) for i in range(2, 6)]
    rows += [searched("2_2", "2", 3, 2.0, 3.0), searched("2_3", "2", None, -math.inf, 2.0)]
    rows += [searched(f"1_{i}", "1", 1, 6.0, 0.0, group="b") for i in (2, 3, 4)]
    return [*rows, searched("2_2", "2", None, -math.inf, -math.inf, "PROBE_REJECTED", group="b")]


def test_ranks_count_every_probe(searches):
    found = identification.measure(ABOUT, searches, replicates=200)
    assert (found["all"]["probes"], found["all"]["failures"]) == (10, 1)
    assert found["all"]["rank1"]["value"] == 0.7
    assert found["all"]["rank5"]["value"] == found["all"]["rank10"]["value"] == 0.8
    assert found["sets"]["a"]["rank1"]["value"] == pytest.approx(4 / 6)
    interval = found["all"]["rank1"]
    assert interval["low"] <= interval["value"] <= interval["high"]
    assert found == identification.measure(ABOUT, searches, replicates=200)


def test_a_finger_of_two_sets_is_no_stranger_but_for_the_labels(searches):
    known = [*searches, searched("1_5", "1", 1, 6.0, 0.0, group="b", twin=9.0)]
    found = identification.measure(ABOUT, known, replicates=0)
    assert found["all"]["rank1"]["value"] == pytest.approx(8 / 11)
    assert found["as_labelled"]["rank1"]["value"] == pytest.approx(7 / 11)
    assert found["as_labelled"]["rank5"]["value"] == found["all"]["rank5"]["value"]


def test_the_answer_of_a_node_is_parted_into_mate_twin_and_others():
    subjects = ("fvc2004-DB3_B/102", "x/1", "fvc2002-DB3_B/108", "x/2")
    candidates = [
        types_pb2.Candidate(rank=at + 1, subject_id=subject, score=9 - at)
        for at, subject in enumerate(subjects)
    ]
    response = matching_pb2.IdentifyResponse(candidates=candidates)
    one = folders.Print(Path("108_2.tif"), "108", "2")
    each = folders.PrintSet("fvc2002-DB3_B", 500, (one,))
    found = identification._found(each, one, response, latency=0.5, failure="")
    assert (found.rank, found.mate, found.nonmate, found.twin) == (2, 7, 8, 9)
    lost = identification._found(each, one, matching_pb2.IdentifyResponse(), latency=0.5, failure="X")
    assert (lost.rank, lost.mate, lost.nonmate, lost.twin) == (None, *[-math.inf] * 3)


def test_open_set_rates_take_the_best_non_mate_for_a_search_without_mate(searches):
    found = identification.measure(ABOUT, searches, replicates=0)
    # One of ten may be accepted: the threshold lies over 2.0, at or under 3.0.
    assert found["open_set"] == [{"fpir": 0.1, "fnir": pytest.approx(0.3)}]
    assert found["stated"] == [
        {"stated_fpir": 0.1, "threshold": 2.5, "fpir": pytest.approx(0.1), "fnir": pytest.approx(0.3)}
    ]
    assert found["seconds"]["search"] == {"median": pytest.approx(0.01), "p95": pytest.approx(0.01)}


def test_searches_come_back_from_the_disk_as_they_were(searches, tmp_path):
    identification._save(tmp_path / "identification" / "shortlist-500", searches, ABOUT)
    ((name, (about, found)),) = identification.load(tmp_path).items()
    assert (name, found) == ("shortlist-500", searches)
    assert about["enrolled"] == 4


def test_damaged_searches_are_refused(searches, tmp_path):
    folder = identification._save(tmp_path / "identification" / "shortlist-500", searches, ABOUT)
    (folder / "searches.csv").write_text("set")
    with pytest.raises(InvalidInput, match="run identify again"):
        identification.load(tmp_path)


def test_the_report_shows_identifications_without_a_comparison_run(searches, tmp_path):
    for shortlist in (8, 500):
        about = ABOUT | {"shortlist": shortlist}
        identification._save(tmp_path / "identification" / f"shortlist-{shortlist}", searches, about)
    figures = report.measure(tmp_path, replicates=20)
    assert set(figures) == {"identification"}
    console = Console(record=True, width=160, file=open("/dev/null", "w"))  # noqa: SIM115
    for table in report.tables(figures):
        console.print(table)
    text = console.export_text()
    assert "shortlist 8" in text
    assert "70.00" in text
    assert report.plot(report.load(tmp_path), tmp_path) == []


@pytest.mark.parametrize("wrong", [["--shortlist", "0"], ["--workers", "0"], ["--data", "/nonexistent"], []])
def test_wrong_arguments_end_with_2(tmp_path, wrong):
    arguments = ["run", "identify", "--out", str(tmp_path / "out"), *wrong]
    assert CliRunner().invoke(app, arguments).exit_code == 2
    assert not (tmp_path / "out").exists()


@pytest.mark.datasets
def test_a_node_finds_the_mates_over_grpc(datasets, tmp_path):
    data = tmp_path / "fvc2002" / "DB3_B"
    data.mkdir(parents=True)
    for name in ("101_1", "101_2", "102_1", "102_3", "103_1", "103_2"):
        (data / f"{name}.tif").symlink_to((datasets / "fvc2002" / "DB3_B" / f"{name}.tif").resolve())
    (data / "103_9.tif").write_bytes(b"no image")
    sets = folders.load(data).sets
    folder = identification.run(sets, tmp_path / "out", shortlist=2)
    assert folder.name == "shortlist-2"
    about, found = identification.load(tmp_path / "out")["shortlist-2"]
    assert about["enrolled"] == 3
    assert about["failures_to_enrol"] == []
    assert [each.probe for each in found] == ["101_2", "102_3", "103_2", "103_9"]
    assert [each.rank for each in found] == [1, 1, 1, None]
    assert all(each.mate > each.nonmate for each in found[:3])
    assert all(np.isfinite(each.nonmate) for each in found[:3])  # one of the two kept is the mate
    assert found[3].failure
    assert all(0 < each.search < each.latency for each in found[:3])
