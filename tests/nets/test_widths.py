"""Widths and map sizes, worked out before any layer is made, against what the layers then do."""

import pytest
import torch

from partial_equiv import UserError, build
from partial_equiv.convs import ContinuousConv
from partial_equiv.nets.widths import block_widths, map_sizes
from tests.nets.specs import GCNN, make_spec


@pytest.mark.parametrize(
    ("factors", "expected"),
    [
        (None, [32] * 4),
        ([1, 4], [32] * 4),
        ([1, 1, 2, 3], [32, 64, 64, 64]),
        ([1, 1, 2, 1, 0.5, 2], [32, 64, 16, 16]),
        ([1.3, 4], [41] * 4),
        ([2, 0, 1, 4], [32] * 4),
    ],
)
def test_widths_come_in_pairs_of_factor_and_count(factors, expected):
    assert block_widths(32, 4, factors) == expected


@pytest.mark.parametrize(
    "factors", [[], [1], [1, 3], [1, 5], [1, 5, 2, -1], [0, 4], [0.01, 4], [-1, 4], [1, 1.5, 1, 3]]
)
def test_widths_that_do_not_fit_are_told(factors):
    with pytest.raises(UserError, match="block_width_factors"):
        block_widths(32, 4, factors)


@pytest.mark.parametrize(
    ("size", "kernel", "padding", "convs", "pools", "expected"),
    [
        ((28, 28), 7, "same", [1, 2, 2], [0, 1], [(14, 14), (7, 7), (7, 7)]),
        ((32, 32), 7, "same", [1, 2, 2], [1, 2], [(32, 32), (16, 16), (8, 8)]),
        ((28, 20), 5, "valid", [1, 1, 1], [1], [(24, 16), (10, 6), (6, 2)]),
        ((9, 9), 3, 0, [1, 1], [], [(7, 7), (5, 5)]),
        ((9, 7), 3, 2, [1, 1], [0], [(5, 4), (7, 6)]),
        ((9, 7), "full", "same", [1, 1], [0], [(4, 3), (4, 3)]),
        ((9, 9), "same", "valid", [1, 1], [], [(1, 1), (1, 1)]),
    ],
)
def test_map_sizes(size, kernel, padding, convs, pools, expected):
    assert list(map_sizes(size, kernel, padding, convs, pools)) == expected


@pytest.mark.parametrize(("size", "kernel", "pools"), [((6, 6), 5, []), ((9, 4), 5, []), ((12, 12), 5, [0])])
def test_a_map_that_gets_smaller_than_the_kernel_is_told(size, kernel, pools):
    with pytest.raises(UserError, match="smaller than the kernel"):
        list(map_sizes(size, kernel, "valid", [1, 1], pools))


def test_a_map_too_small_to_pool_is_told():
    with pytest.raises(UserError, match="1x1"):
        list(map_sizes((2, 2), 3, "same", [1, 1], [0, 1]))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"net.pool_blocks": [1, 2], "info.size": [14, 16]},
        {
            "kernel.size": "full",
            "net.pool_blocks": [],
            "conv.padding": "same",
            **{k: v for k, v in GCNN.items() if "pool" not in k},
        },
        {**GCNN, "conv.padding": "valid", "net.pool_blocks": [3]},
        {**GCNN, "conv.padding": 2},
        {**GCNN, "info.size": [12, 9]},
        {"conv.padding": 1},
    ],
)
def test_the_layers_make_the_maps_that_were_worked_out(changes):
    spec = make_spec(changes)
    model, seen = build(spec).eval(), []
    for module in model.modules():
        if isinstance(module, ContinuousConv) and type(module).__name__ != "PointwiseConv":
            module.register_forward_hook(lambda m, i, out: seen.append(tuple(out.values.shape[-2:])))
    residual = spec["net"]["type"] == "CKResNet"
    with torch.no_grad():
        model(torch.randn(1, 2, *spec["info"]["size"]))
    size, pools = tuple(spec["info"]["size"]), spec["net"]["pool_blocks"]
    per_stage = [1, *[2 if residual else 1] * spec["net"]["no_blocks"]]
    args = (size, spec["kernel"]["size"], spec["conv"]["padding"])
    without_pool = [
        list(map_sizes(*args, per_stage[: k + 1], [p for p in pools if p < k]))[-1] for k in range(len(per_stage))
    ]
    expected = [m for m, number in zip(without_pool, per_stage, strict=True) for _ in range(number)]
    assert [m for m, _ in zip(seen, expected, strict=False)] == expected


@pytest.mark.parametrize(("size", "final"), [((12, 12), [1, 1]), ((16, 12), [2, 1]), ((20, 16), [3, 2])])
def test_the_learned_pooling_fits_the_last_map(size, final):
    spec = make_spec({"net.learnable_final_pooling": True, "net.final_spatial_dim": final, "info.size": list(size)})
    model = build(spec)
    assert model.pooling.in_features == 4 * final[0] * final[1]
    assert model(torch.randn(2, 2, *size)).shape == (2, 3)


def test_dropout_falls_only_where_it_was_asked_for():
    model = build(make_spec(GCNN, {"net.dropout": 0.5, "net.dropout_blocks": [2]})).train()
    assert [block.dropout for block in model.blocks] == [0.0, 0.5, 0.0]
    seen = []
    model.blocks[1].register_forward_hook(lambda m, i, out: seen.append(out.values))
    with torch.no_grad():
        model(torch.randn(64, 2, 12, 12))
        dropped = (seen[0] == 0).flatten(2).all(-1).float().mean().item()
        model.eval()(torch.randn(64, 2, 12, 12))
    assert 0.4 < dropped < 0.65, "whole channels, over all elements and pixels"
    assert (seen[1] == 0).flatten(2).all(-1).float().mean().item() < 0.2
