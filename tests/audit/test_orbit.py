"""The orbit evaluator against closed forms, a plain loop over single images, and turns of raw pixels."""

import json
import math

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from partial_equiv.audit.moves import Move, make_moves
from partial_equiv.audit.orbit import evaluate_orbit, orbit_images
from partial_equiv.audit.statistics import t_interval, wilson
from partial_equiv.datasets import ImageSet, make_loader, rotate_images
from partial_equiv.errors import UserError

GENERATOR = torch.Generator().manual_seed(5)
RAW = torch.randint(0, 256, (40, 3, 9, 9), generator=GENERATOR, dtype=torch.uint8)
LABELS = torch.randint(0, 4, (40,), generator=GENERATOR)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


def batches(images, labels, size=7):
    return [(images[i : i + size], labels[i : i + size]) for i in range(0, len(images), size)]


def corner(images):
    """Logits: the class that is written into the upper left pixel."""
    return nn.functional.one_hot(images[:, 0, 0, 0].long(), 4).float()


def written_corners(no_images=50):
    """Return images with a class in each corner (upper left, upper right, lower right, lower left), and the corners."""
    corners = torch.randint(0, 4, (no_images, 4), generator=GENERATOR)
    images = torch.zeros(no_images, 1, 5, 5)
    for place, (y, x) in enumerate([(0, 0), (0, -1), (-1, -1), (-1, 0)]):
        images[:, 0, y, x] = corners[:, place].float()
    return images, corners


class Scored(nn.Module):
    """A random linear classifier that is not invariant; in training mode it returns nonsense."""

    def __init__(self, side=9):
        super().__init__()
        self.norm = nn.BatchNorm2d(3)
        self.readout = nn.Linear(3 * side * side, 4)

    def forward(self, images):
        logits = self.readout(self.norm(images).view(len(images), -1))  # refuses exchanged strides
        return logits * math.nan if self.training else logits


def by_hand(model, images, labels, moves):
    """Return answers [M, N], one image and one move at a time."""
    model.eval()
    with torch.no_grad():
        rows = [[int(model(next(orbit_images(x[None], [m]))).argmax()) for x in images] for m in moves]
    return torch.tensor(rows)


def test_a_constant_model_is_right_at_its_class_at_every_element():
    report = evaluate_orbit(lambda x: torch.tensor([[0.0, 1.0, 0.0, 0.0]]).expand(len(x), 4), batches(RAW, LABELS))
    share = float((LABELS == 1).double().mean())
    assert report.acc_per_element == {"0°": share, "90°": share, "180°": share, "270°": share}
    assert report.acc_unseen == report.acc_mean == report.acc_worst == report.acc_upright == share
    assert (report.spread, report.consistency, report.no_images) == (0.0, 1.0, 40)


@pytest.mark.parametrize("group", ["C2", "C4", "D4", "flip_h"])
def test_an_invariant_model_has_no_spread(group):
    labels = (RAW.long().sum(dim=(1, 2, 3)) > 3 * 81 * 127).long()
    labels[::3] = 1 - labels[::3]  # a third of its answers are wrong

    def mean_of_pixels(x):
        total = x.long().sum(dim=(1, 2, 3))  # of integers: the order of the pixels does not matter
        return torch.stack([total * 0, total - 3 * 81 * 127], dim=1).double()

    report = evaluate_orbit(mean_of_pixels, batches(RAW, labels), group)
    assert (report.spread, report.consistency) == (0.0, 1.0)
    assert report.acc_mean == report.acc_upright == pytest.approx(26 / 40)
    assert len(report.moves) == {"C2": 2, "C4": 4, "D4": 8, "flip_h": 2}[group]


def test_a_corner_gives_closed_forms():
    images, corners = written_corners()
    report = evaluate_orbit(corner, batches(images, corners[:, 0]))
    # A turn by 90° counter-clockwise brings the upper right corner to the upper left, and so on around.
    expected = [float((corners[:, place] == corners[:, 0]).double().mean()) for place in range(4)]
    assert list(report.acc_per_element.values()) == pytest.approx(expected, abs=0)
    assert report.acc_upright == 1.0
    assert report.acc_unseen == pytest.approx(sum(expected[1:]) / 3, rel=1e-12)
    assert report.acc_mean == pytest.approx(sum(expected) / 4, rel=1e-12)
    # The predecessor's "unseen" held the upright quarter: it is another number.
    assert report.acc_unseen == pytest.approx((4 * report.acc_mean - report.acc_upright) / 3) and report.acc_mean > 0.4
    assert report.acc_worst == min(expected) and report.acc_per_element[report.worst] == min(expected)
    assert report.spread == pytest.approx(1 - min(expected))
    assert report.consistency == float((corners == corners[:, :1]).all(dim=1).double().mean())


def test_a_mirror_exchanges_the_upper_corners():
    images, corners = written_corners()
    found = evaluate_orbit(corner, batches(images, corners[:, 0]), "D4").acc_per_element
    for name, place in (("mirror", 1), ("mirror, 90°", 0), ("mirror, 180°", 3), ("mirror, 270°", 2)):
        assert found[name] == float((corners[:, place] == corners[:, 0]).double().mean())


def test_consistency_and_intervals_by_brute_force():
    level = torch.randn(40, 3, 1, 1, generator=GENERATOR, dtype=torch.float64)  # some answers depend on it alone
    model, images = Scored().double(), RAW.double() / 255 + 2 * level
    moves = (Move(0.0), *make_moves("D4"))
    answers = by_hand(model, images, LABELS, moves)
    report = evaluate_orbit(model, batches(images, LABELS), "D4")
    same = [len(set(answers[:, n].tolist())) == 1 for n in range(40)]
    assert report.consistency == sum(same) / 40 and 0 < sum(same) < 40
    right = (answers == LABELS).double()
    assert list(report.accuracy) == right.mean(dim=1).tolist()
    assert report.ci95["acc_mean"] == pytest.approx(t_interval(right.mean(dim=0).tolist()))
    assert report.ci95["acc_unseen"] == pytest.approx(t_interval(right[1:].mean(dim=0).tolist()))
    assert report.ci95["consistency"] == wilson(sum(same), 40)
    assert report.element_ci95["180°"] == wilson(int(right[2].sum()), 40)


@pytest.mark.parametrize("degrees", [10, 45, 217])
def test_a_turn_equals_turning_raw_pixels_over_their_background_then_normalising(degrees):
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    images = RAW.clone()
    images[:, :, [0, -1], :] = torch.tensor([12, 200, 90], dtype=torch.uint8)[:, None, None]  # median of the border
    normalised = (images.float() / 255 - mean) / std
    (found,) = orbit_images(normalised, [Move(math.radians(degrees))])
    # Raw pixels: the frame is widened by what is behind the picture, so that the turn reads background there.
    wide = torch.tensor([12.0, 200.0, 90.0])[:, None, None].expand(40, 3, 21, 21).clone()
    wide[..., 6:15, 6:15] = images.float()
    raw = rotate_images(wide, torch.tensor(math.radians(degrees)))[..., 6:15, 6:15]
    torch.testing.assert_close(found, (raw / 255 - mean) / std, atol=1e-5, rtol=0)
    black = ((0 - mean) / std).flatten().tolist()
    (found,) = orbit_images(normalised, [Move(math.radians(degrees))], fill=black)
    raw = rotate_images(images.float(), torch.tensor(math.radians(degrees)))
    torch.testing.assert_close(found, (raw / 255 - mean) / std, atol=1e-5, rtol=0)
    # The predecessor turned normalised pixels over zeros: its corners are grey, not black.
    zeros = rotate_images(normalised, torch.tensor(math.radians(degrees)))
    assert (zeros - found).abs().max() > 1


def test_the_background_is_the_median_of_each_images_border():
    images = torch.rand(3, 2, 8, 8, generator=GENERATOR)
    (turned,) = orbit_images(images, [Move(math.pi / 4)])
    for n in range(3):
        for c in range(2):
            x = images[n, c]
            border = sorted([*x[0].tolist(), *x[-1].tolist(), *x[1:-1, 0].tolist(), *x[1:-1, -1].tolist()])
            assert turned[n, c, 0, 0] == pytest.approx(border[13])  # of 28; a corner reads nothing but background


def test_integer_pixels_are_turned_as_numbers_and_rounded():
    (found,) = orbit_images(RAW, [Move(0.3)], fill=255)
    (expected,) = orbit_images(RAW.double(), [Move(0.3)], fill=255)
    assert found.dtype == torch.uint8
    assert (found.double() - expected).abs().max() <= 0.5 + 1e-4
    (half,) = orbit_images(RAW.half() / 255, [Move(0.3)])
    assert half.dtype == torch.float16


@pytest.mark.parametrize("side", [8, 9])
def test_the_circle_is_the_same_at_every_angle_and_at_none(side):
    images = torch.rand(4, 1, side, side, generator=GENERATOR) + 1
    moves = [Move(math.radians(degrees)) for degrees in (0, 30, 45, 90, 135, 180)]
    # A fill that no pixel has: what is filled shows, and what is inside mixes with no fill.
    found = list(orbit_images(images, moves, fill=-100.0, border="circle"))
    centre = (side - 1) / 2
    outside = torch.tensor(
        [[math.hypot(y - centre, x - centre) > centre + 1e-9 for x in range(side)] for y in range(side)]
    )
    assert outside[0, 0] and not outside[side // 2, side // 2]
    for moved in found:
        torch.testing.assert_close(moved == -100, outside.expand_as(moved))
        assert moved[..., ~outside].min() > 0.99
    torch.testing.assert_close(found[0][..., ~outside], images[..., ~outside], atol=0, rtol=0)
    # A classifier that reads the corner sees nothing any more, upright included.
    batch, reads = (images, torch.zeros(4).long()), lambda x: torch.stack([x[:, 0, 0, 0], -x[:, 0, 0, 0]], dim=1)
    report = evaluate_orbit(reads, [batch], border="circle", fill=-1.0)
    assert evaluate_orbit(reads, [batch], fill=-1.0).acc_upright == 1.0
    assert report.acc_upright == 0.0


def test_every_picture_is_new_and_laid_out_as_models_expect():
    kept = RAW.clone()
    for moved in orbit_images(RAW, (Move(0.0), *make_moves("D4"), Move(0.3))):
        assert moved.is_contiguous()
        moved.zero_()
    assert torch.equal(RAW, kept)


def test_thirty_six_angles_make_a_curve_in_radians():
    report = evaluate_orbit(Scored(), batches(RAW.float() / 255, LABELS), "C36")
    assert list(report.angles) == pytest.approx([math.radians(10 * i) for i in range(36)])
    by_angles = evaluate_orbit(
        Scored(), batches(RAW.float() / 255, LABELS), "SO2", angles=[0.0, math.pi / 2, math.radians(-40)]
    )
    assert list(by_angles.acc_per_element) == ["0°", "90°", "320°"]
    with pytest.raises(UserError, match="mirrors images"):
        _ = evaluate_orbit(Scored(), batches(RAW.float(), LABELS), "D1").angles


@pytest.mark.parametrize("size", [1, 7, 40])
def test_the_size_of_batches_does_not_matter(size):
    model, images = Scored().double(), RAW.double() / 255
    expected = evaluate_orbit(model, batches(images, LABELS, 13), "C8")
    assert evaluate_orbit(model, batches(images, LABELS, size), "C8") == expected
    loader = DataLoader(TensorDataset(images, LABELS), batch_size=size)
    assert evaluate_orbit(model, loader, "C8") == expected


def test_our_loader_and_a_limit_on_images():
    image_set = ImageSet(RAW, LABELS, mean=MEAN, std=STD)
    loader = make_loader(image_set, batch_size=16, shuffle=False, drop_last=False, seed=0, no_workers=0)
    model, whole = Scored(), image_set[range(40)]
    assert evaluate_orbit(model, loader) == evaluate_orbit(model, [whole])
    assert evaluate_orbit(model, loader, no_images=20) == evaluate_orbit(
        model, [(whole.images[:20], whole.labels[:20])]
    )

    def endless():
        while True:
            yield whole

    assert evaluate_orbit(model, endless(), no_images=80).no_images == 80


def test_the_model_and_its_images_are_left_as_they_were():
    class Rude(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Scored()

        def forward(self, images):
            return {"logits": self.inner(images.mul_(0.5)), "note": "in place"}

    model, images = Rude().train(), RAW.float() / 255
    model.inner.norm.eval()
    state, kept = {k: v.clone() for k, v in model.state_dict().items()}, images.clone()
    found = evaluate_orbit(model, [(images, LABELS)])
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.equal(images, kept)
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert found == evaluate_orbit(model.inner, [(images / 2, LABELS)])
    with pytest.raises(UserError):
        evaluate_orbit(model, [(images[..., :5], LABELS)])
    assert [m.training for m in model.modules()] == [True, True, False, True]
    assert torch.is_grad_enabled()


def test_a_model_in_double_precision_takes_single_images():
    model = Scored().double()
    assert evaluate_orbit(model, [(RAW.float() / 255, LABELS)]).no_images == 40


def test_the_report_as_text_and_as_json():
    report = evaluate_orbit(Scored(), batches(RAW.float() / 255, LABELS))
    text = report.table()
    assert "40 images, fill background, border none" in text
    for word in ("0°", "270°", "upright", "unseen", "consistency", f"at {report.worst}"):
        assert word in text
    data = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert data["accuracy"] == list(report.accuracy) and data["angles"] == list(report.angles)
    assert data["acc_unseen"] == report.acc_unseen and data["ci95"]["acc_mean"] == list(report.ci95["acc_mean"][1:])
    assert data["elements"][2]["name"] == "180°" and data["elements"][2]["no_right"] == report.no_right[2]
    one = evaluate_orbit(Scored(), [(RAW[:1].float(), LABELS[:1])], "D1")
    assert one.to_dict()["ci95"]["acc_mean"] is None and one.to_dict()["angles"] is None
    assert "none of one image" in one.table()


def test_square_images_are_needed_for_quarter_turns_of_a_rigid_model_alone():
    wide, labels = torch.rand(6, 3, 9, 12), torch.zeros(6).long()
    rigid = nn.Sequential(nn.Flatten(1, 2), nn.Linear(12, 4), nn.Flatten(), nn.Linear(27 * 4, 4))
    with pytest.raises(UserError, match=r"quarter turn of \[9, 12\].*square images"):
        evaluate_orbit(rigid, [(wide, labels)])
    assert evaluate_orbit(rigid, [(wide, labels)], "D2").no_images == 6
    flexible = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, 4))
    assert evaluate_orbit(flexible, [(wide, labels)]).no_images == 6


def logits(x):
    return torch.zeros(len(x), 4)


X, Y = torch.rand(5, 3, 9, 9), torch.tensor([0, 1, 2, 3, 0])


@pytest.mark.parametrize(
    ("model", "loader", "choices", "message"),
    [
        (logits, [], {}, "yields no images"),
        (logits, [X], {}, r"give batches \(images, labels"),
        (logits, [{"image": X, "label": Y}], {}, "yields dict"),
        (logits, [(X, nn.functional.one_hot(Y))], {}, "one integer per image"),
        (logits, [(X, Y.float())], {}, "one integer per image"),
        (logits, [(X[0], Y)], {}, "for 3 images"),
        (logits, [(X[:, 0], Y)], {}, r"give batches \[B, C, Y, X\]"),
        (logits, [(X, Y + 1)], {}, "labels run from 1 to 4"),
        (logits, [(X, Y)], {"fill": [0.0, 1.0]}, "2 numbers for images of 3 channels"),
        (logits, [(X, Y)], {"fill": "black"}, 'give "background"'),
        (logits, [(X, Y)], {"border": "square"}, "none, circle"),
        (logits, [(X, Y)], {"no_images": 0}, "give 1 or more"),
        (logits, [(X, Y)], {"group": "C5x"}, "is not one of"),
        (logits, [(X, Y)], {"group": "SO2", "angles": [0.0]}, "nothing but the identity"),
        (logits, [(X, Y)], {"group": "SO2", "angles": [0.1, 0.1 + 2 * math.pi]}, "more than once"),
        (lambda x: (logits(x), logits(x)), [(X, Y)], {}, "tuple with 2 tensors: wrap it"),
        (lambda x: "cat", [(X, Y)], {}, "returns a str"),
        (lambda x: x, [(X, Y)], {}, r"must return logits \[B, K\]"),
        (lambda x: logits(x) * math.nan, [(X, Y)], {}, "NaN"),
        (lambda x, y: x, [(X, Y)], {}, "wrap a model that needs more than images"),
        (nn.Conv2d(4, 4, 3), [(X, Y)], {}, r"does not take images \[5, 3, 9, 9\]"),
    ],
)
def test_mistakes_are_named_in_one_sentence(model, loader, choices, message):
    with pytest.raises(UserError, match=message) as caught:
        evaluate_orbit(model, loader, **choices)
    assert "\n" not in str(caught.value)


def test_a_tuple_with_one_tensor_is_taken():
    assert evaluate_orbit(lambda x: (logits(x), None), [(X, Y)]).acc_upright == 0.4
