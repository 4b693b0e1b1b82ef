"""The planner on torchvision: exact sizes of every network, a symmetrised twin at an exact and an inexact size."""

import pytest
import torch
import torchvision
from torch import nn

from partial_equiv.audit import check_exactness
from tests.audit.mirrors import BROKEN, error, mirrored, noise, symmetrised

MODELS = torchvision.models
# name -> (residue, S) of exact sizes, spec 4.3
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
# The exact size next to 224, where it is not 225.
PROPOSED = {"densenet121": 221, "googlenet": 237, "squeezenet1_1": 223, "convnext_tiny": 224}
KEYS = {"googlenet": {"aux_logits": False, "init_weights": False}}


def make(name):
    torch.manual_seed(0)
    return getattr(MODELS, name)(**KEYS.get(name, {})).eval()


@pytest.mark.long
@pytest.mark.parametrize("name", CLASSES)
def test_exact_sizes_are_those_of_the_table(name):
    report = check_exactness(make(name), 224)
    assert report.modulus == CLASSES[name]
    assert report.unknown == ()
    residue, period = CLASSES[name]
    assert report.exact == (224 % period == residue)
    assert all(size % period == residue for size in report.propose(near=224))
    assert report.propose(near=224)[0] == PROPOSED.get(name, 225)


@pytest.mark.long
@pytest.mark.parametrize("name", NEVER)
def test_some_networks_are_exact_at_no_size(name):
    report = check_exactness(make(name), 224)
    assert not report.exact and report.modulus is None
    reasons = " ".join(f"{row.kind} {row.reason}" for row in report.rows if row.exact is False)
    assert NEVER[name] in reasons.lower(), reasons


def spread(model):
    """Give norms the statistics of noise, layer scales 1, heads of zeros weights: no signal fades, none is silent."""
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "layer_scale"):
                module.layer_scale.fill_(1.0)
            if isinstance(module, nn.Linear) and not module.weight.any():
                module.weight.normal_()
        if norms:
            for norm in norms:
                norm.momentum = None  # the mean of all passes
            model.train()(noise(96, batch=4).float())
    return model.eval()


def check_twin(name, sizes):
    """Check that a symmetrised twin, really run, breaks where the planner says; sizes: {pixels: exact or not}."""
    model = spread(make(name))
    twin = symmetrised(model)
    for size, holds in sizes.items():
        assert check_exactness(model, size, "D2").exact == holds
        x = noise(size)
        found = max(error(twin, x, lambda t, axis=axis: mirrored(t, axis)) for axis in "HW")
        assert (found < BROKEN) == holds, (name, size, found)


@pytest.mark.parametrize("name", ["squeezenet1_1", "shufflenet_v2_x0_5"])
def test_a_twin_breaks_at_the_size_that_the_planner_says(name):
    residue, period = CLASSES[name]
    exact = next(size for size in range(96, 200) if size % period == residue)
    check_twin(name, {exact: True, exact + 1: False})


@pytest.mark.long
@pytest.mark.parametrize("name", CLASSES)
def test_a_twin_breaks_at_the_sizes_of_the_table(name):
    check_twin(name, {PROPOSED.get(name, 225): True, 225 if name == "convnext_tiny" else 224: False})


@pytest.mark.long
@pytest.mark.parametrize("name", NEVER)
def test_a_twin_breaks_where_no_size_is_exact(name):
    check_twin(name, {224: False})
