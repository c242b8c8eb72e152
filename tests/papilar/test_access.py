"""Users at a real node over mutual TLS: who is let in, what is logged, and who tries what he may not."""

import json
import logging
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import HTTPServer
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from nodes import Refusal, a_person, refusal, search_for, seen_again
from test_oidc import AUDIENCE, ISSUER, Provider, confused, key_set, now, token, unsigned
from test_users import HOSTILE, METADATA
from trials import countries, user

from matcher.errors import PapilarError
from papilar import pki, translate
from papilar.access import NOBODY, Access, _subjects, caller, read_key
from papilar.api.v1 import (
    duplicates_pb2,
    enrollment_pb2,
    enrollment_pb2_grpc,
    matching_pb2,
    matching_pb2_grpc,
)
from papilar.audit.entry import Act, Entry, Outcome, Sent, Side, encode, subject_mark
from papilar.client import ClientTls, NodeClient
from papilar.config import NodeConfig, Oidc, Tls, Users, load_config
from papilar.errors import (
    CallerUnknown,
    CallNotPermitted,
    ConfigInvalid,
    MessageTooLarge,
    NodeError,
    PurposeMissing,
    StorageFull,
)
from papilar.node import Node
from papilar.requests import PrintInput
from papilar.server import NodeServer
from papilar.store.review import ReviewStore
from papilar.tls import channel_options
from papilar.users import is_pseudonym
from papilar.watch import OWN_PRINTS, PRINT, Kind, call_of, findings

NOW = datetime.now(UTC)
UNKNOWN_ID = "00000000-0000-4000-8000-000000000000"
C = grpc.StatusCode
KEY = bytes(range(32))
PEOPLE = {
    "e7": "examiner",
    "o4": "officer",
    "s2": "supervisor",
    "a1": "administrator",
    "q3": "ordering-officer",
}


class At:
    """A node of SLV with users, and what its log holds."""

    def __init__(self, world: Path, port: int, entries: list[Entry]) -> None:
        self.world = world
        self.address = f"127.0.0.1:{port}"
        self.entries = entries

    def tls(self, stem: str, country: str = "SLV") -> ClientTls:
        folder = self.world / country
        return ClientTls(self.world / "SLV/ca.pem", folder / f"{stem}.pem", folder / f"{stem}.key", "SLV")

    @contextmanager
    def client(
        self, name: str = "e7", metadata: Mapping[str, str] = METADATA, **tls: str
    ) -> Iterator[NodeClient]:
        files = self.tls(f"user-{name}-tls", **tls)
        with NodeClient(self.address, tls=files, caller=metadata, timeout=20) as client:
            yield client

    @contextmanager
    def channel(self, stem: str) -> Iterator[grpc.Channel]:
        files = self.tls(stem)
        ca, certificate, key = (
            path.read_bytes() for path in (files.ca, files.certificate, files.key) if path
        )
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        options = [*channel_options("SLV"), ("grpc.use_local_subchannel_pool", 1)]
        with grpc.secure_channel(self.address, credentials, options) as channel:
            yield channel

    def last(self) -> Entry:
        return self.entries[-1]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    countries(folder, "SLV", "HND", at=NOW - timedelta(days=1))
    for name, role in PEOPLE.items():
        user(folder / "SLV", name, role, at=NOW - timedelta(days=1))
    user(folder / "SLV", "gone", "examiner", at=NOW - timedelta(days=1))
    user(folder / "SLV", "old", "examiner", at=NOW - timedelta(days=90))
    user(folder / "HND", "e7", "examiner", at=NOW - timedelta(days=1))
    pki.revoke(folder / "SLV", folder / "SLV/user-gone-tls.pem", at=NOW)
    shutil.copytree(folder / "SLV/trust/SLV", folder / "trust/SLV", dirs_exist_ok=True)
    (folder / "marks.key").write_text(KEY.hex())
    (folder / "keys.json").write_text(json.dumps(key_set()))
    return folder


@contextmanager
def serving(
    world: Path,
    users: Users | None,
    gallery: Path,
    *,
    log: Callable[[Entry], object] | None = None,
    tls: bool = True,
) -> Iterator[At]:
    entries: list[Entry] = []
    files = Tls(world / "SLV/node.pem", world / "SLV/node.key") if tls else None
    config = NodeConfig(gallery, "127.0.0.1:0", tls=files, users=users)
    server = NodeServer(Node(gallery, create=True), config, log=log or entries.append)
    server.start()
    try:
        yield At(world, server.port, entries)
    finally:
        server.stop()


@pytest.fixture(scope="module")
def running(world: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[At]:
    users = Users("SLV", trust=world / "trust", key=world / "marks.key")
    with serving(world, users, tmp_path_factory.mktemp("node") / "slv") as at:
        with at.client() as client:
            client.enroll(a_person(1, subject="s1"))
            client.enroll(a_person(2, subject="officer-e7"))
        yield at


@pytest.fixture
def at(running: At) -> At:
    running.entries.clear()
    return running


SEARCH = search_for(seen_again(1))


class TestLetIn:
    def test_an_examiner_searches(self, at: At) -> None:
        with at.client() as client:
            found = client.identify(SEARCH)
        assert found.candidates[0].subject_id == "s1"
        (entry,) = at.entries
        assert abs(entry.time - datetime.now(UTC)) < timedelta(minutes=1)
        assert (entry.side, entry.act, entry.outcome) == (Side.OWN, Act.CONSULTATION, Outcome.CANDIDATES)
        assert (entry.officer, entry.ordering_officer, entry.note) == ("e7", "o12", "Identify")
        assert (entry.purpose, entry.reason) == ("CRIMINAL_INVESTIGATION", "ARREST")
        assert (entry.legal_basis, entry.offence_class) == ("court_order", "SERIOUS")
        assert (entry.case_reference, entry.code) == ("2026/SS-114.2", "")
        assert entry.justification == "ARREST, by court_order"
        assert entry.subjects[0] == subject_mark(KEY, "s1")
        (sent,) = entry.sent
        assert (sent.kind, sent.number, len(sent.digest)) == (PRINT, 1, 64)

    def test_the_same_print_is_known_again_and_nothing_of_it_is_kept(self, at: At) -> None:
        with at.client() as client:
            client.identify(SEARCH)
            client.identify(SEARCH)
            client.identify(search_for(seen_again(3)))
        first, again, other = (entry.sent[0].digest for entry in at.entries)
        assert first == again != other
        written = b"".join(map(encode, at.entries))
        assert b"s1" not in written
        assert SEARCH.probe[0].template.data[:8] not in written

    def test_every_call_has_its_entry(self, at: At) -> None:
        with at.client() as client, at.client("s2") as supervisor:
            done = client.enroll(a_person(5, subject="s5")).enrolled
            client.encounter(enrollment_pb2.GetEncounterRequest(encounter_id=done.encounter_id))
            client.verify(matching_pb2.VerifyRequest(probe=SEARCH.probe, subject_id="s5"))
            client.gallery()
            supervisor.delete(done.encounter_id)
        found = [(e.note, e.act, e.outcome, e.officer) for e in at.entries]
        assert found == [
            ("Enroll", Act.COLLECTION, Outcome.DONE, "e7"),
            ("GetEncounter", Act.CONSULTATION, Outcome.DONE, "e7"),
            ("Verify", Act.CONSULTATION, Outcome.DONE, "e7"),
            ("GetGallery", Act.CONSULTATION, Outcome.DONE, "e7"),
            ("DeleteEncounter", Act.ERASURE, Outcome.DONE, "s2"),
        ]
        assert {e.subjects for e in at.entries[:3]} == {(subject_mark(KEY, "s5"),)}

    def test_a_stream(self, at: At) -> None:
        new = [translate.to_enrollment(a_person(seed, subject=f"t{seed}")) for seed in (11, 12, 13)]
        with at.client("o4") as client:
            answer = client.enroll_many([enrollment_pb2.EnrollManyRequest(enrollment=one) for one in new])
        assert [o.WhichOneof("outcome") for o in answer.outcomes] == ["enrolled"] * 3
        (entry,) = at.entries
        assert (entry.note, entry.act, entry.officer) == ("EnrollMany", Act.COLLECTION, "o4")
        assert entry.sent == (Sent("ENCOUNTER", 3),)
        assert entry.subjects == tuple(subject_mark(KEY, f"t{seed}") for seed in (11, 12, 13))

    def test_a_call_that_fails_is_logged(self, at: At) -> None:
        with at.client() as client, pytest.raises(PapilarError):
            client.encounter(enrollment_pb2.GetEncounterRequest(encounter_id=UNKNOWN_ID))
        (entry,) = at.entries
        assert (entry.act, entry.outcome, entry.code) == (
            Act.CONSULTATION,
            Outcome.ERROR,
            "ENCOUNTER_UNKNOWN",
        )
        with at.client() as client, pytest.raises(PapilarError):
            client.identify(search_for(PrintInput(image=b"no image", ppi=500)))
        assert (at.last().outcome, at.last().code) == (Outcome.ERROR, "IMAGE_FORMAT_UNKNOWN")
        assert at.last().sent[0].digest

    def test_a_search_for_oneself_is_marked(self, at: At) -> None:
        def own(entry: Entry) -> bool:
            return any(item.kind == OWN_PRINTS for item in entry.sent)

        with at.client() as client, at.client("o4") as other:
            client.identify(search_for(seen_again(2)))
            client.identify(search_for(seen_again(7)))
            client.verify(matching_pb2.VerifyRequest(probe=SEARCH.probe, subject_id="officer-e7"))
            other.identify(search_for(seen_again(2)))
        assert [own(entry) for entry in at.entries] == [True, False, True, False]

    def test_who_runs_the_node_sees_how_it_is(self, at: At) -> None:
        with at.client("a1", {}) as client:
            assert client.gallery().ready
        assert (at.last().officer, at.last().justification) == ("a1", "none was given")


class TestRefused:
    @pytest.mark.parametrize("name", ["a1", "q3", "s2"])
    def test_who_has_no_role_for_it(self, at: At, name: str) -> None:
        """An administrator who searches, among them."""
        with at.client(name) as client, pytest.raises(CallNotPermitted):
            client.identify(SEARCH)
        (entry,) = at.entries
        assert (entry.act, entry.outcome, entry.officer) == (Act.REFUSAL, Outcome.REFUSED, name)
        assert (entry.code, entry.note) == ("CALL_NOT_PERMITTED", "Identify")

    def test_no_call_but_the_gallery_for_who_runs_the_node(self, at: At) -> None:
        with at.client("a1") as client:
            for call in (
                lambda: client.enroll(a_person(6)),
                lambda: client.enroll_many([]),
                lambda: client.encounter(enrollment_pb2.GetEncounterRequest(encounter_id=UNKNOWN_ID)),
                lambda: client.verify(matching_pb2.VerifyRequest(probe=SEARCH.probe, subject_id="s1")),
                lambda: client.delete(UNKNOWN_ID),
            ):
                with pytest.raises(CallNotPermitted):
                    call()
        assert [entry.act for entry in at.entries] == [Act.REFUSAL] * 5

    def test_a_role_that_the_certificate_does_not_give(self, at: At) -> None:
        for more in ({"papilar-roles": "supervisor"}, {"papilar-role": "supervisor"}):
            with at.client("e7", {**METADATA, **more}) as client:
                with pytest.raises(CallNotPermitted):
                    client.delete(UNKNOWN_ID)
                with pytest.raises(PurposeMissing):
                    client.identify(SEARCH)

    @pytest.mark.parametrize("key", [k for k in METADATA if k != "papilar-ordering-officer"])
    def test_no_purpose(self, at: At, key: str) -> None:
        told = {k: v for k, v in METADATA.items() if k != key}
        with at.client(metadata=told) as client, pytest.raises(PurposeMissing):
            client.identify(SEARCH)
        (entry,) = at.entries
        assert (entry.officer, entry.code, entry.case_reference) == ("e7", "PURPOSE_MISSING", "")

    @pytest.mark.parametrize("key", METADATA)
    def test_hostile_text(self, at: At, key: str, caplog: pytest.LogCaptureFixture) -> None:
        """What gRPC itself does not stop."""
        caplog.set_level(logging.INFO)
        for text in [*HOSTILE, "x" * 5000, "{{7*7}}", "../..", "%00", '"]}', "a b", "=cmd()"]:
            if not text.strip() and key == "papilar-ordering-officer":
                continue
            told = {**METADATA, key: text}
            # gRPC itself sends no control characters, and not so long a text.
            with (
                at.client(metadata=told) as client,
                pytest.raises(
                    (PurposeMissing, NodeError, UnicodeError, ValueError, MessageTooLarge)
                ) as refused,
            ):
                client.identify(SEARCH)
            assert len(text) < 4 or text not in str(refused.value) or refused.type is ValueError
        assert {entry.code for entry in at.entries} <= {"PURPOSE_MISSING"}
        assert len(at.entries) >= 8
        assert "DROP TABLE" not in caplog.text + "".join(str(encode(entry)) for entry in at.entries)

    def test_another_countrys_user(self, at: At) -> None:
        with at.client("e7", country="HND") as client, pytest.raises(CallerUnknown):
            client.identify(SEARCH)
        assert (at.last().officer, at.last().code) == (NOBODY, "CALLER_UNKNOWN")

    @pytest.mark.parametrize("name", ["gone", "old"])
    def test_a_certificate_that_is_revoked_or_over(self, at: At, name: str) -> None:
        with at.client(name) as client, pytest.raises(PapilarError) as refused:
            client.identify(SEARCH)
        assert refused.value.reason in ("CALLER_UNKNOWN", "NODE_UNREACHABLE")  # over: no handshake
        if name == "gone":
            assert (at.last().officer, at.last().code) == (NOBODY, "CALLER_UNKNOWN")

    def test_a_node_is_no_user(self, at: At) -> None:
        for stem in ("node", "user-e7-sign"):
            node = NodeClient(at.address, tls=at.tls(stem), caller=METADATA)
            with node as client, pytest.raises(PapilarError) as refused:
                client.identify(SEARCH)
            assert refused.value.reason in ("CALLER_UNKNOWN", "NODE_UNREACHABLE")

    def test_nobody_in_the_log_is_no_person(self) -> None:
        assert not is_pseudonym(NOBODY)

    def test_no_certificate(self, at: At) -> None:
        files = ClientTls(at.world / "SLV/ca.pem", country="SLV")
        with NodeClient(at.address, tls=files, caller=METADATA) as client, pytest.raises(PapilarError):
            client.identify(SEARCH)
        assert at.entries == []

    def test_a_token_where_none_is_taken_is_not_looked_at(self, at: At) -> None:
        told = {**METADATA, "authorization": f"Bearer {token()}"}
        with at.client("a1", told) as client, pytest.raises(CallNotPermitted):
            client.identify(SEARCH)

    def test_as_the_contract_says(self, at: At) -> None:
        with at.channel("user-a1-tls") as channel:
            stub = matching_pb2_grpc.MatchingServiceStub(channel)
            found = refusal(stub.Identify, SEARCH)
            assert found[:3] == (C.PERMISSION_DENIED, "CALL_NOT_PERMITTED", "papilar")
            assert found.remedy == "ask someone who is examiner or officer"
            stream = enrollment_pb2_grpc.EnrollmentServiceStub(channel).EnrollMany
            assert refusal(stream, iter([])).code is C.PERMISSION_DENIED
        with at.channel("user-e7-tls") as channel:
            found = refusal(matching_pb2_grpc.MatchingServiceStub(channel).Identify, SEARCH)
            assert found[:2] == (C.INVALID_ARGUMENT, "PURPOSE_MISSING")
        with at.channel("node") as channel:
            found = refusal(matching_pb2_grpc.MatchingServiceStub(channel).Identify, SEARCH)
            assert found[:2] == (C.UNAUTHENTICATED, "CALLER_UNKNOWN")

    def test_health_is_open_and_reflection_is_not(self, at: At) -> None:
        with at.channel("node") as channel:
            health = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=10)
            assert health.status == health_pb2.HealthCheckResponse.SERVING
            call: Any = channel.stream_stream(
                "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
            )
            with pytest.raises(grpc.RpcError) as refused:
                list(call(iter([b""]), timeout=10))
            assert refused.value.code() is C.UNIMPLEMENTED
        assert at.entries == []


class TestLog:
    def test_what_cannot_be_logged_is_not_answered(self, world: Path, tmp_path: Path) -> None:
        def full(entry: Entry) -> None:
            raise StorageFull("no room", remedy="make room")

        users = Users("SLV", trust=world / "trust")
        with serving(world, users, tmp_path / "g", log=full) as at:
            for name in ("e7", "a1"):
                with at.client(name) as client, pytest.raises(StorageFull):
                    client.identify(SEARCH)

    def test_from_a_call_to_a_finding(self, world: Path, tmp_path: Path) -> None:
        """The log of calls feeds the watch, and the watch the queue."""
        gallery = tmp_path / "g"
        Node(gallery, create=True).close()
        queue = ReviewStore.open(gallery, create=True)

        def log(entry: Entry) -> None:
            if (call := call_of(entry)) is not None:
                queue.record(call)

        users = Users("SLV", trust=world / "trust", key=world / "marks.key")
        with serving(world, users, gallery, log=log) as at:
            with at.client() as client:
                client.enroll(a_person(2, subject="officer-e7"))
                client.gallery()
                client.identify(search_for(seen_again(2)))
            with at.client(metadata={**METADATA, "papilar-case": "OTHER"}) as client:
                client.identify(search_for(seen_again(2)))
        calls = queue.calls(NOW - timedelta(days=1))
        assert [call.own for call in calls if call.size] == [True, True]
        queue.keep(findings(calls))
        found = [(r.finding.kind, r.finding.officer, r.finding.count) for r in queue.reviews()]
        assert found == [(Kind.SELF_SEARCH, "e7", 2), (Kind.SELF_SEARCH, "e7", 2)]
        queue.close()

    def test_without_a_key_there_are_no_marks(self, world: Path, tmp_path: Path) -> None:
        with serving(world, Users("SLV", trust=world / "trust"), tmp_path / "g") as at, at.client() as client:
            client.enroll(a_person(1, subject="s1"))
            client.identify(SEARCH)
            assert at.last().sent == (Sent(PRINT, 1),)
            assert at.last().subjects == ()

    def test_a_node_without_users_logs_nobody(self, world: Path, tmp_path: Path) -> None:
        with serving(world, None, tmp_path / "g", tls=False) as at, NodeClient(at.address) as client:
            client.gallery()
            assert (at.last().officer, at.last().act) == (NOBODY, Act.CONSULTATION)


class TestCallerReachesTheServicer:
    def test_for_the_call_alone(self, world: Path) -> None:
        access = Access(Users("SLV", oidc=Oidc(ISSUER, AUDIENCE, str(world / "keys.json"))))
        method = "papilar.api.v1.MatchingService/Identify"
        context = Metadata({**METADATA, "authorization": f"Bearer {token()}"})
        seen = access.answer(method, SEARCH, context, caller)
        assert seen is not None
        assert seen.mandate is not None
        assert (seen.identity.name, seen.mandate.case_reference) == ("e7", "2026/SS-114.2")
        assert caller() is None
        with pytest.raises(ZeroDivisionError):
            access.answer(method, SEARCH, context, lambda: 1 / 0)
        assert caller() is None

    def test_calls_side_by_side_do_not_mix(self, world: Path) -> None:
        access = Access(Users("SLV", oidc=Oidc(ISSUER, AUDIENCE, str(world / "keys.json"))))
        together, wrong = threading.Barrier(4), []

        def call(name: str) -> None:
            context = Metadata({**METADATA, "authorization": f"Bearer {token(sub=name)}"})

            def work() -> None:
                together.wait(10)
                found = caller()
                if found is None or found.identity.name != name:
                    wrong.append(name)

            for _ in range(10):
                access.answer("papilar.api.v1.MatchingService/Identify", SEARCH, context, work)

        threads = [threading.Thread(target=call, args=(f"e{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert wrong == []


class Metadata:
    """As much of a context as `Access` looks at."""

    def __init__(self, values: Mapping[str, str]) -> None:
        self.values = values

    def invocation_metadata(self) -> list[tuple[str, str]]:
        return list(self.values.items())


class TestTokens:
    @pytest.fixture
    def node(self, world: Path, tmp_path: Path) -> Iterator[At]:
        """A node on loopback that takes tokens alone."""
        oidc = Oidc(ISSUER, AUDIENCE, str(world / "keys.json"))
        with serving(world, Users("SLV", oidc=oidc), tmp_path / "g", tls=False) as at:
            yield at

    def call(self, at: At, *authorization: str) -> Refusal | None:
        metadata: Any = (*METADATA.items(), *(("authorization", text) for text in authorization))
        with grpc.insecure_channel(at.address) as channel:
            stub = matching_pb2_grpc.MatchingServiceStub(channel)
            try:
                stub.Identify(SEARCH, metadata=metadata, timeout=20)
            except grpc.RpcError:
                return refusal(
                    lambda r, timeout: stub.Identify(r, metadata=metadata, timeout=timeout), SEARCH
                )
        return None

    def test_a_token_names_the_person(self, node: At) -> None:
        assert self.call(node, f"Bearer {token()}") is None
        assert self.call(node, f"bearer {token('ES256', sub='o4', papilar_roles=['officer'])}") is None
        assert [entry.officer for entry in node.entries] == ["e7", "o4"]

    def test_tokens_that_are_refused(self, node: At) -> None:
        good = token()
        for shown in (
            (),
            ("",),
            ("Bearer ",),
            (f"Basic {good}",),
            (good,),
            (f"Bearer {good}", f"Bearer {good}"),
            (f"Bearer {unsigned('none')}",),
            (f"Bearer {confused(b'x')}",),
            (f"Bearer {token(exp=now(-60))}",),
            (f"Bearer {token(aud='payroll')}",),
            (f"Bearer {token(iss='https://evil.example')}",),
            (f"Bearer {token(papilar_roles=['root'])}",),
        ):
            found = self.call(node, *shown)
            assert found is not None
            assert found[:3] == (C.UNAUTHENTICATED, "CALLER_UNKNOWN", "papilar")
            assert node.last().officer == NOBODY
            assert good not in found.message + found.remedy

    def test_a_token_of_who_may_not(self, node: At) -> None:
        found = self.call(node, f"Bearer {token(papilar_roles=['administrator'])}")
        assert found is not None
        assert found.code is C.PERMISSION_DENIED
        assert node.last().officer == "e7"

    def test_a_token_wins_over_the_certificate(self, world: Path, tmp_path: Path) -> None:
        oidc = Oidc(ISSUER, AUDIENCE, str(world / "keys.json"))
        users = Users("SLV", trust=world / "trust", oidc=oidc)
        with serving(world, users, tmp_path / "g") as at:
            told = {**METADATA, "authorization": f"Bearer {token(sub='o9')}"}
            with NodeClient(at.address, tls=at.tls("node"), caller=told) as client:
                client.identify(SEARCH)
            assert at.last().officer == "o9"
            with at.client("e7") as client:
                client.identify(SEARCH)
            assert at.last().officer == "e7"
            bad = {**METADATA, "authorization": f"Bearer {token(exp=now(-60))}"}
            with at.client("e7", bad) as client, pytest.raises(CallerUnknown):
                client.identify(SEARCH)

    def test_a_provider_that_is_down_lets_nobody_in(self, world: Path, tmp_path: Path) -> None:
        with HTTPServer(("127.0.0.1", 0), Provider) as server:
            url = f"http://127.0.0.1:{server.server_port}/keys"
        users = Users("SLV", oidc=Oidc(ISSUER, AUDIENCE, url))
        with serving(world, users, tmp_path / "g", tls=False) as at:
            found = self.call(at, f"Bearer {token()}")
            assert found is not None
            assert found[:2] == (C.UNAVAILABLE, "NODE_FAILED")
            assert (at.last().act, at.last().officer) == (Act.REFUSAL, NOBODY)

    def test_where_nobody_need_be_known_tokens_still_count(self, world: Path, tmp_path: Path) -> None:
        oidc = Oidc(ISSUER, AUDIENCE, str(world / "keys.json"))
        with serving(world, Users("SLV", oidc=oidc, required=False), tmp_path / "g", tls=False) as at:
            assert self.call(at) is None
            assert at.last().officer == NOBODY
            assert self.call(at, f"Bearer {token()}") is None
            assert at.last().officer == "e7"
            assert self.call(at, f"Bearer {token(exp=now(-60))}") is not None


class TestSettings:
    TEXT = """
    [node]
    gallery = "/g"
    [tls]
    certificate = "/c"
    key = "/k"
    [users]
    country = "SLV"
    trust = "/t"
    key = "/m"
    required = false
    [users.oidc]
    issuer = "i"
    audience = "a"
    keys = "/j"
    skew_seconds = 5
    """

    def read(self, folder: Path, text: str) -> NodeConfig:
        (folder / "node.toml").write_text(text)
        return load_config(folder / "node.toml")

    def test_a_whole_section(self, tmp_path: Path) -> None:
        users = Users("SLV", Path("/t"), Oidc("i", "a", "/j", skew_seconds=5), Path("/m"), False)
        assert self.read(tmp_path, self.TEXT).users == users

    @pytest.mark.parametrize(
        ("old", "new", "says"),
        [
            ('country = "SLV"', 'country = "sv"', "no country"),
            ('country = "SLV"', "", "lacks country"),
            ('trust = "/t"', "trust = 5", r"users\.trust"),
            ("required = false", 'required = "no"', r"users\.required"),
            ("required = false", "admins = 1", r"unknown setting users\.admins"),
            ('audience = "a"', "", "lacks audience"),
            ('audience = "a"', 'audience = ""', "audience is empty"),
            ("skew_seconds = 5", "skew_seconds = 301", "skew_seconds is 301"),
            ("skew_seconds = 5", "skew_seconds = -1", "skew_seconds is -1"),
            ("skew_seconds = 5", 'algorithms = ["none"]', r"unknown setting users\.oidc\.algorithms"),
            ('keys = "/j"', 'keys = "http://example.org/"', "plain text"),
            ("[users.oidc]", "[users.saml]", r"unknown setting users\.saml"),
            ("[tls]", "[tls]\nclient_ca = '/x'", "beside tls.client_ca"),
        ],
    )
    def test_what_cannot_be(self, tmp_path: Path, old: str, new: str, says: str) -> None:
        assert old in self.TEXT
        with pytest.raises(ConfigInvalid, match=says):
            self.read(tmp_path, self.TEXT.replace(old, new))

    def test_users_whom_nothing_names(self) -> None:
        with pytest.raises(ConfigInvalid, match="nothing names"):
            Users("SLV")

    def test_certificates_without_tls(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigInvalid, match="without TLS"):
            NodeConfig(tmp_path, users=Users("SLV", trust=tmp_path))

    def test_both_subjects_of_a_case_of_duplicates_are_marked(self) -> None:
        case = duplicates_pb2.DuplicateCase(subject_id="a", other_subject_id="b")
        request = duplicates_pb2.DecideDuplicateCaseRequest(case_number=1)
        decided = duplicates_pb2.DecideDuplicateCaseResponse(case=case)
        assert {*_subjects(request, decided)} == {"a", "b"}
        listed = duplicates_pb2.ListDuplicateCasesResponse(cases=[case])
        assert {*_subjects(duplicates_pb2.ListDuplicateCasesRequest(), listed)} == {"a", "b"}

    def test_the_key_of_marks(self, tmp_path: Path) -> None:
        path = tmp_path / "key"
        with pytest.raises(ConfigInvalid):
            read_key(path)
        for text in ("", "zz", "ab" * 31):
            path.write_text(text)
            with pytest.raises(ConfigInvalid) as refused:
                read_key(path)
            assert not text or text not in str(refused.value)
        secret = secrets.token_bytes(32)
        path.write_text(secret.hex() + "\n")
        assert read_key(path) == secret

    @pytest.mark.parametrize(
        ("listen", "users", "warns"),
        [("127.0.0.1:0", False, False), ("0.0.0.0:0", False, True), ("0.0.0.0:0", True, False)],
    )
    def test_a_node_that_asks_nobody_says_so(
        self,
        world: Path,
        tmp_path: Path,
        caplog: pytest.LogCaptureFixture,
        listen: str,
        users: bool,
        warns: bool,
    ) -> None:
        tls = Tls(world / "SLV/node.pem", world / "SLV/node.key")
        known = Users("SLV", trust=world / "trust") if users else None
        config = NodeConfig(tmp_path / "g", listen, tls=tls, users=known)
        NodeServer(Node(tmp_path / "g", create=True), config).stop()
        assert ("asks nobody who calls" in caplog.text) == warns
