"""One self-contained HTML page of text, tables and pictures, for desk and phone, light and dark, without a network."""

import base64
import html
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from partial_equiv.errors import UserError

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
"""The browser itself refuses whatever is not inside the page."""
STYLE = """
:root { color-scheme: light dark; --ink: #222; --soft: #5c5c5c; --paper: #fff; --line: #d9d9d9; --mark: #fdf0e3; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --soft: #a8a8a8; --paper: #16181b; --line: #3a3d42; --mark: #40301f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0 1rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; max-width: 48rem; }
pre { overflow-x: auto; padding: .6rem .8rem; border: 1px solid var(--line); border-radius: .3rem; font-size: .85rem; }
.wide { overflow-x: auto; margin: .75rem 0; }
table { border-collapse: collapse; width: max-content; font-size: .875rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem; }
th, td { max-width: 26rem; padding: .25rem .6rem; border-bottom: 1px solid var(--line);
  text-align: left; vertical-align: top; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.number { text-align: right; white-space: nowrap; }
tr.marked td { background: var(--mark); }
figure { margin: 1rem 0; }
img { display: block; max-width: 100%; height: auto; background: #fff; border-radius: .3rem; }
figcaption { color: var(--soft); font-size: .875rem; margin-top: .3rem; }
"""

NO_NUMBER = ("", "-")  # texts that a column of numbers may hold


class Table(NamedTuple):
    """Rows of cells; columns of numbers stand to the right, True and False read yes and no, None is an empty cell.

    Args:
        head: Names of the columns; all of them empty for a table without a heading.
        rows: One cell per column each; a float is written as it is: format it where digits matter.
        caption: A line above.
        marked: Rows to be highlighted, by their position.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[object]]
    caption: str = ""
    marked: Sequence[int] = ()


class Picture(NamedTuple):
    """A PNG file.

    Args:
        png: Content of the file, as `partial_equiv.drawing.png` returns it.
        text: What can be seen, for those who cannot.
        caption: A line below.
    """

    png: bytes
    text: str
    caption: str = ""


class Code(NamedTuple):
    """Lines that keep their spaces, such as a command."""

    text: str


class Section(NamedTuple):
    """A heading and what stands under it; a plain string is a paragraph."""

    title: str
    blocks: Sequence["str | Table | Picture | Code"]


def page(title: str, sections: Iterable[Section]) -> str:
    """Return one HTML file that holds everything it shows and asks no network for anything.

    All text is escaped; the page's own security policy keeps browsers from loading or running anything.

    Args:
        title: Of the page, in plain words.
        sections: In order.

    Raises:
        UserError: a table whose rows are not as long as its head.
    """
    body = "\n".join(_section(section) for section in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html.escape(POLICY)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{html.escape(title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{html.escape(title)}</h1>
{body}
</body>
</html>
"""


def _section(section: Section) -> str:
    blocks = "\n".join(_block(block) for block in section.blocks)
    return f"<section>\n<h2>{html.escape(section.title)}</h2>\n{blocks}\n</section>"


def _block(block: str | Table | Picture | Code) -> str:
    if isinstance(block, Table):
        return _table(block)
    if isinstance(block, Picture):
        source = base64.b64encode(block.png).decode("ascii")
        caption = f"<figcaption>{html.escape(block.caption)}</figcaption>" if block.caption else ""
        return f'<figure><img alt="{html.escape(block.text)}" src="data:image/png;base64,{source}">{caption}</figure>'
    if isinstance(block, Code):
        return f"<pre>{html.escape(block.text)}</pre>"
    return f"<p>{html.escape(block)}</p>"


def _table(table: Table) -> str:
    if wrong := next((row for row in table.rows if len(row) != len(table.head)), None):
        raise UserError(f"a row has {len(wrong)} cells under {len(table.head)} headings: give one cell per column")
    texts = [[_text(value) for value in row] for row in table.rows]
    kinds = [' class="number"' if _numeric(column) else "" for column in zip(*texts, strict=True)] or [""] * len(
        table.head
    )
    names = zip(kinds, table.head, strict=True)
    head = "".join(f'<th scope="col"{kind}>{html.escape(name)}</th>' for kind, name in names)
    rows = []
    for number, row in enumerate(texts):
        cells = "".join(f"<td{kind}>{html.escape(text)}</td>" for kind, text in zip(kinds, row, strict=True))
        mark = ' class="marked"' if number in table.marked else ""
        rows.append(f"<tr{mark}>{cells}</tr>")
    caption = f"<caption>{html.escape(table.caption)}</caption>\n" if table.caption else ""
    heading = f"<thead><tr>{head}</tr></thead>\n" if any(table.head) else ""
    body = "\n".join(rows)
    return f'<div class="wide"><table>{caption}{heading}<tbody>\n{body}\n</tbody></table></div>'


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def _numeric(texts: Sequence[str]) -> bool:
    """Return whether a column holds numbers and nothing else."""
    filled = [text for text in texts if text not in NO_NUMBER]
    return bool(filled) and all(map(_is_number, filled))


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
