"""Sources in a store of objects, S3 over a socket: what is listed and read, and what is not there or lost."""

import gzip
import io
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest
from archives import Archive, Gallery, image, results
from buckets import BUCKET, Objects, objects

from papilar.archive.item import Item, Line
from papilar.archive.sources import open_source
from papilar.archive.sources.tree import AT_A_TIME
from papilar.errors import SourceForbidden, SourceInvalid, SourceUnreachable

CONTENT = {
    "ana/1_1.png": b"one",
    "ana/2_1.png": b"two",
    "José Ñ_1.png": b"three",
    "a b+c#d?e%41_1.png": b"four",
    "empty_1.png": b"",
    ".hidden_1.png": b"no",
}
WANTED = {name: data for name, data in CONTENT.items() if not name.startswith(".")}


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Objects]:
    with objects(monkeypatch) as found:
        yield found


def fill(store: Objects, content: Mapping[str, bytes] = CONTENT) -> str:
    for name, data in content.items():
        store.put(f"folder/{name}", data)
    return f"s3://{BUCKET}/folder"


def content(url: str) -> dict[str, bytes]:
    return {item.name: item.read() for item in open_source(url)}


def read_into(read: dict[str, bytes], items: Iterable[Item]) -> None:
    for item in items:
        assert item.fault is None
        read[item.name] = item.read()


def tarred(content: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(content: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return out.getvalue()


def test_a_prefix_is_a_folder(store: Objects) -> None:
    url = fill(store)
    assert content(url) == content(f"{url}/") == WANTED
    assert content(f"s3://{BUCKET}") == {f"folder/{name}": data for name, data in WANTED.items()}
    assert open_source(url).kind == "folder"
    people = {item.name: (item.subject, int(item.finger)) for item in open_source(url)}
    assert people["ana/2_1.png"] == ("ana", 2)


@pytest.mark.parametrize(
    ("name", "pack"),
    [("x.tar", tarred), ("x.tar.gz", lambda files: gzip.compress(tarred(files))), ("x.zip", zipped)],
)
def test_an_archive_in_an_object_is_read_where_it_lies(store: Objects, name: str, pack: object) -> None:
    store.put(name, pack(CONTENT))  # type: ignore[operator]
    items = list(open_source(f"s3://{BUCKET}/{name}"))
    assert {item.name: item.read() for item in items} == WANTED
    assert len({item.version for item in items}) == len(items)


def test_a_manifest_names_objects_and_says_which_are_not_there(store: Objects) -> None:
    fill(store)
    rows = "path,person,finger\nana/1_1.png,P-1,1\nempty_1.png,P-1,2\ngone.png,P-1,3\n"
    store.put("folder/m.csv", rows.encode())
    one, empty, gone = open_source(f"s3://{BUCKET}/folder/m.csv")
    assert (one.subject, one.read(), empty.read()) == ("P-1", b"one", b"")
    assert gone.fault is not None
    assert gone.fault.reason == "FILE_MISSING"


def test_the_version_of_an_object_changes_with_its_bytes(store: Objects) -> None:
    url = fill(store)
    before = {item.name: item.version for item in open_source(url)}
    store.put("folder/ana/1_1.png", b"new")
    after = {item.name: item.version for item in open_source(url)}
    assert {name for name in after if after[name] != before[name]} == {"ana/1_1.png"}


def test_names_that_only_objects_can_have_lose_no_object(store: Objects) -> None:
    """Marks of folders, as consoles leave them, are none; an object and a folder may have one name."""
    odd = {
        "": b"",
        "sub/": b"",
        "sub/1_1.png": b"x",
        "sub": b"y",
        "/2_1.png": b"",
        "x//3_1.png": b"",
        "../4": b"",
    }
    found = {item.name: item.fault.reason if item.fault else "" for item in open_source(fill(store, odd))}
    refused = dict.fromkeys(("/", "x//", "../"), "ARCHIVE_PATH_UNSAFE")
    assert found == refused | {"sub": "", "sub/1_1.png": ""}


# ---- nothing there, or not for us


def test_a_bucket_or_a_folder_that_is_not_there_is_told(store: Objects) -> None:
    fill(store)
    with pytest.raises(SourceUnreachable, match="no such bucket"):
        open_source("s3://another/folder")
    with pytest.raises(SourceInvalid) as caught:
        open_source(f"s3://{BUCKET}/elsewhere")
    assert caught.value.reason == "SOURCE_EMPTY"


@pytest.mark.parametrize("name", ["folder", "folder/ana/1_1.png", ""])
def test_credentials_that_are_refused_are_told(store: Objects, name: str) -> None:
    fill(store)
    store.let_in(0)
    with pytest.raises(SourceForbidden) as caught:
        open_source(f"s3://{BUCKET}/{name}")
    assert caught.value.reason == "SOURCE_FORBIDDEN"
    assert "test" not in str(caught.value)
    assert BUCKET not in str(caught.value)


@pytest.mark.parametrize("url", ["s3://name:key@archive/folder", "https://name:key@127.0.0.1:9/folder/"])
def test_an_address_has_no_credentials_for_receipts_repeat_it(url: str) -> None:
    with pytest.raises(SourceInvalid, match="take it out") as caught:
        open_source(url)
    assert "name:key" not in str(caught.value)


def test_no_credentials_are_told(store: Objects, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fill(store)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SourceForbidden, match="NoCredentialsError"):
        open_source(f"s3://{BUCKET}/folder")


def test_credentials_that_end_half_way_stop_the_run_and_fail_no_file(store: Objects) -> None:
    """A token for hours, a run of days: what is left is tried again, and no million files cannot be read."""
    source = open_source(fill(store, {f"{i}_1.png": b"x" for i in range(AT_A_TIME + 9)}))
    read: dict[str, bytes] = {}
    store.let_in(100)
    with pytest.raises(SourceForbidden):
        read_into(read, source)
    assert 0 < len(read) < AT_A_TIME + 9


# ---- a server that dies


def test_a_server_that_dies_half_way_ends_the_run_which_goes_on_later(store: Objects, tmp_path: Path) -> None:
    prints = {f"{i}_1.png": image(i) for i in range(AT_A_TIME + 9)}
    source = open_source(fill(store, prints))
    archive, gallery = Archive(tmp_path), Gallery()
    first: dict[str, Line] = {}
    store.line.left = sum(map(len, prints.values())) // 2
    with pytest.raises(SourceUnreachable) as caught:
        first.update((line.file, line) for line in archive.run(source, gallery))
    assert caught.value.reason == "SOURCE_UNREACHABLE"
    store.line.left = None
    second = archive.lines(source, gallery)
    done = {name for name, told in results(first).items() if told == "ENROLLED"}
    assert set(results(first).values()) <= {"ENROLLED", "NOT_TRIED SOURCE_UNREACHABLE", "NOT_TRIED STOPPED"}
    assert {name for name, told in results(second).items() if told == "ALREADY"} == done
    assert set(second) == set(prints)
    assert len(gallery.asked) == len(set(gallery.ids)) == len(prints)


@pytest.mark.parametrize("name", ["x.tar", "x.zip"])
def test_an_archive_whose_server_dies_is_not_a_damaged_one(store: Objects, name: str) -> None:
    files = {f"{i}_1.png": os.urandom(150_000) for i in range(64)}
    store.put(name, (tarred if name == "x.tar" else zipped)(files))
    source = open_source(f"s3://{BUCKET}/{name}")
    read: dict[str, bytes] = {}
    store.line.left = 5_000_000
    with pytest.raises(SourceUnreachable):
        read_into(read, source)
    assert read.items() < files.items()
    store.line.left = None
    assert {item.name: item.read() for item in source} == files


def test_a_server_that_is_gone_is_not_an_empty_source(store: Objects) -> None:
    url = fill(store)
    store.line.left = 0
    with pytest.raises(SourceUnreachable):
        open_source(url)


# ---- what is larger than memory

READING = """
import sys
from pathlib import Path
from papilar.archive.sources import open_source

def most():
    told = Path("/proc/self/status").read_text()
    return int(told.partition("VmHWM:")[2].split()[0])

open_source(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")  # what was needed so far counts no more, proc(5)
before = most()
size = sum(len(item.read()) for item in open_source(sys.argv[1]))
print(size, most() - before)
"""


@pytest.mark.parametrize("pack", [bytes, lambda data: gzip.compress(data, 1)])
def test_an_object_larger_than_memory_passes_through(store: Objects, pack: object) -> None:
    """48 MB in an object, in the memory of a few blocks, in KiB."""
    member = os.urandom(1_000_000)
    data = tarred({f"p{i}/1_1.png": member for i in range(48)})
    store.put("x.tar", pack(data))  # type: ignore[operator]
    root = Path(__file__).resolve().parents[3]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    command = [sys.executable, "-c", READING, f"s3://{BUCKET}/x.tar"]
    said = subprocess.run(command, env=environment, capture_output=True, check=True, text=True, timeout=120)
    size, grown = map(int, said.stdout.split())
    assert size == 48_000_000
    assert grown < 24_000
