"""A real PostgreSQL server for the tests: the system's programs, a folder and a socket of its own, no port.

Debian's package `postgresql` brings the programs. The server refuses to run as root; there it runs as the
user `postgres` of that package, or as `nobody`.
"""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg

USER = "papilar"


@cache
def programs() -> Path | None:
    """Folder of the server's programs, the newest version's; None where there are none."""
    found = [path.parent for path in Path("/usr/lib/postgresql").glob("*/bin/initdb")]
    if found:
        return max(found, key=lambda folder: float(folder.parent.name))
    on_path = shutil.which("initdb")
    return Path(on_path).resolve().parent if on_path else None


@cache
def _identity() -> Mapping[str, Any]:
    """Whom the server runs as."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            who = pwd.getpwnam(name)
            return {"user": who.pw_uid, "group": who.pw_gid, "extra_groups": ()}
    raise LookupError("neither postgres nor nobody is a user of this machine")


class Server:
    """A server that can be stopped, killed and started again. It waits for the disk, as in earnest."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="pg-"))  # pytest's own are closed to other users
        if _identity():
            os.chown(self._folder, _identity()["user"], _identity()["group"])
        self._names = count()
        self._process: subprocess.Popen[bytes] | None = None
        _run("initdb", "-D", self._data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
        self.start()

    @property
    def _data(self) -> Path:
        return self._folder / "data"

    @property
    def log(self) -> str:
        """What the server has logged."""
        return (self._folder / "log").read_text()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [_program("postgres"), "-D", self._data, "-k", self._folder, "-h", ""],
                stderr=log,
                stdout=log,
                cwd="/",
                **_identity(),
            )
        deadline = time.monotonic() + 30
        while True:
            try:
                self.connect().close()
            except psycopg.OperationalError:
                if time.monotonic() > deadline or self._process.poll() is not None:
                    raise RuntimeError(self.log) from None
                time.sleep(0.02)
            else:
                return

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stop it in a hurry: connections are cut. With SIGQUIT it does not even tidy up, as in a crash."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def remove(self) -> None:
        """Stop it and take its files away."""
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder)

    def new_place(self) -> str:
        """Return the URL of an empty schema: a data base of its own would be a thousand files."""
        name = f"gallery_{next(self._names)}"
        with self.connect() as connection:
            connection.execute(f"CREATE SCHEMA {name}".encode())
        host, options = quote(str(self._folder), safe=""), quote(f"-csearch_path={name}", safe="")
        return f"postgresql://{USER}@/postgres?host={host}&options={options}"

    def connect(self) -> "psycopg.Connection[Any]":
        """Connect to it, outside of any gallery."""
        return psycopg.connect(host=str(self._folder), user=USER, dbname="postgres", autocommit=True)


def _run(program: str, *arguments: object) -> None:
    command = [_program(program), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", **_identity())
    if done.returncode:
        raise RuntimeError(done.stderr)


def _program(name: str) -> str:
    folder = programs()
    if folder is None:
        raise FileNotFoundError(name)
    return str(folder / name)


def query(url: str, statement: str, *values: object) -> list[tuple[Any, ...]]:
    """Do a statement in a data base, behind the back of whoever works on it."""
    with psycopg.connect(url, autocommit=True) as connection:
        done = connection.execute(statement.encode(), values)
        return done.fetchall() if done.description else []


def cut(url: str, *, wait: bool = True) -> None:
    """End all sessions of Papilar, in whatever they are, and wait until they are gone."""
    ours = "FROM pg_stat_activity WHERE application_name = 'papilar'"
    query(url, f"SELECT pg_terminate_backend(pid) {ours}")
    while wait and query(url, f"SELECT pid {ours}"):
        pass
