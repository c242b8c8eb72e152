"""Sources by URL: what is listed, what is read, and an end point that is lost half-way."""

import io
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socket import SHUT_RDWR
from threading import Thread
from typing import Any

import fsspec
import pytest

from papilar.archive.sources import open_source
from papilar.archive.sources.tree import AT_A_TIME
from papilar.errors import SourceInvalid, SourceUnreachable

CONTENT = {
    "ana/1_1.png": b"one",
    "ana/2_1.png": b"two",
    "José Ñ_1.png": b"three",
    "empty_1.png": b"",
    ".hidden_1.png": b"no",
}
WANTED = {name: data for name, data in CONTENT.items() if not name.startswith(".")}


@pytest.fixture
def memory() -> Iterator[Any]:
    fs = fsspec.filesystem("memory")
    fs.store.clear()
    fs.pseudo_dirs[:] = [""]
    yield fs
    fs.store.clear()


def fill(folder: Path) -> Path:
    for name, data in CONTENT.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


class Files(SimpleHTTPRequestHandler):
    """Serves a folder; `served` counts down to the loss of the line, with `ranges` parts are given."""

    def __init__(self, *args: Any, state: dict[str, Any], **more: Any) -> None:
        self.state = state
        super().__init__(*args, **more)

    def do_GET(self) -> None:
        self.state["served"] -= 1
        if self.state["served"] < 0:
            self.close_connection = True
            self.connection.shutdown(SHUT_RDWR)
            return
        if self.state["cut"]:
            self.send_response(200)
            self.send_header("Content-Length", "1000000000")
            self.end_headers()
            self.wfile.write(Path(self.translate_path(self.path)).read_bytes()[: self.state["cut"]])
            return
        asked = self.headers.get("Range")
        path = Path(self.translate_path(self.path))
        if not asked or not self.state["ranges"] or not path.is_file():
            super().do_GET()
            return
        first, _, last = asked.removeprefix("bytes=").partition("-")
        data = path.read_bytes()
        if int(first) >= len(data):
            self.send_error(416)
            return
        part = data[int(first) : int(last) + 1 if last else None]
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part)

    def end_headers(self) -> None:
        if self.state["ranges"]:
            self.send_header("Accept-Ranges", "bytes")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class Server(ThreadingHTTPServer):
    """Lets as many callers wait as a source asks at once."""

    request_queue_size = 4 * AT_A_TIME


@contextmanager
def served(folder: Path, *, ranges: bool = True) -> Iterator[tuple[str, dict[str, Any]]]:
    state: dict[str, Any] = {"served": 1_000_000, "ranges": ranges, "cut": 0}
    server = Server(("127.0.0.1", 0), partial(Files, directory=str(folder), state=state))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", state
    finally:
        server.shutdown()
        server.server_close()


def content(where: str, **options: Any) -> dict[str, bytes]:
    return {item.name: item.read() for item in open_source(where, **options)}


def test_a_bucket_is_a_folder(memory: Any) -> None:
    memory.pipe({f"/bucket/{name}": data for name, data in CONTENT.items()})
    items = list(open_source("memory://bucket"))
    assert {item.name: item.read() for item in items} == WANTED
    assert {item.subject for item in items if item.name.startswith("ana/")} == {"ana"}
    assert all(item.version for item in items)


def test_a_manifest_in_a_bucket_names_its_files(memory: Any) -> None:
    memory.pipe({f"/bucket/{name}": data for name, data in CONTENT.items()})
    memory.pipe("/bucket/m.csv", b"path,person\nana/1_1.png,P1\ngone.png,P2\n")
    first, second = open_source("memory://bucket/m.csv")
    assert (first.subject, first.read()) == ("P1", b"one")
    assert second.fault is not None
    assert second.fault.reason == "FILE_MISSING"


@pytest.mark.parametrize("ranges", [True, False])
def test_what_a_web_server_lists_is_a_folder(tmp_path: Path, ranges: bool) -> None:
    with served(fill(tmp_path), ranges=ranges) as (url, _):
        assert content(f"{url}/") == WANTED


def archives(folder: Path) -> None:
    with (
        tarfile.open(folder / "x.tar.gz", "w:gz") as packed,
        zipfile.ZipFile(folder / "x.zip", "w") as zipped,
    ):
        for name, data in CONTENT.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
            zipped.writestr(name, data)


@pytest.mark.parametrize("name", ["x.tar.gz", "x.zip"])
def test_an_archive_of_a_web_server_is_read_where_it_lies(tmp_path: Path, name: str) -> None:
    archives(tmp_path)
    with served(tmp_path) as (url, _):
        assert content(f"{url}/{name}") == WANTED


def test_a_server_that_gives_no_parts_still_gives_a_tar_and_says_so_of_a_zip(tmp_path: Path) -> None:
    archives(tmp_path)
    with served(tmp_path, ranges=False) as (url, _):
        assert content(f"{url}/x.tar.gz") == WANTED
        with pytest.raises(SourceInvalid) as caught:
            open_source(f"{url}/x.zip")
        assert caught.value.reason == "SOURCE_UNKNOWN"


def test_a_lost_end_point_ends_the_items_and_a_later_run_has_all(tmp_path: Path) -> None:
    for i in range(2 * AT_A_TIME):
        (tmp_path / f"{i}_1.png").write_bytes(b"x")
    with served(tmp_path) as (url, state):
        source = open_source(f"{url}/")
        state["served"] = 1 + AT_A_TIME
        names = []
        with pytest.raises(SourceUnreachable) as caught:
            names.extend(item.name for item in source)
        state["served"] = 1 + AT_A_TIME
        items = iter(source)
        assert [next(items).name for _ in range(AT_A_TIME)]
        with pytest.raises(SourceUnreachable):
            next(items)
        assert caught.value.reason == "SOURCE_UNREACHABLE"
        assert "127.0.0.1" not in str(caught.value)
        state["served"] = 1_000_000
        assert len(list(source)) == 2 * AT_A_TIME


def test_a_file_that_is_lost_while_it_is_read_stops_the_run_and_is_not_its_own_fault(tmp_path: Path) -> None:
    with served(fill(tmp_path)) as (url, state):
        item = next(iter(open_source(f"{url}/")))
        state["served"] = 0
        with pytest.raises(SourceUnreachable):
            item.read()


def test_a_tar_that_is_lost_half_way_is_not_a_damaged_one(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        for i in range(40):
            info = tarfile.TarInfo(f"{i}_1.png")
            info.size = 50_000
            packed.addfile(info, io.BytesIO(bytes(info.size)))
    with served(tmp_path) as (url, state):
        source = open_source(f"{url}/x.tar")
        state["cut"] = 1_000_000
        names: list[str] = []
        with pytest.raises(SourceUnreachable):
            names.extend(item.name for item in source)
        assert "x.tar (the rest)" not in names


def test_nothing_at_an_address_is_unreachable_or_nothing() -> None:
    with pytest.raises(SourceUnreachable):
        open_source("http://127.0.0.1:9/archive/")


@pytest.mark.parametrize("url", ["gs://bucket/x", "nothing://x"])
def test_a_file_system_that_is_not_installed_is_told(url: str) -> None:
    with pytest.raises(SourceInvalid) as caught:
        open_source(url)
    assert caught.value.reason == "SOURCE_UNKNOWN"
