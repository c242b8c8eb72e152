"""A folder of synthetic prints, as a police archive would hand it over."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.synthetic.finger import finger
from benchmarks.synthetic.press import Conditions, impression
from matcher.template import PPI


def archive(
    folder: Path,
    *,
    subjects: int,
    impressions: int,
    seed: int = 0,
    prefix: str = "",
    first: int = 1,
    severity: float = 0.4,
    workers: int = 2,
) -> None:
    """Write the prints of several fingers as `<prefix>FINGER_IMPRESSION.png`, eight bits, 500 ppi.

    Parameters
    ----------
    folder : Path
        Made where it is missing; files of the same names are replaced.
    subjects : int
        Number of fingers, numbered from 1 with at least three digits.
    impressions : int
        Number of prints of each finger.
    seed : int
        Equal seeds give the same fingers; the classes follow their natural frequencies.
    prefix : str
        Of every file name.
    first : int
        Number of the first impression, at least 1. Probes that an archive does not hold are its continuation:
        the same seed, and `first` beyond its impressions.
    severity : float
        Of `Conditions.random`; impression 1 is always a clean one, as of a careful enrolment.
    workers : int
        Threads; the files do not depend on their number.
    """
    folder.mkdir(parents=True, exist_ok=True)
    numbers = range(first, first + impressions)
    with ThreadPoolExecutor(workers) as pool:  # threads: nearly all the time is spent outside the interpreter
        jobs = [
            pool.submit(_write_finger, folder, prefix, (seed, subject), numbers, severity)
            for subject in range(1, subjects + 1)
        ]
        for job in jobs:
            job.result()


def _write_finger(folder: Path, prefix: str, key: tuple[int, int], numbers: range, severity: float) -> None:
    """Write the prints of one finger; `key` is the archive's seed and the finger's number."""
    made = finger(int(np.random.SeedSequence(key).generate_state(1, np.uint32)[0]))
    for number in numbers:
        rng = np.random.default_rng([*key, number])
        conditions = Conditions.clean() if number == 1 else Conditions.random(rng, severity)
        print_ = impression(made, number, conditions=conditions)
        _write(folder / f"{prefix}{key[1]:03d}_{number}.png", print_.pixels)


def _write(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a PNG whose pHYs chunk states 500 ppi."""
    Image.fromarray(pixels).save(path, dpi=(PPI, PPI), optimize=False, compress_level=6)
