"""Pictures in WebDataset shards: plain tar files that are read in place, in any order, and never unpacked.

A sample is the pair <key>.jpg (or another ending of a picture) and <key>.cls, its class as digits.
"""

import io
import os
import re
import tarfile
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from partial_equiv.datasets.npz_file import BROKEN, BROKEN_HEADER, read_member
from partial_equiv.datasets.pictures import ENDINGS, decode
from partial_equiv.errors import UserError

MOST_BYTES = 1 << 26  # of one picture
MOST_CLASSES = 65_536
BROKEN_TAR = (tarfile.TarError, OSError, EOFError, ValueError, OverflowError, MemoryError, RecursionError)
"""What headers that claim absurd sizes, or chains of long names, do to `tarfile`."""
CLASS = re.compile(rb"\s*([0-9]{1,5})\s*")
REMEDY = "write the shards again with python -m partial_equiv.datasets.shards"


class Bounded(io.BufferedReader):
    """A file of which no more is asked for than there is: `tarfile` would ask for what a header claims."""

    def __init__(self, path: Path) -> None:
        """Open the file."""
        super().__init__(io.FileIO(path))
        self.no_bytes = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1) -> bytes:
        """Return up to `size` bytes."""
        left = max(self.no_bytes - self.tell(), 0)
        return super().read(left if size is None or size < 0 else min(size, left))


class Index(NamedTuple):
    """Where each picture lies, in the order of keys.

    Shape:
        all int64 [N]: number of the shard, first byte and length of the picture in it, class.
    """

    shard: NDArray[np.int64]
    offset: NDArray[np.int64]
    size: NDArray[np.int64]
    label: NDArray[np.int64]


class ShardPictures:
    """A store of pictures in shards.

    Args:
        shards: The tar files.
        index: Where each picture lies.
    """

    def __init__(self, shards: Sequence[Path], index: Index) -> None:
        """Keep the index; no file is opened."""
        self.shards = shards
        self.index = index

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.index.shard)

    def picture(self, position: int) -> Tensor:
        """Return one picture, uint8 [3, Y, X]."""
        path, offset, size = (
            self.shards[self.index.shard[position]],
            self.index.offset[position],
            self.index.size[position],
        )
        name = f"the picture at byte {offset:,} of {path}"
        try:
            with path.open("rb") as shard:
                shard.seek(int(offset))
                content = shard.read(int(size))
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error.strerror}): {REMEDY}") from error
        return decode(io.BytesIO(content), name, remedy=REMEDY)

    def chosen(self, index: Tensor) -> "ShardPictures":
        """Return the pictures at `index`."""
        return ShardPictures(self.shards, Index(*(array[index.numpy()] for array in self.index)))


def open_shards(folder: Path, part: str) -> tuple[ShardPictures, Tensor]:
    """Return the pictures of <folder>/<part>-*.tar and their classes.

    The index is kept beside the shards, as <part>.index.npz, and made again when a shard has changed.

    Raises:
        UserError: no shard, or one that is no plain tar of samples.
    """
    shards = sorted(path for path in folder.glob(f"{part}-*.tar") if path.is_file())
    if not shards:
        raise UserError(f"{folder} holds no {part}-*.tar: {REMEDY}")
    stamps = np.array([(s.st_size, s.st_mtime_ns) for s in (path.stat() for path in shards)])
    path = folder / f"{part}.index.npz"
    index = read_index(path, stamps)
    if index is None:
        index = make_index(shards)
        write_index(path, index, stamps)
    return ShardPictures(shards, index), torch.from_numpy(index.label)


def make_index(shards: Sequence[Path]) -> Index:
    """Return where each picture of the shards lies, found by the headers of the tar files alone.

    Raises:
        UserError: a file is no plain tar, or a sample is not one picture with one class.
    """
    rows: list[tuple[str, int, int, int, int]] = []
    for number, path in enumerate(shards):
        try:
            rows += [(key, number, *place) for key, place in read_samples(path).items()]
        except BROKEN_TAR as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UserError(f"{path} is truncated or no plain tar of samples ({reason}): {REMEDY}") from error
    rows.sort()
    if not rows:
        raise UserError(f"{shards[0].parent} holds shards without a picture: {REMEDY}")
    columns = list(zip(*rows, strict=True))[1:]
    return Index(*(np.array(column, dtype=np.int64) for column in columns))


def read_samples(path: Path) -> dict[str, tuple[int, int, int]]:
    """Return key -> (first byte of the picture, its length, class) of one shard.

    Raises:
        ValueError: a member is too large or no plain file, or a sample is not one picture with one class.
    """
    pictures: dict[str, tuple[int, int]] = {}
    labels: dict[str, int] = {}
    with Bounded(path) as stream, tarfile.open(fileobj=stream, mode="r:") as tar:
        for member in tar:
            if member.size < 0:  # the next header would be an earlier one, for ever (CVE-2025-8194)
                raise ValueError(f"{member.name!r} has {member.size:,} bytes")
            head, _, ending = member.name.rpartition("/")[2].partition(".")
            key = f"{member.name.rpartition('/')[0]}/{head}"
            kind = f".{ending.lower()}"
            if not member.isreg() or member.issparse():
                if not member.isdir():
                    raise ValueError(f"{member.name!r} is a link or no plain file")
            elif kind in ENDINGS:
                if key in pictures or not 0 < member.size <= MOST_BYTES:
                    raise ValueError(f"{member.name!r} has {member.size:,} bytes, or its key has two pictures")
                pictures[key] = (member.offset_data, member.size)
            elif kind == ".cls":
                labels[key] = read_class(tar, member)
    if pictures.keys() != labels.keys():
        lonely = sorted(pictures.keys() ^ labels.keys())[0]
        raise ValueError(f"{lonely!r} has not both a picture and a .cls")
    return {key: (*place, labels[key]) for key, place in pictures.items()}


def read_class(tar: tarfile.TarFile, member: tarfile.TarInfo) -> int:
    """Return the class that a member spells.

    Raises:
        ValueError: something else than a few digits.
    """
    stream = tar.extractfile(member) if member.size <= 16 else None
    found = CLASS.fullmatch(stream.read()) if stream is not None else None
    if found is None or int(found[1]) >= MOST_CLASSES:
        raise ValueError(f"{member.name!r} holds no class from 0 to {MOST_CLASSES - 1}")
    return int(found[1])


def read_index(path: Path, stamps: NDArray[np.int64]) -> Index | None:
    """Return the kept index if it is whole and of these very shards, else None."""
    try:
        with zipfile.ZipFile(path) as archive:
            no_bytes = path.stat().st_size
            kept, *arrays = (read_member(archive, name, no_bytes) for name in ("stamps", *Index._fields))
    except (UserError, *BROKEN, *BROKEN_HEADER):
        return None
    if not np.array_equal(kept, stamps) or len({array.shape for array in arrays}) != 1:
        return None
    index = Index(*(array.astype(np.int64) for array in arrays))
    limits = (len(stamps), int(stamps[:, 0].max()), MOST_BYTES + 1, MOST_CLASSES)
    inside = all(((array >= 0) & (array < limit)).all() for array, limit in zip(index, limits, strict=True))
    return index if inside and index.shard.ndim == 1 and len(index.shard) else None


def write_index(path: Path, index: Index, stamps: NDArray[np.int64]) -> None:
    """Keep the index in one step; in a folder that cannot be written to it is made again each time."""
    try:
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".index-") as scratch:
            np.savez(Path(scratch, path.name), stamps=stamps, **index._asdict())
            os.replace(Path(scratch, path.name), path)
    except OSError:
        return
