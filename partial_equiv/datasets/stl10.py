"""STL-10 from its binary files (the unlabelled images are not read)."""

from pathlib import Path

import torch
from torch import Tensor

from partial_equiv.datasets.files import fetch, folder_of, read_exactly
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, plan
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

URL = "http://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz"
MD5 = "91f7769df0f17e558f3565bffb0c7dfb"
FOLDER = "stl10_binary"
FILES = ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin")
FACTS = DatasetInfo(
    name="STL10",
    in_channels=3,
    no_classes=10,
    size=(96, 96),
    mean=(0.4467, 0.4398, 0.4066),
    std=(0.2603, 0.2566, 0.2713),
    class_names=("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
    no_train=5_000,
    no_validation=0,
    no_test=8_000,
    crop_padding=12,
)


def load_stl10(
    *, root: str, download: bool, no_train: int | None, no_validation: int | None, no_test: int | None, seed: int
) -> Splits:
    """Return STL-10: 5,000 images cut into training and validation, 8,000 for test.

    Args:
        root: Folder that holds stl10_binary.
        download: Fetch what is missing (2.6 GB).
        no_train: Training images; None is all that validation leaves.
        no_validation: Images held out of the training file.
        no_test: Test images; None is all.
        seed: Of the split.

    Raises:
        UserError: a value out of range; a file is missing, truncated or not STL-10's.
    Source: Coates, Lee & Ng 2011. Differs: validation is cut from training; the predecessor selected on the test set.
    """
    planned = plan(FACTS, no_train=no_train, no_validation=no_validation, no_test=no_test)
    folder = folder_of(root) / FOLDER
    place = f"unpack stl10_binary.tar.gz into {folder.parent}"
    remedy = f"{place}, or add dataset.download=true"
    if download and not all((folder / name).exists() for name in FILES):
        fetch([URL], MD5, {f"{FOLDER}/{name}": folder / name for name in FILES}, place)
    pool, tested = read_part(folder, "train", FACTS.no_train, remedy), read_part(folder, "test", FACTS.no_test, remedy)
    choices = zip((pool, pool, tested), cut(FACTS, planned, seed), strict=True)
    return assemble(planned, *(Labelled(images[index], labels[index]) for (images, labels), index in choices))


def read_part(folder: Path, part: str, no_images: int, remedy: str) -> tuple[Tensor, Tensor]:
    """Return the images and labels of one split; the file stores columns first and counts classes from 1."""
    labels = torch.from_numpy(read_exactly(folder / f"{part}_y.bin", no_images, remedy)).long() - 1
    if labels.min() < 0 or labels.max() >= FACTS.no_classes:
        raise UserError(f"{folder / f'{part}_y.bin'} holds labels outside 1 to 10: delete it, then {remedy}")
    pixels = read_exactly(folder / f"{part}_X.bin", no_images * 3 * 96 * 96, remedy)
    return torch.from_numpy(pixels).reshape(-1, 3, 96, 96).transpose(2, 3).contiguous(), labels
