"""Gallery and segments: findable at once, gone at once, whole whatever happens to the disk.

`PYTHONPATH=.:tests python tests/matcher/test_gallery.py` writes the golden gallery of the current version;
those of older versions stay as they are.
"""

import errno
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import tracemalloc
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from minutiae import finger, ridge_description

from matcher import gallery as gallery_module
from matcher import segment as segment_module
from matcher.cascade import Wanted
from matcher.cylinders import SURE_QUALITY, Cylinders, Prepared, prepare
from matcher.errors import GalleryCorrupt, GalleryTooNew
from matcher.gallery import CODE, MANIFEST, Gallery
from matcher.segment import (
    _COMPARED,
    _PREFIX,
    VERSION,
    Entry,
    LiveSegment,
    Place,
    SealedSegment,
    write_segment,
)
from matcher.template import Finger, Template

GOLDEN = Path(__file__).resolve().parents[1] / "data" / "gallery"


def print_of(k: int) -> Template:
    """Every third with ridges, every other with minutiae that are not sure."""
    made = finger(k, 12, size=(200, 240))
    quality = made.quality if k % 2 else np.maximum(made.quality, SURE_QUALITY)
    ridges = ridge_description(k) if k % 3 == 0 else b""
    return Template.of(made.xy, made.angle, made.kind, quality, size=made.size, ridges=ridges)


PRINTS = [prepare(print_of(k)) for k in range(240)]
PLACES = [Place(Finger(row % 11), row - row % 3) for row in range(len(PRINTS))]
ENTRIES = [Entry.of(*both) for both in zip(PRINTS, PLACES, strict=True)]
EMPTY = prepare(Template.of([[3, 4]], [1.0], [1], [50], size=(10, 10)))
NOBODY = np.zeros(0, np.int64)


def rows_of(*rows: int) -> np.ndarray:
    return np.array(sorted(rows), np.int64)


def filled(folder: Path, rows: range, *, seal_at: tuple[int, ...] = ()) -> Gallery:
    """Row r holds print r; sealed after each row of `seal_at`."""
    gallery = Gallery(folder, NOBODY)
    for row in rows:
        gallery.add(row, PRINTS[row])
        if row in seal_at:
            gallery.seal()
    return gallery


def arrays_of(prepared: Prepared) -> list[np.ndarray]:
    one = prepared
    return [one.pose, one.quality, *one.every, *one.sure, one.ridges, one.strangers]


def same(a: Prepared | None, b: Prepared | None) -> bool:
    """Whether they hold the same arrays, byte for byte."""
    return (
        a is not None
        and b is not None
        and [(x.dtype, x.shape, x.tobytes()) for x in arrays_of(a)]
        == [(x.dtype, x.shape, x.tobytes()) for x in arrays_of(b)]
    )


def holds(gallery: Gallery, rows: Iterator[int] | range | list[int]) -> bool:
    """Whether exactly these rows are reached, each with its own print and first for its own probe."""
    rows = list(rows)
    return (
        gallery.rows.tolist() == rows
        and len(gallery) == len(rows)
        and all(row in gallery and same(gallery.prepared(row), PRINTS[row]) for row in rows)
        and all(gallery.shortlist([Wanted(PRINTS[row])], limit=1).rows.tolist() == [row] for row in rows)
    )


def on_disk(folder: Path, row: int) -> bool:
    """Whether a row's minutiae, cylinders or ridges lie in any file."""
    arrays = PRINTS[row].pose, PRINTS[row].every.bits, PRINTS[row].sure.bits, PRINTS[row].ridges
    arrays = *arrays, ENTRIES[row].compact.codes
    traces = [array.tobytes() for array in arrays if array.size]
    return any(trace in path.read_bytes() for path in folder.iterdir() for trace in traces)


# ---- rows come and go


def test_found_at_once_and_gone_at_once(tmp_path: Path) -> None:
    """From memory and from the disk, with the whole gallery in the shortlist and with a small one."""
    gallery = Gallery(tmp_path, NOBODY)
    for row in range(6):
        gallery.add(row, PRINTS[row])
        assert holds(gallery, range(row + 1))
        if row == 2:
            gallery.seal()
    assert gallery.live_rows == 3
    gallery.hide([0, 4, 77])
    assert holds(gallery, [1, 2, 3, 5])
    assert gallery.prepared(0) is None
    assert gallery.prepared(4) is None
    assert 4 not in gallery
    assert gallery.hidden_rows == 1
    for limit in (1, 2, 3, 4, 100):
        assert not {0, 4} & set(gallery.shortlist([Wanted(PRINTS[4])], limit=limit).rows.tolist())
        assert not {0, 4} & set(gallery.shortlist([Wanted(PRINTS[0])], limit=limit).rows.tolist())


def test_a_shortlist_is_ordered_and_bounded(tmp_path: Path) -> None:
    gallery = filled(tmp_path, range(40), seal_at=(9, 24))
    found = gallery.shortlist([Wanted(PRINTS[7])], limit=10)
    assert found.units[0] == 7
    assert len(found.rows) == 10
    assert sorted(found.rows.tolist()) == sorted(found.units.tolist())
    assert len(set(found.rows.tolist())) == 10
    assert (np.diff(found.votes) <= 0).all()
    assert found.votes[0] > 0
    assert (found.rows.dtype, found.votes.dtype) == (np.int64, np.float32)


def test_prints_without_cylinders(tmp_path: Path) -> None:
    """They are kept; no shortlist has them, and as probes they shortlist nothing."""
    gallery = Gallery(tmp_path, NOBODY)
    gallery.add(1, EMPTY)
    gallery.add(2, EMPTY)
    assert gallery.shortlist([Wanted(PRINTS[0])], limit=1).rows.tolist() == []
    gallery.seal()
    gallery.add(3, PRINTS[3])
    gallery.seal()
    again = Gallery(tmp_path, rows_of(1, 2, 3))
    assert again.rows.tolist() == [1, 2, 3]
    assert same(again.prepared(1), EMPTY)
    assert again.shortlist([Wanted(EMPTY)], limit=3).rows.tolist() == []
    assert again.shortlist([Wanted(PRINTS[3])], limit=1).rows.tolist() == [3]


def test_adding_a_row_again_changes_nothing(tmp_path: Path) -> None:
    """A replay may overtake an enrolment that is under way: the row is there once."""
    gallery = filled(tmp_path, range(3), seal_at=(1,))
    for row in range(3):
        gallery.add(row, PRINTS[row])
    assert gallery.live_rows == 1
    assert holds(gallery, range(3))


def test_an_empty_gallery(tmp_path: Path) -> None:
    gallery = Gallery(tmp_path / "new" / "folder", NOBODY)
    gallery.seal()
    gallery.compact()
    assert len(gallery) == 0
    assert gallery.rows.dtype == np.int64
    assert gallery.shortlist([Wanted(PRINTS[0])], limit=5).rows.tolist() == []
    assert gallery.shortlist([Wanted(PRINTS[0])], limit=0).rows.tolist() == []
    assert gallery.missing(rows_of(4, 5)) == [4, 5]
    assert gallery.prepared(1) is None


def test_many_additions_copy_little() -> None:
    """The arrays of a live segment grow with room to spare and stay right, as does what was read before."""
    live, before = LiveSegment(), None
    for row, entry in enumerate(ENTRIES):
        live.add(row, entry)
        before = live.held if row == 99 else before
    for held, count in ((before, 100), (live.held, len(ENTRIES))):
        assert np.array_equal(held.words, np.concatenate([e.compact.words for e in ENTRIES[:count]]))
        assert np.array_equal(held.codes, np.concatenate([e.compact.codes for e in ENTRIES[:count]]))
        assert np.diff(held.starts).tolist() == [len(e.compact.words) for e in ENTRIES[:count]]
        assert not any(array.flags.writeable for array in held)


# ---- sealing, opening again, compaction


def test_sealed_and_opened_again_it_is_the_same(tmp_path: Path) -> None:
    gallery = filled(tmp_path, range(20), seal_at=(4, 11))
    before = {
        (p, k): gallery.shortlist([Wanted(PRINTS[p])], limit=k)
        for p in (0, 3, 12, 19, 30)
        for k in (1, 5, 19)
    }
    gallery.seal()
    assert gallery.live_rows == 0
    again = Gallery(tmp_path, rows_of(*range(20)))
    for one in (gallery, again):
        assert holds(one, range(20))
        assert one.missing(rows_of(*range(20))) == []
    for (p, k), expected in before.items():
        found = again.shortlist([Wanted(PRINTS[p])], limit=k)
        assert np.array_equal(found.units, gallery.shortlist([Wanted(PRINTS[p])], limit=k).units)
        if p < 20:
            assert found.units[0] == expected.units[0] == p


def test_rows_not_sealed_are_missing_after_a_restart(tmp_path: Path) -> None:
    filled(tmp_path, range(8), seal_at=(3,))
    again = Gallery(tmp_path, rows_of(*range(8)))
    assert again.missing(rows_of(*range(8))) == [4, 5, 6, 7]
    assert holds(again, range(4))


def test_rows_deleted_while_it_was_closed_are_hidden(tmp_path: Path) -> None:
    filled(tmp_path, range(8), seal_at=(3, 7))
    again = Gallery(tmp_path, rows_of(1, 2, 6, 7))
    assert holds(again, [1, 2, 6, 7])
    assert again.hidden_rows == 4
    again.compact()
    assert holds(again, [1, 2, 6, 7])
    assert [row for row in range(8) if on_disk(tmp_path, row)] == [1, 2, 6, 7]


def test_compaction_erases_hidden_rows_from_the_disk(tmp_path: Path) -> None:
    """Only the segments that hold some are written anew; no byte of the hidden prints is left in any file."""
    gallery = filled(tmp_path, range(12), seal_at=(7, 10, 11))
    assert all(on_disk(tmp_path, row) for row in range(12))
    untouched = sorted(tmp_path.glob("*.pps"))[1]
    gallery.hide([0, 2, 11])
    assert gallery.hidden_rows == 3
    assert on_disk(tmp_path, 2)
    gallery.compact()
    kept = [1, 3, 4, 5, 6, 7, 8, 9, 10]
    assert [row for row in range(12) if on_disk(tmp_path, row)] == kept
    assert gallery.hidden_rows == 0
    assert holds(gallery, kept)
    assert untouched.exists()
    assert len(list(tmp_path.glob("*.pps"))) == 2
    assert holds(Gallery(tmp_path, rows_of(*kept)), kept)


def test_sealing_merges_segments_that_are_not_much_larger(tmp_path: Path) -> None:
    """Sealing one row at a time leaves few files, and every row is found after opening them again."""
    gallery = Gallery(tmp_path, NOBODY)
    for row in range(32):
        gallery.add(row, PRINTS[row])
        gallery.seal()
        assert len(list(tmp_path.glob("*.pps"))) <= 1 + np.log2(row + 1)
    assert holds(gallery, range(32))
    assert holds(Gallery(tmp_path, rows_of(*range(32))), range(32))


def test_segments_of_another_code_are_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cylinders made by other kernels must not be compared with today's."""
    filled(tmp_path, range(3), seal_at=(2,))
    manifest = tmp_path / MANIFEST
    manifest.write_text(manifest.read_text().replace(CODE, "mcc-192x6-0"))
    assert Gallery(tmp_path, rows_of(0, 1, 2)).missing(rows_of(0, 1, 2)) == [0, 1, 2]
    assert "mcc-192x6-0" in caplog.text


def test_compaction_may_leave_nothing(tmp_path: Path) -> None:
    gallery = filled(tmp_path, range(3), seal_at=(2,))
    gallery.hide(range(3))
    gallery.compact()
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST]
    assert len(Gallery(tmp_path, NOBODY)) == 0


def test_a_row_hidden_before_it_was_sealed_never_comes_back(tmp_path: Path) -> None:
    """Compaction while it lies in memory, sealing, opening: it reaches neither a search nor the disk."""
    gallery = filled(tmp_path, range(6), seal_at=(2,))
    gallery.hide([1, 4])
    gallery.compact()
    assert holds(gallery, [0, 2, 3, 5])
    assert 4 not in gallery.shortlist([Wanted(PRINTS[4])], limit=3).rows
    gallery.seal()
    assert holds(gallery, [0, 2, 3, 5])
    assert gallery.hidden_rows == 0
    assert not on_disk(tmp_path, 4)
    assert not on_disk(tmp_path, 1)


def test_only_hidden_rows_are_sealed_into_nothing(tmp_path: Path) -> None:
    gallery = filled(tmp_path, range(2))
    gallery.hide([0, 1])
    gallery.seal()
    assert gallery.live_rows == 0
    assert not list(tmp_path.glob("*.pps"))


@pytest.mark.parametrize("work", ["seal", "compact"])
def test_rows_added_and_hidden_while_the_disk_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, work: str
) -> None:
    """Nothing waits for the disk; what happened meanwhile holds afterwards, in memory and after a restart."""
    gallery = filled(tmp_path, range(10), seal_at=(4,))
    gallery.hide([0, 5])

    def write(path: Path, rows: list[int], entries: Sequence[Entry]) -> None:
        gallery.add(10, PRINTS[10])
        gallery.add(11, PRINTS[11])
        gallery.hide([1, 6, 11])
        assert holds(gallery, [2, 3, 4, 7, 8, 9, 10])
        write_segment(path, rows, entries)

    monkeypatch.setattr(gallery_module, "write_segment", write)
    getattr(gallery, work)()
    monkeypatch.undo()
    alive = [2, 3, 4, 7, 8, 9, 10]
    assert holds(gallery, alive)
    again = Gallery(tmp_path, rows_of(*alive))
    for row in again.missing(rows_of(*alive)):
        again.add(row, PRINTS[row])
    assert holds(again, alive)
    for one in (gallery, again):
        one.seal()
        one.compact()
        assert holds(one, alive)
        assert one.hidden_rows == 0
    assert [row for row in range(12) if on_disk(tmp_path, row)] == alive


# ---- what a crash or a full disk leaves


def test_files_left_by_a_crash_are_swept(tmp_path: Path) -> None:
    """A segment written but not in the manifest, halves of either: gone at the next start, and not read."""
    filled(tmp_path, range(4), seal_at=(3,))
    write_segment(tmp_path / "segment-00000002.pps", [9], [ENTRIES[9]])
    for name in ("segment-00000003.part", MANIFEST + ".part", "segment-strange.pps"):
        (tmp_path / name).write_bytes(PRINTS[9].pose.tobytes())
    again = Gallery(tmp_path, rows_of(0, 1, 2, 3, 9))
    assert sorted(path.name for path in tmp_path.iterdir()) == [MANIFEST, "segment-00000001.pps"]
    assert again.missing(rows_of(0, 1, 2, 3, 9)) == [9]
    assert holds(again, range(4))


def test_a_failed_seal_leaves_nothing_that_compaction_would_miss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row whose sealing failed at the manifest, then deleted: compaction erases the stray segment."""
    gallery = filled(tmp_path, range(3))
    _fail(monkeypatch, os, "fsync", at=2)
    with pytest.raises(OSError, match="No space"):
        gallery.seal()
    monkeypatch.undo()
    gallery.hide([1])
    gallery.compact()
    assert not on_disk(tmp_path, 1)
    assert holds(gallery, [0, 2])


def _fail(patch: pytest.MonkeyPatch, where: object, name: str, *, at: int) -> None:
    """The `at`-th call of a function finds the disk full."""
    real, calls = getattr(where, name), iter(range(1, 10**6))

    def call(*arguments: object, **options: object) -> object:
        if next(calls) == at:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*arguments, **options)

    patch.setattr(where, name, call)


FAILURES = [
    (os, "fsync", 1),
    (os, "fsync", 2),
    (os, "fsync", 3),
    (os, "open", 1),
    (os, "open", 2),
    (os, "open", 3),
    (Path, "open", 1),
    (Path, "replace", 1),
    (Path, "replace", 2),
    (segment_module, "_write_columns", 1),
    (segment_module, "_read", 1),
]


@pytest.mark.parametrize("work", ["seal", "compact"])
@pytest.mark.parametrize(
    ("where", "name", "at"), FAILURES, ids=lambda value: getattr(value, "__name__", value)
)
def test_a_full_disk_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: object, name: str, at: int, work: str
) -> None:
    """Wherever it fails: rows stay findable, a restart finds all that was sealed, a second try succeeds."""
    gallery = filled(tmp_path, range(8), seal_at=(3,))
    gallery.hide([2, 6])
    alive = [0, 1, 3, 4, 5, 7]
    _fail(monkeypatch, where, name, at=at)
    with pytest.raises(OSError, match="No space"):
        getattr(gallery, work)()
    monkeypatch.undo()
    assert holds(gallery, alive)
    copy = tmp_path.parent / (tmp_path.name + "-copy")
    shutil.copytree(tmp_path, copy)
    again = Gallery(copy, rows_of(*alive))
    assert set(again.missing(rows_of(*alive))) <= {4, 5, 7}
    for row in again.missing(rows_of(*alive)):
        again.add(row, PRINTS[row])
    assert holds(again, alive)
    gallery.seal()
    gallery.compact()
    assert holds(gallery, alive)
    assert gallery.live_rows == gallery.hidden_rows == 0
    assert holds(Gallery(tmp_path, rows_of(*alive)), alive)
    assert not on_disk(tmp_path, 2)
    assert not on_disk(tmp_path, 6)


def test_a_file_size_limit(tmp_path: Path) -> None:
    """The system itself refuses the bytes: the rows stay, the old manifest stays in force."""
    code = """if True:
        import resource, signal, sys
        sys.path[:0] = sys.argv[2:]
        from pathlib import Path
        from test_gallery import NOBODY, PRINTS, Gallery, filled, holds
        folder = Path(sys.argv[1])
        gallery = filled(folder, range(4), seal_at=(1,))
        manifest = (folder / "manifest.json").read_bytes()
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (6000, resource.RLIM_INFINITY))
        try:
            gallery.seal()
        except OSError as error:
            print(type(error).__name__)
        print(holds(gallery, range(4)), (folder / "manifest.json").read_bytes() == manifest)
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        gallery.seal()
        print(holds(gallery, range(4)), gallery.live_rows)
    """
    here = Path(__file__).resolve()
    paths = [str(here.parents[2]), str(here.parents[1]), str(here.parent)]
    said = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path), *paths], capture_output=True, text=True, check=True
    )
    assert said.stdout.split() == ["OSError", "True", "True", "True", "0"]


# ---- damage


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A gallery of two segments: rows 0 to 3, and row 4."""
    folder = tmp_path_factory.mktemp("small")
    filled(folder, range(5), seal_at=(3, 4))
    return folder


def opened_damaged(small: Path, data: bytes, log: pytest.LogCaptureFixture) -> list[int]:
    """Open a copy whose first segment is `data`; return what is rebuilt of it, after checking all others.

    That are all its rows, found when it is opened, or those that are damaged, found when they are read.
    """
    log.clear()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "gallery"
        shutil.copytree(small, folder)
        (folder / "segment-00000001.pps").write_bytes(data)
        restored: list[int] = []
        gallery = Gallery(folder, rows_of(*range(5)), restore=restoring(restored))
        missing = gallery.missing(rows_of(*range(5)))
        assert missing in ([], [0, 1, 2, 3])
        assert holds(gallery, [row for row in range(5) if row not in missing])
        rebuilt = missing or restored
        assert bool(rebuilt) == bool(log.records)
        if rebuilt:
            assert "segment-00000001.pps" in log.text
            for row in missing:
                gallery.add(row, PRINTS[row])
            gallery.seal()
            gallery.compact()
            assert holds(gallery, range(5))
            assert holds(Gallery(folder, rows_of(*range(5))), range(5)), "nothing is damaged any more"
        return rebuilt


def restoring(asked: list[int]) -> Callable[[int], Prepared]:
    """Stand in for the store, and note what it is asked for."""

    def restore(row: int) -> Prepared:
        asked.append(row)
        return PRINTS[row]

    return restore


def test_a_segment_cut_short_is_set_aside(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = (small / "segment-00000001.pps").read_bytes()
    some = np.random.default_rng(1).integers(0, len(whole), 30).tolist()
    for length in [0, 1, 7, 8, 23, 24, 25, 100, 4095, 4096, 4097, len(whole) - 1, *some]:
        assert opened_damaged(small, whole[:length], caplog) == [0, 1, 2, 3]


def test_any_damaged_byte_is_noticed(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Every byte of the prefix, samples of the header and of every array; padding alone may change.

    Of what is read for a full comparison alone, one row is rebuilt; of all else, the segment.
    """
    path = small / "segment-00000001.pps"
    whole = path.read_bytes()
    _, _, _, length = _PREFIX.unpack_from(whole)
    header = json.loads(whole[_PREFIX.size : _PREFIX.size + length])
    random_ = np.random.default_rng(2)
    places = [at for at in range(_PREFIX.size) if at not in (10, 11)]
    places += random_.integers(_PREFIX.size, _PREFIX.size + length, 20).tolist()
    assert not any(0 in entry["shape"] for entry in header.values())
    of_rows = set()
    for name, entry in header.items():
        size = int(np.prod(entry["shape"])) * np.dtype(entry["dtype"]).itemsize
        some = [entry["at"], entry["at"] + size - 1, *random_.integers(entry["at"], entry["at"] + size, 3)]
        places += some
        of_rows.update(some if name in _COMPARED else ())
    for at in places:
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(random_.integers(8))
        rebuilt = opened_damaged(small, bytes(damaged), caplog)
        assert len(rebuilt) == 1 if at in of_rows else rebuilt == [0, 1, 2, 3], at
    for at in (10, 11, _PREFIX.size + length + 1, 4095):
        damaged = bytearray(whole)
        damaged[at] ^= 255
        assert opened_damaged(small, bytes(damaged), caplog) == []


class TestRowsDamaged:
    """What happens to a row when the disk gives other bytes than were written."""

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        """Rows 0 to 5, of which 2 is damaged in one of its arrays."""
        gallery = filled(tmp_path, range(6), seal_at=(5,))
        flip(tmp_path, gallery.prepared(2).every.bits.tobytes())
        return tmp_path

    def test_nothing_else_can_restore_it(self, folder: Path) -> None:
        gallery = Gallery(folder, rows_of(*range(6)))
        with pytest.raises(GalleryCorrupt, match=r"segment-00000001\.pps has a damaged row 2"):
            gallery.prepared(2)
        with pytest.raises(GalleryCorrupt, match="damaged"):
            SealedSegment(folder / "segment-00000001.pps").check()

    def test_it_is_restored_once(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        asked: list[int] = []
        gallery = Gallery(folder, rows_of(*range(6)), restore=restoring(asked))
        for _ in range(2):
            assert holds(gallery, range(6))
        assert asked == [2]
        assert (gallery.live_rows, gallery.hidden_rows, len(caplog.records)) == (1, 1, 1)

    @pytest.mark.parametrize("work", ["seal", "compact"])
    def test_it_is_not_copied(self, folder: Path, work: str) -> None:
        """What writes a segment anew would give the damage a checksum that agrees."""
        gallery = Gallery(folder, rows_of(*range(6)), restore=restoring([]))
        for row in range(6, 10):
            gallery.add(row, PRINTS[row])
        gallery.hide([5])
        getattr(gallery, work)()
        assert not (folder / "segment-00000001.pps").exists()
        assert holds(gallery, [0, 1, 2, 3, 4, 6, 7, 8, 9])

    def test_it_is_found_before_it_is_read(self, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
        gallery = Gallery(folder, rows_of(*range(6)), restore=restoring([]))
        assert not caplog.records
        gallery.check()
        assert "segment-00000001.pps has a damaged row 2" in caplog.text
        gallery.seal()
        gallery.compact()
        caplog.clear()
        gallery.check()
        again = Gallery(folder, rows_of(*range(6)))
        again.check()
        assert holds(again, range(6))
        assert not caplog.records

    def test_threads_come_upon_it_together(self, folder: Path) -> None:
        gallery = Gallery(folder, rows_of(*range(6)), restore=restoring([]))
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(gallery.prepared, [2] * 16))
        assert all(same(one, PRINTS[2]) for one in found)
        assert holds(gallery, range(6))
        assert gallery.live_rows == 1

    def test_it_was_deleted_meanwhile(self, folder: Path) -> None:
        gallery = Gallery(folder, rows_of(*range(6)), restore=lambda _: EMPTY)
        assert same(gallery.prepared(2), EMPTY)
        gallery.hide([2])
        gallery.compact()
        assert holds(gallery, [0, 1, 3, 4, 5])


def flip(folder: Path, piece: bytes) -> None:
    """Flip a bit of some bytes of the only segment, in its place: what has it open sees that."""
    (path,) = folder.glob("*.pps")
    with path.open("r+b") as file:
        at = file.read().index(piece) + len(piece) // 2
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def test_other_files_than_segments_are_set_aside(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert opened_damaged(small, b"", caplog) == [0, 1, 2, 3]
    assert opened_damaged(small, b"\0" * 10000, caplog) == [0, 1, 2, 3]
    assert opened_damaged(small, b"PAPSEG\r\n" + b"\xff" * 10000, caplog) == [0, 1, 2, 3]


def test_a_segment_that_is_gone_is_rebuilt(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    filled(tmp_path, range(4), seal_at=(2, 3))
    (tmp_path / "segment-00000001.pps").unlink()
    gallery = Gallery(tmp_path, rows_of(*range(4)))
    assert gallery.missing(rows_of(*range(4))) == [0, 1, 2]
    assert "segment-00000001.pps" in caplog.text


@pytest.mark.parametrize("damage", ["{", "", "[]", "null", "3", '{"version": 1}', "\udcff"])
def test_a_damaged_manifest_means_all_is_rebuilt(
    tmp_path: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    filled(tmp_path, range(4), seal_at=(2, 3))
    (tmp_path / MANIFEST).write_bytes(damage.encode(errors="surrogateescape"))
    gallery = Gallery(tmp_path, rows_of(*range(4)))
    assert gallery.missing(rows_of(*range(4))) == [0, 1, 2, 3]
    assert "manifest" in caplog.text


def test_any_damaged_byte_of_the_manifest(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It is read as written, or as damaged, or refused as too new (its version's digit); nothing else."""
    filled(tmp_path, range(4), seal_at=(2, 3))
    whole = (tmp_path / MANIFEST).read_bytes()
    segments = {path.name: path.read_bytes() for path in tmp_path.glob("*.pps")}
    for at in range(len(whole)):
        for bit in (0, 1, 4, 7):
            caplog.clear()
            damaged = bytearray(whole)
            damaged[at] ^= 1 << bit
            for name, data in segments.items():
                (tmp_path / name).write_bytes(data)
            (tmp_path / MANIFEST).write_bytes(damaged)
            try:
                gallery = Gallery(tmp_path, rows_of(*range(4)))
            except GalleryTooNew:
                assert at == whole.index(b"1")
                continue
            missing = gallery.missing(rows_of(*range(4)))
            assert missing == ([0, 1, 2, 3] if caplog.records else [])


def test_newer_versions_are_refused_and_left_alone(tmp_path: Path) -> None:
    """Neither a newer manifest nor a newer segment is deleted as if it were damaged."""
    filled(tmp_path, range(2), seal_at=(1,))
    path = tmp_path / "segment-00000001.pps"
    whole, manifest = path.read_bytes(), (tmp_path / MANIFEST).read_text()
    magic, _, _, length = _PREFIX.unpack_from(whole)
    header = whole[_PREFIX.size : _PREFIX.size + length]
    newer = _PREFIX.pack(magic, VERSION + 1, zlib.crc32(header, VERSION + 1), length)
    path.write_bytes(newer + whole[_PREFIX.size :])
    with pytest.raises(GalleryTooNew, match=f"version {VERSION + 1}"):
        Gallery(tmp_path, rows_of(0, 1))
    path.write_bytes(whole)
    (tmp_path / MANIFEST).write_text(manifest.replace('"version": 1', '"version": 2'))
    with pytest.raises(GalleryTooNew, match="version 2"):
        Gallery(tmp_path, rows_of(0, 1))
    assert path.read_bytes() == whole


# ---- golden galleries


READ, REBUILT = (6,), (1, 2, 3, 4, 5)
"""Versions whose segments are read as they are, and those that are made anew."""


def golden_prints() -> dict[int, Prepared]:
    """Three prints by row: bare arithmetic, no finger and no kernel."""
    made = {}
    for row, m, sure, b in ((2, 3, 2, 40), (5, 0, 0, 0), (11, 5, 5, 9)):
        k = np.arange(m + 2)
        words = np.arange(m * 21, dtype=np.uint64).reshape(m, 21) * np.uint64(0x9E3779B97F4A7C15)
        words[:, 18:] = np.uint64(2**64 - 1)
        pose = np.column_stack((10 * k + row, 7 * k, k / 8)).astype(np.float32)
        every = Cylinders(words[:, :18].copy(), words[:, 18:].copy(), k[:m].astype(np.int16))
        fewer = every if sure == m else Cylinders(*(array[:sure] ^ array.dtype.type(1) for array in every))
        ridges = (np.arange(b) * 37 % 256).astype(np.uint8)
        strangers = np.array([-4.25 - row / 64, row / 128], np.float32)
        made[row] = Prepared(pose, (100 - 9 * k).astype(np.uint8), every, fewer, ridges, strangers)
    return made


def write_golden() -> None:
    folder = GOLDEN / f"version-{VERSION}"
    shutil.rmtree(folder, ignore_errors=True)
    gallery = Gallery(folder, NOBODY)
    for row, prepared in golden_prints().items():
        gallery.add(row, prepared)
    gallery.seal()


def test_there_is_a_golden_gallery_of_every_version() -> None:
    assert sorted(READ + REBUILT) == list(range(1, VERSION + 1))
    assert sorted(path.name for path in GOLDEN.iterdir()) == [f"version-{v}" for v in range(1, VERSION + 1)]


@pytest.mark.parametrize("version", READ)
def test_galleries_of_these_versions_are_read(
    tmp_path: Path, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Those that a released program wrote, byte for byte as it wrote them."""
    folder = tmp_path / "gallery"
    shutil.copytree(GOLDEN / f"version-{version}", folder)
    gallery = Gallery(folder, rows_of(2, 5, 11))
    expected = golden_prints()
    assert gallery.missing(rows_of(2, 5, 11)) == []
    for row, prepared in expected.items():
        assert same(gallery.prepared(row), prepared)
    assert gallery.shortlist([Wanted(expected[2])], limit=1).rows.tolist() == [2]
    assert gallery.shortlist([Wanted(expected[11])], limit=1).rows.tolist() == [11]
    assert not caplog.records


@pytest.mark.parametrize("version", REBUILT)
def test_galleries_of_older_versions_are_rebuilt(
    tmp_path: Path, version: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A released program wrote them, with cylinders of another code: all rows are missing, which is said, the
    old files are erased, and what is then added is found, also after opening again."""
    folder = tmp_path / "gallery"
    shutil.copytree(GOLDEN / f"version-{version}", folder)
    old = {path.name: path.read_bytes() for path in folder.glob("*.pps")}
    code = json.loads((folder / MANIFEST).read_text())["cylinders"]
    assert [_PREFIX.unpack_from(data)[1] for data in old.values()] == [version]
    assert code != CODE
    gallery = Gallery(folder, rows_of(2, 5, 11))
    assert code in caplog.text
    assert CODE in caplog.text
    assert len(gallery) == 0
    assert gallery.missing(rows_of(2, 5, 11)) == [2, 5, 11]
    assert not list(folder.glob("*.pps"))
    for row in (2, 5, 11):
        gallery.add(row, PRINTS[row])
    gallery.seal()
    caplog.clear()
    again = Gallery(folder, rows_of(2, 5, 11))
    assert not caplog.records
    for one in (gallery, again):
        assert one.missing(rows_of(2, 5, 11)) == []
        assert all(same(one.prepared(row), PRINTS[row]) for row in (2, 5, 11))
    assert not any(path.read_bytes() in old.values() for path in folder.iterdir())


def test_a_segment_keeps_every_field_byte_for_byte(tmp_path: Path) -> None:
    """With ridges and without, all minutiae sure or some; what is read is read-only."""
    some = [*PRINTS[:12], EMPTY, *golden_prints().values()]
    entries = [Entry.of(prepared, Place(Finger(k % 11), 7 * k)) for k, prepared in enumerate(some)]
    kinds = {(p.ridges.size > 0, p.sure is p.every) for p in some}
    assert kinds == {(True, True), (True, False), (False, True), (False, False)}
    path = tmp_path / "s.pps"
    write_segment(path, range(len(some)), entries)
    segment = SealedSegment(path)
    for slot, prepared in enumerate(some):
        found = segment.prepared(slot)
        assert same(found, prepared)
        kept = segment.entry(slot).compact
        assert all(np.array_equal(a, b) for a, b in zip(kept, entries[slot].compact, strict=True))
        assert not any(array.flags.writeable for array in (*arrays_of(found), *kept))
    again = tmp_path / "again.pps"
    write_segment(again, range(len(some)), [segment.entry(slot) for slot in range(len(some))])
    assert again.read_bytes() == path.read_bytes()


def test_what_writing_takes_in_memory_does_not_grow_with_the_segment(tmp_path: Path) -> None:
    """Ten blocks or forty: the templates are asked for one after the other, and none is held for long."""
    one = ENTRIES[1]
    peaks = []
    for count in (2_560, 10_240):
        tracemalloc.start()
        write_segment(tmp_path / "s.pps", range(count), Repeated(one, count))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    starts = 8 * 6 * 10_240 * 3  # rows, and where the parts of each begin, some of it twice
    assert peaks[1] - peaks[0] < starts < (tmp_path / "s.pps").stat().st_size / 4
    assert same(SealedSegment(tmp_path / "s.pps").prepared(10_239), one.prepared)


class Repeated(Sequence[Entry]):
    """One row, as often as is asked for."""

    def __init__(self, one: Entry, count: int) -> None:
        self.one, self.count = one, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, at: Any) -> Any:
        if at >= self.count:
            raise IndexError
        return self.one


def test_a_live_segment_and_a_sealed_one_hold_alike(tmp_path: Path) -> None:
    live = LiveSegment()
    for slot in range(30):
        live.add(slot + 100, ENTRIES[slot])
    write_segment(tmp_path / "s.pps", live.rows.tolist(), [live.entry(slot) for slot in range(30)])
    sealed = SealedSegment(tmp_path / "s.pps")
    sealed.alive[7] = live.alive[7] = False
    assert np.array_equal(sealed.rows, live.rows)
    assert all(np.array_equal(a, b) for a, b in zip(sealed.held, live.held, strict=True))
    asked = rows_of(0, 100, 107, 129, 130, 900)
    for segment in (live, sealed):
        assert [segment.find(row) for row in asked.tolist()] == [None, 0, None, 29, None, None]
        assert segment.reached(asked).tolist() == [False, True, False, True, False, False]


# ---- threads


def test_threads_searching_while_rows_come_and_go(tmp_path: Path) -> None:
    """A row that was acknowledged and not hidden is always found, a hidden one never; nothing raises."""
    stop, guard = time.monotonic() + 3.0, threading.Lock()
    gallery, alive, gone, errors = Gallery(tmp_path, NOBODY), set(), set(), []
    searches = [0]

    def forever(work, pause: float) -> threading.Thread:
        def run() -> None:
            try:
                while time.monotonic() < stop and not errors:
                    work()
                    time.sleep(pause)
            except BaseException as error:
                errors.append(error)

        return threading.Thread(target=run)

    fresh = iter(range(len(PRINTS)))

    def add() -> None:
        row = next(fresh, None)
        if row is not None:
            gallery.add(row, PRINTS[row])
            with guard:
                alive.add(row)

    def hide() -> None:
        with guard:
            row = random.choice([*alive, None]) if len(alive) > 20 else None  # noqa: S311
            alive.discard(row)
        if row is not None:
            gallery.hide([row])
            with guard:
                gone.add(row)

    def search() -> None:
        with guard:
            row, dead = random.choice([*alive, 0]), set(gone)  # noqa: S311
            there = row in alive
        found = {k: gallery.shortlist([Wanted(PRINTS[row])], limit=k).rows.tolist() for k in (3, 10**6)}
        reference = gallery.prepared(row)
        rows = gallery.rows.tolist()
        gallery.missing(rows_of(0, 5))
        with guard:
            certain = there and row in alive
        for limit, listed in found.items():
            assert row in listed or not certain, (limit, row)
            assert not dead & set(listed)
            assert len(set(listed)) == len(listed)
        assert not certain or (same(reference, PRINTS[row]) and row in rows)
        searches[0] += 1

    threads = [forever(add, 0.01), forever(hide, 0.03), forever(gallery.seal, 0.05)]
    threads += [forever(gallery.compact, 0.08), *(forever(search, 0.0) for _ in range(3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    assert searches[0] > 50
    assert holds(gallery, sorted(alive))
    gallery.seal()
    gallery.compact()
    assert holds(Gallery(tmp_path, rows_of(*alive)), sorted(alive))
    assert not any(on_disk(tmp_path, row) for row in gone)


def test_prints_are_counted_by_their_position(tmp_path: Path) -> None:
    """Those in memory and those on the disk, without those that are hidden."""
    gallery = Gallery(tmp_path, NOBODY)
    assert gallery.positions == {}
    for row in range(40):
        gallery.add(row, PRINTS[row], PLACES[row])
        if row in (10, 25):
            gallery.seal()
    gallery.hide([3, 30])
    left = Counter(PLACES[row].finger for row in range(40) if row not in (3, 30))
    assert gallery.positions == left
    gallery.seal()
    gallery.compact()
    assert gallery.positions == left
    assert Gallery(tmp_path, gallery.rows).positions == left


# ---- any order of events


class GalleryMachine(RuleBasedStateMachine):
    """The gallery against a set of rows, whatever is done to it."""

    @initialize()
    def create(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.alive: set[int] = set()
        self.sealed: set[int] = set()
        self.next = 0
        self.gallery = Gallery(self.folder, NOBODY)

    @rule(count=st.integers(1, 4))
    def add(self, count: int) -> None:
        for _ in range(min(count, len(PRINTS) - self.next)):
            self.gallery.add(self.next, PRINTS[self.next])
            self.alive.add(self.next)
            self.next += 1

    @rule(picks=st.lists(st.integers(0, 60), max_size=4))
    def hide(self, picks: list[int]) -> None:
        """Rows that are there, that were, and that never were."""
        self.gallery.hide(picks)
        self.alive.difference_update(picks)
        self.next = max([self.next, *(p + 1 for p in picks)])

    @rule(pick=st.integers(0, 60))
    def add_again(self, pick: int) -> None:
        if pick in self.alive:
            self.gallery.add(pick, PRINTS[pick])

    @rule()
    def seal(self) -> None:
        self.gallery.seal()
        self.sealed = set(self.alive) | (self.sealed - self.alive)
        assert self.gallery.live_rows == 0

    @rule()
    def compact(self) -> None:
        self.gallery.compact()
        assert self.gallery.hidden_rows == 0
        gone = set(range(min(self.next, len(PRINTS)))) - self.alive
        assert not any(on_disk(self.folder, row) for row in gone)

    @rule(at=st.integers(1, 3), work=st.sampled_from(["seal", "compact"]))
    def fail(self, at: int, work: str) -> None:
        """The disk is full, somewhere on the way; what the disk then holds may be either."""
        with pytest.MonkeyPatch.context() as patch:
            _fail(patch, os, "fsync", at=at)
            try:
                getattr(self.gallery, work)()
            except OSError:
                return
        if work == "seal":
            self.sealed |= self.alive

    @rule()
    def reopen(self) -> None:
        """What was sealed is there; the rest is missing, and comes back when it is added again."""
        alive = rows_of(*self.alive)
        self.gallery = Gallery(self.folder, alive)
        missing = self.gallery.missing(alive)
        assert not set(missing) & self.sealed
        assert sorted({*missing, *self.gallery.rows.tolist()}) == alive.tolist()
        for row in missing:
            self.gallery.add(row, PRINTS[row])

    @invariant()
    def agrees(self) -> None:
        assert holds(self.gallery, sorted(self.alive))

    def teardown(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)


TestAnyOrder = GalleryMachine.TestCase
TestAnyOrder.settings = settings(
    max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_nothing_is_logged_when_nothing_is_wrong(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        filled(tmp_path, range(4), seal_at=(1,)).compact()
        Gallery(tmp_path, rows_of(0, 1))
    assert not [record for record in caplog.records if record.name.startswith("matcher")]


if __name__ == "__main__":
    write_golden()
