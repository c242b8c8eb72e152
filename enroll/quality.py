"""How good a print is, 0 to 100, and what to do about a poor one.

This is **not** NFIQ 2 (ISO/IEC 29794-4) and its score is on no scale but its own: it was not trained on match
scores. It answers two questions that an enrolment desk has: is this a print at all, at the resolution it is
said to have; and if it is a poor one, why. No word is said of dry or wet fingers: that takes labelled prints
of both, which no public set we know of offers.

The measure is spectral. Under a window of three or so ridges a print is close to one plane wave, so that
most of its power lies in one small spot of the spectrum, at a ridge's distance from the origin, and the spot
turns little from one window to the next. A photograph's power lies at the origin, a checkerboard's in
several spots of which now one, now another is the strongest, and stripes or lines of text have all
their spots in one place, where those of a print turn with the finger's curvature.

References
----------
.. [1] E. Lim, X. Jiang, W. Yau, "Fingerprint quality and validity analysis", ICIP 2002.
.. [2] D. Maltoni, D. Maio, A. K. Jain, J. Feng, "Handbook of Fingerprint Recognition", 3rd ed., 2022,
   chapter 3. doi:10.1007/978-3-030-83624-5
"""

from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy import ndimage

from matcher.template import PPI, Template


class Reason(StrEnum):
    """Why a print is poor; `ADVICE` says what to do, `REJECTING` which of them reject it."""

    BLANK = "BLANK"
    NO_RIDGES = "NO_RIDGES"
    NOT_A_PRINT = "NOT_A_PRINT"
    RIDGE_PERIOD_IMPLAUSIBLE = "RIDGE_PERIOD_IMPLAUSIBLE"
    TOO_SMALL_AREA = "TOO_SMALL_AREA"
    TOO_FEW_MINUTIAE = "TOO_FEW_MINUTIAE"
    PARTIAL = "PARTIAL"
    LOW_CLARITY = "LOW_CLARITY"


ADVICE = MappingProxyType(
    {
        Reason.BLANK: "the image is empty: check that the finger lay on the scanner",
        Reason.NO_RIDGES: "no ridges were found: check that the image is one of a fingerprint",
        Reason.NOT_A_PRINT: "the pattern does not flow as a finger's does: check that it is a fingerprint",
        Reason.RIDGE_PERIOD_IMPLAUSIBLE: "the ridges are too wide or too narrow: check the resolution (ppi)",
        Reason.TOO_SMALL_AREA: "too little of the finger: lay the whole first joint on the scanner",
        Reason.TOO_FEW_MINUTIAE: "too few minutiae to compare: take the print again, or another finger",
        Reason.PARTIAL: "a small part of the finger: take it again if you can, the whole first joint",
        Reason.LOW_CLARITY: "ridges are unclear in places: clean finger and glass, take the print again",
    }
)
"""What a person can do about each reason."""

REJECTING = frozenset(Reason) - {Reason.PARTIAL, Reason.LOW_CLARITY}
"""The reasons for which a print is not enrolled."""


@dataclass(frozen=True, slots=True)
class QualityParams:
    """Lengths in pixels at 500 ppi. "FVC" is the 640 prints of FVC2002 and FVC2004 DB1-4_B, resampled."""

    block: int = 64  # under a Hann window this weighs about 32 pixels: three ridges, still straight
    step: int = 24  # overlapping, as the window weighs about 32
    blocks: int = 500  # about as many at most: the step widens on larger images, which bounds memory and time
    covered: float = 0.8  # of the block's inner half by the mask; fewer blocks at the rim, where edges are
    period_low: float = 4.0  # FVC: medians of single prints 6.4 to 12.2; single blocks down to 4.6
    period_high: float = 14.0  # photographs peak at 15 and more (skimage.data), cards of thick ridges at 13
    median_low: float = 5.0  # FVC as above; half the mean period would be 4.5
    median_high: float = 13.5  # FVC as above, cards and NIST prints 9.1 to 11.0
    peak: float = (
        0.30  # of a block's power in its spot; FVC medians 0.33 to 0.85, white noise 0.07 (maximum 0.11)
    )
    ridged: float = 0.25  # of the blocks; FVC: one print of 640 at 0.18, then 0.33; photographs up to 0.21
    ridged_elsewhere: float = 0.5  # at half or double size, for the advice on resolution: twice `ridged`
    flow: float = 0.55  # FVC from 0.66, median 0.90; pages, checkerboards and noise up to 0.50
    doubled: int = 1_000_000  # pixels; no larger image is tried at double size: it holds a print already
    straight: float = 0.88  # resultant length of directions; FVC up to 0.84, text 0.895, stripes 1
    area_mm2: float = 25.0  # of ridges, with the mask's rim of a ridge; FVC from 30; 4 x 4 mm measure 21
    partial_mm2: float = 60.0  # of ridges; a quarter of a plain print (FVC median 140 to 210)
    clear_share: float = 0.6  # of the blocks; FVC: 5 % of prints lie below
    contrast: float = 12.0  # grey levels between the 1st and 99th percentile; chosen, 5 % of the range
    minutiae: int = 6  # chosen low: what so few can tell is for the comparison to say
    minutia_quality: int = 30  # 1 to 100; chosen, the lowest that the extractor is meant to give
    full_area_mm2: float = 140.0  # score: full marks for area; the FVC medians as above
    full_peak: float = 0.70  # score: full marks for clarity; the third quartile of FVC is 0.68
    full_minutiae: int = 30  # score: full marks; chosen
    rejected_score: int = 10  # score: at most, for a rejected print


PARAMS = QualityParams()


@dataclass(frozen=True, slots=True)
class Quality:
    """The verdict on one print.

    Attributes
    ----------
    score : int
        0 (worst) to 100 (best), on a scale of its own.
    reasons : tuple of Reason
        In the order of `Reason`; empty for a good print.
    area_mm2 : float
        Foreground, square millimetres.
    ridge_mm2 : float
        The part of it that shows ridges of a plausible period.
    period : float
        Median ridge period, pixels at 500 ppi; 0 where there are no ridges.
    clarity : float
        Median share of a block's power in the one spot that ridges make, 0 to 1.
    straightness : float
        Resultant length of the doubled ridge directions, 0 to 1; 1 for parallel lines.
    flow : float
        Mean cosine of the doubled angle between the ridges of neighbouring blocks, -1 to 1; 0 for chance.
    minutiae : int
        Those of sufficient quality, or of none stated.
    """

    score: int
    reasons: tuple[Reason, ...]
    area_mm2: float
    ridge_mm2: float
    period: float
    clarity: float
    straightness: float
    flow: float
    minutiae: int

    @property
    def rejected(self) -> bool:
        """Whether the print should not be enrolled."""
        return not REJECTING.isdisjoint(self.reasons)

    @property
    def advice(self) -> tuple[str, ...]:
        """One sentence for each reason."""
        return tuple(ADVICE[reason] for reason in self.reasons)


def assess(
    pixels: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    template: Template,
    *,
    params: QualityParams = PARAMS,
) -> Quality:
    """Judge a print.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W)
        At 500 ppi, ridges dark.
    mask : ndarray of bool, shape (H, W)
        Its foreground, as `enroll.segment.foreground` gives it.
    template : Template
        Its minutiae.
    params : QualityParams

    Returns
    -------
    Quality
    """
    ridges = _ridges(pixels, mask, params)
    area = float(mask.sum()) * (25.4 / PPI) ** 2
    usable = (template.quality >= params.minutia_quality) | (template.quality == 0)
    count = int(usable.sum())
    reasons = _reasons(pixels, mask, ridges, area=area, minutiae=count, params=params)
    score = _score(ridges, area, count, params)
    if not REJECTING.isdisjoint(reasons):
        score = min(score, params.rejected_score)
    return Quality(
        score,
        reasons,
        area_mm2=round(area, 2),
        ridge_mm2=round(area * ridges.share, 2),
        minutiae=count,
        period=round(ridges.period, 2),
        clarity=round(ridges.clarity, 3),
        straightness=round(ridges.straightness, 3),
        flow=round(ridges.flow, 3),
    )


class _Ridges(NamedTuple):
    """What the blocks of a print show: the share that is ridged, and over these `Quality`'s features."""

    share: float
    period: float
    clarity: float
    straightness: float
    flow: float


_NONE = _Ridges(0.0, 0.0, 0.0, 0.0, 0.0)


def _ridges(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], params: QualityParams) -> _Ridges:
    blocks, places = _blocks(pixels, mask, params)
    if not len(blocks):
        return _NONE
    peak, y, x = _peaks(blocks)
    period = params.block / np.hypot(y, x)
    ridged = (peak > params.peak) & (period > params.period_low) & (period < params.period_high)
    if not ridged.any():
        return _NONE
    turns = np.zeros(places.shape, np.complex128)
    turns[places] = np.where(ridged, np.exp(2j * np.arctan2(y, x)), 0)
    return _Ridges(
        float(ridged.mean()),
        float(np.median(period[ridged])),
        float(min(1.0, np.median(peak[ridged]))),
        float(abs(turns.sum()) / ridged.sum()),
        _flow(turns),
    )


def _flow(turns: NDArray[np.complex128]) -> float:
    """Mean cosine between neighbours on the grid; `turns` are unit numbers, 0 where there is no ridge."""
    pairs = [turns[1:] * turns[:-1].conj(), turns[:, 1:] * turns[:, :-1].conj()]
    count = sum(np.count_nonzero(pair) for pair in pairs)
    return float(sum(pair.real.sum() for pair in pairs) / max(1, count))


def _blocks(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_], params: QualityParams
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Blocks under the mask, less mean, Hann-windowed, float32 (b, block, block); their grid places."""
    size, quarter = params.block, params.block // 4
    pad = [(0, max(0, size - side)) for side in pixels.shape]
    step = max(params.step, int(np.ceil(np.sqrt(pixels.size / params.blocks))))
    whole = sliding_window_view(np.pad(pixels, pad, mode="edge"), (size, size))[::step, ::step]
    centres = np.pad(mask, pad)[quarter:, quarter:]
    inner = sliding_window_view(centres, (size // 2, size // 2))[::step, ::step]
    places = inner[: whole.shape[0], : whole.shape[1]].mean(axis=(2, 3)) > params.covered
    blocks = whole[places].astype(np.float32)
    hann = np.hanning(size + 1)[:size]
    window = np.outer(hann, hann).astype(np.float32)
    means = (blocks * window).sum(axis=(1, 2), keepdims=True) / window.sum()
    return np.asarray((blocks - means) * window, np.float32), np.asarray(places, np.bool_)


_REACH = 24  # frequencies kept, cycles a block: periods from 2.7 pixels
_SPOT = 5  # a Hann window spreads a wave over 3 x 3 frequencies, a tenth more or less of period over 5 x 5


def _peaks(
    blocks: NDArray[np.float32],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    """Find the strongest spot of each block: its share of the power, its frequency in cycles a block; (b,).

    Frequencies below two cycles a block are shading and left out.
    """
    kept = np.arange(-_REACH, _REACH + 1)
    y, x = np.meshgrid(kept, kept, indexing="ij")
    band = np.abs(np.hypot(y, x) - 11.95) <= 10.05  # 1.9 to 22
    power = np.abs(scipy.fft.fft2(blocks)[:, kept[:, None], kept]) ** 2 * band
    spots = power
    for axis in (1, 2):
        spots = ndimage.uniform_filter1d(spots, _SPOT, axis=axis, mode="constant")
    spots = (spots * (band & ((x > 0) | ((x == 0) & (y > 0))))).reshape(len(blocks), -1)
    best = spots.argmax(axis=1)
    strongest = np.take_along_axis(spots, best[:, None], axis=1)[:, 0] * _SPOT**2
    total = power.sum(axis=(1, 2), dtype=np.float64) / 2  # each wave has two spots, one on either side
    return strongest / np.maximum(total, 1e-3), y.ravel()[best], x.ravel()[best]


def _reasons(
    pixels: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    ridges: _Ridges,
    *,
    area: float,
    minutiae: int,
    params: QualityParams,
) -> tuple[Reason, ...]:
    low, high = np.percentile(pixels, (1, 99))
    if not mask.any() and high - low < params.contrast:
        return (Reason.BLANK,)
    found = set()
    if ridges.share < params.ridged:
        other = _fits_elsewhere(pixels, mask, params)
        found.add(Reason.RIDGE_PERIOD_IMPLAUSIBLE if other else Reason.NO_RIDGES)
    else:
        found |= _ridge_reasons(ridges, area, params)
    if minutiae < params.minutiae:
        found.add(Reason.TOO_FEW_MINUTIAE)
    return tuple(reason for reason in Reason if reason in found)


def _ridge_reasons(ridges: _Ridges, area: float, params: QualityParams) -> set[Reason]:
    """Reasons of a print that shows ridges."""
    ridge_mm2 = ridges.share * area
    tests = {
        Reason.NOT_A_PRINT: ridges.straightness > params.straight or ridges.flow < params.flow,
        Reason.RIDGE_PERIOD_IMPLAUSIBLE: not params.median_low <= ridges.period <= params.median_high,
        Reason.TOO_SMALL_AREA: ridge_mm2 < params.area_mm2,
        Reason.PARTIAL: params.area_mm2 <= ridge_mm2 < params.partial_mm2,
        Reason.LOW_CLARITY: ridges.share < params.clear_share,
    }
    return {reason for reason, true in tests.items() if true}


def _fits_elsewhere(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], params: QualityParams) -> bool:
    """Whether the image is a print at half or double its size: then its resolution is stated wrong."""
    return _fits(_halved(pixels), mask[:-1:2, :-1:2], params) or (
        pixels.size < params.doubled
        and _fits(ndimage.zoom(pixels, 2, order=1), mask.repeat(2, axis=0).repeat(2, axis=1), params)
    )


def _fits(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], params: QualityParams) -> bool:
    ridges = _ridges(pixels, mask, params)
    plain = ridges.share > params.ridged_elsewhere and ridges.flow > params.flow
    return plain and ridges.straightness < params.straight


def _halved(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    height, width = (side // 2 for side in pixels.shape)
    cells = pixels[: 2 * height, : 2 * width].reshape(height, 2, width, 2)
    return np.asarray(cells.mean(axis=(1, 3)), np.uint8)


def _score(ridges: _Ridges, area: float, minutiae: int, params: QualityParams) -> int:
    """Geometric mean of how near area, clarity, evenness and minutiae come to full marks."""
    marks = (
        ridges.share * area / params.full_area_mm2,
        (ridges.clarity - params.peak) / (params.full_peak - params.peak),
        ridges.share,
        minutiae / params.full_minutiae,
    )
    product = float(np.prod([min(1.0, max(0.0, mark)) for mark in marks]))
    return round(float(100 * product ** (1 / len(marks))))
