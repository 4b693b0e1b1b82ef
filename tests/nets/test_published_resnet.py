"""The published ResNets: counts, maps, a second writing of the forward pass, and what differs on purpose."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from partial_equiv.nets.published_resnet import VARIANTS, Residual, make_published_resnet
from partial_equiv.nets.split_encoder import make_split_encoder


def on_meta(name):
    with torch.device("meta"):
        return make_published_resnet(name, 3)


def count(network):
    return sum(parameter.numel() for parameter in network.parameters())


def filled(name, in_channels=3):
    """Return a network in float64 whose norms are not fresh."""
    torch.manual_seed(0)
    network, width = make_published_resnet(name, in_channels)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.2)
            module.running_var.uniform_(0.5, 2)
    return network.double().eval(), width


def test_resnet18_has_the_published_number_of_parameters():
    network, width = on_meta("resnet18")
    assert (count(network), width) == (11_180_736, 512)


@pytest.mark.parametrize(
    ("name", "theirs"),
    [
        ("resnet50", "resnet50"),
        ("resnet101", "resnet101"),
        ("resnet152", "resnet152"),
        ("resnext50", "resnext50_32x4d"),
        ("resnext101", "resnext101_32x8d"),
    ],
)
def test_bottlenecks_have_as_many_parameters_as_those_of_torchvision(name, theirs):
    from torchvision.models import get_model

    with torch.device("meta"):
        other = get_model(theirs, weights=None)
    other.fc = nn.Identity()
    network, width = on_meta(name)
    assert (count(network), width) == (count(other), 2048)


DEEP = [pytest.param(name, marks=pytest.mark.long) for name, variant in VARIANTS.items() if variant.depth > 50]


@pytest.mark.parametrize("name", [*(name for name, variant in VARIANTS.items() if variant.depth <= 50), *DEEP])
def test_every_variant_says_its_width(name):
    network, width = on_meta(name)
    assert network.eval()(torch.zeros(1, 3, 32, 32, device="meta")).shape == (1, width)
    expected = {"resnet18_wide_end": 2048, "resnet18_small_end": 256, "resnet18_splitpathways": 512, "resnet50w2": 4096}
    assert width == expected.get(name, width)


def test_maps_have_the_published_sizes():
    network, shapes = on_meta("resnet18")[0], []
    for module in network.modules():
        if isinstance(module, (nn.MaxPool2d, Residual)) or module is network[1]:
            module.register_forward_hook(lambda module, inputs, out: shapes.append((out.shape[1], out.shape[-1])))
    network(torch.zeros(2, 3, 256, 256, device="meta"))
    stages = [(64, 64)] * 2 + [(128, 32)] * 2 + [(256, 16)] * 2 + [(512, 8)] * 2
    assert shapes == [(64, 128), (64, 64), *stages]


def reference(network, images, depth):
    """Return the representation, written again from the table of the specification."""
    layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.BatchNorm2d))]

    def layer(x, **keys):
        conv, norm = layers.pop(0), layers.pop(0)
        out = functional.conv2d(x, conv.weight, groups=conv.groups, **keys)
        scale = norm.weight / (norm.running_var + norm.eps).sqrt()
        return out * scale[:, None, None] + (norm.bias - norm.running_mean * scale)[:, None, None]

    def strided(x, stride):
        return layer(functional.pad(x, (0, 1, 0, 1)), stride=2) if stride == 2 else layer(x, padding=1)

    x = layer(functional.pad(images, (2, 3, 2, 3)), stride=2).relu()
    x = functional.max_pool2d(functional.pad(x, (0, 1, 0, 1), value=-1e4), 3, 2)
    for stage, no_blocks in enumerate({18: (2, 2, 2, 2), 50: (3, 4, 6, 3)}[depth]):
        for block in range(no_blocks):
            stride = 2 if stage > 0 and block == 0 else 1
            if depth == 18:
                main = strided(layer(x, padding=1).relu(), stride)
            else:
                main = layer(strided(layer(x).relu(), stride).relu())
            x = (main + (layer(x, stride=stride) if block == 0 else x)).relu()
    assert not layers
    return x.mean(dim=(2, 3))


@pytest.mark.parametrize(("name", "depth", "in_channels"), [("resnet18", 18, 3), ("narrow_resnet50", 50, 1)])
def test_the_forward_pass_is_that_of_the_specification(name, depth, in_channels):
    network, width = filled(name, in_channels)
    images = torch.randn(2, in_channels, 64, 64, dtype=torch.float64)
    with torch.no_grad():
        h = network(images)
        torch.testing.assert_close(h, reference(network, images, depth), rtol=1e-9, atol=1e-9)
    assert h.shape == (2, width) and h.min() >= 0 and (h > 0).any()


@pytest.mark.parametrize("size", [(4, 4), (28, 28), (33, 47), (84, 31)])
def test_odd_maps_pass_too(size):
    network, width = make_published_resnet("narrow_resnet18", 1)
    assert network(torch.randn(2, 1, *size)).shape == (2, width)


@pytest.mark.parametrize("name", ["narrow_resnet18", "narrow_resnet50", "resnet18_no_relu"])
def test_every_block_starts_as_its_shortcut(name):
    torch.manual_seed(0)
    network, _ = make_published_resnet(name, 3)
    blocks = [module for module in network.modules() if isinstance(module, Residual)]
    for block in blocks:
        x = torch.randn(2, block.main[0].in_channels, 8, 8)
        assert torch.equal(block(x), block.shortcut(x).relu() if block.relu else block.shortcut(x))
    assert [block.relu for block in blocks[:-1]] == [True] * (len(blocks) - 1)
    assert blocks[-1].relu == (name != "resnet18_no_relu")
    for conv in (module for module in network.modules() if isinstance(module, nn.Conv2d)):
        fan_out = conv.out_channels * conv.kernel_size[0] ** 2
        assert conv.weight.std().item() == pytest.approx((2 / fan_out) ** 0.5, rel=0.05)


def test_without_a_last_relu_numbers_have_both_signs():
    images = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        assert filled("resnet18_no_relu")[0](images).min() < -0.05
        assert filled("resnet18")[0](images).min() >= 0


def test_the_invariant_pathway_comes_first():
    keys = {"in_channels": 1, "size": (8, 8), "backbone": "published_resnet18_splitpathways", "width": None}
    encoder, images = make_split_encoder(**keys, equi=256).eval(), torch.randn(2, 1, 8, 8)
    h = encoder(images)
    nn.init.normal_(encoder.backbone.networks[1][1].weight)
    other = encoder(images)
    assert torch.equal(encoder.part(h, "inv"), encoder.part(other, "inv"))
    assert not torch.allclose(encoder.part(h, "equi"), encoder.part(other, "equi"))
    small = on_meta("resnet18_small_end")[0]
    assert count(encoder) == 2 * count(small) - 2 * 64 * 2 * 49  # one channel in the place of three
