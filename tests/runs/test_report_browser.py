"""Reports in a real browser: they draw, answer to keys and mouse, fit a phone, and run nothing of what a run says."""

import json

import numpy as np
import pytest

from partial_equiv.runs.report import write_comparison, write_report
from tests.runs.chromium import Chromium
from tests.runs.report_runs import LAYERS, NASTY, NO_GATES, config_of, row_of, write_full_run, write_run

pytestmark = pytest.mark.long
EPOCHS = 9
POLAR = "document.querySelectorAll('figure.polar')"
SLIDERS = "document.querySelectorAll('input[data-group=epoch]')"
NO_OVERFLOW = """(() => {
  const wide = [...document.querySelectorAll("body *")].filter(node => {
    const box = node.getBoundingClientRect();
    return box.width && box.right > innerWidth + 1 && !node.closest(".wide");
  });
  return [document.documentElement.scrollWidth, wide.map(node => node.outerHTML.slice(0, 80))];
})()"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium = Chromium(tmp_path_factory.mktemp("chromium"))
    yield chromium
    chromium.close()


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Return the report of a run that holds every piece, its texts as nasty as can be."""
    config = config_of(comment=NASTY, net={"type": "CKResNet", "nasty": NASTY})
    summary = {"title": f"a run {NASTY}", "warnings": [NASTY], "note": NASTY}
    run = write_full_run(tmp_path_factory.mktemp("report") / "run", epochs=EPOCHS, config=config, summary=summary)
    return write_report(run)


@pytest.fixture
def show(browser):
    """Return a function that opens pages, which are closed at the end, and none of which may complain."""
    pages = []

    def opened(path, **settings):
        pages.append(browser.open(path, **settings))
        return pages[-1]

    yield opened
    for page in pages:
        complaints = page.complaints()
        page.close()
        assert complaints == []


def inside(page, layer, angle, radius=50):
    """Say whether a layer keeps an angle: whether a point of its plot lies in a shape of what is kept."""
    return page.run(
        f"""(() => {{
          const plot = {POLAR}[{layer}].querySelector("svg"), angle = {angle} * Math.PI / 180;
          const point = plot.createSVGPoint();
          point.x = 80 - {radius} * Math.sin(angle);
          point.y = 80 - {radius} * Math.cos(angle);
          return [...plot.querySelectorAll(".tone0.wedge")].some(shape => shape.isPointInFill(point));
        }})()"""
    )


def test_everything_is_drawn(show, report):
    page = show(report)
    payload = json.loads(page.run("document.getElementById('data').textContent"))
    curves = page.run(
        "[...document.querySelectorAll('figure.plot')].map(f => [...f.querySelectorAll('svg[role=img] path.curve')]"
        ".map(path => path.getTotalLength()))"
    )
    assert [len(lines) for lines in curves] == [len(panel["lines"]) for panel in payload["panels"]]
    assert min(length for lines in curves for length in lines) > 20
    boxes = page.run(
        "[...document.querySelectorAll('main section:not(:has(details)) figure svg[role=img]')]"
        ".map(s => [s.getBoundingClientRect().width, s.getBoundingClientRect().height])"
    )
    assert boxes and min(min(box) for box in boxes) > 60
    images = page.run("[...document.querySelectorAll('main > section > .pictures img')].map(i => i.naturalWidth)")
    assert len(images) == 3 and min(images) > 100
    assert page.run("document.querySelectorAll('figure.plot svg text').length") > 50


def test_text_of_a_run_does_not_run(show, report):
    page = show(report)
    assert page.run("window.ran === undefined")
    assert page.run("document.title") == f"a run {NASTY}, seed 3"
    assert page.run("document.scripts.length") == 2


def test_the_policy_alone_would_stop_it(show, browser, tmp_path, report):
    """Were the escaping ever forgotten, the browser would still refuse to run what a run says."""
    text = report.read_text(encoding="utf-8")
    forged = tmp_path / "forged.html"
    forged.write_text(text.replace("<main>", f"<main>{NASTY}<p onclick='window.ran = 3'>x</p>"), encoding="utf-8")
    page = browser.open(forged)
    assert page.run("document.scripts.length") == 3, "the script is there"
    assert page.run("window.ran === undefined")
    assert any("Content Security Policy" in complaint for complaint in page.complaints())
    page.close()


def test_a_line_is_where_its_numbers_are(show, report):
    page = show(report)
    points = page.run(
        "(() => { const path = document.querySelector('figure.plot svg path.curve'), n = path.getTotalLength();"
        "return [0, n].map(at => { const p = path.getPointAtLength(at); return [p.x, p.y]; }); })()"
    )
    assert points[0][0] == pytest.approx(52, abs=0.2) and points[1][0] == pytest.approx(350, abs=0.2)
    assert points[0][1] < points[1][1], "the loss falls, and down is more"
    values = page.run("[...document.querySelector('figure.plot').querySelectorAll('.value')].map(v => v.textContent)")
    best = row_of(EPOCHS - 1, EPOCHS)
    assert [float(value) for value in values] == pytest.approx([best["train/loss"], best["validation/loss"]], rel=1e-3)


def test_subsets_follow_the_slider_by_keyboard(show, report):
    page = show(report)
    page.run(f"{SLIDERS}[1].focus()")
    page.press("Home")
    states = {}
    for epoch in (1, 2, EPOCHS):
        row = row_of(epoch, EPOCHS)
        caption = page.run(f"{POLAR}[0].querySelector('p').textContent")
        assert caption == f"θ = {row['levels'][0]:.3f}, ±{180 * row['levels'][0]:.0f}°"
        assert page.run(f"[...{SLIDERS}].map(s => s.value)") == [str(epoch - 1)] * 2, "sliders go together"
        assert page.run(f"{SLIDERS}[0].getAttribute('aria-valuetext')") == f"epoch {epoch}"
        assert f"at epoch {epoch}:" in page.run(f"{POLAR}[0].querySelector('svg').getAttribute('aria-label')")
        half = 180 * row["levels"][0]
        for angle in (half - 4, 4 - half, 0):
            assert inside(page, 0, angle), (epoch, angle)
        for angle in (half + 4, -half - 4) if half < 175 else ():
            assert not inside(page, 0, angle), (epoch, angle)
        states[epoch] = page.run(f"{POLAR}[0].querySelector('svg').innerHTML")
        page.press("ArrowRight" if epoch == 1 else "End")
    assert len(set(states.values())) == 3


def test_angles_grow_counter_clockwise_and_gates_are_bars(show, report):
    page = show(report)
    page.run(f"{SLIDERS}[1].focus()")
    page.press("End")
    gates = row_of(EPOCHS, EPOCHS)[f"gates/{LAYERS[1]}"]
    assert gates == pytest.approx([1, 0.9, 0, 0])
    # The second of four turns is 90 degrees, to the left of up; its bar is 0.9 of the radius of 58.
    for turn in range(NO_GATES):
        assert inside(page, 1, 90 * turn, 45) == (gates[turn] > 0.5), turn
    assert inside(page, 1, 90, 50) and not inside(page, 1, 90, 55) and inside(page, 1, 0, 55)
    assert not inside(page, 1, 45)
    assert page.run(f"{POLAR}[1].querySelector('p').textContent") == "1.9 of 4 rotations"
    opacity = page.run(f"Number(getComputedStyle({POLAR}[2].querySelector('.tone1.wedge')).opacity)")
    assert opacity == pytest.approx(0.85 * 0.1, abs=1e-3), "the mirror is as dark as it is probable"


def test_the_mouse_moves_the_cursor(show, report):
    page = show(report)
    page.run("document.querySelector('figure.plot').scrollIntoView({behavior: 'instant', block: 'center'})")
    box = page.run(
        "(() => { const b = document.querySelector('figure.plot svg').getBoundingClientRect();"
        "return [b.x, b.y, b.width, b.height]; })()"
    )
    for epoch in (2, 7):
        share = (52 + (epoch - 1) / (EPOCHS - 1) * 298) / 360
        page.point(box[0] + share * box[2], box[1] + box[3] / 2)
        assert page.run(f"{SLIDERS}[1].value") == str(epoch - 1)


def test_keys_alone_reach_everything(show, report):
    page = show(report)
    reached = []
    for _ in range(60):
        page.press("Tab")
        reached.append(page.run("(() => { const e = document.activeElement; return e.type || e.tagName; })()"))
    assert {"A", "button", "range", "DIV", "SUMMARY"} <= set(reached)
    ring = page.run(f"({SLIDERS}[0].focus(), getComputedStyle({SLIDERS}[0]).outlineStyle)")
    assert ring == "solid"
    page.run("document.querySelector('.legend button').focus()")
    drawn = "getComputedStyle(document.querySelector('figure.plot path.curve')).display"
    assert page.run(drawn) == "inline"
    page.press(" ")
    assert page.run(drawn) == "none"
    assert page.run("document.activeElement.getAttribute('aria-pressed')") == "false"
    page.press("Enter")
    assert page.run(drawn) == "inline"


def test_everything_has_a_name_to_be_read_aloud(show, report):
    page = show(report)
    assert page.run("[...document.querySelectorAll('img')].every(image => image.alt)")
    assert page.run("[...document.querySelectorAll('svg[role=img]')].every(plot => plot.getAttribute('aria-label'))")
    assert page.run("[...document.querySelectorAll('input')].every(input => input.labels.length === 1)")
    tree = page.call("Accessibility.getFullAXTree")["nodes"]
    for role in ("slider", "button", "image", "link", "region"):
        nodes = [node for node in tree if node.get("role", {}).get("value") == role and not node.get("ignored")]
        assert nodes and all(node["name"]["value"] for node in nodes), role


@pytest.mark.parametrize("width", [320, 360])
def test_a_phone_shows_it_without_scrolling_sideways(show, report, width):
    page = show(report, width=width, height=640)
    page.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    total, wide = page.run(NO_OVERFLOW)
    assert total <= width and wide == []


def test_light_and_dark_are_neither_blank_nor_alike(show, report):
    light, dark = (show(report, dark=dark).pixels().astype(int) for dark in (False, True))
    assert light.shape == dark.shape == (800, 1000, 3)
    assert light[0, 0].tolist() == [255, 255, 255] and dark[0, 0].tolist() == [0x16, 0x18, 0x1B]
    for pixels in (light, dark):
        inked = (np.abs(pixels - pixels[0, 0]).max(axis=-1) > 60).mean()
        assert 0.005 < inked < 0.5


def test_paper_shows_everything_in_black_on_white(show, report):
    page = show(report, width=720, media="print", dark=True)
    assert page.run("document.documentElement.scrollWidth") <= 720, "nothing is cut off at the edge of A4"
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.run("getComputedStyle(document.querySelector('nav')).display") == "none"
    content = page.pdf()
    assert content.startswith(b"%PDF") and len(content) > 20_000
    assert page.run("[...document.querySelectorAll('details')].every(part => part.open)"), "folded parts open for print"


def test_without_scripts_the_rest_is_there(show, report):
    page = show(report, scripts=False)
    page.call("Emulation.setScriptExecutionDisabled", value=False)
    text = page.run("document.body.innerText")
    assert "Without JavaScript" in text and "93.75 %" in text


def test_runs_are_compared_on_one_page(show, tmp_path):
    runs = [
        write_run(tmp_path / f"{k}", epochs=5 + 5 * k, config=config_of(seed=k, comment=NASTY * k)) for k in range(3)
    ]
    path = write_comparison(runs, tmp_path / "comparison.html")
    page = show(path, width=360, height=640)
    total, wide = page.run(NO_OVERFLOW)
    assert total <= 360 and wide == []
    assert page.run("document.querySelector('figure.plot').querySelectorAll('svg[role=img] path.curve').length") == 3
    page.run(f"{SLIDERS}[0].focus()")
    page.press("End")
    values = page.run("[...document.querySelector('figure.plot').querySelectorAll('.value')].map(v => v.textContent)")
    assert values[:2] == ["–", "–"], "the shorter runs have no value there"
    assert float(values[2]) == pytest.approx(row_of(15, 15)["train/loss"], rel=1e-3)
    assert page.run("window.ran === undefined")


def test_pages_of_broken_runs_do_not_complain(show, tmp_path):
    run = write_run(tmp_path / "run", epochs=1, summary=None)
    show(write_report(run))
    (run / "metrics.jsonl").write_text('{"epoch": 3, "train/loss": NaN, "levels": [0.0, 1.0]}\n')
    page = show(write_report(run))
    assert page.run(f"[...{POLAR}].map(f => f.querySelector('p').textContent)") == [
        "θ = 0.000, ±0°",
        "θ = 1.000, ±180°",
    ]
    assert inside(page, 1, 179) and not inside(page, 0, 10)
    rows = [{"epoch": e, "train/loss": None if e % 2 else 1.0, "lr": 0.0} for e in range(1, 8)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    page = show(write_report(run))
    path = page.run("document.querySelector('figure.plot path.curve').getAttribute('d')")
    assert path.count("M") == 3 and "L" not in path, "points between missing ones are not joined"
    wild = [{"epoch": 10**e, "train/loss": 10.0 ** (16 + e), "lr": 1e-300} for e in range(18)]
    (run / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in wild))
    assert show(write_report(run)).run("document.querySelectorAll('figure.plot path.curve').length") >= 2
    (run / "metrics.jsonl").unlink()
    page = show(write_report(run))
    assert page.run("document.querySelectorAll('svg').length") == 0
