"""An archive into a real gallery, and the commands: deletion, a full disk, a sealed receipt, a retry."""

import json
import sys
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from archives import Archive, crowd, enroller, held, item
from cards import four
from nodes import as_png, picture
from stores import set_pragma

from enroll.slap import Hand
from matcher.template import Finger
from papilar import cli, pki
from papilar.archive.item import Line, Result
from papilar.identity import Identity
from papilar.node import Node
from papilar.requests import PrintInput


def unread(given: PrintInput) -> tuple[PrintInput, tuple[str, ...]]:
    """Leave the reading to the node."""
    return given, ()


def enrol(node: Node, folder: Path, count: int = 9) -> dict[str, Line]:
    (folder / "mended").touch()
    archive = Archive(folder / "g", in_gallery=True)
    return archive.lines(crowd(count, folder / "mended"), enroller(node), prepare=unread)


def test_a_full_disk_stops_the_run_and_what_is_left_goes_in_after_it(tmp_path: Path) -> None:
    with Node(tmp_path / "g", create=True) as node:
        enrol(node, tmp_path, 3)
        set_pragma(node._store, "max_page_count=75")
        full = enrol(node, tmp_path, 300)
        said = [line.reason for line in full.values() if line.result is Result.NOT_TRIED]
        assert said[0] == "STORAGE_FULL"
        assert len(set(said)) == 2
        set_pragma(node._store, "max_page_count=100000")
        for _ in range(2):
            left = enrol(node, tmp_path, 300)
        assert {line.result for line in left.values()} == set(Result) - {
            Result.ENROLLED,
            Result.DUPLICATE,
            Result.NOT_TRIED,
        }
    assert max(held(tmp_path / "g")[0].values()) == 1


def test_an_image_that_a_killed_run_enrolled_is_not_enrolled_beside_one_that_now_fails(
    tmp_path: Path,
) -> None:
    """The journal has no row of it, and without the one that fails it would be another request."""

    def fails() -> bytes:
        raise OSError(5, "Input/output error")

    both = [item(f"{n}", "ana", finger=Finger(n), read=lambda n=n: picture(n)) for n in (1, 2)]
    with Node(tmp_path / "g", create=True) as node:
        archive = Archive(tmp_path / "g", in_gallery=True)
        first = archive.lines(both, enroller(node), prepare=unread)
        keys = {sha256(name.encode()).digest(): None for name in first}
        archive.store.write(sha256(b"a").digest(), {}, keys)
        again = archive.lines([both[0], replace(both[1], read=fails)], enroller(node), prepare=unread)
        assert again["1"] == replace(first["1"], result=Result.ALREADY)
        assert again["2"].result is Result.FAILED
        last = archive.lines(both, enroller(node), prepare=unread)
        assert last == {name: replace(line, result=Result.ALREADY) for name, line in first.items()}
        assert node.describe().prints == 2


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process; give its exit code, its output and its errors."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["papilar", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        return int(ended.value.code or 0), shown.out, shown.err

    return call


def test_a_sealed_receipt_and_a_retry_of_what_failed(run: Any, tmp_path: Path) -> None:
    now, authority, trust = datetime.now(UTC), tmp_path / "SLV", tmp_path / "trust" / "SLV"
    pki.init(authority, "SLV", at=now)
    (certificate,) = pki.issue(authority, Identity.parse("spiffe://slv.papilar/seal/x"), at=now)
    trust.mkdir(parents=True)
    (trust / "ca.pem").write_bytes((authority / "ca.pem").read_bytes())
    (tmp_path / "a").mkdir()
    (tmp_path / "a/1_1.png").write_bytes(picture(1))
    (tmp_path / "a/2_1.png").write_bytes(as_png(_pixels(picture(2)), None))
    target = ("--gallery", tmp_path / "g", "--workers", 1)
    receipt = (
        "--receipt",
        tmp_path / "r",
        "--sign-cert",
        certificate,
        "--sign-key",
        certificate.with_suffix(".key"),
    )
    code, out, _ = run("enroll", tmp_path / "a", *target, *receipt, "--quarantine", tmp_path / "q")
    assert code == 3
    assert "1 enrolled, 1 failed" in out
    code, out, _ = run("receipt", "verify", tmp_path / "r", "--trust", tmp_path / "trust", "--json")
    assert (code, json.loads(out)["signed by"], json.loads(out)["complete"]) == (0, "SLV", True)
    code, out, _ = run("enroll", "--retry-quarantine", tmp_path / "q", *target, "--ppi", 500)
    assert code == 0
    assert "1 enrolled" in out
    assert list((tmp_path / "q").iterdir()) == []
    code, out, _ = run("enroll", tmp_path / "a", *target)
    assert (code, out.rstrip().splitlines()[-1]) == (0, "2 already")
    assert run("receipt", "page", tmp_path / "r", "--out", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "50.0% of 2 prints are in." in page
    assert "_1" not in page
    (tmp_path / "r").write_bytes((tmp_path / "r").read_bytes().replace(b"FAILED", b"ENROLLED"))
    code, _, said = run("receipt", "verify", tmp_path / "r")
    assert code == 2
    assert "changed" in said
    code, _, said = run("receipt", "page", tmp_path / "r", "--out", tmp_path / "other.html")
    assert (code, (tmp_path / "other.html").exists()) == (2, False)
    assert "changed" in said


def test_a_sheet_is_cut_by_the_processes_that_read_and_not_in_the_command_s(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x_1.png").write_bytes(as_png(four(Hand.RIGHT)))
    monkeypatch.delattr("papilar.archive.cut.segment_slap")
    where = ("--sheet", "right-slap", "--gallery", tmp_path / "g", "--workers", 1)
    code, out, _ = run("enroll", tmp_path / "a", *where)
    assert (code, out.rstrip().splitlines()[-1]) == (0, "4 enrolled")


def _pixels(png: bytes) -> Any:
    from enroll.image import read_image

    return read_image(png).pixels


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ([], "nothing to enrol"),
        (["a", "--retry-quarantine", "q"], "or two"),
        (["a", "--sign-cert", "c", "--receipt", "r"], "halves"),
        (["--retry-quarantine", "nowhere"], "no folder"),
    ],
)
def test_what_cannot_be_asked_for_is_said(run: Any, tmp_path: Path, options: list[str], cause: str) -> None:
    code, out, said = run("enroll", *options, "--gallery", tmp_path / "g")
    assert (code, out) == (2, "")
    assert cause in said
    assert not (tmp_path / "g").exists()
