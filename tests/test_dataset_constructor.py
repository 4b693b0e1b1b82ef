"""Option files against signatures, and the way from a configuration to loaders."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf

from dataset_constructor import construct_dataset, construct_info, construct_loaders
from partial_equiv.datasets import DATASETS
from partial_equiv.errors import UserError

OPTIONS = Path(__file__).parents[1] / "cfg" / "dataset"


def config(name, *, augment="none", batch_size=64, rot_interval=0, **dataset):
    cfg = OmegaConf.create(
        {
            "seed": 0,
            "augment": augment,
            "no_workers": 4,
            "train": {"batch_size": batch_size},
            "dataset_params": {"rot_interval": rot_interval},
            "dataset": OmegaConf.load(OPTIONS / f"{name}.yaml"),
        }
    )
    cfg.dataset.update(dataset)
    return OmegaConf.to_container(cfg, resolve=True)


@pytest.fixture
def npz(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "a.npz"
    np.savez(path, images=rng.integers(0, 256, (50, 16, 16, 3), dtype=np.uint8), labels=np.arange(50) % 4)
    return str(path)


def test_an_option_file_for_every_entry():
    assert {path.stem for path in OPTIONS.glob("*.yaml")} == set(DATASETS)


@pytest.mark.parametrize("name", DATASETS)
def test_option_file_holds_the_keywords_of_its_function(name):
    text = (OPTIONS / f"{name}.yaml").read_text()
    options = OmegaConf.create(text)
    assert next(iter(options)) == "type"
    assert options.type == name
    assert set(options) - {"type"} == set(inspect.signature(DATASETS[name]).parameters)
    assert len(text.splitlines()) < 25
    assert all("#" in line for line in text.splitlines() if not line.startswith("type:"))


@pytest.mark.parametrize("name", DATASETS)
def test_functions_take_keywords_without_defaults(name):
    for parameter in inspect.signature(DATASETS[name]).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is parameter.empty


def test_the_data_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    assert config("MNIST")["dataset"]["root"] == "data"
    monkeypatch.setenv("DATA_DIR", "/somewhere")
    assert config("CIFAR10")["dataset"]["root"] == "/somewhere"
    assert config("MNIST6-180", rot_interval=30)["dataset"]["rot_interval"] == 30


COUNTS = {
    "digits": (4_788, 200, 400),
    "MNIST": (55_000, 5_000, 10_000),
    "rotMNIST": (10_000, 2_000, 50_000),
    "MNIST6-180": (10_636, 1_200, 1_916),
    "MNIST6-M": (10_636, 1_200, 1_916),
    "CIFAR10": (45_000, 5_000, 10_000),
    "CIFAR100": (45_000, 5_000, 10_000),
    "STL10": (4_500, 500, 8_000),
    "PCam": (262_144, 32_768, 32_768),
    "Flowers102": (1_020, 1_020, 6_149),
    "ImageNet": (1_231_167, 50_000, 50_000),
    "glyph": (2, 2, 2),
}
NEED_NO_FILES = {"digits", "glyph"}


@pytest.mark.parametrize("name", COUNTS)
def test_facts_need_no_files(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    info = construct_info(config(name))
    assert info.name == name
    assert (info.no_train, info.no_validation, info.no_test) == COUNTS[name]
    assert len(info.class_names) == info.no_classes
    assert len(info.mean) == len(info.std) == info.in_channels


@pytest.mark.parametrize("keys", [{}, {"size": 16, "copies": 2, "no_train": 30, "no_test": 10}])
def test_facts_without_files_equal_those_of_the_images(keys):
    expected, found = construct_info(config("digits", **keys)), construct_dataset(config("digits", **keys)).info
    assert (expected.no_train, expected.no_validation, expected.no_test) == (
        found.no_train,
        found.no_validation,
        found.no_test,
    )
    assert (expected.size, expected.mean, expected.in_channels) == (found.size, found.mean, found.in_channels)


def test_npz_facts_are_read_from_the_file(npz):
    assert construct_info(config("npz", root=npz)) == construct_dataset(config("npz", root=npz)).info
    with pytest.raises(UserError, match=r"dataset.root is empty"):
        construct_info(config("npz"))


@pytest.mark.parametrize("name", set(COUNTS) - NEED_NO_FILES)
def test_absent_files_are_told_with_a_place_to_put_them(name, tmp_path, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "none"))
    with pytest.raises(UserError) as caught:
        construct_dataset(config(name))
    assert str(tmp_path / "none") in str(caught.value)
    assert "put" in str(caught.value) or "unpack" in str(caught.value)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("name", "keys", "message"),
    [
        ("digits", {"no_tran": 5}, r"dataset\.no_tran is not a key of dataset.*did you mean 'no_train'"),
        ("CIFAR10", {"copies": 5}, "dataset.copies is not a key of dataset"),
        ("digits", {"size": "big"}, "dataset.size='big' is of the wrong type: give an integer"),
        ("digits", {"type": "digit"}, "did you mean 'digits'"),
        ("MNIST", {"download": "maybe"}, "dataset.download='maybe' is of the wrong type"),
    ],
)
def test_unknown_names_keys_and_types_are_told(name, keys, message):
    with pytest.raises(UserError, match=message):
        construct_dataset(config(name, **keys))


def test_a_missing_key_is_told():
    cfg = config("digits")
    del cfg["dataset"]["seed"]
    with pytest.raises(UserError, match=r"dataset\.seed is missing"):
        construct_dataset(cfg)


def test_the_run_seed_moves_order_and_augmentation_but_not_the_data(npz):
    first, second = ({**config("npz", root=npz, augment="resnet"), "seed": seed} for seed in (0, 1))
    splits = [construct_dataset(cfg) for cfg in (first, second)]
    assert torch.equal(splits[0].train.images, splits[1].train.images)
    assert not torch.equal(splits[0].train[range(36)].images, splits[1].train[range(36)].images)
    orders = [
        torch.cat([b.index for b in construct_loaders(s, c).train])
        for s, c in zip(splits, (first, second), strict=True)
    ]
    assert not torch.equal(orders[0], orders[1])


def test_loaders(npz):
    cfg = config("npz", root=npz, augment="resnet", batch_size=10)
    splits = construct_dataset(cfg)
    loaders = construct_loaders(splits, cfg)
    assert [sum(len(batch.labels) for batch in loader) for loader in loaders] == [36, 4, 10]
    assert torch.cat([batch.index for batch in loaders.test]).tolist() == list(range(10))
    assert torch.cat([batch.index for batch in loaders.train]).tolist() != list(range(36))
    assert splits.train.augmentation is not None
    assert splits.validation.augmentation is splits.test.augmentation is None


def test_augmentation_without_a_published_one_is_told():
    with pytest.raises(UserError, match="augment=resnet is not defined for dataset=digits"):
        construct_dataset(config("digits", augment="resnet"))
