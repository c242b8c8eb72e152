"""A manifest: a table that says of each file whose print it is, in CSV or Parquet.

One row a file, those of one person and impression together. The columns are `path` and `person`, and where
wanted `finger`, `impression`, `impression_type`, `missing`, `ppi`, `category`, `retention_date` and
`birth_date`. A row that names missing fingers needs no file. A date of birth serves one thing: a person who
has two of them is two people under one name. It is compared under a key that ends with the process, and
neither kept nor told.

References
----------
.. [1] ANSI/NIST-ITL 1-2011 Update 2015, NIST SP 500-290e3: Table 7 (impression types), Table 8 (positions),
   field 14.018 (XX, amputated; UP, unable to print). https://doi.org/10.6028/NIST.SP.500-290e3
"""

import csv
import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import chain
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow
import pyarrow.parquet

from enroll.nist.codes import impression_of
from matcher.template import Finger, Impression
from papilar.archive.sources.flaws import LIMITS, flawed, safe_path
from papilar.archive.sources.member import HEAD, Member, Said, Sheet
from papilar.archive.sources.place import Place
from papilar.archive.sources.tree import AT_A_TIME, batches, member_at
from papilar.errors import SourceFlaw, SourceInvalid
from papilar.store.values import MissingFinger, MissingReason

COLUMNS = (
    "path",
    "person",
    "finger",
    "impression",
    "impression_type",
    "missing",
    "ppi",
    "category",
    "retention_date",
    "birth_date",
)
_NEEDED = ("path", "person")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_FINGERS: Mapping[str, Finger] = {finger.name: finger for finger in Finger} | {str(int(f)): f for f in Finger}
_SHEETS: Mapping[str, Sheet] = {sheet.name: sheet for sheet in Sheet} | {
    "13": Sheet.RIGHT_SLAP,  # Table 8 of [1]
    "14": Sheet.LEFT_SLAP,
    "15": Sheet.THUMBS,
}
_PLAIN = frozenset({Impression.LIVE_PLAIN, Impression.NONLIVE_PLAIN, Impression.LIVE_CONTACTLESS_PLAIN})
_KINDS: Mapping[str, Impression] = (
    {kind.name: kind for kind in Impression}
    | {str(code): impression_of(code) for code in (*range(9), *range(20, 25), 26, 28, 29)}  # Table 7 of [1]
    | {"PLAIN": Impression.LIVE_PLAIN, "ROLLED": Impression.LIVE_ROLLED}
    | {"LATENT": Impression.LATENT_IMPRESSION, "LIVE_VERTICAL_SWIPE": Impression.LIVE_SWIPE}
)
_REASONS: Mapping[str, MissingReason] = {str(reason): reason for reason in MissingReason} | {
    "XX": MissingReason.AMPUTATED,  # field 14.018 of [1]
    "UP": MissingReason.UNABLE_TO_PRINT,
}
PARQUET = b"PAR1"

Cells = Mapping[str, str]
Rows = Iterator[tuple[int, Cells | SourceInvalid]]


class _Row(NamedTuple):
    """A row that was read: what it says of a file, or why it cannot be used; `name` is for that alone.

    `path` is empty of one that cannot be used, and of one that only says which fingers are missing.
    """

    number: int
    name: str
    path: str
    said: Said
    fault: SourceInvalid | None = None


def manifest_members(manifest: Place, base: Place) -> Iterator[Member]:
    """Yield what each row names, or why it cannot be used.

    Parameters
    ----------
    manifest : Place
        CSV in UTF-8, cells parted by commas or semicolons, or Parquet.
    base : Place
        The folder that paths are relative to.

    Raises
    ------
    SourceInvalid
        The table cannot be read, has a column that is not known or lacks one that is needed. What comes
        before a line that cannot be read has been yielded.
    SourceUnreachable
    """
    doubtful = _conflicts(rows(manifest))
    read = _together(_read(number, cells, doubtful) for number, cells in rows(manifest))
    for some in batches(read, AT_A_TIME):
        yield from _found(base, some)


def rows(manifest: Place) -> Rows:
    """Yield the rows of a table with their numbers, as its reader counts them: a heading is row 1 of CSV.

    Raises
    ------
    SourceInvalid
    SourceUnreachable
    """
    with manifest.open() as file:
        magic = file.read(len(PARQUET))
        file.seek(0)
        try:
            yield from (_parquet if magic == PARQUET else _csv)(file)
        except csv.Error as error:
            raise flawed(SourceFlaw.MANIFEST_INVALID, f"the table cannot be read ({error})") from error
        except (pyarrow.ArrowException, ValueError, OverflowError) as error:
            cause = f"the table cannot be read ({type(error).__name__})"
            raise flawed(SourceFlaw.MANIFEST_INVALID, cause) from error


# ---- tables


def _csv(file: BinaryIO) -> Rows:
    lines = _lines(file)
    first = next(lines, "")
    delimiter = ";" if ";" in first and "," not in first else ","
    table = csv.reader(chain([first], lines), delimiter=delimiter, strict=True)
    heads = _heads(next(table, []))
    for cells in table:
        number = table.line_num
        if not cells:
            continue
        if len(cells) != len(heads):
            yield number, flawed(SourceFlaw.ROW_INVALID, f"{len(cells)} cells, the heading has {len(heads)}")
        else:
            yield number, {head: cell.strip() for head, cell in zip(heads, cells, strict=True)}


def _lines(file: BinaryIO) -> Iterator[str]:
    """Yield lines as text; with a byte order mark or without, in no other character set."""
    number = 0
    while line := file.readline(LIMITS.row + 1):
        number += 1
        if len(line) > LIMITS.row:
            raise flawed(SourceFlaw.MANIFEST_INVALID, f"line {number} has more than {LIMITS.row} bytes")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            cause = f"line {number} is not in UTF-8 (byte {error.start + 1} of it)"
            raise flawed(SourceFlaw.MANIFEST_INVALID, cause) from error


def _parquet(file: BinaryIO) -> Rows:
    table = pyarrow.parquet.ParquetFile(file)
    heads = _heads(table.schema_arrow.names)
    for group in range(table.num_row_groups):
        if table.metadata.row_group(group).total_byte_size > LIMITS.row_group:
            raise flawed(SourceFlaw.MANIFEST_INVALID, f"row group {group} is larger than is read at once")
    number = 0
    for batch in table.iter_batches(batch_size=1000):
        columns = [column.to_pylist() for column in batch.columns]
        for cells in zip(*columns, strict=True):
            number += 1
            yield number, dict(zip(heads, map(_text, cells), strict=True))


def _text(value: object) -> str:
    match value:
        case None:
            return ""
        case datetime():
            return value.date().isoformat()
        case float():
            return f"{value:g}"
        case str() | int() | date():
            return str(value).strip()
    raise ValueError


def _heads(names: Sequence[str]) -> list[str]:
    heads = [re.sub(r"[\s-]+", "_", name.strip().lower()) for name in names]
    unknown = sorted(set(heads) - set(COLUMNS))
    missing = [name for name in _NEEDED if name not in heads]
    twice = sorted({name for name in heads if heads.count(name) > 1})
    wrong = (("unknown", unknown), ("missing", missing), ("given twice", twice))
    told = "; ".join(f"{word}: {', '.join(map(repr, some))}" for word, some in wrong if some)
    if told:
        raise SourceInvalid(
            f"the manifest's columns are not those that are read ({told[:500]})",
            remedy=f"name them {', '.join(COLUMNS)}; all but path and person may be left out",
            why=SourceFlaw.MANIFEST_INVALID,
        )
    return heads


# ---- rows


def _conflicts(table: Rows) -> Callable[[str], bool]:
    """Read the table for persons with two dates of birth, and return what tells whether one is such."""
    key = secrets.token_bytes(16)

    def mark(text: str) -> bytes:
        return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=8, key=key).digest()

    births: dict[bytes, bytes] = {}
    doubtful: set[bytes] = set()
    for _, cells in table:
        if isinstance(cells, Mapping) and "birth_date" not in cells:
            break
        if isinstance(cells, Mapping) and _DATE.fullmatch(cells["birth_date"]):
            person, birth = mark(cells["person"]), mark(cells["birth_date"])
            if births.setdefault(person, birth) != birth:
                doubtful.add(person)
    return lambda person: bool(doubtful) and mark(person) in doubtful


def _read(number: int, cells: Cells | SourceInvalid, doubtful: Callable[[str], bool]) -> _Row:
    if isinstance(cells, SourceInvalid):
        return _Row(number, f"row {number}", "", Said(f"row {number}", ""), _in_row(number, cells))
    path, fault = safe_path(cells["path"])
    name = f"{path} (row {number})" if path else f"row {number}"
    subject, impression = cells["person"], cells.get("impression") or "1"
    column = "path"
    try:
        if not cells["path"] and not cells.get("missing"):
            raise flawed(SourceFlaw.ROW_INVALID, "it names no file")
        if cells["path"] and fault is not None:
            raise fault
        column = "person"
        if not subject:
            raise flawed(SourceFlaw.PERSON_UNKNOWN, "it names no person")
        if doubtful(subject):
            raise flawed(SourceFlaw.PERSON_CONFLICT, "its person has two dates of birth in this manifest")
        values: dict[str, Any] = {}
        for column, read in _READ.items():
            values[column] = read(cells.get(column, ""))
        column = "impression_type"
        said = _said(subject, impression, cells.get("category", ""), values)
    except SourceInvalid as error:
        return _Row(number, name, "", Said(subject, impression), _in_row(number, error, column))
    return _Row(number, name if path else f"{subject}/{impression}", path, said)


def _said(subject: str, impression: str, category: str, values: Mapping[str, Any]) -> Said:
    (finger, sheet), kind = values["finger"], values["impression_type"]
    if sheet is Sheet.CARD and kind is not None:
        raise flawed(SourceFlaw.IMPRESSION_INVALID, "a card has rolled prints and plain ones")
    if sheet is not None and kind not in {None, *_PLAIN}:
        raise flawed(SourceFlaw.IMPRESSION_INVALID, "several fingers side by side are plain prints")
    return Said(
        subject,
        impression,
        finger,
        values["ppi"],
        category,
        values["retention_date"],
        stated=True,
        sheet=sheet,
        kind=kind,
        missing=values["missing"],
    )


def _in_row(number: int, error: SourceInvalid, column: str = "") -> SourceInvalid:
    where = f"row {number}, column {column}" if column else f"row {number}"
    return SourceInvalid(f"{where}: {error.cause}", remedy=error.remedy, why=error.why)


def _word(cell: str) -> str:
    return re.sub(r"[\s:-]+", "_", cell.strip().upper())


def _finger(cell: str) -> tuple[Finger, Sheet | None]:
    word = _word(cell) or "0"
    if word in _SHEETS:
        return Finger.UNKNOWN, _SHEETS[word]
    if word not in _FINGERS:
        raise flawed(SourceFlaw.FINGER_INVALID, "its finger is none of the ten, and no sheet")
    return _FINGERS[word], None


def _kind(cell: str) -> Impression | None:
    """Read how a print was taken, in our words or in the standard's, as 'Nonlive-scan rolled'."""
    word = re.sub(r"^NON_", "NON", _word(cell)).replace("_SCAN", "").replace("SCAN", "")
    if word and word not in _KINDS:
        raise flawed(SourceFlaw.IMPRESSION_INVALID, "it is no way of taking prints that is known")
    return _KINDS[word] if word else None


def _missing(cell: str) -> tuple[MissingFinger, ...]:
    """Read fingers and why each is missing: 'right ring amputated, left thumb: bandaged' or '4 XX, 6 UP'."""
    found: list[MissingFinger] = []
    for part in filter(None, map(_word, re.split("[,;|]", cell))):
        word = next((word for word in _REASONS if part.endswith(f"_{word}")), None)
        finger = _FINGERS.get(part.removesuffix(f"_{word}"), Finger.UNKNOWN)
        if word is None or finger is Finger.UNKNOWN or finger in {each.finger for each in found}:
            cause = "it is no list of fingers and of why each is missing, or names one twice"
            raise flawed(SourceFlaw.MISSING_INVALID, cause)
        found.append(MissingFinger(finger, _REASONS[word]))
    return tuple(found)


def _ppi(cell: str) -> float | None:
    if not re.fullmatch(r"\d{0,5}(\.\d{0,6})?", cell):
        raise flawed(SourceFlaw.PPI_INVALID, "its resolution is no number of pixels per inch")
    return float(cell) if cell.strip(".") else None


def _date(cell: str) -> date | None:
    try:
        if cell and not _DATE.fullmatch(cell):
            raise ValueError
        return date.fromisoformat(cell) if cell else None
    except ValueError:  # the value itself is not told: it may be a date of birth
        raise flawed(SourceFlaw.DATE_INVALID, "a date of it is none, or is written otherwise") from None


_READ: Mapping[str, Callable[[str], object]] = {
    "birth_date": _date,
    "finger": _finger,
    "impression_type": _kind,
    "missing": _missing,
    "ppi": _ppi,
    "retention_date": _date,
}


def _together(read: Iterable[_Row]) -> Iterator[_Row]:
    """Refuse rows of an encounter that ended before, which would become two, and of a file that had a row."""
    ended: set[int] = set()
    paths: set[int] = set()
    at: tuple[str, str] | None = None
    told: dict[Finger, MissingReason | None] = {}  # of the encounter; None where there is a print
    for row in read:
        if row.fault is not None:
            yield row
            continue
        encounter, path = (row.said.subject, row.said.impression), hash(row.path or row.name)
        if encounter != at:
            ended.add(hash(at))
            at, told = encounter, {}
        if path in paths:
            yield _refused(row, SourceFlaw.ARCHIVE_NAME_TWICE, "its file has a row already")
        elif hash(encounter) in ended:
            yield _refused(row, SourceFlaw.MANIFEST_ORDER, "the rows of this person and impression are apart")
        else:
            yield _told_once(row, told)
        paths.add(path)


def _told_once(row: _Row, told: dict[Finger, MissingReason | None]) -> _Row:
    """Leave out what an earlier row said is missing; refuse what contradicts it."""
    said = row.said
    new = tuple(each for each in said.missing if each.finger not in told)
    prints = said.finger is Finger.UNKNOWN or told.setdefault(said.finger, None) is None
    if not prints or any(told.setdefault(finger, reason) is not reason for finger, reason in said.missing):
        fault = flawed(SourceFlaw.MISSING_INVALID, "a finger is missing and printed, or for two reasons")
        return row._replace(fault=_in_row(row.number, fault, "missing"))
    return row._replace(said=said._replace(missing=new)) if row.path else row


def _refused(row: _Row, why: SourceFlaw, cause: str) -> _Row:
    return row._replace(fault=_in_row(row.number, flawed(why, cause)))


def _found(base: Place, some: Sequence[_Row]) -> Iterator[Member]:
    """Yield what a few rows name; their files are asked for at once."""
    paths = [row.path for row in some if row.fault is None and row.path]
    heads = iter(base.heads(paths, HEAD))
    for row in some:
        if row.fault is not None:
            yield Member(row.name, row.said, fault=row.fault)
        elif not row.path:
            yield Member(row.name, row.said, empty=True)
        else:
            member = member_at(base.inner(row.path), row.path, row.said, next(heads))
            fault = member.fault and _in_row(row.number, cast(SourceInvalid, member.fault))
            yield member._replace(fault=fault)
