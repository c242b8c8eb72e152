"""Duplicates over a real socket: the calls, who may make them, what is logged; and the command."""

import json
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from nodes import enrolled_as, refusal, seen_again
from typer.testing import CliRunner

from matcher.template import Finger
from papilar import cli
from papilar.api.v1 import duplicates_pb2 as api
from papilar.api.v1 import duplicates_pb2_grpc
from papilar.config import NodeConfig
from papilar.duplicates_client import DuplicatesClient
from papilar.duplicates_server import duplicate_service
from papilar.errors import RunUnderWay, SubjectMerged
from papilar.node import Node
from papilar.requests import Enrollment
from papilar.server import NodeServer

INDEX, MIDDLE = Finger(2), Finger(3)
SAME = {"note": "SAME_CARD"}


def enrol(node: Node | DuplicatesClient) -> None:
    node.enroll(Enrollment((enrolled_as(1, INDEX), enrolled_as(2, MIDDLE)), subject_id="a"))
    node.enroll(Enrollment((seen_again(1, INDEX), seen_again(2, MIDDLE)), subject_id="b"))
    node.enroll(Enrollment((enrolled_as(3, INDEX),), subject_id="c"))


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """A node with the service, and its address."""
    node = Node(folder, create=True)
    server = NodeServer(node, NodeConfig(folder, listen="127.0.0.1:0"), services=[duplicate_service])
    server.start()
    try:
        yield f"127.0.0.1:{server.port}"
    finally:
        server.stop()


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    with serving(tmp_path / "gallery") as address:
        with DuplicatesClient(address) as client:
            enrol(client)
        yield address


@pytest.fixture
def client(address: str) -> Iterator[DuplicatesClient]:
    with DuplicatesClient(address) as client:
        yield client


def decision(**fields: Any) -> api.DecideDuplicateCaseRequest:
    merged = {"case_number": 1, "decision": api.DUPLICATE_STATE_MERGED, "subject_id": "a", **SAME}
    return api.DecideDuplicateCaseRequest(**(merged | fields))


class TestCalls:
    def test_found_listed_merged_and_parted(self, client: DuplicatesClient) -> None:
        answers = list(client.find(api.FindDuplicatesRequest()))
        assert [one.WhichOneof("outcome") for one in answers] == ["case", "progress"]
        case = answers[0].case
        assert (case.subject_id, case.other_subject_id) == ("a", "b")
        assert (case.kind, case.state) == (api.DUPLICATE_KIND_SAME_PERSON, api.DUPLICATE_STATE_OPEN)
        assert [(p.print.position, p.other_print.position) for p in case.pairs] in (
            [(2, 2), (3, 3)],
            [(3, 3), (2, 2)],
        )
        assert all(pair.print.encounter_id for pair in case.pairs)
        assert list(client.cases(api.ListDuplicateCasesRequest()).cases) == [case]
        request = decision(request_id=str(uuid.uuid4()))
        merged = client.decide(request).case
        assert (merged.state, merged.note, bool(merged.merge_id)) == (
            api.DUPLICATE_STATE_MERGED,
            "SAME_CARD",
            True,
        )
        assert client.decide(request).case == merged
        with pytest.raises(SubjectMerged):
            client.enroll(Enrollment((enrolled_as(9),), subject_id="b"))
        assert not client.cases(api.ListDuplicateCasesRequest()).cases
        assert client.cases(api.ListDuplicateCasesRequest(include_decided=True)).cases[0] == merged
        undo = api.UnmergeSubjectsRequest(
            request_id=str(uuid.uuid4()), merge_id=merged.merge_id, note="TWINS"
        )
        client.unmerge(undo)
        client.unmerge(undo)
        assert list(client.cases(api.ListDuplicateCasesRequest()).cases) == [case]

    def test_called_distinct(self, client: DuplicatesClient) -> None:
        list(client.find(api.FindDuplicatesRequest()))
        told = client.decide(decision(decision=api.DUPLICATE_STATE_DISTINCT, subject_id="")).case
        assert told.state == api.DUPLICATE_STATE_DISTINCT
        assert not list(client.find(api.FindDuplicatesRequest(again=True)))[:-1]

    def test_what_is_refused(self, address: str, client: DuplicatesClient) -> None:
        list(client.find(api.FindDuplicatesRequest()))
        with grpc.insecure_channel(address) as channel:
            stub = duplicates_pb2_grpc.DuplicateServiceStub(channel)
            for call, request, reason in (
                (stub.DecideDuplicateCase, decision(case_number=9), "CASE_UNKNOWN"),
                (stub.DecideDuplicateCase, decision(subject_id="c"), "REQUEST_INVALID"),
                (stub.DecideDuplicateCase, decision(note="not a code"), "REQUEST_INVALID"),
                (stub.DecideDuplicateCase, decision(decision=0), "REQUEST_INVALID"),
                (stub.DecideDuplicateCase, decision(decision=3), "REQUEST_INVALID"),
                (stub.DecideDuplicateCase, decision(gallery="other"), "GALLERY_UNKNOWN"),
                (stub.UnmergeSubjects, api.UnmergeSubjectsRequest(merge_id="x", **SAME), "REQUEST_INVALID"),
                (stub.ListDuplicateCases, api.ListDuplicateCasesRequest(limit=1_001), "REQUEST_INVALID"),
            ):
                assert refusal(call, request).reason == reason, request
            bad = api.FindDuplicatesRequest(target_fpir=2)
            assert (
                refusal(lambda *a, **k: list(stub.FindDuplicates(*a, **k)), bad).reason == "REQUEST_INVALID"
            )

    def test_a_caller_who_leaves_makes_room_for_the_next(self, client: DuplicatesClient) -> None:
        leaving = client.find(api.FindDuplicatesRequest())
        next(leaving)
        leaving.close()
        assert [one.WhichOneof("outcome") for one in self.patiently(client)][-1] == "progress"

    def patiently(self, client: DuplicatesClient) -> list[Any]:
        """Find, as soon as the node has noticed."""
        for _ in range(100):
            try:
                return list(client.find(api.FindDuplicatesRequest()))
            except RunUnderWay:
                threading.Event().wait(0.05)
        raise AssertionError("the run of a caller who left goes on")


class TestCommand:
    def told(self, *arguments: str) -> Any:
        done = CliRunner().invoke(cli.app, ["dedup", *arguments, "--json"])
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    def test_at_a_node(self, address: str) -> None:
        at = ("--node", address)
        (case,) = self.told("run", *at)
        assert case["kind"] == "DUPLICATE_KIND_SAME_PERSON"
        assert self.told("list", *at) == [case]
        (merged,) = self.told("merge", "1", "--survivor", "b", "--note", "SAME_CARD", *at)
        assert self.told("list", *at) == []
        assert self.told("list", "--decided", *at) == [merged]
        undone = CliRunner().invoke(cli.app, ["dedup", "unmerge", merged["merge_id"], "--note", "TWINS", *at])
        assert undone.exit_code == 0, undone.output
        (told,) = self.told("distinct", "1", "--note", "TWINS", *at)
        assert told["state"] == "DUPLICATE_STATE_DISTINCT"

    def test_in_a_folder(self, tmp_path: Path) -> None:
        with Node(tmp_path / "gallery", create=True) as node:
            enrol(node)
        done = CliRunner().invoke(cli.app, ["dedup", "run", "--gallery", str(tmp_path / "gallery")])
        assert done.exit_code == 0, done.output
        assert "same person" in done.stdout
        assert self.told("run", "--gallery", str(tmp_path / "gallery")) == []
