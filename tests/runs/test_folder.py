"""The run folder, read back with json, yaml and PIL."""

import json
import math
import os

import numpy as np
import pytest
import torch
import yaml
from matplotlib.figure import Figure
from PIL import Image

from partial_equiv.errors import UserError
from partial_equiv.runs import RunFolder, read_log


class Memory:
    """A sink that remembers."""

    def __init__(self):
        self.rows, self.images, self.artifacts, self.summaries, self.closed = [], {}, {}, [], 0

    def log(self, step, scalars):
        self.rows.append((step, scalars))

    def image(self, name, array):
        self.images[name] = array

    def summary(self, values):
        self.summaries.append(values)

    def artifact(self, name, artifact):
        self.artifacts[name] = artifact

    def close(self, exit_code):
        self.closed += 1
        self.exit_code = exit_code


def lines(path):
    return [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]


def test_config_is_written_at_once_and_reads_back(tmp_path):
    config = {"seed": 0, "train": {"lr": 1e-5, "epochs": 3, "scheduler": None}, "comment": "é: #1", "sizes": [1, 2.5]}
    run = RunFolder(tmp_path / "a" / "b", config)
    assert run.path == tmp_path / "a" / "b"
    assert yaml.safe_load((run.path / "config.yaml").read_text(encoding="utf-8")) == config


def test_one_object_per_epoch_and_the_same_for_sinks(tmp_path):
    sink = Memory()
    run = RunFolder(tmp_path, {}, [sink])
    run.log(0, {"train/loss": torch.tensor(0.5), "levels": [1.0, None], "lr": np.float64(0.1)})
    run.log(1, {"train/loss": math.nan, "levels": torch.tensor([0.25, math.inf])})
    expected = [
        {"epoch": 0, "train/loss": 0.5, "levels": [1.0, None], "lr": 0.1},
        {"epoch": 1, "train/loss": None, "levels": [0.25, None]},
    ]
    assert lines(tmp_path) == expected
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()
    assert sink.rows == list(enumerate(expected))


def test_resume_drops_what_was_logged_after_the_checkpoint(tmp_path):
    run = RunFolder(tmp_path, {})
    for epoch in range(5):
        run.log(epoch, {"value": epoch})
    again = RunFolder(tmp_path, {})
    again.truncate_log(2)
    assert [row["epoch"] for row in lines(tmp_path)] == [0, 1, 2]
    again.log(3, {"value": 30})
    assert [row["value"] for row in lines(tmp_path)] == [0, 1, 2, 30]


def test_a_run_repeated_in_its_folder_never_mixes_two_histories(tmp_path):
    for offset in (0, 100):
        run = RunFolder(tmp_path, {})
        for epoch in range(3 if offset == 0 else 2):
            run.log(epoch, {"value": offset + epoch})
    assert [row["value"] for row in lines(tmp_path)] == [100, 101]


def test_a_line_cut_off_by_a_crash_is_ignored_and_repaired(tmp_path):
    RunFolder(tmp_path, {}).log(0, {"value": 1})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"epoch": 1, "val')
    assert read_log(tmp_path) == [{"epoch": 0, "value": 1}]
    RunFolder(tmp_path, {}).log(1, {"value": 2})
    assert lines(tmp_path) == [{"epoch": 0, "value": 1}, {"epoch": 1, "value": 2}]


def test_damage_in_the_middle_of_the_log_is_told(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"epoch": 0}\nrubbish\n{"epoch": 2}\n')
    with pytest.raises(UserError, match=r"metrics\.jsonl line 2"):
        read_log(tmp_path)
    assert read_log(tmp_path / "absent") == []


def test_summary_is_atomic_and_plain(tmp_path, monkeypatch):
    sink = Memory()
    run = RunFolder(tmp_path, {}, [sink])
    run.summary({"test/accuracy": torch.tensor(0.75), "levels": [1.0, None], "device": "cpu"})
    expected = {"test/accuracy": 0.75, "levels": [1.0, None], "device": "cpu"}
    assert json.loads((tmp_path / "summary.json").read_text()) == expected
    assert sink.summaries == [expected]

    def die(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", die)
    with pytest.raises(KeyboardInterrupt):
        run.summary({"test/accuracy": 0.0})
    assert json.loads((tmp_path / "summary.json").read_text()) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.yaml", "summary.json"]


def test_figures_are_png_and_reach_sinks_as_the_same_uint8_pixels(tmp_path):
    sink = Memory()
    run = RunFolder(tmp_path, {}, [sink])
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    path = run.figure("curves", figure)
    assert path == tmp_path / "figures" / "curves.png"
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB"))
    assert pixels.shape == (150, 300, 3)
    assert sink.images["curves"].dtype == np.uint8
    assert np.array_equal(sink.images["curves"], pixels)
    assert pixels.std() > 1


def test_sinks_are_closed_once_also_on_error(tmp_path):
    sink = Memory()

    def fail():
        with RunFolder(tmp_path, {}, [sink]) as run:
            run.close()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (sink.closed, sink.exit_code) == (1, 0)


def test_sinks_learn_how_a_run_ended_and_see_its_artifacts(tmp_path):
    first, second = Memory(), Memory()

    def fail():
        with RunFolder(tmp_path, {}, [first, second]) as run:
            run.artifact("orbit.json", {"angles": [0]})
            raise UserError("not finite")

    with pytest.raises(UserError):
        fail()
    assert [(sink.exit_code, sink.artifacts) for sink in (first, second)] == [(2, {"orbit.json": {"angles": [0]}})] * 2


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot create the run folder"):
        RunFolder(tmp_path / "file" / "run", {})
