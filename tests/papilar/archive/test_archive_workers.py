"""Reading in processes of their own: what dies, hangs or swallows memory takes its print with it alone."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from archives import image, record
from cards import four
from nodes import as_png, picture

from enroll.errors import ImageEmpty, ImageTooLarge
from enroll.slap import Hand
from matcher.codecs import NATIVE, encode
from papilar.archive.cut import SheetInput, cut_sheet
from papilar.archive.workers import PrintRead, Readers
from papilar.errors import ImageTooSlow, RequestInvalid, WorkerDied
from papilar.node import Node
from papilar.prints import read_prints
from papilar.requests import Enrolled, Enrollment, PrintInput

PRINT = PrintInput(image=picture(1))
SHEET = PrintInput(image=as_png(np.tile(np.uint8([0, 255]), (1400, 700))))
"""As many pixels as are taken: the network needs some 1.6 GB for it, and seconds."""


@pytest.fixture(scope="module")
def readers() -> Iterator[Readers]:
    with Readers(1) as made:
        yield made


def children() -> set[int]:
    """Processes that this one has started to read prints, and that still run; other tests have theirs."""
    found = [pid for one in Path("/proc/self/task").glob("*/children") for pid in one.read_text().split()]
    return {int(pid) for pid in found if b"papilar.archive" in Path(f"/proc/{pid}/cmdline").read_bytes()}


def within(seconds: float, condition: Callable[[], bool]) -> bool:
    """Wait for a condition."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def test_they_read_what_this_process_reads(readers: Readers) -> None:
    wanted = [PRINT, PrintInput(template=record(3))]
    mine, theirs = read_prints(wanted, keep_images=True), readers.read_prints(wanted, keep_images=True)
    assert [one.assessment for one in theirs] == [one.assessment for one in mine]
    assert [encode(one.template, NATIVE) for one in theirs] == [encode(one.template, NATIVE) for one in mine]
    assert [(one.sha256, one.png, one.warnings) for one in theirs] == [
        (one.sha256, one.png, one.warnings) for one in mine
    ]
    for a, b in zip(theirs, mine, strict=True):
        assert a.prepared.every.bits.tobytes() == b.prepared.every.bits.tobytes()


def test_their_errors_are_those_of_this_process(readers: Readers) -> None:
    with pytest.raises(ImageEmpty) as mine:
        read_prints([PRINT, PrintInput(image=b"")])
    with pytest.raises(ImageEmpty) as theirs:
        readers.read_prints([PRINT, PrintInput(image=b"")])
    assert str(theirs.value) == str(mine.value)
    with pytest.raises(RequestInvalid):
        readers.prepare(PrintInput())


def test_what_was_prepared_is_not_read_again(readers: Readers) -> None:
    ready, warnings = readers.prepare(PRINT)
    assert isinstance(ready, PrintRead)
    assert warnings == ()
    first, second = readers.read_prints([PrintInput(template=record(3)), ready])
    assert (first.assessment.ordinal, second.assessment.ordinal) == (0, 1)
    assert second.template is ready.found.template  # type: ignore[union-attr]


def test_what_another_machine_reads_is_decoded_alone(readers: Readers) -> None:
    grey = PrintInput(image=image(ppi=72), ppi=500)
    ready, (warning,) = readers.check(grey)
    assert ready is grey
    assert "72" in warning
    with pytest.raises(ImageEmpty):
        readers.check(PrintInput(image=b""))


def test_they_cut_what_this_process_cuts(readers: Readers) -> None:
    given = SheetInput(image=as_png(four(Hand.RIGHT)), hand=Hand.RIGHT)
    found = readers.cut(given)
    assert found == cut_sheet(given)
    assert [one.finger for one in found.prints] == [2, 3, 4, 5]
    with pytest.raises(ImageEmpty):
        readers.cut(SheetInput(image=b""))


def test_a_node_takes_them_for_its_own_reading(readers: Readers, tmp_path: Path) -> None:
    with Node(tmp_path / "g", create=True, read=readers.read_prints) as node:
        outcome = node.enroll(Enrollment((readers.prepare(PRINT)[0],), subject_id="ana"))
        assert isinstance(outcome, Enrolled)
        (found,) = node.identify([PRINT]).candidates
        assert found.subject == "ana"


def test_one_that_is_killed_takes_its_print_alone(readers: Readers) -> None:
    readers.check(PRINT)  # so that it runs
    (before,) = children()

    def kill() -> None:
        time.sleep(0.2)
        os.kill(before, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(WorkerDied, match="status -9"):
        readers.prepare(SHEET)
    killer.join()
    assert readers.prepare(PRINT)[0].image == PRINT.image
    assert before not in children()


def test_one_that_takes_too_long_is_replaced() -> None:
    with Readers(1, seconds=0.5) as readers:
        with pytest.raises(ImageTooSlow, match=r"more than 0\.5 s"):
            readers.prepare(SHEET)
        assert readers.prepare(PrintInput(template=record(3)))[1] == ()


def test_one_that_takes_too_much_memory_is_replaced() -> None:
    with Readers(1, megabytes=900) as readers:
        with pytest.raises(ImageTooLarge, match="more than 900 MiB"):
            readers.prepare(SHEET)
        assert readers.prepare(PRINT)[1] == ()


def test_many_threads_share_few(readers: Readers) -> None:
    found: list[int] = []

    def read(seed: int) -> None:
        ready, _ = readers.prepare(PrintInput(template=record(seed, n=20 + seed)))
        found.append(len(ready.found.template) - 20 - seed)  # type: ignore[attr-defined]

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [0] * 8
    assert len(children()) == 1


def test_they_die_with_their_parent_even_at_work(tmp_path: Path) -> None:
    (tmp_path / "sheet").write_bytes(SHEET.image or b"")
    program = (
        "import sys, threading; from pathlib import Path\n"
        "from papilar.archive.workers import Readers\n"
        "from papilar.requests import PrintInput\n"
        "readers = Readers(1); given = PrintInput(image=Path(sys.argv[1]).read_bytes())\n"
        "readers.check(given); print(readers._all[0]._process.pid, flush=True)\n"
        "readers.prepare(given)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", program, tmp_path / "sheet"], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    worker = Path("/proc") / parent.stdout.readline().decode().strip()
    assert worker.exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert within(10, lambda: not worker.exists() or "Z" in (worker / "stat").read_text().split()[2])


def test_closing_leaves_none(readers: Readers) -> None:
    others = children()
    with Readers(1) as more:
        more.check(PRINT)
        assert len(children() - others) == 1
    assert children() == others
