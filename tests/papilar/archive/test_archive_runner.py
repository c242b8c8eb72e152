"""The run of an archive: one line for every item, none twice, none missed, and what stops it."""

import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from archives import Archive, Gallery, image, item, results
from hypothesis import given, settings
from hypothesis import strategies as st

from enroll.errors import ImageTooLarge
from matcher.errors import GalleryCorrupt, PapilarError
from matcher.template import Finger
from papilar.archive.item import Item, Line, Result
from papilar.archive.quarantine import Quarantine, quarantined
from papilar.errors import (
    DeadlinePassed,
    EncounterErased,
    NodeUnreachable,
    RequestConflict,
    RequestInvalid,
    SourceUnreachable,
    StorageFull,
    WorkerDied,
)
from papilar.requests import Duplicate, Enrollment, Found, Outcome, PrintInput, Threshold
from papilar.store import MissingReason


@pytest.fixture
def archive(tmp_path: Path) -> Archive:
    return Archive(tmp_path / "journal")


def of_ana(*names: str, **more: Any) -> list[Item]:
    """Prints of one encounter; the finger is the first character of the name."""
    return [item(name, "ana", finger=Finger(int(name[0])), **more) for name in names]


# ---- one line for every item


def test_an_encounter_is_one_request(archive: Archive) -> None:
    gallery = Gallery()
    lines = archive.lines([*of_ana("1", "2"), *of_ana("3", impression="2")], gallery)
    assert [[p.finger for p in new.prints] for new, _ in gallery.asked] == [
        [Finger.RIGHT_THUMB, Finger.RIGHT_INDEX],
        [Finger.RIGHT_MIDDLE],
    ]
    assert {new.subject_id for new, _ in gallery.asked} == {"ana"}
    assert lines["1"].encounter_id == lines["2"].encounter_id != lines["3"].encounter_id


def test_a_bad_item_does_not_keep_its_encounter_out(archive: Archive) -> None:
    bad = replace(of_ana("2")[0], read=lambda: image()[:200])
    lines = archive.lines([*of_ana("1"), bad], Gallery())
    assert results(lines) == {"1": "ENROLLED", "2": "FAILED IMAGE_TRUNCATED"}
    assert len(lines["2"].sha256) == 64


def test_a_poor_print_among_good_ones_is_named_by_itself(archive: Archive) -> None:
    lines = archive.lines(of_ana("1", "2"), Gallery(poor=frozenset({1})))
    assert results(lines) == {"1": "ENROLLED", "2": "REJECTED BLANK"}
    assert lines["2"].message == "look at the scanner"
    assert not lines["2"].encounter_id


def test_what_the_source_says_is_repeated(archive: Archive) -> None:
    fault = RequestInvalid("no such file", remedy="mend the row")
    told = item("a", category="asylum", retention=date(2030, 1, 2), finger=Finger(3), impression="7")
    lines = archive.lines([told, item("b", fault=fault)], Gallery())
    a = lines["a"]
    assert (a.category, a.retention, a.finger, a.impression) == ("asylum", "2030-01-02", 3, "7")
    assert results(lines)["b"] == "FAILED REQUEST_INVALID"
    assert "mend the row" in lines["b"].message


def test_what_cannot_be_read_has_its_line(archive: Archive) -> None:
    def gone() -> bytes:
        raise FileNotFoundError(2, "No such file or directory")

    lines = archive.lines([item("a", read=gone), item("b")], Gallery())
    assert results(lines) == {"a": "FAILED FILE_UNREADABLE", "b": "ENROLLED"}


@pytest.mark.parametrize("subject", ["lat\udce9", "new\nline", "x" * 140])
def test_a_name_that_cannot_name_a_subject_is_refused_for_its_item_alone(
    archive: Archive, subject: str
) -> None:
    lines = archive.lines([item("good"), item(subject)], Gallery())
    assert results(lines) == {"good": "ENROLLED", subject: "FAILED REQUEST_INVALID"}
    assert "rename" in lines[subject].message


def test_how_a_good_file_was_read_is_told(archive: Archive) -> None:
    low = item("a", read=lambda: image(ppi=72))
    assert results(archive.lines([low], Gallery())) == {"a": "FAILED RESOLUTION_IMPLAUSIBLE"}
    (warning,) = archive.lines([low], Gallery(), ppi=500)["a"].warnings
    assert "72" in warning


def test_the_run_says_the_resolution_before_the_item_does(archive: Archive) -> None:
    gallery = Gallery()
    archive.lines([item("a", ppi=1000), item("b")], gallery)
    archive.lines([item("c", ppi=1000)], gallery, ppi=500)
    assert [new.prints[0].ppi for new, _ in gallery.asked] == [1000, None, 500]


def test_a_missing_finger_is_noted_with_its_encounter(archive: Archive) -> None:
    gallery = Gallery()
    gone = replace(of_ana("2")[0], missing=MissingReason.AMPUTATED)
    lines = archive.lines([*of_ana("1"), gone], gallery)
    assert results(lines) == {"1": "ENROLLED", "2": "MISSING AMPUTATED"}
    assert gallery.asked[0][0].missing == ((Finger.RIGHT_INDEX, MissingReason.AMPUTATED),)
    assert archive.lines([*of_ana("1"), gone], gallery)["2"].result is Result.MISSING
    alone = archive.lines([replace(gone, subject="eva")], gallery, source="b")
    assert results(alone) == {"2": "FAILED NO_PRINT"}


def test_a_duplicate_names_the_other_subject(archive: Archive) -> None:
    def call(new: Enrollment, request_id: str) -> Outcome:
        assert new.check_duplicates
        return Duplicate((Found(1, "other", "encounter", 9.0, ()),), Threshold(3.0, 1e-3, "c"))

    line = archive.lines([item("a")], call, check_duplicates=True)["a"]
    assert line.result is Result.DUPLICATE
    assert "other" in line.message


def test_more_prints_than_a_request_takes_are_several(archive: Archive) -> None:
    gallery = Gallery()
    lines = archive.lines([item(f"{i}", "ana") for i in range(90)], gallery)
    assert [len(new.prints) for new, _ in gallery.asked] == [40, 40, 10]
    assert {line.result for line in lines.values()} == {Result.ENROLLED}


def test_a_request_that_cannot_be_read_as_a_whole_is_split(archive: Archive) -> None:
    gallery = Gallery(
        fails={1: ImageTooLarge("print 1: a sheet", remedy="cut it"), 3: ImageTooLarge("x", remedy="y")}
    )
    assert results(archive.lines(of_ana("1", "2"), gallery)) == {
        "1": "ENROLLED",
        "2": "FAILED IMAGE_TOO_LARGE",
    }


# ---- the same bytes twice


def test_a_copy_of_the_same_person_goes_in_once(archive: Archive) -> None:
    gallery = Gallery()
    same = [item("a1", "ana", read=image), item("a2", "ana", "2", read=image), item("e", "eva", read=image)]
    for _ in range(2):
        lines = archive.lines(same, gallery)
        assert results(lines)["a2"] == "COPY SAME_CONTENT"
        assert "a1" in lines["a2"].message
        assert lines["e"].result in (Result.ENROLLED, Result.ALREADY)
        assert [w[:12] for w in lines["e"].warnings] == ["SAME_CONTENT"]
    assert [new.subject_id for new, _ in gallery.asked] == ["ana", "eva"]


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), max_size=12), st.integers(1, 8))
def test_which_copy_counts_does_not_depend_on_the_threads(
    tmp_path_factory: Any, drawn: list[tuple[str, str]], threads: int
) -> None:
    archive = Archive(tmp_path_factory.mktemp("journal"))
    greys = {"x": image(1), "y": image(2)}
    items = [
        item(f"{n}", person, f"{n}", read=lambda grey=grey: greys[grey])
        for n, (person, grey) in enumerate(drawn)
    ]
    lines = archive.lines(items, Gallery(), threads=threads)
    first: dict[tuple[str, str], str] = {}
    for n, content in enumerate(drawn):
        expected = "ENROLLED" if first.setdefault(content, f"{n}") == f"{n}" else "COPY SAME_CONTENT"
        assert results(lines)[f"{n}"] == expected


# ---- again


def never() -> bytes:
    raise AssertionError("it was read again")


def test_a_second_run_reads_nothing_again(archive: Archive) -> None:
    gallery = Gallery()
    first = archive.lines([item("a"), item("b")], gallery)
    second = archive.lines([item("a", read=never), item("b", read=never)], gallery)
    assert second == {name: replace(line, result=Result.ALREADY) for name, line in first.items()}
    assert len(gallery.asked) == 2


def test_without_its_journal_a_run_asks_for_the_same(tmp_path: Path) -> None:
    gallery = Gallery()
    for run in ("one", "two"):
        lines = Archive(tmp_path / run).lines([*of_ana("1", "2"), item("b")], gallery)
    assert {line.result for line in lines.values()} == {Result.ALREADY}
    assert gallery.ids[:2] == gallery.ids[2:]


def test_what_looks_changed_is_read_and_what_is_the_same_is_left(archive: Archive) -> None:
    gallery = Gallery()
    archive.lines([item("a"), item("b")], gallery)
    touched = [item("a", version="2"), item("b", version="")]
    assert {line.result for line in archive.lines(touched, gallery).values()} == {Result.ALREADY}
    changed = [item("a", version="3", read=lambda: image(77))]
    assert results(archive.lines(changed, gallery)) == {"a": "ENROLLED"}
    assert len(gallery.asked) == 3


def test_what_failed_is_tried_again_by_itself(archive: Archive) -> None:
    """Its encounter went in without it, under an id of its own: with it, that would be another request."""
    gallery = Gallery()
    bad = replace(of_ana("2")[0], read=lambda: b"")
    archive.lines([*of_ana("1"), bad, *of_ana("3")], gallery)
    lines = archive.lines(of_ana("1", "2", "3"), gallery)
    assert results(lines) == {"1": "ALREADY", "2": "ENROLLED", "3": "ALREADY"}
    assert [[int(p.finger) for p in new.prints] for new, _ in gallery.asked] == [[1, 3], [2]]


def test_a_failure_is_on_the_disk_before_the_others_go_in(archive: Archive) -> None:
    bad = replace(of_ana("2")[0], read=lambda: b"")

    class Killed(BaseException):
        pass

    def killed(new: Enrollment, request_id: str) -> Outcome:
        raise Killed

    with pytest.raises(Killed):
        archive.lines([*of_ana("1"), bad, *of_ana("3")], killed)
    gallery = Gallery()
    archive.lines(of_ana("1", "2", "3"), gallery)
    assert [[int(p.finger) for p in new.prints] for new, _ in gallery.asked] == [[1, 3], [2]]


def test_prints_of_which_none_went_in_are_one_encounter_when_they_do(
    archive: Archive, tmp_path: Path
) -> None:
    """As of a card whose resolution nobody knew, out of the archive or the quarantine."""
    unknown = [replace(one, read=lambda n=one.name: image(int(n), None)) for one in of_ana("1", "2", "3")]
    quarantine, gallery = Quarantine(tmp_path / "q"), Gallery()
    lines = archive.lines(unknown, gallery, quarantine=quarantine)
    assert set(results(lines).values()) == {"FAILED RESOLUTION_UNKNOWN"}
    again = archive.lines(quarantined(tmp_path / "q"), gallery, source="q", ppi=500)
    assert {line.result for line in again.values()} == {Result.ENROLLED}
    assert [len(new.prints) for new, _ in gallery.asked] == [3]
    assert {line.result for line in archive.lines(unknown, gallery, ppi=500).values()} == {Result.ALREADY}
    other = Archive(tmp_path / "other")
    for ppi in (None, 500):
        other.lines(unknown, gallery, ppi=ppi)
    assert [len(new.prints) for new, _ in gallery.asked] == [3, 3]


def test_what_was_refused_as_a_whole_is_sent_again_as_a_whole(archive: Archive) -> None:
    asked: list[int] = []

    def refuse(new: Enrollment, request_id: str) -> Outcome:
        asked.append(len(new.prints))
        return Duplicate((Found(1, "other", "encounter", 9.0, ()),), Threshold(3.0, 1e-3, "c"))

    gallery = Gallery()
    archive.lines(of_ana("1", "2"), refuse, check_duplicates=True)
    archive.lines(of_ana("1", "2"), refuse, check_duplicates=True)  # who it was like may be gone
    assert asked == [2, 2]
    assert {line.result for line in archive.lines(of_ana("1", "2"), gallery).values()} == {Result.ENROLLED}
    assert [len(new.prints) for new, _ in gallery.asked] == [2]


def test_the_journal_names_no_other_person(archive: Archive) -> None:
    def refuse(new: Enrollment, request_id: str) -> Outcome:
        return Duplicate((Found(1, "other", "encounter", 9.0, ()),), Threshold(3.0, 1e-3, "c"))

    archive.lines(of_ana("1"), refuse, check_duplicates=True)
    (kept,) = archive.store.same_content(hashlib.sha256(of_ana("1")[0].read()).digest(), "ana")
    assert (kept.row.result, kept.row.message) == ("DUPLICATE", "")


def test_a_mended_file_that_is_a_copy_is_one(archive: Archive) -> None:
    def gone() -> bytes:
        raise OSError(5, "Input/output error")

    gallery = Gallery()
    first, second = item("1", "ana", read=gone), item("2", "ana", "2", read=image)
    assert results(archive.lines([first, second], gallery))["2"] == "ENROLLED"
    mended = archive.lines([replace(first, read=image, version="2"), second], gallery)
    assert results(mended) == {"1": "COPY SAME_CONTENT", "2": "ALREADY"}
    assert len(gallery.asked) == 1


def test_a_hint_stays_when_a_file_is_tried_again(archive: Archive) -> None:
    same = [item("a", "ana", read=lambda: image(ppi=None)), item("e", "eva", read=lambda: image(ppi=None))]
    for ppi in (None, None, 500):
        lines = archive.lines(same, Gallery(), ppi=ppi)
        assert [bool(lines[name].warnings) for name in "ae"] == [False, True]


def test_an_archive_that_was_moved_is_the_same(archive: Archive) -> None:
    gallery = Gallery()
    bad = replace(of_ana("2")[0], read=lambda: b"")
    archive.lines([*of_ana("1"), bad], gallery)
    lines = archive.lines(of_ana("1", "2"), gallery, source="b")
    assert results(lines) == {"1": "ALREADY", "2": "ENROLLED"}


def test_a_rejected_print_is_tried_again_under_other_options_alone(archive: Archive) -> None:
    gallery = Gallery(poor=frozenset({0}))
    archive.lines([item("a")], gallery)
    assert results(archive.lines([item("a", read=never)], gallery)) == {"a": "REJECTED BLANK"}
    archive.lines([item("a")], gallery, ppi=500)
    assert len(gallery.asked) == 2


def test_requests_differ_by_content_subject_impression_finger_and_resolution(tmp_path: Path) -> None:
    gallery = Gallery()
    one = item("a", "ana", "1", read=image)
    others = [
        replace(one, subject="eva"), replace(one, impression="2"), replace(one, finger=Finger(1)),
        replace(one, read=lambda: image(7)),
    ]  # fmt: skip
    for n, each in enumerate([one, *others, replace(one, name="b")]):
        Archive(tmp_path / f"{n}").lines([each], gallery)
    Archive(tmp_path / "ppi").lines([one], gallery, ppi=500)
    assert gallery.ids[0] == gallery.ids[5]
    assert len(set(gallery.ids)) == 6


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (RequestConflict("made before", remedy="send another"), "ALREADY"),
        (EncounterErased("deleted since", remedy="send another"), "FAILED ENCOUNTER_ERASED"),
        (ImageTooLarge("a sheet", remedy="cut it"), "FAILED IMAGE_TOO_LARGE"),
    ],
)
def test_an_error_of_one_encounter_is_its_own(archive: Archive, error: PapilarError, result: str) -> None:
    lines = archive.lines([item("a"), item("b")], Gallery(fails={1: error}))
    assert results(lines) == {"a": result, "b": "ENROLLED"}
    assert "request_id" not in lines["a"].message


def test_what_was_deleted_is_not_asked_for_again_by_another_id(archive: Archive) -> None:
    gallery = Gallery(fails={1: EncounterErased("deleted since", remedy="send another")})
    archive.lines(of_ana("1", "2"), gallery)
    lines = archive.lines(of_ana("1", "2"), gallery)
    assert {line.reason for line in lines.values()} == {"ENCOUNTER_ERASED"}
    assert len(gallery.asked) == 1


# ---- what stops a run


@pytest.mark.parametrize("kind", [StorageFull, NodeUnreachable, DeadlinePassed, GalleryCorrupt])
def test_a_broken_system_stops_the_run_and_loses_nothing(archive: Archive, kind: type[PapilarError]) -> None:
    gallery = Gallery(fails={2: kind("broken", remedy="mend it")})
    lines = archive.lines([item(f"{i}") for i in range(5)], gallery)
    assert [line.result for line in lines.values()] == [Result.ENROLLED] + [Result.NOT_TRIED] * 4
    assert [line.reason for line in lines.values()] == ["", kind.reason, "STOPPED", "STOPPED", "STOPPED"]
    assert all("mend" in line.message for line in lines.values() if line.result is Result.NOT_TRIED)
    assert len(gallery.asked) == 2
    again = archive.lines([item(f"{i}") for i in range(5)], gallery)
    assert [line.result for line in again.values()] == [Result.ALREADY] * 2 + [Result.ENROLLED] * 3


def test_a_dead_worker_stops_nothing(archive: Archive) -> None:
    def prepare(given: PrintInput) -> tuple[PrintInput, tuple[str, ...]]:
        if b"b" in (given.image or b"")[-1:]:
            raise WorkerDied("it died", remedy="look at the file")
        return given, ()

    lines = archive.lines([item("a"), item("b"), item("c")], Gallery(), prepare=prepare)
    assert results(lines) == {"a": "ENROLLED", "b": "FAILED WORKER_DIED", "c": "ENROLLED"}


def test_a_source_that_goes_away_ends_the_run_after_what_it_gave(archive: Archive) -> None:
    def source() -> Iterator[Item]:
        yield from (item("a"), item("b"))
        raise SourceUnreachable("gone", remedy="see to the network")

    gallery = Gallery()
    lines: list[Line] = []
    with pytest.raises(SourceUnreachable):
        lines.extend(archive.run(source(), gallery))
    again = archive.lines([item("a"), item("b"), item("c")], gallery)
    # Of the last encounter nobody knows whether it was whole: it is left for the next run.
    assert results(again) == {"a": "ALREADY", "b": "ENROLLED", "c": "ENROLLED"}
    assert len(gallery.asked) == 3


def test_a_reading_that_loses_the_source_stops_the_run(archive: Archive) -> None:
    def gone() -> bytes:
        raise SourceUnreachable("gone", remedy="see to the network")

    lines = archive.lines([item("a"), item("b", read=gone), item("c")], Gallery())
    assert results(lines) == {"a": "ENROLLED", "b": "NOT_TRIED SOURCE_UNREACHABLE", "c": "NOT_TRIED STOPPED"}


def test_a_full_disk_under_the_journal_stops_the_run(
    archive: Archive, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise StorageFull("the disk is full", remedy="make room")

    monkeypatch.setattr(archive.store, "write", full)
    gallery = Gallery()
    lines: list[Line] = []
    with pytest.raises(StorageFull):
        lines.extend(archive.run([item(f"{i}") for i in range(600)], gallery))
    assert len(lines) == 0 or lines[-1].result is Result.NOT_TRIED
    assert len(gallery.asked) < 300


def test_a_stop_finishes_what_is_under_way_and_begins_nothing(archive: Archive) -> None:
    stop, gallery = threading.Event(), Gallery()

    def call(new: Enrollment, request_id: str) -> Outcome:
        if new.subject_id == "3":
            stop.set()
        return gallery(new, request_id)

    given = [item(f"{i}") for i in range(200)]
    lines = list(archive.run(iter(given), call, stop=stop))
    assert [line.result for line in lines[:5]] == [Result.ENROLLED] * 4 + [Result.NOT_TRIED]
    assert len(lines) < 20
    again = archive.lines(given, gallery)
    assert sum(line.result is Result.ENROLLED for line in again.values()) == 196


def test_whoever_leaves_off_drawing_stops_the_run(archive: Archive) -> None:
    gallery = Gallery()
    lines = archive.run((item(f"{i}") for i in range(200)), gallery)
    for _ in range(3):
        assert next(lines).result is Result.ENROLLED
    lines.close()  # type: ignore[attr-defined]
    assert len(gallery.asked) < 20


# ---- bounded


def test_no_more_than_a_window_of_items_is_held(archive: Archive) -> None:
    drawn, out, most = 0, 0, 0

    def source() -> Iterator[Item]:
        nonlocal drawn
        for drawn in range(1, 1501):
            yield item(f"{drawn}", read=lambda: image(3))

    for _ in archive.run(source(), Gallery(), threads=4, prepare=lambda given: (given, ())):
        out += 1
        most = max(most, drawn - out)
    assert out == 1500
    assert most <= 600


def test_items_come_out_in_their_order_whatever_takes_long(archive: Archive) -> None:
    late = threading.Event()

    def call(new: Enrollment, request_id: str) -> Outcome:
        if new.subject_id == "0":
            assert late.wait(10)
        if new.subject_id == "6":
            late.set()
        return gallery(new, request_id)

    gallery = Gallery()
    lines = list(archive.run([item(f"{i}") for i in range(40)], call, threads=4))
    assert [line.file for line in lines] == [f"{i}" for i in range(40)]


def test_what_waits_is_bounded_by_the_memory_it_holds(archive: Archive) -> None:
    """As prints of a packed tar: of small ones many are drawn ahead, of large ones few."""

    def most_ahead(held: int) -> int:
        drawn, ahead = 0, 0

        def drawing() -> Iterator[Item]:
            nonlocal drawn
            for number in range(400):
                drawn += 1
                yield item(f"{held} {number}", held=held)

        for told, _ in enumerate(archive.run(drawing(), Gallery(), prepare=lambda given: (given, ()))):
            ahead = max(ahead, drawn - told)
        return ahead

    assert most_ahead(0) > 200
    assert most_ahead(64 << 20) <= 2 * (256 >> 6) + 3
