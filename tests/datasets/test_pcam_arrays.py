"""PCam's H5 files: converted chunk by chunk, then read mapped, as the folders are read."""

import pickle
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from partial_equiv.datasets import make_loader
from partial_equiv.datasets.pcam import load_pcam
from partial_equiv.datasets.pcam_convert import convert_array, main
from partial_equiv.datasets.pictures import inscribed_circle
from partial_equiv.errors import UserError

KEYS = {"size": None, "circle_crop": False, "no_train": None, "no_validation": None, "no_test": None, "seed": 42}
COUNTS = {"train": 7, "valid": 4, "test": 5}


def contents():
    """Return images and labels of each split; half of the images have label 0 and come first."""
    rng = np.random.default_rng(0)
    return {
        part: (rng.integers(0, 256, (no_images, 96, 96, 3), dtype=np.uint8), np.arange(no_images) >= no_images // 2)
        for part, no_images in COUNTS.items()
    }


def write_arrays(root):
    (root / "PCam").mkdir()
    for part, (images, labels) in contents().items():
        np.save(root / "PCam" / f"{part}_x.npy", images)
        np.save(root / "PCam" / f"{part}_y.npy", labels.astype(np.uint8))


def write_folders(root):
    for part, (images, labels) in contents().items():
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            path = root / "PCam" / part / str(int(label)) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)


@pytest.mark.parametrize(
    "keys", [{}, {"size": 97}, {"circle_crop": True}, {"size": 33, "circle_crop": True, "no_train": 4}]
)
def test_arrays_and_folders_give_the_same_images(tmp_path, keys):
    for place, write in (("arrays", write_arrays), ("folders", write_folders)):
        (tmp_path / place).mkdir()
        write(tmp_path / place)
    mapped, decoded = (load_pcam(root=str(tmp_path / place), **{**KEYS, **keys}) for place in ("arrays", "folders"))
    assert mapped.info == decoded.info
    for one, other in zip(mapped[:3], decoded[:3], strict=True):
        assert not one.in_memory
        for a, b in zip(one[range(len(one))][:3], other[range(len(other))][:3], strict=True):
            assert torch.equal(a, b)


def test_the_circle_is_black_outside_and_unchanged_inside(tmp_path):
    write_arrays(tmp_path)
    whole, cut = (load_pcam(root=str(tmp_path), **{**KEYS, "circle_crop": c}) for c in (False, True))
    circle = inscribed_circle((96, 96))
    for before, after in zip(whole.test.images[torch.arange(5)], cut.test.images[torch.arange(5)], strict=True):
        assert torch.equal(after, before * circle)
    assert cut.info.note == "black outside the inscribed circle"


def test_workers_and_other_processes_map_the_file_again(tmp_path):
    write_arrays(tmp_path)
    train = load_pcam(root=str(tmp_path), **KEYS).train
    message = pickle.dumps(train)
    assert len(message) < 10_000  # the name of the file, not its pixels
    assert torch.equal(pickle.loads(message)[range(7)].images, train[range(7)].images)
    keys = {"batch_size": 3, "shuffle": True, "drop_last": False, "seed": 0}
    for alone, helped in zip(
        make_loader(train, no_workers=0, **keys), make_loader(train, no_workers=1, **keys), strict=True
    ):
        assert all(torch.equal(a, b) for a, b in zip(alone[:3], helped[:3], strict=True))


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("test_y.npy", None, "test_y.npy is missing beside the other arrays: run python -m .*pcam_convert --root"),
        ("valid_x.npy", None, "valid_x.npy is missing beside the other arrays"),
        ("test_x.npy", lambda path: path.write_bytes(path.read_bytes()[:-1]), "truncated or no array"),
        ("test_x.npy", lambda path: path.write_bytes(b""), "truncated or no array"),
        ("test_x.npy", lambda path: path.write_bytes(b"no array"), "truncated or no array"),
        ("test_x.npy", lambda path: np.save(path, np.zeros((5, 96, 96), np.uint8)), r"holds uint8 \[5, 96, 96\] where"),
        ("test_x.npy", lambda path: np.save(path, np.zeros((5, 96, 96, 3))), "holds float64"),
        ("test_x.npy", lambda path: np.save(path, np.array([{}]), allow_pickle=True), "truncated or no array"),
        ("test_y.npy", lambda path: np.save(path, np.zeros(4, np.uint8)), r"holds uint8 \[4\] for 5 images"),
        ("test_y.npy", lambda path: np.save(path, np.full(5, 2, np.uint8)), "labels 0 and 1 are due"),
    ],
)
def test_damaged_arrays_are_told(tmp_path, name, change, message):
    write_arrays(tmp_path)
    path = tmp_path / "PCam" / name
    if change is None:
        path.unlink()
    else:
        change(path)
    with pytest.raises(UserError, match=message) as caught:
        load_pcam(root=str(tmp_path), **KEYS)
    assert f"--root {tmp_path}" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_h5_files_alone_are_told_the_command(tmp_path):
    (tmp_path / "PCam").mkdir()
    (tmp_path / "PCam" / "camelyonpatch_level_2_split_train_x.h5").touch()
    with pytest.raises(UserError, match=f"run python -m partial_equiv.datasets.pcam_convert --root {tmp_path}$"):
        load_pcam(root=str(tmp_path), **KEYS)


def test_without_h5py_the_extra_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert main(["--root", str(tmp_path)]) == 2
    assert capsys.readouterr().err == "error: converting H5 files needs h5py: pip install 'partial_equiv[pcam]'\n"


class Stored:
    """What h5py gives for one array: shape, dtype, and pixels by slices."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype
        self.read = []

    def __getitem__(self, part):
        self.read.append(part.stop - part.start)
        return self.array[part]


def test_an_array_is_copied_in_chunks_and_never_replaced(tmp_path, monkeypatch):
    monkeypatch.setattr("partial_equiv.datasets.pcam_convert.NO_IMAGES_AT_ONCE", 3)
    images = Stored(contents()["train"][0])
    target = tmp_path / "train_x.npy"
    assert convert_array({"x": images}, "x", tmp_path / "a.h5", target) == 7
    assert images.read == [3, 3, 3]
    assert np.array_equal(np.load(target), images.array)
    assert [path.name for path in tmp_path.iterdir()] == ["train_x.npy"]
    before = target.stat()
    assert convert_array({"x": images}, "x", tmp_path / "a.h5", target) == 7
    assert target.stat().st_mtime_ns == before.st_mtime_ns
    assert len(images.read) == 3


@pytest.mark.parametrize(
    ("axis", "array", "message"),
    [
        ("x", np.zeros((2, 32, 32, 3), np.uint8), r"holds uint8 \[2, 32, 32, 3\] where uint8 \[N, 96, 96, 3\] is due"),
        ("x", np.zeros((2, 96, 96, 3), np.float32), "holds float32"),
        ("x", np.zeros((0, 96, 96, 3), np.uint8), r"holds uint8 \[0, 96, 96, 3\]"),
        ("y", np.zeros((2,), np.uint8), r"where uint8 \[N, 1, 1, 1\] is due"),
    ],
)
def test_other_shapes_are_refused_and_leave_nothing(tmp_path, axis, array, message):
    with pytest.raises(UserError, match=message):
        convert_array({axis: Stored(array)}, axis, tmp_path / "a.h5", tmp_path / "train_x.npy")
    with pytest.raises(UserError, match=r"holds \['z'\] and no 'x'"):
        convert_array({"z": Stored(array)}, "x", tmp_path / "a.h5", tmp_path / "train_x.npy")
    assert not list(tmp_path.iterdir())


def test_a_disk_error_leaves_nothing_half_written(tmp_path):
    class Failing(Stored):
        def __getitem__(self, part):
            raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        convert_array({"x": Failing(contents()["test"][0])}, "x", tmp_path / "a.h5", tmp_path / "test_x.npy")
    assert not list(tmp_path.iterdir())


@pytest.fixture
def h5_files(tmp_path):
    """A root with the six published files, small."""
    h5py = pytest.importorskip("h5py", reason="h5py is an optional extra: pip install 'partial_equiv[pcam]'")
    (tmp_path / "PCam").mkdir()
    for part, (images, labels) in contents().items():
        for axis, array in (("x", images), ("y", labels.astype(np.uint8).reshape(-1, 1, 1, 1))):
            with h5py.File(tmp_path / "PCam" / f"camelyonpatch_level_2_split_{part}_{axis}.h5", "w") as archive:
                archive.create_dataset(axis, data=array, chunks=(1, *array.shape[1:]), compression="gzip")
    return tmp_path


def test_the_command_converts_real_h5_files(h5_files, capsys):
    assert main(["--root", str(h5_files)]) == 0
    told = capsys.readouterr()
    assert told.out == ""
    assert "train_x.npy: 100%" in told.err
    splits = load_pcam(root=str(h5_files), **KEYS)
    for image_set, (images, labels) in zip(splits[1:3], (contents()["valid"], contents()["test"]), strict=True):
        assert np.array_equal(image_set.images[torch.arange(len(images))].permute(0, 2, 3, 1).numpy(), images)
        assert image_set.labels.tolist() == labels.astype(int).tolist()
    assert not [path for path in (h5_files / "PCam").iterdir() if path.suffix not in (".h5", ".npy")]


@pytest.mark.parametrize("kind", ["missing", "truncated", "lengths"])
def test_damaged_h5_files_are_told(h5_files, kind, capsys):
    path = h5_files / "PCam" / "camelyonpatch_level_2_split_valid_y.h5"
    if kind == "missing":
        path.unlink()
    elif kind == "truncated":
        path.write_bytes(path.read_bytes()[:600])
    else:
        path.write_bytes((path.parent / "camelyonpatch_level_2_split_test_y.h5").read_bytes())
    assert main(["--root", str(h5_files)]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert {"missing": "is missing", "truncated": "cannot be converted", "lengths": "[4, 5] images and labels"}[
        kind
    ] in told
    assert "unpack the published" in told
