"""Downloads from a server on this machine: checksum, unpacking in one step, and one sentence when it fails."""

import functools
import gzip
import hashlib
import http.server
import io
import tarfile
import threading

import pytest

from partial_equiv.datasets.files import fetch, folder_of, read_exactly
from partial_equiv.errors import UserError


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Serve tmp_path; return the address."""
    monkeypatch.setenv("no_proxy", "*")
    handler = functools.partial(QuietHandler, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def make_tar(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return hashlib.md5(path.read_bytes()).hexdigest()


def everything_below(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_wanted_members_of_a_tar_and_nothing_else(tmp_path, server):
    members = {"./set/a.bin": b"aa", "set/b.bin": b"bbb", "set/c.bin": b"c", "../escape": b"x", "/tmp/absolute": b"x"}
    md5 = make_tar(tmp_path / "x.tar.gz", members)
    target = tmp_path / "root" / "set"
    fetch([f"{server}/x.tar.gz"], md5, {"set/a.bin": target / "a.bin", "set/b.bin": target / "b.bin"}, "remedy")
    assert everything_below(tmp_path / "root") == ["set/a.bin", "set/b.bin"]
    assert (target / "b.bin").read_bytes() == b"bbb"


def test_content_of_a_gz(tmp_path, server):
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(b"12345"))
    fetch(
        [f"{server}/labels.gz"],
        hashlib.md5(path.read_bytes()).hexdigest(),
        {"labels": tmp_path / "root" / "labels"},
        "remedy",
    )
    assert (tmp_path / "root" / "labels").read_bytes() == b"12345"


def test_a_tgz_is_a_tar_and_a_file_that_is_no_archive_is_moved(tmp_path, server):
    md5 = make_tar(tmp_path / "x.tgz", {"jpg/a.jpg": b"aa", "jpg/b.jpg": b"b"})
    fetch([f"{server}/x.tgz"], md5, {"jpg/a.jpg": tmp_path / "root" / "jpg" / "a.jpg"}, "remedy")
    (tmp_path / "x.mat").write_bytes(b"matrix")
    md5 = hashlib.md5(b"matrix").hexdigest()
    fetch([f"{server}/x.mat"], md5, {"x.mat": tmp_path / "root" / "x.mat"}, "remedy")
    assert everything_below(tmp_path / "root") == ["jpg/a.jpg", "x.mat"]
    assert (tmp_path / "root" / "x.mat").read_bytes() == b"matrix"


def test_the_second_mirror_serves_if_the_first_does_not(tmp_path, server):
    md5 = make_tar(tmp_path / "x.tar.gz", {"a": b"aa"})
    fetch([f"{server}/absent.tar.gz", f"{server}/x.tar.gz"], md5, {"a": tmp_path / "root" / "a"}, "remedy")
    assert (tmp_path / "root" / "a").read_bytes() == b"aa"


@pytest.mark.parametrize("kind", ["checksum", "member", "archive", "address", "network"])
def test_failures_are_told_and_leave_nothing(tmp_path, server, kind):
    md5 = make_tar(tmp_path / "x.tar.gz", {"a": b"aa"})
    url, wanted = f"{server}/x.tar.gz", "a"
    if kind == "checksum":
        md5 = "0" * 32
    elif kind == "member":
        wanted = "b"
    elif kind == "archive":
        (tmp_path / "x.tar.gz").write_bytes(b"no archive")
        md5 = hashlib.md5(b"no archive").hexdigest()
    elif kind == "address":
        url = f"{server}/absent.tar.gz"
    else:
        url = "http://127.0.0.1:9/x.tar.gz"
    with pytest.raises(UserError, match=r"the download failed .*: put it there") as caught:
        fetch([url], md5, {wanted: tmp_path / "root" / "a"}, "put it there")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.tar.gz"]


def test_a_target_that_cannot_be_written_is_told(tmp_path, server):
    md5 = make_tar(tmp_path / "x.tar.gz", {"a": b"aa"})
    (tmp_path / "root").write_bytes(b"a file where a folder should be")
    with pytest.raises(UserError, match="the download failed"):
        fetch([f"{server}/x.tar.gz"], md5, {"a": tmp_path / "root" / "sub" / "a"}, "remedy")


def test_length_is_checked_before_reading(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"123")
    assert read_exactly(path, 3, "remedy").tolist() == [49, 50, 51]
    for no_bytes, message in ((4, "truncated"), (2, "not the published file")):
        with pytest.raises(UserError, match=rf"{message} \(3 bytes, {no_bytes} expected\): delete it, then remedy"):
            read_exactly(path, no_bytes, "remedy")


def test_relative_roots_count_from_the_folder_of_launch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert folder_of("data") == tmp_path / "data"
    assert folder_of("/x/data").as_posix() == "/x/data"
    assert "~" not in str(folder_of("~/data"))
