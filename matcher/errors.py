"""The errors of the project start here; `enroll.errors` and `papilar.errors` add their branches.

    PapilarError
    ├── InvalidInput                     the caller's data is broken: mend it and call again
    │   ├── TemplateError
    │   │   ├── TemplateFormatUnknown    not the bytes of any format we read
    │   │   ├── TemplateVersionUnsupported
    │   │   ├── TemplateTruncated
    │   │   └── TemplateOutOfBounds      a minutia outside its own image, an angle that is none
    │   └── (enroll.errors: images, transactions)
    ├── GalleryError                     what lies on the disk cannot be used
    │   ├── GalleryTooNew                written by a newer Papilar
    │   └── GalleryCorrupt               a checksum or a size is wrong
    └── (papilar.errors: requests, stores, nodes)

Exceptions are for broken input or a broken system. A poor finger, an empty candidate list or a peer that
is down are values (`Rejected`, `SearchResult`).
"""


class PapilarError(Exception):
    """Base of every error that the project raises on purpose.

    Parameters
    ----------
    cause : str
        What is wrong, with the value that was found. Never personal data.
    remedy : str
        What the reader can do about it.
    """

    reason = "INTERNAL"
    """Stable upper-case word, also the `reason` of `google.rpc.ErrorInfo`."""

    def __init__(self, cause: str, *, remedy: str) -> None:
        super().__init__(cause, remedy)
        self.cause = cause
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.cause}; {self.remedy}"

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments do not survive the default pickling, which worker processes use.
        return _rebuild, (type(self), self.cause, self.remedy)


def _rebuild(kind: type[PapilarError], cause: str, remedy: str) -> PapilarError:
    return kind(cause, remedy=remedy)


class InvalidInput(PapilarError):
    """The caller's data or argument is broken."""

    reason = "INVALID_INPUT"


class TemplateError(InvalidInput):
    """Template bytes that cannot be read."""

    reason = "TEMPLATE_INVALID"


class TemplateFormatUnknown(TemplateError):
    """The bytes are of no template format that is read here."""

    reason = "TEMPLATE_FORMAT_UNKNOWN"


class TemplateVersionUnsupported(TemplateError):
    """A known format in a version that is not read here."""

    reason = "TEMPLATE_VERSION_UNSUPPORTED"


class TemplateTruncated(TemplateError):
    """The record ends before its own lengths say."""

    reason = "TEMPLATE_TRUNCATED"


class TemplateOutOfBounds(TemplateError):
    """A value outside what the record's own header allows."""

    reason = "TEMPLATE_OUT_OF_BOUNDS"


class GalleryError(PapilarError):
    """What lies on the disk cannot be used as a gallery."""

    reason = "GALLERY_INVALID"


class GalleryTooNew(GalleryError):
    """The gallery was written by a newer version."""

    reason = "GALLERY_TOO_NEW"


class GalleryCorrupt(GalleryError):
    """A checksum, a size or a header of a gallery file is wrong."""

    reason = "GALLERY_CORRUPT"
