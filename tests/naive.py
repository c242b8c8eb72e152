"""The obvious twin of every compiled kernel: written to be read, not to be fast.

Each function has the name and the meaning of its twin in `matcher/kernels.py`, in float64 throughout.
"""

import math
from itertools import pairwise, product

import numpy as np
from scipy.special import erf


def popcount(value):
    return bin(value).count("1")


def wrapped(angle):
    """Into [-pi, pi)."""
    return (angle + math.pi) % (2 * math.pi) - math.pi


def convex_hull(pose):
    """Corners as a set of points: those that lie in no triangle and on no line between two other points."""
    points = sorted({(float(x), float(y)) for x, y, *_ in pose})
    return {p for p in points if _is_corner(p, [q for q in points if q != p])}


def _is_corner(p, others):
    """Whether all other points lie within less than half a turn as seen from p."""
    if len(others) < 2:
        return True
    bearings = sorted(math.atan2(y - p[1], x - p[0]) for x, y in others)
    gaps = [b - a for a, b in pairwise(bearings)]
    gaps.append(bearings[0] + 2 * math.pi - bearings[-1])
    return max(gaps) > math.pi + 1e-9


def near_hull(x, y, corners, margin):
    point, corners = np.array([x, y]), np.asarray(corners, float)[:, :2]
    edges = list(zip(corners, np.roll(corners, -1, axis=0), strict=True))
    inside = len(corners) > 2 and all(_cross(b - a, point - a) >= 0 for a, b in edges)
    return inside or min(_to_segment(point, a, b) for a, b in edges) <= margin


def _cross(u, v):
    return u[0] * v[1] - u[1] * v[0]


def _to_segment(point, a, b):
    along = 0.0 if (a == b).all() else np.clip((point - a) @ (b - a) / ((b - a) @ (b - a)), 0, 1)
    return np.hypot(*(point - a - along * (b - a)))


def sector_weights(difference, sigma):
    """The normal distribution's mass in each sector of 60 degrees, around its centre's distance."""

    def below(angle):
        return 0.5 * (1 + erf(angle / (sigma * math.sqrt(2))))

    centres = [-math.pi + (k + 0.5) * math.pi / 3 for k in range(6)]
    apart = [wrapped(centre - difference) for centre in centres]
    return np.array([below(a + math.pi / 6) - below(a - math.pi / 6) for a in apart])


def place_cells(pose, i, cells, corners, p):
    x, y, angle = (float(v) for v in pose[i])
    forward = np.array([math.cos(angle), -math.sin(angle)])
    left = np.array([math.sin(angle), math.cos(angle)])
    at = np.array([x, y]) + np.outer(cells[:, 0], forward) + np.outer(cells[:, 1], left)
    return at, np.array([near_hull(*centre, corners, p.hull_margin) for centre in at])


def cylinder(pose, i, at, ok, p):
    """Cell values (6, c), and how many minutiae lie within reach."""
    pose = np.asarray(pose, float)
    level = np.zeros((6, len(at)))
    reach = 3 * p.sigma_s
    near = [t for t in range(len(pose)) if t != i and math.dist(pose[t, :2], pose[i, :2]) <= p.radius + reach]
    for t in near:
        apart = np.hypot(*(at - pose[t, :2]).T)
        nearness = np.exp(-(apart**2) / (2 * p.sigma_s**2)) / (p.sigma_s * math.sqrt(2 * math.pi))
        nearness[(apart > reach) | ~ok] = 0
        level += np.outer(sector_weights(wrapped(pose[i, 2] - pose[t, 2]), p.sigma_d), nearness)
    return level, len(near)


def pack_cylinder(level, ok, threshold):
    """Cells as Python integers' bits: the valid ones, and for each sector those that are on."""
    valid = sum(1 << q for q in range(len(ok)) if ok[q])
    bits = [sum(1 << q for q in range(len(ok)) if ok[q] and level[k, q] >= threshold) for k in range(6)]
    return np.concatenate([_words(b) for b in bits]), _words(valid)


def _words(number):
    return np.array([number >> 64 * w & (1 << 64) - 1 for w in range(3)], np.uint64)


def similarity(a, a_valid, i, b, b_valid, j, least_common):
    common = a_valid[i] & b_valid[j]
    if sum(popcount(int(w)) for w in common) < least_common:
        return 0.0
    u, v = (_bits(x & np.tile(common, 6)) for x in (a[i], b[j]))
    norm = np.linalg.norm(u) + np.linalg.norm(v)
    return 1 - np.linalg.norm(u - v) / norm if norm else 0.0


def _bits(words):
    return np.array([int(w) >> k & 1 for w in words for k in range(64)], float)


def similarities(a, a_valid, b, b_valid, least_common):
    return np.array(
        [
            [similarity(a, a_valid, i, b, b_valid, j, least_common) for j in range(len(b))]
            for i in range(len(a))
        ]
    ).reshape(len(a), len(b))


def best_pairs(similar, a, b, turn, p):
    """Sort all admissible pairs by similarity in 1/1024, then by position; take each minutia once."""
    admissible = [
        (-min(1023, int(similar[i, j] * 1024)), i, j)
        for i, j in product(range(len(a)), range(len(b)))
        if similar[i, j] > 0 and abs(wrapped(float(b[j, 2]) - float(a[i, 2]) - turn)) <= p.most_turn
    ]
    pairs = _once_each((i, j) for _, i, j in sorted(admissible))
    return pairs, np.array([similar[i, j] for i, j in pairs], float)


def _once_each(pairs):
    kept, used_a, used_b = [], set(), set()
    for i, j in pairs:
        if i not in used_a and j not in used_b:
            kept.append((i, j))
            used_a.add(i)
            used_b.add(j)
    return np.array(kept, np.int64).reshape(-1, 2)


def compatibility(a, b, pairs, p):
    a, b = np.asarray(a, float)[pairs[:, 0]], np.asarray(b, float)[pairs[:, 1]]
    rho = np.zeros((len(pairs), len(pairs)))
    for s in range(len(pairs)):
        for t in range(s + 1, len(pairs)):
            d1 = abs(math.dist(a[s, :2], a[t, :2]) - math.dist(b[s, :2], b[t, :2]))
            d2 = abs(wrapped((a[s, 2] - a[t, 2]) - (b[s, 2] - b[t, 2])))
            d3 = abs(wrapped(_radial(a[s], a[t]) - _radial(b[s], b[t])))
            rho[s, t] = rho[t, s] = (
                logistic(p.tau_distance * (d1 - p.mu_distance))
                * logistic(p.tau_angle * (d2 - p.mu_angle))
                * logistic(p.tau_angle * (d3 - p.mu_angle))
            )
    return rho


def _radial(s, t):
    """Direction of s, relative to the line from s to t (y down)."""
    return s[2] - math.atan2(s[1] - t[1], t[0] - s[0])


def logistic(x):
    return 0.5 * (1 + math.tanh(x / 2))


def relax(worth, rho, rounds, keep):
    for _ in range(rounds):
        support = [sum(rho[s, t] * worth[t] for t in range(len(worth))) for s in range(len(worth))]
        worth = keep * np.asarray(worth) + (1 - keep) * np.array(support) / max(len(worth) - 1, 1)
    return worth


def pair_count(fewer, p):
    return p.pairs_least + round(
        logistic(p.pairs_steepness * (fewer - p.pairs_middle)) * (p.pairs_most - p.pairs_least)
    )


def relaxed_score(similar, a, b, turn, p, favour=1):
    """Of equal gains (to nine digits) the worthier pairs are taken, or with `favour` -1 the others."""
    pairs, worth = best_pairs(similar, a, b, turn, p)
    if len(pairs) < 2:
        return 0.0
    relaxed = relax(worth, compatibility(a, b, pairs, p), p.rounds, p.keep)
    wanted = pair_count(min(len(a), len(b)), p)
    ranks = [(-round(relaxed[s] / worth[s], 9), -favour * relaxed[s], s) for s in range(len(pairs))]
    best = [s for _, _, s in sorted(ranks)[:wanted]]
    return sum(relaxed[s] for s in best) / wanted


def fit_rigid(a, b, pairs, weight):
    """In the complex plane with y up, b = z a + shift and |z| = 1: z is the direction of the sum of b a*."""
    u = np.asarray(a, float)[pairs[:, 0]] @ [1, -1j, 0]
    v = np.asarray(b, float)[pairs[:, 1]] @ [1, -1j, 0]
    w = weight / weight.sum()
    turn = np.angle(((v - w @ v) * (u - w @ u).conj() * w).sum())
    shift = w @ v - np.exp(1j * turn) * (w @ u)
    return turn, shift.real, -shift.imag


def moved(pose, turn, dx, dy):
    """Poses after the motion that `compare.Transform` describes."""
    c, s = math.cos(turn), math.sin(turn)
    x, y, angle = np.asarray(pose, float).T
    return np.column_stack((c * x + s * y + dx, -s * x + c * y + dy, angle + turn))


def grow_pairs(a, b, turn, dx, dy, distance, angle):
    cost = {}
    for i, m in enumerate(moved(a, turn, dx, dy)):
        for j, n in enumerate(np.asarray(b, float)):
            apart, turned = math.dist(m[:2], n[:2]), abs(wrapped(m[2] - n[2]))
            if apart <= distance and turned <= angle:
                cost[i, j] = (apart / distance) ** 2 + (turned / angle) ** 2
    pairs = _once_each(sorted(cost, key=lambda pair: (cost[pair], pair)))
    return pairs, np.array([cost[i, j] for i, j in pairs.tolist()])


def align(a, b, pairs, rho, relaxed, p):
    """Each of the best pairs proposes a motion; the one under which most minutiae coincide is returned."""
    proposals = []
    for s in sorted(range(len(pairs)), key=lambda s: -relaxed[s])[: p.proposals]:
        weight = rho[s] * relaxed
        if weight.sum() < 0.2 * relaxed[s]:
            motion = _onto(np.asarray(a[pairs[s, 0]], float), np.asarray(b[pairs[s, 1]], float))
        else:
            weight[s] = relaxed[s]
            motion = fit_rigid(a, b, pairs, weight)
        _, misfit = grow_pairs(a, b, *motion, p.grow_distance, p.grow_angle)
        proposals.append((np.exp(-misfit).sum(), motion))
    return max(proposals, key=lambda proposal: proposal[0])[1]


def _onto(m, n):
    """The motion of one minutia onto another, direction and all."""
    turn = wrapped(n[2] - m[2])
    x, y, _ = moved(m[None], turn, 0, 0)[0]
    return turn, n[0] - x, n[1] - y


def cylinders(pose, cells, p):
    hull = sorted(convex_hull(pose), key=_around(pose))
    corners = np.array(hull)
    bits, valid, minutia = [], [], []
    for i in range(len(pose)):
        at, ok = place_cells(pose, i, cells, corners, p)
        level, contributing = cylinder(pose, i, at, ok, p)
        if ok.sum() >= p.least_valid * len(cells) and contributing >= p.least_minutiae:
            on, near = pack_cylinder(level, ok, p.threshold)
            bits.append(on)
            valid.append(near)
            minutia.append(i)
    return (
        np.array(bits, np.uint64).reshape(-1, 18),
        np.array(valid, np.uint64).reshape(-1, 3),
        np.array(minutia, np.int16),
    )


def _around(pose):
    """Order of corners, counter-clockwise in (x, y): the angle about the middle of the corners."""
    x, y = np.mean(sorted(convex_hull(pose)), axis=0)
    return lambda corner: math.atan2(corner[1] - y, corner[0] - x)
