"""The receipt of a run: JSON lines, a tree of hashes over them, and the country's seal on its root.

    {"receipt": "papilar-receipt-1", "source": ..., "begun": ..., "papilar": ..., "extractor": ..., ...}
    {"file": ..., "result": ..., "subject_id": ..., "encounter_id": ..., "sha256": ..., ...}    one an item
    {"at": ..., "counts": {"ENROLLED": 4, ...}}    once a minute, what the lines before it come to
    {"ended": ..., "complete": ..., "stopped": ..., "counts": {"ENROLLED": 9, ...}, "size": 11, "root": ...}
    {"certificate": ..., "signature": ...}                                        where somebody signs

The fields of an item are those of `papilar.archive.item.Line`. `size` counts the lines before that of the
end, and `root` is that of the Merkle tree over their bytes without line feeds (RFC 9162, section 2.1.1), so
that one line can be proved to be in a receipt without showing the others. The signature, of kind
`archive-receipt`, is over the bytes of the line of the end. `complete` is false where the run was stopped:
`stopped` then names the reason. A receipt without the line of the end is of a run that was killed. Times are
UTC.
"""

import base64
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime, timedelta
from importlib import metadata
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from enroll.pipeline import EXTRACTOR
from papilar.archive.item import Line, Result, printable
from papilar.audit.merkle import Frontier, leaf_hash
from papilar.errors import ReceiptInvalid, StorageFull
from papilar.signing import Signature, Signer

FORM = "papilar-receipt-1"
KIND = "archive-receipt"
"""Kind of message of the signature."""

_REMEDY = "take it from where it was kept"
_EVERY = timedelta(minutes=1)


class Mark(NamedTuple):
    """How far a run was at a moment, UTC: lines by result."""

    at: datetime
    counts: Mapping[Result, int]


def now() -> datetime:
    """Return the time, UTC, to the second."""
    return datetime.now(UTC).replace(microsecond=0)


class ReceiptWriter:
    """Writes a receipt line by line, beside its place; it gets its name when it is ended.

    Parameters
    ----------
    path : Path
    source : str
        What was enrolled.
    target : str
        Into what.
    options : mapping
        With which options, for the reader.
    signer : Signer, optional
    begun : datetime
        UTC.
    clock : callable
        Gives the time, UTC, for the marks.

    Raises
    ------
    StorageFull
        From any method: the file cannot be written.
    """

    def __init__(
        self,
        path: Path,
        *,
        source: str,
        target: str,
        begun: datetime,
        options: Mapping[str, object] | None = None,
        signer: Signer | None = None,
        clock: Callable[[], datetime] = now,
    ) -> None:
        self._path = path
        self._part = path.with_name(path.name + ".part")
        self._signer = signer
        self._clock, self._marked = clock, clock()
        self._tree = Frontier()
        self.counts: Counter[str] = Counter()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._part.open("wb")
            self._part.chmod(0o600)
        except OSError as error:
            raise _unwritable(path, error) from error
        head = {"receipt": FORM, "source": printable(source), "target": target, "begun": begun.isoformat()}
        versions = {"papilar": metadata.version("papilar"), "extractor": EXTRACTOR}
        self._add(head | versions | {"options": dict(options or {})})

    def add(self, line: Line) -> None:
        """Write the line of an item, before it a mark where a minute is over."""
        at = self._clock()
        if at - self._marked >= _EVERY:
            self._marked = at
            self._add({"at": at.isoformat(), "counts": dict(self.counts)})
        self.counts[line.result] += 1
        self._add({**asdict(line), "file": printable(line.file)})

    def end(self, at: datetime, *, stopped: str = "") -> None:
        """Write the end, sign it, and give the file its name.

        Parameters
        ----------
        at : datetime
            UTC.
        stopped : str
            Reason for which the run ended before the source did; empty for a whole one.
        """
        whole = not stopped and not self.counts[Result.NOT_TRIED]
        end = {"ended": at.isoformat(), "complete": whole, "stopped": stopped, "counts": dict(self.counts)}
        said = _bytes(end | {"size": self._tree.size, "root": self._tree.root.hex()})
        self._write(said)
        if self._signer is not None:
            signature = self._signer.sign(KIND, said)
            sealed = {"certificate": signature.certificate, "signature": signature.value}
            self._write(_bytes({name: base64.b64encode(value).decode() for name, value in sealed.items()}))
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._part.replace(self._path)
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError):  # of a full disk, once more: what was not ended keeps its other name
            self._file.close()

    def _add(self, value: Mapping[str, object]) -> None:
        data = _bytes(value)
        self._tree, _ = self._tree.grown(leaf_hash(data))
        self._write(data)

    def _write(self, data: bytes) -> None:
        try:
            self._file.write(data + b"\n")
        except OSError as error:
            raise _unwritable(self._path, error) from error


@dataclass(frozen=True, slots=True)
class Verified:
    """A receipt that is whole.

    Attributes
    ----------
    head, end : mapping
        Its first line, and that of its end.
    marks : sequence of Mark
        In their order; none of a run of less than a minute.
    signature : Signature or None
        None where nobody signed.
    signed : bytes
        What the signature is over.
    """

    head: Mapping[str, Any]
    end: Mapping[str, Any]
    marks: Sequence[Mark]
    signature: Signature | None
    signed: bytes


def verify_receipt(path: Path) -> Verified:
    """Read a receipt and see that it is whole: its lines, their number, the root.

    Who signed it is for `papilar.trust.Trust.check` to say, with `KIND` and `Verified.signed`.

    Raises
    ------
    ReceiptInvalid
        It is none, was changed, or its run was killed.
    """
    tree, counts, head, ending = Frontier(), Counter[str](), dict[str, Any](), list[bytes]()
    marks: list[Mark] = []
    for data in _lines(path):
        value = _value(data)
        if ending or "root" in value:
            ending.append(data)
            continue
        head = head or value
        counts.update([str(value["result"])] if "result" in value else [])
        marks += [_mark(value)] if "at" in value else []
        tree, _ = tree.grown(leaf_hash(data))
    if head.get("receipt") != FORM:
        raise ReceiptInvalid(f"{path} is no receipt", remedy="give the file that --receipt wrote")
    if not 1 <= len(ending) <= 2:
        raise ReceiptInvalid(f"{path} has no end", remedy="its run was killed: run the same command again")
    end = _value(ending[0])
    if (end.get("size"), end["root"], end.get("counts")) != (tree.size, tree.root.hex(), dict(counts)):
        raise ReceiptInvalid(f"{path} was changed after it was written", remedy=_REMEDY)
    return Verified(head, end, marks, _signature(ending[1]) if ending[1:] else None, ending[0])


def read_lines(path: Path) -> Iterator[Line]:
    """Yield the items' lines of a receipt, or of one whose run was killed; it is not verified.

    Raises
    ------
    ReceiptInvalid
    """
    for data in _lines(path):
        value = _value(data)
        if "result" in value:
            yield _line(value)


def _line(value: Mapping[str, Any]) -> Line:
    given = {field.name: value[field.name] for field in fields(Line) if field.name in value}
    try:
        given |= {"result": Result(value["result"]), "warnings": tuple(value.get("warnings", ()))}
        return Line(**given)
    except (TypeError, ValueError):
        raise ReceiptInvalid("the line of an item cannot be read", remedy=_REMEDY) from None


def _mark(value: Mapping[str, Any]) -> Mark:
    try:
        counts = {Result(name): int(count) for name, count in value["counts"].items()}
        return Mark(datetime.fromisoformat(value["at"]).astimezone(UTC), counts)
    except (AttributeError, LookupError, TypeError, ValueError, OverflowError):
        raise ReceiptInvalid("the mark of a minute cannot be read", remedy=_REMEDY) from None


def _lines(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from (line.removesuffix(b"\n") for line in file)
    except OSError as error:
        raise ReceiptInvalid(f"{path} cannot be read ({error.strerror})", remedy="check the path") from error


def _value(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):  # the latter of brackets in brackets, a thousand deep
        value = None
    if not isinstance(value, dict):
        raise ReceiptInvalid("a line is no JSON object", remedy="give the file that --receipt wrote")
    return value


def _signature(data: bytes) -> Signature:
    value = _value(data)
    try:
        return Signature(base64.b64decode(value["certificate"]), base64.b64decode(value["signature"]))
    except (LookupError, TypeError, ValueError):
        raise ReceiptInvalid("its signature cannot be read", remedy=_REMEDY) from None


def _bytes(value: Mapping[str, object]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode("ascii")


def _unwritable(path: Path, error: OSError) -> StorageFull:
    return StorageFull(
        f"the receipt {path} cannot be written ({error.strerror})", remedy="make room, or give another path"
    )
