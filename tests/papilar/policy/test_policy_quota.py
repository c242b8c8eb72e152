"""How much a peer may ask: against a naive count over a day, and to the second at midnight."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from papilar.policy import Quota, SearchType, admit
from papilar.policy.quota import DEFAULT_QUOTAS, seconds_to_midnight

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)
TIMES = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


@given(st.integers(0, 30), st.integers(1, 40))
def test_as_many_are_admitted_as_the_quota_says(per_day: int, asked: int) -> None:
    used = 0
    for _ in range(asked):
        admission = admit(Quota(per_day, 5), used=used, now=NOON)
        assert admission.candidates == 5
        if not admission.granted:
            assert (admission.left, admission.retry_after) == (0, 12 * 3600)
            break
        used += 1
        assert (admission.left, admission.retry_after) == (per_day - used, 0)
    assert used == min(per_day, asked)


@given(TIMES)
def test_the_wait_ends_on_the_next_day_and_not_before(now: datetime) -> None:
    wait = seconds_to_midnight(now)
    assert 1 <= wait <= 86_400
    assert (now + timedelta(seconds=wait)).date() == now.date() + timedelta(days=1)
    assert (now + timedelta(seconds=wait - 1)).date() == now.date()


def test_the_day_is_that_of_utc() -> None:
    here = datetime(2026, 11, 22, 18, tzinfo=timezone(timedelta(hours=-6)))  # San Salvador: midnight in UTC
    assert seconds_to_midnight(here) == 86_400


@pytest.mark.parametrize("kind", SearchType)
def test_the_profile_has_a_quota_for_every_search(kind: SearchType) -> None:
    assert DEFAULT_QUOTAS[kind].per_day >= 5
    assert 1 <= DEFAULT_QUOTAS[kind].candidates <= 10
