"""Where skin touched: blobs of ridges on a picture that shows several fingers, one or two blobs a finger.

A ridge answers a narrow band of wavelengths, and does so over an area wider than any stroke of a pen. So the
picture is reduced to 250 ppi, its amplitude in that band is taken on a grid, and what is weak or narrow goes.
What is left is cut at its necks: two fingers that lie side by side, and two joints of one finger, each meet
in a waist.
"""

from dataclasses import dataclass
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from enroll.image import GrayImage

Floats = NDArray[np.float32]
Mask = NDArray[np.uint8]

GRID_PPI = 125.0
"""Of the grid: a point is 0.2 mm, half a ridge."""
MM = GRID_PPI / 25.4
"""Grid points a millimetre."""


@dataclass(frozen=True, slots=True)
class BlobParams:
    """Tuned by eye on four slaps of cards and scanners, and on synthetic ones; lengths in mm."""

    fine: float = 0.07  # sigma that takes off noise; the thinnest ridge is 0.15
    coarse: float = 0.26  # sigma that takes off shading; the widest period is 0.75
    coarser: float = 0.9  # sigma that takes off the shape of a finger from what is coarser than ridges
    near: float = 0.30  # sigma under which amplitude is taken: less than the gap between two fingers
    strong: float = 90.0  # percentile of the amplitude of what is above `floor`
    share: float = 0.22  # of that; a middle joint goes below, a faint fingertip seldom
    floor: float = 3.0  # grey levels; noise of paper and JPEG stays below
    valley: float = 0.45  # of the mean within `around`: what is weaker lies between two fingers
    around: float = 2.5  # sigma
    gap: float = 0.4  # closed: a scar
    black: float = 30.0  # grey level of the ground seen through a hole; ridges with their valleys are lighter
    hole: float = 25.0  # square mm filled: the hole of a punch has 28, less its rim
    narrow: float = 5.0  # opened: letters and strokes are narrower, fingertips wider
    least: float = 30.0  # square mm of a blob: a tip that is half cut off
    writing: float = 1.3  # see Blob; wet fingers reach 1.1
    trim: float = 0.6  # of a part's own half width: what is narrower is none of it
    waist: float = 0.82  # of the smaller half width beside it, below which a neck is cut


PARAMS = BlobParams()


class Field(NamedTuple):
    """The grid.

    Attributes
    ----------
    amplitude : ndarray of float32, shape (H, W)
        Of ridges, grey levels.
    coherence : ndarray of float32, shape (H, W)
        How far they run along one direction, 0 to 1.
    coarse : ndarray of float32, shape (H, W)
        Amplitude of what is coarser than ridges, grey levels: strokes and letters have more of it.
    """

    amplitude: Floats
    coherence: Floats
    coarse: Floats


class Blob(NamedTuple):
    """Connected ridges.

    Attributes
    ----------
    points : ndarray of float32, shape (n, 2)
        x, y of its grid points, mm.
    strength : float
        Mean amplitude, grey levels.
    coherence : float
        Mean, 0 to 1.
    writing : float
        Median of what is coarser than ridges, over ridges: 0.2 to 0.8 on skin, above 1 on print and writing.
    cut : float
        Share of its outline on the border of the picture.
    """

    points: Floats
    strength: float
    coherence: float
    writing: float
    cut: float

    @property
    def area(self) -> float:
        """Square mm."""
        return len(self.points) / MM**2


def ridge_field(image: GrayImage, *, params: BlobParams = PARAMS) -> Field:
    """Take the amplitude and the coherence of ridges on the grid.

    Parameters
    ----------
    image : GrayImage
        At any resolution.
    params : BlobParams

    Returns
    -------
    Field
        Both of shape (H', W') at `GRID_PPI`.
    """
    scale = 2 * GRID_PPI / image.ppi
    height, width = (max(2, 2 * round(side * scale / 2)) for side in image.pixels.shape)
    small = cv2.resize(image.pixels, (width, height), interpolation=cv2.INTER_AREA).astype(np.float32)
    unit = 2 * MM
    band = _blurred(small, params.fine * unit) - _blurred(small, params.coarse * unit)
    x, y = cv2.Sobel(band, cv2.CV_32F, 1, 0), cv2.Sobel(band, cv2.CV_32F, 0, 1)
    xx, yy, xy = (_on_grid(v, 2.5 * params.near) for v in (x * x, y * y, x * y))
    coherence = np.sqrt((xx - yy) ** 2 + 4 * xy * xy) / np.maximum(xx + yy, 1e-6)
    shade = _blurred(_halved(small), params.coarse * MM)
    coarser = shade - _blurred(shade, params.coarser * MM)
    coarse = np.sqrt(_blurred(coarser * coarser, 2 * params.near * MM))
    amplitude = _over_holes(np.sqrt(_on_grid(band * band, params.near)), _halved(small), params)
    return Field(amplitude, coherence, coarse)


def ridge_mask(field: Field, *, params: BlobParams = PARAMS) -> Mask:
    """Mask what may be skin, uint8 0 or 1 on the grid; all 0 where there is none."""
    sure = field.amplitude[field.amplitude > params.floor]
    if not sure.size:
        return np.zeros(field.amplitude.shape, np.uint8)
    level = max(params.floor, params.share * float(np.percentile(sure, params.strong)))
    level = np.maximum(level, params.valley * _blurred(field.amplitude, params.around * MM))
    rough = _padded(np.asarray(field.amplitude > level, np.uint8))
    closed = cv2.morphologyEx(rough, cv2.MORPH_CLOSE, _disc(params.gap))
    opened = _opened(_filled(np.asarray(closed, np.uint8), params.hole), params.narrow / 2)
    return np.ascontiguousarray(opened[_PAD:-_PAD, _PAD:-_PAD])


def blobs(field: Field, mask: Mask, *, params: BlobParams = PARAMS) -> list[Blob]:
    """Cut a mask at its necks and measure every part.

    Parameters
    ----------
    field : Field
    mask : ndarray of uint8
        Of `ridge_mask`.
    params : BlobParams

    Returns
    -------
    list of Blob
        Those of at least `params.least`, the largest first.
    """
    labels = _parts(mask, params)
    parts = (_trimmed(labels == k, params) for k in range(1, int(labels.max()) + 1))
    found = [_measured(field, part) for part in parts if part.any()]
    kept = (blob for blob in found if blob.area >= params.least and blob.writing < params.writing)
    return sorted(kept, key=lambda blob: -blob.area)


_PAD = 32


def _blurred(values: Floats, sigma: float) -> Floats:
    return np.asarray(cv2.GaussianBlur(values, (0, 0), sigma, borderType=cv2.BORDER_REPLICATE), np.float32)


def _on_grid(values: Floats, sigma: float) -> Floats:
    """Return the local mean, `sigma` in mm, on the grid."""
    return _blurred(_halved(values), sigma * MM)


def _halved(values: Floats) -> Floats:
    size = (values.shape[1] // 2, values.shape[0] // 2)
    return np.asarray(cv2.resize(values, size, interpolation=cv2.INTER_AREA), np.float32)


def _disc(diameter: float) -> Mask:
    side = round(diameter * MM) | 1
    return np.asarray(cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side)), np.uint8)


def _over_holes(amplitude: Floats, grey: Floats, params: BlobParams) -> Floats:
    """Carry the amplitude over the black holes of a punch, which would look like a crease."""
    black = np.asarray(grey < params.black, np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(black, connectivity=4)
    areas = np.asarray(stats[:, cv2.CC_STAT_AREA]) / MM**2
    holes = (areas > params.hole / 2) & (areas < 2 * params.hole)
    holes[0] = False
    if not holes.any():
        return amplitude
    rim = np.asarray(cv2.dilate(np.asarray(holes[labels], np.uint8), _disc(2.0)), np.bool_)
    closed = cv2.morphologyEx(amplitude, cv2.MORPH_CLOSE, _disc(1.5 * np.sqrt(params.hole)))
    return np.where(rim, closed, amplitude).astype(np.float32)


def _padded(mask: Mask) -> Mask:
    """Put empty ground around: what lies along the border, of another cell of a card, is narrow then."""
    return np.asarray(cv2.copyMakeBorder(mask, *(_PAD,) * 4, cv2.BORDER_CONSTANT, value=0), np.uint8)


def _depth(mask: Mask) -> Floats:
    """Return the distance from the outside, mm."""
    return np.asarray(cv2.distanceTransform(mask, cv2.DIST_L2, 5), np.float32) / np.float32(MM)


def _opened(mask: Mask, radius: float) -> Mask:
    """Open by a disc, mm; by distances, for a large disc is slow."""
    core = np.asarray(_depth(mask) > radius, np.uint8)
    return np.asarray(_depth(1 - core) <= radius, np.uint8) & mask if core.any() else core


def _filled(mask: Mask, most: float) -> Mask:
    """Fill holes of at most so many square mm: wider ones lie between fingers."""
    _, labels, stats, _ = cv2.connectedComponentsWithStats(1 - mask, connectivity=4)
    small = np.asarray(stats[:, cv2.CC_STAT_AREA]) <= most * MM**2
    small[0] = False
    return mask | np.asarray(small[labels], np.uint8)


def _parts(mask: Mask, params: BlobParams) -> NDArray[np.int32]:
    """Label the parts between necks, int32 on the grid, 0 where there is nothing."""
    depth = _depth(_padded(mask))[::2, ::2]  # half the points are enough for it
    labels = np.zeros(depth.shape, np.int32)
    for number, (place, seed) in enumerate(_seeds(depth, np.asarray(depth > 0, np.uint8), 0.0, params), 1):
        labels[place][seed] = number
    if not labels.any():
        return np.zeros(mask.shape, np.int32)
    outside = np.asarray(labels == 0, np.uint8)
    _, nearest = cv2.distanceTransformWithLabels(outside, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    of_pixel = np.zeros(int(nearest.max()) + 1, np.int32)
    of_pixel[nearest[outside == 0]] = labels[outside == 0]
    fine = np.repeat(np.repeat(of_pixel[nearest], 2, axis=0), 2, axis=1)
    height, width = mask.shape
    return np.where(mask > 0, fine[_PAD : _PAD + height, _PAD : _PAD + width], 0).astype(np.int32)


_Seed = tuple[tuple[slice, slice], NDArray[np.bool_]]


def _seeds(depth: Floats, inside: Mask, level: float, params: BlobParams) -> list[_Seed]:
    """Return the parts of a region, each as it was where the rising level last cut something off it."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(inside, connectivity=4)
    seeds: list[_Seed] = []
    for k in range(1, count):
        x, y, width, height = (int(v) for v in stats[k, :4])
        place = (slice(y, y + height), slice(x, x + width))
        part = labels[place] == k
        peak = float((depth[place] * part).max())
        if peak >= max(params.narrow / 2, level / params.waist):
            seeds += [
                ((slice(y + rows.start, y + rows.stop), slice(x + columns.start, x + columns.stop)), seed)
                for (rows, columns), seed in _split(depth[place], part, level, peak, params)
            ]
    return seeds


def _split(
    depth: Floats, part: NDArray[np.bool_], level: float, peak: float, params: BlobParams
) -> list[_Seed]:
    """Raise the level; return what the part falls into where at least two stand well above it."""
    if level + 0.5 < params.waist * peak:
        higher = np.asarray(part & (depth > level + 0.5), np.uint8)
        found = _seeds(depth, higher, level + 0.5, params)
        if len(found) > 1:
            return found
    return [((slice(0, depth.shape[0]), slice(0, depth.shape[1])), part)]


def _trimmed(part: NDArray[np.bool_], params: BlobParams) -> NDArray[np.bool_]:
    """Take off what is much narrower than the part itself: print and writing that run into a finger."""
    padded = _padded(part.astype(np.uint8))
    opened = _opened(padded, params.trim * float(_depth(padded).max()))[_PAD:-_PAD, _PAD:-_PAD]
    _, labels, stats, _ = cv2.connectedComponentsWithStats(np.ascontiguousarray(opened), connectivity=4)
    areas = np.asarray(stats[:, cv2.CC_STAT_AREA]).copy()
    areas[0] = 0
    return np.asarray(labels == int(np.argmax(areas)), np.bool_) & part


def _measured(field: Field, part: NDArray[np.bool_]) -> Blob:
    rows, columns = np.nonzero(part)
    height, width = part.shape
    edge = (rows == 0) | (columns == 0) | (rows == height - 1) | (columns == width - 1)
    inner = np.asarray(cv2.erode(part.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=0))
    outline = int(part.sum() - inner.sum())
    ridges = field.amplitude[part]
    return Blob(
        ((np.column_stack((columns, rows)) + 0.5) / MM).astype(np.float32),
        float(ridges.mean()),
        float(field.coherence[part].mean()),
        float(np.median(field.coarse[part] / np.maximum(ridges, 1.0))),
        float(edge.sum() / max(outline, 1)),
    )
