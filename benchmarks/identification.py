"""Identify: enrol and search over gRPC, as a user of a node would, and keep the rank of every mate.

A node runs in a process of its own, over a gallery in a temporary folder, on the loopback in plain text. The
first impression of every finger of every set is enrolled through the client as subject `<set>/<finger>`;
every other impression is searched, one request at a time unless `workers` says otherwise. Probes and gallery
of all sets are mixed, so that a probe of one scanner meets prints of the others.

What lies in the results folder, for a coarse stage that keeps K prints::

    identification/shortlist-<K>/searches.csv   a row for each probe; see `Search`
    identification/shortlist-<K>/run.json       sets, gallery, thresholds, failures to enrol, environment

`measure` turns them into rates. Rank-r is the share of all probes, failed ones too, whose mate is among the
first r. All probes have their finger in the gallery (a closed set), unless its enrolment was rejected, which
is a miss. FPIR is counted as if each probe's own finger had not been enrolled, by its best non-mate: exact
for the full comparison, and for the coarse stage but for the one place that the mate took in the shortlist.
FNIR is the share of probes whose mate scores below the threshold or is not returned.

A finger that is known to stand in two sets (`datasets.SAME_FINGER`) is enrolled under both names, and what is
searched under one name and found under the other is neither mate nor non-mate: it is passed over. The ranks
by the sets' own labels, which take it for a stranger, are given beside (`as_labelled`).

References
----------
ISO/IEC 19795-1:2021 (closed-set rank-r identification rate, FPIR, FNIR).
"""

import csv
import hashlib
import io
import json
import math
import multiprocessing
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, fields, replace
from itertools import groupby
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import metrics
from benchmarks.datasets import SAME_FINGER, Print, PrintSet, digest
from benchmarks.metrics import Floats, Ints
from benchmarks.runner import Track, dumps, environment, untracked, write_atomic
from enroll.errors import ResolutionImplausible, ResolutionUnknown
from matcher import search
from matcher.calibration import Calibration, shipped
from matcher.errors import InvalidInput, PapilarError
from matcher.template import Finger
from papilar import translate
from papilar.api.v1 import matching_pb2
from papilar.client import NodeClient
from papilar.config import NodeConfig
from papilar.node import Node
from papilar.requests import Enrollment, PrintInput
from papilar.server import NodeServer

FOLDER = "identification"
RANKS = (1, 5, 10)
FPIRS = (0.1, 0.01)
"""False-positive identification rates; 560 searches see 5.6 false positives at the second."""

MOST_FINGERS = 1_000
"""As many candidates as a node returns: with more fingers enrolled a late mate would pass for a lost one."""

_START_S = 120.0  # for the node to load its network and compile its kernels
_STOP_S = 30.0


@dataclass(frozen=True, slots=True)
class Search:
    """What came of one probe; a row of `searches.csv`.

    Attributes
    ----------
    set, probe, finger : str
    rank : int or None
        Of the mate, from 1; None where it was not returned: the coarse stage lost it, or the probe or the
        finger's enrolment failed.
    mate, nonmate, twin : float
        Score of the mate, the best of all others, and that of the same finger under the name it has in
        another set; minus infinity where there is none. The twin counts neither as an other nor in the rank.
    latency, extraction, search : float
        Seconds from request to answer as the client sees them, and the node's own shares of them.
    failure : str
        Empty, or why there was no (whole) search: `PROBE_REJECTED`, say, or an error's reason.
    """

    set: str
    probe: str
    finger: str
    rank: int | None
    mate: float
    nonmate: float
    twin: float
    latency: float
    extraction: float
    search: float
    failure: str


COLUMNS = tuple(each.name for each in fields(Search))


def run(
    sets: Sequence[PrintSet],
    out: Path,
    *,
    shortlist: int = search.SHORTLIST,
    workers: int = 1,
    track: Track = untracked,
) -> Path:
    """Enrol, search and write what came of it; return the folder written.

    Parameters
    ----------
    sets : sequence of PrintSet
    out : Path
        Results folder.
    shortlist : int
        Prints that the coarse stage keeps for the full comparison; a gallery of no more is compared whole.
    workers : int
        Requests under way at a time; more than one lengthens each.
    track : callable

    Raises
    ------
    InvalidInput
        `shortlist` or `workers` is not positive, there are too many fingers, or a resolution is unknown.
    PapilarError
        The node failed.
    """
    if shortlist < 1 or workers < 1:
        raise InvalidInput(f"shortlist {shortlist}, workers {workers}", remedy="give 1 or more of each")
    enrolled, probes = _split(sets)
    if len(enrolled) > MOST_FINGERS:
        raise InvalidInput(
            f"{len(enrolled)} fingers", remedy=f"name fewer sets: {MOST_FINGERS} fingers at most"
        )
    fitted = shipped()
    with node(shortlist) as client, ThreadPoolExecutor(workers) as pool:

        def enrol(item: tuple[PrintSet, Print]) -> str | None:
            return _enrol(client, *item)

        def identify(item: tuple[PrintSet, Print]) -> Search:
            return _identify(client, *item, limit=len(enrolled))

        failures = list(track(pool.map(enrol, enrolled), "enrolling", len(enrolled)))
        searches = list(track(pool.map(identify, probes), "searching", len(probes)))
    failed = [{"print": _subject(*e), "reason": r} for e, r in zip(enrolled, failures, strict=True) if r]
    about = _about(sets, len(enrolled), failed, fitted) | {"shortlist": shortlist, "workers": workers}
    return _save(out / FOLDER / f"shortlist-{shortlist}", searches, about)


def load(results: Path) -> dict[str, tuple[Mapping[str, Any], list[Search]]]:
    """Read the searches of every run in a results folder; empty where there are none.

    Raises
    ------
    InvalidInput
        One is damaged.
    """
    paths = sorted((results / FOLDER).glob("*/run.json"))
    return {path.parent.name: _load(path.parent) for path in paths}


def measure(
    about: Mapping[str, Any], searches: Sequence[Search], *, replicates: int = 1000, seed: int = 0
) -> dict[str, Any]:
    """Return rates by set and of all, and times.

    Parameters
    ----------
    about : mapping
        The content of `run.json`.
    searches : sequence of Search
        At least one.
    replicates, seed : int
        Of the bootstrap, in which the fingers of each set are drawn with replacement.
    """
    names = list(dict.fromkeys(each.set for each in searches))
    by_set = {name: [each for each in searches if each.set == name] for name in names}
    return {
        "shortlist": about["shortlist"],
        "enrolled": about["enrolled"] - len(about["failures_to_enrol"]),
        "failures_to_enrol": len(about["failures_to_enrol"]),
        "sets": {name: _ranks(part, replicates, seed) for name, part in by_set.items()},
        "all": _ranks(searches, replicates, seed),
        "as_labelled": _ranks([_as_labelled(each) for each in searches], replicates, seed),
        "open_set": _open_set(searches),
        "stated": [_stated(searches, each) for each in about["thresholds"]],
        "seconds": {each: _times(searches, each) for each in ("latency", "extraction", "search")},
    }


@contextmanager
def node(shortlist: int) -> Iterator[NodeClient]:
    """Start a node over an empty temporary gallery in a process of its own; end both.

    Raises
    ------
    InvalidInput
        It did not start.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        process = context.Process(target=_serve, args=(Path(folder) / "gallery", shortlist, theirs))
        process.start()
        theirs.close()
        try:
            with NodeClient(f"127.0.0.1:{_port(ours)}", timeout=600.0) as client:
                yield client
        finally:
            process.terminate()
            process.join(_STOP_S)
            process.kill()
            process.join()


def _serve(gallery: Path, shortlist: int, ready: Connection) -> None:
    config = NodeConfig(gallery, listen="127.0.0.1:0", keep_images=False, shortlist=shortlist)
    server = NodeServer(Node(gallery, create=True, keep_images=False, shortlist=shortlist), config)
    server.serve_until_signalled(lambda: ready.send(server.port))


def _port(ready: Connection) -> int:
    try:
        if ready.poll(_START_S):
            return int(ready.recv())
    except EOFError:
        pass
    raise InvalidInput("the node did not start", remedy="see what it wrote above")


def _split(sets: Sequence[PrintSet]) -> tuple[list[tuple[PrintSet, Print]], list[tuple[PrintSet, Print]]]:
    """Part each finger's first impression from its others."""
    first, others = [], []
    for each in sets:
        for _, group in groupby(each.prints, key=lambda one: one.finger):
            head, *rest = group
            first.append((each, head))
            others += [(each, one) for one in rest]
    return first, others


def _subject(each: PrintSet, one: Print) -> str:
    return f"{each.name}/{one.finger}"


def _enrol(client: NodeClient, each: PrintSet, one: Print) -> str | None:
    """Enrol one finger; return None, or why it failed."""
    new = Enrollment((PrintInput(image=one.path.read_bytes(), ppi=each.ppi),), subject_id=_subject(each, one))
    try:
        outcome = client.enroll(new).WhichOneof("outcome")
    except InvalidInput as error:
        return _reason(error, one)
    return None if outcome == "enrolled" else str(outcome).upper()


def _identify(client: NodeClient, each: PrintSet, one: Print, *, limit: int) -> Search:
    probe = translate.to_print(PrintInput(image=one.path.read_bytes(), ppi=each.ppi))
    request = matching_pb2.IdentifyRequest(probe=[probe], limit=limit)
    started = time.perf_counter()
    try:
        response = client.identify(request)
    except InvalidInput as error:
        response, failure = matching_pb2.IdentifyResponse(), _reason(error, one)
    else:
        failure = response.failures[0].reason if response.failures else ""
    latency = time.perf_counter() - started
    return _found(each, one, response, latency=latency, failure=failure)


def _found(
    each: PrintSet, one: Print, response: matching_pb2.IdentifyResponse, *, latency: float, failure: str
) -> Search:
    subject, spent = _subject(each, one), response.statistics
    twins = {name for names in SAME_FINGER if subject in names for name in names} - {subject}
    ranked = [c for c in response.candidates if c.subject_id not in twins]
    place = next((at for at, c in enumerate(ranked) if c.subject_id == subject), None)
    return Search(
        each.name,
        one.name,
        one.finger,
        None if place is None else place + 1,
        -math.inf if place is None else ranked[place].score,
        max((c.score for c in ranked if c.subject_id != subject), default=-math.inf),
        max((c.score for c in response.candidates if c.subject_id in twins), default=-math.inf),
        round(latency, 6),
        round(spent.extraction_time.ToTimedelta().total_seconds(), 6),
        round(spent.search_time.ToTimedelta().total_seconds(), 6),
        failure,
    )


def _reason(error: PapilarError, one: Print) -> str:
    if isinstance(error, ResolutionUnknown | ResolutionImplausible):
        raise InvalidInput(
            f"{one.path.name}: {error.cause}", remedy="give the sets' resolution as --ppi, in pixels per inch"
        ) from error
    return error.reason


def _about(
    sets: Sequence[PrintSet], enrolled: int, failed: Sequence[Mapping[str, str]], fitted: Calibration
) -> dict[str, Any]:
    size = enrolled - len(failed)
    gallery = {Finger.UNKNOWN: size}
    thresholds = [(rate, search.threshold(fitted, target_fpir=rate, gallery=gallery)) for rate in FPIRS]
    return {
        "sets": {each.name: digest(one.path for one in each.prints) for each in sets},
        "enrolled": enrolled,
        "failures_to_enrol": failed,
        "calibration": fitted.id,
        "thresholds": [{"fpir": rate, "score": score} for rate, score in thresholds],
        "environment": environment(),
    }


def _save(folder: Path, searches: Sequence[Search], about: Mapping[str, Any]) -> Path:
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(["" if value is None else value for value in astuple(each)] for each in searches)
    content = table.getvalue().encode()
    write_atomic(folder / "searches.csv", content)
    digested = {"searches_digest": hashlib.sha256(content).hexdigest()}
    write_atomic(folder / "run.json", dumps({**about, **digested}))
    return folder


def _load(folder: Path) -> tuple[Mapping[str, Any], list[Search]]:
    try:
        about = json.loads((folder / "run.json").read_bytes())
        content = (folder / "searches.csv").read_bytes()
        intact = hashlib.sha256(content).hexdigest() == about["searches_digest"]
    except (OSError, ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise InvalidInput(f"{folder} is damaged", remedy="run identify again")
    return about, [_row(row) for row in csv.DictReader(content.decode().splitlines())]


def _row(row: Mapping[str, str]) -> Search:
    rank = int(row["rank"]) if row["rank"] else None
    mate, nonmate, twin, latency, extraction, spent = (float(row[name]) for name in COLUMNS[4:10])
    head = row["set"], row["probe"], row["finger"], rank
    return Search(*head, mate, nonmate, twin, latency, extraction, spent, row["failure"])


def _ranks(searches: Sequence[Search], replicates: int, seed: int) -> dict[str, Any]:
    hits = np.asarray([[each.rank is not None and each.rank <= r for r in RANKS] for each in searches], float)
    weights = _weights(searches, replicates, seed)
    tables = weights @ hits / weights.sum(axis=1, keepdims=True)
    found = metrics.estimates([f"rank{r}" for r in RANKS], hits.mean(axis=0), tables)
    counts = {"probes": len(searches), "failures": sum(bool(each.failure) for each in searches)}
    return counts | {name: asdict(estimate) for name, estimate in found.items()}


def _as_labelled(each: Search) -> Search:
    """Take the same finger under another name for a stranger, as the sets' labels do."""
    rank = None if each.rank is None else each.rank + (each.twin > each.mate)
    return replace(each, rank=rank, nonmate=max(each.nonmate, each.twin), twin=-math.inf)


def _weights(searches: Sequence[Search], replicates: int, seed: int) -> Ints:
    """How often each search's finger was drawn, shape (replicates, searches)."""
    by_set: dict[str, list[str]] = {}
    for each in searches:
        fingers = by_set.setdefault(each.set, [])
        if each.finger not in fingers:
            fingers.append(each.finger)
    number = {key: at for at, key in enumerate((name, f) for name, part in by_set.items() for f in part)}
    strata = [len(part) for part in by_set.values()]
    draws = metrics.draw(strata, list(by_set), replicates=replicates, seed=seed)
    return draws[:, [number[each.set, each.finger] for each in searches]]


def _open_set(searches: Sequence[Search]) -> list[dict[str, float]]:
    """FNIR at the lowest threshold that keeps FPIR; see the module."""
    mate, nonmate = _scores(searches)
    curve = metrics.det(mate, nonmate)
    rates = [rate for rate in FPIRS if rate * len(searches) >= 1]
    return [{"fpir": rate, "fnir": metrics.fnmr_at(curve, rate)} for rate in rates]


def _stated(searches: Sequence[Search], threshold: Mapping[str, float]) -> dict[str, float]:
    """FPIR and FNIR observed at the threshold that the node states for an FPIR."""
    mate, nonmate = _scores(searches)
    least = threshold["score"]
    observed = {"fpir": float((nonmate >= least).mean()), "fnir": float((mate < least).mean())}
    return {"stated_fpir": threshold["fpir"], "threshold": least, **observed}


def _scores(searches: Sequence[Search]) -> tuple[Floats, Floats]:
    return np.asarray([each.mate for each in searches]), np.asarray([each.nonmate for each in searches])


def _times(searches: Sequence[Search], name: str) -> dict[str, float]:
    median, p95 = np.percentile([getattr(each, name) for each in searches], [50, 95])
    return {"median": float(median), "p95": float(p95)}
