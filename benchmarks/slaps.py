"""Synthetic slaps and two-thumb pictures, whose fingers are known, and how many of them are segmented right.

`python -m benchmarks.slaps --count 200` prints the shares. A hand is drawn as fingers of anthropometric
lengths that fan out from their knuckles; each is a synthetic print, often with a middle joint below it,
turned and laid on the glass. None of it is taken from the model by which `enroll.slap` reads a hand.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic import Conditions, SyntheticFinger, finger, impression
from enroll.image import GrayImage
from enroll.slap import Hand, Slap, segment_slap
from matcher.template import PPI, Finger

Floats = NDArray[np.float64]
MM = PPI / 25.4
"""Pixels a millimetre."""


@dataclass(frozen=True, slots=True)
class HandShape:
    """How hands are drawn; mm and degrees. Lengths: knuckle to tip of adults, men and women together."""

    knuckles: tuple[tuple[float, float], ...] = ((0.0, 0.0), (20.0, -4.0), (39.0, -1.0), (56.0, 7.0))
    lengths: tuple[float, ...] = (74.0, 82.0, 76.0, 60.0)
    fan: tuple[float, ...] = (-6.0, -1.0, 4.0, 11.0)
    sizes: tuple[float, ...] = (1.0, 1.05, 1.0, 0.82)
    size: float = 0.07  # deviation of a hand's size
    length: float = 2.5  # of one finger's length, bent or slid
    lean: float = 3.0  # of one finger's direction
    spread: tuple[float, float] = (0.3, 1.6)  # of the fan
    joints: float = 0.7  # share of hands whose middle joints touch too


class Laid(NamedTuple):
    """A finger on the glass: position, middle and size of its print (pixels), turn (radians)."""

    finger: Finger
    middle: tuple[float, float]
    size: tuple[float, float]
    turn: float

    def polygon(self) -> NDArray[np.float32]:
        """Return the corners of its box, (4, 2)."""
        signs = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) / 2
        return (_turned(signs * self.size, self.turn) + self.middle).astype(np.float32)


class SyntheticSlap(NamedTuple):
    """A picture at 500 ppi, uint8 (H, W), and what lies on it."""

    pixels: NDArray[np.uint8]
    hand: Hand
    rotation: float
    fingers: tuple[Laid, ...]


def draw_slap(
    seed: int,
    *,
    hand: Hand | None = None,
    rotation: float | None = None,
    missing: Sequence[Finger] = (),
    severity: float = 0.4,
    shape: HandShape = HandShape(),
) -> SyntheticSlap:
    """Draw the slap of one hand.

    Parameters
    ----------
    seed : int
        Equal seeds give equal bytes.
    hand : Hand, optional
        Drawn where none is given.
    rotation : float, optional
        Radians, counter-clockwise; drawn between -45 and 45 degrees where none is given.
    missing : sequence of Finger
        Left out.
    severity : float
        0 to 1: of the conditions of every print, see `Conditions.random`.
    shape : HandShape

    Returns
    -------
    SyntheticSlap
    """
    rng = np.random.default_rng([seed, 14])
    hand = hand or list(Hand)[int(rng.integers(2))]
    turn = float(np.radians(rng.uniform(-45, 45))) if rotation is None else rotation
    laid = _lay(rng, hand, turn, missing, shape)
    while _overlap(laid):
        laid = _lay(rng, hand, turn, missing, shape)
    joints = bool(rng.random() < shape.joints)
    ground = float(rng.uniform(235, 254))
    corners = np.vstack([one.polygon() for one in laid])
    low = corners.min(axis=0) - rng.uniform(40, 160, 2)
    width, height = (corners.max(axis=0) - low + rng.uniform(40, 160, 2)).astype(int)
    pixels = np.full((height, width), ground)
    moved = tuple(one._replace(middle=(one.middle[0] - low[0], one.middle[1] - low[1])) for one in laid)
    for one in moved:
        _press(pixels, one, rng, severity, joint=joints)
    pixels += rng.normal(0, 1.5, pixels.shape)
    return SyntheticSlap(np.clip(np.rint(pixels), 0, 255).astype(np.uint8), hand, turn, moved)


def is_right(slap: Slap, drawn: SyntheticSlap, *, least: float = 0.5) -> bool:
    """Return whether every finger was found, and under its position: of both boxes `least` in common."""
    truth = {one.finger: one.polygon() for one in drawn.fingers}
    if {one.finger for one in slap.fingers} != set(truth) or len(slap.fingers) != len(truth):
        return False
    return all(_in_common(one.polygon, truth[one.finger]) >= least for one in slap.fingers)


def _turned(points: Floats, turn: float) -> Floats:
    """Turn points (n, 2) of the picture counter-clockwise as seen."""
    cos, sin = np.cos(turn), np.sin(turn)
    return np.asarray(points @ np.array([[cos, -sin], [sin, cos]]))


def _in_common(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    shared, _ = cv2.intersectConvexConvex(a, b)
    return float(shared) / (float(cv2.contourArea(a)) + float(cv2.contourArea(b)) - float(shared))


def _lay(
    rng: np.random.Generator, hand: Hand, turn: float, missing: Sequence[Finger], shape: HandShape
) -> list[Laid]:
    """Lay the fingers of a hand: upright, then turned."""
    first = Finger.RIGHT_INDEX if hand is Hand.RIGHT else Finger.LEFT_INDEX
    mirror = 1 if hand is Hand.RIGHT else -1
    size, spread = float(np.clip(rng.normal(1, shape.size), 0.8, 1.2)), rng.uniform(*shape.spread)
    laid = []
    for k in range(4):
        half = np.array([rng.uniform(135, 164), rng.uniform(190, 224)]) * shape.sizes[k] * size
        lean = np.radians(shape.fan[k] * spread + rng.normal(0, shape.lean))
        reach = shape.lengths[k] * size + rng.normal(0, shape.length)
        tip = np.array(shape.knuckles[k]) * size + reach * np.array([np.sin(lean), -np.cos(lean)])
        middle = (tip * MM + half[1] * np.array([-np.sin(lean), np.cos(lean)])) * (mirror, 1)
        x, y = _turned(middle[None], turn)[0]
        one = Laid(Finger(first + k), (float(x), float(y)), (2 * half[0], 2 * half[1]), turn - mirror * lean)
        laid.append(one)
    return [one for one in laid if one.finger not in missing]


def _overlap(laid: Sequence[Laid]) -> bool:
    """Return whether two fingertips would lie in one place: the ellipses in their boxes meet."""
    angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    circle = np.column_stack((np.cos(angle), np.sin(angle))) / 2
    ovals = [(_turned(circle * one.size, one.turn) + one.middle).astype(np.float32) for one in laid]
    return any(cv2.intersectConvexConvex(a, b)[0] > 0 for k, a in enumerate(ovals) for b in ovals[:k])


def _press(pixels: Floats, one: Laid, rng: np.random.Generator, severity: float, *, joint: bool) -> None:
    """Darken the picture where a finger touches."""
    tip = _print(rng, one.size, severity)
    parts = [(tip, np.zeros(2))]
    if joint:
        size = (one.size[0] * rng.uniform(0.7, 0.9), one.size[1] * rng.uniform(0.6, 0.8))
        faint = 255 - (255 - _print(rng, size, 1.0, dry=0.5)) * rng.uniform(0.3, 0.9)
        gap = rng.uniform(0.4, 3.0) * MM
        parts.append((faint, np.array([0.0, (one.size[1] + size[1]) / 2 + gap])))
    for print_, down in parts:
        _lay_down(pixels, print_, _turned(down[None], one.turn)[0] + one.middle, one.turn)


def _lay_down(pixels: Floats, print_: Floats, middle: Floats, turn: float) -> None:
    """Multiply the picture by a print, turned about its middle."""
    height, width = print_.shape
    cos, sin = np.cos(turn), np.sin(turn)
    linear = np.array([[cos, sin], [-sin, cos]])
    place = np.column_stack((linear, middle - linear @ [width / 2, height / 2]))
    size = (pixels.shape[1], pixels.shape[0])
    pixels *= cv2.warpAffine(print_ / 255, place, size, flags=cv2.INTER_LINEAR, borderValue=1.0)


def _print(rng: np.random.Generator, size: tuple[float, float], severity: float, dry: float = 0.0) -> Floats:
    """Return a print of about this size, white where nothing touches."""
    conditions = Conditions.random(rng, severity)
    contact = (min(164.0, size[0] / 2), min(224.0, size[1] / 2))
    laid = replace(
        conditions,
        rotation=0.0,
        translation=(0.0, 0.0),
        offset=(0.0, 0.0),
        contact=contact,
        background=255.0,
        noise=conditions.noise / 2,
        dryness=max(dry, conditions.dryness),
    )
    made = impression(_finger(int(rng.integers(10))), int(rng.integers(1 << 30)), conditions=laid)
    return made.pixels.astype(np.float64)


@cache
def _finger(seed: int) -> SyntheticFinger:
    return finger(7000 + seed)


def measure(
    count: int, *, seed: int = 1, severity: float = 0.4
) -> Iterator[tuple[SyntheticSlap, Slap, float]]:
    """Draw slaps and segment each, the hand not told; yields both and the seconds it took."""
    for k in range(count):
        drawn = draw_slap(seed * 100_000 + k, severity=severity)
        image = GrayImage(drawn.pixels, float(PPI), "")
        start = time.perf_counter()
        slap = segment_slap(image)
        yield drawn, slap, time.perf_counter() - start


def main() -> None:
    """Print the shares of synthetic slaps whose fingers, and whose hand, were found."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--severity", type=float, default=0.4)
    options = parser.parse_args()
    done = list(measure(options.count, seed=options.seed, severity=options.severity))
    right = [is_right(slap, drawn) for drawn, slap, _ in done]
    hands = [slap.hand == drawn.hand for drawn, slap, _ in done]
    turned = [abs(np.degrees(slap.rotation - drawn.rotation)) for drawn, slap, _ in done]
    seconds = sorted(spent for _, _, spent in done)
    print(f"slaps {len(done)}, all fingers right {np.mean(right):.3f}, hand right {np.mean(hands):.3f}")
    print(
        f"turn off by {np.median(turned):.1f} degrees in the median, {np.percentile(turned, 95):.1f} at 95 %"
    )
    print(f"{seconds[len(seconds) // 2]:.2f} s a slap in the median, {seconds[-1]:.2f} s at most")


if __name__ == "__main__":
    main()
