"""CIFAR-10 and CIFAR-100 from the binary version of their files: the Python version is a pickle and is never loaded."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from partial_equiv.datasets.files import fetch, folder_of, read_exactly
from partial_equiv.datasets.image_set import Splits
from partial_equiv.datasets.info import DatasetInfo, plan, resized_note, sized, with_notes
from partial_equiv.datasets.npz_file import read_npz
from partial_equiv.datasets.resizing import resize_images
from partial_equiv.datasets.split import Labelled, assemble, cut
from partial_equiv.errors import UserError

NO_PIXELS = 3 * 32 * 32
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
CIFAR10_FACTS = DatasetInfo(
    name="CIFAR10",
    in_channels=3,
    no_classes=10,
    size=(32, 32),
    mean=(0.485, 0.456, 0.406),  # ImageNet's, as published
    std=(0.229, 0.224, 0.225),
    class_names=CIFAR10_CLASSES,
    no_train=50_000,
    no_validation=0,
    no_test=10_000,
    crop_padding=4,
)
CIFAR100_FACTS = dataclasses.replace(
    CIFAR10_FACTS,
    name="CIFAR100",
    no_classes=100,
    mean=(0.49137, 0.48235, 0.44667),
    std=(0.24706, 0.24353, 0.26157),
    class_names=tuple(str(label) for label in range(100)),
)


class Source(NamedTuple):
    """Where a published archive is, and what is in it."""

    url: str
    md5: str
    folder: str
    train_files: tuple[str, ...]
    test_file: str
    no_label_bytes: int


CIFAR10_SOURCE = Source(
    url="https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
    md5="c32a1d4ab5d03f1284b67883e8d87530",
    folder="cifar-10-batches-bin",
    train_files=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    test_file="test_batch.bin",
    no_label_bytes=1,
)
CIFAR100_SOURCE = Source(
    url="https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",
    md5="03b5dce01913d631647c71ecec9e9cb8",
    folder="cifar-100-binary",
    train_files=("train.bin",),
    test_file="test.bin",
    no_label_bytes=2,  # coarse, fine: the fine one counts
)


def load_cifar10(
    *,
    root: str,
    download: bool,
    size: int | None,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return CIFAR-10: 50,000 images cut into training and validation, 10,000 for test.

    A root without the binary version may hold npz files `cifar10_train_*.npz` and `cifar10_test_*.npz` instead, also in
    a folder `npz`; if they are a part of the set, `info.note` says which.

    Args:
        root: Folder that holds cifar-10-batches-bin, or npz files.
        download: Fetch the binary version if it is missing.
        size: Side in pixels, 8 to 256, that images are resized to once, before any crop; None is the published 32.
        no_train: Training images; None is all that validation leaves.
        no_validation: Images held out of the training files.
        no_test: Test images; None is all.
        seed: Of the split.

    Raises:
        UserError: a value out of range; a file is missing, truncated or not CIFAR's.
    Source: Krizhevsky 2009.
    """
    folder = folder_of(root)
    facts, read = CIFAR10_FACTS, None
    if not (folder / CIFAR10_SOURCE.folder).exists() and not download:
        read = next((found for place in (folder, folder / "npz") if (found := read_parts(place))), None)
    if read is not None:
        no_pool, no_tested = len(read[0].labels), len(read[1].labels)
        note = f"npz files: {no_pool:,} of 50,000 training and {no_tested:,} of 10,000 test images"
        note = note if (no_pool, no_tested) != (50_000, 10_000) else ""
        facts = dataclasses.replace(facts, no_train=no_pool, no_test=no_tested, note=note)
    planned = plan(sized(facts, size), no_train=no_train, no_validation=no_validation, no_test=no_test)
    return split(facts, planned, read or read_binary(folder, CIFAR10_SOURCE, facts, download), seed)


def load_cifar100(
    *,
    root: str,
    download: bool,
    size: int | None,
    no_train: int | None,
    no_validation: int | None,
    no_test: int | None,
    seed: int,
) -> Splits:
    """Return CIFAR-100: 50,000 images cut into training and validation, 10,000 for test, 100 fine classes.

    Arguments, errors and source are those of `load_cifar10`; root holds cifar-100-binary.
    """
    planned = plan(sized(CIFAR100_FACTS, size), no_train=no_train, no_validation=no_validation, no_test=no_test)
    return split(CIFAR100_FACTS, planned, read_binary(folder_of(root), CIFAR100_SOURCE, CIFAR100_FACTS, download), seed)


def split(facts: DatasetInfo, planned: DatasetInfo, read: tuple[Labelled, Labelled], seed: int) -> Splits:
    """Cut training and test images into splits, of the planned size."""
    positions = cut(facts, planned, seed)
    choices = zip((read[0], read[0], read[1]), positions, strict=True)
    return assemble(
        with_notes(planned, resized_note(facts, planned.size[0])),
        *(Labelled(resize_images(part.images[index], planned.size), part.labels[index]) for part, index in choices),
    )


def read_parts(folder: Path) -> tuple[Labelled, Labelled] | None:
    """Return training and test images of npz files in `folder`, None if there are none.

    Raises:
        UserError: a file is broken or does not hold CIFAR-10 images.
    """
    parts = []
    for kind in ("train", "test"):
        paths = sorted(folder.glob(f"cifar10_{kind}_*.npz"))
        if not paths:
            return None
        arrays = [read_npz(path) for path in paths]
        for path, (images, labels) in zip(paths, arrays, strict=True):
            if images.shape[1:] != (3, 32, 32) or labels.max() > 9:
                found = f"{list(images.shape)} with labels up to {int(labels.max())}"
                raise UserError(
                    f"{path} does not hold CIFAR-10 images ({found}): give uint8 [N,32,32,3] and labels 0 to 9"
                )
        images, labels = (torch.cat(tensors) for tensors in zip(*arrays, strict=True))
        parts.append(Labelled(images, labels))
    return parts[0], parts[1]


def read_binary(root: Path, source: Source, facts: DatasetInfo, download: bool) -> tuple[Labelled, Labelled]:
    """Return training and test images of the published binary files.

    Raises:
        UserError: a file is missing, truncated or not CIFAR's, or the download failed.
    """
    folder = root / source.folder
    archive = source.url.rsplit("/", 1)[-1]
    place = f"unpack {archive} (the binary version, no pickle) into {root}"
    remedy = f"{place}, or add dataset.download=true"
    names = [*source.train_files, source.test_file]
    if download and not all((folder / name).exists() for name in names):
        fetch([source.url], source.md5, {f"{source.folder}/{name}": folder / name for name in names}, place)
    no_images = facts.no_train // len(source.train_files)
    pools = [read_records(folder / name, no_images, source, facts, remedy) for name in source.train_files]
    images, labels = (torch.cat(tensors) for tensors in zip(*pools, strict=True))
    return Labelled(images, labels), Labelled(
        *read_records(folder / source.test_file, facts.no_test, source, facts, remedy)
    )


def read_records(path: Path, no_images: int, source: Source, facts: DatasetInfo, remedy: str) -> tuple[Tensor, Tensor]:
    """Return images [N, 3, 32, 32] and labels [N] of one file of label and pixel bytes."""
    content = read_exactly(path, no_images * (source.no_label_bytes + NO_PIXELS), remedy)
    records = torch.from_numpy(content).reshape(no_images, -1)
    labels = records[:, source.no_label_bytes - 1].long()
    if labels.max() >= facts.no_classes:
        found = f"label {int(labels.max())}, {facts.name} ends at {facts.no_classes - 1}"
        raise UserError(f"{path} holds {found}: delete it, then {remedy}")
    return records[:, source.no_label_bytes :].reshape(-1, 3, 32, 32), labels
