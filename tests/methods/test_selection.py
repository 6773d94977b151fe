"""What each method selects, and that nothing else moves in a training loop of the user's own."""

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from transformers import BertForMaskedLM, PreTrainedModel

import bitfit
from bitfit.backbone.anatomy import SYMBOLS, is_norm
from bitfit.backbone.heads import Head, head_names
from bitfit.errors import RequestError
from bitfit.methods.method import select
from bitfit.methods.selection import HeadMode, Selection, Slot
from tests.models import ARCHITECTURES, BIAS_FREE, inputs, tiny, tiny_backbone

WITH_BIASES = [name for name in ARCHITECTURES if name not in BIAS_FREE]
METHODS = ["bitfit", "full", "frozen", "layernorm", "random-uniform", "random-rows-columns"]
MODES: list[HeadMode] = ["full", "bias", "frozen"]


def task_model(model_type: str = "bert") -> PreTrainedModel:
    return tiny_backbone(model_type).task_model(Head("class", 3))


def elements(selection: Selection) -> dict[str, torch.Tensor]:
    """For each parameter a mask of what may move."""
    masks = {name: torch.zeros(value.numel(), dtype=torch.bool) for name, value in selection.model.named_parameters()}
    for slot in selection.slots:
        if not slot.inert:
            masks[slot.name][slice(None) if slot.index is None else torch.from_numpy(slot.index)] = True
    return masks


def train(selection: Selection, model_type: str, steps: int = 2) -> None:
    """A training loop as a user would write it."""
    model = selection.model
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    targets = torch.tensor([0, 2])
    for _ in range(steps):
        logits = model(**inputs(model_type, (9, 6))).logits
        torch.nn.functional.cross_entropy(logits, targets).backward()
        optimizer.step()
        optimizer.zero_grad()


def assert_only_the_selection_moves(model_type: str, method: str, head: HeadMode, seed: int = 0) -> None:
    selection = select(task_model(model_type), method, head, seed)
    before = {name: value.detach().clone() for name, value in selection.model.named_parameters()}
    selection.freeze()
    train(selection, model_type)
    moved = 0
    for name, mask in elements(selection).items():
        changed = (selection.model.get_parameter(name).detach() != before[name]).flatten()
        assert not changed[~mask].any(), name
        moved += int(changed.sum())
    assert moved > 0


@pytest.mark.parametrize("head", MODES)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("model_type", ["bert", "gpt2", "gpt_neox", "albert", "bart", "vit"])
def test_only_the_selection_moves(model_type: str, method: str, head: HeadMode) -> None:
    if method == "frozen" and (head == "frozen" or (head, model_type) in {("bias", "gpt2"), ("bias", "gpt_neox")}):
        with pytest.raises(RequestError, match="trains nothing"):
            select(task_model(model_type), method, head)
    else:
        assert_only_the_selection_moves(model_type, method, head)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    model_type=st.sampled_from([name for name in WITH_BIASES if name != "vit"]),
    symbols=st.sets(st.sampled_from(sorted(SYMBOLS.values())), min_size=1),
    layers=st.sampled_from(["", "@0", "@1", "@last1", "@0-1"]),
    head=st.sampled_from(MODES),
)
@pytest.mark.slow
def test_only_any_selection_of_terms_moves(model_type: str, symbols: set[str], layers: str, head: HeadMode) -> None:
    assume(not (model_type == "albert" and layers in ("@1", "@0-1")))  # it has one layer, used twice
    symbols &= {term.symbol for term in bitfit.terms(task_model(model_type)) if term.symbol}
    method = f"bitfit[{','.join(sorted(symbols | {'b_v'}))}]{layers}"  # b_k alone would not move
    assert_only_the_selection_moves(model_type, method, head)


@pytest.mark.parametrize("model_type", WITH_BIASES)
def test_bitfit_is_every_bias_and_the_head(model_type: str) -> None:
    model = task_model(model_type)
    heads = sum(model.get_parameter(name).numel() for name in head_names(model))
    biases = sum(term.size for term in bitfit.terms(model) if term.role != "head")
    head_biases = sum(term.size for term in bitfit.terms(model) if term.role == "head")
    assert select(model, "bitfit").size == biases + heads
    assert select(model, "bitfit", "bias").size == biases + head_biases
    assert select(model, "bitfit", "frozen").size == biases


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_full_is_every_element_once(model_type: str) -> None:
    model = task_model(model_type)
    selection = select(model, "full")
    assert selection.size == sum(parameter.numel() for parameter in model.parameters())
    keys = [slot.key for slot in selection.slots]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_slots_follow_the_models_order(model_type: str) -> None:
    model = task_model(model_type)
    order = [name for name, _ in model.named_parameters()]
    slots = select(model, "full").slots
    assert [order.index(slot.name) for slot in slots] == sorted(order.index(slot.name) for slot in slots)


@pytest.mark.parametrize("model_type", ARCHITECTURES)
def test_layernorm_is_every_norms_scale_and_bias(model_type: str) -> None:
    model = task_model(model_type)
    norms = sum(
        parameter.numel()
        for module in model.base_model.modules()
        if is_norm(module)
        for parameter in module.parameters(recurse=False)
    )
    assert select(model, "layernorm", "frozen").size == norms > 0


def test_terms_go_by_symbol_or_role_alone_or_together() -> None:
    model = task_model()
    by_symbol = select(model, "bitfit[b_m2,b_q,no-pooler]")
    assert by_symbol.slots == select(model, "bitfit[query,intermediate,no-pooler]").slots
    assert {slot.name.split(".", 4)[-1] for slot in by_symbol.slots if not slot.in_head} == {
        "attention.self.query.bias",
        "intermediate.dense.bias",
    }
    one = select(model, "bitfit[b_q,no-pooler]", "frozen").size
    two = select(model, "bitfit[b_m2,no-pooler]", "frozen").size
    assert select(model, "bitfit[b_m2,b_q,no-pooler]", "frozen").size == one + two


# The authors' words for terms: what a parameter's name must contain, by the paper's symbol.
REFERENCE = {
    "b_q": "attention.self.query.bias",
    "b_k": "attention.self.key.bias",
    "b_v": "attention.self.value.bias",
    "b_m2": "intermediate.dense.bias",
}


@pytest.mark.parametrize("symbols", [("b_q",), ("b_m2", "b_q"), ("b_k", "b_v")])
def test_subsets_are_the_references_with_its_poolers_bias(symbols: tuple[str, ...]) -> None:
    model = task_model()
    components = [*(REFERENCE[symbol] for symbol in symbols), "pooler.dense.bias", "classifier"]
    expected = {name for name, _ in model.named_parameters() if any(part in name for part in components)}
    assert {slot.name for slot in select(model, f"bitfit[{','.join(symbols)}]").slots} == expected
    without = {slot.name for slot in select(model, f"bitfit[{','.join(symbols)},no-pooler]").slots}
    assert expected - without == {"bert.pooler.dense.bias"}


def test_layers_and_exclusions_say_themselves_what_becomes_of_the_pooler() -> None:
    model, pooler = task_model(), "bert.pooler.dense.bias"
    with_it = ["bitfit", "bitfit[b_q]", "bitfit[all-but-key]", "bitfit[pooler]"]
    without = ["bitfit@1", "bitfit[b_q]@1", "bitfit[no-pooler]", "bitfit[b_q,all-but-pooler]"]
    assert all(pooler in {slot.name for slot in select(model, name).slots} for name in with_it)
    assert not any(pooler in {slot.name for slot in select(model, name).slots} for name in without)
    assert (
        select(task_model("roberta"), "bitfit[b_q]").slots
        == select(task_model("roberta"), "bitfit[b_q,no-pooler]").slots
    )


def test_an_optimizer_gets_what_can_move_and_nothing_else() -> None:
    model = task_model("gpt2")
    selection = select(model, "bitfit")
    selection.freeze()
    alive = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert [id(parameter) for parameter in selection.trainable_parameters()] == [id(parameter) for parameter in alive]
    bert = select(task_model(), "bitfit")
    names = {slot.name for slot in bert.slots if "key" in slot.name}
    assert not {id(bert.model.get_parameter(name)) for name in names} & {id(p) for p in bert.trainable_parameters()}


def test_each_term_is_a_part_of_bitfit() -> None:
    model = task_model("gpt2")
    roles = {term.role for term in bitfit.terms(model) if term.role != "head"}
    parts = [select(model, f"bitfit[{role}]", "frozen").size for role in roles]
    assert sum(parts) == select(model, "bitfit", "frozen").size


def test_all_but_leaves_terms_out() -> None:
    model = task_model()
    everything = {slot.name for slot in select(model, "bitfit").slots}
    rest = {slot.name for slot in select(model, "bitfit[all-but-key,all-but-b_q]").slots}
    assert {name.split(".")[-2] for name in everything - rest} == {"key", "query"}


def test_layers_leave_out_what_lies_outside_them() -> None:
    names = [slot.name for slot in select(task_model(), "bitfit@last1", "frozen").slots]
    assert names
    assert all(name.startswith("bert.encoder.layer.1.") for name in names)


def test_shared_layers_train_once() -> None:
    names = [slot.name for slot in select(task_model("albert"), "bitfit").slots]
    assert len(names) == len(set(names))


def test_parameters_that_a_head_shares_with_the_encoder_are_the_encoders() -> None:
    model = BertForMaskedLM(tiny("bert").config)
    selection = select(model, "full", "frozen")
    assert "bert.embeddings.word_embeddings.weight" in {slot.name for slot in selection.slots}
    assert selection.size == sum(parameter.numel() for parameter in model.bert.parameters())


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ("btfit", "Did you mean 'bitfit'"),
        ("BitFit", "Did you mean 'bitfit'"),
        ("random_uniform", "Did you mean 'random-uniform'"),
        ("bitfit[b_Q]", "Did you mean 'b_q'"),
        ("bitfit[b_m4]", "Did you mean 'b_m"),
        ("bitfit[qeury]", "Did you mean 'query'"),
        ("bitfit[all-but-kye]", "Did you mean 'key'"),
        ("bitfit@2", "2 layers, 0 to 1"),
        ("bitfit[pooler]@1", "matches no bias"),
        ("full[b_q]", "takes no terms"),
        ("frozen@1", "trains no layers"),
        ("random-uniform@1", "whole encoder"),
    ],
)
def test_what_cannot_be_selected_is_said_with_what_can(method: str, said: str) -> None:
    with pytest.raises(RequestError, match=said):
        select(task_model(), method)


def test_a_head_mode_that_nobody_knows_is_refused() -> None:
    with pytest.raises(RequestError, match="Did you mean 'bias'"):
        select(task_model(), "bitfit", "biases")  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["bitfit", "random-uniform"])
@pytest.mark.parametrize("model_type", BIAS_FREE)
def test_a_model_without_biases_names_added_bias(model_type: str, method: str) -> None:
    with pytest.raises(RequestError, match="added-bias"):
        select(task_model(model_type), method)


def test_a_base_model_has_no_head() -> None:
    model = tiny("bert")
    assert select(model, "bitfit").size == sum(term.size for term in bitfit.terms(model))
    with pytest.raises(RequestError, match="trains nothing"):
        select(model, "frozen")


def test_selections_are_equal_where_what_they_select_is() -> None:
    one, two = select(task_model(), "random-uniform", seed=1), select(task_model(), "random-uniform", seed=1)
    assert one == two
    assert hash(one) == hash(two)
    assert one != select(task_model(), "random-uniform", seed=2)
    assert select(task_model(), "bitfit") != select(task_model(), "bitfit", "bias")


def test_a_selection_reads_as_what_it_is() -> None:
    assert repr(select(task_model(), "bitfit")).startswith("Selection('bitfit', head='full': 707 of ")
    assert "slots; 64 in keys' biases stay as they are, since softmax cancels them)" in repr(
        select(task_model(), "bitfit")
    )
    assert repr(select(task_model("roberta"), "frozen")).endswith("in 4 slots)")


def test_values_are_copies_by_key() -> None:
    selection = select(task_model("gpt2"), "bitfit[b_v]@0")
    values = selection.values()
    key = "transformer.h.0.attn.c_attn.bias"
    bias = selection.model.get_parameter(key)
    assert torch.equal(values[f"{key}:value"], bias[64:])
    assert values["score.weight"].shape == (3, 32)
    values[f"{key}:value"].zero_()
    assert bias[64:].abs().sum() > 0


def test_a_second_freeze_replaces_the_first() -> None:
    model = task_model("gpt2")
    select(model, "bitfit[b_q]").freeze()
    assert_only = select(model, "bitfit[b_v]", "frozen")
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    assert_only.freeze()
    train(assert_only, "gpt2")
    changed = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {f"transformer.h.{layer}.attn.c_attn.bias" for layer in (0, 1)}
    bias = model.get_parameter("transformer.h.0.attn.c_attn.bias")
    assert torch.equal(bias[:64], before["transformer.h.0.attn.c_attn.bias"][:64])
    select(model, "full").freeze()
    train(select(model, "full"), "gpt2")
    assert not torch.equal(bias[:32], before["transformer.h.0.attn.c_attn.bias"][:32])


def test_weight_decay_is_for_matrices() -> None:
    decays = {slot.name: slot.decays for slot in select(task_model(), "full").slots}
    assert decays["classifier.weight"]
    assert decays["bert.embeddings.word_embeddings.weight"]
    assert not decays["classifier.bias"]
    assert not decays["bert.embeddings.LayerNorm.weight"]


def test_slots_differ_by_every_field() -> None:
    slot = Slot("a", (3,))
    assert slot == Slot("a", (3,))
    others = [Slot("b", (3,)), Slot("a", (4,)), Slot("a", (3,), inert=True), Slot("a", (3,), part="key")]
    assert all(slot != other for other in others)
    assert slot != "a"
