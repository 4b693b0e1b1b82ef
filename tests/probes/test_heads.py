"""Heads on frozen representations: what a part knows is found, what it does not know is not, and nothing else moves."""

import math
from collections import Counter

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation
from sklearn.metrics import r2_score
from torch import nn

from partial_equiv.datasets import ImageSet
from partial_equiv.errors import UserError
from partial_equiv.latents import COLUMNS
from partial_equiv.probes import PROBES, color, heads, rotation
from tests.probes.known_views import CLASSES, Oracle, make_views, sampled_latents

SHARED = {"parts": ["all"], "epochs": 3, "batch_size": 32, "lr": 1e-3, "hidden": 16, "bn": "eval", "seed": 0}
OWN = {
    "classification": {"heads": ["linear"], "views_per_object": 2, "class_names": CLASSES},
    "rotation": {"heads": ["deep"], "targets": ["quaternion"], "pairs_per_object": 2, "latents": COLUMNS},
    "color": {"heads": ["linear"], "pairs_per_object": 2, "latents": COLUMNS},
}


def make_probe(name, train, test, **changed):
    return PROBES[name](**SHARED | OWN[name] | changed, train=train, test=test)


def trained(name, **changed):
    """Return the numbers of a probe on enough objects to learn from, called as in a test: without gradients."""
    train, test = make_views(60, 20, seed=1), make_views(15, 20, seed=2)
    with torch.no_grad():
        return make_probe(name, train, test, **changed)(Oracle(), [])


def test_each_part_knows_its_own():
    settings = {"parts": ["all", "inv", "equi"], "heads": ["deep"], "hidden": 64}
    settings |= {"epochs": 12, "batch_size": 256, "lr": 0.01}
    own = {"all": 1, "inv": 0, "equi": 1}
    numbers = trained("rotation", **settings, pairs_per_object=20)
    for part, knows in own.items():
        assert (numbers[f"rotation/{part}/deep/quaternion/r2"] > 0.5) == bool(knows)
        median = numbers[f"rotation/{part}/deep/quaternion/degrees_median"]
        assert (median < 60) == bool(knows)
    assert numbers["rotation/inv/deep/quaternion/r2"] < 0.05
    numbers = trained("color", **settings, pairs_per_object=20)
    assert numbers["color/equi/deep/r2"] < 0.05 < 0.6 < numbers["color/inv/deep/r2"]
    numbers = trained("classification", **settings, views_per_object=20)
    assert numbers["classification/chance/top1"] == pytest.approx(1 / 3)
    assert numbers["classification/inv/deep/top1"] < 0.5 < 0.8 < numbers["classification/equi/deep/top1"]


def test_a_linear_head_reaches_least_squares():
    train, test = make_views(40, 20, seed=1), make_views(10, 20, seed=2)
    numbers = make_probe("color", train, test, epochs=60, pairs_per_object=20, lr=3e-3, batch_size=64)(Oracle(), [])
    asked = [heads.asked_pairs(views, 0) for views in (train, test)]
    inputs, targets = [], []
    for views, pairs in zip((train, test), asked, strict=True):
        rows = views.images[:, :, 0, 0][pairs].flatten(1).numpy()
        inputs.append(np.concatenate([rows, np.ones((len(rows), 1))], axis=1))
        hues = views.latents.flatten(0, 1)[:, [3, 6]].numpy()
        targets.append(hues[pairs[:, 1]] - hues[pairs[:, 0]])
    best = inputs[1] @ np.linalg.lstsq(inputs[0], targets[0], rcond=None)[0]
    reached = numbers["color/all/linear/r2"]
    assert reached == pytest.approx(r2_score(targets[1], best, multioutput="variance_weighted"), abs=0.03)
    assert 0.3 < reached < 0.9
    both = (numbers["color/all/linear/r2_floor_hue"] + numbers["color/all/linear/r2_light_hue"]) / 2
    assert numbers["color/all/linear/r2_uniform"] == pytest.approx(both)


def test_nothing_but_the_head_moves_and_the_same_seed_gives_the_same_numbers():
    train, test, oracle = make_views(8, 5, seed=1), make_views(4, 5, seed=2), Oracle()
    before = torch.get_rng_state()
    first = {}
    for name in OWN:
        with torch.no_grad():
            first |= make_probe(name, train, test)(oracle, [])
            assert not torch.is_grad_enabled()
    assert torch.equal(torch.get_rng_state(), before)
    assert oracle.training and oracle.model.training
    torch.rand(1)
    again, other = {}, {}
    for name in OWN:
        again |= make_probe(name, train, test)(oracle, [])
        other |= make_probe(name, train, test, seed=1)(oracle, [])
    assert again == first
    assert other != first


def test_constants_and_chance_stand_beside():
    train, test = make_views(300, 20, seed=1), make_views(300, 20, seed=2)
    numbers = make_probe("rotation", train, test, epochs=1, pairs_per_object=1)(Oracle(), [])
    assert numbers["rotation/baseline/quaternion/r2"] == pytest.approx(0, abs=5e-3)
    assert numbers["rotation/baseline/quaternion/r2_uniform"] == pytest.approx(0, abs=5e-3)
    assert numbers["rotation/baseline/quaternion/r2_flat"] == pytest.approx(0.229, abs=0.02)
    assert numbers["rotation/baseline/quaternion/degrees_mean"] == pytest.approx(108, abs=2)
    assert numbers["rotation/baseline/quaternion/degrees_median"] == pytest.approx(110, abs=3)
    assert numbers["rotation/chance/quaternion/degrees_mean"] > 110
    assert "rotation/chance/quaternion/r2" not in numbers
    numbers = make_probe("color", train, test, epochs=1, pairs_per_object=1)(Oracle(), [])
    assert numbers["color/baseline/r2"] == pytest.approx(0, abs=5e-3)
    assert numbers["color/baseline/mse"] == pytest.approx(1 / 6, abs=0.01)


@pytest.mark.parametrize("target", ["quaternion", "euler"])
def test_targets_and_angles_are_those_of_scipy(target, monkeypatch):
    columns = ("light_hue", "ez", "ey", "ex")  # any order
    latents = sampled_latents(6, 7)
    train, test = make_views(6, 7), make_views(6, 7, latents=latents)
    for views in (train, test):
        views.latents = views.latents[..., [COLUMNS.index(name) for name in columns]]
    guess = torch.randn(42, rotation.TARGETS[target], generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(rotation, "answers", lambda *others: iter([("equi", "deep", guess)]))
    probe = make_probe("rotation", train, test, latents=columns, targets=[target])
    numbers = probe(Oracle(), [])
    pairs = heads.asked_pairs(test, 0).numpy()
    poses = Rotation.from_euler("xyz", latents[..., :3].reshape(-1, 3).numpy())
    between = poses[pairs[:, 0]].inv() * poses[pairs[:, 1]]
    true = between.as_quat() if target == "quaternion" else between.as_euler("xyz")
    found = probe.target(test, torch.from_numpy(pairs), target)
    np.testing.assert_allclose(found, true, atol=1e-5)
    answer = Rotation.from_quat(guess) if target == "quaternion" else Rotation.from_euler("xyz", guess)
    degrees = np.degrees((answer.inv() * between).magnitude())
    key = f"rotation/equi/deep/{target}"
    assert numbers[f"{key}/degrees_mean"] == pytest.approx(degrees.mean(), abs=1e-3)
    assert numbers[f"{key}/degrees_median"] == pytest.approx(np.sort(degrees)[20], abs=1e-3)
    for mode, score in (("variance_weighted", "r2"), ("uniform_average", "r2_uniform")):
        assert numbers[f"{key}/{score}"] == pytest.approx(r2_score(true, guess, multioutput=mode), abs=1e-4)
    assert numbers[f"{key}/mse"] == pytest.approx(((guess.numpy() - true) ** 2).mean(), abs=1e-5)
    assert probe.words().splitlines()[-2].split()[0] == key.removeprefix("rotation/")
    assert list(probe.artifacts()) == ["predicted_rotation.png"]


def test_groups_are_reported_apart():
    groups = {"near_symmetric": torch.tensor([1]), "others": torch.tensor([0, 2, 3]), "none": torch.tensor([]).long()}
    train, test = make_views(6, 5), make_views(4, 5, seed=2, groups=groups)
    numbers = make_probe("rotation", train, test)(Oracle(), [])
    mse = {group: numbers[f"rotation/all/deep/quaternion/mse{group}"] for group in ("", "/near_symmetric", "/others")}
    assert mse[""] == pytest.approx((mse["/near_symmetric"] + 3 * mse["/others"]) / 4)
    assert mse["/near_symmetric"] != mse["/others"]
    assert not any("none" in name for name in numbers)


def test_hues_that_do_not_vary_are_left_out():
    latents = sampled_latents(6, 5)
    latents[..., 3] = 0.3
    train, test = make_views(6, 5), make_views(6, 5, latents=latents)
    probe = make_probe("color", train, test)
    numbers = probe(Oracle(), [])
    assert "color/all/linear/r2_light_hue" in numbers and "color/all/linear/r2_floor_hue" not in numbers
    unsaid = "floor_hue is the same in all views, or not known, so nothing is said of it"
    assert probe.words().splitlines()[-1] == unsaid
    latents[..., 6] = 0.7
    probe = make_probe("color", make_views(6, 5, latents=latents), test)
    assert probe.words() == ""
    assert probe(Oracle(), []) == {}
    assert len(probe.words().splitlines()) == 2
    probe = make_probe("color", train, test, latents=("ex", "ey", "ez"))
    assert probe(Oracle(), []) == {} and probe.words().splitlines()[0] == unsaid
    assert color.HUES == ("floor_hue", "light_hue")


def test_methods_without_parts_are_measured_as_a_whole():
    oracle = Oracle()
    oracle.split = False
    numbers = make_probe("color", make_views(6, 5), make_views(6, 5, seed=2), parts=["inv", "equi"])(oracle, [])
    assert {name.split("/")[1] for name in numbers} == {"baseline", "all"}


def test_the_five_most_probable_classes_are_scored_where_there_are_more():
    train, test = make_views(18, 4), make_views(6, 4)
    train.labels, test.labels = torch.arange(18) % 6, torch.tensor([0, 0, 1, 2, 3, 4])
    probe = make_probe("classification", train, test, class_names=tuple("abcdef"))
    numbers = probe(Oracle(), [])
    assert numbers["classification/chance/top1"] == pytest.approx(2 / 6)
    assert numbers["classification/chance/top5"] == 1
    assert numbers["classification/all/linear/top1"] <= numbers["classification/all/linear/top5"]
    assert [line.split()[0] for line in probe.words().splitlines()] == ["class", "chance", "all/linear"]


@pytest.mark.parametrize("name", list(OWN))
def test_heads_that_leave_the_numbers_are_told_and_not_scored(name):
    train, test = make_views(6, 5, seed=1), make_views(4, 5, seed=2)
    probe = make_probe(name, train, test, lr=1e38, epochs=3)
    with pytest.raises(UserError, match=rf"answers of the (linear|deep) head are not finite.* lower test\.{name}\.lr"):
        probe(Oracle(), [])


@pytest.mark.parametrize("target", ["quaternion", "euler"])
def test_targets_are_learned_in_single_precision(target):
    train = make_views(6, 5)
    probe = make_probe("rotation", train, train, targets=[target])
    question = heads.pair_question(
        train, heads.asked_pairs(train, 0), lambda pairs: probe.target(train, pairs, target), rotation.TARGETS[target]
    )
    examples = question.draw(2, torch.Generator().manual_seed(0))
    assert examples.targets.dtype == torch.float32  # some accelerators have no other
    torch.testing.assert_close(examples.targets.double(), probe.target(train, examples.positions, target))


@pytest.mark.parametrize(("per_object", "expected"), [(7, 7), (None, 16)])
def test_examples_of_an_epoch(per_object, expected):
    choices = heads.HeadChoices(**SHARED | {"epochs": 20}, probe="rotation", heads=["deep"], per_object=per_object)
    assert choices.examples_of_an_object(100) == expected  # 20 epochs of 1600 examples are 1,000 batches of 32
    if per_object is None:
        assert choices.examples_of_an_object(1_000_000) == 1


def test_pairs_are_uniform_over_ordered_pairs_and_every_object_has_its_share():
    drawn = heads.drawn_pairs(5, 4, 2_400, torch.Generator().manual_seed(0))
    objects, views = drawn // 4, drawn % 4
    assert torch.equal(objects[:, 0], objects[:, 1])
    assert objects[:, 0].bincount().tolist() == [2_400] * 5
    counts = Counter(map(tuple, views[objects[:, 0] == 3].tolist()))
    assert len(counts) == 12 and all(first != second for first, second in counts)
    assert all(abs(count - 200) < 5 * math.sqrt(200) for count in counts.values())
    assert not torch.equal(objects[:, 0], objects[:, 0].sort().values)
    single = heads.drawn_views(5, 4, 400, torch.Generator().manual_seed(0))
    assert single.shape == (2_000, 1)
    assert all(abs(count - 100) < 50 for count in single[:, 0].bincount(minlength=20).tolist())


def test_each_view_is_asked_once_with_another_of_its_object():
    views = make_views(9, 6)
    asked = heads.asked_pairs(views, 3)
    assert torch.equal(asked[:, 0], torch.arange(54))
    assert torch.equal(asked[:, 1] // 6, asked[:, 0] // 6)
    assert bool((asked[:, 0] != asked[:, 1]).all())
    assert torch.equal(asked, heads.asked_pairs(views, 3))
    assert not torch.equal(asked, heads.asked_pairs(views, 4))


def test_the_deep_head_is_the_published_one():
    head = heads.make_head("deep", 512, 4, hidden=1024, seed=0)
    assert [type(layer) for layer in head] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert sum(p.numel() for p in head.parameters()) == 513 * 1024 + 1025 * 1024 + 1025 * 4


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        ("rotation", {"parts": ["equivariant"]}, r"test.rotation.parts='equivariant' is not one of: all, inv, equi"),
        ("color", {"parts": []}, r"test.color.parts is empty: give some of all, inv, equi"),
        ("color", {"heads": ["depe"]}, r"test.color.heads='depe' is not one of: linear, deep, did you mean 'deep'"),
        ("rotation", {"targets": ["matrix"]}, r"test.rotation.targets='matrix' is not one of: quaternion, euler"),
        ("classification", {"epochs": 0}, r"test.classification.epochs=0 is out of range: give 1 or more"),
        ("classification", {"views_per_object": 0}, "0 examples of an object are too few"),
        ("color", {"lr": 0}, r"test.color.lr=0 is out of range"),
        ("rotation", {"latents": ("ez",)}, r"\[rotation\] needs views with rotation latents, and these lack ex, ey"),
        ("classification", {"class_names": ("unlabelled",)}, r"\[classification\] needs labels of 2 or more classes"),
    ],
)
def test_mistakes_are_refused(name, changed, message):
    with pytest.raises(UserError, match=message):
        make_probe(name, None, None, **changed)


@pytest.mark.parametrize("name", list(OWN))
def test_single_images_are_refused(name):
    single = ImageSet(torch.zeros(4, 1, 8, 8, dtype=torch.uint8), torch.zeros(4).long(), mean=[0.0], std=[1.0])
    with pytest.raises(UserError, match=rf"test.probes=\[{name}\] needs (several )?views of each object"):
        make_probe(name, single, single)
    with pytest.raises(UserError, match=f"the probe {name} measures encoders"):
        make_probe(name, make_views(3, 2), make_views(3, 2))(nn.Linear(1, 1), [])
