"""The scaling benchmark, whole but small: galleries are made, laid out again, searched; mates are found."""

import json
import sys

import numpy as np
import pytest

from benchmarks import datasets, scale, scale_systems
from benchmarks.scale_gallery import FINGERS, Multiplied, People, Plan, lay_out, name_of
from benchmarks.scale_searching import PENETRATIONS
from benchmarks.synthetic import archive
from benchmarks.synthetic.templates import finger, impression
from benchmarks.systems import CommandSystem, make
from matcher.cascade import Wanted
from matcher.cylinders import prepare
from matcher.errors import InvalidInput
from matcher.gallery import Gallery
from matcher.search import LocalSearcher, ProbePrint
from matcher.template import Finger


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prints") / "made"
    archive(folder, subjects=3, impressions=2, severity=0.1, workers=1)
    return datasets.load(folder).sets


@pytest.fixture(scope="module")
def ran(sets, tmp_path_factory):
    out = tmp_path_factory.mktemp("out")
    return out, scale.run(sets, out, sample=scale.Sample((40,), probes=3, persons=40))


@pytest.fixture(scope="module")
def laid_out(tmp_path_factory):
    """A gallery of twelve persons, one of them real (but drawn too), laid out four times."""
    plan = Plan(tmp_path_factory.mktemp("gallery"), 120, 5, False, 10, 4)
    gallery = Gallery(plan.folder, plan.alive)
    for row in plan.alive.tolist():
        gallery.add(row, prepare(impression(finger(5, row))), plan.place(row))
    gallery.seal()
    lay_out(plan)
    return plan, gallery, Multiplied(gallery, plan)


# ---- a run


def test_a_run_measures_every_size(ran):
    out, figures = ran
    assert [entry["fingers"] for entry in figures["sizes"]] == [40, 400]
    assert [entry["rows"] for entry in figures["sizes"]] == [40, 0]  # the first is laid out ten times
    assert [entry["searched"] for entry in figures["sizes"]] == [40, 40 + 9 * 30]
    assert json.loads((out / scale.FILE).read_text()) == figures
    assert (out / scale.PICTURE).stat().st_size > 10_000
    for entry in figures["sizes"]:
        assert entry["recall"] == entry["rank1"] == entry["persons_rank1"] == entry["synthetic_rank1"] == 1.0
        assert entry["exhaustive_agrees"] == 1.0
        assert (
            0 < entry["search"]["wall_median"] <= entry["search"]["wall_p95"] <= entry["search"]["wall_p99"]
        )
        assert [entry["search"]["count"], entry["during_additions"]["count"]] == [3, 3]
        assert entry["ten_fingers"]["count"] == 1 + 3
        assert entry["added_per_second"] > 5
        assert list(map(float, entry["preselection_error"])) == list(PENETRATIONS)
        assert 1000 < entry["memory"]["read_bytes"] < 2000
        assert entry["memory"]["disk_bytes"] > entry["memory"]["read_bytes"]
    assert [growth["fingers"] for growth in figures["growth"]] == [10.0]
    assert set(figures["exponent"]) == {
        f"{n}_{c}" for n in ("search", "ten_fingers") for c in ("wall", "cpu")
    }
    assert all(-1 < exponent < 2 for exponent in figures["exponent"].values())


@pytest.mark.soak
def test_a_gallery_that_is_there_is_taken_and_a_damaged_one_made_again(ran, sets):
    out, _ = ran
    (folder,) = out.glob("gallery-40-*")
    plan = Plan(folder, 40, 0, True, 3)
    before = Gallery(plan.folder, plan.alive).prepared(17).pose
    (segment,) = plan.folder.glob("*.pps")
    segment.write_bytes(segment.read_bytes()[:-1000])
    again = scale.run(sets, out, sample=scale.Sample((80, 40), probes=3))
    assert [entry["rows"] for entry in again["sizes"]] == [40, 80]
    assert np.array_equal(Gallery(plan.folder, plan.alive).prepared(17).pose, before)


def test_what_is_hidden_is_each_fingers_first_impression(sets, ran):
    real = scale.hide(sets, ran[0] / "prints", scale.Sample(probes=3))
    assert len(real.hidden) == 3
    assert sorted(probe.fingers for probe in real.probes) == [(0,), (1,), (2,)]
    assert [probe.fingers for probe in real.persons] == [(0, 1, 2)]
    assert {len(probe.templates) for probe in real.persons} == {3}


@pytest.mark.parametrize(
    "sample", [scale.Sample((10,)), scale.Sample((45,)), scale.Sample((40,), persons=12)]
)
def test_a_gallery_too_small_or_of_parts_of_persons_is_refused(ran, sets, sample):
    with pytest.raises(InvalidInput, match="fingers"):
        scale.run(sets, ran[0], sample=sample)


def test_sizes_are_whole_numbers():
    assert scale.parse_sizes("10000, 20") == (10000, 20)
    for text in ("", "10000,", "1e6", "10000;5", "-3"):
        with pytest.raises(InvalidInput, match="sizes"):
            scale.parse_sizes(text)


# ---- rows


def test_every_row_is_one_finger_of_one_person(tmp_path):
    plan = Plan(tmp_path, 100, 0, True, 14)
    people, hidden = People(plan), plan.hidden_rows
    owners = people.owners(plan.alive.tolist())
    assert hidden == [*range(10), *range(50, 54)]
    assert {owners[row].subject for row in hidden} == {name_of(0), name_of(50)}
    for owner in set(owners.values()):
        rows = people.rows_of([owner.encounter])
        assert [owners[row].finger for row in rows] == list(range(1, 11))
        assert {plan.place(row).encounter for row in rows} == {rows[0]}


def test_each_person_of_the_copies_is_another_combination_of_fingers(tmp_path):
    plan = Plan(tmp_path, 1000, 0, True, 14, copies=10)
    places = {}
    for copy in range(1, 10):
        rows = plan.copied(plan.alive, copy)
        assert sorted(rows.tolist()) == list(range(copy * 1000, (copy + 1) * 1000))
        assert np.array_equal(rows % FINGERS, plan.alive % FINGERS)
        assert [plan.source(row) for row in rows.tolist()] == plan.alive.tolist()
        places[copy] = rows // FINGERS
    together = np.array(list(places.values())).reshape(9, 100, FINGERS)
    for person in range(100):
        assert len(set(together[:, person].ravel())) == 9 * FINGERS  # no two of its prints meet again


# ---- a gallery laid out


def test_copies_hold_the_prints_of_synthetic_persons_under_other_rows(laid_out):
    plan, _, multiplied = laid_out
    copied = {row for copy in (1, 2, 3) for row in plan.copied(plan.alive[10:], copy).tolist()}
    assert set(multiplied.rows.tolist()) == set(range(120)) | copied
    assert len(multiplied) == 120 + 3 * 110
    assert np.array_equal(np.sort(multiplied.rows), multiplied.rows)
    probe = prepare(impression(finger(5, 57), 1))
    found = multiplied.shortlist([Wanted(probe)], limit=4, first=0, penetration=0.02, spread=map)
    assert sorted(found.units.tolist()) == [57, *(plan.copied(np.array([57]), k)[0] for k in (1, 2, 3))]
    assert len(set(found.votes.tolist())) == 1


def test_a_search_of_copies_finds_a_print_wherever_it_is(laid_out):
    plan, _, multiplied = laid_out
    searcher = LocalSearcher(multiplied, People(plan), workers=1)
    asked = [ProbePrint(Finger.UNKNOWN, prepare(impression(finger(5, 57), 1)))]
    candidates = searcher.search(asked, limit=5).candidates
    rows = [57, *(int(plan.copied(np.array([57]), k)[0]) for k in (1, 2, 3))]
    assert {one.subject for one in candidates[:4]} == {name_of(row) for row in rows}
    assert len({one.score for one in candidates[:4]}) == 1
    assert candidates[4].score < candidates[3].score
    ten = [ProbePrint(Finger(k + 1), prepare(impression(finger(5, 30 + k), 1))) for k in range(FINGERS)]
    first, second = searcher.search(ten, limit=2).candidates
    assert first.subject == name_of(30)
    assert first.score > second.score + 5  # which has one finger of theirs
    searcher.close()


# ---- other matchers


def test_systems_and_the_cascade_compare_the_same_prints(sets, ran, tmp_path):
    real = scale.hide(sets, ran[0] / "prints", scale.Sample(probes=3))
    program = tmp_path / "matcher.py"
    program.write_text(
        "import sys\n"
        "for line in sys.stdin:\n"
        "    one, other = (open(path, 'rb').read() for path in line.rstrip('\\n').split('\\t'))\n"
        "    print(-abs(len(one) - len(other)), flush=True)\n"
    )
    command = CommandSystem("lengths", f"{sys.executable} {program}", templates=True)
    systems = [*make(["papilar", "nbis"]), command]
    found = scale_systems.compare(systems, real.hidden, real.probes, seed=1, prints=40)
    command.close()
    assert [one["system"] for one in found] == ["papilar", "nbis", "lengths", scale_systems.CASCADE]
    assert [one["clock"] for one in found] == ["CPU", "CPU", "wall", "CPU"]
    assert {(one["prints"], one["probes"]) for one in found} == {(40, 3)}
    assert found[0]["rank1"] == found[1]["rank1"] == found[3]["rank1"] == 1.0
    assert all(one["prints_per_second"] == pytest.approx(40 / one["seconds"]) for one in found)


def test_a_system_that_reads_images_alone_is_refused(sets, ran):
    real = scale.hide(sets, ran[0] / "prints", scale.Sample(probes=3))
    command = CommandSystem("pictures", sys.executable)
    with pytest.raises(InvalidInput, match="reads images"):
        scale_systems.compare([command], real.hidden, real.probes, seed=1, prints=10)
    command.close()
