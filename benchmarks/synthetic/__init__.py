"""Synthetic fingerprints: pictures of no one, whose true minutiae are known."""

from benchmarks.synthetic.archive import archive
from benchmarks.synthetic.finger import SyntheticFinger, finger
from benchmarks.synthetic.pattern import Pattern
from benchmarks.synthetic.press import Conditions, SyntheticImpression, impression
from benchmarks.synthetic.truth import Minutiae

__all__ = [
    "Conditions",
    "Minutiae",
    "Pattern",
    "SyntheticFinger",
    "SyntheticImpression",
    "archive",
    "finger",
    "impression",
]
