"""Reading images and labels from an npz file that may be anyone's: no pickle, and no header is believed."""

import io
import math
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.errors import UserError

MOST_BYTES = 16 * 2**30  # of one array in memory
DEFLATE_RATIO = 1032  # no honest deflate stream expands more
MOST_CLASSES = 65_536
LAYOUT = "an npz needs `images` (uint8 [N,H,W] or [N,H,W,3]) and `labels` (integers [N])"
BROKEN = (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, KeyError, NotImplementedError, RuntimeError)
BROKEN_HEADER = (SyntaxError, tokenize.TokenError, MemoryError, OverflowError, TypeError)


def read_npz(path: Path) -> tuple[Tensor, Tensor]:
    """Return images and labels of an npz file.

    The size that each array's header claims is compared with what the file can hold before memory is asked for.

    Args:
        path: The file.
    Shape:
        -> images uint8 [N, C, Y, X], labels int64 [N].

    Raises:
        UserError: missing, truncated, pickled, or of another layout.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            images, labels = (read_member(archive, name, path.stat().st_size) for name in ("images", "labels"))
    except UserError as error:
        raise UserError(f"{path}: {error}; {LAYOUT}") from error
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: give dataset.root=<file.npz>; {LAYOUT}") from error
    except IsADirectoryError as error:
        raise UserError(
            f"{path} is a folder: give dataset.root=<file.npz> or a list [a.npz,b.npz]; {LAYOUT}"
        ) from error
    except BROKEN + BROKEN_HEADER as error:
        raise UserError(
            f"{path} is truncated or no npz file ({' '.join(str(error).split())}): save it again; {LAYOUT}"
        ) from error
    check_arrays(path, images, labels)
    pixels = torch.from_numpy(np.ascontiguousarray(images))
    pixels = pixels[:, None] if pixels.dim() == 3 else pixels.permute(0, 3, 1, 2).contiguous()
    return pixels, torch.from_numpy(labels.astype(np.int64))


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
    """Return shape, dtype and length in bytes of an npy header."""
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise UserError(f"npy version {version} is not read, save with numpy.savez")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    return shape, dtype, stream.tell()


def check_arrays(path: Path, images: NDArray[np.generic], labels: NDArray[np.generic]) -> None:
    """Check dtype, shape and range.

    Raises:
        UserError: with what was found and what is right.
    """
    grey, colour = images.ndim == 3, images.ndim == 4 and images.shape[3] == 3
    if images.dtype != np.uint8 or not (grey or colour) or 0 in images.shape:
        raise UserError(f"{path}: images are {images.dtype} {list(images.shape)}; {LAYOUT}")
    if labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]:
        raise UserError(f"{path}: labels are {labels.dtype} {list(labels.shape)} for {len(images)} images; {LAYOUT}")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= MOST_CLASSES:
        raise UserError(f"{path}: labels run from {low} to {high}; give classes counted from 0, below {MOST_CLASSES}")
