"""Laws as they are written: terms, rules and examples, and errors that say where and what to mend."""

import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from laws import EXAMPLES, PERMIT, SHIPPED, asked, forbid, law, rewritten, text

from papilar.errors import LawInvalid
from papilar.identity import Role
from papilar.policy import Action, Direction, Law, Quota, SearchType, Verdict, changes, try_law

SHIPPED_LAWS = [Law.load(EXAMPLES / name) for name in SHIPPED]
RULES = [(shipped, rule) for shipped in SHIPPED_LAWS for rule in shipped.rules.rules]


@pytest.mark.parametrize("shipped", SHIPPED_LAWS, ids=SHIPPED)
def test_a_shipped_law_passes_its_own_examples(shipped: Law) -> None:
    trial = try_law(shipped)
    assert [outcome.wrong for outcome in trial.outcomes if outcome.wrong] == []
    assert trial.untested == ()
    assert len(trial.outcomes) >= 10
    verdicts = {outcome.decision.verdict for outcome in trial.outcomes}
    assert verdicts == set(Verdict)
    assert any(not o.decision.rules for o in trial.outcomes)  # the default deny is shown


@pytest.mark.parametrize(("shipped", "rule"), RULES, ids=[rule.id for _, rule in RULES])
def test_a_shipped_law_without_one_of_its_rules_fails(shipped: Law, rule: Any) -> None:
    others = [other.text for other in shipped.rules.rules if other != rule]
    assert not try_law(rewritten(shipped, others)).passed


@pytest.mark.parametrize("shipped", SHIPPED_LAWS, ids=SHIPPED)
def test_a_shipped_law_says_who_may_send_a_conclusion_out(shipped: Law) -> None:
    told = [o for o in try_law(shipped).outcomes if o.example.request.action is Action.CONFIRM]
    out = [o for o in told if o.example.request.direction is Direction.OUTBOUND]
    assert {o.decision.verdict for o in out} == {Verdict.ALLOW, Verdict.DENY}
    assert all(Role.EXAMINER in o.example.request.roles for o in out if o.decision.verdict is Verdict.ALLOW)


def test_a_rule_that_no_example_shows_fails_the_trial() -> None:
    shipped = SHIPPED_LAWS[0]
    new = forbid("new-rule", "NEW_RULE", 'context.peer == Country::"NIC"')
    trial = try_law(rewritten(shipped, [shipped.text.rules, new]))
    assert [rule.id for rule in trial.untested] == ["new-rule"]
    assert not trial.passed


def test_an_example_names_what_differs() -> None:
    lines = '[[example]]\nname = "One"\nexpect = "DENY"\nrules = []\n'
    lines += 'given = { action = "describe", direction = "inbound", peer = "HND" }\n'
    (outcome,) = try_law(law(PERMIT, examples=lines)).outcomes
    assert outcome.wrong == "verdict: ALLOW; rules: all"


@pytest.mark.parametrize(
    ("rules", "cause"),
    [
        ("\n// first\npermit(principal, action, resource)", "line 3: this is no Cedar rule"),
        (
            PERMIT + PERMIT.replace("resource)", "resource) when { context.foo > }"),
            "line 4: this is no Cedar rule",
        ),
        (PERMIT.replace("action,", 'action == Action::"sear",'), "line 1: the schema does not bear.*sear"),
        (
            forbid("bad", "BAD_WORD", 'context.purpose == Purpose::"crime"'),
            "line 1: .*crime.* is not declared",
        ),
        (forbid("bad", "BAD_WORD", 'context.purpose == "border"'), "line 1: the schema does not bear"),
        (PERMIT.replace("resource)", 'resource) when { context.purpose == Purpose::"border" }'), "describe"),
        (PERMIT.replace("principal,", "principal == ?principal,"), "line 1: a rule has an open place"),
        (PERMIT + PERMIT, "line 4: there are two rules 'all'"),
        (PERMIT.replace('@id("all")\n', ""), "@id is missing"),
        (PERMIT.replace("@reads", "@reed"), "@reed does not belong to a permit"),
        (PERMIT.replace("@id", '@code("X_Y")@id'), "@code does not belong to a permit"),
        (forbid("bad", "NO_RULE_PERMITS"), "the code NO_RULE_PERMITS is taken"),
        (forbid("bad", "lower"), "@code is missing or not well formed"),
        (PERMIT.replace("permit(", '@decision("maybe") permit('), "an unknown @decision"),
        (forbid("bad", "BAD_PEER", 'context.peer == Country::"Honduras"'), "a country is none"),
        (PERMIT.replace("Everything", r"Every\u{1b}thing"), "@reads is missing or not well formed"),
        ("// " + "x" * 300_000, "too long"),
    ],
)
def test_a_rule_that_cannot_be_is_named_by_its_line(rules: str, cause: str) -> None:
    with pytest.raises(LawInvalid, match=cause) as caught:
        law(rules)
    assert caught.value.remedy


def test_a_semicolon_in_a_sentence_or_a_comment_ends_no_rule() -> None:
    rules = law(f'// one; "two\n{PERMIT.replace("here", "here; always // yes")}// three;').rules.rules
    assert [(rule.line, rule.reads) for rule in rules] == [
        (2, "Everything is permitted here; always // yes.")
    ]


@given(st.text())
def test_any_text_is_rules_or_is_refused(rules: str) -> None:
    with suppress(LawInvalid):
        assert not law(rules).rules.rules or "@id" in rules


@pytest.mark.parametrize(
    "condition",
    [
        "(" * 2_000 + "true" + ")" * 2_000,
        "(" * 50_000,
        "[" * 33 + "]" * 33 + " == []",
        "true" + " && true" * 2_000,
    ],
    ids=["deep", "open", "sets", "long"],
)
def test_a_rule_that_would_end_the_process_is_refused(condition: str) -> None:
    with pytest.raises(LawInvalid, match="line 4: this rule is too long or too deep"):
        law(PERMIT + forbid("deep", "TOO_DEEP", condition))


@pytest.mark.parametrize("hidden", ["\r", "\u2028", "\u202e", "\u200b", "\x85", "\x00", "\x0c"])
def test_a_character_that_cannot_be_seen_is_refused(hidden: str) -> None:
    """A line that only Cedar sees the end of would hide a rule in a comment."""
    written = text(PERMIT + f"// nothing is here {hidden} {forbid('hidden', 'HIDDEN')}")
    with pytest.raises(LawInvalid, match=r"rules\.cedar, line 4: a character"):
        Law.read(written)
    with pytest.raises(LawInvalid, match=r"examples\.toml, line 2: a character"):
        law(PERMIT, examples=f"\n# {hidden} nothing")


def test_lines_may_end_as_on_windows() -> None:
    rules = (PERMIT + "// a comment\n" + forbid("second", "SECOND")).replace("\n", "\r\n")
    assert [(rule.id, rule.line) for rule in law(rules).rules.rules] == [("all", 1), ("second", 5)]


def test_brackets_in_a_sentence_are_not_counted() -> None:
    assert law(PERMIT.replace("here", "here " + "(" * 40)).rules.rules[0].permits


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (("SLV", "slv"), "country is not well formed"),
        (("version = 1", "version = 0"), "version is not well formed"),
        (("version = 1", "version = true"), "version is not well formed"),
        (("version = 1\n", ""), "lacks version"),
        (("2026-01-01", '"soon"'), "valid_from is not well formed"),
        (("2026-01-01", "2026-01-01T00:00:00Z"), "valid_from is not well formed"),
        (("country", "land = 1\ncountry"), "unknown term 'land'"),
        (("country", "least_print_quality = 101\ncountry"), "a whole number, 0 to 100"),
        (("2026-01-01", "2026-01-01\n[days]\nreference = 400"), "days.reference"),
        (("2026-01-01", "2026-01-01\n[days]\nlog = 1"), "unknown term 'days.log'"),
        (("2026-01-01", "2026-01-01\n[quotas.Honduras]\n"), "quotas for what is no country"),
        (("2026-01-01", "2026-01-01\n[quotas.HND]\nTP = 1"), "unknown term 'quotas.HND.TP'"),
        (("2026-01-01", "2026-01-01\n[quotas.HND]\nTP_TP = 5"), "quotas.HND.TP_TP. is no table"),
        (
            ("2026-01-01", "2026-01-01\n[quotas.HND]\nTP_TP = { per_day = 5 }"),
            "lacks quotas.HND.TP_TP.candidates",
        ),
        (("country", "country ="), "law.toml is no TOML .*line 1"),
    ],
)
def test_a_term_that_cannot_be_is_named(change: tuple[str, str], cause: str) -> None:
    written = text()
    with pytest.raises(LawInvalid) as caught:
        Law.read(written._replace(terms=written.terms.replace(*change, 1)))
    assert re.search(cause, str(caught.value))


def test_a_quota_is_the_peers_else_every_peers_else_the_profiles() -> None:
    more = '[quotas."*"]\nTP_TP = { per_day = 7, candidates = 2 }\n'
    more += "[quotas.HND]\nTP_TP = { per_day = 9, candidates = 3 }\n"
    found = law(more=more)
    assert found.quota("HND", SearchType.TP_TP) == Quota(9, 3)
    assert found.quota("GTM", SearchType.TP_TP) == Quota(7, 2)
    assert found.quota("HND", SearchType.LT_UL) == Quota(5, 5)


@pytest.mark.parametrize(
    ("examples", "cause"),
    [
        ("[[examples]]\n", "not well formed"),
        ('[[example]]\nname = "One"\n', "example 1 lacks name, expect or rules"),
        ('[[example]]\nname = "One"\nexpect = "MAYBE"\nrules = []\n', "example 1: a word"),
        ('[[example]]\nname = "One"\nexpect = "DENY"\nrules = "all"\n', "example 1: a word"),
        ('[[example]]\nname = "One"\nexpect = "DENY"\nrules = []\n', "example 1: a request lacks action"),
        ('[[example]]\nname = "One"\nexpect = "DENY"\nrules = []\ngiven = 5\n', "example 1: what is given"),
    ],
)
def test_an_example_that_cannot_be_is_named(examples: str, cause: str) -> None:
    with pytest.raises(LawInvalid, match=cause):
        law(examples=examples)


def test_a_law_lacks_a_file(tmp_path: Path) -> None:
    with pytest.raises(LawInvalid, match=r"law\.toml cannot be read"):
        Law.load(tmp_path)
    (tmp_path / "law.toml").write_bytes(b"\xff")
    with pytest.raises(LawInvalid, match="no UTF-8"):
        Law.load(tmp_path)


# ---- what would alter a decision


def test_every_change_that_is_named_alters_the_decision() -> None:
    shipped = SHIPPED_LAWS[1]
    refused = asked(peer="CRI")
    found = {(change.field, change.value): change.decision for change in changes(shipped, refused)}
    assert set(found) == {("peer", "SLV"), ("peer", "GTM")}
    assert all(decision.verdict is Verdict.ALLOW for decision in found.values())
    assert found["peer", "SLV"] == shipped.decide(asked(peer="SLV"))


def test_a_change_may_lead_to_a_person() -> None:
    found = changes(SHIPPED_LAWS[0], asked(search_type="LT_UL", ordering_officer=True))
    assert {(c.field, c.value, c.decision.verdict) for c in found} == {
        ("search_type", "TP_TP", Verdict.ALLOW),
        ("search_type", "LT_TP", Verdict.NEEDS_HUMAN),
    }


def test_nothing_would_alter_what_is_given_in_full() -> None:
    assert changes(law(PERMIT), asked()) == ()
    assert changes(law(""), asked()) == ()
