"""The obvious twin of every compiled kernel: written to be read, not to be fast.

Each function has the name and the meaning of its twin in `matcher/kernels/`, in float64 throughout.
"""

import math
import struct
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


def structure(worth, relaxed, fewer, p, favour=1):
    """Of equal gains (to nine digits) the worthier pairs are taken, or with `favour` -1 the others."""
    wanted = pair_count(fewer, p)
    ranks = [(-round(relaxed[s] / worth[s], 9), -favour * relaxed[s], s) for s in range(len(worth))]
    return sum(relaxed[s] for _, _, s in sorted(ranks)[:wanted]) / wanted


def fit_rigid(a, b, pairs, weight):
    """In the complex plane with y up, b = z a + shift and |z| = 1: z is the direction of the sum of b a*."""
    u = np.asarray(a, float)[pairs[:, 0]] @ [1, -1j, 0]
    v = np.asarray(b, float)[pairs[:, 1]] @ [1, -1j, 0]
    w = weight / weight.sum()
    turn = np.angle(((v - w @ v) * (u - w @ u).conj() * w).sum())
    shift = w @ v - np.exp(1j * turn) * (w @ u)
    return turn, shift.real, -shift.imag


def propose(a, b, pairs, rho, relaxed, p):
    """Motions (k, 3) of the pairs of most relaxed worth, each supported by those that it agrees with."""
    motions = []
    for s in sorted(range(len(pairs)), key=lambda s: -relaxed[s])[: p.proposals]:
        weight = np.where(np.arange(len(pairs)) == s, relaxed, rho[s] * relaxed)
        alone = weight.sum() < 1.2 * relaxed[s]
        motions.append(_onto(a[pairs[s, 0]], b[pairs[s, 1]]) if alone else fit_rigid(a, b, pairs, weight))
    return np.array(motions).reshape(-1, 3)


def _onto(m, n):
    """The motion of one minutia onto another, direction and all."""
    turn = wrapped(float(n[2]) - float(m[2]))
    x, y, _ = moved(m[None], (turn, 0, 0))[0]
    return turn, n[0] - x, n[1] - y


def distinct(motions, x, y, p):
    kept = []
    for motion in motions:
        if not any(_alike(motion, other, x, y, p) for other in kept):
            kept.append(motion)
    return np.array(kept[: p.tried]).reshape(-1, 3)


def _alike(one, other, x, y, p):
    point = np.array([[x, y, 0.0]])
    apart = math.dist(moved(point, one)[0, :2], moved(point, other)[0, :2])
    return apart <= p.alike and abs(wrapped(one[0] - other[0])) <= p.alike_turn


def moved(pose, motion):
    """Poses after the motion that `compare.Transform` describes."""
    turn, dx, dy = motion
    c, s = math.cos(turn), math.sin(turn)
    x, y, angle = np.asarray(pose, float).T
    return np.column_stack((c * x + s * y + dx, -s * x + c * y + dy, angle + turn))


def grow_pairs(a, b, distance, angle):
    cost = {}
    for i, m in enumerate(np.asarray(a, float)):
        for j, n in enumerate(np.asarray(b, float)):
            apart, turned = math.dist(m[:2], n[:2]), abs(wrapped(m[2] - n[2]))
            if apart <= distance and turned <= angle:
                cost[i, j] = (apart / distance) ** 2 + (turned / angle) ** 2
    pairs = _once_each(sorted(cost, key=lambda pair: (cost[pair], pair)))
    return pairs, np.array([cost[i, j] for i, j in pairs.tolist()])


def spline(at, shift, stiffness):
    """Solve [[K + stiffness I, P], [P^T, -e I]] W = [shift; 0] about the points' middle, e almost 0."""
    K, middle = _radial_basis(at, at), at.mean(axis=0)
    P = np.column_stack((np.full(len(at), 100.0), at - middle))
    system = np.block([[K + stiffness * np.eye(len(at)), P], [P.T, -1e-6 * np.eye(3)]])
    w = np.linalg.solve(system, np.vstack((shift, np.zeros((3, 2)))))
    w[-3] -= middle @ w[-2:] / 100
    return w


def _radial_basis(points, at):
    """r^2 ln r^2 of every distance, 0 at 0."""
    r2 = ((points[:, None] - at[None]) ** 2).sum(axis=2)
    return r2 * np.log(np.where(r2 > 0, r2, 1))


def bent(points, at, w):
    points = np.asarray(points, float)[:, :2]
    affine = np.column_stack((np.full(len(points), 100.0), points)) @ w[-3:]
    return affine + _radial_basis(points, np.asarray(at, float)) @ w[:-3]


def align(a, b, motion, p, spline=spline):
    """With another `spline` if need be: what one says far from points on a line is a matter of rounding."""
    rigid, b = moved(a, motion), np.asarray(b, float)
    lying, at, w = rigid, np.zeros((0, 2)), np.zeros((3, 2))
    pairs, misfit = grow_pairs(lying, b, p.tolerances[0], p.angle)
    for tolerance in p.tolerances[1:]:
        if len(pairs) >= p.bending_pairs:
            at = rigid[pairs[:, 0], :2]
            w = spline(at, b[pairs[:, 1], :2] - at, p.stiffness)
            lying = np.column_stack((rigid[:, :2] + bent(rigid, at, w), rigid[:, 2]))
            pairs, misfit = grow_pairs(lying, b, tolerance, p.angle)
    return lying, pairs, misfit, at, w


def within(pose, corners, margin):
    if not len(corners):
        return np.zeros(len(pose), bool)
    hull = np.array(sorted(convex_hull(corners), key=_around(corners)))
    return np.array([near_hull(x, y, hull, margin) for x, y in np.asarray(pose, float)[:, :2]], bool)


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


# ---- ridges


def unpack(data, periods):
    """Field by field, as `matcher.ridges` lays it out."""
    data = bytes(data)
    step, columns, rows, x, y = struct.unpack_from("<BBBxhh", data)
    waves = np.zeros((2 * rows, 2 * columns, 4))
    described = [q for q in range(rows * columns) if data[8 + q // 8] >> q % 8 & 1]
    for number, cell in enumerate(described):
        at = 8 + math.ceil(rows * columns / 8) + 3 * number
        direction, period, weight, *phases = _fields(data[at : at + 3], (6, 3, 3, 3, 3, 3, 3))
        k = 2 * math.pi / periods[period] * np.exp(1j * math.pi * direction / 64)  # y up
        for q, phase in enumerate(phases):
            place = 2 * (cell // columns) + q // 2, 2 * (cell % columns) + q % 2
            waves[place] = k.real, -k.imag, phase * math.pi / 4, weight / 7
    return waves, np.array([x, y, step], float)


def _fields(data, widths):
    """Numbers of so many bits each, from the lowest bit."""
    code, fields = int.from_bytes(data, "little"), []
    for width in widths:
        fields.append(code % 2**width)
        code //= 2**width
    return fields


def lie(waves, place, motion, at, w):
    """The motion and the spline at every place; the kernel takes the spline at every fourth."""
    rows, columns = waves.shape[:2]
    x, y = np.meshgrid(place[0] + place[2] * np.arange(columns), place[1] + place[2] * np.arange(rows))
    poses = np.column_stack((x.ravel(), y.ravel(), np.zeros(x.size)))
    rigid = moved(poses, motion)[:, :2]
    return (rigid + bent(rigid, at, w)).reshape(rows, columns, 2)


def meet(waves, i, j, turned, x, y, others, place):
    """Of our wave's two tellings, k and -k, the one is taken that points the other's way."""
    row, column = round((y - place[1]) / place[2]), round((x - place[0]) / place[2])
    if not (0 <= row < len(others) and 0 <= column < others.shape[1]):
        return 0.0, 0.0, 0.0, 0.0, 0.0
    wave, other = np.asarray(waves[i, j], float), np.asarray(others[row, column], float)
    weight = wave[3] * other[3]
    if weight == 0:
        return 0.0, 0.0, 0.0, 0.0, 0.0
    c, s = turned
    k, phase = np.array([[c, s], [-s, c]]) @ wave[:2], wave[2]
    if k @ other[:2] < 0:
        k, phase = -k, -phase
    cosine = k @ other[:2] / (np.linalg.norm(k) * np.linalg.norm(other[:2]))
    away = np.array([x, y]) - (place[:2] + place[2] * np.array([column, row]))
    d = phase - (other[2] + other[:2] @ away)
    return weight, weight * max(0.0, math.cos(2 * math.acos(min(1.0, cosine)))), *((k + other[:2]) / 2), d


def box_sum(values, reach):
    out = np.zeros(values.shape)
    for d, i, j in np.ndindex(values.shape):
        out[d, i, j] = values[d, max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1].sum()
    return out


def pull(waves, lying, shift, turn, corner, others, place):
    out = np.zeros((5, *shift.shape[:2]))
    turned = math.cos(turn), math.sin(turn)
    said = [(0.0, 0.0)]
    for i, j in np.ndindex(*shift.shape[:2]):
        at = 2 * i + corner, 2 * j + corner
        x, y = lying[at] + shift[i, j]
        _, g, kx, ky, d = meet(waves, *at, turned, x, y, others, place)
        if waves[at][3] > 0:
            out[:, i, j] = np.array([kx * kx, kx * ky, ky * ky, kx * math.sin(d), ky * math.sin(d)]) * g
            said.append((g, g * math.cos(d)))
    return out, *np.sum(said, axis=0)


def settle(waves, lying, turn, step, others, place, p):
    shift = np.zeros((len(waves) // 2, waves.shape[1] // 2, 2))
    _, area, agreeing = pull(waves, lying, shift, turn, 0, others, place)
    opposed = agreeing < p.opposed * (area + p.opposed_prior)
    if opposed:  # as if one of the prints were inverted
        waves = waves + np.array([0, 0, math.pi, 0])
    for number, window in enumerate(p.windows):
        reach = max(1, math.floor((window - step) / (2 * step) + 0.5))
        sums = box_sum(pull(waves, lying, shift, turn, number % 2, others, place)[0], reach)
        for i, j in np.ndindex(*shift.shape[:2]):
            xx, xy, yy, x, y = sums[:, i, j]
            u = np.linalg.solve(np.array([[xx, xy], [xy, yy]]) + p.stiffness * np.eye(2), [x, y])
            length = np.linalg.norm(u)
            shift[i, j] += u * min(1.0, p.most_shift / length) if length > 0 else 0.0
    return shift, -1 if opposed else 1


def agreement(waves, lying, shift, side, turn, others, place):
    """One row at a time, every other place of it: those whose row and column are both even, or both odd."""
    met = np.zeros((*waves.shape[:2], 4))
    turned = math.cos(turn), math.sin(turn)
    for i, j in np.ndindex(*waves.shape[:2]):
        if i % 2 == j % 2:
            x, y = lying[i, j] + shift[i // 2, j // 2]
            weight, *_, d = meet(waves, i, j, turned, x, y, others, place)
            met[i, j] = (x, y, weight, side * math.cos(d)) if weight > 0 else (0.0, 0.0, 0.0, 0.0)
    return met[..., 2].sum(), (met[..., 2] * met[..., 3]).sum(), met


# ---- compact cylinders


def compact_likeness(a, b, p):
    """What two codes are worth, bit by bit."""
    valid = [k for k in range(32) if int(a[3]) >> k & 1 and int(b[3]) >> k & 1]
    on = [
        {(s, k) for s in range(6) for k in valid if int(c[s // 2]) >> (32 * (s % 2) + k) & 1} for c in (a, b)
    ]
    norm = math.sqrt(len(on[0])) + math.sqrt(len(on[1]))
    if len(valid) < p.least_common or norm == 0:
        return 0.0
    return max(0.0, 1 - math.sqrt(len(on[0] ^ on[1])) / norm - float(p.least))


def compact_pairs(sought, held, slot, p):
    """The best mate of each cylinder of a print, of those the best of each of the probe: (i, j, worth)."""
    begin, end = held.starts[slot], min(held.starts[slot + 1], held.starts[slot] + sought.most)
    best = {}
    for j in range(begin, end):
        word = held.words[j]
        near = sought.who[sought.first[word] : sought.first[word + 1]].tolist()
        worths = [(compact_likeness(sought.codes[i], held.codes[j], p), -n, i) for n, i in enumerate(near)]
        worth, _, i = max(worths, default=(0.0, 0, 0))
        if worth > best.get(i, (0.0, 0))[0]:
            best[i] = worth, j
    return [(i, j, worth) for i, (worth, j) in best.items()]


def compact_place(code):
    meta = int(code[3])
    return 4 * (meta >> 40 & 255), 4 * (meta >> 48 & 255), meta >> 32 & 255


def compact_score(sought, held, slot, p):
    """The most that pairs agreeing with one of them are worth, by the root of the print's cylinders."""
    pairs, most = compact_pairs(sought, held, slot, p), 0.0
    for s, t, worth in pairs:
        (x, y, turned), (u, v, other) = compact_place(sought.codes[s]), compact_place(held.codes[t])
        turn, total = (other - turned) % 256, worth
        motion = np.exp(-1j * turn * math.pi / 128)  # y points down
        for i, j, more in pairs:
            (xi, yi, turned), (uj, vj, other) = compact_place(sought.codes[i]), compact_place(held.codes[j])
            away = complex(xi - x, yi - y)
            off = complex(uj - u, vj - v) - motion * away
            apart = (other - turned - turn + 128) % 256 - 128
            if i != s and abs(apart) <= p.turn and abs(off) <= p.near + p.stretch * abs(away):
                total += more
        most = max(most, total)
    return most / math.sqrt(min(held.starts[slot + 1] - held.starts[slot], sought.most) + p.prior)
