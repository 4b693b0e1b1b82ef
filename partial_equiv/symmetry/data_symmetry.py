"""Which symmetries a set of images has, in tests of the whole and of every class, before any training.

Axes: N images, C channels, Y X pixels.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from partial_equiv.errors import UserError
from partial_equiv.symmetry.two_sample import MOST, NO_PERMUTATIONS, TwoSample, check, compare, harmonics, stream

WHOLE = "all"
ALPHA = 0.05


@dataclasses.dataclass(frozen=True)
class SymmetryTest:
    """One test: of one group on the whole set or one class.

    Args:
        group: Whose moves were tried.
        label: Class; None for the whole set.
        name: Of the class, or "all".
        no_images: Images there are.
        result: None where there were too few images, or constant ones.
        reason: Why there is no result.
        holm: p-value after Holm's correction for all tests of the report.
    """

    group: str
    label: int | None
    name: str
    no_images: int
    result: TwoSample | None
    reason: str = ""
    holm: float | None = None


@dataclasses.dataclass(frozen=True)
class DataSymmetry:
    """Which symmetries of a data set are ruled out.

    A p-value is that of its own test alone: on a symmetric set it is below .05 once in twenty times, so among many
    tests some are small by chance. Holm-adjusted values account for all tests of the report: the chance that any true
    symmetry is called rejected is at most 5 %. A large p-value proves nothing: it says that so many images show no
    asymmetry.

    Args:
        groups: Tested, in order.
        tests: One for each group and set, sets outermost.
    """

    groups: tuple[str, ...]
    tests: tuple[SymmetryTest, ...]

    def strongest(self, group: str) -> SymmetryTest:
        """Return the test with the least p-value for `group`: of the whole set or of a class.

        Raises:
            UserError: the group was not tested.
        """
        if group not in self.groups:
            raise UserError(f"the report has no test of {group}: ask for groups={[*self.groups, group]}")
        return min(
            (test for test in self.tests if test.group == group), key=lambda t: 2.0 if t.holm is None else t.holm
        )

    def rejected(self, group: str) -> bool:
        """Return whether the whole set or any class is asymmetric, at .05 after Holm's correction.

        Classes count: sixes beside mirrored sixes are a symmetric set, yet its classes differ by the mirror.
        """
        holm = self.strongest(group).holm
        assert holm is not None, "the whole set is always tested"
        return holm <= ALPHA

    def table(self) -> str:
        """Return p-values and areas under the ROC curve as text, a row for each set."""
        tests = {(test.label, test.group): test for test in self.tests}
        sets = {test.label: test for test in self.tests}
        width = max(len(test.name) for test in sets.values())
        rows = [f"{'set':<{width}}  {'images':>7}" + "".join(f"  {group:<15}" for group in self.groups)]
        for label, one in sets.items():
            cells = (cell(tests[label, group]) for group in self.groups)
            rows.append(f"{one.name:<{width}}  {one.no_images:>7,}" + "".join(f"  {text:<15}" for text in cells))
        no_tests = sum(test.result is not None for test in self.tests)
        rows += [f"p-value of the single test, area under the ROC curve; * rejected at .05, Holm, {no_tests} tests"]
        rows += [f"{one.name}: {one.reason}" for one in sets.values() if one.reason]
        return "\n".join(row.rstrip() for row in rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain data."""
        plain = [dataclasses.asdict(t) | {"result": t.result._asdict() if t.result else None} for t in self.tests]
        return {"groups": list(self.groups), "tests": plain}


def cell(test: SymmetryTest) -> str:
    """Return what the table says of one test."""
    if test.result is None or test.holm is None:
        return "-"
    return f"{test.result.p_value:.4f} ({test.result.statistic:.2f})" + "*" * (test.holm <= ALPHA)


def symmetry_of_data(
    images: Tensor,
    labels: Tensor | None,
    class_names: Sequence[str],
    *,
    groups: Sequence[str] = ("C2", "C4", "D1", "SO2"),
    seed: int,
    no_permutations: int = NO_PERMUTATIONS,
    no_images: int = MOST,
) -> DataSymmetry:
    """Test the symmetry of a set and of each of its classes, before any training.

    Classes with fewer than 40 images, or constant ones, have no result but a reason; a single class is the whole set.

    Args:
        images: Of 8 pixels or more a side.
        labels: Class of each image; None tests the whole set alone.
        class_names: One per class.
        groups: C<n>, D<n>, SO2 or O2.
        seed: Of all draws.
        no_permutations: As of `two_sample_test`.
        no_images: Largest number of images of a test.
    Shape:
        images uint8 [N, C, Y, X], labels int64 [N].

    Raises:
        UserError: labels that fit neither images nor names, no group, or what `two_sample_test` refuses of the whole.
    """
    groups = tuple(dict.fromkeys(groups))
    if not groups:
        raise UserError("groups is empty: name at least one, such as C4, D1 or SO2")
    sets: list[tuple[int | None, str, Tensor]] = [(None, WHOLE, images)]
    if labels is not None:
        known = labels_of(labels, len(images), len(class_names))
        sets += [(k, class_names[k], images[labels == k]) for k in known if len(known) > 1]
    for group in groups:
        check(images, group)
    tests = []
    for label, name, members in sets:
        results, reason = run_tests(members, groups, label, seed, no_permutations, no_images)
        tests += [
            SymmetryTest(group, label, name, len(members), result, reason)
            for group, result in zip(groups, results, strict=True)
        ]
    return DataSymmetry(groups, with_holm(tests))


def labels_of(labels: Tensor, no_images: int, no_classes: int) -> list[int]:
    """Return the classes that occur.

    Raises:
        UserError: labels that are not one per image, or not below the number of classes.
    """
    if labels.shape != (no_images,):
        raise UserError(f"labels have shape {list(labels.shape)} for {no_images} images: give one label per image")
    known = [int(k) for k in labels.unique()]
    if known and not 0 <= known[0] <= known[-1] < no_classes:
        raise UserError(f"labels run from {known[0]} to {known[-1]}, class_names has {no_classes}: give one name each")
    return known


def run_tests(
    members: Tensor, groups: Sequence[str], label: int | None, seed: int, no_permutations: int, no_images: int
) -> tuple[list[TwoSample | None], str]:
    """Return a result for each group, or why there is none."""
    try:
        check(members, groups[0])
    except UserError as error:
        return [None] * len(groups), str(error)
    rings = harmonics(members, seed=seed, no_images=no_images)
    words = [] if label is None else [str(label)]  # the whole set: the same numbers as `two_sample_test`
    return [compare(rings, group, stream(seed, group, *words), no_permutations) for group in groups], ""


def with_holm(tests: Sequence[SymmetryTest]) -> tuple[SymmetryTest, ...]:
    """Adjust p-values for the number of tests: the i-th least of m becomes max over j <= i of min(1, (m - j + 1) p_j).

    Source: Holm 1979.
    """
    found = [i for i, test in enumerate(tests) if test.result is not None]
    p_values = np.array([test.result.p_value for test in tests if test.result is not None])
    order = np.argsort(p_values)
    factors = len(found) - np.arange(len(found))
    adjusted = np.minimum(1, np.maximum.accumulate(factors * p_values[order]))
    holm = {found[place]: float(value) for place, value in zip(order, adjusted, strict=True)}
    return tuple(dataclasses.replace(test, holm=holm.get(i)) for i, test in enumerate(tests))
