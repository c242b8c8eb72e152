"""The planes of the network become a template.

References
----------
.. [1] R. Cappelli, M. Ferrara, "LEADER: Lightweight End-to-End Attention-Gated Dual Autoencoder for Robust
   Minutiae Extraction", 2026, arXiv:2602.15493.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from enroll.leader import Planes
from matcher.errors import InvalidInput
from matcher.template import Finger, Impression, Kind, Template


@dataclass(frozen=True, slots=True)
class MinutiaeParameters:
    """Where likelihoods become decisions."""

    quality: float = 0.2
    # Least quality of a minutia. The authors' program takes 0.6, for a balance of missed and false ones on
    # good prints; a matcher wants more of them, and weighs them itself (`matcher.cylinders.SURE_QUALITY`).
    # From 0.1 to 0.3 the FVC sets are compared about as well (docs/accuracy.md). Whoever wants fewer can drop
    # them later: each carries its quality.
    ending: float = 0.5
    # Least value of the type plane for a ridge ending, as in the authors' program.
    reach: float = 28.0
    # Pixels at 500 ppi by which the foreground is widened before minutiae outside are dropped: three ridges.
    # What is dropped on cards is writing and rulings, on glass the ghost of the print before.
    outside: float = 0.2
    # Of the summed quality: with more than that outside, the foreground is in doubt and nothing is dropped.
    # FVC prints have up to 0.15 outside, two of 640 0.25: there it is true ridges beyond a dry crease.


DEFAULT = MinutiaeParameters()


def believed(
    planes: Planes, mask: NDArray[np.bool_], *, parameters: MinutiaeParameters = DEFAULT
) -> NDArray[np.bool_]:
    """Say where minutiae are to be believed: on the foreground and three ridges around it.

    Parameters
    ----------
    planes : Planes
    mask : ndarray of bool, shape (H, W)
        The foreground.
    parameters : MinutiaeParameters

    Returns
    -------
    ndarray of bool, shape (H, W)
        True everywhere when too much lies outside: then the foreground is wrong, not the minutiae.
    """
    far = cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, 5) > parameters.reach
    quality = np.where(planes.quality >= parameters.quality, planes.quality, 0)
    in_doubt = not mask.any() or quality[far].sum() > parameters.outside * quality.sum()
    return np.asarray(np.full_like(mask, True) if in_doubt else ~far, np.bool_)


def to_template(
    planes: Planes,
    *,
    size: tuple[int, int] | None = None,
    finger: Finger = Finger.UNKNOWN,
    impression: Impression = Impression.UNKNOWN,
    mask: NDArray[np.bool_] | None = None,
    threshold: float | None = None,
    parameters: MinutiaeParameters = DEFAULT,
) -> Template:
    """Gather the minutiae of a print.

    Parameters
    ----------
    planes : Planes
        Of the print at 500 ppi.
    size : (int, int), optional
        Width and height of the print, pixels at 500 ppi; by default those of the planes.
    finger, impression
        See `Template`.
    mask : ndarray of bool, shape (H, W), optional
        Foreground: minutiae elsewhere are dropped.
    threshold : float, optional
        Least quality of a minutia, 0 to 1, instead of `parameters.quality`. Below `enroll.leader.DETAILED`
        the network gives neither direction nor type.
    parameters : MinutiaeParameters

    Returns
    -------
    Template
        Possibly empty. Qualities are those of the network in percent, at least 1.

    Raises
    ------
    InvalidInput
        `mask` has another shape than the planes.
    TemplateOutOfBounds
        A minutia lies outside `size`.
    """
    quality = planes.quality
    if mask is not None and mask.shape != quality.shape:
        raise InvalidInput(
            f"a mask of shape {mask.shape} for planes of {quality.shape}", remedy="give one value a pixel"
        )
    least = parameters.quality if threshold is None else threshold
    found = (quality >= least) & (quality > 0) & (True if mask is None else mask)
    y, x = np.nonzero(found)
    return Template.of(
        np.column_stack((x, y)),
        planes.direction[y, x],
        np.where(planes.type_[y, x] >= parameters.ending, Kind.ENDING, Kind.BIFURCATION),
        np.clip(np.rint(100 * quality[y, x]), 1, 100),
        size=(quality.shape[1], quality.shape[0]) if size is None else size,
        finger=finger,
        impression=impression,
    )
