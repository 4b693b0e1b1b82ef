"""Epochs per minute of the default job and of the reduced rotMNIST network, through the trainer's own epoch."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.choices import Choices
from benchmarks.jobs import composed
from benchmarks.results import Cell, Table
from benchmarks.spread import spread
from benchmarks.timing import interleaved
from dataset_constructor import Loaders, construct_dataset, construct_loaders
from epoch import Epoch
from model_constructor import construct_model
from objective_constructor import construct_stages
from partial_equiv import UserError
from progress import Terminal
from steps import Steps
from tester import evaluate

STEPS = 8
NO_IMAGES = (10_000, 2_000)
ROTMNIST = "+experiment=reduced/rotMNIST_SE2_partial"


def synthetic(folder: Path) -> list[str]:
    """Write 12,000 images of noise and return the choices that learn from them as from rotMNIST."""
    draw = np.random.default_rng(0)
    images = draw.integers(0, 256, (sum(NO_IMAGES), 28, 28), dtype=np.uint8)
    labels = np.resize(np.arange(10), len(images))
    np.savez(folder / "noise.npz", images=images, labels=labels)
    file = folder / "noise.npz"
    return ["dataset=npz", f"dataset.root={file}", f"dataset.test_root={file}", f"dataset.no_validation={NO_IMAGES[1]}"]


def rotmnist(factorization: str, folder: Path) -> tuple[str, tuple[str, ...]]:
    """Return label and choices of the reduced network, on MNIST where DATA_DIR holds it, else on noise."""
    overrides = (ROTMNIST, f"conv.factorization={factorization}", "dataset.no_test=100")
    root = os.environ.get("DATA_DIR")
    if root and (Path(root) / "MNIST" / "raw").is_dir():
        return f"rotMNIST, reduced network, {factorization}", (*overrides, f"dataset.root={root}")
    noise = synthetic(folder)
    label = f"noise of the shape of rotMNIST (DATA_DIR holds no MNIST), reduced network, {factorization}"
    return label, (*overrides[:-1], *noise)


def phases(overrides: tuple[str, ...], device: str) -> tuple[dict[str, Callable[[], object]], Loaders]:
    """Return what an epoch is made of, training and validation, each of a few batches, and the loaders."""
    config: dict[str, Any] = composed(*overrides)
    torch.manual_seed(0)
    splits = construct_dataset(config)
    loaders = construct_loaders(splits, config)
    model = construct_model(config, splits.info).to(device)
    stage = construct_stages(config, model, len(loaders.train), info=splits.info)["classification"]
    steps = Steps(stage, torch.device(device))
    runs: dict[str, Callable[[], object]] = {
        "training": lambda: Epoch(steps, loaders.train, 0, max_steps=STEPS).run(Terminal(0)),
        "validation": lambda: evaluate(stage.objective, loaders.validation, STEPS),
    }
    return runs, loaders


def measured(label: str, overrides: tuple[str, ...], choices: Choices) -> tuple[Cell, ...]:
    """Return the row of one job."""
    runs, loaders = phases(overrides, choices.device)
    rounds = interleaved(runs, no_rounds=choices.no_rounds, title=f"epochs, {label}")
    shares = {"training": len(loaders.train) / STEPS, "validation": len(loaders.validation) / STEPS}
    seconds = [
        sum(rounds.of[name][index] * max(share, 1) for name, share in shares.items())
        for index in range(choices.no_rounds)
    ]
    per_minute = spread([60 / one for one in seconds])
    return (label, len(loaders.train), rounds.seconds("training").median / STEPS, per_minute)


def tables(choices: Choices) -> list[Table]:
    """Return the table of epochs, and that of the loaders' share where it is measured."""
    rows: list[tuple[Cell, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        jobs: list[tuple[str, tuple[str, ...]]] = [("default job (digits, SE2, partial)", ())]
        jobs += [rotmnist(factors, Path(folder)) for factors in ("full", "gc")]
        for label, overrides in jobs:
            for precision in choices.precisions:
                given = (*overrides, f"train.precision={precision}", f"device={choices.device}")
                name = label if precision == "float32" else f"{label}, {precision}"
                try:
                    rows.append(measured(name, given, choices))
                except UserError as error:
                    rows.append((f"{name}: {error}", None, None, None))
    header = ("job", "steps of an epoch", "a step with its batch, s", "epochs per minute")
    note = (
        f"The trainer's own loop over {STEPS} batches of training and of validation, counted up to a whole epoch; the "
        "loader, the transfer and the look at the loss are in it."
    )
    return [Table("Epochs per minute", header, tuple(rows), (note,), "bars")]
