"""The manifest of a run folder: size and SHA-256 of every checkpoint, written before the file it speaks of.

A process may be killed between two writes. The manifest therefore names what a file is about to be beside what it was:
whichever of the two lies there is whole, and anything else is damaged.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from partial_equiv.errors import UserError
from partial_equiv.runs.atomic import write_atomically

MANIFEST, VERSION = "manifest.json", 1


class Record(NamedTuple):
    """What a file holds.

    Args:
        no_bytes: Its length.
        sha256: Digest of all of it, hexadecimal.
    """

    no_bytes: int
    sha256: str


def write_recorded(folder: Path, name: str, content: bytes) -> None:
    """Write a file of a run folder whole or not at all, and record it.

    Args:
        folder: The run folder.
        name: Path of the file below it, with slashes.
        content: All of it.

    Raises:
        UserError: the folder cannot be written; nothing half-written is left.
    """
    records = read_manifest(folder)
    kept = [record for record in records.get(name, []) if (folder / name).is_file()]
    write_manifest(folder, records | {name: [Record(len(content), digest(content)), *kept[:1]]})
    write_atomically(folder / name, content)


def check_recorded(folder: Path, name: str) -> None:
    """Check a file against the manifest; one that no manifest speaks of is not judged.

    Raises:
        UserError: it is missing, truncated or damaged.
    """
    records, path = read_manifest(folder).get(name, []), folder / name
    if not records:
        return
    if not path.is_file():
        raise UserError(f"{path} is missing, though {MANIFEST} speaks of it: use another checkpoint")
    size = path.stat().st_size
    if all(record.no_bytes != size for record in records):
        raise UserError(
            f"{path} has {size:,} bytes and {MANIFEST} says {records[0].no_bytes:,}, it is truncated or replaced: "
            "use another checkpoint"
        )
    found = file_digest(path)
    if all(record.sha256 != found for record in records):
        raise UserError(f"{path} is damaged, its SHA-256 is not that of {MANIFEST}: use another checkpoint")


def forget(folder: Path, names: Iterable[str]) -> None:
    """Remove files, then what the manifest says of them: a file without a record is judged by itself."""
    gone = set(names)
    for name in gone:
        (folder / name).unlink(missing_ok=True)
    records = read_manifest(folder)
    if gone & records.keys():
        write_manifest(folder, {name: entry for name, entry in records.items() if name not in gone})


def read_manifest(folder: Path) -> dict[str, list[Record]]:
    """Return what the manifest says of each file, newest first.

    Empty where there is none or where it is damaged itself: every checkpoint carries a digest of its own, so that
    nothing is trusted for want of a manifest. It is made anew with the next file that is written.
    """
    try:
        stored = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        entries = stored["files"] if stored["version"] == VERSION else {}
        return {
            str(name): [Record(int(record["bytes"]), str(record["sha256"])) for record in records]
            for name, records in entries.items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def write_manifest(folder: Path, records: dict[str, list[Record]]) -> None:
    """Write the manifest, whole or not at all."""
    files = {
        name: [{"bytes": record.no_bytes, "sha256": record.sha256} for record in records[name]]
        for name in sorted(records)
    }
    text = json.dumps({"version": VERSION, "files": files}, indent=2) + "\n"
    write_atomically(folder / MANIFEST, text.encode())


def digest(content: bytes) -> str:
    """Return the SHA-256 of bytes."""
    return hashlib.sha256(content).hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file.

    Raises:
        UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
