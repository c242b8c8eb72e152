"""What is planted among made-up persons, and how what a node names is counted."""

from collections import Counter
from datetime import UTC, datetime
from itertools import product
from pathlib import Path

import pytest

from benchmarks import dedup
from benchmarks.dedup import Archive, FingerPrints, Outcome
from matcher.errors import InvalidInput
from papilar.duplicates import Case, Finding, Kind, PrintPair
from papilar.requests import PrintInput


def sets(count: int, fingers: int) -> list[list[FingerPrints]]:
    """Made-up sets; the image of a print is its name."""
    return [
        [
            FingerPrints(f"{s}/{f}", tuple(PrintInput(image=f"{s}/{f}/{k}".encode()) for k in range(8)))
            for f in range(fingers)
        ]
        for s in range(count)
    ]


def archives() -> dict[str, list[Archive]]:
    found: dict[str, list[Archive]] = {}
    for name, archive in dedup._plans(sets(8, 10), 2, 0):
        found.setdefault(name, []).append(archive)
    return found


def images(archive: Archive) -> dict[str, list[str]]:
    held: dict[str, list[str]] = {}
    for new in archive.encounters:
        held.setdefault(new.subject_id, []).extend((p.image or b"").decode() for p in new.prints)
    return held


class TestPlanting:
    def test_how_many_of_which(self) -> None:
        assert {name: len(found) for name, found in archives().items()} == {
            "1 finger, 1 impression": 4,
            "1 finger, 4 impressions": 1,
            "4 fingers, 1 impression": 8,
            "4 fingers, 4 impressions": 2,
        }

    def test_two_names_share_fingers_and_no_file(self) -> None:
        for name, found in archives().items():
            for archive in found:
                held = images(archive)
                for one in archive.planted:
                    first, second = held[one.first], held[one.second]
                    fingers = {image.rpartition("/")[0] for image in first}
                    shared = fingers & {image.rpartition("/")[0] for image in second}
                    assert shared
                    assert bool(set(first) & set(second)) is (one.kind is Kind.ONE_FILE)
                    if one.kind is Kind.ONE_PRINT:
                        assert len(shared) == 1 < len(fingers)
                    if one.case == "person":
                        assert len(shared) == int(name[0])

    def test_nothing_that_shares_a_finger_is_left_unplanted(self) -> None:
        for archive in archives()["4 fingers, 1 impression"]:
            held = {n: {i.rpartition("/")[0] for i in found} for n, found in images(archive).items()}
            sharing = {(a, b) for a, b in product(held, held) if a < b and held[a] & held[b]}
            assert {(one.first, one.second) for one in archive.planted} == sharing

    def test_too_little_to_plant_in(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="0 sets"):
            dedup.run([], tmp_path)


def named(first: str, second: str, kind: Kind = Kind.SAME_PERSON, score: float = 9.0) -> Case:
    pair = PrintPair(1, 2, dedup.POSITIONS[0], dedup.POSITIONS[0], score)
    return Case(1, Finding(kind, first, second, score, (pair,)), datetime(2026, 11, 22, tzinfo=UTC))


class TestCounting:
    def outcome(self, *, miss: int, false: int) -> Outcome:
        archive = archives()["4 fingers, 1 impression"][0]
        cases = [named(one.first, one.second) for one in archive.planted]
        missed = [one.case == "person" and one.person < miss for one in archive.planted]
        lost = tuple(None if gone else case for gone, case in zip(missed, cases, strict=True))
        strange = tuple(named("000", "002") for _ in range(false))
        return Outcome(archive, lost, strange, 200, 1.0)

    def test_rates(self) -> None:
        told = dedup.measure([self.outcome(miss=1, false=0)], replicates=200, seed=0)
        person = told["planted"]["person"]
        assert person["planted"] == 20
        assert person["found"]["value"] == pytest.approx(0.95)
        assert 0.8 <= person["found"]["low"] < 0.95 < person["found"]["high"] == 1.0
        assert told["planted"]["misfiled print"]["found"]["value"] == 1.0
        assert told["planted"]["misfiled print"]["named"]["value"] == 0.0

    def test_false_candidates(self) -> None:
        told = dedup.measure([self.outcome(miss=0, false=2)] * 5, replicates=10, seed=0)["false"]
        assert (told["candidates"], told["prints"]) == (10, 1000)
        assert told["per_print"]["low"] < 0.01 < told["per_print"]["high"] < 0.02
        none = dedup.measure([self.outcome(miss=0, false=0)], replicates=10, seed=0)["false"]["per_print"]
        assert (none["value"], none["low"]) == (0.0, 0.0)
        assert none["high"] == pytest.approx(3.689 / 200, rel=1e-3)

    def test_who_shares_a_finger_is_no_stranger(self) -> None:
        archive = archives()["1 finger, 1 impression"][0]
        found = {("000", "000-again"): named("000", "000-again"), ("000", "001"): named("000", "001")}
        assert [case.finding.second for case in dedup._strangers(found, archive)] == ["001"]
        kinds = Counter(one.kind for one in archive.planted)
        assert kinds == {Kind.SAME_PERSON: 80}
