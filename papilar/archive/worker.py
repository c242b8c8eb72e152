"""The process that reads prints for `papilar.archive.workers`: one at a time, on one core.

It dies with its parent, which holds the other end of its standard input, even where a decoder never returns:
then by its CPU time.
"""

import os
import resource
import sys
import threading
from contextlib import suppress
from enum import StrEnum
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from enroll.errors import ImageTooLarge
from enroll.gate import QualityGate
from enroll.image import GrayImage, read_image
from enroll.pipeline import extract
from matcher.codecs import decode
from matcher.cylinders import prepare
from matcher.errors import InvalidInput
from papilar.archive.cut import SheetInput, cut_sheet
from papilar.errors import WorkerDied
from papilar.prints import read_print
from papilar.requests import PrintInput

MEBIBYTE = 1 << 20


class Work(StrEnum):
    """What is to be done with a print or a sheet."""

    READ = "READ"
    """All: the answer is its `ReadPrint`."""
    CHECK = "CHECK"
    """Decode it: the answer is the warnings."""
    CUT = "CUT"
    """Cut it, a `SheetInput`: the answer is a `Cut`."""


class Task(NamedTuple):
    """What the parent sends; `seconds` is the CPU time after which the process is of no more use."""

    work: Work
    given: PrintInput | SheetInput
    keep_image: bool
    gate: QualityGate | None
    seconds: int


class Broken(NamedTuple):
    """In place of an answer, after which the process ends: it may hold memory that it cannot give back."""

    error: InvalidInput


def main(descriptor: int, megabytes: int) -> None:
    """Serve a pipe, of which `descriptor` is an end, within so much memory for data."""
    threading.Thread(target=_die_with_parent, daemon=True).start()
    # What is mapped to be written, the network's memory among it; not libraries, nor mere addresses.
    resource.setrlimit(resource.RLIMIT_DATA, (megabytes * MEBIBYTE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core would hold prints
    _warm_up()
    with Connection(descriptor) as pipe, suppress(EOFError, ConnectionResetError, BrokenPipeError):
        pipe.send(None)
        answer: Any = None
        while not isinstance(answer, Broken):
            task: Task = pipe.recv()
            _limit_time(task.seconds)
            answer = _answer(task, megabytes)
            pipe.send(answer)


def _die_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def _limit_time(seconds: int) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + seconds, hard))


def _answer(task: Task, megabytes: int) -> Any:
    try:
        return _done(task)
    except InvalidInput as error:
        return error
    except Exception as error:  # whatever a decoder throws at a hostile file concerns that file alone
        if isinstance(error, MemoryError) or "alloc" in str(error) or "memory" in str(error):
            cause = f"reading it takes more than {megabytes} MiB"
            remedy = "cut the print out of the sheet, or give the workers more memory"
            return Broken(ImageTooLarge(cause, remedy=remedy))
        cause = f"a fault of Papilar while reading it ({type(error).__name__})"
        return Broken(WorkerDied(cause, remedy="keep the file, and report it"))


def _done(task: Task) -> Any:
    match task.work, task.given:
        case Work.CUT, SheetInput() as sheet:
            return cut_sheet(sheet)
        case Work.CHECK, PrintInput() as given:
            return _check(given)
        case Work.READ, PrintInput() as given:
            return read_print(given, keep_image=task.keep_image, gate=task.gate)


def _check(given: PrintInput) -> tuple[str, ...]:
    if given.image is not None:
        return read_image(given.image, ppi=given.ppi).warnings
    decode(given.template or b"")
    return ()


def _warm_up() -> None:
    """Load the network and every compiled kernel, so that no print waits for it."""
    across = np.tile(np.sin(np.arange(256) * (2 * np.pi / 9)) * 100 + 128, (256, 1))
    prepare(extract(GrayImage(across.astype(np.uint8), 500.0, "")).template)
