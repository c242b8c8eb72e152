"""How many calls a user may make in a minute: one in a loop is refused and logged, and nobody else is."""

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from nodes import search_for
from test_oidc import AUDIENCE, ISSUER, key_set, token
from test_users import METADATA

from papilar.access import Access
from papilar.audit.entry import Act, Entry, Outcome
from papilar.config import Oidc, Users
from papilar.errors import CallerTooFast, ConfigInvalid, PurposeMissing
from papilar.requests import PrintInput

MOST = 3
MATCHING, ENROLLMENT = "papilar.api.v1.MatchingService", "papilar.api.v1.EnrollmentService"
Call = Callable[..., str]


class Context:
    """What a call brings: a user's token, and what for."""

    def __init__(self, name: str, mandate: Mapping[str, str]) -> None:
        self.said = {**mandate, "authorization": f"Bearer {token(sub=name)}"}

    def invocation_metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self.said.items())


class Clock:
    """Stands still, in the last minute of an hour, until it is turned."""

    def __init__(self) -> None:
        self.now = datetime.now(UTC).replace(minute=59, second=18, microsecond=0)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def entries() -> list[Entry]:
    return []


@pytest.fixture
def call(tmp_path: Path, clock: Clock, entries: list[Entry]) -> Call:
    """Make a call as a user at a node where each may make three a minute; returns what was done."""
    (tmp_path / "keys.json").write_text(json.dumps(key_set()))
    users = Users("SLV", oidc=Oidc(ISSUER, AUDIENCE, str(tmp_path / "keys.json")), calls_per_minute=MOST)
    access = Access(users, entries.append, clock=clock)
    probe = search_for(PrintInput(image=b"no image is read here"))

    def made(
        name: str = "e7", method: str = f"{MATCHING}/Identify", mandate: Mapping[str, str] = METADATA
    ) -> str:
        return access.answer(method, probe, Context(name, mandate), lambda: "done")

    return made


def exhaust(call: Call, name: str = "e7") -> None:
    for _ in range(MOST):
        assert call(name) == "done"


def test_one_call_too_many_is_refused_and_logged(call: Call, entries: list[Entry]) -> None:
    exhaust(call)
    with pytest.raises(CallerTooFast, match="more than 3 calls in a minute") as refused:
        call()
    assert refused.value.remedy == "try again in 42 s"
    said = entries[-1]
    assert (said.officer, said.act, said.outcome, said.code) == (
        "e7",
        Act.REFUSAL,
        Outcome.REFUSED,
        "CALLER_TOO_FAST",
    )
    assert len(entries) == MOST + 1


def test_others_are_answered_meanwhile(call: Call) -> None:
    exhaust(call)
    with pytest.raises(CallerTooFast):
        call()
    exhaust(call, "e8")


def test_the_next_minute_is_a_new_one(call: Call, clock: Clock) -> None:
    exhaust(call)
    clock.now += timedelta(seconds=41)
    with pytest.raises(CallerTooFast):
        call()
    clock.now += timedelta(seconds=1)
    exhaust(call)
    with pytest.raises(CallerTooFast):
        call()


def test_searches_and_comparisons_are_counted_together(call: Call) -> None:
    for name in ("Identify", "Verify"):
        call(method=f"{MATCHING}/{name}")
    call(method=f"{ENROLLMENT}/GetEncounter")
    with pytest.raises(CallerTooFast):
        call()


def test_what_is_about_nobody_and_what_enrols_is_not_counted(call: Call) -> None:
    for _ in range(2 * MOST):
        call(method=f"{MATCHING}/GetGallery")
        call(method=f"{ENROLLMENT}/Enroll")
    exhaust(call)


def test_what_is_refused_for_another_reason_is_not_counted(call: Call) -> None:
    for _ in range(2 * MOST):
        with pytest.raises(PurposeMissing):
            call(mandate={})
    exhaust(call)


def test_a_pace_of_none_is_no_setting() -> None:
    with pytest.raises(ConfigInvalid, match="calls_per_minute is 0"):
        Users("SLV", trust=Path("trust"), calls_per_minute=0)
