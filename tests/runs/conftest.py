"""A tiny network, tiny data and finished run folders."""

import dataclasses

import pytest
import torch
import yaml

import partial_equiv
from partial_equiv.datasets import DatasetInfo, ImageSet, Splits
from partial_equiv.runs import RunFolder, save_state

INFO = DatasetInfo(
    name="tiny",
    in_channels=1,
    no_classes=3,
    size=(12, 12),
    mean=(0.2,),
    std=(0.3,),
    class_names=("6", "7", "8"),
    no_train=4,
    no_validation=4,
    no_test=4,
)


@pytest.fixture
def spec():
    """Choices of a network of two group convolutions."""
    return {
        "net": {
            "type": "CKResNet",
            "no_hidden": 3,
            "no_blocks": 1,
            "dropout": 0.0,
            "norm": "BatchNorm",
            "block_width_factors": None,
            "pool_blocks": [0],
            "last_conv_T2": False,
            "learnable_final_pooling": False,
            "final_spatial_dim": [1, 1],
        },
        "conv": {"padding": "same", "partial_equiv": True, "bias": True},
        "kernel": {
            "type": "SIREN",
            "no_hidden": 4,
            "no_layers": 2,
            "size": 3,
            "angle": "circle",
            "omega0": 10.0,
            "learn_omega0": False,
            "weight_norm": False,
        },
        "base_group": {
            "name": "E2",
            "no_samples": 8,
            "sampling_method": "random",
            "sample_per_layer": True,
            "sample_per_batch_element": False,
            "count": "all",
            "gumbel_init_temp": 0.5,
            "gumbel_end_temp": 1e-4,
        },
        "info": {"in_channels": 1, "no_classes": 3, "size": [12, 12]},
    }


@pytest.fixture
def tiny():
    """Return a function that makes four images in each split, of classes 7, 6, 8, 6."""
    return make_tiny


def make_tiny(**changes):
    """Return the splits, with changed facts."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (4, 1, 12, 12), generator=generator, dtype=torch.uint8)
    info = dataclasses.replace(INFO, **changes)
    one = ImageSet(images, torch.tensor([1, 0, 2, 0]), mean=info.mean, std=info.std)
    return Splits(one, one, one, info)


@pytest.fixture
def make_run(tmp_path, spec):
    """Return a function that makes a finished run folder with an untrained network."""

    def make(name, levels, *, seed=0, rot_interval=0, **summary):
        config = {
            "seed": seed,
            "dataset": {"type": "tiny", "rot_interval": rot_interval},
            **{key: spec[key] for key in ("net", "conv", "kernel", "base_group")},
        }
        with RunFolder(tmp_path / name, config) as run:
            run.summary({"levels": levels, "mirror": [None] * len(levels), **summary})
        torch.manual_seed(seed)
        save_state(run.path, "best", partial_equiv.build(spec).state_dict(), {"spec": spec})
        assert yaml.safe_load((run.path / "config.yaml").read_text()) == config
        return run.path

    return make
