"""All cases, in the order in which they run: what uses a reference up comes after what looks at it."""

from papilar.conformance.cases import (
    answer,
    confirmation,
    identity,
    limits,
    log,
    seal,
    search,
    statistics,
    transport,
)
from papilar.conformance.verdict import Case

CASES: tuple[Case, ...] = (
    *transport.CASES,
    *limits.CASES,
    *seal.CASES,
    *search.CASES,
    *identity.CASES,
    *answer.CASES,
    *confirmation.CASES,
    *log.CASES,
    *statistics.CASES,
)
"""Every case of the contract that the kit knows."""

SHARED_SEARCHES = 2
"""Searches that cases share: one that finds nobody, one that finds somebody."""
