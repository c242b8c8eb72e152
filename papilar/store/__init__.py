"""The system of record: subjects, encounters, prints, and the requests that changed them.

An enrolment is one transaction here, with the row that makes its repeat safe. Segments and indexes of the
gallery are derived from the rows and can be rebuilt from them at any time. SQLite in the gallery's folder by
default; another data base by URL. Nothing outside this package imports sqlalchemy.
"""

from papilar.store.lock import GalleryLock
from papilar.store.store import Store
from papilar.store.values import (
    Counts,
    GalleryFacts,
    MissingFinger,
    MissingReason,
    NewEncounter,
    NewPrint,
    Owner,
    Request,
    StoredEncounter,
    StoredPrint,
    Written,
    canonical_uuid,
)

__all__ = [
    "Counts",
    "GalleryFacts",
    "GalleryLock",
    "MissingFinger",
    "MissingReason",
    "NewEncounter",
    "NewPrint",
    "Owner",
    "Request",
    "Store",
    "StoredEncounter",
    "StoredPrint",
    "Written",
    "canonical_uuid",
]
