"""A run folder as a report needs it: what can be read, and a sentence for each piece that cannot."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from partial_equiv.errors import UserError
from partial_equiv.runs.artifacts import write_artifact
from partial_equiv.runs.folder import CONFIG, METRICS, SUMMARY
from partial_equiv.runs.plain_yaml import read_yaml

OVERRIDES, AUDIT, ORBIT, CONFUSION = "overrides.json", "audit.json", "orbit.json", "confusion.json"
MARKS = (CONFIG, METRICS, SUMMARY)
"""Files of which a run folder holds at least one."""


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """What a run folder tells. What is missing is empty; `faults` says what is damaged.

    Args:
        path: The folder.
        config: The resolved configuration.
        rows: Rows of the log, epochs ascending.
        summary: Of a finished run.
        typed: Overrides as they were typed, of `overrides.json`; None where the run did not write them down.
        audit: Of the probe `audit`.
        orbit: Of the probe `orbit`.
        confusion: What a classifier takes for what; see `partial_equiv.runs.report.confusion`.
        faults: Sentences.
    """

    path: Path
    config: Mapping[str, Any]
    rows: list[dict[str, Any]]
    summary: Mapping[str, Any]
    typed: list[str] | None = None
    audit: Mapping[str, Any] = field(default_factory=dict)
    orbit: Mapping[str, Any] = field(default_factory=dict)
    confusion: Mapping[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def choice(self, key: str) -> Any:
        """Return the value of a dotted key of the configuration, None where there is none."""
        node: Any = self.config
        for part in key.split("."):
            node = node.get(part) if isinstance(node, Mapping) else None
        return node

    @property
    def seconds(self) -> float | None:
        """Time of the training: the run's own number, else the sum over its log."""
        told = number(self.summary.get("seconds"))
        times = [seconds for row in self.rows if (seconds := number(row.get("seconds"))) is not None]
        return told if told is not None else sum(times) if times else None

    @property
    def title(self) -> str:
        """The run in a few words, as the run itself says it, else from its configuration."""
        named = self.summary.get("title")
        if isinstance(named, str) and named:
            return named
        choices = (self.choice(key) for key in ("train.method", "dataset.type", "net.type", "base_group.name"))
        return " ".join(str(choice) for choice in choices if choice is not None) or self.path.name


def read_record(folder: Path | str) -> RunRecord:
    """Return what a run folder tells, finished or not.

    Raises:
        UserError: it is no run folder: it holds neither configuration, log nor summary.
    """
    path = Path(folder)
    if not any((path / name).is_file() for name in MARKS):
        raise UserError(f"{path} is not a run folder, it holds none of {', '.join(MARKS)}: give outputs/<date>/<time>")
    faults: list[str] = []
    config = _config(path / CONFIG, faults)
    summary = _mapping(path / SUMMARY, faults)
    for name, meaning in ((CONFIG, "what was trained is not known"), (SUMMARY, "the run has not finished")):
        if not (path / name).is_file():
            faults.append(f"{name} is not there: {meaning}.")
    typed = _mapping(path / OVERRIDES, faults).get("typed")
    return RunRecord(
        path=path,
        config=config,
        rows=_rows(path / METRICS, faults),
        summary=summary,
        typed=[str(entry) for entry in typed] if isinstance(typed, list) else None,
        audit=_mapping(path / AUDIT, faults),
        orbit=_mapping(path / ORBIT, faults),
        confusion=_mapping(path / CONFUSION, faults),
        faults=faults,
    )


def write_typed(folder: Path, overrides: Sequence[str], *, resume: bool = False) -> None:
    """Write down what was typed for a run, in `overrides.json`; of a resumed run, after what it was started with.

    Args:
        folder: The run folder.
        overrides: For example ["train.epochs=5"]; `resume=` says nothing of the run itself and is left out.
        resume: Whether the run goes on. One that was started without the file gets none: it would hold but a part.

    Raises:
        UserError: the folder cannot be written.
    """
    before = _mapping(folder / OVERRIDES, []).get("typed") if resume else []
    if isinstance(before, list):
        own = [override for override in overrides if not override.startswith("resume=")]
        write_artifact(folder, OVERRIDES, {"typed": [*before, *own]})


def run_folders(path: Path | str) -> list[Path]:
    """Return a run folder itself, or every run folder below a folder, in order of their names.

    Raises:
        UserError: there is no such folder, it cannot be read, or there is no run in it.
    """
    top = Path(path)
    if not top.is_dir():
        raise UserError(f"{top} is not a folder: give the folder of a run, or one that holds runs")
    try:
        found = list(_below(top))
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({error.strerror}): give the folders of runs") from error
    if not found:
        raise UserError(f"{top} holds no run: give outputs/<date>/<time>, or a folder above such folders")
    return found


def number(value: Any) -> float | None:
    """Return a finite number, None for everything else."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        plain = float(value)
    except OverflowError:  # an integer beyond all floats
        return None
    return plain if math.isfinite(plain) else None


def entry(values: Any, place: int) -> float | None:
    """Return the finite number at a place of a list, None where there is no list, no such place or no such number."""
    return number(values[place]) if isinstance(values, list) and place < len(values) else None


def _below(folder: Path) -> Iterator[Path]:
    """Yield run folders; those inside of a run are its own business (W&B keeps a config.yaml there)."""
    if any((folder / name).is_file() for name in MARKS):
        yield folder
        return
    for inner in sorted(folder.iterdir()):
        if inner.is_dir() and not inner.is_symlink() and not inner.name.startswith("."):
            yield from _below(inner)


def _config(path: Path, faults: list[str]) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        return read_yaml(path)
    except UserError as error:
        faults.append(f"{error}.")
        return {}


def _mapping(path: Path, faults: list[str]) -> dict[str, Any]:
    """Return the keys of a JSON file, none where there is no file or a damaged one, which is noted."""
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        faults.append(f"{path.name} cannot be read: {error.strerror or error}.")
        return {}
    except (ValueError, RecursionError) as error:
        faults.append(f"{path.name} is damaged: {error}.")
        return {}
    if not isinstance(found, dict):
        faults.append(f"{path.name} is damaged: it is not a set of keys.")
        return {}
    return found


def _rows(path: Path, faults: list[str]) -> list[dict[str, Any]]:
    """Return the readable rows of a log; of two of one epoch the later, as a resumed run means it."""
    try:
        lines = path.read_bytes().splitlines() if path.is_file() else []
    except OSError as error:
        faults.append(f"{path.name} cannot be read: {error.strerror or error}.")
        return []
    rows: dict[int, dict[str, Any]] = {}
    damaged = 0
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            row = None
        epoch = number(row.get("epoch")) if isinstance(row, dict) else None
        if isinstance(row, dict) and epoch is not None:
            rows[int(epoch)] = row | {"epoch": int(epoch)}
        else:
            damaged += 1
    if damaged:
        faults.append(f"{path.name}: {damaged} of {len(lines)} lines are damaged and left out.")
    return [rows[epoch] for epoch in sorted(rows)]
