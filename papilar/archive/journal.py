"""What became of each item, kept as the run goes, so that the next run need not read it again.

Nothing rests on the journal being whole: what it lacks is asked again under the same `request_id`, which the
gallery knows. One thing it does decide. An item that failed beside others of its encounter is from then on
enrolled by itself, since those others went in under an id that was made without it; so failures are on the
disk before the others are enrolled. They are there without their content until their turn comes: rows with a
content are always those of the first items, so that a run that goes on sees what an undisturbed one sees.

Of what was deleted from the gallery no row is kept. A digest stays of whose print it was, of which encounter,
and of its bytes: by that the file is known again.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from papilar.archive.item import Item, Line, Result, line_of, nfiq2_of, printable
from papilar.errors import EncounterErased
from papilar.store.journal import JournalRow, JournalStore, Kept

_MOST_PENDING = 256  # lines written together
_OLDEST_PENDING = 1.0  # seconds

_APART = "APART"  # reason of a row that stands until the encounter's lines are told
_SETTLED = frozenset({Result.ENROLLED, Result.ALREADY, Result.COPY, Result.MISSING})
_TRIED_AGAIN = frozenset({Result.FAILED, Result.DUPLICATE})  # of the latter the other may be gone
SAME_CONTENT = "SAME_CONTENT"

ERASED = EncounterErased.reason, "its encounter was deleted; to bring it back, give another impression number"
"""Reason and message of what was deleted, and of what else there is of its encounter."""

PERSON_ERASED = "PERSON_ERASED", "its person was deleted; to enrol what is new, take out the deleted files"
"""Reason and message of other encounters of a person of whom nothing is left."""


class Known(NamedTuple):
    """What an earlier run made of an item.

    Attributes
    ----------
    line : Line
        As this run would say it.
    same : bool
        Whether item and options look unchanged, so that it need not be read.
    settled : bool
        Whether the line stands if the content is the same, whatever the options.
    apart : bool
        Whether others of its encounter may be in without it, which no row says yet.
    """

    line: Line
    same: bool
    settled: bool
    apart: bool = False


class Claim(NamedTuple):
    """Who else has the content of an item.

    Attributes
    ----------
    known : Known or None
        What an earlier run made of this very item, whatever it called the source.
    copy_of : str
        Another item of the same subject; empty for none.
    elsewhere : bool
        Whether another subject has an item of this content; of a known item, whether that was said of it.
    erased : bool
        Whether it was deleted from the gallery.
    """

    known: Known | None = None
    copy_of: str = ""
    elsewhere: bool = False
    erased: bool = False


class Journal:
    """The journal of one source. All threads may use one.

    Parameters
    ----------
    store : JournalStore
    source : str
        What names the source the same way on every run.
    options : str
        What of the run's options may change what becomes of an item.
    in_gallery : bool
        Whether the store is that of the gallery, which knows what was deleted since.
    clock : callable
        Seconds of a clock that never goes back.
    """

    def __init__(
        self,
        store: JournalStore,
        source: str,
        *,
        options: str = "",
        in_gallery: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._source = _key(source)
        self._options = options
        self._in_gallery = in_gallery
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: dict[bytes, JournalRow] = {}
        self._erased: dict[bytes, bytes | None] = {}  # rows that are to go, and what is kept of them
        self._written = clock()
        self._claims: dict[
            bytes, dict[str, str]
        ] = {}  # content -> name -> subject, of what is not written yet

    def known(self, items: Sequence[Item]) -> Mapping[str, Known]:
        """Return what earlier runs made of these items, by name; of one that was another's then, nothing."""
        keys = {_key(item.name): item for item in items}
        found = ((kept, keys[kept.key]) for kept in self._store.known(self._source, keys))
        return {
            item.name: self._known(kept, item)
            for kept, item in found
            if kept.row.subject_id == printable(item.subject)
        }

    def claim(self, item: Item, content: bytes) -> Claim:
        """Say that this item has this content, and learn who else has it; in the order of the items.

        Parameters
        ----------
        item : Item
        content : bytes
            SHA-256.
        """
        if self._store.erased(_erasure_key(item, content)):
            return Claim(erased=True)
        with self._lock:
            now = self._claims.get(content, {})
            mine = next((name for name, subject in now.items() if subject == item.subject), "")
            elsewhere = any(subject != item.subject for subject in now.values())
            if not mine:
                self._claims.setdefault(content, {})[item.name] = item.subject
        subject, key = printable(item.subject), _key(item.name)
        kept = self._alive(self._store.same_content(content, subject))
        mine_before = [self._known(one, item) for one in kept if one.key == key]
        if mine_before:
            known = next((one for one in mine_before if one.settled), mine_before[0])
            return Claim(known, elsewhere=any(said.startswith(SAME_CONTENT) for said in known.line.warnings))
        others = (one.row.name for one in kept if one.row.result != Result.COPY)
        elsewhere = elsewhere or bool(self._alive(self._store.elsewhere(content, subject)))
        return Claim(None, next(others, mine), elsewhere)

    def enrolled(self, item: Item, content: bytes) -> Line | None:
        """Return the line of an image that is in the gallery, though no row says so; None where it is not.

        Of templates the gallery does not keep which file they were, and of a node's gallery we know nothing.
        """
        found = self._store.enrolled(printable(item.subject), content) if self._in_gallery else None
        return found and _line(found, item)

    def is_there(self, subject: str) -> bool:
        """Tell whether the gallery has anything of a subject; yes, where that cannot be told."""
        return not self._in_gallery or self._store.is_there(printable(subject))

    def note(self, items: Iterable[tuple[Item, Line]]) -> None:
        """Take down what became of items, in their order.

        Raises
        ------
        StorageFull, StorageUnavailable
        """
        with self._lock:
            for item, line in items:
                self._take(item, line)
            old = self._clock() - self._written >= _OLDEST_PENDING
            if old or len(self._pending) + len(self._erased) >= _MOST_PENDING:
                self._flush()

    def note_apart(self, items: Iterable[tuple[Item, Known | None]]) -> None:
        """Take down, on the disk when this returns, that the others of their encounter go in without these.

        Parameters
        ----------
        items : iterable of (Item, Known or None)
            With what an earlier run made of each.

        Raises
        ------
        StorageFull, StorageUnavailable
        """
        listed = list(items)
        if not listed:
            return
        with self._lock:
            for item, before in listed:
                line = line_of(item, Result.FAILED) if before is None else before.line
                self._take(
                    item, replace(line, result=Result.FAILED, reason=_APART, message="", encounter_id="")
                )
            self._flush()

    def flush(self) -> None:
        """Bring everything to the disk; raises as `note`."""
        with self._lock:
            self._flush()

    def _take(self, item: Item, line: Line) -> None:
        key = _key(item.name)
        if line.reason in (ERASED[0], PERSON_ERASED[0]):
            content = bytes.fromhex(line.sha256) if line.reason == ERASED[0] else b""
            self._pending.pop(key, None)
            self._erased[key] = _erasure_key(item, content) if content else None
        elif line.result is not Result.NOT_TRIED:
            self._erased.pop(key, None)
            self._pending[key] = self._row(item, line)

    def _flush(self) -> None:
        self._store.write(self._source, self._pending, self._erased)
        for row in self._pending.values():
            claims = self._claims.get(row.sha256 or b"", {})
            claims = {name: subject for name, subject in claims.items() if printable(name) != row.name}
            if claims:
                self._claims[row.sha256 or b""] = claims
            else:
                self._claims.pop(row.sha256 or b"", None)
        self._pending, self._erased = {}, {}
        self._written = self._clock()

    def _row(self, item: Item, line: Line) -> JournalRow:
        content = bytes.fromhex(line.sha256) or None
        return JournalRow(
            printable(item.name),
            printable(item.subject),
            item.version,
            self._options,
            content,
            Result.ENROLLED if line.result is Result.ALREADY else line.result,
            line.encounter_id,
            line.quality,
            line.minutiae,
            line.reason,
            "" if line.result is Result.DUPLICATE else line.message,  # it names another person
            json.dumps(line.warnings),
            line.nfiq2,
            line.nfiq2_version or line.nfiq2_reason or None,
            _erasure_key(item, content) if content else None,
        )

    def _alive(self, kept: Sequence[Kept]) -> list[Kept]:
        """Leave out what was deleted: it stands for nothing any more."""
        return [one for one in kept if not (self._in_gallery and one.erased)]

    def _known(self, kept: Kept, item: Item) -> Known:
        row, line = kept.row, _line(kept.row, item)
        if self._in_gallery and kept.erased:
            return Known(line_of(item, Result.FAILED, *ERASED, sha256=line.sha256), same=True, settled=True)
        settled = line.result in _SETTLED
        alike = bool(item.version or item.missing) and row.version == item.version
        same = alike and (settled or (row.options == self._options and line.result not in _TRIED_AGAIN))
        return Known(line, same, settled, line.reason == _APART)


def _line(row: JournalRow, item: Item) -> Line:
    result = Result(row.result)
    if result is Result.ENROLLED:
        result = Result.ALREADY
    return line_of(
        item,
        result,
        row.reason,
        row.message,
        subject_id=item.subject if row.encounter_id else "",
        encounter_id=row.encounter_id,
        quality=row.quality,
        minutiae=row.minutiae,
        warnings=tuple(json.loads(row.warnings)),
        sha256=(row.sha256 or b"").hex(),
        **nfiq2_of(item, row.nfiq2, row.nfiq2_version or "") if row.minutiae is not None else {},
    )


def _key(name: str) -> bytes:
    return sha256(printable(name).encode()).digest()


def _erasure_key(item: Item, content: bytes) -> bytes:
    """Return what is kept of a file that was erased, of which nobody learns anything without its bytes."""
    whose = f"{printable(item.subject)}\n{printable(item.impression)}\n{content.hex()}"
    return sha256(whose.encode()).digest()
