"""What dashboards show, and how runs are called: plain data in, plain data out."""

import html.parser

import pytest

from partial_equiv.runs.naming import label_run
from partial_equiv.runs.shown import Card, as_html, as_markdown, class_sheet, data_card, layer_sheet, model_card, series

CONFIG = {
    "seed": 3,
    "augment": "none",
    "net": {"type": "CKResNet", "no_hidden": 8},
    "conv": {"partial_equiv": True},
    "kernel": {"type": "SIREN", "size": 7},
    "base_group": {"name": "E2", "no_samples": 8},
    "dataset": {"type": "digits", "copies": 2, "law": None},
    "train": {"type": "classification", "epochs": 5},
}
SUMMARY = {
    "test/accuracy": 0.75,
    "test/class_accuracy/6": 0.5,
    "test/audit/lift": 0.0,
    "test/audit/output": 0.125,
    "layers": ["lift", "blocks.0"],
    "levels": [None, 0.5],
    "mirror": [0.25, None],
    "gates/lift": [1.0, 0.333],
    "no_params": 12345,
    "dataset": "digits",
    "note": "8x8 pixels",
    "no_train": 100,
    "comment": "<script>alert(1)</script>",
    "commit": "abc",
    "seed": 3,
}
CONFUSION = {"class_names": ["6", "9", "a|b"], "counts": [[2, 2, 0], [0, 2, 0], [0, 0, 0]], "worst": []}


def test_a_row_becomes_series_that_are_called_by_their_layers():
    row = {
        "epoch": 4,
        "train/loss": 0.5,
        "lr": None,
        "levels": [None, 0.5],
        "mirror": [0.25, None],
        "gates/lift": [1.0, 0.3],
    }
    assert series(row, ["lift", "blocks.0"]) == {
        "train/loss": 0.5,
        "levels/blocks.0": 0.5,
        "mirror/lift": 0.25,
        "gates/lift/0": 1.0,
        "gates/lift/1": 0.3,
    }
    assert series({"levels": [0.1, 0.2]}, ["one"]) == {"levels/0": 0.1, "levels/1": 0.2}
    assert series({"epoch": 1, "levels": []}) == {}


def test_a_sheet_joins_what_is_known_of_a_layer():
    assert layer_sheet(SUMMARY).rows == [
        ["lift", None, 0.25, "1.00 0.33", 0.0],
        ["output", None, None, None, 0.125],
        ["blocks.0", 0.5, None, None, None],
    ]
    assert layer_sheet({"test/accuracy": 1.0, "layers": [], "levels": []}).rows == []


def test_a_sheet_tells_what_a_class_is_taken_for():
    assert class_sheet(CONFUSION).rows == [["6", 4, 0.5, "9"], ["9", 2, 1.0, None], ["a|b", 0, None, None]]


def test_cards_hold_facts_and_leave_out_what_is_not_known():
    card = model_card("digits CKResNet", CONFIG, SUMMARY)
    assert card.title == "Model: digits CKResNet"
    assert card.facts["group"] == "E2, no_samples 8"
    assert card.facts["learns subsets"] == "yes"
    assert card.facts["parameters"] == "12,345"
    assert card.facts["method"] == "classification"
    assert card.facts["test accuracy"] == "0.75"
    assert not {"best epoch", "device"} & set(card.facts) and "test class_accuracy 6" not in card.facts
    data = data_card(CONFIG, SUMMARY)
    assert data.facts["note"] == "8x8 pixels" and data.facts["dataset.copies"] == "2"
    assert not {"dataset.law", "test"} & set(data.facts)
    assert model_card("x", {}, {}).facts == {}


class Reader(html.parser.HTMLParser):
    """Collects tags, attributes and text."""

    def __init__(self):
        super().__init__()
        self.tags, self.texts, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for key, value in attrs if key in ("src", "href")]

    def handle_data(self, data):
        self.texts.append(data)


def test_a_card_is_a_page_that_runs_and_loads_nothing():
    reader = Reader()
    reader.feed(as_html(model_card("a & b", CONFIG, SUMMARY)))
    assert "script" not in reader.tags and reader.links == []
    assert "<script>alert(1)</script>" in reader.texts and "Model: a & b" in reader.texts
    assert reader.tags.count("tr") == len(model_card("a & b", CONFIG, SUMMARY).facts)


def test_markdown_keeps_its_columns():
    assert as_markdown(class_sheet(CONFUSION)).splitlines() == [
        "| class | images | accuracy | taken for |",
        "| --- | --- | --- | --- |",
        "| 6 | 4 | 0.5 | 9 |",
        "| 9 | 2 | 1 |  |",
        r"| a\|b | 0 |  |  |",
    ]
    text = as_markdown(Card("T", {"a": "1\n2"}, ("Read this.",)))
    assert text.splitlines() == ["# T", "", "| fact | value |", "| --- | --- |", "| a | 1 2 |", "", "Read this."]


def test_seeds_share_a_group_and_overlays_give_the_name():
    typed = ["+experiment=sie/digits", "train.lr=0.01", "seed=3", "wandb.mode=offline", "hydra.run.dir=x", "device=cpu"]
    labels = label_run("digits CKResNet", CONFIG, typed)
    assert labels.name == "sie/digits train.lr=0.01 seed 3"
    assert labels.group == "sie/digits train.lr=0.01"
    assert labels.tags == ("sie/digits", "sie", "digits", "CKResNet", "E2", "train.lr=0.01")
    other = label_run("digits CKResNet", CONFIG | {"seed": 4}, [*typed[:2], "seed=4"])
    assert other.group == labels.group and other.name != labels.name


def test_without_an_overlay_the_title_says_what_groups_say():
    labels = label_run("digits CKResNet", CONFIG, ["net=CKResNet", "dataset=digits", "kernel.omega0=5"])
    assert labels.group == "digits CKResNet kernel.omega0=5"
    assert label_run("t", CONFIG, ["+experiment=a/b", "net=GCNN"]).group == "a/b net=GCNN"


@pytest.mark.parametrize("key", ["net.block_width_factors", "dataset.law"])
def test_names_fit_and_long_ones_stay_apart(key):
    many = [f"kernel.key{i}={i}" for i in range(40)]
    first, second = (label_run("t", CONFIG, [*many, f"{key}={value}" + "x" * 80]) for value in (1, 2))
    assert first.group != second.group
    for labels in (first, second):
        assert len(labels.name) <= 128 and len(labels.group) <= 128
        assert all(1 <= len(tag) <= 64 for tag in labels.tags) and len(set(labels.tags)) == len(labels.tags)
        assert labels.name.endswith(" seed 3")
