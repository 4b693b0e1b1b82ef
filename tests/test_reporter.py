"""What the report of a run says of its data."""

import math

import pytest

from reporter import law_of, title_of


@pytest.mark.parametrize(
    ("dataset", "kind", "width"),
    [
        ({}, "upright", None),
        ({"rot_interval": 0}, "upright", None),
        ({"rot_interval": 45}, "uniform", 45),
        ({"rot_normal": [10, 20]}, "normal", 20),
        ({"rot_interval": 0, "law": "uniform:60"}, "uniform", 60),
        ({"law": ["normal:9", "normal:9"]}, "normal", 9),
        ({"law": "full"}, "uniform", 180),
        ({"law": "none"}, "upright", None),
    ],
)
def test_the_law_of_the_training_images_is_what_turned_them(dataset, kind, width):
    law = law_of(dataset)
    assert law["kind"] == kind
    if width is not None:
        assert math.degrees(law["width"]) == pytest.approx(width)


@pytest.mark.parametrize("law", [["none", "uniform:60"], "cyclic:4"])
def test_laws_that_no_comparison_can_draw_are_none(law):
    assert law_of({"law": law}) is None


def test_a_title_names_the_set_as_its_users_do():
    config = {
        "dataset": {"type": "MNIST-12k", "title": "MNIST-Rot60"},
        "net": {"type": "SymmetryNet"},
        "base_group": {"name": "SE2", "no_samples": 16},
        "conv": {"partial_equiv": False},
        "kernel": {"type": "SIREN"},
    }
    assert title_of(config) == "MNIST-Rot60 SymmetryNet SE2 N=16 full SIREN"


@pytest.mark.parametrize(
    ("net", "title"), [("CKResNet", "CKResNet C4 N=4 full gc SIREN"), ("GConvNet", "GConvNet C4 gc")]
)
def test_a_title_says_how_kernels_are_factorised(net, title):
    config = {
        "dataset": {"type": "digits"},
        "net": {"type": net},
        "base_group": {"name": "C4", "no_samples": 4},
        "conv": {"partial_equiv": False, "factorization": "gc"},
        "kernel": {"type": "SIREN"},
    }
    assert title_of(config) == f"digits {title}"
    assert " gc" not in title_of(config | {"conv": {"partial_equiv": False, "factorization": "full"}})
