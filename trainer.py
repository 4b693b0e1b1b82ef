"""The one training loop. It knows objectives and stages: it names no loss, unpacks no batch and asks no class."""

import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Protocol

from tqdm import tqdm

from checkpointer import Progress, load_best, load_last, random_kept, read_progress, save_best, save_last
from objective_constructor import Stage
from optim import scale_rates
from partial_equiv.errors import UserError
from partial_equiv.probes import device_of
from partial_equiv.runs import RunFolder
from steps import Look, Steps
from tester import Averages, evaluate, on_device, run_probes


class Batches(Protocol):
    """A loader whose order is a pure function of the epoch."""

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Any]: ...

    def set_epoch(self, epoch: int) -> None: ...


class TrainingLoaders(Protocol):
    """What is learned from, and what selects the best weights."""

    @property
    def train(self) -> Batches: ...

    @property
    def validation(self) -> Batches: ...


def train_stages(
    stages: Mapping[str, Stage],
    loaders: TrainingLoaders,
    folder: RunFolder,
    spec: dict[str, Any],
    *,
    resume: bool = False,
    max_steps: int | None = None,
) -> Progress:
    """Train one stage after the other and return how far the last one came, its best weights loaded.

    Args:
        stages: In order.
        loaders: Training and validation batches.
        folder: Where rows and checkpoints go.
        spec: Of the network, for the checkpoints.
        resume: Continue from the folder's last checkpoint, if it has one, and otherwise from the start.
        max_steps: Steps per phase, for a trial run; None is a whole epoch.

    Raises:
        UserError: the loss is not finite, or the checkpoint does not fit.
    """
    reached = read_progress(folder.path) if resume else None
    names = list(stages)
    if reached is not None and reached.stage not in names:
        raise UserError(f"{folder.path} stopped in a stage {reached.stage!r}, which is not one of: {', '.join(names)}")
    progress = Progress(names[0])
    for name in names[names.index(reached.stage) if reached else 0 :]:
        stage = stages[name]
        begun = reached is not None and reached.stage == name
        progress = load_last(folder.path, stage) if begun else Progress(name, seconds=progress.seconds)
        with random_kept():  # a stage that goes on looks again, and must not draw for it
            stage.objective.prepare(loaders.train)
        for note in stage.notes:
            tell(note)
        progress = train(stage, loaders, folder, spec, progress, max_steps)
        load_best(folder.path, stage)
    return progress


def train(
    stage: Stage,
    loaders: TrainingLoaders,
    folder: RunFolder,
    spec: dict[str, Any],
    progress: Progress,
    max_steps: int | None = None,
) -> Progress:
    """Train one stage from where `progress` says it is, and return how far it came.

    After each epoch a row is logged, the best weights so far are kept, and all that the next epoch depends on is saved:
    an interrupted epoch is done again from its start.
    """
    steps = Steps(stage, device_of(stage.objective))
    for epoch in range(progress.epoch, stage.epochs):
        if tired(stage, progress):
            tell(f"no better value in {stage.patience} epochs: stopped early (train.patience={stage.patience})")
            break
        number, started = stage.first_epoch + epoch + 1, time.monotonic()
        learned = train_epoch(steps, loaders.train, epoch, max_steps)
        rate = float(stage.optimizer.param_groups[0]["lr"])
        judged = evaluate(stage.objective, loaders.validation, max_steps)
        stage.schedule.observe(judged[stage.objective.monitor])
        seconds = time.monotonic() - started
        row = {f"train/{name}": value for name, value in learned.items()}
        row |= {f"validation/{name}": value for name, value in judged.items()}
        if stage.probes:
            row |= run_probes(stage.objective, loaders.validation, stage.probes, max_steps)
        folder.log(number, row | {"lr": rate, "seconds": seconds} | stage.objective.learned())
        tell(f"epoch {number}/{stage.first_epoch + stage.epochs}  {in_words(learned, judged)}  {seconds:.1f} s")
        progress = replace(progress, epoch=epoch + 1, seconds=progress.seconds + seconds)
        if better(stage, progress, judged):
            value = judged[stage.objective.monitor]
            progress = replace(progress, best_epoch=number, best_value=value, best_loss=judged["loss"])
            progress = replace(progress, monitor=stage.objective.monitor)
            save_best(folder.path, progress, stage, spec)
        save_last(folder.path, progress, stage, spec)
    return progress


def train_epoch(steps: Steps, loader: Batches, epoch: int, max_steps: int | None) -> dict[str, float]:
    """Take one pass over the training batches and return the means of loss and metrics.

    What the host wants to know of a step it reads a step later, so that the device always has work.

    Raises:
        UserError: the loss or its gradient is not finite.
    """
    stage, averages = steps.stage, Averages()
    number_of_epoch, look = stage.first_epoch + epoch + 1, None
    stage.objective.train()
    loader.set_epoch(stage.first_epoch + epoch)
    no_steps = min(len(loader), max_steps or len(loader))
    with progress_bar(no_steps, f"epoch {number_of_epoch}") as bar:
        for index, batch in enumerate(on_device(loader, steps.device, max_steps)):
            number = epoch * stage.steps_per_epoch + index
            stage.objective.set_progress(number / (stage.epochs * stage.steps_per_epoch))
            stage.objective.set_step(number)
            factor = stage.schedule.factor(number)
            scale_rates(stage.optimizer, factor)
            averages.add(steps.take(batch, index, no_steps))
            before, look = look, Look(steps, averages, index + 1, factor * stage.optimizer.param_groups[0]["peak_lr"])
            if before is not None:
                bar.set_postfix(in_short(before.means(number_of_epoch)), refresh=False)
            bar.update()
    return look.means(number_of_epoch) if look is not None else {}


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


def progress_bar(total: int, title: str) -> Any:
    """Return a bar on a terminal, and nothing in a pipe."""
    return tqdm(total=total, desc=title, unit="step", leave=False, dynamic_ncols=True, disable=not sys.stderr.isatty())


def tell(line: str) -> None:
    """Write one line to stderr, where the bar is."""
    tqdm.write(line, file=sys.stderr)


def in_words(learned: Mapping[str, float], judged: Mapping[str, float]) -> str:
    """Return the means of both phases as text."""
    phases = (("train", learned), ("validation", judged))
    return "  ".join(
        f"{phase} " + " ".join(f"{name} {value}" for name, value in in_short(means).items()) for phase, means in phases
    )


def in_short(means: Mapping[str, float]) -> dict[str, str]:
    """Return the means that are shown, as text; names with a slash are details."""
    return {name: f"{value:.4f}" for name, value in means.items() if "/" not in name}
