"""A disk of this machine that goes away while a source is read from it, as a share or a stick does."""

import errno
import io
import os
import subprocess
import tarfile
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import needs
import pytest
from archives import Archive, Gallery, image, results

from papilar.archive.sources import open_source
from papilar.archive.sources.tree import AT_A_TIME
from papilar.errors import SourceUnreachable

COUNT = 2 * AT_A_TIME


def fill(folder: Path) -> Path:
    for i in range(COUNT):
        (folder / f"{i:03}").mkdir(parents=True)
        (folder / f"{i:03}" / "x_1.png").write_bytes(image(i) + b"%d" % i)
    return folder


@pytest.fixture
def share(tmp_path: Path) -> Iterator[Path]:
    """A disk that can be unmounted, with a file that lies beneath it."""
    path = tmp_path / "share"
    with needs.disk(path, "64m"):
        yield fill(path)


def test_a_disk_that_is_unmounted_half_way_ends_the_run_which_goes_on_later(
    share: Path, tmp_path: Path
) -> None:
    archive, gallery = Archive(tmp_path / "journal"), Gallery()
    lines = archive.run(open_source(share), gallery)
    seen = {line.file: line for line in islice(lines, AT_A_TIME)}
    subprocess.run(["umount", "--lazy", str(share)], check=True)
    seen |= {line.file: line for line in lines}
    told = set(results(seen).values())
    assert told == {"ENROLLED", "NOT_TRIED SOURCE_UNREACHABLE", "NOT_TRIED STOPPED"}
    later = results(archive.lines(open_source(fill(share)), gallery))
    assert set(later.values()) == {"ENROLLED", "ALREADY"}
    assert len(later) == len(set(gallery.ids)) == COUNT


@pytest.mark.parametrize("code", [errno.ESTALE, errno.ENOTCONN, errno.ENODEV])
@pytest.mark.parametrize("call", ["scandir", "open"])
def test_a_share_whose_server_is_gone_is_not_a_file_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, call: str
) -> None:
    source = open_source(fill(tmp_path / "folder"))
    items = iter(source)
    item = next(items)

    def gone(*_: Any, **__: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("os.scandir" if call == "scandir" else "builtins.open", gone)
    with pytest.raises(SourceUnreachable):
        next(items) if call == "scandir" else item.read()


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE])
def test_a_tar_that_cannot_be_read_further_is_not_a_damaged_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as packed:
        for i in range(40):
            info = tarfile.TarInfo(f"{i}_1.png")
            info.size = 50_000
            packed.addfile(info, io.BytesIO(bytes(info.size)))
    items = iter(open_source(tmp_path / "x.tar"))
    next(items)

    def broken(*_: Any) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("fsspec.implementations.local.LocalFileOpener.read", broken)
    if code == errno.ESTALE:
        with pytest.raises(SourceUnreachable):
            list(items)
        return
    *_, last = items
    assert last.fault is not None
    assert (last.name, last.fault.reason) == ("x.tar (the rest)", "FILE_UNREADABLE")


def test_a_disk_that_is_unmounted_ends_the_items(share: Path) -> None:
    items = iter(open_source(share))
    first = next(items)
    subprocess.run(["umount", "--lazy", str(share)], check=True)
    with pytest.raises(SourceUnreachable):
        first.read()
    with pytest.raises(SourceUnreachable):
        list(items)
