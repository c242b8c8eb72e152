"""How a probe comes to lie on a reference: minutiae paired, the print bent, ridges let settle and compared.

A wave is kx, ky (radians a pixel, image axes, y down), phase (radians) and weight (0 to 1; 0 where nothing
is described) of cos(k . (p - place) + phase). The reference's are (r, c, 4) float32 around each place of a
grid, with a rim of nothing, so that no place lies outside. Of the probe's, which come to lie anywhere, the
described cells of 2 x 2 places are kept; two places of each are asked, one across from the other: neighbours
say nearly the same.

The difference of phase between two waves says how far the ridges are apart along their normal. Prints of one
finger, once aligned, differ by shifts that are small and smooth; so shifts are fitted over a few ridges at a
time, from wide windows to narrow ones, and what then remains is what speaks.

Where one print shows its ridges white, all differences are pi more, which no small shift explains. `side` is
then -1, else 1, and the waves are taken to be pi further on.

Where much time goes, loops are long and free of branches: so the compiler takes several places at a time.

References
----------
.. [1] Z. Cui, J. Feng, S. Li, J. Lu, J. Zhou, "2-D phase demodulation for deformable fingerprint
   registration", IEEE TIFS 13(12), 2018, doi:10.1109/TIFS.2018.2841849.
.. [2] F. L. Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations", IEEE
   TPAMI 11(6), 1989, doi:10.1109/34.24792.
.. [3] G. Wahba, "Spline models for observational data", SIAM 1990 (the smoothing spline).
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Floats = NDArray[np.float64]
TURN = 2 * math.pi
NORMALS = np.column_stack((np.cos(np.arange(64) * math.pi / 64), np.sin(np.arange(64) * math.pi / 64)))
"""Cosine and sine of every direction that a description tells."""


@njit(cache=True, nogil=True)
def sine(x):
    """Return sin x (n,) to 1e-9: by the series about the nearest multiple of pi up to the 13th power."""
    out = np.empty(len(x))
    for q in range(len(x)):
        n = np.floor(x[q] * (1 / math.pi) + 0.5)
        r = x[q] - n * math.pi
        r2 = r * r
        s = 1 / 6227020800 * r2 - 1 / 39916800
        s = (((s * r2 + 1 / 362880) * r2 - 1 / 5040) * r2 + 1 / 120) * r2 - 1 / 6
        out[q] = (r + r * r2 * s) * (1 - 2 * (n - 2 * np.floor(n * 0.5)))
    return out


@njit(cache=True, nogil=True)
def radial(r2):
    """Return r^2 ln r^2, 0 at 0; ln to 1e-9 of 1, by a series of s = (m - 1) / (m + 1), m the mantissa."""
    bits = np.float64(max(r2, 1e-30)).view(np.int64)
    e = (bits - 0x3FE6A09E667F3BCD) >> 52  # the mantissa's bounds are then sqrt(1/2) and sqrt(2)
    m = np.int64(bits - (e << 52)).view(np.float64)
    s = np.divide(m - 1, m + 1)
    s2 = s * s
    series = ((((s2 / 13 + 1 / 11) * s2 + 1 / 9) * s2 + 1 / 7) * s2 + 1 / 5) * s2 + 1 / 3
    return r2 * (e * math.log(2.0) + 2 * s + 2 * s * s2 * series)


@njit(cache=True, nogil=True)
def moved(a, motion):
    """Return the poses of `a` (n, 3) turned about the origin, counter-clockwise as seen, then shifted."""
    c, s = math.cos(motion[0]), math.sin(motion[0])
    out = np.empty((len(a), 3))
    for i in range(len(a)):
        out[i, 0] = c * a[i, 0] + s * a[i, 1] + motion[1]
        out[i, 1] = -s * a[i, 0] + c * a[i, 1] + motion[2]
        out[i, 2] = a[i, 2] + motion[0]
    return out


@njit(cache=True, nogil=True)
def grow_pairs(a, b, distance, angle):
    """Return one-to-one pairs (k, 2) of minutiae that coincide, best first, and their misfits (k,).

    misfit = (d / distance)^2 + (dtheta / angle)^2, each part at most 1.
    """
    na, nb = len(a), len(b)
    cost, near, n = np.empty(na * nb), np.empty((na * nb, 2), np.int64), 0
    apart = np.empty(nb)
    for i in range(na):
        for j in range(nb):
            ex, ey = a[i, 0] - b[j, 0], a[i, 1] - b[j, 1]
            apart[j] = ex * ex + ey * ey
        for j in range(nb):
            if apart[j] <= distance * distance:
                away = a[i, 2] - b[j, 2]
                away = abs(away - TURN * np.floor(away / TURN + 0.5))
                if away <= angle:
                    cost[n] = apart[j] / (distance * distance) + (away / angle) ** 2
                    near[n, 0], near[n, 1] = i, j
                    n += 1
    pairs, misfit, k = np.empty((min(na, nb), 2), np.int64), np.empty(min(na, nb)), 0
    while n > 0:
        best = 0
        for q in range(1, n):
            if cost[q] < cost[best]:
                best = q
        i, j = near[best, 0], near[best, 1]
        pairs[k, 0], pairs[k, 1], misfit[k] = i, j, cost[best]
        k += 1
        left = 0
        for q in range(n):  # those of other minutiae stay
            cost[left], near[left, 0], near[left, 1] = cost[q], near[q, 0], near[q, 1]
            left += near[q, 0] != i and near[q, 1] != j
        n = left
    return pairs[:k], misfit[:k]


@njit(cache=True, nogil=True)
def solve(system):
    """Return the solution (n, 2) of a `system` (n, n + 2), its right side the last two columns; uses it up.

    Gaussian elimination by the largest pivot: with a few dozen rows it is done before a library has begun.
    """
    n, row = len(system), np.empty(len(system) + 2)
    for k in range(n):
        pivot = k
        for i in range(k + 1, n):
            pivot = i if abs(system[i, k]) > abs(system[pivot, k]) else pivot
        for j in range(k, n + 2):
            row[j] = system[pivot, j]
            system[pivot, j], system[k, j] = system[k, j], row[j]
        for i in range(k + 1, n):
            f = system[i, k] / row[k]
            for j in range(k + 1, n + 2):
                system[i, j] -= f * row[j]
    for k in range(n - 1, -1, -1):
        for d in range(n, n + 2):
            for j in range(k + 1, n):
                system[k, d] -= system[k, j] * system[j, d]
            system[k, d] /= system[k, k]
    return system[:, n:]


@njit(cache=True, nogil=True)
def spline(at, shift, stiffness):
    """Return the thin-plate spline (n + 3, 2) that shifts the points `at` (n, 2) by about `shift` (n, 2).

    It minimises sum |f(at) - shift|^2 + stiffness (bending energy, up to a factor):
    [[K + stiffness I, P], [P^T, -e I]] W = [shift; 0], K_ij = r_ij^2 ln r_ij^2, P = [100, x, y]; the small e
    keeps points on one line solvable.
    """
    n = len(at)
    system = np.zeros((n + 3, n + 5))
    for i in range(n):
        for j in range(n):
            system[i, j] = radial((at[i, 0] - at[j, 0]) ** 2 + (at[i, 1] - at[j, 1]) ** 2)
        system[i, i] = stiffness
        system[i, n] = system[n, i] = 100.0
        system[i, n + 1] = system[n + 1, i] = at[i, 0]
        system[i, n + 2] = system[n + 2, i] = at[i, 1]
        system[i, n + 3], system[i, n + 4] = shift[i]
    for k in range(n, n + 3):
        system[k, k] = -1e-6
    return solve(system).copy()


@njit(cache=True, nogil=True)
def bent(points, at, w):
    """Return the shift (m, 2) that the spline `w` (n + 3, 2) over `at` (n, 2) gives points; 0 without one."""
    n, m = len(at), len(points)
    out = np.zeros((m, 2))
    if n == 0:
        return out
    x, y, u, v = np.empty(m), np.empty(m), np.empty(m), np.empty(m)
    for q in range(m):
        x[q], y[q] = points[q, 0], points[q, 1]
        u[q] = w[n, 0] * 100.0 + w[n + 1, 0] * x[q] + w[n + 2, 0] * y[q]
        v[q] = w[n, 1] * 100.0 + w[n + 1, 1] * x[q] + w[n + 2, 1] * y[q]
    for i in range(n):
        ax, ay, wu, wv = at[i, 0], at[i, 1], w[i, 0], w[i, 1]
        for q in range(m):
            value = radial((ax - x[q]) * (ax - x[q]) + (ay - y[q]) * (ay - y[q]))
            u[q] += wu * value
            v[q] += wv * value
    for q in range(m):
        out[q, 0], out[q, 1] = u[q], v[q]
    return out


@njit(cache=True, nogil=True)
def align(a, b, motion, p):
    """Bring `a` onto `b`: pair, bend, pair again within less, `p.tolerances` pixels in turn.

    Returns the poses of `a` as they come to lie (n, 3), the pairs (k, 2) and misfits (k,) at the last
    tolerance, and the last spline: its points (c, 2) and weights (c + 3, 2). Fewer than `p.bending_pairs`
    pairs do not bend anything.
    """
    rigid = moved(a, motion)
    lying = rigid.copy()
    at, w = np.zeros((0, 2)), np.zeros((3, 2))
    pairs, misfit = grow_pairs(rigid, b, p.tolerances[0], p.angle)
    for tolerance in p.tolerances[1:]:
        if len(pairs) < p.bending_pairs:
            break
        at, shift = np.empty((len(pairs), 2)), np.empty((len(pairs), 2))
        for q in range(len(pairs)):
            for d in range(2):
                at[q, d] = rigid[pairs[q, 0], d]
                shift[q, d] = b[pairs[q, 1], d] - at[q, d]
        w = spline(at, shift, p.stiffness)
        bend = bent(rigid, at, w)
        for i in range(len(a)):
            lying[i, 0], lying[i, 1] = rigid[i, 0] + bend[i, 0], rigid[i, 1] + bend[i, 1]
        pairs, misfit = grow_pairs(lying, b, tolerance, p.angle)
    return lying, pairs, misfit, at, w


class Cells(NamedTuple):
    """The n described cells of a print: row and column of the first place, waves (n, 4, 4) by place."""

    row: NDArray[np.int64]
    column: NDArray[np.int64]
    waves: Floats


@njit(cache=True, nogil=True)
def described(data, periods):
    """Return the `Cells` of a packed description, and its (x, y, step); see `matcher.ridges`."""
    columns, rows = int(data[1]), int(data[2])
    x, y = np.int64(data[4]) | np.int64(data[5]) << 8, np.int64(data[6]) | np.int64(data[7]) << 8
    at = 8 + (rows * columns + 7) // 8
    n, q = (len(data) - at) // 3, 0
    row, column, waves = np.empty(n, np.int64), np.empty(n, np.int64), np.empty((n, 4, 4))
    for cell in range(rows * columns):
        if (data[8 + (cell >> 3)] >> (cell & 7)) & 1:
            code = int(data[at]) | int(data[at + 1]) << 8 | int(data[at + 2]) << 16
            k = TURN / periods[(code >> 6) & 7]
            row[q], column[q] = 2 * (cell // columns), 2 * (cell % columns)
            for e in range(4):
                wave = waves[q, e]
                wave[0], wave[1] = k * NORMALS[code & 63, 0], -k * NORMALS[code & 63, 1]
                wave[2] = ((code >> (12 + 3 * e)) & 7) * (math.pi / 4)
                wave[3] = ((code >> 9) & 7) / 7
            at, q = at + 3, q + 1
    place = np.float64(x - ((x >> 15) << 16)), np.float64(y - ((y >> 15) << 16)), np.float64(data[0])
    return Cells(row, column, waves), place


@njit(cache=True, nogil=True)
def unpack(data, periods):
    """Return the waves (2 r, 2 c, 4) of a packed description, and its (x, y, step); see `matcher.ridges`."""
    cells, place = described(data, periods)
    waves = np.zeros((2 * data[2], 2 * data[1], 4), np.float32)
    for q in range(len(cells.row)):
        for e in range(4):
            for d in range(4):
                waves[cells.row[q] + (e >> 1), cells.column[q] + (e & 1), d] = cells.waves[q, e, d]
    return waves, np.array(place)


@njit(cache=True, nogil=True)
def rimmed(waves):
    """Return waves (r + 2, c + 2, 4) with a rim of nothing."""
    out = np.zeros((waves.shape[0] + 2, waves.shape[1] + 2, 4), np.float32)
    for i in range(waves.shape[0]):
        for j in range(waves.shape[1]):
            for d in range(4):
                out[i + 1, j + 1, d] = waves[i, j, d]
    return out


@njit(cache=True, nogil=True)
def turned(cells, turn):
    """Return the waves (2, n, 4) at two places of each cell, turned counter-clockwise as seen."""
    c, s = math.cos(turn), math.sin(turn)
    out = np.empty((2, len(cells.row), 4))
    for across in range(2):
        for q in range(len(cells.row)):
            wave, one = cells.waves[q, 3 * across], out[across, q]
            one[0], one[1] = c * wave[0] + s * wave[1], c * wave[1] - s * wave[0]
            one[2], one[3] = wave[2], wave[3]
    return out


@njit(cache=True, nogil=True)
def lie(cells, place, motion, at, w):
    """Return where two places of each cell come to lie (2, n, 2) after the motion and the spline.

    The spline is taken at every fourth place and drawn straight between: it bends little over that.
    """
    n, rows, columns = len(cells.row), 2, 2
    for q in range(n):
        rows, columns = max(rows, cells.row[q] // 4 + 2), max(columns, cells.column[q] // 4 + 2)
    knots = np.zeros((rows * columns, 3))
    for k in range(rows * columns):
        knots[k, 0] = place[0] + 4 * place[2] * (k % columns)
        knots[k, 1] = place[1] + 4 * place[2] * (k // columns)
    knots = moved(knots, motion)
    bend = bent(knots, at, w)
    for k in range(rows * columns):
        knots[k, 0] += bend[k, 0]
        knots[k, 1] += bend[k, 1]
    out = np.empty((2, n, 2))
    for across in range(2):
        for q in range(n):
            i, j = cells.row[q] + across, cells.column[q] + across
            k = (i >> 2) * columns + (j >> 2)
            fi, fj = (i & 3) * 0.25, (j & 3) * 0.25
            for d in range(2):
                top = knots[k, d] * (1 - fj) + knots[k + 1, d] * fj
                low = knots[k + columns, d] * (1 - fj) + knots[k + columns + 1, d] * fj
                out[across, q, d] = top * (1 - fi) + low * fi
    return out


@njit(cache=True, nogil=True)
def nearest(lying, shift, others, place):
    """Return the others (n, 4) nearest to where shifted places lie (n, 2), and how far off those are."""
    near, off = np.empty((len(lying), 4)), np.empty((len(lying), 2))
    x, y, step = place
    rows, columns, scale = others.shape[0] - 2, others.shape[1] - 2, 1.0 / step
    for q in range(len(lying)):
        i = (lying[q, 1] + shift[q, 1] - y) * scale + 0.5
        j = (lying[q, 0] + shift[q, 0] - x) * scale + 0.5
        row, column = np.floor(max(-1.0, min(i, rows))), np.floor(max(-1.0, min(j, columns)))
        other = others[np.int64(row) + 1, np.int64(column) + 1]
        for d in range(4):
            near[q, d] = other[d]
        off[q, 0], off[q, 1] = step * (j - column - 0.5), step * (i - row - 0.5)
    return near, off


@njit(cache=True, nogil=True)
def meet(ours, near, off):
    """Return kx, ky, g and weight (n, 4) of waves and those that are nearest, `off` pixels away, and d (n,).

    k is the mean of both waves, weight the product of both, 0 where there is no other, g the weight times
    cos 2 (angle between them), at least 0; d their difference of phase where ours lies.
    """
    out, d = np.empty((len(ours), 4)), np.empty(len(ours))
    for q in range(len(ours)):
        kx, ky, ox, oy = ours[q, 0], ours[q, 1], near[q, 0], near[q, 1]
        along = kx * ox + ky * oy
        side = 1.0 if along >= 0 else -1.0  # the same wave can be told from either side
        square = (kx * kx + ky * ky) * (ox * ox + oy * oy)
        weight = ours[q, 3] * near[q, 3]
        out[q, 0], out[q, 1], out[q, 3] = (side * kx + ox) / 2, (side * ky + oy) / 2, weight
        out[q, 2] = weight * max(0.0, np.divide(2 * along * along, max(square, 1e-30)) - 1)
        d[q] = side * ours[q, 2] - near[q, 2] - (ox * off[q, 0] + oy * off[q, 1])
    return out, d


@njit(cache=True, nogil=True)
def pull(cells, ours, lying, shift, others, place):
    """Return what pulls each cell at one of its places: (rows, columns, 5); the sums of g and g cos d.

    kx^2, kx ky, ky^2, kx sin d, ky sin d, each times g; `ours` (n, 4) lie at `lying` (n, 2), shifted.
    """
    rows = columns = 0
    for q in range(len(ours)):
        rows, columns = max(rows, cells.row[q] // 2 + 1), max(columns, cells.column[q] // 2 + 1)
    out, weight, agreeing = np.zeros((rows, columns, 5)), 0.0, 0.0
    near, off = nearest(lying, shift, others, place)
    met, d = meet(ours, near, off)
    sines, cosines = sine(d), sine(d + math.pi / 2)
    for q in range(len(ours)):
        kx, ky, g, here = met[q, 0], met[q, 1], met[q, 2], out[cells.row[q] >> 1, cells.column[q] >> 1]
        here[0], here[1], here[2] = g * kx * kx, g * kx * ky, g * ky * ky
        here[3], here[4] = g * kx * sines[q], g * ky * sines[q]
        weight += g
        agreeing += g * cosines[q]
    return out, weight, agreeing


@njit(cache=True, nogil=True)
def box_sum(values, reach):
    """Return the sums of `values` (r, c, 5) over squares of side 2 reach + 1 around each, cut at the rim."""
    rows, columns = values.shape[:2]
    out, totals = np.empty((rows, columns, 5)), np.zeros((columns, 5))
    for i in range(-reach, rows):
        if i + reach < rows:
            totals += values[i + reach]
        if i > reach:
            totals -= values[i - reach - 1]
        if i < 0:
            continue
        a = b = c = d = e = 0.0  # five sums side by side wait for each other least
        for j in range(-reach, columns):
            if j + reach < columns:
                last = totals[j + reach]
                a, b, c, d, e = a + last[0], b + last[1], c + last[2], d + last[3], e + last[4]
            if j > reach:
                gone = totals[j - reach - 1]
                a, b, c, d, e = a - gone[0], b - gone[1], c - gone[2], d - gone[3], e - gone[4]
            if j >= 0:
                here = out[i, j]
                here[0], here[1], here[2], here[3], here[4] = a, b, c, d, e
    return out


@njit(cache=True, nogil=True)
def settle(cells, pulls, shift, side, window, p):
    """Add to `shift` (n, 2) what lets the ridges meet over a window, its half side in places.

    The u that minimises sum g (d - k . u)^2 + p.stiffness |u|^2 to the first order, at most `p.most_shift`
    pixels.
    """
    sums = box_sum(pulls, max(1, int((window - 1) / 2 + 0.5)))
    for q in range(len(shift)):
        here = sums[cells.row[q] >> 1, cells.column[q] >> 1]
        m0, m1, m2 = here[0] + p.stiffness, here[1], here[2] + p.stiffness
        one = side / (m0 * m2 - m1 * m1)
        u, v = one * (m2 * here[3] - m1 * here[4]), one * (m0 * here[4] - m1 * here[3])
        scale = min(1.0, p.most_shift / max(1e-9, math.sqrt(u * u + v * v)))
        shift[q, 0] += scale * u
        shift[q, 1] += scale * v


@njit(cache=True, nogil=True)
def agreement(ours, lying, shift, side, others, place):
    """Return of both places of every cell, shifted, x, y, weight and side cos d: (2, n, 4)."""
    out = np.empty((2, len(shift), 4))
    for across in range(2):
        near, off = nearest(lying[across], shift, others, place)
        met, d = meet(ours[across], near, off)
        cosines = sine(d + math.pi / 2)
        for q in range(len(shift)):
            one = out[across, q]
            one[0], one[1] = lying[across, q, 0] + shift[q, 0], lying[across, q, 1] + shift[q, 1]
            one[2], one[3] = met[q, 3], side * cosines[q]
    return out


@njit(cache=True, nogil=True)
def summed(met):
    """Return the sum of weights, and that of weight times side cos d."""
    area = agreeing = 0.0
    for across in range(2):
        for q in range(met.shape[1]):
            area += met[across, q, 2]
            agreeing += met[across, q, 2] * met[across, q, 3]
    return area, agreeing


class Found(NamedTuple):
    """A motion (turn, dx, dy) of the probe onto the reference and what came of it, as `align` says.

    `lying` (n, 3), `pairs` (k, 2), `misfit` (k,), the spline `at` (c, 2) and its `weights` (c + 3, 2).
    `speaks` is for this motion: the agreement of the ridges, or of the minutiae without any.
    """

    motion: Floats
    lying: Floats
    pairs: NDArray[np.int64]
    misfit: Floats
    at: Floats
    weights: Floats
    speaks: float


@njit(cache=True, nogil=True)
def follow(pose, other_pose, motion, cells, place, other, p, w):
    """Bring the probe onto the reference by one motion; `other` are the reference's waves and their place.

    Returns what was found, and the turned waves, where they lie, their shift and side, once they have settled
    over the widest window.
    """
    lying, pairs, misfit, at, weights = align(pose, other_pose, motion, p)
    ours, places = turned(cells, motion[0]), lie(cells, place, motion, at, weights)
    shift, side, speaks = np.zeros((len(cells.row), 2)), 1.0, 0.0
    if len(shift):
        pulls, weight, agreeing = pull(cells, ours[0], places[0], shift, *other)
        side = -1.0 if agreeing < w.opposed * (w.opposed_prior + weight) else 1.0
        settle(cells, pulls, shift, side, w.windows[0] / place[2], w)
        speaks = summed(agreement(ours, places, shift, side, *other))[1]
    else:
        for one in misfit:
            speaks += math.exp(-one)
    return Found(motion, lying, pairs, misfit, at, weights, speaks), (ours, places, shift, side)


@njit(cache=True, nogil=True)
def best(pose, data, other_pose, other_data, motions, periods, p, w):
    """Follow up motions (k, 3), k > 0; return the one for which most speaks, ridges settled in all windows.

    Poses and ridge descriptions are the probe's and the reference's; of no cells where either has none.
    Beside what was found: how ridges agree, where, as `agreement` says, and the side.
    """
    cells, place = described(data, periods)
    waves, (x, y, step) = unpack(other_data, periods)
    other = rimmed(waves), (x, y, step)
    followed = [follow(pose, other_pose, motions[k], cells, place, other, p, w) for k in range(len(motions))]
    chosen = 0
    for k in range(len(followed)):
        chosen = k if followed[k][0].speaks > followed[chosen][0].speaks else chosen
    found, (ours, places, shift, side) = followed[chosen]
    for q in range(1, len(w.windows)):
        pulls, _, _ = pull(cells, ours[q & 1], places[q & 1], shift, *other)
        settle(cells, pulls, shift, side, w.windows[q] / place[2], w)
    met = agreement(ours, places, shift, side, *other)
    area, agreeing = summed(met)
    return found, (agreeing + w.prior * w.middling) / (area + w.prior), met, side
