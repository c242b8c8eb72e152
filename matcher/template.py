"""The template: what is kept of a print to compare it. Units, axes and the angle convention are stated here.

Positions are in pixels at 500 pixels per inch, origin at the top left corner, x to the right, y **down**.
Angles are in radians in [0, 2 pi), from the x axis, **counter-clockwise as the print is seen** (so towards
smaller y), as in ISO/IEC 19794-2:2005 and ANSI INCITS 378. A unit step along a minutia's
direction is therefore `(cos(angle), -sin(angle))` in image coordinates.
"""

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Self, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from matcher.errors import TemplateOutOfBounds
from matcher.ridges import check as check_ridges
from matcher.ridges import mirrored as mirrored_ridges

_T = TypeVar("_T", bound=np.generic)

PPI = 500
"""Resolution of every template, pixels per inch."""


class Finger(IntEnum):
    """Finger position codes, ISO/IEC 19794-2:2005."""

    UNKNOWN = 0
    RIGHT_THUMB = 1
    RIGHT_INDEX = 2
    RIGHT_MIDDLE = 3
    RIGHT_RING = 4
    RIGHT_LITTLE = 5
    LEFT_THUMB = 6
    LEFT_INDEX = 7
    LEFT_MIDDLE = 8
    LEFT_RING = 9
    LEFT_LITTLE = 10


class Impression(IntEnum):
    """How the print was taken; the codes of ISO/IEC 19794-2:2011 that a template can hold."""

    LIVE_PLAIN = 0
    LIVE_ROLLED = 1
    NONLIVE_PLAIN = 2
    NONLIVE_ROLLED = 3
    LATENT_IMPRESSION = 4
    LATENT_TRACING = 5
    LATENT_PHOTO = 6
    LATENT_LIFT = 7
    LIVE_SWIPE = 8
    LIVE_CONTACTLESS_PLAIN = 24
    OTHER = 28
    UNKNOWN = 29


LATENTS = frozenset(
    {
        Impression.LATENT_IMPRESSION,
        Impression.LATENT_TRACING,
        Impression.LATENT_PHOTO,
        Impression.LATENT_LIFT,
    }
)
"""Prints left at a scene, however they were taken from there."""


class Kind(IntEnum):
    """Minutia types, with the codes that ISO/IEC 19794-2 and ANSI 378 share."""

    OTHER = 0
    ENDING = 1
    BIFURCATION = 2


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """The minutiae of one print.

    Attributes
    ----------
    xy : ndarray of int16, shape (n, 2)
        Positions, pixels at 500 ppi, inside `size`.
    angle : ndarray of float32, shape (n,)
        Directions, radians in [0, 2 pi), counter-clockwise as seen.
    kind : ndarray of uint8, shape (n,)
        `Kind` codes.
    quality : ndarray of uint8, shape (n,)
        1 (worst) to 100 (best), 0 where the extractor states none.
    size : (int, int)
        Width and height of the print's image, pixels at 500 ppi.
    finger : Finger
    impression : Impression
    print_quality : int or None
        Quality of the whole print, 0 to 100; None where it was not assessed.
    ridges : bytes
        The ridge description (see `matcher.ridges`); empty where there is none, as in ISO and ANSI records.

    Notes
    -----
    The arrays are read-only. Build one with `Template.of`, which checks and orders: minutiae stand in
    descending quality, then by y, x and angle, so that equal sets are equal bytes and the best come first.
    """

    xy: NDArray[np.int16]
    angle: NDArray[np.float32]
    kind: NDArray[np.uint8]
    quality: NDArray[np.uint8]
    size: tuple[int, int]
    finger: Finger = Finger.UNKNOWN
    impression: Impression = Impression.UNKNOWN
    print_quality: int | None = None
    ridges: bytes = b""

    @classmethod
    def of(
        cls,
        xy: ArrayLike,
        angle: ArrayLike,
        kind: ArrayLike,
        quality: ArrayLike,
        *,
        size: tuple[int, int],
        finger: Finger = Finger.UNKNOWN,
        impression: Impression = Impression.UNKNOWN,
        print_quality: int | None = None,
        ridges: bytes = b"",
    ) -> Self:
        """Check, order and freeze the minutiae of a print.

        Parameters
        ----------
        xy : array_like, shape (n, 2)
            Positions in pixels at 500 ppi; rounded to whole pixels.
        angle : array_like, shape (n,)
            Radians, any turn; reduced to [0, 2 pi).
        kind, quality : array_like, shape (n,)
        size, finger, impression, print_quality, ridges
            See the class.

        Raises
        ------
        TemplateOutOfBounds
            A minutia outside `size`, an angle that is not finite, arrays of unequal length, a ridge
            description that is none.
        TemplateTruncated
            A ridge description that is cut short.
        """
        points = np.asarray(np.rint(np.asarray(xy, np.float64).reshape(-1, 2)), np.int64)
        radians = np.asarray(angle, np.float64).reshape(-1)
        kinds = np.asarray(kind, np.int64).reshape(-1)
        qualities = np.asarray(quality, np.int64).reshape(-1)
        _check(points, radians, kinds, qualities, size, print_quality)
        check_ridges(ridges)
        turned = _turn(radians)
        order = np.lexsort((turned, points[:, 0], points[:, 1], -qualities))
        return cls(
            _frozen(points[order].astype(np.int16)),
            _frozen(turned[order]),
            _frozen(kinds[order].astype(np.uint8)),
            _frozen(qualities[order].astype(np.uint8)),
            (int(size[0]), int(size[1])),
            Finger(finger),
            Impression(impression),
            print_quality,
            bytes(ridges),
        )

    def __len__(self) -> int:
        return len(self.angle)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Template):
            return NotImplemented
        return (
            self._head() == other._head()
            and np.array_equal(self.xy, other.xy)
            and np.array_equal(self.angle, other.angle)
            and np.array_equal(self.kind, other.kind)
            and np.array_equal(self.quality, other.quality)
        )

    __hash__ = None  # type: ignore[assignment]  # arrays: equality is by value, identity is not a key

    def _head(self) -> tuple[object, ...]:
        return self.size, self.finger, self.impression, self.print_quality, self.ridges

    def best(self, count: int) -> "Template":
        """Return the template of its `count` best minutiae (itself when it has no more)."""
        if len(self) <= count:
            return self
        best = {name: getattr(self, name)[:count] for name in ("xy", "angle", "kind", "quality")}
        return replace(self, **best)

    def mirrored(self) -> "Template":
        """Return the template of the print as a mirror shows it, left and right exchanged."""
        width = self.size[0]
        return Template.of(
            np.column_stack((width - 1 - self.xy[:, 0], self.xy[:, 1])),
            np.pi - self.angle.astype(np.float64),
            self.kind,
            self.quality,
            size=self.size,
            finger=self.finger,
            impression=self.impression,
            print_quality=self.print_quality,
            ridges=mirrored_ridges(self.ridges, width),
        )


def _turn(radians: NDArray[np.float64]) -> NDArray[np.float32]:
    """Reduce to [0, 2 pi) in float32, where rounding can land on 2 pi itself."""
    turned = np.mod(radians, 2 * np.pi).astype(np.float32)
    turned[turned >= np.float32(2 * np.pi)] = 0.0
    return turned


def _frozen(array: NDArray[_T]) -> NDArray[_T]:
    array = np.ascontiguousarray(array)
    array.flags.writeable = False
    return array


def _check(
    xy: NDArray[np.int64],
    angle: NDArray[np.float64],
    kind: NDArray[np.int64],
    quality: NDArray[np.int64],
    size: tuple[int, int],
    print_quality: int | None,
) -> None:
    n = len(xy)
    if not len(angle) == len(kind) == len(quality) == n:
        raise TemplateOutOfBounds(
            f"{n} positions, {len(angle)} angles, {len(kind)} kinds, {len(quality)} qualities",
            remedy="give one of each for every minutia",
        )
    if not (0 < size[0] < 2**15 and 0 < size[1] < 2**15):
        raise TemplateOutOfBounds(f"image size {size}", remedy="width and height are 1 to 32767 pixels")
    outside = np.flatnonzero(((xy < 0) | (xy >= np.asarray(size))).any(axis=1))
    if outside.size:
        first = int(outside[0])
        raise TemplateOutOfBounds(
            f"minutia {first} at {tuple(xy[first].tolist())} lies outside its {size[0]} x {size[1]} image",
            remedy="check the record's image size and resolution fields",
        )
    if not np.isfinite(angle).all():
        raise TemplateOutOfBounds("an angle is not finite", remedy="give radians")
    if ((kind < 0) | (kind > 2)).any() or ((quality < 0) | (quality > 100)).any():
        raise TemplateOutOfBounds(
            "a kind is not 0, 1 or 2, or a quality not 0 to 100", remedy="use the codes of matcher.template"
        )
    if print_quality is not None and not 0 <= print_quality <= 100:
        raise TemplateOutOfBounds(f"print quality {print_quality}", remedy="it is 0 to 100, or None")
