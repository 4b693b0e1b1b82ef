"""What every dashboard shows of a run: series, sheets and cards, made of what the run writes down."""

import html
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

Cell = str | float | None
CONFUSION = "confusion.json"
"""Artifact of a run: what each class is taken for."""
PER_LAYER = ("levels", "mirror")
"""Lists of a row of the log that hold one entry for each layer that learns a subset."""
STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:1rem;max-width:60rem;color:#1b1b1b;background:#fff}"
    "h1{font-size:1.25rem}table{border-collapse:collapse}th{font-weight:600}td{overflow-wrap:anywhere}"
    "th,td{text-align:left;vertical-align:top;padding:.2rem 1rem .2rem 0;border-bottom:1px solid #ccc}"
)


class Sheet(NamedTuple):
    """A table: one type of cell in each column, None where there is nothing."""

    columns: tuple[str, ...]
    rows: list[list[Cell]]


class Card(NamedTuple):
    """What there is to know of a model or of data, on one page: facts, and sentences on how to read them."""

    title: str
    facts: dict[str, str]
    notes: tuple[str, ...] = ()


def series(row: Mapping[str, Any], layers: Sequence[str] = ()) -> dict[str, float]:
    """Return the numbers of one row of the log, each under the name of its series.

    A list becomes one series per entry, called by its layer where there is one entry a layer, else by its place. What
    is None, and the epoch itself, is left out.

    Args:
        row: Key -> number, list of numbers, or None.
        layers: Names of the layers that learn a subset, in order.
    """
    found: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, list):
            named = key in PER_LAYER and len(layers) == len(value)
            names = layers if named else range(len(value))
            found |= {f"{key}/{name}": entry for name, entry in zip(names, value, strict=True)}
        elif key != "epoch":
            found[key] = value
    return {name: entry for name, entry in found.items() if entry is not None}


def class_sheet(confusion: Mapping[str, Any]) -> Sheet:
    """Return, for each class, its test images, the share that is recognised, and what the others are taken for most.

    Args:
        confusion: Content of `confusion.json`: "class_names", K texts, and "counts", K x K, true by predicted.
    """
    names, rows = confusion["class_names"], []
    for true, (name, counts) in enumerate(zip(names, confusion["counts"], strict=True)):
        total, wrong = sum(counts), [0 if taken == true else count for taken, count in enumerate(counts)]
        mistaken = names[wrong.index(max(wrong))] if any(wrong) else None
        rows.append([name, total, counts[true] / total if total else None, mistaken])
    return Sheet(("class", "images", "accuracy", "taken for"), rows)


def layer_sheet(summary: Mapping[str, Any]) -> Sheet:
    """Return what each layer keeps of the group, and its equivariance error where the probe audit measured it."""
    prefix = "test/audit/"
    errors = {key.removeprefix(prefix): value for key, value in summary.items() if key.startswith(prefix)}
    layers = list(summary.get("layers") or [])
    levels = dict(zip(layers, summary.get("levels") or [], strict=False))
    mirrors = dict(zip(layers, summary.get("mirror") or [], strict=False))
    rows: list[list[Cell]] = [
        [name, levels.get(name), mirrors.get(name), _gates(summary.get(f"gates/{name}")), errors.get(name)]
        for name in dict.fromkeys([*errors, *layers])  # the audit goes through the network in its order
    ]
    return Sheet(("layer", "level", "mirror", "gates", "equivariance error"), rows)


def model_card(title: str, config: Mapping[str, Any], summary: Mapping[str, Any]) -> Card:
    """Return what a network is, how it was trained and how well it does.

    Args:
        title: The run in a few words.
        config: The resolved configuration.
        summary: Of the finished run.
    """
    facts = {
        "network": _picked(config, "net.type", "net.backbone"),
        "group": _picked(config, "base_group.name", "base_group.no_samples"),
        "kernels": _picked(config, "kernel.type", "kernel.size"),
        "learns subsets": _picked(config, "conv.partial_equiv"),
        "parameters": f"{summary['no_params']:,}" if "no_params" in summary else "",
        "trained on": _text(summary.get("dataset")),
        "method": _picked(config, "train.method") or _picked(config, "train.type"),
        "epochs": _text(summary.get("epochs")),
        "best epoch": _text(summary.get("best_epoch")),
        "seconds of training": _text(summary.get("seconds")),
        **{key.replace("/", " "): _text(value) for key, value in summary.items() if _is_test(key)},
        **{key: _text(summary.get(key)) for key in ("seed", "device", "torch", "python", "platform", "commit")},
        "comment": _text(summary.get("comment")),
    }
    notes = ["All numbers are of one seed and of this test split alone."]
    if summary.get("layers"):
        notes.append(
            "A level is the share of the circle of rotations that a layer keeps: 1 is the whole group, 0 the identity."
        )
    return Card(f"Model: {title}", {key: text for key, text in facts.items() if text}, tuple(notes))


def data_card(config: Mapping[str, Any], summary: Mapping[str, Any]) -> Card:
    """Return what a run learned from and was tested on.

    Args:
        config: The resolved configuration.
        summary: Of the finished run.
    """
    facts = {
        "name": _text(summary.get("dataset")),
        "note": _text(summary.get("note")),
        "training": _text(summary.get("no_train")),
        "validation": _text(summary.get("no_validation")),
        "test": _text(summary.get("no_test")),
        "augmentation": _picked(config, "augment"),
        **{f"dataset.{key}": _text(value) for key, value in (config.get("dataset") or {}).items()},
    }
    notes = ("Nothing is chosen on the test split.",)
    return Card(f"Data: {summary.get('dataset', 'unknown')}", {key: text for key, text in facts.items() if text}, notes)


def as_html(card: Card) -> str:
    """Return a card as a page of its own that loads nothing; all text is escaped."""
    facts = "".join(
        f'<tr><th scope="row">{html.escape(key)}</th><td>{html.escape(text)}</td></tr>'
        for key, text in card.facts.items()
    )
    notes = "".join(f"<p>{html.escape(note)}</p>" for note in card.notes)
    title = html.escape(card.title)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>'
        f"<style>{STYLE}</style></head><body><h1>{title}</h1><table>{facts}</table>{notes}</body></html>\n"
    )


def as_markdown(content: Card | Sheet) -> str:
    """Return a card or a table as Markdown."""
    if isinstance(content, Card):
        table = as_markdown(Sheet(("fact", "value"), [[key, text] for key, text in content.facts.items()]))
        return "\n\n".join([f"# {_cell(content.title)}", table, *content.notes])
    lines: list[Sequence[Cell]] = [content.columns, ["---"] * len(content.columns), *content.rows]
    return "\n".join("| " + " | ".join(map(_cell, line)) + " |" for line in lines)


def _is_test(key: str) -> bool:
    """Say whether a number of the summary is a test of the whole, not of one class, layer or part."""
    return key.startswith("test/") and key.count("/") == 1


def _picked(config: Mapping[str, Any], *keys: str) -> str:
    """Return the values of dotted keys, with the keys of all but the first; those that are absent are left out."""
    texts = []
    for number, key in enumerate(keys):
        node: Any = config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        if text := _text(node):
            texts.append(f"{key.rpartition('.')[2]} {text}" if number else text)
    return ", ".join(texts)


def _gates(gates: Sequence[float] | None) -> str | None:
    """Return the probability of each turn of a grid, the identity first."""
    return None if gates is None else " ".join(f"{gate:.2f}" for gate in gates)


def _text(value: Any) -> str:
    """Return a fact as text; None is empty."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    return "" if value is None else str(value)


def _cell(value: Cell) -> str:
    """Return a cell of a Markdown table."""
    return _text(value).replace("|", "\\|").replace("\n", " ")
