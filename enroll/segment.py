"""Where the print is: a mask of its ridges against paper, platen and card.

Three things tell ridges from what lies around them: the image changes at the scale of a ridge (energy), the
changes run along one direction at each place (coherence), and both do so over an area larger than a stroke
of writing (morphology). No one of them will do: a dirty platen has energy, a ruled line has coherence.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class SegmentParams:
    """Lengths in pixels at 500 ppi; tuned by eye on FVC2002 and FVC2004 DB1-4_B and on inked cards."""

    fine: float = 1.0  # sigma that takes off the noise of the sensor; the thinnest ridge is 3 pixels wide
    coarse: float = 6.0  # sigma that takes off shading; the widest ridge period is 15 pixels
    window: float = 8.0  # sigma under which coherence is taken: about three ridges
    near: float = 4.0  # sigma under which amplitude is taken: one ridge, so that a lone edge stays narrow
    gap: int = 12  # a lull in amplitude no wider than this lies inside a print: a crease
    lone: int = 36  # ridges fill a disc this wide with amplitude: edges, ruled lines and most writing do not
    step: int = 4  # the statistics are this much smoother than the pixels, so they are taken on a grid
    strong: float = 95.0  # percentile of amplitude that stands for this print's own ridges ...
    ridged: float = 75.0  # ... at least; among what may be ridges, for of a large sheet most is empty
    share: float = 0.17  # of that amplitude; faint rims of dry prints go below it, ghosts stay under
    floor: float = 2.5  # grey levels of ridge amplitude; quantisation and JPEG ringing stay below
    coherence: float = 0.27  # 0 to 1; white noise under this window has 0.02 to 0.19, median 0.09
    closing: int = 24  # bridges creases, scars and cores: three ridges
    opening: int = 32  # removes ruled lines and writing: less than four ridges wide
    component: float = 0.15  # of the largest one's area; keeps every finger of a slap


PARAMS = SegmentParams()


class Survey(NamedTuple):
    """Where the print is, and how far anything reaches that may be one.

    Attributes
    ----------
    mask : ndarray of bool, shape (H, W)
        True on ridges; holes are filled. All False where there are none.
    extent : ((int, int), (int, int)) or None
        First and last row (exclusive), first and last column: beyond lies nothing that is ridge-like at all,
        by amplitude and coherence alone, neither faint nor small. None where nothing is.
    """

    mask: NDArray[np.bool_]
    extent: tuple[tuple[int, int], tuple[int, int]] | None


def foreground(pixels: NDArray[np.uint8], *, params: SegmentParams = PARAMS) -> NDArray[np.bool_]:
    """Mask the ridges of a print, or of several on one image; see `survey`."""
    return survey(pixels, params=params).mask


def survey(pixels: NDArray[np.uint8], *, params: SegmentParams = PARAMS) -> Survey:
    """Find the ridges of a print, or of several on one image.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W)
        At 500 ppi.
    params : SegmentParams

    References
    ----------
    .. [1] A. M. Bazen and S. H. Gerez, "Segmentation of fingerprint images", ProRISC 2001: mean, variance and
       coherence as the features of a ridge area.
    .. [2] D. Maltoni, D. Maio, A. K. Jain, J. Feng, "Handbook of Fingerprint Recognition", 3rd ed., 2022,
       section 3.4. doi:10.1007/978-3-030-83624-5
    """
    ridges = _ridge_band(pixels, params)
    amplitude, coherence = _amplitude(ridges, params), _coherence(ridges, params)
    likely = (amplitude > params.floor) & (coherence > params.coherence)
    rough = likely & (amplitude > params.share * _strong(amplitude, likely, params))
    solid = _solid(rough.astype(np.uint8), params)
    size = (pixels.shape[1], pixels.shape[0])
    smooth = cv2.resize(solid.astype(np.float32), size, interpolation=cv2.INTER_LINEAR)
    return Survey(np.asarray(smooth > 0.5, np.bool_), _extent(likely, params.step))


def _strong(amplitude: NDArray[np.float32], likely: NDArray[np.bool_], params: SegmentParams) -> float:
    """Return the amplitude of this print's own ridges, whatever the size of the sheet that it lies on."""
    own = np.percentile(amplitude[likely], params.ridged) if likely.any() else 0.0
    return float(max(np.percentile(amplitude, params.strong), own))


def _extent(likely: NDArray[np.bool_], step: int) -> tuple[tuple[int, int], tuple[int, int]] | None:
    rows, columns = (np.flatnonzero(likely.any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        return None
    first, last = ((int(line[0]) * step, int(line[-1] + 1) * step) for line in (rows, columns))
    return first, last


def wide_mean(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """Mean of `values` (H, W) under a Gaussian of eight pixels or more, taken on a grid of every fourth."""
    height, width = values.shape
    grid = cv2.resize(values, (-(-width // 4), -(-height // 4)), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(grid, (0, 0), sigma / 4)
    return np.asarray(cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR), np.float32)


def _ridge_band(pixels: NDArray[np.uint8], params: SegmentParams) -> NDArray[np.float32]:
    """Difference of two Gaussians, float32 (H, W): what is neither noise nor shading."""
    image = pixels.astype(np.float32)
    border = cv2.BORDER_REPLICATE
    fine = cv2.GaussianBlur(image, (0, 0), params.fine, borderType=border)
    small = cv2.resize(image, None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
    shade = cv2.GaussianBlur(small, (0, 0), params.coarse / 4, borderType=border)
    size = (image.shape[1], image.shape[0])
    return np.asarray(fine - cv2.resize(shade, size, interpolation=cv2.INTER_LINEAR), np.float32)


def _amplitude(ridges: NDArray[np.float32], params: SegmentParams) -> NDArray[np.float32]:
    """Ridge amplitude in grey levels, without narrow peaks, float32 (H/step, W/step)."""
    amplitude = np.sqrt(_local_mean(ridges * ridges, params.near, params))
    closed = cv2.morphologyEx(amplitude, cv2.MORPH_CLOSE, _disc(params.gap // params.step))
    margin = params.lone // params.step
    wide = cv2.copyMakeBorder(closed, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    opened = cv2.morphologyEx(wide, cv2.MORPH_OPEN, _disc(params.lone // params.step))
    return np.asarray(opened[margin:-margin, margin:-margin], np.float32)


def _coherence(ridges: NDArray[np.float32], params: SegmentParams) -> NDArray[np.float32]:
    """How much of the local change runs along one direction, 0 to 1, float32 (H/step, W/step)."""
    x = cv2.Sobel(ridges, cv2.CV_32F, 1, 0, ksize=3)
    y = cv2.Sobel(ridges, cv2.CV_32F, 0, 1, ksize=3)
    xx, yy, xy = (_local_mean(value, params.window, params) for value in (x * x, y * y, x * y))
    return np.asarray(np.sqrt((xx - yy) ** 2 + 4 * xy * xy) / np.maximum(xx + yy, 1e-6), np.float32)


def _local_mean(values: NDArray[np.float32], sigma: float, params: SegmentParams) -> NDArray[np.float32]:
    height, width = (max(1, -(-side // params.step)) for side in values.shape)
    grid = cv2.resize(values, (width, height), interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(grid, (0, 0), sigma / params.step, borderType=cv2.BORDER_REPLICATE)
    return np.asarray(blurred, np.float32)


def _solid(rough: NDArray[np.uint8], params: SegmentParams) -> NDArray[np.uint8]:
    """Close gaps, fill holes, take off thin and small things; uint8 0 or 1 on the grid."""
    margin = params.closing // params.step
    padded = cv2.copyMakeBorder(rough, margin, margin, margin, margin, cv2.BORDER_CONSTANT, value=0)
    closed = _bytes(cv2.morphologyEx(padded, cv2.MORPH_CLOSE, _disc(params.closing // params.step)))
    opened = cv2.morphologyEx(_filled(closed), cv2.MORPH_OPEN, _disc(params.opening // params.step))
    kept = _large_components(_bytes(opened), params.component)
    return kept[margin:-margin, margin:-margin]


def _bytes(values: Any) -> NDArray[np.uint8]:
    return np.asarray(values, np.uint8)


def _disc(diameter: int) -> NDArray[np.uint8]:
    return _bytes(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (diameter | 1, diameter | 1)))


def _filled(mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Fill what the (empty) margin cannot reach."""
    outside = mask.copy()
    cv2.floodFill(outside, None, (0, 0), 1)
    return mask | (1 - outside)


def _large_components(mask: NDArray[np.uint8], share: float) -> NDArray[np.uint8]:
    _, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    areas = np.asarray(stats[:, cv2.CC_STAT_AREA], np.float64)
    areas[0] = 0  # the background
    keep = (areas > 0) & (areas >= share * areas.max())
    return _bytes(keep[np.asarray(labels)])
