"""Write WebDataset shards for `dataset=ImageNet`, from class folders or from TFRecord files.

`python -m partial_equiv.datasets.shards --folder <folder> --out <root>/imagenet/shards` reads
<folder>/{train,val}/<class>/<image>; `--tfrecord <folder>` in its place reads TFRecord files in <folder>, or in its
folders {train,val} or {train,val}/data. Pictures are copied as they are.
"""

import argparse
import io
import itertools
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from tqdm import tqdm

from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.files import folder_of
from partial_equiv.datasets.imagenet import CLASSES, PARTS, REMEDY, record_files
from partial_equiv.datasets.pictures import list_part
from partial_equiv.datasets.shard_files import MOST_BYTES, MOST_CLASSES
from partial_equiv.datasets.tfrecord import read_examples
from partial_equiv.errors import UserError

ORDER_SEED = 0


class Sample(NamedTuple):
    """One picture for a shard."""

    key: str
    ending: str
    content: bytes
    label: int


def main(argv: Sequence[str] | None = None) -> int:
    """Write the shards of both splits and return the exit code: 0, or 2 for a mistake of the user.

    Args:
        argv: Command line without the program's name; None reads the process's.
    """
    parser = argparse.ArgumentParser(prog="python -m partial_equiv.datasets.shards", description=__doc__)
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", help="folder with {train,val}/<class>/<image>")
    source.add_argument("--tfrecord", help="folder with the TFRecord files of training and validation")
    parser.add_argument(
        "--out", required=True, help="folder to write, new or empty, for example <root>/imagenet/shards"
    )
    parser.add_argument("--images-per-shard", type=int, default=10_000, help="default: %(default)s")
    parser.add_argument("--first-label", type=int, default=1, help="least class of the records (default: %(default)s)")
    options = parser.parse_args(argv)
    try:
        if options.folder is not None:
            write_folder(folder_of(options.folder), folder_of(options.out), options.images_per_shard)
        else:
            write_tfrecord(
                folder_of(options.tfrecord), folder_of(options.out), options.images_per_shard, options.first_label
            )
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def write_folder(folder: Path, out: Path, no_images_shard: int) -> None:
    """Write the pictures of class folders.

    Keys count the files in the order of their names, so a reader that sorts by key has the order of the folder; the
    shards hold them in a seeded random order, so that each has pictures of all classes.

    Raises:
        UserError: a folder is missing, empty or unfit, a file cannot be read, or the shards cannot be written.
    """
    train = list_part(folder / PARTS[0], REMEDY)
    parts = {PARTS[0]: train, PARTS[1]: list_part(folder / PARTS[1], REMEDY, train.classes)}

    def samples(name: str) -> Iterator[Sample]:
        part = parts[name]
        for position in torch.randperm(len(part.names), generator=generator(ORDER_SEED)).tolist():
            path = folder / name / str(part.names[position])
            try:
                content = path.read_bytes() if path.stat().st_size <= MOST_BYTES else b""
            except OSError as error:
                raise UserError(f"{path} cannot be read ({error.strerror}): mend or delete it") from error
            if not content:
                raise UserError(f"{path} is empty or has more than {MOST_BYTES:,} bytes: delete it or save it smaller")
            yield Sample(f"{position:08d}", path.suffix.lower(), content, int(part.labels[position]))

    totals = {name: len(part.names) for name, part in parts.items()}
    write_all(out, {name: samples(name) for name in parts}, no_images_shard, totals, train.classes)


def write_tfrecord(folder: Path, out: Path, no_images_shard: int, first_label: int) -> None:
    """Write the pictures of TFRecord files, in their order.

    Raises:
        UserError: files are missing or broken, a class is out of range, or the shards cannot be written.
    """

    def samples(files: Sequence[Path]) -> Iterator[Sample]:
        position = 0
        for path in files:
            for picture, label in read_examples(path):
                if not 0 <= label - first_label < MOST_CLASSES:
                    raise UserError(f"{path} holds the class {label}, which --first-label {first_label} does not allow")
                yield Sample(f"{position:08d}", ".jpg", picture, label - first_label)
                position += 1

    files = {part: record_files(folder, part) for part in PARTS}
    for part, found in files.items():
        if not found:
            raise UserError(f"{folder} holds no TFRecord files of {part}: give the folder of train-00000-of-01024")
    write_all(out, {part: samples(found) for part, found in files.items()}, no_images_shard, {}, ())


def write_all(
    out: Path,
    parts: dict[str, Iterator[Sample]],
    no_images_shard: int,
    totals: dict[str, int],
    classes: Sequence[str],
) -> None:
    """Write all shards beside `out` and put them in place in one step.

    Raises:
        UserError: `out` is not empty or cannot be written, or a number is out of range.
    """
    if no_images_shard < 1:
        raise UserError(f"--images-per-shard {no_images_shard} is out of range: give 1 or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is there already and not empty: give a new folder as --out")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".shards-") as scratch:
            made = Path(scratch, out.name)
            made.mkdir()
            for name, samples in parts.items():
                write_shards(
                    made, name, tqdm(samples, desc=name, unit=" images", total=totals.get(name)), no_images_shard
                )
            if classes:
                (made / CLASSES).write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")
            made.replace(out)
    except OSError as error:
        raise UserError(f"{out} cannot be written ({error.strerror}): choose another --out") from error


def write_shards(folder: Path, part: str, samples: Iterable[Sample], no_images_shard: int) -> None:
    """Write samples as <folder>/<part>-000000.tar and so on."""
    left = iter(samples)
    numbers = itertools.count()
    while (first := next(left, None)) is not None:
        path = folder / f"{part}-{next(numbers):06d}.tar"
        with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as shard:
            for sample in itertools.chain([first], itertools.islice(left, no_images_shard - 1)):
                for ending, content in ((sample.ending, sample.content), (".cls", str(sample.label).encode())):
                    member = tarfile.TarInfo(f"{sample.key}{ending}")
                    member.size = len(content)
                    shard.addfile(member, io.BytesIO(content))


if __name__ == "__main__":
    sys.exit(main())
