"""The side that is asked: what a node answers the nodes of other countries. Knows no socket.

A search goes one way, the cheap refusals first: seal, alphabets, clock, repeat, quota, law; then what the
prints may carry; then the search; then references, log and answer. What is sent twice has one effect.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple, cast

from enroll.pipeline import EXTRACTOR
from matcher.calibration import shipped
from matcher.errors import InvalidInput, PapilarError
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.entry import Act, Outcome, Sent
from papilar.audit.log import AuditLog
from papilar.errors import DeadlinePassed, NotPermitted
from papilar.exchange import references
from papilar.exchange.approvals import PERSON_DISAGREED
from papilar.exchange.confirming import confirm
from papilar.exchange.disguise import Pace, seal_answer
from papilar.exchange.office import Office, repeated
from papilar.exchange.prints import check_prints
from papilar.exchange.proofs import Proofs, Together
from papilar.exchange.records import Ended, Records, of_own, print_digests
from papilar.exchange.seal import check_time, content_hash, open_sealed, seal, stamp
from papilar.exchange.searching import Findings, search_files
from papilar.exchange.statistics import KIND, entries_of, to_statement
from papilar.exchange.tree_heads import exchange_heads
from papilar.exchange.turns import Once, Places
from papilar.exchange.words import check_permitted, check_search, policy_request, to_number
from papilar.node import MATCHER_VERSION, Node
from papilar.policy import Action, Direction, File, Law, PolicyRequest, SearchType, Verdict, admit
from papilar.signing import Signer
from papilar.statistics import count
from papilar.store.exchange import ExchangeStore, Name
from papilar.trust import Trust

Step = peer_pb2.Progress.Step


@dataclass(frozen=True, slots=True)
class AskedOptions:
    """How a node answers.

    Attributes
    ----------
    answer_bytes : int
        Every answer but those of quota and of waiting, which their time gives away, is a multiple as long.
    quantum_seconds : float
        Under a law that hides refusals every answer takes a multiple of this; best longer than a search.
    searches : int
        Searches at a time.
    max_message_bytes : int
        Largest message taken.
    search_seconds : float
        After which a search ends; what was found until then is the answer, and says that it is not complete.
        The deadline of a call ends none: the answer is kept for the call that comes again.
    put_off_seconds : float
        How long an answer of quota or of waiting takes. Such answers are logged together, and a country that
        asks on and on soon has as many calls here as it may have, which costs next to nothing.
    """

    answer_bytes: int = 256 * 1024
    quantum_seconds: float = 2.0
    searches: int = 2
    max_message_bytes: int = 32 * 1024 * 1024
    put_off_seconds: float = 2.0
    search_seconds: float = 300.0


class _Asked(NamedTuple):
    """A sound search, whether it was counted before, its law, and when it came: pace's clock, and UTC."""

    search: peer_pb2.Search
    name: Name
    noted: bool
    request: PolicyRequest
    law: Law
    began: float
    came: datetime

    @property
    def hidden(self) -> bool:
        """Whether the law hides refusals."""
        return self.law.terms.hides_denial


class _Allowed(NamedTuple):
    """What may be done after the law and a person have spoken."""

    verdict: Verdict
    code: str
    files: frozenset[File] = frozenset()


class AskedNode:
    """Answers other countries. All threads may use one.

    Parameters
    ----------
    country : str
        Ours, ISO 3166-1 alpha-3.
    files : mapping of File to Node
    law : callable
        Gives the law in force.
    trust : Trust
    signer : Signer
        The country's seal.
    log : AuditLog
    store : ExchangeStore
    key : bytes
        For marks of subjects in the log; see `papilar.audit.entry.subject_mark`.
    options : AskedOptions
    pace : Pace, optional
        Of answers under a law that hides refusals.
    clock : callable
        UTC.
    """

    def __init__(
        self,
        country: str,
        *,
        files: Mapping[File, Node],
        law: Callable[[], Law],
        trust: Trust,
        signer: Signer,
        log: AuditLog,
        store: ExchangeStore,
        key: bytes,
        options: AskedOptions = AskedOptions(),
        pace: Pace | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.country = country
        self.options = options
        self._files = files
        self._law = law
        proofs, records = Proofs(log, country, signer, clock), Records(country, key)
        self._office = Office(country, trust, signer, log, store, records, proofs, Once(), clock)
        self._pace = pace or Pace(options.quantum_seconds)
        self._places = Places(options.searches)
        self._together = Together(log, proofs, pause=options.put_off_seconds)

    # ---- what is offered

    def describe(self, peer: str) -> types_pb2.Signed:
        """Say what the node offers a country: a sealed `NodeDescription`; `NotPermitted` as the law says."""
        law = self._law()
        self._check_permitted(law, Action.DESCRIBE, peer)
        quotas = {kind: law.quota(peer, kind) for kind in SearchType}
        described = peer_pb2.NodeDescription(
            country=self.country,
            peer=peer,
            create_time=stamp(self._office.clock()),
            extractor_version=EXTRACTOR,
            matcher_version=MATCHER_VERSION,
            calibration_id=shipped().id,
            policy_version=law.terms.version,
            policy_sha256=bytes.fromhex(law.sha256),
            least_quality=law.terms.least_print_quality,
            max_message_bytes=self.options.max_message_bytes,
            quotas=[
                peer_pb2.Quota(
                    search_type=cast(Any, to_number(kind)), per_day=q.per_day, candidates=q.candidates
                )
                for kind, q in quotas.items()
                if q.per_day
            ],
            ordinary_seconds=law.terms.ordinary_seconds,
            urgent_seconds=law.terms.urgent_seconds,
            reference_days=law.terms.reference_days,
        )
        return seal("description", described, self._office.signer)

    def _check_permitted(self, law: Law, action: Action, peer: str) -> None:
        try:
            check_permitted(law, action, peer, direction=Direction.INBOUND)
        except NotPermitted as error:
            why, at = f"the law does not permit to {action}", self._office.clock()
            self._together.append(self._office.records.of_refused(peer, error.reason, at=at, why=why))
            raise

    # ---- searches

    def search(self, signed: types_pb2.Signed, peer: str) -> Iterator[peer_pb2.Progress | types_pb2.Signed]:
        """Answer a search; the sealed answer comes last.

        Parameters
        ----------
        signed : Signed
            Kind `search`.
        peer : str
            Country of the certificate that the caller showed.

        Raises
        ------
        CertificateRefused, SignatureRefused, CountryMismatch, RequestInvalid, IdentityPresent, ClockSkew
            It is no request.
        RequestConflict
            The request_id came with other content, or its answer has been erased.
        ImageError, TemplateError
            A print cannot be read. Under a law that hides refusals that is a no-hit.
        StorageUnavailable
        """
        began, now = self._pace.now(), self._office.clock()
        search, _ = open_sealed("search", signed, peer_pb2.Search(), self._office.trust, country=peer, at=now)
        with self._office.logging_refusals(peer, search.request_id, search.officer):
            self._office.check_countries(search, peer)
            check_search(search)
            check_time(search.create_time, at=now)
            request = policy_request(search, direction=Direction.INBOUND)
            name = Name(peer, search.request_id, content_hash(search))
            yield _progress(name, Step.STEP_ACCEPTED)
            with self._office.once.alone(("search", peer, name.id)):
                known = self._office.store.known(name)
                answer = repeated(known)
                if answer is None:
                    noted = known is not None
                    yield from self._answered(_Asked(search, name, noted, request, self._law(), began, now))
                else:
                    yield types_pb2.Signed.FromString(answer)

    def _answered(self, asked: _Asked) -> Iterator[peer_pb2.Progress | types_pb2.Signed]:
        kind = cast(SearchType, asked.request.search_type)
        quota, now = asked.law.quota(asked.name.peer, kind), self._office.clock()
        expires = now + timedelta(days=asked.law.terms.reference_days)
        # Whatever the law says counts: where it hides refusals, the quota must not tell them.
        counted = self._office.store.admit(
            asked.name, kind, noted=asked.noted, per_day=quota.per_day, now=now, expires=expires
        )
        if not counted:
            retry = admit(quota, used=quota.per_day, now=now).retry_after
            yield self._put_off(asked, peer_pb2.OUTCOME_QUOTA, retry_after_seconds=retry)
            return
        try:
            check_prints(asked.search.prints)
            allowed = self._allowed(asked, now=now, expires=expires)
            if allowed.verdict is Verdict.NEEDS_HUMAN:
                yield _progress(asked.name, Step.STEP_WAITING_FOR_PERSON)
                yield self._put_off(asked, peer_pb2.OUTCOME_NEEDS_HUMAN)
            elif allowed.verdict is Verdict.DENY and not asked.hidden:
                yield self._refused(asked, allowed)
            else:
                # No message goes out while a place is held: who does not read would hold it too.
                yield _progress(asked.name, Step.STEP_QUEUED if self._places.full else Step.STEP_SEARCHING)
                with self._places.taken(urgent=asked.search.expedite):
                    ended, findings = self._searched(asked, allowed, limit=quota.candidates)
                yield self._concluded(asked, ended, findings, expires)
        except PapilarError:
            self._office.store.forget(asked.name)
            raise

    def _allowed(self, asked: _Asked, *, now: datetime, expires: datetime) -> _Allowed:
        """Return what the law lets pass, and the person whom it asks for."""
        decision = asked.law.decide(asked.request)
        if decision.verdict is not Verdict.NEEDS_HUMAN:
            return _Allowed(decision.verdict, decision.code, decision.files)
        facts = asked.request.table() | {
            "waiting": sorted(decision.waiting),
            "prints": len(asked.search.prints),
            "case": asked.search.case_reference,
            "officer": asked.search.officer,
        }
        known = self._office.store.ask_person(asked.name, json.dumps(facts), now=now, expires=expires)
        if known.agreed is None:
            return _Allowed(Verdict.NEEDS_HUMAN, decision.code)
        if known.agreed:
            return _Allowed(Verdict.ALLOW, "PERSON_AGREED", decision.waiting)
        return _Allowed(Verdict.DENY, PERSON_DISAGREED)

    def _searched(self, asked: _Asked, allowed: _Allowed, *, limit: int) -> tuple[Ended, Findings]:
        """Search, or, for a refusal that the law hides, do nothing for as long."""
        search, count = asked.search, len(asked.search.prints)
        if allowed.verdict is Verdict.DENY:
            self._pace.pretend(count)
            return Ended(Outcome.REFUSED, allowed.code), Findings()
        began = self._pace.now()
        try:
            findings = search_files(
                self._files,
                search,
                files=allowed.files,
                least=asked.law.terms.least_print_quality,
                limit=min(limit, search.limit),
                deadline=time.monotonic() + self.options.search_seconds,
            )
        except (InvalidInput, DeadlinePassed) as error:
            if not asked.hidden:
                raise
            return Ended(Outcome.ERROR, error.reason), Findings()
        finally:
            self._pace.note(count, began)
        if findings.poor:
            return Ended(Outcome.ERROR, "POOR_PRINTS"), findings
        subjects = tuple(one.found.subject for one in findings.candidates)
        return Ended(Outcome.CANDIDATES if subjects else Outcome.NO_HIT, allowed.code, subjects), findings

    # ---- answers

    def _concluded(
        self, asked: _Asked, ended: Ended, findings: Findings, expires: datetime
    ) -> types_pb2.Signed:
        """Answer a search that was done, or that must look so."""
        given = references.give(findings.candidates, self._files, expires=expires, request=asked.request)
        if ended.subjects and not given:  # deleted since they were found
            ended = Ended(Outcome.NO_HIT, ended.code)
        elif given:
            ended = ended._replace(subjects=tuple(one.kept.subject_id for one in given))
        outcome = peer_pb2.OUTCOME_CANDIDATES if given else peer_pb2.OUTCOME_NO_HIT
        answer = self._answer(asked, outcome)
        answer.candidates.extend(one.candidate for one in given)
        answer.calibration_id = shipped().id
        if not asked.hidden:
            answer.outcome = peer_pb2.OUTCOME_POOR_PRINTS if findings.poor else outcome
            answer.files.extend(cast(Any, to_number(file)) for file in sorted(findings.files))
            answer.complete = findings.complete and findings.files == asked.request.files
            answer.threshold = findings.threshold
            answer.prints.extend(peer_pb2.PrintAssessment(**one._asdict()) for one in findings.prints)
        signed = self._sealed(asked, answer, ended)
        self._office.store.keep(asked.name, signed.SerializeToString(), [one.kept for one in given])
        if asked.hidden:
            self._pace.hold_back(asked.began)
        return signed

    def _refused(self, asked: _Asked, allowed: _Allowed) -> types_pb2.Signed:
        answer = self._answer(asked, peer_pb2.OUTCOME_REFUSED, code=allowed.code)
        signed = self._sealed(asked, answer, Ended(Outcome.REFUSED, allowed.code))
        self._office.store.keep(asked.name, signed.SerializeToString())
        return signed

    def _put_off(
        self, asked: _Asked, outcome: peer_pb2.Outcome.ValueType, *, retry_after_seconds: int = 0
    ) -> types_pb2.Signed:
        """Answer a search that may come again under its name: it is not kept, and not padded."""
        word = Outcome(peer_pb2.Outcome.Name(outcome).removeprefix("OUTCOME_"))
        answer = self._answer(asked, outcome, code=word, retry_after_seconds=retry_after_seconds)
        return self._sealed(asked, answer, Ended(word, word), padded=False)

    def _answer(
        self,
        asked: _Asked,
        outcome: peer_pb2.Outcome.ValueType,
        *,
        code: str = "",
        retry_after_seconds: int = 0,
    ) -> peer_pb2.Answer:
        return peer_pb2.Answer(
            request_id=asked.name.id,
            asking_country=asked.name.peer,
            asked_country=self.country,
            search_sha256=asked.name.content,
            outcome=outcome,
            code=code,
            retry_after_seconds=retry_after_seconds,
            policy_version=asked.law.terms.version,
            policy_sha256=bytes.fromhex(asked.law.sha256),
        )

    def _sealed(
        self, asked: _Asked, answer: peer_pb2.Answer, ended: Ended, *, padded: bool = True
    ) -> types_pb2.Signed:
        """Let the prints go, log what was done, and seal the answer with the proof that it was logged."""
        now = self._office.clock()
        erased = peer_pb2.Erasure(time=stamp(now), print_sha256=print_digests(asked.search))
        entries = self._office.records.of_search(
            asked.search, asked.request, asked.law, ended, began=asked.came, at=now, erased=padded
        )
        del asked.search.prints[:]
        answer.erasure.CopyFrom(erased)
        if padded:
            answer.log.CopyFrom(self._office.proofs.prove(self._office.log.append_all(entries)[0]))
        else:
            answer.log.CopyFrom(self._together.append(entries[0]))
        multiple = self.options.answer_bytes if padded else None
        return seal_answer(answer, self._office.signer, at=now, multiple=multiple)

    # ---- conclusions and heads

    def confirm(self, signed: types_pb2.Signed, peer: str) -> types_pb2.Signed:
        """Take an examiner's conclusion and use its reference up; return the sealed receipt.

        Parameters
        ----------
        signed : Signed
            Kind `confirmation`, signed by an examiner of the peer.
        peer : str
            Country of the certificate that the caller showed.

        Raises
        ------
        CertificateRefused, SignatureRefused, CountryMismatch, RequestInvalid, IdentityPresent, ClockSkew
            It is no conclusion of an examiner of that country.
        RequestConflict
            The confirmation_id came with other content.
        ReferenceUnknown
            Never given, used, expired or given to another: the log says which, the peer is not told.
        NotPermitted
            The law does not let this examiner conclude on what was found so; the reference stays.
        StorageUnavailable
        """
        return confirm(self._office, self._law(), signed, peer)

    def statistics(self, month: str, peer: str) -> types_pb2.Signed:
        """Say what our log counts of a month with a country: a sealed `Statistics`.

        Raises
        ------
        RequestInvalid
            No month, one that is not over, or one older than the log is kept.
        NotPermitted
            By the law.
        """
        office, law = self._office, self._law()
        self._check_permitted(law, Action.STATISTICS, peer)
        hides = law.terms.hides_denial
        rows = count(entries_of(office.log.store, (month,), peer=peer), self.country, month)
        said = to_statement(rows, self.country, peer, month, at=office.clock(), hides_refusals=hides)
        return seal(KIND, said, office.signer)

    def exchange_heads(
        self, request: peer_pb2.ExchangeHeadsRequest, peer: str
    ) -> peer_pb2.ExchangeHeadsResponse:
        """Keep a country's signed head, and prove that our log goes on from the head that it has.

        A head after the first one needs a proof, which this message has no room for: it is kept when we ask
        that country ourselves. Two histories of one size are kept at once, and logged.

        Raises
        ------
        CertificateRefused, SignatureRefused, CountryMismatch, RequestInvalid
        """
        return exchange_heads(self._office, request, peer)

    # ---- upkeep

    def sweep(self) -> int:
        """Erase what has expired, and log how much; return it."""
        office, now = self._office, self._office.clock()
        erased = office.store.sweep(now)
        if erased:
            sent = (Sent("REFERENCE", erased),)
            why = "references and answers whose time is over"
            office.log.append(of_own(Act.ERASURE, at=now, officer="node", justification=why, sent=sent))
        return erased


def _progress(name: Name, step: Step.ValueType) -> peer_pb2.Progress:
    return peer_pb2.Progress(request_id=name.id, step=step)
