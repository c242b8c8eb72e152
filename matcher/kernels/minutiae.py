"""Minutiae: cylinder codes, relaxation of pairs, and the motion and bending that bring two prints together.

Cylinders and relaxation are those of [1]_, the spline is that of [2]_ with the smoothing of [3]_.

References
----------
.. [1] R. Cappelli, M. Ferrara, D. Maltoni, "Minutia Cylinder-Code", IEEE TPAMI 32(12), 2010,
   doi:10.1109/TPAMI.2010.52 (cylinder, its bit-oriented form, local similarity sort with relaxation).
.. [2] F. L. Bookstein, "Principal warps: thin-plate splines and the decomposition of deformations", IEEE
   TPAMI 11(6), 1989, doi:10.1109/34.24792.
.. [3] G. Wahba, "Spline models for observational data", SIAM 1990 (the smoothing spline).
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
def structure(worth, relaxed, fewer, p):
    """Return the mean relaxed worth of the n_p pairs of best gain; fewer pairs count as worth 0."""
    wanted = pair_count(fewer, p)
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
def propose(a, b, pairs, rho, relaxed, p):
    """Return up to `p.proposals` motions (k, 3), each (turn, dx, dy), of the pairs of most relaxed worth.

    Pair s proposes the least-squares motion of the pairs weighted by rho(s, t) relaxed(t); alone, the motion
    that a point and a direction fix.
    """
    motions = np.empty((min(p.proposals, len(pairs)), 3))
    for k, s in enumerate(np.argsort(-relaxed, kind="mergesort")[: p.proposals]):
        weight = rho[s] * relaxed
        weight[s] = relaxed[s]
        if weight.sum() < 1.2 * relaxed[s]:
            i, j = pairs[s, 0], pairs[s, 1]
            turn = wrapped(b[j, 2] - a[i, 2])
            c, q = math.cos(turn), math.sin(turn)
            dx, dy = b[j, 0] - (c * a[i, 0] + q * a[i, 1]), b[j, 1] - (-q * a[i, 0] + c * a[i, 1])
        else:
            turn, dx, dy = fit_rigid(a, b, pairs, weight)
        motions[k, 0], motions[k, 1], motions[k, 2] = turn, dx, dy
    return motions


@njit(cache=True, nogil=True)
def distinct(motions, x, y, p):
    """Return the first `p.tried` motions that are not alike: (x, y) lands apart, or turned otherwise."""
    kept, k = np.empty((p.tried, 3)), 0
    for motion in motions:
        c, s = math.cos(motion[0]), math.sin(motion[0])
        u, v = c * x + s * y + motion[1], -s * x + c * y + motion[2]
        new = k < p.tried
        for other in kept[:k]:
            c, s = math.cos(other[0]), math.sin(other[0])
            apart = math.hypot(c * x + s * y + other[1] - u, -s * x + c * y + other[2] - v)
            new = new and (apart > p.alike or abs(wrapped(motion[0] - other[0])) > p.alike_turn)
        if new:
            kept[k] = motion
            k += 1
    return kept[:k]


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
    cost, flat, k = np.empty(na * nb), np.empty(na * nb, np.int64), 0
    for i in range(na):
        for j in range(nb):
            ex, ey = a[i, 0] - b[j, 0], a[i, 1] - b[j, 1]
            d2 = ex * ex + ey * ey
            if d2 > distance * distance:
                continue
            apart = abs(wrapped(a[i, 2] - b[j, 2]))
            if apart <= angle:
                cost[k] = d2 / (distance * distance) + (apart / angle) ** 2
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
def spline(at, shift, stiffness):
    """Return the thin-plate spline (n + 3, 2) that shifts the points `at` (n, 2) by about `shift` (n, 2).

    It minimises sum |f(at) - shift|^2 + stiffness (bending energy, up to a factor):
    [[K + stiffness I, P], [P^T, -e I]] W = [shift; 0], K_ij = r_ij^2 ln r_ij^2, P = [100, x, y]; the small e
    keeps points on one line solvable.
    """
    n = len(at)
    system, wanted = np.zeros((n + 3, n + 3)), np.zeros((n + 3, 2))
    for i in range(n):
        for j in range(i):
            r2 = (at[i, 0] - at[j, 0]) ** 2 + (at[i, 1] - at[j, 1]) ** 2
            system[i, j] = system[j, i] = r2 * math.log(r2) if r2 > 0 else 0.0
        system[i, i] = stiffness
        system[i, n] = system[n, i] = 100.0
        system[i, n + 1] = system[n + 1, i] = at[i, 0]
        system[i, n + 2] = system[n + 2, i] = at[i, 1]
        wanted[i] = shift[i]
    for k in range(n, n + 3):
        system[k, k] = -1e-6
    return np.linalg.solve(system, wanted)


@njit(cache=True, nogil=True)
def bent(points, at, w):
    """Return the shift (m, 2) that the spline `w` (n + 3, 2) over `at` (n, 2) gives points; 0 without one."""
    n = len(at)
    out = np.zeros((len(points), 2))
    if n == 0:
        return out
    for q in range(len(points)):
        x, y = points[q, 0], points[q, 1]
        u = w[n, 0] * 100.0 + w[n + 1, 0] * x + w[n + 2, 0] * y
        v = w[n, 1] * 100.0 + w[n + 1, 1] * x + w[n + 2, 1] * y
        for i in range(n):
            r2 = (at[i, 0] - x) ** 2 + (at[i, 1] - y) ** 2
            if r2 > 0:
                value = r2 * math.log(r2)
                u += w[i, 0] * value
                v += w[i, 1] * value
        out[q, 0], out[q, 1] = u, v
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
            at[q] = rigid[pairs[q, 0], :2]
            shift[q] = b[pairs[q, 1], :2] - at[q]
        w = spline(at, shift, p.stiffness)
        lying[:, :2] = rigid[:, :2] + bent(rigid, at, w)
        pairs, misfit = grow_pairs(lying, b, tolerance, p.angle)
    return lying, pairs, misfit, at, w


@njit(cache=True, nogil=True)
def within(pose, corners, margin):
    """Return which points (n,) lie inside the hull of `corners` (m, 3), or within `margin` of it."""
    inside = np.zeros(len(pose), np.bool_)
    if len(corners):
        hull = corners[convex_hull(corners)]
        for i in range(len(pose)):
            inside[i] = near_hull(pose[i, 0], pose[i, 1], hull, margin)
    return inside
