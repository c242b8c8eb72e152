"""Errors of reading images: the branch of `matcher.errors.InvalidInput` that `enroll` adds.

InvalidInput
└── ImageError
    ├── ImageEmpty                 no bytes at all
    ├── ImageFormatUnknown         the bytes are of no image format that is read here
    ├── ImageTruncated             the file ends early, or its data is damaged
    ├── ImageTooLarge              refused by its header, before a pixel is decoded
    ├── ImageTooSmall
    ├── ResolutionUnknown          no resolution in the file and none given
    └── ResolutionImplausible      the file states one that no fingerprint scanner has
"""

from matcher.errors import InvalidInput


class ImageError(InvalidInput):
    """Image bytes that cannot be used."""

    reason = "IMAGE_INVALID"


class ImageEmpty(ImageError):
    """No bytes at all."""

    reason = "IMAGE_EMPTY"


class ImageFormatUnknown(ImageError):
    """The bytes are of no image format that is read here."""

    reason = "IMAGE_FORMAT_UNKNOWN"


class ImageTruncated(ImageError):
    """The file ends before its own lengths say, or its data is damaged."""

    reason = "IMAGE_TRUNCATED"


class ImageTooLarge(ImageError):
    """More pixels than any print has; refused before decoding."""

    reason = "IMAGE_TOO_LARGE"


class ImageTooSmall(ImageError):
    """Fewer pixels than any print has."""

    reason = "IMAGE_TOO_SMALL"


class ResolutionUnknown(ImageError):
    """No resolution in the file and none given by the caller."""

    reason = "RESOLUTION_UNKNOWN"


class ResolutionImplausible(ImageError):
    """A resolution that no fingerprint scanner has."""

    reason = "RESOLUTION_IMPLAUSIBLE"
