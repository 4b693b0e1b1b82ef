"""TFRecord files, written here by hand from the format's definition, and their way into shards."""

import io
import itertools
import struct

import numpy as np
import pytest
from PIL import Image

from partial_equiv.datasets.imagenet import load_imagenet
from partial_equiv.datasets.shards import main
from partial_equiv.datasets.tfrecord import Example, read_examples
from partial_equiv.errors import UserError


def varint(number):
    groups = [number >> shift & 127 for shift in range(0, max(number.bit_length(), 1), 7)]
    return bytes([*(group | 128 for group in groups[:-1]), groups[-1]])


def field(number, content):
    """Return one field of protobuf: a whole number, or bytes with their length."""
    if isinstance(content, int):
        return varint(number << 3) + varint(content)
    return varint(number << 3 | 2) + varint(len(content)) + content


def example(picture, label, packed=True):
    """Return one tf.train.Example, with features beside the two that count."""
    features = {
        "image/height": field(3, field(1, varint(40))),
        "image/encoded": field(1, field(1, picture)),
        "image/class/label": field(3, field(1, varint(label) if packed else label)),
        "image/class/synset": field(1, field(1, b"n01440764")),
        "image/object/bbox/xmin": field(2, field(1, struct.pack("<2f", 0.25, 0.5))),
    }
    entries = [field(1, field(1, name.encode()) + field(2, value)) for name, value in features.items()]
    return field(1, b"".join(entries))


def record(content):
    return struct.pack("<Q", len(content)) + b"crc1" + content + b"crc2"


def jpeg(seed):
    rng = np.random.default_rng(seed)
    stream = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8)).resize((50, 44)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.mark.parametrize("packed", [True, False])
def test_records_are_read_back(tmp_path, packed):
    samples = [(jpeg(seed), label) for seed, label in enumerate((1, 1000, 128, 2))]
    (tmp_path / "a").write_bytes(b"".join(record(example(*sample, packed)) for sample in samples))
    assert list(read_examples(tmp_path / "a")) == [Example(*sample) for sample in samples]


def test_fixed_width_fields_are_passed_over(tmp_path):
    strange = varint(7 << 3 | 1) + b"12345678" + varint(8 << 3 | 5) + b"1234" + field(9, 3)
    (tmp_path / "a").write_bytes(record(strange + example(b"picture", 5)))
    assert list(read_examples(tmp_path / "a")) == [Example(b"picture", 5)]


GOOD = record(example(b"picture", 5))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (GOOD[:-1], r"a record of 1\d\d bytes at byte 0"),
        (GOOD + GOOD[:9], "a record of"),
        (GOOD + b"\xff" * 40, "a record of 18,446,744,073,709,551,615 bytes"),
        (record(field(1, b"")), "a record with 0 of image/encoded and 0 of image/class/label"),
        (record(example(b"", 5)), "a record with 1 of image/encoded"),
        (record(field(1, field(1, b"\x0a\x7f"))), "a field of 127 bytes where 0 are left"),
        (record(b"\xff" * 20), "a number without an end"),
        (record(varint(1 << 3 | 3)), "a field of the unknown wire type 3"),
        (record(b"\x0a"), "a number without an end"),
    ],
)
def test_damaged_files_are_told(tmp_path, content, message):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UserError, match=f"a is truncated or no TFRecord file of ImageNet .{message}") as caught:
        list(read_examples(tmp_path / "a"))
    assert "\n" not in str(caught.value)


def test_any_damage_is_told_or_harmless(tmp_path):
    rng = np.random.default_rng(0)
    for _ in range(500):
        content = bytearray(GOOD * 2)
        for _ in range(3):
            content[rng.integers(len(content))] = rng.integers(256)
        (tmp_path / "a").write_bytes(content[: rng.integers(len(content) + 1)])
        try:
            list(read_examples(tmp_path / "a"))
        except UserError as error:
            assert "\n" not in str(error)


def test_absent_files_are_told(tmp_path):
    with pytest.raises(UserError, match="is truncated or no TFRecord file"):
        list(read_examples(tmp_path / "a"))


def write_records(root, layout):
    """Write 4 training files of 3 records and one of 2 for validation; the label is 1 or 2."""
    seeds = itertools.count()
    for part, name, no_files, no_records in (("train", "train", 4, 3), ("val", "validation", 1, 2)):
        folder = root / layout.format(part=part)
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(no_files):
            records = [record(example(jpeg(seed), seed % 2 + 1)) for seed in itertools.islice(seeds, no_records)]
            (folder / f"{name}-{number:05d}-of-{no_files:05d}").write_bytes(b"".join(records))


KEYS = {"size": 33, "no_train": None, "no_validation": 2, "no_test": None, "seed": 42}


@pytest.mark.parametrize("layout", [".", "{part}", "{part}/data"])
def test_records_are_refused_with_the_line_that_converts_them(tmp_path, layout, capsys):
    top = tmp_path / "imagenet"
    write_records(top, layout)
    with pytest.raises(UserError, match="holds TFRecord files, which cannot be read in any order") as caught:
        load_imagenet(root=str(tmp_path), **KEYS)
    line = str(caught.value).partition("python -m partial_equiv.datasets.shards ")[2]
    assert line == f"--tfrecord {top} --out {top}/shards"
    assert main([*line.split(), "--images-per-shard", "5"]) == 0
    assert "train: 12 images" in capsys.readouterr().err
    splits = load_imagenet(root=str(tmp_path), **KEYS)
    assert [len(s) for s in splits[:3]] == [10, 2, 2]
    assert splits.info.no_classes == 2
    assert splits.test.labels.tolist() == [0, 1]
    found, due = {}, {}
    for image_set in splits[:3]:
        for position, label in enumerate(image_set.labels.tolist()):
            found[image_set.images.store.picture(position).permute(1, 2, 0).numpy().tobytes()] = label
    for seed in range(14):
        with Image.open(io.BytesIO(jpeg(seed))) as image:
            due[np.asarray(image).tobytes()] = seed % 2
    assert found == due


def test_mistakes_of_the_conversion_are_told(tmp_path, capsys):
    write_records(tmp_path / "records", ".")
    line = ["--tfrecord", str(tmp_path / "records"), "--out", str(tmp_path / "out")]
    assert main([*line, "--first-label", "2"]) == 2
    assert "holds the class 1, which --first-label 2 does not allow" in capsys.readouterr().err
    for path in (tmp_path / "records").glob("validation*"):
        path.unlink()
    assert main(line) == 2
    assert "holds no TFRecord files of val: give the folder of train-00000-of-01024" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["records"]
