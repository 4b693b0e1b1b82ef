"""Images and labels in npz files: read from anyone's, without pickle and believing no header, and written whole."""

import io
import math
import os
import tempfile
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.errors import UserError

MOST_BYTES = 16 * 2**30  # of one array in memory, read or drawn
DEFLATE_RATIO = 1032  # no honest deflate stream expands more
MOST_HEADER_BYTES = 10_000  # as many as numpy takes to be safe
MOST_CLASSES = 65_536
LAYOUT = (
    "an npz needs `images` (uint8, or numbers in [0, 1], [N,H,W] or [N,H,W,3]) and, where they are known, `labels` "
    "(integers [N])"
)
BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError)
BROKEN_HEADER = (SyntaxError, tokenize.TokenError, MemoryError, OverflowError, TypeError)


def read_npz(path: Path) -> tuple[Tensor, Tensor]:
    """Return images and labels of an npz file that must have both.

    Arguments, shapes and errors are those of `read_images`.
    """
    images, labels = read_images(path)
    if labels is None:
        raise UserError(f"{path}: has no array 'labels'; {LAYOUT}")
    return images, labels


def read_images(path: Path) -> tuple[Tensor, Tensor | None]:
    """Return images and labels of an npz file, None for labels that it does not have; other arrays are not read.

    The size that each array's header claims is compared with what the file can hold before memory is asked for.

    Args:
        path: The file; numbers in [0, 1] become uint8, 255 times the number, rounded.
    Shape:
        -> images uint8 [N, C, Y, X], labels int64 [N].

    Raises:
        UserError: missing, truncated, pickled, or of another layout.
    """
    one = "give dataset.root=<file.npz>"
    with (
        explained(path, LAYOUT, missing=one, folder=f"{one} or a list [a.npz,b.npz]"),
        zipfile.ZipFile(path) as archive,
    ):
        images = read_member(archive, "images", path.stat().st_size)
        labelled = "labels.npy" in archive.namelist()
        labels = read_member(archive, "labels", path.stat().st_size) if labelled else None
    check_images(path, images)
    if labels is not None:
        check_labels(path, labels, len(images))
    if images.dtype != np.uint8:
        images = to_bytes(path, images)
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    pixels = pixels[:, None] if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return pixels, None if labels is None else torch.from_numpy(labels.astype(np.int64))


@contextmanager
def explained(path: Path, layout: str, *, missing: str, folder: str) -> Iterator[None]:
    """Turn any mishap of reading an npz file into one sentence.

    Args:
        path: The file.
        layout: What it should hold.
        missing: What to do where there is no such file.
        folder: What to do where it is a folder.

    Raises:
        UserError: missing, truncated, pickled, or of another layout.
    """
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise UserError("is no file but a device or a pipe, which may never end")
        yield
    except UserError as error:
        raise UserError(f"{path}: {error}; {layout}") from error
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {missing}; {layout}") from error
    except IsADirectoryError as error:
        raise UserError(f"{path} is a folder: {folder}; {layout}") from error
    except BROKEN + BROKEN_HEADER as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is truncated or no npz file ({reason}): save it again; {layout}") from error


def read_member(archive: zipfile.ZipFile, key: str, no_bytes_file: int) -> NDArray[np.generic]:
    """Return one array of the archive.

    Raises:
        UserError: absent, of objects, or larger than the file can hold.
    """
    keys = [name.removesuffix(".npy") for name in archive.namelist()]
    if key not in keys:
        raise UserError(f"has no array {key!r}, only {keys[:8]}")
    stored = archive.getinfo(f"{key}.npy")
    with archive.open(stored) as stream:
        shape, dtype, no_header_bytes = read_header(stream)
    if dtype.hasobject:
        raise UserError(f"array {key!r} holds Python objects, which are never loaded")
    claimed = no_header_bytes + dtype.itemsize * math.prod(shape)
    if claimed != stored.file_size or claimed > min(DEFLATE_RATIO * no_bytes_file, MOST_BYTES):
        raise UserError(f"array {key!r} of shape {list(shape)} does not fit what the file holds")
    array: NDArray[np.generic] = np.lib.format.read_array(io.BytesIO(archive.read(stored)), allow_pickle=False)
    return array


def read_header(stream: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[np.generic], int]:
    """Return shape, dtype and length in bytes of an npy header.

    Raises:
        UserError: another version, a header of more than 10,000 bytes (numpy would read all of it before it looks), or
            entries of no bytes, of which a file of any length may claim any number.
    """
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise UserError(f"npy version {version} is not read, save with numpy.savez")
    prefix = stream.read(2 if version == (1, 0) else 4)
    no_bytes = int.from_bytes(prefix, "little")
    if no_bytes > MOST_HEADER_BYTES:
        raise UserError(f"npy header of {no_bytes:,} bytes, at most {MOST_HEADER_BYTES:,} are read")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(io.BytesIO(prefix + stream.read(no_bytes)))
    if not dtype.itemsize:
        raise UserError(f"an array of {dtype} {list(shape)} has entries of no bytes, save numbers or texts")
    return shape, dtype, np.lib.format.MAGIC_LEN + len(prefix) + no_bytes


def check_images(path: Path, images: NDArray[np.generic]) -> None:
    """Check dtype and shape.

    Raises:
        UserError: with what was found and what is right.
    """
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[3] == 3
    if not (images.dtype == np.uint8 or images.dtype.kind == "f") or not (grey or colour) or 0 in images.shape:
        raise UserError(f"{path}: images are {images.dtype} {list(images.shape)}; {LAYOUT}")


def check_labels(path: Path, labels: NDArray[np.generic], no_images: int) -> None:
    """Check dtype, shape and range.

    Raises:
        UserError: with what was found and what is right.
    """
    if labels.dtype.kind not in "iu" or labels.shape != (no_images,):
        raise UserError(f"{path}: labels are {labels.dtype} {list(labels.shape)} for {no_images} images; {LAYOUT}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MOST_CLASSES:
        raise UserError(f"{path}: labels run from {low} to {high}; give classes counted from 0, below {MOST_CLASSES}")


def to_bytes(path: Path, images: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Return floating images as bytes.

    Raises:
        UserError: they hold NaN, or leave [0, 1].
    """
    low, high = float(images.min()), float(images.max())  # NaN where there is one
    if not (low >= 0 and high <= 1):
        raise UserError(f"{path}: images are {images.dtype} from {low:g} to {high:g}; {LAYOUT}")
    return np.rint(255 * images.astype(np.float32)).astype(np.uint8)


def write_npz(path: Path, images: Tensor, **arrays: Tensor | None) -> None:
    """Write an npz file that `dataset=npz` reads; it appears whole or not at all.

    Args:
        path: The file; its folder must exist, and a file of that name is replaced.
        images: Pixels.
        arrays: Further arrays with one entry for each image, for example labels, index, pose or level; None is left
            out.
    Shape:
        images uint8 [N, C, Y, X] with 1 or 3 channels, written as [N, Y, X] or [N, Y, X, 3]; the others [N, ...].

    Raises:
        UserError: another number of channels, which the layout has no place for; the file cannot be written.
    """
    if images.shape[1] not in (1, 3):
        raise UserError(f"images of {images.shape[1]} channels have no place in an npz: give 1 (grey) or 3 (colour)")
    assert images.dtype == torch.uint8, images.dtype
    given = {name: array for name, array in arrays.items() if array is not None}
    assert all(len(array) == len(images) for array in given.values()), "one entry for each image"
    pixels = images[:, 0] if images.shape[1] == 1 else images.permute(0, 2, 3, 1)
    content: dict[str, Any] = {name: array.cpu().numpy() for name, array in {"images": pixels, **given}.items()}
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".writing-") as scratch:
            np.savez_compressed(Path(scratch, "whole.npz"), **content)
            os.replace(Path(scratch, "whole.npz"), path)
    except OSError as error:
        raise UserError(f"{path} cannot be written ({error.strerror}): give a folder with room for it") from error
