"""COIL-20: views by their angle, disjoint views in the splits, and which objects look alike from all sides."""

import math

import numpy as np
import pytest
import torch

from partial_equiv.datasets.coil20 import FACTS, NEAR_SYMMETRIC, coil_info, load_coil20
from partial_equiv.errors import UserError


def layout():
    """Return arrays of the layout of the file, shuffled, whose pixels tell object and angle."""
    order = np.random.default_rng(0).permutation(1_440)
    labels, views = np.divmod(order, 72)
    images = np.zeros((1_440, 32, 32), dtype=np.uint8)
    images[:, 0, 0], images[:, 0, 1] = labels, views
    return {
        "images": images,
        "labels": labels.astype(np.uint8),
        "pose": views.astype(np.uint8),
        "angle_deg": (5 * views).astype(np.int16),
    }


def write(path, **changed):
    np.savez(path, **{name: array for name, array in {**layout(), **changed}.items() if array is not None})
    return str(path)


def load(root, pairs_per_object=2):
    return load_coil20(root=str(root), pairs_per_object=pairs_per_object, seed=42)


def test_every_view_has_its_angle_and_is_in_one_split(tmp_path):
    splits = load(write(tmp_path / "a.npz"))
    found = []
    for image_set in splits[:3]:
        for number in range(20):
            shown = image_set.images.unflatten(0, (20, -1))[number, :, 0]
            assert (shown[:, 0, 0] == number).all()
            angles = shown[:, 0, 1].double() * 5 * math.pi / 180
            torch.testing.assert_close(image_set.latents[number, :, 2].double(), angles, atol=1e-6, rtol=0)
            assert not image_set.latents[number, :, :2].any()
            found += [(number, view) for view in shown[:, 0, 1].tolist()]
        assert image_set.labels.tolist() == list(range(20))
    assert sorted(found) == [(number, view) for number in range(20) for view in range(72)]
    assert [part.no_views for part in splits[:3]] == [42, 6, 24]


def test_every_test_view_has_a_neighbour_in_training(tmp_path):
    train, _, test, _ = load(write(tmp_path / "a.npz"))
    known = set(train.images[:42, 0, 0, 1].tolist())
    for view in test.images[:24, 0, 0, 1].tolist():
        assert {(view - 1) % 72, (view + 1) % 72} & known


def test_facts(tmp_path):
    info = load(write(tmp_path / "a.npz")).info
    assert (info.no_train, info.no_validation, info.no_test) == (40, 40, 40)
    assert (info.in_channels, info.no_classes, info.size) == (1, 20, (32, 32))
    assert (info.latents, info.views) == (("ex", "ey", "ez"), ("x", "y"))
    assert "cut by views (42 for training, 6 validation, 24 test), not by objects" in info.note
    assert info == coil_info(root="", pairs_per_object=2, seed=42)


def test_the_file_is_found_in_its_folders(tmp_path):
    (tmp_path / "npz").mkdir()
    write(tmp_path / "npz" / "coil20_32x32.npz")
    expected = load(tmp_path)
    (tmp_path / "npz" / "coil20_32x32.npz").rename(tmp_path / "coil20_32x32.npz")
    assert torch.equal(load(tmp_path).train.images, expected.train.images)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"images": np.zeros((1_440, 16, 16), dtype=np.uint8)}, "images are uint8 [1440, 16, 16]"),
        ({"images": np.zeros((1_440, 32, 32))}, "images are float64"),
        ({"labels": np.zeros(1_440, dtype=int)}, "are not those of 72 views of each of 20 objects"),
        ({"labels": np.zeros(3, dtype=int)}, "labels are int64 [3]"),
        ({"angle_deg": np.zeros(1_440)}, "are not those of 72 views of each of 20 objects"),
        ({"angle_deg": np.full(1_440, np.nan)}, "are not those of 72 views of each of 20 objects"),
        ({"angle_deg": None}, "has no array 'angle_deg'"),
    ],
)
def test_another_layout_is_told(tmp_path, changes, message):
    with pytest.raises(UserError) as caught:
        load(write(tmp_path / "a.npz", **changes))
    assert message in str(caught.value)
    assert "COIL-20 has `images` uint8 [1440,32,32]" in str(caught.value)


def test_files_that_cannot_be_read_are_told(tmp_path):
    with pytest.raises(UserError, match=r"npz/coil20_32x32\.npz is missing: put it there"):
        load(tmp_path)
    (tmp_path / "a.npz").write_bytes(b"no archive")
    with pytest.raises(UserError, match=r"a\.npz is truncated or no npz file"):
        load(tmp_path / "a.npz")
    with pytest.raises(UserError, match=r"dataset\.pairs_per_object=0 is out of range"):
        load(write(tmp_path / "b.npz"), pairs_per_object=0)


@pytest.fixture
def real(real_data):
    if not (real_data / "npz" / "coil20_32x32.npz").exists():
        pytest.skip(f"no COIL-20 in {real_data}: set DATA_DIR to a folder that holds npz/coil20_32x32.npz")
    return load(real_data)


def test_mean_and_deviation_are_those_of_the_training_images(real):
    pixels = real.train.images.double() / 255
    assert FACTS.mean[0] == pytest.approx(pixels.mean().item(), abs=1e-4)
    assert FACTS.std[0] == pytest.approx(pixels.std().item(), abs=1e-4)


def test_the_near_symmetric_objects_change_least_over_the_turn(real):
    """Their views differ less from their mean, or repeat after a quarter turn, unlike those of every other object."""
    views = torch.cat([part.images.unflatten(0, (20, -1)).double().flatten(2) for part in real[:3]], dim=1)
    angles = torch.cat([part.latents[:, :, 2] for part in real[:3]], dim=1)
    views = views[torch.arange(20)[:, None], angles.argsort(dim=1)]
    spread = (views - views.mean(dim=1, keepdim=True)).square().sum(-1).mean(1)
    quarter = (views - views.roll(18, dims=1)).square().sum(-1).mean(1) / (2 * spread)
    alike = (spread / views.square().sum(-1).mean(1) < 0.03) | (quarter < 0.5)
    assert alike.nonzero().flatten().tolist() == list(NEAR_SYMMETRIC)
    assert real.test.groups["near_symmetric"].tolist() == list(NEAR_SYMMETRIC)
    assert sorted(real.test.groups["others"].tolist() + list(NEAR_SYMMETRIC)) == list(range(20))
