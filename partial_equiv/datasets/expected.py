"""Facts of a data set before any file is touched, for a dry run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from partial_equiv.datasets import cifar, digits, flowers, glyph, imagenet, mnist, mnist6, pcam, rotated_mnist, stl10
from partial_equiv.datasets.info import DatasetInfo, plan, sized

PUBLISHED = (
    digits.FACTS,
    mnist.FACTS,
    rotated_mnist.FACTS,
    mnist6.FACTS_180,
    mnist6.FACTS_M,
    cifar.CIFAR10_FACTS,
    cifar.CIFAR100_FACTS,
    stl10.FACTS,
    pcam.FACTS,
    flowers.FACTS,
    imagenet.FACTS,
)


def expected_info(name: str, keywords: Mapping[str, Any]) -> DatasetInfo | None:
    """Return the facts that the published files would give, None for a set that is known by its files alone.

    Args:
        name: Name in the menu.
        keywords: Those of the data set's function.

    Raises:
        UserError: a count is out of range.
    """
    if name == "glyph":  # drawn, not read: its mean and deviation are those of the drawing
        return glyph.load_glyph(**keywords).info
    facts = next((facts for facts in PUBLISHED if facts.name == name), None)
    if facts is None:
        return None
    facts = flowers.joined(sized(facts, keywords.get("size")), keywords.get("join_validation", False))
    planned = plan(facts, **{key: keywords.get(key) for key in ("no_train", "no_validation", "no_test")})
    return dataclasses.replace(planned, no_train=planned.no_train * keywords.get("copies", 1))
