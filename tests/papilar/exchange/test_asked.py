"""The asked side: searches, candidates, references, conclusions, a person who must agree, erasure."""

import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from countries import (
    IMAGED,
    KEY,
    PERMIT,
    PERSON,
    SEED,
    STRANGER,
    Answering,
    Asking,
    InForce,
    a_print,
    an_image,
    law,
    read,
)
from nodes import picture, white

from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit import check as audit_check
from papilar.audit import merkle
from papilar.audit.entry import Act, Outcome, Side, subject_mark
from papilar.audit.heads import SignedHead, TreeHead
from papilar.errors import NotPermitted, ReferenceUnknown, RequestConflict
from papilar.exchange import references
from papilar.exchange.answers import check_answer, check_proof, from_head, to_head
from papilar.exchange.approvals import approve, facts_of, pending
from papilar.exchange.seal import open_sealed, seal
from papilar.store.exchange import ExchangeStore
from papilar.store.store import FILE_NAME

Step = peer_pb2.Progress


def hit(slv: Answering, hnd: Asking, **fields: Any) -> tuple[peer_pb2.Search, peer_pb2.Answer]:
    search = hnd.statement(**fields)
    return search, slv.answer(seal("search", search, hnd.signer()))


class TestSearch:
    def test_over_the_wire_a_hit_has_all_that_an_examiner_needs(self, slv: Answering, hnd: Asking) -> None:
        search = hnd.statement(an_image())
        request = peer_pb2.SearchRequest(search=seal("search", search, hnd.signer()))
        with hnd.calling() as stub:
            *progress, last = list(stub.Search(request, timeout=60))
        assert progress[0].progress.step == Step.STEP_ACCEPTED
        answer, _ = check_answer(last.answer, search, slv.trust, first_asked=slv.clock(), at=slv.clock())
        (candidate,) = answer.candidates
        (met,) = candidate.prints
        assert met.print.image
        assert met.print.position == 1
        assert met.print.ppi == 500
        assert candidate.band == types_pb2.BAND_GREEN
        assert candidate.score > answer.threshold > 0
        assert answer.complete
        assert list(answer.files) == [types_pb2.FILE_CRIMINAL]
        assert f"person-{IMAGED}" not in str(answer), "no subject goes out"
        assert list(answer.erasure.print_sha256) == [sha256(picture(IMAGED, 1)).digest()]
        expires = slv.clock() + timedelta(days=14)
        assert abs(candidate.expire_time.seconds - expires.timestamp()) < 60

    def test_every_answer_has_one_size_and_what_was_done_is_logged(self, slv: Answering, hnd: Asking) -> None:
        found = slv.ask(hnd.sealed())[1]
        nobody = slv.ask(hnd.sealed(a_print(STRANGER)))[1]
        refused = slv.ask(hnd.sealed(offence_class=types_pb2.OFFENCE_CLASS_PETTY))[1]
        assert {one.ByteSize() for one in (found, nobody, refused)} == {64 * 1024}
        outcomes = [read(one).outcome for one in (found, nobody, refused)]
        assert outcomes == [peer_pb2.OUTCOME_CANDIDATES, peer_pb2.OUTCOME_NO_HIT, peer_pb2.OUTCOME_REFUSED]
        assert read(refused).code == "OFFENCE_TOO_LIGHT"
        said = [(one.act, one.outcome) for one in slv.entries()]
        came, went = (Act.COLLECTION, Outcome.DONE), (Act.ERASURE, Outcome.DONE)
        assert said == [
            (Act.CONSULTATION, Outcome.CANDIDATES),
            came,
            (Act.DISCLOSURE, Outcome.CANDIDATES),
            went,
            (Act.CONSULTATION, Outcome.NO_HIT),
            came,
            went,
            (Act.REFUSAL, Outcome.REFUSED),
            came,
            went,
        ]
        first, _, disclosed = slv.entries()[:3]
        assert disclosed.subjects == (subject_mark(KEY, f"person-{SEED}"),)
        assert disclosed.recipients == ("HND",)
        assert (first.side, first.asking, first.asked, first.officer) == (Side.ASKED, "HND", "SLV", "HND:o1")
        assert (first.reason, first.search_type, first.case_reference) == ("ART_12", "TP_TP", "C-2026/1")
        assert len({one.note for one in slv.entries()}) == 10, "each entry has its salt"
        assert audit_check.verify(slv.log.store).counts == {}

    def test_a_poor_print_is_told(self, slv: Answering, hnd: Asking) -> None:
        answer = slv.answer(hnd.sealed(types_pb2.Print(position=1, ppi=500, image=white())))
        assert answer.outcome == peer_pb2.OUTCOME_POOR_PRINTS
        assert not answer.prints[0].accepted
        assert answer.prints[0].reasons

    def test_the_law_may_ask_for_better_prints(self, slv: Answering, hnd: Asking, in_force: InForce) -> None:
        in_force.law = law(more="least_print_quality = 100")
        answer = slv.answer(hnd.sealed(an_image()))
        assert answer.outcome == peer_pb2.OUTCOME_POOR_PRINTS
        assert answer.prints[0].reasons == ["BELOW_LEAST_QUALITY"]

    def test_a_file_that_is_not_here_makes_the_answer_incomplete(self, slv: Answering, hnd: Asking) -> None:
        files = [types_pb2.FILE_CRIMINAL, types_pb2.FILE_MISSING_PERSONS]
        answer = slv.answer(hnd.sealed(files=files))
        assert answer.outcome == peer_pb2.OUTCOME_CANDIDATES
        assert not answer.complete
        assert list(answer.files) == [types_pb2.FILE_CRIMINAL]

    def test_describe(self, slv: Answering, hnd: Asking) -> None:
        with hnd.calling() as stub:
            signed = stub.DescribeNode(peer_pb2.DescribeNodeRequest(), timeout=30).description
        empty = peer_pb2.NodeDescription()
        described, _ = open_sealed("description", signed, empty, slv.trust, country="SLV", at=slv.clock())
        assert (described.country, described.peer, described.policy_version) == ("SLV", "HND", 3)
        offered = {one.search_type: (one.per_day, one.candidates) for one in described.quotas}
        assert offered[types_pb2.SEARCH_TYPE_TP_TP] == (1000, 3)


class TestRepeats:
    def test_the_same_bytes_and_the_same_content_get_the_first_answer(
        self, slv: Answering, hnd: Asking
    ) -> None:
        search = hnd.statement()
        signed = seal("search", search, hnd.signer())
        first, entries = slv.ask(signed)[1], len(slv.entries())
        search.create_time.seconds += 60
        for again in (signed, seal("search", search, hnd.signer())):
            assert slv.ask(again)[1] == first
        assert len(slv.entries()) == entries
        assert slv.store.used("HND", "TP_TP", f"{slv.clock():%Y-%m-%d}") == 1

    def test_other_content_under_the_same_id_is_refused(self, slv: Answering, hnd: Asking) -> None:
        search = hnd.statement()
        slv.answer(seal("search", search, hnd.signer()))
        search.limit = 1
        with pytest.raises(RequestConflict):
            slv.answer(seal("search", search, hnd.signer()))
        assert slv.entries()[-1].code == "REQUEST_CONFLICT"

    def test_two_countries_may_choose_the_same_id(self, slv: Answering, hnd: Asking, gtm: Asking) -> None:
        one = str(uuid4())
        of_hnd, of_gtm = slv.answer(hnd.sealed(request_id=one)), slv.answer(gtm.sealed(request_id=one), "GTM")
        assert of_hnd.candidates[0].reference != of_gtm.candidates[0].reference

    def test_sent_many_times_at_a_time_it_is_done_once(self, slv: Answering, hnd: Asking) -> None:
        signed = hnd.sealed()
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: slv.ask(signed)[1].SerializeToString(), range(8)))
        assert len(set(answers)) == 1
        assert [one.act for one in slv.entries()].count(Act.CONSULTATION) == 1

    def test_a_caller_that_went_away_gets_the_answer_later(self, slv: Answering, hnd: Asking) -> None:
        signed = hnd.sealed()
        first = slv.asked.search(signed, "HND")
        next(first)
        first.close()
        assert slv.answer(signed).candidates

    def test_after_a_restart(self, slv: Answering, hnd: Asking, tmp_path: Path) -> None:
        signed = hnd.sealed()
        first = slv.ask(signed)[1]
        again = ExchangeStore.open(tmp_path / "peer")
        slv.asked._office = replace(slv.asked._office, store=again)
        assert slv.ask(signed)[1] == first
        again.close()


class TestQuota:
    def test_it_is_counted_by_country_and_day(
        self, slv: Answering, hnd: Asking, gtm: Asking, in_force: InForce
    ) -> None:
        in_force.law = law(per_day=2)
        outcomes = [slv.answer(hnd.sealed()).outcome for _ in range(3)]
        assert outcomes == [peer_pb2.OUTCOME_CANDIDATES] * 2 + [peer_pb2.OUTCOME_QUOTA]
        answer = slv.answer(hnd.sealed())
        assert 0 < answer.retry_after_seconds <= 86_400
        assert answer.code == "QUOTA"
        assert slv.entries()[-1].outcome is Outcome.QUOTA
        assert slv.answer(gtm.sealed(), "GTM").outcome == peer_pb2.OUTCOME_CANDIDATES
        slv.clock.ahead = timedelta(days=1)
        assert slv.answer(hnd.sealed()).outcome == peer_pb2.OUTCOME_CANDIDATES

    def test_what_was_put_off_is_searched_the_next_day(
        self, slv: Answering, hnd: Asking, in_force: InForce
    ) -> None:
        in_force.law = law(per_day=1)
        slv.answer(hnd.sealed())
        search = hnd.statement()
        assert slv.answer(seal("search", search, hnd.signer())).outcome == peer_pb2.OUTCOME_QUOTA
        slv.clock.ahead = timedelta(days=1)
        search.create_time.FromDatetime(slv.clock())
        assert slv.answer(seal("search", search, hnd.signer())).outcome == peer_pb2.OUTCOME_CANDIDATES

    def test_the_last_place_goes_to_one(self, slv: Answering, hnd: Asking, in_force: InForce) -> None:
        in_force.law = law(per_day=5)
        signed = [hnd.sealed() for _ in range(12)]
        with ThreadPoolExecutor(12) as pool:
            outcomes = [answer.outcome for answer in pool.map(slv.answer, signed)]
        assert outcomes.count(peer_pb2.OUTCOME_QUOTA) == 7

    def test_it_bounds_the_candidates(self, slv: Answering, hnd: Asking) -> None:
        assert len(slv.answer(hnd.sealed(target_fpir=0.1, limit=100)).candidates) <= 3


class TestPersons:
    @pytest.fixture
    def waiting(self, slv: Answering, hnd: Asking, in_force: InForce) -> peer_pb2.Search:
        in_force.law = law(rules=PERSON)
        search = hnd.statement(purpose=types_pb2.PURPOSE_ASYLUM)
        progress, last = slv.ask(seal("search", search, hnd.signer()))
        assert [one.step for one in progress] == [Step.STEP_ACCEPTED, Step.STEP_WAITING_FOR_PERSON]
        assert read(last).outcome == peer_pb2.OUTCOME_NEEDS_HUMAN
        return search

    @pytest.mark.parametrize(
        ("agree", "outcome"), [(True, peer_pb2.OUTCOME_CANDIDATES), (False, peer_pb2.OUTCOME_REFUSED)]
    )
    def test_a_person_decides_and_the_same_request_gets_the_answer(
        self, slv: Answering, hnd: Asking, waiting: peer_pb2.Search, agree: bool, outcome: int
    ) -> None:
        (one,) = pending(slv.store)
        assert facts_of(one)["purpose"] == "asylum"
        assert facts_of(one)["waiting"] == ["criminal"]
        assert slv.answer(seal("search", waiting, hnd.signer())).outcome == peer_pb2.OUTCOME_NEEDS_HUMAN
        why = "the person consents, as the file shows"
        approve(slv.store, slv.log, waiting.request_id, person="sv1", agree=agree, why=why, now=slv.clock())
        assert pending(slv.store) == []
        assert slv.entries()[-1].justification == why
        assert slv.answer(seal("search", waiting, hnd.signer())).outcome == outcome
        assert slv.store.used("HND", "TP_TP", f"{slv.clock():%Y-%m-%d}") == 1

    def test_no_print_is_kept_while_it_waits(
        self, slv: Answering, waiting: peer_pb2.Search, tmp_path: Path
    ) -> None:
        on_disk = b"".join(path.read_bytes() for path in (tmp_path / "peer").iterdir())
        assert waiting.prints[0].template[30:60] not in on_disk


def confirmed(slv: Answering, signed: Any, peer: str = "HND") -> peer_pb2.Receipt:
    return peer_pb2.Receipt.FromString(slv.asked.confirm(signed, peer).statement)


class TestConclusions:
    @pytest.mark.parametrize(
        ("conclusion", "outcome"),
        [
            (peer_pb2.CONCLUSION_IDENTIFICATION, Outcome.CONFIRMED),
            (peer_pb2.CONCLUSION_EXCLUSION, Outcome.REJECTED),
            (peer_pb2.CONCLUSION_INCONCLUSIVE, Outcome.INCONCLUSIVE),
        ],
    )
    def test_over_the_wire(self, slv: Answering, hnd: Asking, conclusion: int, outcome: Outcome) -> None:
        search, answer = hit(slv, hnd)
        said = hnd.concluded(search.request_id, answer.candidates[0].reference, conclusion=conclusion)
        with hnd.calling() as stub:
            signed = stub.Confirm(peer_pb2.ConfirmRequest(confirmation=said), timeout=30).receipt
        receipt, _ = open_sealed(
            "receipt", signed, peer_pb2.Receipt(), slv.trust, country="SLV", at=slv.clock()
        )
        check_proof(receipt.log, "SLV", slv.trust, at=slv.clock())
        assert receipt.confirmation_sha256 == sha256(said.statement).digest()
        entry = slv.entries()[-1]
        assert (entry.act, entry.outcome, entry.officer) == (Act.CONFIRMATION, outcome, "HND:e7")
        assert entry.subjects == (subject_mark(KEY, f"person-{SEED}"),)

    def test_sent_twice_it_gets_the_first_receipt(self, slv: Answering, hnd: Asking) -> None:
        search, answer = hit(slv, hnd)
        said = hnd.concluded(search.request_id, answer.candidates[0].reference)
        with ThreadPoolExecutor(4) as pool:
            receipts = list(pool.map(lambda _: confirmed(slv, said).SerializeToString(), range(4)))
        assert len(set(receipts)) == 1
        assert [one.act for one in slv.entries()].count(Act.CONFIRMATION) == 1

    def test_two_conclusions_at_a_time_on_one_reference(self, slv: Answering, hnd: Asking) -> None:
        search, answer = hit(slv, hnd)
        said = [hnd.concluded(search.request_id, answer.candidates[0].reference) for _ in range(6)]

        def tried(one: Any) -> bool:
            try:
                return bool(confirmed(slv, one))
            except ReferenceUnknown:
                return False

        with ThreadPoolExecutor(6) as pool:
            assert sorted(pool.map(tried, said)) == [False] * 5 + [True]

    def test_killed_before_the_receipt_was_kept(self, slv: Answering, hnd: Asking, monkeypatch: Any) -> None:
        search, answer = hit(slv, hnd)
        said = hnd.concluded(search.request_id, answer.candidates[0].reference)
        with monkeypatch.context() as patch:
            patch.setattr(ExchangeStore, "keep_receipt", _killed)
            with pytest.raises(OSError, match="killed"):
                slv.asked.confirm(said, "HND")
        assert confirmed(slv, said).confirmation_sha256 == sha256(said.statement).digest()
        assert slv.entries()[-1].subjects == (subject_mark(KEY, f"person-{SEED}"),)

    @pytest.mark.parametrize("who", ["user-o1-sign", "seal"])
    def test_only_an_examiner_concludes(self, slv: Answering, hnd: Asking, who: str) -> None:
        search, answer = hit(slv, hnd)
        said = hnd.concluded(search.request_id, answer.candidates[0].reference, who=who)
        with pytest.raises(Exception, match=r"examiner|user"):
            slv.asked.confirm(said, "HND")
        assert confirmed(slv, hnd.concluded(search.request_id, answer.candidates[0].reference))

    def test_the_law_is_asked_who_may_conclude_on_what(
        self, slv: Answering, hnd: Asking, in_force: InForce
    ) -> None:
        search, answer = hit(slv, hnd)
        said = hnd.concluded(search.request_id, answer.candidates[0].reference)
        never = (
            '@id("grave") @reads("Conclusions on petty offences alone.") @code("NOT_CONCLUDED")\n'
            'forbid(principal, action == Action::"confirm", resource)'
            ' when { context.offence_class == OffenceClass::"serious" };\n'
        )
        in_force.law = law(rules=PERMIT + never)
        with pytest.raises(NotPermitted, match="NOT_CONCLUDED"):
            slv.asked.confirm(said, "HND")
        assert slv.entries()[-1].code == "NOT_PERMITTED"
        in_force.law = law()
        assert confirmed(slv, said), "the reference was not used up"


def _killed(*_: object) -> None:
    raise OSError("killed")


class TestReferences:
    def used(self, slv: Answering, hnd: Asking, gtm: Asking, id_: str, reference: str) -> Any:
        confirmed(slv, hnd.concluded(id_, reference))
        return hnd.concluded(id_, reference), "HND"

    def of_another(self, slv: Answering, hnd: Asking, gtm: Asking, id_: str, reference: str) -> Any:
        return gtm.concluded(id_, reference), "GTM"

    def expired(self, slv: Answering, hnd: Asking, gtm: Asking, id_: str, reference: str) -> Any:
        slv.clock.ahead = timedelta(days=14, seconds=1)
        return hnd.concluded(id_, reference), "HND"

    def unknown(self, slv: Answering, hnd: Asking, gtm: Asking, id_: str, reference: str) -> Any:
        return hnd.concluded(id_, reference[::-1]), "HND"

    @pytest.mark.parametrize(
        ("how", "code"),
        [
            (used, "REFERENCE_USED"),
            (of_another, "REFERENCE_OF_ANOTHER"),
            (expired, "REFERENCE_EXPIRED"),
            (unknown, "REFERENCE_UNKNOWN"),
        ],
    )
    def test_all_look_alike_to_the_peer_and_the_log_has_the_cause(
        self, slv: Answering, hnd: Asking, gtm: Asking, how: Callable[..., Any], code: str
    ) -> None:
        search, answer = hit(slv, hnd)
        said, peer = how(self, slv, hnd, gtm, search.request_id, answer.candidates[0].reference)
        with pytest.raises(ReferenceUnknown) as refused:
            slv.asked.confirm(said, peer)
        assert refused.value.cause == "there is no such reference"
        assert slv.entries()[-1].code == code

    def test_the_store_has_its_hash_alone(self, slv: Answering, hnd: Asking, tmp_path: Path) -> None:
        search, answer = hit(slv, hnd)
        reference = answer.candidates[0].reference
        confirmed(slv, hnd.concluded(search.request_id, reference))
        on_disk = b"".join(path.read_bytes() for path in (tmp_path / "peer").iterdir())
        assert references.digest(reference) in on_disk
        assert b"gallery" not in on_disk

    def test_used_up_the_kept_answer_is_erased(self, slv: Answering, hnd: Asking, tmp_path: Path) -> None:
        search = hnd.statement(an_image())
        signed = seal("search", search, hnd.signer())
        answer = slv.answer(signed)
        image = _kept(tmp_path)
        assert image in _on_disk(tmp_path)
        confirmed(slv, hnd.concluded(search.request_id, answer.candidates[0].reference))
        assert image not in _on_disk(tmp_path)
        with pytest.raises(RequestConflict):
            slv.answer(signed)

    def test_expired_it_is_swept_and_logged(self, slv: Answering, hnd: Asking, tmp_path: Path) -> None:
        slv.answer(hnd.sealed(an_image()))
        image = _kept(tmp_path)
        assert slv.asked.sweep() == 0
        slv.clock.ahead = timedelta(days=14, seconds=1)
        assert slv.asked.sweep() == 2, "the reference and the answer"
        assert image not in _on_disk(tmp_path)
        assert (slv.entries()[-1].act, slv.entries()[-1].side) == (Act.ERASURE, Side.OWN)
        assert slv.asked.sweep() == 0


def _on_disk(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in (folder / "peer").iterdir())


def _kept(folder: Path) -> bytes:
    """Bytes from the middle of the only kept answer, as it is packed: of its image."""
    with closing(sqlite3.connect(folder / "peer" / FILE_NAME)) as connection:
        ((packed,),) = connection.execute("SELECT answer FROM peer_request").fetchall()
    assert len(packed) > 10_000, "it holds a print"
    return bytes(packed[5000:5060])


class TestHeads:
    def test_ours_goes_on_from_what_the_peer_has(self, slv: Answering, hnd: Asking) -> None:
        def theirs(size: int, root: bytes) -> types_pb2.Signed:
            head = TreeHead("HND", size, root, slv.clock())
            return from_head(SignedHead(head, hnd.signer().sign("log_head", head.payload())))

        slv.answer(hnd.sealed())
        with hnd.calling() as stub:
            request = peer_pb2.ExchangeHeadsRequest(head=theirs(5, bytes(32)))
            first = stub.ExchangeHeads(request, timeout=30)
            old = to_head(first.head).head
            slv.answer(hnd.sealed())
            request = peer_pb2.ExchangeHeadsRequest(head=theirs(5, bytes(31) + b"1"), known_size=old.size)
            second = stub.ExchangeHeads(request, timeout=30)
        new = to_head(second.head).head
        proof = tuple(second.consistency)
        assert merkle.holds_consistency(old.size, new.size, old.root, new.root, proof)
        assert (first.known_size, second.known_size) == (0, 5)
        assert slv.entries()[-1].code == "LOG_FORKED"
