"""Pictures on disk against PIL and torchvision: decoding, the middle, random boxes, and batches that workers share."""

import io
import itertools
import math
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

from partial_equiv.datasets import DatasetInfo, ImageSet, Splits, augment_training, make_loader
from partial_equiv.datasets.augmentation import NO_TRIES, InceptionCrop
from partial_equiv.datasets.counter import uniform
from partial_equiv.datasets.info import CropLaw
from partial_equiv.datasets.pictures import (
    PictureFiles,
    Pictures,
    centre_crop,
    decode,
    inscribed_circle,
    list_classes,
    shorter_side,
    whole,
)
from partial_equiv.errors import UserError

LAW = CropLaw(area=(0.08, 1.0), aspect=(3 / 4, 4 / 3))


def photo(height, width, seed=0):
    """Return a smooth colour picture with some noise."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (7, 9, 3), dtype=np.uint8)).resize((width, height))
    noisy = np.asarray(coarse).astype(int) + rng.integers(-20, 21, (height, width, 3))
    return Image.fromarray(noisy.clip(0, 255).astype(np.uint8))


def as_tensor(image):
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def bytes_of(image, kind="PNG"):
    stream = io.BytesIO()
    image.save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def files(tmp_path):
    """A store of six pictures of different shapes."""
    shapes = [(40, 60), (60, 40), (50, 50), (31, 97), (97, 31), (64, 48)]
    names = np.array([f"{number}.png" for number in range(len(shapes))])
    for number, shape in enumerate(shapes):
        photo(*shape, seed=number).save(tmp_path / names[number])
    return PictureFiles(tmp_path, names, "put it there")


def image_set(files, augmentation=None, size=24):
    pictures = Pictures(files, partial(centre_crop, size=size, shorter=shorter_side(size)))
    return ImageSet(pictures, torch.arange(len(files)) % 2, mean=(0.5,) * 3, std=(0.5,) * 3, augmentation=augmentation)


@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "RGBA", "LA", "CMYK"])
def test_every_8_bit_mode_becomes_rgb(mode):
    image = photo(9, 7).convert("RGB" if mode == "LA" else mode)
    image = image.convert("L").convert("LA") if mode == "LA" else image
    kind = "TIFF" if mode == "CMYK" else "PNG"
    picture = decode(io.BytesIO(bytes_of(image, kind)), "a", remedy="r")
    assert picture.dtype == torch.uint8
    assert torch.equal(picture, as_tensor(image.convert("RGB")))


def test_a_cmyk_and_a_grey_jpeg_are_read_as_torchvision_reads_them(tmp_path):
    for mode in ("CMYK", "L"):
        photo(20, 30).convert(mode).save(tmp_path / "a.jpg")
        with Image.open(tmp_path / "a.jpg") as image:
            assert image.mode == mode
            expected = image.convert("RGB")
        assert torch.equal(decode(tmp_path / "a.jpg", "a", remedy="r"), functional.pil_to_tensor(expected))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is missing or no readable image"),
        (b"no picture", "is missing or no readable image"),
        (bytes_of(photo(30, 30), "JPEG")[:300], "is missing or no readable image"),
        (bytes_of(photo(30, 30))[:-200], "is missing or no readable image"),
        (bytes_of(Image.new("I;16", (5, 5))), "has pixels of mode I;16, save it as 8-bit RGB or grey"),
        (bytes_of(Image.new("1", (500, 4))), "has 500x4 pixels, at most 80,000,000 and an aspect of 100"),
        (bytes_of(Image.new("1", (9_000, 8_900))), "has 9000x8900 pixels, at most 80,000,000"),
    ],
)
def test_what_cannot_be_read_is_told_in_one_sentence(content, message):
    with pytest.raises(UserError, match=message) as caught:
        decode(io.BytesIO(content), "folder/a.png", remedy="put it right")
    assert str(caught.value).startswith("folder/a.png ")
    assert str(caught.value).endswith(": put it right")
    assert "\n" not in str(caught.value)


def test_the_size_is_checked_where_one_is_due(tmp_path):
    photo(20, 30).save(tmp_path / "a.png")
    assert decode(tmp_path / "a.png", "a", remedy="r", only=(20, 30)).shape == (3, 20, 30)
    with pytest.raises(UserError, match="a has 30x20 pixels, 20x30 are needed: r"):
        decode(tmp_path / "a.png", "a", remedy="r", only=(30, 20))
    with pytest.raises(UserError, match="is missing"):
        decode(tmp_path / "b.png", "b", remedy="r")


def test_class_folders_are_listed_by_name(tmp_path):
    for name in ("b/2.png", "b/1.JPEG", "a/x.jpg", "a/notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "README").touch()
    assert list_classes(tmp_path, "r") == {"a": ["a/x.jpg"], "b": ["b/1.JPEG", "b/2.png"]}
    with pytest.raises(UserError, match="c cannot be read .*: r"):
        list_classes(tmp_path / "c", "r")


@pytest.mark.parametrize(("height", "width"), [(300, 451), (451, 300), (260, 260), (180, 200), (256, 333)])
@pytest.mark.parametrize("size", [224, 225, 97])
def test_the_middle_is_torchvisions(height, width, size):
    image = photo(height, width)
    recipe = transforms.Compose([transforms.Resize(shorter_side(size)), transforms.CenterCrop(size)])
    found = centre_crop(as_tensor(image), size=size, shorter=shorter_side(size))
    assert found.shape == (3, size, size)
    assert (found.int() - as_tensor(recipe(image)).int()).abs().max() <= 1


def test_the_shorter_side_is_in_proportion():
    assert [shorter_side(size) for size in (224, 225, 112, 448)] == [256, 257, 128, 512]


@pytest.mark.parametrize("size", [4, 9, 96, 97])
def test_the_circle_is_inscribed_and_keeps_every_symmetry(size):
    circle = inscribed_circle((size, size))
    centre = (size - 1) / 2
    for row, column in itertools.product(range(size), repeat=2):
        distance = math.hypot(row - centre, column - centre)
        if abs(distance - size / 2) > 1e-3:
            assert circle[row, column] == (distance < size / 2)
    assert torch.equal(circle, torch.rot90(circle))
    assert torch.equal(circle, circle.flip(-1))
    picture = torch.full((3, size, size), 9, dtype=torch.uint8)
    image = whole(picture, size=(size, size), circle=True)
    assert image.dtype == torch.uint8
    assert torch.equal(image, 9 * circle.byte().expand(3, -1, -1))
    assert torch.equal(whole(picture, size=(size, size), circle=False), picture)


@pytest.mark.parametrize(("height", "width"), [(60, 90), (200, 40)])
def test_a_random_box_is_cut_and_resized_as_pil_does(height, width):
    image = photo(height, width)
    crop = InceptionCrop(LAW, (32, 32), seed=3)
    for index in range(40):
        numbers = uniform(3, 7, index, np.arange(4 * NO_TRIES + 1))
        top, left, rows, columns = crop.box(height, width, numbers[1:].reshape(NO_TRIES, 4))
        assert 0 <= top <= top + rows <= height
        assert 0 <= left <= left + columns <= width
        cut = image.crop((left, top, left + columns, top + rows)).resize((32, 32), Image.Resampling.BILINEAR)
        expected = functional.hflip(cut) if numbers[0] < 0.5 else cut
        assert (crop.cut(as_tensor(image), numbers).int() - as_tensor(expected).int()).abs().max() <= 1


def test_random_boxes_follow_their_law():
    height = width = 1_000
    crop = InceptionCrop(LAW, (8, 8), seed=0)
    tries = uniform(0, 0, np.arange(4_000)[:, None], np.arange(4 * NO_TRIES)).reshape(-1, NO_TRIES, 4)
    ours = np.array([crop.box(height, width, each) for each in tries])
    torch.manual_seed(0)
    blank = torch.empty(3, height, width)
    law = (list(LAW.area), list(LAW.aspect))
    theirs = np.array([transforms.RandomResizedCrop.get_params(blank, *law) for _ in range(4_000)])
    for mine, other in zip(ours.T, theirs.T, strict=True):
        for share in (0.1, 0.5, 0.9):
            assert abs(np.quantile(mine, share) - np.quantile(other, share)) < 35
    area, aspect = ours[:, 2] * ours[:, 3] / height / width, ours[:, 3] / ours[:, 2]
    assert 0.08 - 1e-3 <= area.min() < 0.1 and 0.95 < area.max() <= 1
    assert 3 / 4 - 1e-2 <= aspect.min() < 0.77 and 1.3 < aspect.max() <= 4 / 3 + 1e-2


@pytest.mark.parametrize(("height", "width"), [(10, 1_000), (1_000, 10), (50, 60)])
def test_where_no_box_fits_the_middle_is_torchvisions(height, width):
    law = CropLaw(area=(4.0, 4.0), aspect=(3 / 4, 4 / 3))  # no box of four times the area fits
    found = InceptionCrop(law, (8, 8), seed=0).box(height, width, uniform(0, np.arange(40)).reshape(NO_TRIES, 4))
    expected = transforms.RandomResizedCrop.get_params(torch.empty(3, height, width), list(law.area), list(law.aspect))
    assert found == tuple(expected)


def test_boxes_depend_on_seed_epoch_and_index_alone(files):
    augmented = image_set(files).augmented(InceptionCrop(LAW, (24, 24), seed=1))
    together = augmented[range(6)].images
    assert together.shape == (6, 3, 24, 24)
    for order in ([3], [5, 0, 3], [3, 3]):
        assert torch.equal(augmented[order].images, together[order])
    augmented.set_epoch(1)
    assert not torch.equal(augmented[range(6)].images, together)
    augmented.set_epoch(0)
    assert torch.equal(augmented[range(6)].images, together)
    other = image_set(files).augmented(InceptionCrop(LAW, (24, 24), seed=2))
    assert not torch.equal(other[range(6)].images, together)


@pytest.mark.parametrize("augmented", [False, True])
def test_workers_give_the_same_batches(files, augmented):
    made = image_set(files, InceptionCrop(LAW, (24, 24), seed=1) if augmented else None)
    assert not made.in_memory
    keys = {"batch_size": 4, "shuffle": True, "drop_last": False, "seed": 0}
    alone, helped = (make_loader(made, no_workers=workers, **keys) for workers in (0, 2))
    assert helped.num_workers == 2
    for epoch in (0, 3):
        for loader in (alone, helped):
            loader.set_epoch(epoch)
        for one, other in zip(alone, helped, strict=True):
            assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_a_set_can_be_sent_to_a_process_that_shares_nothing(files):
    made = image_set(files, InceptionCrop(LAW, (24, 24), seed=1))
    assert torch.equal(pickle.loads(pickle.dumps(made))[range(6)].images, made[range(6)].images)


def test_augmentation_is_offered_where_it_is_published(files):
    info = DatasetInfo("toy", 3, 2, (24, 24), (0.5,) * 3, (0.5,) * 3, ("a", "b"), 6, 6, 6, crop_law=LAW)
    splits = Splits(image_set(files), image_set(files), image_set(files), info)
    after = augment_training(splits, "Inception", seed=5)
    assert after.train.augmentation == InceptionCrop(LAW, (24, 24), 5)
    assert after.validation is splits.validation and after.test is splits.test
    with pytest.raises(UserError, match="resnet is not defined for dataset=toy: give augment=none or inception"):
        augment_training(splits, "resnet", seed=0)
    with pytest.raises(UserError, match="did you mean 'inception'"):
        augment_training(splits, "inceptoin", seed=0)
