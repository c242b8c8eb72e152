"""How much a country that is refused by its quota, 200 times a second, slows the searches of another."""

import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

import pytest
from countries import Asking, InForce, a_print, an_image, answering, law

from papilar.node import Node
from papilar.policy import File

RATE = 200
PROGRAM = Path(__file__).with_name("refused.py")


def timed(gtm: Asking, slv: object, image: bool) -> float:
    signed = gtm.sealed(an_image() if image else a_print())
    started = time.monotonic()
    slv.answer(signed, "GTM")  # type: ignore[attr-defined]
    return time.monotonic() - started


@pytest.mark.soak
def test_refusals_do_not_slow_searches(world: Path, gallery: Node, tmp_path: Path, in_force: InForce) -> None:
    in_force.law = law(more="[quotas.HND]\nTP_TP = { per_day = 0, candidates = 1 }\n")
    files = {File.CRIMINAL: gallery}
    with answering(world, files, tmp_path / "peer", law=in_force) as slv:
        gtm = Asking(world, "GTM", slv.address)
        command = [sys.executable, str(PROGRAM), str(world), slv.address, str(RATE)]
        with (tmp_path / "said").open("wb") as said, subprocess.Popen(command, stdout=said) as asker:
            alone, beside, busy = [], [], 5.0
            try:
                time.sleep(busy)
                for _ in range(10):
                    asker.send_signal(signal.SIGSTOP)
                    time.sleep(0.5)
                    alone += [timed(gtm, slv, True) for _ in range(5)]
                    asker.send_signal(signal.SIGCONT)
                    started = time.monotonic()
                    time.sleep(0.5)
                    beside += [timed(gtm, slv, True) for _ in range(5)]
                    busy += time.monotonic() - started
            finally:
                asker.kill()
        answers = (tmp_path / "said").read_text().splitlines()[:-1]
    slower = statistics.median(beside) / statistics.median(alone)
    told = f"{statistics.median(alone):.3f} s alone, {slower:.2f} times beside {len(answers) / busy:.0f}/s"
    assert set(answers) <= {"answered", "RESOURCE_EXHAUSTED"}, "by the quota, or by the calls at a time"
    assert answers.count("answered") > busy, told
    assert len(answers) > 100 * busy, told
    assert slower <= 1.2, told
