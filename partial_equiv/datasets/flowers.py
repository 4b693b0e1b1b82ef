"""Oxford Flowers-102, decoded from disk when asked for."""

import dataclasses
import functools
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from partial_equiv.datasets.files import fetch, folder_of
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import IMAGENET_MEAN, IMAGENET_STD, CropLaw, DatasetInfo, plan, sized
from partial_equiv.datasets.pictures import PictureFiles, Pictures, centre_crop, shorter_side
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

NO_IMAGES = 8_189
FACTS = DatasetInfo(
    name="Flowers102",
    in_channels=3,
    no_classes=102,
    size=(224, 224),
    mean=IMAGENET_MEAN,  # as published
    std=IMAGENET_STD,
    class_names=tuple(str(label) for label in range(1, 103)),
    no_train=1_020,
    no_validation=1_020,
    no_test=6_149,
    crop_law=CropLaw(area=(0.08, 1.0), aspect=(3 / 4, 4 / 3)),
)
FOLDER = "flowers-102"
URL = "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"
ARCHIVE, ARCHIVE_MD5 = "102flowers.tgz", "52808999861908f626f3c1f4e79d11fa"
LABELS, LABELS_MD5 = "imagelabels.mat", "e0620be6f572b9609742df49c70aed4d"
PARTS, PARTS_MD5 = "setid.mat", "a5357ecc9cb78c4bef273ce3793fc85c"


def load_flowers102(
    *,
    root: str,
    download: bool,
    size: int | None,
    join_validation: bool,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return Flowers-102: 1,020 images for training, 1,020 for validation and 6,149 for test.

    An image is the middle of its picture, whose shorter side was resized to 256/224 of `size` before; with
    augment=inception, training images are random boxes instead.

    Args:
        root: Folder that holds flowers-102/jpg, flowers-102/imagelabels.mat and flowers-102/setid.mat.
        download: Fetch what is missing (345 MB).
        size: Side in pixels, 8 to 896; None is 224.
        join_validation: Put the validation images to the training images, 2,040 as in the published protocol, and cut
            validation from these.
        no_train: Training images; None is all that validation leaves.
        no_validation: Validation images; None is the set's own split, or a tenth of the joined ones.
        no_test: Test images; None is all.
        seed: Of the choice of a subset, and of the cut of the joined images.

    Raises:
        UserError: a value out of range; a file is missing, broken or not the published one.
    Source: Nilsback & Zisserman 2008.
    """
    facts = joined(sized(FACTS, size), join_validation)
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    folder = folder_of(root) / FOLDER
    remedy = f"unpack {ARCHIVE} into {folder} and put {LABELS} and {PARTS} beside its jpg"
    if download:
        download_flowers(folder, remedy)
    labels, parts = read_labels(folder, f"{remedy}, or add dataset.download=true")
    train, validation, test = parts
    if join_validation:
        train = validation = torch.cat([train, validation])
    side = planned.size[0]
    frame = functools.partial(centre_crop, size=side, shorter=shorter_side(side))
    names = np.array([f"jpg/image_{number:05d}.jpg" for number in range(1, NO_IMAGES + 1)])
    pictures = PictureFiles(folder, names, remedy)
    chosen = (part[index] for part, index in zip((train, validation, test), cut(facts, planned, seed), strict=True))
    return assemble(planned, *(Labelled(Pictures(pictures.chosen(index), frame), labels[index]) for index in chosen))


def joined(facts: DatasetInfo, join_validation: bool) -> DatasetInfo:
    """Return the facts with the validation images among the training images, if that is asked for."""
    if not join_validation:
        return facts
    return dataclasses.replace(facts, no_train=facts.no_train + facts.no_validation, no_validation=0)


def read_labels(folder: Path, remedy: str) -> tuple[Tensor, list[Tensor]]:
    """Return the class of each picture, and the positions of the pictures of training, validation and test.

    Shape:
        -> labels int64 [8189] in 0..101, three positions int64 in 0..8188.

    Raises:
        UserError: a file is missing or not the published one, or pictures are missing.
    """
    (labels,) = read_matrices(folder / LABELS, LABELS_MD5, ("labels",), remedy)
    parts = read_matrices(folder / PARTS, PARTS_MD5, ("trnid", "valid", "tstid"), remedy)
    if absent := missing_pictures(folder):
        raise UserError(f"{folder} lacks {len(absent):,} of 8,189 pictures, the first is {absent[0]}: {remedy}")
    return labels - 1, [part - 1 for part in parts]


def read_matrices(path: Path, md5: str, keys: Sequence[str], remedy: str) -> list[Tensor]:
    """Return whole numbers of a published MATLAB file, flat, int64 [N] for each key.

    A file with another checksum is not even opened as one: scipy's reader can be crashed by a damaged file.

    Raises:
        UserError: missing, or not the published file.
    """
    from scipy.io import loadmat  # type: ignore[import-untyped]  # slow to import

    try:
        with path.open("rb") as stream:
            found = hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {remedy}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from error
    if found != md5:
        raise UserError(
            f"{path} is truncated or not the published file (md5 {found}, not {md5}): delete it, then {remedy}"
        )
    arrays = loadmat(path, variable_names=list(keys))
    return [torch.from_numpy(np.asarray(arrays[key]).reshape(-1).astype(np.int64)) for key in keys]


def missing_pictures(folder: Path) -> list[str]:
    """Return the names of the pictures that are not there."""
    try:
        present = set(os.listdir(folder / "jpg"))
    except (FileNotFoundError, NotADirectoryError):
        present = set()
    return [name for name in (f"image_{number:05d}.jpg" for number in range(1, NO_IMAGES + 1)) if name not in present]


def download_flowers(folder: Path, remedy: str) -> None:
    """Fetch the files that are absent, with torchvision's addresses and checksums."""
    for name, md5 in ((LABELS, LABELS_MD5), (PARTS, PARTS_MD5)):
        if not (folder / name).exists():
            fetch([URL + name], md5, {name: folder / name}, remedy)
    if absent := missing_pictures(folder):
        fetch([URL + ARCHIVE], ARCHIVE_MD5, {f"jpg/{name}": folder / "jpg" / name for name in absent}, remedy)
