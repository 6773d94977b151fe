"""The command line as a process: where its output goes, and what becomes of it when it cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitfit.cli import main

NAME = "bert.encoder.layer.0.attention.output.LayerNorm.bias"
# The program with a command of one table, which loads no torch: the way out is every command's.
SCRIPT = f"""
import sys, types
import click
from bitfit.cli import main
from bitfit.cli.output import json_option, result, table

@click.command()
@json_option
def command(as_json):
    rows = [["{NAME}", "b_LN1", "attention_norm"]] * 40
    result(as_json, {{"rows": rows}}, lambda console: console.print(table("", ["name", "term", "role"], rows)))

sys.modules["lines"] = types.SimpleNamespace(command=command)
main.COMMANDS["lines"] = ("lines", "Some lines.")
main.main(sys.argv[1:])
"""


@pytest.fixture(scope="module")
def lines() -> list[str]:
    return [sys.executable, "-c", SCRIPT, "lines"]


@pytest.mark.slow
def test_the_program_as_a_process_of_its_own(tiny_folder: str) -> None:
    program = [sys.executable, "-m", "bitfit", "terms", tiny_folder, "--labels", "2"]
    found = subprocess.run(program, capture_output=True, text=True, check=True)
    assert NAME in found.stdout
    assert found.stderr == ""


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_goes_away_ends_the_command_quietly(lines: list[str], more: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        found = subprocess.run([*lines, *more], stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert found.returncode == 141
    assert found.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_behind_standard_output_is_told(lines: list[str], more: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        found = subprocess.run([*lines, *more], stdout=full, stderr=subprocess.PIPE, text=True)
    assert found.returncode == 6
    assert "cannot be written to standard output: No space left" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_closed_standard_output_is_no_mistake(lines: list[str]) -> None:
    found = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *lines], stderr=subprocess.PIPE, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_table_is_not_folded_where_no_terminal_is(lines: list[str]) -> None:
    found = subprocess.run(lines, capture_output=True, text=True, check=True)
    assert any(line.split()[:2] == [NAME, "b_LN1"] for line in found.stdout.splitlines())


def test_where_memory_runs_out_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(main.command, "main", full)
    assert main.run(["terms"]) == 6
    assert "Memory ran out: no more could be had. End other programs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("asked", "meant"),
    [
        (["train", "x.csv", "--lr", "1e-3"], "--learning-rate"),
        (["train", "x.csv", "--bs=8"], "--batch-size"),
        (["train", "x.csv", "--output", "y"], "--out"),
        (["eval", "x", "--max-len", "64"], "--max-length"),
    ],
)
def test_an_option_by_another_tools_name_leads_to_its_name_here(
    asked: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main.run(asked) == 2
    assert f"Did you mean '{meant}'?" in capsys.readouterr().err


def test_an_option_that_the_command_lacks_is_not_suggested(capsys: pytest.CaptureFixture[str]) -> None:
    assert main.run(["eval", "x", "--lr", "1"]) == 2
    assert "--learning-rate" not in capsys.readouterr().err


def test_every_alias_leads_to_an_option_of_some_command() -> None:
    from importlib import import_module

    options = {
        name
        for module, _ in main.COMMANDS.values()
        for parameter in import_module(module).command.params
        for name in parameter.opts
    }
    assert set(main.ALIASES.values()) <= options
    assert not set(main.ALIASES) & options
