"""The audit as a probe: one number per layer, a table, a figure, and a model that is left as it was."""

import pytest
import torch
from matplotlib.figure import Figure
from torch import nn

from partial_equiv.convs import CosetPool, GConv2d
from partial_equiv.datasets import Batch
from partial_equiv.errors import UserError
from partial_equiv.groups import make_group
from partial_equiv.probes import Equivariance


def network():
    group = make_group("C4")
    lifting = GConv2d(group, 1, 2, 3, in_rep="trivial", padding=1)
    conv = GConv2d(group, 2, 2, 3, stride=2, padding=1)
    return nn.Sequential(lifting, nn.ReLU(), conv, CosetPool("max"), nn.AdaptiveAvgPool2d(1), nn.Flatten())


def batches(size):
    images = torch.randn(6, 1, size, size)
    for start in (0, 2, 4):
        yield Batch(images[start : start + 2], torch.zeros(2, dtype=torch.int64), torch.arange(2))


@pytest.mark.parametrize(("size", "exact"), [(9, True), (8, False)])
def test_every_layer_gets_its_number(size, exact):
    model = network()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    probe = Equivariance(group="C4", no_images=4, layers="leaf")
    numbers = probe(model, batches(size))
    assert (numbers["audit/output"] < 1e-12) == exact
    assert numbers["audit/0"] < 1e-12 and (numbers["audit/2"] < 1e-12) == exact
    files = probe.artifacts()
    assert files["audit.json"]["shape"] == [4, 1, size, size]
    assert isinstance(files["audit.png"], Figure)
    assert "<table" in files["audit.html"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_one_image_is_too_few():
    with pytest.raises(UserError, match="test.audit.no_images=1 is too few: give 2 or more"):
        Equivariance(group="C4", no_images=1, layers="leaf")
