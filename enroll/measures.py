"""What is measured of a print beside its quality: NFIQ 2, how much is ridge, which way up it lies.

`enroll.quality` says whether an image is a print. This says what an operator can do better next time, and
what `enroll.gate` holds against a country's thresholds.

Dry and wet fingers. A dry finger leaves thin, broken ridges; of a wet one, or one pressed hard, the ridges
grow until they blot. Both show in the share of the print that is ridge. No public set is labelled with
either, but FVC2004 dried some fingers and moistened others [1]_: in the three sets of its scanners the
impressions number 6 have little ridge and those number 8 much. Scanners differ as much as fingers do (medians
0.31 to 0.59), and thin ridges by themselves cost no match. So the share explains a poor print, and makes none
poor.

Which way up. Towards the tip ridges arch over the core, so that the flow climbs to the left of the middle and
falls to the right; a print upside down has the opposite. `lie` measures that twice over; both change their
sign when the print is turned by half and keep it in a mirror, so that neither hand is favoured.

References
----------
.. [1] D. Maio, D. Maltoni, R. Cappelli, J. L. Wayman, A. K. Jain, "FVC2004: Third Fingerprint Verification
   Competition", ICBA 2004. doi:10.1007/978-3-540-25948-0_1
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from enroll.nfiq import NOT_ASKED, Nfiq, nfiq2
from enroll.pipeline import Extraction
from enroll.segment import foreground


@dataclass(frozen=True, slots=True)
class MeasureParams:
    """Lengths in pixels at 500 ppi."""

    noise: float = 1.0  # sigma that takes off the noise of the sensor
    reach: int = 17  # side of the square that holds a ridge and a valley: the widest usual period is 13.5
    faint: float = 24.0  # grey levels from ridge to valley; below, a blot or a gap
    rim: int = 17  # of the mask, left out: there a square reaches out of the print
    step: int = 4  # directions are this much smoother than the pixels, so they are taken on a grid
    along: float = 8.0  # sigma under which a direction is taken: three ridges


PARAMS = MeasureParams()

LIE = (-6.05, -0.45)
"""Weights of `lie` for the natural logarithm of the odds, from `benchmarks/quality.py` and FVC's prints."""


@dataclass(frozen=True, slots=True)
class Measures:
    """What was measured of one print.

    Attributes
    ----------
    nfiq : Nfiq
        NFIQ 2 (ISO/IEC 29794-4), 0 to 100, with its version, or why there is none.
    minutiae : int
        Usable ones: of quality 30 or more of 100. Ours; as `enroll.quality` counts them.
    area_mm2 : float
        Foreground, square millimetres. Ours; see `enroll.segment`.
    ridge_share : float
        Of the foreground, how much is ridge, 0 to 1. Ours; see the module.
    upright : float
        log10 of the odds that the tip is up. Ours; see the module.
    """

    nfiq: Nfiq
    minutiae: int
    area_mm2: float
    ridge_share: float
    upright: float


def measure(found: Extraction, *, with_nfiq2: bool = True, params: MeasureParams = PARAMS) -> Measures:
    """Measure a print.

    Parameters
    ----------
    found : Extraction
    with_nfiq2 : bool
        Whether to ask NFIQ 2 too, which takes not half as long as the extraction did.
    params : MeasureParams

    Returns
    -------
    Measures
        A share and odds of 0 where there is no foreground.
    """
    pixels = found.image.pixels
    mask = foreground(pixels)
    return Measures(
        nfiq2(found.image) if with_nfiq2 else Nfiq(None, "", reason=NOT_ASKED),
        found.quality.minutiae,
        found.quality.area_mm2,
        round(_ridge_share(pixels, mask, params), 3),
        round(float(lie(pixels, mask, params=params) @ LIE) / np.log(10), 2),
    )


def _ridge_share(pixels: NDArray[np.uint8], mask: NDArray[np.bool_], params: MeasureParams) -> float:
    """Share of the mask that is darker than midway between the darkest and the lightest nearby."""
    if not mask.any():
        return 0.0
    inside = _inner(mask, params.rim)
    grey = cv2.GaussianBlur(pixels, (0, 0), params.noise)
    square = np.ones((params.reach, params.reach), np.uint8)
    low, high = (np.asarray(f(grey, square), np.float32) for f in (cv2.erode, cv2.dilate))
    midway = (low + high) / 2
    midway[high - low < params.faint] = np.median(midway[inside])
    return float((grey < midway)[inside].mean())


def _inner(mask: NDArray[np.bool_], rim: int) -> NDArray[np.bool_]:
    """Take off the rim; of a mask that is nothing but rim, nothing."""
    inner = cv2.erode(mask.astype(np.uint8), np.ones((rim, rim), np.uint8)) > 0
    return np.asarray(inner if inner.any() else mask, np.bool_)


def lie(
    pixels: NDArray[np.uint8], mask: NDArray[np.bool_], *, params: MeasureParams = PARAMS
) -> NDArray[np.float64]:
    """Return the two moments of a print's flow that tell which way up it lies, shape (2,).

    With the place (x right, y up) from the middle of the mask in units of the root of its area, and the
    ridges' direction a weighed by how sure it is, they are ten times the means of ``x sin 2a`` and
    ``y cos 2a``. A print turned by half has them negated; moments of the third degree told no more. Both are
    0 without a foreground.
    """
    inside = _inner(mask, params.rim)[:: params.step, :: params.step]
    if not inside.any():
        return np.zeros(2)
    cosine, sine = (part[:: params.step, :: params.step][inside] for part in _flow(pixels, params))
    y, x = (axis - axis.mean() for axis in np.nonzero(inside))
    moments = np.array([(x * sine).mean(), -(y * cosine).mean()])
    return np.asarray(moments * 10 / np.sqrt(inside.sum()), np.float64)


def _flow(pixels: NDArray[np.uint8], params: MeasureParams) -> tuple[NDArray[Any], NDArray[Any]]:
    """Cosine and sine of twice the ridges' direction, as long as it is sure, 0 to 1."""
    grey = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 2 * params.noise)
    x, y = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    energy = cv2.GaussianBlur(x * x + y * y, (0, 0), params.along) + 1
    return (
        cv2.GaussianBlur(y * y - x * x, (0, 0), params.along) / energy,
        cv2.GaussianBlur(2 * x * y, (0, 0), params.along) / energy,
    )
