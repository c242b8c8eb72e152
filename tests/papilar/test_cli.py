"""The command line, as someone at a terminal meets it: what is shown, what is kept, and the exit code."""

import dataclasses
import json
import os
import pty
import re
import select
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from minutiae import finger
from nodes import Served, enrolled_as, mate_record, picture, record, serving, white
from PIL import Image
from skimage import data as photographs
from stores import tamper

from matcher.codecs import decode, encode
from matcher.template import Finger
from papilar import cli
from papilar.commands import plot
from papilar.commands import prints as prints_commands
from papilar.requests import Enrollment
from papilar.store import Counts, Store

pytestmark = pytest.mark.usefixtures("lasting_readers", "extracted_once")

PAPILAR = [sys.executable, "-m", "papilar"]
UUID_LENGTH = 36


class Ran(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def error(self) -> tuple[str, str]:
        """Cause and remedy; nothing but these two lines was said."""
        cause, remedy = self.err.splitlines()
        assert cause.startswith("error: ")
        assert remedy.startswith("remedy: ")
        assert not self.out
        return cause, remedy


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """Run the command in this process, as its entry point does."""

    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = code_of(monkeypatch, *arguments)
        shown = capsys.readouterr()
        assert "Traceback" not in shown.out + shown.err
        return Ran(code, shown.out, shown.err)

    return call


def code_of(patch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command in this process and return its exit code."""
    patch.setattr(sys, "argv", ["papilar", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def spawn(*arguments: object, **options: Any) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [*PAPILAR, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


def spawn_limited(most_bytes: int, *arguments: object) -> "subprocess.Popen[str]":
    """As `spawn`, with files that cannot grow beyond a size; the limit is set by a program in between."""
    code = """if True:
        import os, resource, sys
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]),) * 2)
        os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
    """
    command = [sys.executable, "-c", code, str(most_bytes), *PAPILAR[1:], *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(process: "subprocess.Popen[str]") -> Ran:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in out + err
    return Ran(process.returncode, out, err)


def counts_of(gallery: Path) -> Counts:
    with Store.open(gallery) as store:
        return store.counts()


def png_header(side: int) -> bytes:
    """A PNG that states a size and has no such pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def saved(path: Path, pixels: Any, **options: Any) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.fixture(scope="session")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Any:
    file = tmp_path_factory.mktemp("grey") / "print.png"
    file.write_bytes(picture(1))
    return np.asarray(Image.open(file))


@pytest.fixture(scope="session")
def prints(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two fingers, two impressions each, a third finger that is in no archive, and what is no print."""
    folder = tmp_path_factory.mktemp("prints")
    for seed in (1, 2):
        for number in (0, 1):
            (folder / f"{seed:03}_{number + 1}.png").write_bytes(picture(seed, number))
    (folder / "white.png").write_bytes(white())
    (folder / "text.png").write_text("this is no image")
    (folder / "one.fmr").write_bytes(record(1, form="iso-19794-2:2011"))
    return folder


@pytest.fixture(scope="session")
def archive(prints: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for name in ("001_1.png", "002_1.png"):
        shutil.copy(prints / name, folder)
    return folder


@pytest.fixture(scope="module")
def node(archive: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A node in this process, whose gallery holds the archive."""
    with serving(tmp_path_factory.mktemp("node") / "gallery", max_message_bytes=2_000_000) as served:
        with pytest.MonkeyPatch.context() as patch:
            assert code_of(patch, "enroll", archive, "--node", served.address, "--workers", 1) == 0
        yield served


@pytest.fixture
def crowd(tmp_path: Path, prints: Path) -> Path:
    """An archive of 8 files, enough to be interrupted in."""
    folder = tmp_path / "crowd"
    folder.mkdir()
    for number in range(8):
        shutil.copy(prints / f"00{number % 2 + 1}_1.png", folder / f"f{number:02}_1.png")
    return folder


# ---- the command


def test_the_version_and_every_help_is_there(run: Any) -> None:
    assert run("--version") == (0, "papilar 0.1.0\n", "")
    assert run("--help").code == 0
    for command in ("enroll", "serve", "identify", "delete", "status", "compare", "extract"):
        assert command in run().out
        assert run(command, "--help").code == 0


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["enrol"], "enroll"),
        (["enroll", "x", "--galery", "g"], "--gallery"),
        (["enroll", "x", "--gallery", "g", "--workers", "0"], "--workers"),
        (["enroll", "x", "--gallery", "g", "--ppi", "much"], "--ppi"),
        (["enroll", "x", "--gallery", "g", "--ppi", "-5"], "--ppi"),
        (["enroll", "x", "--gallery", "g", "--ppi", "nan"], "--ppi"),
        (["identify", "x", "--limit", "0"], "--limit"),
        (["status", "--timeout", "nan"], "--timeout"),
        (["status", "--timeout", "inf"], "--timeout"),
        (["extract", "x"], "--output"),
        (["compare", "x"], "B"),
    ],
)
def test_a_mistyped_command_is_told_what_is_wrong(run: Any, arguments: list[str], hint: str) -> None:
    said = run(*arguments)
    assert (said.code, said.out) == (2, "")
    assert hint in said.err


def test_a_fault_of_ours_is_two_lines_too(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> None:
        raise ZeroDivisionError("[red]nothing[/]")

    monkeypatch.setattr(prints_commands, "read_side", broken)
    said = run("compare", "a", "b")
    assert said.code == 1
    assert "ZeroDivisionError: [red]nothing[/] (test_cli.py, line" in said.error[0]


# ---- enroll


def test_good_prints_go_in_and_again_they_are_there(run: Any, archive: Path, tmp_path: Path) -> None:
    first = run("enroll", archive, "--gallery", tmp_path / "g")
    assert (first.code, first.err) == (0, "")
    assert first.out.rstrip().endswith("2 enrolled")
    again = run("enroll", archive, "--gallery", tmp_path / "g", "--json")
    assert (again.code, again.err) == (0, "")
    report = json.loads(again.out)
    assert report["counts"] == {"ALREADY": 2}
    assert [line["encounter_id"] in first.out for line in report["files"]] == [True, True]
    assert counts_of(tmp_path / "g") == (2, 2, 2)


def test_bad_files_are_named_with_their_reasons_and_good_ones_go_in(
    run: Any, prints: Path, grey: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "mixed"
    (folder / "ana").mkdir(parents=True)
    for name in ("[red]x_1.png", "José Ñandú_1.png", "ana/1_1.png", "ana/2_1.png"):
        shutil.copy(prints / f"00{'2' if '2_' in name else '1'}_1.png", folder / name)
    saved(folder / "colour_1.png", np.dstack([grey] * 3), dpi=(500, 500))
    saved(folder / "alpha_1.png", np.dstack([grey] * 3 + [np.full_like(grey, 255)]), dpi=(500, 500))
    good = {str(file.relative_to(folder)) for file in folder.rglob("*.png")}
    reasons = _lay_bad_files(folder, grey)
    said = run("enroll", folder, "--gallery", tmp_path / "g", "--json")
    lines = {line["file"]: line for line in json.loads(said.out)["files"]}
    assert said.code == 3
    assert {name for name, line in lines.items() if line["result"] == "ENROLLED"} == good
    assert {name: line["reason"] for name, line in lines.items() if name not in good} == reasons
    assert counts_of(tmp_path / "g") == (5, 5, 6)
    shown = run("enroll", folder, "--gallery", tmp_path / "g")
    assert shown.code == 3
    assert all(name in shown.out for name in lines)
    assert all(reason in shown.out for reason in reasons.values())
    assert "6 already" in shown.out


def _lay_bad_files(folder: Path, grey: Any) -> dict[str, str]:
    (folder / ".hidden_1.png").write_bytes(b"x")
    (folder / "README.txt").write_text("which scanner this was")
    (folder / "empty_1.png").touch()
    (folder / "text_1.png").write_text("no image")
    (folder / "huge_1.png").write_bytes(png_header(30_000))
    (folder / "white_1.png").write_bytes(white())
    saved(folder / "noppi_1.png", grey)
    saved(folder / "screen_1.png", grey, dpi=(72, 72))
    saved(folder / "photo_1.png", photographs.camera(), dpi=(500, 500))
    for name, options in (("cut_1.tif", {"dpi": (500, 500)}), ("cut_1.jp2", {}), ("cut_1.wsq", {})):
        file = saved(folder / name, grey, **options)
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return {
        "README.txt": "IMAGE_FORMAT_UNKNOWN",
        "empty_1.png": "IMAGE_EMPTY",
        "text_1.png": "IMAGE_FORMAT_UNKNOWN",
        "huge_1.png": "IMAGE_TOO_LARGE",
        "white_1.png": "BLANK",
        "photo_1.png": "NO_RIDGES",
        "noppi_1.png": "RESOLUTION_UNKNOWN",
        "screen_1.png": "RESOLUTION_IMPLAUSIBLE",
        "cut_1.tif": "IMAGE_TRUNCATED",
        "cut_1.jp2": "RESOLUTION_UNKNOWN",
        "cut_1.wsq": "IMAGE_TRUNCATED",
    }


def test_killed_in_the_middle_nothing_is_lost_and_nothing_twice(
    run: Any, crowd: Path, tmp_path: Path
) -> None:
    gallery = tmp_path / "g"
    first = spawn("enroll", crowd, "--gallery", gallery, "--workers", 1)  # slow enough to be caught
    _wait_for_prints(gallery)
    first.kill()
    first.communicate()
    assert 0 < counts_of(gallery).encounters < 8
    assert run("enroll", crowd, "--gallery", gallery).code == 0
    assert counts_of(gallery) == (8, 8, 8)


def test_ctrl_c_says_what_to_do_and_leaves_whole_encounters(run: Any, crowd: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "g"
    process = spawn("enroll", crowd, "--gallery", gallery, "--workers", 1)  # slow enough to be caught
    _wait_for_prints(gallery)
    process.send_signal(signal.SIGINT)
    said = ended(process)
    assert said.code == 1
    assert "the same command again enrols the rest" in said.err
    subjects, encounters, count = counts_of(gallery)
    assert subjects == encounters == count < 8
    assert f"{encounters} already" in run("enroll", crowd, "--gallery", gallery).out
    assert counts_of(gallery) == (8, 8, 8)


def _wait_for_prints(gallery: Path) -> None:
    """Wait until a run has enrolled something; a reader of SQLite's file does not disturb it."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with suppress(sqlite3.Error):
            uri = f"file:{gallery / 'papilar.sqlite3'}?mode=ro"
            with closing(sqlite3.connect(uri, uri=True)) as connection:
                if connection.execute("SELECT COUNT(*) FROM encounter").fetchone()[0]:
                    return
        time.sleep(0.02)
    raise AssertionError("nothing was enrolled")


def test_a_full_disk_stops_the_run_and_the_next_one_completes_it(
    run: Any, crowd: Path, tmp_path: Path
) -> None:
    said = ended(spawn_limited(400_000, "enroll", crowd, "--gallery", tmp_path / "g", "--workers", 1))
    assert said.code == 1
    assert "NOT_TRIED STORAGE_" in said.out
    assert "run the same command again" in said.out
    kept = counts_of(tmp_path / "g").encounters
    assert f"{kept} enrolled" in said.out
    assert run("enroll", crowd, "--gallery", tmp_path / "g").code == 0
    assert counts_of(tmp_path / "g") == (8, 8, 8)


@pytest.mark.parametrize(
    ("options", "cause"),
    [
        ([], "no target"),
        (["--gallery", "g", "--node", "127.0.0.1:1"], "no target, or two"),
        (["--node", "127.0.0.1"], "no address"),
        (["--node", "example.org:7443"], "plain text"),
        (["--node", "127.0.0.1:1", "--tls-cert", "x"], "halves"),
        (["--node", "127.0.0.1:1", "--tls-ca", "nowhere.pem"], "cannot be read"),
    ],
)
def test_a_target_that_cannot_be(run: Any, archive: Path, options: list[str], cause: str) -> None:
    said = run("enroll", archive, *options)
    assert said.code == 2
    assert cause in said.error[0]


def test_a_wrong_archive_makes_no_gallery(run: Any, prints: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for wrong in (tmp_path / "nowhere", tmp_path / "empty", prints / "001_1.png"):
        assert run("enroll", wrong, "--gallery", tmp_path / "g").error
    assert not (tmp_path / "g").exists()
    assert "at once" in run("enroll", prints, "--gallery", prints).error[0]


def test_a_gallery_that_cannot_be_used(run: Any, archive: Path, tmp_path: Path) -> None:
    gallery = tmp_path / "g"
    assert run("enroll", archive, "--gallery", gallery).code == 0
    enroll = ("enroll", archive, "--gallery")
    assert "file" in run(*enroll, archive / "001_1.png").error[0].lower()
    assert "not other" in run(*enroll, gallery, "--name", "other").error[0]
    with Store.open(gallery):
        assert f"process {os.getpid()}" in run(*enroll, gallery).error[0]
    _check_spoiled(run, enroll, gallery, tmp_path / "newer", "UPDATE meta SET value = '99'")
    manifest = shutil.copytree(gallery, tmp_path / "segments") / "segments" / "manifest.json"
    told = json.loads(manifest.read_text())
    manifest.write_text(json.dumps({**told, "version": 99}))
    assert "99" in run(*enroll, tmp_path / "segments").error[0]
    broken = shutil.copytree(gallery, tmp_path / "broken")
    (broken / "papilar.sqlite3").write_bytes(b"garbage" * 1000)
    assert "backup" in run(*enroll, broken).error[1]
    assert counts_of(gallery) == (2, 2, 2)


def _check_spoiled(run: Any, enroll: Any, gallery: Path, copy: Path, statement: str) -> None:
    shutil.copytree(gallery, copy)
    tamper(copy, f"{statement} WHERE key LIKE '%version%' AND key NOT LIKE 'fact.%'")
    said = run(*enroll, copy)
    assert said.code == 1
    assert "99" in said.error[0]


# Root may write anywhere, unless it gives that right away before the program starts.
AS_ANYONE = ["setpriv", "--bounding-set=-dac_override"] if os.geteuid() == 0 else []


def test_a_read_only_folder_is_named(archive: Path, tmp_path: Path) -> None:
    (tmp_path / "ro").mkdir(mode=0o500)
    command = [*AS_ANYONE, *PAPILAR, "enroll", str(archive), "--gallery", str(tmp_path / "ro" / "g")]
    said = ended(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    assert said.code == 1
    assert "Permission denied" in said.error[0]


def test_at_a_node_prints_are_enrolled_and_recognised(run: Any, node: Served, archive: Path) -> None:
    said = run("enroll", archive, "--node", node.address)
    assert said.code == 0
    assert "2 already" in said.out


def test_what_was_enrolled_in_the_folder_is_there_at_its_node(
    run: Any, archive: Path, tmp_path: Path
) -> None:
    assert run("enroll", archive, "--gallery", tmp_path / "g").code == 0
    with serving(tmp_path / "g", max_message_bytes=2_000_000) as served:
        said = run("enroll", archive, "--node", served.address)
    assert said.code == 0
    assert "2 already" in said.out
    assert counts_of(tmp_path / "g") == (2, 2, 2)


def test_what_was_deleted_is_not_brought_back_by_a_second_run(
    run: Any, archive: Path, tmp_path: Path
) -> None:
    files = json.loads(run("enroll", archive, "--gallery", tmp_path / "g", "--json").out)["files"]
    with serving(tmp_path / "g", max_message_bytes=2_000_000) as served:
        gone = run("delete", files[0]["encounter_id"], "--node", served.address)
        assert gone == (0, "deleted 1 print, and its subject with it\n", "")
        assert run("delete", files[0]["encounter_id"], "--node", served.address).code == 2
        assert run("delete", "thumb", "--node", served.address).error
    said = run("enroll", archive, "--gallery", tmp_path / "g")
    assert said.code == 3
    assert "ENCOUNTER_ERASED" in said.out
    assert counts_of(tmp_path / "g") == (1, 1, 1)


def test_without_its_node_nothing_is_tried(run: Any, archive: Path) -> None:
    said = run("enroll", archive, "--node", "127.0.0.1:1", "--timeout", "5")
    assert said.code == 1
    assert "2 not tried" in said.out
    assert "NODE_UNREACHABLE" in said.out


@pytest.mark.parametrize("columns", [60, 200])
def test_a_receipt_on_a_terminal_loses_nothing(run: Any, archive: Path, tmp_path: Path, columns: int) -> None:
    (tmp_path / "a").mkdir()
    shutil.copy(archive / "001_1.png", tmp_path / "a" / f"{'long-' * 12}_1.png")
    assert run("enroll", tmp_path / "a", "--gallery", tmp_path / "g").code == 0
    lines = _on_a_terminal(columns, "enroll", tmp_path / "a", "--gallery", tmp_path / "g").splitlines()
    assert max(map(len, lines)) <= columns
    assert lines[-1] == "1 already"
    with Store.open(tmp_path / "g") as store:
        (owner,) = store.owners([1]).values()
    (head,) = (line for line in lines if line.split()[:2] == ["file", "result"])
    rows = lines[next(n for n, line in enumerate(lines) if "──" in line) + 1 : -1]
    assert "".join(row[: head.index("result")].strip() for row in rows) == f"{'long-' * 12}_1.png"
    start = rows[0].rindex(owner.encounter_id[:4])
    assert "".join(row[start:].strip() for row in rows) == owner.encounter_id
    assert (columns < 100) or any(owner.encounter_id in line for line in lines)


def _on_a_terminal(columns: int, *arguments: object) -> str:
    main, end = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"}
    process = subprocess.Popen([*PAPILAR, *map(str, arguments)], stdout=end, env=environment)
    os.close(end)
    shown = b""
    while select.select([main], [], [], 60)[0]:
        try:
            shown += os.read(main, 65536)
        except OSError:  # the other end is closed
            break
    os.close(main)
    assert process.wait(10) == 0
    return re.sub(r"\x1b\[[?\d;]*[A-Za-z]|\r", "", shown.decode()).strip("\n")


# ---- serve


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "--gallery"),
        (["--gallery", "nowhere"], "holds no gallery"),
        (["--config", "nowhere.toml"], "cannot be read"),
        (["--config", "bad.toml"], "no TOML"),
        (["--config", "key.toml"], "node.galery"),
        (["--config", "section.toml"], "[node], [tls], [enrolment], [originals], [users], [region], [peer]"),
        (["--gallery", "g", "--listen", "0.0.0.0:0"], "plain text"),
        (["--gallery", "g", "--listen", "7443"], "no address"),
        (["--gallery", "g", "--tls-cert", "x"], "halves"),
        (["--gallery", "g", "--tls-key", "x"], "halves"),
        (["--gallery", "g", "--tls-client-ca", "x"], "halves"),
    ],
)
def test_a_node_that_cannot_be_served(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in (("bad", "x = ["), ("key", '[node]\ngalery = "g"'), ("section", "[other]")):
        Path(f"{name}.toml").write_text(text)
    told = run("serve", *options)
    assert told.code == 2
    assert said in " ".join(told.error)
    assert not Path("nowhere").exists()


def test_a_taken_port_and_a_taken_gallery_are_named(run: Any, node: Served, tmp_path: Path) -> None:
    taken = run("serve", "--gallery", tmp_path / "g", "--create", "--listen", node.address)
    assert taken.code == 2
    assert f"cannot listen on {node.address}" in taken.err
    with serving(tmp_path / "h"):
        assert "one node serves a gallery" in run("serve", "--gallery", tmp_path / "h").error[1]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_node_with_all_it_was_given(
    run: Any, archive: Path, tmp_path: Path, number: signal.Signals
) -> None:
    address = f"127.0.0.1:{free_port()}"
    process = spawn("serve", "--gallery", tmp_path / "g", "--create", "--listen", address)
    assert process.stderr is not None
    assert "no prints of no subjects" in process.stderr.readline()
    assert address in process.stderr.readline()
    assert run("enroll", archive, "--node", address).code == 0
    process.send_signal(number)
    assert ended(process).code == 0
    assert (tmp_path / "g" / "segments" / "manifest.json").read_text().count("segment-") == 1
    assert counts_of(tmp_path / "g") == (2, 2, 2)


# ---- identify, status


def test_a_print_is_identified_and_drawn(run: Any, node: Served, prints: Path, tmp_path: Path) -> None:
    plot = tmp_path / "new folder" / "match.png"
    options = ("--node", node.address, "--target-fpir", "0.001", "--plot", plot)
    said = run("identify", prints / "001_2.png", *options)
    assert said.code == 0
    assert "1 candidate, 2 prints searched" in said.out
    assert "false-positive rate of 0.001" in said.out
    assert Image.open(plot).format == "PNG"
    assert [file.name for file in plot.parent.iterdir()] == ["match.png"]


def test_as_json_a_search_is_json_alone(run: Any, node: Served, prints: Path) -> None:
    said = run("identify", prints / "002_2.png", "--node", node.address, "--json", "--limit", "1")
    (candidate,) = json.loads(said.out)["candidates"]
    assert (candidate["subject_id"], said.code, said.err) == ("002", 0, "")
    described = json.loads(run("status", "--node", node.address, "--json").out)
    assert (described["prints"], described["subjects"]) == (2, 2)
    assert "gallery" in run("status", "--node", node.address).out


def test_the_band_stands_beside_the_score(run: Any, node: Served, prints: Path) -> None:
    question = "identify", prints / "002_2.png", "--node", node.address
    first, second = json.loads(run(*question, "--json").out)["candidates"]
    assert (first["band"], second["band"]) == ("BAND_GREEN", "BAND_RED")
    words = run(*question).out
    assert re.search(rf"1 +{first['score']:.1f} +green +002 ", words)
    assert re.search(rf"2 +{second['score']:.1f} +red +001 ", words)


def test_a_candidate_is_drawn_as_the_node_compared_it(
    run: Any, node: Served, prints: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With bend and ridges where comparing here gives the node's score; by its own words where not."""
    drawn: list[Any] = []
    draw = plot.draw_match
    monkeypatch.setattr(plot, "draw_match", lambda *a, **k: drawn.append(a[2]) or draw(*a, **k))
    question = "identify", prints / "002_2.png", "--node", node.address, "--plot", tmp_path / "m.png"
    assert run(*question).code == 0
    compare = plot.compare_templates
    monkeypatch.setattr(plot, "compare_templates", lambda *a: dataclasses.replace(compare(*a), score=99.0))
    assert run(*question).code == 0
    full, plain = drawn
    assert len(full.common) > 100
    assert len(plain.common) == len(plain.bend.at) == 0
    assert plain.score == pytest.approx(full.score)
    assert sorted(map(tuple, plain.pairs.tolist())) == sorted(map(tuple, full.pairs.tolist()))
    assert plain.transform == pytest.approx(full.transform)
    assert [p.name for p in plain.parts] == [p.name for p in full.parts]
    assert sum(p.adds for p in plain.parts) == pytest.approx(plain.score)


def test_several_prints_and_templates_make_a_probe(
    run: Any, node: Served, prints: Path, tmp_path: Path
) -> None:
    template = tmp_path / "probe.fmr"
    assert run("extract", prints / "001_2.png", "-o", template, "--finger", "2").code == 0
    found = run("identify", template, "--node", node.address, "--limit", "1", "--plot", tmp_path / "m.png")
    assert (found.code, " 001 " in found.out) == (0, True)
    assert Image.open(tmp_path / "m.png").format == "PNG"
    both = (prints / "001_2.png", prints / "white.png", "--node", node.address)
    said = run("identify", *both, "--fingers", "2, 7", "--limit", "1")
    assert said.code == 0
    assert "white.png is too poor" in said.out
    for wrong in ("2", "2,11", "2,x", "2,²", "2,7,1", ","):
        assert "--fingers" in run("identify", *both, "--fingers", wrong).error[0]


def test_a_swapped_pair_is_said_in_plain_words(run: Any, tmp_path: Path) -> None:
    files = [tmp_path / "a.fmr", tmp_path / "b.fmr"]
    for seed, file in enumerate(files, 1):
        file.write_bytes(mate_record(seed))
    prints = enrolled_as(1, Finger.RIGHT_INDEX), enrolled_as(2, Finger.LEFT_INDEX)
    with serving(tmp_path / "gallery") as served:
        served.client.enroll(Enrollment(prints, subject_id="swapped"))
        words = "met reference's {}: positions disagree"
        for fingers, disagree in (("2,7", False), ("7,2", True)):
            command = ("identify", *files, "--node", served.address, "--fingers", fingers)
            said = run(*command)
            assert "swapped" in said.out
            assert (f"rank 1: probe's right index {words.format('left index')}" in said.out) is disagree
            assert (f"rank 1: probe's left index {words.format('right index')}" in said.out) is disagree
            (candidate,) = json.loads(run(*command, "--json").out)["candidates"]
            assert [c["positions_disagree"] for c in candidate["comparisons"]] == [disagree] * 2
            places = {(c["probe_position"], c["position"]) for c in candidate["comparisons"]}
            names = {"FINGER_POSITION_RIGHT_INDEX", "FINGER_POSITION_LEFT_INDEX"}
            assert {name for pair in places for name in pair} == names
            assert all((mine != theirs) is disagree for mine, theirs in places)


def test_a_poor_probe_is_told_what_to_do(run: Any, node: Served, prints: Path, tmp_path: Path) -> None:
    options = ("--node", node.address, "--plot", tmp_path / "m.png")
    said = run("identify", prints / "white.png", *options)
    assert said.code == 3
    assert "finger lay on the scanner" in said.out
    assert said.err == "no candidate, so no picture\n"
    assert not (tmp_path / "m.png").exists()


@pytest.mark.parametrize(
    ("probe", "options", "code", "cause"),
    [
        ("nowhere.png", [], 2, "cannot be read"),
        (".", [], 2, "directory"),
        ("text.png", [], 2, "no image format"),
        ("001_2.png", ["--target-fpir", "0"], 2, "FPIR"),
        ("001_2.png", ["--target-fpir", "1.5"], 2, "FPIR"),
        ("001_2.png", ["--target-fpir", "nan"], 2, "FPIR"),
        ("001_2.png", ["--timeout", "0.001"], 1, ""),
        ("001_2.png", ["--node", "127.0.0.1:1", "--timeout", "5"], 1, "no node answers"),
        ("001_2.png", ["--plot", "001_2.png"], 2, "overwritten"),
    ],
)
def test_a_search_that_cannot_be(
    run: Any,
    node: Served,
    prints: Path,
    monkeypatch: pytest.MonkeyPatch,
    probe: str,
    options: list[str],
    code: int,
    cause: str,
) -> None:
    monkeypatch.chdir(prints)
    said = run("identify", probe, "--node", node.address, *options)
    assert said.code == code
    assert cause in said.error[0]


def test_a_picture_that_cannot_be_written_takes_no_answer_with_it(
    run: Any, node: Served, prints: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    for wrong in (tmp_path / "file" / "m.png", tmp_path):
        said = run("identify", prints / "001_2.png", "--node", node.address, "--plot", wrong)
        assert said.code == 2
        assert "cannot be written" in said.err
        assert " 001 " in said.out


# ---- compare, extract


@pytest.mark.parametrize("form", prints_commands.WRITABLE)
def test_every_format_that_is_written_is_read(run: Any, prints: Path, tmp_path: Path, form: str) -> None:
    file = tmp_path / "new" / "t.fmr"
    said = run("extract", prints / "001_1.png", "-o", file, "--format", form, "--finger", "7", "--json")
    (template,) = decode(file.read_bytes())
    report = json.loads(said.out)
    assert (said.code, report["minutiae"], template.finger) == (0, len(template), 7)
    assert float(json.loads(run("compare", file, prints / "001_2.png", "--json").out)["score"]) > 3


def test_prints_are_compared_and_drawn(run: Any, prints: Path, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    shutil.copy(prints / "001_2.png", tmp_path / "b" / "001_1.png")
    plot = tmp_path / "match.png"
    said = run("compare", prints / "001_1.png", tmp_path / "b" / "001_1.png", "--plot", plot)
    assert said.code == 0
    assert "a: 001_1.png" in said.out
    assert "b: 001_1.png" in said.out
    assert Image.open(plot).format == "PNG"
    assert (
        float(json.loads(run("compare", prints / "001_1.png", prints / "002_1.png", "--json").out)["score"])
        < 1
    )


def test_a_comparison_says_what_its_score_is_made_of(run: Any, prints: Path) -> None:
    files = prints / "001_1.png", prints / "001_2.png"
    report = json.loads(run("compare", *files, "--json").out)
    assert {"structure", "ridges"} <= {part["name"] for part in report["parts"]}
    assert sum(part["adds"] for part in report["parts"]) == pytest.approx(report["score"])
    assert (report["band"], report["model"]) == ("green", "ridges")
    assert 100 < report["common_area_mm2"] < 400
    assert (report["mirrored_score"], report["warnings"]) == (None, [])
    words = run("compare", *files).out
    assert "green: 1 in 100,000 comparisons of different fingers scores as much" in words
    assert "minutiae and ridges" in words
    for part in report["parts"]:
        assert re.search(
            rf"{part['name']} .* {part['measured']:.2f} +{re.escape(format(part['adds'], '+.2f'))}", words
        )
    assert re.search(rf"sum +\+{report['score']:.2f}", words)


def test_a_stranger_is_red(run: Any, prints: Path) -> None:
    files = prints / "001_1.png", prints / "002_1.png"
    report = json.loads(run("compare", *files, "--json").out)
    assert report["band"] == "red"
    assert max(-3, sum(part["adds"] for part in report["parts"])) == pytest.approx(report["score"])
    assert "red: more than 1 in 1,000" in run("compare", *files).out


def test_a_record_without_ridges_is_compared_by_minutiae_alone(
    run: Any, prints: Path, tmp_path: Path
) -> None:
    records = {form: tmp_path / form for form in ("iso-19794-2:2011", "papilar-2")}
    for form, file in records.items():
        assert run("extract", prints / "001_2.png", "-o", file, "--format", form).code == 0
    for form, model in (("iso-19794-2:2011", "minutiae"), ("papilar-2", "ridges")):
        pair = prints / "001_1.png", records[form]
        report = json.loads(run("compare", *pair, "--json").out)
        assert (report["model"], report["band"]) == (model, "green")
        assert ("ridges" in {part["name"] for part in report["parts"]}) is (model == "ridges")
        assert ("b has no ridge description" in run("compare", *pair).out) is (model == "minutiae")
        assert report["common_area_mm2"] > 50


def test_what_to_know_of_a_file_is_shown(run: Any, grey: Any, tmp_path: Path) -> None:
    screen = saved(tmp_path / "screen.png", grey, dpi=(72, 72))
    said = run("extract", screen, "-o", tmp_path / "t.fmr", "--ppi", "500")
    assert said.code == 0
    assert "72 ppi" in said.out
    assert "72 ppi" in run("compare", screen, tmp_path / "t.fmr", "--ppi", "500").out


def test_a_white_image_makes_no_template(run: Any, prints: Path, tmp_path: Path) -> None:
    said = run("extract", prints / "white.png", "-o", tmp_path / "t.fmr", "--plot", tmp_path / "t.png")
    assert said.code == 3
    assert "finger lay on the scanner" in said.out
    assert not (tmp_path / "t.fmr").exists()
    assert Image.open(tmp_path / "t.png").format == "PNG"
    poor = run("compare", prints / "white.png", prints / "001_1.png", "--plot", tmp_path / "m.png")
    assert (poor.code, "too poor: BLANK" in poor.out) == (3, True)
    assert Image.open(tmp_path / "m.png").format == "PNG"


def test_an_output_is_written_whole_or_not_at_all(run: Any, prints: Path, tmp_path: Path) -> None:
    image = shutil.copy(prints / "001_1.png", tmp_path / "001_1.png")
    (tmp_path / "folder").mkdir()
    for wrong in (image, tmp_path / "folder", image / "t.fmr"):
        assert "written" in run("extract", image, "-o", wrong).error[0]
    assert "overwritten" in run("extract", image, "-o", tmp_path / "x", "--plot", tmp_path / "x").error[0]
    assert "iso" in run("extract", image, "-o", tmp_path / "x", "--format", "iso").error[1]
    assert sorted(file.name for file in tmp_path.rglob("*")) == ["001_1.png", "folder"]
    assert image.read_bytes() == (prints / "001_1.png").read_bytes()


def test_a_full_disk_leaves_no_half_template(prints: Path, tmp_path: Path) -> None:
    said = ended(spawn_limited(100, "extract", prints / "001_1.png", "-o", tmp_path / "t.fmr"))
    assert "cannot be written" in said.error[0]
    assert not list(tmp_path.iterdir())


def test_a_template_that_cannot_be_read(run: Any, prints: Path, tmp_path: Path) -> None:
    whole = (prints / "one.fmr").read_bytes()
    spoiled = {
        "version": whole.replace(b"030\0", b"990\0", 1),
        "cut": whole[: len(whole) // 2],
        "head": whole[:4],
    }
    for name, content in spoiled.items():
        (tmp_path / name).write_bytes(content)
        said = run("compare", tmp_path / name, prints / "001_1.png")
        assert said.code == 2, name
        assert said.error
    assert "no image format" in run("extract", prints / "one.fmr", "-o", tmp_path / "t").error[0]
    assert "directory" in run("compare", prints, prints / "001_1.png").error[0]


def test_a_record_of_several_prints_is_no_side_of_a_comparison(
    run: Any, prints: Path, tmp_path: Path
) -> None:
    views = [finger(seed, 36) for seed in (1, 2)]
    (tmp_path / "two.fmr").write_bytes(encode(views, "iso-19794-2:2005"))
    said = run("compare", tmp_path / "two.fmr", prints / "001_1.png")
    assert said.code == 2
    assert "2 prints" in said.error[0]


# ---- real prints


@pytest.mark.datasets
def test_real_prints_go_the_whole_way(run: Any, datasets: Path, tmp_path: Path) -> None:
    source = datasets / "fvc2004" / "DB1_B"
    files = sorted(source.rglob("101_[12].*")) + sorted(source.rglob("102_1.*"))
    assert len(files) == 3
    (tmp_path / "a").mkdir()
    for file in files:
        if "_1" in file.name:
            shutil.copy(file, tmp_path / "a")
    assert run("enroll", tmp_path / "a", "--gallery", tmp_path / "g", "--ppi", "500").code == 0
    with serving(tmp_path / "g", max_message_bytes=2_000_000) as served:
        said = run("identify", files[1], "--node", served.address, "--ppi", "500", "--json")
    assert json.loads(said.out)["candidates"][0]["subject_id"] == "101"


@pytest.mark.datasets
def test_real_records_are_compared(run: Any, datasets: Path, prints: Path) -> None:
    records = sorted((datasets / "formats" / "templates").glob("*.dat"))
    assert records
    for file in records:
        said = run("compare", file, file)
        views = len(decode(file.read_bytes()))
        assert said.code == (0 if views == 1 else 2), file
