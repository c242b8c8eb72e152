"""Minutiae: relaxation of pairs, the motions that they propose, and the share that met.

Relaxation is that of [1]_. How a motion is followed up is in `matcher.kernels.ridges`.

References
----------
.. [1] R. Cappelli, M. Ferrara, D. Maltoni, "Minutia Cylinder-Code", IEEE TPAMI 32(12), 2010,
   doi:10.1109/TPAMI.2010.52 (local similarity sort with relaxation).
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray


@intrinsic
def popcount(typing_context, value):
    """Return the number of set bits of a uint64 (one machine instruction)."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@njit(cache=True, nogil=True)
def wrapped(angle):
    """Return `angle` reduced to [-pi, pi)."""
    return angle - 2 * math.pi * np.floor(angle / (2 * math.pi) + 0.5)


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
def similarities(a, a_valid, b, b_valid, least_common):
    """Return the similarity (ma, mb) float32 of every pair of cylinders, 0 where too few cells are common.

    1 - |a ^ b| / (|a| + |b|) over the cells valid in both, `least_common` of them, |v| = sqrt(popcount(v)).
    The words of all b stand side by side, so that a processor counts several cylinders at a time.
    """
    ma, mb = len(a), len(b)
    out = np.empty((ma, mb), np.float32)
    words, valid = b.T.copy(), b_valid.T.copy()
    for i in range(ma):
        v0, v1, v2 = a_valid[i]
        for j in range(mb):
            c0, c1, c2 = v0 & valid[0, j], v1 & valid[1, j], v2 & valid[2, j]
            ones_a = ones_b = differing = np.int64(0)
            for k in range(0, 18, 3):
                a0, a1, a2 = a[i, k] & c0, a[i, k + 1] & c1, a[i, k + 2] & c2
                b0, b1, b2 = words[k, j] & c0, words[k + 1, j] & c1, words[k + 2, j] & c2
                ones_a += np.int64(popcount(a0) + popcount(a1) + popcount(a2))
                ones_b += np.int64(popcount(b0) + popcount(b1) + popcount(b2))
                differing += np.int64(popcount(a0 ^ b0) + popcount(a1 ^ b1) + popcount(a2 ^ b2))
            common = np.int64(popcount(c0) + popcount(c1) + popcount(c2))
            norm = math.sqrt(ones_a) + math.sqrt(ones_b)
            value = 1.0 - np.divide(math.sqrt(differing), max(norm, 0.5))
            out[i, j] = value if common >= least_common and norm > 0 else 0.0
    return out


@njit(cache=True, nogil=True)
def best_pairs(similar, a, b, turn, p):
    """Return up to min(ma, mb) one-to-one pairs (k, 2) and their similarities, best first, greedily.

    A pair counts only when its direction difference is within `p.most_turn` of `turn`. Pairs are ordered by
    similarity in 1/1024, ties by position. A pair's `rank` is that step and, in its last byte, its column
    from the end: there are at most 255 cylinders. `row` is the best rank that each row has left.
    """
    ma, mb = similar.shape
    rank, row = np.empty((ma, mb), np.int32), np.zeros(ma, np.int32)
    for i in range(ma):
        best = np.int32(0)
        for j in range(mb):
            within = abs(wrapped(b[j, 2] - a[i, 2] - turn)) <= p.most_turn
            step = np.int32(min(similar[i, j] * np.float32(1024), np.float32(1023)))
            rank[i, j] = (step + 1) * 256 + 255 - j if within and similar[i, j] > 0 else 0
            best = max(best, rank[i, j])
        row[i] = best
    free = np.empty(mb, np.int32)
    free[:] = -1
    pairs, worth, k = np.empty((min(ma, mb), 2), np.int64), np.empty(min(ma, mb)), 0
    while k < len(pairs):
        best = np.int32(0)
        for i in range(ma):
            best = max(best, (row[i] | np.int32(255)) - np.int32(i))
        if best < 256:
            break
        i = 255 - int(best & 255)
        j = 255 - (row[i] & 255)
        pairs[k, 0], pairs[k, 1], worth[k] = i, j, similar[i, j]
        k += 1
        row[i] = free[j] = 0
        for i in range(ma):
            if row[i] & 255 == 255 - j and row[i] > 0:
                best = np.int32(0)
                for q in range(mb):
                    best = max(best, rank[i, q] & free[q])
                row[i] = best
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
    x, y, u, v, turn = np.empty(k), np.empty(k), np.empty(k), np.empty(k), np.empty(k)
    for s in range(k):
        i, j = pairs[s]
        x[s], y[s], u[s], v[s], turn[s] = a[i, 0], a[i, 1], b[j, 0], b[j, 1], np.float64(a[i, 2]) - b[j, 2]
    e1, e2 = np.empty(k), np.empty(k)
    for s in range(k):
        for t in range(s + 1, k):
            ax, ay, bx, by = x[t] - x[s], y[t] - y[s], u[t] - u[s], v[t] - v[s]
            apart = abs(math.sqrt(ax * ax + ay * ay) - math.sqrt(bx * bx + by * by))
            e1[t] = p.tau_distance * (apart - p.mu_distance)
        for t in range(s + 1, k):
            e2[t] = p.tau_angle * (abs(wrapped(turn[s] - turn[t])) - p.mu_angle)
        for t in range(s + 1, k):
            if e1[t] < negligible or e2[t] < negligible:
                continue
            ax, ay, bx, by = x[t] - x[s], y[t] - y[s], u[t] - u[s], v[t] - v[s]
            ax += ax == 0 and ay == 0  # of two in one place, one lies to the right of the other
            bx += bx == 0 and by == 0
            radial = turn[s] - math.atan2(ax * by - ay * bx, ax * bx + ay * by)
            e3 = p.tau_angle * (abs(wrapped(radial)) - p.mu_angle)
            if e3 >= negligible:
                value = 1.0 / ((1.0 + math.exp(-e1[t])) * (1.0 + math.exp(-e2[t])) * (1.0 + math.exp(-e3)))
                rho[s, t] = rho[t, s] = value
    return rho


@njit(cache=True, nogil=True)
def relax(worth, rho, rounds, keep):
    """Return the worth of each pair after `rounds` of l <- keep l + (1 - keep)/(k - 1) rho l."""
    k = len(worth)
    relaxed, support = worth.copy(), np.empty(k)
    share = (1.0 - keep) / max(k - 1, 1)
    for _ in range(rounds):
        support[:] = 0.0
        for s in range(k):
            for t in range(k):
                support[t] += rho[s, t] * relaxed[s]
        for s in range(k):
            relaxed[s] = keep * relaxed[s] + share * support[s]
    return relaxed


@njit(cache=True, nogil=True)
def pair_count(fewer, p):
    """Return n_p = least + round(logistic(steepness (fewer - middle)) (most - least))."""
    share = 1.0 / (1.0 + math.exp(-p.pairs_steepness * (fewer - p.pairs_middle)))
    return p.pairs_least + round(share * (p.pairs_most - p.pairs_least))


@njit(cache=True, nogil=True)
def leading(values, count):
    """Return where the `count` largest values stand, the largest first; of equal ones the first first."""
    count = min(count, len(values))
    left, where = values.copy(), np.empty(count, np.int64)
    for k in range(count):
        best = 0
        for s in range(1, len(left)):
            if left[s] > left[best]:
                best = s
        where[k] = best
        left[best] = -np.inf
    return where


@njit(cache=True, nogil=True)
def structure(worth, relaxed, fewer, p):
    """Return the mean relaxed worth of the n_p pairs of best gain; fewer pairs count as worth 0."""
    wanted = pair_count(fewer, p)
    total = 0.0
    for s in leading(relaxed / worth, wanted):  # of equal gains, which are common, the first
        total += relaxed[s]
    return total / wanted


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


class Hypothesis(NamedTuple):
    """That two prints are upright, or turned, to each other, by some cylinders: see `hypothesis`."""

    structure: float
    a: NDArray[np.float32]
    b: NDArray[np.float32]
    pairs: NDArray[np.int64]
    rho: NDArray[np.float64]
    relaxed: NDArray[np.float64]
    proposing: NDArray[np.int64]


@njit(cache=True, nogil=True)
def propose(one, n):
    """Return the motion (turn, dx, dy) that the n-th proposing pair s of a `Hypothesis` proposes.

    The least-squares motion of the pairs weighted by rho(s, t) relaxed(t); alone, the motion that a point and
    a direction fix.
    """
    a, b, pairs, relaxed, s = one.a, one.b, one.pairs, one.relaxed, one.proposing[n]
    weight = one.rho[s] * relaxed
    weight[s] = relaxed[s]
    if weight.sum() >= 1.2 * relaxed[s]:
        return fit_rigid(a, b, pairs, weight)
    i, j = pairs[s]
    turn = wrapped(b[j, 2] - a[i, 2])
    c, q = math.cos(turn), math.sin(turn)
    return turn, b[j, 0] - (c * a[i, 0] + q * a[i, 1]), b[j, 1] - (-q * a[i, 0] + c * a[i, 1])


@njit(cache=True, nogil=True)
def is_new(motion, others, x, y, p):
    """Return whether a motion is like none of the others: (x, y) lands apart, or turned otherwise."""
    c, s = math.cos(motion[0]), math.sin(motion[0])
    u, v = c * x + s * y + motion[1], -s * x + c * y + motion[2]
    for other in others:
        c, s = math.cos(other[0]), math.sin(other[0])
        apart = math.hypot(c * x + s * y + other[1] - u, -s * x + c * y + other[2] - v)
        if apart <= p.alike and abs(wrapped(motion[0] - other[0])) <= p.alike_turn:
            return False
    return True


@njit(cache=True, nogil=True)
def hypothesis(similar, a, b, turn, p):
    """Return the natural logarithm of the structure, what it comes from, and which pairs propose motions."""
    pairs, worth = best_pairs(similar, a, b, turn, p)
    rho = compatibility(a, b, pairs, p)
    relaxed = relax(worth, rho, p.rounds, p.keep)
    if len(pairs) < 2:
        return Hypothesis(math.log(p.floor), a, b, pairs, rho, relaxed, leading(relaxed, 0))
    value = math.log(max(p.floor, structure(worth, relaxed, min(len(a), len(b)), p)))
    return Hypothesis(value, a, b, pairs, rho, relaxed, leading(relaxed, p.proposals))


@njit(cache=True, nogil=True)
def level(pose, ours, others, theirs, p):
    """Return the hypotheses that prints are upright, and turned, to each other, by cylinders of a kind."""
    bits, valid, minutia = ours
    other_bits, other_valid, other_minutia = theirs
    a, b = pose[minutia], others[other_minutia]
    similar = similarities(bits, valid, other_bits, other_valid, p.least_common)
    return [hypothesis(similar, a, b, turn, p) for turn in (0.0, math.pi)]


@njit(cache=True, nogil=True)
def same(ours, theirs):
    """Return whether two kinds of cylinders are the same ones."""
    bits, valid, minutia = ours
    other_bits, other_valid, other_minutia = theirs
    alike = len(minutia) == len(other_minutia)
    for i in range(len(minutia) if alike else 0):
        alike = alike and minutia[i] == other_minutia[i]
        for k in range(18):
            alike = alike and bits[i, k] == other_bits[i, k]
        for k in range(3):
            alike = alike and valid[i, k] == other_valid[i, k]
    return alike


@njit(cache=True, nogil=True)
def levels(probe, reference, p):
    """Return the hypotheses by all cylinders and by the sure ones; once, where those are the same.

    `probe` and `reference` are pose and two kinds of cylinders, of all minutiae and of the sure ones.
    """
    pose, every, sure = probe
    other_pose, other_every, other_sure = reference
    kinds = [(every, other_every), (sure, other_sure)]
    if same(every, sure) and same(other_every, other_sure):
        kinds.pop()
    return [level(pose, ours, other_pose, theirs, p) for ours, theirs in kinds]


@njit(cache=True, nogil=True)
def better(found, p):
    """Return which of the hypotheses of `levels` is the better one, and its structure."""
    upright = turned = 0.0
    for one in found:
        upright += one[0].structure / len(found)
        turned += one[1].structure / len(found)
    return (1, turned) if turned > upright + p.turned_lead else (0, upright)


@njit(cache=True, nogil=True)
def structure_of(probe, reference, p):
    """Return the structure that `motions` returns, alone."""
    return better(levels(probe, reference, p), p)[1]


@njit(cache=True, nogil=True)
def motions(probe, reference, p, q):
    """Return the structure of the better hypothesis, and up to `q.tried` motions (k, 3) worth following up.

    Motions are those of the better hypothesis first, of either kind of cylinders in turn, then those of the
    other; each is new.
    """
    found = levels(probe, reference, p)
    first, structure = better(found, p)
    pose = probe[0]
    x = y = 0.0
    for i in range(len(pose)):
        x += pose[i, 0] / len(pose)
        y += pose[i, 1] / len(pose)
    proposed, k = np.empty((q.tried, 3)), 0
    for side in (first, 1 - first):
        for n in range(p.proposals):
            for both in found:
                if k < q.tried and n < len(both[side].proposing):
                    proposed[k] = propose(both[side], n)
                    k += is_new(proposed[k], proposed[:k], x, y, q)
    return structure, proposed[:k]


@njit(cache=True, nogil=True)
def within(pose, corners, margin):
    """Return which points (n,) lie inside the hull of `corners` (m, 3), or within `margin` of it."""
    inside = np.zeros(len(pose), np.bool_)
    if len(corners):
        hull = corners[convex_hull(corners)]
        for i in range(len(pose)):
            inside[i] = near_hull(pose[i, 0], pose[i, 1], hull, margin)
    return inside


@njit(cache=True, nogil=True)
def weight(quality, p):
    """Return what a minutia counts by its quality, 1 to 100, or 0 where none is stated."""
    return quality / 100 if quality > 0 else p.unstated


@njit(cache=True, nogil=True)
def share(lying, quality, pose, other_quality, pairs, misfit, p):
    """Return the weight of the matched minutiae, and its share of what the common area lets one expect.

    `lying` (n, 3) are the probe's minutiae as they lie on the reference's, `pose`; `pairs` and `misfit` say
    which met, and how well.
    """
    matched, expected = 0.0, 1.0
    for q in range(len(pairs)):
        met = min(weight(quality[pairs[q, 0]], p), weight(other_quality[pairs[q, 1]], p))
        matched += met * math.exp(-misfit[q])
    for seen, one in (
        (within(lying, pose, p.margin), quality),
        (within(pose, lying, p.margin), other_quality),
    ):
        total = p.prior
        for i in range(len(seen)):
            total += weight(one[i], p) if seen[i] else 0.0
        expected *= total
    return matched, matched / math.sqrt(expected)
