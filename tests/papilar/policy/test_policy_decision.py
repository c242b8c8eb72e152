"""What laws decide: default deny, forbids that win, files one by one, requests that cannot be."""

import statistics
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import PERMIT, USUAL, asked, forbid, law, requests

from papilar.errors import RequestInvalid
from papilar.identity import Role, is_country
from papilar.policy import Action, File, PolicyRequest, Verdict
from papilar.policy.request import FLAGS, SETS, WORDS
from papilar.policy.rules import schema_text

NOTHING = law("")
EVERYTHING = law(PERMIT)
PERMIT_AND_FORBID = law(
    PERMIT + forbid("no-search", "NOT_HERE") + forbid("no-confirm", "NOR_HERE", action="confirm")
)


@given(requests())
def test_what_no_rule_permits_is_refused(request: PolicyRequest) -> None:
    decision = NOTHING.decide(request)
    assert (decision.verdict, decision.code, decision.rules) == (Verdict.DENY, "NO_RULE_PERMITS", ())
    assert not decision.files
    assert not decision.waiting


@given(requests())
def test_a_forbid_wins_over_a_permit(request: PolicyRequest) -> None:
    about_files = request.action in (Action.SEARCH, Action.CONFIRM)
    assert EVERYTHING.decide(request).verdict is Verdict.ALLOW
    assert EVERYTHING.decide(request).files == request.files
    decision = PERMIT_AND_FORBID.decide(request)
    assert decision.verdict is (Verdict.DENY if about_files else Verdict.ALLOW)
    codes = {Action.SEARCH: "NOT_HERE", Action.CONFIRM: "NOR_HERE"}
    assert decision.code == codes.get(request.action, "ALLOWED")


def test_each_file_is_decided_by_itself() -> None:
    rules = forbid("no-minors", "MINORS", 'resource == File::"minors"') + (
        '@id("criminal") @reads("The criminal file.") '
        'permit(principal, action == Action::"search", resource == File::"criminal");'
        '@id("missing") @reads("The missing.") @decision("needs_human") '
        'permit(principal, action == Action::"search", resource == File::"missing_persons");'
    )
    decision = law(rules).decide(asked(files=[*File]))
    assert decision.verdict is Verdict.ALLOW
    assert (decision.files, decision.waiting) == ({File.CRIMINAL}, {File.MISSING_PERSONS})
    assert {r.file: r.code for r in decision.rulings} == {
        File.CRIMINAL: "ALLOWED",
        File.MINORS: "MINORS",
        File.MISSING_PERSONS: "NEEDS_HUMAN",
        File.UNSOLVED_LATENTS: "NO_RULE_PERMITS",
    }
    assert decision.rules == ("no-minors", "criminal", "missing")
    refused = law(rules).decide(asked(files=["minors", "unsolved_latents"]))
    assert (refused.verdict, refused.code) == (Verdict.DENY, "MINORS")


def test_a_person_is_asked_even_where_another_rule_permits() -> None:
    careful = PERMIT.replace('@id("all")', '@id("careful") @decision("needs_human")')
    assert law(PERMIT + careful).decide(asked()).verdict is Verdict.NEEDS_HUMAN


def test_a_rule_that_cannot_be_evaluated_refuses() -> None:
    """Cedar would skip it; skipping a forbid would open a door."""
    overflow = forbid("broken", "BROKEN", "9223372036854775807 + 1 > 0")
    decision = law(PERMIT + overflow).decide(asked())
    assert (decision.verdict, decision.code, decision.rules) == (Verdict.DENY, "LAW_CANNOT_DECIDE", ())


def test_a_law_is_not_asked_about_its_own_country() -> None:
    with pytest.raises(RequestInvalid, match="own country"):
        EVERYTHING.decide(asked(peer="SLV"))


def test_the_words_are_those_of_the_schema() -> None:
    schema = schema_text()
    kinds = {kind.__name__: kind for kind in (*WORDS.values(), *SETS.values()) if kind is not Action}
    for name, kind in kinds.items():
        body = schema.split(f"entity {name} enum [")[1].split("]")[0]
        listed = [line.split("//")[0] for line in body.splitlines()]
        assert [word.strip(' ",') for line in listed for word in line.split(",") if word.strip()] == list(
            kind
        )
    assert all(f'"{action}"' in schema for action in Action)


NASTY = st.one_of(
    st.text(),
    st.sampled_from(
        ["'; DROP TABLE subject; --", 'HND"', "HND\n", "search\x00", "SEARCH", "", "hnd", "\u202eHND"]
    ),
    st.none(),
    st.integers(),
    st.lists(st.text(), max_size=2),
)


@given(st.sampled_from([*USUAL, *FLAGS]), NASTY)
def test_any_other_word_is_refused(field: str, value: Any) -> None:
    kind = WORDS.get(field) or SETS.get(field)
    if field in SETS and isinstance(value, list) and set(value) <= set(kind or ()):
        return  # an empty list, or words that there are
    if isinstance(value, str) and (value in list(kind or ()) or (field == "peer" and is_country(value))):
        return
    if field == "files" and value == []:
        return
    said, of_another = (str(refusal(**{field: given_})) for given_ in (value, "\x00"))
    text = str(value)
    assert len(text) < 4 or text not in said or text in of_another, "what came from outside is not repeated"


def refusal(**given_: Any) -> RequestInvalid:
    with pytest.raises(RequestInvalid) as caught:
        asked(**given_)
    return caught.value


@pytest.mark.parametrize(
    ("given_", "cause"),
    [
        ({"officer": "e7"}, "a field that there is not"),
        ({"files": []}, "lacks files"),
        ({"purpose": None}, "lacks purpose"),
        ({"action": "describe"}, "a request to describe has"),
        ({"roles": "examiner"}, "no list"),
        ({"files": ["criminal", "everything"]}, "files has a word"),
        ({"expedite": "yes"}, "no yes or no"),
        ({"peer": "HN"}, "no country"),
    ],
)
def test_a_request_that_cannot_be_is_refused(given_: dict[str, Any], cause: str) -> None:
    with pytest.raises(RequestInvalid, match=cause):
        asked(**given_)


def test_a_request_lacks_what_every_request_has() -> None:
    with pytest.raises(RequestInvalid, match="lacks direction, peer"):
        PolicyRequest.of({"action": "describe"})


@given(requests())
def test_a_request_is_read_back_as_it_was(request: PolicyRequest) -> None:
    assert PolicyRequest.of(request.table()) == request


def test_a_decision_takes_less_than_a_millisecond() -> None:
    """The median over 500 decisions, the best of three runs; two files, roles that change."""
    asking = [asked(roles=[role], files=["criminal", "minors"]) for role in Role] * 100
    medians = []
    for _ in range(3):
        took = []
        for request in asking:
            begun = time.perf_counter()
            PERMIT_AND_FORBID.decide(request)
            took.append(time.perf_counter() - begun)
        medians.append(statistics.median(took))
    assert min(medians) < 0.001
