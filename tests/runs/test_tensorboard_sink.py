"""TensorBoard: what arrives is read back from the event files with TensorBoard's own reader."""

import importlib.util
import io

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from partial_equiv.errors import UserError
from partial_equiv.runs import RunFolder
from partial_equiv.runs.tensorboard_sink import EVENTS, hyper_parameters, make_tensorboard_sink

HAVE = importlib.util.find_spec("tensorboard") is not None
needs_tensorboard = pytest.mark.skipif(not HAVE, reason="tensorboard is not installed: pip install -e '.[tensorboard]'")
CONFIG = {"seed": 1, "net": {"type": "GCNN", "dropout": 0.25, "norm": None}, "train": {"epochs": 3, "stages": [1, 2]}}


def test_without_it_nothing_is_made(tmp_path):
    assert make_tensorboard_sink(False, CONFIG, tmp_path, "job") is None
    assert list(tmp_path.iterdir()) == []


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "tensorboard" else find(name))
    with pytest.raises(UserError, match=r"pip install '\.\[tensorboard\]'") as told:
        make_tensorboard_sink(True, CONFIG, tmp_path, "job")
    assert "\n" not in str(told.value)
    assert list(tmp_path.iterdir()) == []


def test_hyper_parameters_are_flat():
    assert hyper_parameters(CONFIG | {"debug": True}) == {
        "seed": 1,
        "net.type": "GCNN",
        "net.dropout": 0.25,
        "train.epochs": 3,
        "train.stages": "[1, 2]",
        "debug": "True",
    }


def read(path):
    """Return TensorBoard's view of a run folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(path / EVENTS), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def run_job(path, epochs, value):
    figure = Figure(figsize=(1, 1))
    figure.add_subplot().imshow(np.eye(4))
    sink = make_tensorboard_sink(True, CONFIG, path, "job", layers=["lift", "blocks.0"])
    with RunFolder(path, CONFIG, [sink]) as run:
        for epoch in epochs:
            run.log(epoch, {"train/loss": value / epoch, "levels": [None, 0.5], "lr": None})
        run.figure("samples", figure)
        run.artifact("audit.json", {"rows": [1, 2]})
        run.artifact("confusion.json", {"class_names": ["6", "9"], "counts": [[1, 3], [0, 2]]})
        run.summary(
            {"test/accuracy": value / 8, "layers": ["lift", "blocks.0"], "levels": [None, 0.5], "device": "cpu"}
        )


@needs_tensorboard
def test_what_is_logged_can_be_read_back(tmp_path):
    run_job(tmp_path, (1, 2, 3), 1.0)
    board = read(tmp_path)
    assert [(event.step, event.value) for event in board.Scalars("train/loss")] == [
        (epoch, pytest.approx(1.0 / epoch)) for epoch in (1, 2, 3)
    ]
    assert [event.value for event in board.Scalars("levels/blocks.0")] == [0.5, 0.5, 0.5]
    assert [(event.step, event.value) for event in board.Scalars("summary/test/accuracy")] == [(3, 0.125)]
    assert set(board.Tags()["scalars"]) == {"train/loss", "levels/blocks.0", "summary/test/accuracy"}
    (picture,) = board.Images("figures/samples")
    with (
        Image.open(io.BytesIO(picture.encoded_image_string)) as theirs,
        Image.open(tmp_path / "figures" / "samples.png") as ours,
    ):
        assert np.array_equal(np.asarray(theirs.convert("RGB")), np.asarray(ours.convert("RGB")))
    texts = {tag: board.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in board.Tags()["tensors"]}
    assert "| blocks.0 | 0.5 |" in texts["tables/layers/text_summary"]
    assert "| 6 | 4 | 0.25 | 9 |" in texts["tables/classes/text_summary"]
    assert "| network | GCNN |" in texts["cards/model/text_summary"]
    names = ("tables/layers", "tables/classes", "cards/model", "cards/data")
    assert set(texts) == {f"{name}/text_summary" for name in names}


@needs_tensorboard
def test_hyper_parameters_reach_the_tab_that_compares_runs(tmp_path):
    from tensorboard.plugins.hparams import metadata

    run_job(tmp_path, (1, 2), 1.0)
    contents = read(tmp_path).PluginTagToContent("hparams")
    start = metadata.parse_session_start_info_plugin_data(contents[metadata.SESSION_START_INFO_TAG])
    assert start.hparams["net.type"].string_value == "GCNN"
    assert start.hparams["net.dropout"].number_value == 0.25
    experiment = metadata.parse_experiment_plugin_data(contents[metadata.EXPERIMENT_TAG])
    assert [metric.name.tag for metric in experiment.metric_infos] == ["summary/test/accuracy"]


@needs_tensorboard
def test_epochs_that_are_done_again_replace_the_old_ones(tmp_path):
    run_job(tmp_path, (1, 2, 3), 1.0)
    run_job(tmp_path, (3, 4), 10.0)
    found = {event.step: event.value for event in read(tmp_path).Scalars("train/loss")}
    assert found == {1: 1.0, 2: 0.5, 3: pytest.approx(10 / 3), 4: 2.5}
    assert len(read(tmp_path).Scalars("train/loss")) == 4


@needs_tensorboard
def test_an_epoch_is_on_disk_at_once(tmp_path):
    run = RunFolder(tmp_path, CONFIG, [make_tensorboard_sink(True, CONFIG, tmp_path, "job")])
    run.log(1, {"train/loss": 0.5})
    assert [event.value for event in read(tmp_path).Scalars("train/loss")] == [0.5]
    run.close()
