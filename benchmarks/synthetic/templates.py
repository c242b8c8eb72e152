"""Synthetic templates without images: galleries of any size, whose numbers are fitted to real prints.

`finger` draws a finger by a seed and its number alone: flow of its class, minutiae where that flow asks for
them. `impression` lays it on a sensor. `fingers` gives the first impressions of many, a gallery to enrol:

    for number, template in enumerate(fingers(seed=1, first=0, count=100_000)):
        ...
    probe = impression(finger(1, 42), 1)  # a mate of the template of number 42

Equal seeds and numbers give equal templates, whatever came before. Ten fingers that follow each other are
one person's: number k is of finger position k % 10 + 1.

Where ridges spread, new ones must begin: per area, the ridges that begin one way exceed those that begin the
other way by |div t| / T, with t the unit vector along the ridges and T their period. Real prints keep to it
(`benchmarks.synthetic.fit` measures how far), and so do these: it sets where minutiae lie and which of the
two ways along the ridge each of them points. The numbers are in `templates.json`; docs/synthetic.md shows
them against the real.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import gamma, ndtr

from benchmarks.kernels import direct, press, throw
from benchmarks.synthetic.flows import COLUMNS, LEFT, STEP, TOP, Flow, X, Y, divergence, draw
from benchmarks.synthetic.pattern import FREQUENCIES, Pattern
from benchmarks.synthetic.ridges import View, describe, grow
from matcher.template import Finger, Template

Floats = NDArray[np.float64]

_INSIDE = np.abs(X / 208) ** 2.5 + np.abs((Y - 40) / 280) ** 2.5 < 1  # what a finger has
_PATTERNS = tuple(FREQUENCIES)
_CLASSES = np.cumsum(list(FREQUENCIES.values())) / sum(FREQUENCIES.values())


class Fitted(NamedTuple):
    """Numbers of `templates.json`: quantiles at equal steps from 0 to 1, unless a comment says otherwise.

    Lengths in pixels at 500 ppi, angles in radians.
    """

    area: Floats  # of the foreground
    aspect: Floats  # its height by its width
    density: Floats  # minutiae in 10,000 square pixels of foreground
    quality: Floats
    period: Floats
    divergence: Floats
    """Ridges that must begin in 10,000 square pixels, for the two tables below; no quantiles."""
    intensity: Floats  # density of minutiae there, mean 1
    kinds: Floats  # shares of endings and bifurcations; no quantiles
    gain: float = 1.54  # minutiae thrown for one that is found: some fall too near, some are not seen
    spread: float = 0.6
    """Share of the density's deviation that is a finger's own; chance in its count makes the rest."""
    print_quality: float = 0.38  # deviation of a print's quality, of a normal score
    worth: float = 0.6  # the same of a minutia that shows so in every impression; chance makes the rest
    sense: tuple[float, ...] = (0.15, 0.5, 0.75, 0.9, 0.95)  # those of the one way less those of the other
    near: tuple[float, float] = (6.0, 14.0)  # no two minutiae nearer, and where nearness stops to matter
    opposed: tuple[float, float] = (16.0, 0.6)  # two nearer than this point oppositely, with this chance
    jitter: tuple[float, float] = (0.09, 0.7)
    """Deviation of a minutia from the flow, its own; its logarithm falls so much with the minutia's worth."""
    doubtful: float = 0.15
    """Share of what is no minutia, but taken for one now and then: a pore, a crease, a broken ridge."""
    shows: tuple[float, float] = (0.95, 0.3)  # chance to be found of what is a minutia, and what is none
    doubtful_worth: float = -1.0  # of those


class Pressing(NamedTuple):
    """Tuned numbers of an impression; lengths in pixels at 500 ppi, angles in radians."""

    power: float = 2.5  # of the superellipse that the foreground is: it fills 0.84 of its frame
    offset: tuple[float, float] = (16.0, 26.0)  # deviation of its centre from the pattern's
    lower: float = 25.0  # how far it lies below that on average
    turn: float = 0.10
    bend: float = 5.0  # deviation of the greatest shift by stretching
    jitter: tuple[float, float] = (1.0, 0.06)  # of a minutia: pixels, radians
    rim: tuple[float, ...] = (0.0, 10.0, 25.0, 45.0)  # distance from the foreground's edge
    rim_seen: tuple[float, ...] = (0.25, 0.5, 0.9, 1.0)  # share there
    rim_worth: tuple[float, ...] = (-0.8, -0.5, 0.1, 0.2)  # added to the normal score of the quality
    margin: tuple[int, int] = (4, 40)


@dataclass(frozen=True, slots=True, eq=False)
class TemplateFinger:
    """A finger that no one has, as far as templates show it.

    Attributes
    ----------
    seed, number : int
        From which all of it follows.
    pattern : Pattern
    flow : ndarray of complex64, shape (35, 26)
        exp(2 i a) of the ridges' direction a (counter-clockwise as seen) at places `STEP` apart.
    period : float
        Mean distance from ridge to ridge, pixels at 500 ppi.
    xy : ndarray of float64, shape (n, 2)
        Minutiae, pixels at 500 ppi from the pattern's centre, y down.
    angle : ndarray of float64, shape (n,)
    kind : ndarray of uint8, shape (n,)
    worth : ndarray of float64, shape (n,)
        How well each shows in every impression, a normal score.
    shows : ndarray of float64, shape (n,)
        The chance that an impression shows it, where it does not lie at the edge.
    """

    seed: int
    number: int
    pattern: Pattern
    flow: Flow
    period: float
    xy: Floats
    angle: Floats
    kind: NDArray[np.uint8]
    worth: Floats
    shows: Floats


class _Found(NamedTuple):
    """What an impression shows: places about the foreground's centre, y down, distances from its edge."""

    xy: Floats
    angle: Floats
    rim: Floats
    which: NDArray[np.int64]


class _Lie(NamedTuple):
    """How a finger lies: half the foreground's width and height, its centre on the finger, the turn."""

    half: Floats
    middle: Floats
    turn: float


@cache
def fitted() -> Fitted:
    """Return the numbers of `templates.json`."""
    kept = json.loads(Path(__file__).with_name("templates.json").read_text(encoding="utf-8"))
    tables: dict[str, Any] = {name: np.asarray(values, np.float64) for name, values in kept.items()}
    return Fitted(**tables)


def fingers(
    seed: int, first: int, count: int, *, ridges: bool = False, model: Fitted | None = None
) -> Iterator[Template]:
    """Yield the first impressions of the fingers `first`, `first` + 1 and so on.

    Parameters
    ----------
    seed : int
        0 to 2**32 - 1; galleries of different seeds have no finger in common.
    first, count : int
        Numbers of fingers, from 0.
    ridges : bool
        With a ridge description, which takes twice as long.
    model : Fitted, optional

    Yields
    ------
    Template
    """
    for number in range(first, first + count):
        yield impression(finger(seed, number, model=model), ridges=ridges, model=model)


def finger(seed: int, number: int, *, model: Fitted | None = None) -> TemplateFinger:
    """Make the finger of a number.

    Parameters
    ----------
    seed, number : int
        0 to 2**32 - 1.
    model : Fitted, optional
        By default what is fitted to real prints.

    Returns
    -------
    TemplateFinger
    """
    model, rng = model or fitted(), np.random.default_rng([seed, number])
    pattern = _PATTERNS[int(np.searchsorted(_CLASSES, rng.random()))]
    period = _quantile(model.period, rng.standard_normal())
    flow = draw(pattern, rng)
    density = model.gain * _quantile(model.density, model.spread * rng.standard_normal())
    asked = divergence(flow, STEP) * np.float32(1e4 / period)
    steep = np.abs(asked)
    at = _thrown(_INSIDE * density * np.interp(steep, model.divergence, model.intensity), rng, model)
    chance, (astray, worth) = rng.random((4, at.shape[1])), rng.standard_normal((2, at.shape[1]))
    excess = np.sign(asked) * np.interp(steep, model.divergence, model.sense)
    angle = direct(at, flow, excess, chance, model.opposed[0] / STEP, model.opposed[1])
    doubtful = chance[3] < model.doubtful
    worth += doubtful * model.doubtful_worth
    angle += _jitter(astray, worth, model)
    xy = at.T * STEP + (LEFT, TOP)
    kind = 2 - (chance[2] < model.kinds[0]).astype(np.uint8)
    shows = np.where(doubtful, *model.shows[::-1])
    return TemplateFinger(seed, number, pattern, flow, period, xy, angle, kind, worth, shows)


def impression(
    finger: TemplateFinger,
    number: int = 0,
    *,
    ridges: bool = False,
    model: Fitted | None = None,
    pressing: Pressing | None = None,
) -> Template:
    """Lay a finger on the sensor.

    Parameters
    ----------
    finger : TemplateFinger
    number : int
        At least 0; equal numbers give equal templates, others are mates.
    ridges : bool
        With a ridge description; the minutiae are the same.
    model : Fitted, optional
    pressing : Pressing, optional

    Returns
    -------
    Template
        Its finger position is the finger's number % 10 + 1.
    """
    model, pressing = model or fitted(), pressing or Pressing()
    rng = np.random.default_rng([finger.seed, finger.number, number + 1])
    lie = _lie(rng, model, pressing)
    xy, angle, rim, which = _found(finger, lie, rng, pressing)
    chance = rng.standard_normal(len(which) + 1)
    rest = np.sqrt(1 - model.print_quality**2 - model.worth**2)
    score = model.print_quality * chance[0] + model.worth * finger.worth[which] + rest * chance[1:]
    quality = _quantile(model.quality, score + np.interp(rim, pressing.rim, pressing.rim_worth))
    margin = rng.integers(*pressing.margin, (2, 2))
    size = (2 * lie.half + margin.sum(axis=0)).astype(int)
    place = np.minimum(np.maximum(xy + lie.half + margin[0], 0), size - 1)
    position, frame = Finger(finger.number % 10 + 1), (int(size[0]), int(size[1]))
    waves = b""
    if ridges:
        grown = np.random.default_rng([finger.seed, finger.number, 0, 1])  # a trailing 0 would change nothing
        view = View(lie.half, lie.middle - (LEFT, TOP), lie.turn, margin[0])
        waves = describe(grow(finger.flow, finger.period, STEP, grown), view, STEP, pressing.power, rng)
    kind = finger.kind[which]
    return Template.of(place, angle, kind, quality, size=frame, finger=position, ridges=waves)


# ---- the finger


def _thrown(density: NDArray[np.floating], rng: np.random.Generator, model: Fitted) -> Floats:
    """Throw points of a density (in 10,000 square pixels, by place) that keep their distance.

    Returns their columns and rows (2, n), in places.
    """
    mass = np.cumsum(density) * (STEP * STEP / 1e4)
    near = (model.near[0] / STEP, model.near[1] / STEP)
    return throw(mass, COLUMNS, rng.random((4, int(rng.poisson(mass[-1])))), near)


def _jitter(astray: Floats, worth: Floats, model: Fitted) -> Floats:
    deviation, fall = model.jitter
    return np.asarray(deviation * np.exp(-fall * worth) * astray)


# ---- the impression


def _lie(rng: np.random.Generator, model: Fitted, pressing: Pressing) -> _Lie:
    """Draw the foreground and how the finger lies in it."""
    chance = rng.standard_normal(5)
    area, aspect = _quantile(model.area, chance[0]), _quantile(model.aspect, chance[1])
    width = np.sqrt(area / (aspect * _filled(pressing.power)))
    half = np.array([width, width * aspect]) / 2
    middle = chance[2:4] * pressing.offset + (0.0, pressing.lower)
    return _Lie(half, middle, float(pressing.turn * chance[4]))


@cache
def _filled(power: float) -> float:
    """Return the share of its frame that a superellipse fills."""
    return float(gamma(1 + 1 / power) ** 2 / gamma(1 + 2 / power))


def _found(finger: TemplateFinger, lie: _Lie, rng: np.random.Generator, pressing: Pressing) -> _Found:
    """Return the finger's minutiae that an impression shows, where it shows them."""
    bend = pressing.bend / 2 * rng.standard_normal((3, 2))
    where = (*lie.half.tolist(), *lie.middle.tolist(), lie.turn)
    x, y, rim = press(finger.xy, where, bend, pressing.power)
    visible = (rim > 0) * finger.shows * np.interp(rim, pressing.rim, pressing.rim_seen)
    which = np.flatnonzero(rng.random(len(rim)) < visible)
    chance = rng.standard_normal((3, len(which)))
    angle = finger.angle[which] + lie.turn + pressing.jitter[1] * chance[2]
    xy = np.column_stack((x[which], y[which])) + pressing.jitter[0] * chance[:2].T
    return _Found(xy, angle, rim[which], which)


def _quantile(table: Floats, score: Any) -> Any:
    """Return the values of a table of quantiles at normal scores."""
    return np.interp(ndtr(score) * (len(table) - 1), np.arange(len(table)), table)
