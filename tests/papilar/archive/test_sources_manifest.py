"""Manifests: every row is an item or says why not; two dates of birth are two people."""

import csv
import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from archives import Archive, Gallery, image
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matcher.errors import PapilarError
from matcher.template import Finger, Impression
from papilar.archive.item import Item
from papilar.archive.sources import open_source
from papilar.archive.sources.flaws import LIMITS
from papilar.errors import SourceInvalid
from papilar.store import MissingReason

HEADS = (
    "path",
    "person",
    "finger",
    "impression",
    "impression_type",
    "missing",
    "ppi",
    "category",
    "retention_date",
    "birth_date",
)
GOOD = {
    "path": "a/1.png",
    "person": "P-1",
    "finger": "1",
    "impression": "2",
    "ppi": "500",
    "category": "CONVICTED",
    "retention_date": "2031-12-31",
    "birth_date": "1980-02-29",
}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    for name in ("a/1.png", "a/2.png", "b.png", "José.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
        # An item's version has its file's time in nanoseconds, whose digits would hold a year now and then.
        os.utime(tmp_path / name, (0, 0))
    return tmp_path


def table(rows: Sequence[Mapping[str, str]], *, heads: Sequence[str] = HEADS, delimiter: str = ",") -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, heads, restval="", delimiter=delimiter, extrasaction="ignore")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def write(base: Path, content: str | bytes) -> Path:
    (base / "m.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    return base / "m.csv"


def items(base: Path, *rows: Mapping[str, str], **options: Any) -> list[Item]:
    return list(open_source(write(base, table(rows, **options))))


def fault(item: Item) -> tuple[str, str]:
    assert item.fault is not None
    return item.fault.reason, str(item.fault)


def test_a_row_says_all_of_a_print(base: Path) -> None:
    (item,) = items(base, GOOD)
    assert (item.name, item.subject, item.impression, item.finger) == (
        "a/1.png",
        "P-1",
        "2",
        Finger.RIGHT_THUMB,
    )
    assert (item.ppi, item.category, item.retention) == (500.0, "CONVICTED", date(2031, 12, 31))
    assert (item.read(), item.fault) == (b"a/1.png", None)
    assert item.version


def test_what_is_left_out_is_not_stated(base: Path) -> None:
    (item,) = items(base, GOOD, heads=("path", "person"))
    assert (item.impression, item.finger, item.ppi, item.category, item.retention) == ("1", 0, None, "", None)


@pytest.mark.parametrize("finger", ["right index", "RIGHT_INDEX", "Right-Index", "2", " 2 "])
def test_a_finger_is_a_code_or_a_name(base: Path, finger: str) -> None:
    (item,) = items(base, GOOD | {"finger": finger})
    assert item.finger is Finger.RIGHT_INDEX


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("delimiter", [",", ";"])
def test_marks_and_semicolons_of_spreadsheets_are_read(base: Path, encoding: str, delimiter: str) -> None:
    text = table([GOOD | {"path": "José.png"}], delimiter=delimiter).replace(
        "retention_date", "Retention Date"
    )
    (item,) = open_source(write(base, text.encode(encoding)))
    assert item.read() == "José.png".encode()


def test_paths_may_be_relative_to_another_folder(base: Path, tmp_path_factory: Any) -> None:
    elsewhere = write(tmp_path_factory.mktemp("m"), table([GOOD]))
    assert fault(next(iter(open_source(elsewhere))))[0] == "FILE_MISSING"
    (item,) = open_source(base, manifest=elsewhere)
    assert item.read() == b"a/1.png"


def parquet(base: Path, columns: Mapping[str, Any]) -> Path:
    pyarrow.parquet.write_table(pyarrow.table(dict(columns)), base / "m.parquet")
    return base / "m.parquet"


def test_parquet_says_the_same_in_its_own_types(base: Path) -> None:
    columns = {
        "path": ["a/1.png", "a/2.png", "b.png"],
        "person": ["P-1", "P-1", "P-2"],
        "finger": pyarrow.array([1, 2, None], pyarrow.int8()),
        "ppi": [500.0, 500.0, None],
        "retention_date": [date(2031, 12, 31), None, None],
        "birth_date": [datetime(1980, 2, 29), datetime(1980, 2, 29), None],
    }
    first, second, third = open_source(parquet(base, columns))
    assert (first.finger, first.ppi, first.retention) == (Finger.RIGHT_THUMB, 500.0, date(2031, 12, 31))
    assert (second.subject, second.finger, second.retention) == ("P-1", Finger.RIGHT_INDEX, None)
    assert (third.finger, third.ppi, third.read()) == (Finger.UNKNOWN, None, b"b.png")


def test_parquet_of_many_rows_is_read_in_batches(base: Path) -> None:
    columns = {"path": [f"{i}.png" for i in range(2500)], "person": [f"P{i}" for i in range(2500)]}
    told = [fault(item)[1].split(":")[0] for item in open_source(parquet(base, columns))]
    assert told == [f"row {i}" for i in range(1, 2501)]


# ---- the whole table


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("path,person,colour,sex\n", r"unknown: 'colour', 'sex'"),
        ("path,finger\n", r"missing: 'person'"),
        ("path,person,Path\n", r"given twice: 'path'"),
        ("", r"missing: 'path', 'person'"),
        ("path,person\na/1.png,Jos\xe9\n".encode("latin-1"), r"line 2 is not in UTF-8 \(byte 12 of it\)"),
        ("path,person\n".encode("utf-16"), r"line 1 is not in UTF-8"),
        ("path,person\n" + "x" * (LIMITS.row + 1), r"line 2 has more than 65536 bytes"),
        ('path,person\n"a"b,c\n', r"cannot be read"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(base: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(SourceInvalid, match=told) as caught:
        list(open_source(write(base, content)))
    assert caught.value.reason == "MANIFEST_INVALID"


def test_an_empty_table_is_an_empty_source(base: Path) -> None:
    with pytest.raises(SourceInvalid) as caught:
        open_source(write(base, "path,person\n"))
    assert caught.value.reason == "SOURCE_EMPTY"


# ---- rows


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"path": "gone.png"}, "FILE_MISSING"),
        ({"path": "../b.png"}, "ARCHIVE_PATH_UNSAFE"),
        ({"path": "/etc/passwd"}, "ARCHIVE_PATH_UNSAFE"),
        ({"path": ""}, "ROW_INVALID"),
        ({"path": "a"}, "FILE_UNREADABLE"),
        ({"person": " "}, "PERSON_UNKNOWN"),
        ({"finger": "11"}, "FINGER_INVALID"),
        ({"finger": "thumb"}, "FINGER_INVALID"),
        ({"impression_type": "sideways"}, "IMPRESSION_INVALID"),
        ({"impression_type": "27"}, "IMPRESSION_INVALID"),
        ({"impression_type": "rolled", "finger": "left slap"}, "IMPRESSION_INVALID"),
        ({"impression_type": "plain", "finger": "card"}, "IMPRESSION_INVALID"),
        ({"missing": "right ring"}, "MISSING_INVALID"),
        ({"missing": "amputated"}, "MISSING_INVALID"),
        ({"missing": "11 XX"}, "MISSING_INVALID"),
        ({"missing": "0 XX"}, "MISSING_INVALID"),
        ({"missing": "4 XX, 4 UP"}, "MISSING_INVALID"),
        ({"missing": "1 XX"}, "MISSING_INVALID"),
        ({"ppi": "high"}, "PPI_INVALID"),
        ({"ppi": "1e3"}, "PPI_INVALID"),
        ({"retention_date": "31.12.2031"}, "DATE_INVALID"),
        ({"retention_date": "2031-02-30"}, "DATE_INVALID"),
        ({"birth_date": "1980"}, "DATE_INVALID"),
    ],
)
def test_a_bad_row_is_a_line_that_names_it_and_no_other_suffers(
    base: Path, wrong: dict[str, str], reason: str
) -> None:
    first, bad, last = items(base, GOOD, GOOD | {"path": "a/2.png"} | wrong, GOOD | {"path": "b.png"})
    assert fault(bad)[0] == reason
    where = "row 3" if reason.startswith("FILE_") else f"row 3, column {next(iter(wrong))}"
    assert fault(bad)[1].startswith(f"{where}: ")
    assert (first.fault, last.fault) == (None, None)


def test_a_row_of_other_length_is_a_line(base: Path) -> None:
    _, bad = open_source(write(base, "path,person\na/1.png,P\na/2.png,P,x\n"))
    assert fault(bad) == ("ROW_INVALID", "row 3: 3 cells, the heading has 2; mend the row")


def test_a_person_with_two_dates_of_birth_is_a_conflict_that_tells_neither(base: Path) -> None:
    two = {"path": "a/2.png", "birth_date": "1981-03-30"}
    found = items(base, GOOD, GOOD | two, GOOD | {"path": "b.png", "person": "P-2"})
    assert [fault(item)[0] for item in found[:2]] == ["PERSON_CONFLICT"] * 2
    assert found[2].fault is None
    assert not any("198" in repr(item) + str(item.fault) for item in found)


def test_no_date_of_birth_is_told_of_any_row(base: Path) -> None:
    found = items(base, GOOD, GOOD | {"path": "a/2.png", "birth_date": "30/03/1981"})
    assert not any("1980" in repr(item) or "1981" in repr(item) + str(item.fault) for item in found)


def test_rows_of_an_encounter_that_are_apart_are_not_two_encounters(base: Path) -> None:
    rows = [GOOD, GOOD | {"path": "b.png", "person": "P-2"}, GOOD | {"path": "a/2.png", "finger": "2"}]
    found = items(base, *rows)
    assert [item.fault and item.fault.reason for item in found] == [None, None, "MANIFEST_ORDER"]


def test_a_file_has_one_row(base: Path) -> None:
    found = items(base, GOOD, GOOD | {"person": "P-2"})
    assert fault(found[1])[0] == "ARCHIVE_NAME_TWICE"
    assert len({item.name for item in found}) == 2


# ---- how prints were taken, and which are missing


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("", None),
        ("rolled", Impression.LIVE_ROLLED),
        ("Plain", Impression.LIVE_PLAIN),
        ("latent", Impression.LATENT_IMPRESSION),
        ("Nonlive-scan rolled", Impression.NONLIVE_ROLLED),
        ("non-live scan plain", Impression.NONLIVE_PLAIN),
        ("Livescan vertical swipe", Impression.LIVE_SWIPE),
        ("latent lift", Impression.LATENT_LIFT),
        ("LIVE_CONTACTLESS_PLAIN", Impression.LIVE_CONTACTLESS_PLAIN),
        ("3", Impression.NONLIVE_ROLLED),
        ("24", Impression.LIVE_CONTACTLESS_PLAIN),
    ],
)
def test_how_a_print_was_taken_is_said_in_the_words_of_the_standard(base: Path, said: str, kind: Any) -> None:
    (item,) = items(base, GOOD | {"impression_type": said})
    assert (item.kind, item.fault) == (kind, None)


RING, LITTLE = "right ring: amputated", "left_little bandaged"


@pytest.mark.parametrize("cell", [f"{RING}, {LITTLE}", f" {RING} ;{LITTLE};", f"{RING}|10 bandaged"])
def test_fingers_are_missing_beside_a_file(base: Path, cell: str) -> None:
    there, *absent = items(base, GOOD | {"missing": cell})
    assert (there.name, there.missing) == ("a/1.png", None)
    assert [(item.name, item.finger, item.missing) for item in absent] == [
        ("a/1.png#right_ring_amputated", Finger.RIGHT_RING, MissingReason.AMPUTATED),
        ("a/1.png#left_little_bandaged", Finger.LEFT_LITTLE, MissingReason.BANDAGED),
    ]
    assert {item.encounter for item in absent} == {there.encounter}


def test_fingers_are_missing_without_a_file(base: Path) -> None:
    found = items(base, GOOD, GOOD | {"path": "", "finger": "", "missing": "4 XX, 9 UP"})
    assert [item.name for item in found] == [
        "a/1.png",
        "P-1/2#right_ring_amputated",
        "P-1/2#left_ring_unable_to_print",
    ]
    assert len({item.encounter for item in found}) == 1


def test_what_every_row_of_a_person_repeats_is_one_line(base: Path) -> None:
    second = GOOD | {"path": "b.png", "finger": "2", "missing": RING}
    found = items(base, GOOD | {"missing": RING}, second)
    assert [item.name for item in found] == ["a/1.png", "a/1.png#right_ring_amputated", "b.png"]


@pytest.mark.parametrize("cell", ["4 bandaged", "1 amputated"])
def test_a_row_that_contradicts_an_earlier_one_is_a_line(base: Path, cell: str) -> None:
    second = GOOD | {"path": "b.png", "finger": "2", "missing": cell}
    *_, bad = items(base, GOOD | {"missing": "4 amputated"}, second)
    assert fault(bad)[0] == "MISSING_INVALID"
    assert fault(bad)[1].startswith("row 3, column missing: ")


def test_a_finger_missing_from_a_slap_is_not_looked_for(base: Path) -> None:
    found = items(
        base, GOOD | {"finger": "right slap", "missing": "4 XX", "impression_type": "nonlive plain"}
    )
    assert {item.finger: item.missing for item in found} == {
        Finger.RIGHT_INDEX: None,
        Finger.RIGHT_MIDDLE: None,
        Finger.RIGHT_LITTLE: None,
        Finger.RIGHT_RING: MissingReason.AMPUTATED,
    }
    assert {item.kind for item in found if not item.missing} == {Impression.NONLIVE_PLAIN}


def test_a_missing_finger_is_told_once_of_an_encounter_however_often_it_is_said(base: Path) -> None:
    """As a rolled record and a slap of one transaction both say it; and not where there is a print of it."""
    (base / "a/1.png").write_bytes(image())
    one, absent = items(base, GOOD | {"missing": RING})
    again = replace(absent, name="again")
    printed = replace(absent, name="printed", finger=Finger.RIGHT_THUMB)
    gallery = Gallery()
    lines = Archive(base / "journal").lines([one, absent, again, printed], gallery)
    assert [str(line.result) for line in lines.values()] == ["ENROLLED", "MISSING", "MISSING", "MISSING"]
    assert [new.missing for new, _ in gallery.asked] == [((Finger.RIGHT_RING, MissingReason.AMPUTATED),)]


def test_a_row_that_is_given_to_another_person_is_not_already_in(base: Path) -> None:
    """Found out who is who, and the same command again: the print is that person's now, and of both noted."""
    (base / "a/1.png").write_bytes(image())
    gallery, archive = Gallery(), Archive(base / "journal")
    for person, told in (("P-1", ()), ("P-1", ()), ("P-2", ("SAME_CONTENT",))):
        (line,) = archive.lines(items(base, GOOD | {"person": person}), gallery).values()
        assert tuple(said.partition(":")[0] for said in line.warnings) == told
    assert [new.subject_id for new, _ in gallery.asked] == ["P-1", "P-2"]


# ---- any table


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=200), st.text(max_size=80).map(lambda text: ("path,person\n" + text).encode())
    )
)
def test_any_bytes_are_items_or_our_own_error(base: Path, content: bytes) -> None:
    try:
        names = [item.name for item in open_source(write(base, content))]
    except PapilarError:
        return
    assert len(set(names)) == len(names)


CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), max_size=12)


@settings(max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.fixed_dictionaries(dict.fromkeys(HEADS, CELLS)), min_size=1, max_size=5))
def test_any_cells_are_one_item_a_row(base: Path, rows: list[dict[str, str]]) -> None:
    found = items(base, *rows)
    assert len(found) == len(rows)
    assert all(item.fault is None or item.fault.reason for item in found)
