"""Files that claim more than they hold, or hope for a reader who runs them: refused in a sentence, in little memory."""

import io
import os
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from partial_equiv.datasets import pcam_convert
from partial_equiv.datasets.amat import read_amat
from partial_equiv.datasets.cifar import CIFAR10_FACTS, CIFAR10_SOURCE, read_records
from partial_equiv.datasets.files import extract_tar
from partial_equiv.datasets.flowers import read_matrices
from partial_equiv.datasets.iebench_files import read_npy
from partial_equiv.datasets.mnist import read_idx
from partial_equiv.datasets.npz_file import read_images
from partial_equiv.datasets.pcam import read_array
from partial_equiv.datasets.pictures import decode
from partial_equiv.datasets.shard_files import open_shards
from partial_equiv.datasets.tfrecord import read_examples
from partial_equiv.datasets.view_npz import read_views
from partial_equiv.errors import UserError

SMALL = 32 << 20  # bytes: who takes more has read what should have been refused
CODE = "__import__('os').mkdir('ran')"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work in an empty folder, where code that runs would leave a folder."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    assert not (tmp_path / "ran").exists()


def refusal(read):
    """Return the sentence with which `read` refuses, having taken little memory."""
    tracemalloc.start()
    try:
        with pytest.raises(UserError) as caught:
            read()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < SMALL, f"{peak:,} bytes for: {caught.value}"
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1_000
    return str(caught.value)


def npy(header, content=b"", version=1, claimed=None):
    """Return an npy file; `claimed` is the length of its header where that is a lie."""
    text = header if isinstance(header, bytes) else header.encode("latin1")
    no_bytes = len(text) if claimed is None else claimed
    return b"\x93NUMPY" + bytes([version, 0]) + no_bytes.to_bytes(2 if version == 1 else 4, "little") + text + content


def head(descr="|u1", shape=(1,)):
    """Return the header of an npy file."""
    return f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {shape}}}\n"


NPY = {
    "more than the file": npy(head(shape=(10**12,)), b"123"),
    "more than 64 bits": npy(head(shape=(2**63, 2**63)), b"123"),
    "a header of 4 GB": npy(b" " * (8 << 20), version=2, claimed=2**32 - 1),
    "a header of 8 MB": npy(b" " * (8 << 20), version=2),
    "texts of no letters": npy(head("<U0", (10**12,))),
    "entries of no bytes": npy(head("|V0", (10**12,))),
    "nested headers": npy("(" * 9_000 + ")" * 9_000, claimed=18_000),
    "signs without end": npy("-" * 9_000 + "1"),
    "code": npy(CODE),
    "code as dtype": npy(head("O", (1,)).replace("'O'", CODE)),
    "objects": npy(head("|O", (1,)), b"\x80\x04cos\nsystem\n."),
    "a zip": b"PK\x03\x04" + b"\0" * 50,
    "a pickle": b"\x80\x04cos\nsystem\n.",
    "nothing": b"",
}


@pytest.mark.parametrize("kind", NPY)
def test_npy(here, kind):
    path = here / "a.npy"
    path.write_bytes(NPY[kind])
    for read in (read_npy, read_array):
        assert "a.npy" in refusal(lambda read=read: read(path))


@pytest.mark.parametrize("key", ["images", "labels", "latent_names"])
@pytest.mark.parametrize("kind", NPY)
def test_npz(here, kind, key):
    arrays = {"images": np.zeros((3, 2, 1, 4, 4), np.uint8), "latents": np.zeros((3, 2, 7)), "labels": np.arange(3)}
    arrays["latent_names"] = np.array(list("abcdefg"))
    if key != "latent_names":
        arrays["images"] = arrays["images"][:, 0, 0]
    with zipfile.ZipFile(here / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            content = io.BytesIO()
            np.save(content, array)
            archive.writestr(f"{name}.npy", NPY[kind] if name == key else content.getvalue())
    read = read_views if key == "latent_names" else read_images
    path = str(here / "a.npz") if key == "latent_names" else here / "a.npz"
    assert "a.npz" in refusal(lambda: read(path, "root") if key == "latent_names" else read(path))


def test_a_zip_that_lies_about_a_member(here):
    content = npy(head(shape=(4 << 20,)), b"\0" * (4 << 20))
    with zipfile.ZipFile(here / "a.npz", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("images.npy", content)  # lzma packs this a thousand times closer than deflate can
    assert "does not fit what the file holds" in refusal(lambda: read_images(here / "a.npz"))
    spoiled = (here / "a.npz").read_bytes().replace(struct.pack("<I", len(content)), struct.pack("<I", 2**31))
    (here / "a.npz").write_bytes(spoiled)
    assert "a.npz" in refusal(lambda: read_images(here / "a.npz"))


def test_idx_and_binaries_have_one_length(here):
    (here / "a").write_bytes(struct.pack(">4i", 0x0803, 2**31 - 1, 2**15, 2**15) + b"\0" * 100)
    assert "is not the published file" in refusal(lambda: read_idx(here / "a", (2, 4, 4)))
    (here / "a").write_bytes(struct.pack(">4i", 0x0803, 2**31 - 1, 4, 4) + b"\0" * 32)
    assert "its header does not state [2, 4, 4]" in refusal(lambda: read_idx(here / "a", (2, 4, 4)))
    os.truncate(here / "a", 1 << 40)  # no byte of it is on the disk
    assert "1,099,511,627,776 bytes" in refusal(lambda: read_idx(here / "a", (2, 4, 4)))
    read = lambda path: read_records(path, 5, CIFAR10_SOURCE, CIFAR10_FACTS, "delete it")  # noqa: E731
    assert "is not the published file" in refusal(lambda: read(here / "a"))
    os.mkfifo(here / "pipe")
    assert "is not a file" in refusal(lambda: read(here / "pipe"))


def test_texts_of_numbers_are_no_longer_than_they_may_be(here):
    (here / "a.amat").write_bytes(b"0 " * (1 << 20))
    assert "too large for 2 images" in refusal(lambda: read_amat(here / "a.amat", 2))
    (here / "a.amat").write_text(f"{CODE}\n{CODE}\n")
    assert "is truncated or not the published file" in refusal(lambda: read_amat(here / "a.amat", 2))


def test_a_matlab_file_is_not_opened_unless_it_is_the_published_one(here):
    (here / "a.mat").write_bytes(b"MATLAB 5.0 MAT-file" + b"\0" * 200)
    assert "not the published file" in refusal(
        lambda: read_matrices(here / "a.mat", "0" * 32, ("labels",), "delete it")
    )


class Claimed:
    """What h5py gives for an array that nobody wrote."""

    dtype = np.dtype(np.uint8)

    def __init__(self, shape, chunks=None):
        self.shape, self.chunks = shape, chunks

    def __getitem__(self, part):
        raise AssertionError("read before it was refused")


@pytest.mark.parametrize(
    ("claimed", "words"),
    [
        (Claimed((10**12, 96, 96, 3)), "N up to 262,144"),
        (Claimed((5, 96, 96, 3), (2**20, 96, 96, 3)), "is stored in chunks of 28,991,029,248 bytes"),
        (Claimed(()), "is due"),
    ],
)
def test_h5(here, claimed, words):
    read = pcam_convert.convert_array
    assert words in refusal(lambda: read({"x": claimed}, "x", here / "a.h5", here / "train_x.npy"))
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63) + b"crc1",
        struct.pack("<Q", 1 << 26) + b"crc1" + b"\0" * 20,
        struct.pack("<Q", 12) + b"crc1" + b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x7f\0\0" + b"crc2",
        struct.pack("<Q", 11) + b"crc1" + b"\xff" * 11 + b"crc2",
        struct.pack("<Q", 2) + b"crc1" + b"\x0b\x0b" + b"crc2",
        struct.pack("<Q", 0) + b"crc1" + b"crc2",
        b"\0" * 7,
    ],
)
def test_tfrecord(here, content):
    (here / "train-00000-of-00001").write_bytes(content)
    assert "train-00000-of-00001 is truncated" in refusal(lambda: list(read_examples(here / "train-00000-of-00001")))


def block(name, size, kind=b"0"):
    """Return the header of a member of a tar; `size` is its field of 12 bytes, or a number."""
    field = size if isinstance(size, bytes) else b"%011o\0" % size
    fields = [name.ljust(100, b"\0"), b"0000644\0", b"0000000\0" * 2, field, b"00000000000\0", b" " * 8, kind]
    content = b"".join(fields).ljust(257, b"\0") + b"ustar\x0000"
    content = content.ljust(512, b"\0")
    return content[:148] + b"%06o\0 " % sum(content) + content[156:]


NEGATIVE = b"\xff" * 10 + struct.pack(">h", -512)
PICTURE = io.BytesIO()
Image.new("RGB", (4, 4)).save(PICTURE, "PNG")
PICTURE = PICTURE.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        block(b"a.png", NEGATIVE) + b"\0" * 1024,
        block(b"other", NEGATIVE) + b"\0" * 1024,
        block(b"a.png", b"\x80" + b"\xff" * 11) + b"\0" * 1024,
        block(b"a.png", 2**32) + b"\0" * 1024,
        block(b"a.png", 2**26 + 1) + b"\0" * 1024,
        block(b"x", b"\x80" + b"\0" * 4 + b"\x7f" * 7, b"x") + b"\0" * 1024,
        block(b"x", 2**33 - 1, b"L") + b"\0" * 1024,
        (block(b"x", 5, b"L") + b"longer".ljust(512, b"\0")) * 3_000,
        block(b"a.png", 0, b"1"),
        block(b"a.png", 0, b"2"),
        block(b"a.png", 0, b"3"),
        block(b"a.png", len(PICTURE)) + PICTURE.ljust(512, b"\0") + block(b"a.cls", 17) + b"9".ljust(512, b"\0"),
        b"\x1f\x8b" + zlib.compress(b"\0" * 10_000),
    ],
)
def test_tar_shards(here, content):
    (here / "train-000000.tar").write_bytes(content)
    assert "train-000000.tar is truncated or no plain tar" in refusal(lambda: open_shards(here, "train"))


def test_no_name_in_a_shard_is_a_path(here):
    name = b"../../escaped"
    shard = (
        block(name + b".png", len(PICTURE))
        + PICTURE.ljust(512, b"\0")
        + block(name + b".cls", 1)
        + b"1".ljust(512, b"\0")
    )
    (here / "data").mkdir()
    (here / "data" / "train-000000.tar").write_bytes(shard + b"\0" * 1024)
    pictures, labels = open_shards(here / "data", "train")
    assert pictures.picture(0).shape == (3, 4, 4) and labels.tolist() == [1]
    assert sorted(path.name for path in here.rglob("*")) == ["data", "train-000000.tar", "train.index.npz"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
def test_links_in_a_download_lead_nowhere(here, kind):
    (here / "secret").write_text("secret")
    with tarfile.open(here / "a.tar.gz", "w:gz") as archive:
        entry = tarfile.TarInfo("set/a.bin")
        entry.type, entry.linkname = kind, str(here / "secret")
        archive.addfile(entry)
    with pytest.raises((tarfile.TarError, KeyError)):  # which `fetch` tells in a sentence
        extract_tar(here / "a.tar.gz", {"set/a.bin": here / "a.bin"})
    assert not (here / "a.bin").exists() or (here / "a.bin").read_bytes() == b""


def png(width, height, *chunks):
    """Return a PNG that claims a size."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunk(*each) for each in chunks) + chunk(b"IEND", b"")


BOMB = zlib.compress(b"\0" * (64 << 20))
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(ran) (w) file closefile showpage\n"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (png(50_000, 50_000, (b"IDAT", b"")), "no readable image|has 50000x50000 pixels"),
        (png(9_000, 9_000, (b"IDAT", b"")), "has 9000x9000 pixels, at most 80,000,000"),
        (png(2**31 - 1, 1, (b"IDAT", b"")), "has 2147483647x1 pixels|no readable image"),
        (png(4, 4, (b"zTXt", b"a\0\0" + BOMB), (b"IDAT", b"")), "no readable image"),
        (png(4, 4, (b"iCCP", b"a\0\0" + BOMB), (b"IDAT", b"")), "no readable image"),
        (EPS, "no readable image"),
        (b"GIF89a" + b"\xff" * 30, "no readable image"),
        (b"8BPS\0\1" + b"\0" * 40, "no readable image"),
        (b"#FIG 3.2\n", "no readable image"),
        (b"BM" + b"\xff" * 60, "no readable image"),
        (b"II*\0" + struct.pack("<I", 8) + b"\xff" * 200, "no readable image"),
    ],
)
def test_pictures(here, content, words):
    told = refusal(lambda: decode(io.BytesIO(content), "a.png", remedy="delete it"))
    assert any(word in told for word in words.split("|")), told


def test_no_other_decoder_of_pillow_is_reached(here):
    """An encapsulated PostScript would be drawn by a program, whatever its name."""
    for kind in ("GIF", "EPS", "TGA", "PCX", "WEBP", "PPM", "ICO"):
        content = io.BytesIO()
        Image.new("RGB", (16, 16)).save(content, kind)
        path = Path(here / "a.png")
        path.write_bytes(content.getvalue())
        assert "no readable image" in refusal(lambda path=path: decode(path, "a.png", remedy="delete it"))
    for kind in ("PNG", "JPEG", "BMP", "TIFF"):
        content = io.BytesIO()
        Image.new("RGB", (16, 16)).save(content, kind)
        assert decode(io.BytesIO(content.getvalue()), "a.png", remedy="delete it").shape == (3, 16, 16)
