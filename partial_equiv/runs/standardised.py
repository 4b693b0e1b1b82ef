"""The images of a run turned upright, with what was inferred of them, as npz files that dataset=npz reads.

Axes: N images, C channels, Y X pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from partial_equiv.datasets import ImageSet, Splits, rotate_images, write_npz
from partial_equiv.nets import SymmetryNet

TRAIN, TEST = "invariant_dataset_train.npz", "invariant_dataset_test.npz"
AT_ONCE = 500


class Standardised(NamedTuple):
    """Images turned upright.

    Shape:
        images uint8 [N, C, Y, X]; labels [N]; index [N]: place in the sets they come from, counted through;
        pose [N]: radians by which each was turned, and is not any more; level [N]: radians.
    """

    images: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # hides tuple.index
    pose: Tensor
    level: Tensor


def write_standardised(folder: Path, model: SymmetryNet, splits: Splits) -> list[Path]:
    """Write the training and validation images, and the test images, turned upright once by their inferred poses.

    Args:
        folder: The run folder.
        model: In evaluation mode; labels are copied, not used.
        splits: The data of the run.

    Raises:
        UserError: the folder cannot be written.
    """
    paths = []
    for name, sets in ((TRAIN, [splits.train, splits.validation]), (TEST, [splits.test])):
        found = standardised(model, sets)
        arrays = {key: value for key, value in found._asdict().items() if key != "images"}
        paths.append(folder / name)
        write_npz(folder / name, found.images, **arrays)
    return paths


@torch.no_grad()
def standardised(model: SymmetryNet, sets: Sequence[ImageSet]) -> Standardised:
    """Return the images of several sets, one after the other, turned upright."""
    device, columns, start = model.mean.device, [], 0
    for images in sets:
        for first in range(0, len(images), AT_ONCE):
            index = torch.arange(first, min(first + AT_ONCE, len(images)))
            reading = model.read(images[index].images.to(device))
            upright = rotate_images(images.images[index], -reading.pose.cpu())
            columns.append((upright, images.labels[index], start + index, reading.pose.cpu(), reading.level.cpu()))
        start += len(images)
    return Standardised(*(torch.cat(column) for column in zip(*columns, strict=True)))
