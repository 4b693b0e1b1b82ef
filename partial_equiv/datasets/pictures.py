"""Pictures on disk: decoded when asked for, then made images of one size.

Axes: B images of a batch, Y X pixels.
"""

import io
import os
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from partial_equiv.datasets.resizing import resize_images
from partial_equiv.errors import UserError

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
"""What is 8-bit at most; grey, palette and CMYK pictures become RGB, and transparency is dropped."""
FORMATS = ("PNG", "JPEG", "BMP", "TIFF")
"""What the endings promise: Pillow opens all that it knows under any name, and for one kind (EPS) it runs a program."""
MOST_PIXELS = 80_000_000
MOST_ASPECT = 100  # of the longer side to the shorter: both bound the memory that a picture can ask for
BROKEN = (OSError, UnidentifiedImageError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


class PictureStore(Protocol):
    """Where pictures of any size come from, one at a time."""

    def __len__(self) -> int:
        """Return the number of pictures."""

    def picture(self, position: int) -> Tensor:
        """Return one picture, uint8 [3, Y, X]."""

    def chosen(self, index: Tensor) -> "PictureStore":
        """Return the pictures at `index` [N] as a store of their own."""


class Pictures:
    """Images of one size, made of the pictures of a store when asked for: an `ImageSource`.

    Args:
        store: The pictures.
        frame: Picture uint8 [3, Y, X] -> image uint8 [C, *size], the same function for all; plain enough to be sent to
            a reading process.
    """

    def __init__(self, store: PictureStore, frame: Callable[[Tensor], Tensor]) -> None:
        """Keep the store; nothing is opened."""
        self.store = store
        self.frame = frame

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.store)

    def __getitem__(self, index: Tensor) -> Tensor:
        """Return the images at `index`, uint8 [B, C, Y, X]."""
        return torch.stack([self.frame(self.store.picture(position)) for position in index.tolist()])


class Part(NamedTuple):
    """Picture files of one split: paths below its folder, classes, and the names of the classes."""

    names: NDArray[np.str_]
    labels: Tensor
    classes: tuple[str, ...]


class PictureFiles:
    """A store of one file for each picture.

    Args:
        folder: What the names count from.
        names: Paths below it; an array, which reading processes share instead of copying it.
        remedy: End of the message about a file that cannot be read.
        only: Height and width that each must have; None allows any.
    """

    def __init__(self, folder: Path, names: NDArray[np.str_], remedy: str, only: tuple[int, int] | None = None) -> None:
        """Keep the names; no file is opened."""
        self.folder = folder
        self.names = names
        self.remedy = remedy
        self.only = only

    def __len__(self) -> int:
        """Return the number of files."""
        return len(self.names)

    def picture(self, position: int) -> Tensor:
        """Return one picture, uint8 [3, Y, X]."""
        path = self.folder / str(self.names[position])
        return decode(path, str(path), remedy=self.remedy, only=self.only)

    def chosen(self, index: Tensor) -> "PictureFiles":
        """Return the files at `index`."""
        return PictureFiles(self.folder, self.names[index.numpy()], self.remedy, self.only)


def decode(content: Path | io.BytesIO, name: str, *, remedy: str, only: tuple[int, int] | None = None) -> Tensor:
    """Return a picture in RGB, uint8 [3, Y, X]; its size is checked before it is decoded.

    Args:
        content: A file, or its bytes.
        name: What to call it in a message.
        remedy: End of the message.
        only: Height and width that it must have; None allows any.

    Raises:
        UserError: missing, broken, of another size, too large, or with more than 8 bits for a colour.
    """
    try:
        # Pillow warns of what a picture says beside its pixels, such as broken EXIF; what matters is told below.
        with warnings.catch_warnings(action="ignore"), Image.open(content, formats=FORMATS) as image:
            width, height = image.size
            if only is not None and (height, width) != only:
                raise UserError(f"{name} has {width}x{height} pixels, {only[1]}x{only[0]} are needed: {remedy}")
            if width * height > MOST_PIXELS or max(width, height) > MOST_ASPECT * min(width, height):
                most = f"at most {MOST_PIXELS:,} and an aspect of {MOST_ASPECT}"
                raise UserError(f"{name} has {width}x{height} pixels, {most} are read: {remedy}")
            if image.mode not in MODES:
                raise UserError(f"{name} has pixels of mode {image.mode}, save it as 8-bit RGB or grey: {remedy}")
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except UserError:
        raise
    except BROKEN as error:
        raise UserError(f"{name} is missing or no readable image ({error}): {remedy}") from error


def list_classes(folder: Path, remedy: str) -> dict[str, list[str]]:
    """Return the image files of a folder that has one folder for each class, both in the order of their names.

    Raises:
        UserError: it cannot be read.
    """
    try:
        classes = sorted(entry.name for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        return {name: [f"{name}/{file}" for file in list_pictures(folder / name)] for name in classes}
    except OSError as error:
        raise UserError(f"{folder} cannot be read ({error.strerror}): {remedy}") from error


def list_pictures(folder: Path) -> list[str]:
    """Return the image files of a folder by name; hidden ones are left out, as some systems put them beside others."""
    return sorted(e.name for e in os.scandir(folder) if e.name.lower().endswith(ENDINGS) and e.name[0] != ".")


def list_part(folder: Path, remedy: str, classes: Sequence[str] = ()) -> Part:
    """Return the image files of one split.

    Args:
        folder: With one folder for each class.
        remedy: End of a message.
        classes: Those of training; empty for training itself.

    Raises:
        UserError: absent, without class folders, with an empty one, or with one that training lacks.
    """
    files = list_classes(folder, remedy)
    if not files:
        raise UserError(f"{folder} holds no class folders: {remedy}")
    if empty := [name for name, paths in files.items() if not paths]:
        raise UserError(f"{folder / empty[0]} holds no image: fill or delete it")
    known = tuple(classes) or tuple(files)
    if strange := [name for name in files if name not in set(known)]:
        raise UserError(f"{folder / strange[0]} is a class without training images: delete it, or add it to training")
    if len(known) < 2:
        raise UserError(f"{folder} holds the one class {known[0]}: at least 2 are needed")
    number = {name: label for label, name in enumerate(known)}
    labels = torch.tensor([number[name] for name in files])
    counts = torch.tensor([len(paths) for paths in files.values()])
    return Part(np.array([p for paths in files.values() for p in paths]), labels.repeat_interleave(counts), known)


def whole(picture: Tensor, *, size: tuple[int, int], circle: bool) -> Tensor:
    """Return the whole picture at another size; with `circle`, pixels outside the inscribed circle are zero."""
    image = resize_images(picture[None], size)[0]
    return torch.where(inscribed_circle(size), image, 0) if circle else image


def to_grey(picture: Tensor) -> Tensor:
    """Return the brightness of a picture, uint8 [1, Y, X] of [3, Y, X], as Pillow computes it (ITU-R 601)."""
    weights = torch.tensor([19_595, 38_470, 7_471], dtype=torch.int32)[:, None, None]
    return ((picture.int() * weights).sum(dim=0, keepdim=True) + 32_768).div(65_536, rounding_mode="floor").byte()


def inscribed_circle(size: tuple[int, int]) -> Tensor:
    """Return where pixel centres lie inside the ellipse that touches all four sides, bool [Y, X]."""
    rows, columns = ((2 * torch.arange(side) + 1 - side) / side for side in size)
    return rows[:, None] ** 2 + columns**2 <= 1


def centre_crop(picture: Tensor, *, size: int, shorter: int) -> Tensor:
    """Return the middle of a picture [C, Y, X] whose shorter side was resized first, uint8 [C, size, size]."""
    height, width = picture.shape[-2:]
    least = min(height, width)
    height, width = (int(shorter * side / least) for side in (height, width))
    resized = resize_images(picture[None], (height, width))[0]
    top, left = (round((side - size) / 2) for side in (height, width))
    return resized[:, top : top + size, left : left + size]


def shorter_side(size: int) -> int:
    """Return the shorter side from which a middle of `size` pixels is cut: 256 for 224, as published, in proportion."""
    return round(size * 256 / 224)
