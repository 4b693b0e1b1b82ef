"""One line for every mistake on the command line: what was given, what is right, and the nearest name."""

import os
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from launchers import KEY, launcher_fault
from processes import LOST, lost, taking_part, unsaid

# The library is imported inside functions: importing it takes seconds, and --help should not.

CFG = Path(__file__).resolve().parent / "cfg"
USER_FAULT, INTERRUPTED = 2, 130
LONGEST = 2_000  # characters of a message
BEFORE_THE_JOB = (OSError, ValueError, TypeError, AttributeError, LookupError, AssertionError, RuntimeError)
"""What Hydra lets through for want of a folder, a handler of logs, or a key of its own."""
DATE = re.compile(r"\d{4}-\d{2}-\d{2}")


class JobFailed(HydraException):
    """A job of a sweep failed and has been answered; the other jobs go on."""


class NoOption(HydraException):
    """A group was given something other than a name."""


def run_command_line(main: Callable[[], Any]) -> int:
    """Run a Hydra main function and return the exit code, with one line on stderr for a mistake of the user.

    Args:
        main: Decorated by hydra.main, in an environment with HYDRA_FULL_ERROR=1, so that errors arrive here.
    """
    try:
        with taking_part():
            check_options(sys.argv[1:])
            main()
    except JobFailed:
        return USER_FAULT
    except (HydraException, OmegaConfBaseException) as error:
        complain(explain(error, sys.argv[1:]))
        return USER_FAULT
    except BrokenPipeError:  # python main.py --help | head
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  (or Python complains once more at its end)
    except BEFORE_THE_JOB as error:
        if (sentence := lost(error)) is not None:
            if sentence:
                complain(sentence)
            return LOST
        if reached(main, error):  # then it is no mistake of the command line, and the traceback should be seen
            raise
        from partial_equiv.errors import UserError

        # A mistake is told by main itself, but for processes that did not meet.
        complain(str(error) if isinstance(error, UserError) else explain_start(error))
        if folder := begun(error):
            remove_empty(folder)
        return USER_FAULT
    except KeyboardInterrupt:
        complain("interrupted before anything was trained")
        return INTERRUPTED
    return 0


def complain(sentence: str) -> None:
    """Write one line to stderr, what cannot be printed as its number, and not more than a page of it."""
    line = "".join(letter if letter.isprintable() else f"\\x{ord(letter):02x}" for letter in " ".join(sentence.split()))
    if len(line) > LONGEST:
        line = f"{line[: LONGEST * 2 // 3]} ... {line[-LONGEST // 3 :]}"
    if unsaid(line):
        sys.stderr.write(f"error: {line}\n")


def reached(main: Callable[[], Any], error: BaseException) -> bool:
    """Say whether an error comes out of the function that Hydra runs, and not out of Hydra on its way there."""
    code = getattr(main, "__wrapped__", main).__code__
    return any(frame.f_code is code for frame, _ in traceback.walk_tb(error.__traceback__))


def begun(error: BaseException) -> Path | None:
    """Return the folder that Hydra made for a job before it failed to start it, None if it made none."""
    folders = [frame.f_locals.get("output_dir") for frame, _ in traceback.walk_tb(error.__traceback__)]
    return next((Path(folder).absolute() for folder in folders if isinstance(folder, str)), None)


def explain_start(error: Exception) -> str:
    """Return in one sentence what kept Hydra from starting a job."""
    if isinstance(error, RecursionError):
        return "the command line nests brackets too deeply: give lists of a few levels"
    if isinstance(error, OSError):
        return f"{error.filename or 'the run folder'}: {error.strerror or error}; choose a writable hydra.run.dir"
    return f"Hydra cannot start: {error or type(error).__name__}; look at what is given for hydra.*"


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
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        if group := next((name for name in sorted(groups()) if error.missing_cfg_file.startswith(f"{name}/")), None):
            return wrong_choice(group, error.missing_cfg_file.removeprefix(f"{group}/"), options_of(group))
        return wrong_choice(*error.missing_cfg_file.rpartition("/")[::2], list(error.options or []))
    if found := re.match(r"Could not override '([^'@]+)", text):
        return wrong_key(found[1], arguments)
    if found := re.match(r"Could not append to config\. An item is already at '([^']+)'", text):
        return f"{found[1]} is there already: leave out the +, give {found[1]}=<value>"
    if text.startswith("Ambiguous value for argument"):
        given = (re.search(r"'([^']+)'", text) or [text, text])[1]
        return f"{given} holds a comma: add -m to sweep over both values, or give a list as key=[a,b]"
    reason = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else None
    if isinstance(error, OmegaConfBaseException):
        where = error.full_key or ", ".join(argument for argument in arguments if "${" in argument)
        return f"{where or 'the configuration'}: {text.splitlines()[0]}"
    first = [line for line in [*text.splitlines(), *str(reason or "").splitlines()] if line.strip()]
    return ": ".join(first[:3]) if first else type(error).__name__


def groups() -> set[str]:
    """Return the names of the groups of options."""
    folders = (path.relative_to(CFG) for path in CFG.rglob("*") if path.is_dir())
    return {folder.as_posix() for folder in folders if folder.parts[0] != "hydra"}


def options_of(group: str) -> list[str]:
    """Return the names that a group can be given."""
    folder = CFG / group
    # Folders within a group hold pieces of its options, but for experiments, which are sorted into folders.
    files = folder.rglob("*.yaml") if group == "experiment" else folder.glob("*.yaml")
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in files)


def check_options(arguments: Sequence[str]) -> None:
    """Check that every group is given a name, where Hydra itself would break.

    Raises:
        NoOption: it is given a number, a list or a set of keys.
    """
    if fault := launcher_fault(arguments):
        raise NoOption(fault)
    known, parser = groups(), OverridesParser.create()
    for argument in arguments:
        if argument.lstrip("+").partition("=")[0] not in known:
            continue
        try:
            override = parser.parse_override(argument)
        except OverrideParseException:  # Hydra will say so
            continue
        if not (override.is_sweep_override() or isinstance(override.value(), str)):
            group = override.key_or_group
            listed = f"one name of: {shortened(options_of(group))}"
            raise NoOption(f"{argument}: {group} takes {listed}; set its keys as {group}.<key>=<value>")


def shortened(names: Sequence[str], most: int = 12) -> str:
    """Return names as a list for a sentence."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def wrong_choice(group: str, choice: str, options: list[str]) -> str:
    """Return what to say of an option file that does not exist."""
    from partial_equiv.menu import nearest

    return f"{group}={choice} is not one of: {shortened(options)}{nearest(choice, options)}"


def wrong_key(key: str, arguments: Sequence[str]) -> str:
    """Return what to say of a key that the configuration does not hold."""
    from partial_equiv.menu import nearest

    known = list(paths(tree(arguments, with_hydra=key.startswith("hydra."))))
    if key in known and swept(arguments):
        return f"{key} is no key of the option that the sweep starts from: write ++{key}=<value>"
    if key in known:
        return f"{key} is given keys that it has not: add each by itself, as +{key}.<key>=<value>"
    above, _, last = key.rpartition(".")
    siblings = [path for path in known if path.rpartition(".")[0] == above]
    hint = nearest(last, [path.rpartition(".")[2] for path in siblings])
    if hint and above:
        hint = hint.replace("'", f"'{above}.", 1)
    elif not hint:
        same_name = sorted((path for path in known if path.rpartition(".")[2] == last), key=lambda p: p.count("."))
        hint = f", did you mean '{same_name[0]}'?" if same_name else nearest(key, known)
    names = ", ".join(path.rpartition(".")[2] for path in siblings)
    listed = f" ({above or 'the root'} holds: {names})" if siblings and not hint else ""
    return f"{key} is not a key of the configuration{listed}{hint}"


def swept(arguments: Sequence[str]) -> bool:
    """Say whether a group is given several options, as in train=sie,vicreg."""
    known = groups()
    return any("," in value and group.lstrip("+") in known for group, _, value in (a.partition("=") for a in arguments))


def tree(arguments: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """Return the configuration with the options, but not the values, that were asked for; of several the first."""
    from hydra import compose, initialize_config_dir

    known = groups() | {KEY}
    options = [item.partition(",")[0] for item in arguments if item.lstrip("+").partition("=")[0] in known]
    with initialize_config_dir(str(CFG), version_base="1.3"):
        try:
            return compose("config", options, return_hydra_config=with_hydra)
        except (HydraException, OmegaConfBaseException):  # one of them is wrong as well: the default tree must do
            return compose("config", return_hydra_config=with_hydra)


def paths(node: DictConfig, above: str = "") -> Iterator[str]:
    """Yield the dotted path of every key."""
    for key in node:
        path = f"{above}{key!s}"
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
