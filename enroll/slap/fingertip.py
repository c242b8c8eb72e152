"""From the blobs of a finger to its last joint: its crease, the box around it, the upright cut-out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from enroll.image import GrayImage
from enroll.slap.arrangement import axis_of, upright
from enroll.slap.blobs import MM, Blob, Field, Mask

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class TipParams:
    """Lengths in mm, for a fingertip 15.5 mm wide; others in proportion."""

    width: float = 15.5
    nearest: float = 15.0  # of the crease to the tip; nearer lies a scar
    farthest: float = 33.0
    beside: float = 7.0  # within which ridges stand on both sides of a crease
    ridges: float = 2.0  # grey levels that they have at least
    dip: float = 0.7  # of their amplitude is left on it, at most
    margin: float = 0.8  # added around: a blob ends where the ridges fade
    apart: float = 3.0  # between two blobs of one finger
    most_lean: float = 0.26  # of a finger from its hand, radians
    strip: float = 0.35  # of the width, to both sides, in which the crease is looked for


PARAMS = TipParams()


class Box(NamedTuple):
    """A box in the picture: its middle (x, y), width and height, mm, and its turn, counter-clockwise."""

    middle: tuple[float, float]
    size: tuple[float, float]
    turn: float

    def corners(self) -> Floats:
        """Return the corners (4, 2), mm: top left, top right, bottom right, bottom left of the finger."""
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
        return np.asarray(upright(signs * self.size, -self.turn) + self.middle)

    @classmethod
    def around(cls, points: NDArray[np.floating], turn: float, *, margin: float = 0.0) -> "Box":
        """Return the box under this turn that holds all but one in two hundred of the points each way."""
        turned = upright(points, turn)
        low, high = np.percentile(turned, (0.5, 99.5), axis=0)
        low, high = low - margin, high + margin
        x, y = upright((low + high)[None] / 2, -turn)[0]
        return cls((float(x), float(y)), (float(high[0] - low[0]), float(high[1] - low[1])), turn)


def joined(first: Blob, others: Sequence[Blob], turn: float, *, params: TipParams = PARAMS) -> list[Blob]:
    """Return a fingertip's blob with those that a scar or a double touch cut off it.

    Parameters
    ----------
    first : Blob
    others : sequence of Blob
        That are no fingertips.
    turn : float
        Of the hand, radians.
    params : TipParams
    """
    own = [first]
    for blob in others:
        mine, its = upright(np.vstack([b.points for b in own]), turn), upright(blob.points, turn)
        aside = abs(float(np.median(mine[:, 0]) - np.median(its[:, 0])))
        gap = float(np.percentile(its[:, 1], 1) - np.percentile(mine[:, 1], 99))
        if aside < params.width / 2 and abs(gap) < params.apart:
            own.append(blob)
    return own


def last_joint(field: Field, own: Sequence[Blob], turn: float, *, params: TipParams = PARAMS) -> Box:
    """Return the box of a finger's last joint, from its tip to the crease.

    Parameters
    ----------
    field : Field
    own : sequence of Blob
        The finger's.
    turn : float
        Of its hand, radians.
    params : TipParams

    Returns
    -------
    Box
        Turned as the finger itself lies, where it is long enough to tell.
    """
    points = np.vstack([blob.points for blob in own])
    kept = points[upright(points, turn)[:, 1] < _crease(field, points, turn, params)]
    axis, longer = axis_of(kept)
    lean = float(np.clip(axis - turn, -params.most_lean, params.most_lean))
    sure = float(np.clip((longer - 1.15) / 0.3, 0, 1)) * (own[0].cut < 0.05)
    leaning = turn + lean * sure
    bottom = _crease(field, points, leaning, params)
    kept = points[upright(points, leaning)[:, 1] < bottom]
    box = Box.around(kept, leaning, margin=params.margin)
    return _cut_at(box, bottom)


def cut_out(image: GrayImage, box: Box, *, foreign: Mask, ground: int) -> GrayImage:
    """Return the picture in a box, upright, at the source's own resolution.

    Parameters
    ----------
    image : GrayImage
    box : Box
    foreign : ndarray of uint8
        1 on the grid where another finger is; painted over.
    ground : int
        Grey level of what is painted over and of what lies outside of the picture.

    Returns
    -------
    GrayImage
        With the digest and the warnings of the picture that it was cut from.
    """
    scale = image.ppi / 25.4
    width, height = (max(1, round(side * scale)) for side in box.size)
    cos, sin = np.cos(box.turn), np.sin(box.turn)
    linear = np.array([[cos, sin], [-sin, cos]])
    middle = np.array(box.middle) * scale - 0.5
    place = np.column_stack((linear, middle - linear @ [(width - 1) / 2, (height - 1) / 2]))
    how = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    pixels = cv2.warpAffine(image.pixels, place, (width, height), flags=how, borderValue=ground)
    on_grid = place * (MM / scale)
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    others = cv2.warpAffine(255 * foreign, on_grid, (width, height), flags=how)
    cut = np.where(np.asarray(others) > 127, ground, pixels).astype(np.uint8)
    return replace(image, pixels=cut)


def _crease(field: Field, points: NDArray[np.floating], turn: float, params: TipParams) -> float:
    """Return how far down the crease lies (upright, mm), or where a finger without one is cut."""
    turned = upright(points, turn)
    top = float(np.percentile(turned[:, 1], 0.5))
    tip = turned[turned[:, 1] < top + params.nearest, 0]
    left, right = np.percentile(tip, (2, 98))
    scale = float(np.clip((right - left) / params.width, 0.7, 1.3))
    rows = np.arange(0.0, params.farthest * scale + params.beside, STEP)
    half = params.strip * (right - left)
    columns = np.arange(-half, half, 0.5)
    origin = np.array([(left + right) / 2, top])
    dips = _dips(_profile(field, origin, rows, columns, turn), params)
    looked = (rows >= params.nearest * scale) & (rows <= params.farthest * scale)
    best = int(np.argmin(np.where(looked, dips, np.inf)))
    return top + (float(rows[best]) if dips[best] < params.dip else params.farthest * scale)


STEP = 0.25
"""Of profiles along a finger, mm."""


def _profile(
    field: Field, origin: Floats, rows: Floats, columns: Floats, turn: float
) -> NDArray[np.floating]:
    """Return the mean amplitude across a finger, for each row below its tip."""
    u, v = np.meshgrid(columns, rows)
    at = upright(np.column_stack((u.ravel(), v.ravel())) + origin, -turn) * MM - 0.5
    x, y = (at[:, k].reshape(u.shape).astype(np.float32) for k in (0, 1))
    across = cv2.remap(field.amplitude, x, y, cv2.INTER_LINEAR, borderValue=0)
    return np.asarray(across.mean(axis=1))


def _dips(profile: NDArray[np.floating], params: TipParams) -> Floats:
    """Return each value over the lesser of the greatest within reach before it and after it."""
    reach = round(params.beside / STEP)
    padded = np.pad(np.asarray(profile, np.float64), reach, constant_values=0.0)
    windows = np.lib.stride_tricks.sliding_window_view(padded, reach)
    before, after = windows[: len(profile)].max(axis=1), windows[reach + 1 :].max(axis=1)
    less = np.minimum(before, after)
    return np.where(less > params.ridges, profile / np.maximum(less, 1e-6), 1.0)


def _cut_at(box: Box, bottom: float) -> Box:
    """Take off what the margin added below the crease."""
    x, y = upright(np.array([box.middle]), box.turn)[0]
    low, high = y - box.size[1] / 2, min(y + box.size[1] / 2, bottom)
    x, y = upright(np.array([[x, (low + high) / 2]]), -box.turn)[0]
    return Box((float(x), float(y)), (box.size[0], float(high - low)), box.turn)
