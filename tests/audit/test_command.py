"""The command: what it prints and writes, what it refuses, and that files are there whole or not at all."""

import html.parser
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from partial_equiv.audit import audit, symmetrised_twin
from partial_equiv.audit.__main__ import main
from partial_equiv.audit.sources import load_model, read_images, white_noise

NETWORKS = """
from torch import nn


def small(in_channels=3):
    layers = nn.Conv2d(in_channels, 4, 3, stride=2, padding=1), nn.BatchNorm2d(4), nn.ReLU()
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))


def grey():
    return small(1)


def needy(width):
    return small()


class Nets:
    made = small()


number = 3
"""


@pytest.fixture(autouse=True)
def _networks(tmp_path, monkeypatch):
    (tmp_path / "networks_of_the_test.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    yield
    sys.modules.pop("networks_of_the_test", None)


def run(*arguments):
    code = main(["networks_of_the_test:small", "--out", "out", "--batch", "4", *map(str, arguments)])
    assert code == 0
    with open("out/audit.json", encoding="utf-8") as file:
        return json.load(file)


def cells(path):
    """Return the texts of the cells of an HTML file's tables."""
    found = []

    class Reader(html.parser.HTMLParser):
        inside = False

        def handle_starttag(self, tag, attrs):
            self.inside = tag == "td"

        def handle_data(self, data):
            if self.inside:
                found.append(data)

        def handle_endtag(self, tag):
            self.inside = False

    with open(path, encoding="utf-8") as file:
        Reader().feed(file.read())
    return found


def test_an_inexact_size_is_planned_measured_printed_and_written(capsys):
    data = run("--size", 8)
    printed = capsys.readouterr()
    assert data["plan"]["culprits"] == ["0"] and not data["plan"]["exact"]
    assert "not exact at 8 x 8 under C4" in printed.out and "Nearest exact sizes: 9, 7, 11." in printed.out
    assert "Exact sizes: ≡ 1 mod 2." in printed.out and "k4s2p1" in printed.out
    model = load_model("networks_of_the_test:small", 0)
    report = audit(model, white_noise(4, 3, (8, 8), 0).images, "C4")
    assert data["measured"] == json.loads(json.dumps(report.to_dict()))
    assert report.table() in printed.out
    assert printed.err.splitlines()[0] == "planning" and "measured in" in printed.err
    assert sorted(os.listdir("out")) == ["audit.html", "audit.json", "audit.png"]
    with open("out/audit.png", "rb") as file:
        assert file.read(4) == b"\x89PNG"
    texts = cells("out/audit.html")
    assert {"networks_of_the_test:small", "conv", "(i + 2p - k') mod s = 1", "k4s2p1, pool2, blur4, resize:9"} <= set(
        texts
    )
    assert "4 images of seeded white noise (seed 0), not photographs" in texts


def test_the_twin_breaks_where_the_grid_does_and_nowhere_else():
    exact, inexact = run("--size", 9, "--twin"), run("--size", 8, "--twin")
    assert exact["plan"]["exact"] and exact["measured"]["error"] < 1e-12
    assert inexact["measured"]["first_culprit"] == "0" and inexact["measured"]["error"] > 0.1
    assert run("--size", 9)["measured"]["error"] > 0.1  # its own weights are not symmetric


def test_a_part_can_be_left_out(capsys):
    run("--size", 8)
    data = run("--size", 8, "--no-measure")
    assert data["measured"] is None and data["input"] is None and data["plan"]["rows"]
    assert sorted(os.listdir("out")) == ["audit.html", "audit.json"]  # the picture of the audit before is gone
    capsys.readouterr()
    data = run("--size", 8, "--no-plan", "--group", "C8")
    assert data["plan"] is None and len(data["measured"]["moves"]) == 7
    assert "planning" not in capsys.readouterr().err


def test_height_and_width(capsys):
    data = run("--size", 9, 8, "--group", "D2")
    assert data["size"] == [9, 8] and data["measured"]["shape"] == [4, 3, 9, 8]
    broken = [(row["name"], row["axis"]) for row in data["plan"]["rows"] if row["exact"] is False]
    assert broken == [("0", "W")]


def test_a_seed_makes_the_same_weights_and_noise():
    state = torch.get_rng_state()
    first, again, other = (run("--size", 8, "--seed", seed)["measured"]["error"] for seed in (1, 1, 2))
    assert first == again != other
    assert torch.equal(torch.get_rng_state(), state)


def test_weights_of_a_file(tmp_path):
    model = symmetrised_twin(load_model("networks_of_the_test:small", 5))
    save_file(model.state_dict(), "twin.safetensors")
    data = run("--size", 9, "--weights", "twin.safetensors")
    assert data["weights"] == "of the file" and data["measured"]["error"] < 1e-12


def test_images_of_a_file(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 9), dtype=np.uint8)
    np.savez("grey.npz", images=images, labels=np.zeros(6))
    found = read_images(tmp_path / "grey.npz", 4, None)
    expected = (images[:4] - images[:4].mean()) / images[:4].std()
    np.testing.assert_allclose(found.images[:, 0], expected)
    assert main(["networks_of_the_test:grey", "--images", "grey.npz", "--size", "12", "--out", "o"]) == 0
    with open("o/audit.json", encoding="utf-8") as file:
        data = json.load(file)
    assert data["input"] == "6 images of grey.npz, resized from 9 × 9 (bilinear)"
    assert data["channels"] == 1 and data["size"] == [12, 12] and data["measured"]["shape"] == [6, 1, 12, 12]
    floats = np.random.default_rng(0).normal(size=(3, 2, 7, 5)).astype(np.float32)
    np.savez("floats.npz", images=floats)
    assert torch.equal(read_images(tmp_path / "floats.npz", 8, None).images, torch.from_numpy(floats).double())
    coloured = np.random.default_rng(0).integers(0, 256, (3, 7, 5, 3), dtype=np.uint8)
    np.savez("coloured.npz", images=coloured)
    found = read_images(tmp_path / "coloured.npz", 8, None).images
    assert found.shape == (3, 3, 7, 5)
    torch.testing.assert_close(found.mean(dim=(0, 2, 3)), torch.zeros(3).double(), atol=1e-12, rtol=0)


def test_a_module_object_is_audited_as_it_is():
    import networks_of_the_test

    assert load_model("networks_of_the_test:Nets.made", 0) is networks_of_the_test.Nets.made


SMALL = ["networks_of_the_test:small", "--size", "8"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "MODEL"),
        (["resnet18", "--size", "8"], "no name of a model"),
        (["no_such_package:net", "--size", "8"], "cannot be imported"),
        ([":net", "--size", "8"], "no name of a model"),
        (["networks_of_the_test:smaller", "--size", "8"], "has no 'smaller', but small"),
        (["networks_of_the_test:number", "--size", "8"], "a value of type int, no torch module"),
        (["networks_of_the_test:needy", "--size", "8"], "cannot be called without arguments"),
        (["networks_of_the_test:small"], "--size is missing"),
        ([*SMALL, "8", "8"], "is no size"),
        (["networks_of_the_test:small", "--size", "0"], "is no size"),
        (["networks_of_the_test:small", "--size", "large"], "invalid int value"),
        ([*SMALL, "--batch", "1"], "give 2 or more"),
        ([*SMALL, "--channels", "0"], "give 1 or more"),
        ([*SMALL, "--group", "C5x"], "is not one of"),
        ([*SMALL, "--no-plan", "--no-measure"], "nothing to do"),
        ([*SMALL, "--channels", "4"], "channels"),
        ([*SMALL, "--weights", "missing.safetensors"], "cannot read --weights"),
        ([*SMALL, "--weights", "networks_of_the_test.py"], "no safetensors file"),
        ([*SMALL, "--weights", "grey.safetensors"], "another model"),
        ([*SMALL, "--images", "missing.npz"], "cannot read --images"),
        ([*SMALL, "--images", "networks_of_the_test.py"], "no npz file"),
        ([*SMALL, "--images", "single.npy"], "single array"),
        ([*SMALL, "--images", "labels.npz"], "no array `images`, only"),
        ([*SMALL, "--images", "flat.npz"], r"holds int64 [3]"),
        ([*SMALL, "--images", "objects.npz"], "no npz file that can be read"),
        ([*SMALL, "--images", "one.npz"], "give 2 or more"),
        ([*SMALL, "--out", "networks_of_the_test.py"], "choose another --out"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(arguments, message, capsys):
    save_file(load_model("networks_of_the_test:grey", 0).state_dict(), "grey.safetensors")
    np.save("single.npy", np.zeros((2, 9, 9), dtype=np.uint8))
    np.savez("labels.npz", labels=np.zeros(3))
    np.savez("flat.npz", images=np.zeros(3, dtype=np.int64))
    np.savez("objects.npz", images=np.array([{}, {}], dtype=object))
    np.savez("one.npz", images=np.zeros((1, 9, 9), dtype=np.uint8))
    before = set(os.listdir())
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("error: ") and message in lines[-1]
    assert [line for line in lines if line.startswith("error")] == lines[-1:]
    assert set(os.listdir()) - before <= {"__pycache__"}


def test_files_are_replaced_whole_or_stay_as_they_were(monkeypatch, capsys):
    run("--size", 8)
    with open("out/audit.json", encoding="utf-8") as file:
        before = file.read()

    def refuse(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    assert main(["networks_of_the_test:small", "--size", "9", "--out", "out"]) == 2
    assert "error: cannot write out/audit.json: No space left on device" in capsys.readouterr().err
    with open("out/audit.json", encoding="utf-8") as file:
        assert file.read() == before
    assert sorted(os.listdir("out")) == ["audit.html", "audit.json", "audit.png"]


@pytest.mark.long
def test_a_network_of_torchvision_in_a_process_of_its_own(tmp_path):
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "partial_equiv.audit",
        "torchvision.models:resnet18",
        "--size",
        "64",
    ]
    done = subprocess.run([*command, "--out", str(tmp_path / "out")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Nearest exact sizes: 65, 33, 97." in done.stdout and "first to break it: conv1" in done.stdout
    data = json.loads((tmp_path / "out" / "audit.json").read_text())
    assert data["plan"]["culprits"][:3] == ["conv1", "maxpool", "layer2.0.conv1"]
    assert data["measured"]["first_culprit"] == "conv1"
    wrong = subprocess.run(
        [*command[:-3], "torchvision.models:resnet19", "--size", "64"], capture_output=True, text=True
    )
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1
    assert wrong.stderr.startswith("error: torchvision.models has no 'resnet19', but resnet1")
