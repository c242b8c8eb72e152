"""NFIQ 2, the open quality score of ISO/IEC 29794-4: 0 to 100, trained on how well prints match.

It is NIST's implementation, in the wheel `nbis-py`, and it runs in processes of its own, see
`enroll.nfiq_worker`: what it makes of a strange image is never the end of ours. A thread that asks while
all are busy starts one more; they end with this process. Where the wheel is not installed, or the image is
none that NFIQ 2 judges, the score is None and a reason says which: prints are enrolled all the same.

NFIQ 2 presumes a print: white noise scores 28 to 49. Whether an image is one, `enroll.quality` says.

References
----------
.. [1] E. Tabassi, M. Olsen, O. Bausinger, C. Busch, A. Figlarz, G. Fiumara, O. Henniger, J. Merkle,
   T. Ruhland, C. Schiel, M. Schwaiger, "NIST Fingerprint Image Quality 2", NIST IR 8382, 2021.
   doi:10.6028/NIST.IR.8382
.. [2] ISO/IEC 29794-4:2024, "Biometric sample quality, Part 4: Finger image data".
"""

import json
import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Timer
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from enroll.gate import UNAVAILABLE
from enroll.image import GrayImage, resample
from enroll.segment import foreground

FAILED = "NFIQ2_FAILED"
"""Reason: no score of this image, as of one that is blank, or too small or too large a print."""

NOT_ASKED = "NOT_ASKED"
"""Reason: the score is not wanted."""

HIGHEST, WIDEST = 1000, 800
"""Pixels at 500 ppi: NFIQ 2 judges no larger image, less its white margins."""

MOST_OVER = 1.5
"""Of an image up to so many times too large, as cards have them, the middle of the print is judged. A larger
one is a slap or a sheet."""

SECONDS = 10.0
"""After which a process is ended: a print takes 0.1 s, noise of a print's size 3 s on a busy machine."""

_INSIDE = MappingProxyType({"0.1.3": "2.3.0"})  # NFIQ 2 in each version of nbis-py, which does not say it
_LENGTH = struct.Struct("<I")
_WORKER = Path(__file__).with_name("nfiq_worker.py")


class Nfiq(NamedTuple):
    """What NFIQ 2 says of a print.

    Attributes
    ----------
    score : int or None
        0 (worst) to 100 (best); None for the `reason`.
    version : str
        Of NFIQ 2 and of what brought it, such as ``2.3.0 (nbis-py 0.1.3)``: scores of two versions are not
        to be compared. Empty where there is none.
    features : mapping of str to float
        The 69 measurements that the score rests on, by their names in NFIQ 2.
    reason : str
        `UNAVAILABLE`, `FAILED` or `NOT_ASKED`; empty with a score.
    """

    score: int | None
    version: str
    features: Mapping[str, float] = MappingProxyType({})
    reason: str = ""


def version() -> str:
    """Return the version that scores are of, as in `Nfiq`; empty where NFIQ 2 is not installed."""
    if find_spec("nbis") is None:
        return ""
    brought_by = metadata.version("nbis-py")
    return f"{_INSIDE.get(brought_by, 'unknown')} (nbis-py {brought_by})"


def nfiq2(image: GrayImage) -> Nfiq:
    """Judge a print; safe to call from every thread.

    Parameters
    ----------
    image : GrayImage
        Ridges dark. It is brought to 500 ppi, the one resolution that NFIQ 2 knows.

    Returns
    -------
    Nfiq
        The same for the same image, whatever was judged before.
    """
    made_by = version()
    if not made_by:
        return Nfiq(None, "", reason=UNAVAILABLE)
    pixels = resample(image).pixels
    answer = _ask(_pgm(pixels))
    if not answer and (middle := _middle(pixels)) is not None:
        answer = _ask(_pgm(middle))
    if not answer:
        return Nfiq(None, made_by, reason=FAILED)
    return Nfiq(answer["score"], made_by, MappingProxyType(answer["features"]))


def _middle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Cut an image that is a little too large to as much as NFIQ 2 takes; None for one that is not."""
    height, width = pixels.shape
    if not 1 < max(height / HIGHEST, width / WIDEST) <= MOST_OVER:
        return None
    y, x = np.nonzero(foreground(pixels))
    if not len(y):
        return None
    top = int(np.clip(y.mean() - HIGHEST / 2, 0, max(0, height - HIGHEST)))
    left = int(np.clip(x.mean() - WIDEST / 2, 0, max(0, width - WIDEST)))
    return pixels[top : top + HIGHEST, left : left + WIDEST]


def _pgm(pixels: NDArray[np.uint8]) -> bytes:
    height, width = pixels.shape
    return b"P5 %d %d 255\n" % (width, height) + pixels.tobytes()


_Process = subprocess.Popen[bytes]


@cache
def _idle(process: int) -> SimpleQueue[_Process]:
    """Return the processes that wait for work; a fork of ours, of another number, has its own."""
    del process
    return SimpleQueue()


def _ask(file: bytes) -> dict[str, Any]:
    """Return what a process says of a file; nothing where it ended or had to be ended."""
    idle = _idle(os.getpid())
    worker = _take(idle)
    limit = Timer(SECONDS, worker.kill)
    limit.start()
    try:
        answer = _exchange(worker, file)
    except (OSError, EOFError):
        _end(worker)
        return {}
    finally:
        limit.cancel()
    idle.put(worker)
    return answer


def _take(idle: SimpleQueue[_Process]) -> _Process:
    """Return one that waits and still lives, or a new one."""
    try:
        while (worker := idle.get_nowait()).poll() is not None:
            _end(worker)
    except Empty:
        pipe = subprocess.PIPE
        return subprocess.Popen([sys.executable, "-I", str(_WORKER)], stdin=pipe, stdout=pipe)  # noqa: S603
    return worker


def _end(worker: _Process) -> None:
    worker.kill()
    worker.communicate()


def _exchange(worker: _Process, file: bytes) -> dict[str, Any]:
    """Send a file and read the answer.

    Raises
    ------
    OSError, EOFError
        The process has ended.
    """
    if worker.stdin is None or worker.stdout is None:
        raise EOFError
    worker.stdin.write(_LENGTH.pack(len(file)) + file)
    worker.stdin.flush()
    head = worker.stdout.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    return dict(json.loads(worker.stdout.read(*_LENGTH.unpack(head))))
