"""Transactions as bytes: the same out as in, damage refused by name, nothing lost."""

import time
from collections import Counter
from pathlib import Path

import made
import nistitl
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from enroll import errors
from enroll.errors import TransactionError
from enroll.nist import check, decode, encode, features, load_profile, picture
from enroll.nist.codec import LIMITS
from enroll.nist.pictures import PICTURE_TYPES
from enroll.nist.record import text_record
from matcher.errors import PapilarError

FS, GS = b"\x1c", b"\x1d"
REFERENCES = ("nist/*.an2", "nist_sample/*.an2", "ebts/*.ebts")


def references(datasets: Path) -> dict[str, bytes]:
    files = (file for pattern in REFERENCES for file in sorted((datasets / "formats").glob(pattern)))
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in files}


def small() -> bytes:
    """A transaction of a Type 1 and a Type 2, whose bytes can be written down."""
    record = text_record(2, {2: "00", 3: "0503"})
    return encode(made.card().with_records([made.card().header, record]))


def edited(data: bytes, old: bytes, new: bytes) -> bytes:
    """Replace bytes of a record of text, and make its length right."""
    at = data.index(old)
    start = max(data.rfind(FS, 0, at) + 1, 0)
    head, _, rest = data[start:].partition(GS)
    changed = rest.replace(old, new, 1)
    tag, length = head.split(b":")
    wanted = int(length) + len(new) - len(old)
    wanted += len(str(wanted)) - len(length)  # a longer length is itself longer
    return data[:start] + tag + b":%0*d" % (len(length), wanted) + GS + changed


# ---- out as in


@pytest.mark.datasets
def test_every_reference_transaction_comes_back_byte_for_byte(datasets: Path) -> None:
    files = references(datasets)
    assert len(files) == 16
    for name, data in files.items():
        transaction = decode(data)
        assert encode(transaction) == data, name
        assert encode(transaction.with_records(transaction.records)) == data, name


@pytest.mark.datasets
def test_the_fields_are_those_that_another_reader_finds(datasets: Path) -> None:
    for name, data in references(datasets).items():
        theirs = nistitl.Message()
        theirs.parse(data)
        ours = decode(data).records
        assert [record.type for record in ours] == [record.type for record in theirs], name
        for mine, other in zip(ours, theirs, strict=True):
            if mine.binary:
                assert mine.encode()[5:] == other.value, name
                continue
            for field in mine.fields[2:]:
                wanted = other[field.number]
                raw = wanted.value if field.number == 999 else wanted.NIST.partition(b":")[2]
                assert field.value == raw, (name, field.number)


def test_what_is_made_comes_back(made_bytes: bytes) -> None:
    transaction = decode(made_bytes)
    assert encode(transaction) == made_bytes
    assert [record.label for record in transaction.records] == [
        "1",
        "2.0",
        "14.1",
        "9.1",
        "14.2",
        "14.3",
        "14.4",
    ]
    assert transaction.warnings == ()
    assert transaction.records[1].get("2.018") == "NOBODY, ÑAME"


@pytest.fixture
def made_bytes() -> bytes:
    return encode(made.card())


def test_records_of_every_type_are_kept() -> None:
    strange = [text_record(kind, {2: f"{kind:02d}", 200: "kept"}) for kind in (2, 9, 10, 12, 17, 21, 98, 99)]
    data = encode(made.with_record(made.card(), made.type_4(bytes(80 * 96)), *strange))
    read = decode(data)
    assert encode(read) == data
    assert [record.get(200) for record in read.records[-8:]] == ["kept"] * 8
    told = [warning for warning in read.warnings if "is kept as it is" in warning]
    assert [warning.split("Type ")[1].split()[0] for warning in told] == ["12", "17", "21", "98", "99"]


def test_tags_of_older_writers_stay_as_they_are() -> None:
    """EBTS 7 wrote `1.01:`, and some count with a nought in front."""
    plain = small().replace(b"1.003:1\x1f1\x1e", b"1.003:1\x1f01\x1e")
    old = b"1.01:" + plain.partition(b":")[2]
    length = int(old[5 : old.index(GS)])
    old = old.replace(b"1.01:%d" % length, b"1.01:%d" % (length + 1 - 1), 1)  # a digit less, a digit more
    assert encode(decode(old)) == old


# ---- changes


def test_a_changed_field_makes_lengths_and_content_right() -> None:
    transaction = decode(encode(made.card()))
    old = transaction.records[2]
    new = old.with_field("14.020", "x" * 1000).with_field("14.002", "77").with_field(13, "8")
    changed = transaction.replaced(old, new)
    again = decode(encode(changed))
    assert again == changed
    assert again.records[2].number("14.001") == len(new.encode())
    assert again.header.items("1.003")[2] == ("14", "77")
    assert [field.number for field in new.fields] == sorted(field.number for field in new.fields)
    assert old.get("14.020") is None
    assert encode(changed).endswith(encode(transaction)[-500:])


def test_a_field_set_to_what_it_was_changes_no_byte() -> None:
    transaction = decode(encode(made.card()))
    for record in transaction.records:
        for field in record.fields[1:]:
            assert record.with_field(field.number, field.value).encode() == record.encode()


def test_binary_fields_are_set_and_read_as_text() -> None:
    record = made.type_4(bytes(80 * 96))
    assert record.with_field("4.004", "2\x1e7").items("4.004") == (("2",), ("7",))
    assert record.with_field("4.006", "81").number("4.006") == 81
    shorter = record.with_field(9, b"abc")
    assert shorter.number("4.001") == len(shorter.encode()) == 21
    with pytest.raises(errors.RecordFieldInvalid, match=r"4\.006"):
        record.with_field("4.006", "70000")
    with pytest.raises(errors.RecordFieldInvalid, match="left out"):
        record.without_field(8)
    with pytest.raises(errors.RecordFieldInvalid, match=r"14\.013"):
        record.get("14.013")


@given(
    st.dictionaries(
        st.integers(3, 998), st.text(st.characters(codec="utf-8", min_codepoint=30), max_size=200), max_size=8
    )
)
def test_any_text_comes_back(values: dict[int, str]) -> None:
    record = text_record(2, {2: "00", **values})
    data = encode(made.card().with_records([made.card().header, record]))
    read = decode(data).records[1]
    assert {number: read.get(number) for number in values} == values
    assert read.number(1) == len(record.encode())
    assert all(not read.without_field(number).bytes_of(number) for number in values)


@pytest.mark.parametrize("value", ["a\x1cb", "a\x1db", "\ud800"])
def test_what_would_break_a_record_is_not_written(value: str) -> None:
    with pytest.raises(errors.RecordFieldInvalid, match=r"2\.003"):
        text_record(2, {2: "00", 3: value})


# ---- refusals

REFUSED = {
    "nothing": (lambda data: b"", errors.TransactionFormatUnknown),
    "an image": (lambda data: b"\x89PNG\r\n\x1a\n" + data, errors.TransactionFormatUnknown),
    "XML": (lambda data: b'\xef\xbb\xbf<?xml version="1.0"?><itl:NIST/>', errors.TransactionXml),
    "XML without head": (
        lambda data: b" <itl:NISTBiometricInformationExchangePackage/>",
        errors.TransactionXml,
    ),
    "a later version": (
        lambda d: d.replace(b"1.002:0502", b"1.002:0600"),
        errors.TransactionVersionUnsupported,
    ),
    "no version": (lambda d: d.replace(b"1.002:0502", b"1.002:????"), errors.TransactionVersionUnsupported),
    "a byte less": (lambda data: data[:-1], errors.TransactionTruncated),
    "a record less": (lambda data: data[: data.index(FS) + 1], errors.TransactionTruncated),
    "a byte more": (lambda data: data + b"x", errors.RecordContentMismatch),
    "a record more": (lambda d: d + text_record(2, {2: "01"}).encode(), errors.RecordContentMismatch),
    "another record": (lambda d: d.replace(b"\x1e2\x1f00", b"\x1e9\x1f00"), errors.RecordContentMismatch),
    "count": (lambda d: d.replace(b"1.003:1\x1f1", b"1.003:1\x1f2"), errors.RecordContentMismatch),
    "content": (lambda d: d.replace(b"1.003:1\x1f1\x1e", b"1.003:1\x1fX\x1e"), errors.RecordFieldInvalid),
    "no content": (lambda d: d.replace(b"1.003:", b"1.033:"), errors.RecordFieldInvalid),
    "a type of 100": (lambda d: edited(d, b"\x1e2\x1f00", b"\x1e100\x1f00"), errors.RecordFieldInvalid),
    "length too short": (lambda d: d.replace(b"2.001:29", b"2.001:28"), errors.RecordLengthWrong),
    "length of nothing": (lambda d: d.replace(b"2.001:29", b"2.001:03"), errors.RecordLengthWrong),
    "two records as one": (lambda d: d.replace(b"1.004:CAR", b"1.004:C\x1cR"), errors.RecordLengthWrong),
    "no tag": (lambda data: data.replace(b"2.003:", b"2,003:"), errors.RecordFieldInvalid),
    "another's tag": (lambda data: data.replace(b"2.003:", b"3.003:"), errors.RecordFieldInvalid),
    "8 bits in Type 1": (lambda d: d.replace(b"1.004:CAR", b"1.004:CA\xd1"), errors.RecordCharacterSet),
    "not UTF-8": (lambda data: data.replace(b"2.003:0503", b"2.003:05\xd13"), errors.RecordCharacterSet),
    "UTF-16": (lambda data: data.replace(b"003\x1fUTF-8", b"002\x1fUTF16"), errors.RecordCharacterSet),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_contradicts_itself_is_refused_by_name(name: str) -> None:
    damage, kind = REFUSED[name]
    data = damage(small())
    assert data != small()
    with pytest.raises(TransactionError) as refused:
        decode(data)
    assert type(refused.value) is kind
    assert "0503" not in str(refused.value)


def test_every_reason_is_another() -> None:
    kinds = {kind for _, kind in REFUSED.values()}
    assert len({kind.reason for kind in kinds}) == len(kinds) >= 8


def test_declared_latin_1_is_read_as_such() -> None:
    data = small().replace(b"003\x1fUTF-8", b"001\x1fASCII").replace(b"2.003:0503", b"2.003:05\xd13")
    assert decode(data).records[1].get("2.003") == "05Ñ3"


def test_undeclared_letters_are_read_and_told() -> None:
    header = made.card().header.without_field(15)
    for letters, wanted, as_ in ((b"\xd1and\xfa", "Ñandú", "latin-1"), ("Ñandú".encode(), "Ñandú", "utf-8")):
        record = text_record(2, {2: "00", 3: letters})
        read = decode(encode(made.card().with_records([header, record])))
        assert read.records[1].get(3) == wanted
        assert read.warnings == (f"record 2 (Type 2) is not ASCII, and declares nothing; read as {as_}",)


def test_blanks_behind_the_last_record_stay() -> None:
    data = small() + b"\r\n\0\0"
    assert encode(decode(data)) == data
    assert decode(data).warnings == ("4 blank bytes behind the last record",)


def test_the_designation_that_differs_is_told() -> None:
    read = decode(small().replace(b"2.002:00", b"2.002:07"))
    assert read.warnings == ("record 2: field 2.002 is not the 00 that field 1.003 lists",)


# ---- cuts


def test_every_cut_of_a_transaction_is_refused() -> None:
    header, described, _, minutiae, *_, gone = made.card().records
    image = made.type_4(bytes(80), size=(8, 10))
    data = encode(made.card().with_records([header, described, minutiae, image, gone]))
    kinds = Counter()
    for length in range(len(data)):
        with pytest.raises(TransactionError) as refused:
            decode(data[:length])
        kinds[type(refused.value)] += 1
    assert kinds.pop(errors.TransactionFormatUnknown) == 1  # no bytes at all
    assert set(kinds) == {errors.TransactionTruncated}


@pytest.mark.datasets
def test_cuts_of_reference_transactions_are_refused_at_once(datasets: Path) -> None:
    rng = np.random.default_rng(1)
    for name, data in references(datasets).items():
        for length in [*range(400), *rng.integers(0, len(data), 60).tolist(), len(data) - 1]:
            start = time.process_time()
            with pytest.raises(TransactionError):
                decode(data[:length])
            assert time.process_time() - start < 0.5, name


# ---- damage

SEPARATORS = b"\x1c\x1d\x1e\x1f:.0123456789\xff\x00A"


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    data = bytearray(encode(made.with_record(made.card(), made.type_4(bytes(80 * 96)))))
    heads = [at for at in range(len(data)) if data[at : at + 1] == GS or at < 300]
    for _ in range(draw(st.integers(1, 5))):
        at = draw(st.one_of(st.sampled_from(heads), st.integers(0, len(data) - 1)))
        at = min(at + draw(st.integers(0, 9)), len(data) - 1)
        put = draw(st.one_of(st.sampled_from(SEPARATORS), st.integers(0, 255)))
        kind = draw(st.sampled_from(("put", "put", "put", "insert", "delete", "repeat")))
        data[at : at + (kind != "insert")] = {"delete": b"", "repeat": data[at : at + 40] * 3}.get(
            kind, [put]
        )
    return bytes(data)


@given(damaged())
@example(b"1.001:1" + GS)
def test_damage_raises_nothing_but_our_own(data: bytes) -> None:
    start = time.process_time()
    try:
        transaction = decode(data)
        assert encode(transaction) == data
        check(transaction, load_profile("ebts"))
        for record in transaction.records:
            try:
                if record.type in PICTURE_TYPES:
                    picture(transaction, record)
                if record.type == 9:
                    list(features(transaction, record))
            except PapilarError:
                pass
    except TransactionError:
        pass
    assert time.process_time() - start < 5


@given(st.binary(max_size=300))
def test_bytes_at_random_raise_nothing_but_our_own(data: bytes) -> None:
    for head in (b"", b"1.001:300\x1d1.002:0502\x1d1.003:"):
        with pytest.raises(TransactionError):
            decode(head + data)


def test_a_flood_of_fields_is_refused() -> None:
    flood = b"\x1d".join(b"2.003:" for _ in range(LIMITS.fields))
    with pytest.raises(errors.TransactionTooLarge):
        decode(edited(small(), b"2.003:0503", flood))
