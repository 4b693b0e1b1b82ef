"""MNIST, rotated MNIST and the sixes: numbered images in the published layout, and the real files where present."""

import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from partial_equiv.datasets import DATASETS, Law, rotate_images
from partial_equiv.datasets.mnist import load_mnist, read_mnist
from partial_equiv.datasets.mnist6 import load_mnist6_180, load_mnist6_m
from partial_equiv.datasets.mnist_12k import load_mnist_12k
from partial_equiv.datasets.resizing import resize_images
from partial_equiv.datasets.rotated_mnist import STAND_IN, TEST_FILE, TRAIN_FILE, load_rotated_mnist, read_amat
from partial_equiv.datasets.rotation import normal_angles, random_angles
from partial_equiv.errors import UserError

COUNTS = {"no_train": None, "no_validation": 1_200, "no_test": None, "seed": 42, "download": False}
AS_PUBLISHED = {"size": None, "rot_normal": None, "turn_test": True}
NO_SIXES = {"train": 5_918, "t10k": 958}


def numbered(no_images: int, no_pixels: int) -> np.ndarray:
    """Return flat images whose first three bytes spell their position, so that a test can tell which source it got."""
    images = np.zeros((no_images, no_pixels), dtype=np.uint8)
    images[:, 3:6] = 200
    position = np.arange(no_images)
    for byte in range(3):
        images[:, byte] = position >> (8 * byte) & 255
    return images


def positions_of(images) -> set[int]:
    """Return the positions that `numbered` wrote, whatever the layout of the images."""
    first = images.reshape(len(images), -1)[:, :3].long()
    return set((first[:, 0] + 256 * first[:, 1] + 65536 * first[:, 2]).tolist())


@pytest.fixture(scope="session")
def fake_mnist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root with MNIST/raw in full length: numbered images, and as many sixes as MNIST has."""
    root = tmp_path_factory.mktemp("mnist")
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    start = 0
    for part, no_images in (("train", 60_000), ("t10k", 10_000)):
        labels = np.full(no_images, 6, dtype=np.uint8)
        labels[NO_SIXES[part] :] = np.arange(no_images - NO_SIXES[part]) % 6
        pixels = numbered(start + no_images, 784)[start:]
        start += no_images
        for kind, header, content in (
            ("images-idx3", [2051, no_images, 28, 28], pixels),
            ("labels-idx1", [2049, no_images], labels),
        ):
            (raw / f"{part}-{kind}-ubyte").write_bytes(np.array(header, dtype=">u4").tobytes() + content.tobytes())
    return root


def test_mnist_splits_share_no_source(fake_mnist):
    splits = load_mnist(root=str(fake_mnist), rot_interval=0, **AS_PUBLISHED, **COUNTS)
    train, validation, test = (positions_of(s.images) for s in splits[:3])
    assert (len(train), len(validation), len(test)) == (58_800, 1_200, 10_000)
    assert train | validation == set(range(60_000))
    assert test == set(range(60_000, 70_000))


def test_mnist_turned_is_mnist_turned(fake_mnist):
    keys = {**AS_PUBLISHED, **COUNTS, "no_train": 40, "no_test": 30}
    upright, turned = (load_mnist(root=str(fake_mnist), rot_interval=a, **keys) for a in (0, 45))
    index = torch.tensor([i for image in upright.train.images for i in positions_of(image[None])])
    expected = rotate_images(upright.train.images, random_angles(index, rot_interval=45, seed=42))
    assert torch.equal(turned.train.images, expected)
    assert torch.equal(turned.train.labels, upright.train.labels)
    assert not torch.equal(turned.test.images, upright.test.images)
    assert "within +-45 degrees" in turned.info.note


def test_mnist_is_resized_after_turning(fake_mnist):
    keys = {**AS_PUBLISHED, **COUNTS, "no_train": 40, "no_test": 30, "rot_interval": 45}
    as_published, small = (load_mnist(root=str(fake_mnist), **{**keys, "size": size}) for size in (None, 27))
    for before, after in zip(as_published[:3], small[:3], strict=True):
        assert torch.equal(after.images, resize_images(before.images, (27, 27)))
        assert torch.equal(after.labels, before.labels)
    assert small.info.size == (27, 27)
    assert "resized to 27x27" in small.info.note
    with pytest.raises(UserError, match="dataset.size=5 is out of range"):
        load_mnist(root="nowhere", **{**keys, "size": 5})


@pytest.mark.parametrize("turn_test", [True, False])
def test_mnist_turned_by_a_normal_law(fake_mnist, turn_test):
    keys = {**COUNTS, "no_train": 40, "no_test": 30, "rot_interval": 0, "size": None, "turn_test": turn_test}
    upright, turned = (load_mnist(root=str(fake_mnist), rot_normal=law, **keys) for law in (None, [45, 20]))
    for stream, before, after in zip((0, 0, 1), upright[:3], turned[:3], strict=True):
        if before is upright.test and not turn_test:
            assert torch.equal(after.images, before.images)
            continue
        index = torch.tensor([i for image in before.images for i in positions_of(image[None])]) - 60_000 * stream
        angles = normal_angles(index, rot_normal=(45, 20), seed=42, stream=stream)
        assert torch.equal(after.images, rotate_images(before.images, angles))
    assert "normal angles, 45 +- 20 degrees" in turned.info.note
    assert ("test images upright" in turned.info.note) != turn_test
    assert upright.info.note == "40 of 58,800 training images; 30 of 10,000 test images"


def test_an_upright_test_goes_with_the_interval_too(fake_mnist):
    keys = {**AS_PUBLISHED, **COUNTS, "no_train": 40, "no_test": 30}
    upright, turned = (
        load_mnist(root=str(fake_mnist), **{**keys, "rot_interval": a, "turn_test": t})
        for a, t in ((0, True), (180, False))
    )
    assert torch.equal(turned.test.images, upright.test.images)
    assert not torch.equal(turned.train.images, upright.train.images)
    assert not torch.equal(turned.validation.images, upright.validation.images)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            {"rot_interval": 10, "rot_normal": [45, 20]},
            r"rot_interval=10 and dataset.rot_normal=\[45, 20\] are two laws",
        ),
        ({"rot_normal": [45]}, r"rot_normal=\[45\] is no normal law: give \[mean, std\] in degrees"),
        ({"rot_normal": [45, -1]}, "is no normal law"),
        ({"rot_normal": [float("nan"), 1]}, "is no normal law"),
        ({"rot_normal": []}, "is no normal law"),
        ({"rot_interval": 181}, "rot_interval=181 is out of range"),
    ],
)
def test_laws_that_are_none_are_told_before_a_file_is_read(keys, message):
    with pytest.raises(UserError, match=message):
        load_mnist(root="nowhere", **{"rot_interval": 0, **AS_PUBLISHED, **COUNTS, **keys})


def test_rotated_mnist_draws_disjoint_sources_and_says_what_it_is(fake_mnist):
    splits = load_rotated_mnist(root=str(fake_mnist), rot_interval=0, **{**COUNTS, "no_validation": 2_000})
    parts = [positions_of(s.images) for s in splits[:3]]
    assert [len(part) for part in parts] == [10_000, 2_000, 50_000]
    assert len(set.union(*parts)) == 62_000
    assert splits.info.note == STAND_IN


def test_rotated_mnist_turns_by_seeded_angles_of_the_full_circle(fake_mnist):
    keys = {**COUNTS, "no_train": 20, "no_test": 10}
    upright, turned, other = (
        load_rotated_mnist(root=str(fake_mnist), rot_interval=a, **{**keys, "seed": s})
        for a, s in ((0, 42), (180, 42), (180, 7))
    )
    for before, after in zip(upright[:3], turned[:3], strict=True):
        index = torch.tensor([i for image in before.images for i in positions_of(image[None])])
        assert torch.equal(after.images, rotate_images(before.images, random_angles(index, rot_interval=180, seed=42)))
    assert not torch.equal(turned.train.images, other.train.images)
    assert turned.info.note.startswith(STAND_IN)


@pytest.mark.parametrize("interval", [0, 30])
def test_sixes_and_their_copies_stay_together(fake_mnist, interval):
    splits = load_mnist6_180(root=str(fake_mnist), rot_interval=interval, **COUNTS)
    assert [len(s) for s in splits[:3]] == [10_636, 1_200, 1_916]
    assert (splits.info.no_train, splits.info.no_validation, splits.info.no_test) == (10_636, 1_200, 1_916)
    for image_set in splits[:3]:
        six, copy = image_set.images.chunk(2)
        assert torch.equal(copy, torch.rot90(six, 2, dims=(-2, -1)))
        assert image_set.labels.tolist() == [0] * len(six) + [1] * len(six)
    if interval == 0:
        train, validation, test = (positions_of(s.images.chunk(2)[0]) for s in splits[:3])
        assert train | validation == set(range(5_918))
        assert not train & validation
        assert test == set(range(60_000, 60_958))


def test_a_half_turn_maps_the_test_split_to_itself_with_classes_swapped(fake_mnist):
    test = load_mnist6_180(root=str(fake_mnist), rot_interval=17, **COUNTS).test
    turned = torch.rot90(test.images, 2, dims=(-2, -1))
    before = sorted(
        (image.numpy().tobytes(), int(label)) for image, label in zip(test.images, test.labels, strict=True)
    )
    after = sorted((image.numpy().tobytes(), 1 - int(label)) for image, label in zip(turned, test.labels, strict=True))
    assert before == after


def test_mirrored_sixes(fake_mnist):
    splits = load_mnist6_m(root=str(fake_mnist), **COUNTS)
    for image_set in splits[:3]:
        six, copy = image_set.images.chunk(2)
        assert torch.equal(copy, six.flip(-1))
    assert splits.info.class_names == ("6", "6 mirrored")


def test_sixes_can_be_fewer(fake_mnist):
    splits = load_mnist6_m(root=str(fake_mnist), **{**COUNTS, "no_train": 100, "no_validation": None, "no_test": 20})
    assert [len(s) for s in splits[:3]] == [100, 1_182, 20]
    assert splits.info.note == "100 of 10,654 training images; 20 of 1,916 test images"
    with pytest.raises(UserError, match="no_train=101 is odd"):
        load_mnist6_m(root=str(fake_mnist), **{**COUNTS, "no_train": 101})


def damaged(fake_mnist, tmp_path, name, change):
    """Return a root whose file `name` was changed; the other files are links."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (fake_mnist / "MNIST" / "raw").iterdir():
        (raw / path.name).symlink_to(path)
    content = (raw / name).read_bytes()
    (raw / name).unlink()
    if (changed := change(content)) is not None:
        (raw / name).write_bytes(changed)
    return str(tmp_path)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("t10k-images-idx3-ubyte", lambda content: None, r"t10k-images-idx3-ubyte is missing: put MNIST's four"),
        ("t10k-images-idx3-ubyte", lambda content: content[:-1], "is truncated"),
        ("t10k-images-idx3-ubyte", lambda content: b"", "is truncated"),
        ("t10k-images-idx3-ubyte", lambda content: content + b"x", "not the published file"),
        ("t10k-images-idx3-ubyte", lambda content: b"\xff" * 16 + content[16:], "not MNIST's file"),
        ("t10k-images-idx3-ubyte", lambda content: content[:4] + b"\x7f\xff\xff\xff" + content[8:], "not MNIST's file"),
        ("t10k-labels-idx1-ubyte", lambda content: content[:-1] + b"\x0a", "holds label 10"),
    ],
)
def test_damaged_files_are_told(fake_mnist, tmp_path, name, change, message):
    with pytest.raises(UserError, match=message) as caught:
        read_mnist(damaged(fake_mnist, tmp_path, name, change), download=False)
    assert "dataset.download=true" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_in_place_of_a_file_is_told(tmp_path):
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").mkdir(parents=True)
    with pytest.raises(UserError, match="is not a file"):
        read_mnist(str(tmp_path), download=False)


def write_amat(path, no_lines, pixels=None):
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 257, (no_lines, 784)) if pixels is None else pixels
    np.savetxt(path, np.concatenate([pixels / 256, (np.arange(no_lines) % 10)[:, None]], axis=1), fmt="%.8e")
    return pixels


def test_official_files_are_read_as_published(tmp_path):
    pixels = write_amat(tmp_path / "a.amat", 12)
    images, labels = read_amat(tmp_path / "a.amat", 12)
    assert images.shape == (12, 1, 28, 28)
    assert np.array_equal(images.reshape(12, 784).numpy(), np.minimum(pixels, 255))
    assert labels.tolist() == [*range(10), 0, 1]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "\n".join(text.splitlines()[:-1]), "11 images where 12 are due"),
        (lambda text: text + text.splitlines()[0], "more than 12 lines"),
        (lambda text: text.replace(" ", "  x ", 1), "truncated or not the published file"),
        (lambda text: "\n".join(line.rsplit(" ", 1)[0] for line in text.splitlines()), "784 numbers in a line"),
        (lambda text: "-1" + text[text.index(" ") :], "numbers outside"),
        (lambda text: text + " " * (12 * 785 * 32), "too large"),
        (lambda text: "\n" * 50, "0 images where 12 are due"),
        (lambda text: "\N{SNOWMAN}" + text, "truncated or not the published file"),
    ],
)
def test_damaged_official_files_are_told(tmp_path, change, message):
    write_amat(tmp_path / "a.amat", 12)
    (tmp_path / "a.amat").write_text(change((tmp_path / "a.amat").read_text()), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        read_amat(tmp_path / "a.amat", 12)


def test_official_files_are_preferred_on_the_full_circle(fake_mnist, tmp_path, monkeypatch):
    images, labels = torch.zeros(12_000, 1, 28, 28, dtype=torch.uint8), torch.zeros(12_000, dtype=torch.int64)
    tests = torch.zeros(50_000, 1, 28, 28, dtype=torch.uint8), torch.zeros(50_000, dtype=torch.int64)
    monkeypatch.setattr(
        "partial_equiv.datasets.rotated_mnist.read_amat",
        lambda path, n: (images, labels) if path.name == TRAIN_FILE else tests,
    )
    (tmp_path / "rotMNIST").mkdir()
    (tmp_path / "rotMNIST" / TRAIN_FILE).touch()
    keys = {**COUNTS, "no_validation": 2_000}
    splits = load_rotated_mnist(root=str(tmp_path), rot_interval=180, **keys)
    assert [len(s) for s in splits[:3]] == [10_000, 2_000, 50_000]
    assert splits.info.note == ""
    with pytest.raises(UserError, match="train-images-idx3-ubyte is missing"):
        load_rotated_mnist(root=str(tmp_path), rot_interval=45, **keys)


def test_half_of_the_official_files_is_told(tmp_path):
    write_amat(tmp_path / TRAIN_FILE, 3)
    with pytest.raises(UserError, match="3 images where 12,000 are due"):
        load_rotated_mnist(root=str(tmp_path), rot_interval=180, **COUNTS)
    with pytest.raises(UserError, match=f"{TEST_FILE} is missing: unpack mnist_rotation_new.zip"):
        read_amat(tmp_path / TEST_FILE, 3)


def test_real_mnist(real_data):
    mnist = read_mnist(str(real_data), download=False)
    pixels = mnist.train_images.float() / 255
    assert pixels.mean().item() == pytest.approx(0.1307, abs=1e-4)
    assert pixels.std().item() == pytest.approx(0.3081, abs=1e-4)
    assert mnist.train_labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert mnist.test_labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_real_sixes_pair_up(real_data):
    splits = load_mnist6_180(root=str(real_data), rot_interval=0, **COUNTS)
    assert len(splits.test) == 1_916
    six, copy = splits.test.images.chunk(2)
    assert torch.equal(torch.rot90(six, 2, dims=(-2, -1)), copy)
    share_below = lambda images: (images[:, :, 14:].float().mean() / images.float().mean()).item()  # noqa: E731
    assert share_below(six) > 1.1 > 0.9 > share_below(copy)  # the bowl of a six is at the bottom


def test_download_takes_nothing_if_all_is_there(fake_mnist, tmp_path, monkeypatch):
    monkeypatch.setattr("partial_equiv.datasets.mnist.fetch", lambda *_: pytest.fail("fetched"))
    read_mnist(str(fake_mnist), download=True)


def test_download_of_what_is_missing(fake_mnist, tmp_path, monkeypatch):
    root = damaged(fake_mnist, tmp_path, "t10k-labels-idx1-ubyte", lambda content: None)
    calls = []

    def fetched(urls, md5, unpack, remedy):
        calls.append((urls[0].rsplit("/", 1)[-1], md5))
        for name, target in unpack.items():
            shutil.copy(fake_mnist / "MNIST" / "raw" / name, target)

    monkeypatch.setattr("partial_equiv.datasets.mnist.fetch", fetched)
    assert len(read_mnist(root, download=True).test_labels) == 10_000
    assert calls == [("t10k-labels-idx1-ubyte.gz", "ec29112dd5afa0611ce80d1b7f02629c")]


UPRIGHT_12K = {"title": "MNIST-12k", **COUNTS, "no_validation": 2_400}


def test_a_set_of_symmetry_inference_draws_disjoint_sources_and_says_what_it_is(fake_mnist):
    splits = load_mnist_12k(root=str(fake_mnist), **{**UPRIGHT_12K, "title": "MNIST-Rot60"})
    parts = [positions_of(s.images) for s in splits[:3]]
    assert [len(part) for part in parts] == [9_600, 2_400, 50_000]
    assert len(set.union(*parts)) == 62_000
    assert (splits.info.name, splits.info.note) == ("MNIST-Rot60", "seeded draw from MNIST, not the published files")
    assert splits.info.laws == (Law("none"),) * 10
    assert not any(s.poses.any() for s in splits[:3])
    again, other = (load_mnist_12k(root=str(fake_mnist), **{**UPRIGHT_12K, "seed": seed}) for seed in (42, 7))
    assert torch.equal(again.train.images, splits.train.images)
    assert not torch.equal(other.train.images, splits.train.images)


def test_a_set_of_symmetry_inference_has_the_sources_of_rotated_mnist(fake_mnist):
    keys = {**COUNTS, "no_validation": 2_400, "no_train": 20, "no_test": 10}
    rotated = load_rotated_mnist(root=str(fake_mnist), rot_interval=0, **keys)
    upright = load_mnist_12k(root=str(fake_mnist), title="a", **keys)
    for one, other in zip(rotated[:3], upright[:3], strict=True):
        assert torch.equal(one.images, other.images) and torch.equal(one.labels, other.labels)


def test_published_files_are_preferred_to_a_draw(tmp_path, monkeypatch):
    files = {
        name: (torch.full((no, 1, 28, 28), no // 1_000, dtype=torch.uint8), torch.arange(no) % 10)
        for name, no in (("mnist_train.amat", 12_000), ("mnist_test.amat", 50_000))
    }
    seen = []

    def read(path, no_lines, archive):
        seen.append((no_lines, archive))
        return files[path.name]

    monkeypatch.setattr("partial_equiv.datasets.mnist_12k.read_amat", read)
    (tmp_path / "mnist_train.amat").touch()
    splits = load_mnist_12k(root=str(tmp_path), **UPRIGHT_12K)
    assert seen == [(12_000, "mnist.zip"), (50_000, "mnist.zip")]
    assert [int(s.images.max()) for s in splits[:3]] == [12, 12, 50]
    assert [len(s) for s in splits[:3]] == [9_600, 2_400, 50_000]
    assert splits.test.labels.tolist() == [i % 10 for i in range(50_000)]
    assert splits.info.note == ""


def test_half_of_the_published_files_is_told(tmp_path):
    write_amat(tmp_path / "mnist_train.amat", 3)
    with pytest.raises(UserError, match="mnist_train.amat .*3 images where 12,000 are due.*: unpack mnist.zip into"):
        load_mnist_12k(root=str(tmp_path), **UPRIGHT_12K)
    with pytest.raises(UserError, match="train-images-idx3-ubyte is missing"):
        load_mnist_12k(root=str(tmp_path / "none"), **UPRIGHT_12K)


def test_what_turns_by_a_key_has_poses_and_a_law(fake_mnist):
    keys = {**COUNTS, "no_train": 40, "no_test": 30}
    mnist = {**AS_PUBLISHED, **keys, "root": str(fake_mnist)}
    upright, interval, normal, moved, half = (
        load_mnist(**{**mnist, "rot_interval": 0, **law})
        for law in (
            {},
            {"rot_interval": 45},
            {"rot_normal": [0, 20]},
            {"rot_normal": [45, 20]},
            {"rot_interval": 180, "turn_test": False},
        )
    )
    rotated = load_rotated_mnist(root=str(fake_mnist), rot_interval=180, **keys)
    laws = [Law("none"), Law("uniform", 45), Law("normal", 20), None, Law("full"), Law("full")]
    for splits, law in zip((upright, interval, normal, moved, half, rotated), laws, strict=True):
        assert splits.info.laws == (None if law is None else (law,) * 10)
    for splits in (interval, normal, moved, half):
        for before, after in zip(upright[:3], splits[:3], strict=True):
            gap = rotate_images(before.images, after.poses.double()).int() - after.images.int()
            assert gap.abs().max() <= 1  # a pose is kept in single precision
    assert not half.test.poses.any() and half.validation.poses.abs().max() > 2
    assert load_mnist6_180(root=str(fake_mnist), rot_interval=30, **COUNTS).info.laws is None


def test_official_files_have_the_full_law_and_no_poses(tmp_path, monkeypatch):
    blank = {n: (torch.zeros(n, 1, 28, 28, dtype=torch.uint8), torch.zeros(n).long()) for n in (12_000, 50_000)}
    monkeypatch.setattr("partial_equiv.datasets.rotated_mnist.read_amat", lambda path, n: blank[n])
    (tmp_path / TRAIN_FILE).touch()
    splits = load_rotated_mnist(root=str(tmp_path), rot_interval=180, **COUNTS)
    assert splits.info.laws == (Law("full"),) * 10
    assert all(s.poses is None and s[[0]].pose is None for s in splits[:3])


def test_real_digits_turn_as_pillow_turns_them(real_data):
    keys = {**UPRIGHT_12K, "root": str(real_data), "no_train": 200, "no_test": 10}
    laws = ["none"] + [f"uniform:{18 * d}" for d in range(1, 10)]
    upright, turned = (DATASETS["MNIST-12k"](law=law, **keys).train for law in (None, laws))
    for before, after, pose in zip(upright.images, turned.images, turned.poses.tolist(), strict=True):
        expected = Image.fromarray(before[0].numpy()).rotate(math.degrees(pose), Image.Resampling.BILINEAR)
        gap = torch.from_numpy(np.array(expected)).int() - after[0].int()
        assert gap[2:-2, 2:-2].abs().max() <= 2
    assert (turned.poses.abs() > 1).sum() > 30
