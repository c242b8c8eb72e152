"""Run: what a gallery costs as it grows, in building, memory and time of a search, and what it still finds.

Galleries of synthetic templates (benchmarks.synthetic.templates), in which the first impressions of real
fingers are hidden at equal distances; other impressions of those fingers are searched. Galleries stay in the
results folder: a run that was cut off goes on, and segments that no longer suit are made anew. Galleries and
the folder `prints` beside them hold templates of real prints: keep them out of version control.

What is measured of a gallery is measured in a process of its own; see `scale_searching`.
"""

import hashlib
import multiprocessing
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from benchmarks.datasets import Print as File
from benchmarks.datasets import PrintSet
from benchmarks.runner import Track, dumps, environment, untracked, write_atomic
from benchmarks.scale_searching import Plan, Probe, measure
from benchmarks.synthetic.likeness import name_of
from benchmarks.synthetic.templates import finger, impression
from enroll.image import read_image
from enroll.pipeline import extract
from matcher.codecs import NATIVE, decode, encode
from matcher.cylinders import Prepared, prepare
from matcher.errors import InvalidInput
from matcher.gallery import SEAL_AFTER, Gallery
from matcher.template import Template

FILE, PICTURE = "scale.json", "scale.png"
SIZES = (10_000, 100_000, 1_000_000)

_CHUNK, _AHEAD = 250, 8
"""Rows that a worker makes at a time, and how many such lots may wait: four megabytes each."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What is built and searched.

    Attributes
    ----------
    sizes : sequence of int
        Fingers of each gallery, the hidden ones among them.
    probes : int
        Real prints that are searched: drawn from the second and further impressions.
    ridges : bool
        Whether the synthetic templates carry ridge descriptions, as real ones do.
    seed : int
        Of synthetic fingers and of what is drawn.
    """

    sizes: Sequence[int] = SIZES
    probes: int = 50
    ridges: bool = True
    seed: int = 0


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


def run(
    sets: Sequence[PrintSet],
    out: Path,
    *,
    sample: Sample,
    workers: int = 1,
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
    track : callable

    Returns
    -------
    dict
        `sizes`, each with the fields of `Built` and of `scale_searching.Measured`; `growth` of each size from
        the one before; `ridges`, `environment`.

    Raises
    ------
    InvalidInput
        A size is less than twice the number of hidden prints, or a resolution is unknown.
    """
    hidden, searched = _real(sets, out / "prints", sample, track)
    least = 2 * len(hidden)
    if min(sample.sizes) < least:
        raise InvalidInput(f"a gallery of {min(sample.sizes)} fingers", remedy=f"give {least} or more")
    with _processes(workers) as pool:
        plans = [_plan(size, hidden, out, sample) for size in sorted(sample.sizes)]
        entries = [_entry(plan, hidden, searched, pool, track) for plan in plans]
    figures = {
        "sizes": entries,
        "growth": _growth(entries),
        "hidden": len(hidden),
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


def _real(
    sets: Sequence[PrintSet], folder: Path, sample: Sample, track: Track
) -> tuple[list[Template], list[Probe]]:
    """Return the templates to hide, and as many probes, drawn; rejected prints are left out."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    first: dict[str, Template] = {}
    others: list[tuple[str, PrintSet, File]] = []
    for each in sets:
        for _, group in groupby(each.prints, key=lambda one: one.finger):
            head, *rest = group
            name = name_of(each, head)
            if name not in first and (template := _template(each, head, folder)) is not None:
                first[name] = template
            others += [(name, each, one) for one in rest if name in first]
    drawn = np.random.default_rng(sample.seed).permutation(len(others))[: sample.probes].tolist()
    found = []
    for at in track(drawn, "extracting", len(drawn)):
        name, each, one = others[at]
        if (template := _template(each, one, folder)) is not None:
            found.append(Probe(list(first).index(name), encode(template, NATIVE)))
    return list(first.values()), found


def _plan(size: int, hidden: Sequence[Template], out: Path, sample: Sample) -> Plan:
    folder = out / f"gallery-{size}-{_digest(hidden, sample)}"
    return Plan(folder, size, sample.seed, sample.ridges, len(hidden))


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


def _entry(
    plan: Plan,
    hidden: Sequence[Template],
    searched: Sequence[Probe],
    pool: ProcessPoolExecutor,
    track: Track,
) -> dict[str, Any]:
    """Build a gallery, measure it in a fresh process, and return both."""
    built = _build(plan, hidden, pool, track)
    placed = [probe._replace(row=plan.row_of(probe.row)) for probe in searched]
    with _processes(1) as own:
        measured = own.submit(measure, plan, placed).result()
    return {"fingers": plan.size, **built._asdict(), **asdict(measured)}


def _build(plan: Plan, hidden: Sequence[Template], pool: ProcessPoolExecutor, track: Track) -> Built:
    """Add to a gallery what it lacks, in order, sealing as a node does."""
    gallery = Gallery(plan.folder, plan.alive)
    missing = gallery.missing(plan.alive)
    real = {row: prepare(hidden[number]) for number, row in enumerate(plan.hidden_rows)}
    chunks = [missing[at : at + _CHUNK] for at in range(0, len(missing), _CHUNK)]
    drawing = preparing = adding = 0.0
    for part in track(_ahead(pool, plan, chunks), f"{plan.size} fingers", len(chunks)):
        started = time.process_time()
        for row, prepared in zip(part.rows, part.prepared, strict=True):
            gallery.add(row, prepared or real[row])
        if gallery.live_rows >= SEAL_AFTER:
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


def draw(entries: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw time, recall and memory against the gallery's size."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4), layout="constrained")
    FigureCanvasAgg(figure)
    speed, found, space = figure.subplots(1, 3)
    sizes = [entry["fingers"] for entry in entries]
    for name, label in {"wall_median": "median", "wall_p99": "99th percentile", "cpu_median": "CPU"}.items():
        speed.plot(sizes, [1e3 * entry["search"][name] for entry in entries], marker="o", label=label)
    speed.set(yscale="log", title="a search of one finger", ylabel="milliseconds")
    found.plot(sizes, [100 * entry["recall"] for entry in entries], marker="o", label="recall, rank 1")
    for rate in entries[0]["preselection_error"]:
        errors = [100 * (1 - entry["preselection_error"][rate]) for entry in entries]
        found.plot(sizes, errors, marker=".", linewidth=0.8, label=f"kept in {float(rate):.0%}")
    found.set(title="mates found", ylabel="%")
    for name, label in {"heap_bytes": "heap", "file_bytes": "mapped", "disk_bytes": "disk"}.items():
        space.plot(sizes, [entry["memory"][name] / 1024 for entry in entries], marker="o", label=label)
    space.set(yscale="log", title="a finger takes", ylabel="KiB")
    for axes in (speed, found, space):
        axes.set(xscale="log", xlabel="fingers")
        axes.grid(which="both", linewidth=0.3)
        axes.legend(fontsize=8)
    figure.savefig(path, dpi=110, metadata={"Software": None})
