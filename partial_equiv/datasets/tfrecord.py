"""Pictures and classes of TFRecord files, read without TensorFlow: records of tf.train.Example.

A file is a row of records: length (8 bytes), its checksum (4), content, its checksum (4). A content is a protobuf whose
field 1 holds a map from names to lists. Lengths are compared with what is left; checksums are not computed.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, NamedTuple

from partial_equiv.errors import UserError

MOST_BYTES = 1 << 26  # of one record
PICTURE, LABEL = b"image/encoded", b"image/class/label"
VARINT, FIXED_64, BYTES, FIXED_32 = 0, 1, 2, 5  # wire types of protobuf


class Example(NamedTuple):
    """One record."""

    picture: bytes
    label: int


def read_examples(path: Path) -> Iterator[Example]:
    """Yield picture and class of each record of a file.

    Raises:
        UserError: missing, truncated, or with a record that holds no picture or no class.
    """
    try:
        with path.open("rb") as stream:
            for content in read_records(stream, path.stat().st_size):
                yield parse_example(content)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} is truncated or no TFRecord file of ImageNet ({reason}): fetch it again") from error


def read_records(stream: IO[bytes], no_bytes: int) -> Iterator[memoryview]:
    """Yield the content of each record.

    Raises:
        ValueError: a length that the rest of the file cannot hold.
    """
    start = 0
    while start < no_bytes:
        size = int.from_bytes(stream.read(12)[:8], "little")
        if size > MOST_BYTES or start + size + 16 > no_bytes:
            raise ValueError(f"a record of {size:,} bytes at byte {start:,} of {no_bytes:,}")
        yield memoryview(stream.read(size))
        stream.seek(4, 1)
        start += size + 16


def parse_example(content: memoryview) -> Example:
    """Return picture and class of one tf.train.Example.

    Raises:
        ValueError: broken, or without one of the two.
    """
    found: dict[bytes, memoryview] = {}
    for features in nested(content, 1):
        for entry in nested(features, 1):
            name, value = (next(nested(entry, number), memoryview(b"")) for number in (1, 2))
            if bytes(name) in (PICTURE, LABEL):
                found[bytes(name)] = value
    pictures = [bytes(p) for listed in nested(found.get(PICTURE, memoryview(b"")), 1) for p in nested(listed, 1)]
    labels = [n for listed in nested(found.get(LABEL, memoryview(b"")), 3) for n in whole_numbers(listed)]
    if len(pictures) != 1 or len(labels) != 1 or not pictures[0]:
        raise ValueError(f"a record with {len(pictures)} of {PICTURE.decode()} and {len(labels)} of {LABEL.decode()}")
    return Example(pictures[0], labels[0])


def whole_numbers(listed: memoryview) -> Iterator[int]:
    """Yield the numbers of an Int64List, packed or not."""
    for number, value in fields(listed):
        if number == 1 and isinstance(value, int):
            yield value
        elif number == 1 and isinstance(value, memoryview):
            start = 0
            while start < len(value):
                item, start = varint(value, start)
                yield item


def nested(content: memoryview, wanted: int) -> Iterator[memoryview]:
    """Yield the byte strings of one field."""
    for number, value in fields(content):
        if number == wanted and isinstance(value, memoryview):
            yield value


def fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a protobuf message.

    Raises:
        ValueError: a value that the rest of the message cannot hold.
    """
    start = 0
    while start < len(content):
        key, start = varint(content, start)
        number, wire = key >> 3, key & 7
        if wire == VARINT:
            value, start = varint(content, start)
            yield number, value
            continue
        if wire not in (FIXED_64, BYTES, FIXED_32):
            raise ValueError(f"a field of the unknown wire type {wire}")
        size, start = varint(content, start) if wire == BYTES else ({FIXED_64: 8, FIXED_32: 4}[wire], start)
        if start + size > len(content):
            raise ValueError(f"a field of {size:,} bytes where {len(content) - start:,} are left")
        yield number, content[start : start + size]
        start += size


def varint(content: memoryview, start: int) -> tuple[int, int]:
    """Return the whole number at `start` in groups of 7 bits, the lowest first, and where it ends.

    Raises:
        ValueError: it does not end within 10 bytes.
    """
    result = 0
    for place, byte in enumerate(content[start : start + 10]):
        result |= (byte & 127) << (7 * place)
        if byte < 128:
            return result, start + place + 1
    raise ValueError("a number without an end")
