"""The report says which scores are at chance, where seeds disagree, and how learning rates were chosen."""

import json
from pathlib import Path
from typing import Any

import pytest

from bitfit.errors import DataError
from bitfit.experiment.remarks import remarks
from bitfit.experiment.report import markdown, report
from bitfit.experiment.results import Results
from bitfit.experiment.store import SplitFacts, Store
from tests.experiment.test_report import folder_of

METHODS = ["bitfit", "full"]


def remarks_of(folder: Path) -> str:
    return "\n".join(remarks(Results.read(Store(folder))))


def scored(accuracy: dict[str, list[float]]) -> Any:
    """Scores of both tasks by method and seed."""

    def scores(task: str, method: str, seed: int) -> dict[str, dict[str, float]]:
        return {"validation": {"accuracy": accuracy[method][seed]}}

    return scores


def with_facts(folder: Path, **facts: SplitFacts) -> Path:
    for task, one in facts.items():
        Store(folder).put_splits(task, {"validation": one})
    return folder


RTE = SplitFacts(277, 0.527)  # clear of it is above 52.7 + 2 * 3.0


def test_scores_that_are_not_clear_of_the_largest_class_are_named(tmp_path: Path) -> None:
    scores = scored({"bitfit": [0.58, 0.56, 0.57], "full": [0.70, 0.71, 0.72]})
    folder = with_facts(folder_of(tmp_path, scores, tasks=["rte", "sst2"], methods=METHODS), rte=RTE)
    text = remarks_of(folder)
    assert "rte, validation: not clear of chance (the largest class, 52.7 % of 277; clear is above 58.7): " in text
    assert "`bitfit` 57.0." in text
    assert "`full` 71.0" not in text
    assert "sst2, validation: not clear" not in text


def test_a_column_without_any_score_above_chance_says_nothing_of_the_methods(tmp_path: Path) -> None:
    scores = scored({"bitfit": [0.53, 0.52, 0.54], "full": [0.55, 0.56, 0.57]})
    folder = with_facts(folder_of(tmp_path, scores, tasks=["rte"], methods=METHODS), rte=RTE)
    assert "with any method. This column says nothing of which method is better." in remarks_of(folder)
    assert "## Remarks" in markdown(folder)
    assert report(folder)["remarks"] == remarks(Results.read(Store(folder)))


def test_a_correlation_is_compared_with_none(tmp_path: Path) -> None:
    def scores(task: str, method: str, seed: int) -> dict[str, dict[str, float]]:
        return {"validation": {"spearman": 0.018 if method == "bitfit" else 0.8}}

    folder = folder_of(tmp_path, scores, tasks=["stsb"], methods=METHODS)
    with_facts(folder, stsb=SplitFacts(1500))
    assert "(no correlation, over 1,500; clear is above 5.2): `bitfit` 1.8." in remarks_of(folder)


def test_a_correlation_of_classes_is_compared_with_none_too(tmp_path: Path) -> None:
    def scores(task: str, method: str, seed: int) -> dict[str, dict[str, float]]:
        return {"validation": {"matthews_correlation": 0.06 if method == "bitfit" else 0.19, "accuracy": 0.7}}

    folder = folder_of(tmp_path, scores, tasks=["cola"], methods=METHODS)
    with_facts(folder, cola=SplitFacts(1043, 0.691))
    assert "clear is above 6.2): `bitfit` 6.0." in remarks_of(folder)


def test_without_facts_the_report_says_that_nothing_is_compared_with_chance(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, scored({"bitfit": [0.5] * 3, "full": [0.5] * 3}), tasks=["rte"], methods=METHODS)
    assert "no score is compared with chance" in remarks_of(folder)


def test_seeds_that_disagree_are_listed(tmp_path: Path) -> None:
    scores = scored({"bitfit": [0.82, 0.81, 0.06], "full": [0.80, 0.81, 0.82]})
    text = remarks_of(folder_of(tmp_path, scores, tasks=["rte"], methods=METHODS))
    assert "Seeds disagree (a standard deviation above 5 points)" in text
    assert "rte `bitfit` 82.0, 81.0, 6.0." in text


def test_rates_that_were_tried_and_a_winner_at_the_edge_are_told(tmp_path: Path) -> None:
    folder = tmp_path / "rates"
    write_plan(folder, {"bitfit": [1e-3, 2e-3, 4e-3], "full": [1e-5, 5e-5]})
    put_runs(folder, {("bitfit", 2e-3): 0.8, ("bitfit", 1e-3): 0.7, ("full", 5e-5): 0.9, ("full", 1e-5): 0.6})
    text = markdown(folder)
    assert "| rte | `bitfit` | 0.001: 70.0 ± 0.0, **0.002: 80.0 ± 0.0** | accuracy |" in text
    assert "| rte | `full` | 1e-05: 60.0 ± 0.0, **5e-05: 90.0 ± 0.0** | accuracy |" in text
    assert "At the edge of its list, so that a better rate may lie beyond: " in text
    assert "rte `full` 5e-05 (highest of 2)" in text
    assert "Rates of the plan without a finished run: rte `bitfit` 0.004." in text
    assert "Validation chose the epoch and the learning rate, and is what is shown for rte" in text
    assert "Numbers of learning rates tried" not in text  # two each
    choice = report(folder)["methods"][1]["tasks"]["rte"]["learning_rates"]
    assert (choice["chosen"], choice["at_edge"]) == (5e-5, True)


def test_lists_of_different_lengths_are_told(tmp_path: Path) -> None:
    write_plan(tmp_path, {"bitfit": [1e-3, 2e-3, 4e-3], "full": [5e-5]})
    put_runs(tmp_path, {("bitfit", 2e-3): 0.8, ("bitfit", 1e-3): 0.7, ("bitfit", 4e-3): 0.7, ("full", 5e-5): 0.9})
    text = remarks_of(tmp_path)
    assert "where a longer list is an advantage: rte `bitfit` 3, `full` 1." in text
    assert "At the edge" not in text


def test_one_rate_for_each_method_is_no_choice(tmp_path: Path) -> None:
    write_plan(tmp_path, {"bitfit": [1e-3], "full": [5e-5]})
    put_runs(tmp_path, {("bitfit", 1e-3): 0.8, ("full", 5e-5): 0.9})
    assert "Each method ran with one learning rate; none was chosen among several." in remarks_of(tmp_path)
    assert "## Learning rates" not in markdown(tmp_path)


def test_the_plans_own_notes_come_first(tmp_path: Path) -> None:
    scores = scored({"bitfit": [0.8] * 3, "full": [0.8] * 3})
    folder = folder_of(tmp_path, scores, tasks=["rte"], methods=METHODS, notes=["A word about these runs."])
    assert remarks(Results.read(Store(folder)))[0] == "A word about these runs."


def test_a_method_without_dropout_beside_others_is_told(tmp_path: Path) -> None:
    scores = scored({"bitfit": [0.8] * 3, "frozen": [0.8] * 3})
    methods = ["bitfit", "frozen"]
    text = remarks_of(folder_of(tmp_path / "default", scores, tasks=["rte"], methods=methods))
    assert "without dropout in the layers below all that trains: `frozen`." in text
    alike = folder_of(tmp_path / "alike", scores, tasks=["rte"], methods=[*methods])
    plan = (alike / "plan.toml").read_text() + "\n[settings]\nprefix_cache = false\n"
    (alike / "plan.toml").write_text(plan)
    for path in (alike / "runs").iterdir():
        path.unlink()
    put_runs(alike, {(method, 1e-3): 0.8 for method in methods})
    assert "dropout" not in remarks_of(alike)
    assert "dropout" not in remarks_of(folder_of(tmp_path / "one", scores, tasks=["rte"], methods=["frozen"]))


def write_plan(folder: Path, rates: dict[str, list[float]]) -> None:
    methods = "".join(f"[[methods]]\nname = '{name}'\nlearning_rate = {tried}\n" for name, tried in rates.items())
    folder.mkdir(exist_ok=True)
    (folder / "plan.toml").write_text(f"name = 'rates'\ntasks = ['rte']\nseeds = [0, 1]\n{methods}")


def put_runs(folder: Path, accuracy: dict[tuple[str, float], float]) -> None:
    """Runs of both seeds with the same score."""
    store = Store(folder)
    plan = store.plan()
    store.open(plan)
    for cell in plan.cells:
        for run in cell.runs:
            value = accuracy.get((cell.method.name, run.config.learning_rate or 0.0))
            if value is not None:
                document = {
                    "scores": {"validation": {"accuracy": value}},
                    "settings": run.config.to_json(),
                    "trainable": 10,
                    "parameters": 1000,
                    "measured_on": {},
                    "changes": {},
                    "asked": run.asked,
                }
                store.put(run, json.loads(json.dumps(document)))


@pytest.mark.parametrize("text", ["{", '{"rte": {"validation": {"kin": 1}}}', "[]"])
def test_damaged_facts_are_refused(tmp_path: Path, text: str) -> None:
    Store(tmp_path).splits_path.write_text(text)
    with pytest.raises(DataError, match="damaged"):
        Store(tmp_path).splits()
