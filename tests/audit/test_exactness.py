"""The planner on one small network per thing that it must see, against a twin that is run; its report; its refusals."""

import copy
import json
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional

from partial_equiv.audit import check_exactness
from partial_equiv.errors import UserError
from tests.audit.mirrors import BROKEN, error, mirrored, noise, symmetrised
from tests.audit.zoo import ZOO, Apply, conv

SIZE = (12, 16)
MOVES = {"H": lambda t: mirrored(t, "H"), "W": lambda t: mirrored(t, "W")}


def network(name):
    torch.manual_seed(0)
    model = ZOO[name][0]()
    for module in model.modules():
        if isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm2d) and module.weight is not None:
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


def verdict(report, axis):
    """Return True, False or None (unknown) for one axis."""
    found = [row.exact for row in report.rows if row.axis == axis]
    return False if False in found else None if None in found else True


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("name", ZOO)
def test_the_planner_sees_what_a_run_shows(name):
    model, (_, want) = network(name), ZOO[name]
    report = check_exactness(model, SIZE, "D4")
    # Where an axis breaks, nothing is claimed of the exchange of both.
    axes = ("H", "W", "HW") if False not in want[:2] and None not in want[:2] else ("H", "W")
    found = tuple(verdict(report, axis) for axis in axes)
    assert found == want[: len(axes)], report.table()
    twin, x = symmetrised(model), noise(SIZE)
    for axis, planned in zip("HW", found, strict=False):
        measured = error(twin, x, MOVES[axis])
        assert planned is not True or measured is None or measured < BROKEN, (axis, measured)
        assert planned is not False or measured is None or measured > BROKEN, (axis, measured)
    assert report.exact == all(verdict(report, axis) is True for axis in ("H", "W", "HW"))


LAYERS = {
    "conv": lambda k, s, p, d: nn.Conv2d(3, 3, k, s, p, d),
    "max": lambda k, s, p, d: nn.MaxPool2d(k, s, min(p, k // 2), d),
    "max, ceil": lambda k, s, p, d: nn.MaxPool2d(k, s, min(p, k // 2), d, ceil_mode=True),
    "average": lambda k, s, p, d: nn.AvgPool2d(k, s, min(p, k // 2)),
    "average, ceil, no padding": lambda k, s, p, d: nn.AvgPool2d(k, s, min(p, k // 2), True, count_include_pad=False),
    "transposed": lambda k, s, p, d: nn.ConvTranspose2d(3, 3, k, s, min(p, k - 1)),
    "transposed, output padding": lambda k, s, p, d: nn.ConvTranspose2d(
        3, 3, k, s + 1, min(p, k - 1), output_padding=1
    ),
}


@pytest.mark.parametrize("kind", LAYERS)
def test_every_layer_breaks_where_the_condition_says(kind):
    """Kernels, strides, paddings and dilations at sizes of every remainder: plan, formula and run agree."""
    outcomes, dilations = set(), (1, 2) if kind in ("conv", "max") else (1,)
    for k, s, p, d in [(k, s, p, d) for k in (1, 2, 3, 4) for s in (1, 2, 3) for p in (0, 1, 2) for d in dilations]:
        for size in (13, 14, 15):
            torch.manual_seed(size)
            layer = LAYERS[kind](k, s, p, d)
            report = check_exactness(layer, (size, 11), "flip_h")
            measured = error(symmetrised(layer), noise((size, 11)), MOVES["H"])
            assert report.exact == (measured < BROKEN), (kind, k, s, p, d, size, report.table(), measured)
            if kind == "conv":
                assert report.exact == ((size + 2 * p - d * (k - 1) - 1) % s == 0)
            outcomes.add(report.exact)
    assert outcomes == ({True, False} if "transposed" not in kind else {"output" not in kind})


def chain(fault=None):
    """Return a network that is exact on 33 pixels, or one of its layers replaced."""
    layers = {
        "stem": conv(3, 4, 3, 1, 1),
        "down": conv(4, 4, 3, 2, 1),
        "mid": nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(), conv(4, 4, 5, 1, 2)),
        "pool": nn.MaxPool2d(3, 2, 1),
        "last": conv(4, 4, 3, 2, 1),
        "head": nn.Sequential(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)),
    }
    return nn.Sequential(OrderedDict(layers | (fault or {})))


class Table(nn.Module):
    """Adds numbers that know where they are."""

    def __init__(self, side):
        super().__init__()
        self.table = nn.Parameter(torch.randn(1, 4, side, side))

    def forward(self, x):
        return x + self.table


FAULTS = {
    "stride on an even kernel": ("down", lambda: conv(4, 4, 4, 2, 1)),
    "no padding of a wide stride": ("down", lambda: conv(4, 4, 2, 2, 0)),
    "stride of three": ("last", lambda: conv(4, 4, 2, 3, 0)),
    "average pool of two": ("pool", lambda: nn.AvgPool2d(2)),
    "pool with ceil mode": ("pool", lambda: nn.MaxPool2d(2, 2, ceil_mode=True)),
    "dilated stride": ("last", lambda: conv(4, 4, 3, 3, 0, dilation=2)),
    "padding on one side": ("mid", lambda: nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), conv(4, 4, 3, 1, 1))),
    "positional table": ("mid", lambda: Table(17)),
    "roll": ("mid", lambda: Apply(lambda m, x: x.roll(1, 3))),
    "crop off the centre": ("mid", lambda: Apply(lambda m, x: x[..., 1:, 1:])),
    "nearest neighbour": ("mid", lambda: nn.Upsample(size=(11, 11), mode="nearest")),
    "output padding": ("mid", lambda: nn.ConvTranspose2d(4, 4, 3, 2, 1, output_padding=1)),
    "flatten to linear": ("head", lambda: nn.Sequential(nn.Flatten(), nn.Linear(4 * 5 * 5, 5))),
    "space to depth": ("mid", lambda: nn.Sequential(nn.ZeroPad2d((1, 0, 1, 0)), nn.PixelUnshuffle(2))),
}


def test_the_chain_without_a_fault_is_exact():
    report = check_exactness(chain(), 33)
    assert report.exact and report.culprits == () and report.modulus == (1, 8)
    assert report.propose(near=32) == [33, 25, 41]


@pytest.mark.parametrize("name", FAULTS)
def test_the_first_culprit_is_the_planted_fault(name):
    torch.manual_seed(1)
    place, make = FAULTS[name]
    rest = {"pool": nn.Identity(), "last": nn.Conv2d(16, 4, 1)} if name == "space to depth" else {}
    model = chain({place: make(), **rest})
    report = check_exactness(model, 33)
    assert report.culprits[0].split(":")[0].split(".")[0] == place, report.table(broken=True)
    twin = symmetrised(model)
    assert max(error(twin, noise(33), move) for move in MOVES.values()) > BROKEN


def test_repairs_mend_the_layer_that_they_are_offered_for():
    codes = {"k4s2p1": conv(3, 4, 4, 2, 1), "pool2": nn.Sequential(conv(3, 4), nn.AvgPool2d(2))}
    report = check_exactness(nn.Sequential(conv(3, 4, 3, 2, 1)), 32)
    (fixes,) = report.fixes.values()
    assert {"k4s2p1", "pool2", "blur4", "resize:33"} <= set(fixes)
    for code, layer in codes.items():
        assert check_exactness(nn.Sequential(layer), 32).exact, code
    assert check_exactness(nn.Sequential(conv(3, 4, 3, 2, 1)), 33).exact


def test_an_axis_counts_where_the_group_reads_it_backwards():
    model = conv(3, 4, 3, 2, 1)
    found = {
        group: check_exactness(model, (33, 32), group).exact for group in ("flip_h", "flip_w", "D1", "C2", "C4", "D2")
    }
    assert found == {"flip_h": True, "flip_w": False, "D1": False, "C2": False, "C4": False, "D2": False}
    assert check_exactness(model, (33, 41), "D4").exact
    assert check_exactness(conv(3, 4, (1, 3), 1, (0, 1)), 9, "D2").exact
    assert not check_exactness(conv(3, 4, (1, 3), 1, (0, 1)), 9, "C4").exact


def test_a_report_is_plain_data_and_says_that_weights_are_another_matter():
    report = check_exactness(chain(), 32)
    found = json.loads(json.dumps(report.to_dict()))
    assert found["exact"] is False and found["culprits"][0] == "down"
    assert "weights" in check_exactness(chain(), 33).verdict


def test_the_model_is_neither_run_nor_changed():
    ran = []

    class Spy(nn.Module):
        def forward(self, x):
            ran.append(x.device.type)
            return x

    model = nn.Sequential(Spy(), conv(3, 4), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    before = copy.deepcopy(model.state_dict())
    pointers = [tensor.data_ptr() for tensor in model.state_dict().values()]
    check_exactness(model, 9)
    assert set(ran) == {"meta"}
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert pointers == [tensor.data_ptr() for tensor in model.state_dict().values()]
    assert all(
        module.training and not module._forward_hooks and not module._forward_pre_hooks for module in model.modules()
    )


class Reads(nn.Module):
    """Looks at a value, which a pass without values cannot."""

    def forward(self, x):
        return x * 2 if x.mean() > 0 else functional.avg_pool2d(x, 2)


@pytest.mark.parametrize(
    ("model", "size", "keys", "words"),
    [
        (nn.Conv2d(3, 3, 7), 5, {}, "cannot take images of 3x5x5"),
        (nn.Conv2d(4, 3, 3), 9, {}, "give another input_size= or in_channels="),
        (nn.Conv2d(3, 3, 3), 0, {}, "input_size=0 is not a size in pixels"),
        (nn.Conv2d(3, 3, 3), "9", {}, "input_size='9' is not a size in pixels"),
        (nn.Conv2d(3, 3, 3), 9, {"group": "C7"}, "has no right angles"),
        (nn.Conv2d(3, 3, 3), 9, {"group": "X4"}, "group='X4' is not one of"),
        (nn.Bilinear(3, 3, 3), 9, {}, "forward"),
        (Reads(), 9, {}, "example="),
        (nn.Conv2d(3, 3, 3), 9, {"example": torch.zeros(1, 3, 8, 8)}, "make them equal"),
        ("resnet18", 9, {}, "nn.Module"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(model, size, keys, words):
    with pytest.raises(UserError) as caught:
        check_exactness(model, size, **keys)
    assert words in str(caught.value), str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_example_serves_a_network_that_reads_values():
    report = check_exactness(nn.Sequential(Reads(), conv(3, 4, 3, 2, 1)), 9, example=-torch.ones(1, 3, 9, 9))
    assert not report.exact  # the pooling of two on nine pixels
