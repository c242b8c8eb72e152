"""Mirrored prints: the template and its ridges as a mirror shows them, and how a comparison says so."""

import io
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from minutiae import finger, mate
from nodes import Served, as_png, enrolled_as, message_of, picture, serving
from PIL import Image, ImageOps

from enroll.image import read_image
from enroll.pipeline import extract
from enroll.ridges import describe
from matcher.codecs import encode
from matcher.compare import compare, prepare
from matcher.ridges import HEAD, PERIODS, RidgeGrid, check, mirrored, pack, unpacked
from matcher.template import Finger, Template
from papilar import cli
from papilar.api.v1 import matching_pb2, types_pb2
from papilar.explanation import MIRRORED, mirrored_score
from papilar.requests import Enrollment, PrintInput

pytestmark = pytest.mark.usefixtures("extracted_once")

WIDTH = 300


def flipped(png: bytes) -> bytes:
    """A picture with left and right exchanged."""
    return as_png(np.asarray(ImageOps.mirror(Image.open(io.BytesIO(png)))))


@st.composite
def grids(draw: st.DrawFn) -> RidgeGrid:
    rows, columns = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    weight = random.integers(0, 8, (rows, columns))
    kept = weight > 0
    places = np.repeat(np.repeat(kept, 2, axis=0), 2, axis=1)
    return RidgeGrid(
        draw(st.integers(8, 16)),
        draw(st.integers(-20, 400)),
        draw(st.integers(-20, 400)),
        random.integers(0, 64, (rows, columns)) * draw(st.integers(0, 1)) * kept,
        random.integers(0, 8, (rows, columns)) * kept,
        weight,
        random.integers(0, 8, (2 * rows, 2 * columns)) * places,
    )


# ---- the ridge description


@given(grids())
def test_what_is_packed_is_unpacked(grid: RidgeGrid) -> None:
    for one, other in zip(unpacked(pack(grid)), grid, strict=True):
        assert np.array_equal(one, other)


@given(grids(), st.integers(1, 1000))
def test_mirrored_twice_is_the_same_description(grid: RidgeGrid, width: int) -> None:
    data = pack(grid)
    once = mirrored(data, width)
    check(once)
    assert mirrored(once, width) == data


def _wave(grid: RidgeGrid, row: int, column: int, x: float, y: float) -> float:
    """Value at (x, y) of the wave of a place; see `matcher.ridges`."""
    angle = grid.direction[row // 2, column // 2] * np.pi / 64
    k = 2 * np.pi / PERIODS[grid.period[row // 2, column // 2]]
    along = np.cos(angle) * (x - grid.x - grid.step * column)
    along -= np.sin(angle) * (y - grid.y - grid.step * row)
    return float(np.cos(k * along + grid.phase[row, column] * np.pi / 4))


@given(grids())
def test_every_wave_is_seen_in_the_mirror(grid: RidgeGrid) -> None:
    """At every place, and beside it, the mirrored wave is the wave of the mirrored point."""
    other = unpacked(mirrored(pack(grid), WIDTH))
    rows, columns = grid.phase.shape
    for row in range(rows):
        for column in range(columns):
            if grid.weight[row // 2, column // 2]:
                x, y = grid.x + grid.step * column + 1.7, grid.y + grid.step * row + 2.3
                seen = _wave(other, row, columns - 1 - column, WIDTH - 1 - x, y)
                assert seen == pytest.approx(_wave(grid, row, column, x, y))


def test_no_description_and_one_beyond_all_images() -> None:
    assert mirrored(b"", WIDTH) == b""
    one = np.ones((1, 1), np.int64)
    far = pack(RidgeGrid(8, -(2**15), 0, one, one, one, np.zeros((2, 2), np.int64)))
    assert mirrored(far, 32_767) == b"", "its place cannot be written"
    assert HEAD.unpack_from(mirrored(far, 1))[3] == 2**15 - 8


def test_the_description_of_the_mirrored_image_is_the_mirrored_description() -> None:
    """Nearly: codes are rounded, and the image is looked at in steps of two pixels."""
    pixels = np.asarray(Image.open(io.BytesIO(picture(3))).convert("L"))[:400, :272]
    mask, turned = np.zeros(pixels.shape, bool), np.zeros(pixels.shape, bool)
    mask[40:360, 24:248] = True
    turned[40:360, 23:247] = True  # whole cells, and places of both grids on each other
    one = unpacked(mirrored(describe(pixels, mask), pixels.shape[1]))
    other = unpacked(describe(np.ascontiguousarray(pixels[:, ::-1]), turned))
    assert one[:3] == other[:3]
    both = (one.weight > 3) & (other.weight > 3)
    assert both.sum() > 150
    turn = (one.direction - other.direction + 32) % 64 - 32
    assert (np.abs(turn) <= 1)[both].mean() > 0.97
    apart = (one.phase - other.phase + 4) % 8 - 4
    places = np.repeat(np.repeat(both & (np.abs(turn) <= 1), 2, axis=0), 2, axis=1)
    assert (np.abs(apart) <= 1)[places].mean() > 0.95


# ---- the template


def test_mirrored_twice_is_the_same_template() -> None:
    grid = np.ones((2, 2), np.int64)
    ridges = pack(RidgeGrid(9, 40, 50, grid, grid, grid, np.ones((4, 4), np.int64)))
    one = replace(finger(3, code=Finger.LEFT_RING), ridges=ridges, print_quality=77)
    once, again = one.mirrored(), one.mirrored().mirrored()
    assert once != one
    assert once.ridges != one.ridges
    assert np.array_equal(again.xy, one.xy)
    assert np.allclose(again.angle, one.angle, atol=1e-6)
    for name in ("kind", "quality"):
        assert np.array_equal(getattr(again, name), getattr(one, name))
    for name in ("size", "finger", "print_quality", "impression"):
        assert getattr(again, name) == getattr(once, name) == getattr(one, name)
    assert again.ridges == one.ridges


def test_a_minutia_is_seen_in_the_mirror() -> None:
    """At the left edge, to the right and up; so at the right edge, to the left and up."""
    one = Template.of([(0, 20)], [0.3], [1], [50], size=(WIDTH, 400)).mirrored()
    assert one.xy.tolist() == [[WIDTH - 1, 20]]
    assert one.angle[0] == pytest.approx(np.pi - 0.3)


def test_the_template_of_the_mirrored_image_is_the_mirrored_template() -> None:
    straight, turned = (extract(read_image(one)).template for one in (picture(3), flipped(picture(3))))
    found = compare(prepare(straight.mirrored()), prepare(turned))
    assert len(found.pairs) > 0.8 * len(turned)
    assert np.abs(found.transform).max() < 2
    assert {part.name: part.measured for part in found.parts}["ridges"] > 0.8
    assert compare(prepare(straight), prepare(turned)).score < found.score - 5


# ---- what is said of a pair


def test_only_a_red_score_is_asked_about_and_only_a_green_one_is_told() -> None:
    first, other = finger(3), mate(finger(3), 1, turn=0.3).template
    found = compare(prepare(other.mirrored()), prepare(first))
    told = mirrored_score(found, other.mirrored(), first)
    assert told is not None
    assert told > found.score + 5
    mates = compare(prepare(other), prepare(first))
    assert mirrored_score(mates, other, first) is None
    stranger = finger(9)
    strangers = compare(prepare(stranger), prepare(first))
    assert mirrored_score(strangers, stranger, first) is None


# ---- the contract, over a socket


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("mirrored")
    with serving(folder / "gallery", max_message_bytes=2_000_000) as served:
        yield served


def verified(served: Served, probe: bytes, reference: bytes) -> matching_pb2.VerifyResponse:
    brought = matching_pb2.PrintSet(prints=message_of(PrintInput(image=reference)))
    probes = message_of(PrintInput(image=probe))
    return served.client.verify(matching_pb2.VerifyRequest(probe=probes, reference_prints=brought))


def test_verify_says_that_an_image_is_mirrored_and_keeps_its_score(served: Served) -> None:
    said = verified(served, flipped(picture(3, 1)), picture(3))
    assert said.HasField("mirrored_score")
    assert said.band == types_pb2.BAND_RED
    assert not said.reached
    assert said.score == said.comparisons[0].score < said.threshold.score
    right = verified(served, picture(3, 1), picture(3))
    assert said.mirrored_score == pytest.approx(right.score, abs=6)
    assert not right.HasField("mirrored_score")
    assert right.band == types_pb2.BAND_GREEN
    assert verified(served, flipped(picture(3, 1)), flipped(picture(3))).band == types_pb2.BAND_GREEN


def test_a_mirrored_stranger_is_a_stranger(served: Served) -> None:
    for probe in (picture(4, 1), flipped(picture(4, 1))):
        said = verified(served, probe, picture(3))
        assert said.band == types_pb2.BAND_RED
        assert not said.HasField("mirrored_score")


def test_several_fingers_of_a_subject_are_mirrored_together(served: Served) -> None:
    fingers = (Finger.RIGHT_THUMB, Finger.RIGHT_INDEX)
    served.client.enroll(
        Enrollment(tuple(enrolled_as(k, f) for k, f in enumerate(fingers, 1)), subject_id="two")
    )
    probe = [
        PrintInput(f, template=encode(mate(finger(k, 36), 1).template.mirrored(), "papilar-2"))
        for k, f in enumerate(fingers, 1)
    ]
    request = matching_pb2.VerifyRequest(probe=message_of(*probe), subject_id="two", include_evidence=True)
    said = served.client.verify(request)
    alone = served.client.verify(matching_pb2.VerifyRequest(probe=message_of(probe[0]), subject_id="two"))
    assert said.mirrored_score > alone.mirrored_score > 3
    assert said.score < 0


def test_identify_says_that_an_image_is_mirrored_and_names_nobody(served: Served) -> None:
    enrolled = [Enrollment((PrintInput(image=picture(seed)),), subject_id=f"s{seed}") for seed in (3, 4)]
    for one in enrolled:
        served.client.enroll(one)
    asked = [message_of(PrintInput(image=image)) for image in (flipped(picture(3, 1)), picture(3, 1))]
    said, right = (
        served.client.identify(matching_pb2.IdentifyRequest(probe=probe, target_fpir=0.001))
        for probe in asked
    )
    assert not said.candidates
    assert right.candidates[0].subject_id == "s3"
    assert said.mirrored_score == pytest.approx(right.candidates[0].score, abs=6)
    assert not right.HasField("mirrored_score")
    short = matching_pb2.IdentifyRequest(probe=asked[0], target_fpir=0.001, skip_mirrored=True)
    assert not served.client.identify(short).HasField("mirrored_score")
    stranger = message_of(PrintInput(image=picture(8)))
    assert not served.client.identify(matching_pb2.IdentifyRequest(probe=stranger)).HasField("mirrored_score")


def test_a_description_beyond_all_images_does_no_harm(served: Served) -> None:
    one = np.ones((1, 1), np.int64)
    far = pack(RidgeGrid(8, -(2**15), 0, one, one, one, np.zeros((2, 2), np.int64)))
    xy = np.random.default_rng(0).integers(0, 30_000, (40, 2))
    wide = Template.of(xy, xy[:, 0], [1] * 40, [50] * 40, size=(32_767, 32_767), ridges=far)
    probe = message_of(PrintInput(template=encode(wide, "papilar-2")))
    brought = matching_pb2.PrintSet(prints=message_of(enrolled_as(1)))
    said = served.client.verify(matching_pb2.VerifyRequest(probe=probe, reference_prints=brought))
    assert not said.HasField("mirrored_score")


# ---- the command


def told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *files: Path) -> Any:
    """What `papilar compare` says: as JSON, and as a person sees it."""
    shown = []
    for more in (["--json"], []):
        monkeypatch.setattr(sys, "argv", ["papilar", "compare", *map(str, files), "--ppi", "500", *more])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        assert not ended.value.code
        shown.append(capsys.readouterr().out)
    return json.loads(shown[0]), shown[1]


def check_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path, *prints: bytes
) -> None:
    """A mirrored mate is told, with its score kept; a mate, a stranger and a mirrored stranger are not."""
    reference, same, other = prints
    files = [folder / f"{k}.png" for k in range(5)]
    for file, data in zip(files, (reference, same, flipped(same), other, flipped(other)), strict=True):
        file.write_bytes(data)
    report, words = told(monkeypatch, capsys, files[2], files[0])
    assert report["band"] == "red"
    assert report["mirrored_score"] > report["score"] + 3
    assert report["warnings"] == [MIRRORED]
    assert MIRRORED in words
    for file in (files[1], files[3], files[4]):
        report, words = told(monkeypatch, capsys, file, files[0])
        assert (report["mirrored_score"], report["warnings"]) == (None, [])
        assert "mirrored" not in words


def test_compare_says_that_an_image_is_mirrored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    check_command(monkeypatch, capsys, tmp_path, picture(3), picture(3, 1), picture(4, 1))


@pytest.mark.datasets
def test_compare_says_that_a_real_image_is_mirrored(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, datasets: Path
) -> None:
    folder = datasets / "fvc2004" / "DB1_B"
    pngs = [
        as_png(np.asarray(Image.open(folder / f"{name}.tif").convert("L")))
        for name in ("102_2", "102_1", "103_2")
    ]
    check_command(monkeypatch, capsys, tmp_path, *pngs)
