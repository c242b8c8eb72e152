"""How good a print is, 0 to 100, and what to do about a poor one.

This is **not** NFIQ 2 (ISO/IEC 29794-4) and its score is on no scale but its own: it was not trained on match
scores. It answers two questions that an enrolment desk has: is this a print at all, at the resolution it is
said to have; and if it is a poor one, why. Dry and wet fingers are no part of it:
what seems one, and NFIQ 2, is for `enroll.measures`; what a country asks beyond, for `enroll.gate`.

The measure is spectral. Under a window of three or so ridges a print is close to one plane wave, so that
most of its power lies in one small spot of the spectrum, at a ridge's distance from the origin, and the spot
turns little from one window to the next. A photograph's power lies at the origin, a checkerboard's in
several spots of which now one, now another is the strongest, and stripes or lines of text have all
their spots in one place, where those of a print turn with the finger's curvature.

A print wrongly rejected is a person not found, so the spectrum does not judge alone. The network that finds
minutiae is the second witness: of a print it is sure of many and they lie along the ridges, in a photograph
it sees many, each with doubt. Either of the two suffices, and what one lacks the other may make up. A latent
is submitted by an examiner, who has seen that it is one: there everything is said, but only an image that is
blank or has hardly a minutia is rejected.

A resolution stated wrong by a factor of two or more shows in the distance of ridges. It is named, and the
image rejected, because minutiae at the wrong scale agree with nobody's; nothing is rescaled silently.

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

import cv2
import numpy as np
import scipy.fft
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from enroll.segment import foreground, wide_mean
from matcher.template import LATENTS, PPI, Template


class Reason(StrEnum):
    """What is to be said of a print; `ADVICE` says what to do, `REJECTING` which of them reject it."""

    BLANK = "BLANK"
    NO_RIDGES = "NO_RIDGES"
    NOT_A_PRINT = "NOT_A_PRINT"
    RIDGE_PERIOD_IMPLAUSIBLE = "RIDGE_PERIOD_IMPLAUSIBLE"
    TOO_SMALL_AREA = "TOO_SMALL_AREA"
    TOO_FEW_MINUTIAE = "TOO_FEW_MINUTIAE"
    PARTIAL = "PARTIAL"
    LOW_CLARITY = "LOW_CLARITY"
    WHITE_RIDGES = "WHITE_RIDGES"


ADVICE = MappingProxyType(
    {
        Reason.BLANK: "the image is empty: check that the finger lay on the scanner",
        Reason.NO_RIDGES: "no ridges were found: check that the image is a fingerprint, and its resolution",
        Reason.NOT_A_PRINT: "the pattern does not flow as a finger's does: check that it is a fingerprint",
        Reason.RIDGE_PERIOD_IMPLAUSIBLE: "the ridges are too wide or too narrow: check the resolution (ppi)",
        Reason.TOO_SMALL_AREA: "too little of the finger: lay the whole first joint on the scanner",
        Reason.TOO_FEW_MINUTIAE: "too few minutiae to compare: take the print again, or another finger",
        Reason.PARTIAL: "a small part of the finger: take it again if you can, the whole first joint",
        Reason.LOW_CLARITY: "ridges are unclear in places: clean finger and glass, take the print again",
        Reason.WHITE_RIDGES: "the ridges were white and the image was inverted: check that this is meant",
    }
)
"""What a person can do about each reason; `Quality.advice` is more definite where it can be."""

REJECTING = frozenset(
    {
        Reason.BLANK,
        Reason.NO_RIDGES,
        Reason.NOT_A_PRINT,
        Reason.RIDGE_PERIOD_IMPLAUSIBLE,
        Reason.TOO_FEW_MINUTIAE,
    }
)
"""The reasons for which a print is not enrolled. A small area is none: its minutiae are counted."""

REJECTING_LATENTS = frozenset({Reason.BLANK, Reason.TOO_FEW_MINUTIAE})
"""The same for a latent; the other reasons are advice to its examiner."""


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
    ridged: float = 0.25  # of the blocks; FVC: one print of 640 at 0.18, then 0.33; photographs up to 0.23
    doubtful: float = 0.5  # quality of a minutia that says nothing: prints have more above, photographs below
    evidence: float = 1.0  # that suffices without ridges, or against `straight` and `flow`: a latent with 9 %
    # of ridges has 5, FVC prints 0.4 and more, median 12; 449 photographs and pages up to 0.8
    gradient: float = 2.0  # sigma, pixels: finer change is noise
    along: float = (
        10.0  # sigma, pixels, under which the ridges' direction is taken: wide, as poor prints blot
    )
    ridged_elsewhere: float = 0.5  # at half or double size, for the advice on resolution: twice `ridged`
    flow: float = 0.55  # FVC from 0.66, median 0.90; pages, checkerboards and noise up to 0.50
    doubled: int = 1_000_000  # pixels; no larger image is tried at double size: it holds a print already
    usual_ppi: tuple[int, ...] = (250, 500, 1000, 2000)  # resolutions that a wrong one may be mistaken for
    usual_period: float = 9.0  # pixels at 500 ppi, 0.46 mm: the median of FVC's medians is 8.9
    straight: float = 0.88  # resultant length of directions; FVC up to 0.84, text 0.895, stripes 1
    straightest: float = 0.985  # whatever the evidence; fingertips of 50 mm2 up to 0.974, drawn wood 0.995
    area_mm2: float = 25.0  # of ridges, with the mask's rim of a ridge; FVC from 30; 4 x 4 mm measure 21. The
    # share of ridges counts in proportion on less: two blocks of stripes are no witness
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
    evidence : float
        What the network's minutiae say for a print: each one's quality over one half, 0 to 0.5, times the
        cosine of the doubled angle between it and the ridges; less by what qualities lack of one half.
    ppi : float
        The resolution that was stated, pixels per inch.
    likely_ppi : int or None
        Where the ridge period is implausible, the usual resolution at which it is not.
    rejected : bool
        Whether the print should not be enrolled.
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
    evidence: float
    ppi: float
    likely_ppi: int | None
    rejected: bool

    @property
    def advice(self) -> tuple[str, ...]:
        """One sentence for each reason."""
        return tuple(self._advice(reason) for reason in self.reasons)

    def _advice(self, reason: Reason) -> str:
        if reason is not Reason.RIDGE_PERIOD_IMPLAUSIBLE or self.likely_ppi is None:
            return ADVICE[reason]
        return (
            f"the ridges are {self.period * self.ppi / PPI:.1f} pixels apart at the stated {self.ppi:g} ppi: "
            f"the image is likelier of {self.likely_ppi} ppi; state its true resolution"
        )


def assess(
    pixels: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    template: Template,
    *,
    ppi: float = PPI,
    white: bool = False,
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
        Its minutiae. The impression of a latent makes the verdict lenient.
    ppi : float
        Resolution that was stated of the image before it was brought to 500 ppi.
    white : bool
        Whether the ridges were white and the image was inverted, to be said among the reasons.
    params : QualityParams

    Returns
    -------
    Quality
    """
    found = _found(pixels, mask, template, params)
    reasons = (*found.reasons, Reason.WHITE_RIDGES) if white else found.reasons
    rejecting = REJECTING_LATENTS if template.impression in LATENTS else REJECTING
    rejected = not rejecting.isdisjoint(reasons)
    score = _score(found, params)
    return Quality(
        min(score, params.rejected_score) if rejected else score,
        reasons,
        area_mm2=round(found.area, 2),
        ridge_mm2=round(found.area * found.ridges.share, 2),
        minutiae=found.minutiae,
        period=round(found.ridges.period, 2),
        clarity=round(found.ridges.clarity, 3),
        straightness=round(found.ridges.straightness, 3),
        flow=round(found.ridges.flow, 3),
        evidence=round(found.evidence, 2),
        ppi=ppi,
        likely_ppi=_likely_ppi(found.ridges.period, ppi, params),
        rejected=rejected,
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
    centres = np.pad(mask, pad)[quarter:, quarter:].astype(np.float32)
    inner = cv2.boxFilter(centres, -1, (size // 2, size // 2), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    places = inner[::step, ::step][: whole.shape[0], : whole.shape[1]] > params.covered
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
    rim = _SPOT // 2
    rows, columns = np.arange(-_REACH - rim, _REACH + rim + 1), np.arange(_REACH + rim + 1)
    y, x = np.meshgrid(rows, columns, indexing="ij")
    band = np.abs(np.hypot(y, x) - 11.95) <= 10.05  # 1.9 to 22
    parts = scipy.fft.rfft2(blocks)[:, rows[:, None], columns]
    power = (parts.real**2 + parts.imag**2) * band
    # A real image's spectrum is the same on either side: what a spot near the middle takes from beyond it.
    power = np.concatenate((power[:, ::-1, rim:0:-1], power), axis=2)
    spots = _sums(_sums(power, 1), 2)
    y, x = y[rim:-rim, :-rim], x[rim:-rim, :-rim]
    upper = band[rim:-rim, :-rim] & ((x > 0) | (y > 0))
    spots = (spots * upper).reshape(len(blocks), -1)
    best = spots.argmax(axis=1)
    strongest = np.take_along_axis(spots, best[:, None], axis=1)[:, 0]
    # Each wave has two spots, one on either side; those in the middle column are both on this one.
    total = power[:, :, rim + 1 :].sum(axis=(1, 2), dtype=np.float64)
    total += power[:, :, rim].sum(axis=1, dtype=np.float64) / 2
    return strongest / np.maximum(total, 1e-3), y.ravel()[best], x.ravel()[best]


def _sums(values: NDArray[np.float32], axis: int) -> NDArray[np.float32]:
    """Sum every `_SPOT` neighbours along an axis."""
    line = np.moveaxis(values, axis, 0)
    length = len(line) - _SPOT + 1
    total = line[:length].copy()
    for first in range(1, _SPOT):
        total += line[first : first + length]
    return np.moveaxis(total, 0, axis)


class _Found(NamedTuple):
    """What a print shows, and the reasons that follow."""

    ridges: _Ridges
    evidence: float
    area: float
    minutiae: int
    reasons: tuple[Reason, ...]


def _found(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_], template: Template, params: QualityParams
) -> _Found:
    ridges, evidence = _ridges(pixels, mask, params), _evidence(pixels, template, params)
    area = float(mask.sum()) * (25.4 / PPI) ** 2
    count = int(((template.quality >= params.minutia_quality) | (template.quality == 0)).sum())
    if not mask.any() and np.ptp(np.percentile(pixels, (1, 99))) < params.contrast:
        return _Found(ridges, evidence, area, count, (Reason.BLANK,))
    other = _at_another_size(pixels, params) if ridges.share < params.clear_share else None
    wrong_size = other is not None and not _plausible(other.period, params)
    if other is not None and (wrong_size or ridges.share < params.ridged):
        ridges = other  # a right period: noise hid the ridges at full size
    found = _ridge_reasons(ridges, evidence, area, params)
    found = {Reason.RIDGE_PERIOD_IMPLAUSIBLE} if wrong_size else found
    if count < params.minutiae:
        found.add(Reason.TOO_FEW_MINUTIAE)
    reasons = tuple(reason for reason in Reason if reason in found)
    return _Found(ridges, evidence, area, count, reasons)


def _evidence(pixels: NDArray[np.uint8], template: Template, params: QualityParams) -> float:
    """Weigh what the minutiae say for a print; see `Quality`. One of no stated quality says nothing."""
    over = template.quality.astype(np.float64) / 100 - params.doubtful
    over[template.quality < params.minutia_quality] = 0
    x, y = template.xy.T.astype(np.int64)
    along = np.cos(_double_directions(pixels, x, y, params) - 2 * template.angle)
    return float(np.where(over > 0, over * along, over).sum())


def _double_directions(
    pixels: NDArray[np.uint8], at_x: NDArray[np.int64], at_y: NDArray[np.int64], params: QualityParams
) -> NDArray[np.float32]:
    """Twice the ridges' direction at each place, counter-clockwise as seen, radians; float32 (n,)."""
    grey = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), params.gradient)
    x, y = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    difference, product = wide_mean(x * x - y * y, params.along), wide_mean(2 * x * y, params.along)
    return np.asarray(np.arctan2(product[at_y, at_x], -difference[at_y, at_x]), np.float32)


def _ridge_reasons(ridges: _Ridges, evidence: float, area: float, params: QualityParams) -> set[Reason]:
    """Reasons of an image that is not blank."""
    ridge_mm2 = ridges.share * area
    seen = ridges.share / params.ridged * min(1.0, ridge_mm2 / params.area_mm2)
    if seen + max(-1.0, evidence / params.evidence) < 1:  # no doubt outweighs ridges on half of the blocks
        return {Reason.NO_RIDGES}
    odd = ridges.straightness > params.straight or ridges.flow < params.flow
    in_vain = (odd and evidence < params.evidence) or ridges.straightness > params.straightest
    plain = ridges.share >= params.ridged  # of fewer blocks neither flow nor period tell
    tests = {
        Reason.NOT_A_PRINT: plain and in_vain,
        Reason.RIDGE_PERIOD_IMPLAUSIBLE: plain and not _plausible(ridges.period, params),
        Reason.TOO_SMALL_AREA: ridge_mm2 < params.area_mm2,
        Reason.PARTIAL: params.area_mm2 <= ridge_mm2 < params.partial_mm2,
        Reason.LOW_CLARITY: ridges.share < params.clear_share,
    }
    return {reason for reason, true in tests.items() if true}


def _plausible(period: float, params: QualityParams) -> bool:
    return params.median_low <= period <= params.median_high


def _likely_ppi(period: float, ppi: float, params: QualityParams) -> int | None:
    """Return the usual resolution at which the period is most usual; None where the one stated will do."""
    if not period or _plausible(period, params):
        return None
    best = min(params.usual_ppi, key=lambda usual: abs(np.log(period * ppi / usual / params.usual_period)))
    return best if _plausible(period * ppi / best, params) else None


def _at_another_size(pixels: NDArray[np.uint8], params: QualityParams) -> _Ridges | None:
    """Return the ridges of what is a print at another size only, their period at 500 ppi; None for none."""
    for scale in (0.5, 0.25, 2.0):
        if scale > 1 and pixels.size >= params.doubled:
            continue
        method = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        scaled = np.asarray(cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=method), np.uint8)
        ridges = _ridges(scaled, foreground(scaled), params)
        plain = ridges.share > params.ridged_elsewhere and ridges.flow > params.flow
        if plain and ridges.straightness < params.straight:
            return ridges._replace(period=ridges.period / scale)
    return None


def _score(found: _Found, params: QualityParams) -> int:
    """Geometric mean of how near area, clarity, evenness and minutiae come to full marks."""
    ridges = found.ridges
    marks = (
        ridges.share * found.area / params.full_area_mm2,
        (ridges.clarity - params.peak) / (params.full_peak - params.peak),
        ridges.share,
        found.minutiae / params.full_minutiae,
    )
    product = float(np.prod([min(1.0, max(0.0, mark)) for mark in marks]))
    return round(float(100 * product ** (1 / len(marks))))
