"""The branch of the error tree for requests, stores and nodes. `matcher.errors` has the root.

    PapilarError
    ├── InvalidInput                     (matcher.errors)
    │   ├── RequestInvalid               a field outside its range, two that exclude each other
    │   ├── MessageTooLarge              more bytes than the node takes
    │   └── ConfigInvalid                a setting that cannot be
    │       └── TransportInsecure        plain text asked for on an address others can reach
    ├── RequestRefused                   a sound request that does not fit what is there
    │   ├── GalleryUnknown
    │   ├── SubjectUnknown
    │   ├── EncounterUnknown
    │   ├── EncounterErased              its request_id enrolled what has been deleted since
    │   ├── EncounterExists
    │   ├── RequestConflict              its request_id was used with other content
    │   └── DeadlinePassed
    ├── GalleryError                     (matcher.errors)
    │   └── GalleryLocked                another process works on it
    ├── StorageError                     the disk or the data base under a gallery
    │   ├── StorageFull
    │   └── StorageUnavailable
    └── NodeError
        └── NodeUnreachable              no answer from its address

A peer that is down while others answer is no exception but a named failure in the result.
"""

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


class NodeUnreachable(NodeError):
    """Nothing answers at the node's address, or its answer is not that of a node."""

    reason = "NODE_UNREACHABLE"
