"""What a case is, and how one ends: passed, failed with what was sent and what came, or not run and why."""

from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from papilar.conformance.bench import Bench
    from papilar.conformance.wire import Reply


class Group(StrEnum):
    """What a case is about; the first part of its id."""

    TRANSPORT = "transport"
    SEAL = "seal"
    SEARCH = "search"
    IDENTITY = "identity"
    ANSWER = "answer"
    CONFIRMATION = "confirmation"
    LOG = "log"
    LIMITS = "limits"
    STATISTICS = "statistics"


class Result(StrEnum):
    """How a case ended."""

    PASS = "pass"  # noqa: S105
    FAIL = "FAIL"
    NOT_RUN = "not run"


class Check(NamedTuple):
    """One thing looked at: what was sent, what must come, what came, and whether that is it."""

    holds: bool
    sent: str
    wanted: str
    came: str


class Case(NamedTuple):
    """One sentence of the contract that a machine can test.

    Attributes
    ----------
    id : str
        `GROUP.name`.
    clause : str
        Where the contract says it: the message and field, or the paragraph of `types.proto`.
    run : callable
        Gives the checks one by one; the first that does not hold ends the case.
    searches : int
        Most calls of Search that it makes in the name of the testing country.
    """

    id: str
    clause: str
    run: Callable[["Bench"], Iterable[Check]]
    searches: int = 0

    @property
    def group(self) -> Group:
        """What it is about."""
        return Group(self.id.partition(".")[0])


class Verdict(NamedTuple):
    """How a case ended; `check` is the one that failed, `needs` what a case lacks that was not run."""

    case: Case
    result: Result
    check: Check | None = None
    needs: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        said = {"id": self.case.id, "clause": self.case.clause, "result": str(self.result)}
        if self.check is not None:
            said |= {"sent": self.check.sent, "wanted": self.check.wanted, "came": self.check.came}
        return said | ({"needs": self.needs} if self.needs else {})


class Unmet(Exception):
    """A case cannot be run; its text says what it needs."""


def judge(case: Case, bench: "Bench") -> Verdict:
    """Run a case."""
    found = False
    try:
        for check in case.run(bench):
            found = True
            if not check.holds:
                return Verdict(case, Result.FAIL, check)
    except Unmet as unmet:
        return Verdict(case, Result.NOT_RUN, needs=str(unmet))
    return (
        Verdict(case, Result.PASS) if found else Verdict(case, Result.NOT_RUN, needs="something to look at")
    )


def refused(sent: str, reply: "Reply", *wanted: str) -> Check:
    """Check that a call ended with one of these: a code and a reason, `PERMISSION_DENIED COUNTRY_MISMATCH`.

    A reason that ends in `*` stands for all that begin so.
    """
    came = f"{reply.code} {reply.reason}"
    holds = any(came == each or (each[-1] == "*" and came.startswith(each[:-1])) for each in wanted)
    return Check(holds and reply.answer is None, sent, " or ".join(wanted), str(reply))


def equal(sent: str, field: str, wanted: object, came: object) -> Check:
    """Check that a field has one value."""
    return Check(wanted == came, sent, f"{field} {_shown(wanted)}", f"{field} {_shown(came)}")


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
