"""Override lists as hands type them, well and badly: a pure function of a seed, made from the options on disk."""

import functools
import random
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf

from config_errors import CFG, groups, options_of, tree

QUIET = ("debug", "dry_run")
"""Keys that the fuzz leaves alone: one asks for tracebacks, the other keeps it from training."""
INTEGERS = ("0", "1", "2", "3", "5", "7", "8", "16", "64", "-1", "1000", "1000000", "1000000000000")
NUMBERS = ("0", "0.0", "1e-3", "0.5", "1", "1.0", "-1", "3.7", "1e3", "1e-300", "1e300")
LISTS = ("[]", "[0]", "[1]", "[1,2]", "[2,1,0]", "[-1]", "[1.5]", "[a]", "[a,b]", "[null]", "[[1]]", "[true]")
DICTS = ("{}", "{a:1}", "{epochs:1}", "{a:{b:[1,2]}}")
TEXTS = ("a", "none", "null", "''", "'a b'", "ü", "same", "full", "valid", "mean", "all")
WILD = (
    *("", " ", "null", "~", "nan", "inf", "-inf", ".nan", "1e400", f"1{'0' * 30}", "-9223372036854775809", "9" * 5000),
    *("0x10", "1_000", "007", "true", "yes", "off", "'", '"', "'a", '"a\nb"', "a\nb", "a\tb", "a\rb", "\x1b[31m"),
    *("\x7f", "日本", "🦊", "²", "٣", "½", "\u202e", "\u00a0", "\ufeff", "\udcff", "e\u0301", "(", ","),
    *("[", "]", "{", "}", "[[]]", "[[1,[2]],3]", "[1,2", "{a", "{a:1", "a,b", "1,2", "[,]", "a b", "a=b", "\\", "\\\\"),
    *("$", "${", "${}", "${seed}", "${nowhere}", "${net}", "${train.lr}", "${.}", "${..seed}", "${oc.env:HOME}"),
    *("${oc.env:PARTIAL_EQUIV_NOWHERE}", "${oc.env:PARTIAL_EQUIV_NOWHERE,7}", "${oc.decode:'[1,2]'}", "${now:%Y}"),
    *("${hydra:run.dir}", "${oc.create:{a:1}}", "${oc.select:nowhere,3}", "${nobody:1}", "${seed", "$${seed}", "???"),
    *(
        ":",
        "=",
        "$HOME",
        "\\n",
        "../..",
        "/",
        "/etc/passwd",
        "file:///",
        "~/x",
        "nul",
        "*",
        "?",
        "glob(*)",
        "range(1,5)",
    ),
    *("choice(1,2)", "interval(0,1)", "sort(3,1)", "shuffle(1,2)", "int(3.5)", "int(x)", "float(x)", "str(1)"),
    *("bool(2)", "json_str({a:1})", "tag(a,1)", "extend_list(1)", "nobody(1)", "@", "a@b", "!!python/name:os.system"),
    *("&a", "*a", "- x", "|", ">", "%", "#", "`", "a" * 5000, "[" * 40 + "1" + "]" * 40, "[" * 3000),
)
ODD = (
    *("", " ", "=", "==", "=1", ".", ".=1", "a", "a.b", "a..b=1", ".a=1", "a.=1", "net", "net.", "net.=1"),
    *("net..type=x", "+", "++", "~", "+=1", "++=1", "~=1", "~nowhere", "+net", "~net.nowhere", "~net.type=GCNN"),
    *("net@x=GCNN", "+net@x=GCNN", "net@=GCNN", "net@_global_=GCNN", "@net=GCNN", "net/GCNN", "net/x=GCNN", "+net/x=1"),
    *("~train", "~seed=1", "%s=1", "seed=1=2", "seed:1", "seed =1", "seed= 1", " seed=1", "'seed'=1"),
    *(
        "seed[0]=1",
        "net[type]=GCNN",
        "train.lr.x=1",
        "seed.x=1",
        "train.probes.0=a",
        "train.probes[0]=a",
        "+train.stages={}",
        "++net={}",
    ),
    *("défaut=1", "网络=1", "seed=1\nseed=2", "\n", "\t", "seed\t=1", "1=1", "null=1", "true=1", "?=1", "*=1"),
    *("++train=1", "net={}", "hydra.run.dri=x", "hydra=1", "+hydra.x=1", "hydra.job.name=", "hydra/launcher=nobody"),
    *(
        "hydra.mode=nobody",
        "hydra.verbose=maybe",
        "hydra.run.dir=",
    ),
    *("hydra.run.dir=/proc/nowhere/x", "+a.b.c.d=1"),
    *("resume=nowhere", "run=nowhere", "run=nowhere do=evaluate", "pretrained=nowhere", "pretrained=/etc", "resume=/"),
    *("resume=auto", "resume=x run=y", "do=export", "do=evaluate", "run=/etc/passwd do=evaluate", "resume=~", "run=."),
    *("dataset=npz", "dataset=npz dataset.root=nowhere.npz", "dataset=npz dataset.root=/"),
    *("dataset=folder", "dataset=folder dataset.root=nowhere", "dataset=folder dataset.root=/proc/self", "resume=''"),
    *("dataset=view_npz dataset.root=/etc/passwd", "dataset=npz dataset.root=[a.npz,b.npz]", "dataset=view_npz"),
    *("dataset=npz dataset.root=/dev/null", "dataset=npz dataset.root=[]", "hydra/job_logging=nobody"),
)
"""Whole arguments, some of them two: broken words, missing files, and what Hydra itself reads."""


class Known(NamedTuple):
    """What there is to choose: options by group, and the values that keys have in any option file, as typed."""

    options: dict[str, list[str]]
    values: dict[str, list[Any]]


@functools.cache
def known():
    """Return the options on disk, and every key with the values that it has somewhere."""
    found = {}
    default = OmegaConf.to_container(tree([]), resolve=True)
    sources = [("", default)]
    chosen = {group: options_of(group) for group in sorted(groups()) if "/" not in group}
    for group in sorted(chosen.keys() - {"experiment"}):
        for name in chosen[group]:
            text = (CFG / group / f"{name}.yaml").read_text(encoding="utf-8")
            sources.append((f"{group}.", yaml.safe_load(text) or {}))
    for name in chosen["experiment"]:
        sources.append(("", yaml.safe_load((CFG / "experiment" / f"{name}.yaml").read_text(encoding="utf-8")) or {}))
    for prefix, content in sources:
        for key, value in leaves(content, prefix):
            listed = found.setdefault(key, [])
            if value not in listed:
                listed.append(value)
    return Known({group: names for group, names in chosen.items() if names}, found)


def leaves(content, prefix=""):
    """Yield (dotted key, value) of a tree of choices; groups of keys are values too, defaults lists are not."""
    for key, value in content.items():
        if key == "defaults" or key.split(".")[0] in QUIET or "/" in key:
            continue
        yield f"{prefix}{key}", value
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")


def typed(value):
    """Return a value as it is typed."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list):
        return f"[{','.join(map(typed, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{typed(entry)}" for key, entry in value.items()) + "}"
    text = str(value)
    quoted = isinstance(value, str) and not text.startswith("${") and not text.replace("_", "").isalnum()
    return f"'{text}'" if quoted else text


@functools.cache
def tops():
    """Return the keys by their first word; those of the root are together."""
    found = {}
    for key in known().values:
        top = key.partition(".")[0] if "." in key else ""
        found.setdefault(top, []).append(key)
    return found


def some_key(draw):
    """Return a key; every group is as likely as another, however many keys it has."""
    return draw.choice(tops()[draw.choice(list(tops()))])


def misspelt(draw, word):
    """Return a word with one letter dropped, doubled, swapped, changed or in another case."""
    if not word:
        return "x"
    place = draw.randrange(len(word))
    before, letter, after = word[:place], word[place], word[place + 1 :]
    other = draw.choice(["", 2 * letter, "x", letter.swapcase(), f"{letter}s"])
    return f"{before}{other}{after}"


def option(draw):
    """Choose an option of a group."""
    group = draw.choice([group for group in known().options if group != "experiment"])
    return [f"{group}={draw.choice(known().options[group])}"]


def overlay(draw):
    """Add an experiment."""
    return [f"+experiment={draw.choice(known().options['experiment'])}"]


def value(draw):
    """Give a key a value that it has somewhere."""
    key = some_key(draw)
    return [f"{key}={typed(draw.choice(known().values[key]))}"]


def other_value(draw):
    """Give a key a value of its own kind, or of another's."""
    key = some_key(draw)
    kind = draw.choice(known().values[key])
    likely = {bool: ("true", "false"), int: INTEGERS, float: NUMBERS, list: LISTS, dict: DICTS, str: TEXTS}
    pool = likely.get(type(kind), INTEGERS) if draw.random() < 0.7 else (*INTEGERS, *NUMBERS, *LISTS, *DICTS, *TEXTS)
    return [f"{key}={draw.choice(pool)}"]


def wild(draw):
    """Give a key, or a group, what nobody means."""
    key = some_key(draw) if draw.random() < 0.8 else draw.choice(list(known().options))
    return [f"{key}={draw.choice(WILD)}"]


def mistyped(draw):
    """Misspell a key, an option or a value."""
    if draw.random() < 0.5:
        group = draw.choice(list(known().options))
        name = misspelt(draw, draw.choice(known().options[group]))
        return [f"{'+' if group == 'experiment' else ''}{group}={name}"]
    key = some_key(draw)
    chosen = typed(draw.choice(known().values[key]))
    return [draw.choice([f"{misspelt(draw, key)}={chosen}", f"{key}={misspelt(draw, chosen)}"])]


def prefixed(draw):
    """Add, force or remove a key, whether it is there or not."""
    key = some_key(draw) if draw.random() < 0.8 else draw.choice(list(known().options))
    key = draw.choice([key, key, f"{key}.extra", misspelt(draw, key)])
    sign, value = draw.choice(["+", "++", "~"]), draw.choice((*INTEGERS, *TEXTS))
    return [f"{sign}{key}" if sign == "~" and draw.random() < 0.7 else f"{sign}{key}={value}"]


def odd(draw):
    """Type something else altogether."""
    return draw.choice(ODD).split(" ") if draw.random() < 0.8 else [draw.choice(ODD)]


KINDS = {option: 5, overlay: 1, value: 5, other_value: 5, wild: 4, mistyped: 2, prefixed: 2, odd: 2}
SENSIBLE = {option: 4, value: 5, other_value: 1, overlay: 1}


def case(seed):
    """Return the override list of a seed; every other one is nearly sensible, so that choices meet each other."""
    draw = random.Random(seed)
    kinds = SENSIBLE if seed % 2 else KINDS
    no_parts = draw.choice((1, 1, 2, 2, 3, 4, 6))
    makers = draw.choices(list(kinds), weights=list(kinds.values()), k=no_parts)
    return [argument for make in makers for argument in make(draw)]
