"""The images of a run turned upright, with what was inferred of them, as npz files that dataset=npz reads."""

from pathlib import Path

import torch

from partial_equiv.datasets import Splits, write_npz
from partial_equiv.nets import SymmetryNet
from partial_equiv.probes import Upright, plain_batches, upright

TRAIN, TEST = "invariant_dataset_train.npz", "invariant_dataset_test.npz"


@torch.no_grad()
def write_standardised(folder: Path, model: SymmetryNet, splits: Splits) -> list[Path]:
    """Write the training and validation images, and the test images, turned upright once by their inferred poses.

    Each file holds images, labels, index (place in the file), pose (radians by which the image was turned, and is not
    any more) and level (radians).

    Args:
        folder: The run folder.
        model: In evaluation mode; labels are copied, not used.
        splits: The data of the run.

    Raises:
        UserError: the folder cannot be written.
    """
    paths = []
    for name, sets in ((TRAIN, [splits.train, splits.validation]), (TEST, [splits.test])):
        parts = [upright(model, plain_batches(images)) for images in sets]
        found = Upright(*(torch.cat(column) for column in zip(*parts, strict=True)))
        arrays = {"labels": found.labels, "index": torch.arange(len(found.labels))}
        write_npz(folder / name, found.standardised, **arrays, pose=found.pose, level=found.level)
        paths.append(folder / name)
    return paths
