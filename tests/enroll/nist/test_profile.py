"""Profiles: what the standard's own examples keep to, and every fault named by record and field."""

from dataclasses import replace
from pathlib import Path

import made
import pytest

from enroll.errors import ProfileUnknown
from enroll.nist import Fault, Transaction, build, check, decode, load_profile, profile_names
from enroll.nist.rules import RULES
from enroll.nist.wsq_file import encode_wsq

STANDARD = load_profile("ansi-nist")

ARREST = {
    5: "Y",
    18: "NOBODY, ANN",
    20: "XX",
    22: "19700101",
    24: "F",
    25: "U",
    27: "510",
    29: "100",
    31: "BRO",
    32: "BLK",
    45: "20260304",
    47: "20260304\x1fTRESPASS",
    73: "SLVPOLICE",
}


def faults(transaction: Transaction, name: str = "ansi-nist") -> set[tuple[str, str, str]]:
    return {(fault.record, fault.field, fault.text) for fault in check(transaction, load_profile(name))}


def changed(record: int, field: int, value: str | None) -> Transaction:
    card = made.card()
    old = card.records[record]
    return card.replaced(old, old.without_field(field) if value is None else old.with_field(field, value))


# ---- what keeps to it


@pytest.mark.datasets
def test_the_reference_transactions_keep_to_the_standard(datasets: Path) -> None:
    """All but two: one states a version that there is not, one a resolution that its image denies."""
    formats = datasets / "formats"
    found = {}
    for file in sorted([*formats.glob("nist/*.an2"), *formats.glob("ebts/*.ebts")]):
        found[file.name] = faults(decode(file.read_bytes()))
    assert {name: told for name, told in found.items() if told} == {
        "rec01_rec02_rec16.nst.an2": {
            ("1", "1.002 VER", "has 1 characters, 4 wanted"),
            ("1", "1.002 VER", "is none of 0200, 0201, 0300, 0400, 0500, 0501, 0502"),
        },
        "NISTFile2.ebts": {("14.2", "14.009 THPS", "the record states 500 ppi, the image 99")},
    }


@pytest.mark.datasets
def test_an_arrest_of_the_fbis_keeps_to_ebts(datasets: Path) -> None:
    assert faults(decode((datasets / "formats" / "ebts" / "NISTFile.ebts").read_bytes()), "ebts") == set()


def test_what_is_built_keeps_to_the_profile_it_is_built_for() -> None:
    arrest = build(made.ENVELOPE, [made.sent()], descriptive=ARREST)
    assert faults(arrest, "ebts") == set()
    exchange = build(
        replace(made.ENVELOPE, control="2600000001A", kind="CPS", priority=1),
        [made.sent()],
        descriptive={3: "0503", 7: "SV/1"},
    )
    assert faults(exchange, "int-i") == set()


# ---- fields

FIELDS = {
    (2, 3, None): ("14.1", "14.003 IMP", "mandatory, and missing"),
    (2, 3, ""): ("14.1", "14.003 IMP", "is empty"),
    (2, 3, "10\x1e11"): ("14.1", "14.003 IMP", "2 subfields, 1 wanted"),
    (2, 3, "0\x1f1"): ("14.1", "14.003 IMP", "2 items, 1 wanted"),
    (2, 3, "x"): ("14.1", "14.003 IMP", "is not digits"),
    (2, 3, "040"): ("14.1", "14.003 IMP", "has 3 characters, 1 to 2 wanted"),
    (2, 3, "9"): ("14.1", "14.003 IMP", "is not 0 to 3, 8, 20 to 29, 41 to 42"),
    (2, 5, "20260230"): ("14.1", "14.005 FCD", "is not a date YYYYMMDD"),
    (2, 8, None): ("14.1", "14.008 SLC", "mandatory, and missing"),
    (2, 11, "LZW"): ("14.1", "14.011 CGA", "is none of JP2, JP2L, JPEGB, JPEGL, NONE, PNG, WSQ20"),
    (2, 18, "2\x1fYY"): ("14.1", "14.018 AMP", "ABC: is none of UP, XX"),
    (2, 21, "2\x1f1"): ("14.1", "14.021 SEG", "2 items, 5 wanted"),
    (0, 11, "5.0"): ("1", "1.011 NSR", "is not of the form that is wanted"),
    (0, 14, "20260304"): ("1", "1.014 GMT", "is not a time YYYYMMDDHHMMSSZ"),
}


@pytest.mark.parametrize("case", FIELDS, ids=str)
def test_a_field_that_is_wrong_is_named(case: tuple[int, int, str | None]) -> None:
    assert FIELDS[case] in faults(changed(*case))


def test_a_record_without_an_image_needs_none_of_its_fields() -> None:
    gone = made.card().records[-1]
    assert (gone.bytes_of(999), gone.bytes_of(8)) == (None, None)
    assert faults(made.card()) == set()


def test_a_fault_never_quotes_a_field() -> None:
    wrong = build(made.ENVELOPE, [made.sent()], descriptive={**ARREST, 18: "Ñ" * 40, 22: "unborn"})
    told = check(wrong, load_profile("ebts"))
    assert {fault.field for fault in told} == {"2.018 NAM", "2.022 DOB"}
    assert not any("Ñ" in fault.text or "unborn" in fault.text for fault in told)


@pytest.mark.parametrize("field", sorted(ARREST))
def test_an_arrest_needs_all_its_fields(field: int) -> None:
    rest = {number: value for number, value in ARREST.items() if number != field}
    told = check(build(made.ENVELOPE, [made.sent()], descriptive=rest), load_profile("ebts"))
    assert [(fault.record, fault.field[:5], fault.text) for fault in told] == [
        ("2.0", f"2.{field:03d}", "mandatory, and missing")
    ]


@pytest.mark.parametrize("count", [0, 15])
def test_an_arrest_has_one_to_fourteen_images(count: int) -> None:
    arrest = build(made.ENVELOPE, [made.sent(position) for position in range(count)], descriptive=ARREST)
    assert ("1", "1.003 CNT", f"{count} images, 1 to 14 wanted") in faults(arrest, "ebts")


def test_records_are_counted() -> None:
    two = made.with_record(made.card(), made.card().records[1].with_field(2, "50"))
    assert ("1", "1.003 CNT", "2 records of Type 2, 1 wanted") in faults(two, "int-i")


# ---- between fields


def test_a_designation_that_is_not_listed_is_named() -> None:
    card = made.card()
    header = card.header.with_field(3, card.header.get(3).replace("14\x1f02", "14\x1f05"))
    wrong = Transaction((header, *card.records[1:]))
    assert faults(wrong) == {("14.2", "14.002 IDC", "not the one that field 1.003 lists")}


def test_a_designation_given_twice_is_named() -> None:
    assert faults(changed(4, 2, "01")) == {("14.1", "14.002 IDC", "given to another record of this type")}


def test_a_field_that_stands_twice_is_named() -> None:
    record = made.card().records[2]
    twice = replace(record, fields=(*record.fields[:5], *record.fields[4:]))
    wrong = made.card().replaced(record, twice)
    assert faults(wrong) == {("14.1", "14.005", "stands in the record more than once")}


def test_a_size_that_is_not_the_images_is_named() -> None:
    assert faults(changed(2, 6, "81")) == {("14.1", "14.006 HLL", "the image has 80 pixels")}
    four = made.type_4(encode_wsq(made.waves()), size=(80, 97), compression=1)
    assert faults(made.with_record(made.card(), four)) == {("4.9", "4.007 VLL", "the image has 96 pixels")}


def test_a_compression_that_is_not_the_images_is_named() -> None:
    assert faults(changed(2, 11, "PNG")) == {("14.1", "14.011 CGA", "record 14.1 says PNG and holds WSQ20")}


def test_a_slap_is_not_rolled_and_a_palm_is_no_finger() -> None:
    assert ("14.3", "14.003 IMP", "impression 1 cannot be of position 13") in faults(changed(5, 3, "1"))
    assert ("14.1", "14.003 IMP", "impression 10 cannot be of position 2") in faults(changed(2, 3, "10"))
    assert faults(changed(2, 13, "11")) == set()


def test_an_image_that_is_missing_without_a_word_is_named() -> None:
    told = faults(changed(6, 18, None))
    assert told == {("14.4", "14.999 DATA", "missing, and field 018 does not say why")}


def test_every_rule_is_some_profiles() -> None:
    assert {rule for name in profile_names() for rule in load_profile(name).rules} == set(RULES)


# ---- the files


@pytest.mark.parametrize("name", profile_names())
def test_a_profile_says_where_it_is_written(name: str) -> None:
    profile = load_profile(name)
    assert profile.sources
    assert profile.title
    assert all(rule.type == kind and rule.number == number for (kind, number), rule in profile.fields.items())


def test_a_profile_keeps_what_it_extends_and_says_the_rest_itself() -> None:
    ebts = load_profile("ebts")
    assert ebts.fields[1, 5] == STANDARD.fields[1, 5]
    assert ebts.fields[1, 7] != STANDARD.fields[1, 7]
    assert set(STANDARD.sources) < set(ebts.sources)


def test_an_unknown_profile_is_refused_with_those_there_are() -> None:
    with pytest.raises(ProfileUnknown, match="ansi-nist, ebts, int-i"):
        load_profile("../ebts")


def test_faults_come_in_the_order_of_the_records() -> None:
    wrong = changed(6, 18, None).with_records([*changed(6, 18, None).records])
    wrong = wrong.replaced(wrong.header, wrong.header.with_field(11, "x"))
    told = check(wrong, STANDARD)
    assert told == tuple(sorted(told))
    assert isinstance(told[0], Fault)
    assert (told[0].place, told[-1].place) == (1, 7)
