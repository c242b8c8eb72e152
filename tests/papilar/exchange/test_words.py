"""The alphabets of a search: as wide as what the users of a node may say, and no wider."""

import re

from askers import asked
from hypothesis import given
from hypothesis import strategies as st
from trials import AT

from papilar.errors import RequestInvalid
from papilar.exchange.region import statement
from papilar.exchange.seal import stamp
from papilar.exchange.words import check_search
from papilar.users import _FORMS


def taken(**given_: str) -> bool:
    search = statement(asked(**given_), asking="SLV", country="HND", prints=[])
    search.prints.add(position=1, image=b"x")
    search.create_time.CopyFrom(stamp(AT))
    try:
        check_search(search)
    except RequestInvalid:
        return False
    return True


@given(st.text("AZ09_a", max_size=34))
def test_a_reason_is_what_a_user_may_give(text: str) -> None:
    assert taken(reason=text) == bool(re.fullmatch(_FORMS["reason"], text))


@given(st.text("AZ09/.-_a", max_size=65))
def test_a_case_is_what_a_user_may_name(text: str) -> None:
    assert taken(case_reference=text) == bool(re.fullmatch(_FORMS["case_reference"], text))


def test_a_case_begins_with_a_letter_or_a_digit() -> None:
    assert taken(case_reference="2026/SS-114")
    assert taken(case_reference="A" * 64)
    assert not any(taken(case_reference=text) for text in ("-A", "/A", ".A", "", "A" * 65))


def test_a_reason_begins_with_a_letter() -> None:
    assert taken(reason="ART_12")
    assert not taken(reason="12_ART")
    assert not taken(reason="_ART")
