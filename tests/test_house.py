"""The rules of the house: who may import whom, what never appears, and how long a page may be."""

import ast
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "partial_equiv"
FACADE = "partial_equiv/__init__"

# Each line imports from the lines above it alone.
FLOORS = (
    ("errors",),
    ("menu",),
    ("rotations", "ranks"),
    ("groups", "kernels", "datasets", "drawing"),
    ("sampling", "symmetry", "latents"),
    ("convs",),
    ("nets",),
    (FACADE,),
    ("objectives", "audit"),
    ("probes", "export"),
    ("lars", "processes"),
    ("runs", "optim", "schedules", "train_choices"),
    ("detector", "self_supervised_constructor", "compiling"),
    ("model_constructor", "dataset_constructor", "objective_constructor"),
    ("evaluation_constructor",),
    ("tester", "checkpointer", "progress", "stopping", "sentinels", "launchers", "search_space"),
    ("steps", "keeper", "stored_config", "search_trial"),
    ("epoch",),
    ("trainer", "reporter", "illustrator", "config_reader"),
    ("job", "config_errors", "search_report"),
    ("main", "search"),
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SEE_CONFIGURATION = {"main", "config_reader", "config_errors"}
# The audit measures any torch module, so it knows none of ours: groups, turned images and figures are all it takes.
AUDIT_KNOWS = {"errors", "menu", "groups", "datasets", "drawing", "audit"}

LINES_OF_A_FILE = 300
LINES_OF_A_FUNCTION = 60
LINES_OF_AN_OPTION = 25
RUNS_CODE = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "shelve", "marshal"}


def project_files():
    """Return what belongs to the project: tracked files and new ones that git does not ignore."""
    listed = subprocess.run(
        ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode == 0 and listed.stdout:
        names = [ROOT / name for name in listed.stdout.split("\0") if name]
    else:  # an unpacked archive, or no git
        names = [p for p in ROOT.rglob("*") if not any(part.startswith(".") for part in p.relative_to(ROOT).parts)]
    return sorted(p for p in names if p.is_file())


FILES = project_files()
PYTHON = [p for p in FILES if p.suffix == ".py"]
IN_LIBRARY = [p for p in PYTHON if p.is_relative_to(ROOT / LIBRARY)]
SCRIPTS = [p for p in PYTHON if p.parent == ROOT]
SOURCES = [p for p in PYTHON if not p.is_relative_to(ROOT / "tests")]


def name_of(path):
    return path.relative_to(ROOT).as_posix()


def each(paths):
    return pytest.mark.parametrize("path", [pytest.param(p, id=name_of(p)) for p in paths])


def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def room_of(path):
    """Return the room a source file lies in; a script is its own room."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    if parts[0] != LIBRARY:
        return parts[0]
    return FACADE if parts[1] == "__init__" else parts[1]


def imports_of(tree):
    """Return (line, dotted name) of every import; `from a import b` counts as a.b, of which a may be the module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import, write the full name"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def rooms_imported(tree):
    """Return (line, room, module) for every import of this project; the module is what stands behind `from`."""
    for node in ast.walk(tree):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            rooms = node.module == LIBRARY and all(alias.name in FLOOR for alias in node.names)
            modules = [f"{LIBRARY}.{alias.name}" for alias in node.names] if rooms else [node.module or ""]
        for module in modules:
            parts = module.split(".")
            if parts[0] == LIBRARY:
                yield node.lineno, parts[1] if len(parts) > 1 else FACADE, module
            elif parts[0] in FLOOR or parts[0] in ("tests", "benchmarks"):
                yield node.lineno, parts[0], module


def forbidden(room, other, module):
    """Return why a file of `room` may not import `module` of the room `other`, or None."""
    if other == room:
        return None
    if other in ("tests", "benchmarks"):
        return "experiments and tests import the library, never the reverse"
    if other not in FLOOR:
        return f"{other} stands on no floor"
    if FLOOR[other] >= FLOOR[room]:
        return f"{room} stands on floor {FLOOR[room]}, {other} on {FLOOR[other]}: import only downward"
    if module.count(".") > 1:
        return f"another room is entered through its __init__: from {LIBRARY}.{other} import ..."
    if room == "audit" and other not in AUDIT_KNOWS:
        return f"the audit works on any torch module and does not know {other}"
    return None


@each(IN_LIBRARY + SCRIPTS)
def test_a_room_imports_only_what_lies_below_it(path):
    room = room_of(path)
    assert room in FLOOR, f"{name_of(path)}: {room} stands on no floor"
    rooms = rooms_imported(tree_of(path))
    faults = [f"{name_of(path)}:{line}: {why}" for line, *other in rooms if (why := forbidden(room, *other))]
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize(
    ("room", "statement", "why"),
    [
        ("groups", "from partial_equiv.sampling import Sampler", "import only downward"),
        ("groups", "from partial_equiv.kernels import SIREN", "import only downward"),
        ("nets", "import trainer", "import only downward"),
        ("nets", "import partial_equiv", "import only downward"),
        ("nets", "from partial_equiv import runs", "import only downward"),
        ("nets", "from partial_equiv.convs.layers import GroupConv", "through its __init__"),
        ("audit", "from partial_equiv.nets import build", "any torch module"),
        ("audit", "from partial_equiv.convs import GroupFeatureMap", "any torch module"),
        ("runs", "from benchmarks import table", "never the reverse"),
        ("nets", "from partial_equiv.convs import GroupConv", None),
        ("nets", "from partial_equiv.nets.kit import ConvKit", None),
        ("runs", "import partial_equiv", None),
        ("main", "from trainer import train", None),
    ],
)
def test_the_check_of_floors_sees_a_breach(room, statement, why):
    found = [forbidden(room, *other) for _, *other in rooms_imported(ast.parse(statement))]
    assert (why in found[0]) if why else found == [None]


@each(IN_LIBRARY + SCRIPTS)
def test_configuration_stays_above_its_boundary(path):
    packages = {name.split(".")[0] for _, name in imports_of(tree_of(path))}
    room = room_of(path)
    if room not in SEE_CONFIGURATION:
        assert not packages & {"hydra", "omegaconf"}, f"{name_of(path)}: a DictConfig ends in main"
    if room not in ("runs", "main"):
        assert "wandb" not in packages, f"{name_of(path)}: W&B is a sink of partial_equiv.runs"


@each(SOURCES)
def test_a_page_holds_one_idea(path):
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= LINES_OF_A_FILE, f"{name_of(path)}: {lines} lines, at most {LINES_OF_A_FILE}"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = node.end_lineno - node.lineno + 1
            where = f"{name_of(path)}:{node.lineno}"
            assert length <= LINES_OF_A_FUNCTION, f"{where}: {node.name} has {length} lines, at most 60"


def dotted(node):
    """Return a call's name as written, such as torch.load; empty for what is not a plain name."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


@each(PYTHON)
def test_nothing_runs_code_from_a_file_and_nothing_is_swallowed(path):
    in_tests = path not in SOURCES  # users may pickle a network, so a test may do it
    for node in ast.walk(tree_of(path)):
        where = f"{name_of(path)}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.ImportFrom):
            assert all(alias.name != "*" for alias in node.names), f"{where}: star import"
        if isinstance(node, ast.Import | ast.ImportFrom) and not in_tests:
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            assert not {m.split(".")[0] for m in modules} & RUNS_CODE, f"{where}: loading this runs code"
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            assert name not in ("eval", "exec", "yaml.load", "hydra.utils.instantiate"), f"{where}: {name} runs code"
            assert in_tests or name not in ("torch.load", "torch.save"), f"{where}: {name}, write safetensors"
            assert in_tests or path not in IN_LIBRARY or name != "print", f"{where}: the library never prints"
            pickled = [k for k in node.keywords if k.arg == "allow_pickle"]
            assert in_tests or all(ast.unparse(k.value) == "False" for k in pickled), f"{where}: loading this runs code"
        if isinstance(node, ast.ExceptHandler) and not in_tests:
            caught = "everything" if node.type is None else ast.unparse(node.type)
            assert caught not in ("everything", "Exception", "BaseException"), f"{where}: catches {caught}"


@each(IN_LIBRARY)
def test_public_things_are_documented(path):
    tree = tree_of(path)
    assert ast.get_docstring(tree), f"{name_of(path)}: no module docstring"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            assert ast.get_docstring(node), f"{name_of(path)}:{node.lineno}: {node.name} has no docstring"


OPTIONS = [p for p in FILES if p.suffix == ".yaml" and p.is_relative_to(ROOT / "cfg")]


@each(OPTIONS)
def test_an_option_is_short_and_names_no_python_path(path):
    text = path.read_text(encoding="utf-8")
    if len(path.relative_to(ROOT).parts) == 3 and path.parent.name != "experiment":
        assert len(text.splitlines()) <= LINES_OF_AN_OPTION, f"{name_of(path)}: an option has at most 25 lines"
    assert "_target_" not in text, f"{name_of(path)}: a menu names constructors, YAML names no Python path"
    assert yaml.safe_load(text) is None or isinstance(yaml.safe_load(text), dict)


# In pieces, so that this file does not find itself.
ADDRESSES = re.compile(
    "|".join(["py" + r"pi\.org", "python" + "hosted", r"download\.py" + r"torch\.org/wh", r"/sim" + r"ple/?\b"])
)
LOOSE_ENDS = re.compile(r"\b(TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")


@pytest.mark.parametrize("path", [pytest.param(p, id=name_of(p)) for p in FILES])
def test_no_text_names_a_package_index_or_leaves_a_loose_end(path):
    content = path.read_bytes()
    if b"\0" in content:
        pytest.skip("not a text")
    text = content.decode("utf-8")
    assert not (found := ADDRESSES.search(text)), f"{name_of(path)}: {found.group()}: which index to use is the user's"
    assert not (found := LOOSE_ENDS.search(text)), f"{name_of(path)}: {found.group()}: do it or drop it"
