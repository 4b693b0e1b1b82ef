"""The trained network of a run as files that need nothing of this library."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

import partial_equiv
from partial_equiv.errors import UserError
from partial_equiv.export import (
    FORMATS,
    Agreement,
    compared_plain,
    export_network,
    largest_difference,
    random_images,
)
from partial_equiv.runs.atomic import write_atomically
from partial_equiv.runs.environment import environment_facts
from partial_equiv.runs.state import load_model, load_state
from partial_equiv.sampling import set_hard_gates

NAME = "network"


class NetworkFile(NamedTuple):
    """A file of a network, and how it compares with the network of the run.

    Args:
        path: Where it lies.
        no_bytes: Its length.
        no_parameters: Numbers of the plain network that can be learned.
        difference: Largest difference between the file, read back, and the network, see `Agreement`.
        agreement: Of the plain network with the network, before it became a file.
    """

    path: Path
    no_bytes: int
    no_parameters: int
    difference: float
    agreement: Agreement


def write_exports(run: Path, kinds: Sequence[str], *, hard_gates: bool = False) -> list[NetworkFile]:
    """Write `network.onnx`, `network.pt2` or both into a run folder, each whole or not at all.

    They take the images as the network does, normalised: mean and std lie in the files, as the other facts do.

    Args:
        run: The folder.
        kinds: "onnx", "torch".
        hard_gates: Keep the elements whose learned gate is above 1/2, instead of weighing all by their probability.

    Raises:
        UserError: no trained network, none that has a plain form, a package is missing, or a file says something else.
    """
    model = load_model(run)
    set_hard_gates(model, hard_gates)
    facts = facts_of(run)
    size = facts["size"][0], facts["size"][1]
    plain, agreement = compared_plain(model, facts["in_channels"], size)
    images = random_images(facts["in_channels"], size, next(plain.parameters()))
    facts["equivariance_error"] = {agreement.group: agreement.plain_error}
    no_parameters = sum(parameter.numel() for parameter in plain.parameters())
    files = []
    for kind in kinds:
        exported = export_network(plain, kind, images, facts)
        path = run / f"{NAME}{FORMATS[kind].ending}"
        write_atomically(path, exported.content)
        difference = largest_difference(model, exported.network, images)
        files.append(NetworkFile(path, len(exported.content), no_parameters, difference, agreement))
    return files


def facts_of(run: Path) -> dict[str, Any]:
    """Return what a user of the network has to know: its input, the normalisation, and where it comes from.

    Raises:
        UserError: the run has no trained network, or was trained before its checkpoint said mean and std.
    """
    spec = load_state(run, "best")[1]["spec"]
    info = spec["info"]
    if "mean" not in info or "std" not in info:
        raise UserError(f"{run} says no mean and std of its images: train it anew, or export with to_plain")
    return {
        "network": spec["net"]["type"],
        **{key: info[key] for key in ("in_channels", "size", "no_classes", "mean", "std")},
        "commit": environment_facts()["commit"],
        "version": partial_equiv.__version__,
        "torch": str(torch.__version__),
    }
