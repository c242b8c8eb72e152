"""The network's graph against the published conversion of it, its cache, and the minutiae taken from it."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from benchmarks import extraction
from benchmarks.synthetic.finger import finger
from benchmarks.synthetic.press import Conditions, impression
from enroll import kernels, leader
from enroll.errors import ImageTooSmall
from enroll.leader import Leader, Planes, network
from enroll.minutiae import MinutiaeParameters, to_template
from matcher.errors import InvalidInput, PapilarError, TemplateOutOfBounds
from matcher.template import Finger, Impression, Kind


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def loaded(cache):
    return leader.load(cache)


@pytest.mark.parametrize("load", ["enroll.leader", "papilar.cli", "benchmarks.__main__"])
def test_the_runtime_does_not_report_on_its_use(load, tmp_path):
    """Its telemetry writes a session's number into the temporary folder before it sends anything."""
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    subprocess.run([sys.executable, "-c", f"import {load}, onnxruntime"], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []


def ridges(height, width, period=9.0, seed=0):
    """Make a noisy pattern of ridges, with minutiae where the noise breaks them."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    wave = np.cos(2 * np.pi * np.hypot(y - height / 2, x + 20) / period)
    return np.clip(128 + 90 * wave + rng.normal(0, 40, (height, width)), 0, 255).astype(np.uint8)


@lru_cache(maxsize=1)
def made_up():
    return impression(finger(3), 1, conditions=Conditions.clean()).pixels


def cut(height, width, top=100, left=60):
    """Cut a part out of a made-up print."""
    return np.ascontiguousarray(made_up()[top : top + height, left : left + width])


def same(one, other):
    return all(
        getattr(one, name).tobytes() == getattr(other, name).tobytes()
        for name in ("position", "direction", "type_", "quality")
    )


@pytest.mark.datasets
def test_same_minutiae_as_the_naive_export_on_real_prints(datasets, loaded):
    images = extraction.sample(datasets, 1)
    assert len({image.name.split("/")[0] for image in images}) >= 8
    theirs, total, common = extraction.naive(), 0, 0
    for image in images:
        ours = loaded.planes(image.pixels)
        reference = theirs(image.pixels)
        # The export spells GELU with tanh; all else is exact, so nothing moves by more than this.
        np.testing.assert_allclose(ours.position, reference.position, atol=0.01)
        detailed = ours.quality >= leader.DETAILED
        np.testing.assert_allclose(ours.type_[detailed], reference.type_[detailed], atol=0.01)
        first, second = to_template(reference, threshold=0.3), to_template(ours, threshold=0.3)
        assert abs(len(first) - len(second)) <= 1
        total += len(first) + len(second)
        common += extraction.kept(first, second) + extraction.kept(second, first)
    assert total > 500
    assert common / total >= 0.995


def tanh_gelu(x):
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


def erf_gelu(x):
    return 0.5 * x * (1 + special.erf(x / np.sqrt(2)))


def naive_stem(field, weights, largest, gelu=erf_gelu):
    """The first layers pixel by pixel, in double precision."""
    height, width = (side - 2 * kernels.BORDER for side in field.shape)
    taps, (bias, scale, offset) = weights[:, :25].reshape(-1, 5, 5), weights[:, 25:].T.astype(float)
    steps = np.where(2 * np.arange(len(weights)) < len(weights), 1, 2)
    out = np.zeros((len(weights), height, width))
    for channel, i, j in np.ndindex(len(weights), 5, 5):
        y, x = (kernels.BORDER + (at - 2) * steps[channel] for at in (i, j))
        out[channel] += taps[channel, i, j] * field[y : y + height, x : x + width].astype(float)
    out += bias[:, None, None]
    out = (out - out.mean(axis=0)) / np.sqrt(out.var(axis=0) + 1e-3)
    out = gelu(out * scale[:, None, None] + offset[:, None, None])
    blocks = out.reshape(len(weights), height // 2, 2, width // 2, 2)
    return (blocks.max(axis=(2, 4)) if largest else blocks.mean(axis=(2, 4))).astype(np.float32)


# Not two channels: now and then they are equal in a pixel, and what remains to be normalised is rounding.
@given(st.integers(0, 2**32 - 1), st.sampled_from([8, 16, 32]), st.booleans())
@settings(max_examples=25, deadline=None)
def test_the_first_layers_equal_their_naive_twin(seed, channels, largest):
    rng = np.random.default_rng(seed)
    height, width = 2 * rng.integers(1, 12, 2)
    field = np.pad(rng.uniform(0, 255, (height, width)), kernels.BORDER).astype(np.float32)
    weights = rng.normal(0, 1, (channels, 28)).astype(np.float32)
    got = kernels.stem(field, weights, largest)
    np.testing.assert_allclose(got, naive_stem(field, weights, largest), atol=2e-4, rtol=1e-5)


def test_the_first_layers_gelu_is_exact_to_a_millionth():
    """One channel per pair is the other's opposite: normalised they are plus and minus one, then scaled."""
    weights = np.zeros((2, 28), np.float32)
    weights[:, 12] = 1, -1
    field = np.pad(np.full((2, 2), 1e4, np.float32), kernels.BORDER)
    for x in np.linspace(-9, 9, 181):
        weights[:, 26] = x
        got = kernels.stem(field, weights, True)[:, 0, 0]
        np.testing.assert_allclose(got, erf_gelu(np.array([x, -x])), atol=5e-6)


@pytest.mark.parametrize("size", [(1, 1), (31, 33), (65, 97), (96, 64), (160, 131)])
def test_equals_the_naive_export_up_to_its_gelu(size, monkeypatch):
    """With the export's tanh in place of erf the graphs agree to rounding: the rewriting is exact."""
    monkeypatch.setattr(network._Graph, "gelu", lambda g, x: g.same("Gelu", x, approximate="tanh"))
    monkeypatch.setattr(leader, "stem", lambda *stem: naive_stem(*stem, gelu=tanh_gelu))
    ours = Leader(network.build(leader.weights_path()))
    pixels = cut(*size)
    got, expected = ours.planes(pixels), extraction.naive()(pixels)
    np.testing.assert_allclose(got.position, expected.position, atol=1e-3)
    detailed = got.quality >= leader.DETAILED
    assert size[0] < 100 or detailed.any()
    np.testing.assert_allclose(got.type_[detailed], expected.type_[detailed], atol=1e-3)
    turned = np.angle(np.exp(1j * (got.direction - expected.direction)))[detailed]
    assert np.abs(turned).max(initial=0) < 0.01
    assert not got.direction[~detailed].any()
    assert not got.type_[~detailed].any()


def at_the_edge(planes, edge):
    """Where direction and type are computed, four pixels from an edge."""
    rim = np.zeros(planes.quality.shape, bool)
    rim[{"top": np.s_[:4], "left": np.s_[:, :4], "bottom": np.s_[-4:], "right": np.s_[:, -4:]}[edge]] = True
    return rim & (planes.quality >= leader.DETAILED)


@pytest.mark.parametrize("edge", ["top", "left", "bottom", "right"])
def test_minutiae_at_the_edge_of_the_field_equal_the_naive_exports(edge, loaded):
    """Whose last layers see zeros beyond it; the field is the image itself."""
    first = 100 + 32 * np.arange(4)
    parts = [cut(128, 128, top, left) for top in first for left in first]
    chosen = next(p for p in parts if at_the_edge(loaded.planes(p), edge).any())
    got, expected = loaded.planes(chosen), extraction.naive()(chosen)
    detailed = at_the_edge(got, edge)
    np.testing.assert_allclose(got.type_[detailed], expected.type_[detailed], atol=0.02)
    turned = np.angle(np.exp(1j * (got.direction - expected.direction)))[detailed]
    assert np.abs(turned).max() < 0.05


def test_a_part_of_the_field_is_seen_as_within_it(loaded):
    """A print in the corner of a large sheet: what is cut off changes no minutia."""
    sheet = np.full((640, 800), 250, np.uint8)
    sheet[40:300, 50:290] = cut(260, 240)
    extent = ((40, 300), (50, 290))
    whole, part = loaded.planes(sheet), loaded.planes(sheet, extent=extent)
    assert part.position.shape == sheet.shape
    assert not part.position[450:].any()
    assert not part.position[:, 450:].any()
    first, second = to_template(whole, threshold=0.3), to_template(part, threshold=0.3)
    assert len(first) > 20
    assert extraction.kept(first, second) >= len(first) - 2
    assert extraction.kept(second, first) >= len(second) - 2


def test_a_part_that_saves_little_is_not_cut_out(loaded):
    pixels = ridges(320, 320)
    assert same(loaded.planes(pixels, extent=((0, 300), (0, 320))), loaded.planes(pixels))
    assert same(loaded.planes(pixels, extent=((0, 320), (0, 320))), loaded.planes(pixels))


@given(
    st.tuples(st.integers(1, 700), st.integers(1, 700)),
    st.tuples(*[st.tuples(st.integers(0, 699), st.integers(1, 700))] * 2),
)
def test_the_part_seen_holds_the_extent_and_its_margin_on_the_grid(shape, spans):
    extent = tuple(tuple(sorted((a % side, min(b, side)))) for (a, b), side in zip(spans, shape, strict=True))
    field, corner = leader._field(shape)
    for part, side, first, span in zip(
        leader._seen(extent, corner, field), field, corner, extent, strict=True
    ):
        assert part.start % 32 == part.stop % 32 == 0
        assert 0 <= part.start <= max(0, span[0] + first - leader.MARGIN)
        assert min(side, span[1] + first + leader.MARGIN) <= part.stop <= side


def test_planes_have_the_shape_of_the_pixels_and_are_read_only(loaded):
    planes = loaded.planes(ridges(65, 97))
    for plane in (planes.position, planes.direction, planes.type_, planes.quality):
        assert plane.shape == (65, 97)
        assert plane.dtype == np.float32
        assert not plane.flags.writeable
        assert np.isfinite(plane).all()
    assert planes.position.min() >= 0
    assert planes.position.max() <= 1
    assert np.abs(planes.direction).max() <= np.float32(np.pi)


def test_pixels_are_not_changed_and_may_be_a_view(loaded):
    pixels = ridges(130, 194)
    view = pixels[::2, ::2]
    before = pixels.copy()
    assert same(loaded.planes(view), loaded.planes(view.copy()))
    assert (pixels == before).all()


def test_border_is_the_first_pixels_grey(loaded):
    pixels = ridges(50, 70)
    padded = np.pad(pixels, ((7, 7), (13, 13)), constant_values=pixels[0, 0])
    assert padded.shape == (64, 96)
    assert (loaded.planes(pixels).position == loaded.planes(padded).position[7:57, 13:83]).all()


def test_a_blank_has_no_minutiae(loaded):
    assert len(to_template(loaded.planes(np.full((120, 100), 255, np.uint8)))) == 0


@pytest.mark.parametrize(
    "pixels",
    [np.zeros((8, 8), np.float32), np.zeros((8, 8, 3), np.uint8), np.zeros(8, np.uint8)],
    ids=["float", "colour", "line"],
)
def test_other_arrays_are_refused(loaded, pixels):
    with pytest.raises(InvalidInput, match="uint8"):
        loaded.planes(pixels)


def test_no_pixels_are_refused(loaded):
    with pytest.raises(ImageTooSmall):
        loaded.planes(np.zeros((0, 5), np.uint8))


def test_same_bytes_on_every_run_from_any_thread_and_session(loaded, cache):
    prints = [ridges(96, 128, seed=seed) for seed in range(3)] + [ridges(65, 97)]
    expected = [loaded.planes(pixels) for pixels in prints]
    with ThreadPoolExecutor(4) as pool:
        got = list(pool.map(loaded.planes, prints * 4))
    assert all(same(g, e) for g, e in zip(got, expected * 4, strict=True))
    other = leader.load(cache)
    assert all(same(other.planes(p), e) for p, e in zip(prints, expected, strict=True))


def test_graph_is_built_alike_every_time():
    assert network.build(leader.weights_path()) == network.build(leader.weights_path())


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_cache_is_one_file_named_by_the_version_and_used(tmp_path, monkeypatch):
    leader.load(tmp_path)
    assert files(tmp_path) == [f"leader-{Leader.version}.graph"]
    monkeypatch.setattr(leader, "build", lambda weights: pytest.fail("built again"))
    leader.load(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:2000] + bytes([data[2000] ^ 1]) + data[2001:],
        lambda data: b"X" + data[1:],
        lambda data: data + b"\0",
    ],
    ids=["empty", "short", "flipped", "magic", "long"],
)
def test_damaged_cache_is_rebuilt(cache, loaded, tmp_path, damage):
    (name,) = files(cache)
    whole = (cache / name).read_bytes()
    (tmp_path / name).write_bytes(damage(whole))
    pixels = ridges(64, 64)
    assert same(leader.load(tmp_path).planes(pixels), loaded.planes(pixels))
    assert (tmp_path / name).read_bytes() == whole
    assert files(tmp_path) == [name]


def test_cache_that_cannot_be_written_is_done_without(tmp_path, loaded):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    pixels = ridges(64, 64)
    assert same(leader.load(blocked / "cache").planes(pixels), loaded.planes(pixels))


def test_a_write_that_fails_leaves_nothing_behind(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError("no")

    monkeypatch.setattr(leader.os, "replace", refuse)
    leader.load(tmp_path)
    assert files(tmp_path) == []


def test_default_cache_is_the_users(tmp_path, monkeypatch):
    monkeypatch.setattr(leader.platformdirs, "user_cache_path", lambda name: tmp_path / name)
    leader.load()
    assert files(tmp_path / "papilar") == [f"leader-{Leader.version}.graph"]


def test_weights_are_the_pinned_ones_and_no_others_are_taken(tmp_path):
    assert leader.WEIGHTS_SHA256 == "0cbf12af936482d10ba54b23f40a9b192ab767df2f81bc96c5954585735fefe6"
    other = tmp_path / "LEADER.weights.h5"
    other.write_bytes(leader.weights_path().read_bytes() + b"\0")
    with pytest.raises(PapilarError, match=r"pyfing==0\.7\.3"):
        network.build(other)


@pytest.mark.parametrize("installed", [None, []], ids=["absent", "without weights"])
def test_missing_weights_are_named(tmp_path, monkeypatch, installed):
    def listed(name):
        if installed is None:
            raise leader.metadata.PackageNotFoundError(name)
        return installed

    monkeypatch.setattr(leader.metadata, "files", listed)
    with pytest.raises(PapilarError, match=r"pyfing==0\.7\.3"):
        leader.load(tmp_path)


def test_neither_keras_nor_pyfing_is_imported(cache):
    code = (
        "import sys; from pathlib import Path; from enroll import leader;"
        f"leader.load(Path({str(cache)!r})); leader.build(leader.weights_path());"
        "found = {'keras', 'tensorflow', 'torch', 'jax', 'pyfing'} & set(sys.modules);"
        "sys.exit(str(found) if found else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])


@given(st.integers(0, 2**32 - 1))
def test_quarters_of_a_kernel_see_the_upsampled_plane(seed):
    """A 5 x 5 kernel on the doubled plane, done the long way."""
    rng = np.random.default_rng(seed)
    plane, kernel = rng.normal(size=(4, 5)), rng.normal(size=(5, 5, 1, 1))
    doubled = np.pad(plane.repeat(2, 0).repeat(2, 1), 2)
    quarters = network._quarters(kernel).reshape(3, 3, 2, 2)
    small = np.pad(plane, 1)
    for y, x in np.ndindex(8, 10):
        expected = (doubled[y : y + 5, x : x + 5] * kernel[:, :, 0, 0]).sum()
        got = (small[y // 2 : y // 2 + 3, x // 2 : x // 2 + 3] * quarters[:, :, y % 2, x % 2]).sum()
        assert got == pytest.approx(expected)


def planes_of(minutiae, shape=(40, 60)):
    """Make planes with the minutiae (x, y, direction, type, quality)."""
    planes = np.zeros((4, *shape), np.float32)
    for x, y, *values in minutiae:
        planes[1:, y, x] = values
    return Planes(*planes)


def test_minutiae_keep_place_direction_kind_and_quality():
    planes = planes_of([(10, 20, -np.pi / 2, 0.7, 0.5), (59, 39, 1.0, 0.2, 0.9), (0, 0, 0, 0.5, 0.999)])
    template = to_template(planes, finger=Finger.LEFT_INDEX, impression=Impression.LIVE_PLAIN)
    assert template.xy.tolist() == [[0, 0], [59, 39], [10, 20]]
    np.testing.assert_allclose(template.angle, [0, 1, 3 * np.pi / 2], rtol=1e-6)
    assert template.kind.tolist() == [Kind.ENDING, Kind.BIFURCATION, Kind.ENDING]
    assert template.quality.tolist() == [100, 90, 50]
    assert template.size == (60, 40)
    assert (template.finger, template.impression) == (Finger.LEFT_INDEX, Impression.LIVE_PLAIN)


def test_thresholds():
    planes = planes_of([(i, i, 0, 1, q) for i, q in enumerate((0.001, 0.19, 0.2, 0.49, 0.5))])
    assert to_template(planes).quality.tolist() == [50, 49, 20]
    assert to_template(planes, threshold=0.5).quality.tolist() == [50]
    assert to_template(planes, threshold=0).quality.tolist() == [50, 49, 20, 19, 1]
    strict = MinutiaeParameters(quality=0.4, ending=1.5)
    assert to_template(planes, parameters=strict).kind.tolist() == [Kind.BIFURCATION] * 2


def test_background_is_dropped():
    planes = planes_of([(5, 5, 0, 1, 0.9), (50, 30, 0, 1, 0.8)])
    mask = np.zeros((40, 60), bool)
    mask[:, 40:] = True
    assert to_template(planes, mask=mask).xy.tolist() == [[50, 30]]
    with pytest.raises(InvalidInput, match="mask"):
        to_template(planes, mask=mask.T)


def test_a_size_must_hold_the_minutiae():
    planes = planes_of([(50, 30, 0, 1, 0.8)])
    assert to_template(planes, size=(61, 41)).size == (61, 41)
    with pytest.raises(TemplateOutOfBounds):
        to_template(planes, size=(50, 40))
