"""Ridges: how well the waves of two ridge descriptions agree where they lie on each other.

`waves` is (r, c, 4) float32: kx, ky (radians a pixel, image axes, y down), phase (radians) and weight (0 to
1; 0 where nothing is described) of the wave cos(k . (p - place) + phase) around each place of a grid.

The difference of phase between two waves says how far the ridges are apart along their normal. Prints of one
finger, once aligned, differ by shifts that are small and smooth; so shifts are fitted over a few ridges at a
time, from wide windows to narrow ones, and what then remains is what speaks.

Where one print shows its ridges white, all differences are pi more, which no small shift explains. `side` is
then -1, else 1, and the waves are taken to be pi further on.

References
----------
.. [1] Z. Cui, J. Feng, S. Li, J. Lu, J. Zhou, "2-D phase demodulation for deformable fingerprint
   registration", IEEE TIFS 13(12), 2018, doi:10.1109/TIFS.2018.2841849.
"""

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def unpack(data, periods):
    """Return the waves (2 r, 2 c, 4) of a packed description, and its (x, y, step); see `matcher.ridges`."""
    columns, rows = int(data[1]), int(data[2])
    x, y = np.int64(data[4]) | np.int64(data[5]) << 8, np.int64(data[6]) | np.int64(data[7]) << 8
    place = np.array([x - ((x >> 15) << 16), y - ((y >> 15) << 16), data[0]], np.float64)
    waves = np.zeros((2 * rows, 2 * columns, 4), np.float32)
    at = 8 + (rows * columns + 7) // 8
    for cell in range(rows * columns):
        if not (data[8 + (cell >> 3)] >> (cell & 7)) & 1:
            continue
        code = int(data[at]) | int(data[at + 1]) << 8 | int(data[at + 2]) << 16
        at += 3
        angle = (code & 63) * math.pi / 64
        k = 2 * math.pi / periods[(code >> 6) & 7]
        for q in range(4):
            wave = waves[2 * (cell // columns) + (q >> 1), 2 * (cell % columns) + (q & 1)]
            wave[0], wave[1] = k * math.cos(angle), -k * math.sin(angle)
            wave[2] = ((code >> (12 + 3 * q)) & 7) * math.pi / 4
            wave[3] = ((code >> 9) & 7) / 7
    return waves, place


@njit(cache=True, nogil=True)
def lie(waves, place, motion, at, w):
    """Return the places (r, c, 2) of `waves` after the motion and the spline (`minutiae.spline`).

    The spline is taken at every fourth place and drawn straight between: it bends little over that.
    """
    rows, columns = waves.shape[:2]
    c, s = math.cos(motion[0]), math.sin(motion[0])
    n = len(at)
    knots = np.zeros(((rows + 3) // 4 + 1, (columns + 3) // 4 + 1, 2))
    for i in range(knots.shape[0]):
        for j in range(knots.shape[1]):
            u, v = place[0] + 4 * j * place[2], place[1] + 4 * i * place[2]
            x, y = c * u + s * v + motion[1], -s * u + c * v + motion[2]
            knots[i, j, 0], knots[i, j, 1] = x, y
            if n > 0:
                dx = w[n, 0] * 100.0 + w[n + 1, 0] * x + w[n + 2, 0] * y
                dy = w[n, 1] * 100.0 + w[n + 1, 1] * x + w[n + 2, 1] * y
                for q in range(n):
                    r2 = (at[q, 0] - x) ** 2 + (at[q, 1] - y) ** 2
                    value = r2 * math.log(r2) if r2 > 0 else 0.0
                    dx += w[q, 0] * value
                    dy += w[q, 1] * value
                knots[i, j, 0] += dx
                knots[i, j, 1] += dy
    out = np.empty((rows, columns, 2))
    for i in range(rows):
        fi, gi = (i & 3) / 4, i >> 2
        for j in range(columns):
            fj, gj = (j & 3) / 4, j >> 2
            for d in range(2):
                top = knots[gi, gj, d] * (1 - fj) + knots[gi, gj + 1, d] * fj
                low = knots[gi + 1, gj, d] * (1 - fj) + knots[gi + 1, gj + 1, d] * fj
                out[i, j, d] = top * (1 - fi) + low * fi
    return out


@njit(cache=True, nogil=True)
def meet(waves, i, j, turned, x, y, others, place):
    """Return weight, g, kx, ky, d of wave i, j, turned by (cos, sin), at (x, y), and its nearest other.

    weight is the product of both weights, 0 where there is no other; k the mean of both waves, d their
    difference of phase at (x, y), g the weight times cos 2 (angle between them), at least 0.
    """
    fi, fj = (y - place[1]) / place[2] + 0.5, (x - place[0]) / place[2] + 0.5
    if not (0 <= fi < others.shape[0] and 0 <= fj < others.shape[1]):
        return 0.0, 0.0, 0.0, 0.0, 0.0
    bi, bj = int(fi), int(fj)
    weight = waves[i, j, 3] * others[bi, bj, 3]
    if weight <= 0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    c, s = turned
    kx, ky = c * waves[i, j, 0] + s * waves[i, j, 1], -s * waves[i, j, 0] + c * waves[i, j, 1]
    ox, oy = others[bi, bj, 0], others[bi, bj, 1]
    along = kx * ox + ky * oy
    side = 1.0 if along >= 0 else -1.0  # the same wave can be told from either side
    g = weight * max(0.0, 2 * along * along / ((kx * kx + ky * ky) * (ox * ox + oy * oy)) - 1)
    off = ox * (fj - bj - 0.5) + oy * (fi - bi - 0.5)
    d = side * waves[i, j, 2] - others[bi, bj, 2] - place[2] * off
    return weight, g, (side * kx + ox) / 2, (side * ky + oy) / 2, d


@njit(cache=True, nogil=True)
def box_sum(values, reach):
    """Return the sums of `values` (d, r, c) over squares of side 2 reach + 1 around each, cut at the rim."""
    depth, rows, columns = values.shape
    across, out = np.empty((rows, columns)), np.empty(values.shape)
    for d in range(depth):
        for i in range(rows):
            total = 0.0
            for j in range(min(reach, columns)):
                total += values[d, i, j]
            for j in range(columns):
                if j + reach < columns:
                    total += values[d, i, j + reach]
                if j > reach:
                    total -= values[d, i, j - reach - 1]
                across[i, j] = total
        totals = np.zeros(columns)
        for i in range(min(reach, rows)):
            totals += across[i]
        for i in range(rows):
            if i + reach < rows:
                totals += across[i + reach]
            if i > reach:
                totals -= across[i - reach - 1]
            out[d, i] = totals
    return out


@njit(cache=True, nogil=True)
def pull(waves, lying, shift, turn, corner, others, place):
    """Return what pulls each cell (2 x 2 places) of shifted waves: (5, r / 2, c / 2); sums of g, g cos d.

    kx^2, kx ky, ky^2, kx sin d, ky sin d, each times g, at one place of the cell: the first, or, with
    `corner` 1, the one across; neighbours say nearly the same.
    """
    out = np.zeros((5, shift.shape[0], shift.shape[1]))
    weight = agreeing = 0.0
    turned = (math.cos(turn), math.sin(turn))
    for ci in range(shift.shape[0]):
        for cj in range(shift.shape[1]):
            i, j = 2 * ci + corner, 2 * cj + corner
            if waves[i, j, 3] > 0:
                x, y = lying[i, j, 0] + shift[ci, cj, 0], lying[i, j, 1] + shift[ci, cj, 1]
                _, g, kx, ky, d = meet(waves, i, j, turned, x, y, others, place)
                if g > 0:
                    sine = math.sin(d)
                    out[0, ci, cj], out[1, ci, cj], out[2, ci, cj] = g * kx * kx, g * kx * ky, g * ky * ky
                    out[3, ci, cj], out[4, ci, cj] = g * kx * sine, g * ky * sine
                    weight += g
                    agreeing += g * math.cos(d)
    return out, weight, agreeing


@njit(cache=True, nogil=True)
def settle(waves, lying, turn, step, others, place, p):
    """Return the shift (r / 2, c / 2, 2), pixels, of each cell that lets the ridges meet, and the side.

    Window by window (`p.windows`, half sides in pixels; places are `step` apart), the shift grows by the u
    that minimises sum g (d - k . u)^2 + p.stiffness |u|^2 to the first order, at most `p.most_shift` pixels.
    The side is -1 where, before any shift, sum g cos d < `p.opposed` (p.opposed_prior + sum g).
    """
    shift = np.zeros((waves.shape[0] // 2, waves.shape[1] // 2, 2))
    side = 1.0
    for q, window in enumerate(p.windows):
        reach = max(1, int((window - step) / (2 * step) + 0.5))
        pulls, weight, agreeing = pull(waves, lying, shift, turn, q & 1, others, place)
        if q == 0 and agreeing < p.opposed * (p.opposed_prior + weight):
            side = -1.0
        sums = box_sum(pulls, reach)
        for i in range(shift.shape[0]):
            for j in range(shift.shape[1]):
                m0, m1, m2 = sums[0, i, j] + p.stiffness, sums[1, i, j], sums[2, i, j] + p.stiffness
                determinant = m0 * m2 - m1 * m1
                u = side * (m2 * sums[3, i, j] - m1 * sums[4, i, j]) / determinant
                v = side * (m0 * sums[4, i, j] - m1 * sums[3, i, j]) / determinant
                scale = min(1.0, p.most_shift / max(1e-9, math.hypot(u, v)))
                shift[i, j, 0] += scale * u
                shift[i, j, 1] += scale * v
    return shift, side


@njit(cache=True, nogil=True)
def agreement(waves, lying, shift, side, turn, others, place):
    """Return the sum of weights, that of weight times side cos d, and by place x, y, weight, side cos d.

    The waves lie at `lying`, each cell shifted by `shift` (r / 2, c / 2, 2). Two places of each cell are
    asked, one across from the other; what is said by place is (r, c, 4).
    """
    turned = (math.cos(turn), math.sin(turn))
    met = np.zeros((waves.shape[0], waves.shape[1], 4), np.float32)
    area = agreeing = 0.0
    for i in range(waves.shape[0]):
        for j in range(i & 1, waves.shape[1], 2):
            if waves[i, j, 3] > 0:
                x, y = lying[i, j, 0] + shift[i >> 1, j >> 1, 0], lying[i, j, 1] + shift[i >> 1, j >> 1, 1]
                weight, _, _, _, d = meet(waves, i, j, turned, x, y, others, place)
                if weight > 0:
                    cosine = side * math.cos(d)
                    met[i, j, 0], met[i, j, 1], met[i, j, 2], met[i, j, 3] = x, y, weight, cosine
                    area += weight
                    agreeing += weight * cosine
    return area, agreeing, met
