"""The demo runs to its end from any folder, with the picture that it promises."""

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def test_the_demo_finds_the_print_where_it_is_and_draws_it(tmp_path: Path) -> None:
    mine = tmp_path / "demo" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("not made by the demo")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.demo"],
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
    assert "no candidates, 20 prints searched" in here
    assert "1 candidate, 20 prints searched" in there
    assert " 007 " in there
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
