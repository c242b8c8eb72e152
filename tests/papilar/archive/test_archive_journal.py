"""The rows of the journal, on both data bases: what is written is read again, of its source and content."""

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from stores import a_print, an_encounter

from papilar.store import Store
from papilar.store.journal import JournalRow, JournalStore, Kept

HERE, THERE = b"h" * 32, b"t" * 32


@pytest.fixture
def journal(target: Path | str) -> Iterator[JournalStore]:
    store = JournalStore.open(target, create=True)
    yield store
    store.close()


def key(number: int) -> bytes:
    return sha256(b"%d" % number).digest()


def row(subject: str = "ana", content: bytes | None = HERE, **more: object) -> JournalRow:
    made = JournalRow("José/1_1.png", subject, "9-1", "ppi=None", content, "ENROLLED", "encounter", 70, 40)
    return made._replace(**more)


def test_rows_of_a_source_are_known_by_their_keys(journal: JournalStore) -> None:
    rows = {key(n): row(quality=None if n % 2 else n % 100) for n in range(1200)}
    journal.write(HERE, rows)
    journal.write(THERE, {key(1): row("eva")})
    found = journal.known(HERE, [*rows, key(5000)])
    assert {one.key: one.row for one in found} == rows
    assert [one.row.subject_id for one in journal.known(THERE, rows)] == ["eva"]
    assert journal.known(HERE, []) == []


def test_a_row_takes_the_place_of_the_one_before(journal: JournalStore) -> None:
    journal.write(HERE, {key(1): row(), key(2): row()})
    failed = row(result="FAILED", reason="IMAGE_EMPTY", message="no bytes", encounter_id="")
    failed = failed._replace(sha256=None, minutiae=None)
    journal.write(HERE, {key(1): failed})
    found = {one.key: one.row for one in journal.known(HERE, [key(1), key(2)])}
    assert found == {key(1): failed, key(2): row()}
    journal.write(HERE, {})


def test_content_is_found_by_person_and_beside_them(journal: JournalStore) -> None:
    journal.write(HERE, {key(1): row("ana"), key(2): row("eva"), key(3): row("ana", b"o" * 32)})
    journal.write(THERE, {key(4): row("ana")})
    assert {one.key for one in journal.same_content(HERE, "ana")} == {key(1), key(4)}
    assert {one.key for one in journal.elsewhere(HERE, "ana")} == {key(2)}
    assert journal.elsewhere(b"o" * 32, "ana") == journal.same_content(b"x" * 32, "ana") == []


def test_an_encounter_that_is_not_in_the_data_base_is_told(journal: JournalStore) -> None:
    journal.write(HERE, {key(1): row(), key(2): row(encounter_id="")})
    found = {one.key: one for one in journal.known(HERE, [key(1), key(2)])}
    assert found == {key(1): Kept(key(1), row(), True), key(2): Kept(key(2), row(encounter_id=""), False)}


def test_an_image_of_the_gallery_is_found_by_its_person_and_content(store: Store, target: Path | str) -> None:
    enrolled = an_encounter("ana", (a_print(image=b"an image"), a_print(template=b"of no image")))
    store.enroll(enrolled)
    journal, content = JournalStore.open(target), sha256(b"an image").digest()
    found = journal.enrolled("ana", content)
    assert found is not None
    assert (found.result, found.encounter_id) == ("ENROLLED", enrolled.encounter_id)
    assert (found.quality, found.minutiae, found.sha256) == (77, 40, content)
    assert journal.enrolled("eva", content) is journal.enrolled("ana", HERE) is None
    journal.close()
