"""The scaling benchmark, whole but small: galleries are made, gone on with, searched; mates are found."""

import json

import numpy as np
import pytest

from benchmarks import datasets, scale
from benchmarks.scale_searching import People, Plan
from benchmarks.synthetic import archive
from matcher.errors import InvalidInput
from matcher.gallery import Gallery


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prints") / "made"
    archive(folder, subjects=3, impressions=2, severity=0.1, workers=1)
    return datasets.load(folder).sets


@pytest.fixture(scope="module")
def ran(sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, scale.run(sets, out, sample=scale.Sample((80, 40), probes=2))


def test_a_run_measures_every_size(ran):
    out, figures = ran
    assert [entry["fingers"] for entry in figures["sizes"]] == [40, 80]
    assert json.loads((out / scale.FILE).read_text()) == figures
    assert (out / scale.PICTURE).stat().st_size > 10_000
    for entry in figures["sizes"]:
        assert entry["rows"] == entry["fingers"]
        assert entry["recall"] == entry["rank1"] == 1.0
        assert entry["persons_found"] == 1.0
        assert entry["exhaustive_agrees"] == 1.0
        assert 0 < entry["search"]["wall_median"] <= entry["search"]["wall_p99"]
        assert entry["memory"]["disk_bytes"] > 1000
    assert [growth["fingers"] for growth in figures["growth"]] == [2.0]


@pytest.mark.soak
def test_a_gallery_that_is_there_is_taken_and_a_damaged_one_made_again(ran, sets):
    out, _ = ran
    (folder,) = out.glob("gallery-40-*")
    plan = Plan(folder, 40, 0, True, 3)
    before = Gallery(plan.folder, plan.alive).prepared(17).pose
    (segment,) = plan.folder.glob("*.pps")
    segment.write_bytes(segment.read_bytes()[:-1000])
    again = scale.run(sets, out, sample=scale.Sample((40, 80), probes=2))
    assert [entry["rows"] for entry in again["sizes"]] == [40, 0]
    assert np.array_equal(Gallery(plan.folder, plan.alive).prepared(17).pose, before)


def test_hidden_rows_are_nobody_elses(tmp_path):
    plan = Plan(tmp_path, 95, 0, True, 4)
    people = People(plan)
    owners = people.owners(plan.alive.tolist())
    assert [row for row in plan.alive if owners[row].subject == f"hidden-{row}"] == list(plan.hidden_rows)
    for owner in set(owners.values()):
        rows = people.rows_of([owner.encounter])
        assert rows
        assert all(owners[row].encounter == owner.encounter for row in rows)
        assert len({owners[row].finger for row in rows}) == len(rows)
    assert sum(len(people.rows_of([encounter])) for encounter in {o.encounter for o in owners.values()}) == 95


def test_too_small_a_gallery_is_refused(ran, sets):
    with pytest.raises(InvalidInput, match="5 fingers"):
        scale.run(sets, ran[0], sample=scale.Sample((5,), probes=2))


def test_sizes_are_whole_numbers():
    assert scale.parse_sizes("10000, 20") == (10000, 20)
    for text in ("", "10000,", "1e6", "10000;5", "-3"):
        with pytest.raises(InvalidInput, match="sizes"):
            scale.parse_sizes(text)
