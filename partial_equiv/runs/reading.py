"""Finished runs read back: configuration, summary, what sets runs apart, and the data they were trained on."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from partial_equiv.datasets import DATASETS, Splits
from partial_equiv.errors import UserError
from partial_equiv.menu import bind
from partial_equiv.runs.folder import CONFIG, SUMMARY
from partial_equiv.runs.plain_yaml import read_yaml

LABELS: dict[str, str] = {
    "train.method": "{}",
    "dataset.type": "{}",
    "dataset.size": "{} pixels",
    "dataset.rot_interval": "rot_interval {}°",
    "net.type": "{}",
    "base_group.name": "{}",
    "base_group.no_samples": "N = {}",
    "conv.partial_equiv": "",
    "kernel.type": "{}",
    "seed": "seed {}",
}
"""Configuration keys that may set runs apart, in the order in which a label names them."""
PARTIAL = {True: "partial", False: "full"}


class FinishedRun(NamedTuple):
    """A run folder with its configuration and summary."""

    path: Path
    config: dict[str, Any]
    summary: dict[str, Any]

    @property
    def levels(self) -> list[float | None]:
        """Learned level per layer."""
        return list(self.summary.get("levels") or [])


def open_run(path: Path | str) -> FinishedRun:
    """Return a finished run.

    Raises:
        UserError: the folder, its configuration or its summary is missing or damaged.
    """
    folder = Path(path)
    for name, why in (
        (CONFIG, "give the folder of a run"),
        (SUMMARY, "the run has not finished, resume it with resume=<folder>"),
    ):
        if not (folder / name).is_file():
            raise UserError(f"{folder} holds no {name}: {why}")
    try:
        summary = json.loads((folder / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{folder} holds a damaged {SUMMARY}: {str(error).splitlines()[0]}") from error
    if not isinstance(summary, dict):
        raise UserError(f"{folder} holds a {SUMMARY} that is not a set of keys: give the folder of a run")
    config = read_yaml(folder / CONFIG)
    return FinishedRun(folder, config, summary)


def open_splits(run: FinishedRun, root: str | None = None) -> Splits:
    """Return the data that a run was trained on, from the choices in its configuration.

    Args:
        run: A finished run.
        root: Where the files lie, if not where the run found them.

    Raises:
        UserError: the configuration names no data set, or its files are missing.
    """
    choices = dict(run.config.get("dataset") or {})
    if "type" not in choices:
        raise UserError(f"{run.path / CONFIG} names no dataset.type: give the folder of a run of this library")
    name = choices.pop("type")
    if root is not None:
        choices["root"] = root
    splits: Splits = bind(DATASETS, name, choices, "dataset")()
    return splits


def labels(runs: Sequence[FinishedRun]) -> list[str]:
    """Return a text for each run: the choices in which the runs differ, or the folder's name; no two are equal."""
    found = {key: [_lookup(run.config, key) for run in runs] for key in LABELS}
    differing = [key for key, values in found.items() if any(value != values[0] for value in values)]
    texts = [
        ", ".join(_word(key, found[key][i]) for key in differing if found[key][i] is not None) for i in range(len(runs))
    ]
    if len(set(texts)) == len(texts) and all(texts):
        return texts
    named = [f"{text} ({run.path.name})" if text else run.path.name for text, run in zip(texts, runs, strict=True)]
    return named if len(set(named)) == len(named) else [str(run.path) for run in runs]


def _lookup(config: Mapping[str, Any], key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, Mapping) else None
    return node


def _word(key: str, value: Any) -> str:
    if key == "conv.partial_equiv":
        return PARTIAL.get(value, str(value))
    return LABELS[key].format(f"{value:g}" if isinstance(value, float) else value)
