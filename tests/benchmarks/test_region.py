"""`make region` runs to its end from any folder: three nodes, one case, and what the logs say of it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_case_is_searched_refused_confirmed_and_logged(tmp_path: Path) -> None:
    mine = tmp_path / "region" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("not made by the story")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.region"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "160"},
        capture_output=True,
        text=True,
        check=False,
        timeout=580,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    _, *chapters = re.split(r"─ (?=\d\. )", done.stdout)
    search, refusal, confirmation, down, logs = chapters[3:8]
    assert "SLV 1 candidate" in search
    assert "GTM no candidates" in search, "it hides that it refused"
    assert "SLV REFUSED (NO_RULE_PERMITS)" in refusal
    assert "SLV has taken the conclusion" in confirmation
    assert "there is no such reference" in done.stderr, "used twice"
    assert "SLV QUEUED (UNREACHABLE)" in down
    assert "SLV 1 candidate" in down.split("papilar region answers")[-1]
    assert logs.count("nothing was changed") == 3
    assert "asked about, or told of: 3 times" in logs
    assert "CHANGED" in logs.split("a hit a no-hit")[1]
    assert (tmp_path / "region" / "candidates" / "1-SLV-1.png").is_file()
    assert (tmp_path / "region" / "statistics.html").is_file()
    assert mine.is_file()
