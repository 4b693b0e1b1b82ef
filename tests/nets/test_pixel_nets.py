"""GResNet, GConvNet and LiftingNet: published counts, invariance where the grid allows, and what they refuse."""

import copy
import math

import pytest
import torch

from partial_equiv import UserError, build
from tests.nets.specs import SMALL

ORDERS = {"C1": 1, "T2": 1, "C2": 2, "C4": 4, "D1": 2, "D2": 4, "D4": 8}
GRESNET = {
    "type": "GResNet",
    "depth": 44,
    "width": 4,
    "stage_widths": None,
    "split": None,
    "head": "coset_max",
    "downsample": "stride3",
    "stem": "3x3",
    "norm": "BatchNorm",
}
GCONVNET = {
    "type": "GConvNet",
    "width": 4,
    "pool_blocks": [2],
    "dropout_blocks": [1, 3, 4, 5],
    "dropout": 0.3,
    "norm": "BatchNorm",
}
LIFTINGNET = {"type": "LiftingNet", "width": 1, "kernel_size": 3, "stride": 2, "padding": 1, "norm": "BatchNorm"}


def spec_of(net, group, *, in_channels=3, no_classes=10, size=33, **changes):
    spec = copy.deepcopy(SMALL)
    spec["net"] = net | changes
    spec["base_group"] |= {"name": group, "no_samples": ORDERS[group]}
    spec["info"] = {"in_channels": in_channels, "no_classes": no_classes, "size": [size, size]}
    return spec


def count(*args, **keys):
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in build(spec_of(*args, **keys)).parameters())


def made(*args, **keys):
    """Return a network in float64 whose norms have seen data and whose biases are not zero, in evaluation."""
    spec = spec_of(*args, **keys)
    model = build(spec).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.add_(0.2 * torch.randn_like(parameter))
        info = spec["info"]
        model(torch.randn(4, info["in_channels"], *info["size"], dtype=torch.float64))
    return model.eval()


@torch.no_grad()
def invariance_error(model, in_channels, size, moves):
    """Return the largest mean change of the logits under a move, over their mean change from image to image."""
    x = torch.randn(4, in_channels, size, size, dtype=torch.float64)
    out = model(x)
    variation = (out - out.roll(1, dims=0)).abs().mean()
    return max(((model(move(x)) - out).abs().mean() / variation).item() for move in moves)


TURNS = [lambda x, k=k: torch.rot90(x, k, dims=(-2, -1)) for k in (1, 2, 3)]
FLIPS = [lambda x: x.flip(-1), lambda x: x.flip(-2)]


# Spec 2.1 of the paper's code: (group, depth, width, split) -> parameters with a flat head, with a coset maximum.
COUNTS = {
    ("C1", 18, 64, None): (11_173_962, 11_173_962),
    ("C4", 18, 32, None): (11_173_418, 11_165_738),
    ("C4", 18, 90, "gc"): (11_109_340, 11_087_740),
    ("D4", 18, 23, None): (11_546_769, 11_533_889),
    ("D4", 18, 64, "gc"): (11_227_978, 11_192_138),
    ("C1", 44, 32, None): (2_636_458, 2_636_458),
    ("C4", 44, 16, None): (2_633_946, 2_632_026),
    ("C4", 44, 47, "gc"): (2_657_907, 2_652_267),
    ("D4", 44, 12, None): (2_962_726, 2_959_366),
    ("D4", 44, 35, "gc"): (2_931_575, 2_921_775),
}


@pytest.mark.parametrize("row", COUNTS, ids=str)
def test_parameters_are_those_of_the_paper(row):
    group, depth, width, split = row
    found = [count(GRESNET, group, depth=depth, width=width, split=split, head=head) for head in ("flat", "coset_max")]
    assert tuple(found) == COUNTS[row]


def test_parameters_of_the_networks_for_pcam_and_digits_are_those_of_the_paper():
    for group, widths, number in (("C1", [8, 14, 28], 129_538), ("C4", [4, 7, 14], 128_652)):
        assert count(GRESNET, group, stage_widths=widths, no_classes=2) == number
    assert count(GCONVNET, "C4", width=10, size=28) == 24_990
    assert count(GCONVNET, "C1", width=20, size=28) == 25_570
    assert count(LIFTINGNET, "C4", in_channels=1, no_classes=2, size=32) == 14


def test_the_published_widths_of_c4_are_those_that_match_the_plain_network():
    assert count(GRESNET, "C4", width="match:2636458", head="flat") == 2_633_946
    assert count(GRESNET, "C4", depth=18, width="match:11173962", head="flat") == 11_173_418


@pytest.mark.long
@pytest.mark.parametrize("target", [40_000, 100_000, 700_000])
def test_no_width_matches_a_budget_better(target):
    found = count(GRESNET, "D4", width=f"match:{target}")
    every = [count(GRESNET, "D4", width=width) for width in range(1, 10)]
    assert found in every and abs(found - target) == min(abs(number - target) for number in every)


@pytest.mark.parametrize("group", ["C4", "D4"])
@pytest.mark.parametrize(
    ("changes", "exact", "inexact"),
    [
        ({}, 33, 32),
        ({"split": "g"}, 29, 28),
        ({"split": "gc"}, 33, 34),
        ({"head": "coset_mean"}, 17, 18),
        ({"downsample": "stride4"}, 32, 33),
        ({"downsample": "pool"}, 32, 31),
        ({"downsample": "blur4"}, 24, 26),
        ({"depth": 18, "width": 2}, 33, 29),
        ({"depth": 18, "width": 2, "stem": "7x7"}, 65, 64),
    ],
    ids=str,
)
@pytest.mark.long
def test_a_residual_network_is_invariant_where_its_grid_allows(group, changes, exact, inexact):
    model = made(GRESNET, group, size=exact, **changes)
    moves = TURNS + (FLIPS if group == "D4" else [])
    assert invariance_error(model, 3, exact, moves) < 1e-12
    assert invariance_error(model, 3, inexact, moves) > 1e-3
    if group == "C4":
        assert invariance_error(model, 3, exact, FLIPS) > 1e-3


def test_a_small_residual_network_is_invariant_on_33_pixels_and_not_on_32():
    model = made(GRESNET, "C4", width=2)
    assert invariance_error(model, 3, 33, TURNS) < 1e-12
    assert invariance_error(model, 3, 32, TURNS) > 1e-3
    assert invariance_error(made(GRESNET, "C4", width=2, head="flat"), 3, 33, TURNS) > 1e-3
    assert invariance_error(made(GRESNET, "C1", width=2), 3, 33, TURNS) > 1e-3


@pytest.mark.parametrize(
    ("pools", "exact", "inexact"), [([2], (24, 28, 30), (27, 29)), ([2, 3], (24, 28, 32), (26, 30))]
)
def test_a_network_for_digits_is_invariant_where_its_pools_meet_even_maps(pools, exact, inexact):
    model = made(GCONVNET, "C4", in_channels=1, size=28, pool_blocks=pools)
    assert all(invariance_error(model, 1, size, TURNS) < 1e-12 for size in exact)
    assert all(invariance_error(model, 1, size, TURNS) > 1e-3 for size in inexact)


def test_training_keeps_an_exact_network_invariant():
    """Norms see the same statistics for a batch and its turn, so that the symmetry survives every step."""
    torch.manual_seed(1)
    model = build(spec_of(GCONVNET, "C4", in_channels=1, size=12, dropout=0.0)).double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, labels = torch.randn(16, 1, 12, 12, dtype=torch.float64), torch.arange(16) % 10
    for _ in range(5):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), labels).backward()
        optimizer.step()
    assert invariance_error(model.eval(), 1, 12, TURNS) < 1e-11


@pytest.mark.parametrize(("size", "learns"), [(32, True), (33, False), (31, False)])
def test_a_lifting_network_learns_its_symmetry_away_where_the_grid_allows(size, learns):
    torch.manual_seed(0)
    model = build(spec_of(LIFTINGNET, "C4", in_channels=1, no_classes=2, size=size)).double()
    image = torch.rand(1, 1, size, size, dtype=torch.float64)
    pair, labels = torch.cat([image, torch.rot90(image, 1, dims=(-2, -1))]), torch.tensor([0, 1])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    for _ in range(800):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(100 * (pair - 0.5)), labels)
        loss.backward()
        optimizer.step()
    assert (loss.item() < 0.05) if learns else abs(loss.item() - math.log(2)) < 1e-6


@pytest.mark.parametrize(
    ("net", "group", "changes", "conv", "words"),
    [
        (GRESNET, "C4", {}, True, "net.type=GResNet has fixed elements .*: set conv=full"),
        (GRESNET, "C4", {"depth": 50}, False, "net.depth=50 is not one of: 18, 44"),
        (GRESNET, "C4", {"width": "match:many"}, False, "net.width='match:many' is no width .* match:<parameters>"),
        (GRESNET, "C4", {"width": 0}, False, "net.width=0 is no width"),
        (GRESNET, "C4", {"stage_widths": [4, 8]}, False, "does not fit net.depth=44: give 3 widths"),
        (GRESNET, "C4", {"split": "cg"}, False, "net.split='cg' is of the wrong type: give g or gc or null"),
        (GRESNET, "C4", {"norm": "LayerNorm"}, False, "set net.norm=BatchNorm"),
        (GCONVNET, "C4", {"pool_blocks": [7]}, False, r"convolutions \[7\] do not exist or are the last one"),
        (GCONVNET, "C4", {"pool_blocks": [1, 2, 3, 4]}, False, "too small for 4 poolings"),
        (GCONVNET, "C4", {"dropout": 1.0}, False, "net.dropout=1.0 is not a probability"),
        (LIFTINGNET, "C4", {"stride": 0}, False, "stride=0 is out of range"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(net, group, changes, conv, words):
    spec = spec_of(net, group, **changes)
    spec["conv"]["partial_equiv"] = conv
    with pytest.raises(UserError, match=words):
        build(spec)


def test_a_group_that_interpolates_is_refused_with_what_fits():
    spec = spec_of(GRESNET, "C4")
    spec["base_group"] |= {"name": "SE2", "no_samples": 4}
    with pytest.raises(UserError, match="base_group.name=SE2 does not: set base_group=C4, D4 or C1"):
        build(spec)
