"""Where results go: a folder of JSON, Markdown and PNG, and the page of the project with its pictures."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.machine import line
from benchmarks.plots import draw
from benchmarks.results import Table, from_json, goals_table, to_json
from partial_equiv.drawing import png

BESIDE = "docs/benchmarks"
GOALS = "goals"


def slug(title: str) -> str:
    """Return a title as the name of a file."""
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:60]


def write(folder: Path, found: Mapping[str, Sequence[Table]], facts: dict[str, str | int], command: str) -> None:
    """Write what is known so far: results.json, tables.md, and a PNG for each table that is drawn.

    Args:
        folder: Made where it is missing.
        found: Benchmark -> its tables.
        facts: Of the machine.
        command: What measured them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    save(folder / "results.json", found, facts, command)
    page = [f"# Benchmarks\n\n`{command}`: {line(facts)}.\n"]
    every = [table for tables in found.values() for table in tables]
    for table in [*every, goals_table((table, str(facts["commit"])) for table in every)]:
        page.append(table.markdown())
        if (figure := draw(table)) is not None:
            (folder / f"{slug(table.title)}.png").write_bytes(png(figure))
            page.append(f"![{table.title}]({slug(table.title)}.png)\n")
    (folder / "tables.md").write_text("\n".join(page), encoding="utf-8")


def save(file: Path, found: Mapping[str, Sequence[Table]], facts: dict[str, str | int], command: str) -> None:
    """Write tables as JSON, with what measured them where."""
    content = {name: json.loads(to_json(tables)) for name, tables in found.items()}
    document = {"machine": facts, "command": command, "tables": content}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def update_page(page: Path, found: Mapping[str, Sequence[Table]], facts: dict[str, str | int], command: str) -> None:
    """Replace, on the page, the block of each benchmark that was run, and put its pictures and numbers beside it.

    A block stands between `<!-- name -->` and `<!-- /name -->`; one that the page has not yet comes at its end. So
    tables of several machines and days stand on one page, each with its line. The numbers to reach are listed from all
    that lies in the folder of the page.
    """
    text = page.read_text(encoding="utf-8") if page.is_file() else "# Benchmarks\n"
    folder = page.parent / BESIDE
    folder.mkdir(parents=True, exist_ok=True)
    for name, tables in found.items():
        save(folder / f"{name}.json", {name: tables}, facts, command)
        text = replaced(text, name, block(name, tables, folder, f"`{command}`: {line(facts)}."))
    goals = goals_table(table for file in sorted(folder.glob("*.json")) for table in kept(file))
    text = replaced(text, GOALS, goals.markdown())
    page.write_text(text, encoding="utf-8")


def kept(file: Path) -> list[tuple[Table, str]]:
    """Return the tables of a file, each with the commit that it was measured at."""
    document = json.loads(file.read_text(encoding="utf-8"))
    entries = [table for tables in document["tables"].values() for table in from_json(json.dumps(tables))]
    return [(table, document["machine"]["commit"]) for table in entries]


def block(name: str, tables: Sequence[Table], pictures: Path, where: str) -> str:
    """Return the Markdown of some tables, their pictures written."""
    parts = []
    for table in tables:
        parts.append(table.markdown())
        if (figure := draw(table)) is not None:
            picture = f"{name}-{slug(table.title)}.png"
            (pictures / picture).write_bytes(png(figure))
            parts.append(f"![{table.title}]({BESIDE}/{picture})\n")
    return "\n".join([*parts, f"{where}\n"])


def replaced(text: str, name: str, content: str) -> str:
    """Return the text with the block of that name replaced, or added at the end."""
    start, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    whole = f"{start}\n{content}\n{end}"
    if start not in text:
        return f"{text.rstrip()}\n\n{whole}\n"
    before, _, rest = text.partition(start)
    _, _, after = rest.partition(end)
    return f"{before}{whole}{after}"
