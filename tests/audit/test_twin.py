"""The symmetrised twin, and the proof that offsets of sampling grids are the sole cause of an error."""

import copy
import itertools

import pytest
import torch
import torchvision
from torch import nn
from torch.nn import functional
from torch.nn.utils import parametrizations

from partial_equiv import UserError
from partial_equiv.audit import audit, equivariance_error, make_moves, symmetrised_twin
from partial_equiv.audit.phase import phase_report
from partial_equiv.audit.shifted import Here, PhaseMode
from partial_equiv.audit.twin import averaged

GROUPS = ["C2", "C4", "D1", "D2", "D4", "flip_h", "flip_w"]


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("side", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_mean_is_that_of_the_moves_and_symmetric_to_the_last_bit(group, side, dtype):
    weight, moves = torch.randn(3, 2, side, side, dtype=dtype), make_moves(group)
    mean = averaged(weight, moves)
    slow = sum([weight, *(move.images(weight) for move in moves)]) / (len(moves) + 1)
    assert mean.dtype == dtype and torch.allclose(mean, slow, rtol=1e-5, atol=1e-6)
    assert all(torch.equal(move.images(mean), mean) for move in moves)
    assert torch.allclose(averaged(mean, moves), mean)


def test_a_twin_is_a_copy():
    model = torchvision.models.resnet18(weights=None)
    before = copy.deepcopy(model.state_dict())
    twin = symmetrised_twin(model, "C4")
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert not torch.equal(twin.conv1.weight, model.conv1.weight)
    assert torch.equal(twin.fc.weight, model.fc.weight) and twin.fc.weight is not model.fc.weight
    assert torch.equal(twin.conv1.weight, torch.rot90(twin.conv1.weight, 1, (-2, -1)))


def test_tied_transposed_and_parametrised_filters_are_averaged():
    conv, up = parametrizations.weight_norm(nn.Conv2d(3, 3, 3)), nn.ConvTranspose2d(3, 3, 3, stride=2)
    tied = nn.Conv2d(3, 3, 3)
    tied.weight = up.weight
    x = torch.randn(2, 3, 9, 9)
    model = nn.Sequential(conv, tied, nn.ReLU(), up)
    twin = symmetrised_twin(model)
    assert twin[1].weight is twin[3].weight
    report = audit(twin, x, "D4")
    assert report.error < 1e-12 and report.culprits == ()
    assert audit(model, x, "D4").error > 0.1


# Network -> (maker, exact size, size at which it is not, first culprit there): the sizes of spec 4.3, scaled down.
ZOO = {
    "resnet18": (torchvision.models.resnet18, 65, 64, "conv1"),
    "squeezenet": (torchvision.models.squeezenet1_1, 63, 64, "features.0"),
    "shufflenet": (torchvision.models.shufflenet_v2_x0_5, 65, 64, "conv1.0"),
    "densenet": (lambda **keys: torchvision.models.DenseNet(8, (2, 2, 2, 2), 16), 61, 64, "features.conv0"),
}
LONG = {
    "mobilenet": (torchvision.models.mobilenet_v2, 65, 64, "features.0.0"),
    "efficientnet": (torchvision.models.efficientnet_b0, 65, 64, "features.0.0"),
    "regnet": (torchvision.models.regnet_y_400mf, 65, 64, "stem.0"),
    "mnasnet": (torchvision.models.mnasnet0_5, 65, 64, "layers.0"),
    "googlenet": (lambda **keys: torchvision.models.googlenet(init_weights=False, **keys), 77, 64, "conv1.conv"),
    "resnet50": (torchvision.models.resnet50, 65, 64, "conv1"),
    "convnext": (torchvision.models.convnext_tiny, 64, 65, "features.0.0"),
}
EVERY = [*ZOO, *(pytest.param(name, marks=pytest.mark.long) for name in LONG)]


@pytest.mark.parametrize("name", EVERY)
def test_a_twin_is_exact_at_the_exact_size_and_names_the_layer_elsewhere(name):
    make, exact, wrong, culprit = (ZOO | LONG)[name]
    torch.manual_seed(0)
    twin = symmetrised_twin(make(weights=None))
    good = audit(twin, torch.randn(2, 3, exact, exact))
    assert good.culprits == () and good.error < 1e-11
    assert max(row.cumulative for row in good.rows) < 1e-11 and max(row.local for row in good.rows) < 1e-12
    bad = audit(twin, torch.randn(2, 3, wrong, wrong))
    assert bad.first_culprit.name == culprit and bad.error > 0.3


def test_alexnet_breaks_where_it_flattens_at_every_size():
    twin = symmetrised_twin(torchvision.models.alexnet(weights=None))
    assert audit(twin, torch.randn(2, 3, 95, 95)).first_culprit.name == "before classifier.0"


@pytest.mark.parametrize(
    ("model", "group", "why"),
    [
        (nn.Conv2d(3, 4, (1, 3)), "C4", r"kernel_size=\(1, 3\) of Conv2d differs .* give group='C2' or 'D2'"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, stride=(2, 1))), "D4", r"stride=\(2, 1\) of 0 differs"),
        (nn.Conv2d(3, 4, 3), "C8", "group='C8' interpolates between pixels"),
        (nn.Linear(3, 4), "C4", "Linear has no Conv2d or ConvTranspose2d"),
    ],
)
def test_what_cannot_be_symmetrised_is_refused(model, group, why):
    with pytest.raises(UserError, match=why):
        symmetrised_twin(model, group)


def test_oblong_filters_are_symmetrised_where_axes_stay():
    twin = symmetrised_twin(nn.Conv2d(3, 4, (1, 3), stride=(2, 1), padding=(0, 1)), "D2")
    assert equivariance_error(twin, torch.randn(2, 3, 7, 8), "D2") < 1e-14


def operations(i, k, s, p, d):
    """Return every operation with a sampling grid, as a function of an image and of whether its filter is reversed."""
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(2, 2, k, k, generator=generator, dtype=torch.float64)

    def conv(x, dims):
        return functional.conv2d(x, weight.flip(dims), None, s, p, d)

    pools = {
        "max": lambda x, dims: functional.max_pool2d(x, k, s, p, d),
        "max, rounded up": lambda x, dims: functional.max_pool2d(x, k, s, p, d, ceil_mode=True),
        "mean": lambda x, dims: functional.avg_pool2d(x, k, s, p),
        "mean, rounded up": lambda x, dims: functional.avg_pool2d(x, k, s, p, ceil_mode=True),
        "mean without padding": lambda x, dims: functional.avg_pool2d(x, k, s, p, count_include_pad=False),
        "mean without, up": lambda x, dims: functional.avg_pool2d(x, k, s, p, True, count_include_pad=False),
        "mean by hand": lambda x, dims: functional.avg_pool2d(x, k, s, p, divisor_override=3),
        "norm": lambda x, dims: functional.lp_pool2d(x, 2, k, s),
        "norm, rounded up": lambda x, dims: functional.lp_pool2d(x, 2, k, s, ceil_mode=True),
    }
    allowed = pools if p <= k // 2 else {}
    return {"conv": conv, **allowed} if i + 2 * p >= d * (k - 1) + 1 else {}


@pytest.mark.parametrize("axes", [("W",), ("H",), ("H", "W")])
def test_a_shifted_grid_is_the_grid_of_the_reversed_map(axes):
    """f(reversed x) is f_r(x) reversed, for every operation, by reversing instead of shifting."""
    dims = [{"H": -2, "W": -1}[axis] for axis in axes]
    checked = 0
    for i, k, s, p, d in itertools.product((5, 6, 7, 8), (1, 2, 3, 4), (1, 2, 3), (0, 1, 2), (1, 2)):
        for name, operation in operations(i, k, s, p, d).items():
            x = torch.randn(1, 2, i, i + 1, dtype=torch.float64)
            try:
                expected = operation(x.flip(dims), dims)
            except RuntimeError:  # a dilated pool that does not fit
                continue
            with PhaseMode(axes, Here()):
                found = operation(x, [])
            assert torch.allclose(found.flip(dims), expected, atol=1e-12, equal_nan=True), (name, i, k, s, p, d)
            checked += 1
    assert checked > 1500


def test_a_grid_without_offset_is_left_alone():
    with PhaseMode(("H", "W"), Here()) as mode:
        functional.conv2d(torch.randn(1, 2, 9, 9), torch.randn(2, 2, 3, 3), stride=2, padding=1)
        functional.max_pool2d(torch.randn(1, 2, 8, 8), 2)
        torch.nn.Conv2d(2, 2, 3, padding="same")(torch.randn(1, 2, 8, 8))
    assert mode.shifts == []


@pytest.mark.parametrize("group", ["C4", "D4"])
def test_the_offsets_explain_a_twin_at_the_wrong_size(group):
    torch.manual_seed(0)
    twin = symmetrised_twin(torchvision.models.resnet18(weights=None))
    report = phase_report(twin, torch.randn(2, 3, 64, 64), group)
    rows = {row.move: row for row in report.rows}
    assert report.explained and rows["180°"].before > 0.3 and max(row.after for row in report.rows) < 1e-12
    quarter = [(shift.layer, shift.axis, shift.remainder) for shift in rows["90°"].shifts]
    assert quarter[:3] == [("conv1", "W", 1), ("maxpool", "W", 1), ("layer2.0.conv1", "W", 1)] and len(quarter) == 8
    assert "the sole cause of the error" in report.table() and "conv1 W+1, maxpool W+1" in report.table()
    assert report.to_dict()["explained"] is True
    if group == "D4":  # the transposition reverses no axis: it is exact at every size
        assert rows["mirror, 90°"].before < 1e-12 and rows["mirror, 90°"].shifts == ()


def test_offsets_do_not_explain_what_weights_break():
    torch.manual_seed(0)
    report = phase_report(torchvision.models.resnet18(weights=None), torch.randn(2, 3, 64, 64))
    assert not report.explained and min(row.after for row in report.rows) > 0.1
    assert "not the sole cause" in report.table()


def test_nothing_is_shifted_at_an_exact_size():
    twin = symmetrised_twin(torchvision.models.resnet18(weights=None))
    report = phase_report(twin, torch.randn(2, 3, 65, 65))
    assert report.explained and all(row.shifts == () and row.before < 1e-12 for row in report.rows)


def test_phases_of_oblong_images_follow_their_axes():
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, stride=2, padding=1)
    report = phase_report(symmetrised_twin(conv), torch.randn(2, 3, 8, 9), "D2")
    rows = {row.move: row for row in report.rows}
    assert {shift.axis for shift in rows["180°"].shifts} == {"H"} and rows["mirror"].shifts == ()
    assert rows["mirror"].before < 1e-14 < 0.1 < rows["180°"].before and report.explained


def test_phases_need_right_angles():
    with pytest.raises(UserError, match="a turn by 45° interpolates pixels"):
        phase_report(nn.Conv2d(3, 4, 3), torch.randn(2, 3, 8, 8), "C8")
    with pytest.raises(UserError, match="output has no equivariance error"):
        phase_report(nn.Sequential(nn.Conv2d(3, 4, 3), Folded()), torch.randn(2, 3, 8, 8))


class Folded(nn.Module):
    def forward(self, x):
        return x.flatten(0, 1)
