"""A plain picture of several fingers -> single fingers with their positions.

The straight line: the ridges of the picture on a grid of 0.2 mm, cut into blobs at their necks (`blobs`) ->
which blobs are which fingertips, of which hand, under which turn (`arrangement`) -> of each its last joint,
as a turned box and an upright cut-out (`fingertip`). Where a record states segments they are used, and what
was found is held against them.

References
----------
.. [1] B. Ulery et al., "Slap Fingerprint Segmentation Evaluation 2004", NISTIR 7209: what goes wrong.
.. [2] ANSI/NIST-ITL 1-2011, fields 14.021 and 14.025: how segments are stated; table 8: positions.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import log
from types import MappingProxyType
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from enroll.image import GrayImage
from enroll.slap.arrangement import Layout, Reading, four_fingers, read, two_thumbs, upright
from enroll.slap.blobs import MM, Blob, Field, Mask, blobs, ridge_field, ridge_mask
from enroll.slap.fingertip import Box, cut_out, joined, last_joint
from matcher.template import Finger

__all__ = ["ADVICE", "Hand", "Reason", "Segment", "SingleFinger", "Slap", "segment_slap"]

Floats = NDArray[np.float64]

MOST_TURN = np.pi / 4
"""Beyond it a hand is not told from one that points the other way."""
SURE = 0.5
"""log10 ratio of the two hands below which the hand is not sure: three to one."""
SAME = 0.5
"""Of the smaller of two areas, in common: two boxes of one finger."""


class Hand(StrEnum):
    """A hand."""

    LEFT = "left"
    RIGHT = "right"


class Reason(StrEnum):
    """What is to be said of a slap; `ADVICE` says what to do."""

    NO_FINGERS = "NO_FINGERS"
    TOO_FEW_FINGERS = "TOO_FEW_FINGERS"
    TOO_MANY_FINGERS = "TOO_MANY_FINGERS"
    FINGER_CUT_OFF = "FINGER_CUT_OFF"
    HAND_UNSURE = "HAND_UNSURE"
    HAND_DISAGREES = "HAND_DISAGREES"
    TURNED_TOO_FAR = "TURNED_TOO_FAR"
    GIVEN_DISAGREES = "GIVEN_DISAGREES"
    GIVEN_WITHOUT_RIDGES = "GIVEN_WITHOUT_RIDGES"
    GIVEN_DOUBLED = "GIVEN_DOUBLED"
    FOUND_NOT_GIVEN = "FOUND_NOT_GIVEN"


ADVICE = MappingProxyType(
    {
        Reason.NO_FINGERS: "no finger was found: check picture and resolution, or take the slap again",
        Reason.TOO_FEW_FINGERS: "fewer fingers than expected: take it again, or state which are missing",
        Reason.TOO_MANY_FINGERS: "more prints than fingers: check that one hand lay there, on clean glass",
        Reason.FINGER_CUT_OFF: "a finger reaches beyond the picture: take it again, the hand in the middle",
        Reason.HAND_UNSURE: "left and right hand look alike here: state the hand",
        Reason.HAND_DISAGREES: "the fingers lie as the other hand's do: check which hand this is",
        Reason.TURNED_TOO_FAR: "the hand lies at more than 45 degrees: take the slap again, fingers up",
        Reason.GIVEN_DISAGREES: "a stated segment names another finger than is found: look at the picture",
        Reason.GIVEN_WITHOUT_RIDGES: "a stated segment has no fingertip in it: look at the picture",
        Reason.GIVEN_DOUBLED: "a finger is stated twice: the segment that fits the picture better was used",
        Reason.FOUND_NOT_GIVEN: "a finger was found that no segment states: look at the picture",
    }
)
"""What a person can do about each reason."""


class Segment(NamedTuple):
    """A finger's place as a record states it: `corners` (n, 2), x, y in pixels of the picture, n >= 3."""

    finger: Finger
    corners: ArrayLike


@dataclass(frozen=True, slots=True, eq=False)
class SingleFinger:
    """One finger of a slap.

    Attributes
    ----------
    finger : Finger
        `UNKNOWN` where a single print was found and several were expected.
    polygon : ndarray of float32, shape (n, 2)
        Around its last joint, x, y in pixels of the picture; read-only. Of a box that was found: the corners
        top left, top right, bottom right, bottom left of the upright finger.
    rotation : float
        Of the finger, radians, counter-clockwise as seen.
    image : GrayImage
        The box, upright, at the picture's resolution; other fingers are painted over.
    """

    finger: Finger
    polygon: NDArray[np.float32]
    rotation: float
    image: GrayImage

    def __post_init__(self) -> None:
        self.polygon.flags.writeable = False


@dataclass(frozen=True, slots=True, eq=False)
class Slap:
    """What was found in the picture of a slap.

    Attributes
    ----------
    fingers : tuple of SingleFinger
        From left to right.
    hand : Hand or None
        As given; else as found. None for two thumbs and where nothing was found.
    hand_llr : float
        log10 ratio of the likelihoods of right and left hand under the arrangement of the fingers: above 0
        for right. A model's value, not a calibrated one. 0 for thumbs.
    rotation : float
        Of the hand, radians, counter-clockwise as seen.
    reasons : tuple of Reason
        Empty when all was as expected.
    """

    fingers: tuple[SingleFinger, ...]
    hand: Hand | None
    hand_llr: float
    rotation: float
    reasons: tuple[Reason, ...]


class _Found(NamedTuple):
    """The reading of a picture.

    Hand, its log10 ratio, how many fingers are expected; boxes and blobs of those found, and all other blobs.
    """

    hand: Hand | None
    llr: float
    expected: int
    reading: Reading
    boxes: tuple[Box, ...]
    owned: tuple[list[Blob], ...]
    left_over: list[Blob]


def segment_slap(
    image: GrayImage,
    *,
    hand: Hand | None = None,
    thumbs: bool = False,
    missing: Collection[Finger] = (),
    given: Sequence[Segment] = (),
) -> Slap:
    """Find the single fingers of a plain picture.

    Parameters
    ----------
    image : GrayImage
        Four fingers of one hand, two thumbs or one, fingers up within 45 degrees; at any resolution.
    hand : Hand, optional
        Which one; told from the arrangement of the fingers where it is not given. With `thumbs`, one thumb of
        this hand is expected.
    thumbs : bool
        Expect thumbs, not four fingers.
    missing : collection of Finger
        Fingers that are not expected: amputated or bandaged.
    given : sequence of Segment
        What the record states. The fingers are cut out by it, and held against what is found.

    Returns
    -------
    Slap
        Too few fingers, too many or none are values with a reason, no errors.
    """
    field = ridge_field(image)
    mask = ridge_mask(field)
    parts = blobs(field, mask)
    hand = hand or _hand_of([segment.finger for segment in given])
    layouts = _layouts(hand, thumbs, missing)
    found = _found(field, parts, layouts, hand)
    ground = _ground(image, mask)
    fingers = [_single(image, mask, found, k, ground) for k in range(len(found.boxes))]
    reasons = _reasons(found, hand, thumbs)
    if given:
        fingers, noted = _by_given(image, given, fingers, mask, ground)
        reasons += noted
    return Slap(tuple(fingers), found.hand, found.llr, found.reading.turn, tuple(dict.fromkeys(reasons)))


def _hand_of(fingers: Sequence[Finger]) -> Hand | None:
    """Return the one hand of all these fingers."""
    hands = {Hand.RIGHT if finger <= Finger.RIGHT_LITTLE else Hand.LEFT for finger in fingers if finger}
    return hands.pop() if len(hands) == 1 else None


def _layouts(hand: Hand | None, thumbs: bool, missing: Collection[Finger]) -> dict[Hand | None, Layout]:
    """Return what is expected of each hand; of thumbs under `hand` alone."""
    if not thumbs:
        return {one: four_fingers(right=one == Hand.RIGHT, missing=tuple(missing)) for one in Hand}
    both = {Hand.LEFT: Finger.LEFT_THUMB, Hand.RIGHT: Finger.RIGHT_THUMB}
    return {hand: two_thumbs([f for one, f in both.items() if hand in (None, one) and f not in missing])}


def _found(field: Field, parts: list[Blob], layouts: dict[Hand | None, Layout], hand: Hand | None) -> _Found:
    """Read the blobs as fingers, under either hand, and find the last joint of each."""
    readings = {one: read(parts, layout) for one, layout in layouts.items()}
    llr = 0.0
    if len(readings) == 2:
        llr = (readings[Hand.RIGHT].likelihood - readings[Hand.LEFT].likelihood) / log(10)
    best = hand if hand in readings else max(readings, key=lambda one: readings[one].likelihood)
    reading = readings[best]
    tips = [parts[k] for k in reading.blobs]
    rest = [blob for k, blob in enumerate(parts) if k not in reading.blobs]
    owned = tuple(joined(tip, rest, reading.turn) for tip in tips)
    boxes = tuple(last_joint(field, own, reading.turn) for own in owned)
    left_over = [blob for blob in rest if not any(blob is one for own in owned for one in own)]
    expected = len(layouts[best].fingers)
    if len(tips) == 1 and expected > 1:
        reading = reading._replace(fingers=(Finger.UNKNOWN,))
    return _Found(best if tips else hand, llr, expected, reading, boxes, owned, left_over)


def _ground(image: GrayImage, mask: Mask) -> int:
    """Return the grey level of what is no finger."""
    size = (mask.shape[1], mask.shape[0])
    outside = np.asarray(cv2.resize(image.pixels, size, interpolation=cv2.INTER_NEAREST))[mask == 0]
    return int(np.median(outside)) if outside.size else 255


def _single(image: GrayImage, mask: Mask, found: _Found, k: int, ground: int) -> SingleFinger:
    others = [blob for own in (*found.owned[:k], *found.owned[k + 1 :], found.left_over) for blob in own]
    foreign = _painted(others, mask.shape)
    box = found.boxes[k]
    polygon = (box.corners() * (image.ppi / 25.4)).astype(np.float32)
    cut = cut_out(image, box, foreign=foreign, ground=ground)
    return SingleFinger(found.reading.fingers[k], polygon, box.turn, cut)


def _painted(parts: Sequence[Blob], shape: tuple[int, ...]) -> Mask:
    """Mask blobs on the grid."""
    mask = np.zeros(shape, np.uint8)
    for blob in parts:
        x, y = np.floor(blob.points * MM).astype(np.int64).T
        mask[y, x] = 1
    return mask


def _reasons(found: _Found, hand: Hand | None, thumbs: bool) -> list[Reason]:
    count = len(found.boxes)
    for_right = found.hand == Hand.RIGHT
    toward = found.llr if for_right else -found.llr
    told = count > 0 and not thumbs
    says = {
        Reason.NO_FINGERS: count == 0,
        Reason.TOO_FEW_FINGERS: 0 < count < found.expected,
        Reason.TOO_MANY_FINGERS: any(_is_fingertip(blob, found) for blob in found.left_over),
        Reason.FINGER_CUT_OFF: any(own[0].cut > 0.05 for own in found.owned),
        Reason.HAND_UNSURE: told and hand is None and toward < SURE,
        Reason.HAND_DISAGREES: told and hand is not None and toward < -SURE,
        Reason.TURNED_TOO_FAR: count > 0 and abs(found.reading.turn) > MOST_TURN,
    }
    return [reason for reason, is_so in says.items() if is_so]


def _is_fingertip(blob: Blob, found: _Found) -> bool:
    """Return whether a blob that is no finger of the reading looks like one, and lies below none."""
    tips = [own[0] for own in found.owned]
    if not tips or blob.area < 100 or blob.cut > 0.05:
        return False
    clear = (
        blob.writing < 0.9
        and blob.coherence > 0.5
        and blob.strength > 0.5 * max(tip.strength for tip in tips)
    )
    x, y = np.median(upright(blob.points, found.reading.turn), axis=0)
    places = [np.median(upright(tip.points, found.reading.turn), axis=0) for tip in tips]
    return clear and not any(abs(x - px) < 12 and y > py for px, py in places)


def _by_given(
    image: GrayImage, given: Sequence[Segment], found: list[SingleFinger], mask: Mask, ground: int
) -> tuple[list[SingleFinger], list[Reason]]:
    """Cut the fingers out by what is stated; say where the picture disagrees."""
    reasons: list[Reason] = []
    kept: dict[Finger, tuple[float, SingleFinger]] = {}
    met: set[int] = set()
    for segment in given:
        polygon = np.asarray(segment.corners, np.float32).reshape(-1, 2)
        shares = [_common(polygon, one.polygon) for one in found]
        best = int(np.argmax(shares)) if shares else -1
        share = shares[best] if shares else 0.0
        if share < SAME:
            reasons.append(Reason.GIVEN_WITHOUT_RIDGES)
        else:
            met.add(best)
            if found[best].finger not in (segment.finger, Finger.UNKNOWN):
                reasons.append(Reason.GIVEN_DISAGREES)
        if segment.finger in kept:
            reasons.append(Reason.GIVEN_DOUBLED)
        if segment.finger not in kept or share > kept[segment.finger][0]:
            turn = found[best].rotation if share >= SAME else 0.0
            kept[segment.finger] = share, _stated(image, segment.finger, polygon, turn, mask, ground)
    rest = [one for k, one in enumerate(found) if k not in met and one.finger not in kept]
    if rest:
        reasons.append(Reason.FOUND_NOT_GIVEN)
    fingers = [one for _, one in kept.values()] + rest
    return sorted(fingers, key=lambda one: float(one.polygon[:, 0].mean())), reasons


def _stated(
    image: GrayImage, finger: Finger, polygon: NDArray[np.float32], turn: float, mask: Mask, ground: int
) -> SingleFinger:
    """Cut out a stated polygon, upright under `turn`; what lies outside of it is painted over."""
    scale = 25.4 / image.ppi
    box = Box.around(polygon * scale, turn)
    foreign = np.ones(mask.shape, np.uint8)
    cv2.fillPoly(foreign, [np.rint(polygon * scale * MM - 0.5).astype(np.int32)], 0)
    return SingleFinger(finger, polygon, turn, cut_out(image, box, foreign=foreign, ground=ground))


def _common(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    """Return the area that two convex polygons share, over that of the smaller."""
    shared, _ = cv2.intersectConvexConvex(cv2.convexHull(a), cv2.convexHull(b))
    least = min(float(cv2.contourArea(cv2.convexHull(one))) for one in (a, b))
    return float(shared) / max(least, 1e-6)
