"""Small and published networks as the plain dicts that `build` takes."""

import copy

import torch
from torch import nn

from partial_equiv import build

SMALL = {
    "net": {
        "type": "CKResNet",
        "no_hidden": 4,
        "no_blocks": 2,
        "dropout": 0.0,
        "norm": "BatchNorm",
        "block_width_factors": None,
        "pool_blocks": [0, 1],
        "dropout_blocks": [],
        "last_conv_T2": False,
        "learnable_final_pooling": False,
        "final_spatial_dim": [1, 1],
    },
    "conv": {"padding": "same", "partial_equiv": False, "bias": True},
    "kernel": {
        "type": "SIREN",
        "no_hidden": 8,
        "no_layers": 3,
        "size": 3,
        "angle": "circle",
        "omega0": 5.0,
        "learn_omega0": False,
        "weight_norm": False,
        "norm": None,
        "activation": None,
    },
    "base_group": {
        "name": "SE2",
        "no_samples": 4,
        "sampling_method": "deterministic",
        "sample_per_layer": False,
        "sample_per_batch_element": False,
        "count": "all",
        "gumbel_init_temp": 0.5,
        "gumbel_end_temp": 1e-4,
    },
    "info": {"in_channels": 2, "no_classes": 3, "size": [12, 12]},
}
# Which of a network's ways to sample, for `make_spec`.
GRID = {}
RANDOM = {"base_group.sampling_method": "random", "base_group.sample_per_layer": True}
SHARED = {"base_group.sampling_method": "random"}
INTERVAL = {**RANDOM, "conv.partial_equiv": True}
SUBSET = {"conv.partial_equiv": True}
PER_IMAGE = {**RANDOM, "base_group.sample_per_batch_element": True}
E2 = {"base_group.name": "E2", "base_group.no_samples": 8}
D4 = {"base_group.name": "D4", "base_group.no_samples": 8}
T2 = {"base_group.name": "T2", "base_group.no_samples": 1}
GCNN = {"net.type": "GCNN", "net.pool_blocks": [1], "net.no_blocks": 3}
LINEAR = {"kernel.angle": "linear"}


def make_spec(*changes, start=SMALL, **more):
    """Return a spec with dotted keys changed: make_spec(E2, {"net.norm": "LayerNorm"})."""
    spec = copy.deepcopy(start)
    for change in (*changes, more):
        for key, value in change.items():
            section, name = key.split(".")
            spec[section][name] = value
    return spec


def published(*changes, net="CKResNet", size=28, in_channels=1, no_classes=10):
    """Return one of the two published networks, with the published angle coordinate."""
    residual = net.endswith("CKResNet")
    shape = {
        "net.type": net,
        "net.no_hidden": 32 if residual else 128,
        "net.no_blocks": 2 if residual else 8,
        "net.block_width_factors": [1, 1, 2, 1] if residual else [1, 1, 2, 7],
        "net.pool_blocks": [0, 1] if residual and size == 28 else [1, 2] if residual else [2, 5],
        "net.dropout_blocks": [] if residual else [2, 5, 8],
        "kernel.no_hidden": 32 if residual else 8,
        "kernel.size": 7 if residual else 3,
        "kernel.omega0": 10.0,
        "base_group.no_samples": 8,
        "info.size": [size, size],
        "info.in_channels": in_channels,
        "info.no_classes": no_classes,
    }
    return make_spec(shape, LINEAR, *changes)


def count(spec):
    return sum(p.numel() for p in build(spec).parameters())


def trained(*changes, seed=0):
    """Return a small network in float64, in evaluation, its statistics, biases and affine parameters not fresh."""
    torch.manual_seed(seed)
    spec = make_spec(*changes)
    model = build(spec).double()
    with torch.no_grad():
        for module in model.modules():
            bias = getattr(module, "bias", None)
            if isinstance(bias, nn.Parameter):
                bias.add_(0.2 * torch.randn_like(bias))
        for _ in range(2):
            model(torch.randn(4, spec["info"]["in_channels"], *spec["info"]["size"], dtype=torch.float64))
    return model.eval()
