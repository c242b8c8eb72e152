"""The micro-benchmarks run: asv itself is not needed for that."""

import inspect
import json
from pathlib import Path

import pytest

from benchmarks.micro import suite

ROOT = Path(__file__).resolve().parents[2]
CLASSES = [one for _, one in inspect.getmembers(suite, inspect.isclass) if one.__module__ == suite.__name__]


@pytest.mark.parametrize("made", CLASSES, ids=lambda one: one.__name__)
def test_every_benchmark_runs(made, monkeypatch):
    monkeypatch.setattr(suite, "ROWS", 120)
    for given in getattr(made, "params", [None]):
        arguments = () if given is None else (given,)
        one = made()
        getattr(one, "setup", lambda *_: None)(*arguments)
        names = [name for name in dir(one) if name.startswith(("time_", "track_"))]
        assert names
        for name in names:
            value = getattr(one, name)(*arguments)
            assert (value is not None and value > 0) == name.startswith("track_")
        getattr(one, "teardown", lambda: None)()


def test_asv_is_told_where_they_are():
    told = json.loads((ROOT / "asv.conf.json").read_text())
    assert (ROOT / told["benchmark_dir"] / "suite.py").exists()
