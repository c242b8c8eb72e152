"""Transactions in sources: each print an item wherever the file lies, and nobody's name."""

import tarfile
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from enroll.image import GrayImage, read_image
from enroll.nist import Envelope, Missing, SentPrint, Transaction, build, encode
from enroll.nist.record import Record, text_record
from matcher.errors import PapilarError
from matcher.template import Finger, Impression
from papilar.archive.item import Item
from papilar.archive.sources import open_source
from papilar.errors import SourceInvalid
from papilar.store.values import MissingReason

SENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
NAME = "DOE, JOHN"


def envelope(reference: str = "2600000001") -> Envelope:
    return Envelope("CAR", "SLVPOLICE", "HNDPOLICE", reference, SENT, domain=("INT-I", "5.03"))


def waves(seed: int = 0) -> GrayImage:
    y, x = np.mgrid[:120, :100]
    return GrayImage(np.uint8(127.5 + 120 * np.sin(np.hypot(x - 30, y + 20 + seed) * 0.7)), 500.0, "")


def sent(position: int, impression: int = 1, **changes: Any) -> SentPrint:
    return SentPrint(position, impression, date(2026, 3, 4), **{"image": waves(position), **changes})


@cache
def card() -> Transaction:
    """Two rolled fingers, one not there, a slap with a finger bandaged and nothing to be found in it."""
    prints = [
        sent(2),
        sent(3),
        sent(7, image=None, missing=(Missing(7, "XX"),)),
        sent(13, 0, missing=(Missing(5, "UP"),)),
    ]
    return build(envelope(), prints, descriptive={3: "0503", 7: "SV/1", 18: NAME})


def others(*records: Record) -> bytes:
    return encode(card().with_records([*card().records, *records]))


def by_name(where: Path, **options: Any) -> dict[str, Item]:
    items = list(open_source(where, **options))
    assert len({item.name for item in items}) == len(items)
    return {item.name.partition("#")[2]: item for item in items}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "archive").mkdir()
    (tmp_path / "archive" / "case_2.dat").write_bytes(encode(card()))
    return tmp_path / "archive"


def test_each_print_of_a_transaction_is_an_item(folder: Path) -> None:
    found = by_name(folder)
    fingers = {name: item.finger for name, item in found.items()}
    labels = [record.label for record in card().records if record.type == 14]
    assert fingers == {
        labels[0]: Finger.RIGHT_INDEX,
        labels[1]: Finger.RIGHT_MIDDLE,
        labels[2]: Finger.LEFT_INDEX,
        **{f"{labels[3]}-{finger}": Finger(finger) for finger in (2, 3, 4, 5)},
    }
    assert len({item.encounter for item in found.values()}) == 1
    assert found[labels[0]].kind is Impression.LIVE_ROLLED
    assert found[labels[0]].ppi == 500
    image = read_image(found[labels[0]].read(), ppi=500)
    assert np.abs(image.pixels.astype(int) - waves(2).pixels).mean() < 8  # WSQ loses a little


def test_missing_fingers_are_said_to_be(folder: Path) -> None:
    missing = {item.finger: item.missing for item in by_name(folder).values() if item.missing}
    assert missing == {
        Finger.LEFT_INDEX: MissingReason.AMPUTATED,
        Finger.RIGHT_LITTLE: MissingReason.UNABLE_TO_PRINT,
    }


def test_the_subject_is_a_digest_of_the_reference_and_nobodys_name(folder: Path) -> None:
    (subject,) = {item.subject for item in by_name(folder).values()}
    assert subject.startswith("tcn-")
    assert "2600000001" not in subject
    assert not any(NAME in repr(item) for item in by_name(folder).values())


def test_without_a_reference_the_file_names_the_subject(folder: Path) -> None:
    header = card().header.with_field(9, "")
    (folder / "case_2.dat").write_bytes(encode(card().with_records([header, *card().records[1:]])))
    assert {item.encounter for item in by_name(folder).values()} == {("case", "2")}


def test_two_transactions_of_one_reference_are_not_one_person(folder: Path) -> None:
    other = build(envelope(), [sent(4)], descriptive={})
    (folder / "case_3.dat").write_bytes(encode(other))
    faults = [(item.name, item.fault.reason) for item in open_source(folder) if item.fault]
    assert faults == [("case_3.dat", "TRANSACTION_TWICE")]
    assert not [item for item in open_source(folder / "case_3.dat") if item.fault]  # begun anew


def test_a_manifest_says_whose_a_transaction_is(folder: Path) -> None:
    manifest = folder / "m.csv"
    manifest.write_text("path,person,impression,category\ncase_2.dat,P-1,7,ARREST\n")
    found = by_name(manifest)
    assert {(*item.encounter, item.category) for item in found.values()} == {("P-1", "7", "ARREST")}
    manifest.write_text("path,person,finger\ncase_2.dat,P-1,3\n")
    (item,) = open_source(manifest)
    assert item.fault is not None
    assert item.fault.reason == "FINGER_INVALID"


def test_a_transaction_is_known_by_its_bytes_in_a_tar_too(folder: Path, tmp_path: Path) -> None:
    (folder / "case_2.dat").rename(folder / "photo.jpg")
    with tarfile.open(tmp_path / "x.tar.gz", "w:gz") as packed:
        packed.add(folder, "cards")
    found = by_name(tmp_path / "x.tar.gz")
    assert len(found) == 7
    assert all(item.name.startswith("cards/photo.jpg#14.") for item in found.values())
    assert all(
        item.read()
        for item in found.values()
        if not item.missing and item.finger == Finger.RIGHT_INDEX and "-" not in item.name
    )


def test_a_slap_without_fingers_says_so_for_each(folder: Path) -> None:
    slap = [item for item in by_name(folder).values() if "-" in item.name and not item.missing]
    assert len(slap) == 3
    for item in slap:
        with pytest.raises(SourceInvalid) as caught:
            item.read()
        assert caught.value.reason in {"FINGER_NOT_FOUND", "SLAP_DOUBTFUL"}


def test_faces_and_palms_are_lines_with_a_reason(folder: Path) -> None:
    face = text_record(10, {2: "8", 3: "FACE", 999: b"\xff\xd8\xff"})
    palm = build(envelope(), [sent(25, 0)], descriptive={}).records[-1]
    (folder / "case_2.dat").write_bytes(others(face, replace(palm.with_field(2, "9"))))
    faults = {name: item.fault.reason for name, item in by_name(folder).items() if item.fault}
    assert faults == {"10.8": "NOT_A_FINGERPRINT", f"{palm.type}.9": "NOT_A_FINGERPRINT"}


def test_a_damaged_transaction_is_one_line_and_a_damaged_record_another(folder: Path) -> None:
    (folder / "z_1.dat").write_bytes(encode(card())[:-900])
    empty = text_record(14, {2: "9", 3: "1", 13: "4"})
    (folder / "case_2.dat").write_bytes(others(empty))
    faults = {item.name: item.fault.reason for item in open_source(folder) if item.fault}
    assert faults.keys() == {"case_2.dat#14.9", "z_1.dat"}
    assert faults["case_2.dat#14.9"] == "RECORD_IMAGE_MISSING"


def test_xml_is_refused_by_its_own_reason(folder: Path) -> None:
    text = b'<?xml version="1.0"?><itl:NISTBiometricInformationExchangePackage xmlns:itl="x">'
    (folder / "case_2.dat").write_bytes(text)
    (item,) = open_source(folder)
    assert item.fault is not None
    assert item.fault.reason == "TRANSACTION_XML_UNSUPPORTED"


def test_threads_read_one_transaction_together(folder: Path) -> None:
    items = [item for item in by_name(folder).values() if not item.missing and "-" not in item.name]
    read: dict[str, bytes] = {}

    def work(item: Item) -> None:
        read[item.name] = item.read()

    threads = [Thread(target=work, args=(item,)) for item in items]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {item.name: item.read() for item in items} == read


@pytest.mark.datasets
def test_reference_transactions_become_prints(datasets: Path) -> None:
    found = by_name(datasets / "formats" / "nist" / "type-4-slaps.an2")
    assert sorted(int(item.finger) for item in found.values()) == list(range(1, 11))
    for item in found.values():
        image = read_image(item.read(), ppi=item.ppi)
        assert min(image.pixels.shape) > 100
    palms = by_name(datasets / "formats" / "nist" / "type-15-palms.an2")
    assert {item.fault.reason for item in palms.values() if item.fault} == {"NOT_A_FINGERPRINT"}


@pytest.mark.datasets
def test_no_mutation_of_a_transaction_raises_but_our_own(datasets: Path, tmp_path: Path) -> None:
    original = (datasets / "formats" / "nist" / "type-9-10-14.an2").read_bytes()[:60_000]
    random = np.random.default_rng(5)
    for _ in range(100):
        data = bytearray(original)
        for at in random.integers(0, 2000, 4):
            data[at] = random.integers(0, 256)
        (tmp_path / "x.an2").write_bytes(data)
        try:
            for item in open_source(tmp_path / "x.an2"):
                _ = item.fault or item.read()
        except PapilarError:
            continue
