"""Many runs on one page: what they reached, in what they differ, and their curves over one another."""

import os.path
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from partial_equiv.runs.atomic import write_atomically
from partial_equiv.runs.finding import leaves
from partial_equiv.runs.reading import FinishedRun, labels
from partial_equiv.runs.report.curves import MOST_POINTS, best_epoch, overlaid, panels_of, thinned_rows
from partial_equiv.runs.report.html import Markup, Section, code, escaped, folded, grid, listed, page, paragraph, table
from partial_equiv.runs.report.notes import commands_of, warnings_of
from partial_equiv.runs.report.plots import Plots
from partial_equiv.runs.report.record import RunRecord, read_record
from partial_equiv.runs.report.single import REPORT
from partial_equiv.runs.report.subsets import Layer, layers_of
from partial_equiv.runs.report.words import count_text, metric_text, seconds_text

MOST_COLUMNS, MOST_POLAR_RUNS, FEWEST_POINTS = 24, 12, 100


def write_comparison(folders: Sequence[Path | str], out: Path | str) -> Path:
    """Write one page that compares runs, finished or not, and return its path.

    Args:
        folders: Run folders.
        out: The HTML file.

    Raises:
        UserError: one of them is no run folder, or the file cannot be written.
    """
    path = Path(out)
    write_atomically(path, comparison_page([read_record(folder) for folder in folders], path).encode())
    return path


def comparison_page(records: Sequence[RunRecord], out: Path) -> str:
    """Return the page of several runs, with links from where it will lie to the report of each."""
    names = labels([FinishedRun(record.path, dict(record.config), dict(record.summary)) for record in records])
    plots = Plots()
    most = max(MOST_POINTS // len(records), FEWEST_POINTS)
    rows = [thinned_rows(record, most) for record in records]
    layers = [layers_of(record, found) for record, found in zip(records, rows, strict=True)]
    panels = overlaid((name, panels_of(found)) for name, found in zip(names, rows, strict=True))
    curves: list[Markup] = []
    if panels:
        curves = [
            paragraph("Point at a curve, or move the slider, to read values; a name hides its line."),
            plots.slider(),
            grid("plots", [plots.panel(panel) for panel in panels]),
        ]
    if any(len(found) < len(record.rows) for found, record in zip(rows, records, strict=True)):
        curves.append(paragraph(f"Of long runs about {most:,} epochs are drawn, evenly spread.", "note"))
    sections = [
        Section("Summary", [_summary(records, names, out), *_warnings(records, names)]),
        Section("What differs", _differences(records, names)),
        Section("Curves", curves or [paragraph("No log holds an epoch to draw.", "note")]),
        Section("Learned subsets", _subsets(records, names, layers, plots)),
        Section("Repeat them", _commands(records, names)),
    ]
    lead = f"{len(records)} runs: what they reached, in what they differ, and how to repeat them."
    return page(f"Comparison of {len(records)} runs", lead, sections, plots.payload())


def _summary(records: Sequence[RunRecord], names: Sequence[str], out: Path) -> Markup:
    keys = list(dict.fromkeys(key for record in records for key in record.summary if key.startswith("test/")))
    # The means of the test itself before the numbers of probes.
    keys = sorted(keys, key=lambda key: key.count("/") > 1)
    judged = dict.fromkeys(key for record in records for key in record.summary if key.startswith("validation/"))
    keys = [*(key for key in judged if key != "validation/loss"), *keys]
    costs = ("best epoch", "parameters", "training time", "device", "commit")
    head = ["run", *(key.replace("/", " ") for key in keys[:MOST_COLUMNS]), *costs]
    rows = [_row(record, name, keys[:MOST_COLUMNS], out) for record, name in zip(records, names, strict=True)]
    left = f"; {len(keys) - MOST_COLUMNS} more numbers stand in their reports" if len(keys) > MOST_COLUMNS else ""
    return table(head, rows, f"What each run reached, “-” where it was not measured{left}")


def _row(record: RunRecord, name: str, keys: Sequence[str], out: Path) -> list[object]:
    summary = record.summary
    costs = (
        summary.get("best_epoch"),
        count_text(summary.get("no_params")),
        seconds_text(record.seconds),
        summary.get("device"),
        str(summary.get("commit") or "")[:7],
    )
    return [_named(record, name, out), *(metric_text(key, summary.get(key)) for key in keys), *costs]


def _named(record: RunRecord, name: str, out: Path) -> Markup:
    """Return a run's name, as a link where it has a report of its own."""
    report = record.path / REPORT
    if not report.is_file() or report.resolve() == out.resolve():
        return escaped(name)
    target = quote(Path(os.path.relpath(report.resolve(), out.resolve().parent)).as_posix())
    return Markup(f'<a href="{escaped(target)}">{escaped(name)}</a>')


def _warnings(records: Sequence[RunRecord], names: Sequence[str]) -> list[Markup]:
    found = [f"{name}: {text}" for record, name in zip(records, names, strict=True) for text in warnings_of(record)]
    return [folded(f"{len(found)} warnings", listed(found))] if found else []


def _differences(records: Sequence[RunRecord], names: Sequence[str]) -> list[Markup]:
    """Return the keys of the configurations that are not the same in every run, those first that every run has."""
    found = [leaves(record.config) for record in records]
    keys = dict.fromkeys(key for values in found for key in values)
    # As texts, so that 1, 1.0 and True are three values.
    rows = [(key, *(_text(values, key) for values in found)) for key in keys]
    rows = [row for row in rows if len(set(row[1:])) > 1]
    shared = [row for row in rows if all(row[0] in values for values in found)]
    others = [row for row in rows if row not in shared]
    blocks = [table(("key", *names), shared, "Keys that differ")] if shared else []
    if others:
        rest = table(("key", *names), others, "“(none)” where a run has no such key")
        blocks.append(folded(f"Keys that only some of the runs have: {len(others)}", rest))
    return blocks or [paragraph("The configurations are the same in every key.")]


def _text(found: dict[str, Any], key: str) -> str:
    if key not in found:
        return "(none)"
    value = found[key]
    return "null" if value is None else "(empty)" if value == "" else str(value)


def _subsets(
    records: Sequence[RunRecord], names: Sequence[str], layers: Sequence[Sequence[Layer]], plots: Plots
) -> list[Markup]:
    triples = zip(names, layers, map(best_epoch, records), strict=True)
    learned = [(name, found, best) for name, found, best in triples if found]
    if not learned:
        return [paragraph("No layer of these networks learns a subset of its group.", "note")]
    blocks = [plots.slider()] if any(len(layer.epochs) > 1 for _, found, _ in learned for layer in found) else []
    for name, found, _ in learned[:MOST_POLAR_RUNS]:
        blocks += [Markup(f"<h3>{escaped(name)}</h3>"), grid("polars", [plots.layer(layer) for layer in found])]
    if len(learned) > MOST_POLAR_RUNS:
        blocks.append(paragraph(f"{MOST_POLAR_RUNS} of {len(learned)} runs are drawn; the table has all.", "note"))
    head = ("run", "layer", "level θ", "turns kept", "probability of the mirror")
    rows = [(name, layer.name, *layer.words(best)) for name, found, best in learned for layer in found]
    return [*blocks, table(head, rows, "At the epoch whose weights were tested, else at the last")]


def _commands(records: Sequence[RunRecord], names: Sequence[str]) -> list[Markup]:
    blocks = []
    for record, name in zip(records, names, strict=True):
        commands = commands_of(record)
        if commands:
            how, lines = next(iter(commands.items()))
            blocks.append(folded(f"{name}: {how}", code(lines, f"the command of {name}")))
    return blocks or [paragraph("Without a config.yaml there is no command that repeats a run.", "note")]
