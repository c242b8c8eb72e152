"""`papilar nist`: what it shows, what it keeps to itself, and what it ends with."""

import json
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from enroll import nist
from enroll.image import GrayImage, read_image
from papilar import cli

SENT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process, as its entry point does."""

    def call(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["papilar", "nist", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return Ran(int(ended.value.code or 0), shown.out, shown.err)

    return call


def pixels() -> GrayImage:
    y, x = np.mgrid[:96, :80]
    return GrayImage(np.uint8(127.5 + 120 * np.sin(0.7 * np.hypot(x - 26, y + 20))), 400.0, "")


def transaction() -> nist.Transaction:
    envelope = nist.Envelope("CAR", "SLVPOLICE", "HNDPOLICE", "2600000001", SENT)
    prints = [
        nist.SentPrint(2, 0, date(2026, 3, 4), pixels()),
        nist.SentPrint(7, 0, date(2026, 3, 4), None, missing=(nist.Missing(7, "XX"),)),
    ]
    return nist.build(envelope, prints, descriptive={18: "NOBODY, ANN"})


def written(folder: Path, *, changed: nist.Transaction | None = None) -> Path:
    path = folder / "sent.an2"
    path.write_bytes(nist.encode(changed or transaction()))
    return path


def with_wrong_code() -> nist.Transaction:
    sent = transaction()
    return sent.replaced(
        sent.records[2], sent.records[2].with_field("14.011", "WSQ20").with_field(20, "Ann's")
    )


def test_show_is_a_table_and_keeps_names_to_itself(tmp_path: Path, run: Any) -> None:
    ran = run("show", written(tmp_path))
    assert ran.code == 0
    assert "14.013   FGP    2" in ran.out
    assert "2.018           (personal: 11 bytes)" in ran.out
    assert "NOBODY" not in ran.out
    assert "RIGHT_INDEX" in ran.out
    assert "7 XX" in ran.out


def test_show_prints_names_only_when_asked(tmp_path: Path, run: Any) -> None:
    assert "NOBODY, ANN" in run("show", written(tmp_path), "--personal").out
    assert "NOBODY" not in run("show", written(tmp_path), "--json").out
    assert "Ann's" not in run("show", written(tmp_path, changed=with_wrong_code())).out


def test_show_as_json(tmp_path: Path, run: Any) -> None:
    said = json.loads(run("show", written(tmp_path), "--json", "--personal").out)
    assert [record["record"] for record in said["records"]] == ["1", "2.0", "14.1", "14.2"]
    assert {"field": "2.018", "name": "", "value": "NOBODY, ANN"} in said["records"][1]["fields"]
    assert [(one["position"], one["content"], one["ppi"]) for one in said["pictures"]] == [
        (2, "finger", 400.0),
        (7, "finger", None),
    ]
    assert said["warnings"] == []


def test_show_writes_the_pictures(tmp_path: Path, run: Any) -> None:
    ran = run("show", written(tmp_path), "--images", tmp_path / "out")
    assert ran.code == 0
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == "03-14.1-position-2.png"
    assert np.array_equal(read_image(file.read_bytes()).pixels, pixels().pixels)


def test_a_picture_that_cannot_be_used_is_told_and_the_rest_is_shown(tmp_path: Path, run: Any) -> None:
    ran = run("show", written(tmp_path, changed=with_wrong_code()))
    assert ran.code == 3
    assert "RECORD_COMPRESSION_WRONG: record 14.1 says WSQ20 and holds PNG" in ran.out
    assert "7 XX" in ran.out


def test_check_names_every_fault_and_ends_with_three(tmp_path: Path, run: Any) -> None:
    file = written(tmp_path, changed=with_wrong_code())
    ran = run("check", file)
    assert ran.code == 3
    assert "14.011 CGA" in ran.out
    assert "1 fault by the profile ansi-nist" in ran.out
    said = json.loads(run("check", file, "--profile", "ebts", "--json").out)
    assert {fault["field"] for fault in said["faults"]} >= {"2.005 RET", "14.011 CGA"}
    assert said["sources"]


def test_check_is_silent_about_what_is_right(tmp_path: Path, run: Any) -> None:
    ran = run("check", written(tmp_path))
    assert (ran.code, ran.out.strip()) == (0, "no faults by the profile ansi-nist")


def test_a_damaged_file_is_refused_in_two_lines(tmp_path: Path, run: Any) -> None:
    path = written(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    for command in ("show", "check"):
        ran = run(command, path)
        assert (ran.code, ran.out) == (2, "")
        assert [line.split(":")[0] for line in ran.err.splitlines()] == ["error", "remedy"]


def test_an_unknown_profile_is_refused(tmp_path: Path, run: Any) -> None:
    ran = run("check", written(tmp_path), "--profile", "none")
    assert ran.code == 2
    assert "ansi-nist, ebts, int-i" in ran.err


@pytest.mark.datasets
def test_a_reference_transaction_with_minutiae(datasets: Path, run: Any) -> None:
    ran = run("show", datasets / "formats" / "nist" / "type-9-4-iafis.an2")
    assert ran.code == 0
    assert "iafis" in ran.out
