"""The figures that every run leaves; probes draw further ones."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from partial_equiv import drawing
from partial_equiv.datasets import Splits, ViewSplits
from partial_equiv.nets import learned_subsets
from partial_equiv.objectives import Classification, Objective
from partial_equiv.probes import Answers, Artifact, answers_of, device_of, evaluating
from partial_equiv.runs import RunFolder, read_log, rotation_probabilities, turned_copies
from partial_equiv.sampling import samplers
from tester import on_device

DEGREES_BETWEEN_TURNS, THUMBNAILS, WORST = 3, 9, 32
SMALLEST = 2  # pixels: below, an image is a vector
EVALUATED = ("classification/", "rotation/", "color/")


def joint_figures(numbers: Mapping[str, float]) -> dict[str, Artifact]:
    """Return, by file name, the figures that show the numbers of several probes side by side."""
    if any(name.startswith(EVALUATED) for name in numbers):
        return {"parts.png": drawing.part_bars(numbers)}
    return {}


def draw_figures(folder: RunFolder, tested: Objective, splits: Splits | ViewSplits, test_loader: Any) -> None:
    """Draw every figure of a training into its folder; others are drawn by probes.

    Args:
        folder: The run folder, with its log.
        tested: The tested model as objective.
        splits: The data.
        test_loader: Batches of the test split.
    """
    rows, info, images = read_log(folder.path), splits.info, splits.train
    if rows:
        folder.figure("curves", drawing.curves(rows))
    if isinstance(tested, Classification):
        draw_classifier(folder, tested, splits, test_loader)
    if max(info.size) < SMALLEST:
        return  # vectors are no pictures
    shown = range(min(len(images.labels), 48))
    pictures = torch.stack([images.raw(index) for index in shown]).numpy()
    names = [info.class_names[int(images.labels[index])] for index in shown]
    title = f"{info.name}: training images"
    folder.figure("sample_sheet", drawing.sample_sheet(pictures, names, title, info.note))


def draw_classifier(folder: RunFolder, tested: Classification, splits: Splits, test_loader: Any) -> None:
    """Draw what a classifier learned to keep, what it confuses, and how it answers to turns."""
    model, rows = tested.model, read_log(folder.path)
    subsets = learned_subsets(model)
    turns = next((sampler.no_rotations for sampler in samplers(model)), None)
    folder.figure("learned_subsets", drawing.learned_subsets(subsets, turns))
    if rows:
        folder.figure("levels_over_epochs", drawing.levels_over_epochs(rows, [subset.name for subset in subsets]))
    with evaluating(tested):
        answers = answers_of(tested.scores, on_device(test_loader, device_of(model)))
    draw_confusion(folder, answers, splits)
    draw_response(folder, model, splits)


def draw_confusion(folder: RunFolder, answers: Answers, splits: Splits) -> None:
    """Draw which class is taken for which and the images that the network is most wrong about, and write both down."""
    info, counts, worst = splits.info, answers.counts(splits.info.no_classes), answers.worst(WORST)
    names = list(info.class_names)
    folder.figure("confusion_matrix", drawing.confusion_matrix(counts.numpy(), names))
    folder.artifact("confusion.json", {"class_names": names, "counts": counts.tolist(), "worst": worst})
    if worst and max(info.size) >= SMALLEST:
        pictures = torch.stack([splits.test.raw(int(case["index"])) for case in worst]).numpy()
        labels = [f"{names[int(case['true'])]} as {names[int(case['predicted'])]}" for case in worst]
        folder.figure("worst_images", drawing.sample_sheet(pictures, labels, f"{info.name}: most wrong"))


def draw_response(folder: RunFolder, model: nn.Module, splits: Splits) -> None:
    """Draw the probability of a test image's own class as the image turns: a 6 where there is one."""
    info, images = splits.info, splits.test
    wanted = info.class_names.index("6") if "6" in info.class_names else int(images.labels[0])
    index = next((i for i, label in enumerate(images.labels.tolist()) if label == wanted), 0)
    name = info.class_names[int(images.labels[index])]
    degrees = range(-180, 181, DEGREES_BETWEEN_TURNS)
    angles = [math.radians(degree) for degree in degrees]
    response = rotation_probabilities(model, images.raw(index), angles, info.mean, info.std)
    curve = {"this network": response[:, int(images.labels[index])].tolist()}
    spread = [math.radians(-180 + 360 * i / (THUMBNAILS - 1)) for i in range(THUMBNAILS)]
    thumbnails = [copy.numpy() for copy in turned_copies(images.raw(index), spread)]
    folder.figure("rotation_response", drawing.rotation_response(angles, curve, name, thumbnails))
