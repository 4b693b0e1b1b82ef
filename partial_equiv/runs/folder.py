"""The run folder: what a run leaves behind, and where else it is sent."""

import json
import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
import yaml
from matplotlib.figure import Figure
from numpy.typing import NDArray

from partial_equiv.drawing import pixels, png
from partial_equiv.errors import UserError
from partial_equiv.runs.artifacts import FIGURES, write_artifact
from partial_equiv.runs.atomic import write_atomically

CONFIG, METRICS, SUMMARY = "config.yaml", "metrics.jsonl", "summary.json"


class Sink(Protocol):
    """A second place for what a run logs, such as a dashboard; it sees the very values that the folder keeps."""

    def log(self, step: int, scalars: Mapping[str, Any]) -> None:
        """Take the plain numbers, and lists of them, of one epoch."""

    def image(self, name: str, array: NDArray[np.uint8]) -> None:
        """Take a picture, uint8 [Y, X, RGB]."""

    def artifact(self, name: str, artifact: str | dict[str, Any]) -> None:
        """Take the content of a file beside the log: a text, such as a page, or plain data."""

    def summary(self, values: Mapping[str, Any]) -> None:
        """Take the flat summary of the run."""

    def close(self, exit_code: int) -> None:
        """Finish; called once, with 0 where all went well."""


class RunFolder:
    """A folder with `config.yaml`, `metrics.jsonl`, `summary.json`, checkpoints and `figures/`, each whole or absent.

    Also a context manager, which closes the sinks whatever happens. Not made for several writers at once.

    Args:
        path: The folder, created with its parents if absent.
        config: The resolved configuration, plain values.
        sinks: Where else to send scalars, figures and the summary.

    Raises:
        UserError: the folder cannot be created or written; the sinks are closed.
    """

    def __init__(self, path: Path | str, config: Mapping[str, Any], sinks: Sequence[Sink] = ()) -> None:
        self.path = Path(path)
        self.config = dict(config)
        self._sinks = list(sinks)
        self._last: int | None = None
        content = yaml.safe_dump(self.config, sort_keys=False, allow_unicode=True).encode()
        with ExitStack() as failed:
            failed.callback(self.close, 2)
            try:
                self.path.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise UserError(
                    f"cannot create the run folder {self.path}: {error.strerror}; choose another hydra.run.dir"
                ) from error
            write_atomically(self.path / CONFIG, content)
            failed.pop_all()

    def log(self, epoch: int, scalars: Mapping[str, Any]) -> None:
        """Append one JSON object to `metrics.jsonl` and send it to the sinks.

        Epochs only grow: rows of this epoch or later ones, left by a run that is being repeated, are dropped first.
        Numbers that are not finite are written as null, which JSON can hold.
        """
        if self._last is None or epoch <= self._last:
            self.truncate_log(epoch - 1)
        row = {"epoch": epoch, **{key: plain(value) for key, value in scalars.items()}}
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        self._last = epoch
        for sink in self._sinks:
            sink.log(epoch, row)

    def truncate_log(self, epoch: int) -> None:
        """Drop every row after `epoch`, for a run that resumes from the checkpoint written at its end."""
        rows = [row for row in read_log(self.path) if row["epoch"] <= epoch]
        if (self.path / METRICS).exists():
            write_atomically(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in rows).encode())
        self._last = rows[-1]["epoch"] if rows else epoch

    def figure(self, name: str, figure: Figure) -> Path:
        """Save a figure as `figures/<name>.png`, send it to the sinks, and return the path."""
        path = self.path / FIGURES / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        content = png(figure)
        write_atomically(path, content)
        if self._sinks:
            array = pixels(content)
            for sink in self._sinks:
                sink.image(name, array)
        return path

    def artifact(self, name: str, artifact: Figure | str | dict[str, Any]) -> Path:
        """Save a file of a probe and return its path: a figure as `figure` does, all else in the folder itself."""
        if isinstance(artifact, Figure):
            return self.figure(name.removesuffix(".png"), artifact)
        path = write_artifact(self.path, name, artifact)
        for sink in self._sinks:
            sink.artifact(name, artifact)
        return path

    def summary(self, values: Mapping[str, Any]) -> None:
        """Write `summary.json`, replacing the one before: flat, numbers, texts and lists of them."""
        flat = {key: plain(value) for key, value in values.items()}
        write_atomically(self.path / SUMMARY, (json.dumps(flat, indent=2, allow_nan=False) + "\n").encode())
        for sink in self._sinks:
            sink.summary(flat)

    def close(self, exit_code: int = 0) -> None:
        """Close every sink, also where one of them fails; safe to call twice."""
        sinks, self._sinks = self._sinks, []
        with ExitStack() as stack:
            for sink in sinks:
                stack.callback(sink.close, exit_code)

    def __enter__(self) -> Self:
        """Return the folder."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the sinks, which learn how the run ended."""
        self.close(exit_code_of(error))


def exit_code_of(error: BaseException | None) -> int:
    """Return the exit code that a job ends with: 0, 2 for a mistake of the user, 130 for Ctrl-C, else its own or 1."""
    if isinstance(error, UserError):
        return 2
    if isinstance(error, KeyboardInterrupt):
        return 130
    code = 0 if error is None else getattr(error, "code", 1)  # SystemExit, and a training that was stopped, have one
    if code is None:
        return 0
    return code if isinstance(code, int) else 1


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return the rows of `metrics.jsonl`, none if there is no such file; a last line cut off by a crash is ignored.

    Raises:
        UserError: a line before the last is not a JSON object with an epoch.
    """
    path = Path(run) / METRICS
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == len(lines):
                break
            raise UserError(f"{path} line {number} is not JSON: remove the line, or the file") from error
        if not isinstance(row, dict) or "epoch" not in row:
            raise UserError(f"{path} line {number} is not a row of metrics: remove the line, or the file")
        rows.append(row)
    return rows


def plain(value: Any) -> Any:
    """Return a value as JSON holds it: tensors and arrays as numbers or lists, numbers that are not finite as None."""
    if hasattr(value, "tolist"):  # numpy and torch alike
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [plain(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
