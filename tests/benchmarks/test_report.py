"""What a run writes: JSON, Markdown, PNG, and the page of the project."""

import json

import pytest

from benchmarks.plots import draw
from benchmarks.report import replaced, update_page, write
from benchmarks.results import Goal, Judged, Table, from_json
from benchmarks.spread import Spread
from partial_equiv.drawing import pixels

FACTS = {"device": "a device", "threads": 2, "torch": "2", "commit": "abc", "date": "2026-11-26"}
GOAL = Goal("ours over bare", 1.1)
RATIOS = Table(
    "Ratios of layers",
    ("layer", "seconds", "ours / bare"),
    (("one", 0.1, Judged(Spread(1.2, 1.1, 1.3), GOAL)), ("two", 0.2, Spread(0.9, 0.8, 1.0)), ("three", None, None)),
    plot="bars",
)
GROWTH = Table(
    "Growth",
    ("what grows", "factorization", "value", "seconds", "memory, MiB"),
    tuple(
        (axis, kind, n, Spread(n**2 / 100, n**2 / 110, n**2 / 90), memory)
        for axis in ("N", "k")
        for kind, memory in (("full", 100.0), ("twin", None))
        for n in (8, 16, 32)
    ),
    plot="growth",
)
PLAIN = Table("No figure", ("", "number"), (("a", 1),))


@pytest.mark.parametrize("table", [RATIOS, GROWTH], ids=["bars", "growth"])
def test_figures_are_drawn(table):
    figure = draw(table)
    assert figure is not None and len(figure.axes) == (1 if table is RATIOS else 4)


def test_what_has_nothing_to_draw_is_not_drawn():
    assert draw(PLAIN) is None
    assert draw(Table("Missing", ("", "ratio"), (("peer", None),), plot="bars")) is None


def test_results_are_written_and_read_back(tmp_path):
    write(tmp_path / "new", {"conv": [RATIOS], "growth": [GROWTH, PLAIN]}, FACTS, "python -m benchmarks")
    document = json.loads((tmp_path / "new" / "results.json").read_text())
    assert document["machine"] == FACTS
    assert from_json(json.dumps(document["tables"]["growth"])) == [GROWTH, PLAIN]
    text = (tmp_path / "new" / "tables.md").read_text()
    assert text.count("\n### ") == 4 and "a device, 2 threads, torch 2, commit abc, 2026-11-26" in text
    for name in ("ratios-of-layers", "growth"):
        assert pixels((tmp_path / "new" / f"{name}.png").read_bytes()).std() > 1
        assert f"]({name}.png)" in text
    assert len(list((tmp_path / "new").iterdir())) == 4


def test_the_page_keeps_what_was_not_measured(tmp_path):
    page = tmp_path / "BENCHMARKS.md"
    page.write_text(
        "# Benchmarks\n\nBy hand.\n\n<!-- conv -->\nold\n<!-- /conv -->\n\n<!-- audit -->\nkept\n<!-- /audit -->\n"
    )
    for _ in range(2):  # a second time changes nothing
        update_page(page, {"conv": [RATIOS], "growth": [GROWTH]}, FACTS, "python -m benchmarks")
    text = page.read_text()
    assert "old" not in text and "By hand." in text and "kept" in text
    assert [text.count(f"<!-- {name} -->") for name in ("conv", "audit", "growth", "goals")] == [1, 1, 1, 1]
    assert text.index("### Ratios of layers") < text.index("<!-- audit -->") < text.index("### Growth")
    names = {file.name for file in (tmp_path / "docs" / "benchmarks").iterdir()}
    assert names == {"growth-growth.png", "growth.json", "conv-ratios-of-layers.png", "conv.json"}
    update_page(page, {"growth": [GROWTH]}, FACTS | {"commit": "def"}, "python -m benchmarks growth")
    assert "| ours over bare | one | 1.200 (1.100 to 1.300) | at most 1.1 | **not met** | abc |" in page.read_text()


def test_a_block_is_replaced_in_its_place():
    text = "a\n<!-- x -->\n1\n<!-- /x -->\nb\n"
    assert replaced(text, "x", "2") == "a\n<!-- x -->\n2\n<!-- /x -->\nb\n"
    assert replaced("a\n", "x", "2") == "a\n\n<!-- x -->\n2\n<!-- /x -->\n"
