"""The planes of the network become a template.

References
----------
.. [1] R. Cappelli, M. Ferrara, "LEADER: Lightweight End-to-End Attention-Gated Dual Autoencoder for Robust
   Minutiae Extraction", 2026, arXiv:2602.15493.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from enroll.leader import Planes
from matcher.errors import InvalidInput
from matcher.template import Finger, Impression, Kind, Template


@dataclass(frozen=True, slots=True)
class MinutiaeParameters:
    """Where likelihoods become decisions."""

    quality: float = 0.3
    # Least quality of a minutia. The authors' program takes 0.6, for a balance of missed and false ones on
    # good prints; a matcher wants more of them. On the FVC sets 0.5 serves optical sensors best and 0.3 small
    # or synthetic prints (FVC2004 DB4_B: EER 1.5 % against 2.2 %). Whoever wants fewer can drop them later.
    ending: float = 0.5
    # Least value of the type plane for a ridge ending, as in the authors' program.


DEFAULT = MinutiaeParameters()


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
        Least quality of a minutia, 0 to 1, instead of `parameters.quality`.
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
