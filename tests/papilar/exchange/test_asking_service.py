"""Searches in the region as a node's own users ask for them: the service, the command, the conclusion."""

import json
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import Any

import grpc
import pytest
from askers import (
    ASKING,
    Confirming,
    Region,
    ScriptedPeer,
    answering,
    description,
    hanging,
    png,
    refusing,
    signer,
    world,
)
from trials import DAY, user
from typer.testing import CliRunner

from papilar import access, users
from papilar.access import Access
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.api.v1 import region_pb2, region_pb2_grpc
from papilar.audit.entry import Act, Outcome
from papilar.client import ClientTls
from papilar.commands.region import app, region_request
from papilar.commands.stats import app as stats_app
from papilar.config import NodeConfig, Tls, Users, load_config
from papilar.errors import (
    CallNotPermitted,
    ConfigInvalid,
    NodeError,
    PurposeMissing,
    ReferenceUnknown,
    RequestInvalid,
)
from papilar.exchange.outbox import Outbox
from papilar.exchange.seal import seal, stamp
from papilar.policy import File, SearchType
from papilar.region_client import RegionClient
from papilar.region_server import RegionService
from papilar.requests import PrintInput
from papilar.store.outbox import OutboxStore
from papilar.tls import TlsFiles, server_credentials
from papilar.users import Mandate, Permit

MANDATE = Mandate(
    purpose="criminal_investigation",
    reason="ARREST",
    legal_basis="court_order",
    offence_class="serious",
    case_reference="2026/SS-114",
    ordering_officer="o12",
)
SAID = [
    *("--purpose", "criminal_investigation", "--reason", "ARREST", "--legal-basis", "court_order"),
    *("--offence-class", "serious", "--case", "2026/SS-114", "--ordering-officer", "o12"),
]
PREFIX = "papilar.api.v1.RegionService"
USERS = {"e7": "examiner+officer", "e8": "examiner", "o3": "officer", "s1": "supervisor"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = world(tmp_path_factory.mktemp("world"))
    for name, roles in USERS.items():
        user(folder / ASKING, name, roles, at=datetime.now(UTC) - DAY)
    return folder


@pytest.fixture
def region(folder: Path, tmp_path: Path) -> Iterator[Region]:
    region = Region(folder, tmp_path / "gallery")
    yield region
    region.close()


class Served:
    """A node of the asking country with the service alone, over mutual TLS."""

    def __init__(self, region: Region, *peers: Any) -> None:
        self.region = region
        self.store = OutboxStore.open(region_folder(region), create=True)
        self.late = timedelta(0)
        self.outbox = Outbox(self.store, region.log, clock=lambda: datetime.now(UTC) + self.late)
        self.searcher = region.searcher(*peers, outbox=self.outbox)
        files = TlsFiles(region.folder / ASKING / "node.pem", region.folder / ASKING / "node.key")
        who = Users(ASKING, trust=region.folder / "trust")
        config = NodeConfig(Path("gallery"), tls=Tls(*files), users=who)
        service = RegionService(
            None,  # type: ignore[arg-type]  # these calls ask nothing of the gallery
            config,
            Access(who, region.log.append),
            searcher=self.searcher,
            outbox=self.outbox,
        )
        self.server = grpc.server(ThreadPoolExecutor(4))
        region_pb2_grpc.add_RegionServiceServicer_to_server(service, self.server)
        port = self.server.add_secure_port("127.0.0.1:0", server_credentials(files, region.trust))
        self.address = f"127.0.0.1:{port}"
        self.server.start()

    def client(
        self, name: str = "e7", *, timeout: float = 5, mandate: Mandate | None = MANDATE
    ) -> RegionClient:
        home = self.region.folder / ASKING
        tls = ClientTls(home / "ca.pem", home / f"user-{name}-tls.pem", home / f"user-{name}-tls.key", ASKING)
        return RegionClient(
            self.address, tls=tls, timeout=timeout, caller=mandate.metadata() if mandate else None
        )

    def options(self, name: str = "e7") -> list[str]:
        home = self.region.folder / ASKING
        files = {"ca": "ca.pem", "cert": f"user-{name}-tls.pem", "key": f"user-{name}-tls.key"}
        given = [part for use, file in files.items() for part in (f"--tls-{use}", str(home / file))]
        return ["--node", self.address, *given, "--tls-country", ASKING]

    def close(self) -> None:
        self.server.stop(0).wait()
        self.store.close()


def region_folder(region: Region) -> Path:
    return Path(str(region.log.store._engine.url.database)).parent


Serve = Callable[..., Served]


@pytest.fixture
def serve(region: Region, monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    searching = Permit(users._SEARCHING, Act.CONSULTATION)
    own = {
        f"{PREFIX}/{name}": searching._replace(about_persons=False)
        for name in ("GetRegionAnswers", "ListPeers")
    }
    own[f"{PREFIX}/IdentifyRegion"] = searching
    own[f"{PREFIX}/ConfirmCandidate"] = Permit(users._READING, Act.CONFIRMATION, about_persons=False)
    for module in (users, access):
        monkeypatch.setattr(module, "PERMITS", own | dict(users.PERMITS))
    served: list[Served] = []

    def make(*peers: Any) -> Served:
        served.append(Served(region, *peers))
        return served[-1]

    yield make
    for one in served:
        one.close()


def request(**given: Any) -> region_pb2.IdentifyRegionRequest:
    values: dict[str, Any] = {"search_type": SearchType.TP_TP, "files": [File.CRIMINAL]}
    return region_request([PrintInput(image=png())], **values | given)


# ---- the service


def test_each_country_as_it_comes_and_the_list_at_last(region: Region, serve: Serve) -> None:
    peers = region.peer("HND", answering(7.0, 4.0)), region.peer("GTM", refusing), region.peer("CRI", hanging)
    asked = request()
    with serve(*peers).client(timeout=2) as client:
        messages = list(client.identify_region(asked))
    kinds = [one.WhichOneof("message") for one in messages]
    assert sorted(kinds[:-1]) == ["answer", "gap", "gap"]
    assert kinds[-1] == "result"
    result = messages[-1].result
    assert [(one.country, one.score) for one in result.candidates] == [("HND", 7.0), ("HND", 4.0)]
    assert {(gap.country, gap.kind) for gap in result.gaps} == {
        ("GTM", region_pb2.GAP_KIND_REFUSED),
        ("CRI", region_pb2.GAP_KIND_TIMED_OUT),
    }
    assert (result.complete, result.comparable) == (False, True)
    first = result.candidates[0]
    assert first.prints[0].image == png(1)
    assert first.expire_time.seconds > 0
    search = peers[0].asked[0]
    assert (search.officer, search.ordering_officer, search.case_reference) == ("e7", "o12", "2026/SS-114")
    assert list(search.roles) == [types_pb2.ROLE_OFFICER, types_pb2.ROLE_EXAMINER]


def test_who_does_not_say_what_for_is_not_served(region: Region, serve: Serve) -> None:
    peer = region.peer("HND", answering())
    with serve(peer).client(mandate=None) as client, pytest.raises(PurposeMissing):
        list(client.identify_region(request()))
    assert peer.asked == []


@pytest.mark.parametrize("given", [{"files": []}, {"request_id": "1"}, {"keep_seconds": 700_000}])
def test_what_cannot_be_asked(region: Region, serve: Serve, given: dict[str, Any]) -> None:
    peer = region.peer("HND", answering())
    with serve(peer).client() as client, pytest.raises(RequestInvalid):
        list(client.identify_region(request(**given)))
    assert peer.asked == []


def test_what_comes_later_is_fetched_by_who_asked(region: Region, serve: Serve) -> None:
    port = region.peer("HND", answering()).port
    region.scripted.pop().close()
    served = serve(region.line("HND", f"127.0.0.1:{port}"))
    asked = request(keep_seconds=3600)
    with served.client(timeout=1) as client:
        *_, last = client.identify_region(asked)
        assert [gap.kind for gap in last.result.gaps] == [region_pb2.GAP_KIND_QUEUED]
    with served.client(mandate=None) as client:
        (waits,) = client.region_answers(asked.request_id).answers
        assert waits.gap.kind == region_pb2.GAP_KIND_QUEUED
        region.peer("HND", answering(7.0), port=port)
        served.late = timedelta(minutes=2)
        for _ in range(20):  # the line of the first search may still be backing off
            served.outbox.deliver_due(lambda search, seconds: served.searcher.ask(search, seconds=3))
            served.late += timedelta(minutes=20)
            (late,) = client.region_answers(asked.request_id).answers
            if late.HasField("answer"):
                break
        assert [one.score for one in late.answer.candidates] == [7.0]
    with served.client("e8", mandate=None) as client:
        assert not client.region_answers(asked.request_id).answers


def test_peers_are_listed(region: Region, serve: Serve) -> None:
    served = serve(region.peer("HND", answering()), region.line("GTM", "127.0.0.1:1"))
    with served.client() as client:
        list(client.identify_region(request(countries=["HND"])))
        gtm, hnd = client.peers().peers
    assert (hnd.country, hnd.log_size, hnd.resting) == ("HND", 1, False)
    assert (gtm.country, gtm.log_size) == ("GTM", 0)


def test_who_hangs_up_ends_the_calls_to_the_peers(region: Region, serve: Serve) -> None:
    peer = region.peer("HND", hanging)
    client = serve(peer).client(timeout=30)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(list, client.identify_region(request()))
        assert soon(lambda: peer.asked)
        client.close()
        with pytest.raises(Exception, match=r"."):
            reading.result(timeout=5)
    assert peer.free.wait(2), "the peer is told at once, not at the deadline"
    assert soon(lambda: [e for e in region.entries() if e.code == "CALLER_GONE"])


def soon(true: Callable[[], Any]) -> Any:
    """Return what a condition gives within two seconds."""
    for _ in range(200):
        if found := true():
            return found
        time.sleep(0.01)
    return true()


# ---- what a peer says of itself


class Telling(ScriptedPeer):
    """Describes itself, and says what it counted; `counts` may be changed."""

    counts: Mapping[str, int] = MappingProxyType({})

    def DescribeNode(self, request: peer_pb2.DescribeNodeRequest, context: Any) -> Any:  # noqa: N802
        said = description(self.country)
        return peer_pb2.DescribeNodeResponse(description=seal("description", said, self.signer))

    def GetStatistics(self, request: peer_pb2.GetStatisticsRequest, context: Any) -> Any:  # noqa: N802
        type_, counts = types_pb2.SEARCH_TYPE_TP_TP, {"confirmed": 0, "rejected": 0, **self.counts}
        counter = peer_pb2.Counter(search_type=type_, asked_by_peer=True, **counts)
        values: dict[str, Any] = {"country": self.country, "peer": ASKING, "month": request.month}
        said = peer_pb2.Statistics(**values, create_time=stamp(datetime.now(UTC)), counters=[counter])
        return peer_pb2.GetStatisticsResponse(statistics=seal("statistics", said, self.signer))


def test_peers_are_listed_with_what_they_offer(region: Region, serve: Serve) -> None:
    region.scripted.append(Telling(region.folder, "HND", answering()))
    served = serve(region.scripted[0])
    served.searcher.look_at_offers()
    served.searcher._beside.submit(lambda: None).result()
    with served.client() as client:
        offer = client.peers().peers[0].offer
    assert (offer.policy_version, offer.calibration_id, offer.ordinary_seconds) == (5, "cal-1", 30)
    assert list(offer.search_types) == [region_pb2.SEARCH_TYPE_TP_TP]
    assert not offer.same_extractor
    code, shown = run("peers", *served.options(), "--json")
    assert code == 0
    assert json.loads(shown)[0]["offer"]["urgent_seconds"] == 5
    assert run("peers", *served.options())[0] == 0


@pytest.mark.parametrize(("counts", "code"), [({}, 0), ({"searches": 7}, 3)])
def test_two_sides_of_the_same_month(region: Region, serve: Serve, counts: dict[str, int], code: int) -> None:
    region.scripted.append(peer := Telling(region.folder, "HND", answering(7.0)))
    peer.counts, served = counts, serve(peer)
    with served.client() as client:
        list(client.identify_region(request()))
        with pytest.raises(CallNotPermitted):
            client.peer_statistics("HND", f"{datetime.now(UTC):%Y-%m}")
    what = [str(region_folder(region)), "--month", f"{datetime.now(UTC):%Y-%m}", "--country", ASKING]
    asks = [*what, "--peer", "HND", *served.options("s1")]
    done = CliRunner().invoke(stats_app, asks)
    assert done.exit_code == code, done.output
    said = json.loads(CliRunner().invoke(stats_app, [*asks, "--json"]).stdout)["differences"]
    assert [(one["counter"], one["ours"], one["theirs"]) for one in said] == [
        ("searches", 1, 7) for _ in counts
    ]


# ---- conclusions


@pytest.fixture
def confirming(region: Region) -> Confirming:
    region.scripted.append(Confirming(region.folder, "HND"))
    return region.scripted[-1]  # type: ignore[return-value]


def conclusion(region: Region, by: str = "e7", **changes: Any) -> region_pb2.ConfirmCandidateRequest:
    values: dict[str, Any] = {
        "confirmation_id": str(uuid.uuid4()),
        "request_id": str(uuid.uuid4()),
        "reference": "a" * 43,
        "asking_country": ASKING,
        "asked_country": "HND",
        "create_time": stamp(datetime.now(UTC)),
        "conclusion": peer_pb2.CONCLUSION_EXCLUSION,
        "correspondences_sha256": bytes(32),
    }
    signed = seal(
        "confirmation",
        peer_pb2.Confirmation(**values | changes),
        signer(region.folder, ASKING, f"user-{by}-sign"),
    )
    return region_pb2.ConfirmCandidateRequest(
        country="HND",
        statement=signed.statement,
        certificate=signed.certificate,
        signature=signed.signature,
    )


def searched(client: RegionClient) -> str:
    """Search, and find somebody; return the id of the request."""
    asked = request()
    list(client.identify_region(asked))
    return asked.request_id


def test_a_conclusion_is_handed_on_and_both_ends_are_logged(
    region: Region, serve: Serve, confirming: Confirming
) -> None:
    with serve(confirming).client() as client:
        response = client.confirm_candidate(conclusion(region, request_id=searched(client)))
    receipt = peer_pb2.Receipt.FromString(types_pb2.Signed.FromString(response.receipt).statement)
    assert receipt.confirmation_id == confirming.taken[0].confirmation_id
    logged = [e for e in region.entries() if e.act is Act.CONFIRMATION and e.asked == "HND"]
    assert [(e.outcome, e.officer, e.note) for e in logged] == [
        (Outcome.REJECTED, "e7", "sent"),
        (Outcome.REJECTED, "e7", "a receipt came"),
    ]


@pytest.mark.parametrize(
    ("by", "changes"),
    [
        ("e8", {}),
        ("e7", {"asked_country": "GTM"}),
        ("e7", {"asking_country": "GTM"}),
        ("e7", {"conclusion": 0}),
        ("e7", {"create_time": stamp(datetime.now(UTC) - timedelta(minutes=10))}),
        ("o3", {}),
    ],
)
def test_what_is_no_conclusion_of_the_caller_does_not_leave(
    region: Region, serve: Serve, confirming: Confirming, by: str, changes: dict[str, Any]
) -> None:
    with serve(confirming).client() as client, pytest.raises(Exception, match=r"conclusion|time|examiner"):
        client.confirm_candidate(conclusion(region, by, **changes))
    assert confirming.taken == []


def test_a_reference_that_is_used_up(region: Region, serve: Serve, confirming: Confirming) -> None:
    with serve(confirming).client() as client, pytest.raises(ReferenceUnknown, match="such reference"):
        client.confirm_candidate(conclusion(region, request_id=searched(client), reference="0" * 43))


@pytest.mark.parametrize(
    "changes", [{"confirmation_sha256": bytes(32)}, {"confirmation_id": str(uuid.uuid4())}]
)
def test_a_receipt_for_something_else(
    region: Region, serve: Serve, confirming: Confirming, changes: dict[str, Any]
) -> None:
    confirming.changes = changes
    with serve(confirming).client() as client, pytest.raises(NodeError, match="receipt"):
        client.confirm_candidate(conclusion(region, request_id=searched(client)))


# ---- the command


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def test_the_command_shows_countries_candidates_and_gaps(
    region: Region, serve: Serve, tmp_path: Path
) -> None:
    served = serve(region.peer("HND", answering(7.0)), region.peer("GTM", refusing))
    image = tmp_path / "probe.png"
    image.write_bytes(png())
    saved = ["--save", str(tmp_path / "saved")]
    code, shown = run("identify", str(image), *SAID, *served.options(), "--timeout", "5", *saved)
    assert code == 3
    assert "GTM REFUSED (PURPOSE_NOT_COVERED)" in shown
    assert "HND 1 candidate" in shown
    assert "an examiner decides" in shown
    assert (tmp_path / "saved/1-HND-1.png").read_bytes() == png(1)
    code, shown = run("identify", str(image), *SAID, *served.options(), "--country", "HND", "--json")
    assert code == 0
    assert json.loads(shown)["candidates"][0]["country"] == "HND"


def test_the_command_concludes(region: Region, serve: Serve, confirming: Confirming, tmp_path: Path) -> None:
    served, home = serve(confirming), region.folder / ASKING
    marked, receipt = tmp_path / "marked.json", tmp_path / "receipt"
    marked.write_text("[]")
    signs = ["--sign-cert", str(home / "user-e7-sign.pem"), "--sign-key", str(home / "user-e7-sign.key")]
    concluded = ["--conclusion", "identification", "--marked", str(marked), "--count", "12"]
    with served.client() as client:
        what = ["HND", searched(client), "b" * 43]
    code, _ = run("confirm", *what, *concluded, *signs, "--receipt", str(receipt), *served.options())
    assert code == 0
    (said,) = confirming.taken
    assert (said.conclusion, said.correspondences) == (peer_pb2.CONCLUSION_IDENTIFICATION, 12)
    assert said.correspondences_sha256 == sha256(b"[]").digest()
    assert types_pb2.Signed.FromString(receipt.read_bytes()).certificate


def test_the_command_lists_peers_and_late_answers(region: Region, serve: Serve) -> None:
    served = serve(region.peer("HND", answering()))
    code, shown = run("peers", *served.options())
    assert code == 0
    assert "HND" in shown
    assert run("answers", str(uuid.uuid4()), *served.options())[0] == 0


# ---- settings


def test_settings_of_the_region(tmp_path: Path) -> None:
    file = tmp_path / "node.toml"
    file.write_text('[node]\ngallery = "g"\n[region]\n[region.peers]\nHND = ["a:1", "b:2"]\n')
    region = load_config(file).region
    assert region is not None
    assert dict(region.peers) == {"HND": ("a:1", "b:2")}
    assert region.patience_seconds == 2


@pytest.mark.parametrize(
    "text",
    ['peers = ["a:1"]', 'peers = { hnd = ["a:1"] }', "peers = { HND = [] }", 'peers = { HND = ["a"] }',
     'peers = { HND = "a:1" }', "patience_seconds = 0.0", "max_message_bytes = 0", "patience = 1.0"],
)  # fmt: skip
def test_settings_that_cannot_be(tmp_path: Path, text: str) -> None:
    file = tmp_path / "node.toml"
    file.write_text(f'[node]\ngallery = "g"\n[region]\n{text}\n')
    with pytest.raises(ConfigInvalid):
        load_config(file)
