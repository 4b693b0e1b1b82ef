"""The page of a run, read by Python's own parser: what it says, that all is inside, and that no text of a run runs."""

import base64
import hashlib
import itertools
import json
import re
import shlex
import shutil
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import yaml

from partial_equiv.errors import UserError
from partial_equiv.runs.report import write_report
from tests.audit.test_html import Reader
from tests.runs.report_runs import (
    LAYERS,
    NASTY,
    audit_of,
    config_of,
    confusion_of,
    row_of,
    write_full_run,
    write_run,
)

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = resources.files("partial_equiv.runs.report") / "report.js"


def page_of(run):
    """Return the page of a run, its text, and what its script draws."""
    text = write_report(run).read_text(encoding="utf-8")
    read = Reader(text)
    return read, text, json.loads(read.of("script")[0])


def cells(read, row):
    """Return the cells of the row of a table that begins with a text."""
    found = [data for tag, data in read.text if tag in ("th", "td")]
    return found[found.index(row) :]


def test_a_finished_run_is_told_in_full(tmp_path):
    read, _, payload = page_of(write_full_run(tmp_path / "run"))
    assert read.of("h2") == [
        "Summary",
        "Repeat it",
        "Curves",
        "Learned subsets",
        "Equivariance audit",
        "Confusion",
        "Symmetry",
        "Parts of the representation",
        "Time and memory",
        "Figures",
        "Configuration",
    ]
    tiles = dict(zip(read.of("dt"), read.of("dd"), strict=True))
    assert tiles == {
        "test accuracy": "93.75 %",
        "test loss": "0.25",
        "validation accuracy": "95.00 %",
        "best epoch": "4 of 5",
        "parameters": "12,345",
        "training time": "7.5 s",
    }
    assert cells(read, "of which")[1] == "900 training, 200 validation, 160 test"
    assert cells(read, "training images a second")[1] == "600, validation counted in"
    assert "Warnings" not in read.of("h3"), "nothing speaks against this run"
    assert read.of("title") == read.of("h1") == ["digits CKResNet E2, seed 3"]
    assert len(payload["layers"]) == len(LAYERS)
    # Every link of the head leads to a section.
    targets = {attributes["id"] for _, attributes in read.tags if "id" in attributes}
    links = [a["href"] for tag, a in read.tags if tag == "a" and a["href"].startswith("#")]
    assert len(links) == len(read.of("h2")) and {link[1:] for link in links} <= targets


def test_curves_hold_the_numbers_of_the_log(tmp_path):
    run = write_full_run(tmp_path / "run", epochs=7)
    _, _, payload = page_of(run)
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    drawn = {
        (panel["text"].partition(" against")[0], line["name"]): (payload["axes"][line["axis"]], line["values"])
        for panel in payload["panels"]
        for line in panel["lines"]
    }
    expected = {
        ("loss", "training"): ("train/loss", 1),
        ("loss", "validation"): ("validation/loss", 1),
        ("accuracy (%)", "training"): ("train/accuracy", 100),
        ("accuracy (%)", "validation"): ("validation/accuracy", 100),
        ("lr", "lr"): ("lr", 1),
        ("audit", "output"): ("audit/output", 1),
        ("seconds per epoch", "training and validation"): ("seconds", 1),
    }
    for name, (key, factor) in expected.items():
        axis, values = drawn.pop(name)
        assert axis == [1, 2, 3, 4, 5, 6, 7]
        assert values == pytest.approx([factor * row[key] for row in rows], rel=1e-4, abs=1e-12)
    levels = drawn.pop(("level θ (1 = whole circle)", LAYERS[0]))[1]
    assert levels == pytest.approx([row["levels"][0] for row in rows], rel=1e-4)
    assert payload["groups"]["epoch"]["steps"] == [1, 2, 3, 4, 5, 6, 7]
    assert payload["groups"]["epoch"]["start"] == 5, "the cursor begins at the best epoch, the sixth"
    _, turned = drawn.pop(("accuracy on turned images (%)", "test"))
    assert turned == pytest.approx([10, 21.716, 50, 78.284, 90, 78.284, 50, 21.716], abs=0.01)
    first, gated, mirrored = payload["layers"]
    assert first["level"] == pytest.approx([row["levels"][0] for row in rows], abs=1e-4)
    assert gated["gates"][-1] == [1.0, 0.9, 0.0, 0.0] and set(gated["level"]) == {None}
    assert mirrored["mirror"] == pytest.approx([row["mirror"][2] for row in rows], abs=1e-4)


def test_the_commands_say_what_was_typed(tmp_path):
    typed = ["train.epochs=5", 'comment=it\'s a "test" $HOME', "+experiment=partial_gcnn/rotmnist"]
    run = write_full_run(tmp_path / "a run", typed=typed)
    read, _, _ = page_of(run)
    first, second, *_ = read.of("code")
    checkout, command = first.splitlines()
    assert checkout == "git checkout 0123456789abcdef0123456789abcdef01234567"
    assert shlex.split(command) == ["python", "main.py", *typed]
    words = shlex.split(second.splitlines()[1])
    assert words[:4] == ["python", "main.py", "--config-path", str(run)]


def test_a_command_from_the_saved_configuration_composes_it_again(tmp_path):
    config = yaml.safe_load((ROOT / "tests" / "default_config.yaml").read_text()) | {"seed": 7, "comment": "a b"}
    run = write_run(tmp_path / "a run", config=config)
    read, _, _ = page_of(run)
    (text, *_) = read.of("code")
    words = shlex.split(text.splitlines()[-1])
    done = subprocess.run(
        [sys.executable, *words[1:], "--cfg", "job"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=100
    )
    assert yaml.safe_load(done.stdout) == config


def test_what_a_run_says_is_text_and_nothing_else(tmp_path):
    config = config_of(comment=NASTY, dataset={"type": NASTY})
    summary = {"title": NASTY, "layers": [NASTY, *LAYERS[1:]], f"test/{NASTY}": 0.5, "note": NASTY, "warnings": [NASTY]}
    run = write_full_run(
        tmp_path / NASTY.replace("/", "_"),
        config=config,
        summary=summary,
        typed=[f"comment={NASTY}"],
        confusion=confusion_of((NASTY, "1", "2")),
        audit=audit_of() | {"first_culprit": NASTY, "group": NASTY},
    )
    with (run / "metrics.jsonl").open("a") as file:
        file.write(json.dumps(row_of(6, 6) | {NASTY: 1.0, f"train/{NASTY}": 1.0}) + "\n")
    (run / "figures" / f"{NASTY.replace('/', '_')}.png").write_bytes((run / "figures" / "audit.png").read_bytes())
    read, text, payload = page_of(run)
    assert [tag for tag, _ in read.tags].count("script") == 2
    assert not {name for _, attributes in read.tags for name in attributes if name.startswith("on")}
    assert all(a["src"].startswith("data:image/png;base64,") for tag, a in read.tags if tag == "img")
    assert cells(read, "comment")[1] == NASTY
    assert payload["layers"][0]["name"] == NASTY
    assert NASTY not in text


def test_the_browser_is_told_to_run_our_script_alone(tmp_path):
    read, text, _ = page_of(write_full_run(tmp_path / "run"))
    (policy,) = (a["content"] for tag, a in read.tags if tag == "meta" and "http-equiv" in a)
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    script = base64.b64encode(hashlib.sha256(read.of("script")[1].encode()).digest()).decode()
    style = base64.b64encode(hashlib.sha256("".join(read.of("style")).encode()).digest()).decode()
    assert rules == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": f"'sha256-{style}'",
        "script-src": f"'sha256-{script}'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    assert not [a for _, a in read.tags if "style" in a], "the policy would drop it"
    addresses = set(re.findall(r"https?://[^\"']*", text))
    assert addresses == {"http://www.w3.org/2000/svg"}, "a name, which nothing is asked of"
    assert not re.search(r"url\(|@import", text)


def test_a_reader_without_eyes_or_mouse_is_thought_of(tmp_path):
    read, text, payload = page_of(write_full_run(tmp_path / "run"))
    assert '<html lang="en">' in text
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert all(a["alt"] for tag, a in read.tags if tag == "img")
    assert text.count("<label") == sum(tag == "input" for tag, _ in read.tags) == 3
    regions = [a for _, a in read.tags if a.get("class") == "wide"]
    assert regions and all(a["tabindex"] == "0" and a["aria-label"] for a in regions)
    assert payload["panels"][0]["text"].startswith("loss against epoch. training: ")
    for query in ("prefers-color-scheme: dark", "prefers-reduced-motion: reduce", "@media print"):
        assert query in text


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("summary.json", None, "summary.json is not there: the run has not finished."),
        ("summary.json", b"{", "summary.json is damaged"),
        ("summary.json", b"[1]", "summary.json is damaged: it is not a set of keys."),
        ("config.yaml", None, "config.yaml is not there: what was trained is not known."),
        ("config.yaml", b"a: [", "config.yaml is damaged"),
        ("config.yaml", b"\xff\xfe", "config.yaml is damaged"),
        ("metrics.jsonl", None, "The log holds no epoch"),
        ("metrics.jsonl", b"", "The log holds no epoch"),
        ("metrics.jsonl", b'{"epoch": 1}\n{"epo', "metrics.jsonl: 1 of 2 lines are damaged"),
        ("metrics.jsonl", b'{"epoch": 1, "train/loss": NaN}\n', "train/loss was not finite in epoch 1."),
        ("metrics.jsonl", b'{"epoch": 1, "train/loss": null}\n', "train/loss was not finite in epoch 1."),
        ("metrics.jsonl", b'{"epoch": 1}\n{"epoch": 4}\n', "The log has no row of epochs 2 to 3: "),
        ("metrics.jsonl", b'{"epoch": 1, "levels": 3, "mirror": {}, "lr": "x", "gates/a": 1}\n', "Learned subsets"),
        ("metrics.jsonl", b'{"epoch": 2, "train/skipped": 3}\n', "3 steps were left out (train/skipped), in epoch 2."),
        ("audit.json", b"nothing", "audit.json is damaged"),
        ("audit.json", b'{"rows": [3, {"name": null}], "culprits": 5, "plan": []}', "Errors, the largest"),
        ("confusion.json", b'{"counts": [[1, 2]], "class_names": ["a"]}', "confusion.json is damaged"),
        ("confusion.json", b'{"counts": [["x"]], "class_names": ["a"]}', "confusion.json is damaged"),
        ("confusion.json", b'{"counts": [[1]], "class_names": ["a"], "worst": [3, {}]}', "No test image was mistaken."),
        ("orbit.json", b'{"angles": [0.0, "x"], "accuracy": [1, null]}', "On turned images"),
        ("orbit.json", b'{"angles": null, "accuracy": null}', "Curves"),
        ("figures/audit.png", b"\x89PNG nonsense", "figures/audit.png is damaged"),
        ("overrides.json", b"[1]", "overrides.json is damaged: it is not a set of keys."),
        ("overrides.json", b'{"typed": 3}', "From its saved configuration"),
        ("config.yaml", b"a: &a [1]\nb: *a", "holds aliases"),
        ("summary.json", b'{"title": "\\ud800 half", "note": "\\u0000"}', "? half"),
    ],
)
def test_what_is_missing_or_damaged_is_said(tmp_path, name, content, said):
    run = write_full_run(tmp_path / "run")
    if content is None:
        (run / name).unlink()
    else:
        (run / name).write_bytes(content)
    read, _, _ = page_of(run)
    assert said in " ".join(data for tag, data in read.text if tag not in ("script", "style"))


def test_a_run_that_has_not_finished_shows_how_far_it_came(tmp_path):
    read, _, payload = page_of(write_run(tmp_path / "run", summary=None))
    assert "summary.json is not there: the run has not finished." in read.of("li")
    tiles = dict(zip(read.of("dt"), read.of("dd"), strict=True))
    assert tiles == {"epochs": "5", "training time": "7.5 s"}
    # Names of layers stand in the summary; without it, the grid of turns belongs to the one layer without a level.
    assert [layer["name"] for layer in payload["layers"]] == ["layer 1", "layer 2", "layer 3"]
    assert [bool(layer["gates"]) for layer in payload["layers"]] == [False, True, False]


def test_a_run_without_a_log_shows_the_subsets_of_its_summary(tmp_path):
    run = write_run(tmp_path / "run", epochs=5)
    (run / "metrics.jsonl").unlink()
    read, _, payload = page_of(run)
    assert [layer["level"] for layer in payload["layers"]] == [[0.25], [None], [0.75]]
    assert payload["layers"][1]["gates"] == [[1.0, 0.9, 0.0, 0.0]]
    assert cells(read, LAYERS[0])[:4] == [LAYERS[0], "0.250", "±45.0°", "-"]


def test_an_encoder_is_told_as_well(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(yaml.safe_dump({"train": {"method": "sie"}, "dataset": {"type": "shapes3d"}}))
    rows = [{"epoch": e, "train/loss": -1.0 * e, "train/terms/variance": 0.1 * e, "omega0": [9.0, e]} for e in (1, 2)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    numbers = {f"test/rotation/{part}/deep/quaternion/r2": 0.5 for part in range(20)}
    (run / "summary.json").write_text(json.dumps(numbers | {"test/loss": -2.0}))
    read, _, payload = page_of(run)
    assert read.of("title") == ["sie shapes3d"]
    assert "All 21 test numbers" in read.of("summary")
    panels = {panel["text"].partition(" against")[0]: panel for panel in payload["panels"]}
    assert [line["name"] for line in panels["omega0"]["lines"]] == ["omega0 1", "omega0 2"]
    assert [line["name"] for line in panels["terms"]["lines"]] == ["variance, training"]
    assert not panels["loss"]["log"], "negative losses have no logarithm"


def test_very_long_runs_are_thinned_openly(tmp_path):
    run = write_run(tmp_path / "run", epochs=10_000, summary={"best_epoch": 4321})
    read, text, payload = page_of(run)
    (axis,) = {tuple(axis) for axis in payload["axes"]}
    assert len(axis) <= 1001 and axis[0] == 1 and axis[-1] == 10_000 and 4321 in axis
    assert max(later - former for former, later in itertools.pairwise(axis)) <= 11
    assert f"{len(axis):,} of 10,000 epochs are drawn, evenly spread." in read.of("p")
    assert payload["groups"]["epoch"]["steps"][payload["groups"]["epoch"]["start"]] == 4321
    assert len(text) < 1_000_000
    (first,) = (line for line in payload["panels"][0]["lines"] if line["name"] == "training")
    assert first["values"][axis.index(4321)] == pytest.approx(row_of(4321, 10_000)["train/loss"], rel=1e-4)


def test_no_run_is_a_mistake_in_one_sentence(tmp_path):
    with pytest.raises(UserError, match="is not a run folder, it holds none of config.yaml"):
        write_report(tmp_path)


def test_the_script_is_one_that_can_be_read():
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js on PATH")
    checked = subprocess.run([node, "--check", str(SCRIPT)], capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stderr
    text = SCRIPT.read_text(encoding="utf-8")
    assert "</script" not in text and "<!--" not in text, "either would end the script within a page"
