"""What SECURITY.md promises: no source runs what a file says, run folders are not believed, weak packages are told.

Files of data sets are in `tests/datasets/test_crafted.py`.
"""

import ast
import importlib.util
import json
import os
import struct
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from safetensors.torch import save

from partial_equiv.errors import UserError
from partial_equiv.runs import RunFolder, load_model, load_state, save_state
from partial_equiv.runs.atomic import write_atomically
from partial_equiv.runs.plain_yaml import MOST_BYTES, check_plain, read_yaml
from partial_equiv.runs.state import MARK
from tests.nets.specs import GCNN, make_spec
from tests.test_house import SOURCES, name_of

ROOT = Path(__file__).resolve().parents[1]
RUNS_CODE = {
    *("os.system", "os.popen", "builtins.eval", "builtins.exec", "builtins.compile"),
    *("hydra.utils.instantiate", "hydra.utils.call", "hydra.utils.get_class", "hydra.utils.get_method"),
    *("yaml.load", "yaml.load_all", "yaml.full_load", "yaml.unsafe_load", "yaml.Loader", "yaml.UnsafeLoader"),
    *("torch.load", "torch.jit.load", "torch.hub.load", "joblib.load", "pandas.read_pickle"),
    *("pickle.load", "pickle.loads", "dill.load", "marshal.loads", "shelve.open", "runpy.run_path"),
    *("shutil.unpack_archive", "tarfile.TarFile.extractall", "zipfile.ZipFile.extractall"),
}
BUILT_IN = ("eval", "exec", "compile", "__import__")
BY_NAME = {
    "partial_equiv/audit/sources.py": "MODEL=package.module:callable of the command line",
    "partial_equiv/nets/steerable_peers.py": "constants of the file",
}
"""Sources that import by a name that is computed, and where it comes from."""


def uses(tree):
    """Yield (line, full name) of everything that is called or passed on, aliases of imports resolved."""
    full = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {alias.asname or alias.name.split(".")[0]: alias.asname and alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute):
            head, dot, rest = ast.unparse(node).partition(".")
            yield node.lineno, f"{full.get(head) or head}{dot}{rest}"


def breaches(source, name=""):
    """Return what of a text runs code that a file or a word may choose; `name` is that of its file."""
    tree = ast.parse(source)
    found = [f"line {line}: {used}" for line, used in uses(tree) if used in RUNS_CODE]
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        called, keywords = ast.unparse(node.func), {key.arg: ast.unparse(key.value) for key in node.keywords}
        last = called.rpartition(".")[2]
        faults = {
            "built in": called in BUILT_IN,
            "with a shell": keywords.get("shell", "False") != "False",
            "takes paths from an archive": last == "extractall",
            "may unpickle": called in ("np.load", "numpy.load") and keywords.get("allow_pickle") != "False",
            "of a computed name": last == "import_module"
            and not (node.args and isinstance(node.args[0], ast.Constant))
            and name not in BY_NAME,
        }
        found += [f"line {node.lineno}: {called}, {why}" for why, there in faults.items() if there]
    return found


def test_no_source_runs_what_a_file_says():
    sources = {path: breaches(path.read_text(encoding="utf-8"), name_of(path)) for path in SOURCES}
    assert {name_of(path): found for path, found in sources.items() if found} == {}
    assert len(SOURCES) > 200


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "from hydra.utils import instantiate\ninstantiate(cfg)",
        "import hydra\nhydra.utils.instantiate(cfg)",
        "from hydra import utils as u\nu.instantiate(cfg)",
        "import yaml as y\ny.load(text, Loader=y.Loader)",
        "import torch as t\nt.load(path)",
        "from torch import load as read\nread(path)",
        "import numpy as np\nnp.load(path)",
        "import subprocess\nsubprocess.run(text, shell=True)",
        "import os\nos.system(text)",
        "exec(text)",
        "archive.extractall(folder)",
        "import importlib\nimportlib.import_module(name)",
    ],
)
def test_the_scan_sees_a_breach(source):
    assert breaches(source)


def test_the_scan_lets_pass_what_is_harmless():
    assert not breaches("import importlib, yaml\nimportlib.import_module('timm')\nyaml.safe_load(text)\nmodel.eval()")


def pins():
    """Return package -> lowest safe version, as a requirement."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / "security_pins.txt").read_text().splitlines()]
    listed = [Requirement(line) for line in lines if line]
    return {canonicalize_name(requirement.name): requirement.specifier for requirement in listed}


def test_what_is_pinned_is_safe():
    for line in (ROOT / "constraints.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            pinned = Requirement(line)
            (version,) = (entry.version for entry in pinned.specifier)
            safe = pins().get(canonicalize_name(pinned.name))
            assert safe is None or safe.contains(version, prereleases=True), f"{line}, {safe} is safe"


def test_no_bound_of_ours_lets_a_weak_version_in():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = [
        *project["dependencies"],
        *(line for extra in project["optional-dependencies"].values() for line in extra),
    ]
    for requirement in map(Requirement, direct):
        safe = pins().get(canonicalize_name(requirement.name))
        lowest = next((entry.version for entry in requirement.specifier if entry.operator == ">="), "0")
        assert safe is None or safe.contains(lowest, prereleases=True), f"{requirement} allows {lowest}, {safe} is safe"
    assert pins()["hydra-core"].contains("1.3.7") and not pins()["hydra-core"].contains("1.3.6")


@pytest.fixture
def audit():
    """Return the script of `make audit`."""
    spec = importlib.util.spec_from_file_location("audit_script", ROOT / ".ci" / "audit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_pin_has_a_reason_and_a_source(audit):
    read = audit.read_pins(ROOT / "security_pins.txt")
    assert len(read) > 5
    for pin in read:
        reason, _, source = pin.reason.rpartition("; ")
        assert reason and all(word.startswith(("CVE-", "GHSA-")) for word in source.split(", ")), pin


def test_an_audit_without_pip_audit_compares_versions_and_says_so(audit, monkeypatch, capsys):
    versions = {"pillow": "12.9", "hydra-core": "1.3.7"}
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(audit, "installed", versions.get)
    assert audit.main([]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].startswith("pillow 12.9: >=13.0.0 is safe; ") and "CVE-" in told[0]
    assert told[1].startswith("1 weaknesses known to security_pins.txt") and "known on 20" in told[1]
    versions["pillow"] = "13.0.0"
    assert audit.main([]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def service(answer):
    """Return a stand-in for subprocess.run of pip-audit."""

    def run(command, **keywords):
        assert command[1:3] == ["-m", "pip_audit"]
        if isinstance(answer, Exception):
            raise answer
        return subprocess.CompletedProcess(command, 1, answer, "")

    return run


def test_an_audit_with_pip_audit_tells_what_it_says(audit, monkeypatch, capsys):
    weak = {
        "name": "x",
        "version": "1",
        "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}, {"id": "A", "fix_versions": []}],
    }
    skipped = {"name": "partial-equiv", "skip_reason": "editable"}
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(audit.subprocess, "run", service(json.dumps({"dependencies": [weak, skipped]})))
    assert audit.main([]) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[:2] == ["x 1: CVE-1, mended in 2", "x 1: A, mended in none"]
    assert told[2].startswith("2 weaknesses known to pip-audit")


@pytest.mark.parametrize("answer", ["", "no network", "[]", subprocess.TimeoutExpired("pip-audit", 1), OSError("gone")])
def test_an_audit_without_a_network_falls_back(audit, monkeypatch, capsys, answer):
    monkeypatch.setattr(audit.importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(audit.subprocess, "run", service(answer))
    monkeypatch.setattr(audit, "installed", lambda name: None)
    assert audit.main([]) == 0
    assert "security_pins.txt" in capsys.readouterr().out


def numbered(*rows):
    """Return rows of a parametrised test whose names are their numbers: the values are long."""
    return [
        pytest.param(*(row if isinstance(row, tuple) else (row,)), id=str(number)) for number, row in enumerate(rows)
    ]


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{b}: &{b} [{','.join([f'*{a}'] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "words"),
    numbered(
        (BOMB, "holds aliases, which no run writes"),
        ("a: &a {<<: *a}", "holds aliases"),
        ("a: &a [*a]", "holds aliases"),
        ("seed: !!python/object/apply:os.mkdir ['ran']", "is damaged: could not determine a constructor"),
        ("seed: !!python/name:os.system", "is damaged"),
        ("a: " + "[" * 900_000, "is damaged: more than 1,000 brackets"),
        ("a: " + "[" * 900, "is damaged"),
        ("- " * 50_000, "is damaged"),
        (f"a: {'9' * 5_000}", "is damaged: Exceeds the limit"),
        ("a: 2026-99-99", "is damaged: month must be in 1..12"),
        ("{[a]: 1}", "is damaged"),
        ("- 1", "is not a set of keys"),
        ("", "is not a set of keys"),
        ("a: 1\n---\nb: 2", "is damaged"),
        ("a: \x00", "is damaged"),
        ("#" * (MOST_BYTES + 1), f"at most {MOST_BYTES:,} are read"),
    ),
)
def test_a_strangers_choices_are_plain_or_refused(tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        read_yaml(tmp_path / "config.yaml")
    assert words in str(caught.value) and str(tmp_path / "config.yaml") in str(caught.value)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500
    assert not (tmp_path / "ran").exists()


def test_no_text_is_told(tmp_path):
    (tmp_path / "config.yaml").write_bytes(b"a: \xff")
    with pytest.raises(UserError, match="is damaged: 'utf-8' codec"):
        read_yaml(tmp_path / "config.yaml")


def test_choices_of_ours_are_read_back(tmp_path):
    text = (ROOT / "tests" / "default_config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text)
    read = read_yaml(tmp_path / "config.yaml")
    check_plain(read)
    assert read["net"]["type"] == "CKResNet" and read["train"]["epochs"] == 12


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "a.b=nan is not finite"),
        (float("-inf"), "a.b=-inf is not finite"),
        ([1, [2.0, float("inf")]], "a.b=inf is not finite"),
        (2**63, "a.b is an integer of 64 bits"),
        ([-(10**5_000)], "a.b is an integer of 16610 bits"),
        ("x\0", "holds what is no text"),
        ("\udcff", "holds what is no text"),
    ],
)
def test_values_that_nothing_can_hold_are_named(value, words):
    with pytest.raises(UserError) as caught:
        check_plain({"a": {"b": value}})
    assert words in str(caught.value)
    check_plain({"a": {"b": [1.5, 2**63 - 1, "ü\n", None, True, {}]}})


def spoiled(**changes):
    """Return a spec of a network with other sections."""
    return {**make_spec(GCNN), **changes}


@pytest.mark.parametrize(
    "spec",
    [
        None,
        [],
        "net",
        {},
        spoiled(net=[]),
        spoiled(net=None),
        spoiled(net={}),
        spoiled(info=3),
        spoiled(info={"in_channels": "x", "no_classes": 10, "size": [12, 12]}),
        spoiled(info={"in_channels": 1, "no_classes": 10, "size": 12}),
        spoiled(info={"in_channels": 1, "no_classes": -3, "size": [12, 12]}),
        spoiled(info={"in_channels": 10**9, "no_classes": 10**9, "size": [12, 12]}),
        spoiled(net={**make_spec(GCNN)["net"], "no_hidden": 10**9}),
        spoiled(kernel={**make_spec(GCNN)["kernel"], "size": 10**9 + 1}),
        spoiled(base_group={**make_spec(GCNN)["base_group"], "no_samples": 10**12}),
    ],
)
def test_a_strangers_checkpoint_builds_no_monster(tmp_path, spec):
    save_state(tmp_path, "best", {"x": torch.zeros(1)}, {"spec": spec})
    with pytest.raises(UserError) as caught:
        load_model(tmp_path)
    assert "\n" not in str(caught.value)


def forged(header, content=b"", claimed=None):
    """Return a file that begins as safetensors do: the length of the header, the header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if claimed is None else claimed) + text + content


def entry(dtype="F32", shape=(1,), offsets=(0, 4)):
    return {"x": {"dtype": dtype, "shape": list(shape), "data_offsets": list(offsets)}}


@pytest.mark.parametrize(
    "content",
    numbered(
        forged(entry(), claimed=2**63),
        forged(entry(), claimed=2**40),
        forged(entry(), claimed=200 << 20),
        forged(entry(shape=(2**40,), offsets=(0, 2**42)), b"1234"),
        forged(entry(shape=(2**33, 2**33), offsets=(0, 4)), b"1234"),
        forged(entry(offsets=(0, 8)), b"1234"),
        forged(entry(offsets=(4, 0)), b"1234"),
        forged(entry(dtype="PICKLE"), b"1234"),
        forged(b"[" * 100_000, b""),
        forged({"__metadata__": {MARK: "[" * 100_000}, **entry()}, b"1234"),
        forged({"__metadata__": {MARK: '{"version": 1, "meta": ' + "9" * 5_000 + "}"}, **entry()}, b"1234"),
        b"\x80\x04cos\nsystem\n",
        b"PK\x03\x04",
        b"",
    ),
)
def test_a_forged_checkpoint_is_told(tmp_path, content):
    (tmp_path / "best.safetensors").write_bytes(content)
    with pytest.raises(UserError, match=r"best\.safetensors") as caught:
        load_state(tmp_path, "best")
    assert "\n" not in str(caught.value)


def test_a_digest_is_no_signature_but_finds_damage(tmp_path):
    save_state(tmp_path, "best", {"x": torch.arange(4.0)}, {"spec": None})
    content = (tmp_path / "best.safetensors").read_bytes()
    (tmp_path / "best.safetensors").write_bytes(save({"x": torch.arange(4.0)}, {MARK: '{"version": 1, "meta": {}}'}))
    with pytest.raises(UserError, match=r"best\.safetensors"):
        load_state(tmp_path, "best")
    (tmp_path / "best.safetensors").write_bytes(content)
    assert load_state(tmp_path, "best")[0]["x"].tolist() == [0, 1, 2, 3]


@pytest.fixture
def treasure(tmp_path):
    """A file outside a run folder that nothing may touch."""
    (tmp_path / "run").mkdir()
    (tmp_path / "treasure").write_text("mine")
    return tmp_path / "treasure"


@pytest.mark.parametrize("name", ["config.yaml", ".config.yaml.tmp"])
def test_a_link_in_a_run_folder_is_replaced_and_not_written_through(treasure, name):
    folder = treasure.parent / "run"
    (folder / name).symlink_to(treasure)
    write_atomically(folder / "config.yaml", b"seed: 1\n")
    assert treasure.read_text() == "mine"
    assert (folder / "config.yaml").read_text() == "seed: 1\n" and not (folder / "config.yaml").is_symlink()
    assert [path.name for path in folder.iterdir()] == ["config.yaml"]


def test_a_log_is_not_written_through_a_link(treasure):
    folder = treasure.parent / "run"
    (folder / "metrics.jsonl").symlink_to(treasure)
    treasure.write_text('{"epoch": 0}\n')
    with RunFolder(folder, {"seed": 0}) as run:
        run.log(1, {"loss": 1.0})
    assert treasure.read_text() == '{"epoch": 0}\n'
    assert not (folder / "metrics.jsonl").is_symlink()


def test_a_hard_link_of_another_name_keeps_what_it_had(treasure):
    folder = treasure.parent / "run"
    os.link(treasure, folder / "summary.json")
    with RunFolder(folder, {"seed": 0}) as run:
        run.summary({"loss": 1.0})
    assert treasure.read_text() == "mine"
