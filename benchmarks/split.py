"""The training step of SIE with a linear predictor over that of VICReg with the same encoder: time and memory."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.choices import Choices
from benchmarks.machine import ROOT
from benchmarks.memory import resident
from benchmarks.results import Cell, Goal, Judged, Table
from benchmarks.timing import interleaved
from partial_equiv import build
from partial_equiv.datasets import Views
from partial_equiv.latents import COLUMNS, LatentEncoding
from partial_equiv.nets import SplitEncoder, make_predictor
from partial_equiv.objectives import SelfSupervised, make_method

TIME = Goal("training step of SIE over that of VICReg", 1.1, named=False)
MEMORY = Goal("memory of a step of SIE over that of VICReg", 1.1, named=False)
SIZE, BATCH, CLASSES = 64, 64, 55
WIDTHS = [2048, 2048, 2048]  # published
SPEC: dict[str, Any] = {
    "net": {"type": "SplitEncoder", "backbone": "published_resnet18", "width": None, "equi": 256, "norm": "BatchNorm"},
    "conv": {"padding": "same", "partial_equiv": False, "bias": True},
    "kernel": {"type": "Linear", "size": 3, "angle": "circle"},
    "base_group": {
        "name": "T2",
        "no_samples": 1,
        "sampling_method": "deterministic",
        "sample_per_layer": False,
        "sample_per_batch_element": False,
        "count": "all",
        "gumbel_init_temp": 0.5,
        "gumbel_end_temp": 1e-4,
    },
    "info": {"in_channels": 3, "no_classes": CLASSES, "size": [SIZE, SIZE]},
}
BOTH = ["x.z", "y.z"]
HALVES = ["x.z_inv+x.z_equi", "y.z_inv+y.z_equi"]
METHODS: dict[str, dict[str, Any]] = {
    "VICReg": {
        "projectors": {"z": {"of": "h"}},
        "predicted": None,
        "terms": {
            "invariance": {"term": "mse", "of": BOTH, "weight": [10.0]},
            "variance": {"term": "variance", "of": BOTH, "weight": [10.0]},
            "covariance": {"term": "covariance", "of": BOTH, "weight": [1.0]},
        },
    },
    "SIE": {
        "projectors": {"z_inv": {"of": "h_inv"}, "z_equi": {"of": "h_equi"}},
        "predicted": {"of": "z_equi", "source": "x"},
        "terms": {
            "invariance": {"term": "mse", "of": ["x.z_inv", "y.z_inv"], "weight": [10.0]},
            "equivariance": {"term": "mse", "of": ["y.predicted", "y.z_equi"], "weight": [4.5]},
            "variance": {"term": "variance", "of": HALVES, "weight": [10.0]},
            "predicted_variance": {"term": "variance", "of": ["y.predicted"], "weight": [10.0]},
            "covariance": {"term": "covariance", "of": HALVES, "weight": [1.0]},
        },
    },
}


def make_step(name: str) -> Callable[[], None]:
    """Return a function that takes one step with Adam on fixed views."""
    torch.manual_seed(0)
    model = build(SPEC)
    assert isinstance(model, SplitEncoder)
    encoding = LatentEncoding(
        parts=("rotation",), rotation="quaternion", max_degree=2, hue="raw", frame="body", columns=COLUMNS
    )
    objective = SelfSupervised(
        model,
        make_method(name, views=["x", "y"], regressed=None, classified=None, **METHODS[name]),
        encoding=encoding,
        coefficients={},
        widths=WIDTHS,
        temperature=0.1,
        make_predictor=lambda width: make_predictor(
            width,
            encoding,
            kind="hypernetwork",
            hypernetwork="linear",
            hidden=None,
            widths=[],
            relu=False,
            bias_pred=False,
            bias_hypernet=False,
            init="identity",
            tf_num_layers=1,
        ),
        no_classes=CLASSES,
        online_every=None,
        selection="last",
    )
    optimizer = torch.optim.Adam(objective.parameters(), lr=1e-3, fused=True)
    images, index = torch.randn(BATCH, 2, 3, SIZE, SIZE), torch.arange(BATCH)
    batch = Views(images, index % CLASSES, index, torch.rand(BATCH, 2, len(COLUMNS)))

    def run() -> None:
        optimizer.zero_grad()
        objective(batch).loss.backward()
        optimizer.step()

    return run


def peak(name: str) -> float:
    """Return the GiB by which three steps raise the peak memory of this process."""
    run = make_step(name)
    before = resident("VmHWM") / 2**30
    for _ in range(3):
        run()
    return resident("VmHWM") / 2**30 - before


def tables(choices: Choices) -> list[Table]:
    """Return the table; on the CPU, whatever the device."""
    rounds = interleaved({name: make_step(name) for name in METHODS}, no_rounds=choices.no_rounds, title="split")
    memory = {}
    for name in METHODS:
        command = [sys.executable, "-m", "benchmarks.split", name]
        found = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True)
        memory[name] = json.loads(found.stdout)
    rows: list[tuple[Cell, ...]] = [
        ("VICReg", rounds.seconds("VICReg").median, None, memory["VICReg"], None),
        (
            "SIE, linear predictor",
            rounds.seconds("SIE").median,
            Judged(rounds.ratio("SIE", "VICReg"), TIME),
            memory["SIE"],
            Judged(memory["SIE"] / memory["VICReg"], MEMORY),
        ),
    ]
    header = ("", "seconds", "over VICReg", "memory of a step, GiB", "over VICReg")
    size = f"published ResNet-18, projectors 2048-2048-2048, B {BATCH}, {SIZE}x{SIZE}"
    return [Table(f"Training step of SIE and VICReg, {size}", header, tuple(rows))]


if __name__ == "__main__":
    sys.stdout.write(json.dumps(peak(sys.argv[1])))
