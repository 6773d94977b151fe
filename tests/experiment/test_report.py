"""Tables and claims from a folder of runs with known figures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from bitfit.cli.experiment import command
from bitfit.errors import RequestError
from bitfit.experiment.claims import Claim, claims
from bitfit.experiment.plan_file import read_plan
from bitfit.experiment.published import lines, published
from bitfit.experiment.report import markdown, maybe_get_published, report
from bitfit.experiment.results import RateChoice, Results
from bitfit.experiment.store import Store

METHODS = ["bitfit", "bitfit[b_m2,b_q]", "bitfit[b_m2]", "bitfit[b_q]", "frozen", "random-rows-columns", "full"]
Scores = Callable[[str, str, int], dict[str, dict[str, float]]]  # task, method, seed


def folder_of(path: Path, scores: Scores, **changed: Any) -> Path:
    """A folder with a file for every run of a plan."""
    document = {"name": "known", "tasks": ["rte", "mrpc"], "methods": METHODS, "seeds": [0, 1, 2]} | changed
    source = "\n".join(f"{key} = {json.dumps(value)}" for key, value in document.items())
    store = Store(path)
    path.mkdir(parents=True, exist_ok=True)
    (path / "plan.toml").write_text(source)
    store.open(plan := read_plan(path / "plan.toml"))
    for cell in plan.cells:
        for run in cell.runs:
            found = scores(cell.task.label, cell.method.name, run.config.seed)
            if found:
                store.put(run, _document(cell.method.name, run, found))
    return path


def _document(method: str, run: Any, scores: dict[str, dict[str, float]]) -> dict[str, Any]:
    changes = {"b_q": [0.4, 0.2], "b_k": [0.0, 0.0], "b_v": [0.1, 0.1], "b_m2": [0.2, 0.3 + run.config.seed / 100]}
    return {
        "scores": scores,
        "settings": run.config.to_json(),
        "trainable": 900 if method == "bitfit" else 10,
        "parameters": 1_000_000,
        "measured_on": {"validation": "277"},
        "changes": changes if method == "bitfit" else {},
        "asked": run.asked,
    }


def in_order(task: str, method: str, seed: int) -> dict[str, dict[str, float]]:
    """Each method of METHODS 5 points below the one before it, and a spread of half a point."""
    metric = {"rte": "accuracy", "mrpc": "f1", "mnli": "accuracy"}[task]
    value = 0.9 - 0.05 * METHODS.index(method) + 0.005 * (seed - 1)
    gap = (0.2 if method == "full" else 0.1) + 0.001 * (seed - 1)
    return {"train": {metric: value + gap}, "validation": {metric: value, "other": 0.5}}


def claim_of(folder: Path, name: str) -> Claim:
    return next(one for one in claims(Results.read(Store(folder))) if one.name == name)


def test_the_papers_order_holds_where_every_step_is_clear(tmp_path: Path) -> None:
    found = claim_of(folder_of(tmp_path, in_order), "subset_order")
    assert found.verdict == "holds"
    assert found.text == published()["claims"]["subset_order"]
    assert [one.mean for one in found.differences] == pytest.approx([5, 5, 5, 5, 20])
    test = found.differences[0].test
    assert test is not None
    assert test.error == pytest.approx((2 * 0.5**2 / 3) ** 0.5)
    assert test.corrected == pytest.approx(4 * test.p)  # one of the five pairs, from end to end, is clearer
    assert found.figures["bitfit"].mean == pytest.approx(90)
    assert set(found.by_task) == {"rte", "mrpc"}


def test_an_order_that_is_turned_around_does_not_hold(tmp_path: Path) -> None:
    turned = {"bitfit": "frozen", "frozen": "bitfit"}
    found = claim_of(
        folder_of(tmp_path, lambda task, method, seed: in_order(task, turned.get(method, method), seed)), "subset_order"
    )
    assert found.verdict == "does not hold"
    assert any(note.startswith("rte goes against it: bitfit is 15.0 below") for note in found.notes)
    assert "by the means alone" in found.notes[0]


def test_what_is_within_the_spread_or_missing_cannot_be_told(tmp_path: Path) -> None:
    def close(task: str, method: str, seed: int) -> dict[str, dict[str, float]]:
        return in_order(task, "bitfit", seed if method != "frozen" else 2 - seed)

    assert claim_of(folder_of(tmp_path / "close", close), "subset_order").verdict == "cannot be told"
    alone = folder_of(tmp_path / "alone", in_order, seeds=[1])
    found = claim_of(alone, "subset_order")
    assert found.verdict == "cannot be told"
    assert found.differences[0].test is None
    assert "one value of bitfit and of bitfit[b_m2,b_q]: no spread to test with" in markdown(alone)
    missing = claim_of(folder_of(tmp_path / "missing", in_order, methods=METHODS[:4]), "subset_order")
    assert missing.verdict == "cannot be told"
    assert "no average for frozen" in missing.notes
    assert claim_of(tmp_path / "missing", "random_worse").verdict == "cannot be told"


def test_pairs_on_single_tasks_are_a_family_of_their_own(tmp_path: Path) -> None:
    found = claim_of(folder_of(tmp_path, in_order), "generalization_gap")
    (average,) = found.differences
    single = [one for by_task in found.by_task.values() for one in by_task]
    assert average.test is not None
    assert average.test.corrected == average.test.p  # one pair is asked on the average
    smallest = min((one.test for one in single if one.test), key=lambda test: test.p)
    assert smallest.corrected == pytest.approx(2 * smallest.p)  # and two on tasks


def test_the_report_says_its_test_with_t_freedom_and_corrected_p(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, in_order)
    text = markdown(folder)
    assert "level 0.05, two-sided: by Welch's t test over seeds" in text
    assert "Holm's correction over the pairs of a claim" in text
    assert "bitfit over bitfit[b_m2,b_q]: +5 (t 12.25, df 4.0, p 0.00026, corrected 0.001): above" in text
    (first, *_) = next(one for one in report(folder)["claims"] if one["claim"] == "subset_order")["differences"]
    assert (first["t"], first["degrees_of_freedom"]) == pytest.approx((12.247, 4), abs=1e-3)
    assert first["corrected_p"] == pytest.approx(4 * first["p"])


def test_the_terms_are_compared_over_tasks_whose_seeds_count_once(tmp_path: Path) -> None:
    two = claim_of(folder_of(tmp_path / "two", in_order), "largest_change")
    assert two.verdict == "cannot be told"  # two tasks with the same changes: no spread between them
    assert {one.untested for one in two.differences} == {"no spread"}
    assert "over 2 tasks: b_q is number 1 of 4, b_m2 is number 2 of 4" in two.notes
    one = claim_of(folder_of(tmp_path / "one", in_order, tasks=["rte"]), "largest_change")
    assert "over 3 seeds of one task: b_q is number 1 of 4, b_m2 is number 2 of 4" in one.notes
    assert one.verdict == "holds"
    assert {pair.over for pair in one.differences} == {"b_v"}  # b_k never moves


def test_the_gap_the_key_bias_and_the_largest_changes_are_checked(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, in_order)
    gap = claim_of(folder, "generalization_gap")
    assert gap.verdict == "holds"
    assert {name: one.mean for name, one in gap.figures.items()} == pytest.approx({"full": 20, "bitfit": 10})
    key = claim_of(folder, "key_bias")
    assert (key.verdict, key.figures["b_k"].mean) == ("holds", 0)
    largest = claim_of(folder, "largest_change")
    assert list(largest.figures) == ["b_q", "b_m2", "b_v", "b_k"]


def test_the_table_stands_beside_the_paper_and_says_that_it_is_another_model(tmp_path: Path) -> None:
    text = markdown(folder_of(tmp_path, in_order))
    lines = text.splitlines()
    assert "42 of 42 runs. Model: minilm." in text
    assert "| method | trained | rte<br>validation, accuracy | mrpc<br>validation, f1 | average |" in lines
    assert "| `bitfit` | 0.09 % | 90.0 ± 0.5 | 90.0 ± 0.5 | 90.0 ± 0.5 |" in lines
    # The published average is over the tasks of this table: (72.3 + 90.4) / 2.
    assert "| *BERT-base, validation, the paper* | *0.09 %* | *72.3 ± 0.9* | *90.4 ± 0.5* | *81.3* |" in lines
    assert "another model" in text
    assert "### subset_order: holds" in text
    assert "validation (277): accuracy 90.0 ± 0.5, other 50.0 ± 0.0" in text


def test_the_document_is_json_and_holds_every_value(tmp_path: Path) -> None:
    found = report(folder_of(tmp_path, in_order))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["runs"] == {"finished": 42, "planned": 42}
    first = found["methods"][0]
    assert first["percent"] == pytest.approx(0.09)
    assert first["tasks"]["rte"]["scores"]["validation"]["accuracy"]["values"] == pytest.approx([89.5, 90, 90.5])
    assert {one["claim"] for one in found["claims"]} <= set(published()["claims"])


def test_rows_are_numbers_in_the_document_and_words_in_the_table(tmp_path: Path) -> None:
    whole = folder_of(tmp_path, in_order, tasks=["rte"], methods=["bitfit"])
    for path in (whole / "runs").iterdir():  # as a run of a part writes it
        document = json.loads(path.read_text())
        document["measured_on"] = {"validation": {"rows": 7469, "of": 9815}}
        path.write_text(json.dumps(document))
    assert report(whole)["methods"][0]["tasks"]["rte"]["measured_on"] == {"validation": {"rows": 7469, "of": 9815}}
    assert "validation (7,469 of 9,815): accuracy" in markdown(whole)
    old = folder_of(tmp_path / "old", in_order, tasks=["rte"], methods=["bitfit"])  # words, as older files have them
    assert report(old)["methods"][0]["tasks"]["rte"]["measured_on"] == {"validation": 277}


def test_an_average_needs_every_task_and_the_seeds_that_all_have(tmp_path: Path) -> None:
    def partly(task: str, method: str, seed: int) -> dict[str, dict[str, float]]:
        missing = task == "mrpc" and (method == "frozen" or seed == 2)
        return {} if missing else in_order(task, method, seed)

    results = Results.read(Store(folder_of(tmp_path, partly)))
    assert list(results.averages("bitfit")) == [0, 1]
    assert results.averages("frozen") == {}
    assert results.finished == 42 - 3 - 6
    assert "; 9 are missing" in markdown(tmp_path)


def test_both_halves_of_mnli_count_once(tmp_path: Path) -> None:
    def scores(task: str, method: str, seed: int) -> dict[str, dict[str, float]]:
        found = in_order(task, method, seed)
        return {**found, "validation_mismatched": {"accuracy": 0.5}} if task == "mnli" else found

    results = Results.read(Store(folder_of(tmp_path, scores, tasks=["rte", "mnli"])))
    assert [column.name for column in results.columns] == ["rte", "mnli_m", "mnli_mm"]
    assert results.averages("bitfit")[1] == pytest.approx((90 + (90 + 50) / 2) / 2)


def test_the_rate_is_chosen_by_the_mean_on_validation(tmp_path: Path) -> None:
    def one(rate: float, score: float, metric: str = "accuracy") -> dict[str, Any]:
        return {"settings": {"learning_rate": rate}, "scores": {"validation": {metric: score}, "test": {metric: 1.0}}}

    def chosen(documents: list[dict[str, Any]]) -> float:
        return RateChoice.of(documents, [1e-3, 2e-3]).chosen

    assert chosen([one(1e-3, 0.8), one(1e-3, 0.6), one(2e-3, 0.75), one(2e-3, 0.75)]) == 2e-3
    assert chosen([one(1e-3, 0.8), one(1e-3, 0.6), one(2e-3, 0.75)]) == 1e-3  # a seed of the other failed
    assert chosen([one(1e-3, 0.8, "mean_squared_error"), one(2e-3, 0.7, "mean_squared_error")]) == 2e-3


def test_a_test_part_is_what_is_shown_where_there_is_one(tmp_path: Path) -> None:
    def scores(task: str, method: str, seed: int) -> dict[str, dict[str, float]]:
        found = in_order(task, method, seed)
        return {**found, "test": {"accuracy": 0.25}} if task == "rte" else found

    results = Results.read(Store(folder_of(tmp_path, scores)))
    assert [(column.task, column.split) for column in results.columns] == [("rte", "test"), ("mrpc", "validation")]


def test_published_rows_are_found_by_method() -> None:
    bitfit = maybe_get_published("bitfit")
    assert bitfit in lines("table3")
    pruned = maybe_get_published("diff-pruning")
    assert pruned is not None
    assert (pruned.model, pruned.split) == ("bert-large", "validation")
    assert maybe_get_published("lora") is None


def test_a_folder_without_a_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"no plan\.toml"):
        report(tmp_path)


def test_a_folder_without_runs_says_so(tmp_path: Path) -> None:
    text = markdown(folder_of(tmp_path, lambda *_: {}))
    assert "There are no runs yet." in text
    assert "### key_bias: cannot be told" in text


def test_the_command_prints_markdown_or_one_json_document(tmp_path: Path) -> None:
    folder = str(folder_of(tmp_path, in_order))
    shown = CliRunner().invoke(command, ["report", folder], catch_exceptions=False)
    assert shown.stdout == markdown(tmp_path)
    found = CliRunner().invoke(command, ["report", folder, "--json"], catch_exceptions=False)
    assert json.loads(found.stdout) == report(tmp_path)
