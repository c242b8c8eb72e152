"""How far a run is: what is left is said where it is known, and nothing is said where it is not."""

import threading
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from archives import item

from papilar.archive.extent import Extent
from papilar.archive.item import Line, Result
from papilar.archive.progress import Progress


class Clock:
    """Seconds, set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def run(
    progress: Progress, clock: Clock, lines: int, each: float, *, name: str = "{}_1.png", first: int = 0
) -> None:
    for number in range(first, first + lines):
        clock.now += each
        progress.add(Line(name.format(number), Result.ENROLLED))


def test_the_time_left_follows_from_the_files_of_the_last_minutes() -> None:
    clock = Clock()
    progress = Progress(lambda: 10_000, clock=clock)
    run(progress, clock, 1_000, 0.02)  # known of an earlier run
    assert progress.remaining == timedelta(seconds=180)
    run(progress, clock, 1_000, 1.0, first=1_000)
    assert progress.rate == pytest.approx(1, rel=0.01)
    assert progress.remaining == timedelta(seconds=8_000)
    assert str(progress) == (
        "2000 (2000 of about 10000 files), 2000 enrolled, 60 a minute, about 2:13:20 left"
    )


def test_prints_of_one_transaction_are_one_file() -> None:
    clock = Clock()
    progress = Progress(lambda: 100, clock=clock)
    for number in range(10):
        run(progress, clock, 14, 1.0, name=f"{number}.an2#14.{{}}")
    assert "140 (10 of about 100 files)" in str(progress)
    assert progress.remaining == timedelta(seconds=9 * 140)


def test_of_a_stream_the_share_of_its_bytes_is_said() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    drawn = progress.drawn(item(f"{number}", share=number / 100) for number in range(100))
    for number in range(41):
        assert next(drawn).name == f"{number}"
        run(progress, clock, 1, 1.0, first=number)
    assert str(progress).startswith("41, 41 enrolled, 60 a minute, 40% of the bytes read, about 0:01:0")


def test_of_what_tells_nothing_nothing_is_said() -> None:
    clock = Clock()
    progress = Progress(clock=clock)
    assert progress.remaining is None
    list(progress.drawn([item("a")]))
    run(progress, clock, 60, 1.0)
    assert progress.remaining is None
    assert str(progress) == "60, 60 enrolled, 60 a minute"


def test_at_the_beginning_and_at_a_halt_no_time_is_said() -> None:
    clock = Clock()
    progress = Progress(lambda: 100, clock=clock)
    run(progress, clock, 5, 1.0)
    assert progress.remaining is None
    run(progress, clock, 5, 1.0, first=5)
    assert progress.remaining == timedelta(seconds=90)
    clock.now += 10_000
    run(progress, clock, 1, 0.0, name="9_1.png")  # another line of the same file
    assert progress.remaining is None


def counted(path: Path, kind: str) -> int | None:
    extent = Extent(path, kind)
    for thread in threading.enumerate():
        if thread.name == "count":
            thread.join(10)
    return extent.files


def test_the_files_of_a_folder_are_counted(tmp_path: Path) -> None:
    for name in ("a_1.png", "p/1_1.png", "p/2_1.png", ".hidden/x", "p/.y", "p/q/r/s.an2"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert counted(tmp_path, "folder") == 4


@pytest.mark.parametrize("count", [0, 3, 70_000])
def test_those_of_a_zip_by_its_end(tmp_path: Path, count: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as made:
        made.comment = b"x" * 1_000
        for number in range(count):
            made.writestr(f"{number}", b"")
    assert counted(tmp_path / "a.zip", "zip") == count


@pytest.mark.parametrize(
    ("rows", "count"),
    [("path,person\na,b\nc,d\n", 2), ("path,person\na,b\nc,d", 2), ("path,person\n", 0), ("", 0)],
)
def test_those_of_a_manifest_by_its_rows(tmp_path: Path, rows: str, count: int) -> None:
    (tmp_path / "m.csv").write_text(rows)
    assert counted(tmp_path / "m.csv", "manifest") == count


BROKEN: list[Callable[[Path], Path]] = [
    lambda folder: folder / "nowhere",
    lambda folder: _written(folder / "zip", b"PK"),
    lambda folder: _written(folder / "table", b"PAR1\n\n\n"),
]


@pytest.mark.parametrize("kind", ["zip", "manifest", "tar"])
@pytest.mark.parametrize("place", BROKEN)
def test_what_cannot_be_counted_is_not(tmp_path: Path, place: Callable[[Path], Path], kind: str) -> None:
    assert not counted(place(tmp_path), kind)


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path
