"""The audit of escnn's networks: its own representations, and its floor beside ours."""

import importlib
import math

import pytest
import torch
from torch import nn

from partial_equiv import UserError
from partial_equiv.audit import Move, audit, make_moves, symmetrised_twin
from partial_equiv.audit.phase import phase_report
from partial_equiv.audit.representations import Unmeasured
from partial_equiv.audit.typed import element_of, geometric
from tests.oracles import load_escnn

pytestmark = pytest.mark.filterwarnings("ignore")  # escnn's sources, and numpy 2 on them
FLOOR = 2e-6  # its filters are built in single precision
SPACES = {
    "C4": ("rot2dOnR2", 4),
    "D4": ("flipRot2dOnR2", 4),
    "C8": ("rot2dOnR2", 8),
    "SO2": ("rot2dOnR2", -1),
    "O2": ("flipRot2dOnR2", -1),
}


@pytest.fixture(scope="module")
def escnn():
    found = load_escnn()
    for name in ("escnn.gspaces", "escnn.nn"):
        importlib.import_module(name)
    return found


def space(escnn, name):
    make, order = SPACES[name]
    return getattr(escnn.gspaces, make)(order)


class Net(nn.Module):
    """Two convolutions, the second of stride 2, a norm, and the invariant readout."""

    def __init__(self, escnn, name, stride=2):
        super().__init__()
        e, gspace = escnn.nn, space(escnn, name)
        self.plane, self.images = e, e.FieldType(gspace, 2 * [gspace.trivial_repr])
        if name in ("SO2", "O2"):
            frequencies = [(1,), (2,)] if name == "SO2" else [(1, 1), (1, 2)]
            middle = [gspace.trivial_repr, *(gspace.irrep(*frequency) for frequency in frequencies)]
            act = e.NormNonLinearity
        else:
            middle, act = [gspace.regular_repr] * 2, e.ReLU
        hidden = e.FieldType(gspace, middle)
        self.conv1 = e.R2Conv(self.images, hidden, 3, padding=1)
        self.act = act(hidden, inplace=True) if act is e.ReLU else act(hidden)
        self.conv2 = e.R2Conv(hidden, hidden, 3, padding=1, stride=stride)
        self.last = e.R2Conv(hidden, e.FieldType(gspace, 3 * [gspace.trivial_repr]), 3, padding=1)

    def forward(self, x):
        f = self.conv2(self.act(self.conv1(self.plane.GeometricTensor(x, self.images))))
        return self.last(f).tensor.mean((-2, -1))


def make(escnn, name, **keys):
    torch.manual_seed(0)
    model = Net(escnn, name, **keys)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model.eval()


@pytest.mark.parametrize(("name", "group"), [("C4", "C4"), ("D4", "D4"), ("C8", "C4"), ("SO2", "C4"), ("O2", "D4")])
def test_a_random_network_is_exact_to_its_floor(escnn, name, group):
    report = audit(make(escnn, name), torch.randn(2, 2, 9, 9), group, tolerance=FLOOR)
    assert report.culprits == () and report.error < FLOOR
    assert {row.name for row in report.rows} == {"conv1", "act", "conv2", "last", "output"}
    assert all(row.cumulative is not None for row in report.rows)
    assert report.rows[0].representation.startswith("escnn")


@pytest.mark.parametrize("name", ["C4", "D4"])
def test_the_wrong_size_is_found(escnn, name):
    report = audit(make(escnn, name), torch.randn(2, 2, 8, 8), name, tolerance=FLOOR)
    assert [row.name for row in report.culprits] == ["conv2"] and report.error > 0.01
    assert audit(make(escnn, name, stride=1), torch.randn(2, 2, 8, 8), name, tolerance=FLOOR).culprits == ()


@pytest.mark.parametrize("name", SPACES)
def test_its_elements_are_found_by_what_they_do(escnn, name):
    """Its transformation of a tensor, where it need not interpolate, is ours."""
    gspace = space(escnn, name)
    representations = [gspace.trivial_repr]
    representations += [gspace.irrep(1, 1)] if name in ("D4", "O2") else [gspace.irrep(1)]
    kind = escnn.nn.FieldType(gspace, representations)
    field = escnn.nn.GeometricTensor(torch.randn(2, kind.size, 5, 5), kind)
    for move in make_moves("D4"):
        if move.mirror and name not in ("D4", "O2"):
            with pytest.raises(Unmeasured, match="does not hold such a move"):
                element_of(gspace, move)
            continue
        theirs = field.transform(element_of(gspace, move)).tensor
        assert torch.allclose(geometric(field).act(field, move).tensor, theirs, atol=1e-5)
    if name in ("C4", "D4"):
        with pytest.raises(Unmeasured):
            element_of(gspace, Move(math.pi / 4))


def test_moves_its_group_lacks_have_no_number(escnn):
    report = audit(make(escnn, "C4"), torch.randn(2, 2, 9, 9), "D4", tolerance=FLOOR)
    row = report.rows[0]
    assert row.errors["local"]["90°"] < FLOOR and row.errors["local"]["mirror"] is None
    assert "C4 of the geometric tensor does not hold" in row.reason


def test_an_eighth_turn_of_its_fields_interpolates(escnn):
    x = torch.nn.functional.avg_pool2d(torch.randn(2, 2, 40, 40), 8, 1)
    report = audit(make(escnn, "C8"), x, "C8", tolerance=FLOOR)
    errors = report.rows[0].errors["local"]
    assert errors["90°"] < FLOOR < errors["45°"] < 0.5


def test_its_phases_are_the_sole_cause(escnn):
    report = phase_report(make(escnn, "D4"), torch.randn(2, 2, 8, 8), "D4")
    assert max(row.before for row in report.rows) > 0.01 and max(row.after for row in report.rows) < FLOOR
    assert {shift.layer for row in report.rows for shift in row.shifts} == {"conv2"}


def test_its_networks_have_no_filters_to_average(escnn):
    with pytest.raises(UserError, match="has no Conv2d"):
        symmetrised_twin(make(escnn, "C4"))
