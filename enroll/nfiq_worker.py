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

import nbis

LENGTH = struct.Struct("<I")


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
    while head := sys.stdin.buffer.read(LENGTH.size):
        answer = json.dumps(_judge(extractor, sys.stdin.buffer.read(*LENGTH.unpack(head)))).encode()
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _judge(extractor: nbis.NbisExtractor, file: bytes) -> dict[str, object]:
    try:
        found = extractor.extract_minutiae(file).quality()
    except nbis.NbisError:
        return {}
    return {"score": found.score, "features": {one.name: one.value for one in found.features}}


if __name__ == "__main__":
    main()
