"""Packed views: a round trip in both layouts, disjoint objects, and one sentence for every mishap."""

import numpy as np
import pytest
import torch

from partial_equiv.datasets.view_npz import load_view_npz
from partial_equiv.datasets.view_parts import SCENE
from partial_equiv.errors import UserError

KEYS = {
    "test_root": None,
    "pairs_per_object": 1,
    "no_train": None,
    "no_validation": None,
    "no_test": None,
    "seed": 42,
}
NO_OBJECTS, NO_VIEWS, SIDE = 20, 4, 5


def arrays(no_objects=NO_OBJECTS, no_channels=3, no_latents=7, first=0, side=SIDE):
    """Return arrays whose pixels tell object, view and channel, and whose latents tell object, view and column."""
    ones = np.ones((no_objects, NO_VIEWS, no_channels, side, side), dtype=np.uint8)
    objects, views = np.arange(first, first + no_objects), np.arange(NO_VIEWS)
    images = (
        objects[:, None, None, None, None] + 40 * views[:, None, None, None] + np.arange(no_channels)[:, None, None]
    )
    columns = objects[:, None, None] + views[:, None] / 10 + np.arange(no_latents) / 100
    return {"images": (images * ones).astype(np.uint8), "latents": columns, "labels": np.arange(no_objects) % 2}


def write(path, **changed):
    content = {**arrays(), **changed}
    np.savez(path, **{name: array for name, array in content.items() if array is not None})
    return str(path)


def load(root, **keys):
    return load_view_npz(root=root, **{**KEYS, **keys})


def told(root, **keys):
    with pytest.raises(UserError) as caught:
        load(root, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def objects_of(image_set):
    return image_set.images[:: image_set.no_views, 0, 0, 0].tolist()


@pytest.mark.parametrize(("no_channels", "last"), [(3, False), (3, True), (1, False)])
def test_images_latents_and_labels_stay_together(tmp_path, no_channels, last):
    given = arrays(no_channels=no_channels)
    images = np.moveaxis(given["images"], 2, -1) if last else given["images"]
    splits = load(write(tmp_path / "a.npz", images=images))
    for image_set in splits[:3]:
        numbers = objects_of(image_set)
        expected = torch.from_numpy(given["images"][numbers].reshape(-1, no_channels, SIDE, SIDE))
        assert torch.equal(image_set.images, expected)
        torch.testing.assert_close(image_set.latents, torch.from_numpy(given["latents"][numbers]).float())
        assert image_set.labels.tolist() == given["labels"][numbers].tolist()
        assert image_set.in_memory
    assert sorted(n for image_set in splits[:3] for n in objects_of(image_set)) == list(range(NO_OBJECTS))


def test_facts(tmp_path):
    splits = load(write(tmp_path / "a.npz"), pairs_per_object=3)
    info = splits.info
    assert (info.no_train, info.no_validation, info.no_test) == (3 * 15, 3, 3 * 4)
    assert (info.in_channels, info.size, info.no_classes, info.views) == (3, (SIDE, SIDE), 2, ("x", "y"))
    assert info.latents == SCENE
    assert info.note == "15 objects of 4 views; validation holds 1 of 2 classes"
    pixels = splits.train.images.double() / 255
    assert info.mean == pytest.approx(pixels.mean(dim=(0, 2, 3)).tolist())
    assert info.std == pytest.approx(pixels.std(dim=(0, 2, 3), correction=0).tolist())
    assert splits.test.labels.bincount().tolist() == [2, 2]


def test_a_file_for_test(tmp_path):
    root, other = write(tmp_path / "a.npz"), write(tmp_path / "b.npz", **arrays(6, first=20))
    splits = load(root, test_root=other, no_validation=4)
    assert objects_of(splits.test) == list(range(20, 26))
    assert sorted(objects_of(splits.train) + objects_of(splits.validation)) == list(range(20))
    assert splits.validation.labels.bincount().tolist() == [2, 2]
    assert objects_of(load(root, test_root=other, no_test=2).test) != objects_of(splits.test)
    assert "differ in channels" in told(root, test_root=write(tmp_path / "c.npz", **arrays(side=6)))
    assert "the latents differ (ex," in told(root, test_root=write(tmp_path / "d.npz", **arrays(no_latents=2)))


def test_names_of_the_latents(tmp_path):
    bare = arrays(no_latents=2)
    assert load(write(tmp_path / "a.npz", **bare)).info.latents == ("latent_0", "latent_1")
    named = write(tmp_path / "b.npz", **bare, latent_names=np.array(["ez", "zoom"]))
    assert load(named).info.latents == ("ez", "zoom")


def changed(**changes):
    return {**arrays(), **changes}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (changed(images=None), "has no array 'images', only ['latents', 'labels']"),
        (changed(latents=None), "has no array 'latents'"),
        (changed(labels=None), "has no array 'labels'"),
        (changed(images=np.zeros((20, 4, 5, 5), dtype=np.uint8)), "images are uint8 [20, 4, 5, 5]"),
        (changed(images=np.zeros((20, 4, 2, 5, 5), dtype=np.uint8)), "images are uint8 [20, 4, 2, 5, 5]"),
        (changed(images=np.zeros((20, 4, 3, 5, 5))), "images are float64 [20, 4, 3, 5, 5]"),
        (changed(images=np.zeros((0, 4, 3, 5, 5), dtype=np.uint8)), "images are uint8 [0, 4, 3, 5, 5]"),
        (changed(images=np.zeros((20, 1, 3, 5, 5), dtype=np.uint8)), "one view of each object, a pair needs 2"),
        (changed(images=np.array([{}])), "array 'images' holds Python objects, which are never loaded"),
        (changed(latents=np.zeros((20, 3, 7))), "latents are float64 [20, 3, 7] for images of 20 objects and 4 views"),
        (changed(latents=np.zeros((20, 4))), "latents are float64 [20, 4]"),
        (changed(latents=np.zeros((20, 4, 0))), "latents are float64 [20, 4, 0]"),
        (changed(latents=np.full((20, 4, 7), "a")), "latents are <U1"),
        (changed(latents=np.full((20, 4, 7), np.inf)), "latents hold NaN or infinity"),
        (changed(labels=np.zeros(19, dtype=int)), "labels are int64 [19] for images of 20 objects"),
        (changed(labels=np.zeros(20)), "labels are float64 [20]"),
        (changed(labels=np.arange(20) - 1), "labels run from -1 to 18"),
        (changed(latent_names=np.array(["a", "b"])), "latent_names are <U1 [2], 7 different texts are needed"),
        (changed(latent_names=np.array(["a"] * 7)), "7 different texts are needed"),
        (changed(latent_names=np.arange(7)), "7 different texts are needed"),
    ],
)
def test_another_layout_is_told(tmp_path, content, message):
    told_message = told(write(tmp_path / "a.npz", **content))
    assert message in told_message
    assert told_message.startswith(f"{tmp_path / 'a.npz'}: ")
    assert "a file of views needs `images`" in told_message


def test_files_that_cannot_be_read_are_told(tmp_path):
    assert "dataset.root is empty: give dataset.root=<file.npz>" in told(None)
    assert "a.npz is missing: give dataset.root=<file.npz>" in told(str(tmp_path / "a.npz"))
    assert "is a folder: give dataset.root=<file.npz>" in told(str(tmp_path))
    root = write(tmp_path / "a.npz")
    (tmp_path / "b.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-100])
    assert "b.npz is truncated or no npz file" in told(str(tmp_path / "b.npz"))
    assert "b.npz is truncated or no npz file" in told(root, test_root=str(tmp_path / "b.npz"))


def test_too_few_objects_and_values_out_of_range(tmp_path):
    assert "holds 2 objects: training, validation and test need at least 3" in told(
        write(tmp_path / "a.npz", **arrays(2))
    )
    root = write(tmp_path / "b.npz")
    assert "dataset.no_train=16 is out of range: give 1 to 15" in told(root, no_train=16)
    assert "dataset.no_test=5 is out of range: give 1 to 4" in told(root, no_test=5)
    assert "dataset.pairs_per_object=0 is out of range" in told(root, pairs_per_object=0)
    smallest = load(write(tmp_path / "c.npz", **arrays(3)))
    assert [part.no_objects for part in smallest[:3]] == [1, 1, 1]
