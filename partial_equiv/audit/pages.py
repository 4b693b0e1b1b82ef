"""The audit's two reports in words, and as one page."""

from collections.abc import Mapping, Sequence
from typing import Any

from partial_equiv.audit.exactness import ExactnessReport
from partial_equiv.audit.html import Picture, Section, Table, page
from partial_equiv.audit.report import AuditReport, number_text
from partial_equiv.audit.rows import COLUMNS, Row

PLAN_KEY = (
    "i is the input size on the axis, k' the pixels that a kernel spans, s stride, p padding, o output size. A layer "
    "keeps exact equivariance on the axis where (i + 2p - k') mod s = 0. Otherwise it samples the turned image r "
    "pixels beside the image; shift is the same in pixels of the network's input."
)
REPAIR_KEY = (
    "k4s2p1: a kernel of 4 with stride 2 and padding 1. pool2: stride 1, then a 2 x 2 pooling. blur4: stride 1, then a "
    "blur of 4 taps with stride 2 and padding 1. resize:225: resize the image to 225 pixels."
)
MEASURE_KEY = (
    "Adds: the layer's own error, when it is fed exactly what it should be. In total: its error in the network, with "
    "what it inherits. 0 is exact, 1 is as far off as another image."
)


def plan_words(plan: ExactnessReport) -> list[str]:
    """Return what follows from the plan in sentences: the verdict, the law of the sizes, the nearest exact ones."""
    words = [_sentence(plan.verdict)] + ([_sentence(plan.note)] if plan.note else [])
    if plan.modulus is not None:
        words.append(f"Exact sizes: {_congruence(plan.modulus)}.")
    elif plan.moduli:
        words += [f"Exact sizes on {axis}: {_congruence(found)}." for axis, found in plan.moduli.items()]
    if not plan.exact:
        sizes = [str(size) if isinstance(size, int) else f"{size[0]} x {size[1]}" for size in plan.propose()]
        words.append(f"Nearest exact sizes: {', '.join(sizes)}." if sizes else "No size near this one is exact.")
    return words


def repairs(plan: ExactnessReport) -> list[tuple[str, str]]:
    """Return each layer that breaks with what would mend it."""
    return [(name, ", ".join(fixes) or "none is known") for name, fixes in plan.fixes.items()]


def audit_page(
    facts: Mapping[str, Any], plan: ExactnessReport | None, measured: AuditReport | None, picture: bytes | None
) -> str:
    """Return both reports as one self-contained HTML page.

    Args:
        facts: What was audited, by name.
        plan: The planner's report, None where it was left out.
        measured: The measured report, None where it was left out.
        picture: PNG of the measured errors.
    """
    sections = [Section("What was audited", [Table(["", ""], [[key, _fact(value)] for key, value in facts.items()])])]
    if plan is not None:
        sections.append(_plan_section(plan))
    if measured is not None:
        sections.append(_measured_section(measured, picture))
    return page(f"Equivariance of {facts['model']}", sections)


def _plan_section(plan: ExactnessReport) -> Section:
    lines = _lines(plan.rows)
    counts = [line[-2] != "yes" and bool(plan.axes & set(line[2].split(", "))) for line in lines]
    marked = [number for number, broken in enumerate(counts) if broken]
    blocks: list[str | Table] = [*plan_words(plan)]
    if plan.fixes:
        blocks += [Table(["layer", "repairs, any one of them"], repairs(plan)), REPAIR_KEY]
    blocks += [
        Table(COLUMNS, lines, caption="Every layer that samples, shifts or weighs pixels", marked=marked),
        PLAN_KEY,
    ]
    return Section("Before training: what the pixel grid allows", blocks)


def _measured_section(measured: AuditReport, picture: bytes | None) -> Section:
    laws = any(row.law is not None for row in measured.rows)
    rows = [
        [
            row.name,
            row.module,
            " × ".join(map(str, row.shape)),
            row.representation,
            number_text(row.local),
            number_text(row.cumulative),
            *([number_text(row.law)] if laws else []),
            row.reason,
        ]
        for row in measured.rows
    ]
    head = ["layer", "module", "output", "read as", "adds", "in total", *(["law"] if laws else []), "note"]
    marked = [number for number, row in enumerate(measured.rows) if row in measured.culprits]
    table = Table(head, rows, caption="Errors, the largest over the moves; culprits are highlighted", marked=marked)
    drawn = [] if picture is None else [Picture(picture, "Error of every layer", "Errors of the layers, input first")]
    return Section("Measured", [measured.verdict, measured.caption, *drawn, table, MEASURE_KEY])


def _lines(rows: Sequence[Row]) -> list[tuple[str, ...]]:
    """Return the cells of rows; the two axes of a layer share a line where they agree."""
    lines: list[tuple[str, ...]] = []
    for row in rows:
        cells = row.cells()
        before = lines[-1] if lines else ()
        if before[:2] == cells[:2] and before[3:] == cells[3:] and (before[2], cells[2]) == ("H", "W"):
            lines[-1] = (*cells[:2], "H, W", *cells[3:])
        else:
            lines.append(cells)
    return lines


def _congruence(found: tuple[int, int]) -> str:
    return f"≡ {found[0]} mod {found[1]}" if found[1] > 1 else "all"


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}{'' if text.endswith('.') else '.'}"


def _fact(value: object) -> object:
    return " × ".join(map(str, value)) if isinstance(value, list) else value
