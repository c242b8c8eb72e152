"""Which blobs are which fingertips: the likeliest arrangement of a hand, and the turn that it lies under.

For every turn and either hand, the blobs are read from left to right as fingers. Each reading has a
logarithm of its likelihood: how a fingertip of that finger looks (width, length, clarity, none above it), how
far the next fingertip lies beside and above it, and that fingers point along their own long axes. The
best reading is found by dynamic programming; that of the other hand says how sure the hand is.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from enroll.slap.blobs import Blob
from matcher.template import Finger

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HandModel:
    """Lengths in mm, angles in radians, deviations of normal laws; read off four slaps and rounded up."""

    # Fingertips of a right hand, fingers up: right and down from the tip of the index finger.
    tips: tuple[tuple[float, float], ...] = ((0.0, 0.0), (20.0, -12.0), (39.0, -7.0), (57.0, 16.0))
    widths: tuple[float, ...] = (15.5, 16.0, 15.5, 13.0)
    beside: float = 4.5  # deviation of the distance to the next finger
    above: float = 6.0  # of the difference in height to it
    heavy: float = 6.0  # degrees of freedom of both: spread hands are less rare than a normal law says
    thumbs: tuple[tuple[float, float], ...] = ((0.0, 0.0), (34.0, 0.0))
    thumb_width: float = 20.0
    thumbs_beside: float = 15.0
    thumbs_above: float = 10.0
    width: float = 3.5
    length: float = 5.0  # of how far a tip falls short of `whole`
    whole: float = 18.0
    read: float = 22.0  # of a blob's length that is taken for the tip
    coherence: tuple[float, float] = (0.65, 0.15)  # of a clear print; deviation of how far it falls short
    writing: tuple[float, float] = (0.8, 0.15)  # of skin; deviation of how far it is exceeded
    faint: float = 2.0  # for each natural logarithm of amplitude below that of the best
    cut: float = 4.0  # for a blob whose outline is all border
    below: float = 6.0  # for a blob that has a whole one above it: a middle joint
    absent: float = 9.0  # for a finger that is not found
    along: float = 0.2  # of a blob's axis from the hand's turn
    most_along: float = 3.0
    turn: float = 0.45  # of a hand from upright
    thumb_turn: float = 0.15  # of thumbs
    most_turn: float = 0.9  # 45 degrees, and what fingers stray from their hand
    step: float = 0.07
    apart: float = 6.0  # at least, of two fingers' middles


MODEL = HandModel()


class Layout(NamedTuple):
    """Fingers expected from left to right: tips (f, 2), widths, mm; deviations beside, above, of turn."""

    fingers: tuple[Finger, ...]
    tips: Floats
    widths: Floats
    beside: float
    above: float
    turn: float


class Reading(NamedTuple):
    """One reading: the blob of each finger found, from left to right, and the turn, radians."""

    likelihood: float
    fingers: tuple[Finger, ...]
    blobs: tuple[int, ...]
    turn: float


class _Tips(NamedTuple):
    """All blobs under all turns: middle, top and bottom, width and length of their tips, mm; (t, b) each."""

    middle: Floats
    top: Floats
    bottom: Floats
    width: Floats
    length: Floats


def four_fingers(*, right: bool, missing: Sequence[Finger] = (), model: HandModel = MODEL) -> Layout:
    """Return the layout of a hand's four fingers as a scanner sees them from below.

    Parameters
    ----------
    right : bool
        Of the right hand; else of the left one.
    missing : sequence of Finger
        Left out.
    model : HandModel
    """
    first = Finger.RIGHT_INDEX if right else Finger.LEFT_INDEX
    kept = [k for k in range(4) if Finger(first + k) not in missing]
    kept = kept if right else kept[::-1]
    tips = np.array([model.tips[k] for k in kept], np.float64).reshape(-1, 2)
    tips[:, 0] *= 1 if right else -1
    widths = np.array([model.widths[k] for k in kept])
    return Layout(tuple(Finger(first + k) for k in kept), tips, widths, model.beside, model.above, model.turn)


def two_thumbs(fingers: Sequence[Finger], *, model: HandModel = MODEL) -> Layout:
    """Return the layout of one thumb or two, the left one on the left.

    Parameters
    ----------
    fingers : sequence of Finger
        The thumbs that are expected.
    model : HandModel
    """
    kept = [k for k, finger in enumerate((Finger.LEFT_THUMB, Finger.RIGHT_THUMB)) if finger in fingers]
    names = tuple((Finger.LEFT_THUMB, Finger.RIGHT_THUMB)[k] for k in kept)
    tips = np.array([model.thumbs[k] for k in kept], np.float64).reshape(-1, 2)
    widths = np.full(len(kept), model.thumb_width)
    return Layout(names, tips, widths, model.thumbs_beside, model.thumbs_above, model.thumb_turn)


def read(blobs: Sequence[Blob], layout: Layout, *, model: HandModel = MODEL) -> Reading:
    """Find the likeliest reading of blobs as the fingers of a layout.

    Parameters
    ----------
    blobs : sequence of Blob
    layout : Layout
    model : HandModel

    Returns
    -------
    Reading
        With fewer fingers than the layout where that is likelier.
    """
    if not blobs or not layout.fingers:
        return Reading(-model.absent * len(layout.fingers), (), (), 0.0)
    turns = np.arange(-model.most_turn, model.most_turn + model.step / 2, model.step)
    tips = _tips(blobs, turns, model)
    looks, pairs = _looks(blobs, tips, layout, model), _pairs(tips, layout, model)
    paths = _Paths.over(looks, pairs, model.absent)
    worth = paths.ends.max(axis=(1, 2)) - _against(turns, blobs, layout, model)
    best = int(np.argmax(worth))
    chosen = paths.trace(best)
    fingers = tuple(layout.fingers[f] for _, f in chosen)
    return Reading(float(worth[best]), fingers, tuple(b for b, _ in chosen), float(turns[best]))


def upright(points: NDArray[np.floating], turn: float) -> Floats:
    """Turn points (n, 2) of the picture back: a hand that lay under `turn` points up then."""
    cos, sin = np.cos(turn), np.sin(turn)
    return np.asarray(np.asarray(points, np.float64) @ np.array([[cos, sin], [-sin, cos]]))


def axis_of(points: NDArray[np.floating]) -> tuple[float, float]:
    """Return the turn of a blob's long axis from upright, in (-pi/2, pi/2], and how much longer it is."""
    if len(points) < 3:
        return 0.0, 1.0
    values, vectors = np.linalg.eigh(np.cov(points.T.astype(np.float64)))
    x, y = vectors[:, 1]
    turn = float(np.arctan2(-x, -y)) if y < 0 else float(np.arctan2(x, y))
    return turn, float(np.sqrt(values[1] / max(values[0], 1e-9)))


def _against(turns: Floats, blobs: Sequence[Blob], layout: Layout, model: HandModel) -> Floats:
    """Return what speaks against each turn: axes of blobs that lie across it; round or cut ones have none."""
    found = np.array([axis_of(blob.points) for blob in blobs]).reshape(-1, 2)
    weights = np.clip((found[:, 1] - 1.15) / 0.4, 0, 1) * _whole(blobs)
    off = (found[:, 0] - turns[:, None] + np.pi / 2) % np.pi - np.pi / 2
    each = np.minimum((off / model.along) ** 2 / 2, model.most_along)
    return np.asarray(each @ weights + (turns / layout.turn) ** 2 / 2)


def _tips(blobs: Sequence[Blob], turns: Floats, model: HandModel) -> _Tips:
    rows = []
    for blob in blobs:
        points = blob.points[:: max(1, len(blob.points) // 400)]
        turned = np.stack([upright(points, float(turn)) for turn in turns])
        top, bottom = np.percentile(turned[..., 1], (1, 99), axis=1)
        in_tip = turned[..., 1] < top[:, None] + model.read
        left, right = np.nanpercentile(np.where(in_tip, turned[..., 0], np.nan), (2, 98), axis=1)
        rows.append(((left + right) / 2, top, bottom, right - left, bottom - top))
    return _Tips(*np.array(rows, np.float64).transpose(1, 2, 0))


def _looks(blobs: Sequence[Blob], tips: _Tips, layout: Layout, model: HandModel) -> Floats:
    """Return how each blob looks as each finger, (t, b, f), at most 0."""
    strength = np.array([blob.strength for blob in blobs])
    coherence = np.array([blob.coherence for blob in blobs])
    cut = np.array([blob.cut for blob in blobs])
    wide = (tips.width[..., None] - layout.widths) / model.width
    short = np.clip(model.whole - tips.length, 0, None) / model.length
    unclear = np.clip(model.coherence[0] - coherence, 0, None) / model.coherence[1]
    written = np.array([max(0.0, blob.writing - model.writing[0]) for blob in blobs]) / model.writing[1]
    faint = model.faint * np.log(strength.max() / np.maximum(strength, 1e-6))
    alone = (
        (short**2 + unclear**2 + written**2) / 2
        + faint
        + model.cut * cut
        + model.below * _covered(blobs, tips)
    )
    return np.asarray(-(wide**2) / 2 - alone[..., None])


def _covered(blobs: Sequence[Blob], tips: _Tips) -> Floats:
    """Return to what degree each blob has a finger's end straight above it, (t, b), 0 to 1."""
    aside = np.abs(tips.middle[:, :, None] - tips.middle[:, None])
    gap = tips.top[:, :, None] - tips.bottom[:, None]
    lower = tips.top[:, :, None] - tips.top[:, None]
    above = (aside < 9) & (gap > -8) & (gap < 15) & (lower > 8)
    return np.asarray((above * _whole(blobs)).max(axis=2))


def _whole(blobs: Sequence[Blob]) -> Floats:
    """Return to what degree each blob is a clear and whole joint of a finger, 0 to 1."""
    table = np.array([(b.area / 150, 1 - 4 * b.cut, b.coherence / 0.5, 7 - 6 * b.writing) for b in blobs])
    return np.asarray(np.clip(table, 0, 1).prod(axis=1))


def _pairs(tips: _Tips, layout: Layout, model: HandModel) -> Floats:
    """Return how well blob j as finger g lies beside blob i as finger f, (t, i, f, j, g)."""
    across = tips.middle[:, None] - tips.middle[:, :, None]
    down = tips.top[:, None] - tips.top[:, :, None]
    wanted = layout.tips - layout.tips[:, None]
    number = np.arange(len(wanted))
    steps = np.maximum(np.abs(number[:, None] - number), 1)
    x = (across[:, :, None, :, None] - wanted[None, None, :, None, :, 0]) / layout.beside
    y = (down[:, :, None, :, None] - wanted[None, None, :, None, :, 1]) / layout.above
    apart = across[:, :, None, :, None] > model.apart
    far = (x**2 + y**2) / steps[None, None, :, None, :]
    return np.where(apart, -model.heavy / 2 * np.log1p(far / model.heavy), -np.inf)


class _Paths(NamedTuple):
    """Best readings that end with each blob as each finger, under each turn: worth, whole worth, origins."""

    best: Floats
    ends: Floats
    origin: NDArray[np.int64]

    @classmethod
    def over(cls, looks: Floats, pairs: Floats, absent: float) -> "_Paths":
        """Go through the fingers from left to right; what a path leaves out costs `absent` a finger."""
        turns, count, fingers = looks.shape
        best = looks - absent * np.arange(fingers)
        origin = np.full((turns, count, fingers), -1)
        for f in range(fingers):
            for g in range(f):
                come = best[:, :, g, None] + pairs[:, :, g, :, f]
                value = come.max(axis=1) + looks[:, :, f] - absent * (f - g - 1)
                better = value > best[:, :, f]
                origin[:, :, f] = np.where(better, come.argmax(axis=1) * fingers + g, origin[:, :, f])
                best[:, :, f] = np.where(better, value, best[:, :, f])
        return cls(best, best - absent * (fingers - 1 - np.arange(fingers)), origin)

    def trace(self, turn: int) -> list[tuple[int, int]]:
        """Return (blob, finger) of the best path under a turn, from left to right."""
        fingers = self.best.shape[2]
        at = int(np.argmax(self.ends[turn]))
        path = []
        while at >= 0:
            path.append(divmod(at, fingers))
            at = int(self.origin[turn].reshape(-1)[at])
        return path[::-1]
