"""Speed of the exchange between countries: a search in the region, gaps, laws, hidden refusals, quotas.

`python -m benchmarks run federation --fingers 100000` makes galleries (benchmarks.federation_nodes), runs
every node as a process of its own with mutual TLS, law and log, and asks. All nodes share this machine, and
who asks shares it with them: so every figure is a ratio within one run.
"""

import signal
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import federation_nodes as trial
from benchmarks.federation_asking import PATIENCE, Asked, Region, ask, asking, flooding, line_to
from benchmarks.federation_nodes import ANSWERING, ASKING, HANGING, HIDING, LARGE, REFUSING
from benchmarks.runner import Track, dumps, environment, write_atomic
from matcher.errors import InvalidInput
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Act, Outcome, Side
from papilar.peer_client import PeerChannel
from papilar.policy import Law, OffenceClass
from papilar.requests import PrintInput

FILE = "federation.json"
"""Name of the figures in the results folder."""

_LAWS = Path(__file__).resolve().parents[1] / "examples" / "policies"
_REPLICATES = 1000

Floats = NDArray[np.float64]


class Counts(NamedTuple):
    """How often each thing is done, and for how long at least a country that hangs is waited for."""

    searches: int = 30  # in the region
    alone: int = 10  # of each node by itself, between them
    hangs: int = 5
    pairs: int = 20  # of a no-hit and a hidden refusal, with each quantum
    decisions: int = 20_000
    blocks: int = 16  # of searches without and with a country that asks on, in turn
    each: int = 2  # searches of a block
    least_deadline: float = 4.0  # seconds, where a country hangs


class Interval(NamedTuple):
    """A figure and its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


def run(out: Path, *, fingers: int, counts: Counts = Counts(), seed: int = 0, track: Track) -> dict[str, Any]:  # noqa: B008
    """Run the countries, measure, and write the figures to a results folder.

    Parameters
    ----------
    out : Path
        Results folder. Galleries are kept there for the next run of as many fingers.
    fingers : int
        Of each of three galleries, and the mates beside.
    counts : Counts
    seed : int
        Of the galleries and the bootstrap.
    track : callable
        Shows progress.

    Returns
    -------
    dict
        The figures, as they are written.

    Raises
    ------
    InvalidInput
        A node did not start, or answered other than it must: then there is nothing to time.
    PapilarError
        A node failed.
    """
    out.mkdir(parents=True, exist_ok=True)
    probes = trial.prints(out / "prints", seed=seed)
    sizes = dict.fromkeys(LARGE, fingers) | dict.fromkeys(HIDING, min(fingers, trial.SMALL))
    made = {
        n: trial.gallery(out / f"gallery-{seed}-{n}", n, out / "prints", seed=seed, track=track)
        for n in sorted(set(sizes.values()))
    }
    figures: dict[str, Any] = {"fingers": sizes, "policy": decisions(counts, seed=seed)}
    with TemporaryDirectory(dir=out) as name:
        folder = Path(name)
        addresses = trial.countries(folder, {country: made[n] for country, n in sizes.items()})
        with trial.serving(folder, addresses) as nodes:
            prints = (PrintInput(image=path.read_bytes()) for path in (probes[0], probes[-1]))
            for part in _parts(Region(folder, addresses, nodes, *prints), counts, seed=seed, track=track):
                figures |= part
                about = {"counts": counts._asdict(), "environment": environment()}
                write_atomic(out / FILE, dumps({"figures": figures, **about}))
    return figures


def _parts(region: Region, counts: Counts, *, seed: int, track: Track) -> Iterator[dict[str, Any]]:
    """Yield the figures as they come: a run takes a quarter of an hour."""
    together, alone = region_searches(region, counts, seed=seed, track=track)
    yield {"region": together}
    yield {"gaps": gaps(region, counts, deadline=max(counts.least_deadline, 2.5 * alone), track=track)}
    yield {"hidden": {c: hidden(region, c, counts, seed=seed, track=track) for c in HIDING}}
    yield {"quota": quota(region, counts, seed=seed, track=track)}


# ---- a search in the region


def region_searches(
    region: Region, counts: Counts, *, seed: int, track: Track
) -> tuple[dict[str, Any], float]:
    """Search three countries at once, and each by itself between; return figures, and SLV's seconds alone."""
    whole: dict[str, float] = {}
    own: dict[str, dict[str, float]] = {}
    alone: dict[str, dict[str, float]] = {country: {} for country in LARGE}
    every = max(1, counts.searches // counts.alone)
    with asking(region, OffenceClass.SERIOUS) as client:
        _found(ask(client, region.mate, LARGE), LARGE)  # loads, compiles, connects
        for number in track(range(counts.searches), "searching the region", counts.searches):
            asked = _found(ask(client, region.mate, LARGE), LARGE)
            whole[asked.id], own[asked.id] = asked.seconds, {ASKING: asked.answers[ASKING].seconds}
            for country in LARGE if number % every == 0 else ():
                asked = _found(ask(client, region.mate, [country]), [country])
                alone[country][asked.id] = asked.answers[country].seconds
    for country in (ANSWERING, REFUSING):
        spent = _spent(region, country)
        for request, found in own.items():
            found[country] = spent[request]
        alone[country] = {request: spent[request] for request in alone[country]}
    return _region_figures(whole, own, alone, seed), float(np.median(list(alone[ANSWERING].values())))


def _found(asked: Asked, countries: Sequence[str]) -> Asked:
    """Return a search in which every country has a candidate; any other is no measurement."""
    whole = asked.answers.keys() == set(countries) and not asked.gaps
    if not (whole and all(one.complete and one.candidates for one in asked.answers.values())):
        raise InvalidInput(f"a search in the region was not whole: {dict(asked.gaps)}", remedy="see the logs")
    return asked


def _region_figures(
    whole: Mapping[str, float],
    own: Mapping[str, Mapping[str, float]],
    alone: Mapping[str, Mapping[str, float]],
    seed: int,
) -> dict[str, Any]:
    seconds = np.asarray(list(whole.values()))
    slowest = np.asarray([max(own[request].values()) for request in whole])
    by_itself = {country: np.asarray(list(found.values())) for country, found in alone.items()}
    longest = max(by_itself.values(), key=np.median)
    names = {country: [found[country] for found in own.values()] for country in LARGE}
    return {
        "searches": len(seconds),
        "seconds": _interval(np.median, seconds, seed=seed),
        "slowest_own_seconds": _interval(np.median, slowest, seed=seed),
        "ratio_to_slowest": _interval(np.median, seconds / slowest, seed=seed),
        "most_ratio_to_slowest": float((seconds / slowest).max()),
        "own_seconds": {c: float(np.median(found)) for c, found in names.items()},
        "alone_seconds": {c: _interval(np.median, found, seed=seed) for c, found in by_itself.items()},
        "ratio_to_alone": _interval(_ratio_of_medians, seconds, longest, seed=seed),
    }


def _spent(region: Region, country: str) -> dict[str, float]:
    """Return the seconds from the prints' coming to the answer of each search, by a node's own log."""
    times: defaultdict[str, dict[bool, datetime]] = defaultdict(dict)
    for entry in region.entries(country):
        if entry.side is Side.ASKED and entry.act in (Act.COLLECTION, Act.CONSULTATION):
            times[entry.request_id][entry.act is Act.COLLECTION] = entry.time
    both = ((request, found) for request, found in times.items() if len(found) == 2)
    return {request: (found[False] - found[True]).total_seconds() for request, found in both}


# ---- one hangs, one refuses, one answers


def gaps(region: Region, counts: Counts, *, deadline: float, track: Track) -> dict[str, Any]:
    """Stop a node in the middle of its life, ask it, one that refuses and one that answers."""
    countries, hangs = (ANSWERING, REFUSING, HANGING), region.nodes[HANGING]
    expected = {REFUSING: "REFUSED OFFENCE_NOT_COVERED", HANGING: "TIMED_OUT DEADLINE_PASSED"}
    asked = []
    with (
        asking(region, OffenceClass.PETTY) as patient,
        asking(region, OffenceClass.PETTY, timeout=deadline) as client,
    ):
        for _ in track(range(counts.hangs), "one hangs", counts.hangs):
            ask(patient, region.mate, [HANGING])  # an answer: a country that rests is not asked at all
            hangs.send_signal(signal.SIGSTOP)
            try:
                asked.append(ask(client, region.mate, countries))
            finally:
                hangs.send_signal(signal.SIGCONT)
    return {
        "deadline_seconds": deadline,
        "searches": len(asked),
        "named": sum(one.gaps == expected and [*one.answers] == [ANSWERING] for one in asked),
        "gaps": [one.gaps for one in asked],
        "most_seconds": max(one.seconds for one in asked),
        "most_share_of_deadline": max(one.seconds for one in asked) / deadline,
        "came_seconds": {c: float(np.median([one.came[c] for one in asked])) for c in countries},
    }


# ---- the law


def decisions(counts: Counts, *, seed: int) -> dict[str, Any]:
    """Time decisions on every example of the three example laws, in turn."""
    laws = [Law.load(folder) for folder in sorted(_LAWS.iterdir())]
    cases = [(law, example.request) for law in laws for example in law.examples]
    for law, request in cases:
        law.decide(request)
    taken = np.empty(counts.decisions)
    for place in range(counts.decisions):
        law, request = cases[place % len(cases)]
        started = time.perf_counter()
        law.decide(request)
        taken[place] = 1000 * (time.perf_counter() - started)
    return {
        "decisions": counts.decisions,
        "requests": len(cases),
        "median_ms": _interval(np.median, taken, seed=seed),
        "p99_ms": _interval(_p99, taken, seed=seed),
        "most_ms": float(taken.max()),
    }


# ---- hidden refusals


class Seen(NamedTuple):
    """What a peer sees of an answer: its time, and the size of each message."""

    seconds: float
    sizes: tuple[int, ...]


def hidden(region: Region, country: str, counts: Counts, *, seed: int, track: Track) -> dict[str, Any]:
    """Ask for a stranger, and for what the law refuses and hides, in turn."""
    with line_to(region, ASKING, country) as (line, search):
        _seen(line, search(region.stranger))
        both = [
            (_seen(line, search(region.stranger)), _seen(line, search(region.stranger, OffenceClass.PETTY)))
            for _ in track(range(counts.pairs), f"{country}: refusals that are hidden", counts.pairs)
        ]
    refused = sum(entry.outcome is Outcome.REFUSED for entry in region.entries(country))
    if refused < counts.pairs:
        raise InvalidInput(f"{country} has refused {refused} searches", remedy="see its log")
    nobody, denied = zip(*both, strict=True)
    times = [np.asarray([one.seconds for one in kind]) for kind in (nobody, denied)]
    return {
        "quantum_seconds": HIDING[country],
        "pairs": counts.pairs,
        "sizes_equal": len({one.sizes for one in (*nobody, *denied)}) == 1,
        "sizes": sorted({one.sizes for one in (*nobody, *denied)}),
        "no_hit_seconds": _interval(np.mean, times[0], seed=seed),
        "refused_seconds": _interval(np.mean, times[1], seed=seed),
        "ratio_of_means": _interval(lambda a, b: float(b.mean() / a.mean()), *times, seed=seed),
    }


def _seen(line: PeerChannel, signed: types_pb2.Signed) -> Seen:
    started = time.perf_counter()
    messages = list(line.search(peer_pb2.SearchRequest(search=signed), timeout=PATIENCE))
    seconds = time.perf_counter() - started
    answer = peer_pb2.Answer.FromString(messages[-1].answer.statement)
    if answer.outcome != peer_pb2.OUTCOME_NO_HIT:
        raise InvalidInput(f"{answer.asked_country} has not answered a no-hit", remedy="see its log")
    return Seen(seconds, tuple(one.ByteSize() for one in messages))


# ---- quotas


def quota(region: Region, counts: Counts, *, seed: int, track: Track) -> dict[str, Any]:
    """Time real searches without and beside a country that asks on, 200 times a second, over its quota.

    Both in turn, and what is beside is held against what lies before and after it: other work of the machine
    comes and goes in minutes.
    """
    busy = 0.0
    with line_to(region, REFUSING, ANSWERING) as (line, search), flooding(region) as flood:

        def searches() -> list[float]:
            return [_timed(line, search(region.mate)) for _ in range(counts.each)]

        _timed(line, search(region.mate))  # connects
        flood.wait_until_asking()
        before = flood.tally()
        flood.pause()
        alone, beside = [searches()], []
        for _ in track(range(counts.blocks), "quota", counts.blocks):
            started = time.perf_counter()
            flood.go_on()
            beside.append(searches())
            busy += time.perf_counter() - started
            flood.pause()
            alone.append(searches())
        asked, refused, turned_away = (now - then for now, then in zip(flood.tally(), before, strict=True))
    around = np.mean([alone[:-1], alone[1:]], axis=(0, 2))
    return {
        "searches": counts.blocks * counts.each,
        "alone_seconds": _interval(np.median, np.ravel(alone), seed=seed),
        "beside_seconds": _interval(np.median, np.ravel(beside), seed=seed),
        "ratio": _interval(np.median, np.mean(beside, axis=1) / around, seed=seed),
        "asked_a_second": asked / busy,
        "refused_by_quota": refused,
        "turned_away": turned_away,
    }


def _timed(line: PeerChannel, signed: types_pb2.Signed) -> float:
    started = time.perf_counter()
    *_, last = line.search(peer_pb2.SearchRequest(search=signed), timeout=PATIENCE)
    seconds = time.perf_counter() - started
    if peer_pb2.Answer.FromString(last.answer.statement).outcome != peer_pb2.OUTCOME_CANDIDATES:
        raise InvalidInput("a search beside the quota found nobody", remedy="see the node's log")
    return seconds


# ---- intervals


def _interval(statistic: Callable[..., Any], *samples: Floats, seed: int) -> Interval:
    """Return a statistic of samples with its bootstrap interval; each sample is drawn anew by itself."""
    rng = np.random.default_rng(seed)
    drawn = [
        float(statistic(*(sample[rng.integers(0, len(sample), len(sample))] for sample in samples)))
        for _ in range(_REPLICATES)
    ]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return Interval(float(statistic(*samples)), float(low), float(high))


def _ratio_of_medians(above: Floats, below: Floats) -> float:
    return float(np.median(above) / np.median(below))


def _p99(values: Floats) -> float:
    return float(np.percentile(values, 99))
