"""Fast layers against torch's own, and dropout that is there in training and only there."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from bitfit.backbone.heads import Head
from bitfit.runtime.dropout import Draws
from bitfit.runtime.layers import FastDropout, FastLinear, FastNorm, FunctionalDropout, replace_layers
from bitfit.runtime.layout import Layout
from bitfit.runtime.passes import Pass, running
from bitfit.runtime.row_model import RowModel
from tests.batches import SHAKEN, assert_near, both, plain_answers
from tests.models import ARCHITECTURES, tiny_backbone

TOKENS, WIDTH = 12, 8
TEXTS = tuple(name for name in ARCHITECTURES if name != "vit")


def one_pass(counts: tuple[int, ...] = (1,), seed: int = 0) -> Pass:
    """Over sequences of four tokens."""
    layout = Layout((4,) * sum(counts), counts)
    return Pass(layout, layout.tokens if len(counts) > 1 else None, draws=Draws([seed + i for i in range(len(counts))]))


@pytest.fixture(autouse=True)
def within_a_pass() -> Iterator[None]:
    """Layers run within a pass, of one row where a test says nothing else."""
    with running(one_pass()):
        yield


def layer(kind: str) -> nn.Module:
    torch.manual_seed(0)
    found: nn.Module = {
        "linear": lambda: nn.Linear(WIDTH, WIDTH),
        "no bias": lambda: nn.Linear(WIDTH, WIDTH, bias=False),
        "conv": lambda: Conv1D(WIDTH, WIDTH),
        "norm": lambda: nn.LayerNorm(WIDTH),
        "norm, no bias": lambda: nn.LayerNorm(WIDTH, bias=False),
    }[kind]()
    for parameter in found.parameters():
        nn.init.normal_(parameter)
    return found


@pytest.mark.parametrize("trained", ["bias", "all", "none"])
@pytest.mark.parametrize("kind", ["linear", "no bias", "conv", "norm", "norm, no bias"])
def test_a_fast_layer_is_the_layer(kind: str, trained: str) -> None:
    plain, box = layer(kind), nn.Sequential(layer(kind))
    replace_layers(box, torch.float32)
    assert type(box[0]) in (FastLinear, FastNorm)
    x = torch.randn(3, 4, WIDTH, generator=torch.Generator().manual_seed(1))
    results: list[list[Tensor]] = []
    for one in (plain, box[0]):
        for name, parameter in one.named_parameters():
            parameter.requires_grad_(trained == "all" or trained == name)
        inputs = x.clone().requires_grad_()
        answer = one(inputs)
        answer.square().sum().backward()
        gradients = [p.grad for p in one.parameters() if p.grad is not None]
        assert inputs.grad is not None
        results.append([answer.detach(), inputs.grad, *gradients])
    assert len(results[0]) == len(results[1])
    for found, wanted in zip(results[1], results[0], strict=True):
        assert_near(found, wanted, 1e-5)


def test_each_row_has_its_own_bias_and_in_a_head_its_own_weight() -> None:
    for kind in ("linear", "conv", "norm"):
        plain, box = layer(kind), nn.Sequential(layer(kind).requires_grad_(False))
        replace_layers(box, torch.float32)
        x = torch.randn(TOKENS, WIDTH)
        bias, weight = torch.randn(2, WIDTH), torch.randn(2, *plain.weight.shape)
        for values in ({"0.bias": bias}, {"0.bias": bias, "0.weight": weight}):
            with running(one_pass((1, 2))) as now:
                now.values = {id(box.get_parameter(name)): value for name, value in values.items()}
                found = box(x)
            for row, part in enumerate([slice(0, 4), slice(4, 12)]):
                own = {name.removeprefix("0."): value[row] for name, value in values.items()}
                assert_near(found[part], torch.func.functional_call(plain, own, (x[part],)), 1e-5)


@pytest.mark.parametrize("kind", ["linear", "no bias", "conv", "norm"])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_models_code_may_change_what_a_layer_gives_in_place(kind: str, rows: int) -> None:
    box = nn.Sequential(layer(kind))  # some models divide their queries in place
    replace_layers(box, torch.float32)
    box.requires_grad_(False)
    x = torch.randn(rows, 4, WIDTH, requires_grad=True)
    with running(one_pass((1,) * rows)):
        box(x).div_(2.0).sum().backward()
    assert x.grad is not None


def test_a_frozen_linear_layer_keeps_no_inputs() -> None:
    box = nn.Sequential(layer("linear"))
    replace_layers(box, torch.float32)
    box[0].weight.requires_grad_(False)
    kept: list[tuple[int, ...]] = []

    def note(tensor: Tensor) -> Tensor:
        kept.append(tuple(tensor.shape))
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        box(torch.randn(TOKENS, WIDTH, requires_grad=True))
    assert kept == [(WIDTH, WIDTH)]


def test_dropout_has_its_rate_keeps_the_mean_and_sends_the_same_mask_back() -> None:
    dropout = FastDropout(0.25).train()
    x = torch.ones(400, 500, requires_grad=True)
    y = dropout(x)
    assert abs(float((y == 0).float().mean()) - 0.25) < 0.005
    assert float(y.detach().max()) == pytest.approx(1 / 0.75)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())
    assert not torch.equal(dropout(x), y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_zeroes_infinite_and_negative_numbers_too(dtype: torch.dtype) -> None:
    x = torch.full((64, 64), -float("inf"), dtype=dtype)
    y = FastDropout(0.5).train()(x)
    assert set(y.unique().tolist()) == {-float("inf"), 0.0}


def test_no_dropout_in_evaluation_and_without_draws() -> None:
    x = torch.randn(TOKENS, WIDTH)
    assert FastDropout(0.5).eval()(x) is x
    with running(Pass(Layout((TOKENS,), (1,)))):
        assert FastDropout(0.5).train()(x) is x


def test_a_call_of_torchs_dropout_draws_from_the_rows() -> None:
    x = torch.randn(TOKENS, WIDTH)
    wanted = FastDropout(0.5).train()(x)
    state = torch.random.get_rng_state()
    with running(one_pass()), FunctionalDropout():
        found = functional.dropout(x, p=0.5, training=True)
    assert torch.equal(found, wanted)
    assert torch.equal(torch.random.get_rng_state(), state)
    with FunctionalDropout():
        assert functional.dropout(x, p=0.5, training=False) is x


@pytest.mark.parametrize("model_type", TEXTS)
def test_dropout_on_every_architecture_comes_from_the_seed_alone(model_type: str) -> None:
    head = Head("tags", 5)
    backbone = tiny_backbone(model_type, **SHAKEN.get(model_type, {}))
    model = RowModel(backbone.task_model(head), head, torch.float32)
    padded, batch = both(model_type, (9, 17))

    def answers(training: bool, seed: int = 0) -> Tensor:
        with torch.no_grad():
            return model.answers(batch, {}, Draws([seed]) if training else None)

    sure = answers(False)
    assert_near(sure, plain_answers(backbone.task_model(head), padded, head))
    state = torch.random.get_rng_state()
    shaken = answers(True)
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.rand(3)
    assert torch.equal(answers(True), shaken)
    assert not torch.allclose(shaken, sure)
    assert not torch.allclose(answers(True, seed=1), shaken)
    assert torch.equal(answers(False), sure)


# What each configuration calls the rate of attention's own dropout; T5 has one rate for all.
ATTENTION = {
    "bert": "attention_probs_dropout_prob",
    "electra": "attention_probs_dropout_prob",
    "albert": "attention_probs_dropout_prob",
    "mpnet": "attention_probs_dropout_prob",
    "deberta-v2": "attention_probs_dropout_prob",
    "distilbert": "attention_dropout",
    "gpt2": "attn_pdrop",
    "opt": "attention_dropout",
    "gpt_neox": "attention_dropout",
    "bloom": "attention_dropout",
    "qwen2": "attention_dropout",
    "llama": "attention_dropout",
    "modernbert": "attention_dropout",
    "bart": "attention_dropout",
}


@pytest.mark.parametrize("model_type", ATTENTION)
def test_attentions_own_dropout_is_there(model_type: str) -> None:
    rates = {
        name: 0.0 for name, value in tiny_backbone(model_type).config.to_dict().items() if "drop" in name and value
    }
    _, batch = both(model_type, (9, 17))
    for rate in (0.0, 0.5):
        backbone, head = tiny_backbone(model_type, **{**rates, ATTENTION[model_type]: rate}), Head("class", 3)
        model = RowModel(backbone.task_model(head), head, torch.float32)
        with torch.no_grad():
            same = torch.allclose(model.answers(batch, {}, Draws([0])), model.answers(batch, {}), rtol=0, atol=1e-6)
        assert same == (rate == 0.0)
