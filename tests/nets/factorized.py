"""Small networks with factorised convolutions, for the suites that run over them."""

import pytest
import torch

from tests.nets.specs import D4, E2, GCNN, INTERVAL, PER_IMAGE, RANDOM, SUBSET
from tests.nets.test_invariance import AUGERINO, AUGERINO_GCNN

FACTORS = ("g", "gc")
EIGHT = {"base_group.no_samples": 8}
NETS = {
    "SE2": [],
    "SE2 8": [EIGHT],
    "C4": [{"base_group.name": "C4"}],
    "SE2 random": [RANDOM, EIGHT],
    "SE2 partial at level 1": [INTERVAL],
    "SE2 gates": [SUBSET],
    "SE2 per image": [PER_IMAGE],
    "E2": [E2],
    "D4": [D4],
    "E2 random": [E2, RANDOM],
    "E2 gates": [E2, SUBSET],
    "GCNN SE2": [GCNN],
    "GCNN D4": [GCNN, D4],
    "GCNN valid": [GCNN, {"conv.padding": "valid", "net.pool_blocks": [2]}],
    "GCNN full": [{"kernel.size": "full", "net.pool_blocks": [2]}, GCNN],
    "MAGNet": [{"kernel.type": "MAGNet"}],
    "LayerNorm": [{"net.norm": "LayerNorm"}],
    "MLP": [{"kernel.type": "MLP", "kernel.norm": "BatchNorm"}],
    "Augerino": [AUGERINO],
    "Augerino GCNN": [AUGERINO_GCNN],
}


def by(factorization):
    """Return the change of a spec that chooses a factorization."""
    return {"conv.factorization": factorization}


def images_of(batch=3, channels=2, side=12):
    """Return white noise."""
    return torch.randn(batch, channels, side, side, dtype=torch.float64)


def pairs(cases):
    """Return (case, factorization) for every case; "g" beyond the first ones is for the long suite."""
    long = [[], [pytest.mark.long]]
    return [
        pytest.param(case, factorization, marks=long[factorization == "g" and index > 2])
        for factorization in FACTORS
        for index, case in enumerate(cases)
    ]
