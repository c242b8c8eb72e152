"""The archive runner: whose print a file is, one line for every file, and what stops a run."""

import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nodes import as_png

from enroll.errors import ImageTooLarge
from matcher.errors import GalleryCorrupt, PapilarError
from matcher.template import Finger
from papilar.archive import Line, Result, enroll_archive, find_items
from papilar.errors import (
    DeadlinePassed,
    EncounterErased,
    NodeUnreachable,
    RequestConflict,
    RequestInvalid,
    StorageFull,
)
from papilar.requests import Assessment, Duplicate, Enrolled, Enrollment, Found, Outcome, Rejected, Threshold

IMAGE = as_png(np.full((200, 160), 128, np.uint8))
ADVICE = (("BLANK", "look at the scanner"),)


def lay(folder: Path, *names: str) -> Path:
    """Make an archive; each image has pixels of its own."""
    for number, name in enumerate(names):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(as_png(np.full((200, 160), number, np.uint8)))
    return folder


class Gallery:
    """Stands for a node: remembers what it was asked to enrol."""

    def __init__(
        self, *, poor: frozenset[int] = frozenset(), fails: Mapping[int, PapilarError] | None = None
    ):
        self.asked: list[tuple[Enrollment, str]] = []
        self._poor, self._fails = poor, fails or {}
        self._lock = threading.Lock()

    def __call__(self, new: Enrollment, request_id: str) -> Outcome:
        with self._lock:
            repeated = request_id in [done for _, done in self.asked]
            self.asked.append((new, request_id))
            turn = len(self.asked)
        if turn in self._fails:
            raise self._fails[turn]
        prints = tuple(
            Assessment(i, p.finger, i not in self._poor, 70, ADVICE if i in self._poor else (), 40)
            for i, p in enumerate(new.prints)
        )
        if all(not p.accepted for p in prints):
            return Rejected(prints)
        return Enrolled(new.subject_id, f"encounter {turn}", prints, repeated)


def enrol(folder: Path, gallery: Gallery, **options: Any) -> dict[str, Line]:
    lines = list(enroll_archive(find_items(folder), gallery, **{"workers": 1, **options}))
    assert len({line.file for line in lines}) == len(lines)
    return {line.file: line for line in lines}


def names_of(folder: Path) -> dict[str, tuple[str, str, int]]:
    return {item.file: (item.subject, item.impression, int(item.finger)) for item in find_items(folder)}


# ---- whose print a file is


def test_in_the_archive_itself_every_finger_is_a_subject(tmp_path: Path) -> None:
    lay(tmp_path, "101_1.png", "101_2.tif", "left_thumb_3.png", "007.png", "_8.png", "José Ñ_1.png")
    assert names_of(tmp_path) == {
        "101_1.png": ("101", "1", 0),
        "101_2.tif": ("101", "2", 0),
        "left_thumb_3.png": ("left_thumb", "3", 0),
        "007.png": ("007", "1", 0),
        "_8.png": ("_8", "1", 0),
        "José Ñ_1.png": ("José Ñ", "1", 0),
    }


def test_a_sub_folder_of_fingers_names_them_by_its_path(tmp_path: Path) -> None:
    lay(tmp_path, "fvc/db1/101_1.png", "fvc/db1/7_1.png", "fvc/db2/101_1.png")
    assert names_of(tmp_path) == {
        "fvc/db1/101_1.png": ("fvc/db1/101", "1", 0),
        "fvc/db1/7_1.png": ("fvc/db1/7", "1", 0),
        "fvc/db2/101_1.png": ("fvc/db2/101", "1", 0),
    }


def test_a_sub_folder_of_positions_is_one_person(tmp_path: Path) -> None:
    lay(tmp_path, "ana/1_1.png", "ana/02_1.png", "ana/10_1.png", "ana/1_2.png")
    assert names_of(tmp_path) == {
        "ana/1_1.png": ("ana", "1", 1),
        "ana/02_1.png": ("ana", "1", 2),
        "ana/10_1.png": ("ana", "1", 10),
        "ana/1_2.png": ("ana", "2", 1),
    }


@pytest.mark.parametrize("stray", ["README.txt", "Thumbs.db", "0_notes.doc"])
def test_a_stray_file_does_not_break_a_person_into_fingers(tmp_path: Path, stray: str) -> None:
    lay(tmp_path, "ana/1_1.png", "ana/2_1.WSQ", f"ana/{stray}")
    named = names_of(tmp_path)
    assert named["ana/1_1.png"] == ("ana", "1", 1)
    assert named["ana/2_1.WSQ"] == ("ana", "1", 2)
    assert named[f"ana/{stray}"][0].startswith("ana/")


@pytest.mark.parametrize("other", ["11_1.png", "0_1.png", "x_1.png", "²_1.png"])
def test_one_print_of_no_position_makes_a_folder_a_set(tmp_path: Path, other: str) -> None:
    lay(tmp_path, "set/1_1.png", f"set/{other}")
    assert names_of(tmp_path)["set/1_1.png"] == ("set/1", "1", 0)


def test_sub_folders_between_the_files_of_a_person_do_not_part_them(tmp_path: Path) -> None:
    lay(tmp_path, "ana/1_1.png", "ana/5/101_1.png", "ana/9_1.png", "ana/x_1.png")
    assert names_of(tmp_path)["ana/1_1.png"] == ("ana/1", "1", 0)
    assert names_of(tmp_path)["ana/9_1.png"] == ("ana/9", "1", 0)


def test_hidden_files_and_the_gallery_are_passed_over(tmp_path: Path) -> None:
    lay(tmp_path, "1_1.png", ".DS_Store", ".cache/2_1.png", "gallery/papilar.sqlite3")
    assert [item.file for item in find_items(tmp_path, gallery=tmp_path / "gallery")] == ["1_1.png"]


def test_the_gallery_cannot_be_the_archive(tmp_path: Path) -> None:
    lay(tmp_path, "1_1.png")
    with pytest.raises(RequestInvalid, match="at once"):
        find_items(tmp_path, gallery=tmp_path / "x" / "..")


@pytest.mark.parametrize("what", ["missing", "file", "empty", "hidden"])
def test_what_is_no_archive_is_refused(tmp_path: Path, what: str) -> None:
    (tmp_path / "file").touch()
    lay(tmp_path, "hidden/.x_1.png")
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    with pytest.raises(RequestInvalid):
        find_items(tmp_path / what)


def test_a_folder_that_cannot_be_read_is_no_empty_one(tmp_path: Path, monkeypatch: Any) -> None:
    lay(tmp_path, "1_1.png", "locked/2_1.png")
    plain = os.listdir

    def listdir(path: Any) -> list[str]:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(os, "listdir", listdir)
    monkeypatch.setattr(os, "scandir", listdir)
    with pytest.raises(RequestInvalid, match="locked cannot be read"):
        find_items(tmp_path)


# ---- one line for every file


def test_an_encounter_holds_all_fingers_of_an_impression(tmp_path: Path) -> None:
    gallery = Gallery()
    lines = enrol(lay(tmp_path, "ana/1_1.png", "ana/2_1.png", "ana/1_2.png"), gallery)
    assert [[p.finger for p in new.prints] for new, _ in gallery.asked] == [
        [Finger.RIGHT_THUMB, Finger.RIGHT_INDEX],
        [Finger.RIGHT_THUMB],
    ]
    assert {new.subject_id for new, _ in gallery.asked} == {"ana"}
    assert lines["ana/1_1.png"].encounter_id == lines["ana/2_1.png"].encounter_id
    assert lines["ana/1_1.png"].encounter_id != lines["ana/1_2.png"].encounter_id


def test_a_bad_file_does_not_keep_its_encounter_out(tmp_path: Path) -> None:
    lay(tmp_path, "ana/1_1.png", "ana/2_1.png")
    (tmp_path / "ana/2_1.png").write_bytes(IMAGE[:200])
    lines = enrol(tmp_path, Gallery())
    assert lines["ana/1_1.png"].result is Result.ENROLLED
    assert (lines["ana/2_1.png"].result, lines["ana/2_1.png"].reason) == (Result.FAILED, "IMAGE_TRUNCATED")


def test_a_poor_print_among_good_ones_is_named_by_itself(tmp_path: Path) -> None:
    lines = enrol(lay(tmp_path, "ana/1_1.png", "ana/2_1.png"), Gallery(poor=frozenset({1})))
    assert lines["ana/1_1.png"].result is Result.ENROLLED
    poor = lines["ana/2_1.png"]
    assert (poor.result, poor.reason, poor.message) == (Result.REJECTED, "BLANK", "look at the scanner")
    assert not poor.encounter_id


def test_what_is_no_file_has_its_line_and_is_not_opened(tmp_path: Path) -> None:
    lay(tmp_path / "a", "1_1.png")
    lay(tmp_path / "elsewhere", "9_1.png")
    (tmp_path / "a/gone_1.png").symlink_to(tmp_path / "nowhere")
    (tmp_path / "a/folder_1.png").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "a/pipe_1.png")
    lines = enrol(tmp_path / "a", Gallery())
    assert lines.pop("1_1.png").result is Result.ENROLLED
    assert {line.result for line in lines.values()} == {Result.FAILED}
    assert sorted(lines) == ["folder_1.png", "gone_1.png", "pipe_1.png"]


@pytest.mark.parametrize("name", [b"lat\xe9_1.png", b"new\nline_1.png", b"x" * 140 + b"_1.png"])
def test_a_name_that_cannot_name_a_subject_is_refused_for_its_file_alone(tmp_path: Path, name: bytes) -> None:
    lay(tmp_path, "good_1.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(IMAGE)
    lines = enrol(tmp_path, Gallery())
    assert lines.pop("good_1.png").result is Result.ENROLLED
    (line,) = lines.values()
    assert (line.result, line.reason) == (Result.FAILED, "REQUEST_INVALID")
    assert "rename" in line.message


def test_how_a_good_file_was_read_is_told(tmp_path: Path) -> None:
    lay(tmp_path, "1_1.png")
    (tmp_path / "1_1.png").write_bytes(as_png(np.full((200, 160), 9, np.uint8), 72))
    assert enrol(tmp_path, Gallery())["1_1.png"].reason == "RESOLUTION_IMPLAUSIBLE"
    (warning,) = enrol(tmp_path, Gallery(), ppi=500)["1_1.png"].warnings
    assert "72" in warning


def test_progress_counts_every_file_once(tmp_path: Path) -> None:
    lay(tmp_path, "ana/1_1.png", "ana/2_1.png", "b_1.png")
    (tmp_path / "bad_1.png").write_bytes(b"")
    counts: list[int] = []
    enrol(tmp_path, Gallery(), progress=counts.append)
    assert sum(counts) == 4


def test_a_duplicate_names_the_other_subject(tmp_path: Path) -> None:
    def call(new: Enrollment, request_id: str) -> Outcome:
        assert new.check_duplicates
        return Duplicate((Found(1, "other", "encounter", 9.0, ()),), Threshold(3.0, 1e-3, "c"))

    items = find_items(lay(tmp_path, "1_1.png"))
    (line,) = enroll_archive(items, call, check_duplicates=True)
    assert line.result is Result.DUPLICATE
    assert "other" in line.message


# ---- again


def test_a_second_run_asks_for_the_same_and_is_told_so(tmp_path: Path) -> None:
    gallery = Gallery()
    lay(tmp_path, "1_1.png", "2_1.png")
    first, second = enrol(tmp_path, gallery), enrol(tmp_path, gallery)
    assert {line.result for line in first.values()} == {Result.ENROLLED}
    assert {line.result for line in second.values()} == {Result.ALREADY}
    ids = [request_id for _, request_id in gallery.asked]
    assert ids[:2] == ids[2:]


def test_requests_differ_by_content_subject_impression_and_resolution(tmp_path: Path) -> None:
    gallery = Gallery()
    (tmp_path / "s").mkdir()
    for name in ("1_1.png", "1_2.png", "2_1.png", "s/1_1.png"):
        (tmp_path / name).write_bytes(IMAGE)
    enrol(tmp_path, gallery)
    enrol(tmp_path, gallery, ppi=500)
    (tmp_path / "1_1.png").write_bytes(as_png(np.full((200, 160), 7, np.uint8)))
    enrol(tmp_path, gallery, ppi=500)
    assert len({request_id for _, request_id in gallery.asked}) == 9


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (RequestConflict("made before", remedy="send another"), Result.ALREADY),
        (EncounterErased("deleted since", remedy="send another"), Result.FAILED),
        (ImageTooLarge("a sheet", remedy="cut it"), Result.FAILED),
    ],
)
def test_an_error_of_one_encounter_is_its_own(tmp_path: Path, error: PapilarError, result: Result) -> None:
    lines = enrol(lay(tmp_path, "1_1.png", "2_1.png"), Gallery(fails={1: error}))
    assert lines["1_1.png"].result is result
    assert lines["2_1.png"].result is Result.ENROLLED
    assert "request_id" not in lines["1_1.png"].message


@pytest.mark.parametrize("kind", [StorageFull, NodeUnreachable, DeadlinePassed, GalleryCorrupt])
def test_a_broken_system_stops_the_run_and_loses_nothing(tmp_path: Path, kind: type[PapilarError]) -> None:
    lay(tmp_path, *(f"{i}_1.png" for i in range(1, 6)))
    gallery = Gallery(fails={2: kind("broken", remedy="mend it")})
    lines = enrol(tmp_path, gallery)
    assert [line.result for line in lines.values()] == [Result.ENROLLED] + [Result.NOT_TRIED] * 4
    assert [line.reason for line in lines.values()] == ["", kind.reason, "STOPPED", "STOPPED", "STOPPED"]
    assert all("mend" in line.message for line in lines.values() if line.result is Result.NOT_TRIED)
    assert len(gallery.asked) == 2
