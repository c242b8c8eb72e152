"""How much a peer may ask in a day, and how many candidates it is given. A decision without a memory.

Who counts is the store. First in, first out: `expedite` moves a request forward and gives no more of them.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, time, timedelta
from types import MappingProxyType
from typing import NamedTuple

from papilar.policy.request import SearchType


class Quota(NamedTuple):
    """Searches of one type per peer and UTC day, and the most candidates that one is answered with."""

    per_day: int
    candidates: int


DEFAULT_QUOTAS: Mapping[SearchType, Quota] = MappingProxyType(
    {
        SearchType.TP_TP: Quota(100, 1),
        SearchType.TP_UL: Quota(100, 5),
        SearchType.LT_TP: Quota(20, 10),
        SearchType.LT_UL: Quota(5, 5),
        SearchType.PP_ULP: Quota(100, 5),
        SearchType.LP_PP: Quota(20, 5),
        SearchType.LP_ULP: Quota(5, 5),
    }
)
"""What holds where a law says nothing: the table of the exchange profile."""


class Admission(NamedTuple):
    """Whether one more search fits the quota.

    `left` searches remain today after this one. `retry_after` is the number of seconds to the next UTC
    midnight where none fits, else 0. `candidates` is the most that may be answered.
    """

    granted: bool
    candidates: int
    left: int
    retry_after: int


def admit(quota: Quota, *, used: int, now: datetime) -> Admission:
    """Say whether one more search fits.

    Parameters
    ----------
    quota : Quota
    used : int
        Searches of this peer and type counted since the last UTC midnight.
    now : datetime
        With its time zone.

    Returns
    -------
    Admission
    """
    left = quota.per_day - used
    if left > 0:
        return Admission(True, quota.candidates, left - 1, 0)
    return Admission(False, quota.candidates, 0, seconds_to_midnight(now))


def seconds_to_midnight(now: datetime) -> int:
    """Return the whole seconds, at least 1, until the next UTC midnight is reached."""
    here = now.astimezone(UTC)
    midnight = datetime.combine(here.date() + timedelta(days=1), time(), UTC)
    return -int((here - midnight) // timedelta(seconds=1))
