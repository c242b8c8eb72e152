"""The benchmark of the exchange in small: five real nodes, few fingers, each figure once."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from benchmarks import federation, federation_nodes
from benchmarks.federation import Counts
from benchmarks.federation_asking import Region
from benchmarks.runner import untracked
from matcher.template import Finger
from papilar.policy import Law
from papilar.policy.trial import try_law
from papilar.requests import PrintInput
from papilar.store import Store

FEW = Counts(1, 1, 1, 1, 54, 1, 1, least_deadline=1.5)


class Made(NamedTuple):
    """A gallery of 25 fingers and the mates, the folder of their prints, and the prints that are searched."""

    gallery: Path
    prints: Path
    searched: tuple[Path, ...]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("made")
    searched = federation_nodes.prints(folder / "prints")
    gallery = federation_nodes.gallery(folder / "g", 25, folder / "prints", seed=3, track=untracked)
    return Made(gallery, folder / "prints", searched)


def test_a_region_is_searched_and_its_gaps_are_named(made: Made, tmp_path: Path) -> None:
    first, *_, stranger = made.searched
    addresses = federation_nodes.countries(tmp_path, dict.fromkeys(federation_nodes.COUNTRIES, made.gallery))
    images = (PrintInput(image=path.read_bytes()) for path in (first, stranger))
    with federation_nodes.serving(tmp_path, addresses) as nodes:
        region = Region(tmp_path, addresses, nodes, *images)
        figures, alone = federation.region_searches(region, FEW, seed=0, track=untracked)
        missing = federation.gaps(region, FEW, deadline=FEW.least_deadline, track=untracked)
    check_region(figures, missing)
    assert 0 < alone < figures["seconds"].value


def check_region(figures: Mapping[str, Any], missing: Mapping[str, Any]) -> None:
    assert figures["searches"] == FEW.searches
    assert figures["ratio_to_slowest"][0] >= 1, "whoever asks waits for the slowest"
    assert missing["named"] == missing["searches"] == FEW.hangs
    came = missing["came_seconds"]
    assert came["GTM"] < came["NIC"] <= missing["deadline_seconds"]


@pytest.mark.soak
def test_all_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(federation_nodes.HIDING, "NIC", 0.5)
    figures = federation.run(tmp_path, fingers=40, counts=FEW, track=untracked)
    written = json.loads((tmp_path / federation.FILE).read_text())["figures"]
    assert written == json.loads(json.dumps(figures))
    check_region(written["region"], written["gaps"])
    assert all(one["sizes_equal"] for one in written["hidden"].values())
    assert written["hidden"]["NIC"]["no_hit_seconds"][0] >= 0.5, "a quantum at least"
    assert written["quota"]["refused_by_quota"] > 0
    assert 0 < written["policy"]["median_ms"][0] <= written["policy"]["p99_ms"][0]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("tmp")] == []


def test_the_load_is_spread_out_and_its_own_each_time() -> None:
    rng = np.random.default_rng(1)
    one, other = (federation_nodes.load_template(rng, Finger.LEFT_THUMB) for _ in range(2))
    apart = np.linalg.norm(one.xy[:, None].astype(float) - one.xy[None], axis=2)
    assert apart[~np.eye(len(one), dtype=bool)].min() >= 12
    assert one.finger is Finger.LEFT_THUMB
    assert not (len(one) == len(other) and np.array_equal(one.xy, other.xy))


def test_a_gallery_is_made_once(made: Made) -> None:
    before = (made.gallery / "papilar.sqlite3").stat().st_mtime_ns
    again = federation_nodes.gallery(made.gallery, 25, made.prints, seed=3, track=untracked)
    assert again == made.gallery
    assert (made.gallery / "papilar.sqlite3").stat().st_mtime_ns == before
    with Store.open(made.gallery) as store:
        assert store.counts().prints == 25 + federation_nodes.MATES
        assert len(store.encounters_of("load-20")[0].prints) == 5


@pytest.mark.parametrize("country", federation_nodes.COUNTRIES)
def test_every_law_passes_its_examples(country: str) -> None:
    assert try_law(Law.read(federation_nodes.law_of(country))).passed


def test_an_interval_holds_its_figure() -> None:
    sample = np.random.default_rng(2).normal(5, 1, 400)
    found = federation._interval(np.median, sample, seed=0)
    assert found.low < found.value < found.high
    assert found.value == np.median(sample)
    assert found.high - found.low == pytest.approx(2 * 1.96 * 1.2533 / 20, rel=0.3)
