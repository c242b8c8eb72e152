"""Whether the ridges of an image are white: an inverted scan, a lifted or powdered latent.

Two things tell. Where nothing touches the glass, an image is as light as its valleys or lighter; inverted, it
is darker there than the ridges beside it. And to invert a print is to make an ending of every bifurcation:
the network finds the same minutiae at either polarity, with their kinds exchanged, and most minutiae of a
print are endings. The first is believed where it holds all around the print, else only with the second.

Where neither tells, the image is left as it is. Its ridges then lie where a mate's valleys do, which the
comparison finds and takes back: `matcher.compare.Comparison.opposed`.
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from enroll.leader import Planes
from enroll.segment import wide_mean


@dataclass(frozen=True, slots=True)
class PolarityParams:
    """Lengths in pixels at 500 ppi. "FVC" is the 640 prints of FVC2002 and FVC2004 DB1-4_B.

    Chosen so that no normal image is inverted: none of FVC, of 720 degraded copies of them (blur, noise, low
    contrast, uneven light, blots), of 21 cards and 40 synthetic prints. A missed inversion is the lesser
    evil: of the inversions of FVC 57 % are found, of those of cards and latents 27 of 28.
    """

    gap: float = 14.0  # between mask and background: the mask's own rim of a ridge, and half a ridge
    rim: float = 48.0  # width of background and of print that are compared: five ridges
    inner: float = 8.0  # left out inside the mask: one ridge
    near: float = 20.0  # sigma under which the grey of the print beside the background is taken: two ridges
    least: int = 400  # pixels of either: four square ridges
    darker: float = 0.25  # of the ridges' range of grey below their mean; normal FVC up to 0.20
    everywhere: float = 0.99  # of the background below the print beside it; degraded copies up to 0.98
    endings: float = 0.5  # of the minutiae; medians of the FVC sets 0.54 to 0.71, inverted 0.37 to 0.60
    quality: float = 0.5  # of minutiae whose kind is looked at; half of the lesser ones are chance
    kinds: int = 10  # of these at least; chosen: fewer have shares that chance alone can halve


PARAMS = PolarityParams()


def white_ridges(
    pixels: NDArray[np.uint8],
    mask: NDArray[np.bool_],
    planes: Planes,
    *,
    params: PolarityParams = PARAMS,
) -> bool:
    """Tell whether an image surely shows its ridges white.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (H, W)
        At 500 ppi.
    mask : ndarray of bool, shape (H, W)
        Its foreground, as `enroll.segment.foreground` gives it at either polarity.
    planes : Planes
        What the network says of `pixels`.
    params : PolarityParams

    Returns
    -------
    bool
        False where the image does not tell: a print that fills it, a background of middle grey.
    """
    outside = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5)
    inside = cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, 5)
    ground = (outside > params.gap) & (outside <= params.gap + params.rim)
    edge = (inside > params.inner) & (inside <= params.inner + params.rim)
    if min(ground.sum(), edge.sum()) < params.least:
        return False
    grey = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 1.0)
    low, high = np.percentile(grey[edge], (10, 90))
    if np.median(grey[ground]) > grey[edge].mean() - params.darker * max(1.0, high - low):
        return False
    beside = _mean_under(mask, grey, params.near)
    plain = float((grey[ground] < beside[ground]).mean()) > params.everywhere
    return plain or _kinds_exchanged(planes, params)


def _mean_under(mask: NDArray[np.bool_], grey: NDArray[Any], sigma: float) -> NDArray[np.float32]:
    """Mean of `grey` over the mask, under a Gaussian at each pixel, float32 (H, W)."""
    kept = mask.astype(np.float32)
    weight, total = wide_mean(kept, sigma), wide_mean(kept * grey, sigma)
    return np.asarray(total / np.maximum(weight, 1e-9), np.float32)


def _kinds_exchanged(planes: Planes, params: PolarityParams) -> bool:
    kinds = planes.type_[planes.quality >= params.quality]
    return kinds.size >= params.kinds and float((kinds > 0.5).mean()) < params.endings
