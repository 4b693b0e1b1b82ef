"""Networks of every type, trained in nothing but their statistics, for the tests of their plain forms."""

import torch
from torch import nn

from partial_equiv import build
from partial_equiv.sampling import samplers
from tests.nets.specs import D4, E2, GCNN, INTERVAL, LINEAR, PER_IMAGE, RANDOM, SHARED, SUBSET, T2, make_spec
from tests.nets.symmetry_specs import symmetry_spec
from tests.nets.test_pixel_nets import GCONVNET, GRESNET, LIFTINGNET
from tests.nets.test_pixel_nets import spec_of as pixel_spec
from tests.nets.test_split_ckresnet import ONE
from tests.nets.test_split_ckresnet import spec_of as split_spec

EIGHT = {"base_group.no_samples": 8}
C4, C8 = {"base_group.name": "C4"}, {"base_group.name": "C8", **EIGHT}
CEIL = {"base_group.count": "ceil"}
LAYER_NORM = {"net.norm": "LayerNorm"}
LAST_T2 = {"net.last_conv_T2": True}
POOLING = {"net.learnable_final_pooling": True}
AUGERINO = {**SHARED, "net.type": "AugerinoCKResNet"}
OBLONG = {"info.size": [12, 8], "net.pool_blocks": [0], "kernel.size": 3}

CONTINUOUS = {
    "T2": make_spec(T2),
    "SE2": make_spec(),
    "SE2 random": make_spec(RANDOM, EIGHT),
    "SE2 interval": make_spec(INTERVAL, EIGHT),
    "SE2 ceil": make_spec(INTERVAL, EIGHT, CEIL),
    "SE2 gates": make_spec(SUBSET),
    "SE2 per image": make_spec(PER_IMAGE),
    "E2 random": make_spec(E2, RANDOM),
    "E2 interval": make_spec(E2, INTERVAL),
    "E2 ceil": make_spec(E2, INTERVAL, CEIL),
    "C4": make_spec(C4),
    "C8 gates": make_spec(C8, SUBSET),
    "D4": make_spec(D4),
    "D4 gates": make_spec(D4, SUBSET),
    "linear angles": make_spec(LINEAR),
    "oblong": make_spec(E2, INTERVAL, OBLONG),
    "LayerNorm": make_spec(LAYER_NORM),
    "LayerNorm gates": make_spec(D4, SUBSET, LAYER_NORM),
    "last T2": make_spec(LAST_T2),
    "last T2 gates": make_spec(D4, SUBSET, LAST_T2),
    "learned pooling": make_spec(POOLING),
    "learned pooling T2": make_spec(POOLING, LAST_T2),
    "even kernel": make_spec({"kernel.size": "same", "net.pool_blocks": []}, T2),
    "full kernel": make_spec({"kernel.size": "full", "net.pool_blocks": [2]}, GCNN),
    "MAGNet": make_spec({"kernel.type": "MAGNet"}),
    "MLP": make_spec({"kernel.type": "MLP", "kernel.norm": "BatchNorm"}),
    "GCNN": make_spec(GCNN, EIGHT),
    "GCNN E2 interval": make_spec(GCNN, E2, INTERVAL),
    "GCNN D4 gates": make_spec(GCNN, D4, SUBSET),
    "GCNN valid": make_spec(GCNN, {"conv.padding": "valid", "net.pool_blocks": [2]}),
    "Augerino": make_spec(AUGERINO, EIGHT),
    "Augerino E2": make_spec(AUGERINO, E2, GCNN, {"net.type": "AugerinoGCNN"}),
    "Augerino oblong": make_spec(AUGERINO, E2, OBLONG),
    "split": split_spec(),
    "split E2 interval": split_spec(E2, INTERVAL, ONE),
    "split D4 gates": split_spec(D4, SUBSET, ONE),
    "symmetry": symmetry_spec(),
    "symmetry published": symmetry_spec(net__head="encoder", net__head_output="relu", net__family="normal"),
}
"""Networks with continuous kernels; any of them takes a `conv.factorization`."""

PIXELS = {
    "GConvNet": pixel_spec(GCONVNET, "C4", in_channels=1, size=28),
    "GConvNet D4": pixel_spec(GCONVNET, "D4", in_channels=1, size=28, pool_blocks=[1, 3]),
    "GConvNet C1": pixel_spec(GCONVNET, "C1", in_channels=1, size=28),
    "LiftingNet": pixel_spec(LIFTINGNET, "C4", size=11, width=3),
    "LiftingNet D2": pixel_spec(LIFTINGNET, "D2", size=12, width=3),
    **{
        f"GResNet {group} {split} {downsample}": pixel_spec(
            GRESNET, group, size=size, depth=18, width=2, split=split, downsample=downsample, head=head
        )
        for group, split, downsample, head, size in (
            ("C4", None, "stride3", "coset_max", 17),
            ("D4", "g", "stride4", "coset_mean", 16),
            ("D1", "gc", "pool", "flat", 16),
            ("C2", "g", "blur4", "coset_max", 24),
        )
    },
    "GResNet 7x7": pixel_spec(GRESNET, "C4", size=33, width=2, stem="7x7", split="gc"),
}
"""Networks of exact filters."""

PLAIN = {"backbone": split_spec() | {"net": {"type": "SplitEncoder", "backbone": "small", "width": None, "equi": 8}}}
SPECS = {**CONTINUOUS, **PIXELS, **PLAIN}


def made(spec, dtype=torch.float64, seed=0):
    """Return a network in evaluation of which nothing is as it starts: statistics, affine numbers, gates and levels."""
    torch.manual_seed(seed)
    model = build(spec).double()
    with torch.no_grad():
        for module in model.modules():
            for name in ("bias", "weight"):
                numbers = getattr(module, name, None)
                if isinstance(numbers, nn.Parameter) and numbers.dim() == 1:
                    numbers.add_(0.2 * torch.randn_like(numbers))
        for sampler in samplers(model):
            if sampler.level is not None:
                sampler.level.fill_(0.3 + 0.4 * float(torch.rand(())))
            if sampler.gates is not None:
                sampler.gates.copy_(torch.randn_like(sampler.gates))
        for _ in range(2):
            model(images_of(spec, 4))
    return model.eval().to(dtype)


def images_of(spec, batch, dtype=torch.float64):
    """Return white noise."""
    info = spec["info"]
    return (torch.randn(batch, info["in_channels"], *info["size"], dtype=torch.float64) * 0.5 + 0.1).to(dtype)


def facts_of(spec):
    """Return what `to_plain` is told."""
    return spec["info"]["in_channels"], tuple(spec["info"]["size"])
