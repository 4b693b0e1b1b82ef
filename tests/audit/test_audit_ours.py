"""The audit of this library's networks: the law holds for any subset, and partiality is what is left of the domain."""

import contextlib
import math

import pytest
import torch
from torch import nn

from partial_equiv import UserError, make_group
from partial_equiv.audit import audit, equivariance_error
from partial_equiv.convs import CosetPool, GConv2d, GroupPool2d
from partial_equiv.nets import build
from partial_equiv.sampling import random_draws, samplers
from tests.convs.loops import make_convs
from tests.nets.specs import D4, E2, GCNN, GRID, INTERVAL, PER_IMAGE, RANDOM, SUBSET, T2, make_spec, trained

EXACT = 1e-12
ODD = {"info.size": [9, 9], "net.pool_blocks": []}
EIGHT = {"base_group.no_samples": 8}


def network(*changes, level=None, gates=None):
    model = trained(*changes, ODD)
    with torch.no_grad():
        for sampler in samplers(model):
            if sampler.level is not None and level is not None:
                sampler.level.fill_(level)
            if sampler.gates is not None and gates is not None:
                sampler.gates.fill_(gates)
    return model


def measure(model, group="C4", **keys):
    return audit(model, torch.randn(3, 2, 9, 9), group, **keys)


def numbers(report, name):
    return [getattr(row, name) for row in report.rows if getattr(row, name) is not None]


FULL = {
    "a grid": ((GRID,), "C4", {}),
    "random turns": ((RANDOM,), "C4", {}),
    "an interval that is the circle": ((INTERVAL,), "C4", {"level": 1.0}),
    "open gates": ((SUBSET,), "C4", {"gates": 25.0}),
    "eight turns": ((EIGHT,), "C4", {}),
    "a grid with mirrors": ((E2,), "D4", {}),
    "the dihedral group": ((D4,), "D4", {}),
    "an interval and an open mirror": ((INTERVAL, E2), "D4", {"level": 1.0, "gates": 25.0}),
    "a plain stack": ((GRID, GCNN), "C4", {}),
}
PARTIAL = {
    "an interval": ((INTERVAL,), "C4", {"level": 0.4}),
    "the published count of an interval": ((INTERVAL, {"base_group.count": "ceil"}), "C4", {"level": 0.4}),
    "closed gates": ((SUBSET,), "C4", {"gates": -2.0}),
    "an interval and a closed mirror": ((INTERVAL, E2), "D4", {"level": 0.3, "gates": -3.0}),
    "closed gates and mirror": ((SUBSET, E2), "D4", {"gates": -2.0}),
}


@pytest.mark.parametrize("name", FULL)
def test_a_full_network_obeys_the_law_and_keeps_its_domain(name):
    changes, group, state = FULL[name]
    report = measure(network(*changes, **state), group)
    assert report.culprits == ()
    assert max(numbers(report, "local")) < EXACT and max(numbers(report, "law")) < EXACT
    assert max(numbers(report, "domain")) < EXACT and report.error < EXACT
    assert any(row.domain is not None and row.kind == "layer" for row in report.rows)


@pytest.mark.parametrize("name", PARTIAL)
def test_a_partial_network_obeys_the_law_on_a_part_of_its_domain(name):
    changes, group, state = PARTIAL[name]
    report = measure(network(*changes, **state), group)
    assert report.culprits == ()
    assert max(numbers(report, "local")) < EXACT and max(numbers(report, "law")) < EXACT
    output = report.rows[-1]
    assert output.law < EXACT and output.domain == report.error > 0.01
    assert max(row.domain for row in report.rows if row.domain is not None and row.kind == "layer") > 0.01


@pytest.mark.parametrize("level", [0.0, 0.2, 0.6, 0.9])
def test_the_domain_error_is_the_change_of_the_logits(level):
    """Against the definition at the readout, computed without the audit."""
    model, x = network(INTERVAL, level=level), torch.randn(3, 2, 9, 9, dtype=torch.float64)
    output = audit(model, x).rows[-1]
    with torch.no_grad():
        plain = model(x)
        variation = (plain.roll(1, 0) - plain).abs().mean()
        for turns, name in ((1, "90°"), (2, "180°"), (3, "270°")):
            change = (model(torch.rot90(x, turns, (-2, -1))) - plain).abs().mean()
            assert output.errors["cumulative"][name] == pytest.approx(float(change / variation), rel=1e-9)


@pytest.mark.parametrize("kind", ["interval", "gates"])
def test_the_domain_error_of_a_layer_is_that_of_its_values_at_turned_elements(kind):
    """(g f)(x, h) = f(g^-1 x, g^-1 h) for the second layer, by calling it at g^-1 h."""
    changes, state = ((INTERVAL,), {"level": 0.4}) if kind == "interval" else ((SUBSET,), {"gates": -0.5})
    model, x = network(*changes, **state), torch.randn(3, 2, 9, 9, dtype=torch.float64)
    row = next(row for row in audit(model, x).rows if row.name == "blocks.0.conv2")
    calls = []
    handle = model.blocks[0].conv2.register_forward_hook(lambda module, args, output: calls.append((args[0], output)))
    with torch.no_grad():
        model(x)
        model(torch.rot90(x, 1, (-2, -1)))
        (inputs, plain), (_, found) = calls
        turned = torch.remainder(found.elements - math.pi / 2, 2 * math.pi)
        expected = model.blocks[0].conv2.at(inputs, Replaceable(turned)).values
        own, wanted = torch.ones(1, 4), torch.ones(1, 4)
        if plain.weights is not None:
            own, wanted = plain.weights, plain.weights.roll(1, 1)  # a grid: g^-1 h is the element before h
        scale = [w.double()[:, None, :, None, None] for w in (own, wanted)]
        gap = (found.values * scale[0] - torch.rot90(expected, 1, (-2, -1)) * scale[1]).abs().mean()
        values = plain.values * scale[0]
        assert row.errors["cumulative"]["90°"] == pytest.approx(float(gap / (values.roll(1, 0) - values).abs().mean()))
    handle.remove()


class Replaceable(tuple):
    """A sample of elements without weights."""

    elements, weights, closure = property(lambda self: self[0]), None, 1

    def __new__(cls, elements):
        return super().__new__(cls, (elements,))

    def _replace(self, elements):
        return Replaceable(elements)


@pytest.mark.parametrize("changes", [(RANDOM,), (PER_IMAGE,), (INTERVAL,), (RANDOM, E2)])
@pytest.mark.parametrize("random", [True, False])
def test_the_law_holds_for_elements_drawn_at_random(changes, random):
    model = network(*changes, level=0.7)
    with random_draws(model) if random else contextlib.nullcontext():
        report = measure(model, seed=5)
    assert max(numbers(report, "law")) < EXACT and max(numbers(report, "local")) < EXACT


def test_random_elements_that_are_no_subgroup_have_no_domain_without_a_door():
    """Eight turns at random offsets in each layer: norms have no value at turned elements, convolutions have."""
    model = network(INTERVAL, level=0.4)
    rows = {row.name: row for row in measure(model).rows}
    assert rows["blocks.0.norm"].domain is None and "not closed" in rows["blocks.0.norm"].reason
    assert rows["blocks.0.conv2"].domain > 0.01 and rows["blocks.0.norm"].law < EXACT


def test_mirrors_have_no_place_in_a_network_of_turns():
    report = measure(network(GRID), "D4")
    lifting, output = report.rows[0], report.rows[-1]
    assert lifting.errors["cumulative"]["90°"] < EXACT and lifting.errors["cumulative"]["mirror"] is None
    assert "hold no mirror" in lifting.reason
    assert output.errors["cumulative"]["90°"] < EXACT and output.errors["cumulative"]["mirror"] > 0.01
    assert output.errors["law"]["mirror"] is None and output.law < EXACT


def test_a_wrong_size_is_found_in_the_code_between_typed_layers():
    """2 x 2 pooling on an odd map, in code outside all modules."""
    model = trained({"info.size": [9, 9], "net.pool_blocks": [1]})
    report = measure(model)
    assert report.first_culprit.name == "before blocks.1.conv1" and report.first_culprit.kind == "between"
    even = trained({"info.size": [10, 10], "net.pool_blocks": [1]})
    assert audit(even, torch.randn(3, 2, 10, 10)).culprits == ()


def test_a_readout_at_fixed_places_is_found():
    learned = {"net.learnable_final_pooling": True, "net.final_spatial_dim": [7, 7]}
    report = measure(network(GRID, learned))
    assert report.first_culprit.name == "before pooling" and report.error > 0.01


def test_a_last_convolution_of_the_plane_is_found():
    """The mean over elements is an image again, and a filter that is not symmetric then breaks."""
    report = measure(network(GRID, {"net.last_conv_T2": True}))
    assert report.first_culprit.name == "last_conv" and "on one element" in report.first_culprit.representation


def test_networks_of_shifts_are_measured_as_plain_ones():
    report = measure(network(T2))
    assert report.first_culprit.name == "lifting" and report.rows[0].representation == "trivial"
    assert report.rows[-1].law == pytest.approx(report.rows[-1].domain)


def test_an_augmented_network_moves_its_augmentation_alone():
    augerino = {"net.type": "AugerinoCKResNet", "base_group.sampling_method": "random"}
    full, partial = network(augerino, level=1.0), network(augerino, level=0.4)
    assert measure(full).error < EXACT
    output = measure(partial).rows[-1]
    assert output.law < EXACT and output.domain > 0.01
    inner = next(row for row in measure(partial).rows if row.name == "net.lifting")
    assert inner.local is None and "not the batch of 3" in inner.reason


def test_an_eighth_turn_interpolates():
    report = measure(network(EIGHT), "C8")
    rows = {row.name: row for row in report.rows}
    assert rows["lifting"].errors["law"]["90°"] < EXACT and rows["lifting"].errors["law"]["45°"] > 1e-3
    assert report.mask == "inscribed disc"


def test_the_kernels_inside_a_convolution_are_no_layers():
    names = [row.name for row in measure(network(INTERVAL, level=0.5)).rows]
    assert not [name for name in names if "kernel" in name or "sampler" in name]
    assert {"lifting", "blocks.0.conv1", "blocks.0.shortcut", "blocks.0.norm", "head", "output"} <= set(names)


class Wrong(nn.Module):
    """A group convolution that forgets to turn its kernel: it computes at the elements' inverses."""

    def __init__(self):
        super().__init__()
        convs = make_convs("C4", 4, channels=(2, 2))
        self.lifting, self.group = convs["lifting"], Inverted(convs["group"])

    def forward(self, x):
        return self.group(self.lifting(x)).values.amax((2, 3, 4))


class Inverted(nn.Module):
    def __init__(self, conv):
        super().__init__()
        self.conv = conv

    def forward(self, f):
        return self.at(f, f)

    def at(self, f, sample):
        group = make_group("C4")
        out = self.conv.at(f, Replaceable(group.inverse(sample.elements)))
        return out._replace(elements=sample.elements)


def test_a_layer_that_breaks_the_law_is_named():
    report = audit(Wrong(), torch.randn(2, 2, 7, 7))
    assert report.first_culprit.name == "group" and report.first_culprit.law > 0.05


def gconvs(group, downsample="conv", split=None):
    torch.manual_seed(0)
    found = make_group(group)
    middle = (
        GConv2d(found, 3, 4, 3, stride=2, padding=1, split=split)
        if downsample == "conv"
        else nn.Sequential(GConv2d(found, 3, 4, 3, padding=1, split=split), GroupPool2d(downsample))
    )
    parts = [GConv2d(found, 2, 3, 3, in_rep="trivial", padding=1), nn.BatchNorm3d(3), nn.ReLU(inplace=True), middle]
    return nn.Sequential(*parts, CosetPool("max"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3)).eval()


@pytest.mark.parametrize("group", ["C2", "C4", "D1", "D2", "D4"])
@pytest.mark.parametrize("split", [None, "g", "gc"])
def test_group_convolutions_on_pixels_are_exact_at_exact_sizes(group, split):
    report = audit(gconvs(group, split=split), torch.randn(2, 2, 9, 9), group)
    assert report.culprits == () and max(numbers(report, "local")) < EXACT and report.error < EXACT
    wrong = audit(gconvs(group, split=split), torch.randn(2, 2, 8, 8), group)
    assert wrong.first_culprit.name == "3" and len(wrong.culprits) == 1 and wrong.error > 1e-3


@pytest.mark.parametrize("kind", ["max", "avg", "blur4"])
def test_pools_of_even_windows_are_exact_on_even_maps(kind):
    assert audit(gconvs("D4", kind), torch.randn(2, 2, 8, 8), "D4").error < EXACT
    assert audit(gconvs("D4", kind), torch.randn(2, 2, 9, 9), "D4").first_culprit.name == "3.1"


def test_larger_groups_are_restricted_and_smaller_ones_have_no_number():
    report = audit(gconvs("D4"), torch.randn(2, 2, 9, 9), "C4")
    assert report.error < EXACT and report.rows[0].representation == "regular D4"
    row = audit(gconvs("C4"), torch.randn(2, 2, 9, 9), "D4").rows[0]
    assert row.errors["local"]["270°"] < EXACT and row.errors["local"]["mirror"] is None
    assert "4 elements (C4) does not carry" in row.reason


def test_a_network_that_does_not_take_the_size_says_where():
    why = r"failed on x \[2, 2, 2, 2\] in last_conv \(the map of 2x2 pixels is smaller than the kernel.*made for"
    with pytest.raises(UserError, match=why):
        equivariance_error(build(make_spec(ODD)), torch.randn(2, 2, 2, 2))
