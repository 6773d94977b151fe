"""The project's own files: one version, and hooks and a workflow that call what is really there."""

import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import bitfit
from bitfit.cli.main import run

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def read_yaml(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text(encoding="utf-8"))


def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", MAKEFILE, re.MULTILINE))


def test_the_version_is_written_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert "version" in PROJECT["dynamic"]
    assert "version" not in PROJECT
    command = [sys.executable, "-m", "hatchling", "version"]  # what a built package will say
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    assert built == bitfit.__version__
    assert importlib.metadata.version("bitfit") == bitfit.__version__, "run: make install"
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.split()[-1] == bitfit.__version__


def test_the_hooks_call_the_environment_and_no_network() -> None:
    repositories = read_yaml(".pre-commit-config.yaml")["repos"]
    assert [repository["repo"] for repository in repositories] == ["local"]
    entries = [hook["entry"].split()[0] for hook in repositories[0]["hooks"]]
    assert set(entries) == {".venv/bin/ruff", ".venv/bin/mypy"}


def test_the_workflow_runs_make_targets_on_each_python_that_is_promised() -> None:
    jobs = read_yaml(".github/workflows/ci.yml")["jobs"]
    commands = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert {"make check", "make test"} <= set(commands)
    assert {command.removeprefix("make ") for command in commands} <= targets()
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    assert pythons == ["3.11", "3.12", "3.13", "3.14"]
    listed = [line.rpartition(" ")[2] for line in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", line)]
    assert listed == pythons
    assert PROJECT["requires-python"] == f">={pythons[0]}"


def test_every_make_target_says_what_it_is_for() -> None:
    phony = re.search(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)
    assert phony
    for target in phony.group(1).split():
        assert re.search(rf"^{target}:.*## \w", MAKEFILE, re.MULTILINE), target


def test_the_citation_names_the_software_and_the_paper() -> None:
    citation = read_yaml("CITATION.cff")
    assert citation["authors"] == [{"name": "The bitfit developers"}]
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert paper["doi"] == "10.18653/v1/2022.acl-short.1"


def test_the_lowest_lock_holds_the_lower_ends_that_are_promised() -> None:
    lines = (ROOT / "requirements-lowest.lock").read_text(encoding="utf-8").splitlines()
    locked = dict(line.split("==") for line in lines if "==" in line)
    promised = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["hub"]]
    for extra in ("lora", "plots", "images"):
        promised += PROJECT["optional-dependencies"][extra]
    for requirement in promised:
        name, _, lowest = requirement.partition(">=")
        found = locked[name].split(".")
        wanted = lowest.split(".")
        assert found == wanted + ["0"] * (len(found) - len(wanted)), requirement
