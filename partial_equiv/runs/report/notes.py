"""What a reader of a run should be warned of, in sentences, and the commands that repeat it."""

import re
import shlex
from collections.abc import Iterable
from itertools import pairwise

from partial_equiv.runs.folder import CONFIG
from partial_equiv.runs.report.record import RunRecord, number

SKIPPED, NOT_FINITE = "skipped", "nonfinite.json"
"""Begin of the last word of a key that counts steps that were left out, and the file that names them."""
MOST_NAMED = 8
COMMIT = re.compile(r"[0-9a-f]{7,64}")


def warnings_of(record: RunRecord) -> list[str]:
    """Return what speaks against taking the numbers of a run at face value; empty where nothing does."""
    told = record.summary.get("warnings")
    own = [str(sentence) for sentence in told] if isinstance(told, list) else []
    return [*own, *record.faults, *_not_finite(record), *_skipped(record), *_gaps(record), *_conditions(record)]


def commands_of(record: RunRecord) -> dict[str, str]:
    """Return the commands that repeat a run, by what each starts from; both give the same configuration.

    The first is what was typed, and needs the defaults of its commit. The second reads the saved configuration and
    needs no defaults at all.
    """
    commit = record.summary.get("commit")
    source = f"git checkout {commit}\n" if isinstance(commit, str) and COMMIT.fullmatch(commit) else ""
    found = {}
    if record.typed is not None:
        found["as it was typed"] = f"{source}{shlex.join(['python', 'main.py', *record.typed])}"
    if record.config:
        # main.py looks for a relative folder beside itself, and the folder it is called from need not be that one.
        folder = str(record.path.resolve())
        # Hydra's own defaults, which that file leaves out, would add a folder and an empty log.
        quiet = ("hydra.output_subdir=null", "hydra/job_logging=stdout")
        options = ["--config-path", folder, "--config-name", CONFIG.removesuffix(".yaml"), *quiet]
        found["from its saved configuration"] = f"{source}{shlex.join(['python', 'main.py', *options])}"
    return found


def _not_finite(record: RunRecord) -> Iterable[str]:
    """Yield a sentence for every number that was not finite in some epochs: the log writes those as null."""
    for key in dict.fromkeys(key for row in record.rows for key in row):
        held = [row for row in record.rows if key in row and (row[key] is None or isinstance(row[key], float))]
        lost = [row["epoch"] for row in held if number(row[key]) is None]
        if lost:
            yield f"{key} was not finite in {_epochs(lost)}."


def _skipped(record: RunRecord) -> Iterable[str]:
    for key in dict.fromkeys(key for row in record.rows for key in row):
        if key.rpartition("/")[2].startswith(SKIPPED):
            counts = {row["epoch"]: count for row in record.rows if (count := number(row.get(key)))}
            if counts:
                more = f"; {NOT_FINITE} names their examples" if (record.path / NOT_FINITE).is_file() else ""
                yield f"{sum(counts.values()):g} steps were left out ({key}), in {_epochs(list(counts))}{more}."


def _gaps(record: RunRecord) -> Iterable[str]:
    epochs = [row["epoch"] for row in record.rows]
    gaps = [(before + 1, after - 1) for before, after in pairwise(epochs) if after - before > 1]
    if gaps:
        named = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in gaps[:MOST_NAMED])
        more = f" and {len(gaps) - MOST_NAMED} more gaps" if len(gaps) > MOST_NAMED else ""
        yield f"The log has no row of epochs {named}{more}: a stage stopped early there, or rows were lost."
    if not epochs:
        yield "The log holds no epoch: nothing was trained here, or metrics.jsonl is gone."


def _conditions(record: RunRecord) -> Iterable[str]:
    if record.config.get("debug") is True:
        yield "debug=True: two steps a phase, a trial run whose numbers mean nothing."
    commit = record.summary.get("commit")
    if isinstance(commit, str) and commit.endswith("-dirty"):
        yield f"The code had changes beyond its commit ({commit[:7]}): that commit alone may give other numbers."
    if commit == "unknown":
        yield "The commit of the code is not known: the run may not be repeatable."


def _epochs(epochs: list[int]) -> str:
    named = ", ".join(map(str, epochs[:MOST_NAMED]))
    more = f" and {len(epochs) - MOST_NAMED} more" if len(epochs) > MOST_NAMED else ""
    return f"epoch{'s' if len(epochs) > 1 else ''} {named}{more}"
