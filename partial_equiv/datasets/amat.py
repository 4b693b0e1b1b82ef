"""The text files of the variations of MNIST: 12,000 images for training and validation, 50,000 for test."""

from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.datasets.files import folder_of
from partial_equiv.errors import UserError

NO_TRAIN, NO_TEST = 12_000, 50_000
LONGEST_NUMBER = 32  # bytes of a printed float with its blanks
LINES_AT_ONCE = 2_000


def find_amat(root: str, folders: tuple[str, ...], name: str) -> Path | None:
    """Return the first of some folders below `root` that holds a file, None if none does."""
    return next((folder_of(root) / folder for folder in folders if (folder_of(root) / folder / name).exists()), None)


def read_amat(path: Path, no_lines: int, archive: str = "mnist_rotation_new.zip") -> tuple[Tensor, Tensor]:
    """Return an official text file: in each line 784 pixels in [0, 1] and the class.

    Args:
        path: The file.
        no_lines: As published.
        archive: In which the file was published.
    Shape:
        -> images uint8 [no_lines, 1, 28, 28] (256 times the number, rounded), labels int64 [no_lines].

    Raises:
        UserError: missing, truncated, or of another layout.
    Source: Larochelle et al. 2007.
    """
    remedy = f"unpack {archive} into {path.parent}, or move its .amat files away to draw from MNIST"
    table = np.empty((no_lines, 785), dtype=np.uint8)
    try:
        if path.stat().st_size > no_lines * 785 * LONGEST_NUMBER:
            raise ValueError(f"too large for {no_lines:,} images")
        if not path.is_file():
            raise ValueError("a folder, a device or a pipe")
        with path.open(encoding="ascii") as lines:
            for start in range(0, no_lines, LINES_AT_ONCE):
                due = table[start : start + LINES_AT_ONCE]
                rows = [line for line in islice(lines, len(due)) if line.strip()]
                if len(rows) < len(due):
                    raise ValueError(f"{start + len(rows):,} images where {no_lines:,} are due")
                due[:] = to_bytes(np.loadtxt(rows, dtype=np.float32, ndmin=2))
            if any(line.strip() for line in lines):
                raise ValueError(f"more than {no_lines:,} lines")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {remedy}") from error
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is truncated or not the published file ({error}): {remedy}") from error
    images = torch.from_numpy(table[:, :784].copy()).reshape(-1, 1, 28, 28)
    return images, torch.from_numpy(table[:, 784].astype(np.int64))


def to_bytes(rows: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return pixels and class of each line as bytes.

    Raises:
        ValueError: another number of columns, pixels outside [0, 1] or classes outside 0..9.
    """
    if rows.shape[1] != 785:
        raise ValueError(f"{rows.shape[1]} numbers in a line where 785 are due")
    pixels, labels = rows[:, :784], rows[:, 784:]
    if not (((pixels >= 0) & (pixels <= 1)).all() and np.isin(labels, np.arange(10)).all()):
        raise ValueError("numbers outside pixels in [0, 1] and classes 0 to 9")
    return np.concatenate([np.minimum(np.rint(256 * pixels), 255), labels], axis=1).astype(np.uint8)
