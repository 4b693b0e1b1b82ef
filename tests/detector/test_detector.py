"""SymmetryDetector: what users hold goes in, plain answers come out, and mistakes get one sentence."""

import hashlib
import math

import numpy as np
import pytest
import torch

from partial_equiv import UserError, build
from partial_equiv.datasets import rotate_images
from partial_equiv.detector import SHIPPED, SymmetryDetector
from partial_equiv.runs import save_state
from partial_equiv.symmetry import FAMILIES, wrap
from tests.nets.specs import make_spec
from tests.nets.symmetry_specs import symmetry_spec
from tests.nets.test_symmetry_net import blobs


@pytest.fixture(scope="module")
def detector():
    torch.manual_seed(0)
    return SymmetryDetector(build(symmetry_spec()))


def saved(folder, spec):
    torch.manual_seed(0)
    model = build(spec)
    folder.mkdir()
    save_state(folder, "best", {f"model.{key}": value for key, value in model.state_dict().items()}, {"spec": spec})
    return model


def test_every_answer_has_its_shape_and_range(detector):
    images = (blobs(no_images=7) * 255).to(torch.uint8)
    assert detector.pose(images).shape == detector.level(images).shape == detector.confidence(images).shape == (7,)
    assert detector.pose(images).abs().max() <= math.pi + 1e-6
    assert ((detector.level(images) >= 0) & (detector.level(images) <= math.pi)).all()
    assert len(detector.family(images)) == 7 and set(detector.family(images)) <= set(FAMILIES)
    assert detector.uncertainty(images).min() > 0 and detector.ood_score(images).shape == (7,)
    assert torch.isfinite(detector.surprise(images)).all() and detector.surprise(images).shape == (7,)
    assert detector.standardize(images).dtype == torch.uint8 and detector.standardize(images).shape == images.shape


@pytest.mark.parametrize("kind", ["numpy", "grey", "float", "half", "larger", "smaller"])
def test_images_are_taken_as_users_hold_them(detector, kind):
    images = (blobs(no_images=3, size=40) * 255).to(torch.uint8)
    wanted = detector.pose(images)
    given = {
        "numpy": images.numpy(),
        "grey": images[:, 0],
        "float": images.float() / 255,
        "half": images.double() / 255,
        "larger": torch.nn.functional.interpolate(images.float() / 255, (80, 80), mode="bilinear", antialias=True),
        "smaller": torch.nn.functional.interpolate(images.float() / 255, (31, 31), mode="bilinear", antialias=True),
    }[kind]
    tolerance = 0.2 if kind in ("larger", "smaller") else 1e-5
    torch.testing.assert_close(detector.pose(given), wanted, atol=tolerance, rtol=0)


def test_a_quarter_turn_moves_the_pose_and_not_the_level(detector):
    images = blobs(no_images=5)
    turned = torch.rot90(images, 1, dims=(-2, -1))
    gained = torch.remainder(detector.pose(turned) - detector.pose(images), 2 * math.pi)
    torch.testing.assert_close(gained, torch.full((5,), math.pi / 2), atol=1e-4, rtol=0)
    torch.testing.assert_close(detector.level(turned), detector.level(images), atol=1e-4, rtol=0)
    # Turned upright, both are one picture.
    torch.testing.assert_close(detector.standardize(turned), detector.standardize(images), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        (torch.zeros(2, 3, 20, 20), "3 channels"),
        (torch.zeros(2, 1, 20, 24), "square images"),
        (torch.full((2, 1, 20, 20), math.nan), "NaN"),
        (torch.full((2, 1, 20, 20), 255.0), "pixels / 255"),
        (torch.zeros(2, 1, 20, 20, dtype=torch.int64), "int64"),
        (torch.zeros(0, 1, 20, 20), "at least one"),
        (np.zeros(5, dtype=np.uint8), "[5]"),
    ],
)
def test_what_is_no_image_of_its_kind_is_refused_in_one_sentence(detector, images, words):
    with pytest.raises(UserError) as caught:
        detector.level(images)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_constant_and_single_images_have_finite_answers(detector):
    for value in (0, 255):
        reading = detector.read(torch.full((1, 1, 20, 20), value, dtype=torch.uint8))
        assert all(torch.isfinite(column.float()).all() for column in reading)


def test_a_run_is_loaded_and_another_kind_of_run_is_refused(tmp_path):
    spec = symmetry_spec()
    model = saved(tmp_path / "run", spec).eval()
    loaded = SymmetryDetector.load(tmp_path / "run")
    images = blobs()
    expected = model.read(model.normalised(images)).level
    torch.testing.assert_close(loaded.level(images), expected.detach())
    saved(tmp_path / "other", make_spec({"net.type": "GCNN", "net.pool_blocks": [1], "net.no_blocks": 3}))
    with pytest.raises(UserError, match="train=symmetry"):
        SymmetryDetector.load(tmp_path / "other")
    with pytest.raises(UserError, match="train=symmetry"):
        SymmetryDetector(build(make_spec({"net.type": "GCNN", "net.pool_blocks": [1], "net.no_blocks": 3})))


def test_the_detector_that_comes_with_the_library_is_whole_and_small():
    files = {path.name: path for path in SHIPPED.iterdir()}
    assert set(files) == {"best.safetensors", "best.json", "config.yaml", "CARD.md"}
    assert sum(path.stat().st_size for path in files.values()) < 3_000_000
    digest = hashlib.sha256(files["best.safetensors"].read_bytes()).hexdigest()
    assert digest in files["CARD.md"].read_text()
    reading = SymmetryDetector.load().read(blobs(size=28))
    assert all(torch.isfinite(column.float()).all() for column in reading)


@pytest.mark.parametrize("degrees", [30, 45, 77])
def test_its_poses_follow_turns_of_digits_that_it_never_saw(degrees):
    """Embedded digits are of other hands, pens and sizes: what upright is differs, but a turn is a turn."""
    from partial_equiv.datasets.digits import read_upright

    images, _ = read_upright(28)
    digits = images[:200]
    detector = SymmetryDetector.load()
    angle = torch.tensor(math.radians(degrees))
    gained = detector.pose(rotate_images(digits, angle).clamp(0, 1)) - detector.pose(digits) - angle
    assert torch.rad2deg(wrap(gained).abs().median()) < 8
