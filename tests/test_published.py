"""The 37 published commands, as they stand: composed, built with the published count, and trained for one step."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir

from config_reader import read_config
from dataset_constructor import construct_dataset, construct_info, construct_loaders
from model_constructor import construct_model, construct_spec
from objective_constructor import construct_stages
from partial_equiv.sampling import samplers

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = [
    shlex.split(line)
    for line in (Path(__file__).parent / "published_commands.txt").read_text(encoding="utf-8").splitlines()
    if line and not line.startswith("#")
]
# Parameters of the published networks, command by command; the augmented E2 row of CIFAR10 names SE2.
COUNTS = [
    *(48_845, 104_422, 51_154, 51_144),  # MNIST6-180 partial and full, MNIST6-M partial and full
    *(450_074, 467_791, 467_786, 450_075, 467_988, 467_978, 450_076),  # rotMNIST CKResNet: T2, SE2, E2
    *(3_992_106, 3_992_114, 3_992_106, 3_992_107),  # rotMNIST GCNN: T2, SE2 partial, full, augmented
    *(452_186, 469_903, 469_931, 452_187, 470_100, 470_123, 452_187),  # CIFAR10 CKResNet
    *(3_994_410, 3_994_418, 3_994_410, 3_994_411),  # CIFAR10 GCNN
    *(458_036, 475_753, 475_748, 458_037, 475_950, 475_940, 458_038),  # CIFAR100 CKResNet
    *(4_017_540, 4_017_548, 4_017_540, 4_017_541),  # CIFAR100 GCNN
]
FACTS = {
    "MNIST6-180": (1, 2, (28, 28)),
    "MNIST6-M": (1, 2, (28, 28)),
    "rotMNIST": (1, 10, (28, 28)),
    "CIFAR10": (3, 10, (32, 32)),
    "CIFAR100": (3, 100, (32, 32)),
}
NOTHING = {"augment": "none", "net.pool_blocks": "[]", "net.dropout_blocks": "[]"}  # elsewhere null
each_command = pytest.mark.parametrize("number", range(1, len(COMMANDS) + 1))


def keys_of(command):
    return dict(override.split("=", 1) for override in command)


def composed(*overrides):
    """Return the configuration that main would run."""
    with initialize_config_dir(str(ROOT / "cfg"), version_base="1.3"):
        return read_config(compose("config", list(overrides)), overrides)


def size_of(model):
    return sum(p.numel() for p in model.parameters())


def columns_of_the_circle(spec):
    """Return how many parameters (cos r, sin r) has over r / pi - 1: one more input column in each layer that reads it.

    That is SIREN's first layer, or every filter of a multiplicative filter network (with MAGNet its window's centre and
    width too), in the kernel of each group convolution and, with half the hidden units, of each shortcut.
    """
    kernel, net, group = spec["kernel"], spec["net"], spec["base_group"]
    per_unit = {"SIREN": 1, "Fourier": kernel["no_layers"] + 1, "MAGNet": 3 * (kernel["no_layers"] + 1)}[kernel["type"]]
    if net["type"].endswith("GCNN"):
        return per_unit * net["no_blocks"] * kernel["no_hidden"]
    # Blocks that resample need a shortcut each; elsewhere the one block does that widens.
    augmented = net["type"].startswith("Augerino")
    shortcuts = 1 if augmented or group["no_samples"] == 1 else net["no_blocks"]
    return per_unit * (5 * kernel["no_hidden"] + shortcuts * (kernel["no_hidden"] // 2))


def test_there_are_37_of_them():
    assert len(COMMANDS) == len(COUNTS) == 37


@each_command
def test_a_command_builds_the_published_network(number):
    command, expected = COMMANDS[number - 1], COUNTS[number - 1]
    config = composed(*command)
    info = construct_info(config)
    assert (info.in_channels, info.no_classes, info.size) == FACTS[keys_of(command)["dataset"]]
    spec = construct_spec(config, info)
    model = construct_model(config, info)
    assert size_of(model) == expected + columns_of_the_circle(spec), "the circle's columns, and no other difference"
    config["kernel"]["angle"] = "linear"
    assert size_of(construct_model(config, info)) == expected


@each_command
def test_a_command_means_what_it_says(number):
    command = COMMANDS[number - 1]
    keys, config = keys_of(command), composed(*command)
    model = construct_model(config, construct_info(config))
    partial, augmented = keys["conv.partial_equiv"] == "True", keys["net.type"].startswith("Augerino")
    learned = [s for s in samplers(model) if s.level is not None]
    layers = 8 if "GCNN" in keys["net.type"] else 5
    assert len(learned) == (layers if partial else 1 if augmented else 0)
    assert all((s.gates is not None) == (keys["base_group.name"] == "E2") for s in learned)
    assert config["train"]["epochs"] == int(keys["train.epochs"])
    assert config["train"]["lr"] == float(keys["train.lr"])
    assert config["train"]["lr_probs"] == (float(keys["train.lr_probs"]) if "train.lr_probs" in keys else None)
    assert config["augment"] == "none", "no published run augments"
    stages = construct_stages(config, model, steps_per_epoch=3)
    rates = {group["role"]: group["peak_lr"] for stage in stages.values() for group in stage.optimizer.param_groups}
    assert rates["rest"] == config["train"]["lr"]
    if learned:
        assert rates["levels"] == (config["train"]["lr_probs"] or config["train"]["lr"])


@pytest.mark.parametrize(
    "sentinels",
    [
        ["net.block_width_factors=[0.0]", "net.pool_blocks=[-1]", "net.dropout_blocks=[-1]"],
        ["train.lr_probs=0.0", "train.lr_omega0=0.0", "train.gradient_clip=0.0"],
        ["kernel.norm=", "kernel.activation=", "augment=None", "pretrained=False", "cuda_visible_devices=[-1]"],
        ["train.scheduler=null", "train.scheduler_params.warmup_epochs=-1", "train.scheduler_params.patience=-1"],
        ["train.scheduler_params.decay_steps=-1", "train.scheduler_params.decay_factor=-1"],
    ],
)
def test_published_sentinels_mean_nothing(sentinels):
    """The published way to say "nothing" and ours give one configuration."""
    ours = [f"{sentinel.split('=')[0]}={NOTHING.get(sentinel.split('=')[0], 'null')}" for sentinel in sentinels]
    assert composed("dataset=rotMNIST", *sentinels) == composed("dataset=rotMNIST", *ours)


def write_images(path, dataset):
    """Write a small npz of random images of the data set's shape and classes."""
    no_channels, no_classes, size = FACTS[dataset]
    rng, number = np.random.default_rng(0), max(20, no_classes)
    shape = (number, *size, 3) if no_channels == 3 else (number, *size)
    np.savez(path, images=rng.integers(0, 256, shape, dtype=np.uint8), labels=np.arange(number) % no_classes)


def take_a_step(number, folder):
    """Do one optimiser step of a command on random images and check that it learns."""
    command = COMMANDS[number - 1]
    dataset, batch = keys_of(command)["dataset"], 2 if "GCNN" in keys_of(command)["net.type"] else 4
    write_images(folder / "images.npz", dataset)
    kept = [
        override for override in command if not override.startswith(("dataset=", "train.batch_size=", "no_workers="))
    ]
    config = composed(*kept, "dataset=npz", f"dataset.root={folder / 'images.npz'}", f"train.batch_size={batch}")
    splits = construct_dataset(config)
    torch.manual_seed(config["seed"])
    model = construct_model(config, splits.info).train()
    loaders = construct_loaders(splits, config)
    (stage,) = construct_stages(config, model, len(loaders.train)).values()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    step = stage.objective(next(iter(loaders.train)))
    stage.optimizer.zero_grad()
    step.loss.backward()
    stage.optimizer.step()
    assert step.loss.isfinite() and step.size == batch
    moved = {name for name, p in model.named_parameters() if not torch.equal(p, before[name])}
    assert all(p.isfinite().all() for p in model.parameters())
    assert len(moved) > 0.8 * len(before)
    assert all(0 <= p.item() <= 1 for name, p in model.named_parameters() if name.endswith("level"))


SMALL = [k for k, command in enumerate(COMMANDS, 1) if keys_of(command)["dataset"].startswith("MNIST6")]
LARGE = [k for k in range(1, len(COMMANDS) + 1) if k not in SMALL]


@pytest.mark.parametrize("number", SMALL)
def test_a_small_network_takes_a_step(number, tmp_path):
    take_a_step(number, tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("number", LARGE)
def test_every_network_takes_a_step(number, tmp_path):
    take_a_step(number, tmp_path)
