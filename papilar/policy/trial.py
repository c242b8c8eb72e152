"""A law put to the test by its own examples, and what would alter a decision."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

from papilar.identity import Role
from papilar.policy.decision import Decision, Verdict
from papilar.policy.examples import Example
from papilar.policy.law import Law
from papilar.policy.request import ABOUT_FILES, FLAGS, OF_A_SEARCH, SETS, WORDS, PolicyRequest
from papilar.policy.rules import Rule


class Outcome(NamedTuple):
    """What a law said to an example; `wrong` says where that was not what was meant, empty where it was."""

    example: Example
    decision: Decision
    wrong: str


class Trial(NamedTuple):
    """A law's examples, tried, and the rules that decided in none of them."""

    outcomes: tuple[Outcome, ...]
    untested: tuple[Rule, ...]

    @property
    def passed(self) -> bool:
        """Whether every example came out as meant, and every rule decided in one."""
        return not self.untested and not any(outcome.wrong for outcome in self.outcomes)


def try_law(law: Law) -> Trial:
    """Put a law to its own examples."""
    outcomes = []
    for example in law.examples:
        decision = law.decide(example.request)
        outcomes.append(Outcome(example, decision, example.differs(decision)))
    decided = {rule for outcome in outcomes for rule in outcome.decision.rules}
    return Trial(tuple(outcomes), tuple(rule for rule in law.rules.rules if rule.id not in decided))


class Change(NamedTuple):
    """A request that differs in one field, and what the law says to it."""

    field: str
    value: str
    decision: Decision


def changes(law: Law, request: PolicyRequest) -> tuple[Change, ...]:
    """Return every single change of a request that the law would answer with more than it does now.

    Cedar does not say why a rule did not apply. Here each field takes each other value that it can have, and
    the law is asked again; a few dozen decisions. The direction and the action stay as they are.

    Parameters
    ----------
    law : Law
    request : PolicyRequest

    Returns
    -------
    tuple of Change
        Those with another verdict than DENY, where the request's is worse; in the order of the fields.
    """
    now = _RANK[law.decide(request).verdict]
    tried = (Change(field, value, law.decide(other)) for field, value, other in _others(law, request))
    return tuple(change for change in tried if _RANK[change.decision.verdict] > now)


_RANK = {Verdict.DENY: 0, Verdict.NEEDS_HUMAN: 1, Verdict.ALLOW: 2}


def _others(law: Law, request: PolicyRequest) -> Iterator[tuple[str, str, PolicyRequest]]:
    peers = sorted(law.rules.countries - {request.peer, law.terms.country})
    yield from (("peer", peer, replace(request, peer=peer)) for peer in peers)
    for role in (role for role in Role if role not in request.roles):
        yield "roles", f"also {role}", replace(request, roles=request.roles | {role})
    if request.action not in ABOUT_FILES:
        return
    for name in (name for name in WORDS if name in OF_A_SEARCH):
        for word in (word for word in WORDS[name] if word != getattr(request, name)):
            yield name, word, _with(request, name, word)
    for file in SETS["files"]:
        if {file} != request.files:
            yield "files", f"{file} alone", _with(request, "files", frozenset({file}))
    for name in FLAGS:
        other = not getattr(request, name)
        yield name, str(other).lower(), _with(request, name, other)


def _with(request: PolicyRequest, field: str, value: Any) -> PolicyRequest:
    return replace(request, **{field: value})
