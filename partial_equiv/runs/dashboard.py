"""One page over several runs: `python -m partial_equiv.runs.dashboard <run>...`.

With a W&B account, the package wandb-workspaces and runs that were sent, it is a report in their W&B project; otherwise
the local page of `python -m partial_equiv.runs.report`. A definition is the content of such a report as plain data.
"""

import argparse
import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from partial_equiv.errors import UserError
from partial_equiv.runs.artifacts import FIGURES
from partial_equiv.runs.atomic import write_atomically
from partial_equiv.runs.folder import read_log
from partial_equiv.runs.reading import FinishedRun, labels, open_run
from partial_equiv.runs.report import run_folders, write_comparison, write_report
from partial_equiv.runs.shown import CONFUSION, layer_sheet, series
from partial_equiv.runs.wandb_sink import IDENTITY, has_key, read_identity

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import PanelGrid, Report

MOST_NAMED = 3  # runs in a title
TARGETS = ("auto", "wandb", "local", "definition")
CURVES: Mapping[str, tuple[str, ...]] = {
    "Training": ("train/", "validation/", "lr"),
    "Learned subsets": ("levels/", "mirror/", "gates/", "omega0"),
    "Equivariance during training": ("audit/",),
}
"""Sections of curves over the epochs, and how the names of their series begin."""


def main(argv: Sequence[str] | None = None) -> int:
    """Make the page, write where it is, and return the exit code: 0, or 2 for a mistake of the user."""
    options = _parser().parse_args(argv)
    try:
        runs = list(dict.fromkeys(run for path in options.runs for run in run_folders(path)))
        why = missing_for_wandb(runs) if options.to == "auto" else ""
        if why:
            sys.stderr.write(f"note: a local page, for {why}\n")
        to = options.to if options.to != "auto" else "local" if why else "wandb"
        sys.stdout.write(f"{make_dashboard(runs, to, options.out, options.title)}\n")
    except UserError as error:
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    return 0


def missing_for_wandb(runs: Sequence[Path]) -> str:
    """Return what a W&B report of these runs lacks, in words; empty if nothing."""
    if not has_key():
        return "there is no W&B account here"
    if not _has_workspaces():
        return "the package wandb-workspaces is missing (pip install wandb-workspaces)"
    absent = [str(run) for run in runs if not (run / IDENTITY).is_file()]
    return f"{absent[0]} was not sent to W&B" if absent else ""


def make_dashboard(runs: Sequence[Path], to: str, out: Path | None = None, title: str | None = None) -> str:
    """Make one page over several runs and return where it is: an address, or a path.

    Args:
        runs: Run folders of finished runs.
        to: "wandb" is a report in the W&B project of the runs, "local" an HTML file, "definition" the report as JSON.
        out: The file of a local page or definition; without it dashboard.html, report.html in the folder of a single
            run, or dashboard.json.
        title: Of the W&B report; what sets the runs apart where it is not given.

    Raises:
        UserError: a run cannot be read, or W&B was asked for and is impossible.
    """
    if to == "local":
        if len(runs) == 1 and out is None:
            return str(write_report(runs[0]))
        return str(write_comparison(runs, out or Path("dashboard.html")))
    definition = define_report([open_run(run) for run in runs], title)
    if to == "wandb":
        return publish(definition)
    out = out or Path("dashboard.json")
    write_atomically(out, (json.dumps(definition, indent=2, ensure_ascii=False) + "\n").encode())
    return str(out)


def define_report(runs: Sequence[FinishedRun], title: str | None = None) -> dict[str, Any]:
    """Return a W&B report as plain data: title, W&B runs by project, and sections of panels that name what was logged.

    A panel is {"kind": "lines", "title", "x", "y", "log"}, {"kind": "bars", "title", "metrics"}, {"kind": "configs"}
    or {"kind": "media", "title", "keys"}.

    Raises:
        UserError: a run was never sent to W&B.
    """
    names = labels(runs)
    wandb_runs = []
    for run, name in zip(runs, names, strict=True):
        identity = read_identity(run.path)
        if not identity:
            raise UserError(
                f"{run.path} was not sent to W&B, it holds no {IDENTITY}: train with wandb.mode=online or offline, "
                "or give --to local"
            )
        wandb_runs.append({key: identity.get(key) for key in ("entity", "project", "id")} | {"label": name})
    sections = [*_curves(runs), *_tests(runs), *_media(runs), {"title": "Choices", "panels": [{"kind": "configs"}]}]
    text = "Runs: " + "; ".join(f"{run['label']} ({run['id']})" for run in wandb_runs)
    title = title or (" / ".join(names) if len(names) <= MOST_NAMED else f"{len(names)} runs")
    return {"title": title, "text": text, "runs": wandb_runs, "sections": sections}


def publish(definition: Mapping[str, Any]) -> str:
    """Save a report in W&B and return its address.

    Raises:
        UserError: there is no account or no package wandb-workspaces, or the server refuses.
    """
    if not has_key():
        raise UserError("--to wandb needs an API key: run `wandb login`, or give --to local")
    if not _has_workspaces():
        raise UserError(
            "--to wandb needs the package wandb-workspaces: pip install wandb-workspaces, or give --to local"
        )
    import wandb

    try:
        report = build_report(definition)
        report.save()
    except (wandb.errors.Error, ValueError, OSError) as error:  # OSError: no network
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"W&B did not take the report ({reason}): check account and network, send offline runs with `wandb sync`, "
            "or give --to local"
        ) from error
    return str(report.url)


def build_report(definition: Mapping[str, Any]) -> "Report":
    """Return a definition as a report of wandb-workspaces, not saved yet."""
    import wandb_workspaces.reports.v2 as wr

    first = definition["runs"][0]
    blocks: list[Any] = [wr.TableOfContents(), wr.P(definition["text"])]
    for section in definition["sections"]:
        blocks += [wr.H2(section["title"]), _panel_grid(section["panels"], definition["runs"])]
    return wr.Report(
        entity=first["entity"] or "", project=first["project"], title=definition["title"], blocks=blocks, width="fluid"
    )


def _panel_grid(panels: Iterable[Mapping[str, Any]], runs: Sequence[Mapping[str, Any]]) -> "PanelGrid":
    """Return panels on the runs of a definition alone, one run set for each W&B project."""
    import wandb_workspaces.reports.v2 as wr

    makers: dict[str, Callable[[Mapping[str, Any]], Any]] = {
        "lines": lambda panel: wr.LinePlot(
            title=panel["title"], x=panel["x"], y=panel["y"], log_y=panel["log"] or None
        ),
        "bars": lambda panel: wr.BarPlot(title=panel["title"], metrics=panel["metrics"]),
        "media": lambda panel: wr.MediaBrowser(title=panel["title"], media_keys=panel["keys"]),
        "configs": lambda panel: wr.RunComparer(diff_only="split"),
    }
    places = list(dict.fromkeys((run["entity"] or "", run["project"]) for run in runs))
    run_sets = []
    for entity, project in places:
        ids = [run["id"] for run in runs if (run["entity"] or "", run["project"]) == (entity, project)]
        run_sets.append(wr.Runset(entity=entity, project=project, name=project, filters=f"Metric('ID') in {ids}"))
    return wr.PanelGrid(runsets=run_sets, panels=[makers[panel["kind"]](panel) for panel in panels])


def _curves(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """Return the sections of curves over the epochs, one panel for each kind of series."""
    found = dict.fromkeys(
        name for run in runs for row in read_log(run.path) for name in series(row, run.summary.get("layers") or [])
    )
    sections: dict[str, dict[str, list[str]]] = {title: {} for title in (*CURVES, "Other measurements")}
    for name in found:
        title = next((title for title, starts in CURVES.items() if name.startswith(starts)), "Other measurements")
        sections[title].setdefault(_panel_of(name), []).append(name)
    return [
        {
            "title": title,
            "panels": [
                {"kind": "lines", "title": name, "x": "epoch", "y": keys, "log": name == "audit"}
                for name, keys in panels.items()
            ],
        }
        for title, panels in sections.items()
        if panels
    ]


def _panel_of(name: str) -> str:
    """Return which plot a series belongs to: losses with losses, levels with levels, the gates of a layer together."""
    head, _, rest = name.partition("/")
    if head in ("train", "validation"):
        return rest
    return name.rpartition("/")[0] if head == "gates" else head


def _tests(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """Return the section of what was measured on the test split, bars over the runs."""
    numbers = dict.fromkeys(
        key
        for run in runs
        for key, value in run.summary.items()
        if key.startswith("test/") and isinstance(value, int | float)
    )
    groups: dict[str, list[str]] = {}
    for key in numbers:
        groups.setdefault(key.split("/")[1] if key.count("/") > 1 else key.replace("/", " "), []).append(key)
    panels = [{"kind": "bars", "title": title, "metrics": keys} for title, keys in groups.items()]
    return [{"title": "Tests", "panels": panels}] if panels else []


def _media(runs: Sequence[FinishedRun]) -> list[dict[str, Any]]:
    """Return the sections of figures, and of tables and cards, under the keys that `WandbSink` sends them by."""
    figures = dict.fromkeys(path.stem for run in runs for path in sorted((run.path / FIGURES).glob("*.png")))
    layers = any(layer_sheet(run.summary).rows for run in runs)
    classes = any((run.path / CONFUSION).is_file() for run in runs)
    pages = [
        *(["tables/layers"] if layers else []),
        *(["tables/classes"] if classes else []),
        "cards/model",
        "cards/data",
    ]
    shown = [{"kind": "media", "title": name, "keys": [f"figures/{name}"]} for name in figures]
    cards = [{"kind": "media", "title": key, "keys": [key]} for key in pages]
    return [*([{"title": "Figures", "panels": shown}] if shown else []), {"title": "Tables and cards", "panels": cards}]


def _has_workspaces() -> bool:
    return importlib.util.find_spec("wandb_workspaces") is not None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m partial_equiv.runs.dashboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="run", help="run folders, or folders that hold some")
    parser.add_argument("--to", choices=TARGETS, default="auto", help="where to (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="file of the local page or the definition (dashboard.html or .json)")
    parser.add_argument("--title", help="title of the W&B report (default: what sets the runs apart)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
