"""The cohort that prints are held against when they are prepared: synthetic, kept in `matcher/cohort.json`.

    python -m benchmarks.cohort --out matcher/cohort.json

A change of it changes `matcher.cylinders.CODE`, and every gallery is rebuilt; and it calls for another
calibration. No real print is in it; the numbers that it is drawn by were fitted to real ones, see
docs/synthetic.md.
"""

import argparse
import base64
import json
from dataclasses import replace
from pathlib import Path

from benchmarks.synthetic.templates import fingers
from matcher.codecs import encode

SEED = 20_261_123
"""No other gallery is drawn with it."""

PRINTS = 64
"""In a trial with the mean alone, twice as many gave no more on FVC2002 and FVC2004 DB1-4_B, half as many a
little less. To prepare a print takes as long as so many comparisons of structure: about 7 ms."""


def main() -> None:
    """Draw prints and write them."""
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--out", type=Path, required=True)
    given = asked.parse_args()
    drawn = (replace(one, ridges=b"") for one in fingers(SEED, 0, PRINTS))
    templates = [base64.b64encode(encode(one, "papilar-2")).decode() for one in drawn]
    made = f"{PRINTS} synthetic prints without ridge descriptions, seed {SEED}"
    text = json.dumps({"made": made, "templates": templates}, indent=1)
    given.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
