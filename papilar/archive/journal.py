"""What became of each item, kept as the run goes, so that the next run need not read it again.

Nothing rests on the journal being whole: what it lacks is asked again under the same `request_id`, which the
gallery knows. One thing it does decide. An item that failed beside others of its encounter is from then on
enrolled by itself, since those others went in under an id that was made without it; so failures are on the
disk before the others are enrolled.
"""

import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from typing import NamedTuple

from papilar.archive.item import Item, Line, Result, line_of, printable
from papilar.errors import EncounterErased
from papilar.store.journal import JournalRow, JournalStore, Kept

_MOST_PENDING = 256  # lines written together
_OLDEST_PENDING = 1.0  # seconds

_SETTLED = frozenset({Result.ENROLLED, Result.ALREADY, Result.COPY, Result.MISSING})
ERASED = "enrolled before and deleted since; to bring it back, give the file another impression number"
SAME_CONTENT = "SAME_CONTENT"


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
    """

    line: Line
    same: bool
    settled: bool


class Claim(NamedTuple):
    """Who else has the content of an item.

    Attributes
    ----------
    known : Known or None
        What an earlier run made of this very item, whatever it called the source.
    copy_of : str
        Another item of the same subject; empty for none.
    elsewhere : bool
        Whether another subject has an item of this content.
    """

    known: Known | None = None
    copy_of: str = ""
    elsewhere: bool = False


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
        self._written = clock()
        self._claims: dict[
            bytes, dict[str, str]
        ] = {}  # content -> name -> subject, of what is not written yet

    def known(self, items: Sequence[Item]) -> Mapping[str, Known]:
        """Return what earlier runs made of these items, by name."""
        keys = {_key(item.name): item for item in items}
        found = self._store.known(self._source, keys)
        return {keys[kept.key].name: self._known(kept, keys[kept.key]) for kept in found}

    def claim(self, item: Item, content: bytes) -> Claim:
        """Say that this item has this content, and learn who else has it; in the order of the items.

        Parameters
        ----------
        item : Item
        content : bytes
            SHA-256.
        """
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
            return Claim(next((one for one in mine_before if one.settled), mine_before[0]))
        others = (one.row.name for one in kept if one.row.result != Result.COPY)
        elsewhere = elsewhere or bool(self._alive(self._store.elsewhere(content, subject)))
        return Claim(None, next(others, mine), elsewhere)

    def note(self, items: Iterable[tuple[Item, Line]], *, now: bool = False) -> None:
        """Take down what became of items; `now`: on the disk when this returns.

        Raises
        ------
        StorageFull, StorageUnavailable
        """
        with self._lock:
            for item, line in items:
                if line.result is not Result.NOT_TRIED:
                    self._pending[_key(item.name)] = self._row(item, line)
            old = self._clock() - self._written >= _OLDEST_PENDING
            if now or old or len(self._pending) >= _MOST_PENDING:
                self._flush()

    def flush(self) -> None:
        """Bring everything to the disk; raises as `note`."""
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        self._store.write(self._source, self._pending)
        for row in self._pending.values():
            claims = self._claims.get(row.sha256 or b"", {})
            claims = {name: subject for name, subject in claims.items() if printable(name) != row.name}
            if claims:
                self._claims[row.sha256 or b""] = claims
            else:
                self._claims.pop(row.sha256 or b"", None)
        self._pending = {}
        self._written = self._clock()

    def _row(self, item: Item, line: Line) -> JournalRow:
        return JournalRow(
            printable(item.name),
            printable(item.subject),
            item.version,
            self._options,
            bytes.fromhex(line.sha256) or None,
            line.result,
            line.encounter_id,
            line.quality,
            line.minutiae,
            line.reason,
            line.message,
            json.dumps(line.warnings),
        )

    def _alive(self, kept: Sequence[Kept]) -> list[Kept]:
        """Leave out what was deleted: it stands for nothing any more."""
        told = (one for one in kept if one.row.reason != EncounterErased.reason)
        return [one for one in told if not (self._in_gallery and one.erased)]

    def _known(self, kept: Kept, item: Item) -> Known:
        row, line = kept.row, _line(kept.row, item)
        if self._in_gallery and kept.erased:
            line = replace(
                line, result=Result.FAILED, reason=EncounterErased.reason, message=ERASED, encounter_id=""
            )
        settled = line.result in _SETTLED or line.reason == EncounterErased.reason
        alike = bool(item.version or item.missing) and row.version == item.version
        same = alike and (settled or (row.options == self._options and line.result is not Result.FAILED))
        return Known(line, same, settled)


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
    )


def _key(name: str) -> bytes:
    return sha256(printable(name).encode()).digest()
