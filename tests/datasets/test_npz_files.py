"""npz files: a round trip, no pickle, no header believed, and one sentence for every mishap."""

import io
import os
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from partial_equiv.datasets import DATASETS, Law, write_npz
from partial_equiv.datasets.npz import load_npz, moments
from partial_equiv.datasets.npz_file import read_images, read_npz
from partial_equiv.errors import UserError

COUNTS = {"no_train": None, "no_validation": None, "no_test": None, "seed": 42}


def positions_of(images):
    return set(images[:, 0, 0, 0].tolist())


def write(path, no_images=20, shape=(6, 5), first=0, **arrays):
    images = np.broadcast_to(
        np.arange(first, first + no_images).reshape(-1, *[1] * len(shape)), (no_images, *shape)
    ).astype(np.uint8)
    np.savez(path, **{"images": images, "labels": np.arange(no_images) % 3, **arrays})
    return str(path)


@settings(deadline=None, max_examples=25)
@given(
    no_images=st.integers(1, 9),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    colour=st.booleans(),
    dtype=st.sampled_from([np.uint8, np.int64, np.int32, np.uint16]),
    save=st.sampled_from([np.savez, np.savez_compressed]),
)
def test_round_trip(no_images, height, width, colour, dtype, save):
    rng = np.random.default_rng(no_images)
    images = rng.integers(
        0, 256, (no_images, height, width, 3) if colour else (no_images, height, width), dtype=np.uint8
    )
    labels = rng.integers(0, 5, no_images).astype(dtype)
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder, "a.npz"), images=np.asfortranarray(images), labels=labels, other=np.zeros(3))
        pixels, classes = read_npz(Path(folder, "a.npz"))
    assert pixels.shape == (no_images, 3 if colour else 1, height, width)
    assert np.array_equal(pixels.permute(0, 2, 3, 1).squeeze(-1).reshape(images.shape).numpy(), images)
    assert classes.tolist() == labels.tolist()


def test_one_file_is_cut_into_three(tmp_path):
    splits = load_npz(root=write(tmp_path / "a.npz", 100), test_root=None, **COUNTS)
    parts = [positions_of(s.images) for s in splits[:3]]
    assert [len(part) for part in parts] == [72, 8, 20]
    assert set.union(*parts) == set(range(100))
    info = splits.info
    assert (info.in_channels, info.no_classes, info.size, info.no_test) == (1, 3, (6, 5), 20)


def test_several_files_and_a_test_file(tmp_path):
    root = [write(tmp_path / "a.npz", 12, (8, 8, 3)), write(tmp_path / "b.npz", 8, (8, 8, 3), first=12)]
    test_root = write(tmp_path / "c.npz", 5, (8, 8, 3), first=20, labels=np.array([0, 1, 2, 3, 4]))
    splits = load_npz(root=root, test_root=test_root, **{**COUNTS, "no_validation": 4})
    train, validation, test = (positions_of(s.images) for s in splits[:3])
    assert train | validation == set(range(20))
    assert len(validation) == 4
    assert test == set(range(20, 25))
    assert splits.info.no_classes == 5
    assert splits.info.in_channels == 3


def test_moments_are_those_of_the_training_images(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (40, 7, 7, 3), dtype=np.uint8)
    images[..., 2] = 9
    np.savez(tmp_path / "a.npz", images=images, labels=np.arange(40) % 2)
    splits = load_npz(root=str(tmp_path / "a.npz"), test_root=None, **COUNTS)
    pixels = splits.train.images.double() / 255
    torch.testing.assert_close(torch.tensor(splits.info.mean), pixels.mean((0, 2, 3)), check_dtype=False)
    assert splits.info.std[:2] == pytest.approx(pixels.std((0, 2, 3), correction=0)[:2].tolist())
    assert splits.info.std[2] == 1.0
    assert moments(splits.train.images) == (splits.info.mean, splits.info.std)
    assert abs(splits.train[range(len(splits.train))].images.mean()) < 1e-4


class Intruder:
    """Writes a file when unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


def test_pickles_are_never_loaded(tmp_path):
    trap = str(tmp_path / "trap")
    objects = np.empty(3, dtype=object)
    objects[:] = [Intruder(trap)] * 3
    for arrays in ({"labels": objects}, {"images": objects}):
        with pytest.raises(UserError, match="Python objects, which are never loaded"):
            read_npz(Path(write(tmp_path / "a.npz", 3, **arrays)))
    np.save(tmp_path / "b.npy", objects, allow_pickle=True)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(UserError, match="truncated or no npz file"):
        read_npz(tmp_path / "b.npz")
    assert not os.path.exists(trap)


def member(header, content=b"", version=b"\x01\x00"):
    text = header.encode("latin1")
    return b"\x93NUMPY" + version + len(text).to_bytes(2, "little") + text + content


def forge(path, images):
    good = io.BytesIO()
    np.save(good, np.zeros(3, dtype=np.int64))
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("images.npy", images)
        archive.writestr("labels.npy", good.getvalue())
    return path


@pytest.mark.parametrize(
    "content",
    [
        member("{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000, 28, 28)}\n", b"\0" * 100),
        member("{'descr': '|u1', 'fortran_order': False, 'shape': (3, -2, -2)}\n", b"\0" * 12),
        member("{'descr': '|u1', 'fortran_order': False, 'shape': (3, 2, 2)}\n", b"\0" * 11),
        member("{'descr': '|u1', 'fortran_order': False, 'shape': ("),
        member("{'descr': '|u1' 'shape'"),
        member("__import__('os').mkdir('x')"),
        member("{}", version=b"\x03\x00"),
        member("{}", version=b"\x09\x00"),
        b"\x93NUMPY",
        b"",
        b"garbage" * 100,
    ],
)
def test_forged_headers_are_told(tmp_path, content):
    with pytest.raises(UserError, match=r"a.npz.*an npz needs `images`"):
        read_npz(forge(tmp_path / "a.npz", content))


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_damage_is_told_or_harmless(data):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(write(Path(folder, "a.npz"), 4))
        content = bytearray(path.read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
        message = ""
        try:
            images, labels = read_npz(path)
            assert len(images) == len(labels)
        except UserError as error:
            message = str(error)
        assert "\n" not in message
        assert not message or "a.npz" in message


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"images": np.full((20, 4, 4), 255, dtype=np.float32)}, "images are float32 from 255 to 255"),
        ({"images": np.linspace(-0.01, 1, 320).reshape(20, 4, 4)}, "images are float64 from -0.01 to 1;"),
        ({"images": np.full((20, 4, 4), np.nan)}, "images are float64 from nan to nan"),
        ({"images": np.where(np.arange(320) == 7, np.inf, 0).reshape(20, 4, 4)}, "from 0 to inf"),
        ({"images": np.zeros((20, 4, 4), dtype=np.complex64)}, "images are complex64"),
        ({"images": np.zeros((20, 4, 4), dtype=np.int64)}, "images are int64"),
        ({"images": np.zeros((20, 16), dtype=np.uint8)}, r"images are uint8 \[20, 16\]"),
        ({"images": np.zeros((20, 4, 4, 4), dtype=np.uint8)}, r"\[20, 4, 4, 4\]"),
        ({"images": np.zeros((20, 0, 4), dtype=np.uint8)}, r"\[20, 0, 4\]"),
        ({"images": np.zeros((0, 4, 4), dtype=np.uint8), "labels": np.zeros(0, dtype=int)}, r"\[0, 4, 4\]"),
        ({"labels": np.zeros(19, dtype=int)}, r"labels are int64 \[19\] for 20 images"),
        ({"labels": np.zeros(20)}, "labels are float64"),
        ({"labels": np.arange(20) - 1}, "labels run from -1 to 18"),
        ({"labels": np.arange(20) * 10**9}, "labels run from 0 to 19000000000"),
        ({"labels": np.full(20, 2**64 - 1, dtype=np.uint64)}, "labels run from"),
    ],
)
def test_other_layouts_are_told(tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        read_npz(Path(write(tmp_path / "a.npz", **arrays)))


def test_missing_arrays_files_and_folders_are_told(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3), labels=np.zeros(3))
    for path, message in (
        (tmp_path / "a.npz", r"has no array 'images', only \['x', 'labels'\]"),
        (tmp_path / "none.npz", "is missing: give dataset.root="),
        (tmp_path, "is a folder"),
    ):
        with pytest.raises(UserError, match=message):
            read_npz(path)


def test_files_that_do_not_fit_together_are_told(tmp_path):
    grey, colour = write(tmp_path / "a.npz"), write(tmp_path / "b.npz", shape=(6, 5, 3))
    with pytest.raises(UserError, match=r"different kinds: \[\(1, 6, 5\), \(3, 6, 5\)\]"):
        load_npz(root=[grey, colour], test_root=None, **COUNTS)
    with pytest.raises(UserError, match="differ in channels"):
        load_npz(root=grey, test_root=colour, **COUNTS)
    with pytest.raises(UserError, match="at least 3 together"):
        load_npz(root=write(tmp_path / "c.npz", 2), test_root=None, **COUNTS)
    for empty in (None, "", []):
        with pytest.raises(UserError, match=r"dataset\.root is empty"):
            load_npz(root=empty, test_root=None, **COUNTS)


def test_a_single_image_for_training_is_too_few(tmp_path):
    with pytest.raises(UserError, match="no_validation=1 is out of range"):
        load_npz(root=write(tmp_path / "a.npz", 1), test_root=write(tmp_path / "b.npz", 1), **COUNTS)


def test_real_turntable(real_data):
    splits = load_npz(root=str(real_data / "npz" / "coil20_32x32.npz"), test_root=None, **COUNTS)
    assert (splits.info.no_classes, splits.info.size) == (20, (32, 32))
    assert sum(len(s) for s in splits[:3]) == 1_440


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_numbers_in_the_unit_interval_become_bytes(tmp_path, dtype):
    levels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    np.savez(tmp_path / "a.npz", images=(levels / 255).astype(dtype))
    images, labels = read_images(tmp_path / "a.npz")
    assert np.array_equal(images[:, 0].numpy(), levels)
    assert labels is None


def test_images_without_labels(tmp_path):
    np.savez(tmp_path / "a.npz", images=np.arange(50, dtype=np.uint8).repeat(36).reshape(50, 6, 6))
    splits = load_npz(root=str(tmp_path / "a.npz"), test_root=None, **COUNTS)
    info = splits.info
    assert (info.labelled, info.no_classes, info.class_names, info.note) == (False, 1, ("0",), "no labels")
    assert set.union(*(positions_of(s.images) for s in splits[:3])) == set(range(50))
    assert not any(s.labels.any() for s in splits[:3])
    with pytest.raises(UserError, match="has no array 'labels'"):
        read_npz(tmp_path / "a.npz")
    turned = DATASETS["npz"](root=str(tmp_path / "a.npz"), test_root=None, law="full", **COUNTS)
    assert turned.info.laws == (Law("full"),)
    with pytest.raises(UserError, match="2 laws of angles are given .* because the images have no labels"):
        DATASETS["npz"](root=str(tmp_path / "a.npz"), test_root=None, law=["full", "none"], **COUNTS)


def test_labels_in_some_files_only_are_told(tmp_path):
    named = write(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=np.zeros((5, 6, 5), dtype=np.uint8))
    bare = str(tmp_path / "b.npz")
    with pytest.raises(UserError, match=r"b.npz has no labels, other files of dataset.root have"):
        load_npz(root=[named, bare], test_root=None, **COUNTS)
    with pytest.raises(UserError, match=r"dataset.test_root has no labels, the other has"):
        load_npz(root=named, test_root=bare, **COUNTS)
    with pytest.raises(UserError, match=r"dataset.root has no labels, the other has"):
        load_npz(root=bare, test_root=named, **COUNTS)


@pytest.mark.parametrize("no_channels", [1, 3])
def test_what_is_written_is_read(tmp_path, no_channels):
    images = torch.randint(0, 256, (30, no_channels, 7, 5), dtype=torch.uint8)
    labels, pose = torch.arange(30) % 4, torch.rand(30)
    for part in ("train", "test"):
        write_npz(tmp_path / f"{part}.npz", images, labels=labels, index=torch.arange(30), pose=pose, level=None)
    found = read_npz(tmp_path / "train.npz")
    assert torch.equal(found[0], images) and torch.equal(found[1], labels)
    with np.load(tmp_path / "train.npz", allow_pickle=False) as arrays:
        assert set(arrays) == {"images", "labels", "index", "pose"}
        assert arrays["images"].shape == ((30, 7, 5) if no_channels == 1 else (30, 7, 5, 3))
        assert np.array_equal(arrays["pose"], pose.numpy())
    splits = load_npz(root=str(tmp_path / "train.npz"), test_root=str(tmp_path / "test.npz"), **COUNTS)
    assert torch.equal(splits.test.images, images)
    assert splits.test.poses is None


def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_npz(path, torch.zeros(3, 1, 4, 4, dtype=torch.uint8))
    before = path.read_bytes()

    def broken(path, **_):
        Path(path).write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", broken)
    with pytest.raises(UserError, match=r"a.npz cannot be written \(No space left on device\)"):
        write_npz(path, torch.ones(3, 1, 4, 4, dtype=torch.uint8))
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(UserError, match="cannot be written"):
        write_npz(tmp_path / "none" / "a.npz", torch.ones(3, 1, 4, 4, dtype=torch.uint8))
    with pytest.raises(UserError, match="images of 2 channels have no place in an npz"):
        write_npz(path, torch.ones(3, 2, 4, 4, dtype=torch.uint8))
