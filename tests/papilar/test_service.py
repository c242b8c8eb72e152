"""A node in full, as `papilar serve --config` runs it: users, other countries, one log, a clean stop."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nodes import picture
from trials import DAY, countries, user

from papilar import cli
from papilar.audit.check import verify
from papilar.audit.entry import Act
from papilar.audit.log import AuditLog
from papilar.policy import Bundle, Law, install
from papilar.signing import Signer
from papilar.store.log import LogStore
from papilar.trust import Trust

Papilar = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).resolve().parents[2]
LAW = ROOT / "examples" / "policies" / "restrictive"
SETTINGS = """
[node]
gallery = "{folder}/gallery"
listen = "127.0.0.1:0"

[tls]
certificate = "{own}/node.pem"
key = "{own}/node.key"

[users]
country = "SLV"
trust = "{folder}/trust"
key = "{folder}/marks.key"

[peer]
country = "SLV"
listen = "127.0.0.1:0"
certificate = "{own}/node.pem"
key = "{own}/node.key"
seal = "{own}/seal.pem"
seal_key = "{own}/seal.key"
trust = "{folder}/trust"
law = "{folder}/laws"
marks = "{folder}/marks.key"
store = "{folder}/exchange"

[peer.files]
criminal = "{folder}/gallery"

[region.peers]
HND = ["127.0.0.1:1"]
"""
MANDATE = """
purpose = "criminal_investigation"
reason = "HOMICIDE"
legal_basis = "treaty"
offence_class = "serious"
case_reference = "2026/114"
ordering_officer = "judge-3"
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    at = datetime.now(UTC) - DAY
    trust = countries(tmp_path, "SLV", "HND", at=at)
    user(tmp_path / "SLV", "o12", "officer", at=at)
    own = tmp_path / "SLV"
    law = Bundle.sign(Law.load(LAW).text, Signer.load(own / "law.pem", own / "law.key"))
    install(law.pack(), tmp_path / "laws", Trust.load(trust), country="SLV", at=datetime.now(UTC))
    (tmp_path / "marks.key").write_text("a4" * 32)
    (tmp_path / "marks.key").chmod(0o600)
    (tmp_path / "case.toml").write_text(MANDATE)
    (tmp_path / "probe.png").write_bytes(picture(3))
    (tmp_path / "node.toml").write_text(SETTINGS.format(folder=tmp_path, own=own))
    return tmp_path


@pytest.fixture
def papilar(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Papilar:
    """The command in this process; gives its exit code, what it shows, and its errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["papilar", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return int(ended.value.code or 0), *capsys.readouterr()

    return run


def started(home: Path) -> tuple["subprocess.Popen[str]", str]:
    """A node that answers, and its address for users."""
    command = [sys.executable, "-m", "papilar", "serve", "--create", "--config", str(home / "node.toml")]
    node = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert node.stderr is not None
    for line in node.stderr:
        if line.startswith("listening on "):
            return node, line.split()[2]
    raise AssertionError("the node did not start")


def test_a_user_asks_it_all_is_logged_and_it_stops_clean(home: Path, papilar: Papilar) -> None:
    node, address = started(home)
    try:
        own = home / "SLV"
        caller = ["--tls-ca", own / "ca.pem", "--tls-country", "SLV"]
        caller += ["--tls-cert", own / "user-o12-tls.pem", "--tls-key", own / "user-o12-tls.key"]
        asked = [home / "probe.png", "--node", address, *caller, "--json"]
        code, _, said = papilar("identify", *asked)
        assert (code, "papilar-purpose" in said) == (2, True)
        mandated = [*asked, "--mandate", home / "case.toml"]
        assert json.loads(papilar("identify", *mandated)[1])["complete"]
        code, found, _ = papilar("identify", *mandated, "--region", "--timeout", "10")
        assert code == 3
        (gap,) = json.loads(found)["gaps"]
        assert (gap["country"], gap["kind"]) == ("HND", "GAP_KIND_UNREACHABLE")
        stranger = papilar("status", "--node", address, "--tls-ca", own / "ca.pem", "--tls-country", "SLV")
        assert stranger[0] == 1
    finally:
        node.send_signal(signal.SIGTERM)
        before = time.monotonic()
        assert node.wait(timeout=60) == 0
        assert time.monotonic() - before < 40
    with closing(LogStore.open(home / "exchange")) as rows:
        entries = [one.entry for one in AuditLog(rows).entries() if one.entry is not None]
        assert not verify(rows).findings
    assert {Act.REFUSAL, Act.CONSULTATION, Act.DISCLOSURE} <= {one.act for one in entries}
    assert {one.officer for one in entries} <= {"o12", "SLV:o12", "@nobody"}
