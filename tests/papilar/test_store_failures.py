"""The store when the ground gives way: full disks, damaged files, other processes, kill -9."""

import os
import signal
import sqlite3
import subprocess
import sys
import traceback
from contextlib import closing
from pathlib import Path

import pytest
from stores import (
    FILE,
    a_print,
    a_request,
    an_encounter,
    integrity,
    set_pragma,
    tamper,
)

from matcher.errors import GalleryCorrupt, GalleryTooNew, PapilarError
from papilar.errors import (
    EncounterErased,
    GalleryLocked,
    GalleryUnknown,
    StorageFull,
    StorageUnavailable,
)
from papilar.store import (
    Counts,
    GalleryLock,
    Store,
)


class TestFailures:
    def test_a_full_disk_keeps_what_was_and_nothing_half(self, store: Store, folder: Path) -> None:
        kept = [an_encounter(f"s{i}", (a_print(image=bytes(3000)),)) for i in range(5)]
        for new in kept:
            store.enroll(new)
        set_pragma(store, "max_page_count=40")
        big = an_encounter("big", tuple(a_print(f, image=os.urandom(20_000)) for f in range(1, 11)))
        request = a_request()
        with pytest.raises(StorageFull, match="full"):
            store.enroll(big, request=request)
        assert store.counts() == Counts(5, 5, 5)
        assert store.replay(request.request_id, request.digest) is None
        assert store.delete(kept[0].encounter_id).rows == (1,)
        set_pragma(store, "max_page_count=100000")
        assert len(store.enroll(big, request=request).rows) == 10
        store.close()
        assert integrity(folder) == "ok"

    def test_a_writer_outside_that_does_not_end(self, store: Store, folder: Path) -> None:
        set_pragma(store, "busy_timeout=50")
        with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="locked"):
                store.enroll(an_encounter())
        store.enroll(an_encounter())
        assert store.counts().prints == 1

    @pytest.mark.parametrize("start", [0, 20])
    def test_a_damaged_head_is_seen_on_opening(self, store: Store, folder: Path, start: int) -> None:
        store.enroll(an_encounter())
        store.close()
        with (folder / FILE).open("r+b") as file:
            file.seek(start)
            file.write(b"\xff" * 80)
        with pytest.raises(GalleryCorrupt):
            Store.open(folder)
        GalleryLock(folder).release()

    def test_a_damaged_page_is_seen_on_reading(self, store: Store, folder: Path) -> None:
        for _ in range(200):
            store.enroll(an_encounter())
        store.close()
        data = bytearray((folder / FILE).read_bytes())
        for page in range(4096 * 4, len(data), 4096):
            data[page : page + 64] = bytes([0xA5]) * 64
        (folder / FILE).write_bytes(data)
        with pytest.raises(GalleryCorrupt), Store.open(folder) as again:
            list(again.templates())

    @pytest.mark.parametrize(("table", "column"), [("print", "template"), ("image", "png")])
    def test_a_turned_bit_is_seen_on_reading(
        self, store: Store, folder: Path, table: str, column: str
    ) -> None:
        new = an_encounter(prints=(a_print(image=b"picture"),))
        store.enroll(new)
        tamper(folder, f"UPDATE {table} SET {column} = ?", b"other")  # noqa: S608
        with pytest.raises(GalleryCorrupt, match="row 1"):
            store.encounter(new.encounter_id, images=True)

    def test_a_newer_store_is_refused(self, store: Store, folder: Path) -> None:
        store.close()
        tamper(folder, "UPDATE meta SET value = '2' WHERE key = 'schema_version'")
        with pytest.raises(GalleryTooNew, match="2"):
            Store.open(folder)
        with pytest.raises(GalleryTooNew):
            Store.open(folder, create=True)

    @pytest.mark.parametrize(
        "statement",
        ["DELETE FROM meta WHERE key = 'name'", "UPDATE meta SET value = 'x'", "PRAGMA application_id=7"],
    )
    def test_a_store_without_its_marks_is_refused(self, store: Store, folder: Path, statement: str) -> None:
        store.close()
        tamper(folder, statement)
        with pytest.raises(GalleryCorrupt):
            Store.open(folder)

    def test_no_gallery_no_trace(self, folder: Path) -> None:
        with pytest.raises(GalleryUnknown, match="no gallery"):
            Store.open(folder)
        assert not folder.exists()
        folder.mkdir()
        with pytest.raises(GalleryUnknown):
            Store.open(folder)
        assert list(folder.iterdir()) == []
        (folder / FILE).touch()
        with pytest.raises(GalleryUnknown):
            Store.open(folder)

    def test_another_name_is_another_gallery(self, store: Store, folder: Path) -> None:
        store.close()
        with pytest.raises(GalleryUnknown, match="hn, not gt"):
            Store.open(folder, name="gt")

    def test_an_unusable_place(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageUnavailable):
            Store.open(tmp_path / "file" / "gallery", create=True)

    def test_errors_show_no_content(self, store: Store, folder: Path) -> None:
        tamper(folder, "ALTER TABLE subject RENAME TO elsewhere")
        who = "-".join(["who", "it", "is"])  # not to be found in the source lines of the traceback
        with pytest.raises(PapilarError, match="no such table") as caught:
            store.enroll(an_encounter(who))
        assert who not in "".join(traceback.format_exception(caught.value))


HOLD = """
import sys, time
from pathlib import Path
from papilar.store import GalleryLock
lock = GalleryLock(Path(sys.argv[1]))
print("held", flush=True)
time.sleep(60)
"""

WORK = """
import sys, uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from matcher.template import Finger, Impression
from papilar.store import NewEncounter, NewPrint, Request, Store

def work(store, number):
    key = str(uuid.uuid4())
    template, image = key.encode() * 40, bytes(9000)
    prints = tuple(NewPrint(Finger(f), Impression(0), template, 9, image=image) for f in (1, 2, 3))
    request = Request(key, key.encode(), lambda _: key.encode())
    store.enroll(NewEncounter(f"s{number % 7}", key, prints), request=request)
    sys.stdout.write(f"+{key}\\n")
    sys.stdout.flush()
    if number % 5 == 0:
        store.delete(key)
        sys.stdout.write(f"-{key}\\n")
        sys.stdout.flush()

with Store.open(Path(sys.argv[1]), create=True) as store, ThreadPoolExecutor(3) as pool:
    list(pool.map(lambda number: work(store, number), range(100000)))
"""


def start(script: str, folder: Path) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", script, str(folder)], stdout=subprocess.PIPE, text=True)


class TestOtherProcesses:
    def test_one_process_at_a_time(self, store: Store, folder: Path) -> None:
        with pytest.raises(GalleryLocked, match=str(os.getpid())):
            Store.open(folder)
        store.close()
        with start(HOLD, folder) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(GalleryLocked, match=str(holder.pid)):
                Store.open(folder)
            holder.send_signal(signal.SIGKILL)
        Store.open(folder).close()

    @pytest.mark.parametrize("acknowledged", [1, 60])
    def test_what_was_acknowledged_survives_a_kill(self, folder: Path, acknowledged: int) -> None:
        with start(WORK, folder) as worker:
            assert worker.stdout is not None
            lines = [worker.stdout.readline() for _ in range(acknowledged)]
            worker.send_signal(signal.SIGKILL)
            lines += worker.stdout.readlines()
        whole = [line.strip() for line in lines if line.endswith("\n")]
        enrolled = {line[1:] for line in whole if line[0] == "+"}
        deleted = {line[1:] for line in whole if line[0] == "-"}
        assert len(whole) >= acknowledged
        with Store.open(folder) as store:
            there = {item.encounter_id for item in store.templates()}
            assert not deleted & there
            lost = enrolled - deleted - there
            assert len(lost) <= 3  # deletions that were done and not yet told, one a thread
            assert len(there - enrolled) <= 3  # enrolments that were done and not yet told
            for key in there:
                assert [p.image for p in store.encounter(key, images=True).prints] == [bytes(9000)] * 3
                assert store.replay(key, key.encode()) == key.encode()
            for key in deleted | lost:
                with pytest.raises(EncounterErased):
                    store.replay(key, key.encode())
            assert store.counts().prints == 3 * len(there)
        assert integrity(folder) == "ok"
