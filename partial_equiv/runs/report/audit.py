"""How equivariant a trained network is, layer by layer, from what the probe `audit` left."""

from collections.abc import Mapping, Sequence
from typing import Any

from partial_equiv.runs.report.html import Markup, escaped, paragraph, table
from partial_equiv.runs.report.pictures import Picture
from partial_equiv.runs.report.record import RunRecord, number

PAGE = "audit.html"
KEY = (
    "Adds: the layer's own error, when it is fed exactly what it should be. In total: its error in the network, with "
    "what it inherits. 0 is exact, 1 is as far off as another image. Culprits, which break equivariance by themselves, "
    "are highlighted."
)
COLUMNS = ("layer", "module", "output", "adds", "in total", "note")


def audit_blocks(record: RunRecord, pictures: Mapping[str, Picture]) -> list[Markup]:
    """Return the verdict, the errors of the layers as picture and as table, and the plan; empty without an audit."""
    data, blocks = record.audit, list[Markup]()
    rows = [row for row in _list(data.get("rows")) if isinstance(row, Mapping)]
    if rows:
        blocks.append(paragraph(_verdict(data)))
    if plan := _plan(data.get("plan")):
        blocks.append(paragraph(plan))
    if "audit" in pictures:
        blocks.append(pictures["audit"].markup())
    if rows:
        culprits = {str(name) for name in _list(data.get("culprits"))}
        marked = [place for place, row in enumerate(rows) if str(row.get("name")) in culprits]
        caption = f"Errors, the largest over the elements of {data.get('group', 'the group')}"
        blocks += [table(COLUMNS, [_cells(row) for row in rows], caption, marked), paragraph(KEY, "note")]
    if (record.path / PAGE).is_file():
        link = Markup(f'<a href="{PAGE}">{PAGE}</a>')
        blocks.append(Markup(f"<p>The audit's own page, with the plan of every layer: {link}, beside this file.</p>"))
    return blocks


def error_text(value: Any) -> str:
    """Return an error; one that is not finite is stored as a text, and none as "-"."""
    found = number(value)
    if found is None:
        return value if value in ("inf", "nan") else "-"
    return "0" if found == 0 else f"{found:.1e}" if abs(found) < 0.01 or abs(found) >= 1000 else f"{found:.2g}"


def _verdict(data: Mapping[str, Any]) -> str:
    first = data.get("first_culprit")
    breaks = "no layer breaks equivariance by itself" if first is None else f"the first to break it is {first}"
    return f"The error of the output is {error_text(data.get('error'))}; {breaks}."


def _plan(data: Any) -> str:
    """Return what the pixel grid allows, in a sentence, empty where it was not planned."""
    verdict = data.get("verdict") if isinstance(data, Mapping) else None
    return f"What the pixel grid allows: {verdict}." if isinstance(verdict, str) and verdict else ""


def _cells(row: Mapping[str, Any]) -> Sequence[Markup]:
    shape = " × ".join(map(str, _list(row.get("shape"))))
    texts = (row.get("name"), row.get("module"), shape)
    errors = (error_text(row.get(key)) for key in ("local", "cumulative"))
    return [escaped(cell) for cell in (*texts, *errors, row.get("reason"))]


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []
