"""Which class is taken for which, and the images that a classifier is most wrong about.

`confusion.json` holds, for K classes:

    class_names   K texts
    counts        K rows of K counts, how often each true class (row) was taken for each class (column)
    worst         a list of {index, true, predicted, of_true, of_predicted}: position in the test split, classes by
                  number, probability of the true and of the predicted class; the least of_true first

The images of `worst` are shown, in that order, by `figures/worst_images.png`.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from partial_equiv.runs.report.html import Markup, folded, heat_table, paragraph, table
from partial_equiv.runs.report.pictures import Picture
from partial_equiv.runs.report.record import RunRecord, number

MOST_CLASSES, MOST_PAIRS = 30, 10


class Counts(NamedTuple):
    """Names of K classes, and K x K counts, true by predicted."""

    names: list[str]
    counts: list[list[int]]


def confusion_blocks(record: RunRecord, pictures: Mapping[str, Picture]) -> list[Markup]:
    """Return the matrix, the pairs that are mixed up most, and the worst images; empty for what is no classifier."""
    blocks: list[Markup] = []
    found = read_counts(record.confusion)
    if record.confusion and found is None:
        blocks.append(paragraph("confusion.json is damaged: it is no square of counts with a name per class.", "note"))
    if found is not None and len(found.names) <= MOST_CLASSES:
        right, total = sum(found.counts[k][k] for k in range(len(found.names))), sum(map(sum, found.counts))
        blocks.append(heat_table(found.names, found.counts, f"Test images by class, {right:,} of {total:,} right"))
        if "confusion_matrix" in pictures:
            blocks.append(folded("As a picture", pictures["confusion_matrix"].markup()))
    elif "confusion_matrix" in pictures:
        blocks.append(pictures["confusion_matrix"].markup())
    if found is not None:
        blocks.append(_pairs(found))
    if "worst_images" in pictures:
        blocks.append(pictures["worst_images"].markup())
    if found is not None and (worst := _worst(record.confusion.get("worst"), found.names)):
        head = ("image", "true", "predicted", "probability of the true class", "of the predicted")
        blocks.append(folded("The worst images as a table", table(head, worst, "Of the test split, by position")))
    return blocks


def read_counts(data: Mapping[str, Any]) -> Counts | None:
    """Return names and counts of `confusion.json`, None where they are no square with a name per class."""
    names, counts = data.get("class_names"), data.get("counts")
    if not isinstance(names, list) or not isinstance(counts, list) or len(names) != len(counts) or not names:
        return None
    if any(not isinstance(row, list) or len(row) != len(names) for row in counts):
        return None
    rows = [[found for count in row if (found := number(count)) is not None and found >= 0] for row in counts]
    if any(len(row) != len(names) for row in rows):
        return None
    return Counts([str(name) for name in names], [[int(count) for count in row] for row in rows])


def _pairs(found: Counts) -> Markup:
    """Return the pairs of classes that are mixed up most often."""
    pairs = [
        (count, true, predicted)
        for true, row in enumerate(found.counts)
        for predicted, count in enumerate(row)
        if true != predicted and count
    ]
    if not pairs:
        return paragraph("No test image was mistaken.")
    worst = sorted(pairs, key=lambda pair: (-pair[0], pair[1], pair[2]))[:MOST_PAIRS]
    rows = [
        (found.names[true], found.names[predicted], count, f"{100 * count / sum(found.counts[true]):.1f} %")
        for count, true, predicted in worst
    ]
    return table(("true", "taken for", "images", "of the true class"), rows, "Most frequent mistakes")


def _worst(data: Any, names: Sequence[str]) -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for case in data if isinstance(data, list) else []:
        if not isinstance(case, Mapping):
            continue
        values = [number(case.get(key)) for key in ("index", "true", "predicted", "of_true", "of_predicted")]
        index, true, predicted, of_true, of_predicted = values
        if index is None or true is None or predicted is None or of_true is None or of_predicted is None:
            continue
        if 0 <= true < len(names) and 0 <= predicted < len(names):
            row = (int(index), names[int(true)], names[int(predicted)], f"{of_true:.2g}", f"{of_predicted:.2g}")
            rows.append(row)
    return rows
