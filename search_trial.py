"""One trial of a search: main.py in a process of its own, its log read as it grows."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from partial_equiv.menu import nearest
from partial_equiv.runs import read_log
from search_space import SearchChoices, override_text
from stopping import TIME_IS_OVER

MAIN = Path(__file__).resolve().parent / "main.py"
GRACE = 60.0
"""Seconds that a trial has to save itself before it is killed."""


class Outcome(NamedTuple):
    """How a trial ended.

    Args:
        state: "complete", "pruned" or "failed".
        value: The metric, None if it failed.
        epoch: Where that was, None if it failed.
        reason: Why it failed.
    """

    state: str
    value: float | None = None
    epoch: int | None = None
    reason: str = ""


class TrialRun:
    """A trial that is under way.

    Args:
        trial: Optuna's.
        overrides: What was drawn.
        folder: Run folder; one that holds a run goes on.
        choices: Of the search.
        lock: Handle of a file that stays locked as long as the process lives.
        program: What is run, main.py.
    """

    def __init__(
        self, trial: Any, overrides: Sequence[str], folder: Path, choices: SearchChoices, lock: int, program: Path
    ) -> None:
        self.trial, self.overrides, self.folder, self.choices = trial, list(overrides), folder, choices
        self.values: dict[int, float] = {}
        self.columns: set[str] = set()
        self.pruned = False
        self.kill_at: float | None = None
        self.log = folder.with_name(f"{folder.name}.log")
        self.started = time.monotonic()
        with self.log.open("ab") as log:
            self.begin = log.tell()
            self.process = subprocess.Popen(
                self.command(program),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment(choices.jobs),
                pass_fds=(lock,),
                start_new_session=True,  # Ctrl-C reaches the search alone, which then stops its trials
            )

    def command(self, program: Path) -> list[str]:
        """Return the command line of the run."""
        start = [sys.executable, str(program)]
        if (self.folder / "config.yaml").is_file():
            return [*start, f"resume={override_text(str(self.folder))}"]
        return [*start, *self.choices.overrides, *self.overrides, f"hydra.run.dir={override_text(str(self.folder))}"]

    def watch(self) -> Outcome | None:
        """Read what is new, stop the run if it falls behind, and return how it ended once it has."""
        code = self.process.poll()  # before the log is read, so that its last row is seen
        for row in read_log(self.folder):
            self.columns |= set(row)
            epoch, value = row["epoch"], row.get(self.choices.metric)
            if epoch not in self.values and isinstance(value, int | float):
                self.values[epoch] = float(value)
                self.trial.report(float(value), epoch)
                if code is None and not self.pruned and self.trial.should_prune():
                    self.pruned = True
                    self.stop()
        if code is None:
            if self.kill_at is not None and time.monotonic() > self.kill_at:
                self.process.kill()
            return None
        return self.outcome(code)

    def stop(self) -> None:
        """Ask the run to save itself and end, and see to it that it does."""
        self.process.send_signal(signal.SIGTERM)
        self.kill_at = time.monotonic() + GRACE

    def end(self) -> None:
        """Wait for a run that was asked to stop."""
        try:
            self.process.wait(GRACE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def outcome(self, code: int) -> Outcome:
        """Return how the run ended, by its exit code and its log."""
        pruned = self.pruned and code != 0  # one that ended before the signal reached it is whole
        if not pruned and code not in (0, TIME_IS_OVER):  # a run whose minutes are over counts as far as it came
            return Outcome("failed", reason=self.last_words() or f"exit code {code}")
        if not self.values:
            return Outcome("failed", reason=self.missing())
        best = max if self.choices.direction == "maximize" else min
        epoch = max(self.values) if self.choices.value == "last" else best(self.values, key=lambda e: self.values[e])
        return Outcome("pruned" if pruned else "complete", self.values[epoch], epoch)

    def missing(self) -> str:
        """Say that no row holds the metric."""
        names = sorted(key for key in self.columns if key.startswith("validation/"))
        if not names:
            return "it logged no epoch"
        hint = nearest(self.choices.metric, names)
        return f"no row holds a number for metric={self.choices.metric}: there are {', '.join(names)}{hint}"

    def last_words(self) -> str:
        """Return the error that the run wrote last, or its last line."""
        text = self.log.read_bytes()[self.begin :].decode(errors="replace")
        lines = [line.strip() for line in text.splitlines()]
        errors = [line for line in lines if line.startswith("error: ")]
        return (errors or [line for line in lines if line] or [""])[-1]


def environment(jobs: int) -> dict[str, str]:
    """Return the environment of a trial: trials side by side share the cores, unless the user says otherwise."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))
    return {**({"OMP_NUM_THREADS": threads} if jobs > 1 else {}), **os.environ}
