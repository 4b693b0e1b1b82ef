"""Facts of a data set before any file is touched, for a dry run."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from partial_equiv.datasets import (
    cifar,
    digits,
    flowers,
    glyph,
    imagenet,
    mnist,
    mnist6,
    mnist_12k,
    pcam,
    rotated_mnist,
    stl10,
)
from partial_equiv.datasets.info import DatasetInfo, plan, sized
from partial_equiv.datasets.law import laws_of_turns, parse_laws
from partial_equiv.datasets.turning import check_law, with_laws
from partial_equiv.datasets.view_facts import view_info

PUBLISHED = (
    digits.FACTS,
    mnist.FACTS,
    rotated_mnist.FACTS,
    mnist_12k.FACTS,
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
        keywords: Those of the data set's function, `law` included.

    Raises:
        UserError: a count is out of range, or a law does not fit.
    """
    own = {key: value for key, value in keywords.items() if key != "law"}
    law = keywords.get("law")
    check_law(law, own)
    info = upright_info(name, own)
    return info if info is None or law is None else with_laws(info, parse_laws(law, info.no_classes))


def upright_info(name: str, keywords: Mapping[str, Any]) -> DatasetInfo | None:
    """Return the facts of the data set as its own function makes it, without a law; None as above."""
    if name == "glyph":  # drawn, not read: its mean and deviation are those of the drawing
        return glyph.load_glyph(**keywords).info
    facts = next((facts for facts in PUBLISHED if facts.name == name), None)
    if facts is None:
        return view_info(name, keywords)
    if facts.laws is not None:
        laws = laws_of_turns(facts.no_classes, keywords.get("rot_interval", 0), keywords.get("rot_normal"))
        facts = dataclasses.replace(facts, laws=laws)
    facts = flowers.joined(sized(facts, keywords.get("size")), keywords.get("join_validation", False))
    planned = plan(facts, **{key: keywords.get(key) for key in ("no_train", "no_validation", "no_test")})
    if "copies" in keywords:
        digits.check_digit_copies(keywords["copies"], planned)
    no_train = planned.no_train * keywords.get("copies", 1)
    return dataclasses.replace(planned, name=keywords.get("title", name), no_train=no_train)
