"""Small trainings of every kind, and what two runs are compared by."""

import json
from pathlib import Path

import torch
from PIL import Image

from checkpointer import read_last
from partial_equiv.runs import load_state, read_log

COMMON = ["hydra.run.dir=run", "device=cpu", "train.checkpoint_every=2", "test.probes=[]"]
CLASSIFICATION = [
    *COMMON,
    "net.no_hidden=2",
    "net.no_blocks=1",
    "net.dropout=0.2",
    "kernel.no_hidden=4",
    "kernel.size=3",
    "base_group.no_samples=4",
    "train.batch_size=16",
    "train.epochs=3",
]
DIGITS = [
    "dataset.size=12",
    "dataset.copies=1",
    "dataset.no_train=80",
    "dataset.no_validation=20",
    "dataset.no_test=20",
]
SYMMETRY = [
    *COMMON,
    *("net=SymmetryNet", "conv=full", "base_group=SE2", "base_group.no_samples=16"),
    *("base_group.sampling_method=deterministic", "base_group.sample_per_layer=False", "train=symmetry"),
    *("net.widths=[2,2,4]", "net.no_latent=8", "net.resolution=13", "net.decoder_width=2", "net.head_width=8"),
    *("kernel.no_hidden=8", "kernel.size=3", "dataset=digits", "dataset.size=16", "dataset.copies=1"),
    *("dataset.no_train=80", "dataset.no_validation=40", "dataset.no_test=20", "train.batch_size=20"),
    *("train.no_neighbours=9", "train.epochs=2", "train.stages.levels.epochs=2", "dataset.rot_interval=0"),
]
SIE = [
    *COMMON,
    *("train=sie", "dataset=latent_vectors", "net.backbone=mlp", "dataset.no_objects=8", "dataset.no_views=6"),
    *("dataset.no_classes=2", "dataset.pairs_per_object=6", "net.width=16", "net.equi=8", "train.mlp=16-16-16"),
    *("train.batch_size=4", "train.epochs=2", "train.online.every=2"),
]
KINDS = {
    "classification": [*CLASSIFICATION, *DIGITS, "base_group.sampling_method=random"],
    "an element set an image": [*CLASSIFICATION, *DIGITS, "base_group.sample_per_batch_element=True"],
    "two workers": [
        *CLASSIFICATION,
        *("dataset=folder", "dataset.root=pictures", "dataset.size=12", "dataset.law=full", "dataset.no_test=10"),
        *("no_workers=2", "augment=resnet"),
    ],
    "symmetry": SYMMETRY,
    "sie": SIE,
}


def write_pictures(folder: Path) -> None:
    """Write two classes of pictures of noise, for reading processes to read."""
    generator = torch.Generator().manual_seed(0)
    for label in ("a", "b"):
        (folder / "pictures" / label).mkdir(parents=True)
        for number in range(60):
            pixels = torch.randint(0, 256, (10, 10, 3), generator=generator, dtype=torch.uint8)
            Image.fromarray(pixels.numpy()).save(folder / "pictures" / label / f"{number}.png")


def rows_of(run: Path) -> list[dict]:
    """Return the rows of a run but for what the clock says."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in read_log(run)]


def assert_same(first: Path, second: Path) -> None:
    """Check that two finished runs are equal bit by bit: weights, state of everything, rows, summary."""
    (one, other) = (read_last(run) for run in (first, second))
    assert one is not None and other is not None and one.path.name == other.path.name
    assert one.tensors.keys() == other.tensors.keys()
    assert [key for key in one.tensors if not torch.equal(one.tensors[key], other.tensors[key])] == []
    best, others = (load_state(run, "best")[0] for run in (first, second))
    assert [key for key in best if not torch.equal(best[key], others[key])] == []
    assert rows_of(first) == rows_of(second)
    summaries = [json.loads((run / "summary.json").read_text()) for run in (first, second)]
    for summary in summaries:
        del summary["seconds"], summary["peak_memory"]
    assert summaries[0] == summaries[1]
