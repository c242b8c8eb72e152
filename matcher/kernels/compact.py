"""Compact cylinders: how much of a probe many prints show, from 34 bytes a cylinder.

`Sought` of a probe: `codes` (p, 4) uint64; `first` (w + 1,) int32 and `who` (s,) uint8: the probe's cylinders
near word k are `who[first[k]:first[k + 1]]`; `most`, cylinders of a print that are looked at.
`Held` of some prints: `words` (m,) uint16 and `codes` (m, 4) uint64 of all their cylinders, best first;
`starts` (g + 1,) int64, where each print's begin.

A code is three words of 32 cells for each of two sectors, and a fourth: bits 0 to 31 valid cells, 32 to 39
direction in 1/256 turn, 40 to 47 and 48 to 55 x and y in steps of 4 pixels, 56 to 63 unused.

Nothing here branches on what it finds where that could be avoided: a processor that guesses wrong loses as
much as one pair of cylinders costs.
"""

import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

CELLS = np.uint64(0xFFFFFFFF)
BYTE = np.uint64(0xFF)
HALF, TURN, X, Y = np.uint64(32), np.uint64(32), np.uint64(40), np.uint64(48)
ROOTS = np.sqrt(np.arange(193, dtype=np.float32))
COS, SIN = (f(np.arange(256) * (2 * math.pi / 256)).astype(np.float32) for f in (np.cos, np.sin))
AHEAD = np.uint64(4)
NOBODY = np.uint32(0xFFFFFFFF)
TOGETHER = 32
"""Prints whose pairs are weighed in one go: they fit the cache next to the processor."""

WHOLE = np.float32(1 << 20)
LANES = np.uint64(16)
"""Pairs that the processor takes in one step, where it can."""


@intrinsic
def popcount(typing_context, value):
    """Return the number of set bits of a uint64 (one machine instruction)."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def prefetch(typing_context, codes, row):
    """Have the processor bring a row of `codes` (m, 4) near, which will soon be read."""

    def generate(context, builder, signature, arguments):
        byte, flag = ir.IntType(8).as_pointer(), ir.IntType(32)
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        word = builder.mul(arguments[1], arguments[1].type(4))
        kind = ir.FunctionType(ir.VoidType(), [byte, flag, flag, flag])
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        place = builder.bitcast(builder.gep(array.data, [word]), byte)
        builder.call(call, [place, flag(0), flag(3), flag(1)])  # to read, to keep, data
        return context.get_dummy_value()

    return types.void(codes, types.uint64), generate


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
            prefetch(held.codes, at)
            for e in range(AHEAD):
                i[n + e], j[n + e] = sought.who[one + e], at
            for e in range(AHEAD, count):
                i[n + e], j[n + e] = sought.who[one + e], at
            n += count
    return np.int64(n)


@njit(cache=True, nogil=True)
def alike(a, b, p):
    """Return what two cylinders are worth, and whether they are alike and enough of both is valid.

    1 - |a ^ b| / (|a| + |b|) - `p.least` over the common valid cells, |v| = sqrt(popcount(v)).
    """
    v = a[3] & b[3] & CELLS
    common = popcount(v) >= p.least_common
    v |= v << HALF
    a0, a1, a2 = a[0] & v, a[1] & v, a[2] & v
    b0, b1, b2 = b[0] & v, b[1] & v, b[2] & v
    d = ROOTS[popcount(a0 ^ b0) + popcount(a1 ^ b1) + popcount(a2 ^ b2)]
    norm = ROOTS[popcount(a0) + popcount(a1) + popcount(a2)]
    norm += ROOTS[popcount(b0) + popcount(b1) + popcount(b2)]
    worth = np.float32(1) - d / max(norm, np.float32(1)) - p.least
    return worth, common & (norm > 0) & (worth > 0)


@njit(cache=True, nogil=True)
def weigh(a, b, i, j, n, p, worth):
    """Keep of `n` pairs those that are alike, of each `j` the likest; fill `worth`; return how many."""
    kept, last_i, last_j, last = np.uint64(0), np.uint8(0), NOBODY, np.float32(0)
    for e in range(np.uint64(n)):
        q, at = i[e], j[e]
        value, good = alike(a[q], b[at], p)
        again = good & (at == last_j)
        worse = again & (last >= value)
        value, q = (last if worse else value), (last_i if worse else q)
        place = kept - np.uint64(again)
        i[place], j[place], worth[place] = q, at, value
        kept = place + np.uint64(good)
        last_j, last, last_i = (at if good else last_j), (value if good else last), (q if good else last_i)
    return kept


@njit(cache=True, nogil=True)
def unfold(a, b, found, e, end, places, turn, worth):
    """Fill `places`, `turn` and `worth` from pairs `e` to `end`; `LANES` beyond are worth 0.

    `found` are `i`, `j` and the worths; `places` (4, most): x, y in the probe, x, y in the print; `turn` in
    1/256 and `worth` in 1/`WHOLE` (most,) int32, since a sum of integers is the same in any order.
    """
    i, j, value = found
    n = np.uint64(end - e)
    for k in range(n):
        mine, theirs = a[i[e + k], np.uint64(3)], b[j[e + k], np.uint64(3)]
        places[0, k] = np.int32((mine >> X) & BYTE) * np.int32(4)
        places[1, k] = np.int32((mine >> Y) & BYTE) * np.int32(4)
        places[2, k] = np.int32((theirs >> X) & BYTE) * np.int32(4)
        places[3, k] = np.int32((theirs >> Y) & BYTE) * np.int32(4)
        turn[k] = np.int32(((theirs >> TURN) - (mine >> TURN)) & BYTE)
        worth[k] = np.int32(value[e + k] * WHOLE)
    for k in range(LANES):
        worth[n + k] = 0


@njit(cache=True, nogil=True)
def agreeing_with(places, turn, worth, s, n, p):
    """Return the sum of worths of `n` pairs that agree with pair s on a motion.

    Pair k agrees with s where their turns differ by at most `p.turn` and, the probe turned by that of s about
    s, k falls within `p.near` + `p.stretch` r of its mate, r being their distance in the probe.
    """
    x, y, u, v = places[0], places[1], places[2], places[3]
    t, xs, ys, us, vs = turn[s], x[s], y[s], u[s], v[s]
    side, span = np.int32(p.turn), np.int32(2 * p.turn)
    c, z, total = COS[np.uint32(t)], SIN[np.uint32(t)], np.int32(0)
    for base in range(np.uint64(0), n, LANES):
        for lane in range(LANES):
            k = base + lane
            dx, dy = x[k] - xs, y[k] - ys
            ex, ey = u[k] - us - (c * dx + z * dy), v[k] - vs - (c * dy - z * dx)
            reach = p.near + p.stretch * np.sqrt(dx * dx + dy * dy)
            turned = np.int32(np.int32(np.int32(turn[k] - t) + side) & np.int32(255)) <= span
            met = turned & (ex * ex + ey * ey <= reach * reach)
            total = np.int32(total + (worth[k] if met else np.int32(0)))
    return total


@njit(cache=True, nogil=True)
def agreeing(places, turn, worth, n, p):
    """Return the greatest sum of worths of `n` pairs that agree with one of them on a motion."""
    most = np.int32(0)
    for s in range(n):
        most = max(most, agreeing_with(places, turn, worth, s, n, p))
    return most / WHOLE


@njit(cache=True, nogil=True)
def score(sought, held, slots, p, out):
    """Fill `out` (s,) float32 with the score of each print of `slots`, ascending.

    score = agreeing / sqrt(m + `p.prior`), m the print's cylinders. Many prints are taken together, so that
    each loop is long.
    """
    a, b = sought.codes, held.codes
    room = TOGETHER * len(a) * sought.most + np.int64(AHEAD)
    found = np.empty(room, np.uint8), np.empty(room, np.uint32), np.empty(room, np.float32)
    i, j, worth = found
    most = sought.most + np.int64(LANES)
    places, turn, sums = np.zeros((4, most), np.float32), np.zeros(most, np.int32), np.zeros(most, np.int32)
    for first in range(0, len(slots), TOGETHER):
        some = slots[first : first + TOGETHER]
        n = weigh(a, b, i, j, gather(sought, held, some, i, j), p, worth)
        end = np.uint64(0)
        for s in range(len(some)):
            begin, stop = held.starts[some[s]], held.starts[some[s] + 1]
            e = end
            while end < n and j[end] < stop:
                end += np.uint64(1)
            unfold(a, b, found, e, end, places, turn, sums)
            norm = math.sqrt(np.float32(min(stop - begin, sought.most)) + p.prior)
            out[first + s] = agreeing(places, turn, sums, end - e, p) / norm
