"""All that a run needs to go on exactly where it stopped: written after each epoch, read on resume."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from objective_constructor import Stage
from optim import named_tensors
from partial_equiv.errors import UserError
from partial_equiv.runs import load_network, load_state, save_state

LAST, BEST = "last", "best"
OPTIMIZER, RNG = "optimizer/", "rng/"
"""Prefixes of tensors in the last checkpoint; all others are the objective's."""


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
        seconds: Time spent on training and validation.
    """

    stage: str
    epoch: int = 0
    best_epoch: int = 0
    best_value: float | None = None
    best_loss: float | None = None
    monitor: str = "accuracy"
    seconds: float = 0.0


def save_last(folder: Path, progress: Progress, stage: Stage, spec: dict[str, Any]) -> None:
    """Write everything that the next epoch depends on as the checkpoint "last", whole or not at all."""
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
    save_state(folder, LAST, tensors, meta)


def save_best(folder: Path, progress: Progress, stage: Stage, spec: dict[str, Any]) -> None:
    """Write the weights of the best epoch so far as the checkpoint "best"."""
    meta = {"spec": spec, "progress": asdict(progress)}
    save_state(folder, BEST, stage.objective.state_dict(), meta)


def read_progress(folder: Path) -> Progress | None:
    """Return how far a run came, None if it saved no checkpoint.

    Raises:
        UserError: the checkpoint is damaged, or not from a training run.
    """
    if not (folder / f"{LAST}.safetensors").is_file():
        return None
    _, meta = load_state(folder, LAST)
    return progress_of(folder, meta)


def load_last(folder: Path, stage: Stage) -> Progress:
    """Put the checkpoint "last" back into a stage and into the random generators, and return how far it came.

    Raises:
        UserError: the checkpoint is damaged, or of another network or optimiser.
    """
    tensors, meta = load_state(folder, LAST)
    progress, path = progress_of(folder, meta), folder / f"{LAST}.safetensors"
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
    """Put the best weights back into a stage's objective.

    Raises:
        UserError: the checkpoint is missing, damaged, or of another network.
    """
    tensors, _ = load_state(folder, BEST)
    load_network(stage.objective, tensors, folder / f"{BEST}.safetensors")


def progress_of(folder: Path, meta: dict[str, Any]) -> Progress:
    """Return the progress that a checkpoint's facts tell."""
    if "progress" not in meta:
        raise UserError(f"{folder / LAST}.safetensors holds no training run: give the folder of a run")
    return replace(Progress(""), **meta["progress"])


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
