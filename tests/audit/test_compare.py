"""The comparison of runs: files in, tables and figures out, against scipy on the same numbers."""

import json
import math
import os

import numpy as np
import pytest
import scipy.stats

from partial_equiv.audit.compare import OrbitFile, compare_orbits, main, read_orbit
from partial_equiv.audit.law import TrainingLaw
from partial_equiv.audit.orbit import evaluate_orbit
from partial_equiv.errors import UserError

ANGLES = tuple(2 * math.pi * i / 8 for i in range(8))
RNG = np.random.default_rng(1)
EXACT, PLAIN = np.full((3, 8), 0.9) + RNG.normal(0, 0.002, (3, 1)), RNG.uniform(0.2, 0.99, (5, 8))
UPRIGHT = TrainingLaw("upright")


def files(label, values, law=UPRIGHT, first=0):
    return [OrbitFile(label, first + seed, law, ANGLES, tuple(row)) for seed, row in enumerate(values)]


def write(folder, file):
    path = folder / f"{file.label}-{file.seed}-{file.law.kind if file.law else 'none'}.json"
    law = file.law.to_dict() if file.law else None
    data = {"label": file.label, "seed": file.seed, "law": law, "angles": file.angles, "accuracy": file.accuracy}
    path.write_text(json.dumps(data), encoding="utf-8")
    return str(path)


def test_tests_are_welchs_over_seeds_and_paired_over_common_seeds():
    (comparison,) = compare_orbits([*files("exact", EXACT), *files("plain", PLAIN, first=1)])
    mean, upright = comparison.pairs
    assert [(pair.first, pair.second, pair.unit) for pair in (mean, upright)] == [
        ("exact", "plain", "mean of angles"),
        ("exact", "plain", "at 0°"),
    ]
    for pair, a, b in ((mean, EXACT.mean(1), PLAIN.mean(1)), (upright, EXACT[:, 0], PLAIN[:, 0])):
        assert pair.welch.p == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue)
        assert pair.paired.p == pytest.approx(scipy.stats.ttest_rel(a[1:], b[:2]).pvalue)  # seeds 1 and 2


def test_the_table_holds_means_and_half_intervals():
    (comparison,) = compare_orbits([*files("exact", EXACT), *files("plain", PLAIN)])
    text = comparison.table()
    unseen = 100 * PLAIN[:, 1:].mean(axis=1)
    half = scipy.stats.t.ppf(0.975, 4) * scipy.stats.sem(unseen)
    row = next(line for line in text.splitlines() if line.startswith("| plain |")).split(" | ")
    assert row[1] == "5" and row[3] == f"{unseen.mean():.2f} ± {half:.2f}"
    assert "Training angles: upright." in text and "exact - plain" in text


def test_one_seed_has_no_interval_and_no_test():
    (comparison,) = compare_orbits([*files("exact", EXACT[:1]), *files("plain", PLAIN)])
    assert comparison.pairs[0].welch is None and comparison.pairs[0].paired is None
    assert "±" not in next(line for line in comparison.table().splitlines() if line.startswith("| exact |"))
    assert "one seed" in comparison.table()
    assert comparison.figure().axes
    (alone,) = compare_orbits(files("exact", EXACT))
    assert alone.pairs == [] and "Differences" not in alone.table() and alone.figure().axes


def test_the_command_draws_one_figure_per_law(tmp_path, capsys):
    biased = TrainingLaw("normal", math.pi / 4, math.radians(20))
    everything = [
        *files("exact", EXACT),
        *files("plain", PLAIN),
        *files("plain", PLAIN, biased),
        *files("x", EXACT, None),
    ]
    paths = [write(tmp_path, file) for file in everything]
    out = tmp_path / "a" / "b"
    assert main([*paths, "--out", str(out), "--title", "MNIST"]) == 0
    assert sorted(os.listdir(out)) == ["orbit_any.png", "orbit_normal_45_pm_20.png", "orbit_upright.png"]
    assert all((out / name).read_bytes().startswith(b"\x89PNG") for name in os.listdir(out))
    printed = capsys.readouterr()
    assert printed.out == "".join(comparison.table() + "\n" for comparison in compare_orbits(everything))
    assert printed.err.count("wrote ") == 3


def test_a_report_with_the_writers_keys_is_an_orbit_file(tmp_path):
    import torch

    images, labels = torch.rand(6, 1, 5, 5), torch.tensor([0, 1] * 3)
    report = evaluate_orbit(lambda x: torch.stack([x[:, 0, 0, 0], x[:, 0, 0, 1]], dim=1), [(images, labels)], "C8")
    path = tmp_path / "orbit.json"
    path.write_text(json.dumps({"label": "corner", "seed": 3, "law": UPRIGHT.to_dict(), **report.to_dict()}))
    assert read_orbit(path) == OrbitFile("corner", 3, UPRIGHT, tuple(report.angles), tuple(report.accuracy))
    mirrored = evaluate_orbit(lambda x: x[:, 0, 0, :2], [(images, labels)], "D1").to_dict()
    path.write_text(json.dumps({"label": "corner", "seed": 3, **mirrored}))
    with pytest.raises(UserError, match="without mirrors"):
        read_orbit(path)


GOOD = {"label": "a", "seed": 0, "law": None, "angles": [0.0, 1.0], "accuracy": [0.5, 0.5]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": 3}, "lacks a label"),
        ({"seed": None}, "lacks a label in words or a whole number"),
        ({"angles": [0.0]}, "lacks angles with one accuracy"),
        ({"angles": "abc"}, "lacks angles"),
        ({"accuracy": [50.0, 60.0]}, r"accuracy in \[0, 1\]"),
        ({"accuracy": [0.5, math.nan]}, "lacks angles"),
        ({"angles": [0.5, 1.0]}, "no turn by 0"),
        ({"law": {"kind": "odd"}}, "no law of angles"),
    ],
)
def test_files_of_another_layout_are_named(tmp_path, capsys, change, message):
    path = tmp_path / "orbit.json"
    path.write_text(json.dumps({**GOOD, **change}))
    with pytest.raises(UserError, match=message):
        read_orbit(path)
    assert main([str(path), "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_files_that_do_not_fit_together_are_named(tmp_path, capsys):
    with pytest.raises(UserError, match="'exact' comes twice with seed 0"):
        compare_orbits([*files("exact", EXACT), *files("exact", EXACT[:1])])
    other = OrbitFile("b", 0, UPRIGHT, (0.0, 1.0), (0.5, 0.5))
    with pytest.raises(UserError, match="different turns"):
        compare_orbits([*files("exact", EXACT), other])
    with pytest.raises(UserError, match="nothing to compare"):
        compare_orbits([])
    for content, message in (("{", "no JSON"), ("[]", "lacks a label")):
        (tmp_path / "x.json").write_text(content)
        assert main([str(tmp_path / "x.json")]) == 2 and message in capsys.readouterr().err
    assert main([str(tmp_path / "missing.json")]) == 2
    assert "No such file" in capsys.readouterr().err
    (tmp_path / "taken").write_text("")
    assert main([write(tmp_path, other), "--out", str(tmp_path / "taken")]) == 2
    assert "choose another --out" in capsys.readouterr().err
