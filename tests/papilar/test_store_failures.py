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
    def test_a_full_disk_keeps_what_was_and_nothing_half(self, file_store: Store, folder: Path) -> None:
        kept = [an_encounter(f"s{i}", (a_print(image=bytes(3000)),)) for i in range(5)]
        for new in kept:
            file_store.enroll(new)
        set_pragma(file_store, "max_page_count=40")
        big = an_encounter("big", tuple(a_print(f, image=os.urandom(20_000)) for f in range(1, 11)))
        request = a_request()
        with pytest.raises(StorageFull, match="full"):
            file_store.enroll(big, request=request)
        assert file_store.counts() == Counts(5, 5, 5)
        assert file_store.replay(request.request_id, request.digest) is None
        assert file_store.delete(kept[0].encounter_id).rows == (1,)
        set_pragma(file_store, "max_page_count=100000")
        assert len(file_store.enroll(big, request=request).rows) == 10
        file_store.close()
        assert integrity(folder) == "ok"

    def test_a_writer_outside_that_does_not_end(self, file_store: Store, folder: Path) -> None:
        set_pragma(file_store, "busy_timeout=50")
        with closing(sqlite3.connect(folder / FILE, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(StorageUnavailable, match="locked"):
                file_store.enroll(an_encounter())
        file_store.enroll(an_encounter())
        assert file_store.counts().prints == 1

    @pytest.mark.parametrize("start", [0, 20])
    def test_a_damaged_head_is_seen_on_opening(self, file_store: Store, folder: Path, start: int) -> None:
        file_store.enroll(an_encounter())
        file_store.close()
        with (folder / FILE).open("r+b") as file:
            file.seek(start)
            file.write(b"\xff" * 80)
        with pytest.raises(GalleryCorrupt):
            Store.open(folder)
        GalleryLock(folder).release()

    def test_a_damaged_page_is_seen_on_reading(self, file_store: Store, folder: Path) -> None:
        for _ in range(200):
            file_store.enroll(an_encounter())
        file_store.close()
        data = bytearray((folder / FILE).read_bytes())
        for page in range(4096 * 4, len(data), 4096):
            data[page : page + 64] = bytes([0xA5]) * 64
        (folder / FILE).write_bytes(data)
        with pytest.raises(GalleryCorrupt), Store.open(folder) as again:
            list(again.templates())

    @pytest.mark.parametrize(("table", "column"), [("print", "template"), ("image", "png")])
    def test_a_turned_bit_is_seen_on_reading(
        self, store: Store, target: Path | str, table: str, column: str
    ) -> None:
        new = an_encounter(prints=(a_print(image=b"picture"),))
        store.enroll(new)
        tamper(target, f"UPDATE {table} SET {column} = ?", b"other")  # noqa: S608
        with pytest.raises(GalleryCorrupt, match="row 1"):
            store.encounter(new.encounter_id, images=True)

    def test_a_newer_store_is_refused(self, store: Store, target: Path | str) -> None:
        store.close()
        tamper(target, "UPDATE meta SET value = '99' WHERE key = 'schema_version'")
        with pytest.raises(GalleryTooNew, match="99"):
            Store.open(target)
        with pytest.raises(GalleryTooNew):
            Store.open(target, create=True)

    @pytest.mark.parametrize(
        "statement", ["DELETE FROM meta WHERE key = 'name'", "UPDATE meta SET value = 'x'"]
    )
    def test_a_store_without_its_facts_is_refused(
        self, store: Store, target: Path | str, statement: str
    ) -> None:
        store.close()
        tamper(target, statement)
        with pytest.raises(GalleryCorrupt):
            Store.open(target)

    def test_a_file_without_its_mark_is_refused(self, file_store: Store, folder: Path) -> None:
        file_store.close()
        tamper(folder, "PRAGMA application_id=7")
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

    def test_another_name_is_another_gallery(self, store: Store, target: Path | str) -> None:
        store.close()
        with pytest.raises(GalleryUnknown, match="hn, not gt"):
            Store.open(target, name="gt")

    def test_an_unusable_place(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StorageUnavailable):
            Store.open(tmp_path / "file" / "gallery", create=True)

    def test_errors_show_no_content(self, store: Store, target: Path | str) -> None:
        tamper(target, "ALTER TABLE subject RENAME TO elsewhere")
        who = "-".join(["who", "it", "is"])  # not to be found in the source lines of the traceback
        with pytest.raises(PapilarError, match=r"no such table|does not exist") as caught:
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

target = sys.argv[1] if "://" in sys.argv[1] else Path(sys.argv[1])
with Store.open(target, create=True) as store, ThreadPoolExecutor(3) as pool:
    list(pool.map(lambda number: work(store, number), range(100000)))
"""


def start(script: str, target: Path | str) -> "subprocess.Popen[str]":
    return subprocess.Popen([sys.executable, "-c", script, str(target)], stdout=subprocess.PIPE, text=True)


class TestOtherProcesses:
    def test_one_process_at_a_time(self, file_store: Store, folder: Path) -> None:
        with pytest.raises(GalleryLocked, match=str(os.getpid())):
            Store.open(folder)
        file_store.close()
        with start(HOLD, folder) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(GalleryLocked, match=str(holder.pid)):
                Store.open(folder)
            holder.send_signal(signal.SIGKILL)
        Store.open(folder).close()

    @pytest.mark.parametrize("acknowledged", [1, 60])
    def test_what_was_acknowledged_survives_a_kill(self, target: Path | str, acknowledged: int) -> None:
        with start(WORK, target) as worker:
            assert worker.stdout is not None
            lines = [worker.stdout.readline() for _ in range(acknowledged)]
            worker.send_signal(signal.SIGKILL)
            lines += worker.stdout.readlines()
        whole = [line.strip() for line in lines if line.endswith("\n")]
        enrolled = {line[1:] for line in whole if line[0] == "+"}
        deleted = {line[1:] for line in whole if line[0] == "-"}
        assert len(whole) >= acknowledged
        with Store.open(target) as store:
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
        if isinstance(target, Path):
            assert integrity(target) == "ok"
