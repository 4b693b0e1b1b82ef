"""Parts of reports by themselves: comparisons, the command, pictures, colours, numbers as text."""

import io
import json
import math
import re
from importlib import resources

import numpy as np
import pytest
from PIL import Image

from partial_equiv.runs.report import run_folders, write_comparison, write_report, write_typed
from partial_equiv.runs.report.__main__ import main
from partial_equiv.runs.report.html import Markup, escaped, table
from partial_equiv.runs.report.pictures import pictures_of
from partial_equiv.runs.report.words import bytes_text, metric_text, seconds_text
from tests.audit.test_html import Reader
from tests.runs.report_runs import NASTY, config_of, png_of, write_full_run, write_run


def compared(runs, out):
    """Return the page that compares runs, and what its script draws."""
    read = Reader(write_comparison(runs, out).read_text(encoding="utf-8"))
    return read, json.loads(read.of("script")[0])


def rows_under(read, caption):
    """Return the rows of the table with a caption, as texts."""
    rows, inside = [], False
    tags = iter(read.text)
    for tag, data in tags:
        if tag == "caption":
            inside = data.startswith(caption)
        elif inside and tag in ("th", "td", "a"):
            rows.append(data)
    return rows


def test_runs_are_compared_by_what_differs(tmp_path):
    one = write_full_run(tmp_path / "one")
    other = write_full_run(
        tmp_path / "other",
        epochs=3,
        config=config_of(seed=4, train={"epochs": 3, "lr": 0.01}, augment=True),
        summary={"test/accuracy": 0.5},
    )
    with (other / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"epoch": 3, "train/centre": 1.0}) + "\n")
    main([str(one)])
    read, payload = compared([one, other], tmp_path / "comparison.html")
    assert rows_under(read, "Keys that differ") == [
        *("key", "seed 3", "seed 4"),
        *("train.epochs", "5", "3"),
        *("seed", "3", "4"),
    ]
    assert rows_under(read, "“(none)”")[3:] == ["augment", "(none)", "True"]
    assert "Keys that only some of the runs have: 1" in read.of("summary")
    reached = rows_under(read, "What each run reached")
    head, rows = reached[: len(reached) // 3], reached[len(reached) // 3 :]
    assert head[:4] == ["run", "validation accuracy", "test loss", "test accuracy"]
    assert rows[:4] == ["seed 3", "95.00 %", "0.25", "93.75 %"] and rows[len(head) + 3] == "50.00 %"
    # Only the first run has a report of its own.
    assert [a["href"] for tag, a in read.tags if tag == "a" and "#" not in a["href"]] == ["one/report.html"]
    losses = next(panel for panel in payload["panels"] if panel["text"].startswith("loss, training"))
    assert [line["name"] for line in losses["lines"]] == ["seed 3", "seed 4"]
    looks = {line["name"]: line["tone"] for panel in payload["panels"] for line in panel["lines"]}
    assert looks == {"seed 3": 0, "seed 4": 1}
    alone = [line["tone"] for panel in payload["panels"] for line in panel["lines"] if len(panel["lines"]) == 1]
    assert alone == [1], "a run keeps its colour, also where no other run has such a curve"
    assert [len(line["values"]) for line in losses["lines"]] == [5, 3]
    assert payload["groups"]["epoch"]["steps"] == [1, 2, 3, 4, 5]
    assert len(payload["layers"]) == 6
    assert read.of("h3") == ["seed 3", "seed 4"]


def test_equal_runs_and_runs_in_pieces_are_compared_too(tmp_path):
    same = [write_run(tmp_path / name) for name in ("a", "b")]
    read, _ = compared(same, tmp_path / "x.html")
    assert "The configurations are the same in every key." in read.of("p")
    hurt = write_run(tmp_path / "c", config=config_of(comment=NASTY), summary=None)
    (hurt / "metrics.jsonl").write_text("{")
    read, payload = compared([*same, hurt], tmp_path / "y.html")
    assert any("metrics.jsonl: 1 of 1 lines are damaged" in text for text in read.of("li"))
    assert [tag for tag, _ in read.tags].count("script") == 2
    assert len(payload["panels"][0]["lines"]) == 2


def test_many_long_runs_stay_small(tmp_path):
    runs = [write_run(tmp_path / f"{k}", epochs=500, config=config_of(seed=k)) for k in range(20)]
    out = tmp_path / "comparison.html"
    read, payload = compared(runs, out)
    assert out.stat().st_size < 3_000_000
    assert all(len(axis) <= 102 for axis in payload["axes"])
    assert "Of long runs about 100 epochs are drawn, evenly spread." in read.of("p")
    assert "12 of 20 runs are drawn; the table has all." in read.of("p")
    assert len(rows_under(read, "At the epoch whose weights were tested")) == 5 * (1 + 20 * 3)


def test_the_command_writes_where_it_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    one, other = (write_run(tmp_path / "outputs" / "day" / name) for name in ("1", "2"))
    (one / "wandb" / "run").mkdir(parents=True)
    (one / "wandb" / "run" / "config.yaml").write_text("a: 1")
    assert main([str(one)]) == 0
    assert capsys.readouterr().out == f"{one / 'report.html'}\n"
    assert main(["outputs"]) == 0
    assert capsys.readouterr().out == "comparison.html\n"
    assert Reader((tmp_path / "comparison.html").read_text()).of("title") == ["Comparison of 2 runs"]
    assert run_folders("outputs") == [path.relative_to(tmp_path) for path in (one, other)]
    assert main([str(other), "--out", "page.html"]) == 0
    assert not (other / "report.html").exists() and (tmp_path / "page.html").is_file()
    assert main(["outputs", str(one), str(other), "--out", "all.html"]) == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nowhere"], "nowhere is not a folder"),
        (["empty"], "empty holds no run"),
        (["run", "--out", "nowhere/x.html"], "cannot write nowhere/x.html"),
    ],
)
def test_a_mistake_is_one_line(tmp_path, capsys, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    write_run(tmp_path / "run")
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and said in error


def noise(width, height, seed):
    """Return a PNG file that cannot be packed."""
    values = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    with io.BytesIO() as buffer:
        Image.fromarray(values).save(buffer, format="PNG")
        return buffer.getvalue()


def test_pictures_are_made_smaller_until_they_fit(tmp_path):
    (tmp_path / "figures").mkdir()
    for seed in range(3):
        (tmp_path / "figures" / f"noise{seed}.png").write_bytes(noise(1000, 300, seed))
    (tmp_path / "figures" / "small.png").write_bytes(png_of("small"))
    whole = sum(path.stat().st_size for path in (tmp_path / "figures").iterdir())
    untouched = pictures_of(tmp_path, 2 * whole)
    assert all(picture.reason == "" for picture in untouched.values())
    found = pictures_of(tmp_path, 600_000)
    assert sum(len(picture.markup()) for picture in found.values()) < 602_000
    for seed in range(3):
        picture = found[f"noise{seed}"]
        with Image.open(io.BytesIO(picture.content)) as image:
            image.load()
            assert image.size == (600, 180)
        assert "made smaller: figures/noise" in picture.reason
    left_out = pictures_of(tmp_path, 30_000)
    assert sum(len(picture.content) for picture in left_out.values()) <= 30_000 * 3 // 4
    assert "too large for this page: see figures/noise0.png" in left_out["noise0"].markup()


def luminance(colour):
    """Return the relative luminance of "#rrggbb" as the guidelines for accessible pages define it."""
    channels = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def mixed(one, share, other):
    """Return what color-mix(in srgb, one share, other) is."""
    pairs = ((int(one[k : k + 2], 16), int(other[k : k + 2], 16)) for k in (1, 3, 5))
    return "#" + "".join(f"{round(share * a + (1 - share) * b):02x}" for a, b in pairs)


STYLE = (resources.files("partial_equiv.runs.report") / "report.css").read_text(encoding="utf-8")
THEMES = [dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.DOTALL)]


@pytest.mark.parametrize("colours", THEMES, ids=["light", "dark", "print"])
def test_words_and_lines_stand_out(colours):
    assert len(THEMES) == 3 and len(colours) == 13
    for ground in ("paper", "panel", "mark"):
        assert contrast(colours["ink"], colours[ground]) >= 4.5
    for ground in ("paper", "panel"):
        assert contrast(colours["soft"], colours[ground]) >= 4.5
    assert contrast(colours["link"], colours["paper"]) >= 4.5
    for tone in range(6):
        assert contrast(colours[f"tone{tone}"], colours["paper"]) >= 3, f"tone{tone}"
    shares = [int(share) for share in re.findall(r"\.heat\d+ \{[^}]*tone0\) (\d+)%", STYLE)]
    assert len(shares) == 10 and shares == sorted(shares)
    assert contrast(colours["ink"], mixed(colours["tone0"], shares[-1] / 100, colours["paper"])) >= 4.5


CONES = {
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}
"""What is left of linear colours without one kind of cones: Machado, Oliveira and Fernandes 2009, table at 1.0."""


@pytest.mark.parametrize("colours", THEMES[:2], ids=["light", "dark"])
@pytest.mark.parametrize("cones", CONES)
def test_lines_next_to_each_other_are_told_apart_by_every_eye(colours, cones):
    def seen(name):
        channels = [int(colours[name][k : k + 2], 16) / 255 for k in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        left = np.clip(np.asarray(CONES[cones]) @ linear, 0, 1)
        return 255 * np.where(left <= 0.0031308, 12.92 * left, 1.055 * left ** (1 / 2.4) - 0.055)

    # Lines differ in dash as well; the first three, which most plots are made of, must do without.
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.linalg.norm(seen(f"tone{one}") - seen(f"tone{other}")) > 60, (one, other)


def test_numbers_are_written_for_readers():
    assert [metric_text("test/accuracy", value) for value in (0.97305, 1, None, math.nan, True)] == [
        *("97.30 %", "100.00 %", "-", "-", "-")
    ]
    assert metric_text("test/loss", 0.123456) == "0.1235" and metric_text("levels", 10**400) == "-"
    assert [seconds_text(value) for value in (0.24, 59.9, 61, 3600 * 25 + 59, None)] == [
        *("0.2 s", "59.9 s", "1 min 01 s", "25 h 00 min", "")
    ]
    assert [bytes_text(value) for value in (0, 999, 1500, 2.5e9, None)] == [
        "0 bytes",
        "999 bytes",
        "1.5 KB",
        "2.5 GB",
        "",
    ]


def test_what_was_typed_is_kept_and_grows_when_a_run_goes_on(tmp_path):
    def told():
        return json.loads((tmp_path / "overrides.json").read_text())["typed"]

    write_typed(tmp_path, ["net.no_hidden=4", "train.epochs=2"])
    write_typed(tmp_path, ["resume=outputs/x", "train.epochs=4"], resume=True)
    assert told() == ["net.no_hidden=4", "train.epochs=2", "train.epochs=4"]
    write_typed(tmp_path, ["seed=1"])
    assert told() == ["seed=1"]
    (tmp_path / "overrides.json").unlink()
    write_typed(tmp_path, ["resume=outputs/x", "train.epochs=4"], resume=True)
    assert not (tmp_path / "overrides.json").exists(), "what the run was started with is not known"
    run = write_run(tmp_path / "run")
    (run / "overrides.json").write_text(json.dumps({"typed": ["seed=3"]}))
    assert "python main.py seed=3" in Reader(write_report(run).read_text()).of("code")[0]


def test_text_is_escaped_once():
    assert escaped(Markup("<b>")) == "<b>" and escaped("<b>") == "&lt;b&gt;" and escaped(escaped("<")) == "&lt;"
    assert escaped(None) == "" and escaped(False) == "no"
    read = Reader(table(("a", "b"), [("x<", 1.5), ("y", "-")], "c", marked=[1]))
    assert read.of("td") == ["1.5", "-"] and read.of("th") == ["a", "b", "x<", "y"]
    assert [a.get("class") for tag, a in read.tags if tag == "tr"] == [None, None, "marked"]
