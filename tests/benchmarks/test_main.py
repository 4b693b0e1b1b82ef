"""The command of the benchmarks."""

import json

import pytest
import torch

import benchmarks.__main__ as command
from benchmarks.choices import Choices
from benchmarks.results import Goal, Judged, Table

GOAL = Goal("ratio of nothing", 2)


@pytest.fixture
def quick(monkeypatch):
    """Return what two stand-ins of benchmarks were told."""
    told = []

    def tables(choices):
        told.append(choices)
        return [Table("Nothing", ("", "ratio"), (("a", Judged(1.0, GOAL)),))]

    for name in ("conv", "rotmnist"):
        monkeypatch.setitem(command.BENCHMARKS, name, tables)
    return told


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["conf"], "unknown benchmark conf: give conv,"),
        (["conv", "--rounds", "0"], "--rounds 0 measures nothing: give 1 or more"),
    ],
)
def test_a_mistake_is_one_line_and_code_2(arguments, words, capsys):
    assert command.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and words in captured.err and captured.err.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_device_that_is_not_there_is_answered(capsys):
    assert command.main(["--device", "cuda"]) == 2
    assert "torch sees no CUDA device here" in capsys.readouterr().err


def test_a_run_prints_markdown_and_leaves_a_folder(quick, tmp_path, capsys):
    assert (
        command.main(["conv", "--out", str(tmp_path / "out"), "--rounds", "9", "--page", str(tmp_path / "B.md")]) == 0
    )
    assert quick == [Choices(no_rounds=9)]
    printed = capsys.readouterr().out
    assert "### Nothing" in printed and "| ratio of nothing | a | 1.000 | at most 2 | met | " in printed
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert list(document["tables"]) == ["conv"] and document["machine"]["torch"] == torch.__version__
    assert document["command"].startswith("python -m benchmarks conv --out")
    assert "<!-- conv -->" in (tmp_path / "B.md").read_text()


def test_the_training_to_the_end_takes_choices_of_its_own(quick, tmp_path):
    choices = ["--epochs", "2", "--set", "dataset.no_train=64", "net.no_hidden=2"]
    assert command.main(["rotmnist", "--out", str(tmp_path), *choices]) == 0
    assert quick == [Choices(epochs=2, overrides=("dataset.no_train=64", "net.no_hidden=2"))]


def test_without_names_the_short_ones_run_and_with_full_all_but_the_training_to_the_end():
    def names(*arguments):
        return command.chosen(command.parser().parse_args(arguments))

    assert names() == list(command.SHORT) and "rotmnist" not in names("--full")
    assert set(names("--full")) == set(command.BENCHMARKS) - {"rotmnist"}
