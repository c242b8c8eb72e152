"""What extraction adapts to: white ridges, what lies beside the print, and any turn of it."""

from dataclasses import replace
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest

from benchmarks.synthetic.finger import finger
from benchmarks.synthetic.press import Conditions, impression
from enroll import pipeline
from enroll.image import GrayImage, read_image, resample
from enroll.leader import Planes
from enroll.minutiae import DEFAULT, believed, to_template
from enroll.pipeline import extract, network
from enroll.polarity import white_ridges
from enroll.quality import Reason
from enroll.segment import foreground, survey
from matcher.compare import compare, prepare
from matcher.template import Impression

FVC_PPI = {("fvc2002", "DB2_B"): 569, ("fvc2004", "DB3_B"): 512}


@cache
def pressed(seed=1, background=252.0):
    conditions = replace(Conditions.clean(), background=background)
    return impression(finger(seed), 1, conditions=conditions).pixels


def gray(pixels):
    return GrayImage(np.array(pixels, np.uint8), 500.0, "")


def white(pixels):
    pixels = np.ascontiguousarray(pixels, np.uint8)
    return white_ridges(pixels, foreground(pixels), network().planes(pixels))


# ---- white ridges


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_white_ridges_are_seen_and_dark_ones_left(seed):
    assert not white(pressed(seed))
    assert white(255 - pressed(seed))


def test_where_the_image_does_not_tell_it_is_left_as_it_is():
    inner = pressed()[140:340, 100:280]
    assert not white(inner)
    assert not white(255 - inner)  # no background: neither of the two is surely inverted
    assert not white(np.full((200, 200), 40))


@pytest.mark.parametrize("turns", range(4))
def test_uneven_light_does_not_invert_dark_ridges(turns):
    pixels = np.rot90(pressed(), turns)
    assert not white(pixels * np.linspace(0.1, 1.0, pixels.shape[1]))


def test_a_ground_dark_here_and_there_needs_the_kinds_of_the_minutiae():
    pixels = 255 - pressed()
    mask = foreground(pixels)
    patches = np.random.default_rng(1).random((60, 49)) < 0.15
    light = patches.repeat(8, axis=0).repeat(8, axis=1)[: pixels.shape[0], : pixels.shape[1]]
    pixels = np.where(light & ~mask, 200, pixels).astype(np.uint8)
    planes = network().planes(pixels)
    bifurcations, endings = np.zeros_like(planes.type_), np.ones_like(planes.type_)
    assert white_ridges(pixels, mask, replace(planes, type_=bifurcations))
    assert not white_ridges(pixels, mask, replace(planes, type_=endings))
    assert not white_ridges(255 - pixels, mask, replace(planes, type_=bifurcations))


def test_extraction_inverts_white_ridges_and_says_so():
    normal, inverted = extract(gray(pressed())), extract(gray(255 - pressed()))
    assert Reason.WHITE_RIDGES in inverted.quality.reasons
    assert not inverted.rejected
    assert "inverted" in inverted.image.warnings[0]
    assert inverted.image.pixels.tobytes() == pressed().tobytes()
    assert inverted.template == normal.template
    assert Reason.WHITE_RIDGES not in normal.quality.reasons
    assert normal.image.warnings == ()


def test_a_photograph_of_a_finger_is_never_inverted():
    found = extract(gray(255 - pressed()), impression=Impression.LIVE_CONTACTLESS_PLAIN)
    assert Reason.WHITE_RIDGES not in found.quality.reasons
    assert found.image.pixels.tobytes() == (255 - pressed()).tobytes()


@pytest.mark.datasets
@pytest.mark.parametrize(
    ("fingers", "count"), [("1", 8), pytest.param("[1-4]", 32, marks=pytest.mark.soak)], ids=["few", "all"]
)
def test_no_real_print_is_inverted_and_most_inversions_are_seen(datasets: Path, fingers: str, count: int):
    """The few have one finger of each sensor; all of them take 20 s."""
    seen = []
    for year in ("fvc2002", "fvc2004"):
        for path in sorted((datasets / year).glob(f"DB?_B/10{fingers}_1.tif")):
            ppi = FVC_PPI.get((year, path.parent.name), 500)
            pixels = resample(read_image(path.read_bytes(), ppi=ppi)).pixels
            assert not white(pixels), path
            seen.append(white(255 - pixels))
    assert len(seen) == count
    assert sum(seen) >= count / 2  # 65 % of all: a thermal sensor's grey ground tells nothing


# ---- what lies beside the print


def planes_of(rows, shape=(200, 300)):
    """Make planes with minutiae at (x, y, quality)."""
    quality = np.zeros(shape, np.float32)
    for x, y, value in rows:
        quality[y, x] = value
    zero = np.zeros(shape, np.float32)
    return Planes(zero, zero, zero, quality)


def left_half(shape=(200, 300)):
    mask = np.zeros(shape, bool)
    mask[:, :100] = True
    return mask


GOOD = [(10 * i, 50, 0.9) for i in range(1, 10)]


def test_minutiae_three_ridges_beside_the_print_are_dropped():
    near = believed(planes_of([*GOOD, (200, 100, 0.9)]), left_half())
    assert near[:, : 100 + int(DEFAULT.reach) - 1].all()
    assert not near[:, 100 + int(DEFAULT.reach) + 1 :].any()


def test_a_foreground_in_doubt_drops_nothing():
    outside = [(200 + 5 * i, 100, 0.9) for i in range(4)]
    assert believed(planes_of([*GOOD, *outside]), left_half()).all()
    assert believed(planes_of(GOOD), np.zeros((200, 300), bool)).all()
    faint = [(x, y, 0.2) for x, y, _ in outside]  # below what counts as a minutia
    assert not believed(planes_of([*GOOD, *faint]), left_half()).all()


def test_the_ghost_of_another_print_is_not_extracted():
    """A patch of faint ridges in the corner, as one print leaves on the glass for the next."""
    pixels = np.full((480, 640), 252, np.uint8)
    pixels[:, :388] = pressed()
    alone = extract(gray(pixels))
    ghost = pressed(3)[150:300, 100:220].astype(float)
    pixels[150:300, 500:620] = np.rint(252 - (252 - ghost) / 40)
    planes = network().planes(pixels)
    x = np.nonzero(planes.quality >= DEFAULT.quality)[1]
    assert (x > 480).any()  # the network alone believes in it
    found = extract(gray(pixels))
    assert found.template.xy[:, 0].max() < 480
    assert len(found.template) == pytest.approx(len(alone.template), abs=3)


# ---- any turn


@cache
def upright(side=640):
    """A print in the middle of a square, and what is extracted from it."""
    field = np.full((side, side), 252, np.uint8)
    field[80:560, 126:514] = pressed()
    return field, extract(gray(field))


@pytest.mark.parametrize("degrees", [45, 90, 180, 225, 315])
def test_extraction_does_not_depend_on_how_the_print_is_turned(degrees):
    field, first = upright()
    side = len(field)
    middle = (side - 1) / 2
    motion = cv2.getRotationMatrix2D((middle, middle), degrees, 1)
    turned = cv2.warpAffine(field, motion, (side, side), flags=cv2.INTER_CUBIC, borderValue=252)
    second = extract(gray(turned))
    expected = first.template.xy @ motion[:, :2].T + motion[:, 2]
    apart = np.linalg.norm(expected[:, None] - second.template.xy[None], axis=2)
    turn = np.cos(first.template.angle[:, None] + np.deg2rad(degrees) - second.template.angle[None])
    again = ((apart < 8) & (turn > np.cos(np.pi / 8))).any(axis=1)
    assert again.mean() > 0.9
    assert not second.rejected
    assert second.quality.score == pytest.approx(first.quality.score, abs=10)


@pytest.mark.datasets
@pytest.mark.parametrize("finger", [103, 105, 107])
def test_an_inversion_that_is_not_seen_hardly_costs_a_mate(datasets: Path, finger: int):
    """The comparison finds the ridges in the valleys of the other print, says so, and takes it back."""
    folder = datasets / "fvc2004" / "DB3_B"
    first, second = (read_image((folder / f"{finger}_{k}.tif").read_bytes(), ppi=512) for k in (1, 2))
    reference, probe = prepare(extract(first).template), prepare(extract(second).template)
    inverted = extract(replace(second, pixels=255 - second.pixels))
    assert Reason.WHITE_RIDGES not in inverted.quality.reasons, "seen: the test wants one that is not"
    straight, found = compare(probe, reference), compare(prepare(inverted.template), reference)
    assert (straight.opposed, found.opposed) == (False, True)
    assert found.score > 0.7 * straight.score > 4


# ---- how much of the image the network is shown


def on_a_sheet(patch, contrast=1.0):
    """A print on the lower left of a large sheet, and a patch of ridges of less contrast far from it."""
    sheet = np.full((700, 800), 252, np.uint8)
    sheet[200:680, 8:396] = pressed()
    far = patch[200:300, 100:200].astype(float)
    sheet[40:140, 660:760] = np.rint(252 - (252 - far) * contrast)
    return sheet


@pytest.fixture
def shown(monkeypatch):
    """The extents that the network is given, in order."""
    seen = []

    class Watched:
        def planes(self, pixels, *, extent=None):
            seen.append(extent)
            return loaded.planes(pixels, extent=extent)

    loaded = network()
    monkeypatch.setattr(pipeline, "network", Watched)
    return seen


def test_nothing_ridge_like_is_left_out_however_faint_or_small():
    alone = survey(on_a_sheet(np.full((480, 388), 252)))
    (top, bottom), (left, right) = alone.extent
    assert top >= 150
    assert (bottom, left) == (pytest.approx(680, abs=24), pytest.approx(8, abs=24))
    assert right <= 440
    for contrast in (1.0, 0.3, 0.1):
        found = survey(on_a_sheet(pressed(3), contrast))
        (top, _), (_, right) = found.extent
        assert top <= 60
        assert right >= 740
    assert survey(np.full((300, 400), 252, np.uint8)).extent is None


def test_the_mask_lies_within_the_extent():
    for seed in (1, 2, 3):
        mask, ((top, bottom), (left, right)) = survey(pressed(seed))
        outside = mask.copy()
        outside[top - 8 if top > 8 else 0 : bottom + 8, left - 8 if left > 8 else 0 : right + 8] = False
        assert not outside.any()


def test_the_network_sees_no_empty_sheet(shown):
    extract(gray(on_a_sheet(np.full((480, 388), 252))))
    ((_, (_, right)),) = shown
    assert right <= 440


def test_a_latent_and_a_small_print_are_seen_whole(shown):
    extract(gray(on_a_sheet(np.full((480, 388), 252))), impression=Impression.LATENT_IMPRESSION)
    small = np.full((700, 800), 252, np.uint8)
    small[500:620, 100:220] = pressed()[180:300, 130:250]
    extract(gray(small))
    extract(gray(np.full((300, 400), 252)))
    assert shown == [None, None, None]


def test_a_second_print_far_from_the_first_loses_nothing(shown):
    """Of another size and fainter, so that the mask leaves it out: in doubt, its minutiae count."""
    sheet = gray(on_a_sheet(pressed(3), 0.1))
    found = extract(sheet)
    planes = network().planes(sheet.pixels)
    mask = foreground(sheet.pixels)
    whole = to_template(planes, mask=believed(planes, mask))
    assert len(found.template) == pytest.approx(len(whole), abs=2)
