"""One target for a while, in a process of its own: it may crash, hang or eat memory, and we still stand.

The process is a fork of this one, so that libraries are loaded once. It writes each input into memory that
both hold before it decodes it: what it died of is known whatever killed it.

Time is CPU time. A process that somebody has stopped for an hour (SIGSTOP) has neither hung nor used up its
turn; a decoder that sleeps for ever is found by our own ticks, which count while it is not stopped.
"""

import hashlib
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import atheris

from tests.fuzz.targets import Target

ROOT = Path(__file__).resolve().parents[2]
_NEVER = 1 << 24  # seconds; the library's own limit counts the time that we are stopped


class Bounds(NamedTuple):
    """What an input may cost."""

    cpu: float = 10.0  # seconds
    still: float = 600.0  # seconds without CPU time; a busy machine may give none for minutes
    memory: int = 2 << 30  # bytes; RLIMIT_DATA of the process: the libraries' and ours, not files mapped
    length: int = 1 << 17  # bytes of an input
    deaths: int = 20  # of a target in a turn, after which it has no more of it


class Report(NamedTuple):
    """What a turn did: inputs decoded, CPU seconds, largest memory in bytes, findings."""

    runs: int
    cpu: float
    memory: int
    findings: tuple[str, ...]


class _Board:
    """Memory that parent and child hold: how many inputs there were, and the one at work."""

    _HEAD = struct.Struct("<QQ")

    def __init__(self, length: int) -> None:
        self._shared = mmap.mmap(-1, self._HEAD.size + length)
        self._length = length

    def put(self, data: bytes) -> None:
        data = data[: self._length]
        self._shared[self._HEAD.size : self._HEAD.size + len(data)] = data
        self._HEAD.pack_into(self._shared, 0, self.runs + 1, len(data))

    @property
    def runs(self) -> int:
        return int(self._HEAD.unpack_from(self._shared)[0])

    @property
    def data(self) -> bytes:
        return self._shared[self._HEAD.size :][: self._HEAD.unpack_from(self._shared)[1]]


class Turn:
    """A turn of one target.

    Parameters
    ----------
    name : str
    target : Target
    home : Path
        Folder for what is found, `home/findings`, for the corpus and for what the processes print.
    bounds : Bounds
    """

    def __init__(self, name: str, target: Target, home: Path, *, bounds: Bounds | None = None) -> None:
        self.name, self.target, self.home, self.bounds = name, target, home, bounds or Bounds()
        self._findings, self._corpus, self._seeds = (
            home / "findings",
            home / "corpus" / name,
            home / "seeds" / name,
        )
        for folder in (self._findings, self._corpus, self._seeds):
            folder.mkdir(parents=True, exist_ok=True)
        self._deadly: set[bytes] = set()

    def sow(self, more: Sequence[bytes] = ()) -> None:
        """Write the seeds, and more of them."""
        for data in (*self.target.seeds(), *more):
            if len(data) <= self.bounds.length:
                (self._seeds / _digest(data)).write_bytes(data)

    def take(self, seconds: float) -> Report:
        """Fuzz for so many seconds of CPU time; begin again after each death."""
        before = self._found()
        runs, cpu, memory = 0, 0.0, 0
        for _ in range(self.bounds.deaths):
            board = _Board(self.bounds.length)
            child = os.fork()
            if not child:
                self._fuzz(board, seconds - cpu)
            why, used = _watch(child, board, self.bounds)
            runs, memory = runs + board.runs, max(memory, used.ru_maxrss)
            cpu += used.ru_utime + used.ru_stime
            if not why:
                break
            self._deadly.add(hashlib.sha256(board.data).digest())
            self._keep(f"{why}-{_digest(board.data)}", board.data, why)
            if cpu >= seconds:
                break
        return Report(runs, cpu, memory * 1024, tuple(sorted(self._found() - before)))

    # ---- in the child

    def _fuzz(self, board: _Board, seconds: float) -> None:
        """Never returns."""
        try:
            self._prepare()
            end = time.process_time() + seconds

            def one(data: bytes) -> None:
                if not self._deadly or hashlib.sha256(data).digest() not in self._deadly:
                    board.put(data)
                    self._try(data)
                if time.process_time() > end:
                    os._exit(0)

            options = f"-timeout={_NEVER} -rss_limit_mb=0 -len_control=0 -max_len={self.bounds.length}"
            folders = [str(self._corpus), str(self._seeds)]
            artifacts = f"-artifact_prefix={self.home}/"
            atheris.Setup([sys.argv[0], *options.split(), artifacts, *folders], one)
            atheris.Fuzz()
        finally:
            os._exit(3)  # it ends by the time alone

    def _prepare(self) -> None:
        log = os.open(self.home / f"{self.name}.log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        for stream in (1, 2):
            os.dup2(log, stream)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (self.bounds.memory, self.bounds.memory))

    def _try(self, data: bytes) -> None:
        try:
            self.target.run(data)
        except Exception as error:
            ours = [each for each in traceback.extract_tb(error.__traceback__) if _is_ours(each.filename)]
            place = f"{Path(ours[-1].filename).name}-{ours[-1].lineno}" if ours else "outside"
            self._keep(f"{type(error).__name__}-{place}", data, traceback.format_exc(limit=-20))

    # ---- findings

    def _keep(self, what: str, data: bytes, account: str) -> None:
        """Keep an input, the first of each kind of fault alone."""
        path = self._findings / f"{self.name}-{what}"
        if not path.exists():
            path.with_name(path.name + ".txt").write_text(f"sha256 {_digest(data)}...\n{account}\n")
            path.write_bytes(data)

    def _found(self) -> set[str]:
        found = self._findings.glob(f"{self.name}-*")
        return {path.name for path in found if path.suffix != ".txt"}


def _is_ours(name: str) -> bool:
    return name.startswith(str(ROOT)) and "/.venv/" not in name and "/tests/fuzz/" not in name


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


# ---- in the parent


def _watch(child: int, board: _Board, bounds: Bounds) -> tuple[str, resource.struct_rusage]:
    """Return why a child died, empty where its time was up, and what it used."""
    tick = 0.2
    seen, began, last, still = -1, 0.0, 0.0, 0.0
    while True:
        ended, status, used = os.wait4(child, os.WNOHANG)
        if ended:
            return _why(status), used
        time.sleep(tick)
        state, cpu = _state(child)
        if board.runs != seen:
            seen, began = board.runs, cpu
        still = still + tick if cpu == last and state not in "Tt" else 0.0
        last = cpu
        if cpu - began > bounds.cpu or still > bounds.still:
            os.kill(child, signal.SIGKILL)
            return "hang", os.wait4(child, 0)[2]


def _state(child: int) -> tuple[str, float]:
    """Return the state of a process, a letter, and its CPU time in seconds (proc(5), /proc/pid/stat)."""
    fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
    return fields[0], (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _why(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return "" if code == 0 else f"died-{signal.Signals(-code).name if code < 0 else code}"
