"""rotMNIST trained to the end with the published schedule, through `main.py`: wall time and accuracy."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.choices import Choices
from benchmarks.goals import TO_THE_END
from benchmarks.jobs import PUBLISHED
from benchmarks.machine import ROOT
from benchmarks.results import Cell, Judged, Table
from benchmarks.timing import tell

EPOCHS = 300
FREE = ("compile", "dataset.root", "no_workers", "cuda_visible_devices")
"""Choices that leave the training the published one."""


def trained(factorization: str, choices: Choices) -> tuple[Cell, ...]:
    """Return the row of one training: the first precision that `choices` has for it, its wall time and accuracy."""
    precision = choices.precisions[-1]
    epochs = choices.epochs or EPOCHS
    overrides = [
        PUBLISHED,
        f"conv.factorization={factorization}",
        f"device={choices.device}",
        f"train.precision={precision}",
        f"train.epochs={epochs}",
        "train.patience=null",
        "wandb.mode=disabled",
        *choices.overrides,
    ]
    tell(f"rotmnist: python main.py {' '.join(overrides)}")
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command = [sys.executable, "main.py", f"hydra.run.dir={folder}", *overrides]
        subprocess.run(command, cwd=ROOT, check=True, stdout=sys.stderr)
        wall = time.perf_counter() - start
        summary = json.loads((Path(folder) / "summary.json").read_text())
    minutes = summary["seconds"] / 60
    published = epochs == EPOCHS and all(key.partition("=")[0] in FREE for key in choices.overrides)
    judged = factorization == "gc" and choices.device == "cuda" and published
    told = f" ({' '.join(choices.overrides)})" if choices.overrides else ""
    label = f"{factorization}, {precision}, {epochs} epochs{told}"
    return (
        label,
        Judged(minutes, TO_THE_END) if judged else minutes,
        wall / 60,
        100 * summary["test/accuracy"],
        summary["no_params"],
    )


def tables(choices: Choices) -> list[Table]:
    """Return the table of both factorisations."""
    rows = [trained(factorization, choices) for factorization in ("gc", "full")]
    header = ("training", "training, minutes", "with start and test, minutes", "test accuracy, %", "parameters")
    note = (
        "CKResNet SE2 partial, N 8, B 64, Adam, cosine schedule, on 10,000 images; where the official files are "
        "absent, of the seeded rotation of MNIST. Training: steps and validation of all epochs."
    )
    return [Table("rotMNIST trained to the end", header, tuple(rows), (note,))]
