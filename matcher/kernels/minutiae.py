"""Every compiled kernel of the package: plain arrays in, plain arrays out, formulas as docstrings.

`pose` is float32 (n, 3): x, y in pixels at 500 ppi (y down) and the angle in radians, counter-clockwise as
seen. `cells` is float32 (c, 2): cell centres of a cylinder in its own frame. Each kernel has an obvious twin
in `tests/naive.py`. `p` is a `NamedTuple` of numbers (`cylinders.Shape` or `compare.Relaxation`).

The formulas are those of R. Cappelli, M. Ferrara, D. Maltoni, "Minutia Cylinder-Code", IEEE TPAMI 32(12),
2010, doi:10.1109/TPAMI.2010.52: its cylinder, its bit-oriented form, its local similarity sort with
relaxation.

All kernels of a package stand in one file: a cached kernel that calls a compiled function of another file
keeps a stale result after that file changes. None is parallel: they are called from several threads.
"""

import math

import numpy as np
from numba import njit, types
from numba.extending import intrinsic


@intrinsic
def popcount(typing_context, value):
    """Return the number of set bits of a uint64 (one machine instruction)."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def wrapped(angle):
    """Return `angle` reduced to [-pi, pi)."""
    return angle - 2 * math.pi * math.floor(angle / (2 * math.pi) + 0.5)


@njit(cache=True, nogil=True)
def convex_hull(pose):
    """Return the indices of the hull of the points, counter-clockwise in (x, y): Andrew's monotone chain."""
    n = len(pose)
    order = np.argsort(pose[:, 0].astype(np.float64) * 65536.0 + pose[:, 1])
    hull = np.empty(2 * n + 2, np.int64)
    k = 0
    lower = 0
    for step in range(2 * n - 1):
        i = order[step] if step < n else order[2 * n - 2 - step]
        if step == n:
            lower = k - 1
        while k - lower >= 2:
            a, b = pose[hull[k - 2]], pose[hull[k - 1]]
            if (b[0] - a[0]) * (pose[i, 1] - a[1]) - (b[1] - a[1]) * (pose[i, 0] - a[0]) > 0:
                break
            k -= 1
        hull[k] = i
        k += 1
    return hull[: max(k - 1, 1)]


@njit(cache=True, nogil=True)
def near_hull(x, y, corners, margin):
    """Return whether (x, y) lies inside the counter-clockwise polygon or within `margin` of its edge."""
    m = len(corners)
    inside = m > 2
    nearest = np.inf
    for a in range(m):
        b = (a + 1) % m
        ex, ey = corners[b, 0] - corners[a, 0], corners[b, 1] - corners[a, 1]
        qx, qy = x - corners[a, 0], y - corners[a, 1]
        if ex * qy - ey * qx < 0:
            inside = False
        length = ex * ex + ey * ey
        t = 0.0 if length == 0 else min(1.0, max(0.0, (qx * ex + qy * ey) / length))
        dx, dy = qx - t * ex, qy - t * ey
        nearest = min(nearest, dx * dx + dy * dy)
    return inside or nearest <= margin * margin


@njit(cache=True, nogil=True)
def sector_weights(difference, sigma, out):
    """Fill `out[k]`, k of 6 sectors: integral over the sector of N(0, sigma) centred on `difference`.

    C_D(dphi_k - difference), dphi_k = -pi + (k + 1/2) pi/3.
    """
    half = math.pi / 6
    scale = sigma * math.sqrt(2.0)
    for k in range(6):
        a = wrapped(-math.pi + (2 * k + 1) * half - difference)
        out[k] = 0.5 * (math.erf((a + half) / scale) - math.erf((a - half) / scale))


@njit(cache=True, nogil=True)
def place_cells(pose, i, cells, corners, p, at):
    """Fill `at` (c, 2) with minutia i's cell centres in the image; return which cells are near the hull.

    p_ij = m.xy + R(theta) cell, R turning counter-clockwise as seen (y down).
    """
    c, s = math.cos(pose[i, 2]), math.sin(pose[i, 2])
    ok = np.empty(len(cells), np.bool_)
    for q in range(len(cells)):
        at[q, 0] = pose[i, 0] + c * cells[q, 0] + s * cells[q, 1]
        at[q, 1] = pose[i, 1] - s * cells[q, 0] + c * cells[q, 1]
        ok[q] = near_hull(at[q, 0], at[q, 1], corners, p.hull_margin)
    return ok


@njit(cache=True, nogil=True)
def cylinder(pose, i, at, ok, p, level):
    """Fill `level` (6, c) with the cell values of minutia i; return how many minutiae contribute.

    level[k, q] = sum over t of G(|m_t - p_q|; sigma_s) C_D(dphi_k - (theta_i - theta_t)).
    """
    level[:] = 0.0
    contributing = 0
    sectors = np.empty(6)
    reach = 3 * p.sigma_s
    for t in range(len(pose)):
        dx, dy = pose[t, 0] - pose[i, 0], pose[t, 1] - pose[i, 1]
        if t == i or dx * dx + dy * dy > (p.radius + reach) ** 2:
            continue
        contributing += 1
        sector_weights(wrapped(pose[i, 2] - pose[t, 2]), p.sigma_d, sectors)
        for q in range(at.shape[0]):
            ex, ey = pose[t, 0] - at[q, 0], pose[t, 1] - at[q, 1]
            d2 = ex * ex + ey * ey
            if ok[q] and d2 <= reach * reach:
                g = math.exp(-d2 / (2 * p.sigma_s * p.sigma_s)) / (p.sigma_s * math.sqrt(2 * math.pi))
                for k in range(6):
                    level[k, q] += g * sectors[k]
    return contributing


@njit(cache=True, nogil=True)
def pack_cylinder(level, ok, threshold, bits, valid):
    """Set bit q of `valid` (3,) where cell q is valid, and of sector k's words of `bits` (18,) where on."""
    for q in range(ok.shape[0]):
        if not ok[q]:
            continue
        word, bit = q >> 6, np.uint64(1) << np.uint64(q & 63)
        valid[word] |= bit
        for k in range(6):
            if level[k, q] >= threshold:
                bits[3 * k + word] |= bit


@njit(cache=True, nogil=True)
def cylinders(pose, cells, p):
    """Return bits (m, 18) uint64, valid (m, 3) uint64 and minutia (m,) int16 of the valid cylinders.

    A cylinder is valid with `p.least_valid` of its cells near the hull and `p.least_minutiae` contributing.
    """
    n = len(pose)
    bits, valid = np.zeros((n, 18), np.uint64), np.zeros((n, 3), np.uint64)
    minutia = np.empty(n, np.int16)
    corners = pose[convex_hull(pose)]
    at = np.empty((len(cells), 2))
    level = np.empty((6, len(cells)))
    m = 0
    for i in range(n):
        ok = place_cells(pose, i, cells, corners, p, at)
        if ok.sum() < p.least_valid * len(cells):
            continue
        if cylinder(pose, i, at, ok, p, level) < p.least_minutiae:
            continue
        pack_cylinder(level, ok, p.threshold, bits[m], valid[m])
        minutia[m] = i
        m += 1
    return bits[:m].copy(), valid[:m].copy(), minutia[:m].copy()


@njit(cache=True, nogil=True)
def similarity(a, a_valid, i, b, b_valid, j, least_common):
    """Return 1 - |a_i ^ b_j| / (|a_i| + |b_j|) over the common valid cells, |v| = sqrt(popcount(v)).

    0 where fewer than `least_common` cells are valid in both.
    """
    c0, c1, c2 = a_valid[i, 0] & b_valid[j, 0], a_valid[i, 1] & b_valid[j, 1], a_valid[i, 2] & b_valid[j, 2]
    if popcount(c0) + popcount(c1) + popcount(c2) < least_common:
        return 0.0
    ones_a = ones_b = differing = np.uint64(0)
    for k in range(0, 18, 3):
        a0, a1, a2 = a[i, k] & c0, a[i, k + 1] & c1, a[i, k + 2] & c2
        b0, b1, b2 = b[j, k] & c0, b[j, k + 1] & c1, b[j, k + 2] & c2
        ones_a += popcount(a0) + popcount(a1) + popcount(a2)
        ones_b += popcount(b0) + popcount(b1) + popcount(b2)
        differing += popcount(a0 ^ b0) + popcount(a1 ^ b1) + popcount(a2 ^ b2)
    norm = math.sqrt(ones_a) + math.sqrt(ones_b)
    return 1.0 - math.sqrt(differing) / norm if norm > 0 else 0.0


@njit(cache=True, nogil=True)
def similarities(a, a_valid, b, b_valid, least_common):
    """Return the similarity (ma, mb) float32 of every pair of cylinders."""
    out = np.empty((len(a), len(b)), np.float32)
    for i in range(len(a)):
        for j in range(len(b)):
            out[i, j] = similarity(a, a_valid, i, b, b_valid, j, least_common)
    return out


@njit(cache=True, nogil=True)
def best_pairs(similar, a, b, turn, p):
    """Return up to min(ma, mb) one-to-one pairs (k, 2) and their similarities, best first, greedily.

    A pair counts only when its direction difference is within `p.most_turn` of `turn`. Pairs are ordered by a
    counting sort of similarity in 1/1024, ties by position: linear time and the same on every machine.
    """
    ma, mb = similar.shape
    steps = 1024
    step = np.full((ma, mb), -1, np.int16)
    start = np.zeros(steps + 1, np.int64)
    for i in range(ma):
        for j in range(mb):
            if similar[i, j] > 0 and abs(wrapped(b[j, 2] - a[i, 2] - turn)) <= p.most_turn:
                step[i, j] = steps - 1 - min(steps - 1, int(similar[i, j] * steps))
                start[step[i, j] + 1] += 1
    start = np.cumsum(start)
    order = np.empty(start[steps], np.int64)
    for i in range(ma):
        for j in range(mb):
            if step[i, j] >= 0:
                order[start[step[i, j]]] = i * mb + j
                start[step[i, j]] += 1
    used_a, used_b = np.zeros(ma, np.bool_), np.zeros(mb, np.bool_)
    pairs = np.empty((min(ma, mb), 2), np.int64)
    worth = np.empty(min(ma, mb))
    k = 0
    for flat in order:
        i, j = flat // mb, flat % mb
        if not (used_a[i] or used_b[j]):
            used_a[i] = used_b[j] = True
            pairs[k, 0], pairs[k, 1], worth[k] = i, j, similar[i, j]
            k += 1
    return pairs[:k], worth[:k]


@njit(cache=True, nogil=True)
def compatibility(a, b, pairs, p):
    """Return rho (k, k): how well two pairs agree on distance, direction and radial angle.

    rho(s, t) = product over i of logistic(tau_i (d_i - mu_i)); d_1 the difference of the two distances, d_2
    of the two direction differences, d_3 of the two radial angles. The diagonal is 0.
    """
    k = len(pairs)
    rho = np.zeros((k, k))
    negligible = -25.0  # a factor of e^-25: below the last bit of any score
    for s in range(k):
        a_s, b_s = a[pairs[s, 0]], b[pairs[s, 1]]
        for t in range(s + 1, k):
            a_t, b_t = a[pairs[t, 0]], b[pairs[t, 1]]
            ax, ay, bx, by = a_t[0] - a_s[0], a_t[1] - a_s[1], b_t[0] - b_s[0], b_t[1] - b_s[1]
            e1 = p.tau_distance * (abs(math.hypot(ax, ay) - math.hypot(bx, by)) - p.mu_distance)
            if e1 < negligible:
                continue
            turn_a, turn_b = wrapped(a_s[2] - a_t[2]), wrapped(b_s[2] - b_t[2])
            e2 = p.tau_angle * (abs(wrapped(turn_a - turn_b)) - p.mu_angle)
            radial_a = wrapped(a_s[2] - math.atan2(-ay, ax))
            radial_b = wrapped(b_s[2] - math.atan2(-by, bx))
            e3 = p.tau_angle * (abs(wrapped(radial_a - radial_b)) - p.mu_angle)
            if e2 < negligible or e3 < negligible:
                continue
            value = 1.0 / ((1.0 + math.exp(-e1)) * (1.0 + math.exp(-e2)) * (1.0 + math.exp(-e3)))
            rho[s, t] = rho[t, s] = value
    return rho


@njit(cache=True, nogil=True)
def relax(worth, rho, rounds, keep):
    """Return the worth of each pair after `rounds` of l <- keep l + (1 - keep)/(k - 1) rho l."""
    k = len(worth)
    relaxed = worth.copy()
    for _ in range(rounds):
        relaxed = keep * relaxed + (1.0 - keep) / max(k - 1, 1) * (rho @ relaxed)
    return relaxed


@njit(cache=True, nogil=True)
def pair_count(fewer, p):
    """Return n_p = least + round(logistic(steepness (fewer - middle)) (most - least))."""
    share = 1.0 / (1.0 + math.exp(-p.pairs_steepness * (fewer - p.pairs_middle)))
    return p.pairs_least + round(share * (p.pairs_most - p.pairs_least))


@njit(cache=True, nogil=True)
def relaxed_score(similar, a, b, turn, p):
    """Return the mean relaxed worth of the n_p pairs of best gain; fewer pairs count as worth 0."""
    pairs, worth = best_pairs(similar, a, b, turn, p)
    if len(pairs) < 2:
        return 0.0
    relaxed = relax(worth, compatibility(a, b, pairs, p), p.rounds, p.keep)
    wanted = pair_count(min(len(a), len(b)), p)
    best = np.argsort(-relaxed / worth, kind="mergesort")[:wanted]  # stable: equal gains are common
    return relaxed[best].sum() / wanted


@njit(cache=True, nogil=True)
def fit_rigid(a, b, pairs, weight):
    """Return (turn, dx, dy) least squares: b = R(turn) a + (dx, dy), R counter-clockwise as seen (y down)."""
    total = weight.sum()
    ax = ay = bx = by = 0.0
    for q in range(len(pairs)):
        w = weight[q] / total
        ax += w * a[pairs[q, 0], 0]
        ay += w * a[pairs[q, 0], 1]
        bx += w * b[pairs[q, 1], 0]
        by += w * b[pairs[q, 1], 1]
    c = s = 0.0
    for q in range(len(pairs)):
        ux, uy = a[pairs[q, 0], 0] - ax, a[pairs[q, 0], 1] - ay
        vx, vy = b[pairs[q, 1], 0] - bx, b[pairs[q, 1], 1] - by
        c += weight[q] * (ux * vx + uy * vy)
        s += weight[q] * (uy * vx - ux * vy)
    turn = math.atan2(s, c)
    c, s = math.cos(turn), math.sin(turn)
    return turn, bx - (c * ax + s * ay), by - (-s * ax + c * ay)


@njit(cache=True, nogil=True)
def grow_pairs(a, b, turn, dx, dy, distance, angle):
    """Return one-to-one pairs (k, 2) of minutiae that coincide once `a` is moved, best first, and misfits.

    misfit = (d / distance)^2 + (dtheta / angle)^2, each part at most 1.
    """
    c, s = math.cos(turn), math.sin(turn)
    na, nb = len(a), len(b)
    cost, flat, k = np.empty(na * nb), np.empty(na * nb, np.int64), 0
    for i in range(na):
        x, y = c * a[i, 0] + s * a[i, 1] + dx, -s * a[i, 0] + c * a[i, 1] + dy
        for j in range(nb):
            ex, ey = x - b[j, 0], y - b[j, 1]
            apart = abs(wrapped(a[i, 2] + turn - b[j, 2]))
            if ex * ex + ey * ey <= distance * distance and apart <= angle:
                cost[k] = (ex * ex + ey * ey) / (distance * distance) + (apart / angle) ** 2
                flat[k] = i * nb + j
                k += 1
    used_a, used_b = np.zeros(na, np.bool_), np.zeros(nb, np.bool_)
    pairs, misfit, m = np.empty((min(na, nb), 2), np.int64), np.empty(min(na, nb)), 0
    for q in np.argsort(cost[:k], kind="mergesort"):
        i, j = flat[q] // nb, flat[q] % nb
        if not (used_a[i] or used_b[j]):
            used_a[i] = used_b[j] = True
            pairs[m, 0], pairs[m, 1], misfit[m] = i, j, cost[q]
            m += 1
    return pairs[:m], misfit[:m]


@njit(cache=True, nogil=True)
def align(a, b, pairs, rho, relaxed, p):
    """Return the (turn, dx, dy) under which most minutiae coincide, of those that the best pairs propose.

    Pair s proposes the least-squares motion of the pairs weighted by rho(s, t) relaxed(t); the proposal with
    the largest sum of exp(-misfit) over the grown pairs wins.
    """
    best, turn, dx, dy = -1.0, 0.0, 0.0, 0.0
    for s in np.argsort(-relaxed)[: p.proposals]:
        weight = rho[s] * relaxed
        weight[s] = relaxed[s]
        if weight.sum() < 1.2 * relaxed[s]:  # alone: a point and a direction fix the motion
            i, j = pairs[s, 0], pairs[s, 1]
            r = wrapped(b[j, 2] - a[i, 2])
            c, q = math.cos(r), math.sin(r)
            x, y = b[j, 0] - (c * a[i, 0] + q * a[i, 1]), b[j, 1] - (-q * a[i, 0] + c * a[i, 1])
        else:
            r, x, y = fit_rigid(a, b, pairs, weight)
        _, misfit = grow_pairs(a, b, r, x, y, p.grow_distance, p.grow_angle)
        if np.exp(-misfit).sum() > best:
            best, turn, dx, dy = np.exp(-misfit).sum(), r, x, y
    return turn, dx, dy
