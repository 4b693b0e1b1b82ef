"""Tables: judged, written as Markdown, and read back from JSON."""

import pytest

from benchmarks.results import Goal, Judged, Table, from_json, goals_table, to_json
from benchmarks.spread import Spread

MOST = Goal("ours over bare", 1.1)
LEAST = Goal("times faster", 5, "at least")
QUIET = Goal("seconds", 90, named=False)
TABLE = Table(
    "Two layers",
    ("layer", "seconds", "ratio", "more"),
    (
        ("small | thin", 0.52, Judged(Spread(1.05, 1.0, 1.2), MOST), None),
        ("large", 4, Judged(1.2, MOST), Judged(Spread(6.0, 5.0, 7.0), LEAST)),
        ("quiet", 1234567, Judged(12.0, QUIET), Spread(2.0, 1.0, 3.0)),
    ),
    ("A note.",),
    "bars",
)


@pytest.mark.parametrize(
    ("goal", "figure", "met"),
    [
        (MOST, 1.1, True),
        (MOST, 1.11, False),
        (LEAST, 5, True),
        (LEAST, 4.9, False),
        (MOST, Spread(1.0, 0.9, 2.0), True),
    ],
)
def test_a_goal_judges_the_median(goal, figure, met):
    assert Judged(figure, goal).met is met


def test_markdown_has_a_line_for_each_row_with_goal_and_verdict():
    lines = TABLE.markdown().splitlines()
    assert lines[0] == "### Two layers"
    assert lines[2:5] == [
        "| layer | seconds | ratio | more |",
        "|---|---|---|---|",
        "| small \\| thin | 0.520 | 1.050 (1.000 to 1.200), at most 1.1: met | - |",
    ]
    assert lines[5].startswith("| large | 4 | 1.200, at most 1.1: **not met** | 6.00 (5.00 to 7.00), at least 5: met |")
    assert "1,234,567" in lines[6] and "A note." in lines


def test_tables_come_back_from_json():
    assert from_json(to_json([TABLE, TABLE])) == [TABLE, TABLE]


def test_all_named_goals_are_listed():
    rows = goals_table([(TABLE, "abc")]).rows
    assert [(row[0], row[1], *row[-2:]) for row in rows] == [
        ("ours over bare", "small | thin", "met", "abc"),
        ("ours over bare", "large", "**not met**", "abc"),
        ("times faster", "large", "met", "abc"),
    ]
