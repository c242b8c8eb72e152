"""`kill -9` at any moment: after the run that goes on, store and receipt are those of an undisturbed one.

Of the crowd some files fail until they are mended: the comparison is made before and after. What an
undisturbed run makes of them does not hang on the moment of a kill.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import archives
import numpy as np
import pytest
from archives import letters
from whole import whole_receipt, whole_store

ROOT = Path(__file__).resolve().parents[3]


def start(folder: Path, count: int) -> "subprocess.Popen[bytes]":
    paths = (ROOT, ROOT / "tests", ROOT / "tests" / "papilar")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, archives.__file__, str(folder), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, bufsize=0)


def run_whole(folder: Path, count: int) -> bytes:
    """Run to the end, in this process; give its lines, one byte each."""
    return "".join(letters(folder, count)).encode()


def kill_in_between(folder: Path, count: int, kills: int, random: np.random.Generator) -> None:
    """Begin a run again and again, and kill it each time when it has gone on for a while."""
    for number in range(kills):
        process = start(folder, count)
        assert process.stdout is not None
        for _ in range(number * count // kills + int(random.integers(1, max(2, count // kills)))):
            process.stdout.read(1)
        time.sleep(random.random() * 0.02)
        process.kill()
        process.wait()
        process.stdout.close()


def check(tmp_path: Path, count: int, kills: int, seed: int) -> None:
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"
    random = np.random.default_rng(seed)
    for what_fails in ("broken", "mended"):
        for folder in (undisturbed, killed):
            folder.mkdir(exist_ok=True)
            (folder / what_fails).touch()
        run_whole(undisturbed, count)
        kill_in_between(killed, count, kills // 2, random)
        said = run_whole(killed, count)
        assert len(said) == count
        assert set(said) - set(b"E") == set(b"ACFMR")
        wanted, found = whole_store(undisturbed / "gallery"), whole_store(killed / "gallery")
        for table in wanted:
            assert found[table] == wanted[table], table
        assert whole_receipt(killed) == whole_receipt(undisturbed)
        assert set_aside(killed) == set_aside(undisturbed)


def set_aside(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "quarantine").iterdir())


def test_a_run_that_is_killed_six_times_ends_as_one_that_is_not(tmp_path: Path) -> None:
    check(tmp_path, 96, 6, 1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_that_is_killed_fifty_times_ends_as_one_that_is_not(tmp_path: Path) -> None:
    check(tmp_path, 2_000, 50, 2)
