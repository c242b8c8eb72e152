"""Every compiled kernel of the benchmarks: plain arrays in, plain arrays out, no policy."""

import numba
import numpy as np
from numpy.typing import NDArray

TAPS = 24
"""Width of a filter row, a multiple of eight so that a row is whole vector registers."""

RESPONSE_BITS = 18
"""Binary places of the filters: a filter of unit gain has taps that weigh 2**18 against its own wave."""


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def filter_variant(
    padded: NDArray[np.int16],
    bank: NDArray[np.int16],
    choice: NDArray[np.int32],
    limit: int,
    out: NDArray[np.int16],
) -> None:
    """out[y, x] = clip(2**-18 sum_ij padded[y+i, x+j] bank[choice[y, x], i, j], -limit, limit).

    Pixels whose `choice` is negative become 0. All arithmetic is on integers, so every processor gives the
    same bytes whatever the width of its vectors.
    """
    rows = bank.shape[1]
    for y in range(choice.shape[0]):
        for x in range(choice.shape[1]):
            k = choice[y, x]
            if k < 0:
                out[y, x] = 0
                continue
            total = np.int32(0)
            for i in range(rows):
                signal = padded[y + i, x : x + TAPS]
                taps = bank[k, i]
                for j in range(TAPS):
                    total = np.int32(total + np.int32(signal[j]) * np.int32(taps[j]))
            out[y, x] = np.int16(min(max(int(total) >> RESPONSE_BITS, -limit), limit))


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def wind(
    up: NDArray[np.complex64],
    places: NDArray[np.complex128],
    signs: NDArray[np.float64],
    terms: NDArray[np.complex128],
    angle: NDArray[np.float64],
) -> NDArray[np.complex64]:
    """Return prod_s u_s, conjugate where signs[s] < 0, and add sum_s signs[s] Re sum_h terms[s, h] u_s^h.

    u_s = (up - places[s]) / |up - places[s]| by place; the sum is added to `angle`, of the shape of `up`.
    """
    out = np.empty(up.shape, np.complex64)
    for row in range(up.shape[0]):
        for column in range(up.shape[1]):
            re, im, turned = 1.0, 0.0, 0.0
            for s in range(len(places)):
                x = up[row, column].real - places[s].real
                y = up[row, column].imag - places[s].imag
                length = np.sqrt(x * x + y * y + 1e-3)
                x, y = x / length, y / length
                a, b = terms[s, 3].real, terms[s, 3].imag
                for h in (2, 1, 0):
                    a, b = a * x - b * y + terms[s, h].real, a * y + b * x + terms[s, h].imag
                turned += signs[s] * a
                y *= signs[s]
                re, im = re * x - im * y, re * y + im * x
            out[row, column] = complex(re, im)
            angle[row, column] += turned
    return out


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def spreading(flow: NDArray[np.complex64], step: int) -> NDArray[np.float32]:
    """Return div t, t = the square root of `flow` / |flow| with a positive real part; 0 at the edge.

    By central differences of the doubled angle: (sin a d/dx + cos a d/dy) 2a / (-4 step).
    """
    rows, columns = flow.shape
    out = np.zeros((rows, columns), np.float32)
    unit = np.empty((rows, columns), np.complex64)
    for i in range(rows):
        for j in range(columns):
            x, y = flow[i, j].real, flow[i, j].imag
            length = np.sqrt(x * x + y * y) + np.float32(1e-6)
            unit[i, j] = complex(x / length, y / length)
    for i in range(rows):
        for j in range(columns):
            across = down = np.float32(0)
            if 0 < j < columns - 1:
                a, b = unit[i, j - 1], unit[i, j + 1]
                across = a.real * b.imag - a.imag * b.real
            if 0 < i < rows - 1:
                a, b = unit[i - 1, j], unit[i + 1, j]
                down = a.real * b.imag - a.imag * b.real
            c, s = unit[i, j].real, unit[i, j].imag
            cos, sin = np.sqrt(max(1 + c, 0.0) / 2), np.sqrt(max(1 - c, 0.0) / 2)
            out[i, j] = ((sin if s >= 0 else -sin) * across + cos * down) / (-4 * step)
    return out


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def throw(
    mass: NDArray[np.float64], columns: int, chance: NDArray[np.float64], near: tuple[float, float]
) -> NDArray[np.float64]:
    """Return points (2, n), columns and rows, thrown by a running sum of density over a grid's places.

    `chance` (4, m) chooses the place, the column and row about it, and which points stay: those that have
    none before them nearer than near[0] + (near[1] - near[0]) chance[3].
    """
    m, n = chance.shape[1], 0
    out = np.empty((2, m))
    kept = np.ones(m, np.bool_)
    for j in range(m):
        at = np.searchsorted(mass, chance[0, j] * mass[-1])
        out[0, j], out[1, j] = at % columns + chance[1, j] - 0.5, at // columns + chance[2, j] - 0.5
        limit = (near[0] + (near[1] - near[0]) * chance[3, j]) ** 2
        for i in range(j):
            x, y = out[0, i] - out[0, j], out[1, i] - out[1, j]
            if x * x + y * y < limit:
                kept[j] = False
                break
    for j in range(m):
        if kept[j]:
            out[0, n], out[1, n] = out[0, j], out[1, j]
            n += 1
    return out[:, :n].copy()


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def direct(
    at: NDArray[np.float64],
    flow: NDArray[np.complex64],
    excess: NDArray[np.float64],
    chance: NDArray[np.float64],
    limit: float,
    share: float,
) -> NDArray[np.float64]:
    """Return a direction for each of the points (2, n), columns and rows: half the angle of `flow` there.

    It is turned about where 2 chance[0] - 1 exceeds `excess` at the nearest place, told for the directions
    of [-pi/2, pi/2], and with the chance `share` where a point before it is nearer than `limit` and points
    its way.
    """
    n, (rows, columns) = at.shape[1], flow.shape
    plain = np.empty(n)
    for j in range(n):
        x, y = min(max(at[0, j], 0.0), columns - 1.001), min(max(at[1, j], 0.0), rows - 1.001)
        r, c = int(y), int(x)
        v, u = y - r, x - c
        upper, lower = (
            (1 - u) * flow[r, c] + u * flow[r, c + 1],
            (1 - u) * flow[r + 1, c] + u * flow[r + 1, c + 1],
        )
        here = (1 - v) * upper + v * lower
        r = min(max(int(np.rint(at[1, j])), 0), rows - 1)
        c = min(max(int(np.rint(at[0, j])), 0), columns - 1)
        plain[j] = np.arctan2(here.imag, here.real) / 2
        there = np.arctan2(flow[r, c].imag, flow[r, c].real) / 2
        if (2 * chance[0, j] - 1 < excess[r, c]) == (np.cos(plain[j] - there) < 0):
            plain[j] += np.pi
    out = plain.copy()
    for j in range(n):
        if chance[1, j] >= share:
            continue
        for i in range(j):
            x, y = at[0, i] - at[0, j], at[1, i] - at[1, j]
            if x * x + y * y < limit * limit and np.cos(plain[i] - plain[j]) > 0:
                out[j] = plain[j] + np.pi
    return out


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def ways(
    k: NDArray[np.complex64], way: complex, beyond: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the sign of k . k' and the angle (mean of both waves, told alike) . way, each (n - beyond,).

    `k` (n,) is a grid of waves, row after row, and k' the wave `beyond` places on.
    """
    sign, angle = np.empty(len(k) - beyond, np.float32), np.empty(len(k) - beyond, np.float32)
    for i in range(len(k) - beyond):
        a, b, c, d = k[i].real, k[i].imag, k[i + beyond].real, k[i + beyond].imag
        one = np.float32(1) if a * c + b * d >= 0 else np.float32(-1)
        sign[i] = one
        angle[i] = ((c + one * a) * way.real + (d + one * b) * way.imag) / 2
    return sign, angle


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def lay(
    across: NDArray[np.float32], down: NDArray[np.float32], columns: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return phases, cosine and sine (n,), that agree along the middle row and along each column from there.

    `across` and `down` (4, n): cosine, sine, and both times the sign of each place's way to the next. On it a
    phase (x, y) becomes (x cos - y sign sin, x sin + y sign cos).
    """
    n = across.shape[1]
    x, y = np.ones(n, np.float32), np.zeros(n, np.float32)
    middle = n // columns // 2 * columns
    for i in range(middle, middle + columns - 1):
        c, s, sign_c, sign_s = across[0, i], across[1, i], across[2, i], across[3, i]
        x[i + 1], y[i + 1] = x[i] * c - y[i] * sign_s, x[i] * s + y[i] * sign_c
    for i in range(middle, n - columns):
        c, s, sign_c, sign_s = down[0, i], down[1, i], down[2, i], down[3, i]
        x[i + columns], y[i + columns] = x[i] * c - y[i] * sign_s, x[i] * s + y[i] * sign_c
    for i in range(middle - 1, -1, -1):
        c, s, sign_c, sign_s = down[0, i], down[1, i], down[2, i], down[3, i]
        x[i] = x[i + columns] * c + y[i + columns] * s
        y[i] = y[i + columns] * sign_c - x[i + columns] * sign_s
    return x, y


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def add_neighbours(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    way: NDArray[np.float32],
    beyond: int,
    u: NDArray[np.float32],
    v: NDArray[np.float32],
) -> None:
    """Add to (u, v) each phase (x, y) (n,) taken along its `way` of `lay`, and the one there taken back."""
    n = len(x) - beyond
    c, s, sign_c, sign_s = way[0, :n], way[1, :n], way[2, :n], way[3, :n]
    here_x, here_y, there_x, there_y = x[:n], y[:n], x[beyond:], y[beyond:]
    here_u, here_v, there_u, there_v = u[:n], v[:n], u[beyond:], v[beyond:]
    for i in range(n):
        there_u[i] += here_x[i] * c[i] - here_y[i] * sign_s[i]
        there_v[i] += here_x[i] * s[i] + here_y[i] * sign_c[i]
    for i in range(n):
        here_u[i] += there_x[i] * c[i] + there_y[i] * s[i]
        here_v[i] += there_y[i] * sign_c[i] - there_x[i] * sign_s[i]


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def settle(
    x: NDArray[np.float32],
    y: NDArray[np.float32],
    across: NDArray[np.float32],
    down: NDArray[np.float32],
    columns: int,
    rounds: int,
) -> None:
    """Replace each phase (x, y) (n,), `rounds` times, by the direction of the sum of it and its neighbours'.

    The ways `across` and `down` are those of `lay`, all 0 from the last column and from the last row.
    """
    u, v = x.copy(), y.copy()
    for _ in range(rounds):
        add_neighbours(x, y, across, 1, u, v)
        add_neighbours(x, y, down, columns, u, v)
        for i in range(len(x)):
            length = np.sqrt(u[i] * u[i] + v[i] * v[i]) + np.float32(1e-6)
            u[i] /= length
            v[i] /= length
            x[i], y[i] = u[i], v[i]


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def read_waves(
    k: NDArray[np.complex64],
    waves: NDArray[np.float32],
    view: tuple[float, ...],
    size: tuple[int, ...],
    astray: NDArray[np.float64],
    rough: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return codes of direction (r, c), period (r, c) and phase (2 r, 2 c) of the waves that a view shows.

    `waves` (3, ...): direction and phase, radians, and the period's code. `view`: half width and height,
    middle x and y, turn. `size`: pixels between places of the waves and of the description, codes of half
    a turn of direction and of a turn of phase (powers of 2). `astray` and `rough` are added, in codes.
    """
    rows, columns = astray.shape
    step, places, half_turn, turn = size
    direction, period = np.empty((rows, columns), np.int64), np.empty((rows, columns), np.int64)
    codes = np.empty((2 * rows, 2 * columns), np.int64)
    cos, sin, in_codes = np.cos(view[4]), np.sin(view[4]), turn / (2 * np.pi)
    for i in range(rows):
        for j in range(columns):
            x, y = 2 * places * (j + 0.5) - view[0], 2 * places * (i + 0.5) - view[1]
            u, v = x * cos - y * sin + view[2], x * sin + y * cos + view[3]
            column = min(max(int(np.rint(u / step)), 0), k.shape[1] - 1)
            row = min(max(int(np.rint(v / step)), 0), k.shape[0] - 1)
            code = int(np.rint((waves[0, row, column] + view[4]) * half_turn / np.pi + astray[i, j]))
            forward = 1.0 if code & half_turn == 0 else -1.0
            direction[i, j], period[i, j] = code & (half_turn - 1), int(waves[2, row, column])
            a, b, start = k[row, column].real, k[row, column].imag, waves[1, row, column]
            for q in range(4):
                dx, dy = places * ((q & 1) - 0.5), places * ((q >> 1) - 0.5)
                right, down = u + dx * cos - dy * sin - step * column, v + dx * sin + dy * cos - step * row
                at = 2 * i + (q >> 1), 2 * j + (q & 1)
                value = (start + a * right - b * down) * in_codes + rough[at]
                codes[at] = int(np.rint(forward * value)) & (turn - 1)
    return direction, period, codes


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled
def press(
    xy: NDArray[np.float64], lie: tuple[float, ...], bend: NDArray[np.float64], power: float
) -> NDArray[np.float64]:
    """Return where points of a finger lie in an impression (3, n): x, y, and the distance from its edge.

    `lie`: half width and height, middle x and y, turn; the second-order terms u u, u v, v v of the places, in
    halves, shift by `bend` (3, 2). The edge is a superellipse, and the distance roughly that.
    """
    width, height = lie[0], lie[1]
    cos, sin, out = np.cos(lie[4]), np.sin(lie[4]), np.empty((3, len(xy)))
    for i in range(len(xy)):
        dx, dy = xy[i, 0] - lie[2], xy[i, 1] - lie[3]
        x, y = dx * cos + dy * sin, -dx * sin + dy * cos
        u, v = x / width, y / height
        x += u * u * bend[0, 0] + u * v * bend[1, 0] + v * v * bend[2, 0]
        y += u * u * bend[0, 1] + u * v * bend[1, 1] + v * v * bend[2, 1]
        reach = ((abs(x) / width) ** power + (abs(y) / height) ** power) ** (1 / power)
        out[0, i], out[1, i], out[2, i] = x, y, (1 - reach) * np.sqrt(width * height)
    return out
