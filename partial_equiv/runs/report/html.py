"""HTML in pieces that are escaped once, and the page that holds them all and asks no network for anything."""

import base64
import hashlib
import html
import json
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import Any, NamedTuple

NO_NUMBER = ("", "-")
"""Texts that a column of numbers may hold."""
WITHOUT_SCRIPT = "Without JavaScript the curves and subsets are not drawn here; tables and pictures are whole."


class Markup(str):
    """HTML whose text is escaped already; a plain string never is."""

    __slots__ = ()


class Section(NamedTuple):
    """A heading and the pieces under it."""

    title: str
    blocks: Sequence[Markup]

    @property
    def name(self) -> str:
        """What links to it."""
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def escaped(value: object) -> Markup:
    """Return a value as text: True and False read yes and no, None is empty; markup stays as it is."""
    if isinstance(value, Markup):
        return value
    if isinstance(value, bool):
        return Markup("yes" if value else "no")
    return Markup("" if value is None else html.escape(str(value)))


def paragraph(value: object, kind: str = "") -> Markup:
    """Return a paragraph, of a CSS class if one is given."""
    name = f' class="{kind}"' if kind else ""
    return Markup(f"<p{name}>{escaped(value)}</p>")


def listed(values: Sequence[object]) -> Markup:
    """Return a list with a dot before each entry."""
    return Markup("<ul>" + "".join(f"<li>{escaped(value)}</li>" for value in values) + "</ul>")


def code(text: str, label: str) -> Markup:
    """Return lines to be copied, with a button that does it.

    Args:
        text: The lines.
        label: What they are, for the button.
    """
    button = f'<button type="button" class="copy" aria-label="{escaped(f"copy {label}")}">copy</button>'
    return Markup(f'<div class="code">{button}<pre><code>{escaped(text)}</code></pre></div>')


def folded(title: str, *blocks: Markup) -> Markup:
    """Return pieces that are shown when their title is chosen, and in print."""
    return Markup(f"<details><summary>{escaped(title)}</summary>{''.join(blocks)}</details>")


def grid(kind: str, pieces: Sequence[Markup]) -> Markup:
    """Return pieces side by side, as many as there is room for; nothing for none."""
    return Markup(f'<div class="{kind}">{"".join(pieces)}</div>' if pieces else "")


def tiles(facts: Mapping[str, str]) -> Markup:
    """Return a few numbers writ large, each under its name."""
    pairs = (f"<div><dt>{escaped(name)}</dt><dd>{escaped(value)}</dd></div>" for name, value in facts.items())
    return Markup(f'<dl class="tiles">{"".join(pairs)}</dl>')


def facts_table(facts: Mapping[str, object], caption: str) -> Markup:
    """Return two columns, name and value, those without a value left out."""
    rows = [(name, value) for name, value in facts.items() if value not in (None, "")]
    cells = (f'<tr><th scope="row">{escaped(name)}</th><td>{escaped(value)}</td></tr>' for name, value in rows)
    return _wide(caption, f"<tbody>{''.join(cells)}</tbody>", "facts")


def table(head: Sequence[object], rows: Sequence[Sequence[object]], caption: str, marked: Sequence[int] = ()) -> Markup:
    """Return a table; columns of numbers stand to the right, and the first cell of each row names it.

    Args:
        head: Names of the columns.
        rows: One cell per column each.
        caption: A line above.
        marked: Rows to be highlighted, by their position.
    """
    texts = [[escaped(cell) for cell in row] for row in rows]
    assert all(len(row) == len(head) for row in texts), "one cell per column"
    columns = list(zip(*texts, strict=True)) or [()] * len(head)
    kinds = [' class="number"' if _numeric(column) else "" for column in columns]
    names = "".join(f'<th scope="col"{kind}>{escaped(name)}</th>' for kind, name in zip(kinds, head, strict=True))
    lines = []
    for place, row in enumerate(texts):
        first = f'<th scope="row"{kinds[0]}>{row[0]}</th>'
        rest = "".join(f"<td{kind}>{cell}</td>" for kind, cell in zip(kinds[1:], row[1:], strict=True))
        mark = ' class="marked"' if place in marked else ""
        lines.append(f"<tr{mark}>{first}{rest}</tr>")
    return _wide(caption, f"<thead><tr>{names}</tr></thead><tbody>{''.join(lines)}</tbody>")


def heat_table(names: Sequence[str], counts: Sequence[Sequence[int]], caption: str) -> Markup:
    """Return a square table of counts, each as dark as its share of the row."""
    head = "".join(f'<th scope="col">{escaped(name)}</th>' for name in names)
    lines = []
    for name, row in zip(names, counts, strict=True):
        shares = (round(10 * count / max(sum(row), 1)) for count in row)
        cells = (f'<td class="heat{share}">{count or ""}</td>' for share, count in zip(shares, row, strict=True))
        lines.append(f'<tr><th scope="row">{escaped(name)}</th>{"".join(cells)}</tr>')
    corner = '<th scope="col">true \\ predicted</th>'
    return _wide(caption, f"<thead><tr>{corner}{head}</tr></thead><tbody>{''.join(lines)}</tbody>", "heat")


def page(title: str, lead: str, sections: Sequence[Section], payload: Mapping[str, Any]) -> str:
    """Return one HTML file that holds everything it shows.

    The page's own security policy lets the browser run and style by our two files alone, known by their SHA-256: text
    of a run could do nothing even if it were not escaped.

    Args:
        title: In plain words.
        lead: A line below the title.
        sections: In order.
        payload: What the script draws, plain finite values; see report.js.
    """
    style, script = _source("report.css"), _source("report.js")
    sources = f"style-src {_fingerprint(style)}; script-src {_fingerprint(script)}"
    policy = f"default-src 'none'; img-src data:; {sources}; base-uri 'none'; form-action 'none'"
    # In a script element only "<" could end it or begin another.
    data = json.dumps(payload, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    links = "".join(f'<li><a href="#{section.name}">{escaped(section.title)}</a></li>' for section in sections)
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{html.escape(policy)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escaped(title)}</title>
<link rel="icon" href="data:,">
<style>{style}</style>
</head>
<body>
<header>
<h1>{escaped(title)}</h1>
{paragraph(lead, "lead")}
<nav aria-label="Sections"><ul>{links}</ul></nav>
<noscript><p class="note">{WITHOUT_SCRIPT}</p></noscript>
</header>
<main>
{"".join(map(_section, sections))}</main>
<script type="application/json" id="data">{data}</script>
<script>{script}</script>
</body>
</html>
"""
    # JSON can hold halves of characters, and a page cannot.
    return text.encode("utf-8", "replace").decode("utf-8")


def _section(section: Section) -> str:
    blocks = "\n".join(section.blocks)
    heading = f'<h2 id="{section.name}">{escaped(section.title)}</h2>'
    return f'<section aria-labelledby="{section.name}">\n{heading}\n{blocks}\n</section>\n'


def _wide(caption: str, inner: str, kind: str = "") -> Markup:
    """Return a table that scrolls by itself where it is wider than the page, also by keyboard."""
    name = f' class="{kind}"' if kind else ""
    region = f'<div class="wide" role="region" tabindex="0" aria-label="{escaped(caption)}">'
    return Markup(f"{region}<table{name}><caption>{escaped(caption)}</caption>{inner}</table></div>")


def _source(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def _fingerprint(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _numeric(texts: Sequence[str]) -> bool:
    """Return whether a column holds numbers and nothing else."""
    filled = [text for text in texts if text not in NO_NUMBER]
    return bool(filled) and all(map(_is_number, filled))


def _is_number(text: str) -> bool:
    try:
        float(text.removesuffix(" %").replace(",", ""))
    except ValueError:
        return False
    return True
