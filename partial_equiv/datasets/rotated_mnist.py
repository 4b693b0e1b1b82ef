"""Rotated MNIST: the official files where present, else a seeded rotation of MNIST that says so."""

import dataclasses
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import plan, turned_note, with_notes
from partial_equiv.datasets.mnist import FACTS as MNIST_FACTS
from partial_equiv.datasets.mnist import read_mnist
from partial_equiv.datasets.rotation import turn_randomly
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

STAND_IN = "seeded rotation of MNIST, not the official files"
FACTS = dataclasses.replace(MNIST_FACTS, name="rotMNIST", mean=(0.13,), std=(0.297,), no_train=12_000, no_test=50_000)
TRAIN_FILE = "mnist_all_rotation_normalized_float_train_valid.amat"
TEST_FILE = "mnist_all_rotation_normalized_float_test.amat"
FOLDERS = (".", "rotMNIST", "mnist_rotation_new")
LONGEST_NUMBER = 32  # bytes of a printed float with its blanks
LINES_AT_ONCE = 2_000


def load_rotated_mnist(
    *,
    root: str,
    download: bool,
    rot_interval: float,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return rotated MNIST: 12,000 images for training and validation, 50,000 for test, all different digits.

    Without the official files, 62,000 of MNIST's 70,000 images are drawn without repetition and turned once each by an
    angle uniform in +-rot_interval; `info.note` says so: such scores do not compare with published ones to a tenth.

    Args:
        root: Folder that holds the official .amat files, or MNIST/raw.
        download: Fetch MNIST if it is missing (the official files have no download with a checksum).
        rot_interval: Degrees, 0 to 180; 180 (published) uses the official files where they are.
        no_train: Training images; None is all that validation leaves.
        no_validation: Images held out of the 12,000.
        no_test: Test images; None is all 50,000.
        seed: Of drawing, split and angles.

    Raises:
        UserError: a value out of range; a file is missing, truncated or not the published one.
    Source: Larochelle et al. 2007.
    """
    planned = plan(FACTS, no_train=no_train, no_validation=no_validation, no_test=no_test)
    positions = cut(FACTS, planned, seed)
    official = next((f for f in (folder_of(root) / name for name in FOLDERS) if (f / TRAIN_FILE).exists()), None)
    if official is not None and rot_interval == 180:
        pool, tested = read_amat(official / TRAIN_FILE, FACTS.no_train), read_amat(official / TEST_FILE, FACTS.no_test)
        choices = ((pool, positions.train), (pool, positions.validation), (tested, positions.test))
        return assemble(planned, *(Labelled(images[index], labels[index]) for (images, labels), index in choices))

    images, labels = all_of_mnist(root, download)
    order = torch.randperm(len(labels), generator=generator(seed))
    pool_index, test_index = order[: FACTS.no_train], order[FACTS.no_train :][: FACTS.no_test]

    def turned(index: Tensor) -> Labelled:
        return Labelled(turn_randomly(images[index], index, rot_interval=rot_interval, seed=seed), labels[index])

    return assemble(
        with_notes(planned, STAND_IN, turned_note(rot_interval)),
        turned(pool_index[positions.train]),
        turned(pool_index[positions.validation]),
        turned(test_index[positions.test]),
    )


def all_of_mnist(root: str, download: bool) -> tuple[Tensor, Tensor]:
    """Return the 70,000 images of MNIST with their classes."""
    mnist = read_mnist(root, download=download)
    return torch.cat([mnist.train_images, mnist.test_images]), torch.cat([mnist.train_labels, mnist.test_labels])


def read_amat(path: Path, no_lines: int) -> tuple[Tensor, Tensor]:
    """Return an official text file: in each line 784 pixels in [0, 1] and the class.

    Shape:
        -> images uint8 [no_lines, 1, 28, 28] (256 times the number, rounded), labels int64 [no_lines].

    Raises:
        UserError: missing, truncated, or of another layout.
    """
    remedy = (
        f"unpack mnist_rotation_new.zip into {path.parent}, or move {TRAIN_FILE} away to use a seeded rotation of MNIST"
    )
    table = np.empty((no_lines, 785), dtype=np.uint8)
    try:
        if path.stat().st_size > no_lines * 785 * LONGEST_NUMBER:
            raise ValueError(f"too large for {no_lines:,} images")
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
