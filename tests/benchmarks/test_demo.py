"""The demo runs to its end from any folder, with the picture that it promises."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]

WHOLE = ("-m", "benchmarks.demo")
SMALL = (
    "-c",
    "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"  # one process that reads prints
    "from benchmarks import demo; demo.FINGERS, demo.WANTED = 2, '002'; demo.main()",
)


@pytest.mark.parametrize(
    ("demo", "prints", "wanted"),
    [
        pytest.param(WHOLE, 20, "007", marks=pytest.mark.soak, id="whole"),
        pytest.param(SMALL, 4, "002", id="small"),
    ],
)
def test_the_demo_finds_the_print_where_it_is_and_draws_it(
    demo: tuple[str, str], prints: int, wanted: str, tmp_path: Path
) -> None:
    """The whole one is `make demo`; the small one takes its steps with two fingers a country, on one core."""
    mine = tmp_path / "demo" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("not made by the demo")
    done = subprocess.run(
        [sys.executable, *demo],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    here, there = done.stdout.split("$ papilar identify")[1:]
    assert f"no candidates, {prints} prints searched" in here
    assert f"1 candidate, {prints} prints searched" in there
    assert f" {wanted} " in there
    with Image.open(tmp_path / "demo" / "match.png") as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
    assert {path.name for path in mine.parent.iterdir()} == {
        "archives",
        "galleries",
        "match.png",
        "notes.txt",
        "probe.png",
    }
