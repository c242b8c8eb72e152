"""Errors of images and transactions: the branches of `matcher.errors.InvalidInput` that `enroll` adds.

InvalidInput
├── TransactionError
│   ├── TransactionFormatUnknown        not the bytes of an ANSI/NIST-ITL transaction
│   ├── TransactionXml                  a transaction in the NIEM-XML encoding
│   ├── TransactionVersionUnsupported   of a version of the standard that is not known here
│   ├── TransactionTruncated            the bytes end before the records do
│   ├── TransactionTooLarge             more bytes, records or fields than any transaction has
│   ├── RecordLengthWrong               a record is not as long as it says
│   ├── RecordContentMismatch           the records are not those that field 1.003 lists
│   ├── RecordFieldInvalid              a field is missing or has no readable value
│   ├── RecordCharacterSet              text that is not of the character set declared
│   ├── RecordImageMissing              an image record without its image
│   ├── RecordCompressionWrong          the image is of another kind than its record says
│   ├── RecordImageSize                 uncompressed pixels that do not fill the size stated
│   └── ProfileUnknown                  no such profile of transactions
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


class TransactionError(InvalidInput):
    """An ANSI/NIST-ITL transaction that cannot be read."""

    reason = "TRANSACTION_INVALID"


class TransactionFormatUnknown(TransactionError):
    """The bytes are no ANSI/NIST-ITL transaction."""

    reason = "TRANSACTION_FORMAT_UNKNOWN"


class TransactionXml(TransactionError):
    """The NIEM-XML encoding, which is not read here."""

    reason = "TRANSACTION_XML_UNSUPPORTED"


class TransactionVersionUnsupported(TransactionError):
    """A version of the standard that is not known here."""

    reason = "TRANSACTION_VERSION_UNSUPPORTED"


class TransactionTruncated(TransactionError):
    """The bytes end before the records do."""

    reason = "TRANSACTION_TRUNCATED"


class TransactionTooLarge(TransactionError):
    """More bytes, records or fields than any transaction has."""

    reason = "TRANSACTION_TOO_LARGE"


class RecordLengthWrong(TransactionError):
    """A record is not as long as its own length field says."""

    reason = "RECORD_LENGTH_WRONG"


class RecordContentMismatch(TransactionError):
    """The records are not those that field 1.003 lists."""

    reason = "RECORD_CONTENT_MISMATCH"


class RecordFieldInvalid(TransactionError):
    """A field that is needed is missing, or has no readable value."""

    reason = "RECORD_FIELD_INVALID"


class RecordCharacterSet(TransactionError):
    """Text that is not of the character set which the transaction declares."""

    reason = "RECORD_CHARACTER_SET"


class RecordImageMissing(TransactionError):
    """An image record without an image, and without a word of why there is none."""

    reason = "RECORD_IMAGE_MISSING"


class RecordCompressionWrong(TransactionError):
    """An image of another kind than the compression code of its record says."""

    reason = "RECORD_COMPRESSION_WRONG"


class RecordImageSize(TransactionError):
    """Uncompressed pixels that do not fill the size which their record states."""

    reason = "RECORD_IMAGE_SIZE"


class ProfileUnknown(TransactionError):
    """There is no profile of transactions under that name."""

    reason = "PROFILE_UNKNOWN"
