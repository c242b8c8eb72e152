"""The master print: ridges grown from a few seeds by filtering again and again along the flow."""

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.kernels import RESPONSE_BITS, TAPS, filter_variant
from benchmarks.synthetic.pattern import Flow


@dataclass(frozen=True, slots=True)
class GrowthModel:
    """Tuned numbers of the growth; lengths in pixels at 500 ppi."""

    orientations: int = 48  # filters over half a turn: 3.75 degrees, finer than a filter's own bandwidth
    periods: int = 14  # steps of the period, 4 % each
    period_range: tuple[float, float] = (7.0, 12.0)  # of FlowModel
    across: float = 0.40  # deviation of the envelope across the ridges, in periods: Cappelli's three peaks
    along: float = 0.52  # along them: longer heals more breaks and leaves fewer minutiae
    radius: int = 11  # of a filter; 2 * radius + 1 <= TAPS
    gain: float = 2.5  # of a filter on its own wave while growing: above 1, so that ridges spread
    limit: int = 255  # at which growing ridges saturate
    seeds: tuple[int, int] = (22, 40)  # first spots, fewest and most: more seeds, more minutiae
    settle: int = 12  # rounds after the area is full
    rounds: int = 70  # at most


@lru_cache(maxsize=2)
def filter_bank(model: GrowthModel) -> NDArray[np.int16]:
    """Return the Gabor filters, shape (periods * orientations, 2 * radius + 1, TAPS), in 2**-18.

    g(u, v) = cos(2 pi u / T) exp(-u^2 / (2 s^2) - v^2 / (2 r^2)), u across and v along the ridges, without
    mean and with unit gain for the wave of its own period.
    """
    reach = np.arange(-model.radius, model.radius + 1, dtype=np.float64)
    x, y = np.meshgrid(reach, reach)
    bank = np.zeros((model.periods * model.orientations, len(reach), TAPS), np.int16)
    for i, period in enumerate(np.geomspace(*model.period_range, model.periods)):
        for j in range(model.orientations):
            turn = np.pi * j / model.orientations
            u = x * np.sin(turn) + y * np.cos(turn)
            v = x * np.cos(turn) - y * np.sin(turn)
            envelope = np.exp(-((u / (model.across * period)) ** 2 + (v / (model.along * period)) ** 2) / 2)
            wave = np.cos(2 * np.pi * u / period)
            even = envelope * (wave - (envelope * wave).sum() / envelope.sum())
            even *= 2**RESPONSE_BITS * model.gain / (even * wave).sum()
            bank[i * model.orientations + j, :, : len(reach)] = np.rint(even)
    bank.flags.writeable = False
    return bank


def grow(flow: Flow, rng: np.random.Generator, *, model: GrowthModel | None = None) -> NDArray[np.float32]:
    """Grow the ridges of a finger.

    Parameters
    ----------
    flow : Flow
    rng : numpy.random.Generator
        Draws the seeds.
    model : GrowthModel, optional

    Returns
    -------
    ndarray of float32, shape (H, W)
        The wave of the ridges: about 1 on a crest, -1 in a valley, 0 outside the finger.

    References
    ----------
    .. [1] R. Cappelli, A. Erol, D. Maio, D. Maltoni (2000), "Synthetic fingerprint-image generation", Proc.
       15th ICPR, vol. 3, 471-474. doi:10.1109/ICPR.2000.903586
    """
    model = model or GrowthModel()
    bank = filter_bank(model)
    choice = _choose(flow, model)
    wave = _seed(flow, rng, model)
    left = model.settle
    for _ in range(model.rounds):
        active = np.where(
            cv2.dilate((wave != 0).astype(np.uint8), np.ones((13, 13), np.uint8)) > 0, choice, -1
        )
        wave = _filter(wave, bank, active, model.limit)
        left -= bool((active == choice).all())
        if left == 0:
            break
    smooth = _filter(wave, bank, choice, 2**14)
    return (smooth / np.float32(model.gain * model.limit * 1.1)).clip(-1, 1).astype(np.float32)


def _filter(
    wave: NDArray[np.int16], bank: NDArray[np.int16], choice: NDArray[np.int32], limit: int
) -> NDArray[np.int16]:
    """Filter each pixel with the filter of its choice."""
    radius = bank.shape[1] // 2
    out = np.empty_like(wave)
    filter_variant(np.pad(wave, (radius, TAPS)), bank, choice, limit, out)
    return out


def _choose(flow: Flow, model: GrowthModel) -> NDArray[np.int32]:
    """Return the number of each pixel's filter, -1 outside the finger."""
    low, high = model.period_range
    step = np.log(flow.period / low) / np.log(high / low) * (model.periods - 1)
    period = np.clip(np.rint(step), 0, model.periods - 1)
    orientation = np.rint(flow.orientation / np.pi * model.orientations) % model.orientations
    return np.where(flow.outline, period * model.orientations + orientation, -1).astype(np.int32)


def _seed(flow: Flow, rng: np.random.Generator, model: GrowthModel) -> NDArray[np.int16]:
    """Return black but for a few white spots inside the finger."""
    wave = np.zeros(flow.outline.shape, np.int16)
    places = np.flatnonzero(flow.outline)
    count = int(rng.integers(model.seeds[0], model.seeds[1] + 1))
    wave.flat[rng.choice(places, count, replace=False)] = model.limit
    return np.asarray(cv2.dilate(wave, np.ones((3, 3), np.uint8)), np.int16)
