"""Under a law that hides refusals: a refusal and a search that found nobody are alike in all that is seen."""

import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from countries import PERSON, STRANGER, Answering, Asking, InForce, a_print, an_image, law
from hypothesis import given
from hypothesis import strategies as st
from nodes import white

import papilar.exchange.asked as asked_module
from enroll.errors import ImageTruncated
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Act, Outcome
from papilar.audit.heads import read_payload
from papilar.errors import IdentityPresent
from papilar.exchange.approvals import approve
from papilar.exchange.disguise import Clocks, Pace, seal_answer
from papilar.exchange.seal import seal
from papilar.exchange.searching import Findings
from papilar.signing import Signer

PETTY = {"offence_class": types_pb2.OFFENCE_CLASS_PETTY}


@pytest.fixture(autouse=True)
def hiding(in_force: InForce) -> None:
    in_force.law = law(hides=True)


def seen(slv: Answering, signed: types_pb2.Signed) -> tuple[Any, ...]:
    """All that a peer sees of an answer, but for what is random and what is its own."""
    before = slv.log.head().size
    progress, last = slv.ask(signed)
    answer = peer_pb2.Answer.FromString(last.statement)
    head = read_payload(answer.log.head.statement)
    own = (answer.log.index - before, head.size - before, len(answer.erasure.print_sha256))
    for field in ("request_id", "create_time", "search_sha256", "erasure", "log", "padding"):
        answer.ClearField(field)
    steps = tuple(one.step for one in progress)
    return steps, last.ByteSize(), own, answer.SerializeToString(deterministic=True)


def test_all_that_is_seen_is_the_same(slv: Answering, hnd: Asking) -> None:
    nobody = seen(slv, hnd.sealed(a_print(STRANGER)))
    assert seen(slv, hnd.sealed(**PETTY)) == nobody, "refused, and it would have been a hit"
    assert seen(slv, hnd.sealed(a_print(STRANGER), **PETTY)) == nobody
    white_print = types_pb2.Print(position=1, ppi=500, image=white())
    assert seen(slv, hnd.sealed(white_print)) == nobody, "too poor to search with"
    assert seen(slv, hnd.sealed(files=[types_pb2.FILE_MINORS])) == nobody, "a file that is not here"
    said = [(one.act, one.outcome, one.code) for one in slv.entries() if one.outcome is not Outcome.DONE]
    assert said == [
        (Act.CONSULTATION, Outcome.NO_HIT, "ALLOWED"),
        (Act.REFUSAL, Outcome.REFUSED, "OFFENCE_TOO_LIGHT"),
        (Act.REFUSAL, Outcome.REFUSED, "OFFENCE_TOO_LIGHT"),
        (Act.CONSULTATION, Outcome.ERROR, "POOR_PRINTS"),
        (Act.CONSULTATION, Outcome.NO_HIT, "ALLOWED"),
    ], "the log has the truth"


def test_a_print_that_cannot_be_read_is_the_same(
    slv: Answering, hnd: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object, **__: object) -> Findings:
        raise ImageTruncated("print 0: damaged", remedy="send the whole file")

    nobody = seen(slv, hnd.sealed(a_print(STRANGER)))
    monkeypatch.setattr(asked_module, "search_files", fails)
    assert seen(slv, hnd.sealed()) == nobody
    assert slv.entries()[-3].code == "IMAGE_TRUNCATED"


def test_a_hit_is_still_one(slv: Answering, hnd: Asking) -> None:
    answer = slv.answer(hnd.sealed())
    assert answer.outcome == peer_pb2.OUTCOME_CANDIDATES
    assert [*answer.files, *answer.prints] == []
    assert (answer.complete, answer.threshold) == (False, 0)


def test_a_refused_search_reads_no_print(
    slv: Answering, hnd: Asking, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*_: object, **__: object) -> Findings:
        raise AssertionError("a print was read")

    monkeypatch.setattr(asked_module, "search_files", read)
    assert slv.answer(hnd.sealed(**PETTY)).outcome == peer_pb2.OUTCOME_NO_HIT


def test_the_quota_does_not_tell(slv: Answering, hnd: Asking, in_force: InForce) -> None:
    in_force.law = law(hides=True, per_day=2)
    outcomes = [slv.answer(hnd.sealed(**PETTY)).outcome for _ in range(3)]
    assert outcomes == [peer_pb2.OUTCOME_NO_HIT] * 2 + [peer_pb2.OUTCOME_QUOTA]


def test_a_person_who_disagrees_is_hidden_too(slv: Answering, hnd: Asking, in_force: InForce) -> None:
    nobody = seen(slv, hnd.sealed(a_print(STRANGER)))
    in_force.law = law(rules=PERSON, hides=True)
    search = hnd.statement(purpose=types_pb2.PURPOSE_ASYLUM)
    assert slv.answer(seal("search", search, hnd.signer())).outcome == peer_pb2.OUTCOME_NEEDS_HUMAN
    now = slv.clock()
    approve(slv.store, slv.log, search.request_id, person="sv1", agree=False, why="no ground", now=now)
    agreed = seen(slv, seal("search", search, hnd.signer()))
    assert agreed[1:3] == nobody[1:3]
    assert peer_pb2.Answer.FromString(agreed[3]).outcome == peer_pb2.OUTCOME_NO_HIT
    assert slv.entries()[-3].code == "PERSON_DISAGREED"


def test_what_carries_text_is_refused_whatever_the_law_says(slv: Answering, hnd: Asking) -> None:
    """The wrapping of the prints is looked at before the law has its effect: both are told alike."""
    for more in ({}, PETTY):
        image = an_image().image + b"Juan"
        with pytest.raises(IdentityPresent):
            slv.answer(hnd.sealed(types_pb2.Print(position=1, ppi=500, image=image), **more))


# ---- time


def slow_search(seconds: Callable[[], float]) -> Callable[..., Findings]:
    def search(*_: object, **__: object) -> Findings:
        time.sleep(seconds())
        return Findings()

    return search


def timed(slv: Answering, signed: types_pb2.Signed) -> float:
    started = time.monotonic()
    slv.answer(signed)
    return time.monotonic() - started


def gap(slv: Answering, hnd: Asking, calls: int) -> float:
    """By what share of each other the means of the two kinds of answers differ, asked in turn."""
    timed(slv, hnd.sealed(a_print(STRANGER)))
    both = [
        (timed(slv, hnd.sealed(a_print(STRANGER))), timed(slv, hnd.sealed(**PETTY))) for _ in range(calls)
    ]
    real, refused = (statistics.mean(times) for times in zip(*both, strict=True))
    return abs(real - refused) / real


@pytest.mark.parametrize("quantum", [0.001, 0.2])
def test_both_take_the_same_time(
    slv: Answering, hnd: Asking, monkeypatch: pytest.MonkeyPatch, quantum: float
) -> None:
    chance = np.random.default_rng(1)
    monkeypatch.setattr(asked_module, "search_files", slow_search(lambda: chance.uniform(0.03, 0.06)))
    slv.asked._pace = Pace(quantum)
    assert gap(slv, hnd, 8) < 0.35


@pytest.mark.soak
@pytest.mark.parametrize("quantum", [0.001, 0.2])
def test_within_a_tenth(slv: Answering, hnd: Asking, quantum: float) -> None:
    slv.asked._pace = Pace(quantum)
    found = gap(slv, hnd, 200 if quantum < 0.1 else 60)
    assert found < 0.1, f"{found:.1%}"


class Fake:
    """A clock that goes on when it is waited for."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        assert seconds >= 0
        self.time += seconds


@given(
    st.lists(st.tuples(st.integers(1, 40), st.floats(0.01, 9)), max_size=20),
    st.integers(1, 40),
    st.floats(0.05, 5),
)
def test_a_pretended_search_takes_what_a_real_one_took(
    taken: list[tuple[int, float]], prints: int, quantum: float
) -> None:
    fake = Fake()
    pace = Pace(quantum, Clocks(fake.now, fake.wait))
    for count, seconds in taken:
        began = fake.time
        fake.time += seconds
        pace.note(count, began)
    began = fake.time
    pace.pretend(prints)
    nearest = min((abs(count - prints) for count, _ in taken), default=0)
    known = [seconds for count, seconds in taken if abs(count - prints) == nearest] or [quantum / 2]
    assert any(abs(fake.time - began - seconds) < 1e-6 for seconds in known)
    pace.hold_back(began)
    quanta = (fake.time - began) / quantum
    assert abs(quanta - round(quanta)) < 1e-6


@given(st.integers(0, 70_000), st.sampled_from([256, 1000, 4096, 65_536]))
def test_a_sealed_answer_has_its_size(signer: Signer, length: int, multiple: int) -> None:
    answer = peer_pb2.Answer(code="A" * length)
    signed = seal_answer(answer, signer, at=datetime.now(UTC), multiple=multiple)
    assert signed.ByteSize() % multiple == 0
    assert signed.ByteSize() < length + 1500 + 2 * multiple


@pytest.fixture(scope="session")
def signer(world: Any) -> Signer:
    return Signer.load(world / "SLV/seal.pem", world / "SLV/seal.key")
