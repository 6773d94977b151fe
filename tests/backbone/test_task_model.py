"""Task models over shared weights: the same objects, a head from the seed alone, every kind on every architecture."""

import inspect
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import transformers
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, mse_loss

from bitfit.backbone.heads import Head, HeadKind, Pool, head_names, own_task_model
from bitfit.backbone.task_model import head_start
from bitfit.errors import BackboneError, RequestError
from tests.models import ARCHITECTURES, inputs, tiny_backbone

HEADS = [
    Head("class", 3),
    Head("class", 3, "mean"),
    Head("labels", 3),
    Head("labels", 3, "mean"),
    Head("number", 1),
    Head("tags", 5),
    Head("span", 2),
]
SIZES = (9, 5)
text_architectures = [name for name in ARCHITECTURES if name != "vit"]
each_head = pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.kind}-{head.pool}")


@each_head
@pytest.mark.parametrize("model_type", text_architectures)
def test_every_architecture_answers_every_kind_of_task(model_type: str, head: Head) -> None:
    backbone = tiny_backbone(model_type)
    model = backbone.task_model(head)
    with torch.no_grad():
        outputs = model(**inputs(model_type, SIZES))
    if head.kind == "span":
        assert outputs.start_logits.shape == outputs.end_logits.shape == (2, 9)
    elif head.kind == "tags":
        assert outputs.logits.shape == (2, 9, 5)
    else:
        assert outputs.logits.shape == (2, head.outputs)
    own = dict(backbone.model.named_parameters(remove_duplicate=False))
    for name, parameter in model.base_model.named_parameters():
        assert parameter is own[name]
    assert head_names(model)
    assert not model.training


@pytest.mark.parametrize("head", [Head("tags", 5), Head("class", 3, "mean")], ids=["tags", "mean"])
def test_a_model_whose_answers_are_narrower_than_its_layers_has_a_head(head: Head) -> None:
    model = tiny_backbone("opt", word_embed_proj_dim=8).task_model(head)  # as facebook/opt-350m
    with torch.no_grad():
        assert model(**inputs("opt", SIZES)).logits.shape[-1] == head.outputs


@pytest.mark.parametrize("head", HEADS[1:], ids=lambda head: f"{head.kind}-{head.pool}")
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "mpnet"])
def test_every_head_gives_the_loss_that_other_loops_ask_for(model_type: str, head: Head) -> None:
    torch.manual_seed(0)
    model, given = tiny_backbone(model_type).task_model(head), inputs(model_type, SIZES)
    if head.kind == "span":
        first, last = torch.tensor([1, 2]), torch.tensor([3, 4])
        outputs = model(**given, start_positions=first, end_positions=last)
        expected = (cross_entropy(outputs.start_logits, first) + cross_entropy(outputs.end_logits, last)) / 2
    elif head.kind == "tags":
        labels = torch.randint(0, head.outputs, (2, 9))
        labels[1, 5:] = -100
        outputs = model(**given, labels=labels)
        expected = cross_entropy(outputs.logits.flatten(0, 1), labels.flatten())
    elif head.kind == "labels":
        labels = torch.tensor([[0.0, 1.0, 1.0], [1.0, 0.0, 0.0]])
        outputs = model(**given, labels=labels)
        expected = binary_cross_entropy_with_logits(outputs.logits, labels)
    else:
        labels = torch.tensor([0.5, 2.0]) if head.kind == "number" else torch.tensor([0, 2])
        outputs = model(**given, labels=labels)
        one = outputs.logits.squeeze(-1)
        expected = mse_loss(one, labels) if head.kind == "number" else cross_entropy(one, labels)
    assert outputs.loss.item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("head", [Head("class", 3, "mean"), Head("tags", 5)], ids=["mean", "tags"])
def test_which_of_two_texts_a_token_is_of_reaches_the_model_by_name(head: Head) -> None:
    model, given = own_task_model(tiny_backbone("bert").model.config, head).eval(), inputs("bert", SIZES)
    kinds = torch.ones_like(given["input_ids"])
    with torch.no_grad():
        plain, told = model(**given).logits, model(**given, token_type_ids=kinds).logits
    assert not torch.equal(plain, told)
    assert "token_type_ids" in inspect.signature(model.forward).parameters  # the Trainer drops what is not there


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_images_are_classified(pool: Pool) -> None:
    model = tiny_backbone("vit").task_model(Head("class", 3, pool))
    assert model(**inputs("vit", SIZES)).logits.shape == (2, 3)


def test_what_is_no_head_is_refused() -> None:
    with pytest.raises(RequestError, match=r"There is no kind 'clas'\. Did you mean 'class'"):
        Head("clas", 2)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="Expected a head of 1 output or more; found 0"):
        Head("class", 0)
    with pytest.raises(RequestError, match=r"Expected a Head, such as task\.head .* found 'class'"):
        tiny_backbone("bert").task_model("class")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["tags", "span"])
def test_images_have_no_tokens_to_answer_for(kind: HeadKind) -> None:
    with pytest.raises(BackboneError, match=f"'vit' has no model for the task kind '{kind}'"):
        tiny_backbone("vit").task_model(Head(kind, 2))


@each_head
@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2", "t5", "opt"])
def test_the_head_is_a_function_of_the_seed_alone(model_type: str, head: Head) -> None:
    backbone = tiny_backbone(model_type)
    state = torch.random.get_rng_state()
    one = backbone.task_model(head, seed=3)
    torch.rand(5)
    two = backbone.task_model(head, seed=3)
    other = backbone.task_model(head, seed=4)
    names = head_names(one)
    assert all(torch.equal(one.get_parameter(name), two.get_parameter(name)) for name in names)
    assert any(not torch.equal(one.get_parameter(name), other.get_parameter(name)) for name in names)
    torch.random.set_rng_state(state)
    backbone.task_model(head, seed=5)
    assert torch.equal(torch.random.get_rng_state(), state)


@each_head
@pytest.mark.parametrize("model_type", ["bert", "t5", "bloom"])
def test_other_starts_are_drawn_without_touching_the_model(model_type: str, head: Head) -> None:
    backbone = tiny_backbone(model_type)
    model = backbone.task_model(head, seed=0)
    before = {name: (value, value.clone()) for name, value in model.named_parameters()}
    start = head_start(model, 9)
    rebuilt = backbone.task_model(head, seed=9)
    assert tuple(start) == head_names(model)
    assert all(torch.equal(value, rebuilt.get_parameter(name)) for name, value in start.items())
    for name, value in model.named_parameters():
        assert value is before[name][0]
        assert torch.equal(value, before[name][1])
    assert not any(hasattr(value, "_is_hf_initialized") for value in model.parameters())


def test_the_mean_leaves_padding_out() -> None:
    model = tiny_backbone("bert").task_model(Head("class", 3, "mean"))
    padded = inputs("bert", (9, 5))
    alone = {name: value[1:, :5] for name, value in padded.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**padded).logits[1:], model(**alone).logits)


def test_left_to_right_models_find_the_last_real_token() -> None:
    backbone = tiny_backbone("gpt2", pad_token_id=None)
    model = backbone.task_model(Head("class", 3))
    padded = inputs("gpt2", (9, 5))
    alone = {name: value[1:, :5] for name, value in padded.items()}
    with torch.no_grad():
        torch.testing.assert_close(model(**padded).logits[1:], model(**alone).logits)
    assert backbone.config.pad_token_id is None


def test_a_number_is_a_regression() -> None:
    config = tiny_backbone("bert").task_model(Head("number", 1)).config
    assert (config.num_labels, config.problem_type) == (1, "regression")


def test_threads_that_make_heads_at_once_get_those_of_their_seeds() -> None:
    backbone, head = tiny_backbone("bert"), Head("class", 8)
    models = [backbone.task_model(head) for _ in range(4)]
    alone = [drawn(models[0], seed) for seed in range(4)]
    state, loudness = torch.get_rng_state(), transformers.utils.logging.get_verbosity()
    interval = sys.getswitchinterval()

    def make(seed: int) -> tuple[torch.Tensor, torch.Tensor]:
        return drawn(models[seed], seed), drawn(backbone.task_model(head), seed)

    sys.setswitchinterval(1e-5)  # what is rare otherwise comes at once
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(make, [seed for _ in range(16) for seed in range(4)]))
    finally:
        sys.setswitchinterval(interval)
    for number, pair in enumerate(found):
        for own in pair:
            assert torch.equal(own, alone[number % 4])
    assert torch.equal(torch.get_rng_state(), state)
    assert transformers.utils.logging.get_verbosity() == loudness


def drawn(model: transformers.PreTrainedModel, seed: int) -> torch.Tensor:
    return torch.cat([value.flatten() for value in head_start(model, seed).values()])
