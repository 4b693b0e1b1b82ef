"""The page parsed by Python's own parser, and opened in a browser where there is one."""

import base64
import html.parser
import re
import shutil
import subprocess

import numpy as np
import pytest
from matplotlib.figure import Figure

from partial_equiv import drawing
from partial_equiv.audit.html import Code, Picture, Section, Table, page
from partial_equiv.errors import UserError

VOID = {"meta", "img", "br", "hr", "link", "input"}
NASTY = "<script>alert('x')</script> & \"quotes\" <b>"


class Reader(html.parser.HTMLParser):
    """Collects tags with their attributes, and text by the innermost tag; every tag must close in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append((self.open[-1] if self.open else "", data))

    def of(self, tag):
        return [data for where, data in self.text if where == tag]


def picture():
    figure = Figure(figsize=(2, 1))
    figure.add_subplot().plot([0, 1])
    return drawing.png(figure)


def example():
    rows = [["layer1.0.conv1", True, 3, "1e-07", None], [NASTY, False, 2, "0.92", "(224 + 2·3 − 7) mod 2 = 1"]]
    table = Table(["layer", "exact", "stride", "error", "why"], rows, caption="In order", marked=[1])
    return page(
        f"Audit of {NASTY}",
        [
            Section("Summary", ["ResNet-18 at 224 × 224 is not exact.", NASTY, Code("python -m x\n  --size 225")]),
            Section("Layers", [table, Picture(picture(), 'errors of "all" layers', "Cumulative and local error")]),
        ],
    )


def test_text_is_escaped_and_every_tag_closes():
    read = Reader(example())
    assert [tag for tag, _ in read.tags if tag in ("script", "b", "link", "iframe")] == []
    assert read.of("p") == ["ResNet-18 at 224 × 224 is not exact.", NASTY]
    assert read.of("title") == read.of("h1") == [f"Audit of {NASTY}"]
    assert read.of("h2") == ["Summary", "Layers"]
    assert read.of("pre") == ["python -m x\n  --size 225"]


def test_tables_are_tables():
    read = Reader(example())
    assert read.of("th") == ["layer", "exact", "stride", "error", "why"]
    assert read.of("td") == [
        "layer1.0.conv1",
        "yes",
        "3",
        "1e-07",
        NASTY,
        "no",
        "2",
        "0.92",
        "(224 + 2·3 − 7) mod 2 = 1",
    ]
    assert read.of("caption") == ["In order"]
    cells = [attributes.get("class") for tag, attributes in read.tags if tag == "td"]
    assert cells == [None, None, "number", "number", None] * 2
    plain = Reader(page("x", [Section("x", [Table(["", ""], [["size", "9"], ["none", "-"], ["group", "C4"]])])]))
    assert plain.of("th") == [] and "number" not in [a.get("class") for _, a in plain.tags]
    assert [attributes.get("class") for tag, attributes in read.tags if tag == "tr"] == [None, None, "marked"]
    with pytest.raises(UserError, match="1 cells under 2 headings"):
        page("x", [Section("x", [Table(["a", "b"], [["only one"]])])])


def test_pictures_are_inside_and_nothing_is_fetched():
    text = example()
    read = Reader(text)
    (image,) = (attributes for tag, attributes in read.tags if tag == "img")
    kind, content = image["src"].split(",", 1)
    assert kind == "data:image/png;base64" and base64.b64decode(content) == picture()
    assert image["alt"] == 'errors of "all" layers'
    assert not re.search(r"https?://|url\(|@import", text)
    (policy,) = (a["content"] for tag, a in read.tags if tag == "meta" and "http-equiv" in a)
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_it_is_made_for_a_phone_and_for_the_dark():
    text = example()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in text
    assert "prefers-color-scheme: dark" in text
    assert '<div class="wide"><table>' in text  # a wide table scrolls alone, not the page


def screenshot(browser, folder, width, *flags):
    source, target = folder / "page.html", folder / f"page-{width}{'-'.join(flags)}.png"
    source.write_text(example(), encoding="utf-8")
    quiet = ["--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet, "--hide-scrollbars", *flags]
    command += [f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", f"--screenshot={target}"]
    subprocess.run([*command, source.as_uri()], check=True, capture_output=True, timeout=100)
    return drawing.pixels(target.read_bytes())


@pytest.mark.long
def test_a_browser_shows_it_in_light_and_dark(tmp_path):
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        pytest.skip("no Chromium on PATH: apt-get install chromium")
    light = screenshot(browser, tmp_path, 1000)
    assert light.shape == (900, 1000, 3)
    assert tuple(light[0, 0]) == (255, 255, 255)
    assert 0.005 < (np.abs(light.astype(int) - 255).max(axis=-1) > 60).mean() < 0.5
    dark = screenshot(browser, tmp_path, 1000, "--force-dark-mode")
    assert tuple(dark[0, 0]) == (0x16, 0x18, 0x1B)
