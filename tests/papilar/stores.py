"""What the tests of the store share: small values, and a look behind its back."""

import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import postgresql
from sqlalchemy import Connection, event

from matcher.template import Finger, Impression
from papilar.store import NewEncounter, NewPrint, Request, Store

FILE = "papilar.sqlite3"


def new_id() -> str:
    return str(uuid4())


def a_print(finger: int = 1, *, template: bytes = b"template", image: bytes | None = None) -> NewPrint:
    digest = sha256(image).digest() if image else None
    return NewPrint(Finger(finger), Impression.LIVE_PLAIN, template, 40, 77, digest, image)


def an_encounter(subject: str = "subject", prints: tuple[NewPrint, ...] = ()) -> NewEncounter:
    return NewEncounter(subject, new_id(), prints or (a_print(),))


def a_request(content: bytes = b"content", response: bytes = b"response") -> Request:
    return Request(new_id(), sha256(content).digest(), lambda _: response)


def everything_on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.iterdir()))


def integrity(folder: Path) -> str:
    with closing(sqlite3.connect(folder / FILE)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def tamper(target: Path | str, statement: str, *values: object) -> None:
    """Do a statement in a gallery's data base; a place for a value is a question mark."""
    if isinstance(target, str):
        postgresql.query(target, statement.replace("?", "%s"), *values)
        return
    folder = target
    with closing(sqlite3.connect(folder / FILE)) as connection, connection:
        connection.execute(statement, values)


def set_pragma(store: Store, pragma: str) -> None:
    """Make every connection of a store obey a pragma that the store does not set itself."""

    def obey(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute(f"PRAGMA {pragma}").close()

    event.listen(store._engine, "checkout", obey)


def lose_the_next_answer(store: Store) -> None:
    """Let the server keep the next change that answers a request, and the connection break just after."""
    answered: list[bool] = [False]

    @event.listens_for(store._engine, "before_cursor_execute")
    def notice(_: Connection, __: object, statement: str, *___: object) -> None:
        answered[0] = answered[0] or statement.startswith("INSERT INTO request")

    @event.listens_for(store._engine, "commit")
    def commit(connection: Connection) -> None:
        if answered[0]:
            event.remove(store._engine, "before_cursor_execute", notice)
            answered[0] = False
            driver = connection.connection.dbapi_connection
            assert driver is not None
            driver.commit()
            driver.close()
