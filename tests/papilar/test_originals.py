"""Originals: what is kept, what is erased, and what a check finds, beside a store that is killed between."""

import errno
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nodes import a_person, image_of, picture
from stores import a_print, an_encounter

from matcher.template import Finger
from papilar import originals as module
from papilar.encryption import Keys
from papilar.errors import (
    ConfigInvalid,
    EncounterExists,
    OriginalCorrupt,
    OriginalKeyUnknown,
    OriginalMissing,
    StorageError,
    StorageFull,
    StorageUnavailable,
)
from papilar.node import Node
from papilar.originals import Originals, Survey, survey
from papilar.requests import Enrolled, Enrollment, PrintInput
from papilar.store import NewEncounter, Store

ONE, TWO = bytes(range(32)), bytes(range(1, 33))


@pytest.fixture(params=["folder", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "originals") if request.param == "folder" else f"memory://{uuid.uuid4()}"


@pytest.fixture
def originals(url: str) -> Originals:
    return Originals(url, Keys([ONE]), gallery="g")


def files_of(url: str) -> dict[str, bytes]:
    fs, path = fsspec.core.url_to_fs(url)
    return {name: fs.cat_file(name) for name in fs.find(path)}


def overwrite(url: str, name: bytes, change: Callable[[bytes], bytes]) -> None:
    fs, _ = fsspec.core.url_to_fs(url)
    (path,) = (found for found in files_of(url) if found.endswith(name.hex()))
    fs.pipe_file(path, change(fs.cat_file(path)))


class TestFiles:
    def test_what_is_put_is_there_once(self, originals: Originals, url: str) -> None:
        name = originals.put(b"a print")
        assert originals.put(b"a print") == name
        assert originals.get(name) == b"a print"
        assert (originals.has(name), list(originals.names())) == (True, [name])
        ((path, sealed),) = files_of(url).items()
        assert path.endswith(f"/g/{name.hex()[:2]}/{name.hex()[2:4]}/{name.hex()}")
        assert b"a print" not in sealed

    def test_what_is_deleted_is_gone(self, originals: Originals, url: str) -> None:
        name = originals.put(b"a print")
        for _ in range(2):
            originals.delete(name)
        assert (originals.has(name), list(originals.names()), files_of(url)) == (False, [], {})
        with pytest.raises(OriginalMissing, match=name.hex()):
            originals.get(name)

    def test_nothing_yet(self, originals: Originals) -> None:
        assert list(originals.names()) == []
        assert not originals.has(bytes(32))
        assert originals.sweep() == 0

    def test_galleries_do_not_meet(self, originals: Originals, url: str) -> None:
        name = originals.put(b"a print")
        other = Originals(url, Keys([ONE]), gallery="other")
        assert not other.has(name)
        other.put(b"a print")
        other.delete(name)
        assert originals.get(name) == b"a print"

    def test_a_damaged_file_is_named_and_mended_by_the_next_put(self, originals: Originals, url: str) -> None:
        name = originals.put(b"a print")
        overwrite(url, name, lambda data: data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(OriginalCorrupt, match=name.hex()):
            originals.get(name)
        assert originals.put(b"a print") == name
        assert originals.get(name) == b"a print"

    def test_two_files_swapped(self, originals: Originals, url: str) -> None:
        one, other = originals.put(b"one"), originals.put(b"other")
        (sealed,) = (data for path, data in files_of(url).items() if path.endswith(other.hex()))
        overwrite(url, one, lambda _: sealed)
        with pytest.raises(OriginalCorrupt, match="another's"):
            originals.get(one)

    def test_another_key(self, originals: Originals, url: str) -> None:
        name = originals.put(b"a print")
        with pytest.raises(OriginalKeyUnknown):
            Originals(url, Keys([TWO]), gallery="g").get(name)
        rotated = Originals(url, Keys([TWO, ONE]), gallery="g")
        assert rotated.get(name) == b"a print"
        assert [rotated.renew(name) for _ in range(2)] == [True, False]
        assert Originals(url, Keys([TWO]), gallery="g").get(name) == b"a print"

    def test_a_url_that_is_none(self) -> None:
        with pytest.raises(ConfigInvalid, match="cannot be used") as raised:
            Originals("nothing://key:secret@host", Keys([ONE]), gallery="g")
        assert "secret" not in str(raised.value)

    @settings(max_examples=30)
    @given(st.lists(st.tuples(st.sampled_from(["put", "delete"]), st.binary(max_size=2)), max_size=20))
    def test_it_is_a_set_of_contents(self, steps: list[tuple[str, bytes]]) -> None:
        kept = Originals(f"memory://{uuid.uuid4()}", Keys([ONE]), gallery="g")
        twin: dict[bytes, bytes] = {}
        for step, data in steps:
            name = Keys([ONE]).name(data)
            if step == "put":
                assert kept.put(data) == name
                twin[name] = data
            else:
                kept.delete(name)
                twin.pop(name, None)
        assert {name: kept.get(name) for name in kept.names()} == twin


class TestFailures:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        return tmp_path / "originals"

    def test_rights(self, folder: Path) -> None:
        Originals(str(folder), Keys([ONE]), gallery="g").put(b"a print")
        modes = {path.stat().st_mode & 0o077 for path in folder.rglob("*")}
        assert modes == {0}

    @pytest.mark.parametrize("call", ["write", "fsync", "replace"])
    def test_a_full_disk_leaves_nothing(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        kept = Originals(str(folder), Keys([ONE]), gallery="g")
        kept.put(b"before")
        with monkeypatch.context() as patch:
            if call == "fsync":
                patch.setattr(os, "fsync", full)
            elif call == "replace":
                patch.setattr(Path, "replace", full)
            else:
                patch.setattr(os, "open", full)
            with pytest.raises(StorageFull, match="No space left"):
                kept.put(b"a print")
        assert len(files_of(str(folder))) == 1
        assert kept.get(kept.put(b"a print")) == b"a print"

    def test_killed_while_writing(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        kept = Originals(str(folder), Keys([ONE]), gallery="g")
        name = kept.put(b"a print")
        half = next(folder.rglob(name.hex())).with_name(f"{name.hex()}.0.part")
        half.write_bytes(b"half")
        assert list(kept.names()) == [name]
        assert kept.sweep() == 1
        assert not half.exists()
        assert kept.get(name) == b"a print"

    def test_a_store_of_objects_that_does_not_answer(self) -> None:
        kept = Originals("memory://down", Keys([ONE]), gallery="g")
        name = kept.put(b"a print")
        kept._place._fs = _Down()  # type: ignore[attr-defined]
        calls: list[Callable[[], Any]] = [
            partial(kept.put, b"other"),
            partial(kept.get, name),
            partial(kept.has, name),
            partial(kept.delete, name),
            lambda: list(kept.names()),
        ]
        for call in calls:
            with pytest.raises(StorageUnavailable, match="does not answer") as raised:
                call()
            assert "secret" not in str(raised.value)


class _Down:
    """A file system whose server is away, and whose errors quote a key."""

    def __getattr__(self, name: str) -> Any:
        def fail(*_: object, **__: object) -> None:
            raise ConnectionError("no route to host?key=secret")

        return fail


# ---- beside a store


def referring(store: Store, originals: Originals, *files: bytes, subject: str = "s") -> NewEncounter:
    """Enrol an encounter of these files, as a node does."""
    new = an_encounter(subject, tuple(a_print(i + 1) for i in range(len(files))))
    given_ = [PrintInput(image=data) for data in files]
    with module.kept_with(new, given_, originals, store.originals) as whole:
        store.enroll(whole)
    return new


class TestBesideAStore:
    def test_prints_name_their_files(self, store: Store, originals: Originals) -> None:
        new = referring(store, originals, b"one", b"two")
        names = [one.original for one in store.encounter(new.encounter_id).prints]
        assert [originals.get(name or b"") for name in names] == [b"one", b"two"]
        assert survey(originals, store.originals) == Survey(2, (), ())

    def test_a_deletion_spares_what_another_print_came_from(self, store: Store, originals: Originals) -> None:
        first = referring(store, originals, b"both", b"one")
        second = referring(store, originals, b"both", b"two")
        for encounter, left in ((first, {b"both", b"two"}), (second, set())):
            store.delete(encounter.encounter_id)
            originals.erase_waiting(store.originals)
            assert {originals.get(name) for name in originals.names()} == left
        assert store.originals.waiting() == []

    def test_one_file_twice_in_an_encounter(self, store: Store, originals: Originals) -> None:
        new = referring(store, originals, b"same", b"same")
        assert len(list(originals.names())) == 1
        store.delete(new.encounter_id)
        originals.erase_waiting(store.originals)
        assert list(originals.names()) == []

    def test_killed_between_the_deletion_and_the_file(self, store: Store, originals: Originals) -> None:
        new = referring(store, originals, b"one")
        store.delete(new.encounter_id)
        assert survey(originals, store.originals).strays == tuple(originals.names())
        originals.erase_waiting(store.originals)  # as the next start does
        assert survey(originals, store.originals) == Survey(0, (), ())

    def test_enrolled_again_before_the_file_is_erased(self, store: Store, originals: Originals) -> None:
        store.delete(referring(store, originals, b"one").encounter_id)
        referring(store, originals, b"one")
        originals.erase_waiting(store.originals)
        assert survey(originals, store.originals) == Survey(1, (), ())
        assert store.originals.waiting() == []

    def test_one_that_is_to_go_is_spared_for_a_print_alone(self, store: Store, originals: Originals) -> None:
        store.delete(referring(store, originals, b"one").encounter_id)
        (name,) = store.originals.waiting()
        assert not store.originals.spare(name)
        assert store.originals.waiting() == [name]
        referring(store, originals, b"one")
        assert store.originals.spare(name)
        assert store.originals.waiting() == []

    def test_a_file_that_is_being_enrolled_is_not_erased(self, store: Store, originals: Originals) -> None:
        new = an_encounter()
        with module.kept_with(new, [PrintInput(image=b"one")], originals, store.originals) as whole:
            other = referring(store, originals, b"one", subject="other")
            store.delete(other.encounter_id)
            originals.erase_waiting(store.originals)
            store.enroll(whole)
        originals.erase_waiting(store.originals)
        assert survey(originals, store.originals) == Survey(1, (), ())

    def test_enrolments_and_deletions_of_one_file_side_by_side(
        self, file_store: Store, tmp_path: Path
    ) -> None:
        kept = Originals(str(tmp_path / "o"), Keys([ONE]), gallery="g")

        def come_and_go(subject: str) -> None:
            for _ in range(15):
                new = referring(file_store, kept, b"shared", subject=subject)
                (row,) = file_store.encounter(new.encounter_id).prints
                assert kept.get(row.original or b"") == b"shared"
                file_store.delete(new.encounter_id)
                kept.erase_waiting(file_store.originals)

        threads = [threading.Thread(target=come_and_go, args=(f"s{n}",)) for n in range(3)]
        failures: list[object] = []
        hook, threading.excepthook = threading.excepthook, lambda args: failures.append(args.exc_value)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        threading.excepthook = hook
        assert failures == []
        kept.erase_waiting(file_store.originals)
        assert survey(kept, file_store.originals) == Survey(0, (), ())

    def test_an_enrolment_that_is_refused(self, store: Store, originals: Originals) -> None:
        new = referring(store, originals, b"one")
        two = [PrintInput(image=b"two")]
        with (
            pytest.raises(EncounterExists),
            module.kept_with(new, two, originals, store.originals) as whole,
        ):
            store.enroll(whole)
        assert survey(originals, store.originals) == Survey(1, (), ())

    @pytest.mark.parametrize("end", [KeyboardInterrupt(), StorageUnavailable("away", remedy="wait")])
    def test_an_enrolment_whose_end_is_open(
        self, store: Store, originals: Originals, end: BaseException
    ) -> None:
        two = [PrintInput(image=b"two")]
        with pytest.raises(type(end)), module.kept_with(an_encounter(), two, originals, store.originals):
            raise end
        (stray,) = survey(originals, store.originals).strays
        assert originals.get(stray) == b"two"

    def test_what_a_check_names(self, store: Store, originals: Originals, url: str) -> None:
        referring(store, originals, b"sound", b"missing", b"damaged")
        missing, damaged = (Keys([ONE]).name(data) for data in (b"missing", b"damaged"))
        originals.delete(missing)
        overwrite(url, damaged, lambda data: data[:40])
        stray = originals.put(b"stray")
        found = survey(originals, store.originals)
        assert (found.sound, found.strays) == (1, (stray,))
        reasons = {flaw.name: (flaw.reason, flaw.row) for flaw in found.flaws}
        assert reasons == {missing: ("ORIGINAL_MISSING", 2), damaged: ("ORIGINAL_CORRUPT", 3)}
        quick = survey(originals, store.originals, read=False)
        assert [(flaw.name, flaw.reason) for flaw in quick.flaws] == [(missing, "ORIGINAL_MISSING")]


# ---- at a node


@pytest.fixture
def node(tmp_path: Path, url: str) -> Iterator[Node]:
    with Node(tmp_path / "gallery", create=True, originals=partial(opened, url)) as node:
        yield node


def opened(url: str, gallery: str) -> Originals:
    return Originals(url, Keys([ONE]), gallery=gallery)


class TestAtANode:
    def test_files_are_kept_as_they_came(self, node: Node) -> None:
        files = (image_of(1), image_of(2, code=Finger.LEFT_THUMB))
        done = node.enroll(Enrollment((*files, *a_person(3).prints), subject_id="s"))
        assert isinstance(done, Enrolled)
        prints = node.encounter(done.encounter_id).prints
        assert node._originals is not None
        kept = [one.original and node._originals.get(one.original) for one in prints]
        assert kept == [picture(1), picture(2), None], "a template has no original"
        node.delete(done.encounter_id)
        assert list(node._originals.names()) == []

    def test_what_the_caller_said_of_the_resolution_is_kept(self, node: Node) -> None:
        done = node.enroll(Enrollment((PrintInput(image=picture(1), ppi=500.0),)))
        assert isinstance(done, Enrolled)
        assert node.encounter(done.encounter_id).prints[0].original_ppi == 500.0

    def test_a_place_that_fails(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        done = node.enroll(Enrollment((image_of(1),), subject_id="s"))
        assert isinstance(done, Enrolled)

        def away(*_: object) -> None:
            raise StorageUnavailable("away", remedy="wait")

        assert node._originals is not None
        with monkeypatch.context() as patch:
            patch.setattr(node._originals._place, "write", away)
            patch.setattr(node._originals._place, "erase", away)
            with pytest.raises(StorageError):
                node.enroll(Enrollment((image_of(2),), subject_id="other"))
            assert node.describe().subjects == 1
            node.delete(done.encounter_id)  # the person is gone from the gallery all the same
        assert node.describe().subjects == 0
        assert len(list(node._originals.names())) == 1
        again = node.enroll(a_person(5))
        assert isinstance(again, Enrolled)
        node.delete(again.encounter_id)
        assert list(node._originals.names()) == [], "the next deletion did not make it good"
