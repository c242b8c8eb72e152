"""Duplicates of a gallery: what prints of two subjects mean, and how a node finds, merges and parts them."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nodes import enrolled_as, image_of, seen_again

from matcher.calibration import shipped
from matcher.fusion import RULES, may_meet
from matcher.template import Finger
from papilar.duplicates import (
    SPEAKS,
    Case,
    Decision,
    Finding,
    Held,
    Kind,
    Progress,
    State,
    Subject,
    check_decision,
    files_twice,
    judge,
    least_ratio,
)
from papilar.errors import (
    CaseDecided,
    CaseUnknown,
    EncounterUnknown,
    RequestInvalid,
    RunUnderWay,
    SubjectMerged,
    SubjectUnknown,
)
from papilar.node import Node
from papilar.requests import Enrolled, Enrollment, PrintInput, Repeat

LEAST = 4.0
INDEX, MIDDLE, RING, LITTLE = FOUR = Finger(2), Finger(3), Finger(4), Finger(5)


# ---- what prints of two subjects mean


def held(row: int, finger: Finger, file: bytes | None = None) -> Held:
    """A print whose template stands for its row."""
    stand_in: Any = row
    return Held(row, finger, stand_in, file)


def judged(
    prints: Sequence[Held], others: Sequence[Held], scores: Mapping[tuple[int, int], float]
) -> Finding | None:
    """Judge prints by a table; what it does not name is of other fingers."""

    def compare(a: Any, b: Any) -> float:
        return scores.get((a, b), -3.0)

    return judge(Subject("a", prints), Subject("b", others), least=LEAST, compare=compare)


MINE = [held(1, INDEX), held(2, MIDDLE), held(3, RING)]
THEIRS = [held(11, INDEX), held(12, MIDDLE), held(13, RING)]


class TestLeastRatio:
    @given(
        st.dictionaries(st.sampled_from(list(Finger)), st.integers(0, 12)),
        st.floats(1e-6, 0.5),
    )
    def test_so_many_strangers_are_expected_as_the_rate_says(
        self, prints: dict[Finger, int], rate: float
    ) -> None:
        calibration = shipped()
        least = least_ratio(prints, rate=rate, calibration=calibration)
        each = [finger for finger, count in prints.items() for _ in range(count)]
        expected = sum(
            calibration.fmr(least + (0 if may_meet(a, b) else RULES.price)) for a, b in combinations(each, 2)
        )
        allowed = rate * max(len(each) - 1, 0) / 2
        assert expected <= allowed * (1 + 1e-9)
        if least > calibration.threshold(calibration.tail_rate):
            assert expected == pytest.approx(allowed, rel=calibration.tail_rate)

    def test_positions_that_are_known_leave_fewer_to_chance(self) -> None:
        unknown = least_ratio({Finger.UNKNOWN: 4_000}, rate=1e-3, calibration=shipped())
        spread = least_ratio(dict.fromkeys(FOUR, 1_000), rate=1e-3, calibration=shipped())
        assert unknown == pytest.approx(shipped().threshold(1e-3 / 4_000))
        assert spread == pytest.approx(shipped().threshold(1e-3 / 1_000), abs=0.02)

    @pytest.mark.parametrize("prints", [{}, {INDEX: 1}])
    def test_nobody_to_meet(self, prints: dict[Finger, int]) -> None:
        edge = shipped().threshold(shipped().tail_rate)
        assert least_ratio(prints, rate=1e-3, calibration=shipped()) == edge


class TestJudge:
    def test_fingers_that_agree(self) -> None:
        found = judged(MINE, THEIRS, {(1, 11): 6.0, (2, 12): 3.0, (3, 13): 1.5})
        assert found is not None
        assert (found.kind, found.score) == (Kind.SAME_PERSON, 10.5)
        assert [(p.row, p.other_row, p.score) for p in found.pairs] == [
            (1, 11, 6.0),
            (2, 12, 3.0),
            (3, 13, 1.5),
        ]
        assert (len(found.agreeing), found.against) == (3, ())

    def test_fingers_that_agree_together_only(self) -> None:
        found = judged(MINE, THEIRS, {(1, 11): 2.0, (2, 12): 1.5, (3, 13): 1.5})
        assert found is not None
        assert (found.kind, found.score) == (Kind.SAME_PERSON, 5.0)

    def test_a_poor_finger_among_many(self) -> None:
        found = judged(MINE, THEIRS, {(1, 11): 6.0, (2, 12): 5.0})
        assert found is not None
        assert found.kind is Kind.SAME_PERSON
        assert [p.row for p in found.against] == [3]

    def test_a_print_under_a_wrong_name(self) -> None:
        found = judged(MINE, THEIRS, {(1, 11): 9.0})
        assert found is not None
        assert (found.kind, found.score) == (Kind.ONE_PRINT, 9.0)
        assert [p.row for p in found.against] == [2, 3]

    def test_it_outweighs_what_speaks_against_and_is_one_print_still(self) -> None:
        found = judged(MINE[:2], THEIRS[:2], {(1, 11): 12.0})
        assert found is not None
        assert (found.kind, found.score) == (Kind.ONE_PRINT, 12.0)

    def test_a_print_beside_the_own_one_of_that_finger(self) -> None:
        found = judged(MINE, [*THEIRS, held(14, INDEX)], {(1, 14): 9.0})
        assert found is not None
        assert (found.kind, found.pairs[0].other_row) == (Kind.ONE_PRINT, 14)

    def test_one_finger_that_both_have(self) -> None:
        found = judged([*MINE[:1], held(4, LITTLE)], THEIRS[:1], {(1, 11): 5.0})
        assert found is not None
        assert (found.kind, found.score) == (Kind.SAME_PERSON, 5.0)

    def test_strangers(self) -> None:
        assert judged(MINE, THEIRS, {}) is None
        assert judged(MINE, THEIRS, {(1, 11): LEAST - 0.01}) is None
        assert judged(MINE, [], {}) is None

    def test_a_position_that_disagrees_has_its_price(self) -> None:
        assert judged(MINE[:1], [held(11, LITTLE)], {(1, 11): 6.9}) is None
        found = judged(MINE[:1], [held(11, LITTLE)], {(1, 11): 7.1})
        assert found is not None
        assert found.score == pytest.approx(4.1)

    def test_one_file_under_two_names(self) -> None:
        prints = [held(1, INDEX, b"f"), MINE[1]]
        others = [held(11, INDEX, b"f"), THEIRS[1]]
        found = judged(prints, others, {(1, 11): 30.0})
        assert found is not None
        assert (found.kind, found.score) == (Kind.ONE_FILE, 30.0)
        assert [p.same_file for p in found.pairs] == [True]

    def test_one_file_and_other_fingers_that_agree(self) -> None:
        prints = [held(1, INDEX, b"f"), MINE[1]]
        others = [held(11, INDEX, b"f"), THEIRS[1]]
        found = judged(prints, others, {(1, 11): 30.0, (2, 12): 6.0})
        assert found is not None
        assert (found.kind, found.score) == (Kind.SAME_PERSON, 6.0)

    def test_one_file_twice_under_one_name(self) -> None:
        prints = [held(1, INDEX, b"f"), held(2, INDEX), held(3, RING, b"f"), held(4, RING, b"g")]
        found = files_twice(Subject("a", prints), compare=lambda a, b: 30.0)
        assert found is not None
        assert (found.kind, found.first, found.second) == (Kind.ONE_FILE, "a", "a")
        assert [(p.row, p.other_row) for p in found.pairs] == [(1, 3)]
        assert files_twice(Subject("a", prints[:2]), compare=lambda a, b: 30.0) is None

    @given(st.lists(st.floats(-3, 12), min_size=9, max_size=9))
    def test_whoever_comes_first(self, values: list[float]) -> None:
        table = {(i, 10 + j): values[3 * i + j - 4] for i in (1, 2, 3) for j in (1, 2, 3)}
        one = judged(MINE, THEIRS, table)
        other = judged(THEIRS, MINE, {(j, i): value for (i, j), value in table.items()})
        assert (one is None) is (other is None)
        if one is not None and other is not None:
            assert (one.kind, one.score) == (other.kind, pytest.approx(other.score))
            assert one.score >= LEAST
            assert all(pair.worth >= SPEAKS for pair in one.agreeing)


@pytest.mark.parametrize("note", ["", "lower", "A B", "A" * 33, "1A", "A\n", "Á"])
def test_a_note_is_a_code(note: str) -> None:
    with pytest.raises(RequestInvalid):
        check_decision(Decision("e7", None, note))  # type: ignore[arg-type]


# ---- in a node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Node(tmp_path / "gallery", create=True) as node:
        yield node


def put(node: Node, subject: str, *prints: PrintInput) -> str:
    done = node.enroll(Enrollment(prints, subject_id=subject))
    assert isinstance(done, Enrolled)
    return done.encounter_id


def archive(node: Node) -> None:
    """Two names of one person; a print of `c` under the name of `d`; a stranger."""
    put(node, "a", enrolled_as(1, INDEX), enrolled_as(2, MIDDLE))
    put(node, "b", seen_again(1, INDEX), seen_again(2, MIDDLE))
    put(node, "c", enrolled_as(3, INDEX), enrolled_as(4, MIDDLE), enrolled_as(5, RING))
    put(node, "d", enrolled_as(6, INDEX), seen_again(4, MIDDLE), enrolled_as(7, RING))
    put(node, "e", enrolled_as(8, INDEX), enrolled_as(9, MIDDLE))


def run(node: Node, **options: Any) -> list[tuple[str, str, Kind]]:
    found = [one.finding for one in node.duplicates.find(**options) if isinstance(one, Case)]
    return [(one.first, one.second, one.kind) for one in found]


def who(node: Node, seed: int, finger: Finger) -> list[str]:
    return [c.subject for c in node.identify([enrolled_as(seed, finger)]).candidates if c.score > 3]


def merge(node: Node, survivor: str, absorbed: str, **more: Any) -> str:
    return node.duplicates.merge(survivor, absorbed, by="e7", note="SAME_CARD", **more)


class TestFinding:
    def test_each_pair_once_and_nobody_else(self, node: Node) -> None:
        archive(node)
        wanted = [("a", "b", Kind.SAME_PERSON), ("c", "d", Kind.ONE_PRINT)]
        assert run(node) == wanted
        assert run(node) == []
        assert run(node, again=True) == []
        cases = node.duplicates.cases()
        assert [(c.finding.first, c.finding.second, c.finding.kind) for c in cases] == wanted
        assert [c.state for c in cases] == [State.OPEN] * 2

    def test_what_was_enrolled_since(self, node: Node) -> None:
        put(node, "a", enrolled_as(1, INDEX))
        assert run(node) == []
        put(node, "b", seen_again(1, INDEX))
        found = list(node.duplicates.find())
        assert [type(one) for one in found] == [Case, Progress]
        assert found[-1] == Progress(2, 2)

    def test_a_run_that_is_broken_off_goes_on(self, node: Node) -> None:
        archive(node)
        first = node.duplicates.find()
        assert isinstance(next(first), Case)
        with pytest.raises(RunUnderWay):
            next(node.duplicates.find())
        first.close()
        assert run(node) == [("c", "d", Kind.ONE_PRINT)]

    def test_files(self, node: Node) -> None:
        put(node, "a", image_of(1, code=INDEX), image_of(2, code=MIDDLE))
        put(node, "b", image_of(1, code=INDEX))
        put(node, "a", image_of(2, code=MIDDLE))
        assert run(node) == [("a", "b", Kind.ONE_FILE), ("a", "a", Kind.ONE_FILE)]
        own = node.duplicates.cases()[1]
        with pytest.raises(RequestInvalid):
            node.duplicates.merge_case(own.number, "a", by="e7", note="SAME")
        assert node.duplicates.call_distinct(own.number, by="e7", note="SEEN").state is State.DISTINCT

    def test_a_subject_that_is_deleted_takes_its_cases_along(self, node: Node) -> None:
        put(node, "a", enrolled_as(1, INDEX))
        gone = put(node, "b", seen_again(1, INDEX))
        run(node)
        node.delete(gone)
        assert node.duplicates.cases(decided=True) == []

    @pytest.mark.parametrize("rate", [0.0, 1.0, -1.0, float("nan")])
    def test_a_rate_that_is_none(self, node: Node, rate: float) -> None:
        with pytest.raises(RequestInvalid):
            next(node.duplicates.find(rate=rate))


class TestMerging:
    def test_found_at_once_under_the_new_name_and_back(self, node: Node) -> None:
        archive(node)
        run(node)
        case = node.duplicates.merge_case(1, "b", by="e7", note="SAME_CARD")
        assert (case.state, case.decision and case.decision.by) == (State.MERGED, "e7")
        assert {case.finding.first, case.finding.second} == {"a", "b"}
        assert who(node, 1, INDEX) == ["b"]
        assert [c.number for c in node.duplicates.cases()] == [2]
        node.duplicates.unmerge(case.merge_id, by="s2", note="TWINS")
        assert set(who(node, 1, INDEX)) == {"a", "b"}
        assert [c.number for c in node.duplicates.cases()] == [1, 2]

    def test_it_outlasts_the_node(self, node: Node, tmp_path: Path) -> None:
        archive(node)
        merge_id = merge(node, "a", "b")
        node.close()
        with Node(tmp_path / "gallery") as again:
            assert who(again, 1, INDEX) == ["a"]
            again.duplicates.unmerge(merge_id, by="e7", note="TWINS")
            assert set(who(again, 1, INDEX)) == {"a", "b"}

    def test_the_name_that_is_gone_takes_nothing_more(self, node: Node) -> None:
        archive(node)
        merge_id = merge(node, "a", "b")
        with pytest.raises(SubjectMerged) as refused:
            put(node, "b", enrolled_as(20, RING))
        assert "a" not in str(refused.value).split()[:6]
        put(node, "a", enrolled_as(20, RING))
        node.duplicates.unmerge(merge_id, by="e7", note="TWINS")
        assert who(node, 20, RING) == ["a"]
        put(node, "b", enrolled_as(21, RING))
        assert who(node, 21, RING) == ["b"]

    def test_a_repeated_enrolment_is_answered_as_before(self, node: Node) -> None:
        put(node, "a", enrolled_as(1, INDEX))
        repeat = Repeat("6ba7b810-9dad-11d1-80b4-00c04fd430c8", b"digest")
        new = Enrollment((enrolled_as(2, INDEX),), subject_id="b")
        first = node.enroll(new, repeat=repeat)
        merge(node, "a", "b")
        again = node.enroll(new, repeat=repeat)
        assert isinstance(first, Enrolled)
        assert isinstance(again, Enrolled)
        assert (again.encounter_id, again.repeated) == (first.encounter_id, True)

    def test_repeated_by_its_request(self, node: Node) -> None:
        archive(node)
        run(node)
        repeat = Repeat("6ba7b810-9dad-11d1-80b4-00c04fd430c8", b"digest")
        first = node.duplicates.merge_case(1, "a", by="e7", note="SAME", repeat=repeat)
        assert node.duplicates.merge_case(1, "a", by="e7", note="SAME", repeat=repeat) == first
        with pytest.raises(CaseDecided):
            node.duplicates.merge_case(1, "a", by="e7", note="SAME")

    def test_what_makes_no_sense(self, node: Node) -> None:
        archive(node)
        run(node)
        for survivor, absorbed, refusal in (
            ("a", "a", RequestInvalid),
            ("a", "nobody", SubjectUnknown),
            ("nobody", "a", SubjectUnknown),
        ):
            with pytest.raises(refusal):
                merge(node, survivor, absorbed)
        with pytest.raises(RequestInvalid):
            node.duplicates.merge_case(1, "e", by="e7", note="SAME")
        with pytest.raises(CaseUnknown):
            node.duplicates.merge_case(9, "a", by="e7", note="SAME")
        with pytest.raises(RequestInvalid):
            merge(node, "a", "b", repeat=Repeat("no uuid", b"x"))

    def test_one_after_the_other(self, node: Node) -> None:
        archive(node)
        first = merge(node, "b", "a")
        second = merge(node, "e", "b")
        assert who(node, 1, INDEX) == ["e"]
        with pytest.raises(CaseDecided):
            node.duplicates.unmerge(first, by="e7", note="TWINS")
        node.duplicates.unmerge(second, by="e7", note="TWINS")
        assert who(node, 1, INDEX) == ["b"]
        node.duplicates.unmerge(first, by="e7", note="TWINS")
        assert set(who(node, 1, INDEX)) == {"a", "b"}

    def test_deleted_while_merged(self, node: Node) -> None:
        put(node, "a", enrolled_as(1, INDEX))
        theirs = put(node, "b", enrolled_as(2, INDEX))
        merge_id = merge(node, "a", "b")
        node.delete(theirs)
        with pytest.raises(CaseDecided):
            node.duplicates.unmerge(merge_id, by="e7", note="TWINS")
        with pytest.raises(EncounterUnknown):
            node.encounter(theirs)

    def test_distinct_then_one_after_all(self, node: Node) -> None:
        archive(node)
        run(node)
        assert node.duplicates.call_distinct(1, by="e7", note="TWINS").state is State.DISTINCT
        assert run(node, again=True) == []
        assert node.duplicates.merge_case(1, "a", by="s2", note="SAME").state is State.MERGED
