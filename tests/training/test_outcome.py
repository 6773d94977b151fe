"""What a run knows of its answers on validation, and what its delta keeps of the run."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bitfit
from bitfit.training import outcome
from bitfit.training.history import MOST_EPOCHS, best_epoch_of, compact, epochs_of
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

SETTINGS = bitfit.TrainConfig(epochs=2, learning_rate=1e-2, precision="fp32")


@pytest.mark.parametrize("kind", ["class", "number"])
def test_what_a_run_says_of_validation_is_what_its_delta_is_found_to_do_there(kind: str) -> None:
    backbone, data = tiny_backbone("bert"), tiny_data(kind)
    run = bitfit.train(backbone, data, config=SETTINGS)
    assert run.validation is not None
    found = bitfit.evaluation(backbone, run.delta, data, "validation", precision="fp32")
    assert _rounded(run.validation.to_json()) == _rounded(found.to_json())
    assert run.validation.hardest().num_rows == found.hardest().num_rows


def _rounded(value: Any) -> Any:
    """Figures to the digits that two passes share."""
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_rounded(one) for one in value]
    return round(value, 3) if isinstance(value, float) else value


def test_validation_is_answered_once_for_all_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    whole = outcome.outputs

    def counted(model: Any, values: Any, examples: Any, *more: Any) -> Any:
        seen.append(len(examples))
        return whole(model, values, examples, *more)

    monkeypatch.setattr(outcome, "outputs", counted)
    data = tiny_data()
    bitfit.train(tiny_backbone("bert"), replace(data, splits={k: data.splits[k] for k in ("train", "validation")}))
    assert seen == [len(data.splits["validation"])]


def test_a_run_of_tags_or_without_validation_has_no_figures() -> None:
    backbone, data = tiny_backbone("bert"), tiny_data()
    assert bitfit.train(backbone, tiny_data("tags"), config=SETTINGS).validation is None
    alone = replace(data, splits={"train": data.splits["train"]})
    assert bitfit.train(backbone, alone, config=SETTINGS).validation is None


def test_the_threshold_of_a_run_is_in_its_delta() -> None:
    run = bitfit.train(tiny_backbone("bert"), tiny_data(), config=SETTINGS)
    assert run.validation is not None
    sure = run.unsure_below(bitfit.Threshold(0.9, 0.75, 0.5, 0.91))
    assert (sure.delta.threshold, run.delta.threshold) == (0.75, None)
    never = run.unsure_below(bitfit.Threshold(1.0, None, 0.0, None)).delta
    assert (never.threshold, never.settings["calibration"]["precision"]) == (None, 1.0)


def test_a_delta_keeps_the_epochs_and_what_the_data_was_like() -> None:
    data = tiny_data()
    run = bitfit.train(tiny_backbone("bert"), data, config=SETTINGS)
    settings = bitfit.Delta.from_bytes(run.delta.to_bytes()).settings
    assert _rounded(list(epochs_of(settings))) == _rounded(list(run.history))
    assert best_epoch_of(settings) == run.best_epoch > 0
    facts = settings["facts"]
    assert facts["examples"] == {name: len(examples) for name, examples in data.splits.items()}
    assert sum(facts["classes"]) == facts["examples"]["train"]


def test_of_many_epochs_some_are_kept_the_best_and_the_last_among_them() -> None:
    history = [{"epoch": n, "step": n, "train": {"loss": 1 / n}, "validation": {}} for n in range(1, 1001)]
    kept = epochs_of({"history": compact(history, 777)})
    numbers = [epoch["epoch"] for epoch in kept]
    assert len(numbers) <= MOST_EPOCHS + 1
    assert {1, 777, 1000} <= set(numbers)
    assert numbers == sorted(numbers)
    assert kept[-1]["train"] == {"loss": 0.001}
    assert epochs_of({"history": compact([], 0)}) == ()


def test_phases_and_figures_that_some_epochs_lack() -> None:
    history = [
        {"phase": "one", "epoch": 1, "step": 3, "train": {"loss": 1.0}, "validation": {}},
        {"epoch": 1, "step": 3, "train": {"loss": float("nan"), "accuracy": 0.5}, "validation": {"loss": 2.0}},
    ]
    first, second = epochs_of({"history": json.loads(json.dumps(compact(history, 1)))})
    assert (first["phase"], first["train"], first["validation"]) == ("one", {"loss": 1.0}, {})
    assert (second["train"], second["validation"], "phase" in second) == ({"accuracy": 0.5}, {"loss": 2.0}, False)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["epoch", "step", "best", "phase", "train", "validation"]), JSON, max_size=6) | JSON
)
def test_what_another_program_wrote_there_is_passed_over(document: Any) -> None:
    best_epoch_of({"history": document})
    for epoch in epochs_of({"history": document}):
        for split in ("train", "validation"):
            assert all(type(value) in (int, float) for value in epoch[split].values())
