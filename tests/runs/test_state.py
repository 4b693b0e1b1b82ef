"""Checkpoints: what is written comes back bit for bit, and nothing damaged is ever taken for whole."""

import json
import os
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from torch import nn

import partial_equiv
from partial_equiv.errors import UserError
from partial_equiv.runs import load_model, load_network, load_state, save_state

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


def some_tensors():
    generator = torch.Generator().manual_seed(0)
    tensors = {str(dtype): (torch.randn(3, 5, generator=generator) * 9).to(dtype) for dtype in DTYPES}
    tensors["scalar"] = torch.tensor(0.1, dtype=torch.float64)
    tensors["empty"] = torch.zeros(0, 4)
    tensors["transposed"] = torch.arange(12.0).reshape(3, 4).T
    tensors["nan"] = torch.tensor([float("nan"), float("inf"), -0.0])
    tensors["tied"] = tensors["torch.float32"]
    return tensors


def test_every_bit_comes_back(tmp_path):
    tensors, meta = (
        some_tensors(),
        {"epoch": 3, "best": 0.1 + 0.2, "spec": {"net": {"type": "GCNN"}}, "worst": float("-inf")},
    )
    save_state(tmp_path, "last", tensors, meta)
    back, facts = load_state(tmp_path, "last")
    assert facts == meta
    assert back.keys() == tensors.keys()
    for key, tensor in tensors.items():
        assert back[key].dtype == tensor.dtype
        assert back[key].shape == tensor.shape
        assert torch.equal(back[key].reshape(-1).view(torch.uint8), tensor.contiguous().reshape(-1).view(torch.uint8))


def test_files_are_plain_safetensors_and_json(tmp_path):
    save_state(tmp_path, "best", {"w": torch.arange(4.0)}, {"epoch": 7})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.json", "best.safetensors", "manifest.json"]
    assert json.loads((tmp_path / "best.json").read_text()) == {"epoch": 7}
    assert torch.equal(safetensors.torch.load_file(tmp_path / "best.safetensors")["w"], torch.arange(4.0))
    with safetensors.safe_open(tmp_path / "best.safetensors", framework="pt") as file:
        assert json.loads(file.metadata()["partial_equiv"])["meta"] == {"epoch": 7}


def test_the_same_state_gives_the_same_bytes(tmp_path):
    for name in ("first", "second"):
        save_state(tmp_path, name, some_tensors(), {"epoch": 1})
    assert (tmp_path / "first.safetensors").read_bytes() == (tmp_path / "second.safetensors").read_bytes()


@pytest.mark.parametrize("moment", ["replace", "fsync"])
def test_a_save_that_dies_half_way_leaves_the_old_state(tmp_path, monkeypatch, moment):
    save_state(tmp_path, "last", {"w": torch.zeros(3)}, {"epoch": 1})
    before = (tmp_path / "last.safetensors").read_bytes()

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, moment, die)
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, "last", {"w": torch.ones(3)}, {"epoch": 2})
    monkeypatch.undo()
    assert (tmp_path / "last.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.json", "last.safetensors", "manifest.json"]
    tensors, meta = load_state(tmp_path, "last")
    assert meta == {"epoch": 1}
    assert torch.equal(tensors["w"], torch.zeros(3))


def test_what_a_killed_process_leaves_is_taken_over_by_the_next_save(tmp_path, monkeypatch):
    def die(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    monkeypatch.setattr(Path, "unlink", die)  # SIGKILL leaves no time to clean up
    with pytest.raises(KeyboardInterrupt):
        save_state(tmp_path, "last", {"w": torch.ones(3)}, {"epoch": 2})
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == [".manifest.json.tmp"]  # the manifest comes first
    with pytest.raises(UserError, match="no checkpoint at all"):
        load_state(tmp_path, "last")
    save_state(tmp_path, "last", {"w": torch.ones(3)}, {"epoch": 2})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last.json", "last.safetensors", "manifest.json"]


def test_a_full_disk_is_told_in_one_sentence(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*manifest\.json: No space left on device; free space"):
        save_state(tmp_path, "last", {"w": torch.ones(3)}, {})
    assert list(tmp_path.iterdir()) == []


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(UserError, match="cannot write"):
        save_state(tmp_path / "absent", "last", {}, {})


def test_missing_checkpoint_names_what_is_there(tmp_path):
    with pytest.raises(UserError, match="no checkpoint at all"):
        load_state(tmp_path, "best")
    save_state(tmp_path, "last", {}, {})
    with pytest.raises(UserError, match=r"best\.safetensors is missing.*it holds last"):
        load_state(tmp_path, "best")


def test_every_truncation_is_noticed(tmp_path):
    save_state(tmp_path, "best", {"w": torch.randn(5)}, {"epoch": 1})
    path = tmp_path / "best.safetensors"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(UserError, match=r"best\.safetensors"):
            load_state(tmp_path, "best")


def test_every_flipped_byte_is_noticed_or_harmless(tmp_path):
    tensors, meta = {"w": torch.randn(5), "n": torch.arange(3)}, {"epoch": 1, "spec": {"a": "b"}}
    save_state(tmp_path, "best", tensors, meta)
    path = tmp_path / "best.safetensors"
    whole = path.read_bytes()
    silent = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 0x20
        path.write_bytes(bytes(damaged))
        try:
            back, facts = load_state(tmp_path, "best")
        except UserError:
            continue
        silent += 1  # a flip between the tokens of the header, which changes nothing
        assert facts == meta
        assert all(torch.equal(back[key], tensors[key]) for key in tensors)
    assert silent < 0.05 * len(whole)


def test_a_foreign_file_is_refused(tmp_path):
    safetensors.torch.save_file({"w": torch.ones(2)}, tmp_path / "best.safetensors")
    with pytest.raises(UserError, match="not a checkpoint of this library"):
        load_state(tmp_path, "best")


def test_meta_that_json_cannot_hold_writes_nothing(tmp_path):
    with pytest.raises(TypeError):
        save_state(tmp_path, "best", {}, {"model": nn.Linear(1, 1)})
    assert list(tmp_path.iterdir()) == []


def save_network(folder, spec, prefix="", **more):
    torch.manual_seed(1)
    model = partial_equiv.build(spec).eval()
    save_state(
        folder, "best", {prefix + key: value for key, value in model.state_dict().items()} | more, {"spec": spec}
    )
    return model


@pytest.mark.parametrize("prefix", ["", "model."])
def test_load_model_gives_the_same_logits(tmp_path, spec, prefix):
    more = {"optimizer.step": torch.tensor(3.0)} if prefix else {}
    model = save_network(tmp_path, spec, prefix, **more)
    loaded = load_model(tmp_path)
    images = torch.randn(2, 1, 12, 12)
    assert not loaded.training
    with torch.no_grad():
        assert torch.equal(loaded(images), model(images))


def test_another_architecture_is_named_by_its_first_differing_tensors(tmp_path, spec):
    save_network(tmp_path, spec)
    tensors, meta = load_state(tmp_path, "best")
    other = {**spec, "info": {**spec["info"], "no_classes": 7}}
    save_state(tmp_path, "best", tensors, {**meta, "spec": other})
    with pytest.raises(UserError, match=r"best\.safetensors holds another architecture: .*\[3.*wanted \[7"):
        load_model(tmp_path)


def test_a_surplus_or_a_lack_is_refused_and_nothing_is_loaded(tmp_path):
    model = nn.Linear(2, 3)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    good = {key: torch.zeros_like(value) for key, value in before.items()}
    cases = [
        {"weight": good["weight"]},
        good | {"extra": torch.ones(1)},
        {"model." + key: value for key, value in good.items()} | {"model.extra": torch.ones(1)},
    ]
    for tensors in cases:
        with pytest.raises(UserError, match="another architecture"):
            load_network(model, tensors, tmp_path / "best.safetensors")
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_network_with_a_part_called_model_is_told_from_an_objective(tmp_path):
    wrapped = nn.Sequential()
    wrapped.add_module("model", nn.Linear(2, 3))
    load_network(wrapped, {"model.weight": torch.ones(3, 2), "model.bias": torch.ones(3)}, tmp_path)
    assert torch.equal(wrapped.model.bias, torch.ones(3))
    load_network(wrapped, {"model.model.weight": torch.zeros(3, 2), "model.model.bias": torch.zeros(3)}, tmp_path)
    assert torch.equal(wrapped.model.bias, torch.zeros(3))


def test_a_state_without_a_spec_is_no_network(tmp_path):
    save_state(tmp_path, "best", {}, {"epoch": 1})
    with pytest.raises(UserError, match="carries no spec"):
        load_model(tmp_path)
