"""Reading data files of known size and fetching published ones: any mishap is one sentence that says what to do."""

import gzip
import http.client
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from partial_equiv.errors import UserError

# torchvision reports a wrong checksum as RuntimeError; the others are what sockets, archives and disks raise.
FETCH_ERRORS = (OSError, RuntimeError, http.client.HTTPException, tarfile.TarError, zlib.error, EOFError, ValueError)


def folder_of(root: str | Path) -> Path:
    """Return `root` as an absolute path; a relative one counts from the folder of launch."""
    return Path(root).expanduser().absolute()


def read_exactly(path: Path, no_bytes: int, remedy: str) -> NDArray[np.uint8]:
    """Return the bytes of a file that must have a known length; the length is checked before anything is read.

    Raises:
        UserError: missing, unreadable, or of another length; the message ends in `remedy`.
    """
    try:
        found = path.stat().st_size
        if not path.is_file():
            raise UserError(f"{path} is not a file: {remedy}")
        if found != no_bytes:
            kind = "truncated" if found < no_bytes else "not the published file"
            raise UserError(f"{path} is {kind} ({found:,} bytes, {no_bytes:,} expected): delete it, then {remedy}")
        return np.fromfile(path, dtype=np.uint8)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {remedy}") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}): {remedy}") from error


def fetch(urls: Sequence[str], md5: str, unpack: Mapping[str, Path], remedy: str) -> None:
    """Download one archive and put its wanted members in place, each in one step, so that nothing half-written stays.

    Args:
        urls: Mirrors, tried in turn.
        md5: Of the archive; another one is refused.
        unpack: Member of the tar -> where it belongs; for a plain .gz, or a file that is no archive, the one entry is
            the file itself.
        remedy: End of the message when no mirror works.

    Raises:
        UserError: no network, a wrong checksum, a broken archive or a folder that cannot be written.
    """
    reasons = []
    for url in urls:
        try:
            fetch_one(url, md5, unpack)
        except FETCH_ERRORS as error:
            reasons.append(f"{url}: {' '.join(str(error).split()) or type(error).__name__}")
        else:
            return
    raise UserError(f"the download failed ({'; '.join(reasons)}): {remedy}")


def fetch_one(url: str, md5: str, unpack: Mapping[str, Path]) -> None:
    """Download from one mirror into a scratch folder, check, unpack, move.

    torchvision is slow to import and only downloads need it, hence the late import.
    """
    from torchvision.datasets.utils import download_url

    folder = Path(os.path.commonpath([target.parent for target in unpack.values()]))
    # The scratch folder is in the nearest folder that exists: a failed download must not leave an empty one.
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    with tempfile.TemporaryDirectory(dir=existing, prefix=".download-") as scratch:
        archive = Path(scratch, url.rsplit("/", 1)[-1])
        download_url(url, scratch, archive.name, md5)
        unpacked = {member: Path(scratch, f"unpacked-{number}") for number, member in enumerate(unpack)}
        extract(archive, unpacked)
        for member, target in unpack.items():
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(unpacked[member], target)


def extract(archive: Path, unpacked: Mapping[str, Path]) -> None:
    """Write what is wanted of a downloaded file."""
    if archive.name.endswith((".tar.gz", ".tgz")):
        extract_tar(archive, unpacked)
    elif archive.name.endswith(".gz"):
        extract_gzip(archive, unpacked)
    else:
        (target,) = unpacked.values()
        os.replace(archive, target)


def extract_tar(archive: Path, unpacked: Mapping[str, Path]) -> None:
    """Write the wanted members of a .tar.gz in one pass; names in the archive choose no path."""
    wanted = dict(unpacked)
    with tarfile.open(archive) as tar:
        for member in tar:
            source = tar.extractfile(member) if os.path.normpath(member.name) in wanted else None
            if source is not None:
                with source, wanted.pop(os.path.normpath(member.name)).open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    if wanted:
        raise tarfile.ReadError(f"the archive lacks {', '.join(wanted)}")


def extract_gzip(archive: Path, unpacked: Mapping[str, Path]) -> None:
    """Write the content of a .gz, one file."""
    (target,) = unpacked.values()
    with gzip.open(archive) as source, target.open("wb") as sink:
        shutil.copyfileobj(source, sink)
