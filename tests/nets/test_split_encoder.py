"""Split encoders: where the cut lies, what every backbone returns, and what is refused."""

import copy
import sys
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from partial_equiv import UserError, build
from partial_equiv.nets import SplitEncoder
from partial_equiv.nets.backbones import TORCHVISION, make_backbone
from tests.nets.specs import SMALL

OPTION = yaml.safe_load((Path(__file__).resolve().parents[2] / "cfg/net/SplitEncoder.yaml").read_text(encoding="utf-8"))


def made(*, in_channels=3, size=(32, 32), seed=0, conv=None, **net):
    """Return a network from the option file with keys changed."""
    torch.manual_seed(seed)
    spec = copy.deepcopy(SMALL)
    spec["conv"] |= conv or {}
    spec["net"], spec["info"] = OPTION | net, {"in_channels": in_channels, "no_classes": 10, "size": list(size)}
    return build(spec)


@settings(deadline=None)
@given(st.integers(1, 40).flatmap(lambda width: st.tuples(st.just(width), st.integers(0, width))))
def test_the_parts_are_the_first_and_the_last_numbers(widths):
    width, equi = widths
    encoder = SplitEncoder(nn.Flatten(), width=width, equi=equi)
    images = torch.arange(2.0 * width).reshape(2, width, 1, 1)
    h = encoder(images)
    assert h.tolist() == images.flatten(1).tolist()
    assert encoder.part(h, "all") is h
    expected = {"all": width, "inv": width - equi, "equi": equi}
    assert encoder.widths == {name: number for name, number in expected.items() if number}
    for name, row in (("inv", list(range(width - equi))), ("equi", list(range(width - equi, width)))):
        if row:
            assert encoder.part(h, name)[0].tolist() == row
        else:
            with pytest.raises(UserError, match=f"='{name}' is not one of: all"):
                encoder.part(h, name)


@pytest.mark.parametrize("size", [8, 9, 24, 32])
@pytest.mark.parametrize("in_channels", [1, 3])
def test_the_small_network_takes_images_from_8_pixels(in_channels, size):
    net, images = made(in_channels=in_channels, size=(size, size)), torch.randn(3, in_channels, size, size)
    h = net(images)
    assert h.shape == (3, 128) and h.isfinite().all() and h.min() >= 0 and h.std(dim=0).min() > 0
    assert net.widths == {"all": 128, "inv": 64, "equi": 64}
    assert made(in_channels=in_channels, width=32, equi=10)(images).shape == (3, 32)


def test_the_small_network_is_the_one_of_the_specification():
    """Written again from the words: a convolution to 32 channels, blocks of 32, 64 and 128 with strides 1, 2 and 2."""
    net, images = made().double(), torch.randn(4, 3, 32, 32, dtype=torch.float64)
    convs = [module for module in net.modules() if isinstance(module, nn.Conv2d)]
    norms = [module for module in net.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    layers = [(conv, norm) for conv, norm in zip(convs, norms, strict=True)]

    def layer(x, stride):
        conv, norm = layers.pop(0)
        out = functional.conv2d(x, conv.weight, stride=stride, padding=conv.weight.shape[-1] // 2)
        mean, variance = out.mean(dim=(0, 2, 3), keepdim=True), out.var(dim=(0, 2, 3), keepdim=True, unbiased=False)
        scale, shift = norm.weight[:, None, None], norm.bias[:, None, None]
        return (out - mean) / (variance + 1e-5).sqrt() * scale + shift

    x, shapes = layer(images, 2).relu(), []
    for stride in (1, 2, 2):
        main = layer(layer(x, stride).relu(), 1)
        x = (main + (x if stride == 1 else layer(x, stride))).relu()
        shapes.append(tuple(x.shape[1:]))
    assert shapes == [(32, 16, 16), (64, 8, 8), (128, 4, 4)] and not layers
    torch.testing.assert_close(net(images), x.mean(dim=(2, 3)), rtol=1e-9, atol=1e-9)
    assert sum(p.numel() for p in net.parameters()) == 307_360


def test_the_mlp_is_two_hidden_layers():
    net = made(backbone="mlp", in_channels=96, size=(1, 1))
    vectors = torch.randn(5, 96, 1, 1)
    (w1, b1, w2, b2, w3, b3) = (p.detach() for p in net.parameters())
    assert [w.shape for w in (w1, w2, w3)] == [(256, 96), (256, 256), (128, 256)]
    hidden = (vectors[:, :, 0, 0] @ w1.T + b1).clamp_min(0)
    torch.testing.assert_close(net(vectors), (hidden @ w2.T + b2).clamp_min(0) @ w3.T + b3)


def test_large_images_meet_the_resnet_of_torchvision():
    from torchvision.models import resnet18

    net, other = made(backbone="resnet18", size=(65, 65), equi=256), resnet18(weights=None)
    other.fc = nn.Identity()
    other.load_state_dict(net.backbone.state_dict())
    images = torch.randn(2, 3, 65, 65)
    assert torch.equal(net.eval()(images), other.eval()(images)) and net.width == 512


@pytest.mark.parametrize("in_channels", [1, 3])
def test_small_images_keep_their_resolution_in_the_stem(in_channels):
    net, seen = made(backbone="resnet18", in_channels=in_channels, size=(64, 64)), []
    net.backbone.layer1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    assert net(torch.randn(2, in_channels, 12, 12)).shape == (2, 512) and seen == [(2, 64, 12, 12)]
    grey = made(backbone="resnet18", in_channels=1, size=(96, 96))
    assert grey.backbone.conv1.weight.shape == (64, 1, 7, 7)


@pytest.mark.parametrize("name", TORCHVISION)
def test_every_network_of_torchvision_says_its_width(name):
    with torch.device("meta"):
        network, width = make_backbone(name, in_channels=3, size=(32, 32), width=None)
        assert network.eval()(torch.zeros(1, 3, 32, 32)).shape == (1, width)


@pytest.mark.parametrize("net", [{}, {"backbone": "mlp"}, {"backbone": "resnet18"}, {"backbone": "published_resnet18"}])
def test_a_step_reaches_every_parameter_and_images_do_not_see_their_neighbours(net):
    model, images = made(**net, size=(8, 8)), torch.randn(4, 3, 8, 8)
    (model(images) - torch.randn(4, model.width)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(images)[:1], model(images[:1]), rtol=1e-4, atol=1e-5)


def test_the_choices_of_group_convolutions_change_nothing():
    first, second = made(), made(conv={"padding": 3, "partial_equiv": True}, norm="no norm at all")
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value), name


def test_timm_is_named_where_it_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"net.backbone=timm:resnet10t needs timm.*: pip install '.\[backbones\]'"):
        made(backbone="timm:resnet10t")


def test_networks_of_timm_say_their_width():
    pytest.importorskip("timm")
    for name, width in (("resnet10t", 512), ("vit_tiny_patch16_224", 192)):
        net = made(backbone=f"timm:{name}", in_channels=1)
        assert net.training and net.width == width and net(torch.randn(2, 1, 32, 32)).shape == (2, width)
    with pytest.raises(UserError, match="'resnet10t'"):
        made(backbone="timm:resnet10")


@pytest.mark.parametrize(
    ("net", "words"),
    [
        (
            {"equi": 129},
            "net.equi=129 makes the equivariant width larger than the representation, .* 128 .*: give 0 to",
        ),
        ({"equi": -1}, "net.equi=-1 is negative: give .* 0 to 128"),
        ({"equi": 1.5}, "net.equi=1.5 is of the wrong type: give an integer"),
        ({"backbone": "resnet19"}, "net.backbone='resnet19' is not one of: small, mlp, .*did you mean 'resnet18'"),
        ({"backbone": "published_resnet"}, "is not one of: .*did you mean 'published_resnet"),
        ({"backbone": "resnet18", "width": 128}, "net.width=128 .* has 512 numbers: set net.width=null or 512"),
        ({"width": 126}, "net.width=126 does not fit net.backbone=small: give a multiple of 4"),
        ({"backbone": "mlp", "width": 0}, "net.width=0 does not fit net.backbone=mlp: give 1 or more"),
        ({"backbone": "published_resnet18", "size": (1, 1)}, "images of 1x1 pixels away: give images from 4 pixels"),
        ({"widt": 3}, "net.widt is not a key of net .*did you mean 'width'"),
    ],
)
def test_a_mistake_is_answered_in_one_sentence(net, words):
    with pytest.raises(UserError, match=words) as caught:
        made(**net)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


def test_a_backbone_of_another_width_is_told():
    with pytest.raises(UserError, match=r"returns \[2, 12\] for 2 images and width=7 promises \[2, 7\]"):
        SplitEncoder(nn.Flatten(), width=7, equi=3)(torch.zeros(2, 3, 2, 2))
