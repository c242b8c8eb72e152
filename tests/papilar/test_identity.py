"""Names in certificates: one spelling each, and nothing else is a name."""

from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from papilar.errors import RequestInvalid
from papilar.identity import Identity, Kind, Role, is_country

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
COUNTRIES = st.from_regex("[A-Z]{3}", fullmatch=True)
USERS = st.builds(
    Identity, COUNTRIES, st.just(Kind.USER), NAMES, st.frozensets(st.sampled_from(Role), min_size=1)
)
MACHINES = st.builds(
    Identity, COUNTRIES, st.sampled_from([Kind.NODE, Kind.SEAL, Kind.LAW]), NAMES, st.just(frozenset())
)


@given(USERS | MACHINES)
def test_every_identity_is_read_as_it_was_written(identity: Identity) -> None:
    assert Identity.parse(identity.uri) == identity


@given(
    st.text() | st.from_regex(r"spiffe://[a-z]{2,4}\.papilar/(user/[a-z+-]*/|node/|law/)?.*", fullmatch=True)
)
@example("spiffe://slv.papilar/user/examiner/e7")
def test_what_is_read_has_one_spelling(text: str) -> None:
    with suppress(RequestInvalid):
        assert Identity.parse(text).uri == text


@given(USERS | MACHINES, st.data())
def test_a_changed_character_is_another_name_or_none(identity: Identity, data: st.DataObject) -> None:
    uri = identity.uri
    place = data.draw(st.integers(0, len(uri) - 1))
    changed = uri[:place] + data.draw(st.characters(exclude_characters=uri[place])) + uri[place + 1 :]
    with suppress(RequestInvalid):
        assert Identity.parse(changed) != identity


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "spiffe://slv.papilar",
        "spiffe://slv.papilar/",
        "spiffe://slv.papilar/node",
        "spiffe://slv.papilar/node/",
        "spiffe://slv.papilar/node/main/",
        "spiffe://slv.papilar/node/main\n",
        "spiffe://slv.papilar/node/main?x",
        "spiffe://slv.papilar/node/main#x",
        "spiffe://slv.papilar/node/../law/main",
        "spiffe://slv.papilar/node/Main",
        "spiffe://slv.papilar/node/-main",
        "spiffe://slv.papilar/node/main-",
        "spiffe://slv.papilar/node/m%61in",
        "spiffe://slv.papilar/node/\u0661",
        "spiffe://slv.papilar/node/" + "a" * 64,
        "spiffe://slv.papilar/node/examiner/main",
        "spiffe://slv.papilar/ca/main",
        "spiffe://SLV.papilar/node/main",
        "SPIFFE://slv.papilar/node/main",
        "https://slv.papilar/node/main",
        "spiffe://sl.papilar/node/main",
        "spiffe://slv.papilar:443/node/main",
        "spiffe://x@slv.papilar/node/main",
        "spiffe://slvxpapilar/node/main",
        "spiffe://slv.papilar.org/node/main",
        "spiffe://slv.papilar/user/e7",
        "spiffe://slv.papilar/user//e7",
        "spiffe://slv.papilar/user/king/e7",
        "spiffe://slv.papilar/user/examiner+/e7",
        "spiffe://slv.papilar/user/examiner+examiner/e7",
        "spiffe://slv.papilar/user/officer+examiner/e7",
    ],
)
def test_what_is_no_name_is_refused(uri: str) -> None:
    with pytest.raises(RequestInvalid) as refused:
        Identity.parse(uri)
    assert refused.value.cause == "the name of a certificate is none of ours", (
        "it may say anything: not quoted"
    )


def test_a_user_has_the_roles_that_the_name_says() -> None:
    identity = Identity.parse("spiffe://hnd.papilar/user/examiner+ordering-officer/e7")
    assert identity == ("HND", "user", "e7", {"examiner", "ordering-officer"})


@given(st.text(max_size=5))
@example("SLV")
@example("SLV\n")
def test_a_country_is_three_capitals(text: str) -> None:
    assert is_country(text) == (len(text) == 3 and all("A" <= letter <= "Z" for letter in text))
