"""Recorded augmentations against torchvision image by image, their law against closed forms and a slow loop."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms.v2 import functional

from partial_equiv.datasets import (
    DatasetInfo,
    ImageSet,
    RecordedViews,
    Splits,
    ViewSet,
    ViewSplits,
    augment_training,
    make_loader,
    recorded_info,
)
from partial_equiv.datasets.augmentation import CropFlip, InceptionCrop
from partial_equiv.datasets.counter import generator
from partial_equiv.datasets.info import CropLaw
from partial_equiv.datasets.recorded_ops import (
    AMOUNT,
    CROP,
    NO_TRIES,
    ORDER,
    PARAMETERS,
    SIMCLR,
    augment,
    draw_boxes,
    draw_parameters,
    neutral_parameters,
    standardisation,
)
from partial_equiv.errors import UserError
from tests.datasets.on_disk import OnDisk

COLUMN = {name: number for number, name in enumerate(PARAMETERS)}


def smooth_images(no_images, channels, size):
    """Return noise and gradients, with flat, black and white images among them."""
    images = torch.rand(no_images, channels, *size, generator=generator(3))
    images[::2] = 0.2 * images[::2] + 0.8 * torch.linspace(0, 1, size[1])
    images[0], images[1], images[2] = 0.3, 0, 1
    return (255 * images).round().to(torch.uint8)


def make_set(no_images=12, channels=3, size=(10, 8), fetched=False):
    images = smooth_images(no_images, channels, size)
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.3, 0.4)[:channels]
    return ImageSet(OnDisk(images) if fetched else images, torch.arange(no_images) % 4, mean=mean, std=std)


def recorded(seed=5, varies=True, **keywords):
    return RecordedViews(make_set(**keywords), law=SIMCLR, seed=seed, varies=varies)


def draw(no_images, *, size=(32, 32), in_colour=True, seed=1, epoch=0, law=SIMCLR):
    return draw_parameters(
        torch.arange(no_images), law=law, size=size, in_colour=in_colour, no_draws=2, seed=seed, epoch=epoch
    )


def by_torchvision(image, parameters, reverse=False):
    """Return one image [C, Y, X] in [0, 1] after the recorded changes, each by its own function of torchvision."""
    value = dict(zip(PARAMETERS, parameters.tolist(), strict=True))
    box = [int(value[name]) for name in CROP]
    image = functional.resized_crop(image, *box, size=functional.get_size(image), antialias=True)
    if value["flip"]:
        image = functional.horizontal_flip(image)
    if value["jitter"]:
        changes = {
            "brightness": functional.adjust_brightness,
            "contrast": functional.adjust_contrast,
            "saturation": functional.adjust_saturation,
            "hue": functional.adjust_hue,
        }
        for name in sorted(AMOUNT, key=lambda name: value[f"order_{name}"], reverse=reverse):
            image = changes[name](image, value[name])
    return functional.rgb_to_grayscale(image, num_output_channels=3) if value["gray"] else image


@pytest.mark.parametrize(("channels", "size"), [(3, (32, 32)), (3, (9, 14)), (1, (12, 12)), (1, (15, 8))])
def test_every_image_is_changed_as_torchvision_does(channels, size):
    images = smooth_images(60, channels, size)
    parameters = draw(60, size=size, in_colour=channels == 3)[:, 1]
    found = augment(images.float(), parameters) / 255
    expected, reverse = (
        torch.stack([by_torchvision(i, p, back) for i, p in zip(images.float() / 255, parameters, strict=True)])
        for back in (False, True)
    )
    torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
    assert (reverse - expected).abs().max() > 0.01  # the order counts


@pytest.mark.parametrize("name", ["crop", "flip", *AMOUNT, "gray"])
def test_each_change_alone_is_torchvisions(name):
    images = smooth_images(20, 3, (11, 13))
    parameters = neutral_parameters((11, 13)).repeat(20, 1)
    drawn = draw(20, size=(11, 13), law=dataclasses.replace(SIMCLR, jitter=1, gray=1))[:, 0]
    for column in {"crop": CROP, "flip": ("flip",), "gray": ("gray",)}.get(name, ("jitter", name)):
        parameters[:, COLUMN[column]] = drawn[:, COLUMN[column]]
    found = augment(images.float(), parameters) / 255
    expected = torch.stack([by_torchvision(i, p) for i, p in zip(images.float() / 255, parameters, strict=True)])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    assert (found - images / 255).abs().max() > 0.05


def test_pixels_of_the_published_pipeline_are_met_but_for_its_rounding():
    """Pillow keeps whole levels after each change, and hue and saturation in 256 steps."""
    images = smooth_images(60, 3, (32, 32))
    parameters = draw(60)[:, 0]
    found = augment(images.float(), parameters)
    pictures = [functional.to_pil_image(image) for image in images]
    changed = [by_torchvision(picture, p) for picture, p in zip(pictures, parameters, strict=True)]
    error = (found - torch.stack([functional.pil_to_tensor(picture) for picture in changed])).abs()
    assert error.max() < 16
    assert error.mean() < 1.5


@settings(deadline=None, max_examples=25)
@given(channels=st.sampled_from([1, 2, 3, 4]), height=st.integers(1, 20), width=st.integers(1, 20))
def test_no_augmentation_changes_nothing(channels, height, width):
    images = torch.randint(0, 256, (3, channels, height, width), generator=generator(height)).float()
    found = augment(images, neutral_parameters((height, width)).expand(3, -1))
    torch.testing.assert_close(found, images, atol=2e-3, rtol=0)


def test_colours_of_other_numbers_of_channels_keep_their_saturation():
    images = torch.rand(8, 4, 9, 9, generator=generator(0)) * 255
    parameters = neutral_parameters((9, 9)).repeat(8, 1)
    parameters[:, [COLUMN["jitter"], COLUMN["gray"]]] = 1
    parameters[:, [COLUMN["saturation"], COLUMN["hue"]]] = 0.3
    torch.testing.assert_close(augment(images, parameters), images, atol=2e-3, rtol=0)
    parameters[:, COLUMN["contrast"]] = 0.5
    expected = 0.5 * images + 0.5 * images.mean(dim=(1, 2, 3), keepdim=True)
    torch.testing.assert_close(augment(images, parameters), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("size", [(32, 32), (8, 30), (30, 8), (3, 3)])
def test_boxes_equal_a_slow_loop(size):
    areas, aspects = torch.rand(2, 200, NO_TRIES, generator=generator(0)).double().numpy()
    places = torch.rand(200, 2, generator=generator(1)).double().numpy()
    found = draw_boxes(areas, aspects, places, SIMCLR.crop, size)
    slow = InceptionCrop(SIMCLR.crop, size, seed=0)
    for i in range(200):
        tries = np.stack([areas[i], aspects[i], *np.repeat(places[i][:, None], NO_TRIES, 1)], axis=1)
        assert tuple(found[i]) == slow.box(*size, tries)


def test_a_box_that_never_fits_is_the_largest_central_one():
    numbers = np.full((1, NO_TRIES), 0.5)
    law = CropLaw(area=(2, 3), aspect=(3 / 4, 4 / 3))
    for size, box in (((9, 9), (0, 0, 9, 9)), ((9, 30), (0, 9, 9, 12)), ((30, 9), (9, 0, 12, 9))):
        assert tuple(draw_boxes(numbers, numbers, np.zeros((1, 2)), law, size)[0]) == box


def test_the_law_of_boxes_is_torchvisions():
    parameters = draw(4000)[:, 0]
    image = torch.zeros(1, 32, 32)
    theirs = torch.tensor([RandomResizedCrop.get_params(image, [0.08, 1], [3 / 4, 4 / 3]) for _ in range(4000)])
    for column in range(4):
        ours, other = parameters[:, column].sort().values, theirs[:, column].double().sort().values
        levels = torch.arange(-0.5, 33)
        distance = (torch.searchsorted(ours, levels.double()) - torch.searchsorted(other, levels.double())).abs().max()
        assert distance / 4000 < 1.95 * math.sqrt(2 / 4000)  # Kolmogorov and Smirnov, at 1 in 1,000


def test_the_law_of_the_other_parameters_is_its_closed_form():
    no_images = 20_000
    value = dict(zip(PARAMETERS, draw(no_images)[:, 0].T, strict=True))
    error = 4 / math.sqrt(no_images)
    for name, chance in (("flip", 0.5), ("jitter", 0.8), ("gray", 0.2)):
        assert set(value[name].tolist()) == {0, 1}
        assert abs(value[name].mean() - chance) < error / 2
    on = value["jitter"] == 1
    for name, middle, bound in zip(AMOUNT, (1, 1, 1, 0), (0.4, 0.4, 0.4, 0.1), strict=True):
        assert (value[name][~on] == middle).all()
        drawn = (value[name][on] - middle) / bound
        assert drawn.abs().max() <= 1
        assert abs(drawn.mean()) < error and abs(drawn.square().mean() - 1 / 3) < error
    orders = torch.stack([value[name] for name in ORDER], dim=1)
    assert (orders[~on] == torch.arange(4)).all()
    _, counts = orders[on].unique(dim=0, return_counts=True)
    assert len(counts) == 24
    expected = on.sum() / 24
    assert ((counts - expected).square() / expected).sum() < 49.7  # chi-square of 23 degrees, at 1 in 1,000


def test_the_two_draws_of_an_image_and_its_parameters_are_independent():
    drawn = draw(20_000, law=dataclasses.replace(SIMCLR, jitter=1))
    names = ("crop_height", "flip", "order_brightness", *AMOUNT, "gray")
    both = torch.cat([drawn[:, view][:, [COLUMN[name] for name in names]] for view in (0, 1)], dim=1)
    correlation = torch.corrcoef(both.T) - torch.eye(2 * len(names))
    assert correlation.abs().max() < 5 / math.sqrt(20_000)


@pytest.mark.parametrize("in_colour", [True, False])
def test_latents_are_standardised(in_colour):
    size = (28, 20)
    mean, deviation = standardisation(SIMCLR, size, in_colour)
    sample = draw(40_000, size=size, in_colour=in_colour, seed=77)[:, 1]
    latents = (sample - mean) / deviation
    varies = sample.std(dim=0) > 0
    assert latents.mean(dim=0).abs().max() < 0.05
    assert (latents[:, varies].std(dim=0) - 1).abs().max() < 0.05
    constant = {PARAMETERS[i] for i in (~varies).nonzero()[:, 0].tolist()}
    assert constant == (set() if in_colour else {"saturation", "hue", "gray"})
    assert (latents[:, ~varies] == 0).all()
    deviation_of = dict(zip(PARAMETERS, deviation.tolist(), strict=True))
    assert deviation_of["brightness"] == pytest.approx(0.4 * math.sqrt(0.8 / 3), rel=0.02)
    assert deviation_of["jitter"] == pytest.approx(0.4, rel=0.02)
    assert standardisation(SIMCLR, size, in_colour)[0] is mean


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(-(2**70), 2**70), epoch=st.integers(0, 500), index=st.integers(0, 2**40))
def test_parameters_depend_on_seed_epoch_and_index_alone(seed, epoch, index):
    def drawn(positions, seed=seed, epoch=epoch):
        return draw_parameters(
            torch.tensor(positions), law=SIMCLR, size=(16, 16), in_colour=True, no_draws=2, seed=seed, epoch=epoch
        )

    alone = drawn([index])
    assert torch.equal(drawn([7, index, 3])[1:2], alone)
    assert not torch.equal(drawn([index + 1]), alone)
    assert not torch.equal(drawn([index], seed=seed + 1), alone)
    assert not torch.equal(drawn([index], epoch=epoch + 1), alone)
    assert not torch.equal(alone[:, 0], alone[:, 1])


@pytest.mark.parametrize(("channels", "fetched"), [(3, False), (1, False), (3, True)])
def test_a_batch_holds_the_image_and_two_augmentations_of_it(channels, fetched):
    views = recorded(channels=channels, fetched=fetched)
    plain = make_set(channels=channels)
    batch = views[[7, 3, 11]]
    assert batch.images.shape == (3, 3, channels, 10, 8) and batch.images.dtype == torch.float32
    assert batch.latents.shape == (3, 3, 15) and batch.latents.dtype == torch.float32
    assert torch.equal(batch.images[:, 0], plain[[7, 3, 11]].images)
    assert batch.labels.tolist() == [3, 3, 3] and batch.index.tolist() == [7, 3, 11]
    parameters = views.parameters(batch.index, size=(10, 8), in_colour=channels == 3)
    for view in (1, 2):
        changed = augment(plain.images[[7, 3, 11]].float(), parameters[:, view]) / 255
        expected = functional.normalize(changed, list(plain.mean), list(plain.std))
        torch.testing.assert_close(batch.images[:, view], expected, atol=1e-5, rtol=1e-5)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert ((batch.images[:, one] - batch.images[:, other]).abs().amax(dim=(1, 2, 3)) > 0.05).all()
        assert not torch.isclose(batch.latents[:, one], batch.latents[:, other]).all(dim=1).any()
    assert (batch.latents[:, 0] == batch.latents[:1, 0]).all()
    whole = batch.latents[0, 0, COLUMN["crop_height"]]
    assert (batch.latents[:, :, COLUMN["crop_height"]] <= whole).all()


def test_training_varies_by_epoch_and_evaluation_does_not():
    train, test = recorded(varies=True), recorded(varies=False)
    first = train[range(12)]
    assert torch.equal(first.images, test[range(12)].images)
    for views in (train, test):
        views.set_epoch(1)
    assert not torch.equal(train[range(12)].latents[:, 1:], first.latents[:, 1:])
    assert torch.equal(train[range(12)].images[:, 0], first.images[:, 0])
    assert torch.equal(test[range(12)].images, first.images)
    train.set_epoch(0)
    assert torch.equal(train[range(12)].images, first.images)
    torch.testing.assert_close(train[5].images, first.images[5:6], atol=1e-5, rtol=1e-5)
    assert torch.equal(train[5].latents, first.latents[5:6])


def test_probes_find_what_they_use():
    views = recorded()
    assert (len(views), views.no_objects, views.no_views, views.view_names) == (12, 12, 1, ("anchor", "x", "y"))
    assert views.in_memory and not recorded(fetched=True).in_memory
    assert views.latents.shape == (12, 1, 0) and views.groups == {}
    assert (views.mean, views.std) == ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4))
    assert torch.equal(views.labels, views.images.labels)
    assert torch.equal(views.raw(-1), views.images.images[11])
    assert torch.equal(views.images_at(torch.tensor([4, 4, 0])), views[[4, 4, 0]].images[:, 0])


def test_reading_processes_give_the_same_batches():
    batches = []
    for no_workers in (0, 1):
        loader = make_loader(
            recorded(fetched=True), batch_size=5, shuffle=True, drop_last=False, seed=2, no_workers=no_workers
        )
        loader.set_epoch(4)
        batches.append(list(loader))
    assert [len(batch.labels) for batch in batches[0]] == [5, 5, 2]
    for one, other in zip(*batches, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


INFO = DatasetInfo("toy", 3, 4, (10, 8), (0.4, 0.5, 0.6), (0.2, 0.3, 0.4), tuple("0123"), 12, 12, 12, note="made up")


def test_all_splits_are_seen_beside_their_augmentations():
    splits = Splits(make_set(), make_set(), make_set(), INFO)
    one, other = (augment_training(splits, "recorded", seed=seed) for seed in (1, 2))
    assert one.info == recorded_info(INFO)
    assert one.info.views == ("anchor", "x", "y") and one.info.latents == PARAMETERS and len(set(PARAMETERS)) == 15
    assert one.info.note == "each image beside two augmentations of it; made up"
    assert not torch.equal(one.train[range(12)].images, other.train[range(12)].images)
    for name in ("validation", "test"):
        first, second = getattr(one, name), getattr(other, name)
        assert not first.varies and torch.equal(first[range(12)].images, second[range(12)].images)
    assert one.train.varies
    assert splits.train.augmentation is None


def test_sets_of_views_are_refused():
    images = torch.zeros(4, 1, 8, 8, dtype=torch.uint8)
    views = ViewSet(images, torch.zeros(2, 2, 1), torch.zeros(2).long(), mean=[0], std=[1], pairs_per_object=1, seed=0)
    splits = ViewSplits(views, views, views, INFO)
    assert augment_training(splits, "none", seed=0) is splits
    for augmentation in ("recorded", "resnet"):
        with pytest.raises(UserError, match=f"augment={augmentation} changes single images, and dataset=toy has"):
            augment_training(splits, augmentation, seed=0)
    with pytest.raises(UserError, match="augment=recorded changes single images, and dataset=toy has"):
        recorded_info(recorded_info(INFO))


def test_an_undefined_augmentation_names_those_that_are():
    splits = Splits(make_set(), make_set(), make_set(), INFO)
    with pytest.raises(UserError, match="dataset=toy: give augment=none or recorded$"):
        augment_training(splits, "inception", seed=0)
    with pytest.raises(UserError, match="did you mean 'recorded'"):
        augment_training(splits, "record", seed=0)
    with pytest.raises(AssertionError, match="no image as it is"):
        RecordedViews(splits.train.augmented(CropFlip(2, 0)), law=SIMCLR, seed=0, varies=True)
