"""Ablation: what each part of the comparison gives, and what it costs, with all else as it ships.

Every print is extracted once, and a part of it; then every pair is compared for each `Variant`, which leaves
something out or changes a number: two whole prints, and the probe's part with the whole reference. A
variant's ratios are those of a calibration of its own, each set by a fit to the others, so that nothing is
blamed for a calibration that counts on it. Error rates are of whole prints. Times are of the comparison
alone, as a ratio to the whole one's in the same run: the variants take turns over blocks of pairs, so that a
busy machine troubles all alike.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import calibration, metrics
from benchmarks.calibration import Both, Observed
from benchmarks.datasets import PrintSet
from benchmarks.metrics import Floats
from benchmarks.partial import part_of
from benchmarks.runner import FAILED, NO_EVIDENCE, Track, dumps, pairs, untracked, write_atomic
from enroll.image import read_image
from enroll.pipeline import extract
from matcher import structure
from matcher.codecs import decode, encode
from matcher.compare import NUMBERS, Evidence, Numbers, evidence
from matcher.cylinders import Prepared, frozen, prepare
from matcher.template import Template

FILE = "ablation.json"
RATES = ("eer", "fmr100", "fmr1000")
BLOCK = 40
"""Pairs that a variant compares before the next one has its turn."""

_ALIGNMENT, _WAVES = NUMBERS.alignment, NUMBERS.waves


class Variant(NamedTuple):
    """One way to compare: how prints are prepared, the numbers, and the parts that make the ratio.

    `partial`: whether its calibration is fitted to parts of prints too.
    """

    name: str
    prepare: Callable[[Template], Prepared]
    numbers: Numbers
    terms: tuple[str, ...]
    partial: bool = True


def _bare(template: Template) -> Prepared:
    return prepare(replace(template, ridges=b""))


def _iso(template: Template) -> Prepared:
    return prepare(decode(encode(template, "iso-19794-2:2005"))[0])


def _one_level(template: Template) -> Prepared:
    """Prepare with the cylinders of all minutiae alone, and hold them against a cohort prepared like that."""
    one = prepare(template)
    met = structure.strangers((one.pose, one.every, one.every), _cohort_of_one_level())
    return replace(one, sure=one.every, strangers=frozen(met))


@cache
def _cohort_of_one_level() -> tuple[structure.Coded, ...]:
    return tuple((one.pose, one.every, one.every) for one in map(prepare, structure.cohort()))


def _unmet(template: Template) -> Prepared:
    """Prepare without a cohort: all prints as if they met strangers alike, so that structure is as it was."""
    return replace(prepare(template), strangers=frozen(np.array([0, 1], np.float32)))


def _over(least: int) -> Callable[[Template], Prepared]:
    """Prepare from minutiae of at least that quality alone, at one level."""
    return lambda template: _one_level(template.best(int((template.quality >= least).sum())))


def _bare_over(least: int) -> Callable[[Template], Prepared]:
    return lambda template: _over(least)(replace(template, ridges=b""))


RIDGES, MINUTIAE = (calibration.KINDS[kind].terms for kind in ("ridges", "minutiae"))
STRUCTURE = ("structure",)
VARIANTS = (
    Variant("whole", prepare, NUMBERS, RIDGES),
    Variant("without the cohort", _unmet, NUMBERS, RIDGES),
    Variant("fitted without parts", prepare, NUMBERS, RIDGES, partial=False),
    Variant("without the cohort, fitted without parts", _unmet, NUMBERS, RIDGES, partial=False),
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
    """A variant's evidence of every pair of a set (n, 5), whole and part, and the seconds of the whole."""

    whole: Floats
    part: Floats
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
        `variants`: by name, `macro`, `pooled` and `sets` (each with its rates as fractions), `stated` and
        `stated_parts` (as `calibration.judge` has them) and `time` (ratio to the first variant's).
    """
    rows = {each.name: _compare_set(each, variants, track) for each in sets}
    spent = {v.name: sum(rows[name][k].seconds for name in rows) for k, v in enumerate(variants)}
    report = {
        "sets": [each.name for each in sets],
        "variants": {
            variant.name: _measure({each.name: _both(each, rows[each.name][k]) for each in sets}, variant)
            | {"time": round(spent[variant.name] / spent[variants[0].name], 3)}
            for k, variant in enumerate(variants)
        },
    }
    out.mkdir(parents=True, exist_ok=True)
    write_atomic(out / FILE, dumps(report))
    return report


def _compare_set(each: PrintSet, variants: Sequence[Variant], track: Track) -> list[Row]:
    found = track(each.prints, f"{each.name}: extracting", len(each.prints))
    drawn = [_templates(one.path.read_bytes(), each.ppi) for one in found]
    ready = [[_prepared(variant, of) for of in zip(*drawn, strict=True)] for variant in variants]
    every = list(pairs(len(drawn)))
    blocks = [every[at : at + BLOCK] for at in range(0, len(every), BLOCK)]
    values: list[tuple[list[Evidence], list[Evidence]]] = [([], []) for _ in variants]
    seconds = np.zeros(len(variants))
    for block in track(blocks, f"{each.name}: comparing", len(blocks)):
        for k, (whole, part) in enumerate(ready):
            numbers, (of_whole, of_part) = variants[k].numbers, values[k]
            started = time.thread_time()
            of_whole += [_evidence(whole[i], whole[j], numbers) for i, j in block]
            seconds[k] += time.thread_time() - started
            of_part += [_evidence(part[i], whole[j], numbers) for i, j in block]
    return [
        Row(_array(of_whole), _array(of_part), spent)
        for (of_whole, of_part), spent in zip(values, seconds.tolist(), strict=True)
    ]


def _templates(data: bytes, ppi: float | None) -> tuple[Template | None, Template | None]:
    """Return the template of an image, and of a part of it."""
    image = read_image(data, ppi=ppi)
    extraction = extract(image)
    whole = extraction.template
    return (None, None) if extraction.rejected else (whole, part_of(image, whole))


def _prepared(variant: Variant, templates: Sequence[Template | None]) -> list[Prepared | None]:
    return [None if one is None else variant.prepare(one) for one in templates]


def _evidence(probe: Prepared | None, reference: Prepared | None, numbers: Numbers) -> Evidence:
    if probe is None or reference is None:
        return NO_EVIDENCE
    return evidence(probe, reference, numbers=numbers)


def _array(found: Sequence[Evidence]) -> Floats:
    return np.asarray([[np.nan if value is None else value for value in one] for one in found], np.float64)


def _both(each: PrintSet, row: Row) -> Both:
    names = [(each.prints[i].name, each.prints[j].name) for i, j in pairs(len(each.prints))]
    mated = _mated(each)
    of = (Observed(values, mated, values[:, 0] == FAILED, names, "") for values in (row.whole, row.part))
    return Both(*of)


def _mated(each: PrintSet) -> NDArray[np.bool_]:
    fingers = [one.finger for one in each.prints]
    return np.asarray([fingers[i] == fingers[j] for i, j in pairs(len(fingers))], bool)


def _measure(both: dict[str, Both], variant: Variant) -> dict[str, Any]:
    fitted = both if variant.partial else {name: _without_part(one) for name, one in both.items()}
    models = calibration.left_out(fitted, variant.terms)
    sets = {name: one.whole for name, one in both.items()}
    stated = {
        name: np.where(part.failed, FAILED, calibration.ratios_of(part.values, models[name]))
        for name, part in sets.items()
    }
    by_set = {name: _rates(stated[name], sets[name].mated) for name in sets}
    return {
        "macro": {key: float(np.mean([each[key] for each in by_set.values()])) for key in RATES},
        "pooled": _rates(
            np.concatenate(list(stated.values())), np.concatenate([sets[name].mated for name in stated])
        ),
        "sets": by_set,
        "stated": calibration.judge(sets, models),
        "stated_parts": calibration.judge({name: one.part for name, one in both.items()}, models),
    }


def _without_part(both: Both) -> Both:
    return both._replace(part=both.part._replace(failed=np.ones(len(both.part.failed), bool)))


def _rates(scores: Floats, mated: NDArray[np.bool_]) -> dict[str, float]:
    curve = metrics.det(scores[mated], scores[~mated])
    return {
        "eer": metrics.eer(curve),
        "fmr100": metrics.fnmr_at(curve, 1e-2),
        "fmr1000": metrics.fnmr_at(curve, 1e-3),
    }
