"""A law's own examples: requests, and what the law is meant to say to each.

[usual]                          # what an example does not say itself
action = "search"
direction = "inbound"
peer = "HND"
roles = ["investigator"]
...

[[example]]
name = "A consul may not look into the criminal file"
given = { roles = ["consular_officer"] }
expect = "DENY"
rules = []                       # the rules that decide; none: the default deny
code = "NO_RULE_PERMITS"         # may be left out
files = ["criminal"]             # may be left out: the files that may be searched now
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from papilar.errors import LawInvalid, RequestInvalid
from papilar.policy.decision import Decision, Verdict
from papilar.policy.request import ABOUT_FILES, OF_A_SEARCH, PolicyRequest
from papilar.policy.terms import read_toml


class Example(NamedTuple):
    """A request and what a law is meant to say to it; None is what an example leaves open."""

    name: str
    request: PolicyRequest
    verdict: Verdict
    rules: frozenset[str]
    code: str | None
    files: frozenset[str] | None

    def differs(self, decision: Decision) -> str:
        """Return where a decision is not what was meant, empty where it is."""
        meant = {
            "verdict": (self.verdict, decision.verdict),
            "rules": (self.rules, frozenset(decision.rules)),
            "code": (self.code, decision.code),
            "files": (self.files, decision.files),
        }
        wrong = [f"{k}: {_said(got)}" for k, (want, got) in meant.items() if want is not None and want != got]
        return "; ".join(wrong)


def read_examples(text: str) -> tuple[Example, ...]:
    """Return the examples of `examples.toml`.

    Raises
    ------
    LawInvalid
        It is no TOML, or an example is not well formed; it is named by its place and its name.
    """
    table = read_toml(text, "examples.toml")
    usual, listed = table.pop("usual", {}), table.pop("example", [])
    if table or not isinstance(usual, dict) or not isinstance(listed, list):
        raise LawInvalid("examples.toml is not well formed", remedy="write [usual] and [[example]], no more")
    return tuple(_example(i, usual, given) for i, given in enumerate(listed, start=1))


def _example(place: int, usual: Mapping[str, Any], given: object) -> Example:
    if not isinstance(given, dict) or set(given) - _KEYS or not {"name", "expect", "rules"} <= set(given):
        raise LawInvalid(
            f"example {place} lacks name, expect or rules, or says more than there is",
            remedy="it has name, given, expect, rules, and perhaps code and files",
        )
    rules, files, code = given["rules"], given.get("files"), given.get("code", "")
    plain = isinstance(code, str) and isinstance(given["name"], str)
    listed = _words(rules) and (files is None or _words(files))
    if not (plain and listed) or given["expect"] not in list(Verdict):
        raise LawInvalid(
            f"example {place}: a word is not well formed",
            remedy=f"expect one of {', '.join(Verdict)}; rules and files are lists of words, or []",
        )
    try:
        request = PolicyRequest.of(_merged(usual, given.get("given", {})))
    except RequestInvalid as error:
        raise LawInvalid(f"example {place}: {error.cause}", remedy=error.remedy) from error
    wanted = None if files is None else frozenset(files)
    return Example(given["name"], request, Verdict(given["expect"]), frozenset(rules), code or None, wanted)


_KEYS = {"name", "given", "expect", "rules", "code", "files"}


def _merged(usual: Mapping[str, Any], given: object) -> Mapping[str, Any]:
    """Return a request's table: what is given, else what is usual and fits the action."""
    if not isinstance(given, Mapping):
        raise RequestInvalid("what is given is no table", remedy='write given = { purpose = "border" }')
    about_files = given.get("action", usual.get("action")) in list(ABOUT_FILES)
    return {k: v for k, v in usual.items() if about_files or k not in OF_A_SEARCH} | dict(given)


def _words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)


def _said(value: object) -> str:
    return str(value) if isinstance(value, str) else ", ".join(sorted(map(str, value))) or "none"  # type: ignore[call-overload]
