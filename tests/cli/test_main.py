"""The command line as a process: where its output goes, and what becomes of it when it cannot be written."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from bitfit.cli import main

PROGRAM = [sys.executable, "-m", "bitfit"]


@pytest.fixture(scope="module")
def terms(tiny_folder: str) -> list[str]:
    return [*PROGRAM, "terms", tiny_folder, "--labels", "2"]


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_reader_that_goes_away_ends_the_command_quietly(terms: list[str], more: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        found = subprocess.run([*terms, *more], stdout=writing, stderr=subprocess.PIPE, text=True)
    finally:
        os.close(writing)
    assert found.returncode == 141
    assert found.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no /dev/full")
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_a_full_disk_behind_standard_output_is_told(terms: list[str], more: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        found = subprocess.run([*terms, *more], stdout=full, stderr=subprocess.PIPE, text=True)
    assert found.returncode == 6
    assert "cannot be written to standard output: No space left" in found.stderr
    assert "Traceback" not in found.stderr


def test_a_closed_standard_output_is_no_mistake(terms: list[str]) -> None:
    found = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *terms], stderr=subprocess.PIPE, text=True)
    assert (found.returncode, found.stderr) == (0, "")


def test_a_table_is_not_folded_where_no_terminal_is(terms: list[str]) -> None:
    found = subprocess.run(terms, capture_output=True, text=True, check=True)
    name = "bert.encoder.layer.0.attention.output.LayerNorm.bias"
    assert any(line.split()[:2] == [name, "b_LN1"] for line in found.stdout.splitlines())


def test_where_memory_runs_out_that_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(**_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(main.command, "main", full)
    assert main.run(["terms"]) == 6
    assert "Memory ran out: no more could be had. End other programs" in capsys.readouterr().err
