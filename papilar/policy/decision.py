"""What a law says of a request: a ruling for each file, and what follows from them together."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from papilar.policy.request import File
from papilar.policy.rules import DEFAULT_DENY, FAILED, Judgement, Rule


class Verdict(StrEnum):
    """What a law says to a request."""

    ALLOW = "ALLOW"
    DENY = "DENY"
    NEEDS_HUMAN = "NEEDS_HUMAN"


class Ruling(NamedTuple):
    """What a law says of one file, or, where the request is about a node, of None."""

    file: File | None
    verdict: Verdict
    code: str
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What a law says of a request, file by file, and which law it was.

    Attributes
    ----------
    rulings : tuple of Ruling
        One for each file, in the order of their names.
    version : int
    sha256 : str
        Of the law, as `Law.sha256`; what the log of a request keeps.
    """

    rulings: tuple[Ruling, ...]
    version: int
    sha256: str

    @property
    def verdict(self) -> Verdict:
        """ALLOW where a file may be searched now; NEEDS_HUMAN where one waits for a person; else DENY."""
        given = {ruling.verdict for ruling in self.rulings}
        return next((v for v in (Verdict.ALLOW, Verdict.NEEDS_HUMAN) if v in given), Verdict.DENY)

    @property
    def files(self) -> frozenset[File]:
        """The files that may be searched now; the others must not be."""
        return self._with(Verdict.ALLOW)

    @property
    def waiting(self) -> frozenset[File]:
        """The files that may be searched once a person of this country agrees."""
        return self._with(Verdict.NEEDS_HUMAN)

    @property
    def code(self) -> str:
        """The verdict as a word for programs: of a refusal, why; a `forbid` goes before the default deny."""
        codes = [ruling.code for ruling in self.rulings if ruling.verdict is self.verdict]
        return min(codes, key=lambda code: code == DEFAULT_DENY)

    @property
    def rules(self) -> tuple[str, ...]:
        """The rules that decided, in the order of the law; none where the default deny did."""
        return tuple(rule.id for rule in self._rules())

    @property
    def reads(self) -> tuple[str, ...]:
        """The sentences of those rules."""
        return tuple(rule.reads for rule in self._rules())

    def _with(self, verdict: Verdict) -> frozenset[File]:
        return frozenset(r.file for r in self.rulings if r.verdict is verdict and r.file is not None)

    def _rules(self) -> list[Rule]:
        deciding = {rule for ruling in self.rulings for rule in ruling.rules}
        return sorted(deciding, key=lambda rule: (rule.line, rule.id))


def ruling(file: File | None, judged: Judgement) -> Ruling:
    """Return the ruling that follows from what the rules say of a file."""
    if judged.failed:
        return Ruling(file, Verdict.DENY, FAILED, ())
    if not judged.allowed:
        return Ruling(
            file, Verdict.DENY, judged.rules[0].code if judged.rules else DEFAULT_DENY, judged.rules
        )
    if any(rule.needs_human for rule in judged.rules):
        return Ruling(file, Verdict.NEEDS_HUMAN, "NEEDS_HUMAN", judged.rules)
    return Ruling(file, Verdict.ALLOW, "ALLOWED", judged.rules)
