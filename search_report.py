"""What came of a search: a table, a figure, all trials as JSON, and the best overrides."""

import shlex
from pathlib import Path
from typing import Any

from partial_equiv.drawing import search_history
from partial_equiv.runs import write_artifact
from reporter import aligned
from search_space import Range, SearchChoices, read_space

TRIALS, BEST, FIGURE, RUNS = "trials.json", "best.txt", "search.png", "trials"
SHOWN = 20
"""Trials in the closing table."""
STATES = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
"""Optuna's names of how a trial ended, and ours."""


def again(trial: Any) -> int | None:
    """Return the number of the trial that this one goes on with, None for a new one."""
    found = trial.user_attrs.get("again")
    return found if isinstance(found, int) else None


def ended(study: Any) -> list[Any]:
    """Return the trials that ended, without those that were taken up again."""
    trials = study.get_trials(deepcopy=False)
    replaced = {again(trial) for trial in trials}
    return [trial for trial in trials if trial.state.is_finished() and trial.number not in replaced]


def conclude(study: Any, choices: SearchChoices, folder: Path) -> None:
    """Write trials, figure and best overrides into the folder of a search, and print the table."""
    rows = [facts_of(trial) for trial in ended(study)]
    write_artifact(folder, TRIALS, {"study": choices.study, "metric": choices.metric, "trials": rows})
    whole = [row for row in rows if row["state"] == "complete"]
    if not whole:
        return
    space = read_space(choices.space)
    logarithmic = [key for key, parameter in space.items() if isinstance(parameter, Range) and parameter.log]
    maximise = choices.direction == "maximize"
    figure = search_history(rows, choices.metric, maximise=maximise, logarithmic=logarithmic)
    picture = write_artifact(folder, FIGURE, figure)
    best = (max if maximise else min)(whole, key=lambda row: row["value"])
    write_artifact(folder, BEST, "\n".join(best["overrides"]) + "\n")
    print(f"\n{table(rows, choices.metric, list(space), maximise=maximise)}")
    if len(rows) > SHOWN:
        print(f"(and {len(rows) - SHOWN} more in {folder / TRIALS})")
    print(f"\nbest:    {shlex.join(['python', 'main.py', *choices.overrides, *best['overrides']])}")
    print(f"run:     {folder / RUNS / best['run']}\nfigure:  {picture}")


def facts_of(trial: Any) -> dict[str, Any]:
    """Return what there is to know of a trial that ended, plain values."""
    known = ("value", "epoch", "seconds", "reason", "run", "overrides")
    facts = {key: trial.user_attrs.get(key) for key in known}
    return {"number": trial.number, "state": STATES[trial.state.name], "parameters": dict(trial.params), **facts}


def table(rows: list[dict[str, Any]], metric: str, keys: list[str], *, maximise: bool) -> str:
    """Return the best trials as text: the whole ones first, then the pruned and the failed."""
    order = list(STATES.values())
    sign = -1.0 if maximise else 1.0
    ranked = sorted(rows, key=lambda row: (order.index(row["state"]), sign * (row["value"] or 0.0), row["number"]))
    lines = [("trial", "ended", metric, "epoch", "seconds", *keys)]
    for row in ranked[:SHOWN]:
        numbers = (shown(row[key]) for key in ("value", "epoch", "seconds"))
        lines.append((str(row["number"]), row["state"], *numbers, *(shown(row["parameters"].get(key)) for key in keys)))
    return aligned(lines, right=(0, 2, 3, 4))


def shown(value: Any) -> str:
    """Return a number or a choice in a few letters."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value is None else str(value)
