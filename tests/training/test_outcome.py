"""What a run knows of its answers on validation, and what its delta keeps of the run."""

from dataclasses import replace
from typing import Any

import pytest

import bitfit
from bitfit.training import outcome
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
    assert run.unsure_below(bitfit.Threshold(1.0, None, 0.0, None)) is run
