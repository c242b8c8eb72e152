"""The tables of the newest version, in plain SQL that SQLite and PostgreSQL share.

Times are microseconds since 1970, UTC. A change here needs a version in `papilar/store/migrations/versions`;
a test compares the two.
"""

from datetime import UTC, datetime, timedelta

from sqlalchemy import (
    BigInteger,
    Column,
    Float,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
)

APPLICATION_ID = 0x50_41_50_49
"""Magic number in the head of an SQLite file: "PAPI"."""

ROW_NUMBER = BigInteger().with_variant(Integer, "sqlite")
"""Type of a row's own number: in SQLite only INTEGER is it, and may count up by itself."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

metadata = MetaData()

meta = Table(
    "meta",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("value", String, nullable=False),
)

subject = Table(
    "subject",
    metadata,
    Column("subject_id", String(128), primary_key=True),
    Column("created", BigInteger, nullable=False),
)

encounter = Table(
    "encounter",
    metadata,
    Column("encounter_id", String(36), primary_key=True),
    Column("subject_id", ForeignKey("subject.subject_id"), nullable=False, index=True),
    Column("created", BigInteger, nullable=False),
    Column("replaces", String(36), index=True),  # null again once that encounter is deleted
)

print_ = Table(
    "print",
    metadata,
    Column("row", ROW_NUMBER, primary_key=True, autoincrement=True),
    Column("encounter_id", ForeignKey("encounter.encounter_id"), nullable=False, index=True),
    Column("ordinal", SmallInteger, nullable=False),
    Column("finger", SmallInteger, nullable=False),
    Column("impression", SmallInteger, nullable=False),
    Column("quality", SmallInteger),
    Column("minutiae", Integer, nullable=False),
    Column("source_sha256", LargeBinary(32)),
    Column("crc32", BigInteger, nullable=False),  # of the template: SQLite has no page checksums
    Column("template", LargeBinary, nullable=False),
    Column("nfiq2", SmallInteger),
    Column("nfiq2_version", String(64)),
    Column("original", LargeBinary(32), index=True),  # name of the image file, where it is kept
    Column("original_ppi", Float),  # its resolution, where the caller stated one
    sqlite_autoincrement=True,  # a deleted row's number is never given again
)

image = Table(  # apart from the print, so that reading all templates does not turn over the images
    "image",
    metadata,
    Column("row", ForeignKey("print.row"), primary_key=True),
    Column("crc32", BigInteger, nullable=False),
    Column("png", LargeBinary, nullable=False),
)

erasure = Table(  # originals that are to be erased: noted with the deletion of the last print of each
    "original_erasure",
    metadata,
    Column("name", LargeBinary(32), primary_key=True),
)

anew = Table(  # prints extracted anew; in force from the day that `generation` is the gallery's
    "print_anew",
    metadata,
    Column("row", ForeignKey("print.row"), primary_key=True),
    Column("generation", Integer, nullable=False),
    Column("extractor", String(64), nullable=False),
    Column("reason", String(64), nullable=False),  # why there is no template, else empty
    Column("quality", SmallInteger),
    Column("minutiae", Integer),
    Column("crc32", BigInteger),
    Column("template", LargeBinary),
)

missing = Table(
    "missing_finger",
    metadata,
    Column("encounter_id", ForeignKey("encounter.encounter_id"), primary_key=True),
    Column("finger", SmallInteger, primary_key=True),
    Column("reason", String(32), nullable=False),
)

request = Table(  # digest and response are null once the encounter it enrolled is erased
    "request",
    metadata,
    Column("request_id", String(36), primary_key=True),
    Column("encounter_id", String(36), index=True),
    Column("digest", LargeBinary),
    Column("response", LargeBinary),
    Column("created", BigInteger, nullable=False),
)


def now() -> int:
    """Return the time, microseconds since 1970 UTC."""
    return (datetime.now(UTC) - _EPOCH) // timedelta(microseconds=1)


def moment(microseconds: int) -> datetime:
    """Return the time that `now` gave, as a datetime in UTC."""
    return _EPOCH + timedelta(microseconds=microseconds)
