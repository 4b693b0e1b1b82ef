"""Our exact convolution of C_n against those of escnn and e2cnn, of equal channels times elements."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.choices import Choices
from benchmarks.goals import PEER_FULL, PEER_GC
from benchmarks.results import Cell, Judged, Table
from benchmarks.timing import Rounds, interleaved
from partial_equiv import GroupConv, GroupFeatureMap, UserError, make_group
from partial_equiv.kernels import SIREN
from partial_equiv.nets import steerable_peers

Forward = Callable[[Tensor], Tensor]
CASES = ((8, 16), (16, 8))
"""Elements and channels: 128 in all."""
SIZE, SIDE, BATCH, MORE = 7, 14, 16, 64
PEERS = {"escnn": steerable_peers.load_escnn, "e2cnn": steerable_peers.load_e2cnn}


def ours(no_turns: int, channels: int, factorization: Any) -> tuple[nn.Module, Forward]:
    """Return our group convolution of C_n at all of its elements."""
    group = make_group(f"C{no_turns}")
    make_kernel = partial(SIREN, no_hidden=32, no_layers=3, omega0=10.0, learn_omega0=False, weight_norm=False)
    conv = GroupConv(
        channels,
        channels,
        size=SIZE,
        group=group,
        make_kernel=make_kernel,
        sampler=None,
        no_samples=no_turns,
        factorization=factorization,
    )
    elements = group.grid(no_turns).unsqueeze(0)

    def forward(values: Tensor) -> Tensor:
        f = GroupFeatureMap(values.unflatten(1, (channels, no_turns)), elements.to(values.device))
        mapped: GroupFeatureMap = conv(f)
        return mapped.values.flatten(1, 2)

    return conv, forward


def peer(name: str, no_turns: int, channels: int) -> tuple[nn.Module, Forward]:
    """Return a peer's convolution between regular fields of C_n.

    Raises:
        UserError: the peer is not installed, or builds nothing with the versions at hand.
    """
    library: Any = PEERS[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            make = library.gspaces.rot2dOnR2 if name == "escnn" else library.gspaces.Rot2dOnR2
            plane = make(N=no_turns)
            fields = library.nn.FieldType(plane, channels * [plane.regular_repr])
            conv = library.nn.R2Conv(fields, fields, SIZE, padding=SIZE // 2)
        except (AttributeError, RuntimeError, TypeError, ValueError) as error:
            raise UserError(f"{name} builds no convolution of C{no_turns} here: {error}") from error
    return conv, lambda values: conv(library.nn.GeometricTensor(values, fields)).tensor


def measure(convs: dict[str, tuple[nn.Module, Forward]], x: Tensor, no_rounds: int, title: str) -> dict[str, Rounds]:
    """Return the rounds of training (forward and backward) and of evaluation, of the same input."""
    gradient = torch.randn_like(x)

    def train(conv: nn.Module, forward: Forward) -> None:
        conv.zero_grad()
        x.grad = None
        forward(x).backward(gradient)

    @torch.no_grad()
    def evaluate(forward: Forward) -> None:
        forward(x)

    for conv, _ in convs.values():
        conv.train()
    found = {}
    runs: dict[str, Callable[[], None]] = {name: partial(train, *entry) for name, entry in convs.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found["training"] = interleaved(runs, no_rounds=no_rounds, title=f"{title}, training")
        for conv, _ in convs.values():
            conv.eval()
        runs = {name: partial(evaluate, forward) for name, (_, forward) in convs.items()}
        found["evaluation"] = interleaved(runs, no_rounds=no_rounds, title=f"{title}, evaluation")
    return found


def bare(channels: int) -> tuple[nn.Module, Forward]:
    """Return the dense convolution of as many channels, without a symmetry."""
    conv = nn.Conv2d(channels, channels, SIZE, padding=SIZE // 2)
    return conv, lambda values: functional.conv2d(values, conv.weight, conv.bias, padding=SIZE // 2)


def tables(choices: Choices) -> list[Table]:
    """Return the table over both groups; a peer that is missing has a row that says so."""
    batch_size = MORE if choices.full else BATCH
    rows: list[tuple[Cell, ...]] = []
    missing: dict[str, str] = {}
    for no_turns, channels in CASES:
        width = no_turns * channels
        convs = {"full": ours(no_turns, channels, "full"), "gc": ours(no_turns, channels, "gc"), "conv2d": bare(width)}
        for name in PEERS:
            try:
                convs[name] = peer(name, no_turns, channels)
            except UserError as error:
                missing[name] = str(error)
        for module, _ in convs.values():
            module.to(choices.device)
        x = torch.randn(batch_size, width, SIDE, SIDE, device=choices.device, requires_grad=True)
        title = f"C{no_turns}, {channels} channels, B {batch_size}"
        for phase, rounds in measure(convs, x, choices.no_rounds, title).items():
            rows += [row_of(f"{title}, {phase}: {name}", name, rounds, (no_turns, phase)) for name in convs]
    rows += [(f"{name}: missing", None, why, None) for name, why in missing.items()]
    header = (f"group convolution, k {SIZE}, {SIDE}x{SIDE}", "seconds", "over escnn's R2Conv", "over e2cnn's R2Conv")
    note = "Forward and backward, the input's gradient included; conv2d: dense, of as many channels, with no symmetry."
    return [Table("Group convolutions of others", header, tuple(rows), (note,), "bars")]


def row_of(label: str, name: str, rounds: Rounds, case: tuple[int, str]) -> tuple[Cell, ...]:
    """Return the row of one convolution: seconds, and its ratios to the peers that are there."""
    over: list[Cell] = [rounds.ratio(name, other) if other in rounds.of else None for other in PEERS]
    goal = {"full": PEER_FULL, "gc": PEER_GC}.get(name)
    if goal is not None and case == (8, "training") and "escnn" in rounds.of:
        over[0] = Judged(rounds.ratio(name, "escnn"), goal)
    return (label, rounds.seconds(name).median, *over)
