"""The report of one run: `report.html` in its folder, one file that holds all it shows."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from partial_equiv.runs.atomic import write_atomically
from partial_equiv.runs.report.audit import audit_blocks
from partial_equiv.runs.report.confusion import confusion_blocks
from partial_equiv.runs.report.curves import Row, best_epoch, panels_of, seconds_panel, thinned_rows, turn_panel
from partial_equiv.runs.report.html import (
    Markup,
    Section,
    code,
    facts_table,
    folded,
    grid,
    listed,
    page,
    paragraph,
    table,
    tiles,
)
from partial_equiv.runs.report.notes import commands_of, warnings_of
from partial_equiv.runs.report.pictures import Picture, pictures_of
from partial_equiv.runs.report.plots import Plots
from partial_equiv.runs.report.record import RunRecord, number, read_record
from partial_equiv.runs.report.subsets import layers_of, level_panels
from partial_equiv.runs.report.words import bytes_text, count_text, metric_text, seconds_text

REPORT = "report.html"
MOST_NUMBERS = 16
SYMMETRY = ("pose_density", "levels", "standardised", "data_symmetry")
PARTS = ("parts", "predicted_rotation", "nearest_views", "spectrum")
ELSEWHERE = ("audit", "confusion_matrix", "worst_images", *SYMMETRY, *PARTS)
"""Figures that stand in a section of their own."""
NO_SUBSET = "No layer of this network learns a subset of its group."
NO_AUDIT = "Not measured: train with test.probes=[audit], or add it with run=<folder> do=evaluate test.probes=[audit]."
NO_CLASSES = "This run left no confusion matrix: it is no classifier, or it has not been tested."


def write_report(folder: Path | str) -> Path:
    """Write `report.html` into a run folder, from what lies there, and return its path.

    A run that has not finished, or whose files are damaged, gets a page that says so.

    Raises:
        UserError: it is no run folder, or it cannot be written.
    """
    record = read_record(folder)
    path = record.path / REPORT
    write_atomically(path, report_page(record).encode())
    return path


def report_page(record: RunRecord) -> str:
    """Return the page of one run."""
    rows, plots, pictures = thinned_rows(record), Plots(best_epoch(record)), pictures_of(record.path)
    warnings = warnings_of(record)
    sections = [
        Section("Summary", _summary(record, warnings)),
        Section("Repeat it", _commands(record)),
        Section("Curves", _curves(record, rows, plots)),
        Section("Learned subsets", _subsets(record, rows, plots)),
        Section("Equivariance audit", audit_blocks(record, pictures) or [paragraph(NO_AUDIT, "note")]),
        Section("Confusion", confusion_blocks(record, pictures) or [paragraph(NO_CLASSES, "note")]),
        Section("Symmetry", _pictures(pictures, SYMMETRY)),
        Section("Parts of the representation", _pictures(pictures, PARTS)),
        Section("Time and memory", _costs(record, rows, plots)),
        Section("Figures", _pictures(pictures, [name for name in pictures if name not in ELSEWHERE])),
        Section("Configuration", _configuration(record)),
    ]
    seed = record.choice("seed")
    title = record.title if seed is None else f"{record.title}, seed {seed}"
    lead = f"Folder {record.path.resolve().name}: what the run learned, how well, and how to repeat it."
    return page(title, lead, [section for section in sections if section.blocks], plots.payload())


def _summary(record: RunRecord, warnings: Sequence[str]) -> list[Markup]:
    summary = record.summary
    blocks = [tiles(_tiles(record))]
    if warnings:
        blocks += [Markup("<h3>Warnings</h3>"), listed(warnings)]
    measured = {key: metric_text(key, summary[key]) for key in summary if key.startswith("test/")}
    rows = [(key.removeprefix("test/").replace("/", " / "), text) for key, text in measured.items()]
    if rows:
        shown = table(("measured on test data", "value"), rows, "Test numbers")
        blocks.append(shown if len(rows) <= MOST_NUMBERS else folded(f"All {len(rows)} test numbers", shown))
    sizes = (count_text(summary.get(f"no_{split}")) for split in ("train", "validation", "test"))
    names = ("training", "validation", "test")
    facts: dict[str, object] = {
        "run folder": record.path,
        "data": summary.get("dataset") or record.choice("dataset.type"),
        "of which": ", ".join(f"{size} {name}" for size, name in zip(sizes, names, strict=True) if size),
        "note": summary.get("note"),
        "comment": record.choice("comment"),
        "device": summary.get("device"),
        "commit": summary.get("commit"),
        "versions": ", ".join(f"{name} {summary[name]}" for name in ("python", "torch") if summary.get(name)),
        "platform": summary.get("platform"),
    }
    return [*blocks, facts_table(facts, "What was trained, where")]


def _tiles(record: RunRecord) -> dict[str, str]:
    """Return the few numbers that a reader looks for first."""
    summary = record.summary
    means = (key for key in summary if key.startswith("test/") and key.count("/") == 1)
    tested = sorted(means, key=lambda key: key == "test/loss")
    judged = [key for key in summary if key.startswith("validation/") and key != "validation/loss"]
    values = {key.replace("/", " "): metric_text(key, summary[key]) for key in [*tested[:3], *judged[:1]]}
    last = record.rows[-1]["epoch"] if record.rows else None
    best = best_epoch(record)
    found = values | {
        "best epoch": f"{best} of {last}" if best and last else "",
        "epochs": "" if best or last is None else str(last),
        "parameters": count_text(summary.get("no_params")),
        "training time": seconds_text(record.seconds),
    }
    return {name: value for name, value in found.items() if value not in ("", "-")}


def _commands(record: RunRecord) -> list[Markup]:
    blocks: list[Markup] = []
    for how, lines in commands_of(record).items():
        blocks += [paragraph(f"{how[:1].upper()}{how[1:]}:"), code(lines, f"the command {how}")]
    return blocks or [paragraph("Without config.yaml there is no command that repeats this run.", "note")]


def _curves(record: RunRecord, rows: Sequence[Row], plots: Plots) -> list[Markup]:
    panels = panels_of(rows)
    turned = turn_panel(record)
    blocks: list[Markup] = []
    if panels:
        blocks += [
            paragraph("Point at a curve, or move the slider, to read values; a name hides its line."),
            plots.slider(),
        ]
        blocks.append(grid("plots", [plots.panel(panel) for panel in panels if panel.main]))
        details = [plots.panel(panel) for panel in panels if not panel.main]
        blocks += [folded(f"{len(details)} more plots, of details", grid("plots", details))] if details else []
    if len(rows) < len(record.rows):
        blocks.append(paragraph(f"{len(rows):,} of {len(record.rows):,} epochs are drawn, evenly spread.", "note"))
    if turned is not None:
        place = plots.panel(turned)
        blocks += [Markup("<h3>On turned images</h3>"), plots.slider("turn"), grid("plots", [place])]
    return blocks or [paragraph("The log holds no epoch to draw.", "note")]


def _subsets(record: RunRecord, rows: Sequence[Row], plots: Plots) -> list[Markup]:
    layers = layers_of(record, rows)
    if not layers:
        return [paragraph(NO_SUBSET, "note")]
    blocks = [
        paragraph(
            "The turns that each layer keeps: 0° is the identity, angles are counter-clockwise. Bars are the turns of "
            "a grid, as long as they are probable; an inner disc is the mirrored half, as dark as it is probable."
        ),
        *([plots.slider()] if len(layers[0].epochs) > 1 else []),
        grid("polars", [plots.layer(layer) for layer in layers]),
        grid("plots", [plots.panel(panel) for panel in level_panels(layers)]),
    ]
    head = ("layer", "level θ", "turns kept", "probability of the mirror")
    best = best_epoch(record)
    caption = f"At epoch {best}, whose weights were tested" if best in layers[0].epochs else "At the last epoch"
    return [*blocks, table(head, [(layer.name, *layer.words(best)) for layer in layers], caption)]


def _costs(record: RunRecord, rows: Sequence[Row], plots: Plots) -> list[Markup]:
    times = {row["epoch"]: seconds for row in record.rows if (seconds := number(row.get("seconds"))) is not None}
    mean = sum(times.values()) / len(times) if times else None
    slowest = max(times, key=times.__getitem__) if times else None
    images = number(record.summary.get("no_train"))
    facts: dict[str, object] = {
        "training and validation": seconds_text(record.seconds),
        "an epoch, mean": seconds_text(mean),
        "slowest epoch": "" if slowest is None else f"{slowest} ({seconds_text(times[slowest])})",
        "training images a second": f"{images / mean:,.0f}, validation counted in" if images and mean else "",
        "peak memory": bytes_text(record.summary.get("peak_memory")) or "not recorded",
        "device": record.summary.get("device"),
    }
    panel = seconds_panel(rows)
    blocks = [facts_table(facts, "What the run cost")]
    return blocks if panel is None else [*blocks, grid("plots", [plots.panel(panel)])]


def _pictures(pictures: Mapping[str, Picture], names: Sequence[str]) -> list[Markup]:
    shown = [pictures[name].markup() for name in names if name in pictures]
    return [grid("pictures", shown)] if shown else []


def _configuration(record: RunRecord) -> list[Markup]:
    if not record.config:
        return []
    text = yaml.safe_dump(dict(record.config), sort_keys=False, allow_unicode=True)
    return [folded("Every key, resolved", code(text, "the configuration"))]
