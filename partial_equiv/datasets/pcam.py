"""PatchCamelyon as folders of images, read from disk batch by batch: 327,680 patches do not fit in memory."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, plan
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

FACTS = DatasetInfo(
    name="PCam",
    in_channels=3,
    no_classes=2,
    size=(96, 96),
    mean=(0.701, 0.538, 0.692),
    std=(0.235, 0.277, 0.213),
    class_names=("no tumour", "tumour"),
    no_train=262_144,
    no_validation=32_768,
    no_test=32_768,
)
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
REMEDY = (
    "put PCam as <root>/PCam/{train,valid,test}/<class>/<image>, 96x96 pixels, one folder for each of the 2 classes"
)


class Folder(NamedTuple):
    """Image files of one split."""

    paths: list[str]
    labels: Tensor


class ImageFiles:
    """Images that are decoded when asked for.

    Args:
        paths: Image files of one size.
        size: Height and width that each must have.
    """

    def __init__(self, paths: Sequence[str], size: tuple[int, int]) -> None:
        """Keep the paths; no file is opened."""
        self.paths = paths
        self.size = size

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.paths)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the images at `index`, uint8 [B, 3, Y, X]."""
        images = [torch.from_numpy(read_image(self.paths[i], self.size)) for i in index.tolist()]
        return torch.stack(images).permute(0, 3, 1, 2).contiguous()


def read_image(path: str, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return one image, uint8 [Y, X, 3]; its size is checked before it is decoded.

    Raises:
        UserError: broken, or of another size.
    """
    try:
        with Image.open(path) as image:
            if image.size != size[::-1]:
                raise UserError(
                    f"{path} has {image.size[0]}x{image.size[1]} pixels, {size[1]}x{size[0]} are needed: {REMEDY}"
                )
            return np.array(image.convert("RGB"))
    except UserError:
        raise
    except (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise UserError(f"{path} is missing or no readable image ({error}): {REMEDY}") from error


def load_pcam(*, root: str, no_train: int | None, no_validation: int | None, no_test: int | None, seed: int) -> Splits:
    """Return PatchCamelyon, with the validation split of its own.

    Args:
        root: Folder that holds PCam/train, PCam/valid and PCam/test, each with one folder for each class.
        no_train: Training images; None is all.
        no_validation: Validation images; None is all.
        no_test: Test images; None is all.
        seed: Of the choice of a subset.

    Raises:
        UserError: a value out of range; folders are missing or empty.
    Source: Veeling et al. 2018.
    """
    train, validation, test = parts = [
        list_folder(folder_of(root) / "PCam" / part) for part in ("train", "valid", "test")
    ]
    facts = dataclasses.replace(
        FACTS, no_train=len(train.paths), no_validation=len(validation.paths), no_test=len(test.paths)
    )
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    return assemble(
        planned, *(choose(part, index) for part, index in zip(parts, cut(facts, planned, seed), strict=True))
    )


def list_folder(folder: Path) -> Folder:
    """Return the image files of one split with their classes.

    Raises:
        UserError: absent, without images, or not of two classes.
    """
    try:
        classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir())
        files = [sorted(e.path for e in os.scandir(folder / c) if e.name.lower().endswith(ENDINGS)) for c in classes]
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): {REMEDY}") from error
    if len(classes) != FACTS.no_classes or not all(files):
        found = {name: len(paths) for name, paths in zip(classes, files, strict=True)}
        raise UserError(f"{folder} holds the image folders {found}: {REMEDY}")
    sizes = torch.tensor([len(paths) for paths in files])
    return Folder([path for paths in files for path in paths], torch.arange(len(classes)).repeat_interleave(sizes))


def choose(part: Folder, index: Tensor) -> Labelled:
    """Return the files at `index`."""
    return Labelled(ImageFiles([part.paths[i] for i in index.tolist()], FACTS.size), part.labels[index])
