"""`kill -9` at any moment: the run goes on where it was, no print is there twice and none is missing."""

import os
import subprocess
import sys
import time
from pathlib import Path

import archives
import numpy as np
import pytest
from archives import FLAKY, held

ROOT = Path(__file__).resolve().parents[3]


def start(folder: Path, count: int) -> "subprocess.Popen[bytes]":
    paths = (ROOT, ROOT / "tests", ROOT / "tests" / "papilar")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, paths))}
    command = [sys.executable, archives.__file__, str(folder), str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, bufsize=0)


def run_whole(folder: Path, count: int) -> bytes:
    """Let a run end; give its lines, one byte each."""
    process = start(folder, count)
    said, _ = process.communicate()
    assert process.returncode == 0
    return said


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
    for _ in range(3):  # the second for what failed once; the third says what is there
        said = run_whole(undisturbed, count)
    kill_in_between(killed, count, kills, np.random.default_rng(seed))
    for _ in range(2):
        said_after = run_whole(killed, count)
    assert said_after == said
    assert len(said) == count
    assert not set(said) - set(b"ACR")  # already there, a copy, rejected
    (wanted, wanted_fingers), (prints, fingers) = held(undisturbed / "gallery"), held(killed / "gallery")
    assert max(prints.values()) == 1
    assert prints == wanted
    flaky = {f"p{person:05}" for person in range(0, count, FLAKY)}
    assert {one for one in fingers if one[0] not in flaky} == {
        one for one in wanted_fingers if one[0] not in flaky
    }


def test_a_run_that_is_killed_five_times_ends_as_one_that_is_not(tmp_path: Path) -> None:
    check(tmp_path, 120, 5, 1)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_run_that_is_killed_fifty_times_ends_as_one_that_is_not(tmp_path: Path) -> None:
    check(tmp_path, 2_000, 50, 2)
