"""Facts of the environment, against git itself."""

import subprocess

import torch

from partial_equiv.runs import device_name, environment_facts
from partial_equiv.runs.environment import commit


def git(folder, *arguments):
    identity = ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    done = subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_commit_is_the_head_of_the_repository_that_tracks_the_file(tmp_path):
    source, stranger = tmp_path / "source.py", tmp_path / "stranger.py"
    source.write_text("1")
    assert commit(source) == "unknown"
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", "source.py")
    git(tmp_path, "commit", "-qm", "first")
    git(tmp_path, "tag", "v1")
    stranger.write_text("2")
    head = git(tmp_path, "rev-parse", "HEAD")
    assert commit(source) == head
    assert commit(stranger) == "unknown"
    source.write_text("3")
    assert commit(source) == head + "-dirty"


def test_without_git_the_commit_is_unknown(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment_facts()["commit"] == "unknown"


def test_facts_are_flat_text():
    facts = environment_facts()
    assert facts.keys() == {"commit", "python", "torch", "platform"}
    assert facts["torch"] == torch.__version__
    assert all(type(value) is str and value for value in facts.values())
    assert device_name("cpu").startswith("cpu: ")
