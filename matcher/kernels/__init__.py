"""Every compiled kernel of the package: plain arrays in, plain arrays out, formulas as docstrings.

`pose` is (n, 3): x, y in pixels at 500 ppi (y down) and the angle in radians, counter-clockwise as seen. `p`
is a `NamedTuple` of numbers: `cylinders.Shape`, `structure.Relaxation`, `compare.Alignment`, `compare.Waves`.
Each kernel has an obvious twin in `tests/naive.py`.

No file here calls a compiled function of another: a cached kernel that does keeps a stale result after that
other file changes. None is parallel: they are called from several threads.
"""
