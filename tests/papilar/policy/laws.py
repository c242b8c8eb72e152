"""Laws for the tests: the examples that we ship, small ones, and requests of every kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from papilar.identity import Role
from papilar.policy import Law, LawText, PolicyRequest
from papilar.policy.request import ABOUT_FILES, FLAGS, OF_A_SEARCH, SETS, WORDS

EXAMPLES = Path(__file__).resolve().parents[3] / "examples" / "policies"
SHIPPED = ("restrictive", "reciprocal", "humanitarian")

TERMS = 'country = "SLV"\nversion = {version}\ntitle = "A law of the tests"\nvalid_from = 2026-01-01\n'
PERMIT = '@id("all")\n@reads("Everything is permitted here.")\npermit(principal, action, resource);\n'

USUAL: dict[str, Any] = {
    "action": "search",
    "direction": "inbound",
    "peer": "HND",
    "roles": ["examiner"],
    "files": ["criminal"],
    "purpose": "criminal_investigation",
    "offence_class": "serious",
    "legal_basis": "treaty",
    "search_type": "TP_TP",
}


def forbid(name: str, code: str, condition: str = "true", *, action: str = "search") -> str:
    notes = f'@id("{name}") @reads("This is not permitted here.") @code("{code}")'
    return f'{notes}\nforbid(principal, action == Action::"{action}", resource) when {{ {condition} }};\n'


def text(rules: str = PERMIT, *, version: int = 1, more: str = "", examples: str = "") -> LawText:
    return LawText(TERMS.format(version=version) + more, rules, examples)


def law(rules: str = PERMIT, **given: Any) -> Law:
    return Law.read(text(rules, **given))


def asked(**given: Any) -> PolicyRequest:
    return PolicyRequest.of(USUAL | given)


def rewritten(original: Law, rules: Sequence[str]) -> Law:
    return Law.read(original.text._replace(rules="\n".join(rules)))


@st.composite
def requests(draw: st.DrawFn) -> PolicyRequest:
    """Draw any request that there can be, from any country but the laws' own."""
    table: dict[str, Any] = {name: draw(st.sampled_from(list(kind))) for name, kind in WORDS.items()}
    table["peer"] = draw(st.sampled_from(["CRI", "NIC", "MEX"]))
    table["roles"] = draw(st.sets(st.sampled_from(list(Role))))
    table["files"] = draw(st.sets(st.sampled_from(list(SETS["files"])), min_size=1))
    table |= {name: draw(st.booleans()) for name in FLAGS}
    about_files = table["action"] in ABOUT_FILES
    return PolicyRequest.of({k: v for k, v in table.items() if about_files or k not in OF_A_SEARCH})
