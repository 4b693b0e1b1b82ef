"""The suggested configuration: rules on reports made by hand, real reports, and what the command line accepts."""

import math
import shlex
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from hypothesis import given
from hypothesis import strategies as st

from config_reader import read_config
from dataset_constructor import construct_info
from model_constructor import construct_model
from partial_equiv.datasets import rotate_images
from partial_equiv.datasets.digits import read_upright
from partial_equiv.errors import UserError
from partial_equiv.symmetry.data_symmetry import DataSymmetry, SymmetryTest, symmetry_of_data
from partial_equiv.symmetry.suggestion import suggest
from partial_equiv.symmetry.two_sample import TwoSample

OPTIONS = Path(__file__).parents[2] / "cfg"


def report(classes=None, **p_values):
    """Return a report of the whole set with these adjusted p-values, and of a class `classes` names for each group."""
    values = {"C2": 0.0001, "C4": 0.0001, "D1": 0.0001, "SO2": 0.0001} | p_values
    result = TwoSample(0.5, 0.5, 0.5, 100)
    tests = [SymmetryTest(group, None, "all", 100, result, holm=p) for group, p in values.items()]
    tests += [SymmetryTest(group, 3, "three", 100, result, holm=p) for group, p in (classes or {}).items()]
    return DataSymmetry(tuple(values), tuple(tests))


@pytest.mark.parametrize(
    ("p_values", "levels", "overrides"),
    [
        ({"SO2": 0.3}, [0.1], ["base_group=SE2", "conv=full"]),
        ({"SO2": 0.3, "D1": 0.2}, None, ["base_group=E2", "conv=full"]),
        ({}, [math.radians(d) for d in (3, 7.9)], ["base_group=T2", "conv=full"]),
        ({"D1": 0.2}, [0.0], ["base_group=T2", "conv=full"]),
        ({}, [0.0, math.radians(45), None], ["base_group=SE2", "conv=partial", "conv.initial_level=0.25"]),
        ({"D1": 1.0}, torch.tensor([2.0, 1.0]), ["base_group=E2", "conv=partial", "conv.initial_level=0.64"]),
        ({}, [math.radians(8.1)], ["base_group=SE2", "conv=partial", "conv.initial_level=0.05"]),
        ({}, [math.pi], ["base_group=SE2", "conv=partial", "conv.initial_level=1"]),
        ({}, None, ["base_group=SE2", "conv=partial"]),
        ({}, [None, None], ["base_group=SE2", "conv=partial"]),
    ],
)
def test_the_rules(p_values, levels, overrides):
    assert suggest(report(**p_values), levels).overrides() == overrides


def test_a_class_alone_rules_a_group_out():
    assert suggest(report({"D1": 0.01}, D1=0.9, SO2=0.9)).base_group == "SE2"
    found = suggest(report({"SO2": 0.01, "D1": None}, D1=0.9, SO2=0.9), [1.0])
    assert (found.base_group, found.conv) == ("E2", "partial")
    assert "rejected (least adjusted p 0.01, class three)" in found.words()


@given(st.lists(st.one_of(st.none(), st.floats(0, math.pi)), max_size=5), st.booleans(), st.booleans())
def test_levels_are_shares_of_the_circle_and_words_are_sentences(levels, mirror, turns):
    found = suggest(report(D1=0.5 if mirror else 0.01, SO2=0.5 if turns else 0.01), levels)
    assert found.initial_level is None or 0.05 <= found.initial_level <= 1
    assert (found.initial_level is None) == (found.conv == "full" or all(level is None for level in levels))
    assert 2 <= len(found.reasons) <= 3
    assert all(reason[0].isupper() and reason[-1] == "." for reason in found.reasons)


def test_words_say_why_and_name_what_the_suggestion_leaves_out():
    words = suggest(report(C4=0.4), [math.pi / 2]).words()
    assert words == (
        "Turns by any angle are rejected (least adjusted p 0.0001, the whole set), and the largest level of a class is "
        "90 degrees, so intervals are learned from 0.5 of the circle on. The left-right mirror is rejected (least "
        "adjusted p 0.0001, the whole set), so no mirrored elements. Quarter turns are not rejected (least adjusted p "
        "0.4, the whole set): base_group=C4 conv=full has them alone."
    )
    assert "base_group=D4 conv=full" in suggest(report(C4=0.4, D1=0.4), [1.0]).words()
    assert "base_group.name=D1" in suggest(report(D1=0.4), [0.0]).words()


def test_the_command_can_be_pasted_into_a_shell():
    line = suggest(report(), [1.0]).command(["dataset=npz", "dataset.root=/some where"])
    assert shlex.split(line) == [
        *("python", "main.py", "dataset=npz", "dataset.root=/some where"),
        *("base_group=SE2", "conv=partial", "conv.initial_level=0.32"),
    ]
    assert suggest(report(SO2=0.5)).command() == "python main.py base_group=SE2 conv=full"


@pytest.mark.parametrize(
    "words",
    [
        suggest(report(D1=d, SO2=s), levels).overrides()
        for d in (0, 1)
        for s in (0, 1)
        for levels in ([0.0], [1.0], None)
    ]
    + [["base_group=D4", "base_group.name=D1", "base_group.no_samples=2", "conv=full"], ["base_group=C4", "conv=full"]],
)
def test_the_command_line_accepts_what_is_suggested(words):
    with initialize_config_dir(str(OPTIONS), version_base=None):
        config = read_config(compose("config", words), words)
    model = construct_model(config, construct_info(config))
    group = dict(word.split("=") for word in words)
    levels = [p.item() for name, p in model.named_parameters() if name.endswith("level")]
    assert bool(levels) == (group["conv"] == "partial")
    assert all(level == pytest.approx(float(group.get("conv.initial_level", 1))) for level in levels)


@pytest.mark.parametrize(("levels", "why"), [([4.0], "level 4 is out"), ([-0.1], "level -0.1"), ([math.nan], "nan")])
def test_levels_that_are_none_are_refused(levels, why):
    with pytest.raises(UserError, match=why):
        suggest(report(), levels)


def test_a_report_without_the_tests_is_refused():
    with pytest.raises(UserError, match="no test of D1: ask for groups"):
        suggest(DataSymmetry(("SO2",), report().tests))


def test_from_digits_to_a_network():
    images, labels = read_upright(20)
    draws = 2 * torch.rand(len(images), generator=torch.Generator().manual_seed(0)) - 1
    upright, partial, round_ = (
        rotate_images(images, draws * math.radians(bound)).mul(255).round().to(torch.uint8) for bound in (0, 45, 180)
    )
    found = {}
    for name, turned in (("upright", upright), ("partial", partial), ("round", round_)):
        found[name] = symmetry_of_data(turned, labels, "0123456789", groups=("D1", "SO2"), seed=0, no_permutations=999)
    assert suggest(found["upright"], [0.05] * 10).overrides() == ["base_group=T2", "conv=full"]
    words = ["base_group=SE2", "conv=partial", "conv.initial_level=0.25"]
    assert suggest(found["partial"], [math.radians(45)] * 10).overrides() == words
    assert suggest(found["round"], [math.pi] * 10).conv == "full"
