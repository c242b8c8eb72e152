"""Entries: there and back, one byte form for each, and nothing in them that does not belong."""

import hmac
import json
from datetime import UTC, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any

import pytest
from entries import an_entry
from hypothesis import given
from hypothesis import strategies as st

from papilar.audit.entry import Act, Entry, Outcome, Sent, Side, decode, encode, subject_mark
from papilar.errors import RequestInvalid

CODES = st.from_regex(r"\A[A-Z][A-Z0-9_]{0,8}\Z")
NAMES = st.from_regex(r"\A[A-Za-z0-9._:/@-]{1,12}\Z")
COUNTRIES = st.from_regex(r"\A[A-Z]{3}\Z")
DIGESTS = st.binary(min_size=32, max_size=32).map(bytes.hex)
TEXTS = st.text(max_size=60).filter(str.isprintable)

ENTRIES = st.builds(
    Entry,
    time=st.datetimes(timezones=st.just(UTC)),
    side=st.sampled_from(Side),
    act=st.sampled_from(Act),
    outcome=st.sampled_from(Outcome),
    officer=NAMES,
    justification=TEXTS.filter(bool),
    request_id=NAMES,
    search_type=CODES | st.just(""),
    asking=COUNTRIES,
    asked=COUNTRIES,
    legal_basis=TEXTS,
    note=TEXTS,
    policy_hash=DIGESTS | st.just(""),
    sent=st.lists(st.builds(Sent, CODES, st.integers(0, 2**53 - 1), DIGESTS), max_size=3).map(tuple),
    recipients=st.lists(NAMES, max_size=3).map(tuple),
    subjects=st.lists(DIGESTS, max_size=3).map(tuple),
)


@given(ENTRIES)
def test_there_and_back(entry: Entry) -> None:
    assert decode(encode(entry)) == entry


@given(ENTRIES, st.data())
def test_no_second_form_is_taken(entry: Entry, data: st.DataObject) -> None:
    values = json.loads(encode(entry))
    others = [
        json.dumps(values, sort_keys=True).encode(),
        json.dumps(dict(reversed(values.items())), separators=(",", ":"), ensure_ascii=False).encode(),
        encode(entry)[:-1] + b',"version":1}',
        encode(entry) + b" ",
        encode(entry)[: data.draw(st.integers(0, len(encode(entry)) - 1))],
    ]
    for other in others:
        with pytest.raises(RequestInvalid):
            decode(other)


@given(
    st.binary(max_size=200)
    | st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(),
        lambda v: st.lists(v) | st.dictionaries(st.text(), v),
    ).map(lambda value: json.dumps(value).encode())
)
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(RequestInvalid):
        decode(data)


@pytest.mark.parametrize("name", json.loads(encode(an_entry())))
@pytest.mark.parametrize("value", [None, 7, 1.5, "\x07", [], [[]], {}, [7], ["a b"], "x" * 600])
def test_a_field_of_another_type_is_refused(name: str, value: Any) -> None:
    values = json.loads(encode(an_entry()))
    if value == values[name]:
        return
    values[name] = value
    with_it = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    if value == [] and name in {"sent", "recipients", "subjects"}:
        assert getattr(decode(with_it), name) == ()
        return
    if value == 7 and name == "time_us":
        assert decode(with_it).time == datetime(1970, 1, 1, 0, 0, 0, 7, UTC)
        return
    with pytest.raises(RequestInvalid):
        decode(with_it)


@pytest.mark.parametrize(
    "change",
    [
        {"officer": ""},
        {"officer": "Ana Perez"},  # a name has a space, a pseudonym none
        {"justification": ""},
        {"justification": "line\nbreak"},
        {"note": "\u202eright to left"},
        {"note": "x" * 501},
        {"note": b"bytes"},
        {"asking": "sv"},
        {"asked": ""},
        {"request_id": ""},
        {"case_reference": "x" * 129},
        {"purpose": "lower"},
        {"policy_hash": "00"},
        {"subjects": ("subject-7",)},  # an id, where a mark belongs
        {"subjects": ["0" * 64]},
        {"subjects": ("0" * 64,) * 257},
        {"sent": (("PRINT", 1, ""),)},
        {"sent": (Sent("PRINT", -1),)},
        {"sent": (Sent("PRINT", True),)},
        {"sent": (Sent("PRINT", 1, "raw"),)},
        {"recipients": ("two words",)},
        {"time": datetime(2026, 1, 1)},
        {"side": "ASKING"},
        {"outcome": "NO_HIT"},
        {"act": Side.OWN},
    ],
)
def test_what_does_not_belong_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(RequestInvalid):
        an_entry(**change)


def test_own_acts_need_no_second_country() -> None:
    assert an_entry(side=Side.OWN, request_id="", asking="", asked="").asked == ""


def test_one_time_has_one_form() -> None:
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    assert encode(an_entry(time=noon)) == encode(
        an_entry(time=noon.astimezone(timezone(timedelta(hours=-6))))
    )


def test_a_mark_is_the_hmac_and_needs_its_key() -> None:
    key = bytes(range(32))
    assert subject_mark(key, "subject-7") == hmac.new(key, b"subject-7", sha256).hexdigest()
    assert subject_mark(key, "subject-7") != subject_mark(bytes(32), "subject-7")
    with pytest.raises(RequestInvalid):
        subject_mark(b"short", "subject-7")
