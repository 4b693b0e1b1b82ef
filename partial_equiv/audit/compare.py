"""Models compared over the orbit: `python -m partial_equiv.audit.compare <orbit.json>... --out folder`.

A file is `OrbitReport.to_dict()` of turns alone, together with what the run that wrote it says of itself:
{"label": the model in words, "seed": integer, "law": `TrainingLaw.to_dict()` or null, "angles": radians [A],
"accuracy": shares [A], ...}. Files of one label are seeds of one model; every law gets its own figure.

Axes: S seeds, A angles.
"""

import argparse
import itertools
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from partial_equiv.audit.law import TrainingLaw, read_law
from partial_equiv.audit.statistics import Band, MeanTest, paired, t_band, t_interval, welch
from partial_equiv.audit.writing import make_folder, write_whole
from partial_equiv.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class OrbitFile(NamedTuple):
    """What the comparison needs of one file."""

    label: str
    seed: int
    law: TrainingLaw | None
    angles: tuple[float, ...]
    accuracy: tuple[float, ...]


class Pair(NamedTuple):
    """Two models compared in one number per seed; a test is None where there are too few seeds for it."""

    first: str
    second: str
    unit: str
    """"mean of angles" or "at 0°"."""
    welch: MeanTest | None
    paired: MeanTest | None
    """Over the seeds that both have."""


class Comparison(NamedTuple):
    """Models that were trained under one law, each with its seeds.

    Args:
        angles: Turns of the test images in radians, one of them 0.
        accuracies: Label -> shares [S, A].
        seeds: Label -> seeds [S].
        law: Of the training angles, None where it is not known.
    """

    angles: tuple[float, ...]
    accuracies: Mapping[str, NDArray[np.float64]]
    seeds: Mapping[str, tuple[int, ...]]
    law: TrainingLaw | None

    @property
    def bands(self) -> dict[str, Band]:
        """Mean over seeds with its 95 % t-interval at each angle."""
        return {label: t_band(values) for label, values in self.accuracies.items()}

    @property
    def pairs(self) -> list[Pair]:
        """Welch's and the paired t-test of every two models, for the mean over angles and at 0 degrees."""
        upright = _upright(self.angles)
        per_seed = {
            label: {"mean of angles": values.mean(axis=1).tolist(), "at 0°": values[:, upright].tolist()}
            for label, values in self.accuracies.items()
        }
        return [
            _pair(
                first,
                second,
                unit,
                *(dict(zip(self.seeds[x], per_seed[x][unit], strict=True)) for x in (first, second)),
            )
            for first, second in itertools.combinations(self.accuracies, 2)
            for unit in ("mean of angles", "at 0°")
        ]

    def figure(self, title: str = "") -> "Figure":
        """Return the figure: a curve and a polar plot with bands, the training law, and Welch's tests below."""
        from partial_equiv.drawing import orbit_comparison

        labels = {label: f"{label} ({_seeds(len(rows))})" for label, rows in self.accuracies.items()}
        curves = {labels[label]: band for label, band in self.bands.items()}
        return orbit_comparison(self.angles, curves, self.law, _figure_rows(self.pairs), title)

    def table(self) -> str:
        """Return means and tests as two Markdown tables, in percent and percentage points."""
        head = ["model", "seeds", "0°", "unseen", "mean of angles", "worst angle", "spread"]
        rows = [[label, str(len(values)), *self._summary(values)] for label, values in self.accuracies.items()]
        tests = [
            [
                f"{pair.first} - {pair.second}",
                pair.unit,
                *_cells(pair.welch),
                "" if pair.paired is None else _p(pair.paired.p),
            ]
            for pair in self.pairs
        ]
        law = "" if self.law is None else f"Training angles: {self.law}. "
        text = f"{law}Accuracy in %, mean over seeds ± half of the 95 % t-interval.\n\n{_markdown(head, rows)}"
        if not tests:
            return text
        heading = ["first - second", "of", "difference", "t", "df", "p (Welch)", "p (paired)"]
        return f"{text}\nDifferences in percentage points.\n\n{_markdown(heading, tests)}"

    def _summary(self, values: NDArray[np.float64]) -> list[str]:
        upright = _upright(self.angles)
        unseen = np.delete(values, upright, axis=1).mean(axis=1)
        per_seed = (values[:, upright], unseen, values.mean(axis=1), values.min(axis=1), np.ptp(values, axis=1))
        found = [t_interval(list(100 * numbers)) for numbers in per_seed]
        return [f"{v:.2f}" if math.isnan(low) else f"{v:.2f} ± {v - low:.2f}" for v, low, _ in found]


def compare_orbits(files: Sequence[OrbitFile]) -> list[Comparison]:
    """Return one comparison per training law, models in the order in which they first come.

    Raises:
        UserError: no file, a seed that a model has twice, or turns that differ within a law.
    """
    if not files:
        raise UserError("there is nothing to compare: give the orbit files of at least one run")
    found = []
    for law in dict.fromkeys(file.law for file in files):
        mine = [file for file in files if file.law == law]
        if len(angles := {file.angles for file in mine}) > 1:
            numbers = sorted(len(turns) for turns in angles)
            raise UserError(f"the files have different turns ({numbers} of them): evaluate all with one group")
        runs = [(file.label, file.seed) for file in mine]
        if twice := sorted({run for run in runs if runs.count(run) > 1}):
            raise UserError(
                f"{twice[0][0]!r} comes twice with seed {twice[0][1]}: give each run once, or another label"
            )
        models = {label: [file for file in mine if file.label == label] for label, _ in runs}
        accuracies = {label: np.array([file.accuracy for file in seeds]) for label, seeds in models.items()}
        seeds = {label: tuple(file.seed for file in files) for label, files in models.items()}
        found.append(Comparison(mine[0].angles, accuracies, seeds, law))
    return found


def read_orbit(path: Path | str) -> OrbitFile:
    """Return what a file says.

    Raises:
        UserError: it is missing, no JSON, of another layout, or of a group that mirrors.
    """
    layout = (
        "an orbit file holds label, seed, law, angles and accuracy, see python -m partial_equiv.audit.compare --help"
    )
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is no JSON file ({error}): {layout}") from error
    if not isinstance(data, dict) or not isinstance(data.get("label"), str) or not isinstance(data.get("seed"), int):
        raise UserError(f"{path} lacks a label in words or a whole number as seed: {layout}")
    angles, accuracy = (_numbers(data.get(key)) for key in ("angles", "accuracy"))
    if not angles or not accuracy or len(angles) != len(accuracy) or not all(0 <= share <= 1 for share in accuracy):
        raise UserError(f"{path} lacks angles with one accuracy in [0, 1] each, of turns without mirrors: {layout}")
    if 0.0 not in angles:
        raise UserError(f"{path} has no turn by 0, the upright images: {layout}")
    law = data.get("law")
    return OrbitFile(data["label"], data["seed"], None if law is None else read_law(law), angles, accuracy)


def main(argv: Sequence[str] | None = None) -> int:
    """Print the tables, draw the figures and return the exit code: 0, or 2 for a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="python -m partial_equiv.audit.compare", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("files", nargs="+", metavar="orbit.json")
    parser.add_argument("--out", type=Path, default=Path("comparison"), help="folder of the figures (comparison)")
    parser.add_argument("--title", default="", help="title of the figures")
    choices = parser.parse_args(argv)
    try:
        comparisons = compare_orbits([read_orbit(path) for path in choices.files])
        make_folder(choices.out)
        for comparison in comparisons:
            sys.stdout.write(comparison.table() + "\n")
            path = choices.out / f"orbit_{_slug(comparison.law)}.png"
            write_whole(path, _png(comparison.figure(choices.title)))
            sys.stderr.write(f"wrote {path}\n")
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def _png(figure: "Figure") -> bytes:
    from partial_equiv.drawing import png

    return png(figure)


def _slug(law: TrainingLaw | None) -> str:
    words = "any" if law is None else str(law).replace("±", "pm").replace("-", "minus ")
    return "_".join("".join(letter for letter in words if letter.isalnum() or letter in " .").split())


def _numbers(values: object) -> tuple[float, ...]:
    """Return a list of finite numbers, empty where it is none."""
    if not isinstance(values, list) or not all(isinstance(v, int | float) and math.isfinite(v) for v in values):
        return ()
    return tuple(float(value) for value in values)


def _upright(angles: Sequence[float]) -> int:
    return list(angles).index(0.0)


def _pair(first: str, second: str, unit: str, a: Mapping[int, float], b: Mapping[int, float]) -> Pair:
    both = [seed for seed in a if seed in b]
    independent = welch(list(a.values()), list(b.values())) if min(len(a), len(b)) > 1 else None
    matched = paired([a[seed] for seed in both], [b[seed] for seed in both]) if len(both) > 1 else None
    return Pair(first, second, unit, independent, matched)


def _cells(test: MeanTest | None) -> list[str]:
    """Return difference in points, t, degrees of freedom and p as text."""
    if test is None:
        return ["one seed", "", "", ""]
    df = "" if math.isnan(test.df) else f"{test.df:.1f}"
    return [f"{100 * test.difference:+.2f}", f"{test.statistic:.2f}", df, _p(test.p)]


def _p(p: float) -> str:
    return "< 0.0001" if p < 1e-4 else f"{p:.2g}" if p < 0.1 else f"{p:.2f}"


def _figure_rows(pairs: Sequence[Pair]) -> list[list[str]]:
    """Return Welch's tests with one row per pair of models."""
    if not pairs:
        return []
    numbers = [_cells(pair.welch) for pair in pairs]
    names = [f"{pair.first} \N{MINUS SIGN} {pair.second}" for pair in pairs[::2]]
    head = ["Welch's t-test over seeds", "mean of angles: points", "t", "df", "p", "at 0°: points", "t", "df", "p"]
    rows = zip(names, numbers[::2], numbers[1::2], strict=True)
    return [head, *([name, *(c.replace("-", "\N{MINUS SIGN}") for c in [*a, *b])] for name, a, b in rows)]


def _seeds(number: int) -> str:
    return f"{number} seed{'s' * (number > 1)}"


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


if __name__ == "__main__":
    sys.exit(main())
