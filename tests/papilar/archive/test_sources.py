"""Sources of prints: a folder, a tar and a zip are one; what is unsafe, damaged or a bomb is a line."""

import bz2
import gzip
import io
import lzma
import os
import stat
import struct
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from matcher.errors import PapilarError
from papilar.archive.item import Item
from papilar.archive.sources import open_source, tar
from papilar.archive.sources.flaws import LIMITS, REMEDIES, SourceLimits
from papilar.archive.sources.tar import zstd
from papilar.errors import SourceFlaw, SourceInvalid

Content = Mapping[str, bytes]


def content_of(*names: str) -> dict[str, bytes]:
    return {name: f"content of {name}".encode() for name in names}


def in_folder(at: Path, content: Content) -> Path:
    for name, data in content.items():
        (at / "folder" / name).parent.mkdir(parents=True, exist_ok=True)
        (at / "folder" / name).write_bytes(data)
    return at / "folder"


def in_zip(at: Path, content: Content) -> Path:
    with zipfile.ZipFile(at / "archive.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in content.items():
            packed.writestr(name, data)
    return at / "archive.zip"


def tar_bytes(content: Content, special: Iterable[tarfile.TarInfo] = ()) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as packed:
        for name, data in content.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            packed.addfile(info, io.BytesIO(data))
        for info in special:
            packed.addfile(info)
    return out.getvalue()


def packed_by(pack: Callable[[bytes], bytes]) -> Callable[[Path, Content], Path]:
    def write(at: Path, content: Content) -> Path:
        (at / "archive.tar").write_bytes(pack(tar_bytes(content)))
        return at / "archive.tar"

    return write


CONTAINERS = {
    "folder": in_folder,
    "zip": in_zip,
    "tar": packed_by(bytes),
    "gz": packed_by(gzip.compress),
    "xz": packed_by(lzma.compress),
    "bz2": packed_by(bz2.compress),
    "zst": packed_by(zstd.compress),
}


def told(items: Iterable[Item]) -> dict[str, tuple[str, str, int]]:
    return {item.name: (item.subject, item.impression, int(item.finger)) for item in items}


def reasons(where: Path) -> dict[str, str]:
    return {item.name: item.fault.reason for item in open_source(where) if item.fault is not None}


def adjacent(items: Iterable[Item]) -> bool:
    order = [item.encounter for item in items]
    runs = [one for i, one in enumerate(order) if i == 0 or order[i - 1] != one]
    return len(runs) == len(set(runs))


# ---- whose print a file is, wherever it lies


@pytest.fixture(params=CONTAINERS)
def write(request: pytest.FixtureRequest) -> Callable[[Path, Content], Path]:
    return CONTAINERS[request.param]


def test_files_of_the_archive_itself_are_subjects(tmp_path: Path, write: Any) -> None:
    names = ("101_1.png", "101_2.tif", "left_thumb_3.png", "007.png", "_8.png", "José Ñ_1.png", "note.txt")
    assert told(open_source(write(tmp_path, content_of(*names)))) == {
        "101_1.png": ("101", "1", 0),
        "101_2.tif": ("101", "2", 0),
        "left_thumb_3.png": ("left_thumb", "3", 0),
        "007.png": ("007", "1", 0),
        "_8.png": ("_8", "1", 0),
        "José Ñ_1.png": ("José Ñ", "1", 0),
        "note.txt": ("note", "1", 0),
    }


def test_a_folder_of_positions_is_a_person_and_another_a_set(tmp_path: Path, write: Any) -> None:
    names = ("ana/1_1.png", "ana/02_1.png", "ana/1_2.png", "ana/3_9.txt", "s/t/1_1.png", "s/t/11_1.png")
    source = open_source(write(tmp_path, content_of(*names)))
    assert told(source) == {
        "ana/1_1.png": ("ana", "1", 1),
        "ana/02_1.png": ("ana", "1", 2),
        "ana/1_2.png": ("ana", "2", 1),
        "ana/3_9.txt": ("ana/3", "9", 0),
        "s/t/1_1.png": ("s/t/1", "1", 0),
        "s/t/11_1.png": ("s/t/11", "1", 0),
    }
    assert adjacent(source)


def test_what_is_read_is_what_was_packed_and_twice_the_same(tmp_path: Path, write: Any) -> None:
    content = content_of("b/1_1.png", "b/2_1.png", "a_1.png", "z/x_1.png") | {
        "big_1.png": os.urandom(300_000)
    }
    source = open_source(write(tmp_path, content))
    first, second = list(source), list(source)
    assert first == second
    assert {item.name: item.read() for item in first} == content
    assert all(item.version for item in first)
    assert len({item.version for item in first}) == len(first)


def test_hidden_files_are_passed_over(tmp_path: Path, write: Any) -> None:
    names = ("1_1.png", ".DS_Store", ".cache/2_1.png", "a/._1_1.png")
    assert list(told(open_source(write(tmp_path, content_of(*names))))) == ["1_1.png"]


NAMES = st.lists(
    st.tuples(
        st.sampled_from(["", "ana/", "eva/", "a/b/"]),
        st.sampled_from(["1", "2", "10", "11", "x", "0"]),
        st.sampled_from(["_1", "_2", ""]),
        st.sampled_from([".png", ".wsq", ".txt"]),
    ).map("".join),
    min_size=1,
    unique=True,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_a_tar_and_a_zip_say_what_the_folder_says(tmp_path_factory: Any, names: list[str]) -> None:
    """Depth first, as tar writes a folder; the zip in any order."""
    at = tmp_path_factory.mktemp("twin")
    by_folder = sorted(names, key=lambda name: (name.rpartition("/")[0], name))
    folder = open_source(in_folder(at, content_of(*names)))
    for write, order in ((in_zip, names), (CONTAINERS["tar"], by_folder), (CONTAINERS["gz"], by_folder)):
        other = open_source(write(at, content_of(*order)))
        assert told(other) == told(folder)
        assert adjacent(item for item in other if item.finger or other.kind == "zip")


# ---- what is refused by its name or kind


UNSAFE = ["../9_1.png", "a/../../9_1.png", "/etc/9_1.png", "C:/9_1.png"]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("write", [in_zip, CONTAINERS["tar"], CONTAINERS["gz"]])
def test_a_path_that_leads_out_is_a_line(tmp_path: Path, write: Any, name: str) -> None:
    where = write(tmp_path, content_of("1_1.png", name, "2_1.png"))
    assert list(reasons(where).values()) == ["ARCHIVE_PATH_UNSAFE"]
    assert len(list(open_source(where))) == 3


def test_a_windows_zip_is_read_and_its_ways_out_too(tmp_path: Path) -> None:
    where = in_zip(tmp_path, {"a/1_1.png": b"x", "b/1_1.png": b"y"})
    where.write_bytes(where.read_bytes().replace(b"a/1_1", b"a\\1_1").replace(b"b/1_1", b"..\\_1"))
    assert sorted(reasons(where).values()) == ["ARCHIVE_PATH_UNSAFE"]
    assert "a/1_1.png" in told(open_source(where))


def special(name: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, "1_1.png"
    return info


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_links_devices_and_pipes_of_a_tar_are_lines(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    kinds = (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE)
    members = [special(f"{i}_1.png", kind) for i, kind in enumerate(kinds, 2)]
    (tmp_path / "x.tar").write_bytes(pack(tar_bytes(content_of("1_1.png"), members)))
    found = list(reasons(tmp_path / "x.tar").values())
    assert found == ["ARCHIVE_LINK"] * 2 + ["ARCHIVE_DEVICE"] * 3


def test_links_of_a_zip_are_lines(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as packed:
        for i, kind in enumerate((stat.S_IFLNK, stat.S_IFIFO, stat.S_IFREG)):
            info = zipfile.ZipInfo(f"{i}_1.png")
            info.external_attr = (kind | 0o600) << 16
            packed.writestr(info, b"target")
    assert reasons(tmp_path / "x.zip") == {"0_1.png": "ARCHIVE_LINK", "1_1.png": "ARCHIVE_DEVICE"}


def test_what_is_no_file_of_a_folder_is_not_opened(tmp_path: Path) -> None:
    folder = in_folder(tmp_path, content_of("1_1.png"))
    in_folder(tmp_path / "elsewhere", content_of("9_1.png"))
    (folder / "gone_1.png").symlink_to(tmp_path / "nowhere")
    (folder / "folder_1.png").symlink_to(tmp_path / "elsewhere")
    (folder / "link_1.png").symlink_to(folder / "1_1.png")
    os.mkfifo(folder / "pipe_1.png")
    wanted = dict.fromkeys(("folder_1.png", "gone_1.png", "pipe_1.png"), "ARCHIVE_DEVICE")
    assert reasons(folder) == wanted
    assert {item.name for item in open_source(folder)} == {*wanted, "1_1.png", "link_1.png"}


def test_an_encrypted_member_and_an_unknown_method_are_lines(tmp_path: Path) -> None:
    where = in_zip(tmp_path, content_of("1_1.png", "2_1.png", "3_1.png"))
    data = bytearray(where.read_bytes())
    at = [i for i in range(len(data)) if data[i : i + 4] == b"PK\x01\x02"]
    data[at[0] + 8] |= 1  # general purpose bit 0
    struct.pack_into("<H", data, at[1] + 10, 14)  # LZMA
    where.write_bytes(data)
    assert reasons(where) == {"1_1.png": "ARCHIVE_ENCRYPTED", "2_1.png": "ARCHIVE_METHOD_UNKNOWN"}


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_two_files_of_one_name_are_not_both_taken(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    one = tar_bytes({"1_1.png": b"one"})[:1024]
    (tmp_path / "x.tar").write_bytes(pack(one + tar_bytes({"1_1.png": b"two"})))
    first, second = open_source(tmp_path / "x.tar")
    assert first.read() == b"one"
    assert second.fault is not None
    assert second.fault.reason == "ARCHIVE_NAME_TWICE"


def test_two_files_of_one_name_in_a_zip_are_not_both_taken(tmp_path: Path) -> None:
    where = in_zip(tmp_path, content_of("1_1.png", "2_1.png"))
    where.write_bytes(where.read_bytes().replace(b"2_1.png", b"1_1.png"))
    assert list(reasons(where).values()) == ["ARCHIVE_NAME_TWICE"]


# ---- bombs and damage


def test_a_member_larger_than_any_print_is_refused_by_its_header(tmp_path: Path) -> None:
    info = tarfile.TarInfo("1_1.png")
    info.size = LIMITS.file + 1
    with (tmp_path / "x.tar").open("wb") as file:
        file.write(info.tobuf())
        file.seek(info.size + 512 + (-info.size) % 512)  # a hole: nothing is written or read
        file.write(tar_bytes(content_of("2_1.png")))
    assert list(reasons(tmp_path / "x.tar").values()) == ["FILE_TOO_LARGE"]
    assert "2_1.png" in told(open_source(tmp_path / "x.tar"))


def test_a_large_file_of_a_folder_is_not_read(tmp_path: Path) -> None:
    folder = in_folder(tmp_path, content_of("1_1.png"))
    with (folder / "1_1.png").open("r+b") as file:
        file.truncate(LIMITS.file + 1)
    (item,) = open_source(folder)
    with pytest.raises(SourceInvalid) as caught:
        item.read()
    assert caught.value.reason == "FILE_TOO_LARGE"


def test_a_zip_bomb_is_refused_by_its_header(tmp_path: Path) -> None:
    where = in_zip(tmp_path, {"1_1.png": bytes(LIMITS.ratio_from + 1), "2_1.png": bytes(LIMITS.ratio_from)})
    assert reasons(where) == {"1_1.png": "ARCHIVE_RATIO"}


def test_a_zip_member_that_announces_less_is_cut_off_while_it_is_read(tmp_path: Path) -> None:
    where = in_zip(tmp_path, {"1_1.png": bytes(50_000_000)})
    data = bytearray(where.read_bytes())
    struct.pack_into("<L", data, data.index(b"PK\x01\x02") + 24, 1000)
    where.write_bytes(data)
    (item,) = open_source(where)
    assert most_memory(item.read, raises="ARCHIVE_RATIO") < 2_000_000


def most_memory(call: Callable[[], object], *, raises: str = "") -> int:
    tracemalloc.start()
    try:
        if raises:
            with pytest.raises(SourceInvalid) as caught:
                call()
            assert caught.value.reason == raises
        else:
            call()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("pack", [gzip, lzma, bz2, zstd])
def test_a_packed_tar_that_grows_without_end_ends_with_a_line(tmp_path: Path, pack: Any) -> None:
    """A member of 10 TB of zeros, of which the file holds the first 80 MB: given up after 64 MiB."""
    info = tarfile.TarInfo("1_1.png")
    info.size = 10**13
    with pack.open(tmp_path / "x.tar", "wb") as file:
        file.write(info.tobuf(tarfile.GNU_FORMAT))
        for _ in range(80):
            file.write(bytes(1_000_000))
    found: list[str] = []
    assert most_memory(lambda: found.extend(reasons(tmp_path / "x.tar").values())) < 20_000_000
    assert found == ["FILE_TOO_LARGE", "ARCHIVE_RATIO"]


def test_a_name_that_would_fill_the_memory_is_not_read(tmp_path: Path) -> None:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, 1 << 30
    with gzip.open(tmp_path / "x.tar", "wb") as file:
        file.write(info.tobuf())
        file.write(bytes(1_000_000))
    assert most_memory(lambda: reasons(tmp_path / "x.tar")) < 20_000_000
    assert list(reasons(tmp_path / "x.tar").values()) == ["FILE_TOO_LARGE"]


def test_an_archive_larger_than_what_is_held_passes_through(tmp_path: Path) -> None:
    """60 MB packed and plain in 600 members, in the memory of a few."""
    content = {f"p{i:03}/{i % 10 + 1}_1.png": os.urandom(100_000) for i in range(600)}
    for name in ("tar", "gz", "zst"):
        where = CONTAINERS[name](tmp_path, content)
        most = most_memory(lambda where=where: sum(len(item.read()) for item in open_source(where)))
        assert most < 15_000_000  # with what other threads of this process do meanwhile


@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_what_comes_before_the_damage_is_read(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    data = pack(tar_bytes({f"{i}_1.png": os.urandom(5000) for i in range(9)}))
    for cut in (len(data) // 2, len(data) // 2 // 512 * 512):
        (tmp_path / "x.tar").write_bytes(data[:cut])
        items = list(open_source(tmp_path / "x.tar"))
        faults = [item.fault.reason for item in items if item.fault]
        assert (items[0].name, faults) in [
            ("0_1.png", ["ARCHIVE_DAMAGED"]),
            ("x.tar (the rest)", ["ARCHIVE_DAMAGED"]),
        ]
    (tmp_path / "x.tar").write_bytes(pack(tar_bytes(content_of("1_1.png"))[:1024] + b"\1" * 512))
    assert reasons(tmp_path / "x.tar") == {"x.tar (the rest)": "ARCHIVE_DAMAGED"}


def test_a_damaged_member_of_a_zip_keeps_no_other_out(tmp_path: Path) -> None:
    content = {f"{i}_1.png": os.urandom(500) for i in range(3)}
    where = in_zip(tmp_path, content)
    data = bytearray(where.read_bytes())
    data[300] ^= 1
    where.write_bytes(data)
    first, *others = open_source(where)
    with pytest.raises(SourceInvalid) as caught:
        first.read()
    assert caught.value.reason == "ARCHIVE_DAMAGED"
    assert {item.name: item.read() for item in others} == {n: d for n, d in content.items() if n != "0_1.png"}


@pytest.mark.parametrize("name", ["gz", "bz2", "xz", "zst"])
def test_a_packed_tar_cut_at_any_byte_says_so_and_gives_what_came_before(tmp_path: Path, name: str) -> None:
    content = {f"{i}_1.png": os.urandom(2000) for i in range(9)}
    data = CONTAINERS[name](tmp_path, content).read_bytes()
    for cut in range(20, len(data), 997):
        (tmp_path / "x.tar").write_bytes(data[:cut])
        items = list(open_source(tmp_path / "x.tar"))
        assert [item.fault.reason for item in items if item.fault] == ["ARCHIVE_DAMAGED"]
        assert {item.name: item.read() for item in items[:-1]}.items() <= content.items()


@pytest.mark.parametrize("name", ["gz", "bz2", "xz", "zst"])
def test_a_packed_tar_may_be_packed_in_several_runs(tmp_path: Path, name: str) -> None:
    """As by pzstd, which writes frames to be passed over besides, and two files one after the other."""
    content = {f"{i}_1.png": os.urandom(2000) for i in range(9)}
    data = CONTAINERS["tar"](tmp_path, content).read_bytes()
    pack = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "zst": zstd.compress}[name]
    frame = b"\x50\x2a\x4d\x18\4\0\0\0size" if name == "zst" else b""
    parts = [frame + pack(data[i : i + 5000]) for i in range(0, len(data), 5000)]
    (tmp_path / "x.tar").write_bytes(b"".join(parts) + frame)
    assert {item.name: item.read() for item in open_source(tmp_path / "x.tar")} == content


@pytest.mark.parametrize(("window", "reason"), [(27, ""), (28, "ARCHIVE_DAMAGED")])
def test_a_window_larger_than_any_packer_asks_for_by_itself_is_not_allocated(
    tmp_path: Path, window: int, reason: str
) -> None:
    """RFC 8878, section 3.1.1.1.2: a frame may ask for terabytes."""
    packer = zstd.ZstdCompressor(options={zstd.CompressionParameter.window_log: window})
    data = packer.compress(tar_bytes(content_of("1_1.png"))) + packer.flush()  # its size is not in the frame
    (tmp_path / "x.tar").write_bytes(data)
    assert list(reasons(tmp_path / "x.tar").values()) == ([reason] if reason else [])


# ---- the order of a tar


def test_a_person_whose_folder_is_parted_is_not_enrolled_in_two_halves(tmp_path: Path) -> None:
    names = [
        "ana/1_1.png",
        "eva/1_1.png",
        "ana/2_1.png",
        "ana/note.txt",
        "set/x_1.png",
        "b_1.png",
        "set/1_1.png",
    ]
    where = CONTAINERS["tar"](tmp_path, content_of(*names))
    assert reasons(where) == {"ana/2_1.png": "ARCHIVE_ORDER"}
    assert told(open_source(where))["set/1_1.png"] == ("set/1", "1", 0)


@pytest.mark.parametrize(("name", "wanted"), [("tar", 0), ("gz", 12)])
def test_a_folder_too_large_to_be_held_is_not_guessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, wanted: int
) -> None:
    monkeypatch.setattr(tar, "LIMITS", SourceLimits(folder_held=10_000))
    content = {f"ana/{i % 10 + 1}_{i}.png": bytes(1000) for i in range(12)}
    where = CONTAINERS[name](tmp_path, content | content_of("b_1.png"))
    assert list(reasons(where).values()) == ["ARCHIVE_ORDER"] * wanted


# ---- what cannot be opened


def test_what_is_no_source_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "empty" / "inner").mkdir(parents=True)
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / ".x_1.png").touch()
    (tmp_path / "file").write_bytes(b"no archive")
    (tmp_path / "zip").write_bytes(b"PK\x03\x04 and no more")
    wanted = {"empty": "SOURCE_EMPTY", "hidden": "SOURCE_EMPTY", "gone": "SOURCE_EMPTY"}
    for name, reason in (wanted | {"file": "SOURCE_UNKNOWN", "zip": "ARCHIVE_DAMAGED"}).items():
        with pytest.raises(SourceInvalid) as caught:
            open_source(tmp_path / name)
        assert caught.value.reason == reason, name


def test_the_gallery_is_no_archive_and_passed_over_within_one(tmp_path: Path) -> None:
    folder = in_folder(tmp_path, content_of("1_1.png", "gallery/papilar.sqlite3"))
    assert list(told(open_source(folder, gallery=folder / "gallery"))) == ["1_1.png"]
    with pytest.raises(SourceInvalid, match="at once"):
        open_source(folder, gallery=folder / "x" / "..")


def test_a_folder_that_cannot_be_read_is_a_line_and_no_empty_one(tmp_path: Path, monkeypatch: Any) -> None:
    folder = in_folder(tmp_path, content_of("1_1.png", "locked/2_1.png"))
    plain = os.scandir

    def scandir(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return plain(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert reasons(folder) == {"locked": "FILE_UNREADABLE"}
    with pytest.raises(SourceInvalid):
        open_source(folder / "locked")


def test_every_flaw_has_a_remedy_and_a_line_in_the_document() -> None:
    text = (Path(__file__).parents[3] / "docs" / "enrolment.md").read_text(encoding="utf-8")
    assert set(REMEDIES) == set(SourceFlaw)
    assert [why for why in SourceFlaw if f"`{why}`" not in text] == []


# ---- any bytes


def drained(where: Path) -> None:
    """Read all there is: nothing but our own errors may come out, and not without end."""
    try:
        for item in open_source(where):
            if item.fault is None:
                try:
                    item.read()
                except PapilarError:
                    continue
    except PapilarError:
        return


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["bz2", "tar", "gz", "xz", "zst", "zip"]), st.data())
def test_any_mutation_of_an_archive_raises_nothing_but_our_own(tmp_path: Path, name: str, data: Any) -> None:
    content = content_of("1_1.png", "ana/1_1.png", "ana/2_1.png") | {"n" * 120 + "_1.png": b"long"}
    original = CONTAINERS[name](tmp_path, content).read_bytes()
    mutated = bytearray(original)
    for at in data.draw(st.lists(st.integers(0, len(original) - 1), max_size=6)):
        mutated[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.sampled_from([len(mutated), data.draw(st.integers(0, len(mutated)))]))
    (tmp_path / "mutated").write_bytes(mutated[:cut])
    drained(tmp_path / "mutated")


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=30), st.sampled_from(["tar", "gz", "zip"]))
def test_any_name_of_a_member_is_a_line(tmp_path: Path, name: str, container: str) -> None:
    try:
        where = CONTAINERS[container](tmp_path, {name: b"x", "last_1.png": b"y"})
    except (UnicodeError, ValueError, IndexError):  # the packer takes no such name
        return
    names = [item.name for item in open_source(where)]
    assert "last_1.png" in names
    assert len(set(names)) == len(names)
    assert not any(item.fault is None and ".." in item.name.split("/") for item in open_source(where))
