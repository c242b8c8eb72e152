"""Who keeps one part of a gallery alive: starts its actor, has it loaded, and again whenever it is lost.

A thread for each part does that and nothing else: start, load, wait for the end. Others ask the actor that
stands at the moment. One that fails in any way is given up for lost and killed, so that what it has is either
known or made again; and until all of it is there, `gap` says so.
"""

import logging
import pickle
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from matcher.errors import PapilarError
from matcher.segment import Place, Rows
from papilar.cluster.connection import not_started
from papilar.cluster.division import Division
from papilar.cluster.machines import Stands, there
from papilar.cluster.part import BUSY, Part, Stored, ours, packed
from papilar.errors import DeadlinePassed, NodeError
from papilar.store import Store

_PATIENCE = 600.0  # seconds; the first search on a machine compiles the kernels
_PAUSES = (0.0, 0.0, 1.0, 5.0, 30.0)
"""Seconds before an actor is started, by how many in a row did not come to life."""

_STARTS = 3  # of which one must succeed for the gallery to open
_BATCH = 256  # prints loaded in one go: half a megabyte of templates

_log = logging.getLogger(__name__)


class Register:
    """The rows of a gallery with their parts, and the store that has them all.

    Parameters
    ----------
    store : Store
    parts : int
    generation : int, optional
        That is being extracted anew: no rows at first.

    Attributes
    ----------
    lock : threading.Lock
        Held for moments by who looks at the division or changes it.
    division : Division
    """

    def __init__(self, store: Store, parts: int, generation: int | None = None) -> None:
        none = np.zeros(0, np.int64)
        rows, encounters = (none, none) if generation else store.places()
        self.lock, self.division = threading.Lock(), Division(rows, encounters, parts)
        self._store, self._generation = store, generation

    def rows_of(self, part: int) -> Rows:
        """Return the rows that a part is to have."""
        with self.lock:
            return self.division.rows_of(part)

    def read(self, rows: Sequence[int]) -> Iterator[Stored]:
        """Read prints out of the store; those that are gone are left out."""
        for one in self._store.prints(rows, generation=self._generation):
            with self.lock:
                encounter = self.division.encounter(one.row)
            if encounter is not None:
                yield Stored(one.row, Place(one.finger, encounter), one.template)


class Asked(NamedTuple):
    """A question on its way: to which actor, and what will be the answer."""

    actor: Any
    answer: Any


class Keeper:
    """Keeps one part.

    Parameters
    ----------
    ray : module
    part : int
        From 0.
    folder : Path
        Of the part, on whatever machine it stands.
    stands : Stands
        Where parts are to stand.
    register : Register
    """

    def __init__(self, ray: Any, part: int, folder: Path, stands: Stands, register: Register) -> None:
        self.name = f"part {part + 1} of {register.division.parts}"
        self._ray, self._part, self._folder, self._stands, self._register = (
            ray,
            part,
            folder,
            stands,
            register,
        )
        self._actor: Any = None  # that others ask
        self._latest: Any = None  # that was started last; it may not be whole
        self._lacking = 0
        self._tries = 0
        self._error: Exception | None = None
        self._opened, self._ended = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._keep, name=self.name, daemon=True)
        self._thread.start()

    # ---- for whoever asks

    def wait(self) -> None:
        """Wait until the part is whole for the first time.

        Raises
        ------
        NodeError
            It does not come to life; from the store, what it raises.
        """
        self._opened.wait()
        if self._tries >= _STARTS:
            if isinstance(self._error, PapilarError):
                raise self._error
            raise not_started("parts of the gallery", type(self._error).__name__) from self._error

    @property
    def standing(self) -> tuple[Any, str]:
        """The actor that stands at the moment, and why not all of it is there to be searched; or nothing."""
        if (actor := self._actor) is None:
            return None, f"{self.name}: lost and being restored"
        lacking = self._lacking  # after the actor, which is shown after what it lacks
        return actor, f"{self.name}: being restored, and lacks {lacking} prints" if lacking else ""

    @property
    def actor(self) -> Any:
        """The actor that stands at the moment, or None."""
        return self._actor

    def send(self, actor: Any, *question: object) -> Asked | None:
        """Ask an actor of this part: a method's name, and what it is given; None where it is lost."""
        if actor is None:
            return None
        try:
            return Asked(actor, actor.answer.remote(packed(question)))
        except (self._ray.exceptions.RayError, ConnectionError):
            self._lose(actor)
            return None

    def hear(self, asked: Asked | None, *, deadline: float | None = None) -> Any:
        """Return the answer.

        Raises
        ------
        NodeError
            The actor is lost. A fault of its own that it reports is raised as it is.
        DeadlinePassed
            It may answer later; `deadline` is a `time.monotonic` instant.
        """
        if asked is None:
            raise _lost(self.name)
        until = _PATIENCE if deadline is None else max(0.0, deadline - time.monotonic())
        try:
            return pickle.loads(self._ray.get(asked.answer, timeout=until))  # noqa: S301 - of our own actor
        except self._ray.exceptions.RayTaskError:
            raise
        except self._ray.exceptions.GetTimeoutError:
            if deadline is not None:
                raise DeadlinePassed(
                    f"{self.name} did not answer in time", remedy="allow more time"
                ) from None
            self._lose(asked.actor)
        except (self._ray.exceptions.RayError, ConnectionError):
            self._lose(asked.actor)
        raise _lost(self.name)

    def change(self, asked: Asked | None) -> Any:
        """Hear of a change; None where the actor is lost, or failed and is given up and loaded anew."""
        try:
            return self.hear(asked)
        except NodeError:
            return None
        except self._ray.exceptions.RayTaskError as error:
            _log.warning("%s failed at a change (%s), it is restored", self.name, type(error.cause).__name__)
            self._lose(asked.actor if asked else None)
            return None

    def close(self, *, erase: bool = False) -> None:
        """End the actor; it may be gone already.

        Parameters
        ----------
        erase : bool
            Delete its folder, too.
        """
        self._ended.set()
        if erase:
            with suppress(NodeError, self._ray.exceptions.RayError):
                self.hear(self.send(self._actor, "erase"))
        self._lose(self._latest)
        self._thread.join()

    # ---- the life of the part

    def _keep(self) -> None:
        while not self._ended.wait(_PAUSES[min(self._tries, len(_PAUSES) - 1)]):
            self._tries += 1
            try:
                actor = self._start()
                self._fill(actor)
                self._tries = 0
                self._opened.set()
                self._ray.get(actor.stay.remote())
            except (PapilarError, OSError, self._ray.exceptions.RayError) as error:
                self._note(error)
            self._lose(self._latest)
        self._opened.set()

    def _note(self, error: Exception) -> None:
        """Say what ended an actor, to who reads the log and, at the beginning, to who waits."""
        if self._ended.is_set():
            return
        _log.warning("%s is lost (%s); it is started again", self.name, type(error).__name__)
        self._error = error
        if self._tries >= _STARTS:
            self._opened.set()

    def _start(self) -> Any:
        """Start an actor where the last one stood, as long as there is that machine."""
        stand = self._stands.find(self._part)
        place = there(self._ray, stand.machine)
        kind = self._ray.remote(num_cpus=0, max_concurrency=BUSY)(Part)
        actor = self._latest = kind.options(**place).remote(self._folder, stand.threads)
        if self._ended.is_set():
            raise _lost(self.name)
        theirs = self._now(actor, "about")
        if theirs != ours():
            raise not_started("parts of the gallery", f"a machine has {theirs}, this one {ours()}")
        return actor

    def _fill(self, actor: Any) -> None:
        """Have an actor open what lies at its place, show it to others, and load what is missing.

        From when it is shown, what changes is told it by who changes it.
        """
        held = self._now(actor, "open", self._register.rows_of(self._part))
        with self._register.lock:
            wanted = self._register.division.rows_of(self._part)
            missing = np.setdiff1d(wanted, held, assume_unique=True).tolist()
            self._lacking = len(missing)
            self._actor = actor
        self._now(actor, "hide", np.setdiff1d(held, wanted, assume_unique=True).tolist())
        for some in _batched(self._register.read(missing)):
            self._now(actor, "load", some)
            self._lacking -= len(some)
        if missing:
            self._now(actor, "seal")
        self._lacking = 0

    def _now(self, actor: Any, *question: object) -> Any:
        """Ask an actor, and wait as long as it takes."""
        return pickle.loads(self._ray.get(actor.answer.remote(packed(question))))  # noqa: S301 - as above

    def _lose(self, actor: Any) -> None:
        """Give an actor up: nobody asks it from now on, and its keeper starts another."""
        if actor is None:
            return
        if self._actor is actor:
            self._actor = None
        self._kill(actor)

    def _kill(self, actor: Any) -> None:
        with suppress(self._ray.exceptions.RayError, ConnectionError):
            self._ray.kill(actor)


def _batched(prints: Iterable[Stored]) -> Iterator[list[Stored]]:
    rest = iter(prints)
    while batch := list(islice(rest, _BATCH)):
        yield batch


def _lost(name: str) -> NodeError:
    return NodeError(f"{name} is lost", remedy="wait until it is restored, and ask again")
