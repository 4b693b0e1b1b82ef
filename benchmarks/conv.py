"""One group convolution over the bare dense convolution of the same weight shape."""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks.timing import interleaved, table
from partial_equiv import GroupConv, GroupFeatureMap, make_group, make_sampler
from partial_equiv.kernels import SIREN

CASES = [(32, 8, 7, 64, 14), (64, 16, 7, 32, 14)]
TARGETS = (1.15, 1.05)


def make_case(channels: int, no_samples: int, size: int, batch: int, side: int) -> tuple[GroupConv, GroupFeatureMap]:
    """Return a partial SE2 convolution with the published kernel network, and an input for it."""
    group = make_group("SE2")
    make_kernel = partial(SIREN, no_hidden=32, no_layers=3, omega0=10.0, learn_omega0=False, weight_norm=False)
    sampler = make_sampler(group=group, no_samples=no_samples, sampling_method="random", partial_equiv=True)
    conv = GroupConv(
        channels,
        channels,
        size=size,
        group=group,
        make_kernel=make_kernel,
        sampler=sampler,
        no_samples=no_samples,
    )
    values = torch.randn(batch, channels, no_samples, side, side, requires_grad=True)
    return conv, GroupFeatureMap(values, group.grid(no_samples).unsqueeze(0))


def ratios(case: tuple[int, int, int, int, int], no_rounds: int) -> tuple[str, ...]:
    """Return the row of one case: training and evaluation ratios."""
    channels, no_samples, size, batch, side = case
    conv, f = make_case(*case)
    width = channels * no_samples
    weight = torch.randn(width, width, size, size, requires_grad=True)
    flat = f.values.detach().flatten(1, 2).requires_grad_()
    gradient = torch.randn(batch, width, side, side)

    def bare() -> Tensor:
        return functional.conv2d(flat, weight, padding="same")

    def train_bare() -> None:
        flat.grad = weight.grad = None
        bare().backward(gradient)

    def train_ours() -> None:
        f.values.grad = None
        conv.zero_grad()
        conv(f).values.backward(gradient.view(batch, no_samples, channels, side, side).transpose(1, 2))

    train = interleaved({"ours": train_ours, "bare": train_bare}, no_rounds=no_rounds)
    conv.eval()
    with torch.no_grad():
        evaluate = interleaved({"ours": lambda: conv(f), "bare": bare}, no_rounds=no_rounds)
    return (
        f"C {channels}, N {no_samples}, k {size}, B {batch}, {side}x{side}",
        f"{train['bare']:.3f}",
        f"{train['ours'] / train['bare']:.3f}",
        f"{evaluate['bare']:.3f}",
        f"{evaluate['ours'] / evaluate['bare']:.3f}",
    )


def report(no_rounds: int) -> str:
    """Return the table over all cases."""
    header = (
        "GroupConv (SE2, partial)",
        "bare conv2d fwd+bwd s",
        f"ours / bare, training (at most {TARGETS[0]})",
        "bare conv2d fwd s",
        f"ours / bare, frozen evaluation (at most {TARGETS[1]})",
    )
    return table("One group convolution", header, [ratios(case, no_rounds) for case in CASES])
