"""Every convolution of the library over its bare convolutions: the same calls of conv2d, on tensors that lie ready."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.bare import evaluate_bare, record, train_bare
from benchmarks.choices import Choices
from benchmarks.goals import LAYER_EVALUATION, LAYER_TRAINING
from benchmarks.results import Cell, Judged, Table
from benchmarks.timing import Rounds, interleaved
from partial_equiv import GroupConv, GroupFeatureMap, LiftingConv, PointwiseConv, make_group, make_sampler
from partial_equiv.convs import GConv2d
from partial_equiv.kernels import SIREN
from partial_equiv.sampling import Sample


class Shape(NamedTuple):
    """Channels in and out, elements, kernel in pixels, images, pixels."""

    channels: int
    no_samples: int
    size: int
    batch: int
    side: int

    def __str__(self) -> str:
        """Return it in words."""
        return f"C {self.channels}, N {self.no_samples}, k {self.size}, B {self.batch}, {self.side}x{self.side}"


CASES = (Shape(32, 8, 7, 64, 14), Shape(64, 16, 7, 32, 14))
"""Two layers of published networks, for which there is a number to reach."""
SHORT_CASES = (CASES[0], Shape(64, 16, 7, 8, 14))
"""The second has few images in the short run, where making the kernel counts four times as much."""
SMALL = Shape(32, 8, 7, 16, 14)
PIXELS = Shape(16, 4, 3, 16, 28)


class Layer(NamedTuple):
    """A layer, what it reads, and how it is called."""

    module: nn.Module
    values: Tensor
    call: Callable[[], Tensor]


def continuous(kind: str, shape: Shape, factorization: str, device: str) -> Layer:
    """Return a partial SE2 layer with the published kernel network: kind is lifting, group or pointwise."""
    group, (channels, no_samples, size, batch, side) = make_group("SE2"), shape
    sampler = partial(make_sampler, group=group, no_samples=no_samples, sampling_method="random")
    choices: dict[str, Any] = {
        "factorization": factorization,
        "group": group,
        "make_kernel": partial(SIREN, no_hidden=32, no_layers=3, omega0=10.0, learn_omega0=False, weight_norm=False),
    }
    if kind == "lifting":
        sampled = sampler(partial_equiv=False)
        lifting = LiftingConv(1, channels, size=size, sampler=sampled, **choices).to(device)
        images = torch.randn(batch, 1, side, side, device=device)
        return Layer(lifting, images, lambda: lifting(images).values)
    elements = group.grid(no_samples).unsqueeze(0).to(device)
    values = torch.randn(batch, channels, no_samples, side, side, device=device, requires_grad=True)
    f = GroupFeatureMap(values, elements)
    if kind == "pointwise":
        del choices["factorization"]  # it has no plane to take apart
        pointwise = PointwiseConv(channels, channels, no_samples=no_samples, **choices).to(device)
        return Layer(pointwise, values, lambda: pointwise(f, Sample(elements)).values)
    sampled = sampler(partial_equiv=True)
    conv = GroupConv(channels, channels, size=size, sampler=sampled, no_samples=no_samples, **choices)
    conv.to(device)
    return Layer(conv, values, lambda: conv(f).values)


def exact(shape: Shape, split: Any, device: str, *, lifting: bool = False) -> Layer:
    """Return a convolution of C4 on the pixel grid."""
    channels, no_samples, size, batch, side = shape
    read = (3, side, side) if lifting else (channels, no_samples, side, side)
    values = torch.randn(batch, *read, device=device, requires_grad=not lifting)
    inputs, rep = (3, "trivial") if lifting else (channels, "regular")
    group: Any = make_group("C4")
    conv = GConv2d(group, inputs, channels, size, in_rep=rep, padding=size // 2, split=split).to(device)  # type: ignore[arg-type]
    return Layer(conv, values, lambda: conv(values))


def measure(layer: Layer, no_rounds: int, title: str, precision: str = "float32") -> tuple[Rounds, Rounds]:
    """Return the rounds of training and of frozen evaluation: "ours" and "bare"."""
    module, values, call = layer
    kind = values.device.type

    def forward() -> Tensor:
        with torch.autocast(kind, torch.bfloat16, enabled=precision == "bfloat16"):
            return call()

    module.train()
    calls = record(forward)
    gradient = forward().detach()

    def train_ours() -> None:
        values.grad = None
        module.zero_grad()
        forward().backward(gradient)

    def evaluate_ours() -> None:
        with torch.no_grad():
            forward()

    trained = {"ours": train_ours, "bare": train_bare(calls)}
    train = interleaved(trained, no_rounds=no_rounds, title=f"{title}, training")
    module.eval()
    frozen = {"ours": evaluate_ours, "bare": evaluate_bare(calls)}
    return train, interleaved(frozen, no_rounds=no_rounds, title=f"{title}, evaluation")


def layers(full: bool) -> dict[str, tuple[Callable[[str], Layer], bool]]:
    """Return what is measured: label -> (device -> layer), and whether there is a number to reach."""
    found: dict[str, tuple[Callable[[str], Layer], bool]] = {
        f"GroupConv full, {shape}": (partial(continuous, "group", shape, "full"), True)
        for shape in (CASES if full else SHORT_CASES)
    }
    others = [("group", factors) for factors in ("g", "gc")]
    others += [("lifting", "full"), ("lifting", "gc"), ("pointwise", "full")]
    names = {"group": "GroupConv", "lifting": "LiftingConv", "pointwise": "PointwiseConv"}
    shape = CASES[0] if full else SMALL
    for kind, factors in others:
        make = partial(continuous, kind, shape, factors)
        found[f"{names[kind]}{'' if kind == 'pointwise' else f' {factors}'}, {shape}"] = (make, False)
    for split in (None, "g", "gc"):
        make = partial(exact, PIXELS, split)
        found[f"GConv2d {split or 'full'}, {PIXELS}"] = (make, False)
    found[f"GConv2d lifting, {PIXELS}"] = (partial(exact, PIXELS, None, lifting=True), False)
    return found


def tables(choices: Choices) -> list[Table]:
    """Return the table of all layers."""
    rows: list[tuple[Cell, ...]] = []
    for label, (make, judged) in layers(choices.full).items():
        for precision in choices.precisions:
            torch.manual_seed(0)
            name = label if precision == "float32" else f"{label}, {precision}"
            train, evaluation = measure(make(choices.device), choices.no_rounds, name, precision)
            ratios = train.ratio("ours", "bare"), evaluation.ratio("ours", "bare")
            rows.append(
                (
                    name,
                    train.seconds("bare").median,
                    Judged(ratios[0], LAYER_TRAINING) if judged else ratios[0],
                    evaluation.seconds("bare").median,
                    Judged(ratios[1], LAYER_EVALUATION) if judged else ratios[1],
                )
            )
    header = ("layer", "bare, training, s", "ours / bare, training", "bare, evaluation, s", "ours / bare, evaluation")
    note = (
        "Continuous layers are SE2, partial but for the lifting, with SIREN kernels (32 hidden, 3 layers), their "
        "elements drawn anew in every training step; bare: the calls of conv2d that the layer makes, each alone, "
        "forward and backward. Medians over rounds, quartiles of the ratios in brackets."
    )
    return [Table("Convolutions over their bare convolutions", header, tuple(rows), (note,), "bars")]
