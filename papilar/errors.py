"""The branch of the error tree for requests, stores and nodes. `matcher.errors` has the root.

    PapilarError
    ├── InvalidInput                     (matcher.errors)
    │   ├── RequestInvalid               a field outside its range, two that exclude each other
    │   ├── MessageTooLarge              more bytes than the node takes
    │   ├── IdentityPresent              a statement with room for a name
    │   ├── PurposeMissing               a call without purpose or case
    │   ├── LawInvalid                   a law that cannot be read
    │   ├── SourceInvalid                a source of prints, or one thing in it, cannot be used
    │   ├── WorkerDied                   the process that read a print
    │   ├── ImageTooSlow                 to read, for the time that is allowed
    │   ├── ReceiptInvalid               cut short, or changed
    │   └── ConfigInvalid                a setting that cannot be
    │       └── TransportInsecure        plain text asked for on an address others can reach
    ├── RequestRefused                   a sound request that does not fit what is there
    │   ├── GalleryUnknown
    │   ├── SubjectUnknown
    │   ├── EncounterUnknown
    │   ├── EncounterErased              its request_id enrolled what has been deleted since
    │   ├── EncounterExists
    │   ├── RequestConflict              its request_id was used with other content
    │   ├── DeadlinePassed
    │   ├── CallerUnknown                nobody, or nobody of ours
    │   ├── CallNotPermitted             no role that may do this
    │   ├── CertificateRefused           not that of anyone trusted for this
    │   ├── SignatureRefused             not by that key on this message
    │   ├── CountryMismatch              said in another country's name
    │   ├── ClockSkew                    said at another time
    │   ├── NotPermitted                 the law of a country does not permit it
    │   ├── ReferenceUnknown             none of this country's, used, or expired
    │   ├── TooManyCalls                 more at a time than a country is served
    │   ├── CallerTooFast                more in a minute than one user may
    │   ├── CaseUnknown                  no such case of duplicates, or no such merge
    │   ├── CaseDecided                  decided, merged or undone before
    │   ├── SubjectMerged                its name was merged into another
    │   ├── RunUnderWay                  another search for duplicates
    │   ├── RetentionNotOver             the log must be kept
    │   └── LawRefused                   a sound law that may not be installed here
    │       └── LawRolledBack            an older one
    ├── GalleryError                     (matcher.errors)
    │   └── GalleryLocked                another process works on it
    ├── StorageError                     the disk or the data base under a gallery
    │   ├── OriginalCorrupt              a kept image file was cut short or changed
    │   ├── OriginalMissing              a print's image file is not there
    │   ├── OriginalKeyUnknown           under a key that is not at hand
    │   ├── SourceUnreachable            what prints are read from no longer answers
    │   │   └── SourceForbidden          or not to us
    │   ├── StorageFull
    │   └── StorageUnavailable
    └── NodeError
        ├── GalleryIncomplete            a part of it is being restored
        ├── NodeUnreachable              no answer from its address
        └── AnswerInvalid                an answer to something else, or by somebody else
            └── LogForked                two signed histories of one log

A peer that is down while others answer is no exception but a named failure in the result.
"""

from enum import StrEnum

from matcher.errors import GalleryError, InvalidInput, PapilarError


class RequestInvalid(InvalidInput):
    """A field of a request is outside its range, or two fields exclude each other."""

    reason = "REQUEST_INVALID"


class MessageTooLarge(InvalidInput):
    """A message has more bytes, or a stream more items, than the node takes."""

    reason = "MESSAGE_TOO_LARGE"


class ConfigInvalid(InvalidInput):
    """A setting is unknown, of the wrong type or outside its range."""

    reason = "CONFIG_INVALID"


class TransportInsecure(ConfigInvalid):
    """Plain text was asked for on an address that other machines can reach."""

    reason = "TRANSPORT_INSECURE"


class RequestRefused(PapilarError):
    """A sound request that does not fit what is there."""

    reason = "REQUEST_REFUSED"


class GalleryUnknown(RequestRefused):
    """The folder holds no gallery, or the node none of that name."""

    reason = "GALLERY_UNKNOWN"


class SubjectUnknown(RequestRefused):
    """There is no such subject, or no longer."""

    reason = "SUBJECT_UNKNOWN"


class EncounterUnknown(RequestRefused):
    """There is no such encounter, or no longer."""

    reason = "ENCOUNTER_UNKNOWN"


class EncounterErased(RequestRefused):
    """The request enrolled an encounter that has been deleted since; repeating it must not bring it back."""

    reason = "ENCOUNTER_ERASED"


class EncounterExists(RequestRefused):
    """The gallery has an encounter of that id already."""

    reason = "ENCOUNTER_EXISTS"


class RequestConflict(RequestRefused):
    """The request_id was used before, with other content."""

    reason = "REQUEST_CONFLICT"


class DeadlinePassed(RequestRefused):
    """The deadline of the call has passed before the work could begin or end."""

    reason = "DEADLINE_PASSED"


class GalleryLocked(GalleryError):
    """Another process works on the gallery."""

    reason = "GALLERY_LOCKED"


class StorageError(PapilarError):
    """The disk or the data base under a gallery fails."""

    reason = "STORAGE_FAILED"


class StorageFull(StorageError):
    """There is no room left; nothing of the transaction was kept."""

    reason = "STORAGE_FULL"


class StorageUnavailable(StorageError):
    """The data base cannot be opened, read or written at this time."""

    reason = "STORAGE_UNAVAILABLE"


class NodeError(PapilarError):
    """A node cannot do its part."""

    reason = "NODE_FAILED"


class GalleryIncomplete(NodeError):
    """A part of the gallery is not there to be searched at this time, and the answer must not miss anyone."""

    reason = "GALLERY_INCOMPLETE"


class NodeUnreachable(NodeError):
    """Nothing answers at the node's address, or its answer is not that of a node."""

    reason = "NODE_UNREACHABLE"


class LawInvalid(InvalidInput):
    """A law that cannot be read: its terms, a rule, an example, or the bytes of its bundle."""

    reason = "LAW_INVALID"


class LawRefused(RequestRefused):
    """A sound law that may not be installed here: another country's, not yet in force, failing examples."""

    reason = "LAW_REFUSED"


class LawRolledBack(LawRefused):
    """A law older than the one in force, or of the same version with other content."""

    reason = "LAW_ROLLED_BACK"


class CertificateFlaw(StrEnum):
    """What is wrong with a certificate that is refused."""

    UNREADABLE = "UNREADABLE"
    WRONG_NAME = "WRONG_NAME"
    WRONG_KIND = "WRONG_KIND"
    UNKNOWN_AUTHORITY = "UNKNOWN_AUTHORITY"
    NOT_YET_VALID = "NOT_YET_VALID"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    CRL_STALE = "CRL_STALE"


class CertificateRefused(RequestRefused):
    """A certificate is not that of anyone who is trusted for this. `why` is None where a peer says so."""

    reason = "CERTIFICATE_REFUSED"

    def __init__(self, cause: str, *, remedy: str, why: CertificateFlaw | None = None) -> None:
        super().__init__(cause, remedy=remedy)
        self.why = why

    def __reduce__(self) -> tuple[object, ...]:
        return *super().__reduce__(), {"why": self.why}


class SignatureRefused(RequestRefused):
    """A signature is not that of its certificate's key on this message, of this kind."""

    reason = "SIGNATURE_REFUSED"


class RetentionNotOver(RequestRefused):
    """An entry of the log was to be erased before its legal time."""

    reason = "RETENTION_NOT_OVER"


class CountryMismatch(RequestRefused):
    """A statement names, or is sealed by, another country than the one that brought it."""

    reason = "COUNTRY_MISMATCH"


class IdentityPresent(InvalidInput):
    """A statement has room for more than what is sought: an unknown field, an image that carries text."""

    reason = "IDENTITY_PRESENT"


class ClockSkew(RequestRefused):
    """A statement's time is too far from ours."""

    reason = "CLOCK_SKEW"


class ReferenceUnknown(RequestRefused):
    """There is no such reference for this country: never given, used, or expired."""

    reason = "REFERENCE_UNKNOWN"


class TooManyCalls(RequestRefused):
    """A country has more calls under way than the node serves it at a time."""

    reason = "TOO_MANY_CALLS"


class CallerUnknown(RequestRefused):
    """Nobody is named by a call's certificate or token, or somebody who is not a user of this node."""

    reason = "CALLER_UNKNOWN"


class CallNotPermitted(RequestRefused):
    """A caller has no role that may do this."""

    reason = "CALL_NOT_PERMITTED"


class PurposeMissing(InvalidInput):
    """A call does not say what for and in which case, or says it in other than the agreed words."""

    reason = "PURPOSE_MISSING"


class AnswerInvalid(NodeError):
    """What a peer answered is no answer to what it was asked."""

    reason = "ANSWER_INVALID"


class LogForked(AnswerInvalid):
    """A country has signed two histories of its log."""

    reason = "LOG_FORKED"


class NotPermitted(RequestRefused):
    """The law of a country, ours or another's, does not permit the call."""

    reason = "NOT_PERMITTED"


class SourceFlaw(StrEnum):
    """What is wrong with a source of prints, or with one thing in it. `docs/enrolment.md` says what to do."""

    SOURCE_UNKNOWN = "SOURCE_UNKNOWN"
    SOURCE_EMPTY = "SOURCE_EMPTY"
    FILE_MISSING = "FILE_MISSING"
    FILE_TOO_LARGE = "FILE_TOO_LARGE"
    FILE_UNREADABLE = "FILE_UNREADABLE"
    ARCHIVE_DAMAGED = "ARCHIVE_DAMAGED"
    ARCHIVE_PATH_UNSAFE = "ARCHIVE_PATH_UNSAFE"
    ARCHIVE_LINK = "ARCHIVE_LINK"
    ARCHIVE_DEVICE = "ARCHIVE_DEVICE"
    ARCHIVE_ENCRYPTED = "ARCHIVE_ENCRYPTED"
    ARCHIVE_METHOD_UNKNOWN = "ARCHIVE_METHOD_UNKNOWN"
    ARCHIVE_RATIO = "ARCHIVE_RATIO"
    ARCHIVE_ORDER = "ARCHIVE_ORDER"
    ARCHIVE_NAME_TWICE = "ARCHIVE_NAME_TWICE"
    MANIFEST_INVALID = "MANIFEST_INVALID"
    MANIFEST_ORDER = "MANIFEST_ORDER"
    ROW_INVALID = "ROW_INVALID"
    PERSON_UNKNOWN = "PERSON_UNKNOWN"
    PERSON_CONFLICT = "PERSON_CONFLICT"
    FINGER_INVALID = "FINGER_INVALID"
    IMPRESSION_INVALID = "IMPRESSION_INVALID"
    MISSING_INVALID = "MISSING_INVALID"
    PPI_INVALID = "PPI_INVALID"
    DATE_INVALID = "DATE_INVALID"
    NOT_A_FINGERPRINT = "NOT_A_FINGERPRINT"
    FINGER_NOT_FOUND = "FINGER_NOT_FOUND"
    SLAP_DOUBTFUL = "SLAP_DOUBTFUL"
    FORM_NOT_FOUND = "FORM_NOT_FOUND"
    CELL_EMPTY = "CELL_EMPTY"
    TRANSACTION_TWICE = "TRANSACTION_TWICE"


class SourceInvalid(InvalidInput):
    """A source of prints, or one thing in it, cannot be used; `why` is its reason too, where it is given."""

    reason = "SOURCE_INVALID"

    def __init__(self, cause: str, *, remedy: str, why: SourceFlaw | None = None) -> None:
        super().__init__(cause, remedy=remedy)
        self.why = why
        if why is not None:
            self.reason = why.value

    def __reduce__(self) -> tuple[object, ...]:
        return *super().__reduce__(), {"why": self.why, "reason": self.reason}


class SourceUnreachable(StorageError):
    """What the prints are read from no longer answers; the same command goes on when it does."""

    reason = "SOURCE_UNREACHABLE"


class SourceForbidden(SourceUnreachable):
    """The store of objects that the prints are read from does not take our credentials, or no longer."""

    reason = "SOURCE_FORBIDDEN"


class WorkerDied(InvalidInput):
    """The process that read a print died of it, or met a fault of ours."""

    reason = "WORKER_DIED"


class ImageTooSlow(InvalidInput):
    """Reading a print took longer than it may."""

    reason = "IMAGE_TOO_SLOW"


class ReceiptInvalid(InvalidInput):
    """A receipt of an archive is not whole, or was changed."""

    reason = "RECEIPT_INVALID"


class CallerTooFast(RequestRefused):
    """A user of the node has made more calls in a minute than one user may."""

    reason = "CALLER_TOO_FAST"


class OriginalCorrupt(StorageError):
    """A kept image file was cut short or changed, or lies under another one's name."""

    reason = "ORIGINAL_CORRUPT"


class OriginalMissing(StorageError):
    """A print's image file is not where originals are kept."""

    reason = "ORIGINAL_MISSING"


class OriginalKeyUnknown(StorageError):
    """A kept image file was encrypted with a key that is not at hand."""

    reason = "ORIGINAL_KEY_UNKNOWN"


class CaseUnknown(RequestRefused):
    """There is no such case of duplicates or no such merge, or no longer."""

    reason = "CASE_UNKNOWN"


class CaseDecided(RequestRefused):
    """A case of duplicates, or a merge, is not in a state that allows this."""

    reason = "CASE_DECIDED"


class SubjectMerged(RequestRefused):
    """The subject's name was merged into another; nothing is enrolled under it."""

    reason = "SUBJECT_MERGED"


class RunUnderWay(RequestRefused):
    """A search for duplicates runs at this node already."""

    reason = "RUN_UNDER_WAY"
