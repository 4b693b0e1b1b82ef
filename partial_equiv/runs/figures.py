"""Draw the comparisons of the papers from finished run folders: `python -m partial_equiv.runs.figures <run>...`."""

import argparse
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from partial_equiv.audit import errors_over_epochs
from partial_equiv.datasets import DatasetInfo, ImageSet, Splits
from partial_equiv.drawing import kernels_and_activations, png, rotation_response, subset_bands
from partial_equiv.errors import UserError
from partial_equiv.menu import nearest
from partial_equiv.runs.atomic import write_atomically
from partial_equiv.runs.folder import read_log
from partial_equiv.runs.reading import FinishedRun, labels, open_run, open_splits
from partial_equiv.runs.responses import (
    LayerRecord,
    element_label,
    normalise,
    record_layers,
    rotation_probabilities,
    turned_copies,
)
from partial_equiv.runs.state import load_model

OpenData = Callable[[FinishedRun, str | None], Splits]
KINDS = ("subsets", "response", "kernels", "audit")
THUMBNAILS = 9


def main(argv: Sequence[str] | None = None, open_data: OpenData = open_splits) -> int:
    """Draw and save the figures that were asked for, and return the exit code: 0, or 2 for a mistake of the user.

    Args:
        argv: Command line without the program's name; None reads the process's.
        open_data: Run -> its data.
    """
    options = _parser().parse_args(argv)
    try:
        for path in draw(options, open_data):
            sys.stdout.write(f"{path}\n")
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def draw(options: argparse.Namespace, open_data: OpenData) -> list[Path]:
    """Draw what `options` ask for and return the files; without `only`, what cannot be drawn is left out, with a note.

    Raises:
        UserError: a run cannot be read, or a kind of figure that was asked for by name cannot be drawn.
    """
    runs = [open_run(path) for path in options.runs]
    makers: dict[str, Callable[[], dict[str, Figure]]] = {
        "subsets": lambda: draw_subsets(runs),
        "response": lambda: draw_response(runs, options, open_data),
        "kernels": lambda: draw_kernels(runs, options, open_data),
        "audit": lambda: draw_audit(runs),
    }
    paths: list[Path] = []
    measured = all(map(audited, runs))
    for kind in options.only or [kind for kind in KINDS if measured or kind != "audit"]:
        try:
            figures = makers[kind]()
        except UserError as error:
            if options.only:
                raise
            sys.stderr.write(f"left out {kind}: {' '.join(str(error).split())}\n")
            continue
        paths += [_save(Path(options.out), name, figure) for name, figure in figures.items()]
    return paths


def draw_subsets(runs: Sequence[FinishedRun]) -> dict[str, Figure]:
    """Return the bands of +-pi level per layer of several runs.

    Raises:
        UserError: no run learned a level.
    """
    if not any(level is not None for run in runs for level in run.levels):
        raise UserError(
            "none of these runs learned a level: train with conv.partial_equiv=True base_group.sampling_method=random"
        )
    return {"learned_subsets": subset_bands(dict(zip(labels(runs), (run.levels for run in runs), strict=True)))}


def draw_audit(runs: Sequence[FinishedRun]) -> dict[str, Figure]:
    """Return the equivariance error of every layer over the epochs, runs side by side.

    Raises:
        UserError: a run did not measure its layers while it was trained.
    """
    for run in runs:
        if not audited(run):
            raise UserError(
                f"{run.path} did not measure its layers while it was trained: train with train.probes=[audit]"
            )
    logs = [read_log(run.path) for run in runs]
    return {"audit_over_epochs": errors_over_epochs(dict(zip(labels(runs), logs, strict=True)))}


def audited(run: FinishedRun) -> bool:
    """Say whether the log of a run holds equivariance errors."""
    return any(key.startswith("audit/") for row in read_log(run.path) for key in row)


def draw_response(runs: Sequence[FinishedRun], options: argparse.Namespace, open_data: OpenData) -> dict[str, Figure]:
    """Return the probability of one class against the turn of one test image, for several runs.

    Raises:
        UserError: the class, the image or the data are not there, or the runs see images of different shapes.
    """
    splits = [open_data(run, options.root) for run in runs]
    # The least turned data hold the most upright image, and one image serves all runs.
    upright = min(range(len(runs)), key=lambda i: (runs[i].config.get("dataset") or {}).get("rot_interval") or 0)
    first = splits[upright]
    image = pick_image(first.test, find_class(first.info, options.class_name), options.image)
    angles = [math.radians(degree) for degree in torch.arange(-180, 180 + 1e-6, options.step).tolist()]
    responses: dict[str, list[float]] = {}
    for run, data, label in zip(runs, splits, labels(runs), strict=True):
        if (data.info.in_channels, data.info.size) != (first.info.in_channels, first.info.size):
            raise UserError(
                f"{run.path} sees images of another shape than {runs[upright].path}: compare runs on one kind of image"
            )
        own = find_class(data.info, options.class_name)
        probabilities = rotation_probabilities(load_model(run.path), image, angles, data.info.mean, data.info.std)
        responses[label] = probabilities[:, own].tolist()
    turns = [math.radians(-180 + 360 * i / (THUMBNAILS - 1)) for i in range(THUMBNAILS)]
    thumbnails = [copy.numpy() for copy in turned_copies(image, turns)]
    return {"rotation_response": rotation_response(angles, responses, options.class_name, thumbnails)}


def draw_kernels(runs: Sequence[FinishedRun], options: argparse.Namespace, open_data: OpenData) -> dict[str, Figure]:
    """Return, for the first and the last spatial layer of each run, kernels and activations for x and its copies.

    Raises:
        UserError: the data are not there, or the network has no continuous convolution.
    """
    figures: dict[str, Figure] = {}
    for number, run in enumerate(runs):
        splits = open_data(run, options.root)
        target = find_class(splits.info, options.class_name) if options.class_name in splits.info.class_names else None
        image = pick_image(splits.test, target, options.image).float() / 255
        copies = {"x": image, "rot90(x)": image.rot90(1, (-2, -1)), "flip(x)": image.flip(-1)}
        if image.shape[-2] != image.shape[-1]:
            del copies["rot90(x)"]
        batch = normalise(torch.stack(list(copies.values())), splits.info.mean, splits.info.std)
        # A map of one pixel, as after the last convolution, shows nothing of space.
        records = [record for record in record_layers(load_model(run.path), batch) if record.activations.shape[-1] > 1]
        if not records:
            raise UserError(f"{run.path} has no continuous convolution with a spatial map: there is nothing to draw")
        prefix = f"{number + 1}_" if len(runs) > 1 else ""
        for record in {record.name: record for record in (records[0], records[-1])}.values():
            figures[f"kernels_{prefix}{record.name.replace('.', '_')}"] = _layer_figure(record, copies)
    return figures


def _layer_figure(record: LayerRecord, copies: dict[str, Tensor]) -> Figure:
    sources = [] if record.input_elements is None else [element_label(element) for element in record.input_elements]
    return kernels_and_activations(
        record.name,
        {label: image.numpy() for label, image in copies.items()},
        record.kernels.numpy(),
        [values.numpy() for values in record.activations],
        [element_label(element) for element in record.elements],
        sources,
    )


def find_class(info: DatasetInfo, name: str) -> int:
    """Return the index of a class.

    Raises:
        UserError: the data have no class of this name.
    """
    if name not in info.class_names:
        known = ", ".join(info.class_names[:20])
        raise UserError(
            f"{info.name} has no class {name!r}: give --class-name one of {known}{nearest(name, info.class_names)}"
        )
    return info.class_names.index(name)


def pick_image(images: ImageSet, target: int | None, position: int | None) -> Tensor:
    """Return a raw image, uint8 [C, Y, X]: the one at `position`, or else the first of class `target` (None: of any).

    Raises:
        UserError: the split is shorter than `position`, or holds no image of the class.
    """
    if position is not None:
        if not 0 <= position < len(images):
            raise UserError(f"--image {position} is outside the test split: give 0 to {len(images) - 1}")
        return images.raw(position)
    for index in range(len(images)):
        if target is None or int(images.labels[index]) == target:
            return images.raw(index)
    raise UserError("the test split holds no image of that class: give --class-name or --image")


def _save(folder: Path, name: str, figure: Figure) -> Path:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot create {folder}: {error.strerror}; choose another --out") from error
    path = folder / f"{name}.png"
    write_atomically(path, png(figure))
    return path


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m partial_equiv.runs.figures", description=__doc__)
    parser.add_argument(
        "runs", nargs="+", metavar="run", help="run folder, for example outputs/2026-01-31/12-00-00-000000"
    )
    parser.add_argument("--out", default="comparison", help="folder for the figures (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=KINDS, help="which figures (default: all that can be drawn)")
    parser.add_argument("--class-name", default="6", help="class of the turned test image (default: %(default)s)")
    parser.add_argument("--image", type=int, help="position in the test split (default: first image of the class)")
    parser.add_argument("--step", type=_step, default=2.0, help="degrees between turns (default: %(default)s)")
    parser.add_argument("--root", help="folder of the data, if it is not where the run found it")
    return parser


def _step(text: str) -> float:
    step = float(text)
    if not 0.1 <= step <= 90:
        raise argparse.ArgumentTypeError(f"{text} is not between 0.1 and 90 degrees")
    return step


if __name__ == "__main__":
    sys.exit(main())
