"""All that a run needs to go on exactly where it stopped: written after each epoch and in between, read on resume."""

import math
import random
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from objective_constructor import Stage
from optim import named_tensors
from partial_equiv.errors import UserError
from partial_equiv.ranks import from_first
from partial_equiv.runs import forget, load_network, load_state, make_folder, save_state

FOLDER, BEST = "checkpoints", "best"
FORMER = "last"
"""The one checkpoint that runs before version 0.2 kept beside the best one."""
OPTIMIZER, RNG = "optimizer/", "rng/"
"""Prefixes of tensors in the last checkpoint; all others are the objective's."""


@dataclass(frozen=True)
class Partial:
    """An epoch that is not over, and what its rest depends on.

    Args:
        step: Its finished batches.
        totals: Sums over examples of loss and metrics.
        sizes: Examples in each sum.
        seconds: Spent on it.
        in_a_row: Last steps of each optimiser that were left out, their numbers not being finite.
        skipped: Steps of this epoch that were left out, counted from 1.
    """

    step: int = 0
    totals: dict[str, float] = field(default_factory=dict)
    sizes: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    in_a_row: tuple[int, ...] = ()
    skipped: tuple[int, ...] = ()

    def means(self) -> dict[str, float]:
        """Return the means so far; of no example, NaN."""
        return {name: total / self.sizes[name] if self.sizes[name] else math.nan for name, total in self.totals.items()}


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Args:
        stage: Stage that is being trained.
        epoch: Its finished epochs.
        best_epoch: Epoch, counted through all stages from 1, of the best weights; 0 before there are any.
        best_value: Monitored metric there.
        monitor: Its name.
        best_loss: Validation loss there; decides between equal values.
        seconds: Time spent on training and validation, in finished epochs.
        partial: The epoch after them.
    """

    stage: str
    epoch: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    best_loss: float | None = None
    monitor: str = "accuracy"
    seconds: float = 0.0
    partial: Partial = Partial()


class Checkpoint(NamedTuple):
    """What lies in a checkpoint file."""

    path: Path
    tensors: dict[str, Tensor]
    meta: dict[str, Any]
    progress: Progress


def save_last(folder: Path, progress: Progress, stage: Stage, spec: dict[str, Any], keep: int = 2) -> None:
    """Write everything that the next step depends on, whole or not at all, and remove what is older than `keep` of it.

    Raises:
        UserError: something is not finite, or the folder cannot be written; the checkpoints before stay.
    """
    tensors = dict(stage.objective.state_dict())
    for optimizer in stage.optimizers:
        tensors |= {OPTIMIZER + name: tensor for name, tensor in named_tensors(optimizer)}
    tensors |= {RNG + name: tensor for name, tensor in random_tensors()}
    meta = {
        "spec": spec,
        "progress": asdict(progress),
        "schedule": stage.schedule.state(),
        "groups": group_names(stage),
        "rng": random_rest(),
    }
    refuse_spoiled(tensors)
    make_folder(folder / FOLDER)
    number = stage.steps_per_epoch * (stage.first_epoch + progress.epoch) + progress.partial.step
    save_state(folder, f"{FOLDER}/{number:09d}", tensors, meta)
    older = names_of(folder)[keep:]
    forget(folder, [f"{name}.{kind}" for name in older for kind in ("safetensors", "json")])


def names_of(folder: Path) -> list[str]:
    """Return the names of the checkpoints of a run folder, newest first."""
    numbered = sorted((path.stem for path in (folder / FOLDER).glob("*.safetensors")), reverse=True)
    former = [FORMER] if (folder / f"{FORMER}.safetensors").is_file() else []
    return [*(f"{FOLDER}/{name}" for name in numbered), *former]


def save_best(folder: Path, progress: Progress, stage: Stage, spec: dict[str, Any]) -> None:
    """Write the weights of the best epoch so far as the checkpoint "best"."""
    tensors = stage.objective.state_dict()
    refuse_spoiled(tensors)
    save_state(folder, BEST, tensors, {"spec": spec, "progress": asdict(progress)})


def refuse_spoiled(tensors: Mapping[str, Tensor]) -> None:
    """Let no weights that are not finite replace those that are.

    Raises:
        UserError: some are not.
    """
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            raise UserError(
                f"{name} is not finite any more, so nothing is saved over the last checkpoint: resume from it with a "
                "lower train.lr, or set train.gradient_clip=1"
            )


def read_last(folder: Path) -> Checkpoint | None:
    """Return the newest checkpoint that is whole, None if the run saved none; damaged ones are told on stderr.

    Raises:
        UserError: every checkpoint is damaged, or not from a training run.
    """
    damaged: list[UserError] = []
    for name in names_of(folder):
        try:
            tensors, meta = load_state(folder, name)
            progress = progress_of(folder / f"{name}.safetensors", meta)
        except UserError as error:
            damaged.append(error)
            continue
        for error in damaged:
            sys.stderr.write(f"note: {error}; {folder / name}.safetensors, the one before, is used\n")
        return Checkpoint(folder / f"{name}.safetensors", tensors, meta, progress)
    if damaged:
        raise damaged[0]
    return None


def read_last_together(folder: Path) -> Checkpoint | None:
    """Return on all ranks the `read_last` of the first one, which alone needs to see the folder."""

    def read() -> tuple[dict[str, Tensor], dict[str, Any]]:
        found = read_last(folder)
        return ({}, {}) if found is None else (found.tensors, {"path": str(found.path), "meta": found.meta})

    tensors, facts = from_first(read)
    if not facts:
        return None
    path = Path(facts["path"])
    return Checkpoint(path, tensors, facts["meta"], progress_of(path, facts["meta"]))


def read_progress(folder: Path) -> Progress | None:
    """Return how far a run came, None if it saved no checkpoint.

    Raises:
        UserError: every checkpoint is damaged, or not from a training run.
    """
    found = read_last(folder)
    return found and found.progress


def load_last(checkpoint: Checkpoint, stage: Stage) -> Progress:
    """Put a checkpoint back into a stage and into the random generators, and return how far it came.

    Raises:
        UserError: it is of another network or optimiser.
    """
    path, tensors, meta, progress = checkpoint
    own = {name: tensor for name, tensor in tensors.items() if not name.startswith((OPTIMIZER, RNG))}
    load_network(stage.objective, own, path)
    if meta["groups"] != group_names(stage):
        raise UserError(f"{path} was written by another optimiser: resume with the run's own configuration")
    for optimizer in stage.optimizers:
        load_optimizer(optimizer, under(OPTIMIZER, tensors))
    stage.schedule.load(meta["schedule"])
    set_random(under(RNG, tensors), meta["rng"])
    return progress


def group_names(stage: Stage) -> list[list[str]]:
    """Return the names of the parameters of every group, in order."""
    return [list(group["names"]) for optimizer in stage.optimizers for group in optimizer.param_groups]


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of one prefix, without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def load_best(folder: Path, stage: Stage) -> None:
    """Put the best weights back into a stage's objective; the first rank reads them for all.

    Raises:
        UserError: the checkpoint is missing, damaged, or of another network.
    """
    tensors, _ = from_first(lambda: load_state(folder, BEST))
    load_network(stage.objective, tensors, folder / f"{BEST}.safetensors")


def progress_of(path: Path, meta: Mapping[str, Any]) -> Progress:
    """Return the progress that a checkpoint's facts tell.

    Raises:
        UserError: they tell none.
    """
    if not {"progress", "schedule", "groups", "rng"} <= meta.keys():
        raise UserError(f"{path} holds no training that could go on: give the folder of a run")
    facts = dict(meta["progress"])
    partial = facts.pop("partial", {})
    rows = {key: tuple(partial[key]) for key in ("in_a_row", "skipped") if key in partial}
    return replace(Progress(""), **facts, partial=Partial(**partial | rows))


def load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor]) -> None:
    """Give every parameter its saved state, on its device unless it is a counter that lives on the CPU."""
    for group in optimizer.param_groups:
        for name, parameter in zip(group["names"], group["params"], strict=True):
            entries = {
                key.removeprefix(f"{name}/"): value for key, value in tensors.items() if key.rpartition("/")[0] == name
            }
            # Fused optimisers count steps on the parameter's device, the others on the CPU.
            moved = {
                key: value.to(parameter.device if key != "step" or group.get("fused") else "cpu")
                for key, value in entries.items()
            }
            if moved:
                optimizer.state[parameter] = moved


def random_tensors() -> Iterator[tuple[str, Tensor]]:
    """Yield the state of every global generator."""
    yield "torch", torch.get_rng_state()
    if torch.cuda.is_available():
        yield from ((f"cuda{number}", state) for number, state in enumerate(torch.cuda.get_rng_state_all()))
    if torch.backends.mps.is_available():
        yield "mps", torch.mps.get_rng_state()
    yield "python", torch.tensor(random.getstate()[1], dtype=torch.int64)
    _, words, *_ = np.random.get_state(legacy=True)
    yield "numpy", torch.from_numpy(np.asarray(words).astype(np.int64))


def random_rest() -> dict[str, Any]:
    """Return what the states of Python's and numpy's generators hold beside tensors."""
    return {"python": random.getstate()[2], "numpy": numpy_rest()}


@contextmanager
def random_kept() -> Iterator[None]:
    """Put every global generator back to where it was before the block."""
    tensors, rest = dict(random_tensors()), random_rest()
    try:
        yield
    finally:
        set_random(tensors, rest)


def numpy_rest() -> list[float]:
    """Return what numpy's state holds beside its 624 words: position, whether a normal number is kept, and which."""
    _, _, *rest = np.random.get_state(legacy=True)
    return [float(value) for value in rest]


def set_random(tensors: dict[str, Tensor], rest: dict[str, Any]) -> None:
    """Put every global generator back; those of devices that are not here are left out."""
    torch.set_rng_state(tensors["torch"])
    for number in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        if f"cuda{number}" in tensors:
            torch.cuda.set_rng_state(tensors[f"cuda{number}"], number)
    if torch.backends.mps.is_available() and "mps" in tensors:
        torch.mps.set_rng_state(tensors["mps"])
    random.setstate((3, tuple(tensors["python"].tolist()), rest["python"]))
    position, kept, normal = rest["numpy"]
    words = tensors["numpy"].numpy().astype(np.uint32)
    np.random.set_state(("MT19937", words, int(position), int(kept), normal))
