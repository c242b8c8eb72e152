"""A page of HTML that needs nothing else: no script, no font, no picture from elsewhere.

It reads on a screen, light or dark, and on paper; its style has the colours of the plots of
`papilar.picture.svg`. Each section has a plot and, beside it, the numbers that it is drawn from.
"""

from collections.abc import Iterable, Sequence
from html import escape

from papilar.picture.svg import element

_STYLE = """
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1f24; --soft: #5d6670; --rule: #d5dae0;
  --band: #eef1f4; --first: #1c5d99; --second: #b3541e; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181d; --ink: #e6e9ec; --soft: #9aa4af;
  --rule: #343c45; --band: #1f252c; --first: #7db8ee; --second: #f0a26b; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --rule: #bbb;
  --band: #eee; --first: #1c5d99; --second: #b3541e; } section { break-inside: avoid; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 68rem; padding: 2rem 1.25rem 3rem; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0; line-height: 1.2; } h2 { font-size: 1.1rem; margin: 2.4rem 0 .2rem; }
h3 { font-size: .95rem; margin: 0 0 .3rem; } p { margin: .3rem 0; max-width: 46rem; }
.soft, caption { color: var(--soft); }
.pair { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: .6rem 2rem;
  margin: 1rem 0 1.6rem; align-items: start; }
@media (max-width: 44rem) { .pair { grid-template-columns: minmax(0, 1fr); } }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .82rem; font-variant-numeric: tabular-nums; width: 100%; }
th, td { padding: .16rem .5rem; text-align: right; border-bottom: 1px solid var(--rule); }
th { font-weight: 600; color: var(--soft); vertical-align: bottom; }
th:first-child, td:first-child, .word { text-align: left; }
.plot { width: 100%; height: auto; display: block; } .key { vertical-align: -2px; }
svg text { font: 11px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--rule); stroke-width: 1; } .band { fill: var(--band); }
.line { fill: none; stroke-width: 1.5; } .bar { stroke: var(--first); stroke-width: 2.5; opacity: .55; }
.line.s0 { stroke: var(--first); } .line.s1 { stroke: var(--second); }
.mark { stroke-width: 1.5; } .s0.mark { fill: var(--first); stroke: var(--first); }
.s1.mark { fill: var(--second); stroke: var(--second); } .mark.open { fill: var(--paper); }
.past { fill: var(--soft); opacity: .55; }
"""


def page(title: str, *body: str) -> str:
    """Return a whole page: its title as text, and what stands under that, as HTML."""
    policy = "default-src 'none'; style-src 'unsafe-inline'"
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"{element('title', escape(title))}{element('style', _STYLE)}"
    )
    heading = element("h1", escape(title))
    whole = element("html", element("head", head), element("body", heading, *body), lang="en")
    return f"<!doctype html>\n{whole}\n"


def section(title: str, words: str, content: str) -> str:
    """Return a part of a page under a title, which is text; the words to it and the content are HTML."""
    told = element("p", words, class_="soft") if words else ""
    return element("section", element("h2", escape(title)), told, content)


def pair(plot: str, table: str) -> str:
    """Put a plot and its table side by side, or one under the other where that is too wide."""
    return element("div", element("div", plot), wide(table), class_="pair")


def wide(table: str) -> str:
    """Return a table, which is turned over sideways where it is too wide."""
    return element("div", table, class_="wide")


def table(heads: Sequence[str], lines: Iterable[Sequence[str]], *, words: Iterable[int] = ()) -> str:
    """Return a table of texts; beside the first column, those whose places are `words` hold no numbers."""
    of = dict.fromkeys(words, ' class="word"')

    def line(tag: str, cells: Sequence[str]) -> str:
        return element("tr", *(f"<{tag}{of.get(i, '')}>{escape(c)}</{tag}>" for i, c in enumerate(cells)))

    body = element("tbody", *(line("td", cells) for cells in lines))
    return element("table", element("thead", line("th", heads)), body)
