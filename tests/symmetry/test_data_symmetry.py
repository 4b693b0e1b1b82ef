"""The report: the whole set beside its classes, corrected p-values, and what it says where a class cannot be tested."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from partial_equiv.datasets.digits import read_upright
from partial_equiv.errors import UserError
from partial_equiv.symmetry.data_symmetry import SymmetryTest, symmetry_of_data, with_holm
from partial_equiv.symmetry.two_sample import TwoSample, two_sample_test


def digits():
    images, labels = read_upright(20)
    return images.mul(255).round().to(torch.uint8), labels


def rows_of(p_values):
    results = [None if p is None else TwoSample(0.5, p, 0.5, 40) for p in p_values]
    return [SymmetryTest("C2", k, str(k), 40, result) for k, result in enumerate(results)]


@given(st.lists(st.one_of(st.none(), st.floats(0.0001, 1)), min_size=1, max_size=12))
def test_holm_is_the_step_down_procedure(p_values):
    found = [test.holm for test in with_holm(rows_of(p_values))]
    known = [p for p in p_values if p is not None]
    assert [h is None for h in found] == [p is None for p in p_values]
    for level in (0.01, 0.05, 0.3):
        rejected, left = set(), sorted(known)
        while left and left[0] * len(left) <= level:  # as Holm wrote it: the least against level over how many are left
            rejected.add(left.pop(0))
        for p, holm in zip(p_values, found, strict=True):
            assert p is None or p <= holm <= 1
            assert p is None or (holm <= level) == (p in rejected)


def test_classes_can_be_asymmetric_where_the_whole_is_not():
    images, labels = digits()
    sixes = images[labels == 6]
    both = torch.cat([sixes, sixes.flip(-1)])
    report = symmetry_of_data(both, torch.arange(2).repeat_interleave(len(sixes)), ["6", "mirrored"], seed=0)
    whole, plain, mirrored = (test for test in report.tests if test.group == "D1")
    assert (whole.label, plain.label, mirrored.label) == (None, 0, 1)
    assert whole.result.p_value > 0.05
    assert plain.result.p_value < 0.01 and mirrored.result.p_value < 0.01
    assert report.rejected("D1")
    assert report.strongest("D1").label in (0, 1)


def test_the_whole_set_has_the_numbers_of_the_test_itself():
    images, _ = digits()
    report = symmetry_of_data(images[:300], None, (), groups=("D1", "C4", "D1"), seed=3, no_permutations=99)
    assert report.groups == ("D1", "C4")
    for test in report.tests:
        assert test.result == two_sample_test(images[:300], test.group, seed=3, no_permutations=99)
        assert (test.label, test.name, test.no_images) == (None, "all", 300)


def test_small_and_constant_classes_have_a_reason_and_no_result():
    images, _ = digits()
    images, labels = images[:200].clone(), torch.zeros(200, dtype=torch.int64)
    labels[:39], labels[39:80], labels[80] = 1, 2, 3
    images[39:80] = 7
    report = symmetry_of_data(images, labels, ["a", "few", "grey", "one"], groups=["SO2"], seed=0, no_permutations=99)
    whole, plain, few, grey, one = report.tests
    assert whole.result and plain.result and not plain.reason
    assert few.result is few.holm is grey.result is one.result is None
    assert few.reason == "a symmetry test needs at least 40 images, got 39: give it more of the set"
    assert "all 41 images are constant" in grey.reason
    lines = report.table().splitlines()
    assert lines[3].split() == ["few", "39", "-"]
    assert lines[-3].startswith("few: a symmetry test needs") and "2 tests" in lines[-4]


def test_the_table_marks_what_is_rejected():
    images, labels = digits()
    report = symmetry_of_data(images[:400], labels[:400], "0123456789", groups=("C4", "SO2"), seed=0)
    head, whole, *classes = report.table().splitlines()[:12]
    assert head.split() == ["set", "images", "C4", "SO2"]
    assert whole.split()[:3] == ["all", "400", "0.0001"] and whole.count("*") == 2
    assert [line.split()[0] for line in classes] == list("0123456789")
    assert report.rejected("C4") and report.rejected("SO2")


def test_one_class_is_the_whole_set():
    images, _ = digits()
    labels = torch.zeros(100, dtype=torch.int64)
    report = symmetry_of_data(images[:100], labels, ["a"], groups=["C2"], seed=0, no_permutations=99)
    assert [test.name for test in report.tests] == ["all"]


def test_the_report_is_plain_data():
    images, labels = digits()
    report = symmetry_of_data(images[:300], labels[:300], "0123456789", groups=["C2"], seed=0, no_permutations=99)
    plain = json.loads(json.dumps(report.to_dict()))
    assert plain["groups"] == ["C2"] and len(plain["tests"]) == 11
    assert plain["tests"][0]["result"]["no_images"] == 300 and plain["tests"][0]["label"] is None
    assert {type(value) for test in plain["tests"] for value in test.values()} <= {str, int, float, dict, type(None)}


def test_what_does_not_fit_is_refused():
    images, labels = digits()
    ask = SimpleNamespace(images=images, labels=labels, class_names=tuple("0123456789"), groups=("C4",))
    for change, why in [
        ({"groups": ()}, "groups is empty"),
        ({"labels": labels[:-1]}, r"labels have shape \[1796\] for 1797 images"),
        ({"class_names": ("0", "1")}, "labels run from 0 to 9, class_names has 2"),
        ({"groups": ("C4", "X")}, "'X' has no moves"),
        ({"images": images[:, :, 1:]}, "C4 turns 19x20"),
        ({"images": images[:9], "labels": labels[:9]}, "at least 40 images, got 9"),
    ]:
        with pytest.raises(UserError, match=why):
            symmetry_of_data(**(vars(ask) | change), seed=0)


def test_equal_seeds_give_equal_reports_and_classes_draw_apart():
    images = digits()[0][:200]
    twice, labels = images.repeat(2, 1, 1, 1), torch.arange(2).repeat_interleave(200)
    one, again = (symmetry_of_data(twice, labels, "ab", groups=["D1"], seed=1, no_permutations=99) for _ in range(2))
    assert one == again
    assert one.tests[1].result != one.tests[2].result
    assert np.isclose(one.tests[1].result.statistic, one.tests[2].result.statistic, atol=0.2)
