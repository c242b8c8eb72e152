"""What was deleted from the gallery leaves no name in the journal, and no run brings it back."""

from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from alembic.operations import Operations
from alembic.runtime.migration import MigrationContext
from archives import Archive, enroller, record, results
from sqlalchemy import create_engine, text
from stores import FILE, an_encounter, everything_on_disk

from matcher.template import Finger
from papilar.archive.item import Item, Line, Result
from papilar.archive.quarantine import Quarantine
from papilar.node import Node
from papilar.requests import PrintInput
from papilar.store import MissingReason, Store, migrations
from papilar.store.journal import JournalRow, JournalStore

SOURCE = b"s" * 32
ERASED, PERSON = "FAILED ENCOUNTER_ERASED", "FAILED PERSON_ERASED"

# ---- the rows, on both data bases


@pytest.fixture
def journal(store: Store, target: Path | str) -> Iterator[JournalStore]:
    opened = JournalStore.open(target)
    yield opened
    opened.close()


def digest(text: str) -> bytes:
    return sha256(text.encode()).digest()


def row(name: str, subject: str, encounter: str = "", **more: object) -> JournalRow:
    """A row of a file whose content is its name's."""
    result = "ENROLLED" if encounter else "FAILED"
    made = JournalRow(
        name, subject, "1", "o", digest(name), result, encounter, erasure_key=digest(f"E {name}")
    )
    return made._replace(**more)


def names_left(journal: JournalStore, *names: str) -> set[str]:
    return {kept.row.name for kept in journal.known(SOURCE, [digest(name) for name in names])}


def write(journal: JournalStore, *rows: JournalRow) -> None:
    journal.write(SOURCE, {digest(one.name): one for one in rows})


def test_a_deletion_takes_the_rows_of_the_encounter_and_of_copies_of_its_files(
    store: Store, journal: JournalStore
) -> None:
    gone, stays, other = an_encounter("ana"), an_encounter("ana"), an_encounter("eva")
    for one in (gone, stays, other):
        store.enroll(one)
    write(
        journal,
        row("a", "ana", gone.encounter_id),
        row("copy", "ana", sha256=digest("a"), result="COPY"),
        row("missing", "ana", gone.encounter_id, sha256=None, erasure_key=None),
        row("b", "ana", stays.encounter_id),
        row("failed", "ana"),
        row("c", "eva", other.encounter_id, sha256=digest("a")),
    )
    store.delete(gone.encounter_id)
    assert names_left(journal, "a", "copy", "missing", "b", "failed", "c") == {"b", "failed", "c"}
    assert [name for name in "abc" if journal.erased(digest(f"E {name}"))] == ["a"]
    assert journal.erased(digest("E copy"))
    store.delete(stays.encounter_id)
    assert names_left(journal, "b", "failed", "c") == {"c"}
    assert journal.erased(digest("E failed"))
    assert not journal.erased(digest("E c"))


def test_nothing_on_the_disk_names_the_person(file_store: Store, folder: Path) -> None:
    gone = an_encounter("ana-to-forget")
    file_store.enroll(gone)
    journal = JournalStore.open(folder)
    write(
        journal,
        row("ana/1_1.png", "ana-to-forget", gone.encounter_id),
        row("ana/2_1.png", "ana-to-forget", message="of ana alone"),
    )
    traces = [b"ana/", b"ana-to-forget", digest("ana/1_1.png"), digest("ana/2_1.png"), b"of ana alone"]
    assert all(trace in everything_on_disk(folder) for trace in traces)
    file_store.delete(gone.encounter_id)
    journal.close()
    file_store.close()
    assert [trace for trace in traces if trace in everything_on_disk(folder)] == []


def test_a_deletion_that_fails_leaves_the_rows(
    store: Store, journal: JournalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = an_encounter("ana")
    store.enroll(one)
    write(journal, row("a", "ana", one.encounter_id))

    def fails(*_: object) -> bool:
        raise RuntimeError

    monkeypatch.setattr("papilar.store.rows._drop_if_last", fails)
    with pytest.raises(RuntimeError):
        store.delete(one.encounter_id)
    assert names_left(journal, "a") == {"a"}
    assert not journal.erased(digest("E a"))


def test_what_is_written_as_erased_goes(store: Store, journal: JournalStore) -> None:
    write(journal, row("a", "ana"), row("b", "ana"))
    journal.write(SOURCE, {}, {digest("a"): digest("key"), digest("b"): None, digest("c"): digest("key")})
    journal.write(SOURCE, {}, {digest("a"): digest("key")})
    assert names_left(journal, "a", "b") == set()
    assert journal.erased(digest("key"))


def test_a_journal_of_before_loses_what_was_deleted_then(tmp_path: Path) -> None:
    engine = create_engine(f"sqlite:///{tmp_path / FILE}")
    columns = "source, name_key, name, subject_id, version, options, result, encounter_id, reason, message"
    with engine.begin() as connection:
        scripts, context = migrations._scripts(), MigrationContext.configure(connection)
        for step in reversed(list(scripts.iterate_revisions("0009", "base"))):
            step.module.upgrade(Operations(context))
            context.stamp(scripts, step.revision)
        connection.execute(text("INSERT INTO meta VALUES ('name', 'g'), ('schema_version', '9')"))
        connection.execute(text("INSERT INTO subject VALUES ('eva', 0)"))
        connection.execute(text("INSERT INTO encounter VALUES ('there', 'eva', 0, NULL)"))
        before = [("a", "ENROLLED", "gone"), ("b", "ENROLLED", "there"), ("c", "DUPLICATE", "")]
        for name, result, encounter in before:
            values = (SOURCE, digest(name), name, "ana", "", "", result, encounter, "", "like eva", "[]")
            connection.exec_driver_sql(
                f"INSERT INTO archive_item ({columns}, warnings) VALUES ({', '.join('?' * 11)})",  # noqa: S608
                values,
            )
        migrations.upgrade(connection, 9)
    engine.dispose()
    journal = JournalStore.open(tmp_path)
    kept = journal.known(SOURCE, [digest(name) for name in "abc"])
    assert {(one.row.name, one.row.message) for one in kept} == {("b", "like eva"), ("c", "")}
    journal.close()


# ---- the runs


def of_ana(*names: str, **more: object) -> list[Item]:
    """Files of ana; a name is a finger, an underscore, an impression."""
    return [
        Item(
            name,
            "ana",
            name.split("_")[1],
            Finger(int(name[0])),
            lambda name=name: record(ord(name[0]) + 50 * ord(name[2])),
            version="1",
            record=True,
            **more,  # type: ignore[arg-type]
        )
        for name in names
    ]


def unreadable(*names: str) -> list[Item]:
    def fails() -> bytes:
        raise OSError(5, "Input/output error")

    return [replace(one, read=fails, version="0") for one in of_ana(*names)]


def unread(given: PrintInput) -> tuple[PrintInput, tuple[str, ...]]:
    return given, ()


class Place:
    """A gallery, and runs into it."""

    def __init__(self, node: Node, target: Path | str) -> None:
        self.node = node
        self._archive = Archive(target, in_gallery=True)

    def lines(self, items: list[Item], **more: object) -> dict[str, Line]:
        return self._archive.lines(items, enroller(self.node), prepare=unread, **more)

    def said(self, items: list[Item], **more: object) -> dict[str, str]:
        return results(self.lines(items, **more))

    def close(self) -> None:
        self._archive.store.close()


@pytest.fixture
def place(tmp_path: Path, target: Path | str) -> Iterator[Place]:
    """A gallery, once on each data base."""
    store = target if isinstance(target, str) else ""
    with Node(tmp_path / "g", store=store, create=True, keep_images=False) as node:
        made = Place(node, store or tmp_path / "g")
        yield made
        made.close()


def test_a_resumed_run_does_not_bring_an_encounter_back(place: Place) -> None:
    first = place.lines([*of_ana("1_1", "2_1"), *unreadable("3_1")])
    assert results(first) == {"1_1": "ENROLLED", "2_1": "ENROLLED", "3_1": "FAILED FILE_UNREADABLE"}
    place.node.delete(first["1_1"].encounter_id)
    mended = of_ana("1_1", "2_1", "3_1")
    for source in ("a", "a", "another path"):
        assert place.said(mended, source=source) == dict.fromkeys(("1_1", "2_1", "3_1"), ERASED)
    assert place.node.describe().prints == 0
    some = [*of_ana("1_1"), *unreadable("2_1")]
    assert place.said(some, source="b") == {"1_1": ERASED, "2_1": ERASED}


def test_nor_its_person_by_what_the_run_had_not_reached(place: Place) -> None:
    first = place.lines(of_ana("1_1", "2_1"))
    place.node.delete(first["1_1"].encounter_id)
    whole = of_ana("1_1", "2_1", "1_2", "2_2")
    for _ in range(2):
        assert place.said(whole) == {"1_1": ERASED, "2_1": ERASED, "1_2": PERSON, "2_2": PERSON}
    assert place.said(of_ana("1_2", "2_2")) == {"1_2": "ENROLLED", "2_2": "ENROLLED"}
    assert place.said(whole) == {"1_1": ERASED, "2_1": ERASED, "1_2": "ALREADY", "2_2": "ALREADY"}


def test_of_a_person_who_is_there_the_other_encounters_go_in(place: Place) -> None:
    first = place.lines(of_ana("1_1", "1_2"))
    place.node.delete(first["1_1"].encounter_id)
    assert place.said(of_ana("1_1", "1_2", "1_3")) == {"1_1": ERASED, "1_2": "ALREADY", "1_3": "ENROLLED"}


def test_another_impression_number_brings_it_back(place: Place) -> None:
    first = place.lines(of_ana("1_1", "2_1"))
    place.node.delete(first["1_1"].encounter_id)
    again = [replace(one, impression="2") for one in of_ana("1_1", "2_1")]
    assert place.said(again) == {"1_1": "ENROLLED", "2_1": "ENROLLED"}
    assert place.said(again) == {"1_1": "ALREADY", "2_1": "ALREADY"}


def test_so_does_another_person_of_whom_the_files_really_are(place: Place) -> None:
    first = place.lines(of_ana("1_1"))
    place.node.delete(first["1_1"].encounter_id)
    assert place.said([replace(one, subject="eva") for one in of_ana("1_1")]) == {"1_1": "ENROLLED"}


def test_a_copy_of_what_was_deleted_is_none(place: Place) -> None:
    (one,) = of_ana("1_1")
    copy = replace(one, name="1_2", impression="2")
    first = place.lines([one, copy, *of_ana("1_3")])
    assert first["1_2"].result is Result.COPY
    place.node.delete(first["1_1"].encounter_id)
    assert place.said([one, copy, *of_ana("1_3")]) == {"1_1": ERASED, "1_2": ERASED, "1_3": "ALREADY"}


def test_the_missing_fingers_of_what_was_deleted_are_not_noted_again(place: Place) -> None:
    given = [*of_ana("1_1"), *of_ana("2_1", missing=MissingReason.AMPUTATED)]
    first = place.lines(given)
    assert first["2_1"].result is Result.MISSING
    place.node.delete(first["1_1"].encounter_id)
    assert place.said(given) == {"1_1": ERASED, "2_1": ERASED}


def test_what_was_deleted_under_a_survivor_is_known_by_the_archives_name(place: Place) -> None:
    first = place.lines([*of_ana("1_1"), *(replace(one, subject="eva") for one in of_ana("2_1"))])
    place.node.duplicates.merge("eva", "ana", by="e7", note="SAME_CARD")
    assert place.said(of_ana("1_1")) == {"1_1": "ALREADY"}
    place.node.delete(first["1_1"].encounter_id)
    assert place.said(of_ana("1_1", "1_2")) == {"1_1": ERASED, "1_2": PERSON}


def test_no_run_keeps_in_its_journal_or_quarantine_whom_it_was_not_to_bring_back(
    place: Place, target: Path | str, tmp_path: Path
) -> None:
    first = place.lines(of_ana("1_1"))
    place.node.delete(first["1_1"].encounter_id)
    aside = Quarantine(tmp_path / "q")
    place.said([*of_ana("1_1"), *unreadable("2_1"), *of_ana("1_2")], quarantine=aside)
    keys = [sha256(name.encode()).digest() for name in ("1_1", "2_1", "1_2")]
    assert place._archive.store.known(sha256(b"a").digest(), keys) == []
    assert list((tmp_path / "q").iterdir()) == []


def test_an_encounter_that_is_deleted_before_the_journal_has_it(place: Place) -> None:
    """The row is written after the deletion, and goes with the next run."""
    first = place.lines(of_ana("1_1"))
    journal, source, key = place._archive.store, sha256(b"a").digest(), sha256(b"1_1").digest()
    (kept,) = journal.known(source, [key])
    place.node.delete(first["1_1"].encounter_id)
    journal.write(source, {key: kept.row})
    assert place.said(of_ana("1_1")) == {"1_1": ERASED}
    assert journal.known(source, [key]) == []
