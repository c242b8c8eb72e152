"""Searches that a law lets pass only once a person of this country agrees: listed, decided, logged.

The prints of such a search are not kept: the asking country sends them again once somebody has agreed. What
waits is the search's name, the hash of its content, and what a person must know to decide.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from papilar.audit.entry import Act, Outcome
from papilar.audit.log import AuditLog
from papilar.errors import RequestInvalid
from papilar.exchange.records import of_own
from papilar.store.exchange import Approval, ExchangeStore


def pending(store: ExchangeStore) -> list[Approval]:
    """Return the searches that wait for a person, the oldest first."""
    return store.approvals()


def facts_of(waiting: Approval) -> Mapping[str, Any]:
    """Return what a person must know to decide."""
    facts: dict[str, Any] = json.loads(waiting.facts)
    return facts


def approve(
    store: ExchangeStore,
    log: AuditLog,
    request_id: str,
    *,
    person: str,
    agree: bool,
    why: str,
    now: datetime,
    peer: str = "",
) -> Approval:
    """Decide on a search that waits. The log has the decision before it counts.

    Parameters
    ----------
    person : str
        Pseudonym of who decides.
    why : str
        One line.
    peer : str
        The country that asks; needed where two of them chose the same request_id.

    Raises
    ------
    RequestInvalid
        No such search waits; or person or reason cannot be logged.
    """
    waiting = [one for one in store.approvals(request_id) if one.agreed is None and peer in ("", one.peer)]
    if len(waiting) != 1 or not why:
        raise RequestInvalid(
            "no search of that request_id waits for a person, or several do, or no reason was given",
            remedy="see papilar peer pending; give the country and a reason",
        )
    log.append(
        of_own(
            Act.CONSULTATION,
            at=now,
            officer=person,
            justification=why,
            request_id=request_id,
            asking=waiting[0].peer,
            outcome=Outcome.DONE if agree else Outcome.REFUSED,
            code="PERSON_AGREED" if agree else PERSON_DISAGREED,
        )
    )
    store.decide(waiting[0], agreed=agree, person=person, why=why, now=now)
    return waiting[0]


PERSON_DISAGREED = "PERSON_DISAGREED"
"""Code of a refusal that a person decided."""
