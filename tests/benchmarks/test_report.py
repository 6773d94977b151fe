"""The benchmark's document, from invented measurements; nothing is trained."""

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.bars import verdicts
from benchmarks.bench import document, markdown, why_not
from benchmarks.plan import SHAPES, SINGLE, Options, Request, chosen, requests
from benchmarks.report import accuracy_table, summary, table
from bitfit.errors import RequestError

LIMITS = [{"bf16": 400.0, "fp32": 180.0}] * 2
SPEED = {"engine-bitfit": 3000.0, "trainer-bias": 1000.0, "trainer-full": 700.0}


def raw(shape: str, system: str, turn: int, kind: str = "single", **other: Any) -> dict[str, Any]:
    figures = {
        "tokens_per_second": SPEED.get(system, 500.0) + 100 * turn,
        "steady_steps": 5,
        "steady_seconds": 2.0,
        "runs_measured": 1,
        "peak_mib": 300.0,
        "first_step_seconds": 4.0,
        "accuracies": [0.7 + 0.02 * turn],
        "format": "float32",
        "flop_per_token": 5e7,
    }
    return {"shape": shape, "system": system, "kind": kind, "round": turn, **figures, **other}


def some_rounds() -> list[dict[str, Any]]:
    return [raw("imdb-b32", system, turn) for turn in range(2) for system in SPEED]


def test_the_document_is_json_with_medians_spread_and_every_raw_figure() -> None:
    made = json.loads(json.dumps(document(Options(rounds=2), some_rounds(), LIMITS, {"rte-b16": "no data"})))
    assert {"format", "when", "machine", "versions", "options", "gflops", "skipped", "cells", "bars", "raw"} == set(
        made
    )
    first = made["cells"][0]
    assert (first["system"], first["tokens_per_second"]["median"]) == ("engine-bitfit", 3050.0)
    assert (first["tokens_per_second"]["low"], first["tokens_per_second"]["high"]) == (3000.0, 3100.0)
    assert first["times"] == pytest.approx(3050 / 1050)
    assert first["share_of_limit"] == pytest.approx(5e7 * 3050 / 400e9)
    assert len(made["raw"]) == 6


def test_the_table_says_what_failed_and_what_was_skipped() -> None:
    failed = {"shape": "imdb-b32", "system": "engine-full", "kind": "single", "round": 0, "failed": "out of luck"}
    text = markdown(document(Options(), [*some_rounds(), failed], LIMITS, {"rte-b16": "needs --data-dir"}))
    assert "FAILED imdb-b32 engine-full: out of luck" in text
    assert "skipped rte-b16: needs --data-dir" in text
    assert "| bitfit: bitfit | fp32 | 3,050 (3,000 - 3,100) | 2.90 |" in text


def test_bars_are_held_against_what_was_measured_only() -> None:
    found = verdicts(summary(some_rounds(), LIMITS))
    by_other = {one["what"]: one["reached"] for one in found}
    assert len(found) == 4
    assert by_other["speed: bitfit: bitfit against Trainer: full, at least, fp32"] is True
    assert by_other["peak memory: bitfit: bitfit against Trainer: full, at most, fp32"] is False


def test_a_format_is_compared_with_itself_only() -> None:
    ours = raw("imdb-b32", "engine-bitfit", 0, format="bfloat16")
    theirs = [raw("imdb-b32", "trainer-bias", 0), raw("imdb-b32", "trainer-full", 0)]
    apart = summary([ours, *theirs], LIMITS)
    assert [one["what"] for one in verdicts(apart)] == ["bitfit: bitfit, share of the limit (aim 0.65), bf16"]
    assert [cell["times"] for cell in apart] == [None, 1.0, 0.7]
    autocast = raw("imdb-b32", "trainer-bias-bf16", 0, format="bfloat16 (autocast)", tokens_per_second=1500.0)
    cells = summary([ours, *theirs, autocast], LIMITS)
    assert {cell["system"]: cell["times"] for cell in cells}["engine-bitfit"] == 2.0
    speed = next(one for one in verdicts(cells) if str(one["what"]).startswith("speed"))
    assert "Trainer: biases and head, bf16=True" in str(speed["what"])
    assert speed["came"] == 2.0
    assert "| Trainer: biases and head | fp32 | 1,000 | 1.00 |" in table(cells)


def test_every_trainer_row_is_measured_in_both_formats_by_default() -> None:
    for shape, systems in chosen(Options()):
        formats = {(s.method, s.precision) for s in systems if s.loop == "trainer"}
        methods = {method for method, _ in formats}
        assert formats == {(method, form) for method in methods for form in ("fp32", "bf16")}, shape.name


def test_accuracy_within_a_standard_deviation_is_said() -> None:
    seeds = [raw("rte-b16", system, turn) for turn in range(3) for system in ("engine-bitfit", "trainer-bias")]
    assert "- rte-b16: reached: ours is +0.00 points" in accuracy_table(summary(seeds, []))


def test_only_chooses_shapes_and_systems_by_their_names() -> None:
    picked = chosen(Options(only=("imdb", "lora")))
    assert [(shape.name, [s.name for s in systems]) for shape, systems in picked] == [
        ("imdb-b32", ["trainer-lora", "trainer-lora-bf16"])
    ]
    exact = chosen(Options(only=("imdb", "engine-bitfit")))
    assert [s.name for _, systems in exact for s in systems] == ["engine-bitfit"]
    with pytest.raises(RequestError, match="--only 'imbd' is in no"):
        chosen(Options(only=("imbd",)))


def test_requests_survive_the_way_to_a_process_and_turns_alternate() -> None:
    options = Options(quick=True, data_dir=Path("somewhere"))
    there, back = (list(requests(options, SHAPES[0], SINGLE, turn)) for turn in range(2))
    assert [r.system for r in back] == [r.system for r in there][::-1]
    assert Request.from_json(there[0].to_json()) == there[0]


def test_a_shape_without_its_data_is_skipped_with_a_reason(tmp_path: Path) -> None:
    rte = next(shape for shape in SHAPES if shape.task == "rte")
    assert "needs --data-dir" in why_not(rte, Options())
    assert "no folder" in why_not(rte, Options(data_dir=tmp_path))
    assert why_not(SHAPES[0], Options()) == ""


def test_epochs_are_asked_for_and_said() -> None:
    for options, wanted, said in (
        (Options(accuracy=True), 3, "epochs: rotten-tomatoes-b16 3, rte-b16 6"),
        (Options(accuracy=True, epochs=1), 1, "epochs: 1"),
    ):
        (shape, systems) = next(one for one in chosen(options) if one[0].name == "rotten-tomatoes-b16")
        assert {request.epochs for request in requests(options, shape, systems, 0)} == {wanted}
        assert said in markdown(document(options, some_rounds(), LIMITS, {}))
