"""Hyper-parameter search with Optuna: `python search.py [<file>] [key=value ...] [-- <overrides of main.py>]`.

Each trial is a run of main.py in a process of its own. The study lies in a folder; the same command goes on with it,
whatever ended the last one: trials that were under way go on too, from what they saved.
"""

import fcntl
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml

from partial_equiv.errors import UserError
from partial_equiv.runs import write_artifact
from search_report import RUNS, STATES, again, conclude, ended, shown
from search_space import SearchChoices, Space, differences, draw, read_choices, read_space
from search_trial import MAIN, Outcome, TrialRun

USER_FAULT = 2
CHOICES, STUDY, LOCK = "search.yaml", "study.db", "lock"
POLL = 0.5
"""Seconds between two looks at the trials."""
HOPELESS = 3
"""So many trials that fail before one succeeds end the search: the mistake is in what they share."""


class Stop:
    """Takes note of a signal that asks the search to end."""

    def __init__(self) -> None:
        self.number: int | None = None

    def note(self, number: int, frame: Any) -> None:
        """Take note."""
        self.number = number

    @contextmanager
    def noted(self) -> Iterator[None]:
        """Take note of signals within the block."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self.note) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def main(arguments: Sequence[str] | None = None, program: Path = MAIN) -> int:
    """Search, and return the exit code: 0, 2 for a mistake of the user, 128 and its number for a signal."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--help"], ["-h"]):
        print(f"{__doc__}\nThe keys are explained in sweeps/optuna.yaml, all of it in docs/sweeps.md.")
        return 0
    try:
        choices = read_choices(given)
        folder = Path(os.environ.get("OUTPUT_DIR", "outputs")) / "search" / choices.study
        return search(choices, folder, program)
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return USER_FAULT


def search(choices: SearchChoices, folder: Path, program: Path) -> int:
    """Do the trials that are left, write what came of all, and return the exit code.

    Raises:
        UserError: Optuna is missing, the folder is in use, holds another study or cannot be made, or all trials fail.
    """
    if importlib.util.find_spec("optuna") is None:
        raise UserError("search.py needs the package optuna: pip install '.[sweep]'")
    try:
        (folder / RUNS).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {folder}: {error.strerror}; choose another OUTPUT_DIR") from error
    stop = Stop()
    with locked(folder) as lock, stop.noted():
        keep_choices(folder, choices)
        trials = Trials(open_study(folder, choices), choices, folder, program, lock)
        try:
            trials.run(stop)
        finally:
            conclude(trials.study, choices, folder)
    if stop.number is None:
        return 0
    name = signal.Signals(stop.number).name
    sys.stderr.write(f"error: {name}: trials under way are saved, the same command goes on with them\n")
    return 128 + stop.number


@contextmanager
def locked(folder: Path) -> Iterator[int]:
    """Keep other searches out of a folder, and yield the handle that does so as long as a trial holds it, too.

    Raises:
        UserError: the folder is in use.
    """
    with (folder / LOCK).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{folder} is in use, by another search or by trials that a killed one left, which "
                f"`pgrep -af {folder.name}/trials` finds: wait for them, or give another study=<name>"
            ) from error
        yield file.fileno()


def keep_choices(folder: Path, choices: SearchChoices) -> None:
    """Write the choices into the folder, where they must agree with those of the calls before.

    Raises:
        UserError: the study that lies there searches something else.
    """
    path = folder / CHOICES
    if path.is_file():
        changed = differences(yaml.safe_load(path.read_text(encoding="utf-8")), choices)
        if changed:
            raise UserError(f"{folder} holds another study ({'; '.join(changed)}): give another study=<name>")
    write_artifact(folder, CHOICES, yaml.safe_dump(asdict(choices), sort_keys=False))


def open_study(folder: Path, choices: SearchChoices) -> Any:
    """Return the Optuna study of a folder, created if absent.

    Raises:
        UserError: its file is damaged, or cannot be written.
    """
    import optuna  # a second, and only for those who search
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        storage = optuna.storages.RDBStorage(f"sqlite:///{folder / STUDY}")
    except SQLAlchemyError as error:
        raise UserError(
            f"{folder / STUDY} cannot be used ({str(error).splitlines()[0]}): move it away, or give another study="
        ) from error
    study = optuna.create_study(
        study_name=choices.study,
        storage=storage,
        direction=choices.direction,
        load_if_exists=True,
        pruner={
            "median": optuna.pruners.MedianPruner(choices.startup_trials, choices.warmup_epochs),
            "hyperband": optuna.pruners.HyperbandPruner(min_resource=choices.warmup_epochs or 1),
            "none": optuna.pruners.NopPruner(),
        }[choices.pruner],
    )
    # A study that goes on must not draw the same random numbers again.
    seed = choices.seed + len(study.get_trials(deepcopy=False))
    if choices.sampler == "tpe":
        study.sampler = optuna.samplers.TPESampler(n_startup_trials=choices.startup_trials, seed=seed)
    else:
        study.sampler = optuna.samplers.RandomSampler(seed=seed)
    return study


class Trials:
    """The trials of a study: those that a former call left are taken up first, then new ones are drawn.

    Args:
        study: Optuna's.
        choices: Of the search.
        folder: Of the search.
        program: What a trial runs.
        lock: Handle that every trial holds, see `locked`.
    """

    def __init__(self, study: Any, choices: SearchChoices, folder: Path, program: Path, lock: int) -> None:
        import optuna

        self.states = {ours: optuna.trial.TrialState[theirs] for theirs, ours in STATES.items()}
        self.study, self.choices, self.folder, self.program, self.lock = study, choices, folder, program, lock
        self.space: Space = read_space(choices.space)
        self.running: list[TrialRun] = []
        self.take_up(optuna.trial.TrialState.RUNNING)
        self.no_left = choices.trials - len(ended(study))

    def take_up(self, under_way: Any) -> None:
        """Queue again what a former call left under way: the same parameters, the same run folder."""
        queued = {again(trial) for trial in self.study.get_trials(deepcopy=False)}
        for trial in self.study.get_trials(states=(under_way,)):
            if trial.number not in queued:
                facts = {"again": trial.number, "run": trial.user_attrs.get("run", name_of(trial.number))}
                self.study.enqueue_trial(trial.params, user_attrs=facts)
            self.study.tell(trial.number, state=self.states["failed"])

    def run(self, stop: Stop) -> None:
        """Start trials and watch them until all are done, the time is over, or a signal asks to stop.

        Raises:
            UserError: the first trials all failed.
        """
        minutes = self.choices.timeout_minutes
        end = float("inf") if minutes is None else time.monotonic() + 60 * minutes
        if self.no_left <= 0:
            print(f"all trials={self.choices.trials} are done: give trials={2 * self.choices.trials} to go on")
        try:
            while stop.number is None:
                while self.no_left > 0 and len(self.running) < self.choices.jobs and time.monotonic() < end:
                    self.start()
                if not self.running:
                    return
                time.sleep(POLL)
                for run in list(self.running):
                    if outcome := run.watch():
                        self.running.remove(run)
                        self.record(run, outcome)
        finally:
            for run in self.running:
                run.stop()
            for run in self.running:
                run.end()

    def start(self) -> None:
        """Draw the parameters of a trial and start its run."""
        trial = self.study.ask()
        name = trial.user_attrs.get("run", name_of(trial.number))
        overrides = draw(trial, self.space)
        trial.set_user_attr("run", name)
        trial.set_user_attr("overrides", overrides)
        folder = self.folder / RUNS / name
        self.running.append(TrialRun(trial, overrides, folder, self.choices, self.lock, self.program))
        self.no_left -= 1

    def record(self, run: TrialRun, outcome: Outcome) -> None:
        """Tell the study, and the terminal, how a trial ended.

        Raises:
            UserError: it is one of the first, and all of them failed.
        """
        seconds = time.monotonic() - run.started
        facts = {"value": outcome.value, "epoch": outcome.epoch, "reason": outcome.reason, "seconds": round(seconds, 1)}
        for key, value in facts.items():
            run.trial.set_user_attr(key, value)
        self.study.tell(run.trial, outcome.value if outcome.state == "complete" else None, self.states[outcome.state])
        reached = "" if outcome.value is None else f", {self.choices.metric} {outcome.value:.4g}, epoch {outcome.epoch}"
        words = f"failed: {outcome.reason}" if outcome.state == "failed" else f"{outcome.state}{reached}"
        drawn = " ".join(f"{key}={shown(value)}" for key, value in run.trial.params.items())
        print(f"trial {run.trial.number}  {drawn}  {words}, {seconds:.1f} s", flush=True)
        trials = ended(self.study)
        if len(trials) >= HOPELESS and all(STATES[trial.state.name] == "failed" for trial in trials):
            raise UserError(f"all {len(trials)} trials failed, see {run.log}: {outcome.reason}")


def name_of(number: int) -> str:
    """Return the name of the run folder of a trial."""
    return f"{number:04d}"


if __name__ == "__main__":
    sys.exit(main())
