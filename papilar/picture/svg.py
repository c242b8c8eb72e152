"""Small plots as SVG text for a page: no script, no font, no colour of its own; classes name what a thing is.

The page gives the classes their colours, light, dark and on paper. Two series differ in shape too.
"""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from math import log10
from typing import NamedTuple, TypeVar

WIDTH = 460.0
"""Of every plot, in units that a page may scale."""

T = TypeVar("T")
Place = Callable[[float], float]
"""Where on an axis a value is."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 24.0, 10.0, 26.0
_LINE = 22.0  # a line of `intervals` or `strips`
_NAMES = 120.0  # what is left of them


class Point(NamedTuple):
    """A value of a series; `whole` is false where a part of it is not stated. None: all of it is withheld."""

    value: float | None
    whole: bool = True


class Interval(NamedTuple):
    """A value and the bounds of what it may be."""

    name: str
    value: float
    low: float
    high: float


def element(name: str, *content: str, **attributes: object) -> str:
    """Return an element; a trailing underscore of an attribute is dropped, another one is a hyphen."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{_plain(value)}"' for key, value in attributes.items()
    )
    return f"<{name}{given}>{''.join(content)}</{name}>"


def over_months(
    months: Sequence[str], series: Sequence[Sequence[Point]], *, most: float, small: float, title: str
) -> str:
    """Draw counts by month on a logarithmic axis, one line for each series; nought has its own line below.

    Parameters
    ----------
    months : sequence of str
        `2026-11`.
    series : sequence of sequence of Point
        One or two.
    most : float
        Largest value of the axis, the same for plots that are to be compared.
    small : float
        Below this nothing is stated: the band that withheld values lie in.
    title : str
        What a reader who does not see the plot is told.
    """
    height = 190.0
    foot = height - _BOTTOM
    one, step = foot - 18, (WIDTH - _LEFT - _RIGHT) / max(1, len(months) - 1)
    scale = _log(1, max(10.0, most), one, _TOP)

    def y(value: float) -> float:
        return foot if value < 1 else scale(value)

    band = element(
        "rect",
        class_="band",
        x=_LEFT,
        y=y(small - 1),
        width=WIDTH - _LEFT - _RIGHT,
        height=one - y(small - 1),
    )
    axes = [_across(y(value), f"{value:,.0f}") for value in (0, *_decades(1, max(10.0, most)))]
    names = [
        _text(_LEFT + step * place, height - 8, month[5:], "middle") for place, month in enumerate(months)
    ]
    lines = [
        _series(number, each, lambda place: _LEFT + step * place, y, small)
        for number, each in enumerate(series)
    ]
    return _drawing(height, title, band, *axes, *names, *lines)


def intervals(rows: Sequence[Interval], *, title: str) -> str:
    """Draw shares, 0 to 1, with their intervals, one under the other."""

    def x(value: float) -> float:
        return _NAMES + value * (WIDTH - _NAMES - _RIGHT)

    return _lines(
        [row.name for row in rows],
        [(x(share), f"{share:.0%}") for share in (0, 0.25, 0.5, 0.75, 1)],
        [_bar(x(row.low), x(row.high), y) + _mark(0, x(row.value), y) for y, row in _ordered(rows)],
        title=title,
    )


def strips(
    names: Sequence[str],
    values: Sequence[Sequence[float]],
    ticks: Sequence[tuple[float, str]],
    *,
    title: str,
) -> str:
    """Draw positive values on a logarithmic axis, a line for each name; the last value has the large mark.

    Parameters
    ----------
    names : sequence of str
    values : sequence of sequence of float
    ticks : sequence of (float, str)
        Of the axis, rising; values beyond them lie on its ends.
    title : str
    """
    low, high = ticks[0][0], ticks[-1][0]
    scale = _log(low, high, _NAMES, WIDTH - _RIGHT)

    def x(value: float) -> float:
        return scale(min(max(value, low), high))

    drawn = [
        _bar(x(min(each)), x(max(each)), y)
        + "".join(element("circle", class_="past", cx=x(value), cy=y, r=2.5) for value in each[:-1])
        + "".join(_mark(0, x(value), y) for value in each[-1:])
        for y, each in _ordered(values)
    ]
    return _lines(list(names), [(x(value), word) for value, word in ticks], drawn, title=title)


def mark_for_key(series: int, *, whole: bool = True) -> str:
    """Return the mark of a series as a small drawing, to explain it in a text."""
    inner = _mark(series, 7, 7, whole=whole)
    return element("svg", inner, class_="key", viewBox="0 0 14 14", width=14, height=14, aria_hidden="true")


# ---- parts


def _series(number: int, points: Sequence[Point], x: Place, y: Place, small: float) -> str:
    middle = (y(1) + y(small - 1)) / 2
    placed = [
        (x(place), middle if point.value is None else y(point.value), point.whole and point.value is not None)
        for place, point in enumerate(points)
    ]
    path = " ".join(f"{_plain(a)},{_plain(b)}" for a, b, _ in placed)
    line = element("polyline", class_=f"line s{number}", points=path)
    return line + "".join(_mark(number, a, b, whole=whole) for a, b, whole in placed)


def _mark(series: int, x: float, y: float, *, whole: bool = True) -> str:
    kind = f"mark s{series}" + ("" if whole else " open")
    if series:
        return element("rect", class_=kind, x=x - 3.5, y=y - 3.5, width=7, height=7)
    return element("circle", class_=kind, cx=x, cy=y, r=4)


def _bar(low: float, high: float, y: float) -> str:
    return element("line", class_="bar", x1=low, x2=high, y1=y, y2=y)


def _ordered(rows: Sequence[T]) -> Iterable[tuple[float, T]]:
    return ((_TOP + _LINE * (place + 0.5), row) for place, row in enumerate(rows))


def _lines(
    names: Sequence[str], ticks: Sequence[tuple[float, str]], drawn: Sequence[str], *, title: str
) -> str:
    foot = _TOP + _LINE * len(names)
    grid = [element("line", class_="grid", x1=x, x2=x, y1=_TOP, y2=foot) for x, _ in ticks]
    words = [_text(x, foot + 16, word, "middle") for x, word in ticks]
    left = [_text(_NAMES - 12, y + 4, name, "end") for y, name in _ordered(names)]
    return _drawing(foot + _BOTTOM, title, *grid, *words, *left, *drawn)


def _across(y: float, word: str) -> str:
    line = element("line", class_="grid", x1=_LEFT, x2=WIDTH - _RIGHT, y1=y, y2=y)
    return line + _text(_LEFT - 8, y + 4, word, "end")


def _text(x: float, y: float, words: str, anchor: str) -> str:
    return element("text", escape(words), x=x, y=y, text_anchor=anchor)


def _drawing(height: float, title: str, *content: str) -> str:
    box = f"0 0 {_plain(WIDTH)} {_plain(height)}"
    return element("svg", element("title", escape(title)), *content, viewBox=box, role="img", class_="plot")


def _log(low: float, high: float, first: float, last: float) -> Place:
    return lambda value: first + (last - first) * log10(value / low) / log10(high / low)


def _decades(low: float, high: float) -> list[float]:
    return [10.0**power for power in range(round(log10(low)), int(log10(high) + 1e-9) + 1)]


def _plain(value: object) -> str:
    return f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else escape(str(value))
