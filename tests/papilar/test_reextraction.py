"""Re-extraction: a gallery gets its next generation while it is searched, and is whole when it is killed."""

import errno
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import reextractions as programs
from forked import forks
from nodes import image_of, record, seen_again
from postgresql import Server
from reextractions import FEWER, MINUTIAE, enrol, former, minutiae, old_gallery, opened, present, reextract

import papilar.reextraction as module
from enroll.pipeline import EXTRACTOR
from matcher.gallery import Gallery
from papilar.archive.workers import Readers
from papilar.encryption import Keys
from papilar.errors import OriginalKeyUnknown, StorageFull
from papilar.node import Node
from papilar.originals import Originals
from papilar.prints import read_prints
from papilar.reextraction import Job, Reextraction, Report, State
from papilar.requests import Enrolled, Enrollment, PrintInput
from papilar.store.anew import Anew, AnewRows

SEEDS = range(6)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "gallery"


@pytest.fixture
def url(tmp_path: Path) -> str:
    return str(tmp_path / "originals")


@pytest.fixture
def node(folder: Path, url: str) -> Iterator[Node]:
    """A node on a gallery of the former extractor."""
    old_gallery(folder, url, *SEEDS)
    with opening(folder, url) as node:
        yield node


def opening(folder: Path, url: str) -> Node:
    return Node(folder, read=present, originals=partial(opened, url))


def created(node: Node) -> str:
    return f"{node._store.gallery.created:%Y%m%d%H%M%S%f}"


def found(node: Node, seed: int) -> list[str]:
    return [c.subject for c in node.identify([seen_again(seed)], mirrored=False).candidates if c.score > 3]


def everybody_is_found(node: Node, seeds: Any = SEEDS) -> bool:
    return all(found(node, seed) == [f"s{seed}"] for seed in seeds)


class TestTheWhole:
    def test_every_print_is_of_the_present_extractor(self, node: Node, folder: Path, url: str) -> None:
        assert set(minutiae(node).values()) == {FEWER}
        report = reextract(node)
        assert report == Report(State.DONE, EXTRACTOR, prints=6, done=6)
        assert minutiae(node) == {f"s{seed}": MINUTIAE for seed in SEEDS}
        assert node.describe().facts["extractor"] == EXTRACTOR
        assert everybody_is_found(node)
        prepared = {len(one.every.minutia) for one in map(node._gallery.prepared, range(1, 7)) if one}
        assert min(prepared) > FEWER, "the old templates are searched"
        assert [path.name for path in folder.glob("segments*")] == ["segments.1"]
        node.close()
        with opening(folder, url) as again:
            assert everybody_is_found(again)
            assert set(minutiae(again).values()) == {MINUTIAE}
            assert reextract(again).done == 6
            assert [path.name for path in folder.glob("segments*")] == ["segments.2"]

    def test_in_postgresql(self, folder: Path, url: str, postgresql: Server) -> None:
        place = postgresql.new_place()
        old_gallery(folder, url, *SEEDS, store=place)
        (folder / "segments.9").mkdir()  # of another store in this folder
        with Node(folder, store=place, read=present, originals=partial(opened, url)) as node:
            assert reextract(node) == Report(State.DONE, EXTRACTOR, prints=6, done=6)
            assert minutiae(node) == {f"s{seed}": MINUTIAE for seed in SEEDS}
            assert everybody_is_found(node)
            for seed in SEEDS:
                node.delete(node._store.encounters_of(f"s{seed}")[0].encounter_id)
            assert node._originals is not None
            assert list(node._originals.names()) == []
        assert sorted(path.suffix for path in folder.glob("segments*")) == [".1", ".9"]

    def test_the_log_says_what_an_old_gallery_needs(
        self, folder: Path, url: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        old_gallery(folder, url, 1)
        for told in (True, False):
            caplog.clear()
            with opening(folder, url) as node:
                assert ("papilar reextract" in caplog.text) is told
                reextract(node)

    def test_what_is_enrolled_and_deleted_meanwhile(
        self, node: Node, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Between any two steps of it somebody comes and somebody goes."""
        monkeypatch.setattr(module, "_BATCH", 1)
        coming = iter(range(100, 200))
        here: dict[int, str] = {}

        def change() -> None:
            seed = next(coming)
            here[seed] = enrol(node, seed).encounter_id
            if seed % 3 == 0:
                node.delete(here.pop(seed - 1))
            if seed == 101:
                (first,) = node._store.encounters_of("s0")
                node.delete(first.encounter_id)

        for where, name in (
            (AnewRows, "sources"),
            (AnewRows, "write"),
            (Gallery, "seal"),
            (Gallery, "compact"),
        ):
            monkeypatch.setattr(where, name, _after(getattr(where, name), change))
        run = node.reextraction(present, threads=1)
        report = run.run()
        monkeypatch.undo()
        assert report.state is State.DONE
        assert len(here) > 5
        assert set(minutiae(node)) == {*(f"s{seed}" for seed in here), *(f"s{seed}" for seed in SEEDS[1:])}
        assert set(minutiae(node).values()) == {MINUTIAE}
        assert everybody_is_found(node, [*here, *SEEDS[1:]])
        assert found(node, 0) == []
        assert node._gallery.rows.tolist() == node._store.live_rows().tolist()

    def test_searches_go_on_and_always_find(self, node: Node) -> None:
        ended, lost, asked = threading.Event(), [], []

        def ask() -> None:
            while not ended.is_set():
                for seed in SEEDS:
                    names = found(node, seed)
                    asked.append(seed)
                    if names != [f"s{seed}"]:
                        lost.append((seed, names))

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(4):
                assert reextract(node).state is State.DONE
        finally:
            ended.set()
            for thread in threads:
                thread.join()
        assert lost == []
        assert len(asked) > 10

    def test_real_extraction_in_processes(self, folder: Path, url: str, reading: Readers) -> None:
        with Node(folder, create=True, originals=partial(opened, url)) as node:
            done = node.enroll(Enrollment((image_of(1), image_of(2)), subject_id="s"))
            assert isinstance(done, Enrolled)
            before = [one.template for one in node.encounter(done.encounter_id).prints]
            report = node.reextraction(reading.read_prints, threads=1).run()
            assert (report.done, report.failed) == (2, {})
            assert [one.template for one in node.encounter(done.encounter_id).prints] == before

    def test_a_gallery_that_kept_images_alone(self, folder: Path) -> None:
        with Node(folder, create=True) as node:
            done = node.enroll(Enrollment((image_of(1), PrintInput(template=record(2)))))
            assert isinstance(done, Enrolled)
            before = [one.template for one in node.encounter(done.encounter_id).prints]
            report = node.reextraction(read_prints, threads=1).run()
            assert (report.done, report.failed) == (1, {"NO_ORIGINAL": 1})
            assert [one.template for one in node.encounter(done.encounter_id).prints] == before


def _after(call: Any, then: Any) -> Any:
    inside = threading.local()

    def wrapped(*given: Any, **named: Any) -> Any:
        result = call(*given, **named)
        if not getattr(inside, "busy", False) and threading.current_thread() is threading.main_thread():
            inside.busy = True
            then()
            inside.busy = False
        return result

    return wrapped


class TestFailures:
    def test_prints_that_fail_keep_their_templates(self, folder: Path, url: str) -> None:
        with Node(folder, create=True, read=former, originals=partial(opened, url)) as node:
            enrol(node, 1)
            enrol(node, 2, broken=True)
            enrol(node, 3)
            (third,) = node._store.encounters_of("s3")
            assert node._originals is not None
            node._originals.delete(third.prints[0].original or b"")
            report = reextract(node)
            assert report.failed == {"IMAGE_TRUNCATED": 1, "ORIGINAL_MISSING": 1}
            assert minutiae(node) == {"s1": MINUTIAE, "s2": FEWER, "s3": FEWER}
            assert everybody_is_found(node, [1, 2, 3])
            rows = [(row, ordinal, reason) for row, _, ordinal, reason in node._store.anew.failures(10)]
            assert rows == [(2, 0, "IMAGE_TRUNCATED"), (3, 0, "ORIGINAL_MISSING")]
            node._originals.put(record(3, n=MINUTIAE))
            assert reextract(node).failed == {"IMAGE_TRUNCATED": 1}

    def test_where_nothing_can_be_extracted_nothing_changes(self, node: Node) -> None:
        assert node._originals is not None
        for name in list(node._originals.names()):
            node._originals.delete(name)
        report = reextract(node)
        assert (report.done, report.failed) == (0, {"ORIGINAL_MISSING": 6})
        assert node._store.gallery.generation == 0
        assert node.describe().facts["extractor"] == "former"

    def test_a_wrong_key_ends_it(self, node: Node, url: str) -> None:
        node._originals = Originals(url, Keys([bytes([1] * 32)]), gallery=created(node))
        with pytest.raises(OriginalKeyUnknown):
            reextract(node)
        assert (set(minutiae(node).values()), everybody_is_found(node)) == ({FEWER}, True)

    def test_a_full_disk_under_the_segments(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        def full(*_: object, **__: object) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr("matcher.gallery.write_segment", full)
            with pytest.raises(OSError, match="No space left"):
                reextract(node)
        assert (set(minutiae(node).values()), everybody_is_found(node)) == ({FEWER}, True)
        assert reextract(node).state is State.DONE

    def test_a_full_disk_under_the_store(self, node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module, "_BATCH", 1)
        written: list[Any] = []

        def full(*given: Any) -> None:
            if len(written) == 2:
                raise StorageFull("full", remedy="make room")
            written.append(given)
            write(*given)

        write = AnewRows.write
        with monkeypatch.context() as patch:
            patch.setattr(AnewRows, "write", full)
            with pytest.raises(StorageFull):
                reextract(node, threads=1)
        assert (set(minutiae(node).values()), everybody_is_found(node)) == ({FEWER}, True)
        read: list[Any] = []
        report = node.reextraction(_counting(read), threads=1).run()
        assert (report.done, len(read)) == (6, 4), "what was extracted was extracted again"

    def test_another_extractor_begins_anew(self, node: Node) -> None:
        node._store.anew.write(
            node._store.anew.begin("abandoned"), "abandoned", [Anew(1, "", 1, 1, b"nonsense")]
        )
        assert reextract(node).done == 6
        assert set(minutiae(node).values()) == {MINUTIAE}


def _counting(read: list[Any]) -> Any:
    def reading(prints: Any, **more: Any) -> Any:
        read.extend(prints)
        return present(prints, **more)

    return reading


class TestKilled:
    @pytest.mark.parametrize(
        ("point", "times"),
        [
            ("write", 4),
            ("before the switch", 1),
            ("after the switch", 1),
            ("settle", 2),
            *(
                pytest.param(*point, marks=pytest.mark.soak)
                for point in (
                    ("begin", 1),
                    ("write", 1),
                    ("build", 1),
                    ("build", 5),
                    ("seal", 1),
                    ("seal", 2),
                    ("adopted", 1),
                    ("old segments", 2),
                    ("settle", 4),
                )
            ),
        ],
    )
    def test_either_the_old_or_the_new_is_whole(self, folder: Path, url: str, point: str, times: int) -> None:
        old_gallery(folder, url, *SEEDS)
        run = forks().Process(target=programs.run_until_killed, args=(folder, url, point, times))
        run.start()
        run.join(60)
        assert run.exitcode == -signal.SIGKILL
        new = point in ("after the switch", "adopted", "old segments", "settle")
        with opening(folder, url) as node:
            assert minutiae(node) == {f"s{seed}": MINUTIAE if new else FEWER for seed in SEEDS}
            assert everybody_is_found(node)
            assert len(list(folder.glob("segments*"))) == 1
            assert reextract(node).done == 6
            assert minutiae(node) == {f"s{seed}": MINUTIAE for seed in SEEDS}
            assert everybody_is_found(node)


class TestJob:
    def test_in_a_thread_of_its_own(self, node: Node) -> None:
        job = Job(_making(node, present))
        assert job.report == Report()
        assert job.start(2).state is not State.NONE
        assert until(job, State.DONE).done == 6
        assert set(minutiae(node).values()) == {MINUTIAE}
        job.start(1)
        assert until(job, State.DONE).done == 6
        job.close()

    def test_one_at_a_time_and_stopped_with_the_node(self, node: Node) -> None:
        going = threading.Event()

        def slow(prints: Any, **more: Any) -> Any:
            going.wait(20)
            return present(prints, **more)

        job = Job(_making(node, slow))
        first = job.start(1)
        assert first.state is State.EXTRACTING
        thread = job._thread
        job.start(1)
        assert job._thread is thread
        threading.Timer(0.1, going.set).start()
        job.close()
        assert job.report.state is State.STOPPED
        assert set(minutiae(node).values()) == {FEWER}
        assert job.start(1).state is State.STOPPED, "it is closed"

    def test_an_error_ends_it_and_is_told(self, node: Node, url: str) -> None:
        node._originals = Originals(url, Keys([bytes([1] * 32)]), gallery=created(node))
        job = Job(_making(node, present))
        job.start(1)
        assert until(job, State.FAILED).error == "ORIGINAL_KEY_UNKNOWN"
        job.close()


def _making(node: Node, read: Any) -> Any:
    @contextmanager
    def make(threads: int) -> Iterator[Reextraction]:
        yield node.reextraction(read, threads=threads)

    return make


def until(job: Job, state: State) -> Report:
    for _ in range(400):
        if job.report.state is state:
            return job.report
        time.sleep(0.05)
    raise AssertionError(job.report)
