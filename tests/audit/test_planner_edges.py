"""The planner on networks as they come: our own, escnn's, scripted, stateful ones; where it errs on the safe side."""

import copy
import importlib
import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from partial_equiv import build
from partial_equiv.audit import check_exactness
from partial_equiv.errors import UserError
from tests.audit.mirrors import BROKEN, error, mirrored, noise, symmetrised
from tests.audit.zoo import Apply, conv, mha, window_attention
from tests.nets.specs import D4, E2, GCNN, GRID, INTERVAL, PER_IMAGE, RANDOM, SHARED, SUBSET, T2, make_spec
from tests.oracles import load_escnn

WAYS = {
    "grid": GRID,
    "random": RANDOM,
    "shared": SHARED,
    "interval": INTERVAL,
    "subset": SUBSET,
    "per image": PER_IMAGE,
    "E2": E2,
    "D4": D4,
    "T2": T2,
    "GCNN": GCNN,
    "layer norm": {"net.norm": "LayerNorm"},
}


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS)
def test_our_networks_are_known_and_exact_where_their_poolings_are(way):
    """Poolings of 2 and 'same' kernels: even sizes, and nothing unknown."""
    model = build(make_spec(WAYS[way]))
    report = check_exactness(model, 12, "D4", in_channels=2)
    assert report.exact and report.modulus == (0, 2 if way == "GCNN" else 4), report.table(broken=True)
    odd = check_exactness(model, 13, "D4", in_channels=2)
    assert odd.unknown == () and odd.culprits[0].endswith("max_pool2d")


def test_kernels_as_large_as_an_even_map_pad_one_side_more():
    report = check_exactness(build(make_spec({"kernel.size": "same"})), 12, "C4", in_channels=2)
    assert report.culprits[0] == "lifting:pad" and report.unknown == ()


class Planar(nn.Module):
    """A network of escnn on regular fields, which computes its filters when it is put in evaluation."""

    def __init__(self, spaces, fields):
        super().__init__()
        space = spaces.rot2dOnR2(4)
        self.kind = fields.FieldType(space, 3 * [space.trivial_repr])
        regular = fields.FieldType(space, 2 * [space.regular_repr])
        self.tensor = fields.GeometricTensor
        self.net = fields.SequentialModule(
            fields.R2Conv(self.kind, regular, 3, padding=1),
            fields.InnerBatchNorm(regular),
            fields.ReLU(regular, inplace=True),
            fields.R2Conv(regular, regular, 3, padding=1, stride=2),
            fields.PointwiseMaxPool2D(regular, 2),
            fields.GroupPooling(regular),
        )

    def forward(self, x):
        return self.net(self.tensor(x, self.kind)).tensor.mean((2, 3))


@pytest.mark.filterwarnings("ignore")
def test_a_network_of_escnn_is_followed():
    load_escnn()
    model = Planar(importlib.import_module("escnn.gspaces"), importlib.import_module("escnn.nn")).double()
    report = check_exactness(model, 33)
    assert report.unknown == () and report.culprits == ("net.4",) and report.modulus == (3, 4)
    model.eval()
    for size, holds in ((33, False), (35, True)):
        found = error(model, noise(size), lambda t: torch.rot90(t, 1, (-2, -1)) if t.ndim == 4 else t)
        assert (found < 1e-4) == holds == check_exactness(model, size).exact


def strided():
    return nn.Sequential(conv(3, 4, 3, 2, 1), nn.ReLU())


class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv(3, 4, 3, 2, 1)

    def forward(self, x):
        return {"map": self.conv(x), "rest": [x, (x,)]}


class Remembers(nn.Module):
    """Keeps what it made of a batch in a buffer, a list and an attribute."""

    def __init__(self):
        super().__init__()
        self.conv = conv(3, 4, 3, 2, 1)
        self.register_buffer("count", torch.zeros(()))
        self.seen, self.table = [self.conv.weight * 2], None

    def forward(self, x):
        self.count += 1
        if self.table is None or self.table.shape[-1] != x.shape[-1]:
            self.table = torch.ones(x.shape[-1], device=x.device)
        self.seen.append(x)
        return self.conv(x * self.table)


def with_norm(model, norm):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        norm(model[0])
        model(torch.zeros(1, 3, 8, 8))  # leaves a weight that is no leaf
    return model


def scripted(model):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.script(model)


COMMON = {
    "tuples and dicts": Pair,
    "memory": Remembers,
    "half precision": lambda: strided().half(),
    "data parallel": lambda: nn.DataParallel(strided()),
    "checkpoint": lambda: Apply(lambda m, x: checkpoint(m.conv, x, use_reentrant=False), conv=conv(3, 4, 3, 2, 1)),
    "weight norm": lambda: with_norm(strided(), nn.utils.weight_norm),
    "spectral norm": lambda: with_norm(strided(), nn.utils.parametrizations.spectral_norm),
    "scripted": lambda: scripted(strided()),
    "traced by fx": lambda: torch.fx.symbolic_trace(strided()),
    "on meta": lambda: strided().to("meta"),
    "compiled": lambda: torch.compile(strided()),
    "data of a tensor": lambda: Apply(lambda m, x: m.conv(x.data).detach(), conv=conv(3, 4, 3, 2, 1)),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
@pytest.mark.parametrize("name", COMMON)
def test_networks_as_they_come_are_followed(name):
    model = COMMON[name]()
    for size in (9, 8):
        report = check_exactness(model, size)
        assert report.exact == (size == 9) and report.unknown == (), report.table()
        assert all("conv" in culprit or culprit.endswith("0") for culprit in report.culprits)
    assert report.modulus == (1, 2) and report.propose(8) == [9, 7, 11]


class Writes(nn.Module):
    """Changes its own weights, then fails or not."""

    def __init__(self, fails):
        super().__init__()
        self.conv, self.fails = conv(), fails
        self.register_buffer("steps", torch.zeros(3))

    def forward(self, x):
        with torch.no_grad():
            self.conv.weight.mul_(2)
            self.conv.bias.data.zero_()
            self.steps[0] += 1
        torch.rand(3)
        if self.fails:
            raise ValueError("as it likes")
        return self.conv(x)


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_behind(fails):
    model = nn.Sequential(Writes(fails), nn.Dropout()).train()
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    if fails:
        with pytest.raises(UserError, match="'0' says 'as it likes'"):
            check_exactness(model, 9)
    else:
        assert check_exactness(model, 9).exact
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state) and torch.backends.mha.get_fastpath_enabled()
    for module in model.modules():
        assert module.training and not module._forward_hooks and not module._forward_pre_hooks


def test_a_map_of_another_shape_has_a_law_for_each_axis():
    model = nn.Sequential(conv(3, 4, 4, (2, 4), (1, 0)), nn.AdaptiveAvgPool2d(1))
    report = check_exactness(model, (31, 45), "D2")
    assert report.moduli == {"H": (0, 2), "W": (0, 4)} and report.modulus is None and not report.exact
    assert report.propose(n=2) == [(32, 44), (30, 44)]
    sizes = [(h, w) for h in range(30, 34) for w in range(44, 50)]
    assert [s for s in sizes if check_exactness(model, s, "D2").exact] == [
        (h, w) for h, w in sizes if h % 2 == 0 and w % 4 == 0
    ]


@pytest.mark.parametrize("mode", ["nearest", "up", "down"])
def test_proposals_are_the_exact_sizes_that_counting_finds(mode):
    """Also where no congruence holds, for a resize makes the size by another rule."""
    chain = nn.Sequential(conv(3, 4, 3, 2, 1), nn.MaxPool2d(3, 2, ceil_mode=True), nn.AvgPool2d(2))
    odd = nn.Sequential(nn.Upsample(scale_factor=0.75, mode="bilinear"), conv(3, 4, 3, 2, 1))
    for model in (chain, odd):
        exact = [size for size in range(20, 90) if check_exactness(model, size).exact]
        allowed = [s for s in exact if mode == "nearest" or (s >= 50 if mode == "up" else s <= 50)]
        found = check_exactness(model, 50).propose(n=4, mode=mode)
        assert [abs(s - 50) for s in found] == sorted(abs(s - 50) for s in allowed)[:4]
        assert set(found) <= set(allowed)


def test_what_is_not_known_is_never_called_exact():
    """An operation of which torch knows the shape and the planner nothing, on a network that is exact otherwise."""
    with torch.library._scoped_library("planner_test", "DEF") as library:
        library.define("strange(Tensor x) -> Tensor")
        library.impl("strange", lambda x: x.flip(-1) + x * 2, "CompositeExplicitAutograd")
        model = nn.Sequential(conv(), Apply(lambda m, x: torch.ops.planner_test.strange(x)))
        report = check_exactness(model, 9, "D1")
    assert not report.exact and report.unknown == ("1",) and report.culprits == ()
    assert "unknown operation strange" in report.table()


CAUTIOUS = {
    "windows shifted by half": lambda m, x: window_attention(m, m.conv(x).roll((2, 2), (2, 3))).roll((-2, -2), (2, 3)),
    "a roll undone": lambda m, x: m.conv(x).roll(1, 3).relu().roll(-1, 3),
    "pixels put back": lambda m, x: functional.pixel_shuffle(functional.pixel_unshuffle(m.conv(x), 2).relu(), 2),
    "both halves": lambda m, x: m.conv(x)[..., ::2] + m.conv(x)[..., 1::2],
}


@pytest.mark.parametrize("name", CAUTIOUS)
def test_the_planner_errs_on_the_safe_side(name):
    """Two wrongs that make a right are called wrong: the planner follows axes, it proves nothing about pairs."""
    torch.manual_seed(0)
    model = Apply(CAUTIOUS[name], conv=conv(), attention=mha())
    assert not check_exactness(model, 12, "D2").exact
    assert error(symmetrised(model), noise(12), lambda t: mirrored(t, "W")) < BROKEN
