"""Part of `run scale`: other matchers on the same templates, beside the cascade of a search.

A gallery of some thousand prints, real ones hidden among synthetic ones, all of them records of ISO/IEC
19794-2:2005, so without ridge descriptions. Each system compares some probes with all of them, one by one, as
an exhaustive search does; the cascade searches the same gallery on one thread. Extraction is no part of it.
"""

import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.scale_searching import Probe
from benchmarks.synthetic.templates import fingers
from benchmarks.systems import CommandSystem, Nbis, Papilar, System
from matcher.codecs import decode, encode
from matcher.cylinders import prepare
from matcher.errors import InvalidInput
from matcher.gallery import Gallery
from matcher.search import LocalSearcher, Owner, ProbePrint
from matcher.template import Finger, Template

RECORD = "iso-19794-2:2005"
PRINTS, PROBES = 2_000, 10
CASCADE = "papilar search"

_COUNT, _NBIS_HEAD = 27, 26
"""Where a record of one view counts its minutiae, and where minutiae begin in one that nbis-py writes."""

Load = Callable[[bytes], Any]


def compare(
    systems: Sequence[System],
    hidden: Sequence[Template],
    probes: Sequence[Probe],
    *,
    seed: int,
    prints: int = PRINTS,
) -> list[dict[str, Any]]:
    """Search a small gallery with each system's own comparison, and with the cascade.

    Parameters
    ----------
    systems : sequence of System
    hidden : sequence of Template
        They are the first rows of the gallery.
    probes : sequence of Probe
        Of one finger each; the first `PROBES` are searched.
    seed : int
        Of the synthetic templates.
    prints : int
        Of the gallery.

    Returns
    -------
    list of dict
        For each system and the cascade: `system`, `about`, `clock`, `prints`, `probes`, `seconds` of a search
        (the median) on one core, `prints_per_second`, and `rank1`, the share of mates first.

    Raises
    ------
    InvalidInput
        A system reads images alone.
    """
    synthetic = fingers(seed, 0, max(0, prints - len(hidden)))
    records = [encode(template, RECORD) for template in (*hidden, *synthetic)]
    asked = [(encode(decode(one.templates[0])[0], RECORD), one.fingers[0]) for one in probes[:PROBES]]
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        found = [_one_by_one(system, Path(folder), records, asked) for system in systems]
        return [*found, _cascade(Path(folder), records, asked)]


def _one_by_one(
    system: System, folder: Path, records: Sequence[bytes], asked: Sequence[tuple[bytes, int]]
) -> dict[str, Any]:
    """Compare each probe with all records."""
    load = _loader(system, folder)
    references = [load(record) for record in records]
    clock = time.process_time if system.in_process else time.perf_counter
    seconds, hits = [], 0
    for record, mate in asked:
        probe, started = load(record), clock()
        scores = [system.compare(probe, reference) for reference in references]
        seconds.append(clock() - started)
        hits += int(np.argmax(scores)) == mate
    about = {"system": system.name, "about": dict(system.about())}
    return about | _figures("CPU" if system.in_process else "wall", records, seconds, hits)


def _cascade(folder: Path, records: Sequence[bytes], asked: Sequence[tuple[bytes, int]]) -> dict[str, Any]:
    """Search for each probe as a node does, on one thread."""
    gallery = Gallery(folder / "gallery", np.arange(len(records)))
    for row, record in enumerate(records):
        gallery.add(row, prepare(decode(record)[0]))
    gallery.seal()
    searcher = LocalSearcher(gallery, _Rows(), workers=1)
    seconds, hits = [], 0
    for record, mate in asked:
        probe, started = [ProbePrint(Finger.UNKNOWN, prepare(decode(record)[0]))], time.process_time()
        candidates = searcher.search(probe, limit=1).candidates
        seconds.append(time.process_time() - started)
        hits += bool(candidates) and candidates[0].subject == str(mate)
    searcher.close()
    return {"system": CASCADE, "about": {}} | _figures("CPU", records, seconds, hits)


def _figures(clock: str, records: Sequence[bytes], seconds: Sequence[float], hits: int) -> dict[str, Any]:
    median = float(np.median(seconds))
    return {
        "clock": clock,
        "prints": len(records),
        "probes": len(seconds),
        "seconds": median,
        "prints_per_second": len(records) / median,
        "rank1": hits / len(seconds),
    }


class _Rows:
    """A directory in which each print is somebody else's."""

    def owners(self, rows: Collection[int]) -> Mapping[int, Owner]:
        """Return the owner of each row: a subject of its number."""
        return {row: Owner(str(row), str(row), Finger.UNKNOWN) for row in rows}

    def rows_of(self, encounters: Collection[str]) -> Collection[int]:
        """Return the row of each encounter."""
        return [int(encounter) for encounter in encounters]


def _loader(system: System, folder: Path) -> Load:
    """Return what makes of a record what a system compares."""
    if isinstance(system, Papilar):
        return lambda record: prepare(decode(record)[0])
    if isinstance(system, Nbis):
        return lambda record: system.load(_as_nbis_writes(record))
    if isinstance(system, CommandSystem) and system.about()["reads"] == RECORD:
        return lambda record: _file(folder, record)
    raise InvalidInput(
        f"system {system.name} reads images", remedy="name papilar, nbis, or --command NAME:iso=COMMAND"
    )


def _as_nbis_writes(record: bytes) -> bytes:
    """Return a record as nbis-py writes and reads it: a shorter head, no extended data, quality up to 63."""
    count = record[_COUNT]
    minutiae = bytearray(record[_COUNT + 1 : _COUNT + 1 + 6 * count])
    minutiae[5::6] = bytes(quality * 63 // 100 for quality in minutiae[5::6])
    length = (_NBIS_HEAD + len(minutiae)).to_bytes(4, "big")
    head = record[:8] + length + record[12:18]  # magic and version, length, capture device, width and height
    return head + bytes(_NBIS_HEAD - 1 - len(head)) + bytes([count]) + bytes(minutiae)


def _file(folder: Path, record: bytes) -> Path:
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".fmr", delete=False) as file:
        file.write(record)
    return Path(file.name)
