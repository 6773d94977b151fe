"""Methods that put new parameters into a model: a start that changes nothing, the way back, and exact deltas."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForSequenceClassification

import bitfit
from bitfit.backbone.fingerprint import fingerprint
from bitfit.backbone.heads import Head
from bitfit.backbone.load import Backbone
from bitfit.errors import DeltaError, MissingExtraError, RequestError
from bitfit.integrations.checkpoint import merge
from bitfit.methods.method import Method
from tests.models import ARCHITECTURES, BIAS_FREE, inputs, tiny_backbone

INSERTING = ("added-bias", "lora", "houlsby[4]")
TASK = bitfit.Task("mood", "class", ("text",), "label", ("sad", "so-so", "glad"), ("accuracy",), 32)
CASES = [
    (name, method) for name in ARCHITECTURES for method in INSERTING if method != "added-bias" or name in BIAS_FREE
]

each_case = pytest.mark.parametrize(("model_type", "method"), CASES)


def select_inserted(model: torch.nn.Module, method: str) -> bitfit.Selection:
    Method.parse(method).insert(model)
    return bitfit.select(model, method)


def answers(model: torch.nn.Module, model_type: str) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**inputs(model_type)).logits
    return found


def make_delta(backbone: Backbone, method: str, seed: int = 0) -> bitfit.Delta:
    """A delta with random values wherever the method trains."""
    model = backbone.task_model(TASK.head)
    Method.parse(method).insert(model)
    selection = bitfit.select(model, method)
    draw = np.random.default_rng(seed)
    values = {
        slot.key: 0.1 * draw.standard_normal(slot.shape if slot.index is None else slot.size).astype(np.float32)
        for slot in selection.slots
    }
    return bitfit.Delta(backbone.name, backbone.fingerprint, method, "full", selection.slots, values, TASK)


@each_case
def test_the_first_answers_are_the_backbones_and_the_way_back_leaves_no_trace(model_type: str, method: str) -> None:
    backbone = tiny_backbone(model_type)
    model = backbone.task_model(Head("class", 3))
    names, before = [name for name, _ in model.named_parameters()], answers(model, model_type)
    insertion = Method.parse(method).insert(model)
    selection = bitfit.select(model, method)
    after = answers(model, model_type)
    if method.startswith("houlsby"):
        torch.testing.assert_close(after, before, rtol=0, atol=2e-2)
        assert not torch.equal(after, before)
    else:
        assert torch.equal(after, before)
    assert bitfit.select(model, method) == selection
    insertion.undo()
    insertion.undo()
    assert [name for name, _ in model.named_parameters()] == names
    assert torch.equal(answers(model, model_type), before)
    assert fingerprint(backbone.model) == backbone.fingerprint


@each_case
def test_only_what_was_selected_moves(model_type: str, method: str) -> None:
    model = tiny_backbone(model_type).task_model(Head("class", 3))
    Method.parse(method).insert(model)
    selection = bitfit.select(model, method)
    selection.freeze()
    before = {name: value.detach().clone() for name, value in model.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2, weight_decay=0)
    for _ in range(2):
        loss = torch.nn.functional.cross_entropy(model(**inputs(model_type)).logits, torch.tensor([0, 2]))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    moved = {name for name, value in model.named_parameters() if not torch.equal(value, before[name])}
    assert moved <= {slot.name for slot in selection.slots}
    alive = {slot.name for slot in selection.slots if not slot.inert}
    unused = {name for name in alive - moved if torch.count_nonzero(before[name]) == 0 or "pool" in name}
    assert alive - moved <= unused  # a part that this input never reaches


@each_case
def test_a_delta_holds_the_new_parameters_and_reverts_to_the_bit(model_type: str, method: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(model_type)
    delta = make_delta(backbone, method)
    delta.save(tmp_path / "delta.safetensors")
    again = bitfit.Delta.load(tmp_path / "delta.safetensors")
    again.verify(backbone)
    with delta.applied(backbone) as first, again.applied(backbone) as second:
        assert torch.equal(answers(first, model_type), answers(second, model_type))
    assert fingerprint(backbone.model) == backbone.fingerprint
    bare = backbone.task_model(TASK.head)
    names = [name for name, _ in bare.named_parameters()]
    before = answers(bare, model_type)
    with again.apply(bare):
        assert not torch.equal(answers(bare, model_type), before)
    assert [name for name, _ in bare.named_parameters()] == names
    assert torch.equal(answers(bare, model_type), before)


@pytest.mark.parametrize("method", INSERTING)
def test_starts_are_a_function_of_the_seed_alone(method: str) -> None:
    backbone = tiny_backbone("llama")
    model = backbone.task_model(Head("class", 3))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    Method.parse(method).insert(model, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    start = Method.parse(method).start(model, 3)
    held = {name: value for name, value in bitfit.select(model, method).values().items() if name in start}
    assert all(torch.equal(value, held[name]) for name, value in start.items())
    other = Method.parse(method).start(model, 4)
    same = all(torch.equal(value, other[name]) for name, value in held.items())
    assert same == (method == "added-bias")


def test_lora_has_its_papers_shape() -> None:
    model = tiny_backbone("bert").task_model(Head("class", 3))
    Method.parse("lora").insert(model)
    selection = bitfit.select(model, "lora", "frozen")
    assert selection.size == 2 * 2 * (8 * 32 + 32 * 8)  # layers, query and value, A and B
    assert model.get_submodule("bert.encoder.layer.0.attention.self.query").scaling == {"default": 2.0}


def test_lora_takes_rank_scale_roles_and_layers() -> None:
    model = tiny_backbone("bert").task_model(Head("class", 3))
    Method.parse("lora[r=2,alpha=8,b_k,output]@1").insert(model)
    selection = bitfit.select(model, "lora[r=2,alpha=8,b_k,output]@1", "frozen")
    assert selection.size == 2 * (32 + 32) + 2 * (48 + 32)
    assert all(".layer.1." in slot.name for slot in selection.slots)


def test_houlsby_trains_the_papers_share_and_the_norms() -> None:
    from transformers import AutoConfig, AutoModel

    config = AutoConfig.for_model(
        "bert", hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096
    )
    with torch.device("meta"):
        large = AutoModel.from_config(config)
    total = sum(parameter.numel() for parameter in large.parameters())
    assert Method.parse("houlsby").count(large) / total == pytest.approx(0.036, abs=0.0002)
    Method.parse("houlsby").insert(large)
    assert {"encoder.layer.0.output.LayerNorm.weight", "encoder.layer.23.output.dense.down.weight"} <= {
        slot.name for slot in bitfit.select(large, "houlsby").slots
    }


def test_added_vectors_are_chosen_by_term_and_layer() -> None:
    model = tiny_backbone("llama").task_model(Head("class", 3))
    Method.parse("added-bias[b_v]@1").insert(model)
    assert [slot.name for slot in bitfit.select(model, "added-bias[b_v]@1", "frozen").slots] == [
        "model.layers.1.self_attn.v_proj.bias"
    ]


def test_keys_that_cannot_matter_stay_still_among_added_vectors() -> None:
    by_model = {}
    for name in ("t5", "llama"):
        model = tiny_backbone(name).task_model(Head("class", 3))
        Method.parse("added-bias[b_k]").insert(model)
        by_model[name] = bitfit.select(model, "added-bias[b_k]").slots
    assert all(slot.inert for slot in by_model["t5"] if not slot.in_head)
    assert not any(slot.inert for slot in by_model["llama"])


@pytest.mark.parametrize(
    ("model_type", "method", "words"),
    [
        ("bert", "added-bias", "every layer has its own. 'bitfit' trains those"),
        ("llama", "bitfit", "'added-bias' puts new ones"),
        ("bert", "lora[r=99]", "A rank of at most 32"),
        ("bert", "lora[r=none]", "r=NUMBER and alpha=NUMBER"),
        ("bert", "lora[qery]", "Did you mean 'query'"),
        ("bert", "houlsby[wide]", r"as in 'houlsby\[64\]'"),
        ("bert", "houlsby[0]", "width is from 1 to 128"),
        ("bert", "houlsby@7", "the model has 2 layers"),
        ("llama", "added-bias[b_q]@5", "the model has 2 layers"),
        ("bert", "diff-pruning", "while it trains"),
        ("bert", "bitfit[auto:0.04%]", "while it trains"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_way_out(model_type: str, method: str, words: str) -> None:
    model = tiny_backbone(model_type).task_model(Head("class", 3))
    with pytest.raises(RequestError, match=words):
        select_inserted(model, method)


def test_a_model_takes_the_new_parameters_of_one_method() -> None:
    model = tiny_backbone("bert").task_model(Head("class", 3))
    Method.parse("lora").insert(model)
    with pytest.raises(RequestError, match="carries the new parameters of 'lora', so 'houlsby' finds no untouched one"):
        Method.parse("houlsby").insert(model)


def test_without_peft_the_install_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'bitfit\[lora\]'"):
        Method.parse("lora").insert(tiny_backbone("bert").task_model(Head("class", 3)))


def test_a_hostile_width_is_refused_before_anything_is_made() -> None:
    backbone = tiny_backbone("bert")
    delta = make_delta(backbone, "houlsby[4]")
    object.__setattr__(delta, "method", "houlsby[999999999]")
    with pytest.raises(DeltaError, match="does not fit"), delta.applied(backbone):
        pass


@pytest.mark.parametrize(
    ("model_type", "method"),
    [
        ("bert", "lora"),
        ("gpt2", "lora"),
        ("llama", "lora"),
        ("llama", "added-bias"),
        ("modernbert", "added-bias"),
        ("llama", "added-bias[b_v]@1"),
    ],
)
def test_merged_new_parameters_predict_the_same_through_transformers_alone(
    model_type: str, method: str, tmp_path: Path
) -> None:
    backbone = tiny_backbone(model_type)
    delta = make_delta(backbone, method)
    folder = merge(delta, backbone, tmp_path / "merged")
    ordinary = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    with delta.applied(backbone) as trained:
        torch.testing.assert_close(answers(ordinary, model_type), answers(trained, model_type), rtol=0, atol=1e-5)
    assert fingerprint(backbone.model) == backbone.fingerprint


@pytest.mark.parametrize(("model_type", "method"), [("bert", "houlsby[4]"), ("t5", "added-bias")])
def test_new_parameters_that_no_checkpoint_can_hold_are_refused(model_type: str, method: str, tmp_path: Path) -> None:
    backbone = tiny_backbone(model_type)
    with pytest.raises(DeltaError, match="has no place for them"):
        merge(make_delta(backbone, method), backbone, tmp_path / "merged")
    assert list(tmp_path.iterdir()) == []
