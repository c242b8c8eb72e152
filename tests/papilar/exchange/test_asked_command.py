"""`papilar peer` and the settings' [peer]: what waits, the decision, and a node that answers as they say."""

import json
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from countries import PERSON, TERMS, Asking, a_print
from nodes import enrolled_as
from typer.testing import CliRunner

from matcher.template import Finger
from papilar.api.peer.v1 import peer_pb2, types_pb2
from papilar.audit.log import AuditLog
from papilar.commands.peer import app
from papilar.config import load_config
from papilar.errors import ConfigInvalid, RequestInvalid
from papilar.exchange.seal import seal
from papilar.node import Node
from papilar.peer_server import answering_peers
from papilar.policy import Bundle, LawText, install
from papilar.requests import Enrollment
from papilar.service import open_files
from papilar.signing import Signer
from papilar.store.log import LogStore
from papilar.trust import Trust

SETTINGS = """
[node]
gallery = "{folder}/gallery"

[peer]
country = "SLV"
listen = "127.0.0.1:0"
certificate = "{world}/SLV/node.pem"
key = "{world}/SLV/node.key"
seal = "{world}/SLV/seal.pem"
seal_key = "{world}/SLV/seal.key"
trust = "{world}/trust"
law = "{folder}/laws"
marks = "{folder}/marks.key"
store = "{folder}/exchange"
answer_bytes = 65536

[peer.files]
criminal = "{folder}/gallery"
missing_persons = "{folder}/missing"
"""

EXAMPLES = """
[[example]]
name = "A person decides"
expect = "NEEDS_HUMAN"
rules = ["asylum"]
[example.given]
action = "search"
direction = "inbound"
peer = "HND"
roles = ["officer"]
files = ["criminal"]
purpose = "asylum"
offence_class = "serious"
legal_basis = "treaty"
search_type = "TP_TP"
"""


@pytest.fixture
def settings(world: Path, tmp_path: Path) -> Path:
    (tmp_path / "marks.key").write_text("00" * 32)
    signer = Signer.load(world / "SLV/law.pem", world / "SLV/law.key")
    bundle = Bundle.sign(LawText(TERMS, PERSON, EXAMPLES), signer)
    now = datetime.now(UTC)
    install(bundle.pack(), tmp_path / "laws", Trust.load(world / "trust"), country="SLV", at=now)
    with Node(tmp_path / "missing", create=True) as missing:
        missing.enroll(Enrollment((enrolled_as(31, Finger.RIGHT_INDEX),), subject_id="missing-1"))
    (tmp_path / "node.toml").write_text(SETTINGS.format(folder=tmp_path, world=world))
    return tmp_path / "node.toml"


def run(*arguments: str) -> Any:
    return CliRunner().invoke(app, list(arguments), catch_exceptions=False)


def test_a_search_waits_is_agreed_to_and_answered(settings: Path, world: Path, tmp_path: Path) -> None:
    config = load_config(settings)
    assert config.peer is not None
    with (
        Node(tmp_path / "gallery", create=True) as node,
        open_files(config, node) as nodes,
        closing(LogStore.open(config.peer.store, create=True)) as rows,
        answering_peers(config.peer, nodes, AuditLog(rows)) as server,
    ):
        hnd = Asking(world, "HND", f"127.0.0.1:{server.port}")
        files = [types_pb2.FILE_CRIMINAL, types_pb2.FILE_MISSING_PERSONS]
        search = hnd.statement(a_print(31), purpose=types_pb2.PURPOSE_ASYLUM, files=files)
        assert asked(hnd, search).outcome == peer_pb2.OUTCOME_NEEDS_HUMAN
        (waiting,) = json.loads(run("pending", "--config", str(settings), "--json").stdout)["waiting"]
        assert (waiting["request_id"], waiting["peer"], waiting["case"]) == (
            search.request_id,
            "HND",
            "C-2026/1",
        )
        assert waiting["waiting"] == ["criminal", "missing_persons"]
        arguments = ["approve", search.request_id, "--config", str(settings), "--person", "sv1"]
        assert run(*arguments, "--why", "the person asked for it").exit_code == 0
        assert "nothing waits" in run("pending", "--config", str(settings)).stdout
        with pytest.raises(RequestInvalid):
            run(*arguments, "--why", "again")
        answer = asked(hnd, search)
    assert answer.outcome == peer_pb2.OUTCOME_CANDIDATES
    assert answer.complete
    assert sorted(answer.files) == sorted(files)


def asked(hnd: Asking, search: peer_pb2.Search) -> peer_pb2.Answer:
    with hnd.calling() as stub:
        request = peer_pb2.SearchRequest(search=seal("search", search, hnd.signer()))
        *_, last = stub.Search(request, timeout=60)
    return peer_pb2.Answer.FromString(last.answer.statement)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('country = "SLV"', 'country = "slv"'),
        ('criminal = "', 'criminals = "'),
        ("answer_bytes = 65536", "answer_bytes = 10"),
        ("answer_bytes = 65536", "searches = 0"),
        ("answer_bytes = 65536", "quantum_seconds = 0.0"),
        ("answer_bytes = 65536", "unknown = 1"),
        ('/marks.key"', '/none.key"'),
    ],
)
def test_settings_that_cannot_be(settings: Path, tmp_path: Path, old: str, new: str) -> None:
    settings.write_text(settings.read_text().replace(old, new))
    with Node(tmp_path / "gallery", create=True) as node, pytest.raises(ConfigInvalid):
        opened(settings, node)


def opened(settings: Path, node: Node) -> None:
    config = load_config(settings)
    assert config.peer is not None
    with (
        open_files(config, node) as files,
        closing(LogStore.open(config.peer.store, create=True)) as rows,
        answering_peers(config.peer, files, AuditLog(rows)),
    ):
        pass


def test_without_the_section(tmp_path: Path) -> None:
    (tmp_path / "node.toml").write_text(f'[node]\ngallery = "{tmp_path}"\n')
    with pytest.raises(ConfigInvalid):
        run("pending", "--config", str(tmp_path / "node.toml"))
