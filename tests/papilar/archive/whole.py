"""A gallery's whole store in a form that two runs over the same archive share, whatever they were through.

Times and random identifiers are left out: an encounter is called by its subject and its prints.
"""

import json
import sqlite3
from collections import Counter
from contextlib import closing
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from papilar.archive.item import Line, Result
from papilar.archive.receipt import read_lines

Whole = dict[str, Counter[Any]]
"""By name of a table: its rows, each as often as it is there."""

_PRINT = (
    "ordinal, finger, impression, quality, minutiae, source_sha256, template, nfiq2, nfiq2_version, original"
)
_LEFT_OUT = ("meta", "alembic_version", "sqlite_sequence", "encounter", "print", "missing_finger", "request")


def whole_store(gallery: Path) -> Whole:
    """Return all that a gallery's data base holds."""
    with closing(sqlite3.connect(gallery / "papilar.sqlite3")) as store:
        names = _names(store)
        tables = [name for (name,) in store.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found: Whole = {"encounter": Counter(names.values())}
        found["request"] = Counter(
            (request, names.get(encounter), digest is None, _answer(response))
            for request, encounter, digest, response in store.execute(
                "SELECT request_id, encounter_id, digest, response FROM request"
            )
        )
        for table in set(tables) - set(_LEFT_OUT):
            found[table] = Counter(_rows(store, table, names))
    return found


def whole_receipt(folder: Path) -> list[Line]:
    """Return the lines of a receipt in FOLDER/receipt; what went in by its run is as what was in before."""
    with closing(sqlite3.connect(folder / "gallery" / "papilar.sqlite3")) as store:
        names = _names(store)
    return [
        replace(
            line,
            result=Result.ENROLLED if line.result is Result.ALREADY else line.result,
            encounter_id=names.get(line.encounter_id, line.encounter_id),
        )
        for line in read_lines(folder / "receipt")
    ]


def _names(store: sqlite3.Connection) -> dict[str, str]:
    """Call every encounter by what it holds."""
    names = {}
    for encounter, subject, replaces in store.execute(
        "SELECT encounter_id, subject_id, replaces FROM encounter"
    ):
        query = f"SELECT {_PRINT} FROM print WHERE encounter_id = ? ORDER BY ordinal"  # noqa: S608
        prints = store.execute(query, [encounter]).fetchall()
        query = "SELECT finger, reason FROM missing_finger WHERE encounter_id = ? ORDER BY finger"
        missing = store.execute(query, [encounter]).fetchall()
        digest = sha256(repr((prints, missing)).encode()).hexdigest()[:16]
        names[encounter] = f"{subject} {[one[1] for one in prints]} {missing} {replaces} {digest}"
    return names


def _answer(response: bytes | None) -> str:
    """Return what was answered to a request, but for the encounter's id."""
    return "" if response is None else json.dumps(json.loads(response) | {"encounter_id": ""})


def _rows(store: sqlite3.Connection, table: str, names: dict[str, str]) -> list[tuple[Any, ...]]:
    cursor = store.execute(f"SELECT * FROM {table}")  # noqa: S608
    kept = [i for i, (name, *_) in enumerate(cursor.description) if name != "created"]
    return [tuple(names.get(row[i], row[i]) for i in kept) for row in cursor]
