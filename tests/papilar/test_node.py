"""A node and its files: what survives kill -9, a stop, a full disk, damage; what is erased; who opens it."""

import json
import random
import resource
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest
from nodes import (
    NodeProcess,
    a_person,
    best_of,
    enrolled_as,
    image_of,
    message_of,
    record,
    search_for,
    seen_again,
    white,
)
from stores import set_pragma, tamper

from matcher.codecs import decode
from matcher.compare import prepare
from matcher.errors import GalleryTooNew, PapilarError
from matcher.template import Finger
from papilar.api.v1 import enrollment_pb2, matching_pb2
from papilar.client import NodeClient
from papilar.errors import (
    DeadlinePassed,
    EncounterUnknown,
    GalleryLocked,
    GalleryUnknown,
    NodeUnreachable,
    StorageError,
    StorageUnavailable,
)
from papilar.node import Node
from papilar.requests import Enrolled, Enrollment, PrintInput, Rejected

THUMB, INDEX = Finger.RIGHT_THUMB, Finger.RIGHT_INDEX


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "gallery"


def put(node: Node, *seeds: int, subject: str = "s") -> Enrolled:
    done = node.enroll(a_person(*seeds, subject=subject))
    assert isinstance(done, Enrolled)
    return done


def names(node: Node, seed: int) -> list[str]:
    """Whom a search for a finger names, with evidence for it."""
    return [c.subject for c in node.identify([seen_again(seed)]).candidates if c.score > 3]


def on_disk(folder: Path) -> bytes:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return b"".join(path.read_bytes() for path in files)


class TestOpening:
    def test_what_was_enrolled_is_there_again(self, folder: Path) -> None:
        with Node(folder, create=True) as node:
            put(node, 1, subject="one")
        with Node(folder) as node:
            assert names(node, 1) == ["one"]
            put(node, 2, subject="two")
            assert names(node, 2) == ["two"]
        with Node(folder) as node:
            assert [names(node, seed) for seed in (1, 2)] == [["one"], ["two"]]

    def test_no_gallery_and_another_name(self, folder: Path) -> None:
        with pytest.raises(GalleryUnknown, match="holds no gallery"):
            Node(folder)
        assert not folder.exists()
        Node(folder, create=True, name="hn").close()
        with pytest.raises(GalleryUnknown, match="hn, not sv"):
            Node(folder, name="sv")

    def test_a_second_node_on_the_same_gallery(self, folder: Path) -> None:
        with Node(folder, create=True) as node:
            put(node, 1)
            with pytest.raises(GalleryLocked, match="works on the gallery"):
                Node(folder)
            assert names(node, 1) == ["s"]
        Node(folder).close()

    @pytest.mark.parametrize("newer", ["store", "manifest"])
    def test_a_gallery_of_a_newer_version(self, folder: Path, newer: str) -> None:
        with Node(folder, create=True) as node:
            put(node, 1)
        if newer == "store":
            tamper(folder, "UPDATE meta SET value = '99' WHERE key = 'schema_version'")
        else:
            manifest = folder / "segments" / "manifest.json"
            manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"version": 99}))
        for _ in range(2):  # the lock was given back
            with pytest.raises(GalleryTooNew, match="99"):
                Node(folder)

    def test_segments_that_are_damaged_or_gone_are_made_again(self, folder: Path) -> None:
        with Node(folder, create=True) as node:
            for seed in range(4):
                put(node, seed, subject=f"s{seed}")
        for damage in (_flip, Path.unlink):
            for segment in list((folder / "segments").glob("segment-*")):
                damage(segment)
            with Node(folder) as node:
                assert [names(node, seed) for seed in range(4)] == [[f"s{seed}"] for seed in range(4)]

    def test_a_node_that_is_closed(self, folder: Path) -> None:
        node = Node(folder, create=True)
        put(node, 1)
        node.close()
        with Node(folder) as other:
            put(other, 2, subject="two")
            other._gallery.seal()
            before = sorted((folder / "segments").iterdir())
            node.close()
            assert sorted((folder / "segments").iterdir()) == before, "they are the other node's"
        with pytest.raises(StorageUnavailable, match="closed"):
            put(node, 2)


def _flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)


class TestChanges:
    def test_a_rejection_keeps_nothing(self, folder: Path) -> None:
        with Node(folder, create=True) as node:
            outcome = node.enroll(Enrollment((PrintInput(image=white()),)))
            assert isinstance(outcome, Rejected)
            assert outcome.prints[0].reasons
            assert node.describe().prints == 0

    def test_images_are_kept_only_where_asked_for(self, folder: Path) -> None:
        with Node(folder, create=True, keep_images=False) as node:
            done = node.enroll(Enrollment((image_of(1),)))
            assert isinstance(done, Enrolled)
            (kept,) = node.encounter(done.encounter_id, images=True).prints
            assert kept.image is None
            assert kept.source_sha256 is not None
            assert not node.describe().keeps_images

    @pytest.mark.parametrize("restart", [False, True])
    def test_what_is_deleted_is_erased_from_the_disk(self, folder: Path, restart: bool) -> None:
        node = Node(folder, create=True)
        secret, kept = put(node, 1, 2, subject="subject-to-forget"), put(node, 3, subject="subject-to-keep")
        assert _traces(folder, 1), "it is there to begin with"
        if restart:
            node.close()
            node = Node(folder)
        assert names(node, 1) == ["subject-to-forget"]
        deleted = node.delete(secret.encounter_id)
        assert (deleted.prints, deleted.subject_deleted) == (2, True)
        assert names(node, 1) == names(node, 2) == []
        assert names(node, 3) == ["subject-to-keep"]
        node.close()
        everything = on_disk(folder)
        assert not any(_traces(folder, seed) for seed in (1, 2))
        assert b"subject-to-forget" not in everything
        assert secret.encounter_id.encode() not in everything
        assert _traces(folder, 3)
        assert kept.encounter_id.encode() in everything
        with Node(folder) as node:
            assert names(node, 1) == []
            with pytest.raises(EncounterUnknown):
                node.encounter(secret.encounter_id)

    def test_one_encounter_of_a_subject(self, folder: Path) -> None:
        with Node(folder, create=True) as node:
            first, _ = put(node, 1), put(node, 2)
            assert not node.delete(first.encounter_id).subject_deleted
            assert (names(node, 1), names(node, 2)) == ([], ["s"])

    def test_a_deadline_that_passed_between_two_prints(self, folder: Path) -> None:
        with Node(folder, create=True) as node, pytest.raises(DeadlinePassed, match="0 of 2 prints"):
            node.identify([image_of(1), image_of(1)], deadline=time.monotonic())

    def test_the_live_rows_are_sealed_when_there_are_many(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("papilar.node.SEAL_AFTER", 3)
        with Node(folder, create=True) as node:
            for seed in range(7):
                put(node, seed, subject=f"s{seed}")
            until = time.monotonic() + 20
            while node._gallery.live_rows >= 3 and time.monotonic() < until:
                time.sleep(0.01)
            assert node._gallery.live_rows < 3
            assert list((folder / "segments").glob("segment-*"))
            assert [names(node, seed) for seed in range(7)] == [[f"s{seed}"] for seed in range(7)]


def _traces(folder: Path, seed: int) -> list[str]:
    """Where a finger's minutiae stand in the files: as its template, as a segment's arrays."""
    everything, template = on_disk(folder), decode(record(seed))[0]
    prepared = prepare(template)
    pieces = {
        "template": record(seed),
        "places": template.xy.tobytes(),
        "pose": prepared.pose.tobytes(),
        "cylinder": prepared.every.bits[0].tobytes(),
    }
    return [name for name, piece in pieces.items() if piece in everything]


class TestFullDisk:
    def test_segments_that_can_not_be_written(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with Node(folder, create=True) as node:
            put(node, 1, subject="one")
            monkeypatch.setattr("matcher.gallery.write_segment", full)
        monkeypatch.undo()
        assert not list((folder / "segments").glob("segment-*"))
        with Node(folder) as node:
            assert names(node, 1) == ["one"]

    def test_a_store_that_can_not_grow(self, folder: Path) -> None:
        with Node(folder, create=True) as node:
            put(node, 1, subject="one")
            set_pragma(node._store, "max_page_count=1")
            with pytest.raises(StorageError, match="full"):
                node.enroll(Enrollment((image_of(1),), subject_id="late"))
            assert (node.describe().subjects, names(node, 1)) == (1, ["one"])
        with Node(folder) as node:
            assert (node.describe().subjects, names(node, 1)) == (1, ["one"])

    def test_a_process_that_may_write_no_more(self, folder: Path, tmp_path: Path) -> None:
        with NodeProcess(folder, tmp_path / "log") as node, NodeClient(node.address) as client:
            client.enroll(a_person(1, subject="one"))
            unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
            resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            request_id = str(uuid.uuid4())
            with pytest.raises(StorageError):
                client.enroll(a_person(2, subject="two"), request_id=request_id)
            assert best_of(client.identify(search_for(seen_again(1)))) == "one"
            assert best_of(client.identify(search_for(seen_again(2)))) == ""
            resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, unlimited)
            client.enroll(a_person(2, subject="two"), request_id=request_id)
            assert best_of(client.identify(search_for(seen_again(2)))) == "two"
            resource.prlimit(node.process.pid, resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
            assert node.stop() == 0, "segments are not written, and need not be"
        with Node(folder) as again:
            assert [names(again, seed) for seed in (1, 2)] == [["one"], ["two"]]


# ---- kill -9


class Acknowledged:
    """What clients were told: whom they enrolled, whom they deleted, and what they have no answer for."""

    def __init__(self) -> None:
        self.there: dict[int, str] = {}
        self.gone: dict[int, str] = {}
        self.asked: dict[int, str] = {}
        self._seeds = iter(range(10_000))
        self._lock = threading.Lock()

    def seed(self) -> int:
        with self._lock:
            return next(self._seeds)


def person(seed: int) -> Enrollment:
    """A person of two fingers."""
    thumb, index = enrolled_as(2 * seed, THUMB), enrolled_as(2 * seed + 1, INDEX)
    return Enrollment((thumb, index), subject_id=f"s{seed}")


def _enrol_until_it_dies(address: str, told: Acknowledged) -> None:
    with NodeClient(address, timeout=20) as client:
        while True:
            seed = told.seed()
            told.asked[seed] = str(uuid.uuid4())
            try:
                encounter = client.enroll(person(seed), request_id=told.asked[seed]).enrolled.encounter_id
                told.there[seed] = encounter
                if seed % 4 == 3:
                    told.gone[seed] = told.there.pop(seed)
                    client.delete(encounter)
            except NodeUnreachable:
                return


def _check(client: NodeClient, told: Acknowledged, chance: random.Random) -> None:
    """See that all that was acknowledged is whole, and nothing else is half."""
    for seed, encounter in told.there.items():
        shown = client.encounter(enrollment_pb2.GetEncounterRequest(encounter_id=encounter))
        assert (shown.subject_id, len(shown.prints)) == (f"s{seed}", 2)
    latest = list(told.there)[-4:]
    for seed in [*latest, *chance.sample(sorted(told.there), 4)]:
        probe = seen_again(2 * seed + 1, INDEX)
        assert best_of(client.identify(search_for(probe))) == f"s{seed}"
        request = matching_pb2.VerifyRequest(
            probe=message_of(seen_again(2 * seed, THUMB)), subject_id=f"s{seed}"
        )
        assert client.verify(request).reached
    gallery = client.gallery()
    assert gallery.prints == 2 * gallery.encounters == 2 * gallery.subjects
    assert len(told.there) <= gallery.subjects <= len(told.asked)


def _settle(client: NodeClient, told: Acknowledged) -> None:
    """Ask again for what had no answer; then no doubt is left."""
    for seed in told.asked.keys() - told.there.keys() - told.gone.keys():
        told.there[seed] = client.enroll(person(seed), request_id=told.asked[seed]).enrolled.encounter_id
    for seed, encounter in told.gone.items():
        try:
            client.delete(encounter)
        except EncounterUnknown:
            assert best_of(client.identify(search_for(seen_again(2 * seed, THUMB)))) == ""
    assert client.gallery().subjects == len(told.there)


def test_what_was_acknowledged_survives_kill_9(folder: Path, tmp_path: Path, target: Path | str) -> None:
    store = target if isinstance(target, str) else ""
    chance, told, log = random.Random(4), Acknowledged(), tmp_path / "log"  # noqa: S311
    with ExitStack() as nodes:
        node = nodes.enter_context(NodeProcess(folder, log, store))
        for _ in range(2 if store else 4):
            with ThreadPoolExecutor(3) as pool:
                before = len(told.there)
                calls = [pool.submit(_enrol_until_it_dies, node.address, told) for _ in range(3)]
                while len(told.there) < before + 8:
                    time.sleep(0.005)
                time.sleep(chance.uniform(0, 0.2))
                node.kill()
                for call in calls:
                    call.result()
            node = nodes.enter_context(NodeProcess(folder, log, store))
            with NodeClient(node.address) as client:
                _check(client, told, chance)
                _settle(client, told)
                told.gone.clear()
                told.asked = dict.fromkeys(told.there, "")
        assert node.stop() == 0


# ---- a clean stop, and the log


def test_a_stop_lets_the_calls_under_way_end_and_seals_the_gallery(folder: Path, tmp_path: Path) -> None:
    log, secret = tmp_path / "log", "subject-7d1f"
    with NodeProcess(folder, log) as node, NodeClient(node.address) as client:
        done = client.enroll(Enrollment((image_of(1, code=THUMB),), subject_id=secret)).enrolled
        client.enroll(a_person(5, subject="subject-77aa"))
        for call in (
            lambda: client.verify(
                matching_pb2.VerifyRequest(
                    probe=message_of(PrintInput(image=white())), subject_id=secret + "x"
                )
            ),
            lambda: client.enroll(a_person(6, subject=secret + "\n")),
            lambda: client.enroll(a_person(6, subject=secret, encounter_id=done.encounter_id)),
        ):
            with pytest.raises(PapilarError):
                call()
        with ThreadPoolExecutor(1) as pool:
            slow = search_for(*[image_of(1, 1)] * 8)
            under_way = pool.submit(client.identify, slow)
            time.sleep(0.5)
            assert not under_way.done()
            assert node.stop() == 0
            assert best_of(under_way.result(10)) == secret
        with pytest.raises(NodeUnreachable):
            client.gallery()
    _check_log(log.read_text(), secret, done.encounter_id)
    manifest = json.loads((folder / "segments" / "manifest.json").read_text())
    assert len(manifest["segments"]) == 1
    assert not list(folder.glob("*-wal")), "the store is closed"
    with Node(folder) as again:
        assert again._gallery.live_rows == 0
        assert names(again, 5) == ["subject-77aa"]


def _check_log(text: str, *secrets: str) -> None:
    assert "Identify OK" in text
    assert "Enroll ENCOUNTER_EXISTS" in text
    assert "Traceback" not in text
    for secret in (*secrets, "subject-"):
        assert secret not in text, [line for line in text.splitlines() if secret in line][:3]


def test_a_stop_with_nothing_under_way(folder: Path, tmp_path: Path) -> None:
    """It takes no time, and another node can take over at once."""
    with NodeProcess(folder, tmp_path / "log") as node:
        started = time.monotonic()
        assert node.stop() == 0
        assert time.monotonic() - started < 5
        with Node(folder) as other:
            assert other.describe().prints == 0
