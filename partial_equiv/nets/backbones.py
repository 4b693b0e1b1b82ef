"""Backbones of split encoders by name: images -> representation, and how many numbers it has.

Axes: B batch, C channels, Y X image, D numbers of the representation.
"""

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from partial_equiv.errors import UserError
from partial_equiv.menu import nearest
from partial_equiv.nets.published_resnet import VARIANTS, Residual, conv_norm, make_published_resnet

ANY_WIDTH = ("small", "mlp")
"""Backbones whose representation is as wide as one likes."""
OWN_WIDTH, MLP_HIDDEN = 128, 256
TORCHVISION = (
    *(f"resnet{depth}" for depth in (18, 34, 50, 101, 152)),
    *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d", "wide_resnet50_2", "wide_resnet101_2"),
)
PUBLISHED, TIMM = "published_", "timm:"
SMALL_SIDE = 65
"""Pixels: torchvision's networks keep the resolution of smaller images."""
PUBLISHED_SIDE = 4


class SmallResNet(nn.Module):
    """Convolution of stride 2, three residual blocks of strides 1, 2, 2 and the mean over pixels.

    Channels are D/4, D/4, D/2, D. Maps are laid out channel by channel within a pixel, which is a fifth faster on CPUs.

    Args:
        in_channels: Of the images.
        width: D, a multiple of 4.
    Shape:
        [B, C, Y, X], for images from 8 pixels -> [B, D].
    """

    def __init__(self, in_channels: int, width: int) -> None:
        super().__init__()
        first, second = width // 4, width // 2
        self.stem = nn.Sequential(*conv_norm(in_channels, first, 3, stride=2, padding=1), nn.ReLU())
        self.blocks = nn.Sequential(_block(first, first, 1), _block(first, second, 2), _block(second, width, 2))

    def forward(self, images: Tensor) -> Tensor:
        """Encode."""
        maps: Tensor = self.blocks(self.stem(images.contiguous(memory_format=torch.channels_last)))
        return maps.mean(dim=(-2, -1))


def make_backbone(name: str, *, in_channels: int, size: tuple[int, int], width: int | None) -> tuple[nn.Module, int]:
    """Return an untrained backbone and the width D of its representation.

    Args:
        name: "small"; "mlp" (two hidden layers of 256 and ReLU, no norms; images are flattened); a ResNet of
            torchvision, whose stem for images below 65 pixels is a 3x3 convolution without stride and maximum;
            "published_<name>", see `make_published_resnet`; or "timm:<name>".
        in_channels: Of the images.
        size: (Y, X) in pixels.
        width: D for "small" (a multiple of 4) and "mlp"; None is 128 there, and each other network's own.
    Shape:
        [B, C, Y, X] -> [B, D].
    Raises:
        UserError: an unknown name, a width that the backbone does not have, images that are too small, or timm is not
            installed.
    """
    if name in ANY_WIDTH:
        return _make_any_width(name, in_channels, size, OWN_WIDTH if width is None else width)
    if name in TORCHVISION:
        backbone, own = _make_torchvision(name, in_channels, min(size) < SMALL_SIDE)
    elif name.startswith(TIMM):
        backbone, own = _make_timm(name.removeprefix(TIMM), in_channels, size)
    elif name.removeprefix(PUBLISHED) in VARIANTS and name.startswith(PUBLISHED):
        if min(size) < PUBLISHED_SIDE:
            raise UserError(
                f"net.backbone={name} halves images of {size[0]}x{size[1]} pixels away: give images from "
                f"{PUBLISHED_SIDE} pixels, or net.backbone=mlp for vectors"
            )
        backbone, own = make_published_resnet(name.removeprefix(PUBLISHED), in_channels)
    else:
        known = [*ANY_WIDTH, *TORCHVISION, *(PUBLISHED + variant for variant in VARIANTS)]
        raise UserError(
            f"net.backbone={name!r} is not one of: {', '.join([*ANY_WIDTH, *TORCHVISION])}, published_resnet18 "
            f"(and its relatives), timm:<name>{nearest(name, known)}"
        )
    if width not in (None, own):
        raise UserError(
            f"net.width={width} does not fit net.backbone={name}, whose representation has {own} numbers: "
            f"set net.width=null or {own}"
        )
    return backbone, own


def _block(no_in: int, no_out: int, stride: int) -> Residual:
    main = nn.Sequential(
        *conv_norm(no_in, no_out, 3, stride=stride, padding=1), nn.ReLU(), *conv_norm(no_out, no_out, 3, padding=1)
    )
    same = stride == 1 and no_in == no_out
    return Residual(main, nn.Identity() if same else nn.Sequential(*conv_norm(no_in, no_out, 1, stride=stride)))


def _make_any_width(name: str, in_channels: int, size: tuple[int, int], width: int) -> tuple[nn.Module, int]:
    if width < 1 or (name == "small" and width % 4):
        fits = "a multiple of 4" if name == "small" else "1 or more"
        raise UserError(f"net.width={width} does not fit net.backbone={name}: give {fits}, for example {OWN_WIDTH}")
    if name == "small":
        return SmallResNet(in_channels, width), width
    no_inputs = in_channels * size[0] * size[1]
    first, second = nn.Linear(no_inputs, MLP_HIDDEN), nn.Linear(MLP_HIDDEN, MLP_HIDDEN)
    return nn.Sequential(nn.Flatten(), first, nn.ReLU(), second, nn.ReLU(), nn.Linear(MLP_HIDDEN, width)), width


def _make_torchvision(name: str, in_channels: int, keep_resolution: bool) -> tuple[nn.Module, int]:
    # torchvision is slow to import, hence late.
    from torchvision import models

    network: Any = models.get_model(name, weights=None)
    width: int = network.fc.in_features
    network.fc = nn.Identity()
    if keep_resolution:
        network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=3, padding=1, bias=False)
        network.maxpool = nn.Identity()
    elif in_channels != 3:
        network.conv1 = nn.Conv2d(in_channels, 64, kernel_size=7, stride=2, padding=3, bias=False)
    nn.init.kaiming_normal_(network.conv1.weight, mode="fan_out", nonlinearity="relu")
    return network, width


def _make_timm(name: str, in_channels: int, size: tuple[int, int]) -> tuple[nn.Module, int]:
    try:
        timm: Any = importlib.import_module("timm")
    except ModuleNotFoundError:
        raise UserError(
            f"net.backbone={TIMM}{name} needs timm, which is not installed: pip install '.[backbones]'"
        ) from None
    if not timm.is_model(name):
        raise UserError(
            f"net.backbone={TIMM}{name} is not a model of timm{nearest(name, timm.list_models())} "
            "(timm.list_models() lists them)"
        )
    fixed = {"img_size": size} if timm.get_pretrained_cfg(name).fixed_input_size else {}
    network: nn.Module = timm.create_model(name, pretrained=False, num_classes=0, in_chans=in_channels, **fixed)
    with torch.no_grad():
        width = network.eval()(torch.zeros(1, in_channels, *size)).shape[-1]
    return network.train(), width
