"""From a plain dict of choices to a network: no config library in sight."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import nn

from partial_equiv.convs import NORMS
from partial_equiv.errors import UserError
from partial_equiv.kernels import KERNELS
from partial_equiv.menu import bind, choose, fill, nearest, parameters
from partial_equiv.nets.augerino import Augerino, check_augerino
from partial_equiv.nets.budget import memory_budget
from partial_equiv.nets.ckresnet import CKResNet
from partial_equiv.nets.gcnn import GCNN
from partial_equiv.nets.gconvnet import GConvNet
from partial_equiv.nets.gresnet import GResNet
from partial_equiv.nets.kit import ConvChoices, ConvKit, GroupChoices, KernelChoices, make_kit
from partial_equiv.nets.liftingnet import LiftingNet
from partial_equiv.nets.split_ckresnet import make_split_ckresnet
from partial_equiv.nets.split_encoder import make_split_encoder
from partial_equiv.nets.symmetry_net import SymmetryNet

SECTIONS = ("net", "conv", "kernel", "base_group", "info")
FACTS = ("in_channels", "no_classes", "size")
SCALE = ("mean", "std")
"""Facts that only networks which undo the normalisation of their images need."""


NETS: dict[str, Callable[..., nn.Module]] = {
    "CKResNet": CKResNet,
    "GCNN": GCNN,
    "GConvNet": GConvNet,
    "GResNet": GResNet,
    "LiftingNet": LiftingNet,
    "SymmetryNet": SymmetryNet,
    "AugerinoCKResNet": CKResNet,
    "AugerinoGCNN": GCNN,
    "SplitCKResNet": make_split_ckresnet,
    "SplitEncoder": make_split_encoder,
}
PIXEL_NETS = ("GConvNet", "GResNet", "LiftingNet")
"""Networks of exact group convolutions on the pixel grid: they have no continuous kernels."""
PLAIN_NETS = ("SplitEncoder",)
"""Networks without group convolutions: conv, kernel, base_group and net.norm are nothing to them."""
AVERAGED = ("AugerinoCKResNet", "AugerinoGCNN")
"""Networks that are made plain and averaged over learned augmentations of their input."""


def build(spec: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    """Build a network from plain choices.

    Args:
        spec: {"net", "conv", "kernel", "base_group", "info"}: what the config groups of these names say, and the facts
            of the data: in_channels, no_classes and size = [Y, X] in pixels; for SymmetryNet mean and std too.
    Shape:
        The network maps images [B, C, Y, X] to logits [B, no_classes]; SymmetryNet to levels [B]; SplitEncoder and
        SplitCKResNet to representations [B, D].
    Raises:
        UserError: an unknown section, name, key, type or combination; the message says what would be right.
    """
    _check_keys(spec, SECTIONS, "")
    for section in SECTIONS:
        if not isinstance(spec[section], Mapping):
            raise UserError(f"{section}={spec[section]!r} is no part of a spec: give a group of keys")
    _check_keys(spec["info"], FACTS, "info.", optional=SCALE)
    _check_facts(spec["info"])
    with memory_budget("widths, for example net.no_hidden, net.width, kernel.no_hidden or base_group.no_samples"):
        return _build(spec)


def _build(spec: Mapping[str, Mapping[str, Any]]) -> nn.Module:
    net = dict(spec["net"])
    name, norm = net.pop("type", None), net.pop("norm", None)
    make_net = bind(NETS, name, net, "net", later=(*FACTS, *SCALE, "kit"))
    wanted = parameters(NETS[name])
    facts = {key: spec["info"].get(key) for key in (*FACTS, *SCALE) if key in wanted}
    if missing := [f"info.{key}" for key, value in facts.items() if value is None]:
        raise UserError(f"net.type={name} needs {' and '.join(missing)} in the spec: give one number per channel")
    facts["size"] = tuple(spec["info"]["size"])
    if name in PLAIN_NETS:
        return make_net(**facts)
    kit = _make_kit(spec, norm)
    if name not in AVERAGED:
        return make_net(**facts, kit=kit)
    check_augerino(kit, net)
    return Augerino(make_net(**facts, kit=_plain(kit)), kit.augmentation())


def _make_kit(spec: Mapping[str, Mapping[str, Any]], norm: str) -> ConvKit:
    """Return the makers of layers that conv, kernel, base_group and net.norm ask for."""
    kernel = dict(spec["kernel"])
    layout = {key: kernel.pop(key) for key in ("size", "angle") if key in kernel} | {
        "no_hidden": kernel.get("no_hidden")
    }
    make_kernel = bind(KERNELS, kernel.pop("type", None), kernel, "kernel", later=("in_features", "out_features"))
    return make_kit(
        fill(ConvChoices, spec["conv"], "conv"),
        fill(GroupChoices, spec["base_group"], "base_group"),
        fill(KernelChoices, layout, "kernel"),
        make_kernel,
        choose(NORMS, norm, "net.norm"),
    )


def _check_keys(given: Mapping[str, Any], known: Sequence[str], where: str, optional: Sequence[str] = ()) -> None:
    """Check that a part of a spec has the keys that `build` reads, and no other but optional ones.

    Raises:
        UserError: one is unknown or missing.
    """
    if not isinstance(given, Mapping):
        raise UserError(f"{given!r} is not a spec: give a group of keys: {', '.join(known)}")
    for key in given:
        if key not in (*known, *optional):
            raise UserError(f"{where}{key!r} is not a part of a spec: give {', '.join(known)}{nearest(key, known)}")
    for key in known:
        if key not in given:
            raise UserError(f"{where}{key} is missing from the spec: give {', '.join(known)}")


def _check_facts(info: Mapping[str, Any]) -> None:
    """Check the facts of the data that every network needs.

    Raises:
        UserError: something else than whole numbers from 1.
    """
    size = info["size"] if isinstance(info["size"], list | tuple) else []
    numbers = [info["in_channels"], info["no_classes"], *size]
    whole = all(isinstance(number, int) and not isinstance(number, bool) and number > 0 for number in numbers)
    if len(size) != 2 or not whole:
        given = ", ".join(f"info.{key}={info[key]!r}" for key in FACTS)
        raise UserError(
            f"{given} are not whole numbers from 1, two of them for the size: give for example size=[28, 28]"
        )


def _plain(kit: ConvKit) -> ConvKit:
    """Return the kit of a translation-equivariant network: SE2 with the identity alone."""
    choices = replace(kit.choices, name="SE2", no_samples=1, sampling_method="deterministic")
    return make_kit(kit.conv, choices, kit.kernel, kit.make_kernel, kit.norm)
