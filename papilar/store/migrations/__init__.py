"""Versions of the tables: a store of any earlier version becomes one of the newest.

A version is a file in `versions/`, named by four digits and a word, such as `0001_first.py`. It has
`revision`, the digits; `down_revision`, those of the version before; and `upgrade(op)`. It says in full what
to do and imports nothing of ours, since the tables of `schema` go on changing. It is handed Alembic's
operations: through the global `alembic.op`, two stores that are opened at a time would meet. There is no way
down; a backup is.
"""

from functools import cache
from pathlib import Path

from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection


def newest() -> int:
    """Return the version of the tables that this Papilar works with."""
    return int(_scripts().get_current_head() or 0)


def noted(connection: Connection) -> int | None:
    """Return the version that Alembic has noted; None for an empty data base, or one made before Alembic."""
    revision = MigrationContext.configure(connection).get_current_revision()
    return None if revision is None else int(revision)


def upgrade(connection: Connection, version: int) -> None:
    """Bring the tables from a version to the newest, in the transaction of the caller.

    Parameters
    ----------
    connection : Connection
        In a transaction that writes.
    version : int
        Of the tables that are there; 0 where there are none.
    """
    scripts, context = _scripts(), MigrationContext.configure(connection)
    if version and noted(connection) is None:
        context.stamp(scripts, f"{version:04}")
    steps = list(scripts.iterate_revisions("head", f"{version:04}" if version else "base"))
    for step in reversed(steps):
        step.module.upgrade(Operations(context))
        context.stamp(scripts, step.revision)


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory(str(Path(__file__).parent))
