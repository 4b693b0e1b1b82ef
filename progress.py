"""What the terminal shows of a run: a bar, a line an epoch, notes, and the closing table."""

import json
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import current_process
from pathlib import Path
from typing import Any

from tqdm import tqdm

from partial_equiv.errors import UserError

Advance = Callable[[Mapping[str, float] | None], None]
"""Called after each step, with the means so far where they are known."""
REPORT, SUMMARY, WIDTH = "report.html", "summary.json", 110


class Terminal:
    """The one place that tells a person how a run goes. What is under way goes to stderr, results go to stdout.

    Args:
        verbose: 0 says nothing before the closing line; 1 notes, a line an epoch and, on a terminal, a bar; 2 also what
            each layer learned and what the probes measured.
    """

    def __init__(self, verbose: int = 1) -> None:
        self.verbose = verbose
        self.draws_bars = verbose > 0 and can_draw_bars()

    @contextmanager
    def steps(self, total: int, title: str, done: int = 0) -> Iterator[Advance]:
        """Yield what is to be called after each step, and draw a bar meanwhile: rate, time left, loss and metrics.

        Args:
            total: Steps of the pass.
            title: In front of the bar.
            done: Steps that were taken before, by a run that goes on within an epoch.
        """
        hidden = not self.draws_bars
        with tqdm(
            total=total, initial=done, desc=title, unit="step", leave=False, dynamic_ncols=True, disable=hidden
        ) as bar:

            def advance(means: Mapping[str, float] | None = None) -> None:
                if means is not None and not hidden:
                    bar.set_postfix(in_short(means), refresh=False)
                bar.update()

            yield advance

    def tell(self, line: str) -> None:
        """Write one line, above the bar if there is one."""
        if self.verbose:
            tqdm.write(line, file=sys.stderr)

    def epoch(
        self, number: int, last: int, learned: Mapping[str, float], judged: Mapping[str, float], row: Mapping[str, Any]
    ) -> None:
        """Tell how an epoch went.

        Args:
            number: Of the epoch, from 1.
            last: Number of the last epoch of the stage.
            learned: Means of the training pass.
            judged: Means of the validation pass.
            row: What was logged of the epoch, its "seconds" among it.
        """
        seconds = row["seconds"]
        left = f", {duration((last - number) * seconds)} left" if number < last else ""
        self.tell(f"epoch {number}/{last}  {in_words(learned, judged)}  {seconds:.1f} s{left}")
        if self.verbose > 1:
            for line in details(row):
                self.tell(f"    {line}")

    def close(self, table: str, line: str) -> None:
        """Write what a run says at its end: the table, or of a silent run the one line."""
        print(table if self.verbose else line)


def can_draw_bars() -> bool:
    """Say whether a bar can be drawn: on a terminal, outside CI, and by one process alone.

    The parallel jobs of a sweep share a terminal, and their bars would write over each other.
    """
    ci = os.environ.get("CI", "").lower() not in ("", "0", "false")
    alone = current_process().name == "MainProcess"
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and alone and not ci


def in_words(learned: Mapping[str, float], judged: Mapping[str, float]) -> str:
    """Return the means of both phases as text."""
    phases = (("train", learned), ("validation", judged))
    return "  ".join(
        f"{phase} " + " ".join(f"{name} {value}" for name, value in in_short(means).items()) for phase, means in phases
    )


def in_short(means: Mapping[str, float]) -> dict[str, str]:
    """Return the means that are shown, as text; names with a slash are details."""
    return {name: f"{value:.4f}" for name, value in means.items() if "/" not in name}


def details(row: Mapping[str, Any]) -> list[str]:
    """Return as lines what a row holds beside its means: what the layers learned, then rate and measurements."""
    lists = [
        f"{key}: {' '.join('-' if entry is None else f'{entry:.3g}' for entry in value)}"
        for key, value in row.items()
        if isinstance(value, list) and any(entry is not None for entry in value)
    ]
    numbers = [
        f"{key}={value:.4g}"
        for key, value in row.items()
        if isinstance(value, float) and (key == "lr" or "/" in key) and not is_mean(key)
    ]
    return [*lists, *textwrap.wrap(" ".join(numbers), WIDTH, break_long_words=False, break_on_hyphens=False)]


def is_mean(key: str) -> bool:
    """Say whether a key of a row is one of the means that every epoch tells."""
    phase, _, name = key.partition("/")
    return phase in ("train", "validation") and "/" not in name


def duration(seconds: float) -> str:
    """Return a time as people say it: 40 s, 12 min, 3 h 05 min, 2 d 4 h."""
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    if minutes < 100:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02} min"
    return f"{hours // 24} d {hours % 24} h"


def closing_line(summary: Mapping[str, Any], path: Path) -> str:
    """Return a finished run in one line: what the test measured, and where its report lies."""
    if summary.get("test/accuracy") is not None:
        measured = f"test accuracy {100 * summary['test/accuracy']:.2f} %"
    else:
        keys = [key for key, value in summary.items() if key.startswith("test/") and isinstance(value, float)]
        measured = ", ".join(f"{key.replace('/', ' ')} {summary[key]:.4g}" for key in keys if key.count("/") == 1)
    report = path / REPORT
    return f"{measured or 'done'}: {report if report.is_file() else path}"


def skip_line(run: Path) -> str:
    """Return what to say instead of doing a finished run again.

    Raises:
        UserError: the folder holds no finished run.
    """
    try:
        summary = json.loads((run / SUMMARY).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(
            f"{run} holds no finished run, its {SUMMARY} cannot be read: give skip_finished=False"
        ) from error
    return f"not done again, this configuration is finished (skip_finished=True): {closing_line(summary, run)}"
