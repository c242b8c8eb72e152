"""Reading prints in processes of their own: all cores at work, and a poisonous file kills its reader alone.

Each process takes one print at a time (`papilar.archive.worker`). One that dies, or overruns its time, is
replaced, and only the print that it had is given up, with a reason. Processes are started anew rather than
forked: a fork of a process with threads may hold their locks for ever.
"""

import queue
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any, Self

from enroll.gate import QualityGate
from matcher.errors import InvalidInput
from papilar.archive.cut import Cut, SheetInput
from papilar.archive.worker import Broken, Task, Work
from papilar.errors import ImageTooSlow, NodeError, WorkerDied
from papilar.prints import ReadPrint, in_turn
from papilar.requests import PrintInput

SECONDS = 60.0
"""For one print; the largest that is taken needs about 8."""

MEGABYTES = 3072
"""For one process; the network takes 2.1 GB for the largest print."""

_START = 300.0  # seconds; the first start on a machine compiles the kernels
ONE_CORE = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENCV_FOR_THREADS_NUM")
"""What of the environment keeps a process to one core."""


@dataclass(frozen=True, slots=True)
class PrintRead(PrintInput):
    """A print of a request that was read before: what `Readers.read` gave for it goes with it."""

    found: ReadPrint | None = field(default=None, repr=False)


class Readers:
    """Processes that read prints. Any number of threads may use them; each call waits for a free one.

    Parameters
    ----------
    count : int
        How many; one for each core.
    seconds : float
        How long reading one print may take.
    megabytes : int
        How much memory one process may have for data, MiB.
    keep_images : bool
        Whether `prepare` gives images as PNG: as the node that will be asked for them.
    gate : QualityGate, optional
        What `prepare` holds images against: that of this node.

    Raises
    ------
    NodeError
        From any method: a process cannot be started.
    """

    def __init__(
        self,
        count: int,
        *,
        seconds: float = SECONDS,
        megabytes: int = MEGABYTES,
        keep_images: bool = True,
        gate: QualityGate | None = None,
    ) -> None:
        self._seconds = seconds
        self._megabytes = megabytes
        self._keep_images = keep_images
        self._gate = gate
        # The last one back goes first: one starts, which takes seconds, only when all others are at work.
        self._idle: queue.LifoQueue[_Worker] = queue.LifoQueue()
        self._all = [_Worker(megabytes) for _ in range(count)]
        for one in self._all:
            self._idle.put(one)

    def close(self) -> None:
        """End the processes; nobody may be waiting for one."""
        for one in self._all:
            one.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def read_prints(
        self,
        prints: Sequence[PrintInput],
        *,
        keep_images: bool = False,
        deadline: float | None = None,
        gate: QualityGate | None = None,
    ) -> list[ReadPrint]:
        """Read all prints of a request, as `papilar.prints.read_prints`; not again what `prepare` gave.

        Raises
        ------
        RequestInvalid, ImageError, TemplateError, WorkerDied, ImageTooSlow
            The message names the print's index.
        DeadlinePassed
        """

        def read(given: PrintInput) -> ReadPrint:
            found = given.found if isinstance(given, PrintRead) else None
            return found or self._do(Work.READ, given, keep_image=keep_images, gate=gate)

        return in_turn(prints, read, deadline=deadline)

    def prepare(self, given: PrintInput) -> tuple[PrintInput, tuple[str, ...]]:
        """Read one print for a node in this process, whose `read` is `read_prints` of these readers.

        Returns
        -------
        PrintInput, tuple of str
            What to hand the node, and what to know of how the image was read.

        Raises
        ------
        RequestInvalid, ImageError, TemplateError, WorkerDied, ImageTooSlow
        """
        found = self._do(Work.READ, given, keep_image=self._keep_images, gate=self._gate)
        ready = PrintRead(given.finger, given.impression, given.image, given.ppi, given.template, found)
        return ready, found.warnings

    def check(self, given: PrintInput) -> tuple[PrintInput, tuple[str, ...]]:
        """Decode one print that another machine will read; as `prepare`."""
        return given, self._do(Work.CHECK, given)

    def cut(self, given: SheetInput) -> Cut:
        """Cut a picture of several prints.

        Raises
        ------
        ImageError, WorkerDied, ImageTooSlow
        """
        found: Cut = self._do(Work.CUT, given)
        return found

    def _do(
        self,
        work: Work,
        given: PrintInput | SheetInput,
        *,
        keep_image: bool = False,
        gate: QualityGate | None = None,
    ) -> Any:
        task = Task(work, given, keep_image, gate, int(2 * self._seconds) + 1)
        with self._free() as one:
            answer = one.ask(task, self._seconds)
        if isinstance(answer, InvalidInput):
            raise answer
        return answer

    @contextmanager
    def _free(self) -> Iterator["_Worker"]:
        one = self._idle.get()
        try:
            yield one
        finally:
            self._idle.put(one)


class _Worker:
    """One process, started when it is first needed, and its successors; used by one thread at a time."""

    def __init__(self, megabytes: int) -> None:
        self._megabytes = megabytes
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection

    def ask(self, task: Task, seconds: float) -> Any:
        """Return the answer; an error, as a value, where there is none."""
        process = self._process or self._started()
        try:
            self._pipe.send(task)
            if not self._pipe.poll(seconds):
                self.close()
                return _too_slow(seconds)
            answer = self._pipe.recv()
        except (EOFError, OSError):
            with suppress(subprocess.TimeoutExpired):
                process.wait(1)
            self.close()
            return _died(process.returncode)
        if isinstance(answer, Broken):
            self.close()
            return answer.error
        return answer

    def close(self) -> None:
        """End the process, whatever it does; the next question starts another."""
        if self._process is None:
            return
        self._pipe.close()
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    def _started(self) -> "subprocess.Popen[bytes]":
        self._process = process = self._start()
        ready = False
        with suppress(EOFError, OSError):
            ready = self._pipe.poll(_START) and self._pipe.recv() is None
        if not ready:
            self.close()
            raise NodeError(
                "a process that reads prints does not start",
                remedy="see what it wrote above; allow it more memory, or use fewer workers",
            )
        return process

    def _start(self) -> "subprocess.Popen[bytes]":
        self._pipe, theirs = Pipe()
        program = f"from papilar.archive import worker; worker.main({theirs.fileno()}, {self._megabytes})"
        command = ["env", *(f"{name}=1" for name in ONE_CORE), sys.executable, "-c", program]
        try:
            return subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                pass_fds=[theirs.fileno()],
                process_group=0,  # Ctrl-C is the parent's to answer
            )
        except OSError as error:
            self._pipe.close()
            raise NodeError(
                f"no process can be started to read prints ({error.strerror})",
                remedy="see to memory and limits of this machine, or use fewer workers",
            ) from error
        finally:
            theirs.close()


def _too_slow(seconds: float) -> InvalidInput:
    return ImageTooSlow(
        f"reading it took more than {seconds:g} s", remedy="look at the file; allow more time if it is sound"
    )


def _died(status: int | None) -> InvalidInput:
    return WorkerDied(
        f"the process that read it died (status {status})",
        remedy="look at the file; if the machine was short of memory, use fewer workers and run again",
    )
