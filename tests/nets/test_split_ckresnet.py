"""SplitCKResNet: its parts ignore turns of the image and turn along by construction, and break where they must."""

import cmath
import copy
import math
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional

from partial_equiv import UserError, build
from partial_equiv.convs import GroupFeatureMap
from partial_equiv.datasets import rotate_images
from partial_equiv.nets import SplitEncoder, learned_subsets
from partial_equiv.sampling import samplers
from tests.nets.specs import D4, E2, INTERVAL, PER_IMAGE, RANDOM, SMALL, SUBSET, make_spec

CFG = Path(__file__).resolve().parents[2] / "cfg"
NET = {
    "type": "SplitCKResNet",
    "width": 20,
    "equi": 12,
    "no_frequencies": 3,
    "no_hidden": 6,
    "no_blocks": 2,
    "dropout": 0.0,
    "norm": "BatchNorm",
    "block_width_factors": None,
    "pool_blocks": [0, 1],
}
EIGHT = {"base_group.no_samples": 8}
ONE = {"net.no_frequencies": 1}


def spec_of(*changes, start=None, **net):
    spec = copy.deepcopy(SMALL) | {"net": NET | net}
    return make_spec(EIGHT, *changes, start=spec)


def blobs(no_images=8, size=12, channels=2):
    """Return smooth images without a symmetry of their own, dark at the border."""
    noise = torch.rand(no_images, channels, 5, 5, dtype=torch.float64)
    smooth = functional.interpolate(noise, (size, size), mode="bicubic", align_corners=False)
    line = torch.linspace(-1, 1, size, dtype=torch.float64)
    return smooth * torch.exp(-3 * (line[:, None] ** 2 + line**2))


def made(*changes, **net):
    """Return a network in float64, in evaluation, whose norms have seen images."""
    torch.manual_seed(0)
    model = build(spec_of(*changes, **net)).double()
    with torch.no_grad():
        for _ in range(3):
            model(blobs())
    return model.eval()


def opened(model):
    for sampler in samplers(model):
        if sampler.gates is not None:
            sampler.gates.data.fill_(100.0)
    return model


@torch.no_grad()
def parts(model, images):
    """Return the invariant numbers and the pairs as complex numbers."""
    h = model(images)
    return model.part(h, "inv"), torch.view_as_complex(model.part(h, "equi").unflatten(-1, (-1, 2)).contiguous())


def turning(no_pairs, angle, no_frequencies=3):
    """Return exp(i k a) of every pair, its frequencies in turn."""
    return torch.tensor([cmath.exp(1j * (1 + pair % no_frequencies) * angle) for pair in range(no_pairs)])


def gap(first, second):
    """Return the largest difference over the typical size."""
    return ((first - second).abs().max() / second.abs().mean()).item()


@pytest.mark.parametrize(
    ("changes", "no_frequencies"),
    [([], 3), ([{"base_group.name": "C8"}], 3), ([RANDOM], 3), ([INTERVAL], 3), ([E2], 1), ([D4], 1), ([SUBSET], 3)],
    ids=["SE2", "C8", "random", "partial at level 1", "E2", "D4", "open gates"],
)
def test_quarter_turns_leave_one_part_and_turn_the_other(changes, no_frequencies):
    model, images = opened(made(*changes, no_frequencies=no_frequencies)), blobs()
    inv, equi = parts(model, images)
    assert inv.shape == (8, 8) and equi.shape == (8, 6)
    assert inv.std(dim=0).min() > 1e-3 and equi.abs().median() > 1e-3
    for quarters in (1, 2, 3):
        angle = quarters * math.pi / 2
        other_inv, other_equi = parts(model, torch.rot90(images, quarters, dims=(-2, -1)))
        assert gap(other_inv, inv) < 1e-9
        assert gap(other_equi, equi * turning(6, angle, no_frequencies)) < 1e-9
        if quarters != 2:
            assert gap(other_equi, equi * turning(6, -angle, no_frequencies)) > 0.1, "the wrong sense fails"
        assert gap(other_equi, equi) > 0.1, "they do turn"


def test_single_precision_keeps_quarter_turns_to_1e_4():
    model, images = made().float(), blobs().float()
    inv, equi = parts(model, images)
    other_inv, other_equi = parts(model, torch.rot90(images, 1, dims=(-2, -1)))
    assert gap(other_inv, inv) < 1e-4 and gap(other_equi, equi * turning(6, math.pi / 2)) < 1e-4


@pytest.mark.parametrize("group", [E2, D4], ids=["E2", "D4"])
def test_a_mirror_conjugates_the_pairs_where_the_group_has_mirrors(group):
    model, images = made(group, ONE), blobs()
    inv, equi = parts(model, images)
    columns, rows = parts(model, images.flip(-1)), parts(model, images.flip(-2))
    assert gap(columns[0], inv) < 1e-9 and gap(columns[1], equi.conj()) < 1e-9
    assert gap(rows[0], inv) < 1e-9 and gap(rows[1], -equi.conj()) < 1e-9  # mirrored columns, then half a turn
    assert gap(columns[1], equi) > 0.1
    plain, images = made(), blobs()
    assert gap(parts(plain, images.flip(-1))[0], parts(plain, images)[0]) > 1e-2, "turns alone see a mirror"


@torch.no_grad()
def motion(model, images, degrees):
    """Return how far turned images lie from upright ones in the invariant part, over how far images lie apart."""
    inv = model.part(model(images), "inv")
    turned = model.part(model(rotate_images(images, torch.tensor(math.radians(degrees), dtype=images.dtype))), "inv")
    return ((turned - inv).norm(dim=-1).mean() / (inv - inv.roll(1, dims=0)).norm(dim=-1).mean()).item()


def test_the_invariant_part_moves_less_than_that_of_an_ordinary_network():
    images = blobs(10, size=24)
    spec = spec_of({"info.size": [24, 24], "kernel.size": 5})
    torch.manual_seed(0)
    ours = build(spec).double()
    ordinary = build(spec | {"net": {"type": "SplitEncoder", "backbone": "small", "width": 64, "equi": 32}}).double()
    for model in (ours, ordinary):
        for module in model.modules():
            if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
                module.momentum = 1.0  # one pass and the norms know the images
        with torch.no_grad():
            model(images)
        model.eval()
    assert motion(ours, images, 90) < 1e-4 and motion(ordinary, images, 90) > 0.3
    for degrees in (22.5, 45, 77):
        assert motion(ours, images, degrees) < 0.75 * motion(ordinary, images, degrees), degrees


@pytest.mark.parametrize("changes", [[INTERVAL], [SUBSET]], ids=["interval", "subset"])
def test_a_learned_subset_gives_the_rest_of_the_group_up(changes):
    model, images = opened(made(*changes)), blobs()
    turned = torch.rot90(images, 1, dims=(-2, -1))
    for sampler in samplers(model):
        if sampler.level is not None:
            sampler.level.data.fill_(0.3)
        if sampler.gates is not None:
            sampler.gates.data.fill_(-1.0)
    assert gap(parts(model, turned)[0], parts(model, images)[0]) > 1e-2
    layers = [subset.name for subset in learned_subsets(model)]
    assert layers[0] == "backbone.trunk.blocks.0.conv1" and layers[-1] == "backbone.trunk.last_conv"


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("sets", [1, 3])
def test_the_readout_is_a_sum_over_elements(mirror, sets):
    """Written again as loops over complex numbers, with an element set and weights for every image."""
    readout = build(spec_of(width=9, equi=6, no_frequencies=2)).backbone.readout.double()
    angles = 7 * torch.rand(sets, 5, 1, dtype=torch.float64)
    signs = torch.tensor([1.0, -1, 1, -1, -1], dtype=torch.float64).expand(sets, -1).unsqueeze(-1)
    elements = torch.cat([angles, signs], dim=-1) if mirror else angles
    weights = torch.rand(sets, 5, dtype=torch.float64)
    values = torch.rand(3, 9, 5, 1, 1, dtype=torch.float64)
    found = readout.read(GroupFeatureMap(values, elements, weights))
    for image in range(3):
        own = image % sets
        shares = weights[own] / weights[own].sum()
        means = torch.stack([sum(shares[h] * values[image, :, h, 0, 0] for h in range(5))])[0]
        torch.testing.assert_close(found[image, :3], readout.invariant(means))
        for pair in range(3):
            total = 0j
            for c in range(9):
                for h in range(5):
                    weight = complex(*readout.turn[c, pair].tolist())
                    weight = weight.conjugate() if mirror and signs[own, h] < 0 else weight
                    phase = cmath.exp(1j * (1 + pair % 2) * angles[own, h, 0].item())
                    total += weight * shares[h].item() * values[image, c, h, 0, 0].item() * phase
            assert complex(*found[image, 3 + 2 * pair : 5 + 2 * pair].tolist()) == pytest.approx(total)


@pytest.mark.parametrize("changes", [[], [RANDOM], [PER_IMAGE, INTERVAL, E2, ONE], [SUBSET], [D4, SUBSET, ONE]])
def test_a_step_reaches_every_parameter(changes):
    model = build(spec_of(*changes))
    (model(blobs().float()) - torch.randn(8, 20)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert all(p.grad.abs().sum() > 0 for name, p in model.named_parameters() if name.endswith(("level", "turn")))


@pytest.mark.parametrize(("equi", "names"), [(0, {"all", "inv"}), (20, {"all", "equi"})])
def test_one_part_may_be_all(equi, names):
    model = made(equi=equi)
    assert isinstance(model, SplitEncoder) and set(model.widths) == names and model(blobs()).shape == (8, 20)
    assert made({"base_group.name": "T2", "base_group.no_samples": 1}, equi=0)(blobs()).shape == (8, 20)


@pytest.mark.parametrize("group", ["SE2", "E2", "C8", "D4"])
def test_the_option_file_is_a_network(group):
    options = {
        name: yaml.safe_load((CFG / file).read_text(encoding="utf-8"))
        for name, file in (("net", "net/SplitCKResNet.yaml"), ("kernel", "kernel/SIREN.yaml"))
    }
    spec = copy.deepcopy(SMALL) | options | {"info": {"in_channels": 3, "no_classes": 10, "size": [32, 32]}}
    no_frequencies = 1 if group in ("E2", "D4") else 3
    spec = make_spec(EIGHT, {"base_group.name": group, "net.no_frequencies": no_frequencies}, start=spec)
    model = build(spec)
    assert model.widths == {"all": 128, "inv": 64, "equi": 64}
    assert model(torch.randn(2, 3, 32, 32)).shape == (2, 128)


@pytest.mark.parametrize(
    ("changes", "net", "words"),
    [
        ([], {"equi": 21}, "net.equi=21 makes the equivariant width larger than the representation"),
        ([], {"equi": -2}, "net.equi=-2 is negative"),
        ([], {"width": 0, "equi": 0}, "net.width=0 is no width of a representation"),
        ([], {"equi": 3}, "net.equi=3 is odd and the numbers turn in pairs: give 2 or 4"),
        ([], {"no_frequencies": 4}, r"net.no_frequencies=4 does not fit the 8 turn\(s\) of SE2, .*: give 1 to 3"),
        ([], {"no_frequencies": 0}, "net.no_frequencies=0 .*: give 1 to 3"),
        ([E2], {}, r"the 4 turn\(s\) of E2, which tell 1 frequencies apart: give 1 to 1"),
        ([{"base_group.name": "T2", "base_group.no_samples": 1}], {}, "set base_group=SE2, or net.equi=0"),
        ([{"kernel.size": 7}], {}, "kernel.size=7"),
        ([], {"no_blocks": 0}, "net.no_blocks=0"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(changes, net, words):
    with pytest.raises(UserError, match=words) as caught:
        build(spec_of(*changes, **net))
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
