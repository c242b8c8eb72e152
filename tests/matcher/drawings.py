"""Synthetic prints with ridge descriptions. No finger ever left them."""

from dataclasses import replace
from typing import NamedTuple

import numpy as np

from benchmarks.synthetic import Conditions, finger, impression
from enroll.ridges import describe
from enroll.segment import foreground
from matcher.template import Template

FINGERS = (2000, 2001, 2003)
CONDITIONS = (
    Conditions(),
    Conditions(rotation=0.4, translation=(9.0, -12.0), drag=(8.0, -5.0), twist=0.05),
    Conditions(rotation=-0.5, translation=(-14.0, 20.0), drag=(-5.0, 9.0), pressure=0.3, noise=0.4),
)


class Drawn(NamedTuple):
    """An impression: its picture, and the template of its true minutiae with the picture's ridges."""

    pixels: np.ndarray
    template: Template


def described(pixels: np.ndarray, template: Template) -> Template:
    """Return the template with the ridge description of its picture."""
    return replace(template, ridges=describe(pixels, foreground(pixels)))


def drawn_prints() -> list[list[Drawn]]:
    """Three fingers of three impressions each."""
    made = [finger(seed) for seed in FINGERS]
    return [
        [
            Drawn(print_.pixels, described(print_.pixels, print_.template))
            for print_ in (impression(one, k, conditions=how) for k, how in enumerate(CONDITIONS))
        ]
        for one in made
    ]
