"""The process in which NFIQ 2 runs, started by `enroll.nfiq`: images in, scores out, until the input ends.

The library is C and C++ that keeps its state in globals and writes to the standard output. Given an image of
8 by 8 pixels it overruns its stack and is aborted. So it is never loaded into the process that holds a
gallery; and this file imports nothing of ours, to start quickly.

A request is the length of a file, 4 bytes, little-endian, and the file: grey, at 500 ppi. An answer is a
length and JSON, ``{"score": 65, "features": {"FingerJetFX_MinutiaeCount": 33, ...}}`` or ``{}`` for no score.
"""

import json
import os
import resource
import struct
import sys
from collections.abc import Callable

import nbis

LENGTH = struct.Struct("<I")
_Read = Callable[[bytes], nbis.Minutiae]


def main() -> None:
    """Answer every request, in order."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold somebody's print
    most = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (most, most))  # the parent's limit may be that of one print
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.dup2(nowhere, sys.stderr.fileno())
    extractor = nbis.new_nbis_extractor(
        nbis.NbisExtractorSettings(
            min_quality=0.0, get_center=False, check_fingerprint=False, compute_nfiq2=True, ppi=500.0
        )
    )
    read = _reading(extractor)
    while head := sys.stdin.buffer.read(LENGTH.size):
        answer = json.dumps(_judge(read, sys.stdin.buffer.read(*LENGTH.unpack(head)))).encode()
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _reading(extractor: nbis.NbisExtractor) -> _Read:
    """Return what hands a file to the library: by a name where memory can have one.

    The library's binding copies bytes in Python, one by one: a fifth of all time for a print.
    """
    if sys.platform != "linux":
        return extractor.extract_minutiae
    memory = os.memfd_create("print")
    path = f"/proc/self/fd/{memory}"

    def read(file: bytes) -> nbis.Minutiae:
        try:
            os.pwrite(memory, file, 0)
            return extractor.extract_minutiae_from_image_file(path)
        finally:
            os.ftruncate(memory, 0)

    return read if os.access(path, os.R_OK) else extractor.extract_minutiae


def _judge(read: _Read, file: bytes) -> dict[str, object]:
    try:
        found = read(file).quality()
    except nbis.NbisError:
        return {}
    return {"score": found.score, "features": {one.name: one.value for one in found.features}}


if __name__ == "__main__":
    main()
