"""PatchCamelyon, read from disk batch by batch, as folders of images or as the converted arrays of its H5 files."""

import dataclasses
import functools
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, plan, resized_note, sized, with_notes
from partial_equiv.datasets.npz_file import BROKEN, BROKEN_HEADER, read_header
from partial_equiv.datasets.pictures import PictureFiles, Pictures, PictureStore, list_classes, whole
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

FACTS = DatasetInfo(
    name="PCam",
    in_channels=3,
    no_classes=2,
    size=(96, 96),
    # Edixhoven et al. 2023 have .697 .535 .688 and .236 .279 .215, written as those of pixels in [-1, 1].
    mean=(0.701, 0.538, 0.692),
    std=(0.235, 0.277, 0.213),
    class_names=("no tumour", "tumour"),
    no_train=262_144,
    no_validation=32_768,
    no_test=32_768,
)
PARTS = ("train", "valid", "test")
REMEDY = (
    "put PCam as <root>/PCam/{train,valid,test}/<class>/<image>, 96x96 pixels, one folder for each of the 2 classes, "
    "or its H5 files into <root>/PCam and convert them"
)


class Part(NamedTuple):
    """Pictures of one split."""

    pictures: PictureStore
    labels: Tensor


class MappedPictures:
    """A store of pictures in one .npy file, of which only what is asked for is read.

    Args:
        path: uint8 [N, Y, X, 3].
        positions: int64 [M], those that belong to the store; None is all.

    Raises:
        UserError: missing, broken, or of another layout.
    """

    def __init__(self, path: Path, positions: Tensor | None = None) -> None:
        """Map the file; pixels are read later."""
        self.path = path
        self.images = read_array(path)
        if self.images.dtype != np.uint8 or self.images.shape[1:] != (*FACTS.size, 3) or not len(self.images):
            found = f"{self.images.dtype} {list(self.images.shape)}"
            raise UserError(f"{path} holds {found} where uint8 [N,96,96,3] is due: delete it and {convert_line(path)}")
        self.positions = torch.arange(len(self.images)) if positions is None else positions

    def __reduce__(self) -> tuple[type["MappedPictures"], tuple[Path, Tensor]]:
        """Send the name of the file to a reading process, not its content."""
        return MappedPictures, (self.path, self.positions)

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.positions)

    def picture(self, position: int) -> Tensor:
        """Return one picture, uint8 [3, Y, X]."""
        return torch.from_numpy(np.array(self.images[int(self.positions[position])])).permute(2, 0, 1)

    def chosen(self, index: Tensor) -> "MappedPictures":
        """Return the pictures at `index`."""
        return MappedPictures(self.path, self.positions[index])


def load_pcam(
    *,
    root: str,
    size: int | None,
    circle_crop: bool,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return PatchCamelyon, with the validation split of its own.

    Args:
        root: Folder that holds PCam/{train,valid,test}_{x,y}.npy, as `python -m partial_equiv.datasets.pcam_convert`
            writes them from the H5 files, or PCam/train, PCam/valid and PCam/test with one folder for each class.
        size: Side in pixels, 8 to 384, that each image is resized to when it is read; None is the published 96.
        circle_crop: Blacken what lies outside the inscribed circle, after resizing: no turn then moves pixels out.
        no_train: Training images; None is all.
        no_validation: Validation images; None is all.
        no_test: Test images; None is all.
        seed: Of the choice of a subset.

    Raises:
        UserError: a value out of range; files are missing, broken, empty or not converted.
    Source: Veeling et al. 2018.
    """
    facts = sized(FACTS, size)
    train, validation, test = parts = open_parts(folder_of(root) / "PCam")
    facts = dataclasses.replace(
        facts, no_train=len(train.labels), no_validation=len(validation.labels), no_test=len(test.labels)
    )
    planned = plan(facts, no_train=no_train, no_validation=no_validation, no_test=no_test)
    frame = functools.partial(whole, size=planned.size, circle=circle_crop)
    outside = "black outside the inscribed circle" if circle_crop else ""
    return assemble(
        with_notes(planned, outside, resized_note(FACTS, size)),
        *(
            Labelled(Pictures(part.pictures.chosen(index), frame), part.labels[index])
            for part, index in zip(parts, cut(facts, planned, seed), strict=True)
        ),
    )


def open_parts(folder: Path) -> list[Part]:
    """Return the three splits of the converted arrays where there are any, else of the folders.

    Raises:
        UserError: H5 files that wait to be converted, or what a reader finds.
    """
    if any((folder / f"{part}_{axis}.npy").exists() for part in PARTS for axis in "xy"):
        return [open_arrays(folder, part) for part in PARTS]
    if not (folder / PARTS[0]).is_dir() and any(folder.glob("*.h5")):
        raise UserError(
            f"{folder} holds H5 files, which are not read while training: {convert_line(folder / PARTS[0])}"
        )
    return [list_folder(folder / part) for part in PARTS]


def convert_line(path: Path) -> str:
    """Return the command that writes `path`, a file of root/PCam."""
    return f"run python -m partial_equiv.datasets.pcam_convert --root {path.parent.parent}"


def open_arrays(folder: Path, part: str) -> Part:
    """Return one split of the converted arrays.

    Raises:
        UserError: an array is missing, broken or does not fit the other.
    """
    pictures, path = MappedPictures(folder / f"{part}_x.npy"), folder / f"{part}_y.npy"
    labels = read_array(path)
    if labels.dtype != np.uint8 or labels.shape != (len(pictures),) or labels.max() >= FACTS.no_classes:
        found = f"{labels.dtype} {list(labels.shape)} for {len(pictures):,} images"
        raise UserError(
            f"{path} holds {found} where as many uint8 labels 0 and 1 are due: delete it and {convert_line(path)}"
        )
    return Part(pictures, torch.from_numpy(labels.astype(np.int64)))


def read_array(path: Path) -> NDArray[np.generic]:
    """Return a .npy array, mapped: its header is believed only if the file is as long, and no pickle is loaded.

    Raises:
        UserError: missing or broken.
    """
    try:
        with path.open("rb") as stream:
            read_header(stream)  # first, for numpy reads a header of any length
        array: NDArray[np.generic] = np.lib.format.open_memmap(path, mode="r")  # never a pickle, nor a zip of arrays
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing beside the other arrays: {convert_line(path)}") from error
    except BROKEN + BROKEN_HEADER as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is truncated or no array ({reason}): delete it and {convert_line(path)}") from error
    return array


def list_folder(folder: Path) -> Part:
    """Return the image files of one split with their classes.

    Raises:
        UserError: absent, without images, or not of two classes.
    """
    files = list_classes(folder, REMEDY)
    if len(files) != FACTS.no_classes or not all(files.values()):
        found = {name: len(paths) for name, paths in files.items()}
        raise UserError(f"{folder} holds the image folders {found}: {REMEDY}")
    names = np.array([name for paths in files.values() for name in paths])
    counts = torch.tensor([len(paths) for paths in files.values()])
    return Part(
        PictureFiles(folder, names, REMEDY, only=FACTS.size), torch.arange(len(files)).repeat_interleave(counts)
    )
