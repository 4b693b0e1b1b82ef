"""Compare finished symmetry inferences: `python -m partial_equiv.runs.symmetry_figures <kind> <name>=<run> ...`."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from partial_equiv.datasets import Law
from partial_equiv.drawing import ablation_bars, png, pose_densities, standardised_grid
from partial_equiv.errors import UserError
from partial_equiv.nets import SymmetryNet
from partial_equiv.probes import upright
from partial_equiv.runs.atomic import write_atomically
from partial_equiv.runs.reading import FinishedRun, open_run, open_splits
from partial_equiv.runs.standardised import TEST
from partial_equiv.runs.state import load_model

SHOWN, PER_CLASS = 5, 10

METRICS = {
    "test/levels/class_mean": "level error of class means, degrees",
    "test/levels/sample": "level error of images, degrees",
    "test/ood/accuracy": "OOD accuracy",
}
"""Numbers of a summary that bars show, and what they are called."""


def main(argv: Sequence[str] | None = None) -> int:
    """Draw one comparison and return the exit code: 0, or 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(prog="python -m partial_equiv.runs.symmetry_figures", description=__doc__)
    parser.add_argument(
        "kind", choices=list(KINDS), help="poses: two runs on one set; ablation: one bar a run; upright: one run"
    )
    parser.add_argument("runs", nargs="+", metavar="name=run", help="run folders with the names that the figure shows")
    parser.add_argument("--out", required=True, help="PNG file")
    options = parser.parse_args(argv)
    try:
        figure = KINDS[options.kind](dict(map(named, options.runs)))
        write_atomically(Path(options.out), png(figure))
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    sys.stdout.write(f"{options.out}\n")
    return 0


def named(text: str) -> tuple[str, FinishedRun]:
    """Return the name and the run of "name=folder"; a folder alone is its own name.

    Raises:
        UserError: no finished run lies there.
    """
    name, equals, path = text.partition("=")
    return (name, open_run(path)) if equals else (Path(text).name, open_run(text))


def draw_poses(runs: Mapping[str, FinishedRun]) -> Figure:
    """Return the densities of the test poses of two runs, class by class.

    Raises:
        UserError: not two runs, or one of them left no poses.
    """
    if len(runs) != 2:
        raise UserError(f"{len(runs)} runs: poses compares two, give <name>=<run> twice with different names")
    (first, one), (second, other) = runs.items()
    laws = densities(one)
    return pose_densities(poses_of(one), laws, poses_of(other), labels=(first, second))


def poses_of(run: FinishedRun) -> dict[str, NDArray[np.float32]]:
    """Return the inferred poses of the test images of each class, radians.

    Raises:
        UserError: the run did not infer symmetry.
    """
    path = run.path / TEST
    if not path.is_file():
        raise UserError(f"{run.path} holds no {TEST}: give a run with train=symmetry")
    with np.load(path, allow_pickle=False) as file:
        poses, classes = file["pose"], file["labels"]
    return {str(label): poses[classes == label] for label in np.unique(classes)}


def densities(run: FinishedRun) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]] | None]:
    """Return the true density of each class, empty where the run did not know the laws."""
    path = run.path / "symmetry.json"
    laws = json.loads(path.read_text(encoding="utf-8")).get("laws") if path.is_file() else None
    angles = torch.linspace(-math.pi, math.pi, 721, dtype=torch.float64)
    return {str(k): (angles.numpy(), Law.parse(law).density(angles).numpy()) for k, law in enumerate(laws or [])}


def draw_ablation(runs: Mapping[str, FinishedRun]) -> Figure:
    """Return a bar for each run and number, in the order given.

    Raises:
        UserError: a run measured none of the numbers.
    """
    rows = []
    for name, run in runs.items():
        values = {label: float(run.summary[key]) for key, label in METRICS.items() if run.summary.get(key) is not None}
        if not values:
            raise UserError(f"{run.path} measured no level: test with test.probes=[symmetry,ood]")
        rows.append((name, values))
    return ablation_bars(rows)


def draw_upright(runs: Mapping[str, FinishedRun]) -> Figure:
    """Return test images of a run and, below each, the same turned upright: ten of each of five classes spread evenly.

    Raises:
        UserError: several runs, one that did not infer symmetry, or data that are not there.
    """
    if len(runs) != 1:
        raise UserError(f"{len(runs)} runs: upright shows one, give one run folder")
    (run,) = runs.values()
    model, splits = load_model(run.path), open_splits(run)
    if not isinstance(model, SymmetryNet):
        raise UserError(f"{run.path} inferred no symmetry: give a run with train=symmetry")
    classes = sorted({round(place) for place in np.linspace(0, splits.info.no_classes - 1, SHOWN)})
    index = torch.cat([(splits.test.labels == label).nonzero()[:PER_CLASS, 0] for label in classes])
    with torch.no_grad():
        found = upright(model, [splits.test[index]])
    names = [splits.info.class_names[int(label)] for label in found.labels]
    return standardised_grid(found.raw.numpy(), found.standardised.numpy(), names)


KINDS: dict[str, Callable[[Mapping[str, FinishedRun]], Figure]] = {
    "poses": draw_poses,
    "ablation": draw_ablation,
    "upright": draw_upright,
}

if __name__ == "__main__":
    sys.exit(main())
