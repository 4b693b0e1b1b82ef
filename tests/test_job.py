"""Seeds and devices of a job."""

import os
import random

import numpy as np
import pytest
import torch

import job


def test_every_library_is_seeded():
    draws = []
    for _ in range(2):
        job.prepare({"seed": 7, "device": "cpu", "cuda_visible_devices": None})
        draws.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert draws[0] == draws[1]


def test_a_missing_device_falls_back_with_a_note(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert job.choose_device("cuda") == job.choose_device("mps") == torch.device("cpu")
    assert capsys.readouterr().err.splitlines() == [
        "note: device=cuda is not there, the CPU does it",
        "note: device=mps is not there, the CPU does it",
    ]
    assert job.choose_device("auto") == torch.device("cpu")
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("given", "expected"), [([0, 2], "0,2"), (1, "1")])
def test_visible_devices_are_named_to_cuda(monkeypatch, given, expected):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    job.prepare({"seed": 0, "device": "cpu", "cuda_visible_devices": given})
    assert os.environ["CUDA_VISIBLE_DEVICES"] == expected
