"""Terms are ordered by what they would bring, and the measures are what they say."""

import pytest
import torch

import bitfit
from bitfit.errors import RequestError
from bitfit.methods.budget import choose_terms, ranked
from bitfit.training.rank import rank
from tests.models import tiny_backbone
from tests.training.tiny_task import tiny_data

CONFIG = bitfit.TrainConfig(precision="fp32", batch_size=4)


@pytest.mark.parametrize("by", ["gradient", "fisher", "change"])
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "mpnet"])
def test_every_term_that_can_matter_is_ranked(model_type: str, by: str) -> None:
    backbone = tiny_backbone(model_type)
    ranking = rank(backbone, tiny_data(), CONFIG, by=by)  # type: ignore[arg-type]
    expected = {(t.name, t.part) for t in bitfit.terms(backbone.task_model(tiny_data().task.head)) if not t.inert}
    found = {(scored.term.name, scored.term.part) for scored in ranking.terms}
    assert found == {key for key in expected if "." in key[0] and not key[0].startswith(("classifier", "score"))}
    values = [getattr(scored, by) for scored in ranking.terms]
    assert values == sorted(values, reverse=True)
    assert values[0] > 0
    assert rank(backbone, tiny_data(), CONFIG, by=by) == ranking  # type: ignore[arg-type]


def test_gradient_and_fisher_equal_plain_autograds() -> None:
    backbone, data = tiny_backbone("bert"), tiny_data()
    ranking = rank(backbone, data, CONFIG, short_run=False)
    model = backbone.task_model(data.task.head)
    train = data.splits["train"]
    name = "bert.encoder.layer.0.intermediate.dense.bias"
    bias = model.get_parameter(name).detach().clone().requires_grad_()
    model.get_submodule("bert.encoder.layer.0.intermediate.dense")._parameters["bias"] = bias  # type: ignore[assignment]
    grads = []
    for i in range(len(train)):
        ids = torch.from_numpy(train.ids[train.offsets[i] : train.offsets[i + 1]].astype("int64"))[None]
        loss = torch.nn.functional.cross_entropy(model(input_ids=ids).logits, torch.tensor([train.labels[i]]))
        grads.append(torch.autograd.grad(loss, bias)[0])
    every = torch.stack(grads)
    scored = next(scored for scored in ranking.terms if scored.term.name == name)
    assert scored.gradient == pytest.approx(float(every.mean(0).abs().mean()), rel=1e-3)
    assert scored.fisher == pytest.approx(float(every.square().mean()), rel=1e-3)
    assert scored.change is None


def test_a_budget_takes_what_still_fits_in_order() -> None:
    ranking = rank(tiny_backbone("bert"), tiny_data(), CONFIG, short_run=False)
    sizes = [scored.term.size for scored in ranking.terms]
    budget = sizes[0] + sizes[1] + 1
    chosen = choose_terms(ranking.terms, budget)
    assert chosen[:2] == [scored.term for scored in ranking.terms[:2]]
    assert sum(term.size for term in chosen) <= budget


def test_an_unknown_measure_is_refused() -> None:
    with pytest.raises(RequestError, match="'gradient', 'fisher' or 'change'"):
        ranked([], "size")  # type: ignore[arg-type]
