"""Known weaknesses of what is installed: `make audit`.

pip-audit asks an advisory service, where it is installed (`pip install pip-audit`) and has the network; names and
versions of the packages then leave this machine. Else these are compared with security_pins.txt, and the last line
says so.
"""

import importlib.metadata
import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINS = Path(__file__).resolve().parents[1] / "security_pins.txt"
OPTIONS = ["--local", "--skip-editable", "--format", "json", "--progress-spinner", "off", "--timeout", "15"]
MOST_SECONDS = 300


class Pin(NamedTuple):
    """The lowest version that is safe, and why."""

    requirement: Requirement
    reason: str


def main(arguments: list[str]) -> int:
    """Print a line for every weakness and one that says who was asked; return 1 if there are any, else 0."""
    found = None if "--offline" in arguments else ask_service()
    if found is not None:
        lines, asked = found, "pip-audit, which asked its advisory service just now"
    else:
        pins = read_pins(PINS)
        lines = list(too_old(pins, installed))
        asked = f"{PINS.name} ({len(pins)} packages, {known_on(PINS)}), none newer: pip-audit is not here or offline"
    print("\n".join([*lines, f"{len(lines)} weaknesses known to {asked}"]))
    return int(bool(lines))


def ask_service() -> list[str] | None:
    """Return a line for every weakness that pip-audit tells of, None if it is not here or cannot ask."""
    if importlib.util.find_spec("pip_audit") is None:
        return None
    command = [sys.executable, "-m", "pip_audit", *OPTIONS]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=MOST_SECONDS, check=False)
        packages = json.loads(done.stdout)["dependencies"]
    except (OSError, subprocess.TimeoutExpired, ValueError, KeyError, TypeError):
        return None
    return [
        f"{package['name']} {package['version']}: {known['id']}, mended in {', '.join(known['fix_versions']) or 'none'}"
        for package in packages
        for known in package.get("vulns", [])
    ]


def read_pins(path: Path) -> list[Pin]:
    """Return the lines of the list."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    rows = [line.partition("#") for line in lines]
    return [Pin(Requirement(requirement.strip()), reason.strip()) for requirement, _, reason in rows]


def known_on(path: Path) -> str:
    """Return the first words of the list, which say how old it is."""
    return path.read_text(encoding="utf-8").partition(":")[0].removeprefix("# ").lower()


def too_old(pins: Iterable[Pin], version: Callable[[str], str | None]) -> Iterator[str]:
    """Yield a line for every installed package that is below its pin."""
    for pin in pins:
        found = version(canonicalize_name(pin.requirement.name))
        if found is not None and not pin.requirement.specifier.contains(found, prereleases=True):
            yield f"{pin.requirement.name} {found}: {pin.requirement.specifier} is safe; {pin.reason}"


def installed(name: str) -> str | None:
    """Return the version of a package, None if it is not installed."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
