"""A gallery whose parts lie on the machines of a cluster; used as `matcher.gallery.Gallery` is.

Each part is a gallery of its own (`papilar.cluster.part`) and is kept alive by a thread here
(`papilar.cluster.keeper`). This process knows which rows there are and which part has each, and reads the
store for all: a part that is lost is started again, opens what lies at its place, and is given the rest. What
is enrolled meanwhile is in the store, and among what it is given. What is searched meanwhile is answered
without it, and says so; but what is known by its row is taken from the store.
"""

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from matcher.calibration import Calibration
from matcher.cascade import PENETRATION, Floats, Found, Look, Ranked, Wanted, settle
from matcher.codecs import decode
from matcher.compare import score
from matcher.cylinders import Prepared, prepare
from matcher.segment import Place, Rows
from matcher.template import Finger
from papilar.cluster.connection import connected, not_started
from papilar.cluster.keeper import Asked, Keeper, Register
from papilar.cluster.machines import Stands, look_around, stands
from papilar.cluster.part import folder_of
from papilar.errors import DeadlinePassed, NodeError
from papilar.store import Store

_COUNTING = 1.0  # seconds for a part to count its prints, which it does in milliseconds
_THREADS = 256  # that wait for parts; they do nothing else


class Cluster:
    """A Ray cluster that galleries lie on.

    Parameters
    ----------
    ray : module
        Connected, by `papilar.cluster.connection.connected`.
    parts : int
        Into which a gallery is divided. With another number than before, all is loaded from the store.
    """

    def __init__(self, ray: Any, parts: int) -> None:
        self._ray, self._parts = ray, parts

    @contextmanager
    def open(self, folder: Path, store: Store, generation: int | None = None) -> Iterator["ClusterGallery"]:
        """Open a gallery of all prints of a store; yields it when all can be found.

        Parameters
        ----------
        folder : Path
            Of the segments, on each machine.
        store : Store
            Open as long as the gallery is.
        generation : int, optional
            That is being extracted anew: the gallery is empty at first.

        Raises
        ------
        NodeError
            Parts do not come to life.
        """
        register = Register(store, self._parts, generation)
        machines = look_around(self._ray, folder, self._parts, alone=generation is None)
        if not machines:
            raise not_started("parts of the gallery", "no machine answers")
        where = Stands(self._ray, stands(machines, self._parts))
        keepers = [
            Keeper(self._ray, part, folder_of(folder, part, self._parts), where, register)
            for part in range(self._parts)
        ]
        with closing(ClusterGallery(register, keepers)) as gallery:
            gallery.wait()
            yield gallery


@contextmanager
def cluster(address: str, parts: int) -> Iterator[Cluster]:
    """Connect to a cluster, or start one here, as `papilar.cluster.connection.connected`."""
    with connected(address) as ray:
        yield Cluster(ray, parts)


class ClusterGallery:
    """Made by `Cluster.open`; all threads may use one.

    Parameters
    ----------
    register : Register
    keepers : sequence of Keeper
        Of the parts, in their order.
    """

    def __init__(self, register: Register, keepers: Sequence[Keeper]) -> None:
        self._register, self._keepers = register, keepers
        self._live = [0] * len(keepers)
        self._keys = count()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="ask")

    def wait(self) -> None:
        """Wait until all can be found for the first time; raises as `Keeper.wait`."""
        for keeper in self._keepers:
            keeper.wait()

    def close(self) -> None:
        """End the parts; what was not sealed is loaded from the store the next time."""
        for keeper in self._keepers:
            keeper.close()
        self._pool.shutdown()

    def adopt(self, other: "ClusterGallery") -> None:
        """Become another gallery for the next search; nobody may use that one then, but it may be closed."""
        mine, self._register, self._keepers = self._keepers, other._register, other._keepers
        other._keepers = ()
        for keeper in mine:
            keeper.close(erase=True)

    def __len__(self) -> int:
        return len(self._register.division)

    def __contains__(self, row: int) -> bool:
        return self._keeper(row) is not None

    @property
    def rows(self) -> Rows:
        """Row numbers of the gallery, ascending; those of a part that is lost are among them."""
        with self._register.lock:
            return self._register.division.rows

    @property
    def positions(self) -> Counter[Finger]:
        """How many prints of each finger position there are; those of a lost part count as unknown."""
        asked = [(keeper, keeper.send(keeper.actor, "positions")) for keeper in self._keepers]
        until = time.monotonic() + _COUNTING
        found: Counter[Finger] = Counter()
        for keeper, question in asked:
            with suppress(NodeError, DeadlinePassed):
                found += keeper.hear(question, deadline=until)
        found[Finger.UNKNOWN] += max(len(self) - found.total(), 0)
        return +found

    @property
    def live_rows(self) -> int:
        """The most rows that a part has in memory only."""
        return max(self._live)

    def missing(self, alive: Rows) -> list[int]:
        """Return the rows of `alive` that must be added; those of a part that is lost need not."""
        missing: list[int] = np.setdiff1d(alive, self.rows, assume_unique=True).tolist()
        return missing

    # ---- changes

    def add(self, row: int, prepared: Prepared, place: Place) -> None:
        """Make a row findable by the next search; where its part is lost, as soon as that is back.

        The store must have the row: a part is loaded from there.
        """
        with self._register.lock:
            part = self._register.division.add(row, place.encounter)
            if part is None:
                return
            keeper, actor = self._keepers[part], self._keepers[part].actor
        self._live[part] = keeper.change(keeper.send(actor, "add", row, prepared, place)) or 0

    def hide(self, rows: Collection[int]) -> None:
        """Make rows unfindable at once."""
        with self._register.lock:
            gone = self._register.division.drop(rows)
            told = [(self._keepers[part], self._keepers[part].actor, some) for part, some in gone.items()]
        asked = [(keeper, keeper.send(actor, "hide", some)) for keeper, actor, some in told]
        for keeper, question in asked:
            keeper.change(question)

    def seal(self) -> None:
        """Have every part write what it has in memory.

        Raises
        ------
        OSError
            On a part's machine; its rows stay findable in memory.
        """
        self._live = [0] * len(self._keepers)
        self._everywhere("seal")

    def compact(self) -> None:
        """Have every part erase what was hidden; raises as `seal`."""
        while self.compact_one():
            pass

    def compact_one(self) -> bool:
        """Have every part erase some of what was hidden; return whether there was any; raises as `seal`."""
        return self._everywhere("compact_one")

    def check(self) -> None:
        """Have every part read through what it has on the disk; raises as `seal`."""
        self._everywhere("check")

    def _everywhere(self, method: str) -> bool:
        """Have all parts do something, and return whether one has more to do; one that is lost has not."""
        asked = [(keeper, keeper.send(keeper.actor, method)) for keeper in self._keepers]
        done = [keeper.change(question) or (False, 0) for keeper, question in asked]
        failed = [number for _, number in done if number]
        if failed:
            raise OSError(failed[0], os.strerror(failed[0]))
        return any(more for more, _ in done)

    # ---- searching

    def shortlist(
        self,
        probe: Sequence[Wanted],
        *,
        limit: int,
        first: int = 0,
        penetration: float = PENETRATION,
        spread: object = None,
        deadline: float | None = None,
    ) -> Found:
        """Return the prints worth a full comparison, and those of their encounters, of the parts that answer.

        Parameters
        ----------
        probe, limit, first, penetration
            As for `matcher.gallery.Gallery.shortlist`.
        spread : object
            Not used: parts have threads of their own.
        deadline : float, optional
            Of the search, a `time.monotonic` instant. Parts have half the time until then.
        """
        total, until = len(self), _halfway(deadline)
        question = ("look", next(self._keys), probe, total, penetration)
        looks = [_PartLook(keeper, question, until) for keeper in self._keepers]
        kept = Look(probe, [], total=total, penetration=penetration).kept
        return settle(looks, kept, limit=limit, first=first, spread=self._pool.map)

    def scores(
        self, probe: Sequence[Prepared], pairs: Sequence[tuple[int, int]], calibration: Calibration
    ) -> list[float]:
        """Compare prints in full, where they lie; as `matcher.gallery.Gallery.scores`.

        Those of a part that is lost are compared here, with what the store has of them.
        """
        by_keeper: dict[Keeper, list[tuple[int, int]]] = {}
        for number, row in pairs:
            if (keeper := self._keeper(row)) is not None:
                by_keeper.setdefault(keeper, []).append((number, row))
        asked = []
        for keeper, some in by_keeper.items():
            used = sorted({number for number, _ in some})  # few: pairs come in the order of the prints
            those = [(used.index(number), row) for number, row in some]
            prints = [probe[number] for number in used]
            asked.append((keeper, keeper.send(keeper.actor, "scores", prints, those, calibration), some))
        found: dict[tuple[int, int], float] = {}
        for keeper, question, some in asked:
            scores = _or_none(keeper, question) or [-np.inf] * len(some)
            found |= zip(some, scores, strict=True)
        lost = [pair for pair, value in found.items() if value == -np.inf]
        found |= self._scores_here(probe, lost, calibration) if lost else {}
        return [found.get(pair, -np.inf) for pair in pairs]

    def prepared(self, row: int) -> Prepared | None:
        """Return a row's prepared template, of the store where its part is lost; None when hidden."""
        keeper = self._keeper(row)
        if keeper is None:
            return None
        found: Prepared | None = _or_none(keeper, keeper.send(keeper.actor, "prepared", row))
        return found or self._prepared_here([row]).get(row)

    def _keeper(self, row: int) -> Keeper | None:
        with self._register.lock:
            part = self._register.division.find(row)
        return None if part is None else self._keepers[part]

    def _scores_here(
        self, probe: Sequence[Prepared], pairs: Sequence[tuple[int, int]], calibration: Calibration
    ) -> dict[tuple[int, int], float]:
        ready = self._prepared_here(sorted({row for _, row in pairs}))
        return {
            (number, row): score(probe[number], ready[row], calibration=calibration)
            for number, row in pairs
            if row in ready
        }

    def _prepared_here(self, rows: Sequence[int]) -> Mapping[int, Prepared]:
        return {one.row: prepare(decode(one.template)[0]) for one in self._register.read(rows)}


class _PartLook:
    """A search of one part, under way; see `matcher.cascade.Looking`. It names what of it failed."""

    def __init__(self, keeper: Keeper, question: tuple[Any, ...], until: float | None) -> None:
        self._keeper, self._until = keeper, until
        self._actor, self._gap = keeper.standing
        self._key, self._prints = question[1], len(question[2])
        self._asked = keeper.send(self._actor, *question)

    def votes(self) -> Floats:
        """Return the votes of the units that may be kept, in any order; none where the part is lost."""
        votes: Floats | None = self._heard(self._asked)
        return np.zeros(0, np.float32) if votes is None else votes

    def best(self, least: float, *, limit: int, first: int) -> Found:
        """Return the best of the part; nothing where it is lost."""
        question = ("best", self._key, least, limit, first)
        found: Found | None = self._heard(self._keeper.send(self._actor, *question))
        return (found or _nothing(self._prints))._replace(failures=(self._gap,) if self._gap else ())

    def _heard(self, asked: Asked | None) -> Any:
        try:
            return self._keeper.hear(asked, deadline=self._until)
        except DeadlinePassed:
            self._gap = self._gap or f"{self._keeper.name}: no answer in time"
        except NodeError:
            self._gap = self._gap or f"{self._keeper.name}: lost during the search"
        self._actor = None
        return None


def _nothing(prints: int) -> Found:
    rows, votes = np.zeros(0, np.int64), np.zeros(0, np.float32)
    return Found(rows, votes, rows, rows, (Ranked(rows, votes),) * prints)


def _or_none(keeper: Keeper, asked: Asked | None) -> Any:
    try:
        return keeper.hear(asked)
    except NodeError:
        return None


def _halfway(deadline: float | None) -> float | None:
    now = time.monotonic()
    return None if deadline is None else now + (deadline - now) / 2
