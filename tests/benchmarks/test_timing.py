"""Rounds in turns, ratios of each round."""

import pytest

from benchmarks import timing
from benchmarks.spread import Spread
from benchmarks.timing import Rounds, interleaved


@pytest.fixture
def clock(monkeypatch):
    """Return a clock that only candidates move."""
    now = [0.0]
    monkeypatch.setattr(timing.time, "perf_counter", lambda: now[0])
    return now


def test_ratios_are_taken_round_by_round():
    rounds = Rounds({"ours": [2.0, 30.0, 8.0], "bare": [1.0, 10.0, 2.0]})  # 2, 3, 4: of the medians it would be 4
    assert rounds.ratio("ours", "bare") == Spread(3.0, 2.5, 3.5)
    assert rounds.seconds("bare") == Spread(2.0, 1.5, 6.0)


def test_candidates_take_turns_in_both_orders_after_a_warm_up(clock):
    seen = []

    def run(name, seconds):
        def candidate():
            seen.append(name)
            clock[0] += seconds

        return candidate

    rounds = interleaved({"a": run("a", 2.0), "b": run("b", 3.0)}, no_rounds=3)
    assert seen == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert rounds.of == {"a": [2.0] * 3, "b": [3.0] * 3}


def test_the_first_run_does_not_count(clock):
    left = [10.0, *[1.0] * 9]

    def run():
        clock[0] += left.pop(0)

    assert interleaved({"slow start": run}, no_rounds=4).of == {"slow start": [1.0] * 4}


def test_what_is_faster_than_the_clock_runs_many_times_a_round(clock):
    count = [0]

    def run():
        count[0] += 1
        clock[0] += 0.001

    rounds = interleaved({"quick": run}, no_rounds=2)
    assert count[0] == 2 + 2 * 20
    assert rounds.of["quick"] == pytest.approx([0.001, 0.001])


def test_each_measurement_is_a_line_on_stderr(capsys):
    interleaved({"nothing": lambda: None}, no_rounds=1, title="a title")
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.startswith("a title: nothing ") and captured.err.endswith(" s\n")
