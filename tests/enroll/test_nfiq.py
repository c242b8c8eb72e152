"""NFIQ 2: what it says of prints, and that no image, however strange, harms the process that asks."""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from queue import SimpleQueue

import cv2
import needs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.synthetic import finger, impression
from enroll import nfiq
from enroll.image import GrayImage, read_image
from enroll.nfiq import FAILED, UNAVAILABLE, Nfiq, nfiq2

pytestmark = needs.NBIS


def image(pixels, ppi=500.0):
    return GrayImage(np.ascontiguousarray(pixels, np.uint8), ppi, "")


@cache
def picture(seed=1):
    return impression(finger(seed), 0).pixels


def lies_idle():
    """Take the one process that waits for work, and end all others."""
    nfiq2(image(np.zeros((20, 20))))
    idle = nfiq._idle(os.getpid())
    for _ in range(idle.qsize() - 1):
        nfiq._end(idle.get_nowait())
    return idle.get_nowait()


def test_a_print_has_a_score_its_version_and_what_it_rests_on():
    found = nfiq2(image(picture()))
    assert 20 < found.score <= 100
    assert found.version == "2.3.0 (nbis-py 0.1.3)"
    assert found.reason == ""
    assert len(found.features) == 69
    assert 10 < found.features["FingerJetFX_MinutiaeCount"] < 200


def test_it_is_the_same_whatever_came_before_and_in_every_thread():
    images = [image(picture(1)), image(picture(2)), image(np.full((300, 300), 255)), image(picture(1)[40:])]
    first = [nfiq2(one) for one in images]
    assert [nfiq2(one) for one in images[::-1]] == first[::-1]
    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(nfiq2, images * 3)) == first * 3


def test_it_presumes_a_print_so_that_it_never_stands_alone():
    noise = np.random.default_rng(0).integers(0, 256, (400, 300))
    assert nfiq2(image(noise)).score > 20


def test_any_resolution_is_brought_to_500_ppi():
    twice = cv2.resize(picture(), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert nfiq2(image(twice, 1000.0)).score == pytest.approx(nfiq2(image(picture())).score, abs=8)


@pytest.mark.parametrize("shade", [0, 128, 255])
def test_a_blank_image_has_no_score(shade):
    assert nfiq2(image(np.full((400, 300), shade))) == Nfiq(None, nfiq.version(), reason=FAILED)


@pytest.mark.parametrize("side", [1, 8, 9, 12, 16])
def test_what_may_end_the_library_s_process_is_no_score_and_the_next_print_has_one(side):
    assert nfiq2(image(np.zeros((side, side)))).reason == FAILED
    assert nfiq2(image(picture())).score


def test_a_process_that_was_killed_meanwhile_is_replaced():
    worker = lies_idle()
    worker.kill()
    worker.wait(10)
    nfiq._idle(os.getpid()).put(worker)
    assert nfiq2(image(picture())).score
    assert worker.stdin.closed


def test_a_process_that_takes_too_long_is_ended(monkeypatch):
    monkeypatch.setattr(nfiq, "SECONDS", 0.0)
    assert nfiq2(image(picture())).reason == FAILED
    monkeypatch.undo()
    assert nfiq2(image(picture())).score


def test_no_print_stays_in_the_memory_by_which_it_is_handed_over():
    worker = lies_idle()
    nfiq._idle(os.getpid()).put(worker)
    assert nfiq2(image(picture())).score
    files = [file for file in Path(f"/proc/{worker.pid}/fd").iterdir() if "memfd" in str(file.readlink())]
    assert [file.stat().st_size for file in files] == [0]


def test_where_memory_has_no_name_a_print_is_handed_over_as_bytes(tmp_path, monkeypatch):
    elsewhere = tmp_path / "worker.py"
    without = "import nbis, os, runpy, sys; sys.platform = 'darwin'; del os.memfd_create"
    elsewhere.write_text(f"{without}\nrunpy.run_path({str(nfiq._WORKER)!r}, run_name='__main__')\n")
    here, own = nfiq2(image(picture())), SimpleQueue()
    monkeypatch.setattr(nfiq, "_WORKER", elsewhere)
    monkeypatch.setattr(nfiq, "_idle", lambda process: own)
    assert nfiq2(image(picture())) == here
    assert here.score
    nfiq._end(own.get_nowait())


@settings(max_examples=25)
@given(st.integers(1, 420), st.integers(1, 420), st.sampled_from(["noise", "ridges", "print"]))
def test_no_size_and_no_content_raises(height, width, kind):
    y, x = np.mgrid[:height, :width]
    contents = {
        "noise": lambda: np.random.default_rng(height).integers(0, 256, (height, width)),
        "ridges": lambda: 127 + 120 * np.sin(np.hypot(x - width / 2, y - height) * 0.7),
        "print": lambda: np.resize(picture()[-height:, :width], (height, width)),
    }
    found = nfiq2(image(contents[kind]()))
    assert (found.score is None) == (found.reason == FAILED)
    assert found.score is None or 0 <= found.score <= 100


def test_of_a_card_the_middle_is_judged_and_of_a_sheet_nothing():
    card = np.full((1010, 900), 235, np.uint8)
    card[::1009] = card[:, ::899] = 0  # its frame: NFIQ 2 itself takes off white margins alone
    height, width = picture().shape
    card[300 : 300 + height, 250 : 250 + width] = picture()
    assert nfiq2(image(card)).score == pytest.approx(nfiq2(image(picture())).score, abs=15)
    sheet = np.pad(card, ((0, 900), (0, 0)), mode="edge")
    assert nfiq2(image(sheet)).reason == FAILED


def test_where_it_is_not_installed_there_is_a_reason(monkeypatch):
    monkeypatch.setattr(nfiq, "find_spec", lambda name: None)
    assert nfiq2(image(picture())) == Nfiq(None, "", reason=UNAVAILABLE)


@pytest.mark.datasets
def test_real_prints_have_plausible_scores(datasets: Path):
    def scores(paths):
        return [nfiq2(read_image(path.read_bytes(), ppi=500)).score for path in sorted(paths)]

    good, poor = (scores((datasets / "fvc2002" / name).glob("*_1.tif")) for name in ("DB1_B", "DB3_B"))
    assert len(good) == len(poor) == 10
    assert np.median(poor) < 35 < 55 < np.median(good) < 85
    assert all(scores((datasets / "formats" / "rolled_cards").glob("card0001*.bmp")))
