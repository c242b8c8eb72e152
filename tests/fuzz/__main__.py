"""Fuzz the decoders: `python -m tests.fuzz --seconds 3600 [--targets image,nist] [--corpus DIR]`.

Each target in turn, one process at a time, for its part of the seconds, which are CPU time. What is found is
named as it is found and lies in DIR/findings with an account of it; the exit status is then 1.
`python -m tests.fuzz --replay FILE ...` decodes findings again; their names begin with the target's.

DIR is outside the repository. With the real prints of $PAPILAR_DATASETS among the seeds it holds what was
made of them: delete it when you have done, and bring into `failures` only what is not made of a print.
"""

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # before numpy: what forks must not have threads

import atheris

ROOT = Path(__file__).resolve().parents[2]
KERNELS = [f"matcher.kernels.{path.stem}" for path in (ROOT / "matcher" / "kernels").glob("[!_]*.py")]

# numba compiles the kernels from their bytecode, which must stay as it is.
with atheris.instrument_imports(
    include=["enroll", "matcher", "papilar", "PIL"], exclude=["matcher.kernels", *KERNELS]
):
    from tests.fuzz.targets import TARGETS
    from tests.fuzz.turn import Turn

TURN = 15.0
"""Seconds of a turn, about: `atheris` itself gains up to 17 MB a second where there is much to compare."""

REAL = {
    "image": ("png", "bmp", "jpg", "jp2", "tif"),
    "wsq": ("wsq",),
    "nist": ("an2", "ebts"),
    "archive": ("an2", "ebts"),
}
"""Which of the real files are seeds of which target."""

_log = logging.getLogger("fuzz")


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz, or replay; return 1 where anything was found."""
    given = _given(arguments)
    logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(asctime)s %(message)s")
    if given.replay:
        for path in given.replay:
            TARGETS[path.name.partition("-")[0]].run(path.read_bytes())
        return 0
    given.corpus.mkdir(mode=0o700, parents=True, exist_ok=True)
    if (earlier := given.corpus / "findings").exists():
        earlier.rename(given.corpus / f"findings-before-{time.time():.0f}")  # they would hide the same again
    turns = [Turn(name, TARGETS[name], given.corpus) for name in given.targets]
    for turn in turns:
        turn.sow(_real(turn.name))
    found = _fuzz(turns, given.seconds)
    _log.info("%d findings in %s", len(found), given.corpus / "findings")
    return 1 if found else 0


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("tests.fuzz", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--targets", type=lambda text: text.split(","), default=list(TARGETS))
    parser.add_argument("--corpus", type=Path, default=Path(tempfile.gettempdir()) / "papilar-fuzz")
    parser.add_argument("--replay", type=Path, nargs="+")
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.targets) - TARGETS.keys())
    if unknown:
        parser.error(f"no targets {', '.join(unknown)}; there are {', '.join(TARGETS)}")
    return given


def _fuzz(turns: Sequence[Turn], seconds: float) -> list[str]:
    """Take all turns, round by round, and return what was found."""
    rounds = max(1, round(seconds / len(turns) / TURN))
    found: list[str] = []
    runs = dict.fromkeys((turn.name for turn in turns), 0)
    for number in range(1, rounds + 1):
        for turn in turns:
            report = turn.take(seconds / rounds / len(turns))
            runs[turn.name] += report.runs
            found += report.findings
            told = (number, turn.name, report.runs, report.cpu, report.memory / (1 << 20))
            _log.info("round %d, %s: %d runs, %.0f s of CPU time, at most %.0f MiB", *told)
            for name in report.findings:
                _log.info("found %s", name)
    for name, total in runs.items():
        _log.info("%s: %d runs in all", name, total)
    return found


def _real(name: str) -> list[bytes]:
    folder = Path(os.environ.get("PAPILAR_DATASETS", ROOT.parent / "shared" / "datasets"))
    kinds = REAL.get(name, ())
    return [path.read_bytes() for kind in kinds for path in sorted(folder.glob(f"formats/**/*.{kind}"))]


if __name__ == "__main__":
    sys.exit(main())
