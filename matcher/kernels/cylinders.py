"""Cylinder codes: the neighbourhood of each minutia of a print as bits [1]_.

A cylinder's cells are a regular grid in its own frame, so that the Gaussian about a neighbour is the product
of one along the columns and one along the rows, and each of these follows from one value by ratios. The sure
minutiae come first: their cylinders are read off before the others add to them.

References
----------
.. [1] R. Cappelli, M. Ferrara, D. Maltoni, "Minutia Cylinder-Code", IEEE TPAMI 32(12), 2010,
   doi:10.1109/TPAMI.2010.52.
"""

import math

import numpy as np
from numba import njit

WINDOW = 8
"""Cells of a row, or rows, that a neighbour may reach: more than 6 sigma_s / step; a vector register."""

PAD = 16
"""Unused cells before and after those of a sector, into which a window may add zeros."""


@njit(cache=True, nogil=True)
def rows_of(cells, p):
    """Return, for each of `p.across` rows of the grid: its first cell, that cell's column, and its length."""
    step = 2 * p.radius / p.across
    rows = np.zeros((p.across, 3), np.int64)
    for q in range(len(cells)):
        row = round(cells[q, 1] / step + (p.across - 1) / 2)
        if rows[row, 2] == 0:
            rows[row, 0], rows[row, 1] = q, round(cells[q, 0] / step + (p.across - 1) / 2)
        rows[row, 2] += 1
    return rows


@njit(cache=True, nogil=True)
def edges_of(corners):
    """Return a (m, 6) of a counter-clockwise polygon: each edge's beginning, its way, |way|^2 and |way|."""
    m = len(corners)
    edges = np.empty((m, 6))
    for a in range(m):
        b = (a + 1) % m
        edges[a, 0], edges[a, 1] = corners[a, 0], corners[a, 1]
        edges[a, 2], edges[a, 3] = corners[b, 0] - corners[a, 0], corners[b, 1] - corners[a, 1]
        edges[a, 4] = edges[a, 2] * edges[a, 2] + edges[a, 3] * edges[a, 3]
        edges[a, 5] = math.sqrt(edges[a, 4])
    return edges


@njit(cache=True, nogil=True)
def near_cells(x, y, at, edges, p, depth, nearest, ok):
    """Fill `ok` (c,): which cells `at` (2, c) about (x, y) lie inside the polygon or within `p.hull_margin`.

    Edges farther than `p.radius` from (x, y), which lies inside, decide nothing: all cells are on their
    inner side, and the nearest point of a convex polygon is on an edge that one is on the outer side of.
    """
    c, least = at.shape[1], -1.0 if len(edges) < 3 else 0.0
    depth[:], nearest[:] = least, np.inf
    for a in range(len(edges)):
        ax, ay, ex, ey, length, root = edges[a]
        if len(edges) > 2 and ex * (y - ay) - ey * (x - ax) > p.radius * root:
            continue
        scale = length if length > 0 else 1.0
        for q in range(c):
            qx, qy = at[0, q] - ax, at[1, q] - ay
            side = ex * qy - ey * qx
            t = (qx * ex + qy * ey) / scale
            t = 0.0 if t < 0.0 else t
            t = 1.0 if t > 1.0 else t
            dx, dy = qx - t * ex, qy - t * ey
            apart = dx * dx + dy * dy
            depth[q] = side if side < depth[q] else depth[q]
            nearest[q] = apart if apart < nearest[q] else nearest[q]
    for q in range(c):
        ok[q] = depth[q] >= 0 or nearest[q] <= p.hull_margin * p.hull_margin


@njit(cache=True, nogil=True)
def sector_weights(difference, sigma, out):
    """Fill `out[k]`, k of 6 sectors: integral over the sector of N(0, sigma) centred on `difference`.

    The centres -pi + (k + 1/2) pi/3 - difference, each reduced to [-pi, pi), are a sixth of a turn apart:
    seven bounds between them.
    """
    sixth, scale = math.pi / 3, sigma * math.sqrt(2.0)
    turns = (math.pi / 6 - difference) / sixth
    k = -math.floor(turns)  # the sector whose centre comes first
    least = -math.pi + (turns + k) * sixth - sixth / 2
    below = math.erf(least / scale)
    for step in range(1, 7):
        above = math.erf((least + step * sixth) / scale)
        out[(k + step - 1) % 6] = 0.5 * (above - below)
        below = above


@njit(cache=True, nogil=True)
def gaussian(offset, step, sigma, out):
    """Fill `out[j]` = exp(-(offset - j step)^2 / (2 sigma^2)) by the ratios of one to the next."""
    half = 0.5 / (sigma * sigma)
    value = math.exp(-offset * offset * half)
    ratio, fall = math.exp((2 * offset - step) * step * half), math.exp(-2 * step * step * half)
    for j in range(WINDOW):
        out[j] = value
        value *= ratio
        ratio *= fall


@njit(cache=True, nogil=True)
def add_neighbour(u, v, sectors, rows, p, level, window):
    """Add G(|(u, v) - p_q|; sigma_s) sectors[k] to `level[k, PAD + q]` for the cells q within 3 sigma_s."""
    step, middle, reach = 2 * p.radius / p.across, (p.across - 1) / 2, 3 * p.sigma_s
    first, top = math.floor((u - reach) / step + middle), math.floor((v - reach) / step + middle)
    if max(first, top) >= p.across or min(first, top) <= -WINDOW:
        return
    left, up = u - (first - middle) * step, v - (top - middle) * step
    across, down, here = window
    gaussian(left, step, p.sigma_s, across)
    gaussian(up, step, p.sigma_s, down)
    for i in range(max(0, -top), min(WINDOW, p.across - top)):
        begin, column, count = rows[top + i]
        y2, before = (up - i * step) ** 2, column - first
        if y2 > reach * reach or before >= WINDOW or before + count <= 0:
            continue
        share = down[i] / (p.sigma_s * math.sqrt(2 * math.pi))
        for j in range(WINDOW):
            x = left - j * step
            inside = (x * x + y2 <= reach * reach) & (j >= before) & (j < before + count)
            here[j] = across[j] * share if inside else 0.0
        at = np.uint64(PAD + begin - before)
        for k in range(6):
            for j in range(np.uint64(WINDOW)):
                level[k, at + j] += here[j] * sectors[k]


@njit(cache=True, nogil=True)
def add_neighbours(pose, i, begin, end, rows, p, level):
    """Add minutiae `begin` to `end` to the cylinder of minutia i; return how many of them contribute.

    level[k, PAD + q] += sum over t of G(|m_t - p_q|; sigma_s) C_D(dphi_k - (theta_i - theta_t)).
    """
    angle = np.float64(pose[i, 2])
    c, s = math.cos(angle), math.sin(angle)
    sectors, window, contributing, far = (
        np.empty(6),
        np.empty((3, WINDOW)),
        0,
        (p.radius + 3 * p.sigma_s) ** 2,
    )
    for t in range(begin, end):
        dx, dy = pose[t, 0] - pose[i, 0], pose[t, 1] - pose[i, 1]
        if t == i or dx * dx + dy * dy > far:
            continue
        contributing += 1
        sector_weights(angle - pose[t, 2], p.sigma_d, sectors)
        add_neighbour(c * dx - s * dy, s * dx + c * dy, sectors, rows, p, level, window)
    return contributing


@njit(cache=True, nogil=True)
def pack_cylinder(level, ok, threshold, bits, valid):
    """Set bit q of `valid` (3,) where cell q is valid, and of sector k's words of `bits` (18,) where on."""
    one = np.uint64(1)
    for word in range(3):
        near = np.uint64(0)
        for b in range(64):
            near |= np.uint64(ok[64 * word + b]) << np.uint64(b)
        valid[word] = near
        for k in range(6):
            on = np.uint64(0)
            cells = level[k, PAD + 64 * word : PAD + 64 * (word + 1)]
            for b in range(64):
                on |= (one if cells[b] >= threshold else np.uint64(0)) << np.uint64(b)
            bits[3 * k + word] = on & near


@njit(cache=True, nogil=True)
def cylinders(pose, sure, corners, sure_corners, cells, p):
    """Return bits (m, 18), valid (m, 3) uint64 and minutia (m,) int16 of the valid cylinders, twice.

    First of all minutiae, then of the first `sure` alone, each with the corners of its convex hull. A
    cylinder is valid with `p.least_valid` of its cells near the hull and `p.least_minutiae` contributing.
    """
    n, c = len(pose), len(cells)
    bits, valid = np.zeros((2, n, 18), np.uint64), np.zeros((2, n, 3), np.uint64)
    minutia, m = np.empty((2, n), np.int16), np.zeros(2, np.int64)
    rows, hulls = rows_of(cells, p), (edges_of(corners), edges_of(sure_corners))
    at, level = np.empty((2, c)), np.empty((6, c + 2 * PAD))
    depth, nearest, ok = np.empty(c), np.empty(c), np.empty(c, np.bool_)
    for i in range(n):
        angle = np.float64(pose[i, 2])
        cos, sin = math.cos(angle), math.sin(angle)
        for q in range(c):
            at[0, q] = pose[i, 0] + cos * cells[q, 0] + sin * cells[q, 1]
            at[1, q] = pose[i, 1] - sin * cells[q, 0] + cos * cells[q, 1]
        level[:] = 0.0
        contributing = begin = 0
        for kind in (1, 0):
            end = sure if kind == 1 else n
            if i >= end:
                continue
            near_cells(pose[i, 0], pose[i, 1], at, hulls[kind], p, depth, nearest, ok)
            contributing += add_neighbours(pose, i, begin, end, rows, p, level)
            begin = end
            if ok.sum() < p.least_valid * c or contributing < p.least_minutiae:
                continue
            pack_cylinder(level, ok, p.threshold, bits[kind, m[kind]], valid[kind, m[kind]])
            minutia[kind, m[kind]] = i
            m[kind] += 1
    e, s = m
    every = bits[0, :e].copy(), valid[0, :e].copy(), minutia[0, :e].copy()
    return every, (bits[1, :s].copy(), valid[1, :s].copy(), minutia[1, :s].copy())
