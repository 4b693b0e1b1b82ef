"""Files that are there whole or not at all."""

import os
from pathlib import Path

from partial_equiv.errors import UserError

ENDING = ".tmp"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash at any moment, sees the old content or the new, never a mixture.

    A temporary file beside it is written and flushed to disk, then renamed over `path`, and the folder is flushed.

    Raises:
        UserError: the folder is missing, read-only or full; nothing half-written is left.
    """
    # One fixed name per file: what a killed process leaves behind is overwritten by the next save, it does not pile up.
    temporary = path.with_name(f".{path.name}{ENDING}")
    try:
        if os.path.lexists(temporary):  # by a killed process, or by a stranger who hopes to be written through
            temporary.unlink()
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _flush_folder(path.parent)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space there or choose a writable hydra.run.dir"
        ) from error
    finally:
        _remove(temporary)


def make_folder(path: Path) -> None:
    """Make a folder, with its parents, if it is not there.

    Raises:
        UserError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; free space there or choose a writable hydra.run.dir"
        ) from error


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder and below it; nobody else may write there."""
    for path in folder.rglob(f".*{ENDING}"):
        _remove(path)


def _remove(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError:  # the folder itself is unreachable: the error that is already on its way says so
        return


def _flush_folder(folder: Path) -> None:
    """Flush the rename itself, where the system lets folders be opened (not on Windows)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
