"""The planner on torchvision: exact sizes of every network, a symmetrised twin at an exact and an inexact size."""

import pytest
import torch
import torchvision
from torch import nn

from partial_equiv.audit import check_exactness
from tests.audit.mirrors import BROKEN, error, mirrored, noise, symmetrised

MODELS = torchvision.models
# name -> (residue, S) of exact sizes; None where no size is exact. The twin is run near 64 pixels.
CLASSES = {
    "resnet18": (1, 32),
    "resnet50": (1, 32),
    "mobilenet_v2": (1, 32),
    "efficientnet_b0": (1, 32),
    "regnet_y_400mf": (1, 32),
    "shufflenet_v2_x0_5": (1, 32),
    "mnasnet0_5": (1, 32),
    "densenet121": (29, 32),
    "googlenet": (13, 32),
    "squeezenet1_1": (15, 16),
    "convnext_tiny": (0, 32),
}
NEVER = {"alexnet": "flatten", "vgg11": "flatten", "vit_b_16": "table", "swin_t": "roll"}
PROPOSED = {"resnet18": 225, "densenet121": 221, "squeezenet1_1": 223, "convnext_tiny": 224}
KEYS = {"googlenet": {"aux_logits": False, "init_weights": False}}


def make(name):
    torch.manual_seed(0)
    return getattr(MODELS, name)(**KEYS.get(name, {})).eval()


@pytest.mark.parametrize("name", CLASSES)
def test_exact_sizes_are_those_of_the_table(name):
    report = check_exactness(make(name), 224)
    assert report.modulus == CLASSES[name]
    assert report.unknown == ()
    residue, period = CLASSES[name]
    assert report.exact == (224 % period == residue)
    assert all(size % period == residue for size in report.propose(near=224))
    assert report.propose(near=224)[0] == PROPOSED.get(name, report.propose(near=224)[0])


@pytest.mark.parametrize("name", NEVER)
def test_some_networks_are_exact_at_no_size(name):
    report = check_exactness(make(name), 224)
    assert not report.exact and report.modulus is None
    reasons = " ".join(f"{row.kind} {row.reason}" for row in report.rows if row.exact is False)
    assert NEVER[name] in reasons.lower(), reasons


@pytest.mark.long
@pytest.mark.parametrize("name", CLASSES)
def test_a_twin_breaks_at_the_size_that_the_planner_says(name):
    residue, period = CLASSES[name]
    exact = next(size for size in range(96, 200) if size % period == residue)
    twin = symmetrised(spread(make(name)))
    for size, holds in ((exact, True), (exact + 1, False)):
        assert check_exactness(twin.float(), size, "D2").exact == holds
        x = noise(size)
        found = max(error(twin.double(), x, lambda t, axis=axis: mirrored(t, axis)) for axis in "HW")
        assert (found < BROKEN) == holds, (name, size, found)


def spread(model):
    """Give norms the statistics of noise and layer scales the value 1: no signal fades, no branch is silent."""
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = None  # of all passes
            if hasattr(module, "layer_scale"):
                module.layer_scale.fill_(1.0)
        model.train()(noise(96, batch=4).float())
    return model.eval()
