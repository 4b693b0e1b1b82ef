"""Views without pictures: mixed as a slow loop mixes, undone exactly, and known to an oracle."""

import math

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from partial_equiv.datasets import expected_info, object_split
from partial_equiv.datasets.latent_vectors import (
    GAIN,
    circular_hues,
    draw_vectors,
    load_latent_vectors,
    make_mixing,
    rotated_vectors,
)
from partial_equiv.datasets.view_parts import SCENE
from partial_equiv.errors import UserError
from partial_equiv.rotations import euler_matrix, euler_quaternion, quaternion_euler

KEYS = {
    "no_objects": 60,
    "no_views": 6,
    "no_classes": 10,
    "rotation": [0, 90],
    "test_rotation": None,
    "pairs_per_object": 3,
    "seed": 42,
}


def load(**keys):
    return load_latent_vectors(**{**KEYS, **keys})


def of_views(splits, part):
    """Return mixed numbers and vectors of the objects of a split, float64 [N, V, 96] and [N, 4, 3]."""
    chosen = object_split(KEYS["no_objects"], 10)[["train", "validation", "test"].index(part)]
    found = getattr(splits, part)
    images = found.images.double().flatten(1).unflatten(0, (found.no_objects, found.no_views))
    return images, draw_vectors(KEYS["no_objects"], 10, KEYS["seed"])[chosen]


def test_views_equal_a_slow_loop():
    splits, mixing = load(), make_mixing(KEYS["seed"])
    images, vectors = of_views(splits, "validation")
    for number in range(3):
        for view in range(KEYS["no_views"]):
            row = splits.validation.latents[number, view].double().numpy()
            turn = Rotation.from_euler("xyz", row[:3])
            seen = [x for vector in vectors[number].numpy() for x in turn.apply(vector)]
            floor, light = 2 * math.pi * row[3], 2 * math.pi * row[6]
            seen += [math.cos(floor), math.cos(light), math.sin(floor), math.sin(light)]
            hidden = [math.tanh(GAIN * sum(w * x for w, x in zip(ws, seen, strict=True))) for ws in mixing.first]
            mixed = [math.tanh(GAIN * sum(w * x for w, x in zip(ws, hidden, strict=True))) for ws in mixing.second]
            np.testing.assert_allclose(images[number, view], mixed, atol=1e-6)


def test_mixing_is_bent_and_keeps_everything():
    splits, mixing = load(), make_mixing(KEYS["seed"])
    images, vectors = of_views(splits, "train")
    latents = splits.train.latents
    truth = torch.cat([rotated_vectors(latents, vectors), circular_hues(latents)], dim=-1)
    torch.testing.assert_close(mixing.unmix(images), truth, atol=1e-4, rtol=0)
    one, other = truth[0, 0], truth[1, 1]
    between = mixing.mix((one + other) / 2) - (mixing.mix(one) + mixing.mix(other)) / 2
    assert between.abs().max() > 0.1
    assert 0.4 < images.std() < 0.8


def test_an_oracle_predicts_a_view_from_another_and_the_body_frame_rotation():
    splits, mixing = load(), make_mixing(KEYS["seed"])
    images, _ = of_views(splits, "test")
    seen = mixing.unmix(images)[..., :12].unflatten(-1, (4, 3)).numpy()
    turns = [
        [Rotation.from_euler("xyz", row) for row in rows] for rows in splits.test.latents[..., :3].double().numpy()
    ]
    for number, views in enumerate(turns):
        for one, other in ((0, 1), (2, 5), (4, 3)):
            delta = views[one].inv() * views[other]
            predicted = (views[one] * delta * views[one].inv()).apply(seen[number, one])
            np.testing.assert_allclose(predicted, seen[number, other], atol=1e-3)
            if number:
                assert np.abs(predicted - seen[number - 1, other]).max() > 0.05  # no other object


def test_classes_are_told_by_angles_but_not_at_once():
    vectors = draw_vectors(600, 10, 42)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(600, 4, dtype=torch.float64))
    angles = (vectors @ vectors.mT).flatten(1)  # no rotation changes them
    labels = torch.arange(600) % 10
    centres = torch.stack([angles[200:][labels[200:] == label].mean(dim=0) for label in range(10)])
    nearest = torch.cdist(angles[:200], centres).argmin(dim=1)
    right = (nearest == labels[:200]).double().mean()
    assert 0.85 < right < 1


def test_the_place_of_the_light_is_not_seen():
    latents = load().train.latents
    for name in SCENE:
        assert bool(latents[..., SCENE.index(name)].any()) == (name not in ("light_theta", "light_phi"))


def test_poses_of_the_test_objects_can_be_others():
    plain, far = load(), load(test_rotation=[90, 180])
    assert torch.equal(plain.train.images, far.train.images)
    assert plain.test.latents[..., :3].abs().max() <= math.pi / 2
    assert far.test.latents[..., [0, 2]].abs().min() >= math.pi / 2 - 1e-5
    # Named as a rotation is named once, the second angle within +-90 degrees, none of them is one of training.
    named = quaternion_euler(euler_quaternion(far.test.latents[..., :3].double()))
    assert named[..., [0, 2]].abs().amax(dim=-1).min() >= math.pi / 2 - 1e-5


def test_three_angles_beyond_a_quarter_turn_name_a_pose_within():
    a, b, c = torch.rand(3, 50, dtype=torch.float64) * math.pi / 2 + math.pi / 2
    within = torch.stack([a - math.pi, math.pi - b, c - math.pi], dim=-1)
    torch.testing.assert_close(euler_matrix(torch.stack([a, b, c], dim=-1)), euler_matrix(within))


@pytest.mark.parametrize("keys", [{}, {"no_classes": 3, "rotation": [0, 45], "test_rotation": [45, 90]}])
def test_facts_before_loading_are_those_of_the_set(keys):
    splits = load(**keys)
    assert expected_info("latent_vectors", {**KEYS, **keys}) == splits.info
    assert (splits.info.in_channels, splits.info.size, splits.info.views) == (96, (1, 1), ("x", "y"))
    batch = splits.train[range(5)]
    assert batch.images.shape == (5, 2, 96, 1, 1) and batch.images.dtype == torch.float32
    assert torch.equal(batch.images.flatten(0, 1), splits.train.images[splits.train.pairs(torch.arange(5)).flatten()])


def test_seeds_repeat_and_differ():
    one, same, other = load(), load(), load(seed=1)
    assert torch.equal(one.train.images, same.train.images)
    assert not torch.equal(one.train.images, other.train.images)
    before = torch.get_rng_state()
    load(seed=-(2**70))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("key", "value"), [("no_objects", 29), ("no_views", 1), ("no_classes", 11), ("rotation", [3, 2])]
)
def test_values_out_of_range_are_told(key, value):
    with pytest.raises(UserError, match=f"dataset.{key}="):
        load(**{key: value})
