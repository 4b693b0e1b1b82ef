"""The set of drawn objects: splits, poses, the file that keeps the pictures, and the command that writes others."""

import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from partial_equiv.datasets import DATASETS, expected_info, object_split, shapes3d, shapes3d_views
from partial_equiv.datasets.npz import moments
from partial_equiv.datasets.shapes3d_objects import FAMILIES
from partial_equiv.datasets.shapes3d_views import FACTS, FIXED_SCENE, Recipe, draw, load_shapes3d
from partial_equiv.datasets.view_parts import SCENE
from partial_equiv.errors import UserError

KEYS = {
    "no_objects": 30,
    "no_views": 3,
    "no_classes": 10,
    "size": 8,
    "supersampling": 1,
    "rotation": [0, 90],
    "test_rotation": None,
    "vary_scene": True,
    "pairs_per_object": 4,
    "seed": 42,
}


@pytest.fixture
def load(tmp_path):
    return lambda **keys: load_shapes3d(root=str(tmp_path), **{**KEYS, **keys})


def recipe(**keys):
    return Recipe(**{key: value for key, value in {**KEYS, **keys}.items() if key != "pairs_per_object"})


def test_splits_are_by_object_and_hold_every_family(load):
    splits = load(no_objects=60)
    for part, objects in zip(splits[:3], object_split(60, 10), strict=True):
        assert part.labels.tolist() == [i % 10 for i in objects.tolist()]
        assert len(part) == 4 * len(objects) and part.in_memory
        assert part.images.shape == (3 * len(objects), 3, 8, 8) and part.images.dtype == torch.uint8
    assert splits.info.class_names == tuple(FAMILIES) == tuple(FACTS.class_names)
    everything = draw(recipe(no_objects=60))
    for part, objects in zip(splits[:3], object_split(60, 10), strict=True):
        assert torch.equal(part.images, everything.images[objects].flatten(0, 1))
        assert torch.equal(part.latents, everything.latents[objects])


def test_near_symmetric_objects_are_named(load):
    splits = load()
    names = [splits.info.class_names[label] for label in splits.test.labels[splits.test.groups["near_symmetric"]]]
    assert names == ["lamp", "snowman"]
    both = torch.cat([splits.test.groups[name] for name in ("near_symmetric", "others")])
    assert sorted(both.tolist()) == list(range(10))
    assert not load(no_objects=12, no_classes=4).test.groups


EASED = {"no_classes": 4, "rotation": [0, 45], "test_rotation": [90, 180], "vary_scene": False, "size": 9}


@pytest.mark.parametrize("keys", [{}, EASED])
def test_facts_before_drawing_are_those_of_the_pictures(load, keys):
    info = load(**keys).info
    assert expected_info("shapes3d", {"root": "nowhere", **KEYS, **keys}) == info
    assert (info.views, info.latents, info.in_channels) == (("x", "y"), SCENE, 3)
    assert "10 objects of 3 views" in info.note if not keys else "18 objects of 3 views" in info.note
    easings = ("4 of 10 classes", "0 to 45 degrees", "test objects turned by 90 to 180", "floor and light fixed")
    assert all((words in info.note) == bool(keys) for words in easings)


def test_latents_are_uniform_in_their_ranges():
    latents = shapes3d_views.draw_latents(recipe(no_objects=400, no_views=20)).double().flatten(0, 1)
    spans = {"ex": (-math.pi / 2, math.pi / 2), "light_theta": (0, math.pi / 4), "light_phi": (0, 2 * math.pi)}
    spans = {**dict.fromkeys(("floor_hue", "light_hue"), (0, 1)), **spans, "ey": spans["ex"], "ez": spans["ex"]}
    n = len(latents)
    for column, name in enumerate(SCENE):
        low, high = spans[name]
        ranked = ((latents[:, column] - low) / (high - low)).sort().values
        assert ranked[0] >= 0 and ranked[-1] <= 1
        distance = (ranked - (torch.arange(n) + 0.5) / n).abs().max()
        assert distance < 1.95 / math.sqrt(n), name  # Kolmogorov and Smirnov, one in a thousand
    assert np.abs(np.corrcoef(latents.T) - np.eye(7)).max() < 0.05


def test_poses_of_the_test_objects_can_be_others(load):
    plain, far = load(), load(test_rotation=[90, 180])
    assert torch.equal(plain.train.images, far.train.images)
    assert torch.equal(plain.validation.latents, far.validation.latents)
    angles = far.test.latents[..., [0, 2]].abs()
    assert far.test.latents[..., 1].abs().max() <= math.pi / 2 + 1e-5
    assert angles.min() >= math.pi / 2 - 1e-5 and angles.max() <= math.pi + 1e-5
    assert torch.equal(plain.test.latents[..., 3:], far.test.latents[..., 3:])
    small = load(rotation=[0, 20]).train.latents[..., :3].abs()
    assert 0 < small.max() <= math.radians(20)


def test_the_scene_can_be_fixed(load):
    fixed, varied = load(vary_scene=False).train.latents, load().train.latents
    assert torch.equal(fixed[..., :3], varied[..., :3])
    for name, value in FIXED_SCENE.items():
        assert (fixed[..., SCENE.index(name)] == torch.tensor(value)).all()


def test_pictures_are_drawn_once(load, tmp_path, monkeypatch):
    first = load()
    (path,) = tmp_path.glob("shapes3d/*")
    assert path.name.startswith("30x3_8px_seed42_")
    monkeypatch.setattr(shapes3d_views, "draw", None)
    again = load(pairs_per_object=2)
    assert torch.equal(first.train.images, again.train.images)
    assert torch.equal(first.test.latents, again.test.latents)
    assert torch.equal(load(rotation=[0.0, 90.0]).train.images, first.train.images)


CHANGES = (
    {"no_objects": 31},
    {"no_views": 4},
    {"no_classes": 9},
    {"size": 9},
    {"supersampling": 2},
    {"rotation": [0, 89]},
    {"test_rotation": [0, 90]},
    {"vary_scene": False},
    {"seed": 43},
)


def test_every_choice_has_a_file_of_its_own():
    assert {key for change in CHANGES for key in change} == set(inspect.signature(Recipe).parameters)
    assert len({recipe(**change).file_name() for change in ({}, *CHANGES)}) == 1 + len(CHANGES)


def test_a_broken_file_is_told(load, tmp_path):
    load()
    (path,) = tmp_path.glob("shapes3d/*")
    content = path.read_bytes()
    for broken in (content[: len(content) // 2], b"", b"no npz"):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="is broken .*delete it"):
            load()
    load(size=9)
    path.write_bytes(next(other for other in tmp_path.glob("shapes3d/*") if other != path).read_bytes())
    with pytest.raises(UserError, match=r"holds images \[30, 3, 3, 9, 9\] where .*8, 8\] are due: delete it"):
        load()


def test_a_place_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot be made .*dataset.root"):
        load_shapes3d(root=str(tmp_path / "file"), **KEYS)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("no_objects", 29),
        ("no_views", 1),
        ("no_classes", 1),
        ("no_classes", 11),
        ("size", 7),
        ("size", 257),
        ("supersampling", 0),
        ("supersampling", 9),
        ("rotation", [90, 0]),
        ("rotation", [0]),
        ("test_rotation", [0, 181]),
        ("pairs_per_object", 0),
    ],
)
def test_values_out_of_range_are_told(load, tmp_path, key, value):
    with pytest.raises(UserError, match=f"dataset.{key}=.* give ".replace("[", r"\[")):
        load(**{key: value})
    with pytest.raises(UserError, match=f"dataset.{key}="):
        expected_info("shapes3d", {"root": "nowhere", **KEYS, key: value})
    assert not list(tmp_path.iterdir())


def test_more_than_memory_holds_is_told():
    with pytest.raises(UserError, match="take 92 GiB, more than the 16"):
        expected_info("shapes3d", {"root": "nowhere", **KEYS, "no_objects": 10_000, "no_views": 50, "size": 256})


def test_mean_and_deviation_are_those_of_the_default_set():
    mean, std = moments(draw(recipe(no_objects=60, no_views=30, size=16, supersampling=2)).images.flatten(0, 1))
    np.testing.assert_allclose(mean, FACTS.mean, atol=0.01)
    np.testing.assert_allclose(std, FACTS.std, atol=0.01)


COMMAND = ["--objects", "30", "--views", "3", "--size", "8"]


def test_the_defaults_of_the_command_are_those_of_the_data_set():
    option = Path(__file__).parents[2] / "cfg" / "dataset" / "shapes3d.yaml"
    chosen = yaml.safe_load(option.read_text(encoding="utf-8"))
    own = vars(shapes3d.make_parser().parse_args(["--out", "views.npz"]))
    for name in ("objects", "views", "classes"):
        assert own[name] == chosen[f"no_{name}"]
    for name in ("size", "supersampling", "seed"):
        assert own[name] == chosen[name]
    assert list(own["rotation"]) == chosen["rotation"] and chosen["vary_scene"] is not own["fixed_scene"]


def test_the_command_writes_a_file_that_view_npz_reads(tmp_path, capsys):
    path = tmp_path / "views.npz"
    assert shapes3d.main([*COMMAND, "--supersampling", "1", "--out", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    counts = dict.fromkeys(("no_train", "no_validation", "no_test"))
    splits = DATASETS["view_npz"](root=str(path), test_root=None, pairs_per_object=1, seed=0, **counts)
    assert splits.info.latents == SCENE
    drawn = draw(recipe())
    found = torch.cat([part.images for part in splits[:3]]).flatten(1)
    assert sorted(map(tuple, found.tolist())) == sorted(map(tuple, drawn.images.flatten(0, 1).flatten(1).tolist()))


def test_the_command_writes_folders_of_3diebench(tmp_path, capsys):
    folder = tmp_path / "bench"
    choices = ["--classes", "5", "--rotation", "0", "30", "--fixed-scene", "--seed", "7", "--folder", str(folder)]
    assert shapes3d.main([*COMMAND, *choices]) == 0
    assert capsys.readouterr().out == f"{folder}\n"
    drawn = draw(recipe(no_classes=5, rotation=[0, 30], vary_scene=False, seed=7, supersampling=2))
    tested = np.load(folder / "val_images.npy")
    assert len(tested) == len(object_split(30, 5).test)
    latents = np.load(folder / "00000002" / "object_000007" / "latent_1.npy")
    np.testing.assert_allclose(latents, drawn.latents[7, 1].numpy())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--objects", "29", "--out", "{}/a.npz"], "--objects=29"),
        (["--size", "4", "--out", "{}/a.npz"], "--size=4"),
        (["--out", "{}/none/a.npz"], "none is no folder"),
        (["--folder", "{}"], "not an empty folder"),
    ],
)
def test_mistakes_at_the_command_are_told(tmp_path, capsys, options, message):
    (tmp_path / "there").write_text("")
    assert shapes3d.main([*COMMAND, *(option.format(tmp_path) for option in options)]) == 2
    told = capsys.readouterr()
    assert message in told.err and told.err.startswith("error: ") and not told.out
