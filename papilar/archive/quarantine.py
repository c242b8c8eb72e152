"""The folder of what did not go in: each file as it was, under its hash, with a sheet that says why.

    QUARANTINE/SHA256                  the bytes, once
    QUARANTINE/SHA256.NAME.json        of each item with these bytes; NAME is a hash of the item's name

File names say nothing of anybody; the sheets do, and are for their owner alone. A file appears whole or not
at all. `quarantined` gives the items back, as they were, to a later run.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from datetime import date
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

from matcher.template import Finger, Impression
from papilar.archive.item import Item, Line, printable
from papilar.durable import PART, write_durably
from papilar.errors import RequestInvalid, StorageFull

_FORM = "papilar-quarantine-1"


class Quarantine:
    """Such a folder, of one run at a time. All threads may use one.

    Raises
    ------
    StorageFull
        From any method: the folder cannot be made or written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for left in folder.glob(f"*{PART}"):  # of a run that was killed
                left.unlink(missing_ok=True)
        except OSError as error:
            raise _unwritable(error) from error

    def put(self, item: Item, line: Line, data: bytes) -> None:
        """Keep the bytes of an item, and why it did not go in."""
        sheet = {
            "form": _FORM,
            "name": printable(item.name),
            "subject": item.subject,
            "impression": item.impression,
            "finger": int(item.finger),
            "record": item.record,
            "ppi": item.ppi,
            "kind": None if item.kind is None else int(item.kind),
            "category": item.category,
            "retention": item.retention and item.retention.isoformat(),
            "result": line.result,
            "reason": line.reason,
            "message": line.message,
        }
        content = self._folder / line.sha256
        try:
            if not content.exists():
                write_durably(content, data)
            write_durably(self._sheet(line.sha256, item.name), json.dumps(sheet, indent=1).encode())
        except OSError as error:
            raise _unwritable(error) from error

    def release(self, line: Line) -> None:
        """Take out an item that has gone in since; the bytes go with the last sheet about them."""
        with suppress(FileNotFoundError):
            self._sheet(line.sha256, line.file).unlink()
            if next(self._folder.glob(f"{line.sha256}.*.json"), None) is None:
                (self._folder / line.sha256).unlink()

    def _sheet(self, content: str, name: str) -> Path:
        digest = sha256(printable(name).encode()).hexdigest()
        return self._folder / f"{content}.{digest[:16]}.json"


def quarantined(folder: Path) -> Iterator[Item]:
    """Return the items of a quarantine, those of one encounter together.

    Raises
    ------
    RequestInvalid
        There is no such folder, or a sheet in it cannot be read.
    """
    if not folder.is_dir():
        raise RequestInvalid(f"{folder} is no folder", remedy="give the folder of an earlier --quarantine")
    order = []
    for path in folder.glob("*.json"):
        sheet = _sheet(path)
        order.append((sheet["subject"], sheet["impression"], sheet["name"], path))
    return (_item(path, _sheet(path)) for *_, path in sorted(order))


def _sheet(path: Path) -> dict[str, Any]:
    try:
        sheet: dict[str, Any] = json.loads(path.read_bytes())
        if sheet["form"] == _FORM:
            return sheet
    except (OSError, ValueError, LookupError, TypeError):
        pass
    raise RequestInvalid(f"{path} is no sheet of a quarantine", remedy="take it out of the folder")


def _item(path: Path, sheet: dict[str, Any]) -> Item:
    content = path.with_name(path.name.partition(".")[0])
    return Item(
        sheet["name"],
        sheet["subject"],
        sheet["impression"],
        Finger(sheet["finger"]),
        partial(Path.read_bytes, content),
        record=sheet["record"],
        ppi=sheet["ppi"],
        kind=None if sheet["kind"] is None else Impression(sheet["kind"]),
        category=sheet["category"],
        retention=date.fromisoformat(sheet["retention"]) if sheet["retention"] else None,
    )


def _unwritable(error: OSError) -> StorageFull:
    return StorageFull(
        f"the quarantine cannot be written ({error.strerror})", remedy="make room, or see to its permissions"
    )
