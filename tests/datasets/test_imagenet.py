"""ImageNet's two layouts on a few small pictures: class folders, and shards that are read in place."""

import functools
import io
import itertools
import os
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import ImageFolder
from torchvision.transforms import CenterCrop, Compose, Resize

from partial_equiv.datasets import augment_training, expected_info, make_loader
from partial_equiv.datasets.imagenet import load_imagenet
from partial_equiv.datasets.shard_files import make_index, open_shards
from partial_equiv.datasets.shards import main
from partial_equiv.errors import UserError

KEYS = {"size": 33, "no_train": None, "no_validation": 3, "no_test": None, "seed": 42}
CLASSES = ("n01", "n02", "n07")
COUNTS = {"train": 6, "val": 2}


def picture(seed):
    rng = np.random.default_rng(seed)
    height, width = rng.integers(40, 70, 2)
    return Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((int(width), int(height)))


def write_folders(root):
    seeds = itertools.count()
    for part, no_images in COUNTS.items():
        for name in CLASSES:
            folder = root / "imagenet" / part / name
            folder.mkdir(parents=True)
            for number in range(no_images):
                image = picture(next(seeds))
                image = image.convert({1: "L", 2: "CMYK"}.get(number, "RGB"))
                image.save(folder / f"{name}_{number}.JPEG", quality=95)


@pytest.fixture
def folders(tmp_path):
    write_folders(tmp_path)
    return tmp_path


@pytest.fixture
def both(folders):
    """A root of folders, and one that holds the shards which the command made of them."""
    out = folders / "other" / "imagenet" / "shards"
    line = ["--folder", str(folders / "imagenet"), "--out", str(out), "--images-per-shard", "5"]
    assert main(line) == 0
    return folders, folders / "other"


def load(root, **keys):
    return load_imagenet(root=str(root), **{**KEYS, **keys})


def test_folders_are_read_as_torchvision_reads_them(folders):
    splits = load(folders, no_validation=5)
    assert [len(s) for s in splits[:3]] == [13, 5, 6]
    info = splits.info
    assert (info.no_classes, info.class_names, info.size) == (3, CLASSES, (33, 33))
    assert info.note == "a part or another set: 3 classes, 18 training and 6 test images"
    theirs = ImageFolder(str(folders / "imagenet" / "val"), Compose([Resize(38), CenterCrop(33)]))
    assert splits.test.labels.tolist() == theirs.targets
    for position, (image, _) in enumerate(theirs):
        expected = np.asarray(image).transpose(2, 0, 1).astype(int)
        assert np.abs(splits.test.raw(position).numpy() - expected).max() <= 1
    learned, selected = (set(s.images.store.names.tolist()) for s in (splits.train, splits.validation))
    assert not learned & selected
    assert len(learned | selected) == 18


def test_facts_before_loading_are_the_published_ones():
    info = expected_info("ImageNet", {**KEYS, "no_validation": 50_000, "size": 225})
    assert (info.no_classes, info.no_train, info.no_validation, info.no_test) == (1_000, 1_231_167, 50_000, 50_000)
    assert info.size == (225, 225)


def test_shards_are_the_folders_bit_for_bit(both):
    folders, shards = (load(root) for root in both)
    assert folders.info == shards.info
    for augment in ("none", "inception"):
        one, other = (augment_training(splits, augment, seed=3) for splits in (folders, shards))
        for mine, theirs in zip(one[:3], other[:3], strict=True):
            for a, b in zip(mine[range(len(mine))][:3], theirs[range(len(theirs))][:3], strict=True):
                assert torch.equal(a, b)


def test_shards_hold_all_classes_each_and_at_most_the_asked_number(both):
    folder = both[1] / "imagenet" / "shards"
    names = sorted(path.name for path in folder.iterdir())
    assert names == ["classes.txt", *(f"train-00000{n}.tar" for n in range(4)), "val-000000.tar", "val-000001.tar"]
    for path in folder.glob("train-*.tar"):
        with tarfile.open(path) as tar:
            labels = [tar.extractfile(m).read() for m in tar if m.name.endswith(".cls")]
        assert len(labels) <= 5
        assert len(set(labels)) > 1


def test_workers_read_shards_and_random_boxes_alike(both):
    train = augment_training(load(both[1]), "inception", seed=0).train
    keys = {"batch_size": 4, "shuffle": True, "drop_last": False, "seed": 0}
    alone, helped = (make_loader(train, no_workers=workers, **keys) for workers in (0, 2))
    for one, other in zip(alone, helped, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def test_the_index_is_made_once_and_again_when_a_shard_changes(both, monkeypatch):
    folder = both[1] / "imagenet" / "shards"
    calls = []
    monkeypatch.setattr(
        "partial_equiv.datasets.shard_files.make_index", lambda shards: calls.append(shards) or make_index(shards)
    )
    first = open_shards(folder, "train")
    again = open_shards(folder, "train")
    assert len(calls) == 1
    assert all(np.array_equal(a, b) for a, b in zip(first[0].index, again[0].index, strict=True))
    os.utime(folder / "train-000001.tar", ns=(1, 1))
    open_shards(folder, "train")
    assert len(calls) == 2
    kept = (folder / "train.index.npz").read_bytes()
    for damage in (b"", b"no index", kept[:-30], kept[:40] + b"\xff" * 40 + kept[80:]):
        (folder / "train.index.npz").write_bytes(damage)
        found = open_shards(folder, "train")
        assert all(np.array_equal(a, b) for a, b in zip(first[0].index, found[0].index, strict=True))
    assert len(calls) == 6
    assert not [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize(("name", "value"), [("shard", 4), ("offset", -5), ("size", 1 << 40), ("label", -1)])
def test_an_index_that_points_elsewhere_is_not_believed(both, name, value):
    folder = both[1] / "imagenet" / "shards"
    good = open_shards(folder, "train")[0].index
    path = folder / "train.index.npz"
    arrays = dict(np.load(path))
    arrays[name][0] = value
    np.savez(path, **arrays)
    assert all(np.array_equal(a, b) for a, b in zip(good, open_shards(folder, "train")[0].index, strict=True))


def add(tar, name, content, **keys):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    for key, value in keys.items():
        setattr(member, key, value)
    tar.addfile(member, io.BytesIO(content))


def jpeg(seed=0):
    stream = io.BytesIO()
    picture(seed).save(stream, "JPEG")
    return stream.getvalue()


def write_shard(path, samples):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content, *keys in samples:
            add(tar, name, content, **(keys[0] if keys else {}))


def test_foreign_shards_are_sorted_by_key_and_other_members_left_alone(tmp_path):
    folder = tmp_path / "imagenet" / "shards"
    write_shard(
        folder / "train-1.tar",
        [("b.cls", b" 1\n"), ("b.json", b"{}"), ("b.JPG", jpeg(1)), ("x/a.png", jpeg(2)), ("x/a.cls", b"0")],
    )
    write_shard(folder / "train-0.tar", [("c.jpeg", jpeg(3)), ("c.cls", b"0"), ("a.jpg", jpeg(4)), ("a.cls", b"1")])
    write_shard(folder / "val-0.tar", [("a.jpg", jpeg(5)), ("a.cls", b"1")])
    pictures, labels = open_shards(folder, "train")
    assert labels.tolist() == [1, 1, 0, 0]
    assert pictures.index.shard.tolist() == [0, 1, 0, 1]
    for position, seed in enumerate((4, 1, 3, 2)):
        with Image.open(io.BytesIO(jpeg(seed))) as image:
            assert np.array_equal(pictures.picture(position).permute(1, 2, 0).numpy(), np.asarray(image))
    splits = load(tmp_path, no_validation=1)
    assert splits.info.class_names == ("0", "1")


GOOD = [("a.jpg", b"picture"), ("a.cls", b"0"), ("b.jpg", b"picture"), ("b.cls", b"1")]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (GOOD[:1], "'/a' has not both a picture and a .cls"),
        (GOOD[1:], "'/a' has not both a picture and a .cls"),
        ([*GOOD, ("b.png", b"again")], "its key has two pictures"),
        ([*GOOD, ("c.jpg", b""), ("c.cls", b"0")], "has 0 bytes"),
        ([*GOOD, ("c.jpg", b"picture"), ("c.cls", b"cat")], "'c.cls' holds no class from 0 to 65535"),
        ([*GOOD, ("c.jpg", b"picture"), ("c.cls", b"-1")], "holds no class"),
        ([*GOOD, ("c.jpg", b"picture"), ("c.cls", b"70000")], "holds no class"),
        ([*GOOD, ("c.jpg", b"picture"), ("c.cls", b"0" * 1_000)], "holds no class"),
        ([*GOOD, ("c.jpg", b"", {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"})], "is a link or no plain file"),
        ([*GOOD, ("c.jpg", b"", {"type": tarfile.CHRTYPE})], "is a link or no plain file"),
        ([], "shards without a picture"),
    ],
)
def test_shards_of_no_samples_are_told(tmp_path, samples, message):
    write_shard(tmp_path / "train-0.tar", samples)
    with pytest.raises(UserError, match=message) as caught:
        open_shards(tmp_path, "train")
    assert "python -m partial_equiv.datasets.shards" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_picture_that_is_too_large_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("partial_equiv.datasets.shard_files.MOST_BYTES", 6)
    write_shard(tmp_path / "train-0.tar", GOOD)
    with pytest.raises(UserError, match=r"'a.jpg' has 7 bytes"):
        open_shards(tmp_path, "train")


@pytest.mark.parametrize("damage", [lambda c: c[:700], lambda c: b"no tar" * 200, lambda c: c[:100], lambda c: b""])
def test_damaged_shards_are_told(both, damage):
    path = both[1] / "imagenet" / "shards" / "train-000001.tar"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(UserError, match="train-000001.tar is truncated or no plain tar of samples"):
        load(both[1])


def test_a_broken_picture_in_a_shard_is_told(tmp_path):
    folder = tmp_path / "imagenet" / "shards"
    for part in ("train", "val"):
        write_shard(folder / f"{part}-0.tar", GOOD)
    splits = load(tmp_path, no_validation=1)
    with pytest.raises(UserError, match=r"the picture at byte [\d,]+ of .*train-0.tar is missing or no readable image"):
        splits.train.raw(0)
    (folder / "val-0.tar").unlink()
    with pytest.raises(UserError, match="val-0.tar cannot be read"):
        splits.test.raw(0)
    with pytest.raises(UserError, match=r"holds no val-\*.tar"):
        load(tmp_path, no_validation=1)


@pytest.mark.parametrize(
    ("train", "val", "names", "message"),
    [
        ((0, 0), (0,), None, "holds one class alone"),
        ((0, 2), (0,), None, "holds no training image of class 1"),
        ((0, 1), (2,), None, "holds the test class 2 without training images"),
        ((0, 1), (0,), "a\nb\nc\n", "classes.txt names 3 classes, the shards hold 2"),
        ((0, 1), (0,), "\udcff", "classes.txt cannot be read"),
    ],
)
def test_classes_of_shards_that_do_not_fit_are_told(tmp_path, train, val, names, message):
    folder = tmp_path / "imagenet" / "shards"
    for part, labels in (("train", train), ("val", val)):
        pairs = [[(f"{n}.jpg", b"x"), (f"{n}.cls", str(label).encode())] for n, label in enumerate(labels)]
        write_shard(folder / f"{part}-0.tar", list(itertools.chain.from_iterable(pairs)))
    if names is not None:
        (folder / "classes.txt").write_bytes(names.encode("utf-8", "surrogateescape"))
    with pytest.raises(UserError, match=message):
        load(tmp_path, no_validation=1)


@pytest.mark.parametrize("kind", ["root", "val", "flat", "empty", "strange", "single", "broken"])
def test_folders_that_do_not_fit_are_told(folders, kind):
    top = folders / "imagenet"
    message = {
        "root": "train cannot be read",
        "val": "val cannot be read",
        "flat": "val holds no class folders: put ImageNet as <root>/imagenet/",
        "empty": "train/n05 holds no image: fill or delete it",
        "strange": "val/n05 is a class without training images",
        "single": "train holds the one class n01: at least 2 are needed",
        "broken": "n01_0.JPEG is missing or no readable image",
    }[kind]
    if kind == "root":
        top.rename(folders / "elsewhere")
    elif kind == "val":
        (top / "val").rename(folders / "elsewhere")
    elif kind == "flat":
        for name in CLASSES:
            (top / "val" / name).rename(folders / name)
    elif kind == "empty":
        (top / "train" / "n05").mkdir()
    elif kind == "strange":
        (top / "val" / "n07").rename(top / "val" / "n05")
    elif kind == "single":
        for name in CLASSES[1:]:
            (top / "train" / name).rename(folders / name)
            (top / "val" / name).rename(folders / f"val-{name}")
    else:
        path = top / "val" / "n01" / "n01_0.JPEG"
        path.write_bytes(path.read_bytes()[:60])
    with pytest.raises(UserError, match=message) as caught:
        load(folders).test.raw(0)
    assert "\n" not in str(caught.value)


def test_a_class_may_lack_test_images(folders):
    for path in (folders / "imagenet" / "val" / "n01").iterdir():
        path.unlink()
    (folders / "imagenet" / "val" / "n01").rmdir()
    splits = load(folders)
    assert splits.test.labels.tolist() == [1, 1, 2, 2]
    assert splits.info.no_classes == 3


@pytest.mark.parametrize(("key", "value"), [("size", 7), ("size", 897), ("no_validation", 18), ("no_test", 7)])
def test_values_out_of_range_are_told(folders, key, value):
    with pytest.raises(UserError, match=f"dataset.{key}={value} is out of range"):
        load(folders, **{key: value})


def run(capsys, *line):
    code = main(list(line))
    return code, capsys.readouterr().err.splitlines()[-1]


def test_mistakes_of_the_command_are_told_and_leave_nothing(folders, capsys):
    top = folders / "imagenet"
    told = functools.partial(run, capsys, "--folder", str(top), "--out")
    (folders / "full").mkdir()
    (folders / "full" / "a").touch()
    assert told(str(folders / "full"))[0] == 2
    assert told(str(folders / "full"))[1].endswith("is there already and not empty: give a new folder as --out")
    code, line = told(str(folders / "out"), "--images-per-shard", "0")
    assert (code, line) == (2, "error: --images-per-shard 0 is out of range: give 1 or more")
    assert "cannot be written" in told(str(folders / "full" / "a" / "out"))[1]
    (top / "val" / "n02" / "n02_1.JPEG").write_bytes(b"")
    code, line = told(str(folders / "out"))
    assert code == 2
    assert line.endswith("n02_1.JPEG is empty or has more than 67,108,864 bytes: delete it or save it smaller")
    assert sorted(path.name for path in folders.iterdir()) == ["full", "imagenet"]
    assert run(capsys, "--folder", str(folders), "--out", str(folders / "out"))[1].startswith(f"error: {folders}/train")
