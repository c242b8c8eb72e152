"""Receipt and quarantine: what is written is whole, what was changed is seen, what lay aside comes back."""

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from archives import Archive, Gallery, image, item, results

from matcher.template import Finger, Impression
from papilar import pki
from papilar.archive.item import Line, Result
from papilar.archive.quarantine import Quarantine, quarantined
from papilar.archive.receipt import KIND, ReceiptWriter, read_lines, verify_receipt
from papilar.errors import ReceiptInvalid, RequestInvalid, SignatureRefused, StorageFull
from papilar.exchange.seal import SEALS
from papilar.identity import Identity
from papilar.signing import Signer
from papilar.trust import Trust

AT = datetime(2026, 5, 4, 12, tzinfo=UTC)
LINES = [
    Line("a\udce9.png", Result.ENROLLED, "ana", "encounter", 70, 40, warnings=("dark",), sha256="ab" * 32),
    Line("b.png", Result.FAILED, reason="IMAGE_EMPTY", message="no bytes; send the whole file"),
    Line("c.png", Result.ENROLLED, "eva", "other", retention="2030-01-01", category="asylum"),
]


def write(path: Path, *, signer: Signer | None = None, stopped: str = "") -> Path:
    with ReceiptWriter(path, source="a", target="g", begun=AT, options={"ppi": 500}, signer=signer) as made:
        for line in LINES:
            made.add(line)
        assert not path.exists()
        made.end(AT + timedelta(hours=2), stopped=stopped)
    return path


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a country's authority, and beside it a trust list that holds it."""
    folder = tmp_path_factory.mktemp("pki") / "SLV"
    pki.init(folder, "SLV", at=AT - timedelta(days=1))
    pki.issue(folder, Identity.parse("spiffe://slv.papilar/seal/x"), at=AT - timedelta(days=1))
    trusted = folder.parent / "trust" / "SLV"
    trusted.mkdir(parents=True)
    (trusted / "ca.pem").write_bytes((folder / "ca.pem").read_bytes())
    return folder


def seal_of(authority: Path) -> Signer:
    (certificate,) = authority.glob("seal-x*.pem")
    return Signer.load(certificate, certificate.with_suffix(".key"))


def test_a_receipt_says_what_became_of_each(tmp_path: Path) -> None:
    found = verify_receipt(write(tmp_path / "new" / "r"))
    assert (found.head["source"], found.head["target"], found.head["begun"]) == ("a", "g", AT.isoformat())
    assert found.head["options"] == {"ppi": 500}
    assert found.end["counts"] == {"ENROLLED": 2, "FAILED": 1}
    assert found.end["complete"] is True
    assert found.signature is None
    assert list(read_lines(tmp_path / "new" / "r")) == [replace(LINES[0], file="a\\udce9.png"), *LINES[1:]]
    assert stat.S_IMODE((tmp_path / "new" / "r").stat().st_mode) == 0o600


def test_a_run_that_was_stopped_is_no_whole_one(tmp_path: Path) -> None:
    assert verify_receipt(write(tmp_path / "r", stopped="STOPPED")).end["complete"] is False


def test_a_receipt_of_a_run_that_was_killed_is_none(tmp_path: Path) -> None:
    with ReceiptWriter(tmp_path / "r", source="a", target="g", begun=AT) as made:
        made.add(LINES[0])
    assert not (tmp_path / "r").exists()
    assert list(read_lines(tmp_path / "r.part")) == [replace(LINES[0], file="a\\udce9.png")]
    with pytest.raises(ReceiptInvalid, match="no end"):
        verify_receipt(tmp_path / "r.part")


def timed(path: Path, seconds: list[int]) -> Path:
    """Write a receipt whose line i is added so many seconds after the beginning."""
    times = iter([0, *seconds])
    clock = lambda: AT + timedelta(seconds=next(times))  # noqa: E731
    with ReceiptWriter(path, source="a", target="g", begun=AT, clock=clock) as made:
        for number in range(len(seconds)):
            made.add(Line(f"{number}", Result.ENROLLED if number % 2 else Result.ALREADY))
        made.end(AT + timedelta(seconds=seconds[-1]))
    return path


def test_once_a_minute_it_says_how_far_the_run_was(tmp_path: Path) -> None:
    path = timed(tmp_path / "r", [1, 30, 61, 62, 120, 121, 500])
    found = verify_receipt(path)
    assert [(mark.at - AT).seconds for mark in found.marks] == [61, 121, 500]
    assert [dict(mark.counts) for mark in found.marks] == [
        {Result.ALREADY: 1, Result.ENROLLED: 1},
        {Result.ALREADY: 3, Result.ENROLLED: 2},
        {Result.ALREADY: 3, Result.ENROLLED: 3},
    ]
    assert [line.file for line in read_lines(path)] == [str(number) for number in range(7)]
    assert found.end["size"] == 1 + 7 + 3


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.replace(b'"counts":{"ALREADY":1,"ENROLLED":1}}', b'"counts":{"ALREADY":2}}'),
        lambda data: data.replace(b'"counts":{"ALREADY":1,"ENROLLED":1}}', b'"counts":7}'),
        lambda data: data.replace(b'{"at":"2026', b'{"at":"2025'),
        lambda data: b"".join(line for line in data.splitlines(keepends=True) if b'"at"' not in line),
    ],
)
def test_a_mark_that_was_changed_is_seen(tmp_path: Path, change: Callable[[bytes], bytes]) -> None:
    path = timed(tmp_path / "r", [1, 30, 61])
    data = change(path.read_bytes())
    assert data != path.read_bytes()
    path.write_bytes(data)
    with pytest.raises(ReceiptInvalid):
        verify_receipt(path)


CHANGES: list[Callable[[list[bytes]], list[bytes]]] = [
    lambda lines: [*lines[:1], *lines[2:]],
    lambda lines: [*lines[:1], lines[2], lines[1], *lines[3:]],
    lambda lines: [*lines[:2], lines[1], *lines[2:]],
    lambda lines: [line.replace(b"FAILED", b"ENROLLED") for line in lines],
    lambda lines: [line.replace(b'"ana"', b'"eva"') for line in lines],
    lambda lines: [line.replace(b'"FAILED":1', b'"FAILED":2') for line in lines],
    lambda lines: [line + b" " for line in lines],
    lambda lines: lines[1:],
    lambda lines: lines[:-1],
    lambda lines: [*lines, lines[1]],
    lambda lines: [*lines, b"no JSON"],
    lambda lines: [],
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_was_changed_is_seen(tmp_path: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = write(tmp_path / "r")
    path.write_bytes(b"".join(line + b"\n" for line in change(path.read_bytes().splitlines())))
    with pytest.raises(ReceiptInvalid):
        verify_receipt(path)


def test_the_seal_is_on_the_root(tmp_path: Path, authority: Path) -> None:
    path = write(tmp_path / "r", signer=seal_of(authority))
    trust, found = Trust.load(authority.parent / "trust"), verify_receipt(path)
    assert found.signature is not None
    assert trust.check(KIND, found.signed, found.signature, at=AT, kinds=SEALS).country == "SLV"
    changed = path.read_bytes().replace(b'"complete":true', b'"complete":false')
    path.write_bytes(changed)
    found = verify_receipt(path)
    assert found.signature is not None
    with pytest.raises(SignatureRefused):
        trust.check(KIND, found.signed, found.signature, at=AT, kinds=SEALS)


def test_what_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageFull, match="receipt"):
        write(tmp_path / "file" / "r")
    with pytest.raises(StorageFull, match="quarantine"):
        Quarantine(tmp_path / "file" / "q")


# ---- quarantine


def test_what_did_not_go_in_comes_back_as_it_was(tmp_path: Path) -> None:
    bad = item(
        "ana/2_1.png", "ana", "1", read=lambda: image()[:80], finger=Finger(2), ppi=500,
        kind=Impression.LIVE_ROLLED, category="asylum", retention=date(2030, 1, 2),
    )  # fmt: skip
    poor = item("b", "eva")
    quarantine, archive = Quarantine(tmp_path / "q"), Archive(tmp_path / "j")
    gallery = Gallery(poor=frozenset({0}))
    lines = archive.lines([bad, poor], gallery, quarantine=quarantine)
    assert results(lines) == {"ana/2_1.png": "FAILED IMAGE_TRUNCATED", "b": "REJECTED BLANK"}
    found = list(quarantined(tmp_path / "q"))
    assert [one.read() for one in found] == [bad.read(), poor.read()]
    assert [replace(one, version="1") for one in found] == [bad, poor]
    sheet = json.loads(next((tmp_path / "q").glob(f"{lines['b'].sha256}.*.json")).read_bytes())
    assert (sheet["reason"], sheet["message"]) == ("BLANK", "look at the scanner")
    names = [path.name for path in (tmp_path / "q").iterdir()]
    assert len(names) == 4
    assert not any("ana" in name or "eva" in name for name in names)
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "q").iterdir()} == {0o600}


def test_a_retried_item_is_the_same_to_the_archive(tmp_path: Path) -> None:
    """What goes in out of the quarantine is there when the whole archive is run again."""
    quarantine, archive, gallery = Quarantine(tmp_path / "q"), Archive(tmp_path / "j"), Gallery()
    pair = [
        item("1", "ana", finger=Finger(1)),
        item("2", "ana", finger=Finger(2), read=lambda: image(ppi=None)),
    ]
    first = archive.lines(pair, gallery, quarantine=quarantine)
    assert results(first) == {"1": "ENROLLED", "2": "FAILED RESOLUTION_UNKNOWN"}
    again = archive.lines(quarantined(tmp_path / "q"), gallery, source="q", ppi=500)
    assert results(again) == {"2": "ENROLLED"}
    last = archive.lines(pair, gallery)
    assert results(last) == {"1": "ALREADY", "2": "ALREADY"}
    assert len(gallery.asked) == 2


def test_the_bytes_go_with_the_last_sheet_about_them(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q")
    lines = [Line(name, Result.FAILED, sha256="ab" * 32) for name in ("a", "b")]
    for line in lines:
        quarantine.put(item(line.file), line, b"bytes")
    quarantine.release(lines[0])
    assert [one.name for one in quarantined(tmp_path / "q")] == ["b"]
    quarantine.release(lines[0])
    assert (tmp_path / "q" / ("ab" * 32)).read_bytes() == b"bytes"
    quarantine.release(lines[1])
    assert list((tmp_path / "q").iterdir()) == []


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"form": "papilar-quarantine-2"}'])
def test_a_sheet_that_is_none_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RequestInvalid, match=r"x\.json"):
        list(quarantined(tmp_path))
    with pytest.raises(RequestInvalid, match="no folder"):
        list(quarantined(tmp_path / "nowhere"))
