"""Grey pixels to a WSQ file, at 0.75 bits a pixel.

That is the rate of the FBI's certified systems, about 15 to 1, and the only one that the encoder behind this
door knows; it also states 500 ppi, the only resolution that WSQ is specified for, whatever the image has.
"""

import io

import wsq  # its import registers the WSQ format with Pillow
from PIL import Image

from enroll import wsq_stream
from enroll.errors import ImageError, ImageTruncated, ResolutionImplausible
from enroll.image import GrayImage
from matcher.template import PPI

_TOLERANCE = 0.01  # the accuracy that scanners of 500 ppi are certified to


def encode_wsq(image: GrayImage) -> bytes:
    """Write an image as WSQ.

    Parameters
    ----------
    image : GrayImage
        At 500 ppi, within 1 %.

    Returns
    -------
    bytes

    Raises
    ------
    ResolutionImplausible
        It is not at 500 ppi.
    ImageError
        Nothing, or next to nothing, is in it: of one grey the encoder makes a file that no decoder takes, and
        of faint grain it may make none.

    References
    ----------
    .. [1] FBI, "WSQ Gray-Scale Fingerprint Image Compression Specification", IAFIS-IC-0110.
    """
    if abs(image.ppi - PPI) > _TOLERANCE * PPI:
        raise ResolutionImplausible(
            f"{image.ppi:g} ppi, and WSQ is for {PPI}", remedy="write it as PNG, or resample it first"
        )
    out = io.BytesIO()
    try:
        Image.fromarray(image.pixels).save(out, wsq.WsqImagePlugin.WsqImageFile.format)
    except Exception as error:  # all it raises where a quantisation table has no room for the step
        raise ImageError("an image of so little contrast cannot be WSQ", remedy="write it as PNG") from error
    try:
        wsq_stream.check(out.getvalue())
    except ImageTruncated as error:
        raise ImageError("an image of one grey cannot be WSQ", remedy="write it as PNG") from error
    return out.getvalue()
