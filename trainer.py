"""The one training loop. It knows objectives and stages: it names no loss, unpacks no batch and asks no class."""

import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from checkpointer import Partial, Progress, load_best, load_last, random_kept, read_last_together
from epoch import Batches, Epoch, NotFinite
from keeper import Keeper, Saving
from objective_constructor import Stage
from partial_equiv.errors import UserError
from partial_equiv.probes import device_of
from partial_equiv.ranks import joined, rank, wait_for_first
from partial_equiv.runs import RunFolder
from progress import Terminal
from steps import Steps
from stopping import Stop
from tester import evaluate, run_probes


class TrainingLoaders(Protocol):
    """What is learned from, and what selects the best weights."""

    @property
    def train(self) -> Batches: ...

    @property
    def validation(self) -> Batches: ...


class Around(NamedTuple):
    """What surrounds a training.

    Args:
        terminal: Where it is shown.
        stop: What may ask it to stop.
        saving: How often it is saved.
        max_steps: Steps per phase, for a trial run; None is a whole epoch.
    """

    terminal: Terminal = Terminal(0)
    stop: Stop = Stop()
    saving: Saving = Saving()
    max_steps: int | None = None


ALONE = Around()
"""Silent, never stopped, saved after every epoch."""


def train_stages(
    stages: Mapping[str, Stage],
    loaders: TrainingLoaders,
    folder: RunFolder,
    spec: dict[str, Any],
    around: Around = ALONE,
    *,
    resume: bool = False,
) -> Progress:
    """Train one stage after the other and return how far the last one came, its best weights loaded.

    Args:
        stages: In order.
        loaders: Training and validation batches.
        folder: Where rows and checkpoints go.
        spec: Of the network, for the checkpoints.
        around: What shows, stops and saves it.
        resume: Continue from the folder's newest whole checkpoint, if it has one, and otherwise from the start.

    Raises:
        UserError: the loss is not finite, or the checkpoint does not fit.
        Stopped: it was asked to stop, and is saved.
    """
    reached = read_last_together(folder.path) if resume else None
    names, first = list(stages), 0
    progress = Progress(names[0])
    if reached is not None:
        if reached.progress.stage not in names:
            known = ", ".join(names)
            raise UserError(
                f"{folder.path} stopped in a stage {reached.progress.stage!r}, which is not one of: {known}"
            )
        first = names.index(reached.progress.stage)
    for name in names[first:]:
        stage, begun = stages[name], reached is not None and reached.progress.stage == name
        progress = load_last(reached, stage) if begun and reached else Progress(name, seconds=progress.seconds)
        with random_kept():  # a stage that goes on looks again, and must not draw for it
            stage.objective.prepare(loaders.train.whole())
        for note in stage.notes:
            around.terminal.tell(note)
        with joined(stage.objective):
            progress = train(stage, loaders, folder, spec, progress, around)
        load_best(folder.path, stage)
    return progress


def train(
    stage: Stage,
    loaders: TrainingLoaders,
    folder: RunFolder,
    spec: dict[str, Any],
    progress: Progress,
    around: Around = ALONE,
) -> Progress:
    """Train one stage from where `progress` says it is, and return how far it came.

    After each epoch a row is logged, the best weights so far are kept, and all that the next step depends on is saved;
    within an epoch as often as `around.saving` says, and when a stop is asked for.
    """
    keeper = Keeper(folder.path, stage, spec, around.saving)
    steps = Steps(stage, device_of(stage.objective), progress.partial.in_a_row, lambda: around.stop.asked)
    for epoch in range(progress.epoch, stage.epochs):
        if tired(stage, progress):
            patience = stage.patience
            around.terminal.tell(f"no better value in {patience} epochs: stopped early (train.patience={patience})")
            break
        number = stage.first_epoch + epoch + 1
        learned = learn(
            Epoch(steps, loaders.train, epoch, progress.partial, around.max_steps), keeper, around, progress
        )
        started, rate = time.monotonic(), float(stage.optimizer.param_groups[0]["lr"])
        judged = evaluate(stage.objective, loaders.validation, around.max_steps, shared=True)
        stage.schedule.observe(judged[stage.objective.monitor])
        seconds = learned.seconds + time.monotonic() - started
        row = {f"train/{name}": value for name, value in learned.means().items()}
        row |= {f"validation/{name}": value for name, value in judged.items()}
        if stage.probes and rank() == 0:
            row |= run_probes(stage.objective, loaders.validation, stage.probes, around.max_steps)
        if learned.skipped:
            row["skipped_steps"] = len(learned.skipped)
            path = keeper.write_down(number, learned.skipped, loaders.train.examples)
            around.terminal.tell(f"{len(learned.skipped)} steps were not finite and left out: {path}")
        row |= {"lr": rate, "seconds": seconds} | stage.objective.learned()
        folder.log(number, row)
        around.terminal.epoch(number, stage.first_epoch + stage.epochs, learned.means(), judged, row)
        partial = Partial(in_a_row=learned.in_a_row)
        progress = replace(progress, epoch=epoch + 1, seconds=progress.seconds + seconds, partial=partial)
        if better(stage, progress, judged):
            value = judged[stage.objective.monitor]
            progress = replace(progress, best_epoch=number, best_value=value, best_loss=judged["loss"])
            progress = replace(progress, monitor=stage.objective.monitor)
            keeper.save_best(progress)
        keeper.save(progress)
    return progress


def learn(epoch: Epoch, keeper: Keeper, around: Around, progress: Progress) -> Partial:
    """Take an epoch's steps, saved as often as is due, and return its means.

    Raises:
        NotFinite: the training cannot go on; the steps are written down.
        Stopped: it was asked to stop, and is saved.
    """

    def save(partial: Partial, stop: bool) -> None:
        keeper.save(replace(progress, partial=partial))
        if stop:
            wait_for_first()  # where one process ends, the others are ended
            where = f"after step {partial.step} of epoch {epoch.number}"
            raise around.stop.stopped(f"{where}: python main.py resume={keeper.folder} goes on")

    try:
        return epoch.run(around.terminal, keeper.due, save)
    except NotFinite as error:
        keeper.write_down(epoch.number, error.steps, epoch.loader.examples)
        wait_for_first()
        raise


def better(stage: Stage, progress: Progress, judged: Mapping[str, float]) -> bool:
    """Say whether an epoch beats the best so far; of equal values the lower loss wins, of equal losses the later."""
    if progress.best_value is None or progress.best_loss is None or stage.objective.mode == "last":
        return True
    value, sign = judged[stage.objective.monitor], 1 if stage.objective.mode == "max" else -1
    gain = sign * (value - progress.best_value)
    return gain > 0 or (gain == 0 and judged["loss"] <= progress.best_loss)


def tired(stage: Stage, progress: Progress) -> bool:
    """Say whether the best weights are too long ago."""
    waited = stage.first_epoch + progress.epoch - progress.best_epoch
    return stage.patience is not None and progress.best_value is not None and waited >= stage.patience
