"""Inputs that once failed, decoded again; some seconds of fuzzing; that the fuzzer finds faults."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz.targets import TARGETS

ROOT = Path(__file__).resolve().parents[2]
FAILURES = sorted(Path(__file__).with_name("failures").iterdir())


@pytest.mark.parametrize("path", FAILURES, ids=lambda path: path.name)
def test_what_once_failed_is_decoded_or_refused(path: Path) -> None:
    TARGETS[path.name.partition("-")[0]].run(path.read_bytes())


def test_every_seed_is_decoded_or_refused_and_few_are_refused() -> None:
    """A target whose seeds are refused at the door would fuzz the door alone."""
    for name, target in TARGETS.items():
        seeds = target.seeds()
        for data in seeds:
            target.run(data)
        assert sum(_decodes(name, data) for data in seeds) >= len(seeds) / 2, name


def _decodes(name: str, data: bytes) -> bool:
    target = TARGETS[name]
    try:
        target.decode(data)
    except target.refusals:
        return False
    return True


def test_no_decoder_fails_within_a_moment(tmp_path: Path) -> None:
    """Without real prints: what they are mutated to is theirs, and so does not stay behind in a test."""
    done = _python("-m", "tests.fuzz", "--seconds", "2", "--corpus", str(tmp_path / "fuzz"))
    told = [line.partition(" ")[2] for line in done.stdout.splitlines() if line.endswith(" in all")]
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert len(told) == len(TARGETS)
    assert [line for line in told if ": 0 runs" in line] == []


BROKEN = """
import ctypes, os, sys, time
from pathlib import Path
from tests.fuzz.targets import Target
from tests.fuzz.turn import Bounds, Turn

def hang(data):
    if data == b"bad":
        while True: pass

def sleep(data):
    if data == b"bad": time.sleep(60)

def crash(data):
    if data == b"bad": ctypes.string_at(0)

def swell(data):
    if data == b"bad": bytearray(1 << 30)

def raises(data):
    if data == b"bad": raise KeyError("x")

def sound(data):
    if data == b"bad": raise ValueError

for decode in (hang, sleep, crash, swell, raises, sound):
    target = Target(decode, lambda: [b"bad", b"good"], refusals=(ValueError,))
    bounds = Bounds(cpu=0.7, still=1.4, memory=900 << 20, length=64)
    turn = Turn(decode.__name__, target, Path(sys.argv[1]), bounds=bounds)
    turn.sow()
    report = turn.take(0.3)
    print(decode.__name__, *report.findings)
"""


def test_the_fuzzer_finds_each_kind_of_fault_and_goes_on(tmp_path: Path) -> None:
    """And keeps the very input that did it."""
    done = _python("-c", BROKEN, str(tmp_path))
    found = dict(line.partition(" ")[::2] for line in done.stdout.splitlines())
    kinds = {name: told.removeprefix(f"{name}-") for name, told in found.items()}
    assert {name: kind.partition("-")[0] for name, kind in kinds.items()} == {
        "hang": "hang",
        "sleep": "hang",
        "crash": "died",
        "swell": "MemoryError",
        "raises": "KeyError",
        "sound": "",
    }, done.stderr
    assert {(tmp_path / "findings" / told).read_bytes() for told in found.values() if told} == {b"bad"}


def _python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, "PAPILAR_DATASETS": os.devnull, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
