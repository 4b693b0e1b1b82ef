"""A finished run exported from the command line: the files, what they hold, and what is refused."""

import io
import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import partial_equiv
from partial_equiv.runs import load_model, load_state
from partial_equiv.sampling import set_hard_gates
from tests.test_main import SMALL, cli  # noqa: F401  (a fixture)
from tests.test_main_symmetry import TINY

SHORT = ["train.epochs=1", "dataset.no_train=64", "net.pool_blocks=[0]"]


def contents(folder):
    return {path: path.read_bytes() for path in Path(folder).rglob("*") if path.is_file()}


def said_by(path, images):
    """Return what a file says of images, read with onnxruntime or torch.export alone."""
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run(None, {"images": images.numpy()})[0])
    return torch.export.load(io.BytesIO(path.read_bytes())).module()(images).detach()


def test_a_run_is_exported(cli):  # noqa: F811
    assert cli(*SMALL, *SHORT, "hydra.run.dir=run", "base_group=D4", "base_group.no_samples=8")[0] == 0
    before = contents("run")
    code, out, err = cli("run=run", "do=export")
    assert code == 0, err
    onnx_line, torch_line = out.splitlines()
    paths = [Path("run/network.onnx"), Path("run/network.pt2")]
    for line, path in zip((onnx_line, torch_line), paths, strict=True):
        assert line.startswith(f"{path}: {path.stat().st_size:,} bytes, ")
        assert "parameters, largest difference " in line and "equivariance error (D4) " in line
    assert {path: content for path, content in contents("run").items() if path not in paths} == before

    model = load_model(Path("run"))
    info = load_state(Path("run"), "best")[1]["spec"]["info"]
    facts = {entry.key: json.loads(entry.value) for entry in onnx.load(paths[0]).metadata_props}
    extra = {"facts.json": ""}
    torch.export.load(io.BytesIO(paths[1].read_bytes()), extra_files=extra)
    assert json.loads(extra["facts.json"]) == facts
    assert {key: facts[key] for key in info} == info
    assert facts["network"] == "CKResNet" and facts["version"] == partial_equiv.__version__ and facts["commit"]
    for path in paths:
        for batch in (1, 7):
            images = torch.randn(batch, 1, 12, 12)
            np.testing.assert_allclose(said_by(path, images), model(images).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_one_kind_with_hard_gates_replaces_that_file_alone(cli):  # noqa: F811
    assert cli(*SMALL, *SHORT, "hydra.run.dir=run", "base_group=D4", "base_group.no_samples=8")[0] == 0
    # An earlier version had no such key.
    stored = Path("run/config.yaml")
    kept = [line for line in stored.read_text().splitlines() if not line.startswith("export:")]
    stored.write_text("\n".join(kept) + "\n")
    assert cli("run=run", "do=export", "export=torch")[0] == 0
    assert Path("run/network.pt2").exists() and not Path("run/network.onnx").exists()
    model = load_model(Path("run"))
    images = torch.randn(3, 1, 12, 12)
    torch.testing.assert_close(said_by(Path("run/network.pt2"), images), model(images).detach(), rtol=1e-5, atol=1e-5)
    assert cli("run=run", "do=export", "export=torch", "test.hard_gates=True")[0] == 0
    set_hard_gates(model, True)
    torch.testing.assert_close(said_by(Path("run/network.pt2"), images), model(images).detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.long
def test_a_symmetry_run_is_exported(cli):  # noqa: F811
    code, _, err = cli(*TINY, "debug=True", "hydra.run.dir=run")
    assert code == 0, err
    code, out, err = cli("run=run", "do=export", "export=torch")
    assert code == 0, err
    assert out.startswith("run/network.pt2: ")
    images = torch.randn(5, 1, 16, 16)
    said = said_by(Path("run/network.pt2"), images)
    torch.testing.assert_close(said, load_model(Path("run"))(images).detach(), rtol=1e-5, atol=1e-5)


MISTAKES = {
    "do=export": "do=export or do=report and run=<run folder> go together",
    "run=nowhere do=export": "is not a run folder",
    "export=tflite": "give onnx or torch or both",
    "run=empty do=export": "best.safetensors is missing",
}


def test_mistakes_are_one_line(cli, tmp_path):  # noqa: F811
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty/config.yaml").write_bytes((Path(__file__).parent / "default_config.yaml").read_bytes())
    for arguments, words in MISTAKES.items():
        code, out, err = cli(*arguments.split())
        assert (code, out, err.count("\n")) == (2, "", 1) and words in err, f"{arguments}: {code} {out} {err}"
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["config.yaml"]
