"""An impression: what a sensor sees of a synthetic finger that is pressed upon it."""

from dataclasses import dataclass
from typing import NamedTuple, Self

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.synthetic.finger import SyntheticFinger
from benchmarks.synthetic.pattern import smooth_noise
from benchmarks.synthetic.truth import Minutiae
from matcher.template import Impression, Template


@dataclass(frozen=True, slots=True)
class Conditions:
    """How a finger is laid on the sensor; lengths in pixels at 500 ppi, angles in radians.

    Attributes
    ----------
    rotation : float
        Turn of the print, counter-clockwise as seen.
    translation : (float, float)
        Shift of the print to the right and down.
    drag, twist : (float, float), float
        Slip of the finger's rim against its middle, which sticks to the glass: shift and turn.
    pressure : float
        0 is even; 0.5 makes broad ridges that nearly close the valleys, -0.5 thin ones.
    dryness : float
        0 to 1: how far ridges fall into grains.
    noise : float
        0 to 1: uneven pressure, dirt, grey noise.
    pores, creases : float
        0 to 1: how well they show.
    contact : (float, float)
        Half width and half height of the area that touches.
    offset : (float, float)
        Its centre, from the middle of the finger, right and down.
    background : float
        Grey level of the empty glass.
    size : (int, int)
        Width and height of the image.
    """

    rotation: float = 0.0
    translation: tuple[float, float] = (0.0, 0.0)
    drag: tuple[float, float] = (0.0, 0.0)
    twist: float = 0.0
    pressure: float = 0.0
    dryness: float = 0.0
    noise: float = 0.15
    pores: float = 0.35
    creases: float = 0.0
    contact: tuple[float, float] = (164.0, 214.0)
    offset: tuple[float, float] = (0.0, 0.0)
    background: float = 252.0
    size: tuple[int, int] = (388, 480)

    @classmethod
    def clean(cls) -> Self:
        """Return the conditions of a careful enrolment: upright, even, whole."""
        return cls()

    @classmethod
    def random(cls, rng: np.random.Generator, severity: float = 0.5) -> Self:
        """Draw conditions.

        Parameters
        ----------
        rng : numpy.random.Generator
        severity : float
            0 for a practised user, 0.5 for everyday use, 1 for the worst that is still worth a search.

        Returns
        -------
        Conditions
        """
        reach = 1 - rng.uniform(0, 0.1 + 0.3 * severity, 2)
        turn = (0.06 + 0.3 * severity) * rng.standard_normal()
        return cls(
            rotation=float(np.clip(turn, -0.8, 0.8)),
            translation=_pair(rng.normal(0, 6 + 16 * severity, 2)),
            drag=_pair(np.clip(rng.normal(0, 2 + 6 * severity, 2), -14, 14) * reach),
            twist=float(np.clip(rng.normal(0, 0.01 + 0.05 * severity), -0.12, 0.12)),
            pressure=float(np.clip(rng.normal(0, 0.12 + 0.28 * severity), -0.55, 0.6)),
            dryness=float(np.clip(rng.beta(1.2, 3.0) * (0.2 + 1.1 * severity), 0, 0.75)),
            noise=float(0.15 + 0.75 * severity * rng.random()),
            pores=float(rng.uniform(0.1, 0.8)),
            creases=float(rng.uniform(0.2, 1.0)),
            contact=_pair(np.array(cls().contact) * reach),
            offset=_pair(rng.normal(0, (6 + 18 * severity, 8 + 30 * severity))),
            background=float(rng.uniform(246, 254)),
        )


@dataclass(frozen=True, slots=True)
class PressModel:
    """Tuned numbers of the rendering; chosen by eye against prints of optical sensors."""

    stick: tuple[float, float] = (0.34, 0.36)  # share of the contact that does not slip; Cappelli et al. 2001
    slide: float = 1.9  # over which the slip grows to its full size, in half widths of the stuck area
    edge: float = 0.17  # width of the rim where contact fades, share of the radius
    ragged: float = 0.03  # deviation of the contact's radius, slow
    frayed: float = 0.02  # the same over half a ridge
    hard: float = 2.6  # slope of the ridges' profile: a sine becomes nearly a step
    soft: float = 0.30  # height over which grey goes from white to dark
    dark: float = 22.0  # grey level of a pressed ridge
    blur: float = 0.65  # of the lens, pixels
    visible: float = -0.55  # contact below which a minutia cannot be seen
    margin: int = 8  # a minutia nearer to the image's edge is left out


class SyntheticImpression(NamedTuple):
    """One print of a finger.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (H, W)
        500 ppi, ridges dark.
    template : Template
        The true minutiae inside the contact area, every quality 100.
    conditions : Conditions
    """

    pixels: NDArray[np.uint8]
    template: Template
    conditions: Conditions


def impression(
    finger: SyntheticFinger, number: int = 0, *, conditions: Conditions | None = None
) -> SyntheticImpression:
    """Press a finger on the sensor.

    Parameters
    ----------
    finger : SyntheticFinger
    number : int
        At least 0; with the finger's seed it draws all that chance decides. Equal numbers give equal bytes.
    conditions : Conditions, optional
        `Conditions.clean()` where none are given.

    Returns
    -------
    SyntheticImpression

    References
    ----------
    .. [1] R. Cappelli, D. Maio, D. Maltoni (2001), "Modelling plastic distortion in fingerprint images",
       ICAPR 2001, LNCS 2013, 371-378. doi:10.1007/3-540-44732-6_38
    .. [2] Q. Zhao, A. K. Jain, N. G. Paulter, M. Taylor (2012), "Fingerprint image synthesis based on
       statistical feature models", IEEE BTAS, 23-30. doi:10.1109/BTAS.2012.6374554
    """
    conditions, model = conditions or Conditions.clean(), PressModel()
    rng = np.random.default_rng([finger.seed, 1, number])
    x, y = np.meshgrid(*(np.arange(side, dtype=np.float64) for side in conditions.size))
    u, v = _to_finger(x, y, finger, conditions, model)
    contact = _contact(u, v, finger=finger, rng=rng, conditions=conditions, model=model)
    place = u.astype(np.float32), v.astype(np.float32)
    pixels = _render(finger, place, contact, rng=rng, conditions=conditions, model=model)
    pixels.flags.writeable = False
    return SyntheticImpression(pixels, _template(finger, contact, conditions, model), conditions)


def _pair(values: NDArray[np.float64]) -> tuple[float, float]:
    return float(values[0]), float(values[1])


def _middle(finger: SyntheticFinger) -> NDArray[np.float64]:
    """Return the middle of the finger in its own frame."""
    return np.array([finger.wave.shape[1] / 2, finger.wave.shape[0] / 2])


def _to_finger(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    finger: SyntheticFinger,
    conditions: Conditions,
    model: PressModel,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Map points of the image to the finger: undo shift and turn, then add the slip of the rim."""
    cos, sin = np.cos(conditions.rotation), np.sin(conditions.rotation)
    dx = x - conditions.size[0] / 2 - conditions.translation[0]
    dy = y - conditions.size[1] / 2 - conditions.translation[1]
    u, v = cos * dx - sin * dy, sin * dx + cos * dy
    a, b = model.stick[0] * conditions.contact[0], model.stick[1] * conditions.contact[1]
    p, q = u - conditions.offset[0], v - conditions.offset[1]
    beyond = np.clip((np.hypot(p / a, q / b) - 1) / model.slide, 0, 1)
    slip = (1 - np.cos(np.pi * beyond)) / 2
    cos, sin = np.cos(conditions.twist) - 1, np.sin(conditions.twist)
    middle = _middle(finger)
    u = u + slip * (cos * p - sin * q + conditions.drag[0]) + middle[0]
    v = v + slip * (sin * p + cos * q + conditions.drag[1]) + middle[1]
    return u, v


def _to_image(
    points: NDArray[np.float64], finger: SyntheticFinger, conditions: Conditions, model: PressModel
) -> NDArray[np.float64]:
    """Invert `_to_finger` by fixed-point steps: the slip changes slowly from place to place."""
    cos, sin = np.cos(conditions.rotation), np.sin(conditions.rotation)
    back = np.array([[cos, sin], [-sin, cos]])
    guess = (points - _middle(finger)) @ back.T
    guess += np.asarray(conditions.size) / 2 + conditions.translation
    for _ in range(12):
        reached = np.stack(_to_finger(guess[:, 0], guess[:, 1], finger, conditions, model), axis=1)
        guess = guess + (points - reached) @ back.T
    return np.asarray(guess)


def _contact(
    u: NDArray[np.float64],
    v: NDArray[np.float64],
    *,
    finger: SyntheticFinger,
    rng: np.random.Generator,
    conditions: Conditions,
    model: PressModel,
) -> NDArray[np.float64]:
    """Return the pressure at each pixel of the image: the conditions' inside, falling to -3 outside."""
    shape = (u.shape[0], u.shape[1])
    p, q = (u - _middle(finger)[0]) - conditions.offset[0], (v - _middle(finger)[1]) - conditions.offset[1]
    power = np.where(q < 0, 2.1, 2.7)
    radius = np.abs(p / conditions.contact[0]) ** power + np.abs(q / conditions.contact[1]) ** power
    radius = (
        radius ** (1 / power)
        + model.ragged * smooth_noise(rng, shape, 30)
        + model.frayed * smooth_noise(rng, shape, 5)
    )
    inside = cv2.GaussianBlur(finger.outline.astype(np.float32), (0, 0), 5)
    cover = cv2.remap(inside, u.astype(np.float32), v.astype(np.float32), cv2.INTER_LINEAR)
    fade = np.clip((radius - (1 - model.edge)) / model.edge, 0, 1.8) + 2 * (1 - np.asarray(cover, np.float64))
    uneven = (0.08 + 0.22 * conditions.noise) * smooth_noise(rng, shape, 26)
    return np.asarray(conditions.pressure + uneven - 1.7 * fade**1.5)


def _render(
    finger: SyntheticFinger,
    place: tuple[NDArray[np.float32], NDArray[np.float32]],
    contact: NDArray[np.float64],
    *,
    rng: np.random.Generator,
    conditions: Conditions,
    model: PressModel,
) -> NDArray[np.uint8]:
    """Turn ridges and contact into grey."""
    shape = (contact.shape[0], contact.shape[1])
    wave = cv2.remap(finger.wave, *place, cv2.INTER_CUBIC)
    pores = cv2.remap(finger.pores, *place, cv2.INTER_LINEAR)
    creases = cv2.remap(finger.creases, *place, cv2.INTER_LINEAR)
    height = np.tanh(model.hard * wave) + contact
    height += (0.18 + 0.25 * conditions.noise) * smooth_noise(rng, shape, 1.2)
    height += 0.25 * smooth_noise(rng, shape, 2.5)
    height -= _grain(shape, rng, conditions.dryness)
    height -= 1.5 * conditions.pores * pores + 2.2 * conditions.creases * creases
    ink = 1 / (1 + np.exp(-np.clip(height / model.soft, -30, 30)))
    strength = np.clip(0.9 + 0.3 * contact + 0.06 * smooth_noise(rng, shape, 9), 0.3, 1.0)
    grey = conditions.background - (conditions.background - model.dark) * ink * strength
    grey = cv2.GaussianBlur(grey, (0, 0), model.blur)
    grey += (1.0 + 5 * conditions.noise) * (0.25 + 0.75 * ink) * rng.standard_normal(shape)
    return np.asarray(np.clip(np.rint(grey + _dirt(shape, rng, conditions)), 0, 255), np.uint8)


def _grain(shape: tuple[int, int], rng: np.random.Generator, dryness: float) -> NDArray[np.float64]:
    """Return what dryness takes from the ridges: patches where they fall into grains."""
    patch = np.clip(0.75 + 0.4 * smooth_noise(rng, shape, 30), 0, 1.6)
    fine = smooth_noise(rng, shape, 1.4)
    return np.asarray(dryness * patch * (0.4 + 1.15 * fine))


def _dirt(shape: tuple[int, int], rng: np.random.Generator, conditions: Conditions) -> NDArray[np.float64]:
    """Return the glass: faint clouds and a few specks that grow with the noise."""
    clouds = -np.abs(smooth_noise(rng, shape, 40)) * 2.5 * conditions.noise
    specks = smooth_noise(rng, shape, 1.2)
    return np.asarray(clouds - 30 * conditions.noise * np.clip(specks - 3.1, 0, None))


def _template(
    finger: SyntheticFinger, contact: NDArray[np.float64], conditions: Conditions, model: PressModel
) -> Template:
    """Carry the true minutiae over to the image and keep those that it shows."""
    true: Minutiae = finger.minutiae
    step = 4 * np.stack([np.cos(true.angle), -np.sin(true.angle)], axis=1)
    place = _to_image(true.xy, finger, conditions, model)
    ahead = _to_image(true.xy + step, finger, conditions, model) - place
    width, height = conditions.size
    pixel = np.rint(place).astype(np.int64)
    inside = ((pixel >= model.margin) & (pixel < np.array([width, height]) - model.margin)).all(axis=1)
    column, row = np.clip(pixel, 0, np.array([width, height]) - 1).T
    shown = inside & (contact[row, column] - conditions.pressure > model.visible)
    return Template.of(
        pixel[shown],
        np.arctan2(-ahead[shown, 1], ahead[shown, 0]),
        true.kind[shown],
        np.full(int(shown.sum()), 100),
        size=conditions.size,
        impression=Impression.LIVE_PLAIN,
    )
