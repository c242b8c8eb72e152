"""Fusion measured: made-up persons on made-up scores, the command, and swapped fingers by real searches."""

import json

import numpy as np
import pytest
from minutiae import finger, mate
from runs import pairs_of, write_run
from typer.testing import CliRunner

from benchmarks import calibration, fusion
from benchmarks.__main__ import app
from benchmarks.datasets import SAME_FINGER
from benchmarks.fusion import Ratios, fuse_fingers, pair_up
from matcher.cylinders import prepare
from matcher.errors import InvalidInput
from matcher.fusion import RULES

FINGERS, IMPRESSIONS = 6, 4


def write_persons(folder, name, seed, fingers=range(101, 101 + FINGERS)):
    """Write the evidence of prints with ridges alone: of minutiae there need be none. One print failed."""
    rows = pairs_of(seed, fingers, IMPRESSIONS, failed=f"{fingers[0]}_1")
    ridges = calibration.KINDS["ridges"]
    write_run(folder, name, rows, [ridges.system, ridges.partial])


@pytest.fixture
def results(tmp_path):
    for seed, name in enumerate("abcd"):
        write_persons(tmp_path / "results", name, seed)
    return tmp_path / "results"


def test_ratios_are_read_by_a_fit_to_the_other_sets(results):
    found, fitted = fusion.load(results)
    a = found["a"]
    assert a.fingers == tuple(str(f) for f in range(101, 107))
    assert a.values.shape == (6, 4, 6, 4)
    assert np.array_equal(a.values, a.values.transpose(2, 3, 0, 1), equal_nan=True)
    assert np.isnan(a.values[0, 0]).all(), "that print failed"
    assert np.isnan(a.values).sum() == 24 + 2 * 24 - 2, "it, and each print with itself"
    kind = calibration.KINDS["ridges"]
    sets = calibration.load_kind(results, kind)
    own = calibration.fit([one for name, one in sets.items() if name != "a"], kind.terms)
    assert a.values[5, 2, 5, 3] == calibration.ratios_of(sets["a"].whole.values, own)[-1]
    assert own != fitted == calibration.fit(list(sets.values()), kind.terms)


def test_the_second_name_of_a_finger_takes_no_part(results):
    first, second = sorted(next(iter(SAME_FINGER)))
    for name in (first, second):
        write_persons(results, name.split("/")[0], 9, fingers=(101, 102, 107, 108))
    found, _ = fusion.load(results)
    assert first.split("/")[1] in found[first.split("/")[0]].fingers
    assert second.split("/")[1] not in found[second.split("/")[0]].fingers


def labelled(count=4, impressions=4):
    """Sets whose ratio tells who met whom: 1 where fingers are the same, else 0.01 of the two and the set."""
    sets = {}
    for s, name in enumerate("abcd"):
        values = np.zeros((count, impressions, count, impressions))
        for f in range(count):
            values[f, :, f] = 1.0 + s
        sets[name] = Ratios(tuple(map(str, range(count))), values)
    return sets


@pytest.mark.parametrize(("fingers", "impressions"), [(1, 1), (2, 1), (4, 1), (1, 2), (2, 2)])
def test_persons_have_a_finger_of_each_set_and_share_none(fingers, impressions):
    scores = pair_up(labelled(), fingers, impressions, np.random.default_rng(0))
    groups, occasions = 4 // fingers, 4 // impressions
    assert scores.strata == (4,) * groups
    assert len(scores.mated) == groups * 4 * (occasions * (occasions - 1) // 2)
    assert len(scores.nonmated) == groups * 6 * occasions**2
    assert (scores.nonmated == 0).all(), "no two persons share a finger"
    n = impressions**2
    worth = n / (1 + (n - 1) * RULES.correlation)
    wanted = 10 * worth  # 1 + 2 + 3 + 4: each set once
    assert scores.mated.reshape(groups, -1)[:, 0].sum() == pytest.approx(wanted)
    assert (scores.nonmated_fingers[:, 0] != scores.nonmated_fingers[:, 1]).all()


def test_a_finger_that_failed_leaves_it_to_the_others():
    none, some = np.full((1, 1), np.nan), np.full((1, 1), 4.0)
    assert fuse_fingers([none, some]) == fuse_fingers([some]) == 4.0
    assert fuse_fingers([none, none]) == -np.inf


def test_the_command_writes_what_it_measured(results):
    arguments = ["fuse", "--scores", str(results), "--pairings", "3", "--replicates", "60"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    report = json.loads((results / fusion.FILE).read_text())
    rates = {(c["fingers"], c["impressions"]): c["rates"] for c in report["cases"]}
    assert tuple(rates) == fusion.CASES
    one, two, four = (rates[k, 1]["eer"]["value"] for k in (1, 2, 4))
    assert one > two >= four, "more fingers, fewer errors"
    assert rates[1, 2]["eer"]["value"] < one
    for rate in rates[1, 1].values():
        assert rate["low"] is None or rate["low"] <= rate["high"]
    assert rates[1, 1]["eer"]["low"] <= one <= rates[1, 1]["eer"]["high"]
    stated = report["cases"][0]["stated"]
    assert [each["stated_fmr"] for each in stated] == list(fusion.RATES)
    assert stated[0]["fmr"] == pytest.approx(0.01, abs=0.01)
    assert (report["swapped"], report["rules"]["price"]) == (None, RULES.price)
    again = CliRunner().invoke(app, arguments)
    assert again.exit_code == 0
    assert json.loads((results / fusion.FILE).read_text()) == report


def test_too_few_sets_are_refused(results, tmp_path):
    with pytest.raises(InvalidInput, match="no scores"):
        fusion.run(tmp_path)
    for name in "bcd":
        for file in results.glob(f"{name}/papilar*/*"):
            file.unlink()
        if name == "c":
            with pytest.raises(InvalidInput, match="2 sets"):
                fusion.run(results)
    done = CliRunner().invoke(app, ["fuse", "--scores", str(results)])
    assert done.exit_code == 2
    assert "one set alone" in done.stderr


def impressions_of(seed):
    first = finger(seed, 30)
    return [prepare(first), *(prepare(mate(first, seed + k, turn=0.2).template) for k in (1, 2))]


def test_swapped_fingers_are_searched_for(tmp_path):
    hands = {f"{name}/{k}": impressions_of(100 * k + ord(name)) for name in "ab" for k in range(4)}
    hands["b/9"] = [None, hands["a/1"][1], None]
    people = fusion._couples(hands, [0])
    assert len(people) == 4, "one of a with one of b, but for the one whose first print was rejected"
    people[0][0][1] = None
    found = list(fusion._search_pairing(people, tmp_path))
    kinds = {how: [one for kind, one in found if kind == how] for how, _ in found}
    assert {how: len(each) for how, each in kinds.items()} == {"right": 7, "swapped": 7, "one misplaced": 7}
    shares = {how: fusion._share(each) for how, each in kinds.items()}
    for how, wrong in (("right", 0), ("swapped", 1), ("one misplaced", 1)):
        assert (shares[how]["rank1"], shares[how]["reached"], shares[how]["fpir"]) == (1, 1, 0)
        assert shares[how]["all_disagree"] == shares[how]["some_disagree"] == wrong
        assert shares[how]["compared"] >= 8
