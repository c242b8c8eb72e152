"""What the tests of the log share: entries, logs, and a look behind their back."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from papilar.audit.entry import Act, Entry, Outcome, Sent, Side, subject_mark

KEY = bytes(range(32))
START = datetime(2026, 3, 1, tzinfo=UTC)
MARK = subject_mark(KEY, "subject-7")


def an_entry(**fields: Any) -> Entry:
    values: dict[str, Any] = {
        "time": START,
        "side": Side.ASKED,
        "act": Act.CONSULTATION,
        "outcome": Outcome.NO_HIT,
        "officer": "SLV:4411",
        "ordering_officer": "SLV:12",
        "justification": "identification of an arrested person",
        "request_id": "0b9d1f62-6a3f-4f3c-9a40-6a2f0d3c1e55",
        "search_type": "TP_TP",
        "asking": "SLV",
        "asked": "HND",
        "purpose": "CRIMINAL",
        "case_reference": "C-1",
        "sent": (Sent("PRINT", 10, "ab" * 32),),
    }
    return Entry(**values | fields)


def entry_number(index: int) -> Entry:
    """Return one of many that differ."""
    return an_entry(
        time=START + timedelta(hours=index),
        side=list(Side)[index % 3],
        act=list(Act)[index % 4],
        outcome=list(Outcome)[index % 5],
        officer=f"SLV:{index % 7}",
        request_id=f"request-{index}",
        asking=("SLV", "GTM")[index % 2],
        case_reference=f"C-{index % 5}",
        subjects=(MARK,) if index % 6 == 1 else (),
    )


def tamper(file: Path, *statements: str) -> None:
    """Change the log's tables behind its back."""
    with closing(sqlite3.connect(file)) as connection, connection:
        for statement in statements:
            connection.execute(statement)
