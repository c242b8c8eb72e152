"""Sealing and compacting beside searches and enrolments: nobody waits for it, and a stop does."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults import Told, check, check_files, found

import papilar.node
import papilar.tidying
from matcher import gallery as gallery_module
from papilar.node import Node


class Held:
    """Holds whoever begins to write a segment until it is let go."""

    def __init__(self, write: Callable[..., None]) -> None:
        self._write, self._go = write, threading.Event()
        self.begun = threading.Event()

    def __call__(self, *given: object) -> None:
        self.begun.set()
        assert self._go.wait(200)
        self._write(*given)

    def let_go(self) -> None:
        self._go.set()


@pytest.fixture
def writing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Held]:
    monkeypatch.setattr(papilar.node, "network", lambda: None)
    monkeypatch.setattr(papilar.node, "SEAL_AFTER", 3)
    held = Held(gallery_module.write_segment)
    monkeypatch.setattr(gallery_module, "write_segment", held)
    yield held
    held.let_go()


def closed_gallery(folder: Path, count: int) -> Told:
    """Make a gallery of so many persons, all of them sealed, and leave it closed."""
    told = Told(folder / "told")
    with Node(folder / "gallery", create=True, keep_images=False) as node:
        for number in range(count):
            told.enrol(node, number)
    return told


def wait_until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true() and time.monotonic() < until:
        time.sleep(0.005)
    assert true()


def test_nobody_waits_for_sealing(tmp_path: Path, writing: Held) -> None:
    """All is enrolled, found and deleted while a segment is written; what was meanwhile holds afterwards."""
    told = Told(tmp_path / "told")
    with Node(tmp_path / "gallery", create=True, keep_images=False) as node:
        for number in range(3):
            told.enrol(node, number)
        assert writing.begun.wait(20)
        for number in range(3, 6):
            told.enrol(node, number)
        told.delete(node, 1)
        told.delete(node, 4)
        check(node, told)
        assert node._gallery.live_rows == 6
        writing.let_go()
        wait_until(lambda: node._gallery.live_rows < 3)
        check(node, told)
    with Node(tmp_path / "gallery") as node:
        check(node, told)


def test_a_stop_waits_for_it(tmp_path: Path, writing: Held) -> None:
    node = Node(tmp_path / "gallery", create=True, keep_images=False)
    for number in range(3):
        Told(tmp_path / "told").enrol(node, number)
    assert writing.begun.wait(20)
    closing = threading.Thread(target=node.close)
    closing.start()
    closing.join(0.3)
    assert closing.is_alive()
    writing.let_go()
    closing.join(20)
    with Node(tmp_path / "gallery") as again:
        assert again._gallery.live_rows == 0


def test_what_was_deleted_is_erased_within_the_hour(
    tmp_path: Path, writing: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody enrols; at a start it begins with what was deleted before."""
    writing.let_go()
    told = closed_gallery(tmp_path, 3)
    monkeypatch.setattr(papilar.tidying, "COMPACT_EVERY_S", 0.01)
    with Node(tmp_path / "gallery") as node:
        told.delete(node, 1)
        wait_until(lambda: not node._gallery.hidden_rows)
    check_files(tmp_path / "gallery", told)


def test_damage_is_looked_for(
    tmp_path: Path, writing: Held, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    writing.let_go()
    closed_gallery(tmp_path, 3)
    monkeypatch.setattr(papilar.tidying, "CHECK_EVERY_S", 0.01)
    with Node(tmp_path / "gallery") as node:
        prepared = node._gallery.prepared(2)
        assert prepared is not None
        damage(tmp_path / "gallery" / "segments", prepared.every.bits.tobytes())
        wait_until(lambda: "damaged row 2" in caplog.text)
        wait_until(lambda: node._gallery.live_rows == 1)
        assert [found(node, number) for number in range(3)] == [["s0"], ["s1"], ["s2"]]


def damage(segments: Path, piece: bytes) -> None:
    """Flip a bit in the only segment, in its place: who has it open sees that."""
    (path,) = segments.glob("*.pps")
    with path.open("r+b") as file:
        at = file.read().index(piece)
        file.seek(at)
        file.write(bytes([piece[0] ^ 16]))


def test_a_gallery_that_is_built_anew_is_sealed_as_it_grows(
    tmp_path: Path, writing: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes no more memory than one that is enrolled."""
    writing.let_go()
    told = closed_gallery(tmp_path, 10)
    (tmp_path / "gallery" / "segments" / "manifest.json").unlink()
    most: list[int] = []
    seal = gallery_module.Gallery.seal

    def watched(gallery: gallery_module.Gallery) -> None:
        most.append(gallery.live_rows)
        seal(gallery)

    monkeypatch.setattr(gallery_module.Gallery, "seal", watched)
    with Node(tmp_path / "gallery") as node:
        assert max(most) == 3
        assert len(most) == 3
        check(node, told)
