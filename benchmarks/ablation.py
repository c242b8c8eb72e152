"""Ablation: what each part of the comparison gives, and what it costs, with all else as it ships.

Every print is extracted once; then every pair is compared once for each `Variant`, which leaves a part out
or changes a number. A variant's ratios are those of a calibration of its own, each set by a fit to the
others, so that a part is not blamed for a calibration that counts on it. Times are of the comparison alone,
as a ratio to the whole one's in the same run: the variants take turns over blocks of pairs, so that a busy
machine troubles all alike.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import calibration, metrics
from benchmarks.calibration import Observed
from benchmarks.datasets import PrintSet
from benchmarks.metrics import Floats
from benchmarks.runner import FAILED, NO_EVIDENCE, Track, dumps, pairs, untracked, write_atomic
from enroll.image import read_image
from enroll.pipeline import extract
from matcher.codecs import decode, encode
from matcher.compare import NUMBERS, Evidence, Numbers, evidence
from matcher.cylinders import Prepared, prepare
from matcher.template import Template

FILE = "ablation.json"
RATES = ("eer", "fmr100", "fmr1000")
BLOCK = 40
"""Pairs that a variant compares before the next one has its turn."""

_ALIGNMENT, _WAVES = NUMBERS.alignment, NUMBERS.waves


class Variant(NamedTuple):
    """One way to compare: how prints are prepared, the numbers, and the parts that make the ratio."""

    name: str
    prepare: Callable[[Template], Prepared]
    numbers: Numbers
    terms: tuple[str, ...]


def _bare(template: Template) -> Prepared:
    return prepare(replace(template, ridges=b""))


def _iso(template: Template) -> Prepared:
    return prepare(decode(encode(template, "iso-19794-2:2005"))[0])


def _one_level(template: Template) -> Prepared:
    prepared = prepare(template)
    return replace(prepared, sure=prepared.every)


def _over(least: int) -> Callable[[Template], Prepared]:
    """Prepare from minutiae of at least that quality alone, at one level."""
    return lambda template: _one_level(template.best(int((template.quality >= least).sum())))


def _bare_over(least: int) -> Callable[[Template], Prepared]:
    return lambda template: _over(least)(replace(template, ridges=b""))


RIDGES, MINUTIAE = (calibration.KINDS[kind].terms for kind in ("ridges", "minutiae"))
STRUCTURE = ("structure",)
VARIANTS = (
    Variant("whole", prepare, NUMBERS, RIDGES),
    Variant("without the share of matched minutiae", prepare, NUMBERS, ("structure", "ridges")),
    Variant("without structure", prepare, NUMBERS, ("share", "ridges")),
    Variant("ridges alone", prepare, NUMBERS, ("ridges",)),
    Variant("one level of quality, 20", _one_level, NUMBERS, RIDGES),
    Variant("one level of quality, 30", _over(30), NUMBERS, RIDGES),
    Variant("one level of quality, 50", _over(50), NUMBERS, RIDGES),
    Variant("one motion", prepare, NUMBERS._replace(alignment=_ALIGNMENT._replace(tried=1)), RIDGES),
    Variant("two motions", prepare, NUMBERS._replace(alignment=_ALIGNMENT._replace(tried=2)), RIDGES),
    Variant("eight motions", prepare, NUMBERS._replace(alignment=_ALIGNMENT._replace(tried=8)), RIDGES),
    Variant(
        "no bending", prepare, NUMBERS._replace(alignment=_ALIGNMENT._replace(bending_pairs=10_000)), RIDGES
    ),
    Variant(
        "no settling",
        prepare,
        NUMBERS._replace(waves=_WAVES._replace(windows=(1.0,), most_shift=0.0)),
        RIDGES,
    ),
    Variant("minutiae alone", _bare, NUMBERS, MINUTIAE),
    Variant("minutiae alone, through ISO 19794-2", _iso, NUMBERS, MINUTIAE),
    Variant(
        "minutiae alone, no bending",
        _bare,
        NUMBERS._replace(alignment=_ALIGNMENT._replace(bending_pairs=10_000)),
        MINUTIAE,
    ),
    Variant("structure alone", _bare, NUMBERS, STRUCTURE),
    Variant("structure alone, one level, 30", _bare_over(30), NUMBERS, STRUCTURE),
)
"""The whole first: the others' times are stated against its own."""


class Row(NamedTuple):
    """A variant's evidence of every pair of a set (n, 4), and the seconds that it took."""

    values: Floats
    seconds: float


def run(
    sets: Sequence[PrintSet],
    out: Path,
    *,
    variants: Sequence[Variant] = VARIANTS,
    track: Track = untracked,
) -> dict[str, Any]:
    """Measure the variants and write `ablation.json`.

    Parameters
    ----------
    sets : sequence of PrintSet
        At least two.
    out : Path
        Results folder; made when it does not exist.
    variants : sequence of Variant
    track : Track

    Returns
    -------
    dict
        `variants`: by name, `macro`, `pooled` and `sets` (each with its rates as fractions), `cllr` and
        `cllr_min` (pooled, bits) and `time` (ratio to the first variant's).
    """
    rows = {each.name: _compare_set(each, variants, track) for each in sets}
    spent = {v.name: sum(rows[name][k].seconds for name in rows) for k, v in enumerate(variants)}
    report = {
        "sets": [each.name for each in sets],
        "variants": {
            variant.name: _measure(
                {each.name: _observed(each, rows[each.name][k].values) for each in sets}, variant.terms
            )
            | {"time": round(spent[variant.name] / spent[variants[0].name], 3)}
            for k, variant in enumerate(variants)
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / FILE, dumps(report))
    return report


def _compare_set(each: PrintSet, variants: Sequence[Variant], track: Track) -> list[Row]:
    found = track(each.prints, f"{each.name}: extracting", len(each.prints))
    templates = [_template(one.path.read_bytes(), each.ppi) for one in found]
    prepared = [[None if t is None else variant.prepare(t) for t in templates] for variant in variants]
    every = list(pairs(len(templates)))
    blocks = [every[at : at + BLOCK] for at in range(0, len(every), BLOCK)]
    values: list[list[Evidence]] = [[] for _ in variants]
    seconds = np.zeros(len(variants))
    for block in track(blocks, f"{each.name}: comparing", len(blocks)):
        for k, variant in enumerate(variants):
            started = time.thread_time()
            values[k] += [_evidence(prepared[k][i], prepared[k][j], variant.numbers) for i, j in block]
            seconds[k] += time.thread_time() - started
    return [Row(_array(found), float(spent)) for found, spent in zip(values, seconds.tolist(), strict=True)]


def _template(data: bytes, ppi: float | None) -> Template | None:
    extraction = extract(read_image(data, ppi=ppi))
    return None if extraction.rejected else extraction.template


def _evidence(probe: Prepared | None, reference: Prepared | None, numbers: Numbers) -> Evidence:
    if probe is None or reference is None:
        return NO_EVIDENCE
    return evidence(probe, reference, numbers=numbers)


def _array(found: Sequence[Evidence]) -> Floats:
    return np.asarray([[np.nan if value is None else value for value in one] for one in found], np.float64)


def _observed(each: PrintSet, values: Floats) -> Observed:
    names = [(each.prints[i].name, each.prints[j].name) for i, j in pairs(len(each.prints))]
    return Observed(values, _mated(each), values[:, 0] == FAILED, names, "")


def _mated(each: PrintSet) -> NDArray[np.bool_]:
    fingers = [one.finger for one in each.prints]
    return np.asarray([fingers[i] == fingers[j] for i, j in pairs(len(fingers))], bool)


def _measure(sets: dict[str, Observed], terms: tuple[str, ...]) -> dict[str, Any]:
    models = calibration.left_out(sets, terms)
    stated = {
        name: np.where(part.failed, FAILED, calibration.ratios_of(part.values, models[name]))
        for name, part in sets.items()
    }
    by_set = {name: _rates(stated[name], sets[name].mated) for name in sets}
    ratios = [calibration.state(sets[name], models[name]) for name in sets]
    pooled = calibration.Ratios(*(np.concatenate(parts) for parts in zip(*ratios, strict=True)))
    return {
        "macro": {key: float(np.mean([each[key] for each in by_set.values()])) for key in RATES},
        "pooled": _rates(
            np.concatenate(list(stated.values())), np.concatenate([sets[name].mated for name in stated])
        ),
        "sets": by_set,
        "cllr": round(calibration.cllr(pooled), 5),
        "cllr_min": round(calibration.cllr_min(pooled), 5),
    }


def _rates(scores: Floats, mated: NDArray[np.bool_]) -> dict[str, float]:
    curve = metrics.det(scores[mated], scores[~mated])
    return {
        "eer": metrics.eer(curve),
        "fmr100": metrics.fnmr_at(curve, 1e-2),
        "fmr1000": metrics.fnmr_at(curve, 1e-3),
    }
