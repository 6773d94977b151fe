"""A plan expands into its cells and runs, and everything wrong with one is said at once."""

import textwrap
from pathlib import Path
from typing import Any

import pytest

from bitfit.cli.experiment import run
from bitfit.errors import RequestError
from bitfit.experiment.plan_file import plan_of, read_plan

ROOT = Path(__file__).parents[2]
SMALL: dict[str, Any] = {"name": "small", "tasks": ["rte"], "methods": ["bitfit"], "seeds": [0]}


def refusal(**changed: Any) -> str:
    with pytest.raises(RequestError) as caught:
        plan_of(SMALL | changed, "plan.toml")
    return str(caught.value)


def test_every_method_meets_every_task_with_every_rate_and_seed() -> None:
    plan = plan_of(
        SMALL
        | {
            "tasks": ["rte", {"name": "mrpc", "max_length": 64}],
            "methods": ["frozen", {"name": "bitfit", "learning_rate": [1e-3, 2e-3]}],
            "seeds": [0, 1, 2],
        }
    )
    assert [(cell.task.label, cell.method.name) for cell in plan.cells] == [
        ("rte", "frozen"),
        ("rte", "bitfit"),
        ("mrpc", "frozen"),
        ("mrpc", "bitfit"),
    ]
    assert [len(cell.runs) for cell in plan.cells] == [3, 6, 3, 6]
    pairs = [(run.config.learning_rate, run.config.seed) for run in plan.cells[3].runs]
    assert pairs == [(rate, seed) for rate in (1e-3, 2e-3) for seed in (0, 1, 2)]
    assert plan.cells[3].task.options == {"max_length": 64}
    names = [run.name for cell in plan.cells for run in cell.runs]
    assert len(set(names)) == len(names)
    assert "mrpc--bitfit--0.001--seed0" in names


def test_a_method_settles_what_a_task_says_and_a_task_what_all_share() -> None:
    plan = plan_of(
        SMALL
        | {
            "settings": {"epochs": 5, "batch_size": 32, "learning_rate": 2e-3},
            "tasks": [{"name": "rte", "epochs": 6, "seeds": [7]}, "mrpc"],
            "methods": ["bitfit", {"name": "full", "epochs": 2, "learning_rate": 5e-5}],
        }
    )
    configs = {(cell.task.label, cell.method.name): cell.runs[0].config for cell in plan.cells}
    assert [config.epochs for config in configs.values()] == [6, 2, 5, 2]
    assert {config.batch_size for config in configs.values()} == {32}
    assert configs["rte", "bitfit"].seed == 7
    assert (configs["mrpc", "bitfit"].learning_rate, configs["mrpc", "full"].learning_rate) == (2e-3, 5e-5)


def test_a_method_without_a_rate_gets_what_suits_it() -> None:
    plan = plan_of(SMALL | {"methods": ["bitfit", "full", "lora"]})
    assert [cell.runs[0].config.learning_rate for cell in plan.cells] == [4e-3, 5e-5, 5e-4]


def test_one_task_in_two_sizes_is_told_apart() -> None:
    sizes = [{"name": "rte", "as": f"rte-{size}", "train_size": size} for size in (100, 200)]
    assert [task.label for task in plan_of(SMALL | {"tasks": sizes}).tasks] == ["rte-100", "rte-200"]
    assert "'rte' stands twice" in refusal(tasks=["rte", {"name": "rte", "train_size": 9}])


def test_a_label_may_be_several_columns() -> None:
    task = {"name": "some/moods.csv", "label": ["sad", "glad"]}
    assert plan_of(SMALL | {"tasks": [task]}).tasks[0].options == {"label": ["sad", "glad"]}
    assert "expected a text, or a list of texts, found 3" in refusal(tasks=[{**task, "label": 3}])


def test_everything_wrong_is_said_at_once_with_the_nearest_name() -> None:
    said = refusal(
        tasks=["rtee", {"name": "mrpc", "max_lenght": 64}, 3],
        methods=["bitfitt", {"name": "full", "head": "ful", "learning_rate": "high"}],
        settings={"epochs": 2.5},
    )
    for words in (
        "plan.toml cannot be used",
        "no task, file or folder named 'rtee'. Did you mean 'rte'?",
        "tasks[2].max_lenght: no such key. Did you mean 'max_length'?",
        "tasks[3]: expected a name or a table, found 3",
        "no method 'bitfitt'. Did you mean 'bitfit'?",
        "methods[2].head: expected one of full, bias, frozen, found 'ful'. Did you mean 'full'?",
        "methods[2].learning_rate: expected a number, or a list",
        "found 'high'",
        "settings.epochs: expected a whole number, found 2.5",
    ):
        assert words in said


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"seeds": [0, 0]}, "seeds: expected a list of whole numbers, none of them twice, found [0, 0]"),
        ({"seeds": [-1]}, "seed must be a whole number from 0 up to 2^63 - 1, found -1"),
        ({"seeds": []}, "seeds: expected"),
        ({"tasks": []}, "tasks: expected a list"),
        ({"methods": "bitfit"}, "methods: expected a list"),
        ({"settings": {"batch_size": 0}}, "bitfit on rte: batch_size must be a whole number from 1 on, found 0"),
        ({"settings": {"seeds": [1]}}, "settings.seeds: no such key"),
        ({"settings": {"epochs": True}}, "settings.epochs: expected a whole number, found True"),
        ({"tasks": [{"name": "rte", "train_size": 0}]}, "tasks, rte: Expected a train size of 1 or more"),
        ({"tasks": [{"max_length": 64}]}, "tasks[1].name: expected a text, found nothing"),
        ({"model": 3}, "model: expected a text, found 3"),
        ({"settings": {"prefix_cache": 1}}, "settings.prefix_cache: expected true or false, found 1"),
    ],
)
def test_what_cannot_be_is_refused(changed: dict[str, Any], words: str) -> None:
    assert words in refusal(**changed)


def test_a_missing_key_is_named() -> None:
    with pytest.raises(RequestError, match="methods: expected a list with a name or a table for each, found nothing"):
        plan_of({"name": "small", "tasks": ["rte"], "seeds": [0]})


def test_a_file_that_is_missing_or_no_toml_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="cannot be read"):
        read_plan(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(RequestError, match="is not TOML"):
        read_plan(tmp_path / "bad.toml")
    (tmp_path / "bad.toml").write_bytes(b"name = '\xff'")
    with pytest.raises(RequestError, match="is not TOML"):
        read_plan(tmp_path / "bad.toml")


@pytest.mark.parametrize("path", sorted(ROOT.glob("experiments/*/plan.toml")), ids=lambda path: path.parent.name)
def test_the_committed_plans_can_be_used(path: Path) -> None:
    plan = read_plan(path)
    assert plan.name == path.parent.name
    assert plan.cells


def test_the_plan_that_the_help_and_the_guide_show_can_be_used(tmp_path: Path) -> None:
    help_text = run.callback.__doc__ or ""  # type: ignore[union-attr]
    shown = help_text.partition("A plan looks like this:")[2]
    guide = (ROOT / "experiments" / "README.md").read_text(encoding="utf-8").partition("## How a plan is read")[2]
    indented = [line.strip() for line in guide.partition("\nA setting may")[0].splitlines()]
    for name, text in (("help", shown), ("guide", "\n".join(indented))):
        path = tmp_path / f"{name}.toml"
        path.write_text(textwrap.dedent(text).replace("reviews.csv", str(tmp_path / "x" / "reviews.csv")))
        plan = read_plan(path)
        assert [method.name for method in plan.methods] == ["bitfit", "full"]
        assert [len(cell.rates) for cell in plan.cells] == [3, 3, 3, 3]


def test_every_method_of_the_tuned_comparison_has_as_long_a_list_of_rates() -> None:
    plan = read_plan(ROOT / "experiments" / "glue-tuned" / "plan.toml")
    assert {len(cell.rates) for cell in plan.cells} == {4}
    assert {run.config.prefix_cache for cell in plan.cells for run in cell.runs} == {False}


def test_notes_are_a_list_of_texts() -> None:
    assert plan_of(SMALL | {"notes": ["One."]}).notes == ("One.",)
    assert "notes: expected a list of texts" in refusal(notes="One.")
