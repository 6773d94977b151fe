"""RowModel against plain transformers: the same answers and the same gradients, on every architecture and head."""

from typing import Any

import pytest
import torch
from torch import Tensor

from bitfit.backbone.anatomy import terms
from bitfit.backbone.heads import Head, Pool
from bitfit.runtime.encoder import packs
from bitfit.runtime.layout import Batch, Layout
from bitfit.runtime.row_model import RowModel
from tests.batches import HEADS, assert_near, both, laid_out, plain_answers
from tests.models import ARCHITECTURES, inputs, tiny_backbone

SIZES = (9, 1, 17, 16, 33)
PACKED = (
    "bert", "roberta", "xlm-roberta", "camembert", "electra", "distilbert", "albert", "gpt2", "opt", "gpt_neox",
    "llama", "qwen2", "modernbert",
)  # fmt: skip
TEXTS = tuple(name for name in ARCHITECTURES if name != "vit")
each_head = pytest.mark.parametrize("head", HEADS, ids=lambda head: f"{head.kind}-{head.pool}")
LONG = {"max_position_embeddings": 264}


def compared(
    model_type: str, head: Head, sizes: tuple[int, ...], compute: torch.dtype = torch.float32, **settings: Any
) -> tuple[Tensor, Tensor]:
    """What a RowModel and the plain model answer to the same texts."""
    backbone = tiny_backbone(model_type, **settings)
    padded, batch = both(model_type, sizes)
    with torch.no_grad():
        wanted = plain_answers(backbone.task_model(head), padded, head)
        return RowModel(backbone.task_model(head), head, compute).answers(batch, {}), wanted


def test_the_table_says_which_architectures_take_batches_without_padding() -> None:
    assert {name for name in ARCHITECTURES if packs(tiny_backbone(name).config)} == set(PACKED)


@each_head
@pytest.mark.parametrize("model_type", TEXTS)
def test_answers_are_the_plain_models(model_type: str, head: Head) -> None:
    assert_near(*compared(model_type, head, SIZES))


@pytest.mark.parametrize("model_type", TEXTS)
def test_answers_in_bf16_are_near(model_type: str) -> None:
    assert_near(*compared(model_type, Head("tags", 5), SIZES, torch.bfloat16), share=0.03)


@pytest.mark.parametrize("sizes", [(1,), (1, 1, 1), (16,), (16, 16), (20, 20), (5, 60)], ids=str)
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "llama", "modernbert", "deberta-v2"])
def test_few_and_equal_texts(model_type: str, sizes: tuple[int, ...]) -> None:
    for head in (Head("class", 3), Head("tags", 5)):
        assert_near(*compared(model_type, head, sizes))


@pytest.mark.parametrize("model_type", ["bert", "roberta", "gpt2", "llama", "modernbert"])
def test_lengths_at_the_borders_of_groups(model_type: str) -> None:
    settings = {"n_positions": 264} if model_type == "gpt2" else {}
    sizes = (15, 16, 17, 31, 33, 48, 49, 63, 64, 65, 79, 80, 81, 127, 128, 129, 144, 145, 192, 193, 256, 257)
    assert_near(*compared(model_type, Head("tags", 5), sizes, **LONG, **settings))


@pytest.mark.parametrize(
    ("model_type", "settings"),
    [
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 0}),
        ("qwen2", {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1}),
        ("modernbert", {"classifier_pooling": "mean"}),
        ("modernbert", {"local_attention": 2, "global_attn_every_n_layers": 2}),
        ("bert", {"is_decoder": True}),
        ("gpt2", {"scale_attn_by_inverse_layer_idx": True, "scale_attn_weights": False}),
        ("gpt_neox", {"use_parallel_residual": False}),
        ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
        ("llama", {"attention_bias": True, "mlp_bias": True, "num_key_value_heads": 1}),
        ("albert", {"num_hidden_groups": 2, "inner_group_num": 2}),
    ],
    ids=str,
)
def test_settings_that_change_attention_or_pooling(model_type: str, settings: dict[str, Any]) -> None:
    for head in (Head("class", 3), Head("span", 2)):
        assert_near(*compared(model_type, head, SIZES, **settings))


@pytest.mark.parametrize("model_type", ["bert", "electra", "albert", "mpnet", "deberta-v2"])
def test_second_texts_are_told_from_first_ones(model_type: str) -> None:
    settings = {"type_vocab_size": 2} if model_type == "deberta-v2" else {}
    backbone, head = tiny_backbone(model_type, **settings), Head("class", 3)
    padded, _ = both(model_type, SIZES)
    if model_type != "mpnet":  # it knows no types and must not be handed any
        padded["token_type_ids"] = (torch.arange(33) > 3).long() * padded["attention_mask"]
    with torch.no_grad():
        wanted = plain_answers(backbone.task_model(head), padded, head)
        model = RowModel(backbone.task_model(head), head, torch.float32)
        assert_near(model.answers(laid_out(padded), {}), wanted)


@each_head
@pytest.mark.parametrize("model_type", TEXTS)
def test_gradients_are_plain_autograds(model_type: str, head: Head) -> None:
    backbone = tiny_backbone(model_type)
    padded, batch = both(model_type, SIZES)
    plain = backbone.task_model(head)
    noise = {term.name for term in terms(plain) if term.inert and term.index is None}
    trained = {name: value.detach().clone().requires_grad_() for name, value in plain.named_parameters()}
    answers = RowModel(backbone.task_model(head), head, torch.float32).answers(batch, trained)
    weights = torch.randn(answers.shape, generator=torch.Generator().manual_seed(5))
    found = torch.autograd.grad((answers * weights).sum(), list(trained.values()), allow_unused=True)
    for parameter in plain.parameters():
        parameter.requires_grad_()
    total = (plain_answers(plain, padded, head) * weights).sum()
    wanted = torch.autograd.grad(total, list(plain.parameters()), allow_unused=True)
    for parameter in plain.parameters():
        parameter.requires_grad_(False)
    for name, one, other in zip(trained, found, wanted, strict=True):
        assert (one is None) == (other is None), name
        if one is not None and other is not None and name not in noise:
            assert_near(one, other)


def test_an_architecture_nobody_listed_runs_on_padded_batches() -> None:
    head = Head("tags", 5)
    backbone = tiny_backbone("ernie", task_type_vocab_size=3, use_task_id=False)
    model = RowModel(backbone.task_model(head), head, torch.float32)
    assert not model.packed
    assert not model.takes_rows(["classifier.bias"])
    assert_near(*compared("ernie", head, SIZES))


@pytest.mark.parametrize("pool", ["first", "mean"])
def test_images_are_answered_as_the_plain_model_does(pool: Pool) -> None:
    head, backbone = Head("class", 3, pool), tiny_backbone("vit")
    pixels = inputs("vit", (1, 1, 1))["pixel_values"]
    ones = torch.ones(3, dtype=torch.long)
    with torch.no_grad():
        model = RowModel(backbone.task_model(head), head, torch.float32)
        found = model.answers(Batch(ones, 0 * ones, Layout((1, 1, 1), (3,)), pixels), {})
        assert_near(found, backbone.task_model(head)(pixel_values=pixels).logits)
    assert model.positions_per_token == 17


def test_layers_dropped_at_random_are_dropped_for_no_other_row() -> None:
    assert packs(tiny_backbone("opt").config)
    assert not packs(tiny_backbone("opt", layerdrop=0.1).config)


def test_the_backbone_is_left_as_it_was() -> None:
    backbone, head = tiny_backbone("bert"), Head("class", 3)
    before = backbone.model.config.to_dict()
    padded, batch = both("bert", SIZES)
    with torch.no_grad():
        states = backbone.model(**padded).last_hidden_state
        RowModel(backbone.task_model(head), head, torch.float32).answers(batch, {})
        assert torch.equal(backbone.model(**padded).last_hidden_state, states)
    assert backbone.model.config.to_dict() == before
