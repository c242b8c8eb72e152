"""Compact cylinders: how much of a probe many prints show, from 34 bytes a cylinder.

`Sought` of a probe: `codes` (p, 4) uint64; `first` (w + 1,) int32 and `who` (s,) uint8: the probe's cylinders
near word k are `who[first[k]:first[k + 1]]`; `most`, cylinders of a print that are looked at.
`Held` of some prints: `words` (m,) uint16 and `codes` (m, 4) uint64 of all their cylinders, best first;
`starts` (g + 1,) int64, where each print's begin.

A code is three words of 32 cells for each of two sectors, and a fourth: bits 0 to 31 valid cells, 32 to 39
direction in 1/256 turn, 40 to 47 and 48 to 55 x and y in steps of 4 pixels, 56 to 63 unused.
"""

import math

import numpy as np
from numba import njit, types
from numba.extending import intrinsic

CELLS = np.uint64(0xFFFFFFFF)
BYTE = np.uint64(0xFF)
HALF, TURN, X, Y = np.uint64(32), np.uint64(32), np.uint64(40), np.uint64(48)
ROOTS = np.sqrt(np.arange(193, dtype=np.float32))
AHEAD = np.uint64(4)
TOGETHER = 32
"""Prints whose pairs are weighed in one go: they fit the cache next to the processor."""


@intrinsic
def popcount(typing_context, value):
    """Return the number of set bits of a uint64 (one machine instruction)."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def gather(sought, held, slots, i, j):
    """Fill `i` and `j` with the pairs of cylinders of probe and prints whose words are near; return how many.

    `sought.who` has `AHEAD` elements to spare, so that most words need no branch.
    """
    n = np.uint64(0)
    for slot in slots:
        begin = held.starts[slot]
        for at in range(np.uint64(begin), np.uint64(min(held.starts[slot + 1], begin + sought.most))):
            word = np.uint64(held.words[at])
            one = np.uint64(sought.first[word])
            count = np.uint64(sought.first[word + np.uint64(1)]) - one
            for e in range(AHEAD):
                i[n + e], j[n + e] = sought.who[one + e], at
            for e in range(AHEAD, count):
                i[n + e], j[n + e] = sought.who[one + e], at
            n += count
    return np.int64(n)


@njit(cache=True, nogil=True)
def weigh(a, b, i, j, n, p, worth, turn):
    """Keep of `n` pairs those that are alike, fill `worth` with how much, and `turn`; return how many.

    1 - |a ^ b| / (|a| + |b|) - `p.least` over the common valid cells, |v| = sqrt(popcount(v)), where it is
    positive and `p.least_common` cells are valid in both.
    """
    kept = np.uint64(0)
    for e in range(np.uint64(n)):
        q, at = i[e], j[e]
        v = a[q, 3] & b[at, 3] & CELLS
        common = popcount(v) >= p.least_common
        v |= v << HALF
        a0, a1, a2 = a[q, 0] & v, a[q, 1] & v, a[q, 2] & v
        b0, b1, b2 = b[at, 0] & v, b[at, 1] & v, b[at, 2] & v
        d = ROOTS[popcount(a0 ^ b0) + popcount(a1 ^ b1) + popcount(a2 ^ b2)]
        norm = ROOTS[popcount(a0) + popcount(a1) + popcount(a2)]
        norm += ROOTS[popcount(b0) + popcount(b1) + popcount(b2)]
        i[kept], j[kept] = q, at
        turn[kept] = np.uint8(((b[at, 3] >> TURN) - (a[q, 3] >> TURN)) & BYTE)
        worth[kept] = np.float32(1) - d / max(norm, np.float32(1)) - p.least
        kept += np.uint64(common & (norm > 0) & (worth[kept] > 0))
    return np.int64(kept)


@njit(cache=True, nogil=True)
def couple(i, j, worth, e, end, mates):
    """Leave of the pairs from `e` to `end` one for each `i` and each `j`; return how many.

    Of the pairs of each `j`, which stand together, the likest, and of those the likest for each `i`: their
    numbers are put into `mates`.
    """
    kept = 0
    while e < end:
        best = e
        e += 1
        while e < end and j[e] == j[best]:
            if worth[e] > worth[best]:
                best = e
            e += 1
        k = 0
        while k < kept and i[mates[k]] != i[best]:
            k += 1
        if k == kept:
            mates[k] = best
            kept += 1
        elif worth[best] > worth[mates[k]]:
            mates[k] = best
    return kept


@njit(cache=True, nogil=True)
def bound(turn, worth, e, end, bins):
    """Return the most that pairs of about one turn are worth together: no motion makes more agree."""
    bins[:] = 0
    for k in range(e, end):
        bins[turn[k] >> 4] += worth[k]
    most = np.float32(0)
    for k in range(16):
        most = max(most, bins[k] + bins[(k + 1) & 15] + bins[(k + 2) & 15])
    return most


@njit(cache=True, nogil=True)
def agreeing(pairs, n, p):
    """Return the greatest sum of worths of pairs (n, 6) that agree with one of them on a motion.

    A pair is x, y in the probe, x, y in the print, the turn from one to the other in 1/256, and its worth.
    Pair k agrees with s where their turns differ by at most `p.turn` and, the probe turned by that of s about
    s, k falls within `p.near` + `p.stretch` r of its mate, r being their distance in the probe.
    """
    most = np.float32(0)
    for s in range(n):
        angle = pairs[s, 4] * np.float32(2 * math.pi / 256)
        c, z, total = math.cos(angle), math.sin(angle), pairs[s, 5]
        for k in range(n):
            if k == s or (int(pairs[k, 4] - pairs[s, 4]) + p.turn) & 255 > 2 * p.turn:
                continue
            dx, dy = pairs[k, 0] - pairs[s, 0], pairs[k, 1] - pairs[s, 1]
            ex = pairs[k, 2] - pairs[s, 2] - (c * dx + z * dy)
            ey = pairs[k, 3] - pairs[s, 3] - (c * dy - z * dx)
            reach = p.near + p.stretch * math.sqrt(dx * dx + dy * dy)
            if ex * ex + ey * ey <= reach * reach:
                total += pairs[k, 5]
        most = max(most, total)
    return most


@njit(cache=True, nogil=True)
def unfold(mine, theirs, turn, worth, pair):
    """Fill `pair` (6,), as `agreeing` reads it; `mine` and `theirs` are the fourth words of two codes."""
    pair[0], pair[1] = np.int64((mine >> X) & BYTE) * 4, np.int64((mine >> Y) & BYTE) * 4
    pair[2], pair[3] = np.int64((theirs >> X) & BYTE) * 4, np.int64((theirs >> Y) & BYTE) * 4
    pair[4], pair[5] = turn, worth


@njit(cache=True, nogil=True)
def score(sought, held, slots, floor, p, out):
    """Fill `out` (s,) float32 with the score of each print of `slots`, ascending; 0 up to `floor`.

    score = agreeing / sqrt(m + `p.prior`), m the print's cylinders. Many prints are taken together, so that
    each loop is long and has no branch to guess.
    """
    a, b = sought.codes, held.codes
    room = TOGETHER * len(a) * sought.most + np.int64(AHEAD)
    i, j, turn = np.empty(room, np.uint8), np.empty(room, np.uint32), np.empty(room, np.uint8)
    worth, bins = np.empty(room, np.float32), np.empty(16, np.float32)
    mates, pairs = np.empty(256, np.int64), np.empty((256, 6), np.float32)
    for first in range(0, len(slots), TOGETHER):
        some = slots[first : first + TOGETHER]
        n = weigh(a, b, i, j, gather(sought, held, some, i, j), p, worth, turn)
        end = 0
        for s in range(len(some)):
            begin, stop = held.starts[some[s]], held.starts[some[s] + 1]
            e = end
            while end < n and j[end] < stop:
                end += 1
            norm = np.float32(1) / math.sqrt(np.float32(min(stop - begin, sought.most)) + p.prior)
            out[first + s] = 0
            if bound(turn, worth, e, end, bins) * norm > floor:
                kept = couple(i, j, worth, e, end, mates)
                for k in range(kept):
                    e = mates[k]
                    unfold(a[i[e], 3], b[j[e], 3], turn[e], worth[e], pairs[k])
                out[first + s] = agreeing(pairs, kept, p) * norm
