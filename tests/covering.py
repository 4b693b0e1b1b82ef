"""Small training steps that between them show every pair of choices: network, group, sampling and factorisation."""

import itertools
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from hydra import compose, initialize_config_dir

from config_reader import read_config
from dataset_constructor import construct_info
from model_constructor import construct_model
from objective_constructor import construct_stages
from partial_equiv.datasets import Batch, Views, moved
from partial_equiv.nets import NETS, PIXEL_NETS, PLAIN_NETS

ROOT = Path(__file__).resolve().parents[1]
CONTINUOUS = ("SE2", "E2")
SAMPLINGS = {
    "fixed": ["base_group.sampling_method=deterministic", "base_group.sample_per_layer=False", "conv=full"],
    "random": ["base_group.sampling_method=random", "base_group.sample_per_layer=False", "conv=full"],
    "layer": ["base_group.sampling_method=random", "base_group.sample_per_layer=True", "conv=full"],
    "image": [
        "base_group.sampling_method=random",
        "base_group.sample_per_layer=True",
        "base_group.sample_per_batch_element=True",
        "conv=full",
    ],
    "gates": ["base_group.sampling_method=deterministic", "base_group.sample_per_layer=False", "conv=partial"],
    "interval": ["base_group.sampling_method=random", "base_group.sample_per_layer=True", "conv=partial"],
}
CHOICES = {
    "net": tuple(NETS),
    "group": ("T2", "C4", "D4", "SE2", "E2"),
    "sampling": tuple(SAMPLINGS),
    "factorization": ("full", "g", "gc"),
}
TRUNK = ["net.no_hidden=4", "net.no_blocks=1", "net.pool_blocks=[1]", "kernel.no_hidden=4", "kernel.size=3"]
OWN = {
    "GConvNet": ["net.width=4"],
    "GResNet": ["net.depth=18", "net.stage_widths=[2,2,2,2]"],
    "LiftingNet": ["net.width=4"],
    "SymmetryNet": [
        "net.widths=[2,2,4]",
        "net.no_latent=6",
        "net.resolution=13",
        "net.decoder_width=4",
        "kernel.size=3",
    ],
    "SplitEncoder": ["net.backbone=mlp", "net.width=16", "net.equi=8"],
    "SplitCKResNet": [*TRUNK, "net.width=8", "net.equi=4", "net.no_frequencies=1"],
}
METHODS = {"SymmetryNet": ["train=symmetry"], "SplitCKResNet": ["train=sie", "dataset=digit_turns"]}
METHODS["SplitEncoder"] = ["train=sie", "dataset=latent_vectors"]


class Case(NamedTuple):
    """One choice of each kind."""

    net: str
    group: str
    sampling: str
    factorization: str

    def __str__(self):
        return "-".join(self)


def fits(case):
    """Say whether the product takes such choices together."""
    if case.net in PLAIN_NETS:  # nothing of the group reaches it
        return case[1:] == ("SE2", "fixed", "full")
    if case.net in PIXEL_NETS:
        whole = case.net == "LiftingNet" and case.factorization != "full"  # it has no elements to factorise over
        return case.group not in CONTINUOUS and case.sampling == "fixed" and not whole
    if case.net == "SymmetryNet":  # 16 turns, the same for all layers and images
        return case.group == "SE2" and case.sampling in ("fixed", "random")
    if case.net.startswith("Augerino"):
        return case.group in CONTINUOUS and case.sampling == "random"
    if case.net == "SplitCKResNet" and case.group == "T2":  # without turns it has no second part
        return False
    return case.group in CONTINUOUS or case.sampling in ("fixed", "gates")


def pairs(case):
    """Return the pairs of choices that a case shows."""
    return set(itertools.combinations(zip(CHOICES, case, strict=True), 2))


def possible():
    """Return every case that fits, in one order."""
    return [case for case in itertools.starmap(Case, itertools.product(*CHOICES.values())) if fits(case)]


def covering():
    """Return few cases that show every pair that any case shows: each time the one with the most new pairs."""
    cases, found = possible(), []
    missing = set().union(*map(pairs, cases))
    while missing:
        found.append(max(cases, key=lambda case: len(pairs(case) & missing)))
        missing -= pairs(found[-1])
    for case in tuple(found):  # early ones may show nothing any more that no other does
        rest = set().union(*(pairs(other) for other in found if other != case))
        if pairs(case) <= rest:
            found.remove(case)
    return found


def overrides(case):
    """Return what would be typed."""
    no_samples = (
        1 if case.group == "T2" else 16 if case.net == "SymmetryNet" else 8 if case.group in ("D4", "E2") else 4
    )
    sampling = [word for word in SAMPLINGS[case.sampling] if case.group != "T2" or "base_group" not in word]
    method = METHODS.get(case.net, ["train=classification"])
    mlp = ["train.mlp=8-8-8"] if "train=sie" in method else []
    group = [f"base_group={case.group}", f"base_group.no_samples={no_samples}"]
    own = OWN.get(case.net, TRUNK)
    factors = [f"conv.factorization={case.factorization}"] if case.factorization != "full" else []
    return [*method, f"net={case.net}", *group, *sampling, *factors, *own, *mlp]


def make_stage(case, *more, no_images=4, device="cpu"):
    """Return the first stage of a training, in training mode, and a batch of noise."""
    words = [*overrides(case), *more]
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        config = read_config(compose("config", words), words)
    info = construct_info(config)
    info = info if len(info.size) < 2 or info.size[0] == 1 else replace(info, size=(12, 12))
    torch.manual_seed(0)
    stage = next(iter(construct_stages(config, construct_model(config, info).to(device), 3, info=info).values()))
    stage.objective.to(device).train()
    shape, index, labels = (info.in_channels, *info.size), torch.arange(no_images), torch.arange(no_images) % 3
    if not info.views:
        return stage, moved(Batch(torch.randn(no_images, *shape), labels, index, None), device)
    drawn = (no_images, len(info.views))
    batch = Views(torch.randn(*drawn, *shape), labels, index, torch.rand(*drawn, len(info.latents)))
    return stage, moved(batch, device)
