"""Parameters of factorised networks by closed forms, those of exact pixel groups included."""

import pytest
import torch

from partial_equiv import UserError, build
from partial_equiv.convs import GConv2d, GroupConv, LiftingConv
from tests.nets.factorized import FACTORS, by, images_of
from tests.nets.specs import GCNN, RANDOM, count, make_spec, published
from tests.nets.symmetry_specs import symmetry_spec
from tests.nets.test_invariance import EXACT, FLIPS, TURNS
from tests.nets.test_pixel_nets import GCONVNET, GRESNET, LIFTINGNET, invariance_error
from tests.nets.test_pixel_nets import spec_of as pixel_spec
from tests.nets.test_split_ckresnet import spec_of as split_spec

factorised = pytest.mark.parametrize("factorization", FACTORS)


# Parameters, by closed forms.


def siren(inputs, outputs, hidden):
    """Return the numbers of a SIREN of three layers."""
    return inputs * hidden + hidden + hidden * hidden + hidden + hidden * outputs + outputs


def lifting_count(no_in, no_out, hidden, factorization):
    kernel = no_out * no_in + siren(2, no_out, hidden) if factorization == "gc" else siren(2, no_out * no_in, hidden)
    return kernel + no_out


def group_count(no_in, no_out, hidden, factorization, coordinates):
    spatial = no_out * (no_in if factorization == "g" else 1)
    return siren(coordinates, no_out * no_in, hidden) + siren(2, spatial, hidden) + no_out


def network_count(widths, no_in, no_classes, hidden, factorization, coordinates, last, shortcuts):
    """Return the numbers of lifting, layers (channels in and out), norms, shortcuts and head."""
    total = lifting_count(no_in, widths[0][0], hidden, factorization) + 2 * widths[0][0]
    total += sum(group_count(i, o, hidden, factorization, coordinates) for i, o in widths)
    total += sum(siren(coordinates, i * o, hidden // 2) for i, o in shortcuts)
    return total + sum(2 * o for o in last) + last[-1] * no_classes + no_classes


@factorised
@pytest.mark.parametrize(
    ("angle", "name", "coordinates"), [("circle", "SE2", 2), ("linear", "SE2", 1), ("circle", "E2", 3)]
)
def test_parameters_of_a_residual_network(factorization, angle, name, coordinates):
    """Published widths: 32, 32, 64, two convolutions a block, a norm a block, one more after the last convolution."""
    spec = published(RANDOM, {"kernel.angle": angle, "base_group.name": name}, by(factorization))
    layers = [(32, 32), (32, 32), (32, 64), (64, 64), (64, 64)]
    shortcuts = [(32, 32), (32, 64)]
    expected = network_count(layers, 1, 10, 32, factorization, coordinates, [32, 64, 64], shortcuts)
    assert count(spec) == expected


@factorised
def test_parameters_of_a_plain_stack(factorization):
    spec = make_spec(GCNN, by(factorization))
    assert count(spec) == network_count([(4, 4)] * 3, 2, 3, 8, factorization, 2, [4, 4, 4], [])


@factorised
def test_counts_do_not_depend_on_the_number_of_elements(factorization):
    assert len({count(make_spec(RANDOM, by(factorization), {"base_group.no_samples": n})) for n in (4, 8, 16)}) == 1


# Networks of exact pixel groups, and the others.


@factorised
@pytest.mark.parametrize("group", ["C4", "D4"])
def test_the_factorization_reaches_networks_of_exact_convolutions(factorization, group):
    plain, spec = pixel_spec(GCONVNET, group, size=16), pixel_spec(GCONVNET, group, size=16)
    spec["conv"]["factorization"] = factorization
    model, order, width = build(spec), 4 if group == "C4" else 8, 4
    convs = [module for module in model.modules() if isinstance(module, GConv2d)]
    assert [conv.split for conv in convs] == [None, *[factorization] * 6]
    saved = 0
    for size in (3, 3, 3, 3, 3, 4):
        spatial = size * size * width * (width if factorization == "g" else 1)
        saved += width * width * order * size * size - (width * width * order + spatial)
    numbers = [sum(p.numel() for p in build(s).parameters()) for s in (plain, spec)]
    assert numbers[0] - numbers[1] == saved


@factorised
def test_a_residual_network_of_exact_convolutions_takes_it_as_its_split(factorization):
    spec = pixel_spec(GRESNET, "C4", size=17)
    spec["conv"]["factorization"] = factorization
    shapes = [
        {name: tuple(value.shape) for name, value in build(s).state_dict().items()}
        for s in (spec, pixel_spec(GRESNET, "C4", size=17, split=factorization))
    ]
    assert shapes[0] == shapes[1] and any(name.endswith("spatial") for name in shapes[0])


@factorised
def test_networks_of_exact_convolutions_stay_invariant(factorization):
    torch.manual_seed(0)
    spec = pixel_spec(GCONVNET, "D4", in_channels=1, size=16)
    spec["conv"]["factorization"] = factorization
    model = build(spec).double()
    with torch.no_grad():
        model(images_of(4, 1, 16))
    moves = [*TURNS.values(), *FLIPS.values()]
    assert invariance_error(model.eval(), 1, 16, moves) < EXACT


@pytest.mark.parametrize("net", ["SymmetryNet", "SplitCKResNet"])
def test_other_networks_of_continuous_kernels_take_it_too(net):
    spec = symmetry_spec() if net == "SymmetryNet" else split_spec()
    spec["conv"]["factorization"] = "gc"
    model, info = build(spec), spec["info"]
    assert all(conv.factorization == "gc" for conv in model.modules() if isinstance(conv, GroupConv | LiftingConv))
    out = model(torch.rand(2, info["in_channels"], *info["size"]))
    assert out.isfinite().all()
    if net == "SplitCKResNet":  # the levels of a SymmetryNet do not train its encoder
        out.square().sum().backward()
        assert all(p.grad is not None for p in model.parameters())


def test_a_network_of_one_exact_lifting_has_nothing_to_split():
    spec = pixel_spec(LIFTINGNET, "C4", in_channels=1, no_classes=2, size=16)
    spec["conv"]["factorization"] = "gc"
    with pytest.raises(UserError, match="LiftingNet.*conv.factorization=gc.*set conv.factorization=full"):
        build(spec)
