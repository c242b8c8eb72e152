"""The obvious twin of every compiled kernel: written to be read, not to be fast.

Each function has the name and the meaning of its twin in `matcher/kernels/`, in float64 throughout.
"""

import math
import struct
from itertools import pairwise, product
from typing import NamedTuple

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


def leading(values, count):
    return sorted(range(len(values)), key=lambda s: -values[s])[:count]


def propose(one, n):
    """The motion of a pair, supported by those that it agrees with."""
    s, alike = one.proposing[n], np.arange(len(one.pairs)) == one.proposing[n]
    weight = np.where(alike, one.relaxed, one.rho[s] * one.relaxed)
    if weight.sum() < 1.2 * one.relaxed[s]:
        return _onto(one.a[one.pairs[s, 0]], one.b[one.pairs[s, 1]])
    return fit_rigid(one.a, one.b, one.pairs, weight)


def _onto(m, n):
    """The motion of one minutia onto another, direction and all."""
    turn = wrapped(float(n[2]) - float(m[2]))
    x, y, _ = moved(m[None], (turn, 0, 0))[0]
    return turn, n[0] - x, n[1] - y


def is_new(motion, others, x, y, p):
    return not any(_alike(motion, other, x, y, p) for other in others)


def _alike(one, other, x, y, p):
    point = np.array([[x, y, 0.0]])
    apart = math.dist(moved(point, one)[0, :2], moved(point, other)[0, :2])
    return apart <= p.alike and abs(wrapped(one[0] - other[0])) <= p.alike_turn


class Hypothesis(NamedTuple):
    structure: float
    a: np.ndarray
    b: np.ndarray
    pairs: np.ndarray
    rho: np.ndarray
    relaxed: np.ndarray
    proposing: list


def hypothesis(similar, a, b, turn, p, favour=1):
    pairs, worth = best_pairs(similar, a, b, turn, p)
    rho = compatibility(a, b, pairs, p)
    relaxed = relax(worth, rho, p.rounds, p.keep)
    value = structure(worth, relaxed, min(len(a), len(b)), p, favour) if len(pairs) > 1 else 0.0
    proposing = leading(relaxed, p.proposals) if len(pairs) > 1 else []
    return Hypothesis(math.log(max(value, p.floor)), a, b, pairs, rho, relaxed, proposing)


def level(pose, ours, others, theirs, p, favour=1):
    similar = similarities(ours[0], ours[1], theirs[0], theirs[1], p.least_common)
    return [hypothesis(similar, pose[ours[2]], others[theirs[2]], turn, p, favour) for turn in (0.0, math.pi)]


def same(a, b):
    return [array.tobytes() for array in a] == [array.tobytes() for array in b]


def levels(probe, reference, p, favour=1):
    """Both kinds of cylinders, also where they are the same: their mean is then that of one."""
    pose, *kinds = probe
    other_pose, *other_kinds = reference
    return [level(pose, *both, p, favour) for both in zip(kinds, [other_pose] * 2, other_kinds, strict=True)]


def better(found, p):
    upright, turned = (np.mean([one[side].structure for one in found]) for side in (0, 1))
    return (1, turned) if turned > upright + p.turned_lead else (0, upright)


def structure_of(probe, reference, p):
    return better(levels(probe, reference, p), p)[1]


def motions(probe, reference, p, q, favour=1):
    pose = probe[0]
    every = levels(probe, reference, p, favour)
    first, structure = better(every, p)
    middle, found = pose[:, :2].astype(float).mean(axis=0) if len(pose) else (0.0, 0.0), []
    for side, n, one in product((first, 1 - first), range(p.proposals), every):
        if n < len(one[side].proposing):
            motion = propose(one[side], n)
            if is_new(motion, found, *middle, q):
                found.append(motion)
    return structure, np.array(found[: q.tried]).reshape(-1, 3)


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


def solve(system):
    return np.linalg.solve(system[:, :-2], system[:, -2:])


def spline(at, shift, stiffness):
    """Solve [[K + stiffness I, P], [P^T, -e I]] W = [shift; 0] about the points' middle, e almost 0."""
    K, middle = _radial_basis(at, at), at.mean(axis=0)
    P = np.column_stack((np.full(len(at), 100.0), at - middle))
    system = np.block([[K + stiffness * np.eye(len(at)), P], [P.T, -1e-6 * np.eye(3)]])
    w = np.linalg.solve(system, np.vstack((shift, np.zeros((3, 2)))))
    w[-3] -= middle @ w[-2:] / 100
    return w


def _radial_basis(points, at):
    """`radial` of every distance."""
    r2 = ((points[:, None] - at[None]) ** 2).sum(axis=2)
    return r2 * np.log(np.where(r2 > 0, r2, 1))


def radial(r2):
    return r2 * math.log(r2) if r2 > 0 else 0.0


def sine(x):
    return np.sin(x)


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


def weight(quality, p):
    return quality / 100 if quality else p.unstated


def share(lying, quality, pose, other_quality, pairs, misfit, p):
    """By name: a minutia that lies where the other print was looked at is expected, by its weight."""
    a, b = ([weight(int(q), p) for q in one] for one in (quality, other_quality))
    matched = sum(min(a[i], b[j]) * math.exp(-m) for (i, j), m in zip(pairs, misfit, strict=True))
    ours = sum(w for w, seen in zip(a, within(lying, pose, p.margin), strict=True) if seen)
    theirs = sum(w for w, seen in zip(b, within(pose, lying, p.margin), strict=True) if seen)
    return matched, matched / math.sqrt((ours + p.prior) * (theirs + p.prior))


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


def described(data, periods):
    """Rows and columns of the described cells, and the waves (n, 4, 4) of their four places."""
    waves, (x, y, step) = unpack(data, periods)
    cells = [at for at in product(range(0, len(waves), 2), range(0, waves.shape[1], 2)) if waves[at][3] > 0]
    found = [[waves[i, j], waves[i, j + 1], waves[i + 1, j], waves[i + 1, j + 1]] for i, j in cells]
    row, column = np.array(cells, np.int64).reshape(-1, 2).T
    return (row, column, np.array(found).reshape(-1, 4, 4)), (x, y, step)


def rimmed(waves):
    return np.pad(waves, ((1, 1), (1, 1), (0, 0)))


def turned(cells, turn):
    """The first place of each cell and the last, k turned."""
    waves = np.array([cells[2][:, 0], cells[2][:, 3]])
    away = waves[..., :2] @ rotation(turn).T
    return np.concatenate((away, waves[..., 2:]), axis=2)


def rotation(turn):
    """Counter-clockwise as seen, y down."""
    return np.array([[math.cos(turn), math.sin(turn)], [-math.sin(turn), math.cos(turn)]])


def lie(cells, place, motion, at, w):
    """The motion and the spline at two places of each cell; the kernel takes the spline at every fourth."""
    where = np.array([[cells[1] + d, cells[0] + d] for d in (0, 1)]).transpose(0, 2, 1)
    points = (np.array(place[:2]) + place[2] * where).reshape(-1, 2)
    rigid = moved(np.column_stack((points, np.zeros(len(points)))), motion)[:, :2]
    return (rigid + bent(rigid, at, w)).reshape(where.shape)


def nearest(lying, shift, others, place):
    """The wave of the place that each is rounded to, of others with a rim; nothing beyond."""
    x, y, step = place
    near, off = np.zeros((len(lying), 4)), np.zeros((len(lying), 2))
    for q, (u, v) in enumerate(lying + shift):
        row, column = round((v - y) / step), round((u - x) / step)
        if 0 <= row < len(others) - 2 and 0 <= column < others.shape[1] - 2:
            near[q] = others[row + 1, column + 1]
            off[q] = u - (x + step * column), v - (y + step * row)
    return near, off


def meet(ours, near, off):
    """Of our wave's two tellings, k and -k, the one is taken that points the other's way."""
    out, difference = np.zeros((len(ours), 4)), np.zeros(len(ours))
    for q, (wave, other) in enumerate(zip(ours, near, strict=True)):
        k, phase, weight = wave[:2], wave[2], wave[3] * other[3]
        if weight == 0:
            continue
        if k @ other[:2] < 0:
            k, phase = -k, -phase
        cosine = k @ other[:2] / (np.linalg.norm(k) * np.linalg.norm(other[:2]))
        g = weight * max(0.0, math.cos(2 * math.acos(min(1.0, cosine))))
        out[q] = *((k + other[:2]) / 2), g, weight
        difference[q] = phase - (other[2] + other[:2] @ off[q])
    return out, difference


def pull(cells, ours, lying, shift, others, place):
    met, d = meet(ours, *nearest(lying, shift, others, place))
    rows, columns = ((one.max(initial=-2) + 2) // 2 for one in cells[:2])
    out = np.zeros((rows, columns, 5))
    for q, (kx, ky, g, _) in enumerate(met):
        said = [kx * kx, kx * ky, ky * ky, kx * math.sin(d[q]), ky * math.sin(d[q])]
        out[cells[0][q] // 2, cells[1][q] // 2] = np.array(said) * g
    return out, met[:, 2].sum(), (met[:, 2] * np.cos(d)).sum()


def box_sum(values, reach):
    out = np.zeros(values.shape)
    for i, j in np.ndindex(values.shape[:2]):
        square = values[max(0, i - reach) : i + reach + 1, max(0, j - reach) : j + reach + 1]
        out[i, j] = square.sum(axis=(0, 1))
    return out


def settle(cells, pulls, shift, side, window, p):
    """The shift after it, where the kernel adds to what it is given."""
    sums, after = box_sum(pulls, max(1, math.floor((window - 1) / 2 + 0.5))), shift.copy()
    for q in range(len(shift)):
        xx, xy, yy, x, y = sums[cells[0][q] // 2, cells[1][q] // 2]
        u = np.linalg.solve(np.array([[xx, xy], [xy, yy]]) + p.stiffness * np.eye(2), [side * x, side * y])
        length = np.linalg.norm(u)
        after[q] += u * min(1.0, p.most_shift / length) if length > 0 else 0.0
    return after


def agreement(ours, lying, shift, side, others, place):
    out = np.zeros((2, len(shift), 4))
    for e in (0, 1):
        met, d = meet(ours[e], *nearest(lying[e], shift, others, place))
        out[e] = np.column_stack((lying[e] + shift, met[:, 3], side * np.cos(d)))
    return out


def summed(met):
    return met[..., 2].sum(), (met[..., 2] * met[..., 3]).sum()


def follow(pose, other_pose, motion, cells, place, other, p, w):
    """What speaks for a motion, and how the ridges settled over the widest window."""
    lying, pairs, misfit, at, weights = align(pose, other_pose, motion, p)
    ours, places = turned(cells, motion[0]), lie(cells, place, motion, at, weights)
    shift = np.zeros((len(cells[0]), 2))
    pulls, area, agreeing = pull(cells, ours[0], places[0], shift, *other)
    opposed = len(shift) > 0 and agreeing < w.opposed * (w.opposed_prior + area)
    side = -1.0 if opposed else 1.0
    shift = settle(cells, pulls, shift, side, w.windows[0] / place[2], w)
    met = agreement(ours, places, shift, side, *other)
    speaks = summed(met)[1] if len(shift) else np.exp(-misfit).sum()
    return (speaks, lying, pairs, misfit), (ours, places, shift, side)


def best(pose, data, other_pose, other_data, motions, periods, p, w):
    cells, place = described(data, periods)
    waves, other_place = unpack(other_data, periods)
    other = rimmed(waves), other_place
    followed = [follow(pose, other_pose, motion, cells, place, other, p, w) for motion in motions]
    found, (ours, places, shift, side) = max(followed, key=lambda one: one[0][0])
    for number, window in enumerate(w.windows[1:], 1):
        e = number % 2
        pulls, _, _ = pull(cells, ours[e], places[e], shift, *other)
        shift = settle(cells, pulls, shift, side, window / place[2], w)
    met = agreement(ours, places, shift, side, *other)
    area, agreeing = summed(met)
    return found, (agreeing + w.prior * w.middling) / (area + w.prior), met, side


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
    """The best mate of each cylinder of a print: (i, j, worth)."""
    begin, end = held.starts[slot], min(held.starts[slot + 1], held.starts[slot] + sought.most)
    pairs = []
    for j in range(begin, end):
        word = held.words[j]
        near = sought.who[sought.first[word] : sought.first[word + 1]].tolist()
        worths = [(compact_likeness(sought.codes[i], held.codes[j], p), -n, i) for n, i in enumerate(near)]
        worth, _, i = max(worths, default=(0.0, 0, 0))
        if worth > 0:
            pairs.append((i, j, worth))
    return pairs


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
            if j != t and abs(apart) <= p.turn and abs(off) <= p.near + p.stretch * abs(away):
                total += more
        most = max(most, total)
    return most / math.sqrt(min(held.starts[slot + 1] - held.starts[slot], sought.most) + p.prior)
