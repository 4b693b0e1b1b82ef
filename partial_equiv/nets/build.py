"""From a plain dict of choices to a network: no config library in sight."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from torch import nn

from partial_equiv.convs import NORMS
from partial_equiv.errors import UserError
from partial_equiv.kernels import KERNELS
from partial_equiv.menu import bind, choose, nearest, parameters
from partial_equiv.nets.augerino import make_augerino
from partial_equiv.nets.ckresnet import CKResNet
from partial_equiv.nets.gcnn import GCNN
from partial_equiv.nets.kit import ConvChoices, ConvKit, GroupChoices, KernelChoices, make_kit

FACTS = ("in_channels", "no_classes", "size", "kit")


def _plain(kit: ConvKit) -> ConvKit:
    """Return the kit of a translation-equivariant network: SE2 with the identity alone."""
    choices = replace(kit.choices, name="SE2", no_samples=1, sampling_method="deterministic")
    return make_kit(kit.conv, choices, kit.kernel, kit.make_kernel, kit.norm)


def make_augerino_ckresnet(
    *,
    in_channels: int,
    no_classes: int,
    size: tuple[int, int],
    kit: ConvKit,
    no_hidden: int,
    no_blocks: int,
    dropout: float,
    block_width_factors: list[float] | None,
    pool_blocks: list[int],
) -> nn.Module:
    """Return a plain CKResNet inside an Augerino average (keys: see `CKResNet`)."""
    net = CKResNet(
        in_channels=in_channels,
        no_classes=no_classes,
        size=size,
        kit=_plain(kit),
        no_hidden=no_hidden,
        no_blocks=no_blocks,
        dropout=dropout,
        block_width_factors=block_width_factors,
        pool_blocks=pool_blocks,
        last_conv_T2=False,
        learnable_final_pooling=False,
        final_spatial_dim=[1, 1],
    )
    return make_augerino(net, kit)


def make_augerino_gcnn(
    *,
    in_channels: int,
    no_classes: int,
    size: tuple[int, int],
    kit: ConvKit,
    no_hidden: int,
    no_blocks: int,
    dropout: float,
    block_width_factors: list[float] | None,
    pool_blocks: list[int],
    dropout_blocks: list[int],
) -> nn.Module:
    """Return a plain GCNN inside an Augerino average (keys: see `GCNN`)."""
    net = GCNN(
        in_channels=in_channels,
        no_classes=no_classes,
        size=size,
        kit=_plain(kit),
        no_hidden=no_hidden,
        no_blocks=no_blocks,
        dropout=dropout,
        block_width_factors=block_width_factors,
        pool_blocks=pool_blocks,
        dropout_blocks=dropout_blocks,
    )
    return make_augerino(net, kit)


NETS: dict[str, Callable[..., nn.Module]] = {
    "CKResNet": CKResNet,
    "GCNN": GCNN,
    "AugerinoCKResNet": make_augerino_ckresnet,
    "AugerinoGCNN": make_augerino_gcnn,
}


def build(spec: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """Build a network from plain choices.

    Args:
        spec: {"net", "conv", "kernel", "base_group", "info"}: what the config groups of these names say, and the facts
            of the data: in_channels, no_classes and size = [Y, X] in pixels.
    Shape:
        The network maps images [B, C, Y, X] to logits [B, no_classes].
    Raises:
        UserError: an unknown section, name, key, type or combination; the message says what would be right.
    """
    for section in spec:
        if section not in ("net", "conv", "kernel", "base_group", "info"):
            raise UserError(f"the spec has an unknown section {section!r}{nearest(section, ('net', 'conv', 'kernel'))}")
    net, kernel, info = dict(spec["net"]), dict(spec["kernel"]), spec["info"]
    layout = {key: kernel.pop(key) for key in ("size", "angle") if key in kernel} | {
        "no_hidden": kernel.get("no_hidden")
    }
    make_kernel = bind(KERNELS, kernel.pop("type"), kernel, "kernel", later=("in_features", "out_features"))
    kit = make_kit(
        _choices(ConvChoices, spec["conv"], "conv"),
        _choices(GroupChoices, spec["base_group"], "base_group"),
        _choices(KernelChoices, layout, "kernel"),
        make_kernel,
        choose(NORMS, net.pop("norm", None), "net.norm"),
    )
    make_net = bind(NETS, net.pop("type"), net, "net", later=FACTS)
    return make_net(in_channels=info["in_channels"], no_classes=info["no_classes"], size=tuple(info["size"]), kit=kit)


def _choices(kind: Callable[..., Any], values: Mapping[str, Any], where: str) -> Any:
    """Return the dataclass `kind` filled from a config group, its keys and types checked."""
    name = where
    known = parameters(kind)
    for key in values:
        if key not in known:
            raise UserError(
                f"{where}.{key} is not a key of {where} (it takes: {', '.join(known)}){nearest(key, known)}"
            )
    return bind({name: kind}, name, values, where)()
