"""What is drawn before a ridge is: class, singular points, flow and ridge period of a print."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline


class Pattern(StrEnum):
    """The five classes of Henry's system that automatic classification distinguishes."""

    ARCH = "arch"
    TENTED_ARCH = "tented arch"
    LEFT_LOOP = "left loop"
    RIGHT_LOOP = "right loop"
    WHORL = "whorl"


FREQUENCIES = {
    Pattern.ARCH: 0.037,
    Pattern.TENTED_ARCH: 0.029,
    Pattern.LEFT_LOOP: 0.338,
    Pattern.RIGHT_LOOP: 0.317,
    Pattern.WHORL: 0.279,
}
"""Share of each class among fingers; C. L. Wilson, G. T. Candela, C. I. Watson (1994), "Neural network
fingerprint classification", Journal of Artificial Neural Networks 1(2), 203-228."""


@dataclass(frozen=True, slots=True)
class FlowModel:
    """Tuned numbers of the flow and of the ridge period; lengths in pixels at 500 ppi, angles in radians.

    Where a comment names no source, the value was chosen by eye against real prints of an optical sensor.
    """

    size: tuple[int, int] = (416, 560)  # of the master print: covers the pad of a thumb, 21 x 28 mm
    width: tuple[float, float] = (356.0, 412.0)  # of the finger's outline
    height: tuple[float, float] = (470.0, 552.0)
    core: float = 0.42  # height of the pattern's centre, share of the frame's height from the top
    scatter: float = 12.0  # standard deviation of the pattern's centre
    loop_delta: tuple[float, float] = (105.0, 140.0)  # mean offset of a loop's delta: about 12 and 15 ridges
    whorl_delta: tuple[float, float] = (118.0, 135.0)
    tented_delta: tuple[float, float] = (5.0, 80.0)
    whorl_cores: tuple[float, float] = (16.0, 80.0)  # distance between the two cores, smallest and largest
    spread: float = 0.16  # relative standard deviation of those offsets
    crown: tuple[float, float] = (0.75, 0.12)  # correction above a core: mean, deviation; Vizcaya & Gerhardt
    crown_whorl: tuple[float, float] = (0.4, 0.08)  # the two cores of a whorl already round each other
    knots: float = 0.08  # deviation of each further knot of the corrections
    arch_height: tuple[float, float] = (1.25, 0.15)  # greatest slope of an arch's flanks: mean, deviation
    wander: float = 0.07  # deviation of the smooth random turn of the flow
    wander_scale: float = 60.0  # standard deviation of the Gaussian that smooths it
    waver: float = 0.035  # the same over a few ridges: lines drawn by hand, not by a ruler
    waver_scale: float = 16.0
    period: tuple[float, float] = (9.0, 0.55)  # over fingers: 9 in the mean, Handbook, section 6.5
    period_range: tuple[float, float] = (7.0, 12.0)  # what the filter bank covers
    period_wander: float = 0.06  # relative deviation inside a print
    period_waver: float = 0.04  # the same over a few ridges
    period_core: float = -0.08  # relative change at a core, fading over `period_reach`
    period_base: float = 0.16  # relative change at the foot of the print, below the deltas
    period_reach: float = 70.0


class Singularities(NamedTuple):
    """Singular points, pixels at 500 ppi, y down.

    Attributes
    ----------
    cores : ndarray of float64, shape (c, 2)
        None for an arch, two for a whorl.
    deltas : ndarray of float64, shape (c, 2)
    """

    cores: NDArray[np.float64]
    deltas: NDArray[np.float64]


class Flow(NamedTuple):
    """The map from which ridges are grown.

    Attributes
    ----------
    outline : ndarray of bool, shape (H, W)
        Inside the finger.
    orientation : ndarray of float64, shape (H, W)
        Direction of the ridges, radians in [0, pi), counter-clockwise as seen.
    period : ndarray of float64, shape (H, W)
        Distance from ridge to ridge, pixels at 500 ppi.
    singularities : Singularities
    """

    outline: NDArray[np.bool_]
    orientation: NDArray[np.float64]
    period: NDArray[np.float64]
    singularities: Singularities


def draw_pattern(rng: np.random.Generator) -> Pattern:
    """Draw a class by its natural frequency."""
    share = np.asarray(list(FREQUENCIES.values()))
    return list(Pattern)[int(rng.choice(len(share), p=share / share.sum()))]


def draw_flow(pattern: Pattern, rng: np.random.Generator, *, model: FlowModel | None = None) -> Flow:
    """Draw outline, flow and ridge period of a finger.

    Parameters
    ----------
    pattern : Pattern
    rng : numpy.random.Generator
    model : FlowModel, optional

    Returns
    -------
    Flow

    Notes
    -----
    The flow is the zero-pole model of [1]_ with the corrections of [2]_ for the classes that have singular
    points, and the sine model of [3]_ for arches.

    References
    ----------
    .. [1] B. G. Sherlock, D. M. Monro (1993), "A model for interpreting fingerprint topology", Pattern
       Recognition 26(7), 1047-1055. doi:10.1016/0031-3203(93)90006-I
    .. [2] P. R. Vizcaya, L. A. Gerhardt (1996), "A nonlinear orientation model for global description of
       fingerprints", Pattern Recognition 29(7), 1221-1231. doi:10.1016/0031-3203(95)00154-9
    .. [3] D. Maltoni, D. Maio, A. K. Jain, S. Prabhakar (2009), Handbook of Fingerprint Recognition,
       2nd ed., chapter 6, "Synthetic fingerprint generation". doi:10.1007/978-1-84882-254-2_6
    """
    model = model or FlowModel()
    width, height = model.size
    x, y = np.meshgrid(np.arange(width, dtype=np.float64), np.arange(height, dtype=np.float64))
    centre = np.array([width / 2, model.core * height]) + model.scatter * rng.standard_normal(2)
    points = _draw_singularities(pattern, centre, rng, model)
    if pattern is Pattern.ARCH:
        angle = _arch(x, y, centre, rng, model)
    else:
        angle = _zero_pole(x, y, pattern=pattern, points=points, rng=rng, model=model)
    angle += model.wander * smooth_noise(rng, (height, width), model.wander_scale)
    angle += model.waver * smooth_noise(rng, (height, width), model.waver_scale)
    period = _draw_period(y, _near(x, y, points.cores, model.period_reach), rng, model)
    return Flow(_draw_outline(x, y, rng, model), np.mod(angle, np.pi), period, points)


def smooth_noise(rng: np.random.Generator, shape: tuple[int, int], scale: float) -> NDArray[np.float32]:
    """Return Gaussian noise smoothed to `scale` pixels, of unit variance.

    Drawn on a grid as coarse as the scale allows and enlarged, so that wide scales cost nothing.
    """
    step = max(1.0, scale / 2)
    margin = 4
    rows, columns = (int(np.ceil(n / step)) + 2 * margin for n in shape)
    gain = np.float32(2 * np.sqrt(np.pi) * scale / step)
    coarse = cv2.GaussianBlur(gain * rng.standard_normal((rows, columns), np.float32), (0, 0), scale / step)
    if step == 1:
        return np.asarray(coarse[margin:-margin, margin:-margin], np.float32)
    turn = np.array([[step, 0, -margin * step], [0, step, -margin * step]])
    fine = cv2.warpAffine(coarse, turn, (shape[1], shape[0]), flags=cv2.INTER_CUBIC)
    return np.asarray(fine, np.float32)


def _draw_singularities(
    pattern: Pattern, centre: NDArray[np.float64], rng: np.random.Generator, model: FlowModel
) -> Singularities:
    """Place cores and deltas about the centre of the pattern."""
    none = np.zeros((0, 2))
    if pattern is Pattern.ARCH:
        return Singularities(none, none)
    jitter = np.clip(1 + model.spread * rng.standard_normal((2, 2)), 0.6, 1.4)
    if pattern is Pattern.WHORL:
        half = rng.uniform(*model.whorl_cores) / 2
        lean = rng.normal(0, 0.45)
        reach = half * np.array([np.sin(lean), np.cos(lean)])
        deltas = centre + jitter * np.asarray(model.whorl_delta) * np.array([[-1, 1], [1, 1]])
        return Singularities(np.stack([centre - reach, centre + reach]), deltas)
    offset = np.asarray(model.tented_delta if pattern is Pattern.TENTED_ARCH else model.loop_delta)
    side = (
        rng.choice([-1, 1]) if pattern is Pattern.TENTED_ARCH else 1 if pattern is Pattern.LEFT_LOOP else -1
    )
    return Singularities(centre[None], (centre + jitter[0] * offset * np.array([side, 1]))[None])


def _zero_pole(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    *,
    pattern: Pattern,
    points: Singularities,
    rng: np.random.Generator,
    model: FlowModel,
) -> NDArray[np.float64]:
    """Half the sum of the corrected arguments at the cores less that at the deltas."""
    crown = model.crown_whorl if len(points.cores) > 1 else model.crown
    twice = np.zeros_like(x)
    for sign, places in ((1, points.cores), (-1, points.deltas)):
        for i, place in enumerate(places):
            argument = np.arctan2(place[1] - y, x - place[0])
            lift = rng.normal(*crown) * _crown(pattern, lower=i > 0) if sign > 0 else np.zeros(8)
            twice += sign * (argument + _correction(lift, rng, model)(argument))
    return twice / 2


def _crown(pattern: Pattern, *, lower: bool) -> NDArray[np.float64]:
    """Return the correction at a core for the arguments -pi, -3 pi/4 .. 3 pi/4, before its drawn factor.

    It rounds what the bare model leaves pointed: ridges pass over the core in a half circle, and a loop's two
    flanks leave it side by side. A right loop is a left loop in the mirror; a whorl's lower core stands on
    its head.
    """
    left = np.array([1.9, 0.35, 0.0, -0.25, -0.95, -0.55, 0.35, 1.4])
    if pattern is Pattern.LEFT_LOOP:
        return left
    if pattern is Pattern.RIGHT_LOOP:
        return -left[(4 - np.arange(8)) % 8]
    upright = np.array([1.1, 0.5, 0.0, -0.5, -1.1, -1.0, 0.0, 1.0])
    return np.roll(upright, 4) if lower else upright


def _correction(lift: NDArray[np.float64], rng: np.random.Generator, model: FlowModel) -> CubicSpline:
    """Return the periodic correction of an argument: eight knots of their own height and chance."""
    knots = np.linspace(-np.pi, np.pi, 9)
    values = lift + model.knots * rng.standard_normal(8)
    return CubicSpline(knots, np.append(values, values[0]), bc_type="periodic")


def _arch(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    centre: NDArray[np.float64],
    rng: np.random.Generator,
    model: FlowModel,
) -> NDArray[np.float64]:
    """Flow of an arch: slopes up to the middle and down again, flat at the foot, steepest at the centre."""
    width, height = model.size
    rise = np.clip((height * 0.97 - y) / (height * 0.97 - centre[1]), 0, None)
    steep = np.where(rise < 1, np.sin(np.pi / 2 * np.clip(rise, 0, 1)) ** 2, 1 / np.sqrt(1 + (rise - 1) ** 2))
    lean = 1 + 0.2 * np.clip(rng.standard_normal(2), -1.5, 1.5)
    across = np.clip((x - centre[0]) / (0.5 * width), -1.2, 1.2)
    side = np.where(across < 0, lean[0], lean[1])
    return np.asarray(
        np.arctan(-rng.normal(*model.arch_height) * side * steep * np.sin(np.pi / 1.6 * across))
    )


def _near(
    x: NDArray[np.float64], y: NDArray[np.float64], places: NDArray[np.float64], reach: float
) -> NDArray[np.float64]:
    """Return 1 at each place, fading to 0 over `reach`."""
    near = np.zeros_like(x)
    for px, py in places:
        np.maximum(near, np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * reach**2)), out=near)
    return near


def _draw_period(
    y: NDArray[np.float64], near_core: NDArray[np.float64], rng: np.random.Generator, model: FlowModel
) -> NDArray[np.float64]:
    """Ridges stand closer at the core and wider at the foot of the finger, and wander between."""
    height = model.size[1]
    foot = np.clip((y / height - 0.55) / 0.4, 0, 1)
    change = model.period_core * near_core + model.period_base * foot**2 * (3 - 2 * foot)
    change += model.period_wander * smooth_noise(rng, (y.shape[0], y.shape[1]), model.wander_scale)
    change += model.period_waver * smooth_noise(rng, (y.shape[0], y.shape[1]), model.waver_scale)
    mean = np.clip(rng.normal(*model.period), model.period[0] - 1.2, model.period[0] + 1.2)
    return np.asarray(np.clip(mean * (1 + change), *model.period_range))


def _draw_outline(
    x: NDArray[np.float64], y: NDArray[np.float64], rng: np.random.Generator, model: FlowModel
) -> NDArray[np.bool_]:
    """Return the finger's area: a half ellipse for the tip, squarer towards the joint."""
    width, height = model.size
    a, b = rng.uniform(*model.width) / 2, rng.uniform(*model.height) / 2
    u, v = np.abs(x - width / 2) / a, (y - height / 2) / b
    power = np.where(v < 0, 2.1, 2.9)
    return np.asarray(u**power + np.abs(v) ** power < 1)
