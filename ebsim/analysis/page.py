"""A self-contained page: no network, no script; light, dark and printed; any window.

Colours are those of Okabe and Ito, which people with any of the common colour blindnesses can
tell apart, lightened for a dark page; every series has a label of its own beside it as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

_STYLE = """
:root { color-scheme: light dark;
  --page: #ffffff; --ink: #1b1f24; --soft: #57606a; --rule: #d5dae0; --panel: #f6f8fa;
  --c1: #0072b2; --c2: #e69f00; --c3: #009e73; --c4: #cc79a7; --c5: #56b4e9; --c6: #d55e00;
  --none: #e3e7ec; --heat: 0, 114, 178; }
@media screen and (prefers-color-scheme: dark) { :root {
  --page: #14181d; --ink: #e8ecf1; --soft: #a3adb8; --rule: #39424d; --panel: #1c2229;
  --c1: #4aa8e0; --c2: #f0b429; --c3: #2fc498; --c4: #e29ac3; --c5: #9ad5f5; --c6: #ff8a4c;
  --none: #2a323b; --heat: 74, 168, 224; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 3rem; max-width: 60rem; background: var(--page);
  color: var(--ink); font: 16px/1.5 system-ui, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .5rem; }
h2 { font-size: 1.15rem; line-height: 1.3; margin: 0 0 .25rem; }
p { margin: .25rem 0 .75rem; } .lead { font-size: 1.1rem; } .soft { color: var(--soft); }
figure { margin: 2rem 0 0; padding: 1rem 0 0; border-top: 1px solid var(--rule);
  break-inside: avoid; }
figure > div { overflow-x: auto; }
svg { display: block; width: 100%; min-width: 34rem; height: auto; font-size: 13px; }
svg text { fill: var(--ink); font-family: inherit; } svg .soft { fill: var(--soft); }
svg .strong { font-weight: 600; } svg .small { font-size: 11px; }
svg .inverse { fill: var(--page); }
.c1 { fill: var(--c1); } .c2 { fill: var(--c2); } .c3 { fill: var(--c3); }
.c4 { fill: var(--c4); } .c5 { fill: var(--c5); } .c6 { fill: var(--c6); }
.none { fill: var(--none); } .faint { opacity: .55; }
.line { fill: none; stroke-width: 2.25; stroke-linejoin: round; } .dot { stroke: var(--page); }
.line.c1 { stroke: var(--c1); } .line.c2 { stroke: var(--c2); } .line.c3 { stroke: var(--c3); }
.line.c4 { stroke: var(--c4); } .line.c5 { stroke: var(--c5); } .line.c6 { stroke: var(--c6); }
.line.c2, .line.c5 { stroke-dasharray: 7 4; } .line.c4, .line.c6 { stroke-dasharray: 2 4; }
.grid { stroke: var(--rule); stroke-width: 1; } .whisker { stroke: var(--ink); stroke-width: 1.5; }
.heat { fill: rgb(var(--heat)); }
table { border-collapse: collapse; font-size: .8125rem; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .4rem; text-align: right; border-bottom: 1px solid var(--rule);
  white-space: nowrap; }
.words { text-align: left; } td.words { white-space: normal; }
th { color: var(--soft); font-weight: 600; white-space: normal; vertical-align: bottom; }
tr > :first-child { position: sticky; left: 0; background: var(--page); white-space: nowrap; }
.scroll { overflow-x: auto; } tr.chosen > td { font-weight: 600; background: var(--panel); }
details { margin-top: 2rem; border-top: 1px solid var(--rule); padding-top: 1rem; }
summary { cursor: pointer; font-weight: 600; }
@media print { body { max-width: none; padding: 0; font-size: 11pt; }
  svg { min-width: 0; width: 86%; } details { break-inside: avoid; } .scroll { overflow: visible; }
  table { font-size: 8pt; } th, td { padding: .1rem .35rem; }
  tr > :first-child { position: static; }
  rect, path, circle { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""


@dataclass(frozen=True, slots=True)
class Section:
    """A chart and what it shows: *title* says what is seen, *note* how to read it."""

    title: str
    note: str
    svg: str


@dataclass(frozen=True, slots=True)
class PageTable:
    """A table of texts; *chosen* is the row to bring out, the others than the first
    *left_count* columns are of numbers."""

    title: str
    headers: Sequence[str]
    rows: Sequence[Sequence[str]]
    chosen: int | None = None
    left_count: int = 1


def html_page(
    title: str,
    lead: str,
    sections: Sequence[Section],
    tables: Sequence[PageTable],
    *,
    notes: Sequence[str] = (),
) -> str:
    """The page as HTML."""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>",
        f'<h1>{escape(title)}</h1><p class="lead">{escape(lead)}</p>',
        *(f'<p class="soft">{escape(note)}</p>' for note in notes),
        *map(_section, sections),
        *map(_table, tables),
        "</body></html>",
    ]
    return "\n".join(parts) + "\n"


def _section(section: Section) -> str:
    return (
        f"<figure><h2>{escape(section.title)}</h2>"
        f'<p class="soft">{escape(section.note)}</p><div>{section.svg}</div></figure>'
    )


def _table(table: PageTable) -> str:
    head = _cells("th", table.headers, table.left_count)
    rows = []
    for turn, row in enumerate(table.rows):
        kind = ' class="chosen"' if turn == table.chosen else ""
        cells = _cells("td", row, table.left_count)
        rows.append(f"<tr{kind}>{cells}</tr>")
    return (
        f'<details open><summary>{escape(table.title)}</summary><div class="scroll">'
        f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        "</div></details>"
    )


def _cells(tag: str, texts: Sequence[str], left_count: int) -> str:
    words = ' class="words"'
    return "".join(
        f"<{tag}{words if turn < left_count else ''}>{escape(text)}</{tag}>"
        for turn, text in enumerate(texts)
    )


def standalone_chart(section: Section) -> str:
    """The chart of *section* as an SVG file that carries its own style, light or dark."""
    head, bracket, rest = section.svg.partition(">")
    ground = '<rect width="100%" height="100%" style="fill:var(--page)"/>'
    font = "svg { font: 13px system-ui, sans-serif; }"
    return f"{head}{bracket}<style>{_STYLE}{font}</style>{ground}{rest}\n"
