"""Convert the published H5 files of PatchCamelyon to arrays that `dataset=PCam` reads while training.

`python -m partial_equiv.datasets.pcam_convert --root <folder>` reads <folder>/PCam/camelyonpatch_level_2_split_*.h5 and
writes <folder>/PCam/{train,valid,test}_{x,y}.npy, 9 GB in all; the H5 files can be deleted after that.
"""

import argparse
import importlib
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from tqdm import tqdm

from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.pcam import FACTS, PARTS
from partial_equiv.errors import UserError

NO_IMAGES_AT_ONCE = 1024
MOST_IMAGES = FACTS.no_train  # a file of a few bytes may claim any number of images that nobody wrote
MOST_CHUNK = 1 << 28  # bytes that are unpacked at once
SHAPES = {"x": (*FACTS.size, 3), "y": (1, 1, 1)}
REMEDY = "unpack the published camelyonpatch_level_2_split_{train,valid,test}_{x,y}.h5.gz there"


def main(argv: Sequence[str] | None = None) -> int:
    """Convert the six files and return the exit code: 0, or 2 for a mistake of the user.

    Args:
        argv: Command line without the program's name; None reads the process's.
    """
    parser = argparse.ArgumentParser(prog="python -m partial_equiv.datasets.pcam_convert", description=__doc__)
    parser.add_argument("--root", required=True, help="folder that holds PCam/*.h5, the dataset.root of a run")
    options = parser.parse_args(argv)
    try:
        convert(folder_of(options.root) / "PCam")
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def convert(folder: Path) -> None:
    """Write the arrays of every split; a file appears under its name when it is whole, and is never replaced.

    Raises:
        UserError: h5py is not installed; a file is missing, broken or of another shape; the disk is full.
    """
    h5py = import_h5py()
    for part in PARTS:
        counts = set()
        for axis in SHAPES:
            source = folder / f"camelyonpatch_level_2_split_{part}_{axis}.h5"
            try:
                with h5py.File(source, "r") as archive:
                    counts.add(convert_array(archive, axis, source, folder / f"{part}_{axis}.npy"))
            except FileNotFoundError as error:
                raise UserError(f"{source} is missing: {REMEDY}") from error
            except (OSError, RuntimeError, KeyError) as error:  # h5py's words for damage; a full disk is an OSError too
                raise UserError(f"{source} cannot be converted ({' '.join(str(error).split())}): {REMEDY}") from error
        if len(counts) > 1:
            raise UserError(f"{folder} holds {sorted(counts)} images and labels of {part}, not as many: {REMEDY}")


def import_h5py() -> ModuleType:
    """Return h5py, which only this command needs.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module("h5py")
    except ImportError as error:
        raise UserError("converting H5 files needs h5py: pip install 'partial_equiv[pcam]'") from error


def convert_array(archive: Any, axis: str, source: Path, target: Path) -> int:
    """Copy one array a chunk at a time, and return its length.

    Args:
        archive: An open H5 file.
        axis: "x", the images, or "y", the labels.
        source: Its path, for messages.
        target: The .npy file, left alone if it exists.

    Raises:
        UserError: no such array, or of another dtype or shape.
    """
    if axis not in archive:
        raise UserError(f"{source} holds {sorted(archive)[:8]} and no {axis!r}: {REMEDY}")
    stored = archive[axis]
    shape = tuple(getattr(stored, "shape", ()))
    dtype = getattr(stored, "dtype", None)
    if dtype != np.uint8 or shape[1:] != SHAPES[axis] or not 0 < shape[0] <= MOST_IMAGES:
        due = f"uint8 {['N', *SHAPES[axis]]}".replace("'", "")
        found = f"{dtype} {list(shape)} where {due} is due, N up to {MOST_IMAGES:,}"
        raise UserError(f"{source} holds {found}: {REMEDY}")
    chunk = math.prod(getattr(stored, "chunks", None) or ())
    if chunk > MOST_CHUNK:
        raise UserError(f"{source} is stored in chunks of {chunk:,} bytes, at most {MOST_CHUNK:,} are read: {REMEDY}")
    no_images: int = shape[0]
    if target.exists():
        return no_images
    kept = shape if axis == "x" else (no_images,)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".convert-") as scratch:
        partial = Path(scratch, target.name)
        # Written, not mapped: a full disk is then an error that can be told, not a killed process.
        with partial.open("wb") as sink, tqdm(total=no_images, desc=target.name, unit=" images") as progress:
            np.lib.format.write_array_header_1_0(sink, {"descr": "|u1", "fortran_order": False, "shape": kept})
            for start in range(0, no_images, NO_IMAGES_AT_ONCE):
                chunk = np.asarray(stored[start : start + NO_IMAGES_AT_ONCE])
                sink.write(chunk.tobytes())
                progress.update(len(chunk))
        partial.replace(target)
    return no_images


if __name__ == "__main__":
    sys.exit(main())
