"""A gallery in parts gives what one gives: parts in this process, so that many divisions can be tried."""

import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from minutiae import finger, mate
from nodes import record

from matcher import cascade
from matcher.calibration import shipped
from matcher.codecs import decode
from matcher.cylinders import prepare
from matcher.gallery import Gallery
from matcher.search import LocalSearcher, ProbePrint
from matcher.template import Finger, Impression, Template
from papilar.cluster.gallery import ClusterGallery
from papilar.cluster.keeper import Register
from papilar.cluster.part import Part, packed
from papilar.directory import Directory
from papilar.errors import DeadlinePassed, NodeError
from papilar.store import NewEncounter, NewPrint, Store, StoredPrint

PERSONS, FINGERS = 12, (1, 2, 7, 8)


class Here:
    """Keeps a part in this process, which can be lost."""

    def __init__(self, part: Part, number: int) -> None:
        self.part, self.name = part, f"part {number}"
        self.lost, self.lost_after, self.late = False, "", False

    @property
    def actor(self) -> Any:
        return None if self.lost else self.part

    @property
    def standing(self) -> tuple[Any, str]:
        return (None, f"{self.name}: lost and being restored") if self.lost else (self.part, "")

    def wait(self) -> None:
        pass

    def send(self, actor: Part | None, *question: object) -> bytes | None:
        self.lost |= bool(self.lost_after) and question[0] == self.lost_after
        return None if self.lost or actor is None else actor.answer(packed(question))

    def hear(self, asked: bytes | None, *, deadline: float | None = None) -> Any:
        if self.late and deadline is not None:
            raise DeadlinePassed("late", remedy="wait")
        if asked is None:
            raise NodeError("lost", remedy="wait")
        return pickle.loads(asked)  # noqa: S301

    def change(self, asked: bytes | None) -> Any:
        return None if asked is None else self.hear(asked)

    def close(self, *, erase: bool = False) -> None:
        self.part._lock.release()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """Persons of four fingers; of every third the positions are not known."""
    with Store.open(tmp_path_factory.mktemp("store") / "g", create=True, facts={"extractor": "x"}) as store:
        for person in range(PERSONS):
            store.enroll(encounter(person))
        yield store


def encounter(person: int) -> NewEncounter:
    codes = [Finger.UNKNOWN if person % 3 == 2 else Finger(code) for code in FINGERS]
    prints = [record(10 * person + k, code) for k, code in zip(FINGERS, codes, strict=True)]
    made = (
        NewPrint(code, Impression.LIVE_PLAIN, template, 36, 80, None)
        for code, template in zip(codes, prints, strict=True)
    )
    return NewEncounter(f"person {person}", f"00000000-0000-4000-8000-{person:012}", tuple(made))


@pytest.fixture
def one(store: Store, tmp_path: Path) -> Gallery:
    made = Gallery(tmp_path / "one", np.zeros(0, np.int64))
    for stored in store.templates():
        made.add(stored.row, prepare(decode(stored.template)[0]), stored.place)
    return made


@pytest.fixture
def divided(store: Store, tmp_path: Path) -> Iterator[Callable[[int], ClusterGallery]]:
    made = []

    def divide(parts: int) -> ClusterGallery:
        register, keepers = Register(store, parts), []
        for number in range(parts):
            part = Part(tmp_path / f"{number}-of-{parts}", 2)
            assert part.open(register.rows_of(number)).tolist() == []
            part.load(list(register.read(register.rows_of(number).tolist())))
            keepers.append(Here(part, number + 1))
        made.append(ClusterGallery(register, keepers))  # type: ignore[arg-type]
        return made[-1]

    yield divide
    for gallery in made:
        gallery.close()


def positions(prints: Iterable[StoredPrint]) -> Counter[Finger]:
    return Counter(one.finger for one in prints)


def probe_of(person: int, *fingers: int, known: bool = True, latent: bool = False) -> list[ProbePrint]:
    """Another impression of some fingers of a person."""
    made = []
    for k in fingers:
        template = mate(finger(10 * person + k, 36), 1, turn=0.3, shift=(12, -20)).template
        impression = Impression.LATENT_IMPRESSION if latent else Impression.LIVE_PLAIN
        code = Finger(k) if known else Finger.UNKNOWN
        made.append(ProbePrint(code, prepare(template), _with(template, impression)))
    return made


def _with(template: Template, impression: Impression) -> Template:
    return Template.of(
        template.xy,
        template.angle,
        template.kind,
        template.quality,
        size=template.size,
        impression=impression,
    )


PROBES = [
    probe_of(4, 2),
    probe_of(4, 2, known=False),
    probe_of(5, 7, latent=True),
    probe_of(6, 1, 8),
    probe_of(7, *FINGERS),
    probe_of(8, *FINGERS),
    probe_of(9, *FINGERS, known=False),
    probe_of(900, 1, 2),
]


@pytest.mark.parametrize(
    ("kept", "shortlist", "divisions"), [(10_000, 200, [2]), (10_000, 16, [3]), (24, 8, [1, 2, 5])]
)
def test_the_same_is_found(
    one: Gallery,
    divided: Callable[[int], ClusterGallery],
    store: Store,
    kept: int,
    shortlist: int,
    divisions: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whether all prints are compared, all are looked at thoroughly, or few remain after a quick look."""
    monkeypatch.setattr(cascade, "LEAST_KEPT", kept)
    parted = [divided(parts) for parts in divisions]
    whole, *some = (
        LocalSearcher(gallery, Directory(store), shortlist=shortlist, workers=2) for gallery in (one, *parted)
    )
    wanted = [whole.search(probe, limit=10) for probe in PROBES]
    for gallery in parted:
        assert gallery.positions == one.positions == positions(store.templates())
    for searcher in some:
        assert [searcher.search(probe, limit=10) for probe in PROBES] == wanted
    assert {(found.complete, found.searched) for found in wanted} == {(True, PERSONS * len(FINGERS))}
    assert [found.candidates[0].subject for found in wanted[:-1]] == [
        f"person {person}" for person in (4, 4, 5, 6, 7, 8, 9)
    ]


def part_with(gallery: ClusterGallery, person: int) -> int:
    return gallery._register.division.find(len(FINGERS) * person + 1) or 0


def test_a_part_that_is_lost_is_named_and_the_others_found(
    divided: Callable[[int], ClusterGallery], store: Store
) -> None:
    gallery = divided(3)
    searcher = LocalSearcher(gallery, Directory(store), shortlist=20, workers=2)
    before = {person: searcher.search(probe_of(person, 1, 2), limit=1) for person in range(4)}
    gone = part_with(gallery, 0)
    keeper: Any = gallery._keepers[gone]
    keeper.lost = True
    here = len(gallery) - len(gallery._register.rows_of(gone))
    for person, wanted in before.items():
        found = searcher.search(probe_of(person, 1, 2), limit=1)
        assert (found.complete, found.searched) == (False, here)
        assert found.failures == (f"part {gone + 1}: lost and being restored",)
        if part_with(gallery, person) != gone:
            assert found.candidates == wanted.candidates
        else:
            assert [c.subject for c in found.candidates] != [f"person {person}"]
    missing = set(gallery._register.rows_of(gone).tolist())
    told = positions(one for one in store.templates() if one.row not in missing)
    assert gallery.positions == told + Counter({Finger.UNKNOWN: len(missing)})
    assert len(gallery) == PERSONS * len(FINGERS), "the threshold is that of the whole gallery"


@pytest.mark.parametrize("method", ["look", "best"])
def test_a_part_that_is_lost_during_a_search(
    divided: Callable[[int], ClusterGallery], store: Store, method: str
) -> None:
    gallery = divided(3)
    searcher = LocalSearcher(gallery, Directory(store), shortlist=20, workers=2)
    person = next(p for p in range(9) if part_with(gallery, p) != part_with(gallery, 0))
    wanted = searcher.search(probe_of(person, 1, 2), limit=1)
    gone: Any = gallery._keepers[part_with(gallery, 0)]
    gone.lost_after = method
    found = searcher.search(probe_of(person, 1, 2), limit=1)
    assert found.candidates == wanted.candidates
    assert found.failures == (f"{gone.name}: lost during the search",)


def test_a_part_that_is_lost_when_rows_were_found_loses_none(
    divided: Callable[[int], ClusterGallery], store: Store
) -> None:
    """Its rows are known by then: they are compared with what the store has."""
    gallery = divided(3)
    searcher = LocalSearcher(gallery, Directory(store), shortlist=20, workers=2)
    wanted = searcher.search(probe_of(0, 1, 2), limit=5)
    gone: Any = gallery._keepers[part_with(gallery, 0)]
    gone.lost_after = "scores"
    assert searcher.search(probe_of(0, 1, 2), limit=5) == wanted
    assert gone.lost


def test_a_part_that_is_late_has_half_of_the_time(
    divided: Callable[[int], ClusterGallery], store: Store
) -> None:
    gallery = divided(3)
    searcher = LocalSearcher(gallery, Directory(store), shortlist=20, workers=2)
    late: Any = gallery._keepers[part_with(gallery, 0)]
    late.late = True
    assert searcher.search(probe_of(0, 1, 2), limit=1).complete, "nobody waits for it"
    found = searcher.search(probe_of(0, 1, 2), limit=1, deadline=1e12)
    assert found.failures == (f"{late.name}: no answer in time",)
    assert gallery.positions.total() == len(gallery)
    assert gallery.positions[Finger.UNKNOWN] > positions(store.templates())[Finger.UNKNOWN]


def test_a_row_that_was_hidden_is_not_in_the_store_either(
    divided: Callable[[int], ClusterGallery], store: Store
) -> None:
    gallery = divided(2)
    gallery.hide([1, 2, 999])
    assert gallery.prepared(1) is None
    assert 1 not in gallery
    assert 3 in gallery
    assert gallery.missing(store.live_rows()) == [1, 2]
    scores = gallery.scores([probe_of(0, 1)[0].prepared], [(0, 1), (0, 3)], shipped())
    assert scores[0] == -np.inf
    assert np.isfinite(scores[1])


def test_a_row_read_before_it_was_deleted_and_loaded_after_is_not_found(store: Store, tmp_path: Path) -> None:
    """A part is given what the store had; whoever deletes it then tells the part, perhaps first."""
    part = Part(tmp_path / "1-of-1", 1)
    part.open(np.zeros(0, np.int64))
    stored = list(Register(store, 1).read([1, 2, 3]))
    part.load(stored[:1])
    part.hide([1, 2])
    part.load(stored)
    assert part.rows().tolist() == [3]
    assert part.seal() == (False, 0)
    part._lock.release()
    again = Part(tmp_path / "1-of-1", 1)
    assert again.open(np.array([2, 3])).tolist() == [3]
    again._lock.release()


def test_prints_that_are_gone_from_the_division_are_not_read(store: Store) -> None:
    register = Register(store, 3)
    register.division.drop([2])
    assert [(one.row, one.place.encounter) for one in register.read([1, 2, 3, 5])] == [(1, 1), (3, 1), (5, 5)]
    assert len(Register(store, 3, generation=7).division) == 0


def test_all_parts_are_lost(divided: Callable[[int], ClusterGallery], store: Store) -> None:
    gallery = divided(2)
    searcher = LocalSearcher(gallery, Directory(store), shortlist=20, workers=2)
    for keeper in gallery._keepers:
        keeper.lost = True  # type: ignore[attr-defined]
    for probe in PROBES:
        found = searcher.search(probe, limit=1)
        assert (found.candidates, found.searched, len(found.failures)) == ((), 0, 2)
