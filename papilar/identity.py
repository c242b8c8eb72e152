"""Who acts between nodes: names as a certificate states them, read strictly.

    spiffe://slv.papilar/node/main                  a node's TLS certificate
    spiffe://slv.papilar/seal/main                  a node's signing key
    spiffe://slv.papilar/law/main                   the key that signs a country's policies
    spiffe://slv.papilar/user/examiner+officer/e7   a person, under a pseudonym

A name has one spelling only, so two names are the same person or node where their bytes are the same.
"""

import re
from enum import StrEnum
from typing import NamedTuple, Self

from papilar.errors import RequestInvalid


class Kind(StrEnum):
    """What a name is the name of."""

    NODE = "node"
    SEAL = "seal"
    LAW = "law"
    USER = "user"


class Role(StrEnum):
    """What a user may be; the policy of a country says what each may do."""

    ADMINISTRATOR = "administrator"
    EXAMINER = "examiner"
    OFFICER = "officer"
    ORDERING_OFFICER = "ordering-officer"
    SUPERVISOR = "supervisor"


class Identity(NamedTuple):
    """Who acts.

    Attributes
    ----------
    country : str
        ISO 3166-1 alpha-3, upper case: SLV.
    kind : Kind
    name : str
        1 to 63 of `a-z`, `0-9` and the hyphen, which is neither first nor last; of a user the pseudonym.
    roles : frozenset of Role
        At least one of a user, none of the other kinds.

    References
    ----------
    SPIFFE ID, section 2: the trust domain is the country's, `slv.papilar`.
    """

    country: str
    kind: Kind
    name: str
    roles: frozenset[Role] = frozenset()

    @property
    def uri(self) -> str:
        """The name as a certificate states it; its roles are in the order of the alphabet."""
        middle = [str(self.kind), *(["+".join(sorted(self.roles))] if self.kind is Kind.USER else [])]
        return f"{domain_uri(self.country)}/{'/'.join(middle)}/{self.name}"

    @classmethod
    def parse(cls, uri: str) -> Self:
        """Read a name.

        Raises
        ------
        RequestInvalid
            Not a name, or not in its one spelling. The text is not quoted: it may be anything.
        """
        found = _FORM.fullmatch(uri)
        roles = found["roles"].split("+") if found and found["roles"] else []
        if found is None or roles != sorted(set(roles) & _ROLES):
            raise RequestInvalid(
                "the name of a certificate is none of ours",
                remedy="write spiffe://slv.papilar/node/main, or .../user/ROLE+ROLE/PSEUDONYM with each of "
                f"its roles once, in the order of the alphabet: {', '.join(sorted(_ROLES))}",
            )
        kind = Kind(found["kind"] or Kind.USER)
        return cls(found["country"].upper(), kind, found["name"], frozenset(map(Role, roles)))


_ROLES = frozenset(map(str, Role))
_FORM = re.compile(
    r"spiffe://(?P<country>[a-z]{3})\.papilar/"
    r"(?:(?P<kind>node|seal|law)|user/(?P<roles>[a-z+-]+))/"
    r"(?P<name>[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)"
)


def is_country(text: str) -> bool:
    """Return whether a text has the form of an ISO 3166-1 alpha-3 code, upper case."""
    return re.fullmatch("[A-Z]{3}", text) is not None


def domain_uri(country: str) -> str:
    """Return the trust domain of a country: the name of its authority, and how each of its names begins."""
    return f"spiffe://{country.lower()}.papilar"


def server_name(country: str) -> str:
    """Return the DNS name in the TLS certificate of every node of a country."""
    return f"node.{country.lower()}.papilar"
