"""Two real sides over mutual TLS: Honduras asks, El Salvador answers, an examiner concludes."""

import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from askers import asked, open_log
from countries import IMAGED, NEVER, PERMIT, PERSON, SEED, STRANGER, Answering, Asking, iso, law
from nodes import picture

from matcher.template import Finger
from papilar.api.peer.v1 import peer_pb2
from papilar.audit.entry import Act, Outcome, Side
from papilar.audit.heads import kept_heads
from papilar.audit.log import AuditLog
from papilar.config import Peer, Region
from papilar.errors import DeadlinePassed, ReferenceUnknown
from papilar.exchange.asking import FederatedSearcher
from papilar.exchange.conclusions import hand_on
from papilar.exchange.outbox import Outbox
from papilar.exchange.own import OwnGallery
from papilar.exchange.region import Gap, GapKind, RegionSearch
from papilar.exchange.seal import seal, stamp
from papilar.node import Node
from papilar.peer_client import open_peer
from papilar.policy import Bundle, File, Law, LawText, OffenceClass, Purpose, install
from papilar.region_server import asking_region
from papilar.requests import Description, PrintInput
from papilar.signing import Signer
from papilar.store.log import LogStore
from papilar.store.outbox import OutboxStore
from papilar.tls import TlsFiles
from papilar.trust import Trust

TERMS = 'country = "HND"\nversion = 4\ntitle = "A law of the tests"\nvalid_from = 2026-01-01\n'
EXAMPLE = (
    '[[example]]\nname = "All"\nexpect = "ALLOW"\nrules = ["all"]\n'
    'given = { action = "describe", direction = "outbound", peer = "SLV", roles = ["officer"] }\n'
)
Make = Callable[..., FederatedSearcher]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[AuditLog]:
    log = open_log(tmp_path / "asking")
    yield log
    log.store.close()


@pytest.fixture
def asking(world: Path, slv: Answering, log: AuditLog) -> Iterator[Make]:
    made: list[FederatedSearcher] = []
    trust = Trust.load(world / "trust")
    tls = TlsFiles(world / "HND/node.pem", world / "HND/node.key")
    ours = Law.read(LawText(TERMS, PERMIT, ""))

    def make(**given: object) -> FederatedSearcher:
        searcher = FederatedSearcher(
            "HND",
            {"SLV": open_peer("SLV", [slv.address], tls=tls, trust=trust, patience=5)},
            law=lambda at: ours,
            trust=trust,
            signer=Signer.load(world / "HND/seal.pem", world / "HND/seal.key"),
            log=log,
            **given,  # type: ignore[arg-type]
        )
        made.append(searcher)
        return searcher

    yield make
    for searcher in made:
        searcher.close()


def a_search(seed: int = SEED, **given: object) -> RegionSearch:
    prints = (PrintInput(Finger.RIGHT_INDEX, template=iso(seed)),)
    return asked(**{"prints": prints, "limit": 3, "seconds": 20.0} | given)


def test_a_mate_is_found_and_both_logs_tell_the_same(asking: Make, slv: Answering, log: AuditLog) -> None:
    given = a_search()
    searcher = asking()
    result = searcher.collect(given)
    assert result.gaps == ()
    assert result.complete
    assert result.comparable
    assert result.candidates[0].candidate.score > 5
    searcher.close()  # waits for the heads, which are exchanged beside the search
    entries = [one.entry for one in log.entries() if one.entry is not None]
    mine = [e for e in entries if e.request_id == given.request_id]
    theirs = [e for e in slv.entries() if e.request_id == given.request_id and e.act is not Act.ERASURE]
    assert [(e.side, e.act, e.outcome) for e in mine] == [
        (Side.ASKING, Act.DISCLOSURE, Outcome.DONE),
        (Side.ASKING, Act.CONSULTATION, Outcome.CANDIDATES),
    ]
    assert (Side.ASKED, Outcome.CANDIDATES) in {(e.side, e.outcome) for e in theirs}
    assert {e.officer.removeprefix("HND:") for e in (*mine, *theirs)} == {"e7"}
    assert any(head.head.log_id == "SLV" for head in kept_heads(log.store))
    assert not [e for e in entries if e.act is Act.NOTICE]


def test_the_heads_of_many_searches_are_proven_to_follow(asking: Make, log: AuditLog) -> None:
    searcher = asking()
    for _ in range(4):
        assert searcher.collect(a_search(STRANGER)).gaps == ()
    searcher.close()
    heads = [head.head for head in kept_heads(log.store) if head.head.log_id == "SLV"]
    assert len(heads) >= 2
    assert not [e for e in log.entries() if e.entry is not None and e.entry.act is Act.NOTICE]


def test_an_image_travels_clean_and_is_found(asking: Make) -> None:
    prints = (PrintInput(Finger.RIGHT_THUMB, image=picture(IMAGED, 1)),)
    result = asking().collect(a_search(prints=prints))
    assert result.candidates[0].candidate.prints[0].print.image, "an examiner sees the candidate"


def test_a_stranger_is_a_no_hit(asking: Make) -> None:
    result = asking().collect(a_search(STRANGER))
    assert (result.candidates, result.gaps, result.complete) == ((), (), True)


def test_the_other_law_refuses(asking: Make, log: AuditLog) -> None:
    result = asking().collect(a_search(offence_class=OffenceClass.PETTY))
    assert result.gaps == (Gap("SLV", GapKind.REFUSED, "OFFENCE_TOO_LIGHT"),)
    refused = [e.entry for e in log.entries()][-1]
    assert refused is not None
    assert (refused.outcome, refused.code) == (Outcome.REFUSED, "OFFENCE_TOO_LIGHT")


def test_a_hidden_refusal_is_a_no_hit_that_is_not_final(asking: Make, in_force: object) -> None:
    in_force.law = law(hides=True)  # type: ignore[attr-defined]
    result = asking().collect(a_search(offence_class=OffenceClass.PETTY))
    assert (result.candidates, result.gaps, result.complete) == ((), (), False)


def test_a_person_agrees_while_the_search_waits(
    asking: Make, slv: Answering, in_force: object, log: AuditLog, tmp_path: Path
) -> None:
    in_force.law = law(rules=PERSON + NEVER)  # type: ignore[attr-defined]
    store = OutboxStore.open(tmp_path / "asking", create=True)
    late = timedelta()
    outbox = Outbox(store, log, clock=lambda: datetime.now(UTC) + late)
    searcher = asking(outbox=outbox)
    given = a_search(purpose=Purpose.ASYLUM, keep=timedelta(hours=1))
    assert searcher.collect(given).gaps == (Gap("SLV", GapKind.QUEUED, "NEEDS_HUMAN"),)
    in_force.law = law()  # type: ignore[attr-defined]  # the law that permits it stands for the person
    late = timedelta(minutes=1)
    outbox.deliver_due(lambda search, seconds: searcher.ask(search, seconds=seconds))
    (came,), waits = outbox.answers(given.request_id, officer="e7")
    assert waits == []
    assert came.answer is not None
    assert came.answer.outcome == peer_pb2.OUTCOME_CANDIDATES
    store.close()


def test_our_own_gallery_is_one_of_the_nodes(asking: Make, gallery: Node) -> None:
    result = asking(own=OwnGallery({File.CRIMINAL: gallery})).collect(a_search())
    assert {one.country for one in result.candidates} == {"SLV", "HND"}
    ours = next(one.candidate for one in result.candidates if one.country == "HND")
    assert ours.reference == f"person-{SEED}"
    assert not ours.HasField("expire_time")


def test_our_own_gallery_keeps_the_deadline(
    asking: Make, gallery: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not searched in time is said to be missing; nothing is found that was not compared."""
    searcher, describe = asking(own=OwnGallery({File.CRIMINAL: gallery})), gallery.describe

    def slowly() -> Description:
        time.sleep(0.6)
        return describe()

    monkeypatch.setattr(gallery, "describe", slowly)
    search = peer_pb2.Search.FromString(Asking(Path(), "SLV", asked="HND").statement().SerializeToString())
    own = OwnGallery({File.CRIMINAL: gallery})
    late = own(search, deadline=time.monotonic() + 0.4)
    assert (list(late.candidates), late.complete, late.outcome) == ([], False, peer_pb2.OUTCOME_NO_HIT)
    assert own(search, deadline=time.monotonic() + 5).complete
    result = searcher.collect(a_search(countries=("HND",), seconds=0.5))
    assert not result.complete
    with pytest.raises(DeadlinePassed):
        own(search, deadline=time.monotonic() - 1)


def test_an_examiner_concludes_once(asking: Make, world: Path) -> None:
    given, searcher = a_search(), asking()
    found = searcher.collect(given).candidates[0]
    signer = Signer.load(world / "HND/user-e7-sign.pem", world / "HND/user-e7-sign.key")

    def conclude() -> peer_pb2.Receipt:
        said = peer_pb2.Confirmation(
            confirmation_id=str(uuid.uuid4()),
            request_id=given.request_id,
            reference=found.candidate.reference,
            asking_country="HND",
            asked_country="SLV",
            create_time=stamp(datetime.now(UTC)),
            conclusion=peer_pb2.CONCLUSION_IDENTIFICATION,
            correspondences_sha256=sha256(b"marks").digest(),
            correspondences=12,
        )
        signed = seal("confirmation", said, signer)
        receipt = hand_on(searcher, "SLV", signed, examiner="e7", seconds=10)
        return peer_pb2.Receipt.FromString(receipt.statement)

    assert conclude().log.leaf_hash
    with pytest.raises(ReferenceUnknown):
        conclude()


def test_as_the_settings_say(world: Path, slv: Answering, gallery: Node, tmp_path: Path) -> None:
    home, trust = world / "HND", Trust.load(world / "trust")
    law_key = Signer.load(home / "law.pem", home / "law.key")
    bundle = Bundle.sign(LawText(TERMS, PERMIT, EXAMPLE), law_key)
    install(bundle.pack(), tmp_path / "laws", trust, country="HND", at=datetime.now(UTC))
    pairs = {"certificate": "node.pem", "key": "node.key", "seal": "seal.pem", "seal_key": "seal.key"}
    peer = Peer(
        country="HND",
        **{name: home / file for name, file in pairs.items()},
        trust=world / "trust",
        law=tmp_path / "laws",
        marks=tmp_path / "unused",
        store=str(tmp_path / "store"),
        files={"criminal": tmp_path},
    )
    region = Region({"SLV": (slv.address,)})
    with (
        closing(LogStore.open(peer.store, create=True)) as rows,
        asking_region(region, peer, {File.CRIMINAL: gallery}, AuditLog(rows)) as asking,
    ):
        result = asking.searcher.collect(a_search())
    assert {one.country for one in result.candidates} == {"SLV", "HND"}
    assert result.gaps == ()
