"""Run: what a gallery costs as it grows, in building, memory and time of a search, and what it still finds.

Galleries of synthetic templates (benchmarks.synthetic.templates), ten fingers a person, in which some persons
are made up of real fingers, drawn at random: their first impressions are hidden, other impressions are
searched, one by one and person by person. Galleries stay in the results folder: a run that was cut off goes
on, and segments that no longer suit are made anew. Galleries and the folder `prints` beside them hold
templates of real prints: keep them out of version control.

What is measured of a gallery is measured in a process of its own; see `scale_searching`. Other matchers on
the same templates: `scale_systems`.
"""

import hashlib
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks import scale_systems
from benchmarks.datasets import Print as File
from benchmarks.datasets import PrintSet
from benchmarks.runner import Track, dumps, environment, untracked, write_atomic
from benchmarks.scale_gallery import FINGERS, Plan, lay_out
from benchmarks.scale_searching import Probe, measure
from benchmarks.synthetic.likeness import name_of
from benchmarks.synthetic.templates import finger, impression
from benchmarks.systems import System
from enroll.image import read_image
from enroll.pipeline import extract
from matcher.codecs import NATIVE, decode, encode
from matcher.cylinders import Prepared, prepare
from matcher.errors import InvalidInput
from matcher.gallery import Gallery
from matcher.template import Template

FILE, PICTURE = "scale.json", "scale.png"
SIZES = (10_000, 100_000, 1_000_000)
COPIES = 10
"""How many times the gallery of the largest size is laid out (`scale_gallery`)."""

_CHUNK, _AHEAD = 250, 8
"""Rows that a worker makes at a time, and how many such lots may wait: four megabytes each."""

_SEAL_AFTER = 20_000
"""Rows in memory, 800 megabytes, at which they are sealed. A node does so at 1,000, writing twice as much."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is built and searched.

    Attributes
    ----------
    sizes : sequence of int
        Fingers of each gallery, the hidden ones among them; tens.
    probes : int
        Real prints that are searched, and real persons at most; drawn from the further impressions.
    ridges : bool
        Whether the synthetic templates carry ridge descriptions, as real ones do.
    seed : int
        Of synthetic fingers and of what is drawn.
    persons : int
        Persons, ten fingers each, of one more gallery: one of so many fingers, laid out ten times.
    """

    sizes: Sequence[int] = SIZES
    probes: int = 50
    ridges: bool = True
    seed: int = 0
    persons: int = 0


class Built(NamedTuple):
    """What making a gallery took.

    Attributes
    ----------
    rows : int
        How many were added; 0 where the gallery was there.
    template_seconds, prepare_seconds, gallery_seconds : float
        CPU time of drawing templates, of preparing them, and of adding and sealing them.
    """

    rows: int
    template_seconds: float
    prepare_seconds: float
    gallery_seconds: float


class _Made(NamedTuple):
    """Some rows of a gallery, None where a print is hidden, and the CPU time that a worker spent on them."""

    rows: Sequence[int]
    prepared: Sequence[Prepared | None]
    template_seconds: float
    prepare_seconds: float


class Real(NamedTuple):
    """Templates of fingers to hide, in the order in which they make up persons, and what is searched."""

    hidden: list[Template]
    probes: list[Probe]
    persons: list[Probe]


def run(
    sets: Sequence[PrintSet],
    out: Path,
    *,
    sample: Sample,
    workers: int = 1,
    systems: Sequence[System] = (),
    track: Track = untracked,
) -> dict[str, Any]:
    """Build a gallery of each size, measure it, and write `scale.json` and `scale.png`.

    Parameters
    ----------
    sets : sequence of PrintSet
        Whose prints are hidden and searched.
    out : Path
        Results folder, where galleries stay.
    sample : Sample
    workers : int
        Processes that make templates.
    systems : sequence of System
        Matchers that compare the same templates; see `scale_systems`.
    track : callable

    Returns
    -------
    dict
        `sizes`, each with the fields of `Built` and of `scale_searching.Measured`; `growth` of each size from
        the one before, and the `exponent` of all; `systems`; `hidden`, `ridges`, `environment`.

    Raises
    ------
    InvalidInput
        A size is no multiple of ten, or less than twice the fingers of the real persons, or a resolution is
        unknown.
    """
    real = hide(sets, out / "prints", sample, track)
    with _processes(workers) as pool:
        plans = list(_plans(real.hidden, out, sample))
        entries = [_entry(plan, real, pool, track) for plan in plans]
    figures = {
        "sizes": entries,
        "growth": _growth(entries),
        "exponent": _exponent(entries),
        "systems": scale_systems.compare(systems, real.hidden, real.probes, seed=sample.seed)
        if systems
        else [],
        "hidden": len(real.hidden),
        "ridges": sample.ridges,
        "environment": environment(),
    }
    write_atomic(out / FILE, dumps(figures))
    draw(entries, out / PICTURE)
    return figures


def parse_sizes(text: str) -> tuple[int, ...]:
    """Return the sizes of a list as `10000,100000`.

    Raises
    ------
    InvalidInput
        One is no whole number.
    """
    sizes = tuple(int(size) for size in text.split(",") if size.strip().isdecimal())
    if len(sizes) < text.count(",") + 1:
        raise InvalidInput(f"sizes {text!r}", remedy="give whole numbers, as --fingers 10000,100000")
    return sizes


def hide(sets: Sequence[PrintSet], folder: Path, sample: Sample, track: Track = untracked) -> Real:
    """Extract what is hidden, each finger's first impression, and what is searched, but for rejected prints.

    Parameters
    ----------
    sets : sequence of PrintSet
    folder : Path
        Where templates are kept.
    sample : Sample
        Whose seed makes up persons and draws probes.
    track : callable
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fingers: dict[str, list[tuple[PrintSet, File]]] = {}
    for each in sets:
        for one in each.prints:
            fingers.setdefault(name_of(each, one), []).append((each, one))
    rng = np.random.default_rng(sample.seed)
    mixed = [list(fingers.values())[k] for k in rng.permutation(len(fingers))]
    first = [_template(each, one, folder) for (each, one), *_ in track(mixed, "extracting", len(mixed))]
    hidden = [template for template in first if template is not None]
    others = [prints[1:] for prints, template in zip(mixed, first, strict=True) if template is not None]
    every = range(len(others))
    alone = [((number,), k) for number in every for k in range(len(others[number]))]
    persons = [tuple(every[at : at + FINGERS]) for at in range(0, len(others), FINGERS)]
    whole = [(some, k) for some in persons for k in range(min(len(others[number]) for number in some))]
    drawn = [
        [wanted[at] for at in rng.permutation(len(wanted))[: sample.probes]] for wanted in (alone, whole)
    ]
    return Real(hidden, *(list(_probes(wanted, others, folder)) for wanted in drawn))


def _probes(
    wanted: Sequence[tuple[tuple[int, ...], int]],
    others: Sequence[Sequence[tuple[PrintSet, File]]],
    folder: Path,
) -> Iterator[Probe]:
    """Yield the further impressions of these numbers of some fingers, as far as they are not rejected."""
    for numbers, at in wanted:
        found = [(number, _template(*others[number][at], folder)) for number in numbers]
        kept = [(number, encode(template, NATIVE)) for number, template in found if template is not None]
        if kept:
            yield Probe(*zip(*kept, strict=True))


def _plans(hidden: Sequence[Template], out: Path, sample: Sample) -> Iterator[Plan]:
    """Yield the galleries, the smallest first."""
    least = 2 * FINGERS * -(-len(hidden) // FINGERS)
    many = [(size, 1) for size in sorted(sample.sizes)] + [(sample.persons, COPIES)] * bool(sample.persons)
    for size, copies in many:
        if size < least or size % FINGERS:
            raise InvalidInput(f"a gallery of {size} fingers", remedy=f"give {least} or more, and tens")
        folder = out / f"gallery-{size}-{_digest(hidden, sample)}"
        yield Plan(folder, size, sample.seed, sample.ridges, len(hidden), copies)


def _digest(hidden: Sequence[Template], sample: Sample) -> str:
    """Return what tells galleries apart: what is hidden in them, and how the rest is drawn."""
    drawn = impression(finger(sample.seed, 0), ridges=sample.ridges)
    told = hashlib.sha256(str(sample.seed).encode())
    for template in (*hidden, drawn):
        told.update(encode(template, NATIVE))
    return told.hexdigest()[:12]


def _template(each: PrintSet, one: File, folder: Path) -> Template | None:
    """Extract a print, or read what was extracted before; None where it is rejected (an empty file)."""
    kept = folder / f"{each.name}-{one.name}.template"
    if not kept.exists():
        found = extract(read_image(one.path.read_bytes(), ppi=each.ppi))
        write_atomic(kept, b"" if found.rejected else encode(found.template, NATIVE))
    data = kept.read_bytes()
    return decode(data)[0] if data else None


# ---- building


def _entry(plan: Plan, real: Real, pool: ProcessPoolExecutor, track: Track) -> dict[str, Any]:
    """Build a gallery, measure it in a fresh process, and return both."""
    built = _build(plan, real.hidden, pool, track)
    if plan.copies > 1:
        lay_out(plan)
    with _processes(1) as own:
        measured = own.submit(measure, plan, real.probes, real.persons).result()
    return {"fingers": plan.total, **built._asdict(), **asdict(measured)}


def _build(plan: Plan, hidden: Sequence[Template], pool: ProcessPoolExecutor, track: Track) -> Built:
    """Add to a gallery what it lacks, in order, and seal it."""
    gallery = Gallery(plan.folder, plan.alive)
    missing = gallery.missing(plan.alive)
    real = {row: prepare(hidden[number]) for number, row in enumerate(plan.hidden_rows)}
    chunks = [missing[at : at + _CHUNK] for at in range(0, len(missing), _CHUNK)]
    drawing = preparing = adding = 0.0
    for part in track(_ahead(pool, plan, chunks), f"{plan.size} fingers", len(chunks)):
        started = time.process_time()
        for row, prepared in zip(part.rows, part.prepared, strict=True):
            gallery.add(row, prepared or real[row], plan.place(row))
        if gallery.live_rows >= _SEAL_AFTER:
            gallery.seal()
        adding += time.process_time() - started
        drawing, preparing = drawing + part.template_seconds, preparing + part.prepare_seconds
    gallery.seal()
    return Built(len(missing), drawing, preparing, adding)


def _ahead(pool: ProcessPoolExecutor, plan: Plan, chunks: Sequence[Sequence[int]]) -> Iterator[_Made]:
    """Yield what workers make, a few chunks ahead and no more: they must not fill the memory."""
    waiting = [pool.submit(_make, plan, chunk) for chunk in chunks[:_AHEAD]]
    for chunk in [*chunks[_AHEAD:], *[None] * len(waiting)]:
        yield waiting.pop(0).result()
        if chunk is not None:
            waiting.append(pool.submit(_make, plan, chunk))


def _make(plan: Plan, rows: Sequence[int]) -> _Made:
    """Draw and prepare the synthetic fingers of some rows."""
    started = time.process_time()
    hidden = set(plan.hidden_rows)
    templates = [
        None if row in hidden else impression(finger(plan.seed, row), ridges=plan.ridges) for row in rows
    ]
    drawn = time.process_time()
    prepared = [None if template is None else prepare(template) for template in templates]
    return _Made(rows, prepared, drawn - started, time.process_time() - drawn)


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(count, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


# ---- figures


def _growth(entries: Sequence[Mapping[str, Any]]) -> list[dict[str, float]]:
    """Return by how much each gallery is larger than the one before, and a search in it slower."""
    return [
        {
            "fingers": after["fingers"] / before["fingers"],
            "search_wall": after["search"]["wall_median"] / before["search"]["wall_median"],
            "search_cpu": after["search"]["cpu_median"] / before["search"]["cpu_median"],
        }
        for before, after in pairwise(entries)
    ]


def _exponent(entries: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Return the powers of the gallery's size that times grow with, by least squares; none of one size."""
    if len({entry["fingers"] for entry in entries}) < 2:
        return {}
    sizes = np.log([entry["fingers"] for entry in entries])
    return {
        f"{name}_{clock}": float(
            np.polyfit(sizes, np.log([entry[name][f"{clock}_median"] for entry in entries]), 1)[0]
        )
        for name in ("search", "ten_fingers")
        for clock in ("wall", "cpu")
    }


def draw(entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw time, recall and memory against the gallery's size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    speed, found, space = figure.subplots(1, 3)
    sizes = [entry["fingers"] for entry in entries]
    for name, label in {
        "search": "one finger",
        "ten_fingers": "ten",
        "during_additions": "one, adding",
    }.items():
        times = [[1e3 * entry[name][part] for entry in entries] for part in ("wall_median", "wall_p99")]
        (line,) = speed.plot(sizes, times[0], marker="o", label=label)
        speed.plot(sizes, times[1], marker=".", linestyle=":", color=line.get_color())
    speed.set(yscale="log", title="a search: median, 99th percentile", ylabel="milliseconds")
    found.plot(sizes, [100 * entry["recall"] for entry in entries], marker="o", label="recall, rank 1")
    for rate in entries[0]["preselection_error"]:
        errors = [100 * (1 - entry["preselection_error"][rate]) for entry in entries]
        found.plot(sizes, errors, marker=".", linewidth=0.8, label=f"kept in {float(rate):.1%}")
    found.set(title="mates found", ylabel="%")
    for name, label in {"heap_bytes": "heap", "file_bytes": "mapped", "read_bytes": "read"}.items():
        space.plot(sizes, [entry["memory"][name] / 1024 for entry in entries], marker="o", label=label)
    space.set(yscale="log", title="a finger takes", ylabel="KiB")
    for axes in (speed, found, space):
        axes.set(xscale="log", xlabel="fingers")
        axes.grid(which="both", linewidth=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
