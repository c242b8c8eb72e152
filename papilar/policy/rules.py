"""The rules of a law, in Cedar: read, checked against the schema, and asked. The only door to cedarpy.

Source and schema are parsed once; a decision costs about a tenth of a millisecond per file. What Cedar cannot
evaluate is denied: it would otherwise skip a rule that fails, and a skipped `forbid` opens a door.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.resources import files
from itertools import accumulate
from typing import Any, NamedTuple

import cedarpy

from papilar.errors import LawInvalid
from papilar.identity import Role, is_country
from papilar.policy.request import ABOUT_FILES, FLAGS, WORDS, File, PolicyRequest

MOST_BYTES = 256 * 1024
"""Largest text of rules that is read; the laws we ship take 4 KiB."""

_RULE_BYTES, _DEPTH = 8 * 1024, 32
"""Largest rule, deepest brackets. Cedar reads a rule by recursion: a thousand brackets end the process."""

DEFAULT_DENY, FAILED = "NO_RULE_PERMITS", "LAW_CANNOT_DECIDE"
"""The codes that no rule may bear: no rule permits; the rules cannot be evaluated."""


class Rule(NamedTuple):
    """One rule of a law.

    `reads` is its plain sentence, `code` what a refusal by it is called, empty for a permission. With
    `needs_human` the permission holds once a person of this country agrees. `line` is where it begins.
    """

    id: str
    permits: bool
    reads: str
    code: str
    needs_human: bool
    line: int
    text: str


class Judgement(NamedTuple):
    """What Cedar says of one file: the rules that decided, in the order of the law."""

    allowed: bool
    rules: tuple[Rule, ...]
    failed: bool


class Rules:
    """The rules of a law, ready to be asked.

    Parameters
    ----------
    text : str
        Cedar policies, each with `@id`, `@reads`, and `@code` where it forbids.

    Attributes
    ----------
    rules : tuple of Rule
        In the order of the text.
    countries : frozenset of str
        Those that the rules name.

    Raises
    ------
    LawInvalid
        Names the line and what to mend.
    """

    def __init__(self, text: str) -> None:
        if len(text.encode()) > MOST_BYTES:
            raise LawInvalid("the rules are too long", remedy=f"use at most {MOST_BYTES} bytes")
        pieces = list(_pieces(text))
        for line, piece in pieces:
            _check_rule(line, piece)
        self.countries = frozenset(name for _, piece in pieces for name in _countries(piece))
        self._policies = cedarpy.PolicySet.from_str(text)
        if len(self._policies) != len(pieces):  # what Cedar obeys is what was looked at
            raise LawInvalid("Cedar finds other rules than can be read", remedy="end each with a semicolon")
        self.rules = tuple(_rules(text, pieces))
        self._by_id = {f"policy{i}": rule for i, rule in enumerate(self.rules)}

    def judge(self, request: PolicyRequest, country: str) -> list[tuple[File | None, Judgement]]:
        """Ask the rules about each file of a request, or about the node, None, where no file is meant."""
        about = sorted(request.files) if request.files else [None]
        context = json.dumps(_context(request))
        asked = [
            {
                "principal": 'Person::"asking"',
                "action": f'Action::"{request.action}"',
                "resource": f'File::"{file}"' if file else f'Country::"{country}"',
                "context": context,
            }
            for file in about
        ]
        said = cedarpy.is_authorized_batch(asked, self._policies, _person(request.roles), _schema())
        return list(zip(about, map(self._judgement, said), strict=True))

    def _judgement(self, said: cedarpy.AuthzResult) -> Judgement:
        if said.diagnostics.errors or said.decision is cedarpy.Decision.NoDecision:
            return Judgement(False, (), True)
        deciding = {self._by_id[reason] for reason in said.diagnostics.reasons}
        return Judgement(said.allowed, tuple(rule for rule in self.rules if rule in deciding), False)


def schema_text() -> str:
    """Return the schema that rules are written against."""
    return files("papilar.policy").joinpath("papilar.cedarschema").read_text(encoding="utf-8")


# ---- asking


def _context(request: PolicyRequest) -> Mapping[str, Any]:
    about: dict[str, Any] = {
        "peer": _entity("Country", request.peer),
        "direction": _entity("Direction", request.direction),
    }
    if request.action in ABOUT_FILES:
        for name in ("purpose", "offence_class", "legal_basis", "search_type"):
            about[name] = _entity(WORDS[name].__name__, getattr(request, name))
        about |= {name: getattr(request, name) for name in FLAGS}
    return about


def _entity(kind: str, name: str) -> Mapping[str, Any]:
    return {"__entity": {"type": kind, "id": str(name)}}


@lru_cache(maxsize=1)
def _schema() -> cedarpy.Schema:
    return cedarpy.Schema.from_str(schema_text())


@lru_cache(maxsize=2 ** len(Role))
def _person(roles: frozenset[Role]) -> cedarpy.Entities:
    uid = {"type": "Person", "id": "asking"}
    parents = [{"type": "Role", "id": str(role)} for role in sorted(roles)]
    return cedarpy.Entities.from_json_str(
        json.dumps([{"uid": uid, "attrs": {}, "parents": parents}]), _schema()
    )


# ---- reading


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """Yield line and text of every rule: up to a semicolon that is in no string and no comment."""
    start = 0
    for found in _TOKEN.finditer(text):
        if found[0] == ";":
            yield _trimmed(text, start, found.end())
            start = found.end()
    line, rest = _trimmed(text, start, len(text))
    if rest:
        yield line, rest


_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|//[^\n\r]*|[;()\[\]{}]')
"""What decides where a rule ends and how deep it is: strings and comments whole, marks one by one."""


def _depth(piece: str) -> int:
    """Return how deep the brackets of a rule stand in each other."""
    marks = [found[0] for found in _TOKEN.finditer(piece)]
    return max(accumulate((mark in _OPENING) - (mark in _CLOSING) for mark in marks), default=0)


_OPENING, _CLOSING = {"(", "[", "{"}, {")", "]", "}"}


def _trimmed(text: str, start: int, end: int) -> tuple[int, str]:
    """Return the rule without the comments and blank lines before it, and the line it then begins on."""
    blank = re.match(r"(?:\s|//[^\n\r]*)*", text[start:end])
    begin = start + (blank.end() if blank else 0)
    return text.count("\n", 0, begin) + 1, text[begin:end]


def _check_rule(line: int, piece: str) -> None:
    """Raise `LawInvalid` where Cedar cannot read one rule, or the schema does not bear it."""
    if len(piece.encode()) > _RULE_BYTES or _depth(piece) > _DEPTH:
        raise LawInvalid(
            f"line {line}: this rule is too long or too deep",
            remedy=f"split it: at most {_RULE_BYTES} bytes, brackets at most {_DEPTH} deep",
        )
    try:
        result = cedarpy.validate_policies(piece, _schema())
        count = len(cedarpy.PolicySet.from_str(piece))
    except ValueError as error:
        raise LawInvalid(
            f"line {line}: this is no Cedar rule ({_safe(str(error))})",
            remedy="mend the rule that begins there; does it end in a semicolon?",
        ) from error
    if result.errors:
        causes = "; ".join(_cause(str(one.error)) for one in result.errors)
        raise LawInvalid(
            f"line {line}: the schema does not bear this rule: {causes}",
            remedy="use the words of papilar.cedarschema, and name the action whose context the rule reads",
        )
    if not all(map(is_country, _countries(piece))):
        raise LawInvalid(
            f"line {line}: a country is none", remedy='write Country::"HND", as ISO 3166-1 alpha-3'
        )
    if count != 1:
        raise LawInvalid(
            f"line {line}: a rule has an open place", remedy="write no ?principal and no ?resource"
        )


def _countries(piece: str) -> list[str]:
    return re.findall(r'Country::"([^"]*)"', piece)


def _cause(error: str) -> str:
    return _safe(re.sub(r"^for policy `policy\d+`[,:] ", "", error))


def _safe(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)[:300]


def _rules(text: str, pieces: Sequence[tuple[int, str]]) -> Iterator[Rule]:
    """Yield the rules with their annotations, which Cedar itself does not look at."""
    try:
        static = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    except RecursionError:  # a chain of && is nested as deep as it is long
        raise LawInvalid("a rule has too many conditions", remedy="split it into several rules") from None
    seen: set[str] = set()
    for i, (line, piece) in enumerate(pieces):
        policy = static[f"policy{i}"]
        rule = _rule(line, piece, permits=policy["effect"] == "permit", notes=policy.get("annotations") or {})
        if rule.id in seen:
            raise LawInvalid(f"line {line}: there are two rules '{rule.id}'", remedy="give each its own @id")
        seen.add(rule.id)
        yield rule


def _rule(line: int, piece: str, *, permits: bool, notes: Mapping[str, str | None]) -> Rule:
    unknown = set(notes) - {"id", "reads", "decision" if permits else "code"}
    if unknown:
        raise LawInvalid(
            f"line {line}: @{min(unknown)} does not belong to a {'permit' if permits else 'forbid'}",
            remedy="a permit has @id, @reads and perhaps @decision; a forbid @id, @reads and @code",
        )
    code = "" if permits else _noted(line, notes, "code", r"[A-Z][A-Z_]{2,39}", "capital letters and _")
    if code in (DEFAULT_DENY, FAILED):
        raise LawInvalid(
            f"line {line}: the code {code} is taken", remedy="give the refusal a code of its own"
        )
    if notes.get("decision", "needs_human") != "needs_human":
        raise LawInvalid(f"line {line}: an unknown @decision", remedy='write @decision("needs_human")')
    return Rule(
        _noted(line, notes, "id", r"[a-z][a-z0-9-]{1,59}", "small letters, digits and -"),
        permits,
        _noted(line, notes, "reads", r"[^\x00-\x1f\x7f-\x9f]{10,400}", "one sentence of 10 to 400 letters"),
        code,
        "decision" in notes,
        line,
        piece,
    )


def _noted(line: int, notes: Mapping[str, str | None], name: str, pattern: str, words: str) -> str:
    value = notes.get(name)
    if not (value and re.fullmatch(pattern, value)):
        raise LawInvalid(f"line {line}: @{name} is missing or not well formed", remedy=f"write {words}")
    return value
