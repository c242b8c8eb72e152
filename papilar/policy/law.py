"""A country's law: its terms, its rules, its own examples, and the decision of a request under it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from papilar.errors import LawInvalid, RequestInvalid
from papilar.policy.bundle import FILES, LawText, read_text
from papilar.policy.decision import Decision, ruling
from papilar.policy.examples import Example, read_examples
from papilar.policy.quota import Quota
from papilar.policy.request import PolicyRequest, SearchType
from papilar.policy.rules import Rules
from papilar.policy.terms import Terms, read_terms


@dataclass(frozen=True, slots=True)
class Law:
    """A law, read and checked. Nothing in it changes; one may serve many threads.

    Attributes
    ----------
    terms : Terms
    rules : Rules
    examples : tuple of Example
    text : LawText
    sha256 : str
        Of the three files, in hexadecimal.
    """

    terms: Terms
    rules: Rules = field(repr=False)
    examples: tuple[Example, ...] = field(repr=False)
    text: LawText = field(repr=False)
    sha256: str

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return the law of a folder, or of a bundle, whose signature is not looked at.

        Parameters
        ----------
        path : Path
            The folder of `law.toml`, `rules.cedar` and `examples.toml`, or a file that `papilar policy pack`
            has written. A node takes its law from `InstalledLaw`, which does look at the signature.

        Returns
        -------
        Law

        Raises
        ------
        LawInvalid
            Names the file, the line or the term, and what to mend.
        """
        return cls.read(read_text(path))

    @classmethod
    def read(cls, text: LawText) -> Self:
        """Return the law that three texts are; raises `LawInvalid` as `load` does."""
        for name, part in zip(FILES, text, strict=True):
            _check_visible(name, part)
        terms, rules = read_terms(text.terms), Rules(text.rules)
        return cls(terms, rules, read_examples(text.examples), text, text.sha256())

    def decide(self, request: PolicyRequest) -> Decision:
        """Return what the law says of a request; whatever no rule permits is refused.

        Raises
        ------
        RequestInvalid
            The peer is this country itself.
        """
        if request.peer == self.terms.country:
            raise RequestInvalid("the peer is the law's own country", remedy="name the other country")
        judged = self.rules.judge(request, self.terms.country)
        return Decision(tuple(ruling(*one) for one in judged), self.terms.version, self.sha256)

    def quota(self, peer: str, search_type: SearchType) -> Quota:
        """Return how much a peer may ask of a type of search."""
        return self.terms.quota(peer, search_type)


def _check_visible(name: str, text: str) -> None:
    """Raise `LawInvalid` for a character that cannot be seen: with it, a law may read other than it is."""
    for line, content in enumerate(text.split("\n"), start=1):
        if not content.removesuffix("\r").replace("\t", "").isprintable():
            raise LawInvalid(
                f"{name}, line {line}: a character that cannot be seen", remedy="write that line anew"
            )
