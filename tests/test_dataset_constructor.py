"""Option files against signatures, and the way from a configuration to loaders."""

import inspect
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from dataset_constructor import construct_dataset, construct_info, construct_loaders
from partial_equiv.datasets import DATASETS
from partial_equiv.errors import UserError

OPTIONS = Path(__file__).parents[1] / "cfg" / "dataset"


def config(name, *, augment="none", batch_size=64, shared_interval=0, **dataset):
    cfg = OmegaConf.create(
        {
            "seed": 0,
            "augment": augment,
            "no_workers": 4,
            "train": {"batch_size": batch_size},
            "dataset_params": {"rot_interval": shared_interval},
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


NAMES = sorted(path.stem for path in OPTIONS.glob("*.yaml"))
INFERENCE = {"MNIST-Rot60", "MNIST-Rot60-90", "MNIST-Multiple", "MNIST-Gaussian", "MNIST-C2C4"}


def test_an_option_file_for_every_entry_and_for_every_set_of_symmetry_inference():
    assert set(NAMES) == set(DATASETS) | INFERENCE


@pytest.mark.parametrize("name", NAMES)
def test_option_file_holds_the_keywords_of_its_function(name):
    text = (OPTIONS / f"{name}.yaml").read_text()
    options = OmegaConf.create(text)
    assert next(iter(options)) == "type"
    assert options.type == ("MNIST-12k" if name in INFERENCE else name)
    assert set(options) - {"type"} == set(inspect.signature(DATASETS[options.type]).parameters)
    assert len(text.splitlines()) < 25
    assert all("#" in line for line in text.splitlines() if not line.startswith("type:"))


@pytest.mark.parametrize("name", DATASETS)
def test_functions_take_keywords_without_defaults(name):
    for parameter in inspect.signature(DATASETS[name]).parameters.values():
        assert parameter.kind is parameter.KEYWORD_ONLY
        assert parameter.default is parameter.empty or parameter.name == "law"  # stored runs may lack it


def test_the_data_folder_comes_from_the_environment(monkeypatch):
    monkeypatch.delenv("DATA_DIR", raising=False)
    assert config("MNIST")["dataset"]["root"] == "data"
    monkeypatch.setenv("DATA_DIR", "/somewhere")
    assert config("CIFAR10")["dataset"]["root"] == "/somewhere"
    assert config("MNIST6-180", shared_interval=30)["dataset"]["rot_interval"] == 30


COUNTS = {
    "digits": (4_788, 200, 400),
    "MNIST": (55_000, 5_000, 10_000),
    "rotMNIST": (10_000, 2_000, 50_000),
    "MNIST-12k": (9_600, 2_400, 50_000),
    **dict.fromkeys(sorted(INFERENCE), (9_600, 2_400, 50_000)),
    "MNIST6-180": (10_636, 1_200, 1_916),
    "MNIST6-M": (10_636, 1_200, 1_916),
    "CIFAR10": (45_000, 5_000, 10_000),
    "CIFAR100": (45_000, 5_000, 10_000),
    "STL10": (4_500, 500, 8_000),
    "PCam": (262_144, 32_768, 32_768),
    "Flowers102": (1_020, 1_020, 6_149),
    "ImageNet": (1_231_167, 50_000, 50_000),
    "glyph": (2, 2, 2),
    "3DIEBench": (39_824, 2_096, 10_552),
    "COIL20": (1_280, 1_280, 1_280),
    "digit_turns": (1_197, 200, 400),
    "latent_vectors": (21_000, 3_000, 6_000),
    "shapes3d": (10_500, 1_500, 3_000),
}
NEED_NO_FILES = {"digits", "glyph", "digit_turns", "latent_vectors", "shapes3d"}


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
    for name in ("npz", "folder"):
        with pytest.raises(UserError, match=r"dataset.root is empty"):
            construct_info(config(name))


@pytest.mark.parametrize("name", sorted(set(COUNTS) - NEED_NO_FILES))
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
        (
            "digits",
            {"law": 60},
            "dataset.law=60 is of the wrong type: give a text or a list, each entry a text or null",
        ),
        ("digits", {"law": "uniform:200"}, "law='uniform:200' is no law of angles"),
        ("digits", {"law": "full"}, "dataset.rot_interval=180 and dataset.law=full would both turn the images"),
        ("digits", {"law": ["full"] * 9, "rot_interval": 0}, "9 laws of angles are given .* each of the 10 classes"),
        ("glyph", {"law": ["full"] * 3}, "3 laws of angles are given .* each of the 2 classes"),
    ],
)
def test_unknown_names_keys_and_types_are_told(name, keys, message):
    with pytest.raises(UserError, match=message):
        construct_dataset(config(name, **keys))


LAWS = {
    "MNIST-12k": ["none"] * 10,
    "MNIST-Rot60": ["uniform:60"] * 10,
    "MNIST-Rot60-90": ["uniform:60"] * 5 + ["uniform:90"] * 5,
    "MNIST-Multiple": ["none"] + [f"uniform:{18 * digit}" for digit in range(1, 10)],
    "MNIST-Gaussian": ["none"] + [f"normal:{9 * digit}" for digit in range(1, 10)],
    "MNIST-C2C4": ["cyclic:2"] * 5 + ["cyclic:4"] * 5,
    "MNIST": ["none"] * 10,
    "rotMNIST": ["full"] * 10,
    "digits": ["full"] * 10,
}


@pytest.mark.parametrize("name", LAWS)
def test_laws_of_the_published_sets(name):
    assert [str(law) for law in construct_info(config(name)).laws] == LAWS[name]
    assert construct_info(config("CIFAR10")).laws is construct_info(config("MNIST6-180")).laws is None


@pytest.mark.parametrize("law", [None, "cyclic:4", LAWS["MNIST-Multiple"]])
def test_a_law_on_digits_or_a_drawing_is_known_without_images(law):
    cfg = config("digits", rot_interval=0, law=law, copies=2)
    expected, found = construct_info(cfg), construct_dataset(cfg)
    assert expected.laws == found.info.laws
    assert (expected.note, expected.labelled) == (found.info.note, True)
    again = construct_dataset(cfg)
    assert torch.equal(again.train.images, found.train.images) and torch.equal(again.train.poses, found.train.poses)
    if law == "cyclic:4":
        assert construct_info(config("glyph", law=law)) == construct_dataset(config("glyph", law=law)).info


@pytest.mark.parametrize("name", sorted(INFERENCE))
def test_a_set_of_symmetry_inference_is_turned_by_its_laws(name, real_data, monkeypatch):
    monkeypatch.setenv("DATA_DIR", str(real_data))
    cfg = config(name, no_train=100, no_validation=50, no_test=80)
    splits = construct_dataset(cfg)
    assert splits.info.name == name
    assert "seeded draw from MNIST" in splits.info.note and "images turned by" in splits.info.note
    for image_set in splits[:3]:
        for label, law in enumerate(splits.info.laws):
            poses = image_set.poses[image_set.labels == label]
            assert law.contains(poses, 1e-5).all() or law.kind == "normal"
    assert len(splits.test) == 80 and splits.test.poses.any()


def test_a_law_typed_on_the_command_line_is_read():
    laws = LAWS["MNIST-Multiple"]
    with initialize_config_dir(str(OPTIONS.parent), version_base="1.3"):
        typed = [f"dataset.law=[{','.join(laws)}]", "dataset.rot_interval=0"]
        assert list(compose("config", typed).dataset.law) == laws
        assert compose("config", ["dataset.law=uniform:60"]).dataset.law == "uniform:60"


def test_a_stored_configuration_may_lack_the_law():
    cfg = config("digits")
    del cfg["dataset"]["law"]
    assert construct_dataset(cfg).info.laws == construct_info(config("digits")).laws


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
