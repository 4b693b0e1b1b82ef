"""The table of finished runs."""

import json
import statistics
from pathlib import Path

import yaml

from partial_equiv.runs.table import main


def write_run(path, seed, accuracy, group="SE2", levels=(1.0, 0.5)):
    path.mkdir()
    config = {"seed": seed, "dataset": {"type": "digits"}, "base_group": {"name": group}, "comment": str(path)}
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    summary = {
        "test/accuracy": accuracy,
        "levels": list(levels),
        "mirror": [None, None],
        "no_params": 1234,
        "seconds": 90.0,
        "commit": "0123456789",
    }
    (path / "summary.json").write_text(json.dumps(summary))
    return str(path)


def test_seeds_of_one_configuration_share_a_row(tmp_path, capsys):
    accuracies = [0.90, 0.94, 0.95]
    runs = [write_run(tmp_path / f"a{seed}", seed, value) for seed, value in enumerate(accuracies)]
    assert main([*runs, write_run(tmp_path / "b", 0, 0.5, group="T2", levels=())]) == 0
    _, _, first, second = capsys.readouterr().out.splitlines()
    mean, spread = statistics.mean(accuracies), statistics.stdev(accuracies)
    assert f"| 0, 1, 2 | {100 * mean:.2f} ± {100 * spread:.2f} | 1.00 0.50; 1.00 0.50; 1.00 0.50 | - | 1,234 |" in first
    assert "| 0 | 50.00 | - | - |" in second


def test_encoders_have_columns_of_their_own(tmp_path, capsys):
    runs = []
    for seed, value in enumerate((0.5, 0.7)):
        run = Path(write_run(tmp_path / f"a{seed}", seed, 0.0))
        summary = json.loads((run / "summary.json").read_text())
        del summary["test/accuracy"]
        summary |= {"test/retrieval/test/mrr": value, "test/classification/inv/linear/top1": value}
        (run / "summary.json").write_text(json.dumps(summary))
        runs.append(str(run))
    assert main(runs) == 0
    head, _, row = capsys.readouterr().out.splitlines()
    cells = dict(zip(head.split(" | "), row.split(" | "), strict=True))
    assert cells["MRR"] == "0.60 ± 0.14" and cells["PRE"] == "-"
    assert cells["top-1 % all / inv / equi"] == "- / 60.00 ± 14.14 / -"
    assert main([*runs, write_run(tmp_path / "b", 0, 0.9)]) == 2
    assert "classifiers and encoders" in capsys.readouterr().err


def test_a_folder_without_a_run_is_one_line(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "config.yaml" in error
