"""The benchmark's one command: every system in turn, a process each, then a table and a JSON file."""

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from benchmarks.bars import bars_table, verdicts
from benchmarks.plan import ACCURACY_EPOCHS, LIMIT, Options, Request, Shape, chosen, requests
from benchmarks.report import accuracy_table, summary, table
from bitfit.errors import BitfitError

ROOT, RESULTS = Path(__file__).parents[1], Path(__file__).parent / "results"
CORES = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
PATIENCE = 3600  # seconds for one process
PACKAGES = ("bitfit", "torch", "transformers", "peft", "accelerate")


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="One round of few steps: does it all still run?")
@click.option("--only", multiple=True, metavar="WORD", help="Shapes or systems with this in their name. Repeatable.")
@click.option("--rounds", type=click.IntRange(1), help="Default: 3; with --quick 1, with --accuracy 5 seeds.")
@click.option("--steps", type=click.IntRange(2), help="Steps of each run. Default: the shape's own.")
@click.option("--accuracy", is_flag=True, help="Whole epochs, validation accuracy over seeds. Takes hours.")
@click.option("--epochs", type=click.IntRange(1), help="With --accuracy. Default: 3 on Rotten Tomatoes, 6 on RTE.")
@click.option("--data-dir", type=click.Path(exists=True, path_type=Path), help="Folder with RTE in the hub's layout.")
@click.option("--tiny", type=click.Path(exists=True, path_type=Path), help="Model folder of BERT-tiny's shape.")
@click.option("--threads", type=click.IntRange(1), default=CORES, help="Default: all cores.")
@click.option("--out", type=click.Path(path_type=Path), help="The JSON file. Default: one in benchmarks/results.")
def main(out: Path | None, rounds: int | None, **given: Any) -> None:
    """Measure this engine beside the Hugging Face Trainer and PEFT."""
    usual = 1 if given["quick"] else 5 if given["accuracy"] else 3
    options = Options(rounds=rounds or usual, **given)
    path = out or RESULTS / f"{_kind(options)}-{datetime.now(UTC):%Y%m%d-%H%M%S}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    made: dict[str, Any] = {}
    try:
        for made in measured(options):  # written as it grows: a benchmark cut short keeps what it has
            path.write_text(json.dumps(made, indent=1) + "\n")
            path.with_suffix(".md").write_text(markdown(made))
    except BitfitError as error:
        raise click.ClickException(str(error)) from None
    click.echo(markdown(made))
    click.echo(f"{path}", err=True)
    if any("failed" in one for one in made["raw"]):
        sys.exit(1)


def measured(options: Options) -> Iterator[dict[str, Any]]:
    """The document so far, after each shape of each round."""
    picked = chosen(options)
    skipped = {shape.name: reason for shape, _ in picked if (reason := why_not(shape, options))}
    limits: list[dict[str, float]] = []
    raw: list[dict[str, Any]] = []
    for turn in range(options.rounds):
        limits += [one["gflops"] for one in [_ask(Request(picked[0][0], LIMIT, turn), options)] if "gflops" in one]
        for shape, systems in picked:
            if shape.name not in skipped:
                raw += _round(requests(options, shape, systems, turn), options)
            yield document(options, raw, limits, skipped)


def document(
    options: Options,
    raw: list[dict[str, Any]],
    limits: list[dict[str, float]],
    skipped: Mapping[str, str],
) -> dict[str, Any]:
    """What the JSON file holds."""
    cells = summary(raw, limits)
    return {
        "format": 1,
        "when": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "machine": {
            "processor": processor(),
            "threads": options.threads,
            "system": platform.system(),
            "highest_instructions": os.environ.get("ONEDNN_MAX_CPU_ISA", "all"),
        },
        "versions": {name: version(name) for name in PACKAGES},
        "options": {name: value for name, value in asdict(options).items() if name not in ("data_dir", "tiny")},
        "gflops": limits,
        "skipped": dict(skipped),
        "cells": cells,
        "bars": [] if options.accuracy else verdicts(cells),
        "raw": raw,
    }


def markdown(document: Mapping[str, Any]) -> str:
    """The document for a person."""
    options, machine = document["options"], document["machine"]
    limits = "; ".join(_rates(one) for one in document["gflops"])
    lines = [
        f"{machine['processor']}, {machine['threads']} threads, instructions: {machine['highest_instructions']}; "
        + ", ".join(f"{name} {number}" for name, number in document["versions"].items()),
        f"matrix products, GFLOP/s in each round: {limits or 'not measured'}",
        f"{options['rounds']} round(s): median (lowest - highest)" + (", quick: few steps" if options["quick"] else ""),
    ]
    if options["accuracy"]:
        wanted = options["epochs"] or ", ".join(f"{shape} {epochs}" for shape, epochs in ACCURACY_EPOCHS.items())
        lines.append(f"epochs: {wanted}")
    lines += [f"skipped {shape}: {reason}" for shape, reason in document["skipped"].items()]
    lines += [f"FAILED {one['shape']} {one['system']}: {one['failed']}" for one in document["raw"] if "failed" in one]
    parts = ["\n".join(f"- {line}" for line in lines)]
    parts.append(accuracy_table(document["cells"]) if options["accuracy"] else table(document["cells"]))
    if document["bars"]:
        parts.append("### Bars\n\n" + bars_table(document["bars"]))
    return "\n\n".join(parts) + "\n"


def _rates(limit: Mapping[str, float]) -> str:
    """A round's rates, the best first."""
    return ", ".join(f"{name.replace('_', ' ')} {rate:,.0f}" for name, rate in limit.items())


def why_not(shape: Shape, options: Options) -> str:
    """The reason why a shape cannot be measured here; empty if it can."""
    if not shape.needs_data:
        return ""
    if options.data_dir is None:
        return f"its task '{shape.task}' needs --data-dir"
    if not list(options.data_dir.glob(f"*/{shape.task}/train*")):
        return f"--data-dir has no folder '*/{shape.task}' with a train file"
    return ""


def processor() -> str:
    """The processor's model, as the system names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _round(asked: Iterator[Request], options: Options) -> Iterator[dict[str, Any]]:
    for request in asked:
        began = time.monotonic()
        found = _ask(request, options)
        names = {"shape": request.shape.name, "system": request.system.name, "kind": request.shape.kind}
        rate = found.get("tokens_per_second")
        came = f"{rate:9,.0f} tokens/s" if rate else f"failed: {found['failed']}"
        took = time.monotonic() - began
        click.echo(f"{request.round + 1}  {names['shape']:26}{names['system']:20}{came}  ({took:.0f} s)", err=True)
        yield {**names, "round": request.round, **found}


def _ask(request: Request, options: Options) -> dict[str, Any]:
    """One measurement in a fresh process; a failure is an answer too."""
    # The same threads for every system, and nobody asks the network for anything.
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(options.threads),
        "MKL_NUM_THREADS": str(options.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
    }
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        line = replace(request, started=time.monotonic()).to_json()
        command = [sys.executable, "-m", "benchmarks.worker", line, str(answer)]
        try:
            done = subprocess.run(
                command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"no answer within {PATIENCE} s"}
        if done.returncode:
            last = done.stderr.strip().splitlines()
            return {"failed": last[-1] if last else f"ended with code {done.returncode}"}
        return dict(json.loads(answer.read_text()))


def _kind(options: Options) -> str:
    return ("quick-" if options.quick else "") + ("accuracy" if options.accuracy else "bench")


if __name__ == "__main__":
    main()
