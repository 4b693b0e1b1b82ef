"""One line for every mistake on the command line: what was given, what is right, and the nearest name."""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

# The library is imported inside functions: importing it takes seconds, and --help should not.

CFG = Path(__file__).resolve().parent / "cfg"
USER_FAULT, INTERRUPTED = 2, 130
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class JobFailed(HydraException):
    """A job of a sweep failed and has been answered; the other jobs go on."""


def run_command_line(main: Callable[[], Any]) -> int:
    """Run a Hydra main function and return the exit code, with one line on stderr for a mistake of the user.

    Args:
        main: Decorated by hydra.main, in an environment with HYDRA_FULL_ERROR=1, so that errors arrive here.
    """
    try:
        main()
    except JobFailed:
        return USER_FAULT
    except (HydraException, OmegaConfBaseException) as error:
        complain(explain(error, sys.argv[1:]))
        return USER_FAULT
    except KeyboardInterrupt:
        complain("interrupted before anything was trained")
        return INTERRUPTED
    return 0


def complain(sentence: str) -> None:
    """Write one line to stderr."""
    sys.stderr.write(f"error: {' '.join(sentence.split())}\n")


def explain(error: Exception, arguments: Sequence[str]) -> str:
    """Return an error of Hydra or OmegaConf in one sentence that says what would be right.

    Args:
        error: What was raised while the configuration was composed or resolved.
        arguments: The command line.
    """
    text = str(error)
    if isinstance(error, OverrideParseException):
        return (
            f"{error.override!r} cannot be read: write key=value, lists as key=[1,2], and quote texts that hold "
            f"spaces, commas or brackets as 'key=\"a, b\"'"
        )
    if isinstance(error, MissingConfigException) and error.options is not None and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        return wrong_choice(group, choice, list(error.options))
    if found := re.match(r"Could not override '([^'@]+)", text):
        return wrong_key(found[1], arguments)
    if found := re.match(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"{found[1]} is there already: leave out the +, give {found[1]}=<value>"
    if text.startswith("Ambiguous value for argument"):
        given = (re.search(r"'([^']+)'", text) or [text, text])[1]
        return f"{given} holds a comma: add -m to sweep over both values, or give a list as key=[a,b]"
    reason = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    first = [line for line in [*text.splitlines(), *str(reason or "").splitlines()] if line.strip()]
    return ": ".join(first[:3]) if first else type(error).__name__


def wrong_choice(group: str, choice: str, options: list[str]) -> str:
    """Return what to say of an option file that does not exist."""
    from partial_equiv.menu import nearest

    if not options:
        return wrong_key(group, [])
    return f"{group}={choice} is not one of: {', '.join(options)}{nearest(choice, options)}"


def wrong_key(key: str, arguments: Sequence[str]) -> str:
    """Return what to say of a key that the configuration does not hold."""
    from partial_equiv.menu import nearest

    known = list(paths(tree(arguments)))
    above, _, last = key.rpartition(".")
    siblings = [path for path in known if path.rpartition(".")[0] == above]
    hint = nearest(last, [path.rpartition(".")[2] for path in siblings])
    if hint and above:
        hint = hint.replace("'", f"'{above}.", 1)
    elif not hint:
        same_name = [path for path in known if path.rpartition(".")[2] == last]
        hint = f", did you mean '{same_name[0]}'?" if same_name else nearest(key, known)
    names = ", ".join(path.rpartition(".")[2] for path in siblings)
    listed = f" ({above or 'the root'} holds: {names})" if siblings and not hint else ""
    return f"{key} is not a key of the configuration{listed}{hint}"


def tree(arguments: Sequence[str]) -> DictConfig:
    """Return the configuration with the options, but not the values, that were asked for."""
    from hydra import compose, initialize_config_dir

    groups = {path.relative_to(CFG).as_posix() for path in CFG.rglob("*") if path.is_dir()}
    options = [item for item in arguments if item.lstrip("+").partition("=")[0] in groups and "," not in item]
    with initialize_config_dir(str(CFG), version_base="1.3"):
        try:
            return compose("config", options)
        except (HydraException, OmegaConfBaseException):  # one of them is wrong as well: the default tree must do
            return compose("config")


def paths(node: DictConfig, above: str = "") -> Iterator[str]:
    """Yield the dotted path of every key."""
    for key in node:
        path = f"{above}{key}"
        yield path
        below = node._get_node(key)
        if isinstance(below, DictConfig) and not below._is_none():
            yield from paths(below, f"{path}.")


def remove_empty(folder: Path) -> None:
    """Remove a run folder that Hydra created and nothing was written to, and the date above it if that is empty too."""
    here = Path.cwd()
    for place in (folder, *folder.parents):
        made = place == folder or place.is_relative_to(here) or DATE.fullmatch(place.name)
        if not made or here.is_relative_to(place):
            return
        try:
            place.rmdir()
        except OSError:  # not empty, or gone: both end the walk
            return
