"""Where memory runs out, passes get smaller and the batches stay; where nothing helps, the message does."""

import resource
import subprocess
import sys

import numpy as np
import pytest

import bitfit
from bitfit import TrainConfig
from bitfit.backbone.memory import ran_out
from bitfit.errors import TrainingError
from bitfit.inference import outputs
from bitfit.inference.evaluate import evaluation
from bitfit.inference.pass_budget import Budget
from bitfit.inference.predictor import Predictor
from bitfit.runtime.row_model import RowModel
from tests.models import tiny_backbone
from tests.training.test_frozen_prefix import Noted
from tests.training.tiny_task import tiny_data

CONFIG = TrainConfig(batch_size=8, epochs=2, learning_rate=3e-3, precision="fp32")
TORCH_SAYS = "[enforce fail at alloc_cpu.cpp:1] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to ..."


@pytest.fixture(scope="module")
def still() -> bitfit.Backbone:
    return tiny_backbone("bert", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def small(monkeypatch: pytest.MonkeyPatch, tokens: int, error: BaseException) -> None:
    """A machine whose memory takes so many tokens."""
    answers = RowModel.answers

    def limited(model: RowModel, batch, values, draws=None):  # type: ignore[no-untyped-def]
        answer = answers(model, batch, values, draws)
        if len(batch.ids) > tokens:
            raise error
        return answer

    monkeypatch.setattr(RowModel, "answers", limited)


@pytest.mark.parametrize("error", [RuntimeError(TORCH_SAYS), MemoryError()], ids=["torch", "numpy"])
def test_smaller_passes_do_the_same_steps(
    still: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    plain = bitfit.train(still, tiny_data(), "bitfit", CONFIG)
    small(monkeypatch, 40, error)
    watcher = Noted()
    cut = bitfit.train(still, tiny_data(), "bitfit", CONFIG, watcher=watcher)
    assert any(note.startswith("Out of memory: from now on at most 32 tokens a pass") for note in watcher.notes)
    assert [epoch["step"] for epoch in cut.history] == [epoch["step"] for epoch in plain.history]
    assert cut.history[-1]["train"]["loss"] == pytest.approx(plain.history[-1]["train"]["loss"], rel=1e-4)
    for key, value in plain.delta.values.items():
        np.testing.assert_allclose(cut.delta.values[key], value, rtol=2e-3, atol=2e-4)


def test_draws_are_taken_back_before_another_try(monkeypatch: pytest.MonkeyPatch) -> None:
    loose = tiny_backbone("bert", hidden_dropout_prob=0.3)
    answers, failed = RowModel.answers, []

    def fails_once(model: RowModel, batch, values, draws=None):  # type: ignore[no-untyped-def]
        answer = answers(model, batch, values, draws)
        if draws is not None and len(failed) < 3:
            failed.append(len(batch.ids))
            raise MemoryError
        return answer

    plain = bitfit.train(loose, tiny_data(), "bitfit", CONFIG)
    with monkeypatch.context() as patched:
        patched.setattr(RowModel, "answers", fails_once)
        again = bitfit.train(loose, tiny_data(), "bitfit", CONFIG)
    assert failed[0] == failed[2], "halving 16,384 three times still takes these batches whole"
    assert again.delta.to_bytes() == plain.delta.to_bytes()


def test_answers_come_in_smaller_passes_too(still: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tiny_data()
    delta = bitfit.train(still, data, "bitfit", CONFIG).delta
    plain = evaluation(still, delta, data, "test", precision="fp32")
    small(monkeypatch, 40, MemoryError())
    cut = evaluation(still, delta, data, "test", precision="fp32")
    assert cut.scores == pytest.approx(plain.scores)
    assert any(note.startswith("Out of memory: from now on at most") for note in cut.notes)


def test_a_predictor_keeps_to_the_size_that_fitted(still: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    data, said = tiny_data(), list[str]()
    predictor = Predictor(still, bitfit.train(still, data, "bitfit", CONFIG).delta, "fp32", said.append)
    plain = predictor.outputs(data.splits["test"])
    small(monkeypatch, 40, RuntimeError(TORCH_SAYS))
    for _ in range(2):
        np.testing.assert_allclose(predictor.outputs(data.splits["test"]), plain, rtol=1e-4, atol=1e-5)
    assert said[-1].startswith("Out of memory: from now on at most 32 tokens a pass")
    assert len(said) == len(set(said)), "the second call begins with what fitted"


def test_no_pass_is_larger_than_what_suits_the_model(still: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, seen = RowModel.answers, list[int]()

    def noted(model: RowModel, batch, values, draws=None):  # type: ignore[no-untyped-def]
        seen.append(len(batch.ids))
        return answers(model, batch, values, draws)

    monkeypatch.setattr(RowModel, "answers", noted)
    whole = bitfit.train(still, tiny_data(), "bitfit", CONFIG)
    assert max(seen) > 60, "batches of 8 examples, and all of validation at once"
    seen.clear()
    monkeypatch.setattr(outputs, "NUMBERS_A_PASS", 60 * still.config.hidden_size)
    cut = bitfit.train(still, tiny_data(), "bitfit", CONFIG)
    assert max(seen) <= 60
    assert cut.history[-1]["train"]["loss"] == pytest.approx(whole.history[-1]["train"]["loss"], rel=1e-4)


def test_where_a_single_example_does_not_fit_the_message_says_what_to_do(
    still: bitfit.Backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(monkeypatch, 3, MemoryError())
    with pytest.raises(TrainingError, match=r"single example .* `DataOptions\(max_length=\.\.\.\)`"):
        bitfit.train(still, tiny_data(), "bitfit", CONFIG)


def test_other_errors_are_not_taken_for_it() -> None:
    assert not ran_out(RuntimeError("shapes cannot be multiplied"))
    assert not ran_out(ValueError("can't allocate memory"))
    assert ran_out(RuntimeError("could not create a primitive"))  # what oneDNN says of it

    def broken(tokens: int) -> None:
        raise RuntimeError("shapes cannot be multiplied")

    with pytest.raises(RuntimeError, match="shapes"):
        Budget(100, 10, print).fit(broken)


@pytest.mark.slow
def test_what_torch_raises_is_known() -> None:
    script = (
        "import resource, torch\n"
        "from bitfit.backbone.memory import ran_out\n"
        "resource.setrlimit(resource.RLIMIT_AS, (3 << 30, 3 << 30))\n"
        "try:\n    torch.zeros(1 << 40)\nexcept BaseException as error:\n    assert ran_out(error), error\n"
        "else:\n    raise SystemExit('torch took a terabyte')\n"
    )
    assert resource.RLIM_INFINITY
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
