"""From the config groups net, conv, kernel and base_group to a network."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from partial_equiv import build
from partial_equiv.datasets import DatasetInfo

GROUPS = ("net", "conv", "kernel", "base_group")


def construct_spec(cfg: Mapping[str, Any], info: DatasetInfo) -> dict[str, Any]:
    """Return the plain dict that `partial_equiv.build` takes: four config groups and some facts of the data.

    A checkpoint carries this dict, so that an installed library can rebuild the network.
    """
    facts = {"in_channels": info.in_channels, "no_classes": info.no_classes, "size": list(info.size)}
    facts |= {"mean": list(info.mean), "std": list(info.std)}
    return {group: dict(cfg[group]) for group in GROUPS} | {"info": facts}


def construct_model(cfg: Mapping[str, Any], info: DatasetInfo) -> nn.Module:
    """Return a fresh network.

    Raises:
        UserError: an unknown name, key, type or combination.
    """
    return build(construct_spec(cfg, info))
