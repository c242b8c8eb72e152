"""Which part of a gallery stands on which machine: where it lies already, else where there is room."""

import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from papilar.cluster.part import held_here

_PATIENCE = 120.0  # seconds for a machine to say what it has; it may have to start a process first
_TRIES = 3  # a second apart: a machine that just joined is not yet known to all


class Machine(NamedTuple):
    """A machine of the cluster: Ray's name for it, its cores, and bytes that lie there by part."""

    name: str
    cores: int
    held: dict[int, int]


class Stand(NamedTuple):
    """Where a part stands, and how many threads it has there."""

    machine: str
    threads: int


class Stands:
    """Where the parts of a gallery stand; when a machine is lost, elsewhere.

    Parameters
    ----------
    ray : module
    stands : sequence of Stand
        Of the parts, in their order.
    """

    def __init__(self, ray: Any, stands: Sequence[Stand]) -> None:
        self._ray, self._stands, self._lock = ray, list(stands), threading.Lock()

    def find(self, part: int) -> Stand:
        """Return where a part is to stand now: where it stood, as long as there is that machine."""
        with self._lock:
            alive = [Machine(name, cores, {}) for name, cores in _working(self._ray).items()]
            if alive and self._stands[part].machine not in {machine.name for machine in alive}:
                taken = [stand.machine for stand in self._stands]
                best = max(alive, key=lambda m: m.cores / (1 + taken.count(m.name)))
                self._stands[part] = Stand(best.name, max(1, best.cores // (1 + taken.count(best.name))))
            return self._stands[part]


def look_around(ray: Any, folder: Path, parts: int, *, alone: bool) -> list[Machine]:
    """Ask the machines of the cluster what they have of a gallery; one that does not answer is left out.

    Parameters
    ----------
    ray : module
    folder, parts, alone
        As of `held_here`.
    """
    found = ray.remote(num_cpus=0)(held_here)
    machines: dict[str, Machine] = {}
    for _ in range(_TRIES):
        left = {name: cores for name, cores in _working(ray).items() if name not in machines}
        places = {name: there(ray, name) for name in left}
        asked = {name: found.options(**places[name]).remote(folder, parts, alone=alone) for name in left}
        for name, answer in asked.items():
            try:
                machines[name] = Machine(name, left[name], ray.get(answer, timeout=_PATIENCE))
            except ray.exceptions.RayError:
                time.sleep(1.0)
    return list(machines.values())


def there(ray: Any, machine: str) -> dict[str, Any]:
    """Return options that put a task or an actor on a machine; where that is gone, it fails.

    Notes
    -----
    What asks for no core is put anywhere by Ray 2.60, where it may be put elsewhere at all (`soft`).
    """
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(machine, soft=False)
    return {"scheduling_strategy": strategy}


def stands(machines: Sequence[Machine], parts: int) -> list[Stand]:
    """Return where each part is to stand.

    Parameters
    ----------
    machines : sequence of Machine
        At least one.
    parts : int
    """
    chosen: dict[int, Machine] = {}
    most = -(-parts // len(machines))  # where more lie together already, they are not left so
    for part in sorted(range(parts), key=lambda one: -max(m.held.get(one, 0) for m in machines)):
        room = {m.name: m.cores / (1 + _count(chosen.values(), m)) for m in machines}
        vacant = [m for m in machines if _count(chosen.values(), m) < most]
        chosen[part] = max(vacant, key=lambda m: (m.held.get(part, 0), room[m.name]))
    threads = {m.name: max(1, m.cores // max(1, _count(chosen.values(), m))) for m in machines}
    return [Stand(chosen[part].name, threads[chosen[part].name]) for part in range(parts)]


def _working(ray: Any) -> dict[str, int]:
    """Return the machines that do work, and their cores; where none is said to, all."""
    alive = {one["NodeID"]: int(one["Resources"].get("CPU", 0)) for one in ray.nodes() if one["Alive"]}
    return {name: cores for name, cores in alive.items() if cores} or dict.fromkeys(alive, 1)


def _count(chosen: Iterable[Machine], machine: Machine) -> int:
    return sum(one is machine for one in chosen)
