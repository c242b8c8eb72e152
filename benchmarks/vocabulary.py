"""The vocabulary of the compact cylinders: fitted to synthetic prints, kept in `matcher/vocabulary.json`.

    python -m benchmarks.vocabulary --out matcher/vocabulary.json

A change of it changes `matcher.compact.CODE`, and every gallery is rebuilt. Real prints take no part in it.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.synthetic.templates import fingers
from matcher import compact, index
from matcher.cylinders import prepare

SEED = 20_261_122
"""No other gallery is drawn with it."""

SIZE = 4_096
ROUNDS = 12
PRINTS = 6_000


def main() -> None:
    """Draw prints, fit the words to their cylinders, write them."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--out", type=Path, required=True)
    asked.add_argument("--prints", type=int, default=PRINTS)
    given = asked.parse_args()
    cells = np.concatenate(list(_cells(given.prints)))
    words = index.train(cells, SIZE, rounds=ROUNDS, seed=SEED)
    made = f"{len(cells)} cylinders of {given.prints} synthetic prints, seed {SEED}"
    text = json.dumps({"made": made, "size": SIZE, "words": index.packed(words)}, indent=1)
    given.out.write_text(text + "\n", encoding="utf-8")


def _cells(prints: int) -> Iterator[np.ndarray]:
    for template in fingers(SEED, 0, prints):
        yield compact.cells_of(prepare(template).every.bits[: compact.MOST_CYLINDERS])


if __name__ == "__main__":
    main()
