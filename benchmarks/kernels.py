"""Every compiled kernel of the benchmarks: plain arrays in, plain arrays out, no policy."""

import numba
import numpy as np
from numpy.typing import NDArray

TAPS = 24
"""Width of a filter row, a multiple of eight so that a row is whole vector registers."""

RESPONSE_BITS = 18
"""Binary places of the filters: a filter of unit gain has taps that weigh 2**18 against its own wave."""


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def filter_variant(
    padded: NDArray[np.int16],
    bank: NDArray[np.int16],
    choice: NDArray[np.int32],
    limit: int,
    out: NDArray[np.int16],
) -> None:
    """out[y, x] = clip(2**-18 sum_ij padded[y+i, x+j] bank[choice[y, x], i, j], -limit, limit).

    Pixels whose `choice` is negative become 0. All arithmetic is on integers, so every processor gives the
    same bytes whatever the width of its vectors.
    """
    rows = bank.shape[1]
    for y in range(choice.shape[0]):
        for x in range(choice.shape[1]):
            k = choice[y, x]
            if k < 0:
                out[y, x] = 0
                continue
            total = np.int32(0)
            for i in range(rows):
                signal = padded[y + i, x : x + TAPS]
                taps = bank[k, i]
                for j in range(TAPS):
                    total = np.int32(total + np.int32(signal[j]) * np.int32(taps[j]))
            out[y, x] = np.int16(min(max(int(total) >> RESPONSE_BITS, -limit), limit))
