"""The loader's share of a training step, and how fast pictures come from disk."""

import itertools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.choices import Choices
from benchmarks.jobs import PUBLISHED, composed, make_job
from benchmarks.results import Cell, Goal, Judged, Table
from benchmarks.spread import spread
from benchmarks.timing import interleaved
from dataset_constructor import construct_dataset, construct_info, construct_loaders
from partial_equiv.datasets import DatasetInfo, ImageSet, Loader, Splits, augment_training

SHARE = Goal("loader's share of a training step, %", 3)
TOLD = Goal("loader's share of a training step with two recorded views, %", 3, named=False)
REDUCED = "+experiment=reduced/rotMNIST_SE2_partial"
CIFAR = ("+experiment=reduced/CIFAR10_GResNet_C1_32", "dataset.no_train=null", "dataset.no_validation=null")
JOBS: dict[str, tuple[str, ...]] = {
    "default job (digits, SE2, partial)": (),
    "rotMNIST, reduced network": (REDUCED,),
    "rotMNIST, reduced network, gc": (REDUCED, "conv.factorization=gc"),
    "rotMNIST, published CKResNet": (PUBLISHED,),
    "rotMNIST, published CKResNet, gc": (PUBLISHED, "conv.factorization=gc"),
    "CIFAR-10, augment=resnet, plain GResNet-18 of width 8": (*CIFAR, "augment=resnet"),
    "CIFAR-10, augment=recorded, EquiMod on the small encoder": (
        "net=SplitEncoder",
        "train=equimod",
        "dataset=CIFAR10",
        "augment=recorded",
    ),
}
NO_FILES, FILE_SIZE, IMAGE_SIZE, FILES_AT_ONCE = 256, (375, 500), 224, 64
"""Pictures as large as ImageNet's are on average."""


def noise(info: DatasetInfo, config: dict[str, Any]) -> Any:
    """Return splits of random bytes with the facts of a data set, augmented as the configuration says."""

    def images(number: int) -> ImageSet:
        pixels = torch.randint(256, (number, info.in_channels, *info.size), dtype=torch.uint8)
        return ImageSet(pixels, torch.randint(info.no_classes, (number,)), mean=info.mean, std=info.std)

    held_out = images(256)
    return augment_training(Splits(images(info.no_train), held_out, held_out, info), config["augment"], config["seed"])


def endless(loader: Loader) -> Iterator[Any]:
    """Yield batches, epoch after epoch."""
    for epoch in itertools.count():
        loader.set_epoch(epoch)
        yield from loader


def opened(loader: Loader, epochs: Iterator[int]) -> None:
    """Begin a further epoch and take its first batch, which pays for what is drawn once."""
    loader.set_epoch(next(epochs))
    next(iter(loader))


def share(label: str, overrides: tuple[str, ...], choices: Choices) -> tuple[Cell, ...]:
    """Return the row of one job: a step, a batch with its part of what an epoch costs, and the share."""
    config = composed(*overrides, f"device={choices.device}")
    info = construct_info(composed(*overrides, "augment=none") if config["augment"] == "recorded" else config)
    device = torch.device(choices.device)
    # One for batches and one for beginnings: a set draws anew when its epoch changes.
    batches, beginnings = (construct_loaders(noise(info, config), config, device).train for _ in range(2))
    job = make_job(*overrides, batch_size=config["train"]["batch_size"], device=choices.device)
    stream, epochs = endless(batches), itertools.count()
    runs: dict[str, Callable[[], object]] = {
        "batch": lambda: next(stream),
        "beginning": lambda: opened(beginnings, epochs),
        "step": job.step,
    }
    of = interleaved(runs, no_rounds=choices.no_rounds, title=f"loading, {label}").of
    loads = [
        batch + max(0.0, beginning - batch) / len(batches)
        for batch, beginning in zip(of["batch"], of["beginning"], strict=True)
    ]
    shares = [100 * load / (load + step) for load, step in zip(loads, of["step"], strict=True)]
    goal = TOLD if config["augment"] == "recorded" else SHARE
    return (label, spread(of["step"]).median, 1e3 * spread(loads).median, Judged(spread(shares), goal))


def write_pictures(folder: Path) -> None:
    """Write JPEG files of smooth noise, one folder for each of two classes."""
    draw = np.random.default_rng(0)
    for number in range(NO_FILES):
        small = draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)
        path = folder / f"class_{number % 2}" / f"{number}.jpg"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(small).resize(FILE_SIZE[::-1], Image.Resampling.BICUBIC).save(path, quality=90)


def from_disk(no_workers: int, folder: Path, choices: Choices) -> tuple[Cell, ...]:
    """Return the row of one number of reading processes, over whole epochs, their start included."""
    keys = ("dataset=folder", f"dataset.root={folder}", f"dataset.size={IMAGE_SIZE}", f"no_workers={no_workers}")
    config = composed(*keys, f"train.batch_size={FILES_AT_ONCE}")
    loader = construct_loaders(construct_dataset(config), config, torch.device(choices.device)).train

    def epoch() -> None:
        for _ in loader:
            pass

    seconds = interleaved({"epoch": epoch}, no_rounds=min(choices.no_rounds, 3), title=f"{no_workers} workers").of[
        "epoch"
    ]
    names = {0: "in the main process", 1: "1 reading process"}
    per_second = spread([len(loader.image_set) / one for one in seconds])
    return (names.get(no_workers, f"{no_workers} reading processes"), per_second)


def tables(choices: Choices) -> list[Table]:
    """Return the table of shares, and that of pictures on disk."""
    shares = tuple(share(label, overrides, choices) for label, overrides in JOBS.items())
    header = ("job", "step without its batch, s", "batch, ms", "loader's share, %")
    note = (
        "Random bytes in the shape of the data set. A batch counts the order and the random numbers of its epoch, "
        "drawn once, by its part. Share: batch over batch and step, the device waited for after each."
    )
    with tempfile.TemporaryDirectory() as folder:
        write_pictures(Path(folder))
        disk = tuple(from_disk(number, Path(folder), choices) for number in (0, 1, 2))
    title = f"JPEG files of {FILE_SIZE[1]}x{FILE_SIZE[0]} pixels on disk, resized to {IMAGE_SIZE}, B {FILES_AT_ONCE}"
    told = (
        "A training waits for its files whenever it takes more images a second than this; processes work ahead of it."
    )
    return [
        Table("Loader's share of a training step", header, shares, (note,)),
        Table(title, ("read", "images a second"), disk, (told,)),
    ]
