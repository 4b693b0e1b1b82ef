"""The figure of a search: every trial where it belongs, the best so far, an axis of each parameter."""

import numpy as np
import pytest

from partial_equiv import drawing
from tests.drawing.readable import check_pixels, check_words, drawn_in_a_users_style

TRIALS = [
    {"number": 0, "state": "complete", "value": 0.80, "parameters": {"train.lr": 1e-3, "kernel.type": "SIREN"}},
    {"number": 1, "state": "failed", "value": None, "parameters": {"train.lr": 9e-1, "kernel.type": "MLP"}},
    {"number": 2, "state": "complete", "value": 0.95, "parameters": {"train.lr": 1e-2, "kernel.type": "MLP"}},
    {"number": 3, "state": "pruned", "value": 0.30, "parameters": {"train.lr": 3e-1, "kernel.type": "SIREN"}},
    {"number": 4, "state": "complete", "value": 0.90, "parameters": {"train.lr": 2e-2, "kernel.type": "SIREN"}},
]


def points(axes):
    return [tuple(point) for group in axes.collections for point in np.asarray(group.get_offsets()).tolist()]


@pytest.mark.parametrize(("maximise", "best"), [(True, [0.80, 0.95, 0.95, 0.95]), (False, [0.80, 0.80, 0.80, 0.80])])
def test_the_history_shows_every_trial_and_the_best_so_far(maximise, best):
    figure = drawing.search_history(TRIALS, "validation/accuracy", maximise=maximise)
    history, (legend,) = figure.axes[0], figure.legends
    seen = dict(points(history))
    assert {number: seen[number] for number in (0, 2, 3, 4)} == {0: 0.80, 2: 0.95, 3: 0.30, 4: 0.90}
    assert 1 in seen  # failed, at the edge
    (line,) = history.lines
    assert line.get_ydata() == pytest.approx(best) and list(line.get_xdata()) == [0, 2, 4, 4]
    assert history.get_ylabel() == "validation/accuracy"
    labels = {text.get_text() for text in legend.get_texts()}
    assert labels == {"complete", "pruned", "failed", "best so far"}


def test_each_parameter_has_its_axis():
    _, rate, kernel = drawing.search_history(TRIALS, "m", maximise=True, logarithmic=["train.lr"]).axes
    assert (rate.get_xscale(), kernel.get_xscale()) == ("log", "linear")
    assert sorted(points(rate)) == [(1e-3, 0.80), (1e-2, 0.95), (2e-2, 0.90), (3e-1, 0.30)]
    names = [label.get_text() for label in kernel.get_xticklabels()]
    assert names == ["MLP", "SIREN"]
    assert sorted((names[round(x)], y) for x, y in points(kernel)) == [
        ("MLP", 0.95),
        ("SIREN", 0.30),
        ("SIREN", 0.80),
        ("SIREN", 0.90),
    ]


def many():
    """Return a search of seven parameters, one of them a choice of long names."""
    rng = np.random.default_rng(0)
    names = [f"group.parameter_{i}" for i in range(6)]
    states = ["complete", "pruned", "failed"]
    return [
        {
            "number": n,
            "state": (state := states[rng.integers(3) if n else 0]),
            "value": None if state == "failed" else float(rng.random()),
            "parameters": {name: float(rng.random()) for name in names} | {"net": ["AugerinoCKResNet", "GCNN"][n % 2]},
        }
        for n in range(40)
    ]


def test_the_figure_can_be_read():
    one = [{**TRIALS[0], "parameters": {}}]
    makers = lambda: [  # noqa: E731
        drawing.search_history(TRIALS, "validation/accuracy", maximise=True, logarithmic=["train.lr"]),
        drawing.search_history(many(), "validation/loss", maximise=False),
        drawing.search_history(one, "validation/accuracy", maximise=True),
    ]
    for figure, pixels in drawn_in_a_users_style(makers):
        check_words(figure)
        check_pixels(pixels)
