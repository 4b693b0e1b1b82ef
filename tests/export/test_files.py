"""Plain networks as files: written, read back by other programs, and compared."""

import importlib.util
import io
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from partial_equiv import UserError
from partial_equiv.export import FORMATS, export_network, files, to_plain
from tests.export.networks import SPECS, facts_of, images_of, made

FACTS = {"mean": [0.1, 0.2], "size": [12, 12], "no_classes": 3, "commit": "abc", "network": "CKResNet"}
ALIKE = 1e-5


@pytest.fixture(scope="module")
def small():
    """Return a partial network, its plain form and images."""
    spec = SPECS["GCNN D4 gates"]
    model = made(spec, torch.float32)
    return model, to_plain(model, *facts_of(spec)), images_of(spec, 5, torch.float32)


def run_onnx(content, images):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    return session.run(None, {given.name: images.numpy()})[0]


@torch.no_grad()
def test_an_onnx_file_is_read_by_onnxruntime(small):
    model, plain, images = small
    exported = export_network(plain, "onnx", images, FACTS)
    assert exported.difference <= ALIKE
    stored = onnx.load_model_from_string(exported.content)
    onnx.checker.check_model(stored, full_check=True)
    assert {entry.key: json.loads(entry.value) for entry in stored.metadata_props} == FACTS
    (given,) = stored.graph.input
    batch, *sides = given.type.tensor_type.shape.dim
    assert batch.dim_param and [side.dim_value for side in sides] == [2, 12, 12]
    assert not any(node.domain for node in stored.graph.node)  # nothing but the standard's operators
    for batch in (images[:1], images, images.repeat(3, 1, 1, 1)):
        found = run_onnx(exported.content, batch)
        np.testing.assert_allclose(found, model(batch).numpy(), rtol=ALIKE, atol=ALIKE)


@torch.no_grad()
def test_a_program_of_torch_is_read_by_torch_export(small):
    model, plain, images = small
    exported = export_network(plain, "torch", images, FACTS)
    extra = {"facts.json": ""}
    program = torch.export.load(io.BytesIO(exported.content), extra_files=extra)
    assert json.loads(extra["facts.json"]) == FACTS
    for batch in (images[:1], images, images.repeat(3, 1, 1, 1)):
        torch.testing.assert_close(program.module()(batch), model(batch), rtol=ALIKE, atol=ALIKE)


@torch.no_grad()
def test_double_precision_is_kept_by_torch_and_refused_for_onnx():
    spec = SPECS["GCNN"]
    model = made(spec)
    plain, images = to_plain(model, *facts_of(spec)), images_of(spec, 3)
    exported = export_network(plain, "torch", images, {})
    torch.testing.assert_close(exported.network(images), model(images), rtol=0, atol=1e-12)
    with pytest.raises(UserError, match=r"export=onnx writes float32 .* torch.float64: give model.float\(\)"):
        export_network(plain, "onnx", images, {})


LONGER = [
    "E2 interval",
    "LayerNorm gates",
    "last T2 gates",
    "learned pooling",
    "even kernel",
    "Augerino E2",
    "split E2 interval",
    "symmetry",
    "GConvNet D4",
    "LiftingNet",
    "GResNet D4 g stride4",
    "GResNet C2 g blur4",
    "GResNet 7x7",
    "backbone",
]


@pytest.mark.long
@torch.no_grad()
@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("name", LONGER)
def test_every_module_can_be_written(name, kind):
    spec = SPECS[name]
    model = made(spec, torch.float32)
    images = images_of(spec, 5, torch.float32)
    exported = export_network(to_plain(model, *facts_of(spec)), kind, images, FACTS)
    for batch in (images[:1], images):
        torch.testing.assert_close(exported.network(batch), model(batch), rtol=ALIKE, atol=ALIKE)


def test_a_file_that_says_something_else_is_not_returned(small, monkeypatch):
    _, plain, images = small
    read = FORMATS["torch"].read

    def off(content):
        network, facts = read(content)
        return files.Loaded(lambda x: network(x) + (len(x) == 1) * 1e-3, facts)

    monkeypatch.setitem(files.FORMATS, "torch", FORMATS["torch"]._replace(read=off))
    with pytest.raises(UserError, match=r"says something else than the network, the largest difference is 0.00\d"):
        export_network(plain, "torch", images, FACTS)
    forgets = FORMATS["torch"]._replace(read=lambda content: files.Loaded(read(content).network, {}))
    monkeypatch.setitem(files.FORMATS, "torch", forgets)
    with pytest.raises(UserError, match="lost facts"):
        export_network(plain, "torch", images, FACTS)


def test_what_is_missing_is_said(small, monkeypatch):
    _, plain, images = small
    with pytest.raises(UserError, match="export.*onx.*did you mean 'onnx'"):
        export_network(plain, "onx", images, {})
    monkeypatch.setattr(files, "LARGEST_ONNX", 1000)
    with pytest.raises(UserError, match=r"export=onnx: the plain network has 0.0 GB .* one ONNX file holds 2 GB"):
        export_network(plain, "onnx", images, {})
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name))
    with pytest.raises(
        UserError, match=r"onnxruntime is not installed: pip install 'partial_equiv\[export\]', or give"
    ):
        export_network(plain, "onnx", images, {})
    assert export_network(plain, "torch", images, {}).difference == 0


def test_a_network_of_one_layer_is_a_file_too():
    exported = export_network(nn.Flatten(1), "torch", torch.randn(3, 1, 2, 2), {})
    assert exported.network(torch.ones(4, 1, 2, 2)).shape == (4, 4)
