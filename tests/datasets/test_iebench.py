"""3DIEBench from its own folders and files: images and latents where they belong, and one sentence for each mishap."""

import io

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from partial_equiv.datasets import make_loader
from partial_equiv.datasets.iebench import FACTS, iebench_info, load_3diebench, write_3diebench
from partial_equiv.datasets.view_parts import SCENE, some, stratified_order
from partial_equiv.errors import UserError

KEYS = {
    "index_root": None,
    "test_root": None,
    "size": 16,
    "no_views": 3,
    "pairs_per_object": 2,
    "no_train": None,
    "no_validation": 3,
    "no_test": None,
    "seed": 42,
}
NO_OBJECTS, NO_VIEWS, NO_CLASSES = 15, 3, 3


def views(no_views=NO_VIEWS, side=16, seed=0):
    """Return smooth images, whose colour JPEG keeps, with the object in red and the view in green."""
    images = torch.zeros(NO_OBJECTS, no_views, 3, side, side, dtype=torch.uint8)
    images[:, :, 0] = (torch.arange(NO_OBJECTS) * 12)[:, None, None, None]
    images[:, :, 1] = (torch.arange(no_views) * 40)[None, :, None, None]
    latents = torch.rand(NO_OBJECTS, no_views, len(SCENE), generator=torch.Generator().manual_seed(seed))
    labels = torch.arange(NO_OBJECTS) % NO_CLASSES
    return images, latents, labels, torch.arange(NO_OBJECTS) // NO_CLASSES == 0


@pytest.fixture
def folder(tmp_path):
    write_3diebench(tmp_path / "set", *views())
    return tmp_path / "set"


def load(root, **keys):
    return load_3diebench(root=str(root), **{**KEYS, **keys})


def told(root, **keys):
    """Return the one sentence that loading ends in."""
    with pytest.raises(UserError) as caught:
        load(root, **keys)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def seen(image_set):
    """Return which object and view each image of a split shows, by its colour."""
    pixels = image_set.images[torch.arange(len(image_set.images))].float().mean(dim=(-2, -1))
    return [(round(red / 12), round(green / 40)) for red, green, _ in pixels.tolist()]


def test_every_view_is_where_its_latents_and_labels_say(folder):
    splits = load(folder)
    _, latents, labels, is_test = views()
    objects = []
    for image_set in splits[:3]:
        found = seen(image_set)
        assert [view for _, view in found] == list(range(NO_VIEWS)) * image_set.no_objects
        numbers = [number for number, _ in found[::NO_VIEWS]]
        assert [number for number, _ in found] == np.repeat(numbers, NO_VIEWS).tolist()
        assert image_set.labels.tolist() == labels[numbers].tolist()
        torch.testing.assert_close(image_set.latents, latents[numbers])
        objects.append(set(numbers))
    train, validation, test = objects
    assert test == set(is_test.nonzero().flatten().tolist())
    assert train | validation == set(range(NO_OBJECTS)) - test and not train & validation
    assert len(validation) == 3


def test_facts(folder):
    splits = load(folder)
    info = splits.info
    assert (info.no_train, info.no_validation, info.no_test) == (2 * 9, 2 * 3, 2 * 3)
    assert [len(part) for part in splits[:3]] == [2 * 9, 2 * 3, 2 * 3]
    assert info.class_names == ("00000000", "00000001", "00000002")
    assert (info.size, info.no_classes, info.latents, info.views) == ((16, 16), 3, SCENE, ("x", "y"))
    assert info.note == "9 objects of 3 views; resized to 16x16"
    assert not splits.train.in_memory


def test_the_files_are_those_of_the_published_set(folder):
    images, latents, _, _ = views()
    names = np.load(folder / "val_images.npy")
    assert names.tolist()[1] == "/00000001/object_000001/"
    place = folder / "00000001" / "object_000004"
    assert sorted(path.name for path in place.iterdir()) == sorted(
        f"{kind}_{view}.{ending}" for kind, ending in (("image", "jpg"), ("latent", "npy")) for view in range(NO_VIEWS)
    )
    latent = np.load(place / "latent_2.npy")
    assert latent.dtype == np.float64 and np.allclose(latent, latents[4, 2])
    with Image.open(place / "image_2.jpg") as picture:
        assert (picture.format, picture.mode, picture.size) == ("JPEG", "RGB", (16, 16))
        assert np.abs(np.array(picture).astype(int) - images[4, 2].permute(1, 2, 0).numpy()).max() <= 3
    assert np.load(folder / "all_latents_train.npy").shape == (12 * NO_VIEWS, 7)
    assert np.load(folder / "train_labels.npy").dtype == np.int64
    assert np.load(folder / "all_objects.npy").tolist()[4] == ["00000001", "object_000004"]


def test_pixels_are_those_that_pillow_decodes_and_are_normalised_as_published(folder):
    splits = load(folder)
    batch = splits.test[[0]]
    positions = splits.test.pairs(torch.tensor([0]))[0].tolist()
    for image, position in zip(batch.images[0], positions, strict=True):
        with Image.open(folder / "00000000" / "object_000000" / f"image_{position}.jpg") as picture:
            pixels = np.array(picture).astype(np.float64) / 255
        expected = (pixels - np.array([0.5016, 0.5037, 0.5060])) / np.array([0.1030, 0.0999, 0.0969])
        np.testing.assert_allclose(image.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_latents_are_read_one_by_one_where_the_large_files_are_absent(folder):
    expected = load(folder)
    for part in ("train", "val"):
        (folder / f"all_latents_{part}.npy").unlink()
    found = load(folder)
    for one, other in zip(found[:3], expected[:3], strict=True):
        assert torch.equal(one.latents, other.latents)


def test_index_files_may_lie_elsewhere(folder, tmp_path):
    expected = load(folder)
    (tmp_path / "index").mkdir()
    for path in folder.glob("*.npy"):
        path.rename(tmp_path / "index" / path.name)
    found = load(folder, index_root=str(tmp_path / "index"))
    assert torch.equal(found.train.latents, expected.train.latents)


@pytest.mark.parametrize("own_index", [True, False])
def test_another_folder_for_test_has_its_own_latents(folder, tmp_path, own_index):
    write_3diebench(tmp_path / "other", *views(seed=1))
    if not own_index:
        for part in ("train", "val"):
            (tmp_path / "other" / f"{part}_images.npy").unlink()
    splits = load(folder, test_root=str(tmp_path / "other"))
    torch.testing.assert_close(splits.test.latents, views(seed=1)[1][:3])
    torch.testing.assert_close(splits.train.latents, views()[1][[n for n, _ in seen(splits.train)[::NO_VIEWS]]])


def test_counts_take_a_part_and_the_part_of_a_part(folder):
    small, large = load(folder, no_train=3, no_test=2, no_views=2), load(folder, no_train=6)
    assert [part.no_objects for part in small[:3]] == [3, 3, 2]
    assert small.train.no_views == 2
    assert {n for n, _ in seen(small.train)} < {n for n, _ in seen(large.train)}
    assert {n for n, _ in seen(small.validation)} == {n for n, _ in seen(large.validation)}
    assert "3 of 9 training objects; 2 of 3 test objects" in small.info.note
    assert "test holds 2 of 3 classes" in small.info.note


def test_pictures_of_another_size_are_resized(tmp_path):
    write_3diebench(tmp_path / "set", *views(side=24))
    assert load(tmp_path / "set").train[[0]].images.shape == (1, 2, 3, 16, 16)


def test_reading_processes_see_the_same_images(folder):
    image_set = load(folder).train
    recipe = {"batch_size": 6, "shuffle": True, "drop_last": False, "seed": 0}
    plain, worked = (list(make_loader(image_set, no_workers=number, **recipe)) for number in (0, 1))
    assert all(torch.equal(a.images, b.images) for a, b in zip(plain, worked, strict=True))


def test_published_counts():
    keys = {**KEYS, "size": 256, "no_views": 50, "pairs_per_object": 1, "no_validation": None}
    info = iebench_info(root="", **keys)
    assert (info.no_train, info.no_validation, info.no_test) == (41_920 - 2_096, 2_096, 10_552)
    assert info.note == "39,824 objects of 50 views"
    assert (info.mean, info.std) == (FACTS.mean, FACTS.std)


def spoil_index(folder, **arrays):
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)


def test_a_missing_view_is_told_before_training(folder):
    (folder / "00000001" / "object_000007" / "image_1.jpg").unlink()
    message = told(folder)
    assert "object_000007 lacks 1 of the first 3 views (image_1.jpg)" in message


def test_a_truncated_picture_is_told_by_name_when_it_is_read(folder):
    path = folder / "00000000" / "object_000000" / "image_1.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    splits = load(folder)
    with pytest.raises(
        UserError, match=r"object_000000/image_1\.jpg is missing or no readable image .*unpack it again"
    ):
        splits.test.images_at(torch.arange(3))


def test_nine_numbers_of_a_view_are_refused(folder):
    spoil_index(folder, all_latents_val=np.zeros((9, 9)))
    wanted = (
        "7 numbers of each view are needed, in this order: ex, ey, ez, floor_hue, light_theta, light_phi, light_hue"
    )
    assert wanted in told(folder)
    (folder / "all_latents_val.npy").unlink()
    np.save(folder / "00000000" / "object_000000" / "latent_1.npy", np.zeros(9))
    message = told(folder)
    assert wanted in message and "object_000000/latent_1.npy holds float64 [9]" in message


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {
                "val_images": np.array(["/00000000/object_000000/", "/00000000/gone/", "/00000009/object_000002/"]),
                "val_labels": np.array([0, 0, 2]),
            },
            "val_images.npy names 2 of 3 objects that are not in",
        ),
        ({"val_labels": np.array([0, 1])}, "holds 2 labels for the 3 objects of val_images.npy"),
        ({"val_labels": np.array([0.0, 1, 2])}, "holds float64 [3]: integers [objects] are needed"),
        ({"val_labels": np.array([0, 1, -2])}, "runs from -2 to 1: give classes counted from 0"),
        ({"val_labels": np.array([0, 2, 1])}, "calls 00000002 class 1, train_labels.npy tells otherwise"),
        ({"val_images": np.array([1, 2, 3])}, "holds int64 [3], a list of texts"),
        ({"val_images": np.array([], dtype=str)}, "a list of texts like"),
        ({"val_images": np.array(["/a/../b/", "/a/b/", "/a/c/"])}, "names 'a/../b'"),
        ({"val_images": np.array(["/a/../", "/a/b/", "/a/c/"])}, "names 'a/..'"),
        ({"val_images": np.load}, "never loaded"),
        ({"val_labels": np.load}, "never loaded"),
        ({"all_latents_val": np.load}, "never loaded"),
        ({"all_latents_val": np.zeros((10, 7))}, "holds 10 rows, which is no multiple of the 3 objects"),
        ({"all_latents_val": np.zeros((6, 7))}, "holds 2 views of each object, dataset.no_views=3: give"),
        ({"all_latents_val": np.full((9, 7), np.nan)}, "holds NaN or infinity"),
        ({"all_latents_val": np.full((9, 7), "a")}, "7 numbers of each view are needed"),
    ],
)
def test_index_files_that_do_not_fit_are_told(folder, arrays, message):
    arrays = {key: np.array([[1], "a"], dtype=object) if a is np.load else a for key, a in arrays.items()}
    spoil_index(folder, **arrays)
    assert message in told(folder)


def test_an_object_in_both_splits_is_told(folder):
    names = np.load(folder / "train_images.npy")
    spoil_index(folder, val_images=names[:3], val_labels=np.load(folder / "train_labels.npy")[:3])
    assert "name 3 objects twice, the first is 00000000/object_000003" in told(folder)


def test_absent_and_broken_files_are_told(folder, tmp_path):
    assert f"{tmp_path / 'none'} is no folder: unpack 3DIEBench there" in told(tmp_path / "none")
    whole = (folder / "train_labels.npy").read_bytes()
    (folder / "train_labels.npy").write_bytes(whole[:-8])
    assert "train_labels.npy is truncated or no npy file of shape [12]" in told(folder)
    (folder / "train_labels.npy").write_bytes(b"PK")
    assert "train_labels.npy is no readable npy file" in told(folder)
    (folder / "train_labels.npy").unlink()
    assert "train_labels.npy is missing: put it there" in told(folder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"no_views": 1}, "dataset.no_views=1 is out of range: give 2 to "),
        ({"no_views": 4}, "lacks 1 of the first 4 views (image_3.jpg)"),
        ({"size": 4}, "dataset.size=4 is out of range"),
        ({"no_validation": 12}, "dataset.no_validation=12 is out of range: give 1 to 11"),
        ({"no_train": 10}, "dataset.no_train=10 is out of range: give 1 to 9"),
        ({"no_test": 0}, "dataset.no_test=0 is out of range"),
        ({"pairs_per_object": 0}, "dataset.pairs_per_object=0 is out of range"),
    ],
)
def test_values_out_of_range_are_told(folder, keys, message):
    assert message in told(folder, **keys)


def test_one_training_object_is_too_few(tmp_path):
    images, latents, labels, _ = views()
    is_test = torch.arange(NO_OBJECTS) > 0
    write_3diebench(tmp_path / "set", images, latents, labels, is_test)
    assert "1 object is left for training and validation: give 2 or more" in told(tmp_path / "set")


def test_writing_is_whole_or_nothing(tmp_path, monkeypatch):
    images, latents, labels, is_test = views()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine.txt").touch()
    with pytest.raises(UserError, match="taken cannot be written .*give a new folder"):
        write_3diebench(tmp_path / "taken", images, latents, labels, is_test)
    assert [path.name for path in (tmp_path / "taken").iterdir()] == ["mine.txt"]

    def full(*arguments, **keywords):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        write_3diebench(tmp_path / "half", images, latents, labels, is_test)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["taken"]


def test_grey_images_are_written_as_colour(tmp_path):
    images, latents, labels, is_test = views()
    write_3diebench(tmp_path / "set", images[:, :, :1], latents, labels, is_test)
    pixels = load(tmp_path / "set").train.raw(0)
    assert pixels.shape == (3, 16, 16) and torch.equal(pixels[0], pixels[2])


@settings(deadline=None, max_examples=30)
@given(counts=st.lists(st.integers(1, 40), min_size=1, max_size=6), seed=st.integers(0, 2**40), start=st.floats(0, 0.8))
def test_any_run_of_the_order_holds_the_classes_in_their_shares(counts, seed, start):
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    order = stratified_order(labels, seed)
    assert sorted(order.tolist()) == list(range(len(labels)))
    first, last = int(start * len(labels)), int((start + 0.2) * len(labels))
    for label, count in enumerate(counts):
        found = (labels[order[first:last]] == label).sum().item()
        # A run is an interval of keys in [0, 1), of which each class has its share give or take less than 2.
        assert abs(found - count * (last - first) / len(labels)) <= 2 + 2 * len(counts) * count / len(labels)


def test_the_order_depends_on_the_seed_alone():
    labels = torch.arange(60) % 3
    assert torch.equal(stratified_order(labels, 1), stratified_order(labels, 1))
    assert not torch.equal(stratified_order(labels, 1), stratified_order(labels, 2))
    assert (labels[stratified_order(labels, 1)[:15]].bincount() == 5).all()


def test_some_are_evenly_spread():
    assert some(3, 5).tolist() == [0, 1, 2]
    assert some(10, 5).tolist() == [0, 2, 4, 6, 8]
    assert some(11, 4).tolist() == [0, 2, 5, 8]


def test_a_picture_is_no_npy(folder):
    content = io.BytesIO()
    Image.new("RGB", (4, 4)).save(content, "JPEG")
    (folder / "val_images.npy").write_bytes(content.getvalue())
    assert "val_images.npy is no readable npy file" in told(folder)
