"""What asv times: preparing, comparing, shortlists, sealing; all on synthetic templates.

asv calls `setup`, then every method whose name begins with `time_` or `track_`. A class here is one set-up.
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.synthetic.templates import finger, fingers, impression
from matcher.cascade import Wanted
from matcher.codecs import NATIVE, decode, encode
from matcher.compare import compare, score
from matcher.cylinders import prepare
from matcher.gallery import Gallery

SEED = 1
ROWS = 2_000
"""Of the gallery: enough that a shortlist leaves some out."""


class Comparison:
    """One to one, prepared before; the first call of a process compiles, which asv's warm-up takes."""

    params = (False, True)
    param_names = ("ridges",)

    def setup(self, ridges: bool) -> None:
        """Make a print, its mate and a stranger."""
        self.template = impression(finger(SEED, 0), ridges=ridges)
        self.record = encode(self.template, NATIVE)
        self.probe = prepare(self.template)
        self.mate = prepare(impression(finger(SEED, 0), 1, ridges=ridges))
        self.stranger = prepare(impression(finger(SEED, 1), ridges=ridges))

    def time_prepare(self, ridges: bool) -> None:
        """Compute the cylinders of a template."""
        prepare(self.template)

    def time_decode(self, ridges: bool) -> None:
        """Decode a native record."""
        decode(self.record)

    def time_score_of_a_mate(self, ridges: bool) -> None:
        """Compare two prints that match."""
        score(self.probe, self.mate)

    def time_score_of_a_stranger(self, ridges: bool) -> None:
        """Compare two prints that do not, as most of a search."""
        score(self.probe, self.stranger)

    def time_explained(self, ridges: bool) -> None:
        """Compare with parts and correspondences."""
        compare(self.probe, self.mate)


class Search:
    """One to many: a gallery sealed in a temporary folder."""

    timeout = 600

    def setup(self) -> None:
        """Build and open it."""
        self.folder = tempfile.TemporaryDirectory(prefix="asv-")
        self.gallery = Gallery(Path(self.folder.name), np.arange(ROWS))
        for row, template in enumerate(fingers(SEED, 0, ROWS)):
            self.gallery.add(row, prepare(template))
        self.gallery.seal()
        self.probe = prepare(impression(finger(SEED, ROWS // 2), 1))

    def teardown(self) -> None:
        """Delete it."""
        self.folder.cleanup()

    def time_shortlist(self) -> None:
        """Name a hundredth of the gallery."""
        self.gallery.shortlist([Wanted(self.probe)], limit=ROWS // 100)

    def time_open(self) -> None:
        """Open the folder anew."""
        Gallery(Path(self.folder.name), np.arange(ROWS))

    def track_disk(self) -> float:
        """Return the bytes on the disk a finger."""
        return sum(path.stat().st_size for path in Path(self.folder.name).iterdir()) / ROWS


class Synthetic:
    """What galleries of synthetic templates are made with."""

    params = (False, True)
    param_names = ("ridges",)

    def time_template(self, ridges: bool) -> None:
        """Draw a finger and its first impression."""
        impression(finger(SEED, 7), ridges=ridges)
